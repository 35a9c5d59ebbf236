# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An alert of Azure Backup: Azure Monitor's common alert schema with the fields that it has for a failed backup of a VM; names and ids are made up."""

SUBSCRIPTION = "/subscriptions/11111111-2222-3333-4444-555555555555"
ID = SUBSCRIPTION + "/resourceGroups/rg-web/providers/Microsoft.Compute/virtualMachines/vm-web.01"
VAULT = SUBSCRIPTION + "/resourceGroups/rg-backup/providers/Microsoft.RecoveryServices/vaults/vault-1"
ALERT = {
    "schemaId": "azureMonitorCommonAlertSchema",
    "data": {
        "essentials": {
            "alertId": SUBSCRIPTION + "/providers/Microsoft.AlertsManagement/alerts/99999999-0000-0000-0000-000000000000",
            "severity": "Sev1",
            "alertRule": "Backup Failure",
            "signalType": "Log",
            "monitorCondition": "Fired",
            "monitoringService": "Azure Backup",
            "alertTargetIDs": [VAULT.lower()],
            "configurationItems": ["vault-1"],
            "firedDateTime": "2026-11-21T02:40:11.1234567Z",
            "description": "Snapshot operation failed due to no network connectivity on the virtual machine",
            "essentialsVersion": "1.0",
            "alertContextVersion": "1.0",
        },
        "alertContext": {
            "category": "Jobs",
            "linkedResourceId": ID,
            "linkedResourceName": "vm-web.01",
            "protectedItemId": VAULT
            + "/backupFabrics/Azure/protectionContainers/IaasVMContainer;iaasvmcontainerv2;rg-web;vm-web.01/protectedItems/"
            "VM;iaasvmcontainerv2;rg-web;vm-web.01",
            "extendedInfo": {
                "jobId": "88888888-0000-0000-0000-000000000000",
                "possibleCauses": None,
                "recommendedActions": "For troubleshooting instructions, see https://aka.ms/AB-ExtensionSnapshotFailedNoNetwork",
            },
        },
        "customProperties": None,
    },
}
