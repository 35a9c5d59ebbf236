# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Azure's documents look like; fields and their types are those of recorded answers."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime, timezone
from typing import Any

NEVER_ITEM = "2001-01-01T00:00:00Z"
NEVER_JOB = "0001-01-01T00:00:00"
Document = dict[str, Any]
HEALTHY: Document = {
    "code": 400239,
    "title": "IaasVmHealthGreenDefault",
    "message": "Backup pre-check status of this virtual machine is OK.",
    "recommendations": [],
}


def stamp(when: datetime) -> str:
    """Return a time as Recovery Services writes it: seven fractional digits."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + "{0:06d}1Z".format(when.microsecond)


def offset_stamp(when: datetime) -> str:
    """Return a time as Compute writes it."""
    return stamp(when)[:-1] + "+00:00"


def guid(*parts: str) -> str:
    """Return a GUID that is the same for the same parts."""
    return str(uuid.UUID(hashlib.md5("/".join(parts).encode(), usedforsecurity=False).hexdigest()))


def vm(subscription: str, group: str, name: str, location: str, system: str, **options: Any) -> Document:
    """Return a VM's model. options: tags, zones, security_type, nics, data_disks, provisioning_state, allow_extension_operations, provision_agent."""
    base = "/subscriptions/{0}/resourceGroups/{1}/providers/".format(subscription, group)
    agent = {"provisionVMAgent": options.get("provision_agent", True), "enableVMAgentPlatformUpdates": False}
    profile: Document = {"computerName": name[:15] if system == "windows" else name, "adminUsername": "azureuser"}
    if system == "windows":
        profile["windowsConfiguration"] = {
            **agent,
            "enableAutomaticUpdates": True,
            "patchSettings": {"patchMode": "AutomaticByOS", "assessmentMode": "ImageDefault"},
        }
        image = {"publisher": "MicrosoftWindowsServer", "offer": "WindowsServer", "sku": "2022-datacenter", "version": "latest"}
    else:
        profile["linuxConfiguration"] = {
            "disablePasswordAuthentication": True,
            **agent,
            "patchSettings": {"patchMode": "ImageDefault", "assessmentMode": "ImageDefault"},
        }
        image = {"publisher": "Canonical", "offer": "UbuntuServer", "sku": "22_04-lts", "version": "latest"}
    profile.update(
        {"secrets": [], "allowExtensionOperations": options.get("allow_extension_operations", True), "requireGuestProvisionSignal": True}
    )
    disk = "{0}_OsDisk_1_{1}".format(name, guid(name).replace("-", ""))
    properties: Document = {
        "vmId": guid(subscription, group, name),
        "hardwareProfile": {"vmSize": options.get("size", "Standard_D2s_v5")},
        "storageProfile": {
            "imageReference": {**image, "exactVersion": "1.0.0"},
            "osDisk": {
                "osType": "Windows" if system == "windows" else "Linux",
                "name": disk,
                "createOption": "FromImage",
                "caching": "ReadWrite",
                "managedDisk": {"storageAccountType": "Premium_LRS", "id": base + "Microsoft.Compute/disks/" + disk},
                "deleteOption": "Detach",
                "diskSizeGB": 30,
            },
            "dataDisks": options.get("data_disks", []),
        },
        "osProfile": profile,
        "networkProfile": {"networkInterfaces": [{"id": nic} for nic in options.get("nics", [])]},
        "provisioningState": options.get("provisioning_state", "Succeeded"),
        "timeCreated": "2023-05-25T10:31:39.6353456+00:00",
    }
    if options.get("security_type"):
        properties["securityProfile"] = {
            "securityType": options["security_type"],
            "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True},
        }
    document: Document = {
        "name": name,
        "id": base + "Microsoft.Compute/virtualMachines/" + name,
        "type": "Microsoft.Compute/virtualMachines",
        "location": location,
        "tags": options.get("tags", {}),
        "properties": properties,
    }
    if options.get("zones"):
        document["zones"] = options["zones"]
    return document


def status(code: str, display: str, level: str = "Info", message: str | None = None, time: str | None = None) -> Document:
    return {
        "code": code,
        "level": level,
        "displayStatus": display,
        **({"message": message} if message is not None else {}),
        **({"time": time} if time else {}),
    }


