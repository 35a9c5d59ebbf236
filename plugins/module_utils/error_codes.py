# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Azure Backup's symbolic error codes: where each is answered. Findings name the codes that they explain in the catalogue.

Source: Microsoft's articles on failed VM backups, both of 2025-11-12.
"""

# code: (side: guest, azure, both or windows; what to do when no finding explains it)
ERROR_CODES = {
    "UserErrorGuestAgentStatusUnavailable": ("both", "See that the VM runs, and look at its other extensions in Azure."),
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
    "ExtensionInstallationFailedMDTC": ("windows", "See that MSDTC runs as Network Service."),
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
    "ExtensionVCRedistInstallationFailure": ("windows", "See that the Windows Installer service is not disabled."),
    "UserErrorRequestDisallowedByPolicy": ("azure", "Change the Azure Policy that denies the snapshot's resource group."),
    "UserErrorUnableToOpenMount": ("guest", "Make every mount readable."),
}
ALIASES = {"320001": "ResourceNotFound", "400094": "BCMV2VMNotFound", "380008": "AzureVmOffline"}


def canonical(code):
    """Return an error code in Microsoft's spelling; a number becomes its name; an unknown one comes back as it is."""
    text = str(code).strip()
    text = ALIASES.get(text, text)
    return next((name for name in ERROR_CODES if name.lower() == text.lower()), text)
