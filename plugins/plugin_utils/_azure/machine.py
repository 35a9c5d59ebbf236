# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A VM: its model from Resource Graph, its state from the list of statuses, its agent and extensions from its instance view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.network import Network

SNAPSHOT = ("microsoft.azure.recoveryservices.vmsnapshot", "microsoft.azure.recoveryservices.vmsnapshotlinux")


def empty(id_: str) -> dict[str, Any]:
    """Return a VM of which no more is known than its id."""
    return {
        "read_at": None,
        "id": id_,
        "key": values.key(id_),
        "name": values.last(id_),
        "resource_group": values.part(id_, "resourceGroups"),
        "subscription_id": values.part(id_, "subscriptions"),
        "region": None,
        "zones": [],
        "tags": {},
        "size": None,
        "vm_id": None,
        "exists": None,
        "os": None,
        "os_name": None,
        "os_version": None,
        "computer_name": None,
        "image": None,
        "security_type": None,
        "provisioning_state": None,
        "provisioning_error": None,
        "power_state": None,
        "allow_extension_operations": None,
        "provision_vm_agent": None,
        "view": "not_read",
        "agent": None,
        "extensions": [],
        "handlers": [],
        "snapshot_extension": None,
        "disks": {"os": None, "data": []},
        "unusual_disks": [],
        "network": [],
        "private_addresses": [],
        "public_addresses": [],
        "locks": [],
        "restore_points": [],
        "states": [],
        "backup": None,
        "other_backups": [],
    }


def _disk(disk: Mapping[str, Any]) -> dict[str, Any]:
    managed = values.mapping(disk.get("managedDisk"))
    return {
        "name": values.text(disk.get("name")),
        "id": values.text(managed.get("id")),
        "lun": values.number(disk.get("lun")),
        "size_gb": values.number(disk.get("diskSizeGB")),
        "storage": values.text(managed.get("storageAccountType")),
        "managed": bool(managed) or not disk.get("vhd"),
        "write_accelerator": values.flag(disk.get("writeAcceleratorEnabled")),
        "ephemeral": bool(disk.get("diffDiskSettings")),
        "encryption": "ade" if values.mapping(disk.get("encryptionSettings")).get("enabled") is True else None,
    }