def instance_view(document: Document, live: Document, now: datetime) -> Document:
    """Return what runs. live: power, agent (ready, not_ready, none), handlers, extensions, failed."""
    time = offset_stamp(now)
    properties = document["properties"]
    view: Document = {}
    power = live.get("power", "running")
    failed = properties["provisioningState"] == "Failed"
    if power != "deallocated":
        if live.get("agent", "ready") == "ready":
            system = properties["storageProfile"]["osDisk"]["osType"]
            view.update(
                {
                    "computerName": properties["osProfile"]["computerName"],
                    "osName": live.get("os_name", "ubuntu" if system == "Linux" else "Windows Server 2022 Datacenter"),
                    "osVersion": live.get("os_version", "22.04" if system == "Linux" else "10.0.20348.2700"),
                    "vmAgent": {
                        "vmAgentVersion": live.get("agent_version", "2.9.1.1" if system == "Linux" else "2.7.41491.1139"),
                        "statuses": [
                            status("ProvisioningState/succeeded", "Ready", message="Guest Agent is running", time=time[:19] + "+00:00")
                        ],
                        "extensionHandlers": live.get("handlers", []),
                    },
                }
            )
        elif live.get("agent") == "not_ready":
            message = "VM status blob is found but not yet populated."
            view["vmAgent"] = {
                "vmAgentVersion": "Unknown",
                "statuses": [status("ProvisioningState/Unavailable", "Not Ready", "Warning", message, time[:19] + "+00:00")],
            }
    disk = properties["storageProfile"]["osDisk"]["name"]
    view["disks"] = [{"name": disk, "statuses": [status("ProvisioningState/succeeded", "Provisioning succeeded", time=time)]}]
    if live.get("extensions") and power != "deallocated":
        view["extensions"] = live["extensions"]
    view["hyperVGeneration"] = "V2"
    # The model was last brought to the host when the VM was made, or when somebody changed or reapplied it.
    at = live.get("provisioned") or properties["timeCreated"]
    if failed:
        first = status("ProvisioningState/failed/VMExtensionProvisioningError", "Provisioning failed", "Error", "An extension failed.", at)
    elif properties["provisioningState"] == "Succeeded":
        first = status("ProvisioningState/succeeded", "Provisioning succeeded", time=at)
    else:
        first = status("ProvisioningState/" + properties["provisioningState"].lower(), properties["provisioningState"])
    view["statuses"] = [first, status("PowerState/" + power, "VM " + power)]
    return view


def handler(system: str, ready: bool = True, name: str | None = None, message: str = "Plugin enabled") -> Document:
    """Return an extension as the agent reports it."""
    kind = name or "Microsoft.Azure.RecoveryServices." + ("VMSnapshot" if system == "windows" else "VMSnapshotLinux")
    state = status("ProvisioningState/succeeded", "Ready") if ready else status("ProvisioningState/failed/1", "Not ready", "Error")
    return {"type": kind, "typeHandlerVersion": "1.0.9231.0" if system == "linux" else "1.0.95.0", "status": {**state, "message": message}}


def item(vault: Document, machine_id: str, group: str, name: str, **values: Any) -> Document:
    """Return a protected item; values replace properties, None takes one out."""
    short = "iaasvmcontainerv2;{0};{1}".format(group, name)
    policy = values.pop("policy", "DefaultPolicy")
    properties: Document = {
        "friendlyName": name,
        "virtualMachineId": machine_id,
        "protectionStatus": "Healthy",
        "protectionState": "Protected",
        "healthStatus": "Passed",
        "healthDetails": [HEALTHY],
        "kpisHealths": {},
        "lastBackupStatus": "Completed",
        "lastBackupTime": NEVER_ITEM,
        "protectedItemDataId": str(int(guid(machine_id)[:8], 16)),
        "extendedProperties": {},
        "protectedItemType": "Microsoft.Compute/virtualMachines",
        "backupManagementType": "AzureIaasVM",
        "workloadType": "VM",
        "containerName": short,
        "sourceResourceId": machine_id,
        "policyId": "{0}/backupPolicies/{1}".format(vault["id"], policy) if policy else "",
        "policyName": policy,
        "policyType": "V1",
        "lastRecoveryPoint": NEVER_ITEM,
        "vaultId": "https://management.azure.com" + vault["id"],
        "isArchiveEnabled": False,
        "softDeleteRetentionPeriod": 0,
    }
    properties.update(values)
    full = "VM;" + short
    return {
        "id": "{0}/backupFabrics/Azure/protectionContainers/IaasVMContainer;{1}/protectedItems/{2}".format(vault["id"], short, full),
        "name": full,
        "type": "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems",
        "properties": {key: value for key, value in properties.items() if value is not None},
    }


