# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the findings of Azure share. Their facts are below the key ``azure``: one VM as _azure/__init__.py describes it.

What an identity may not see, and what was not read, is null or empty there. Rules fire on what is there, never on what is missing.
"""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any, Callable, Mapping

from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import canonical
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import Cause, Facts, Rule, get, items, part
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import AZURE

NUMBER = 5
STOPPED = ("stopped", "deallocated")


def azure(cause: Cause) -> Callable[..., Callable[[Rule], Rule]]:
    """Return the decorator of findings that Azure's facts answer."""
    return partial(cause.finding, on=(AZURE,), side="azure")


def failed(facts: Facts) -> bool:
    """Say whether the last backup failed. Many things that Azure shows are no matter while backups succeed."""
    return "failed" in items(facts, "azure.states")


def code_of(facts: Facts) -> str | None:
    """Return the code of the failed backup, by Azure."""
    code = get(facts, "azure.backup.error.code")
    return canonical(code) if code else None


def lower(value: Any) -> str:
    return str(value or "").lower()


def power(facts: Facts) -> str:
    return lower(get(facts, "azure.power_state"))


def guest_was_seen(facts: Facts) -> bool:
    """Say whether there are facts of the guest beside Azure's."""
    return bool(get(facts, "system.kind"))


def az(*words: Any) -> str:
    """Return a command line of the Azure CLI. Names and ids are Azure's texts, so they are quoted."""
    return " ".join(["az", *(shlex.quote(str(word)) for word in words)])


def vm_arguments(facts: Facts) -> list[str]:
    """Return the arguments that name the VM to the Azure CLI."""
    return ["--ids", str(get(facts, "azure.id"))]


def item_arguments(backup: Mapping[str, Any]) -> list[str]:
    """Return the arguments that name a backup item to the Azure CLI, by its own id: names of items are never made up."""
    return ["--ids", str(backup.get("item_id"))]


def failure(facts: Facts) -> Mapping[str, Any]:
    return part(facts, "azure.backup.error")
