# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What several findings have in their columns: Microsoft's pages, and the error codes of Azure Backup that belong together."""

_LEARN = "https://learn.microsoft.com/"
ARTICLE = _LEARN + "azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout"
ERRORS = _LEARN + "azure/backup/backup-azure-vms-troubleshoot"
HOST_ADDRESS = _LEARN + "azure/virtual-network/what-is-ip-address-168-63-129-16"
LINUX_AGENT = _LEARN + "azure/virtual-machines/extensions/agent-linux"
UPDATE_AGENT = _LEARN + "azure/virtual-machines/extensions/update-linux-agent"
AGENT_SUPPORT = _LEARN + "troubleshoot/azure/virtual-machines/windows/support-extensions-agent-version"
WINDOWS_AGENT = _LEARN + "azure/virtual-machines/extensions/agent-windows"
WINDOWS_TROUBLE = _LEARN + "troubleshoot/azure/virtual-machines/windows/windows-azure-guest-agent"
SCRIPTS = _LEARN + "azure/backup/backup-azure-linux-app-consistent"
STATES = _LEARN + "azure/virtual-machines/states-billing"
MATRIX = _LEARN + "azure/backup/backup-support-matrix-iaas"
ENHANCED = _LEARN + "azure/backup/backup-azure-vms-enhanced-policy"
RESTORE_POINTS = _LEARN + "azure/virtual-machines/restore-point-troubleshooting"
SERVICE_TAGS = _LEARN + "azure/virtual-network/service-tags-overview"
QUESTIONS = _LEARN + "azure/backup/backup-azure-vm-backup-faq"

STATUS = ("GuestAgentSnapshotTaskStatusError",)
AGENT = STATUS + (
    "UserErrorGuestAgentStatusUnavailable",
    "ExtensionOperationFailedForManagedDisks",
    "BackUpOperationFailed",
    "BackUpOperationFailedV2",
)
NETWORK = STATUS + (
    "ExtensionSnapshotFailedNoNetwork",
    "ExtensionOperationFailedForManagedDisks",
    "BackUpOperationFailed",
    "BackUpOperationFailedV2",
)
NO_AGENT = AGENT + ("UserErrorVmNotInDesirableState", "VmNotInDesirableState", "AzureVmOffline")
STATE = ("UserErrorVmProvisioningStateFailed", "UserErrorGuestAgentStatusUnavailable")
FREEZE = ("UserErrorFsFreezeFailed",)
MOUNT = ("UserErrorUnableToOpenMount", "UserErrorFsFreezeFailed")
COM = ("ExtensionSnapshotFailedCOM", "ExtensionInstallationFailedCOM")
WRITERS = ("ExtensionFailedVssWriterInBadState",)
VSS = ("ExtensionFailedVssServiceInBadState",)
SECURE = ("ExtensionSnapshotFailedNoSecureNetwork",)
REDIST = ("ExtensionVCRedistInstallationFailure",)
CRYPTO = ("ExtensionConfigParsingFailure",)
RESOURCES = ("ExtensionFailedTimeoutVMNetworkUnresponsive",)
OFFLINE = ("UserErrorVmNotInDesirableState", "VmNotInDesirableState", "AzureVmOffline", "VMNotInRunningStateUserError")
STUCK = ("ExtensionStuckInDeletionState",)