def job(vault: Document, name: str, machine: Document, started: datetime, **values: Any) -> Document:
    """Return a job as the detail shows it; extendedInfo is left out of lists."""
    group = machine["id"].split("/")[4]
    properties: Document = {
        "jobType": "AzureIaaSVMJob",
        "actionsInfo": ["Cancellable"],
        "containerName": "iaasvmcontainerv2;{0};{1}".format(group, machine["name"]),
        "duration": "PT41M11.593103S",
        "virtualMachineVersion": "Compute",
        "extendedInfo": {"tasksList": [], "propertyBag": {"VM Name": machine["name"]}},
        "entityFriendlyName": machine["name"],
        "backupManagementType": "AzureIaasVM",
        "operation": "Backup",
        "status": "Completed",
        "startTime": stamp(started),
        "endTime": stamp(started),
        "activityId": guid("activity", name),
    }
    properties.update(values)
    return {
        "id": "{0}/backupJobs/{1}".format(vault["id"], name),
        "name": name,
        "type": "Microsoft.RecoveryServices/vaults/backupJobs",
        "properties": {key: value for key, value in properties.items() if value is not None},
    }


def policy(vault: Document, name: str, enhanced: bool = False, at: str = "2023-05-20T22:30:00Z", count: int = 0) -> Document:
    """Return a daily policy, or an hourly one of the enhanced kind."""
    schedule: Document = {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": "Daily",
        "scheduleRunTimes": [at],
        "scheduleWeeklyFrequency": 0,
    }
    if enhanced:
        schedule = {
            "schedulePolicyType": "SimpleSchedulePolicyV2",
            "scheduleRunFrequency": "Hourly",
            "hourlySchedule": {"interval": 4, "scheduleWindowStartTime": at, "scheduleWindowDuration": 12},
        }
    return {
        "id": "{0}/backupPolicies/{1}".format(vault["id"], name),
        "name": name,
        "type": "Microsoft.RecoveryServices/vaults/backupPolicies",
        "properties": {
            "backupManagementType": "AzureIaasVM",
            **({"policyType": "V2"} if enhanced else {}),
            "instantRPDetails": {},
            "schedulePolicy": schedule,
            "retentionPolicy": {
                "retentionPolicyType": "LongTermRetentionPolicy",
                "dailySchedule": {"retentionTimes": [at], "retentionDuration": {"count": 30, "durationType": "Days"}},
            },
            "instantRpRetentionRangeInDays": 2,
            "timeZone": "UTC",
            "protectedItemsCount": count,
        },
    }


def vault(subscription: str, group: str, name: str, location: str) -> Document:
    return {
        "location": location,
        "name": name,
        "etag": "W/\"datetime'2023-03-10T10%3A02%3A00.2479458Z'\"",
        "properties": {
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
            "restoreSettings": {"crossSubscriptionRestoreSettings": {"crossSubscriptionRestoreState": "Enabled"}},
        },
        "id": "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.RecoveryServices/vaults/{2}".format(subscription, group, name),
        "type": "Microsoft.RecoveryServices/vaults",
        "sku": {"name": "RS0", "tier": "Standard"},
    }


def rule(parent: str, name: str, properties: Document) -> Document:
    """Return a security rule as Network shows it, from what was sent."""
    full: Document = {"provisioningState": "Succeeded", **properties}
    for key in ("sourcePortRanges", "destinationPortRanges", "sourceAddressPrefixes", "destinationAddressPrefixes"):
        full.setdefault(key, [])
    return {
        "name": name,
        "id": "{0}/securityRules/{1}".format(parent, name),
        "etag": 'W/"{0}"'.format(guid(parent, name, str(sorted(properties)))),
        "type": "Microsoft.Network/networkSecurityGroups/securityRules",
        "properties": full,
    }


