# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of fields of Azure's own models, for tests/unit/lab/test_arm_models.py: azure_models.py >tests/unit/lab/azure_models.json

Runs in a Python that has the azure-mgmt packages, such as the one that bench/azure.py makes. Names only; nothing else of the packages is kept.
"""

import importlib
import json
import re
from importlib import metadata

# what: (package, module of its models, the model that holds all others)
ROOTS = {
    "item": ("azure-mgmt-recoveryservicesbackup", "azure.mgmt.recoveryservicesbackup.activestamp.models", "ProtectedItemResource"),
    "job": ("azure-mgmt-recoveryservicesbackup", "azure.mgmt.recoveryservicesbackup.activestamp.models", "JobResource"),
    "policy": ("azure-mgmt-recoveryservicesbackup", "azure.mgmt.recoveryservicesbackup.activestamp.models", "ProtectionPolicyResource"),
    "vault": ("azure-mgmt-recoveryservices", "azure.mgmt.recoveryservices.models", "Vault"),
    "machine": ("azure-mgmt-compute", "azure.mgmt.compute.models", "VirtualMachine"),
    "disk": ("azure-mgmt-compute", "azure.mgmt.compute.models", "Disk"),
    "collection": ("azure-mgmt-compute", "azure.mgmt.compute.models", "RestorePointCollection"),
    "interface": ("azure-mgmt-network", "azure.mgmt.network.models", "NetworkInterface"),
    "network": ("azure-mgmt-network", "azure.mgmt.network.models", "VirtualNetwork"),
    "lock": ("azure-mgmt-resource", "azure.mgmt.resource.locks.models", "ManagementLockObject"),
}


def names_below(models, root):
    """Return the names of all fields that a model and the models in it may have."""
    names, waiting, seen = set(), [root], set()
    while waiting:
        model = waiting.pop()
        if model in seen or not hasattr(models, model):
            continue
        seen.add(model)
        kind = getattr(models, model)
        for field in getattr(kind, "_attribute_map", {}).values():
            names.update(re.split(r"(?<!\\)\.", field["key"]))
            waiting += re.findall(r"\w+", field["type"])
        for subtypes in getattr(kind, "_subtype_map", {}).values():
            waiting += subtypes.values()
    return sorted(name.replace("\\", "") for name in names)


def main():
    made = {}
    for what, (package, module, root) in ROOTS.items():
        made[what] = {
            "source": "{0} {1}, {2}".format(package, metadata.version(package), root),
            "names": names_below(importlib.import_module(module), root),
        }
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
