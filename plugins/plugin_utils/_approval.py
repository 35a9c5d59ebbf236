# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A plan that somebody approves, and a run that does what it says and nothing else.

The plan of a preview is ``{host: {remedy: digest}}``. A digest stands for the remedy and all that it would write, with what was seen before, so a guest
that changed since has another one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Mapping

from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import BY_NAME, RESTART


def _hashed(value: Any, length: int) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:length]


def digest(entry: Mapping[str, Any]) -> str:
    """Return what stands for one entry of a plan, as :func:`_remedies.plan` returns them: 16 hexadecimal digits."""
    return _hashed([entry.get("remedy"), entry.get("fix") or {}], 16)


def of_host(entries: Any) -> dict[str, str]:
    """Return the plan of one host: what is planned of its remedies."""
    return {entry["remedy"]: digest(entry) for entry in entries or [] if entry.get("planned")}


def seal(plan: Mapping[str, Any]) -> str:
    """Return the hash of a whole plan: 64 hexadecimal digits."""
    return _hashed(plan, 64)


def restricted(entries: list[dict[str, Any]], host: str, plan: Any, sealed: Any) -> list[dict[str, Any]]:
    """Return a host's remedies, of which only those that were approved are planned.

    :param plan: the whole plan that was approved.
    :param sealed: its hash, as the preview said it.
    :raises ValueError: when there is no plan, or it is not the one of that hash.
    """
    if not isinstance(plan, Mapping):
        raise ValueError(
            "There is no approved plan (vmbackup_previewed_plan), so nothing is done. Start the workflow, whose preview writes it."
        )
    if seal(plan) != sealed:
        raise ValueError(
            "The plan is not the one that was approved: its hash is {0}, the preview said {1}.".format(seal(plan)[:12], str(sealed)[:12])
        )
    own = plan.get(host)
    approved = own if isinstance(own, Mapping) else {}
    result = []
    for entry in entries:
        new = bool(entry["planned"]) and approved.get(entry["remedy"]) != digest(entry)
        result.append(dict(entry, planned=bool(entry["planned"]) and not new, not_approved=new))
    if not any(entry["planned"] and entry["remedy"] in BY_NAME and BY_NAME[entry["remedy"]].restart for entry in result):
        for entry in result:
            entry["planned"] = entry["planned"] and entry["remedy"] != RESTART
    return result
