# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read Azure once for a whole fleet: by lists and graph queries, then the VMs whose backup failed, several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import backup as backup_
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import codes, effective, machine, queries, schedule, values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.network import Network
from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import GONE

BACKUP_VERSION, COMPUTE_VERSION, LOCK_VERSION, SUBSCRIPTION_VERSION = "2024-04-01", "2024-07-01", "2016-09-01", "2022-12-01"
VAULT_VERSION = "2024-04-01"
ITEMS_FILTER = "backupManagementType eq 'AzureIaasVM' and itemType eq 'VM'"


@dataclass(frozen=True)
class Scope:
    """What is read: subscriptions, management groups, or all that the identity sees; of those, named vaults (names or ids).

    effective_network: whether the effective security rules and routes of the chosen VMs are read too.
    """

    subscriptions: Sequence[str] = ()
    management_groups: Sequence[str] = ()
    vaults: Sequence[str] = ()
    effective_network: bool = False


@dataclass
class _Raw:
    """What came back, as it came."""

    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: list[dict[str, Any]] = field(default_factory=list)
    good_jobs: list[dict[str, Any]] = field(default_factory=list)
    other_jobs: list[dict[str, Any]] = field(default_factory=list)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: dict[str, Any] = field(default_factory=dict)
    locks: list[dict[str, Any]] = field(default_factory=list)
    collections: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def fleet(client: Client, scope: Scope, views_of: Callable[[Mapping[str, Any]], bool] | None = None) -> dict[str, Any]:
    """Return the fleet in the shape that the package describes.

    views_of chooses the VMs whose instance view is read; without it those whose last backup failed. Raises only where nothing can be read:
    no sign-in, no way to Azure, no subscription. What else fails is a sentence in errors, and the rest is read.
    """
    raw = _Raw()
    _subscriptions(client, scope, raw)
    _graph(client, scope, raw)
    now = datetime.fromtimestamp(time.time() - (client.clock_skew_s or 0.0), timezone.utc)
    _lists(client, raw)
    result = _joined(raw, scope, now)
    _absent(client, result)
    _views(client, result, views_of or _failed)
    if scope.effective_network:
        result["errors"] += effective.read(client, [vm for vm in result["vms"].values() if (views_of or _failed)(vm)])
    _errors_without_code(client, result)
    if scope.vaults:
        _named_vaults(client, scope, raw, result)
    schedule.mark(result["vms"], result["policies"])
    for vm in result["vms"].values():
        vm["read_at"] = values.iso(now)
    result.update(
        read_at=values.iso(now),
        clock_skew_s=None if client.clock_skew_s is None else round(client.clock_skew_s, 1),
        errors=raw.errors + result["errors"],
        notes=list(client.counts.notes),
        requests=dict(client.counts.requests),
        budget=client.spent(),
    )
    return result


def _failed(vm: Mapping[str, Any]) -> bool:
    return "failed" in vm["states"]


# Reading


def _subscriptions(client: Client, scope: Scope, raw: _Raw) -> None:
    """Read which subscriptions there are, and say which of the named ones there are not."""
    for entry in client.items("/subscriptions", SUBSCRIPTION_VERSION):
        id_ = values.text(entry.get("subscriptionId"))
        if id_:
            raw.subscriptions[id_.lower()] = {
                "id": id_,
                "name": values.text(entry.get("displayName")),
                "state": values.text(entry.get("state")),
            }
    unknown = [name for name in scope.subscriptions if name.lower() not in raw.subscriptions]
    if scope.subscriptions and len(unknown) == len(scope.subscriptions) or not raw.subscriptions:
        raise errors.ConfigurationError(
            "There is no subscription to read: {0}. Check the ids, and that the identity has the role Reader there.".format(
                "{0} unknown or without access".format(", ".join(unknown)) if unknown else "the identity has access to none"
            )
        )
    raw.errors += ["Subscription {0} is not known, or the identity has no access to it.".format(name) for name in unknown]
    if scope.subscriptions:
        wanted = {name.lower() for name in scope.subscriptions}
        raw.subscriptions = {key: entry for key, entry in raw.subscriptions.items() if key in wanted}


