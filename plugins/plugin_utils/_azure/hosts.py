# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""VMs as hosts of an inventory: names, groups and variables. Nothing here knows Ansible."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import cause_of

# Names that Ansible takes for itself: a VM that is called so must not become the controller or a group.
TAKEN = ("localhost", "127.0.0.1", "::1", "all", "ungrouped", "_meta")
LONGEST_NAME = 200
PREFIX = "backup_"


def _suffix(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:6]


def host_name(wanted: str, key: str) -> str:
    """Return a name that is safe as a name of a host, a file and an argument."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", wanted)[:LONGEST_NAME].strip("_.-")
    if not name or name.lower() in TAKEN:
        return "{0}_{1}".format(name or "vm", _suffix(key))
    return name


def group_name(wanted: str) -> str:
    """Return a name that is safe as a group's."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", wanted)[:LONGEST_NAME]
    return "_" + name if not name or name[0].isdigit() else name


def twins(vms: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the keys of VMs that share their name with another one, failed or not: so that a name does not change with who failed."""
    vms = list(vms)
    counted = Counter(host_name(vm["name"] or "", vm["key"]).lower() for vm in vms)
    return {vm["key"] for vm in vms if counted[host_name(vm["name"] or "", vm["key"]).lower()] > 1}


def name_of(vm: Mapping[str, Any], shared: bool) -> str:
    """Return the name of a VM's host; where several VMs have it, each has a suffix made of its own id."""
    name = host_name(vm["name"] or "", vm["key"])
    suffix = "_" + _suffix(vm["key"])
    return name + suffix if shared and not name.endswith(suffix) else name


def apart(names: Mapping[str, str]) -> dict[str, str]:
    """Return {key: name} in which no two names are equal."""
    counted = Counter(name.lower() for name in names.values())
    return {key: "{0}_{1}".format(name, _suffix(key)) if counted[name.lower()] > 1 else name for key, name in names.items()}


def group_of_vm(key: str) -> str:
    """Return the group that has the host of this VM alone, whatever its name is: for a limit that means one VM."""
    return "{0}vm_{1}".format(PREFIX, hashlib.sha256(key.encode()).hexdigest()[:16])


def groups_of(vm: Mapping[str, Any]) -> list[str]:
    """Return the groups of a VM's host."""
    backup = vm["backup"] or {}
    found = [group_of_vm(vm["key"]), *(PREFIX + state for state in vm["states"])]
    if "failed" in vm["states"]:
        code = (backup.get("error") or {}).get("code")
        found += ["{0}error_{1}".format(PREFIX, code or "unknown"), "{0}cause_{1}".format(PREFIX, cause_of(code))]
    for kind, value in (("os", vm["os"]), ("vault", backup.get("vault")), ("region", vm["region"])):
        if value:
            found.append("{0}{1}_{2}".format(PREFIX, kind, value))
    return [group_name(name) for name in found]


def _address(vm: Mapping[str, Any], prefer: str) -> str | None:
    order = ("private_addresses", "public_addresses") if prefer == "private" else ("public_addresses", "private_addresses")
    for address in (entry for name in order for entry in vm[name]):
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            continue
    return None


def variables_of(vm: Mapping[str, Any], prefer: str = "private") -> dict[str, Any]:
    """Return the variables of a VM's host, all texts as Azure wrote them."""
    backup = vm["backup"] or {}
    error = backup.get("error") or {}
    code = error.get("code")
    made = {
        "azure": dict(vm),
        "vm_id": vm["id"],
        "vm_name": vm["name"],
        "resource_group": vm["resource_group"],
        "subscription_id": vm["subscription_id"],
        "region": vm["region"],
        "vm_size": vm["size"],
        "tags": vm["tags"],
        "os": vm["os"],
        "os_name": vm["os_name"],
        "os_version": vm["os_version"],
        "backup_states": vm["states"],
        "error_code": code,
        "error_number": error.get("number"),
        "error_title": error.get("title"),
        "error_message": error.get("message"),
        "error_recommendations": error.get("recommendations") or [],
        "error_cause": cause_of(code) if "failed" in vm["states"] else None,
        "failed_since": backup.get("failed_since"),
        "failed_jobs_14d": backup.get("failed_jobs_14d"),
        "failed_in_a_row": backup.get("failed_in_a_row"),
        "failed_job_id": (backup.get("last_failed_job") or {}).get("id"),
        "vault": backup.get("vault"),
        "vault_id": backup.get("vault_id"),
        "item_id": backup.get("item_id"),
        "policy": backup.get("policy"),
        "policy_id": backup.get("policy_id"),
        "last_recovery_point": backup.get("last_recovery_point"),
        "recovery_point_age_h": backup.get("age_h"),
        "power_state": vm["power_state"],
        "provisioning_state": vm["provisioning_state"],
        "azure_agent": vm["agent"],
        "azure_extension": vm["snapshot_extension"],
        "private_addresses": vm["private_addresses"],
        "public_addresses": vm["public_addresses"],
    }
    made = {"vmbackup_" + name: value for name, value in made.items()}
    address = _address(vm, prefer)
    if address:
        made["ansible_host"] = address
    return made


def names_of_azure_rm(vm: Mapping[str, Any]) -> dict[str, Any]:
    """Return what expressions for names may use, under the names that the inventory plugin azure_rm gives it."""
    return {
        "name": vm["name"],
        "id": vm["id"],
        "resource_group": (vm["resource_group"] or "").lower(),
        "location": vm["region"],
        "tags": vm["tags"],
        "computer_name": vm["computer_name"],
        "os_profile": {"system": vm["os"]},
        "powerstate": vm["power_state"],
        "provisioning_state": (vm["provisioning_state"] or "").lower(),
        "vmid": vm["vm_id"],
        "virtual_machine_size": vm["size"],
        "private_ipv4_addresses": vm["private_addresses"],
        "public_ipv4_address": vm["public_addresses"],
    }
