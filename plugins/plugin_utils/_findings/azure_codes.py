# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 5, Azure: codes of failed backups that Azure alone answers. The code is the evidence, with Azure's own words on it.

Where a code has several causes, the action names each and what tells them apart: mostly the message.
"""

from __future__ import annotations

from typing import Any, Iterator

from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._azure import NUMBER, code_of, failed, failure
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import Cause, Facts, Limits, Rule, Seen, items, seen
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import ERRORS, MATRIX, RESTORE_POINTS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import AZURE

cause = Cause(NUMBER, doc=ERRORS, module=__name__)
# Azure recommends up to a page; the first ones are specific.
RECOMMENDATIONS = 3
EVIDENCE = {"code": "the backup failed with {code}: {message}", "recommended": "Azure recommends: {text}"}


def _rule(codes: tuple[str, ...]) -> Rule:
    """Return the rule of a finding that is nothing but a code."""

    def rule(facts: Facts, limits: Limits) -> Iterator[Seen]:
        if failed(facts) and code_of(facts) in codes:
            yield seen("code", code=code_of(facts), message=failure(facts).get("message") or failure(facts).get("title"))
            for text in items(facts, "azure.backup.error.recommendations")[:RECOMMENDATIONS]:
                yield seen("recommended", text=text)

    return rule


def _add(id_: str, codes: tuple[str, ...], title: str, action: str, severity: str = "blocker", doc: str = ERRORS, **columns: Any) -> None:
    cause.add(
        id_, _rule(codes), on=(AZURE,), side="azure", severity=severity, title=title, evidence=EVIDENCE, action=action, codes=codes, doc=doc, **columns
    )  # fmt: skip


_add(
    "azure_restore_point_limit",
    ("UserErrorRpCollectionLimitReached",),
    "The restore points of the VM have reached their limit",
    "Look for a lock on the group of restore points: Azure Backup keeps at most 18 and cannot remove old ones below a lock. Remove the lock, "
    "delete the restore points, start a backup; the first one may fail while Azure cleans up. Without a lock there are too many backups in a day.",
    explained_by=("azure_restore_points_locked", "azure_restore_points_left"),
)
_add(
    "azure_snapshot_limit",
    ("ExtensionFailedSnapshotLimitReachedError",),
    "A disk of the VM has too many snapshots",
    "Delete snapshots of the disks that nothing needs, never the disks. What makes them tells the causes apart: Site Recovery replicates too "
    "often, soft delete of blobs keeps them, or another product takes them.",
)
_add(
    "azure_key_vault_denied",
    ("UserErrorKeyvaultPermissionsNotConfigured",),
    "Azure Backup may not read the key vault of the encrypted VM",
    "Give the service Backup Management Service the rights get, list and backup on keys and secrets of the key vault (or the role Key Vault "
    "Administrator where it uses roles), and let its firewall admit trusted Microsoft services.",
    doc=MATRIX,
)
_add(
    "azure_policy_denies",
    ("UserErrorRequestDisallowedByPolicy",),
    "An Azure Policy denies what the backup has to create",
    "Find the policy assignment that the message names. Mostly it asks for tags or names that the group of restore points does not have: except "
    "that group from it, or make the group beforehand and name it in the backup policy.",
)
_add(
    "azure_disks_refused",
    (
        "UserErrorUnsupportedDiskSize",
        "UserErrorUnsupportedDiskConfiguration",
        "UserErrorSharedDiskBackupNotSupported",
        "UserErrorWAEnabledDisksNotSupported",
    ),
    "Azure Backup cannot take one of the VM's disks",
    "The code says which: a size above 32 TB (encrypted above 4 TB), a shared disk, a disk with write accelerator. Exclude the disk from the "
    "backup (selective disk backup), or detach it.",
    doc=MATRIX,
    explained_by=("azure_disk_unsupported",),
)
_add(
    "azure_compute_refused",
    ("UserErrorCrpReportedUserError",),
    "Compute refused the snapshot",
    "The message holds Compute's own error. A lock, a failed or running operation on the VM, a missing resource or a quota have each a text of "
    "their own: act on that, then start a backup.",
    explained_by=("azure_provisioning_failed", "azure_lock_read_only", "azure_operation_under_way"),
)
_add(
    "azure_compute_internal",
    ("BCMCrpInternalError", "InternalError", "InternalExecutionError", "InternalOperationError"),
    "Azure names no more than an internal error",
    "Start a backup again. If the problem persists, diagnose the guest: behind it are an agent or extension that does not answer, or a guest "
    "without a way to 168.63.129.16. With a healthy guest, reapply the VM's model, then open a support case with the job's activity id.",
    severity="risk",
    doc=RESTORE_POINTS,
)
_add(
    "azure_operation_not_allowed",
    ("OperationNotAllowed",),
    "Azure did not allow the snapshot",
    "The message tells the causes apart. Changes were made meanwhile: start a backup again. Disks have not been allocated: detach or exclude "
    "them. Shared disks: exclude them. Extensions are off: set osProfile.allowExtensionOperations. A quota: raise it.",
    doc=RESTORE_POINTS,
    explained_by=("azure_extension_operations_off", "azure_disk_unsupported"),
)
_add(
    "azure_restore_point_in_use",
    ("DiskRestorePointUsedByCustomer",),
    "Somebody has shared access to a disk restore point",
    "End the shared access (EndGetAccess) of the disk restore points that the message names; old restore points cannot be removed while it lasts.",
    doc=RESTORE_POINTS,
)
_add(
    "azure_disk_key_missing",
    ("DiskRestorePointClientError",),
    "The key of an encrypted disk cannot be used",
    "Check that the disk encryption set, its key vault and its key are there and enabled, and that the set's identity may use the key.",
    doc=RESTORE_POINTS,
)
_add(
    "azure_os_provisioning_failed",
    ("OSProvisioningClientError",),
    "The VM's system was never provisioned",
    "Azure waits for a first start that did not end. Where the guest runs well, reapply the VM's model; where the image was not generalized, or "
    "was when it should not have been, create the VM anew from the right kind of image.",
    explained_by=("azure_provisioning_failed",),
)
_add(
    "azure_allocation_failed",
    ("AllocationFailed",),
    "Azure had no room to start the VM",
    "Start the VM later, in another size or zone, then start a backup.",
    explained_by=("azure_provisioning_failed",),
)
_add(
    "azure_allocation_pending",
    ("UserErrorProt32dAllocationPending",),
    "Azure Backup still allocates what it needs for the VM",
    "Wait an hour and start a backup. If the problem persists, open a support case.",
    severity="risk",
)
_add(
    "azure_extension_busy",
    ("ExtensionOperationInProgress",),
    "Another operation on the VM's extensions was under way",
    "Start a backup again when it has ended. An extension that is installed again and again (by a policy, a desired state or a scale set) has "
    "to be put right first.",
    severity="risk",
    explained_by=("azure_operation_under_way", "azure_extension_failed"),
)
_add(
    "azure_storage_quota",
    ("UserErrorBCMPremiumStorageQuotaError",),
    "The premium storage account lacks room for the snapshots",
    "Free space in the storage account, or move the VM to managed disks.",
)
_add(
    "azure_vault_copy_slow",
    ("CopyingVHDsFromBackUpVaultTakingLongTime",),
    "Copying from the vault took too long",
    "Look at the limits of the storage account that is copied to: too many disks at once, or another load on it.",
    severity="risk",
)
