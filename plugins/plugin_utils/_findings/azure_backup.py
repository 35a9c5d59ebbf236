# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 5, Azure: protection, policy and schedule of a VM, its disks, its restore points and the locks on them."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.schedule import move
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._azure import (
    NUMBER,
    az,
    azure,
    code_of,
    failed,
    item_arguments,
    lower,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Limits,
    Seen,
    get,
    items,
    part,
    seen,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import (
    ARTICLE,
    ENHANCED,
    ERRORS,
    MATRIX,
    QUESTIONS,
    STATUS,
)

ENHANCED_ONLY = ("ultrassd_lrs", "premiumv2_lrs")
LIMIT_REACHED = "UserErrorRpCollectionLimitReached"
IN_PROGRESS = "UserErrorBackupOperationInProgress"
# Collections that Azure Backup makes; others are somebody's own.
COLLECTION = "azurebackup_"
VM_BACKUP = ("--backup-management-type", "AzureIaasVM", "--workload-type", "VM")

cause = Cause(NUMBER, doc=ERRORS, module=__name__)
finding = azure(cause)


def _has(facts: Facts, state: str) -> bool:
    return state in items(facts, "azure.states")


# Protection


@finding(
    severity="risk",
    title="No vault backs the VM up",
    evidence="none of the vaults that the identity may read has a backup item of {id}",
    action="Protect the VM, or exclude it on purpose. A vault that the identity may not read is not seen: check its rights first.",
    doc=MATRIX,
)
def azure_not_protected(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "azure.exists") is True and _has(facts, "unprotected"):
        yield seen(id=get(facts, "azure.id"))


@finding(
    severity="risk",
    title="Backup of the VM was stopped",
    evidence={
        "state": "protection state {state} in vault {vault}",
        "point": "the last recovery point is of {point}; it is kept, and costs money",
        "left": "restore points are left in {group}: {name}",
        "code": "the backup failed with {code}: the VM is not actively protected",
    },
    action="Resume protection with a policy, or delete the data if nobody needs them. POLICY stands for the policy's name.",
    codes=("UserErrorBcmDatasourceNotPresent",),
)
def azure_protection_stopped(facts: Facts, limits: Limits) -> Iterator[Seen]:
    backup = part(facts, "azure.backup")
    refused = failed(facts) and code_of(facts) == "UserErrorBcmDatasourceNotPresent"
    if not _has(facts, "stopped") and not refused:
        return
    yield seen(
        "state",
        state=backup.get("protection_state"),
        vault=backup.get("vault"),
        command=az("backup", "protection", "resume", *item_arguments(backup), "--policy-name", "POLICY"),
    )
    if refused:
        yield seen("code", code=code_of(facts))
    if backup.get("last_recovery_point"):
        yield seen("point", point=backup["last_recovery_point"])
    for collection in _collections(facts):
        yield seen("left", group=collection.get("resource_group"), name=collection.get("name"))


@finding(
    severity="risk",
    title="The VM's backup was deleted and can still be brought back",
    evidence="the backup item in vault {vault} is deleted for good in {hours} hours; its last recovery point is of {point}",
    action="Bring it back if the data are needed, then resume protection.",
)
def azure_soft_deleted(facts: Facts, limits: Limits) -> Iterator[Seen]:
    backup = part(facts, "azure.backup")
    if backup.get("soft_deleted") is True:
        left = backup.get("deleted_until_s")
        yield seen(
            vault=backup.get("vault"),
            hours=None if left is None else left // 3600,
            point=backup.get("last_recovery_point"),
            command=az("backup", "protection", "undelete", *item_arguments(backup), *VM_BACKUP),
        )


@finding(
    severity="risk",
    title="Protection of the VM could not be set up",
    evidence="protection state {state} in vault {vault}",
    action="Look at the job that configured the backup. Stop protection, keeping the data, and enable it again.",
)
def azure_protection_error(facts: Facts, limits: Limits) -> Iterator[Seen]:
    backup = part(facts, "azure.backup")
    if lower(backup.get("protection_state")) == "protectionerror" and backup.get("soft_deleted") is not True:
        yield seen(state=backup.get("protection_state"), vault=backup.get("vault"))


@finding(
    severity="risk",
    title="The last recovery point is older than the policy promises",
    evidence="the last recovery point is of {point}, {age} hours ago; policy {policy} makes one every {interval} hours",
    action="Repair what makes the backup fail. Where no backup failed, look whether the policy's jobs start at all.",
)
def azure_rpo_breached(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """What a soft-deleted or stopped backup once promised is no matter any more."""
    backup = part(facts, "azure.backup")
    if _has(facts, "rpo_breached") and backup.get("rpo_breached") is True:
        yield seen(
            point=backup.get("last_recovery_point"), age=backup.get("age_h"), policy=backup.get("policy"), interval=backup.get("rpo_h")
        )


@finding(
    severity="risk",
    title="Another backup of the VM was under way",
    evidence={
        "code": "the backup failed with {code}",
        "job": "job {name} runs in vault {vault} since {start}",
        "other": "vault {vault} backs the VM up as well ({state})",
    },
    action="Wait until the running job has ended, or cancel it, then start a backup. Where a second vault backs the VM up, stop protection in one.",
    codes=(IN_PROGRESS,),
)
def azure_backup_in_progress(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """A job that runs is nothing unusual: it matters where one failed because of it."""
    if not failed(facts) or code_of(facts) != IN_PROGRESS:
        return
    yield seen("code", code=IN_PROGRESS)
    for backup in [part(facts, "azure.backup"), *items(facts, "azure.other_backups")]:
        job = part(backup, "running_job")
        if job:
            command = az("backup", "job", "stop", "--ids", job.get("id"))
            yield seen("job", name=job.get("name"), vault=backup.get("vault"), start=job.get("start"), command=command)
    for backup in items(facts, "azure.other_backups"):
        if lower(backup.get("protection_state")) in ("protected", "irpending") and backup.get("soft_deleted") is not True:
            yield seen("other", vault=backup.get("vault"), state=backup.get("protection_state"))


# Policy, schedule, disks


def _disks(facts: Facts) -> list[Mapping[str, Any]]:
    system = part(facts, "azure.disks.os")
    return ([system] if system else []) + items(facts, "azure.disks.data")


@finding(
    severity="risk",
    title="The VM needs an enhanced backup policy and has a standard one",
    evidence={
        "disk": "disk {name} is {storage}, which policy {policy} (standard) does not back up",
        "confidential": "the VM is a confidential one, which policy {policy} (standard) does not back up",
        "launch": "the VM has trusted launch, which a standard policy ({policy}) backs up only where protection was set up after spring 2025",
    },
    action="Give the VM an enhanced policy (policy type V2). There is no way back to a standard one. POLICY stands for the policy's name.",
    codes=("UserErrorUnsupportedDiskConfiguration", "BackUpOperationFailedV2"),
    doc=ENHANCED,
)
def azure_policy_tier(facts: Facts, limits: Limits) -> Iterator[Seen]:
    backup = part(facts, "azure.backup")
    if lower(backup.get("policy_type")) != "v1":
        return
    command = az("backup", "item", "set-policy", *item_arguments(backup), "--policy-name", "POLICY")
    weight = "blocker" if failed(facts) else None
    for disk in _disks(facts):
        if lower(disk.get("storage")) in ENHANCED_ONLY:
            yield seen(
                "disk", severity=weight, name=disk.get("name"), storage=disk["storage"], policy=backup.get("policy"), command=command
            )
    kind = lower(get(facts, "azure.security_type"))
    if kind == "confidentialvm":
        yield seen("confidential", severity=weight, policy=backup.get("policy"), command=command)
    elif kind == "trustedlaunch" and failed(facts):
        yield seen("launch", severity="notice", policy=backup.get("policy"), command=command)


@finding(
    severity="risk",
    title="A disk of the VM is of a kind that Azure Backup does not take",
    evidence={
        "shared": "disk {name} is shared ({value} VMs may attach it)",
        "large": "disk {name} has {value} GB, more than {limit}",
        "ephemeral": "the disk of the system ({name}) is ephemeral",
        "many": "the VM has {value} data disks, more than {limit}",
    },
    action="Exclude the disk from the backup (an enhanced policy excludes shared disks), split it, or back its data up otherwise.",
    codes=(
        "UserErrorUnsupportedDiskSize",
        "UserErrorUnsupportedDiskConfiguration",
        "UserErrorSharedDiskBackupNotSupported",
        "OperationNotAllowed",
    ),
    doc=MATRIX,
)
def azure_disk_unsupported(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Disks that are already left out of a backup that succeeds are no matter."""
    if not failed(facts) and not _has(facts, "unprotected"):
        return
    weight = "blocker" if failed(facts) else None
    for disk in items(facts, "azure.unusual_disks"):
        if (disk.get("max_shares") or 0) > 1:
            yield seen("shared", severity=weight, name=disk.get("name"), value=disk["max_shares"])
    for disk in _disks(facts):
        limit = limits["encrypted_disk_gb"] if disk.get("encryption") else limits["disk_gb"]
        if (disk.get("size_gb") or 0) > limit:
            yield seen("large", severity=weight, name=disk.get("name"), value=disk["size_gb"], limit=int(limit))
    if get(facts, "azure.disks.os.ephemeral") is True:
        yield seen("ephemeral", severity=weight, name=get(facts, "azure.disks.os.name"))
    count = len(items(facts, "azure.disks.data"))
    if count > limits["data_disks"]:
        yield seen("many", severity=weight, value=count, limit=int(limits["data_disks"]))


@finding(
    severity="notice",
    title="Too many VMs of the vault are backed up at one time",
    evidence={
        "crowd": "{count} VMs of vault {vault} start at {start} {time_zone}, more than {limit}",
        "move": "plan: this VM moves to policy {policy} ({start})",
        "new": "plan: this VM moves to a policy of its own time, {start}: none of the vault's has room",
        "stay": "plan: this VM stays, {others} others move",
    },
    action="Spread the VMs over policies with other start times. The module backup_info returns the plan for the whole fleet.",
    codes=(*STATUS, "ExtensionFailedTimeoutVMNetworkUnresponsive"),
    doc=QUESTIONS,
)
def azure_start_time_crowded(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """The fourth cause of the article: several VMs at once. It matters where a backup fails."""
    backup = part(facts, "azure.backup")
    crowd = part(backup, "crowd")
    limit = int(limits["vms_per_start_time"])
    if not failed(facts) or (crowd.get("vms") or 0) <= limit:
        return
    yield seen(
        "crowd",
        count=crowd["vms"],
        vault=backup.get("vault"),
        start=crowd.get("start"),
        time_zone=crowd.get("time_zone") or "",
        limit=limit,
    )
    target = move(crowd, limit)
    if target is None:
        yield seen("stay", others=crowd["vms"] - limit)
    elif target["policy"] is None:
        yield seen("new", start=target["start"])
    else:
        command = az("backup", "item", "set-policy", *item_arguments(backup), "--policy-name", target["policy"])
        yield seen("move", policy=target["policy"], start=target["start"], command=command)


# Restore points and locks


def _collections(facts: Facts) -> list[Mapping[str, Any]]:
    """Return the collections of restore points that Azure Backup made of the VM."""
    return [entry for entry in items(facts, "azure.restore_points") if lower(entry.get("name")).startswith(COLLECTION)]


def _on_restore_points(facts: Facts, lock: Mapping[str, Any]) -> bool:
    """Say whether a lock reaches the restore points: on them, on the subscription, or on the VM's group where they are in it."""
    groups = {lower(entry.get("resource_group")) for entry in _collections(facts)}
    place = lock.get("on")
    return bool(groups) and (
        place in ("restore_points", "subscription") or (place == "resource_group" and lower(get(facts, "azure.resource_group")) in groups)
    )


@finding(
    severity="risk",
    title="A lock keeps Azure from removing old restore points",
    evidence="lock {name} ({level}) on {place} reaches the restore points of the VM{notes}",
    action="Remove the lock. Azure Backup keeps at most 18 restore points of a VM and fails when it cannot remove the oldest.",
    codes=(LIMIT_REACHED, "BackUpOperationFailed", "BackUpOperationFailedV2", "UserErrorCrpReportedUserError"),
    doc=ARTICLE,
)
def azure_restore_points_locked(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for lock in items(facts, "azure.locks"):
        if _on_restore_points(facts, lock):
            yield _lock(lock, "blocker" if failed(facts) and code_of(facts) == LIMIT_REACHED else None)


def _lock(lock: Mapping[str, Any], severity: str | None) -> Seen:
    return seen(
        severity=severity,
        name=lock.get("name"),
        level=lock.get("level"),
        place="the " + str(lock.get("on")).replace("_", " "),
        notes=": {0}".format(lock["notes"]) if lock.get("notes") else "",
        command=az("lock", "delete", "--ids", lock.get("id")),
    )


@finding(
    severity="risk",
    title="A lock makes the VM read-only",
    evidence="lock {name} ({level}) on {place}{notes}",
    action="Remove the lock, or make it a CanNotDelete one: below a read-only lock neither extensions nor restore points can be written.",
    codes=("UserErrorCrpReportedUserError", "UserErrorVmProvisioningStateFailed", "BackUpOperationFailed", "BackUpOperationFailedV2"),
    doc=ARTICLE,
)
def azure_lock_read_only(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Where backups succeed all the same, it is no matter of backup."""
    for lock in items(facts, "azure.locks"):
        if failed(facts) and lower(lock.get("level")) == "readonly" and lock.get("on") in ("vm", "resource_group", "subscription"):
            yield _lock(lock, None)


@finding(
    severity="notice",
    title="Restore points of the VM were left behind",
    evidence={
        "left": "{group}: {name} ({state}), though {why}",
        "limit": "{group}: {name} ({state}) holds the restore points that reached their limit",
    },
    action="Look at them. Without a lock the next backup removes what is too old. Delete a collection only when you know that no vault needs it: "
    "instant recovery from it ends.",
    codes=(LIMIT_REACHED,),
    doc=ARTICLE,
    explained_by=("azure_restore_points_locked",),
)
def azure_restore_points_left(facts: Facts, limits: Limits) -> Iterator[Seen]:
    reasons = {"unprotected": "no vault backs the VM up", "vm_gone": "the VM is gone"}
    why = next((text for state, text in reasons.items() if _has(facts, state)), None)
    limit = failed(facts) and code_of(facts) == LIMIT_REACHED
    for entry in _collections(facts):
        broken = lower(entry.get("provisioning_state")) == "failed"
        if why or limit or broken:
            yield seen(
                "limit" if limit and not why else "left",
                group=entry.get("resource_group"),
                name=entry.get("name"),
                state=entry.get("provisioning_state"),
                why=why or "it is in a failed state",
                command=az("restore-point", "collection", "show", "--ids", entry.get("id"), "--restore-points"),
            )