def _graph(client: Client, scope: Scope, raw: _Raw) -> None:
    """Ask Resource Graph. Without items there is nothing to tell; the other questions may fail alone."""
    where: dict[str, Sequence[str]] = {}
    if scope.management_groups:
        where["management_groups"] = list(scope.management_groups)
    elif scope.subscriptions:
        where["subscriptions"] = list(raw.subscriptions)
    asked = {
        "backup items and policies": queries.ITEMS,
        "jobs that went well": queries.GOOD_JOBS,
        "failed jobs": queries.OTHER_JOBS,
        "VMs and networks": queries.RESOURCES,
    }
    answers: dict[str, Any] = dict(client.at_once(lambda what: list(client.graph(asked[what], **where)), asked))
    for what, answer in answers.items():
        if isinstance(answer, errors.AzureError):
            if what in ("backup items and policies", "VMs and networks"):
                raise answer
            raw.errors.append("Resource Graph gave no {0}: {1}".format(what, answer))
            answers[what] = []
    raw.items = answers["backup items and policies"]
    raw.good_jobs, raw.other_jobs = answers["jobs that went well"], answers["failed jobs"]
    raw.resources = {values.key(row.get("id")): row for row in answers["VMs and networks"] if values.is_resource(row.get("id"))}
    if scope.management_groups:
        seen = {(values.part(key, "subscriptions") or "").lower() for key in raw.resources}
        raw.subscriptions = {key: entry for key, entry in raw.subscriptions.items() if key in seen}


def _lists(client: Client, raw: _Raw) -> None:
    """Read what Resource Graph does not know, or knows late: states, locks and restore points, one list for each subscription."""
    kind = "microsoft.compute/virtualmachines"
    populated = sorted({key.split("/")[2] for key, row in raw.resources.items() if str(row.get("type", "")).lower() == kind})
    base = "/subscriptions/{0}/providers/"
    work: list[tuple[str, str]] = [(what, subscription) for subscription in populated for what in ("states", "locks", "restore points")]

    def read(job: tuple[str, str]) -> list[dict[str, Any]]:
        what, subscription = job
        start = base.format(subscription)
        if what == "states":
            return list(client.items(start + "Microsoft.Compute/virtualMachines", COMPUTE_VERSION, statusOnly="true"))
        if what == "locks":
            return list(client.items(start + "Microsoft.Authorization/locks", LOCK_VERSION))
        return list(client.items(start + "Microsoft.Compute/restorePointCollections", COMPUTE_VERSION))

    for (what, subscription), answer in client.at_once(read, work):
        if isinstance(answer, errors.AzureError):
            raw.errors.append("The {0} of subscription {1} could not be read: {2}".format(what, subscription, answer))
        elif what == "states":
            for entry in answer:
                raw.statuses[values.key(entry.get("id"))] = values.mapping(values.mapping(entry.get("properties")).get("instanceView")).get(
                    "statuses"
                )
        else:
            (raw.locks if what == "locks" else raw.collections).extend(answer)


# Joining


def _joined(raw: _Raw, scope: Scope, now: datetime) -> dict[str, Any]:
    """Return the fleet without what is read for single VMs."""
    network = Network(raw.resources)
    by_type: dict[str, list[dict[str, Any]]] = {}
    for row in raw.resources.values():
        by_type.setdefault(str(row.get("type", "")).lower(), []).append(row)
    vaults = {values.key(row["id"]): _vault(row) for row in by_type.get("microsoft.recoveryservices/vaults", [])}
    unusual: dict[str, list[dict[str, Any]]] = {}
    for row in by_type.get("microsoft.compute/disks", []):
        owners = [row.get("managedBy"), *values.texts(values.mapping(row.get("properties")).get("managedByExtended"))]
        for owner in {values.key(owner) for owner in owners if owner}:
            unusual.setdefault(owner, []).append(row)
    vms = {}
    for row in by_type.get("microsoft.compute/virtualmachines", []):
        vm = machine.from_row(row, network, unusual.get(values.key(row["id"]), []))
        machine.set_statuses(vm, raw.statuses.get(vm["key"]))
        vms[vm["key"]] = vm
    policies = {values.key(row.get("id")): backup_.policy(row) for row in raw.items if _is(row, "/backuppolicies")}
    jobs = backup_.Jobs(raw.other_jobs, raw.good_jobs)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in raw.items:
        if not _is(row, "/protecteditems") or not _wanted(row, scope):
            continue
        id_ = backup_.vm_of_item(row)
        if not id_:
            raw.errors.append("The backup item {0} names no VM.".format(values.text(row.get("name"))))
            continue
        key = values.key(id_)
        vms.setdefault(key, machine.empty(id_))
        found.setdefault(key, []).append(backup_.backup(row, key, jobs, policies, vaults, now))
    for key, vm in vms.items():
        vm["backup"], vm["other_backups"] = backup_.choose(found.get(key, []))
    points = [_collection(entry) for entry in raw.collections]
    _attach(vms, [_lock(entry) for entry in raw.locks], points)
    if scope.vaults:
        vms = {key: vm for key, vm in vms.items() if vm["backup"]}
    for vm in vms.values():
        vm["states"] = backup_.states(vm["exists"], vm["backup"])
    return {"subscriptions": raw.subscriptions, "vms": vms, "vaults": vaults, "policies": policies, "restore_points": points, "errors": []}


