# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Groups of facts that several areas have."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import group, number, scalar, text

LOG = group(
    "the log; of the extension on Windows: the folder of its logs",
    {
        "path": text("its path"),
        "size_bytes": number("its size"),
        "starts_last_hour": number("how often the agent started in the last hour"),
        "verdicts": [
            group(
                "phrases of the log whose meaning is known",
                {
                    "phrase": text("short name of the phrase"),
                    "meaning": text("what it means"),
                    "at": text("when it was written last"),
                    "count": number("how often"),
                    "line": text("the newest line, without secrets"),
                },
            )
        ],
    },
)
HANDLER = group(
    "an extension, in its current version; on Windows by the agent's last report or the handler's own heartbeat file",
    {
        "name": text("name of the extension"),
        "version": text("its version"),
        "state": text("its state as the agent keeps it"),
        "status": text("its status, such as Ready"),
        "code": scalar("code of the status"),
        "message": text("message of the status"),
    },
)
