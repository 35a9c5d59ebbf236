# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state of the stand-in, and a generator of fleets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from . import documents
from .documents import Document

# number, symbol, message, recommendation. The first number and text are recorded; the other numbers are the stand-in's own.
ERRORS = (
    (
        400196,
        "UserErrorGuestAgentStatusUnavailable",
        "VM Agent unable to communicate with Azure Backup.",
        "Ensure the VM has network connectivity and the VM agent is latest and running.",
    ),
    (
        490001,
        "GuestAgentSnapshotTaskStatusError",
        "Could not communicate with the VM agent for snapshot status.",
        "Restart the VM agent and try again.",
    ),
    (
        490002,
        "ExtensionSnapshotFailedNoNetwork",
        "Snapshot operation failed due to no network connectivity on the virtual machine.",
        "Check the network.",
    ),
    (490003, "UserErrorFsFreezeFailed", "Failed to freeze one or more mount-points of the VM.", "Check the file systems."),
    (490004, "UserErrorVmProvisioningStateFailed", "The VM is in failed provisioning state.", "Repair the extension that failed."),
)
REGIONS = ("westeurope", "northeurope", "eastus")


@dataclass
class Operation:
    """An operation that takes some polls. finish is called once, when it succeeds."""

    name: str
    started: datetime
    polls: int = 1
    status: str = "InProgress"
    properties: Document | None = None
    error: Document | None = None
    result: Any = None
    finish: Any = None


@dataclass
class Fleet:
    """All that there is; keys are ids in lower case."""

    subscriptions: dict[str, Document] = field(default_factory=dict)
    resources: dict[str, Document] = field(default_factory=dict)
    live: dict[str, Document] = field(default_factory=dict)
    items: dict[str, Document] = field(default_factory=dict)
    jobs: dict[str, Document] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    read_only: set[str] = field(default_factory=set)
    pages: dict[str, Any] = field(default_factory=dict)
    management_groups: dict[str, list[str]] = field(default_factory=dict)
    offset: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + self.offset

    def put(self, document: Document, live: Document | None = None) -> Document:
        self.resources[document["id"].lower()] = document
        if live is not None:
            self.live[document["id"].lower()] = live
        return document

    def of_type(self, kind: str, below: str = "") -> list[Document]:
        """Return resources of a type, below a path, in the order of their ids."""
        kind, below = kind.lower(), below.lower()
        return [
            self.resources[key] for key in sorted(self.resources) if self.resources[key]["type"].lower() == kind and key.startswith(below)
        ]

    def settle(self) -> None:
        """End all operations that run."""
        for operation in self.operations.values():
            if operation.status == "InProgress":
                operation.status = "Failed" if operation.error else "Succeeded"
                if operation.finish and not operation.error:
                    operation.finish()

    def is_denied(self, path: str) -> bool:
        path = path.lower()
        return any(path == scope or path.startswith(scope + "/") for scope in self.denied)

    def subscribe(self, subscription: str, name: str = "Production") -> None:
        self.subscriptions[subscription.lower()] = {
            "id": "/subscriptions/" + subscription,
            "subscriptionId": subscription,
            "tenantId": documents.guid("tenant"),
            "displayName": name,
            "state": "Enabled",
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "EnterpriseAgreement_2014-09-01",
                "spendingLimit": "Off",
            },
            "authorizationSource": "RoleBased",
        }

    def add_vault(self, subscription: str, group: str, name: str, location: str) -> Document:
        vault = self.put(documents.vault(subscription, group, name, location))
        self.put(documents.policy(vault, "DefaultPolicy"))
        self.put(documents.policy(vault, "EnhancedPolicy", enhanced=True))
        return vault

    def add_network(self, subscription: str, group: str, location: str) -> str:
        """Add a network with one subnet, its security group and route table; return the subnet's id."""
        base = "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Network/".format(subscription, group)
        group_ = self.put(documents.nsg(subscription, group, "nsg-" + location, location))
        table = self.put(
            {
                "name": "rt-" + location,
                "id": base + "routeTables/rt-" + location,
                "type": "Microsoft.Network/routeTables",
                "location": location,
                "properties": {"provisioningState": "Succeeded", "disableBgpRoutePropagation": False, "routes": []},
            }
        )
        network = base + "virtualNetworks/vnet-" + location
        subnet = {
            "name": "default",
            "id": network + "/subnets/default",
            "type": "Microsoft.Network/virtualNetworks/subnets",
            "properties": {
                "provisioningState": "Succeeded",
                "addressPrefix": "10.0.0.0/16",
                "networkSecurityGroup": {"id": group_["id"]},
                "routeTable": {"id": table["id"]},
                "serviceEndpoints": [],
            },
        }
        properties = {"provisioningState": "Succeeded", "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": [subnet]}
        self.put(
            {
                "name": "vnet-" + location,
                "id": network,
                "type": "Microsoft.Network/virtualNetworks",
                "location": location,
                "properties": properties,
            }
        )
        return network + "/subnets/default"

    def add_vm(
        self, subscription: str, group: str, name: str, location: str, system: str, subnet: str, address: str, **options: Any
    ) -> Document:
        """Add a VM with its network interface. options: those of documents.vm, and power, agent."""
        nic = "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Network/networkInterfaces/{2}-nic".format(
            subscription, group, name
        )
        live = {key: options.pop(key) for key in ("power", "agent", "handlers", "extensions") if key in options}
        live.setdefault("handlers", [documents.handler(system, live.get("agent", "ready") == "ready")])
        machine = self.put(documents.vm(subscription, group, name, location, system, nics=[nic], **options), live)
        configuration = {
            "name": "ipconfig1",
            "id": nic + "/ipConfigurations/ipconfig1",
            "properties": {"privateIPAddress": address, "privateIPAllocationMethod": "Dynamic", "primary": True, "subnet": {"id": subnet}},
        }
        properties = {
            "provisioningState": "Succeeded",
            "primary": True,
            "ipConfigurations": [configuration],
            "dnsSettings": {"dnsServers": []},
            "virtualMachine": {"id": machine["id"]},
        }
        self.put(
            {
                "name": name + "-nic",
                "id": nic,
                "etag": 'W/"{0}"'.format(documents.guid(nic, "etag")),
                "type": "Microsoft.Network/networkInterfaces",
                "location": location,
                "properties": properties,
            }
        )
        return machine

    def protect(
        self, vault: Document, machine: Document, error: tuple[int, str, str, str] | None = None, days: int = 14, **values: Any
    ) -> Document:
        """Add the protected item of a VM and its jobs of the last days. error: what its last backups failed with; failed_days: since when."""
        failed_days = values.pop("failed_days", 3)
        failed_days = failed_days if error else 0
        group = values.pop("group", machine["id"].split("/")[4])
        now = self.now()
        for day in range(days):
            began = now - timedelta(days=day, hours=2)
            name = documents.guid("job", machine["id"], str(day))
            more: Document = {"endTime": documents.stamp(began + timedelta(minutes=41))}
            if day < failed_days and error:
                more.update(
                    status="Failed",
                    errorDetails=[{"errorCode": error[0], "errorTitle": error[1], "errorString": error[2], "recommendations": [error[3]]}],
                )
            job = documents.job(vault, name, machine, began, **more)
            self.jobs[job["id"].lower()] = job
        good = now - timedelta(days=failed_days, hours=2)
        defaults: Document = {
            "lastBackupTime": documents.stamp(now - timedelta(hours=2)),
            "lastRecoveryPoint": documents.stamp(good + timedelta(minutes=3)),
            "sourceLocation": machine["location"],
        }
        if error:
            defaults.update(
                lastBackupStatus="Failed",
                healthStatus="ActionSuggested",
                protectionStatus="Unhealthy",
                healthDetails=[{"code": error[0], "title": error[1], "message": error[2], "recommendations": [error[3]]}],
            )
        # The vault keeps the VM's id as it was written when it was protected: often in another letter case.
        written = machine["id"].replace("/resourceGroups/" + machine["id"].split("/")[4], "/resourceGroups/" + group)
        item = documents.item(vault, written, group, machine["name"], **{**defaults, **values})
        self.items[item["id"].lower()] = item
        return item