def _is(row: Mapping[str, Any], ending: str) -> bool:
    return str(row.get("type", "")).lower().endswith(ending)


def _wanted(row: Mapping[str, Any], scope: Scope) -> bool:
    """Say whether an item is in one of the named vaults: all are wanted where none is named."""
    vault = values.key(row.get("id")).partition("/backupfabrics/")[0]
    return not scope.vaults or any(values.key(name) in (vault, values.last(vault)) for name in scope.vaults)


def _vault(row: Mapping[str, Any]) -> dict[str, Any]:
    id_ = values.text(row.get("id"))
    return {
        "id": id_,
        "name": values.text(row.get("name")),
        "resource_group": values.part(id_, "resourceGroups"),
        "subscription_id": values.part(id_, "subscriptions"),
        "region": values.text(row.get("location")),
        "public_network_access": values.text(values.mapping(row.get("properties")).get("publicNetworkAccess")),
    }


def _collection(entry: Mapping[str, Any]) -> dict[str, Any]:
    properties = values.mapping(entry.get("properties"))
    id_ = values.text(entry.get("id"))
    return {
        "id": id_,
        "name": values.text(entry.get("name")),
        "resource_group": values.part(id_, "resourceGroups"),
        "subscription_id": values.part(id_, "subscriptions"),
        "region": values.text(entry.get("location")),
        "vm_id": values.text(values.mapping(properties.get("source")).get("id")),
        "provisioning_state": values.text(properties.get("provisioningState")),
    }


def _lock(entry: Mapping[str, Any]) -> dict[str, Any]:
    properties = values.mapping(entry.get("properties"))
    id_ = values.text(entry.get("id"))
    return {
        "id": id_,
        "name": values.text(entry.get("name")),
        "level": values.text(properties.get("level")),
        "notes": values.text(properties.get("notes")),
        "_scope": values.key(id_).partition("/providers/microsoft.authorization/")[0],
    }