def from_row(row: Mapping[str, Any], network: Network, unusual: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a VM from its row."""
    properties = values.mapping(row.get("properties"))
    vm = empty(values.text(row.get("id")) or "")
    vm.update(exists=True, name=values.text(row.get("name")) or vm["name"], region=values.text(row.get("location")))
    vm["zones"] = values.texts(row.get("zones"))
    vm["tags"] = {values.text(name) or "": values.text(value) or "" for name, value in values.mapping(row.get("tags")).items()}
    _model(vm, properties)
    extended = values.mapping(values.mapping(properties.get("extended")).get("instanceView"))
    code = values.text(values.mapping(extended.get("powerState")).get("code")) or ""
    vm["power_state"] = code.partition("/")[2] or None
    for name, key in (("os_name", "osName"), ("os_version", "osVersion"), ("computer_name", "computerName")):
        vm[name] = values.text(extended.get(key)) or vm[name]
    interfaces = values.entries(values.mapping(properties.get("networkProfile")).get("networkInterfaces"))
    vm["network"] = [network.interface(entry.get("id")) for entry in interfaces]
    # The primary interface first: its address is the one to connect to.
    vm["network"].sort(key=lambda entry: not entry["primary"])
    for name in ("private_addresses", "public_addresses"):
        vm[name] = [address for entry in vm["network"] for address in entry[name]]
    vm["unusual_disks"] = [_unusual(disk) for disk in unusual]
    return vm


def _model(vm: dict[str, Any], properties: Mapping[str, Any]) -> None:
    """Set what the VM's model says: it is the same in a row and in an answer of Compute."""
    profile = values.mapping(properties.get("osProfile"))
    storage = values.mapping(properties.get("storageProfile"))
    system = values.mapping(storage.get("osDisk"))
    image = values.mapping(storage.get("imageReference"))
    configuration = values.mapping(profile.get("linuxConfiguration")) or values.mapping(profile.get("windowsConfiguration"))
    kind = (values.text(system.get("osType")) or "").lower()
    vm.update(
        size=values.text(values.mapping(properties.get("hardwareProfile")).get("vmSize")),
        vm_id=values.text(properties.get("vmId")),
        os=kind if kind in ("linux", "windows") else None,
        computer_name=values.text(profile.get("computerName")),
        image={name: values.text(image.get(name)) for name in ("publisher", "offer", "sku")} if image else None,
        security_type=values.text(values.mapping(properties.get("securityProfile")).get("securityType")),
        provisioning_state=values.text(properties.get("provisioningState")),
        allow_extension_operations=values.flag(profile.get("allowExtensionOperations")),
        provision_vm_agent=values.flag(configuration.get("provisionVMAgent")),
        disks={"os": _disk(system) if system else None, "data": [_disk(disk) for disk in values.entries(storage.get("dataDisks"))]},
    )


def _unusual(row: Mapping[str, Any]) -> dict[str, Any]:
    properties = values.mapping(row.get("properties"))
    return {
        "id": values.text(row.get("id")),
        "name": values.text(row.get("name")),
        "sku": values.text(values.mapping(row.get("sku")).get("name")),
        "size_gb": values.number(properties.get("diskSizeGB")),
        "max_shares": values.number(properties.get("maxShares")),
        "network_access": values.text(properties.get("networkAccessPolicy")),
    }


def set_statuses(vm: dict[str, Any], statuses: Any) -> None:
    """Set power and provisioning from a list of statuses, whose order is not fixed."""
    for status in values.entries(statuses):
        kind, _slash, state = (values.text(status.get("code")) or "").partition("/")
        if kind == "PowerState" and state:
            vm["power_state"] = state.lower()
        elif kind == "ProvisioningState" and state:
            name, _slash, inner = state.partition("/")
            vm["provisioning_state"] = name.capitalize()
            vm["provisioning_error"] = inner or None


def set_view(vm: dict[str, Any], answer: Mapping[str, Any]) -> None:
    """Set what the answer of Compute with the instance view says: it is newer than the row."""
    properties = values.mapping(answer.get("properties"))
    view = values.mapping(properties.get("instanceView"))
    vm["view"] = "read"
    _model(vm, properties)
    for name, key in (("os_name", "osName"), ("os_version", "osVersion"), ("computer_name", "computerName")):
        vm[name] = values.text(view.get(key)) or (vm[name] if name == "computer_name" else None)
    set_statuses(vm, view.get("statuses"))
    agent = values.mapping(view.get("vmAgent"))
    vm["agent"] = _agent(agent) if agent else None
    vm["handlers"] = [_handler(entry) for entry in values.entries(agent.get("extensionHandlers"))]
    vm["extensions"] = _extensions(values.entries(answer.get("resources")), values.entries(view.get("extensions")))
    vm["snapshot_extension"] = _snapshot(vm["handlers"], vm["extensions"])


def _agent(agent: Mapping[str, Any]) -> dict[str, Any]:
    statuses = values.entries(agent.get("statuses"))
    status = statuses[-1] if statuses else {}
    shown = values.text(status.get("displayStatus"))
    version = values.text(agent.get("vmAgentVersion"))
    return {
        "ready": None if shown is None else shown.lower() == "ready",
        "status": shown,
        "version": None if (version or "").lower() == "unknown" else version,
        "message": values.text(status.get("message")),
        "time": values.time(status.get("time")),
    }


def _handler(entry: Mapping[str, Any]) -> dict[str, Any]:
    status = values.mapping(entry.get("status"))
    shown = values.text(status.get("displayStatus"))
    return {
        "type": values.text(entry.get("type")),
        "version": values.text(entry.get("typeHandlerVersion")),
        "ready": None if shown is None else shown.lower() == "ready",
        "status": shown,
        "level": values.text(status.get("level")),
        "message": values.text(status.get("message")),
    }


def _extensions(resources: Sequence[Mapping[str, Any]], views: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the extensions that are resources of the VM, each with its last result; what a view alone names is no resource."""
    results = {str(view.get("name", "")).lower(): view for view in views}
    made = []
    for resource in resources:
        properties = values.mapping(resource.get("properties"))
        statuses = values.entries(results.get(str(resource.get("name", "")).lower(), {}).get("statuses"))
        status = statuses[0] if statuses else {}
        made.append(
            {
                "name": values.text(resource.get("name")),
                "type": ".".join(part for part in (values.text(properties.get("publisher")), values.text(properties.get("type"))) if part)
                or None,
                "version": values.text(properties.get("typeHandlerVersion")),
                "provisioning_state": values.text(properties.get("provisioningState")),
                "status": values.text(status.get("displayStatus")),
                "level": values.text(status.get("level")),
                "message": values.text(status.get("message")),
            }
        )
    return made


def _snapshot(handlers: Sequence[Mapping[str, Any]], extensions: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the backup's own extension, as the agent reports it or as Azure lists it."""
    handler = next((entry for entry in handlers if str(entry["type"]).lower() in SNAPSHOT), None)
    listed = next((entry for entry in extensions if str(entry["type"]).lower() in SNAPSHOT), None)
    found = handler or listed
    if found is None:
        return None
    return {
        "type": found["type"],
        "version": found["version"],
        "ready": handler["ready"] if handler else None,
        "status": found["status"],
        "message": found["message"],
        "name": listed["name"] if listed else None,
    }
