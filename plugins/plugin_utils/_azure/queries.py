# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The queries of Resource Graph: few, each for the whole scope. Pages are stable only with an order."""

from __future__ import annotations

DAYS = 14
_JOBS = """recoveryservicesresources
| where type =~ 'microsoft.recoveryservices/vaults/backupjobs'
| where properties.backupManagementType =~ 'AzureIaasVM' and properties.operation =~ 'Backup'
| where todatetime(properties.startTime) > ago({days}d)"""

ITEMS = """recoveryservicesresources
| where type in~ ('microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems',
    'microsoft.recoveryservices/vaults/backuppolicies')
| where properties.backupManagementType =~ 'AzureIaasVM'
| project id, name, type, location, properties
| order by id asc"""

# Good jobs are counted by the service: a fleet has many more of them than of the others. Without a column id there would be one page only.
GOOD_JOBS = (
    _JOBS.format(days=DAYS)
    + """
| where properties.status in~ ('Completed', 'CompletedWithWarnings')
| summarize jobs = count(), last = max(todatetime(properties.startTime)) by id = tolower(tostring(properties.dataSourceId))
| order by id asc"""
)

OTHER_JOBS = (
    _JOBS.format(days=DAYS)
    + """
| where properties.status in~ ('Failed', 'InProgress')
| project id, name, vm = tostring(properties.dataSourceId), container = tostring(properties.containerName),
    status = tostring(properties.status), operation = tostring(properties.operation), start = tostring(properties.startTime),
    end = tostring(properties.endTime), activity = tostring(properties.activityId), error = properties.errorDetails[0]
| order by id asc"""
)

# Disks are many and mostly ordinary: only those that a backup may not take are asked for.
RESOURCES = """resources
| where type in~ ('microsoft.compute/virtualmachines', 'microsoft.network/networkinterfaces', 'microsoft.network/networksecuritygroups',
    'microsoft.network/routetables', 'microsoft.network/virtualnetworks', 'microsoft.network/publicipaddresses',
    'microsoft.recoveryservices/vaults')
    or (type =~ 'microsoft.compute/disks' and (properties.maxShares > 1 or properties.diskSizeGB > 4095
        or sku.name in~ ('UltraSSD_LRS', 'PremiumV2_LRS')))
| project id, name, type, location, resourceGroup, subscriptionId, tags, zones, sku, managedBy, properties
| order by id asc"""