def _attach(vms: Mapping[str, dict[str, Any]], locks: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> None:
    """Give each VM its restore points and the locks that stand on it, above it, on its vault and on its restore points."""
    by_vm: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        by_vm.setdefault(values.key(point["vm_id"]), []).append(point)
    by_scope: dict[str, list[Mapping[str, Any]]] = {}
    for lock in locks:
        by_scope.setdefault(lock["_scope"], []).append(lock)
    for key, vm in vms.items():
        own = by_vm.get(key, [])
        vm["restore_points"] = [{name: point[name] for name in ("id", "name", "resource_group", "provisioning_state")} for point in own]
        subscription = "/".join(key.split("/")[:3])
        places = {subscription: "subscription", "/".join(key.split("/")[:5]): "resource_group", key: "vm"}
        for point in own:
            places.setdefault("/".join(values.key(point["id"]).split("/")[:5]), "restore_points")
            places.setdefault(values.key(point["id"]), "restore_points")
        if vm["backup"]:
            places.setdefault(values.key(vm["backup"]["vault_id"]), "vault")
        vm["locks"] = [
            {**{name: lock[name] for name in ("id", "name", "level", "notes")}, "on": where}
            for place, where in places.items()
            for lock in by_scope.get(place, [])
        ]


# Single VMs


def _absent(client: Client, result: dict[str, Any]) -> None:
    """Find out what became of VMs that have an item and no row: deleted, or hidden from the identity."""
    unknown = [vm for vm in result["vms"].values() if vm["exists"] is None]
    for vm in unknown:
        if any(((entry or {}).get("error") or {}).get("code") in GONE for entry in (vm["backup"],)):
            vm["exists"] = False
    for vm, answer in client.at_once(lambda vm: client.get(vm["id"], COMPUTE_VERSION), [vm for vm in unknown if vm["exists"] is None]):
        if isinstance(answer, errors.NotFound):
            vm["exists"] = False
        elif isinstance(answer, errors.AzureError):
            result["errors"].append("VM {0} could not be read: {1}".format(vm["name"], answer))
        else:
            vm.update(exists=True, region=values.text(values.mapping(answer).get("location")))
    for vm in unknown:
        vm["states"] = backup_.states(vm["exists"], vm["backup"])


def _views(client: Client, result: dict[str, Any], views_of: Callable[[Mapping[str, Any]], bool]) -> None:
    """Read the instance views of chosen VMs. A VM that was deleted meanwhile is gone, not an error."""
    chosen = [vm for vm in result["vms"].values() if vm["exists"] and views_of(vm)]
    parameters = {"$expand": "instanceView"}
    for vm, answer in client.at_once(lambda vm: client.get(vm["id"], COMPUTE_VERSION, **parameters), chosen):
        if isinstance(answer, errors.NotFound):
            vm["exists"] = False
            vm["states"] = backup_.states(False, vm["backup"])
        elif isinstance(answer, errors.AzureError):
            vm["view"] = "failed"
            result["errors"].append("The state of VM {0} could not be read: {1}".format(vm["name"], answer))
        else:
            machine.set_view(vm, values.mapping(answer))


def _errors_without_code(client: Client, result: dict[str, Any]) -> None:
    """Look up the code of failed backups that name none: first in the list of their vault, then, within the hour's budget, in their job."""

    def nameless() -> list[dict[str, Any]]:
        return [vm for vm in result["vms"].values() if "failed" in vm["states"] and not (vm["backup"]["error"] or {}).get("code")]

    vaults = sorted({vm["backup"]["vault_id"] for vm in nameless() if values.is_resource(vm["backup"]["vault_id"])})
    parameters = {"$filter": ITEMS_FILTER}

    def items(vault: str) -> list[dict[str, Any]]:
        return list(client.items(vault + "/backupProtectedItems", BACKUP_VERSION, **parameters))

    for vault, answer in client.at_once(items, vaults):
        if isinstance(answer, errors.AzureError):
            result["errors"].append("The backup items of vault {0} could not be read: {1}".format(values.last(vault), answer))
            continue
        details = {values.key(entry.get("id")): backup_.item_error(values.mapping(entry.get("properties"))) for entry in answer}
        for vm in nameless():
            vm["backup"]["error"] = details.get(values.key(vm["backup"]["item_id"])) or vm["backup"]["error"]
    jobs = [vm for vm in nameless() if values.is_resource((vm["backup"]["last_failed_job"] or {}).get("id"))]
    for vm, answer in client.at_once(lambda vm: client.get(vm["backup"]["last_failed_job"]["id"], BACKUP_VERSION), jobs):
        if isinstance(answer, errors.AzureError):
            result["errors"].append("The failed job of VM {0} could not be read: {1}".format(vm["name"], answer))
            continue
        found = values.entries(values.mapping(values.mapping(answer).get("properties")).get("errorDetails"))
        vm["backup"]["error"] = (codes.error_of(found[0], "job_detail") if found else None) or vm["backup"]["error"]


def _named_vaults(client: Client, scope: Scope, raw: _Raw, result: dict[str, Any]) -> None:
    """Say of each named vault that was not found whether it is unknown or closed to the identity: Resource Graph leaves both out without a word."""
    for name in scope.vaults:
        wanted = values.key(name)
        if any(wanted in (key, values.last(key)) for key in result["vaults"]):
            continue
        reason = "it is not there, or the identity has no access to it"
        if wanted.startswith("/subscriptions/"):
            try:
                client.get(name, VAULT_VERSION)
            except errors.AzureError as error:
                reason = str(error)
        raw.errors.append("Vault {0} was not read: {1}".format(values.last(name), reason.rstrip(".") + "."))