def generate(
    count: int = 100, failing: int = 20, *, vaults: int = 3, subscriptions: int = 1, days: int = 14, unprotected: int = 0
) -> Fleet:
    """Return a fleet of VMs, of which the first ones fail, the last ones are not protected, and every tenth is deallocated."""
    fleet = Fleet()
    homes = []
    for number in range(subscriptions):
        subscription = documents.guid("subscription", str(number))
        fleet.subscribe(subscription, "Subscription {0}".format(number + 1))
        subnets = {region: fleet.add_network(subscription, "rg-network", region) for region in REGIONS}
        kept = [
            fleet.add_vault(subscription, "rg-backup", "Vault{0:02d}".format(each + 1), REGIONS[each % len(REGIONS)])
            for each in range(vaults)
        ]
        homes.append((subscription, subnets, kept))
    for number in range(count):
        subscription, subnets, kept = homes[number % subscriptions]
        vault = kept[(number // subscriptions) % vaults]
        region = vault["location"]
        fails = number < failing
        system = "windows" if number % 4 == 3 else "linux"
        error = ERRORS[number % len(ERRORS)] if fails else None
        machine = fleet.add_vm(
            subscription,
            "rg-app{0:02d}".format(number % 20),
            "vm{0:04d}".format(number),
            region,
            system,
            subnets[region],
            "10.0.{0}.{1}".format(number // 250, number % 250 + 4),
            tags={"environment": "production" if number % 2 else "test"},
            power="deallocated" if number % 10 == 9 else "running",
            agent="not_ready" if error and error[1] == "UserErrorGuestAgentStatusUnavailable" else "ready",
            provisioning_state="Failed" if error and error[1] == "UserErrorVmProvisioningStateFailed" else "Succeeded",
        )
        if number < count - unprotected:
            group = machine["id"].split("/")[4]
            fleet.protect(vault, machine, error, days, group=group.upper() if number % 3 == 0 else group, failed_days=1 + number % days)
    for subscription, _subnets, kept in homes:
        group = "AzureBackupRG_westeurope_1"
        for machine in fleet.of_type("Microsoft.Compute/virtualMachines", "/subscriptions/{0}/".format(subscription))[:20]:
            name = "AzureBackup_{0}_{1}".format(machine["name"], int(documents.guid(machine["id"])[:8], 16))
            fleet.put(documents.restore_point_collection(subscription, group, name, machine["location"], machine["id"]))
        fleet.put(documents.lock("/subscriptions/{0}/resourceGroups/{1}".format(subscription, group), "keep"))
        fleet.put(documents.lock(kept[0]["id"], "vault"))
    return fleet
