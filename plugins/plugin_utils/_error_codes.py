# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Azure Backup's symbolic error codes: where each is answered, its number, its cause. Findings name the codes that they explain.

Sources: Microsoft's articles on failed VM backups, both of 2025-11-12, and on failed VM restore points, whose codes backups of managed disks end with.
"""

# code: (side: guest, azure, both or windows; what to do when no finding explains it)
ERROR_CODES = {
    "UserErrorGuestAgentStatusUnavailable": ("both", "Check that the VM runs, and look at its other extensions in Azure."),
    "GuestAgentSnapshotTaskStatusError": ("guest", "The guest looks healthy: start a backup again and diagnose while it runs."),
    "UserErrorVmProvisioningStateFailed": ("azure", "Repair or remove the failed extension in Azure until the VM is in state Succeeded."),
    "UserErrorRpCollectionLimitReached": (
        "azure",
        "Remove the lock on the resource group of restore points, clean them up, start a backup.",
    ),
    "UserErrorKeyvaultPermissionsNotConfigured": ("azure", "Give the backup service access to the key vault."),
    "ExtensionSnapshotFailedNoNetwork": ("both", "Look at network security group and firewall on the way to storage."),
    "ExtensionOperationFailedForManagedDisks": ("guest", "The guest looks healthy: start a backup again and diagnose while it runs."),
    "BackUpOperationFailed": ("both", "Look for locks on the resource group of restore points."),
    "BackUpOperationFailedV2": ("both", "After a change from the standard to the enhanced policy, open a support case."),
    "UserErrorUnsupportedDiskSize": ("azure", "Split disks above 32 TB (encrypted: above 4 TB)."),
    "UserErrorBackupOperationInProgress": ("azure", "Wait for the running job or cancel it, in old vaults too."),
    "UserErrorCrpReportedUserError": ("azure", "Look up the inner error in the job's details."),
    "UserErrorBcmDatasourceNotPresent": ("azure", "Resume protection of the VM."),
    "VMRestorePointInternalError": ("windows", "Except the backup extension's folders from the antivirus."),
    "CopyingVHDsFromBackUpVaultTakingLongTime": ("azure", "Look at the storage account's limits."),
    "UserErrorVmNotInDesirableState": (
        "both",
        "Wait until the VM is in state Running; on Linux, check SELinux contexts below the agent's directory.",
    ),
    "VmNotInDesirableState": (
        "both",
        "Wait until the VM is in state Running; on Linux, check SELinux contexts below the agent's directory.",
    ),
    "UserErrorFsFreezeFailed": ("guest", "Look for the mount that failed in the extension's log, and check it with fsck."),
    "ExtensionSnapshotFailedCOM": ("windows", "Start COM+ System Application."),
    "ExtensionInstallationFailedCOM": ("windows", "Start COM+ System Application."),
    "ExtensionInstallationFailedMDTC": ("windows", "Check that MSDTC runs as Network Service."),
    "ExtensionFailedVssWriterInBadState": ("windows", "Restart the services of the failed writers."),
    "ExtensionFailedVssServiceInBadState": ("windows", "Restart the Volume Shadow Copy service."),
    "ExtensionConfigParsingFailure": ("windows", "Reset the access rights of the MachineKeys folder."),
    "ExtensionStuckInDeletionState": ("azure", "Uninstall the backup extension from the VM in Azure, start a backup."),
    "ExtensionFailedSnapshotLimitReachedError": ("azure", "Delete snapshots of the disks' blobs that nothing needs (never the blobs)."),
    "ExtensionFailedTimeoutVMNetworkUnresponsive": ("both", "Back up at a quieter time or give the VM more resources."),
    "ResourceNotFound": ("azure", "The VM no longer exists: create it again under its name, or stop its protection."),
    "BCMV2VMNotFound": ("azure", "The VM no longer exists: create it again under its name, or stop its protection."),
    "UserErrorBCMPremiumStorageQuotaError": ("azure", "Free space in the premium storage account."),
    "AzureVmOffline": ("both", "Start the VM; without an agent set provisionGuestAgent."),
    "ExtensionSnapshotBitlockerError": ("windows", "Unlock the drive."),
    "ExtensionSnapshotFailedNoSecureNetwork": ("windows", "Set SchUseStrongCrypto for the installed .NET versions."),
    "ExtensionVCRedistInstallationFailure": ("windows", "Check that the Windows Installer service is not disabled."),
    "UserErrorRequestDisallowedByPolicy": ("azure", "Change the Azure Policy that denies the snapshot's resource group."),
    "UserErrorUnableToOpenMount": ("guest", "Make every mount readable."),
    "VMAgentStatusCommunicationError": ("both", "Check that the VM runs, and look at its other extensions in Azure."),
    "UserErrorVmNotFoundV2": ("azure", "The VM no longer exists: create it again under its name, or stop its protection."),
    "UserErrorUnsupportedDiskConfiguration": ("azure", "Compare the VM's disks with the support matrix of Azure Backup."),
    "UserErrorSharedDiskBackupNotSupported": (
        "azure",
        "Detach the shared disk, or back the VM up with an enhanced policy that excludes it.",
    ),
    "UserErrorWAEnabledDisksNotSupported": ("azure", "Exclude the disk with write accelerator from the backup."),
    "VMNotInRunningStateUserError": ("azure", "Start the VM, then start a backup."),
    "OperationNotAllowed": ("azure", "Read the message: it names the change, the disk or the quota that stood in the way."),
    "DiskRestorePointUsedByCustomer": ("azure", "Revoke the shared access to the disk restore points."),
    "DiskRestorePointClientError": ("azure", "Check that the disk encryption sets and their key vaults are there and enabled."),
    "InternalError": ("both", "Start a backup again; if the problem persists, look at agent, extensions and network of the guest."),
    "InternalExecutionError": (
        "both",
        "Start a backup again; if the problem persists, look at agent, extensions and network of the guest.",
    ),
    "InternalOperationError": (
        "both",
        "Start a backup again; if the problem persists, look at agent, extensions and network of the guest.",
    ),
    "OSProvisioningClientError": ("azure", "Reapply the VM's model; a generalized image that was not provisioned has to be created anew."),
    "AllocationFailed": ("azure", "Start the VM in a size or zone that has room, then start a backup."),
    "BCMCrpInternalError": ("azure", "Start a backup again; if the problem persists, reapply the VM's model, then open a support case."),
    "ExtensionOperationInProgress": ("azure", "Wait until the other operation on the VM's extensions has ended, then start a backup."),
    "UserErrorProt32dAllocationPending": ("azure", "Wait an hour, then start a backup; if the problem persists, open a support case."),
}
# The number that stands in place of a symbol; a title in another language is prose, its number is not.
NUMBERS = {
    320001: "ResourceNotFound",
    380008: "AzureVmOffline",
    400094: "BCMV2VMNotFound",
    400136: "UserErrorVmNotFoundV2",
    400196: "UserErrorGuestAgentStatusUnavailable",
}
# Codes that say that there is no VM any more.
GONE = ("UserErrorVmNotFoundV2", "ResourceNotFound", "BCMV2VMNotFound")

# What a code points to, by its beginning, so that a code of tomorrow has a cause too. The first that fits counts: the special ones stand first.
CAUSES_OF_CODES = (
    (
        "agent",
        (
            "GuestAgentSnapshotTaskStatus",
            "UserErrorGuestAgent",
            "VMAgentStatus",
            "GuestAgentPlugin",
            "UserErrorVmNotInDesirableState",
            "VmNotInDesirableState",
        ),
    ),
    (
        "connectivity",
        ("ExtensionSnapshotFailedNoNetwork", "ExtensionSnapshotFailedNoSecureNetwork", "ExtensionFailedTimeoutDelayInNetwork"),
    ),
    (
        "snapshot",
        (
            "UserErrorFsFreeze",
            "UserErrorUnableToOpenMount",
            "ExtensionFailedVss",
            "ExtensionSnapshotBitlocker",
            "ExtensionFailedTimeout",
            "ExtensionFailedOutOfMemory",
            "ExtensionFailedSnapshot",
            "VMRestorePoint",
            "ExtensionPreScript",
        ),
    ),
    ("extension", ("Extension", "VMBackupLinuxExtension", "GuestAgentCertificate", "NoExtensionStatus", "BackUpOperationFailed")),
)


def canonical(code: object) -> str:
    """Return an error code in Microsoft's spelling; a number becomes its name; an unknown one comes back as it is."""
    text = str(code).strip()
    text = NUMBERS.get(int(text), text) if text.isdigit() else text
    return next((name for name in ERROR_CODES if name.lower() == text.lower()), text)


def cause_of(code: str | None) -> str:
    """Return the cause that a code points to: one of the roles' names, azure where the guest has no part in it, unknown without a code."""
    if not code:
        return "unknown"
    lower = code.lower()
    for cause, beginnings in CAUSES_OF_CODES:
        if any(lower.startswith(beginning.lower()) for beginning in beginnings):
            return cause
    return "azure"
