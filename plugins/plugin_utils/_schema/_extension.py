# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of the extensions, and of what the last snapshot came to."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._agent import PROCESS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import LINUX, WINDOWS, flag, group, number, scalar, text
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._shared import HANDLER, LOG

SNAPSHOT = group(
    "the snapshot extension: VMSnapshotLinux, on Windows VMSnapshot",
    {
        "installed": flag("it is there"),
        "version": text("its version"),
        "state": text("its state as the agent keeps it"),
        "handler_status": text("status of the handler", informs=True),
        "handler_code": scalar("code of that status", informs=True),
        "handler_message": text("message of that status"),
        "sequence": number("number of the newest status file"),
        "code": scalar("result code of the last snapshot"),
        "code_name": text("what the code means", informs=True),
        "code_source": text("where the code was read", informs=True),
        "message": text("message of the last snapshot"),
        "reported_status": text("status as it was reported to Azure"),
        "host_codes": group("result codes of the host's part, by operation", {"*": number("the code")}),
        "at": text("when it was reported"),
        "age_s": number("seconds since then"),
        "task_id": text("Azure's id of the task", informs=True),
        "started_at": text("when it began"),
        "processes": [group("processes of the extension that run", PROCESS)],
        "in_progress": flag("a snapshot runs"),
        "stuck": flag("it has run for too long; on Windows: it says that it runs, for long, and no process of it is left", informs=True),
        "history": [
            group("earlier results", {"sequence": number("number of the status file"), "code": scalar("result code"), "at": text("when")})
        ],
        "vm_health": scalar("health of the VM as the extension reports it"),
        "vm_health_code": scalar("its code"),
        "failed_disks": number("disks whose snapshot failed", informs=True),
        "settings_sequence": number("number of what Azure asked for last", LINUX),
        "settings_at": text("when it was asked for", LINUX),
        "settings_age_s": number("seconds since then", LINUX),
        "recent_s": number(
            "seconds since settings came that have no result yet: an enable that is just beginning may have no process", LINUX, informs=True
        ),
        "busy": flag("a snapshot runs or is just beginning, so that nothing is changed"),
    },
)

EXTENSION = group(
    "the extensions, and what the last snapshot came to",
    {
        "handlers": [HANDLER],
        "snapshot": SNAPSHOT,
        "aggregate": group(
            "what the agent last reported for all extensions",
            {
                "path": text("file of the report"),
                "at": text("when it was reported"),
                "age_s": number("seconds since then"),
                "agent_status": text("the agent's own status"),
                "agent_version": text("the agent's version", informs=True),
                "goal_state_status": text("status of the goal state"),
                "goal_state_message": text("its message"),
                "handlers": [HANDLER],
            },
        ),
        "vmbackup_conf": group(
            "vmbackup.conf of the extension",
            {
                "path": text("its path", LINUX),
                "exists": flag("it is there", LINUX),
                "valid": flag("the extension can read it", LINUX),
                "error": text("why it cannot", LINUX),
                "values": group("what it says, by key", {"*": text("the value", LINUX)}, LINUX),
            },
            LINUX,
        ),
        "script_hooks": [
            group(
                "scripts that run before and after the snapshot",
                {
                    "path": text("its path", LINUX),
                    "exists": flag("it is there", LINUX),
                    "mode": text("its rights", LINUX),
                    "owner_uid": number("its owner", LINUX, informs=True),
                    "problems": [text("why the extension refuses it", LINUX)],
                },
                LINUX,
            )
        ],
        "log": LOG,
        "machine_keys": group(
            "rights on the folder of the machine keys",
            {
                "path": text("the folder", WINDOWS),
                "sddl": text("its rights", WINDOWS),
                "expected_sddl": text("Microsoft's default", WINDOWS, informs=True),
                "ok": flag("what is needed is granted", WINDOWS),
                "same": flag("the same entries as the default", WINDOWS),
                "missing": [text("what is missing", WINDOWS)],
            },
            WINDOWS,
        ),
        "certificate": group(
            "the agent's certificate for protected settings, in LocalMachine\\My",
            {
                "looked": flag("the store was read", WINDOWS),
                "found": flag("it is there", WINDOWS),
                "valid_until": text("until when it is valid", WINDOWS, informs=True),
                "problem": text("what is wrong with it", WINDOWS),
            },
            WINDOWS,
        ),
        "vc_redist": [
            group("Visual C++ redistributables", {"name": text("its name", WINDOWS), "version": text("its version", WINDOWS)}, WINDOWS)
        ],
    },
)