_DEFAULT_RULES = (
    ("AllowVnetInBound", "VirtualNetwork", "VirtualNetwork", "Allow", 65000, "Inbound"),
    ("AllowAzureLoadBalancerInBound", "AzureLoadBalancer", "*", "Allow", 65001, "Inbound"),
    ("DenyAllInBound", "*", "*", "Deny", 65500, "Inbound"),
    ("AllowVnetOutBound", "VirtualNetwork", "VirtualNetwork", "Allow", 65000, "Outbound"),
    ("AllowInternetOutBound", "*", "Internet", "Allow", 65001, "Outbound"),
    ("DenyAllOutBound", "*", "*", "Deny", 65500, "Outbound"),
)


def nsg(subscription: str, group: str, name: str, location: str, rules: dict[str, Document] | None = None) -> Document:
    """Return a network security group with the default rules."""
    path = "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Network/networkSecurityGroups/{2}".format(subscription, group, name)
    defaults = []
    for label, source, destination, access, priority, direction in _DEFAULT_RULES:
        entry = rule(
            path,
            label,
            {
                "description": label,
                "protocol": "*",
                "sourcePortRange": "*",
                "destinationPortRange": "*",
                "sourceAddressPrefix": source,
                "destinationAddressPrefix": destination,
                "access": access,
                "priority": priority,
                "direction": direction,
            },
        )
        entry["id"] = "{0}/defaultSecurityRules/{1}".format(path, label)
        entry["type"] = "Microsoft.Network/networkSecurityGroups/defaultSecurityRules"
        defaults.append(entry)
    return {
        "name": name,
        "id": path,
        "etag": 'W/"{0}"'.format(guid(path)),
        "type": "Microsoft.Network/networkSecurityGroups",
        "location": location,
        "tags": {},
        "properties": {
            "provisioningState": "Succeeded",
            "resourceGuid": guid(path, "guid"),
            "securityRules": [rule(path, label, properties) for label, properties in (rules or {}).items()],
            "defaultSecurityRules": defaults,
        },
    }


def lock(scope: str, name: str, level: str = "CanNotDelete") -> Document:
    return {
        "properties": {"level": level},
        "id": "{0}/providers/Microsoft.Authorization/locks/{1}".format(scope, name),
        "type": "Microsoft.Authorization/locks",
        "name": name,
    }


def restore_point_collection(subscription: str, group: str, name: str, location: str, source: str) -> Document:
    path = "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Compute/restorePointCollections/{2}".format(subscription, group, name)
    return {
        "name": name,
        "id": path,
        "type": "Microsoft.Compute/restorePointCollections",
        "location": location,
        "properties": {
            "source": {"location": location, "id": source},
            "restorePointCollectionId": guid(path),
            "provisioningState": "Succeeded",
        },
    }


def restore_point(path: str, machine: Document, mode: str, now: datetime) -> Document:
    """Return a restore point of a VM as it is when it is made."""
    properties = machine["properties"]
    disk = properties["storageProfile"]["osDisk"]
    shown = {key: disk[key] for key in ("osType", "name", "diskSizeGB", "caching", "managedDisk")}
    shown["diskRestorePoint"] = {"id": "{0}/diskRestorePoints/{1}_{2}".format(path, disk["name"], guid(path, disk["name"]))}
    return {
        "name": path.rsplit("/", 1)[1],
        "id": path,
        "properties": {
            "sourceMetadata": {
                "vmId": properties["vmId"],
                "location": machine["location"],
                "hardwareProfile": properties["hardwareProfile"],
                "storageProfile": {"osDisk": shown, "dataDisks": []},
                "osProfile": properties["osProfile"],
                "hyperVGeneration": "V1",
            },
            "provisioningState": "Succeeded",
            "consistencyMode": mode,
            "timeCreated": offset_stamp(now),
        },
    }


def without_disk_points(metadata: Document) -> Document:
    """Return what a restore point shows of its source while it is being made."""
    profile = metadata["storageProfile"]
    disk = {key: value for key, value in profile["osDisk"].items() if key != "diskRestorePoint"}
    return {**metadata, "storageProfile": {**profile, "osDisk": disk}}
