# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of fields that the stand-in writes and that the collection reads, against those of Azure's own models (tests/tools/azure_models.py)."""

import json
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents
from ansible_collections.vmbackup.azure.lab.arm.fleet import generate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODELS = {what: set(entry["names"]) for what, entry in json.loads((HERE / "azure_models.json").read_text()).items()}
# In recorded answers, though not in these versions of the models.
RECORDED = {
    "policyType",
    "sourceLocation",
    "softDeleteRetentionPeriod",
    "deferredDeleteTimeInUTC",
    "timeCreated",
    "requireGuestProvisionSignal",
}
RECORDED |= {"properties"}
# Mappings whose keys are names of users or of indicators.
FREE = {"tags", "propertyBag", "internalPropertyBag", "kpisHealths"}


def names_in(value):
    if isinstance(value, dict):
        for name, entry in value.items():
            yield name
            if name not in FREE:
                yield from names_in(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from names_in(entry)


@pytest.fixture(scope="module")
def fleet():
    return generate(8, 4, days=2)


def documents_of(fleet, what):
    kinds = {
        "policy": "Microsoft.RecoveryServices/vaults/backupPolicies",
        "vault": "Microsoft.RecoveryServices/vaults",
        "machine": "Microsoft.Compute/virtualMachines",
        "collection": "Microsoft.Compute/restorePointCollections",
        "interface": "Microsoft.Network/networkInterfaces",
        "network": "Microsoft.Network/virtualNetworks",
        "lock": "Microsoft.Authorization/locks",
    }
    if what in ("item", "job"):
        return list((fleet.items if what == "item" else fleet.jobs).values())
    found = fleet.of_type(kinds[what])
    if what == "machine":
        now = datetime.now(timezone.utc)
        return [
            {
                **entry,
                "properties": {**entry["properties"], "instanceView": documents.instance_view(entry, fleet.live[entry["id"].lower()], now)},
            }
            for entry in found
        ]
    if what == "network":
        return found + fleet.of_type("Microsoft.Network/networkSecurityGroups") + fleet.of_type("Microsoft.Network/routeTables")
    return found


@pytest.mark.parametrize("what", sorted(set(MODELS) - {"disk"}))
def test_the_stand_in_writes_fields_of_the_models(fleet, what):
    made = documents_of(fleet, what)
    assert made
    unknown = {name for document in made for name in names_in(document)} - MODELS[what] - RECORDED
    assert unknown == set()


# Of Resource Graph, of lists and of Azure's error bodies, which have no model in these packages.
ELSEWHERE = {
    *("id", "name", "type", "location", "tags", "zones", "sku", "managedBy", "properties", "resources"),
    *(
        "extended",
        "powerState",
        "vm",
        "container",
        "status",
        "operation",
        "start",
        "end",
        "activity",
        "error",
        "jobs",
        "last",
        "currentProtectionState",
        "dataSourceInfo",
        "resourceID",
    ),
    *("subscriptionId", "displayName", "state", "BackupOperationStatusKPI", "_dns"),
}


@pytest.mark.parametrize("name", ["machine", "backup", "network", "read", "codes"])
def test_the_collection_reads_fields_of_the_models(name):
    text = (ROOT / "plugins" / "plugin_utils" / "_azure" / (name + ".py")).read_text()
    # What is read of Azure is in camel case; keys of our own shape are in lower case.
    read = {field for field in re.findall(r'\.get\("(\w+)"', text) if re.search("[A-Z]", field)} | set(
        re.findall(r'_many\(properties, "(\w+)"', text)
    )
    assert read - set().union(*MODELS.values()) - RECORDED - ELSEWHERE == set()
    assert read or name == "codes"
