# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads alerts of Azure Backup in Azure Monitor's common alert schema: which VM, which error code.

What is not the fired alert of a failed backup of a virtual machine passes without the key ``vmbackup``, so that no rule answers it. Every text of an
alert is untrusted: what is handed on was checked against what Azure allows as a name, character by character. This file imports nothing of the
collection, since ansible-rulebook loads it alone.
"""

DOCUMENTATION = r"""
short_description: Read the VM and the error code out of an alert of Azure Backup
description:
  - Takes an event whose C(payload) (as C(eda.builtin.webhook) has it) or C(body) (as Event Hub over Kafka has it) is an alert in the common alert
    schema, and adds C(vmbackup).
  - C(vmbackup.vm) is the VM's name, C(vmbackup.key) its id in lower case, C(vmbackup.error_code) the error code, an empty text when the alert names none.
  - C(vmbackup.limit) is a limit of Ansible, the group that an inventory of C(vmbackup.azure.failed_backups) has for this VM alone.
  - C(vmbackup.limit_by_name) is a limit for other inventories, the VM's name. Limits are case-sensitive, so it finds a host only where that is called
    as the alert writes it, and it finds the hosts of all VMs of this name.
  - An event that is no such alert gets no C(vmbackup), and one that was there is removed.
options: {}
"""

EXAMPLES = r"""
- eda.builtin.webhook:
    port: 5000
    token: "{{ vmbackup_eda_token }}"
  filters:
    - vmbackup.azure.azure_backup:
"""

import hashlib
import json
import re
from typing import Any

LONGEST = 256 * 1024
RULE = "Backup Failure"
VM = re.compile(
    r"/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[\w.()-]{1,90}/providers/Microsoft\.Compute/virtualMachines/([A-Za-z0-9][A-Za-z0-9_.-]{0,63})",
    re.IGNORECASE | re.ASCII,
)
CODE = re.compile(r"aka\.ms/AB-([A-Za-z][A-Za-z0-9]{2,100})", re.ASCII)


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, (str, bytes)) and len(value) <= LONGEST:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _is_backup_of_a_vm(context: dict[str, Any]) -> bool:
    """Say whether the protected item is a virtual machine, and not a database or a share on one."""
    item = context.get("protectedItemId")
    return not isinstance(item, str) or "iaasvmcontainer" in item.lower()


def read(alert: Any) -> dict[str, str] | None:
    """Return vm, key, error_code and limits of an alert, None when it is none of a failed backup of a virtual machine."""
    alert = _mapping(alert)
    data = _mapping(alert.get("data"))
    essentials, context = _mapping(data.get("essentials")), _mapping(data.get("alertContext"))
    if alert.get("schemaId") != "azureMonitorCommonAlertSchema" or essentials.get("monitoringService") != "Azure Backup":
        return None
    # The category Jobs has alerts of failed restores, too.
    if essentials.get("alertRule") != RULE:
        return None
    if essentials.get("monitorCondition") != "Fired" or context.get("category", "Jobs") != "Jobs" or not _is_backup_of_a_vm(context):
        return None
    id_ = context.get("linkedResourceId")
    found = VM.fullmatch(id_) if isinstance(id_, str) else None
    if not found:
        return None
    vm, key = found.group(1), id_.lower()
    # The group that the inventory plugin makes of the same digits.
    group = "backup_vm_" + hashlib.sha256(key.encode()).hexdigest()[:16]
    extended = _mapping(context.get("extendedInfo"))
    texts = [value for value in (extended.get("recommendedActions"), extended.get("possibleCauses")) if isinstance(value, str)]
    codes = [code for text in texts for code in CODE.findall(text[:LONGEST])]
    return {"vm": vm, "key": key, "limit": group, "limit_by_name": vm.strip("_.-"), "error_code": codes[0] if codes else ""}


def main(event: dict[str, Any]) -> dict[str, Any]:
    """Add ``vmbackup`` to an event that is an alert of Azure Backup."""
    event.pop("vmbackup", None)
    for name in ("payload", "body"):
        found = read(event.get(name))
        if found:
            event["vmbackup"] = found
            break
    return event
