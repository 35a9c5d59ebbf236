# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documents of any shape break nothing: fields may be absent, null, or of another type than ever seen."""

import copy
import json
import random

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, graph
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm.rules import Request
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Counts
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import hosts, queries, read

VALUES = (
    None,
    "",
    "x",
    "{{ x }}",
    0,
    -1,
    10**20,
    1.5,
    True,
    [],
    {},
    [None],
    ["x"],
    {"x": None},
    "2026-99-99T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "/subscriptions/",
)


def mutated(value, chance, source):
    """Return a copy in which some nodes are others, and some keys are gone."""
    if source.random() < chance:
        return source.choice(VALUES)
    if isinstance(value, dict):
        return {key: mutated(entry, chance, source) for key, entry in value.items() if source.random() > chance / 2}
    if isinstance(value, list):
        return [mutated(entry, chance, source) for entry in value]
    return value


class Answers:
    """Stands for the client: the answers of a fleet, mutated."""

    def __init__(self, answers, chance, seed):
        self.answers, self.chance, self.source = answers, chance, random.Random(seed)
        self.counts, self.clock_skew_s = Counts(), None

    def _give(self, value):
        return mutated(copy.deepcopy(value), self.chance, self.source)

    def graph(self, query, **scope):
        return [row for row in (self._give(row) for row in self.answers[query]) if isinstance(row, dict)]

    def items(self, path, version, **parameters):
        kind = path.rpartition("/")[2]
        if kind == "subscriptions":
            return self.answers[kind]
        return [entry for entry in (self._give(entry) for entry in self.answers.get(kind, [])) if isinstance(entry, dict)]

    def get(self, path, version, **parameters):
        if self.source.random() < 0.1:
            raise errors.NotFound("gone")
        return self._give(self.answers["view"])

    def at_once(self, function, work):
        result = []
        for item in work:
            try:
                result.append((item, function(item)))
            except errors.AzureError as error:
                result.append((item, error))
        return result

    def spent(self):
        return {}


@pytest.fixture(scope="module")
def answers():
    fleet = fleet_.generate(12, 6, unprotected=1)
    made = {"subscriptions": list(fleet.subscriptions.values())}
    for query in (queries.ITEMS, queries.GOOD_JOBS, queries.OTHER_JOBS, queries.RESOURCES):
        request = Request("POST", "h", "/", {}, "", {}, json.dumps({"query": query}).encode())
        made[query] = graph.answer(fleet, request, 1000).body["data"]
        assert made[query]
    machine = fleet.of_type("Microsoft.Compute/virtualMachines")[0]
    view = documents.instance_view(machine, fleet.live[machine["id"].lower()], fleet.now())
    made["view"] = {**machine, "properties": {**machine["properties"], "instanceView": view}}
    made["virtualMachines"] = [made["view"]]
    made["locks"] = fleet.of_type("Microsoft.Authorization/locks")
    made["restorePointCollections"] = fleet.of_type("Microsoft.Compute/restorePointCollections")
    made["backupProtectedItems"] = list(fleet.items.values())
    return made


@pytest.mark.parametrize("chance", [0.0, 0.01, 0.05, 0.2])
def test_any_shape_is_read(answers, chance):
    for seed in range(1 if not chance else 60):
        result = read.fleet(Answers(answers, chance, seed), read.Scope(vaults=["Vault01"] if seed % 5 == 4 else []))
        json.dumps(result)
        shared = hosts.twins(result["vms"].values())
        for vm in result["vms"].values():
            assert hosts.host_name(hosts.name_of(vm, vm["key"] in shared), vm["key"])
            json.dumps([hosts.variables_of(vm), hosts.groups_of(vm), hosts.names_of_azure_rm(vm)])
        if not chance:
            assert len(result["vms"]) == 12 and sum("failed" in vm["states"] for vm in result["vms"].values()) == 6
