# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Effective security rules and routes: only when asked, and without them the written ones count."""

import pytest
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm import tls
from ansible_collections.vmbackup.azure.lab.arm.server import StandIn
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.budget import Budget
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import effective, read
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())
DENY = {
    "name": "DenyInternet",
    "properties": {
        "direction": "Outbound", "priority": 4000, "access": "Deny", "protocol": "*", "sourceAddressPrefix": "*",
        "destinationAddressPrefix": "Internet", "destinationPortRange": "*", "sourcePortRange": "*",
    },
}  # fmt: skip


@pytest.fixture
def azure():
    with StandIn(fleet_.generate(6, 3)) as stand_in:
        yield stand_in


def fleet(azure, **scope):
    with Client.from_options(azure.options(), environ={"HOME": "/nonexistent"}, budget=Budget(), sleep=lambda seconds: None) as client:
        result = read.fleet(client, read.Scope(**scope))
    return result, {vm["name"]: vm for vm in result["vms"].values()}


def asked(azure):
    return azure.requests("POST .*/networkInterfaces/.*/effective")


def test_they_are_read_only_when_asked_and_for_vms_that_failed(azure):
    fleet(azure)
    assert asked(azure) == []
    result, vms = fleet(azure, effective_network=True)
    assert len(asked(azure)) == 6 and result["errors"] == []
    interface = vms["vm0001"]["network"][0]
    assert interface["effective"] == ["nsgs", "routes"] and vms["vm0004"]["network"][0]["effective"] == []
    assert [rule["name"] for rule in interface["nsgs"][0]["rules"]][-1] == "defaultSecurityRules/DenyAllOutBound"
    assert [(route["prefix"], route["next_hop"]) for route in interface["routes"]] == [("0.0.0.0/0", "Internet")]
    assert not {entry["id"] for entry in evaluate({"schema_version": 1, "azure": vms["vm0001"]})} & {
        "azure_security_rule_denies",
        "azure_route_elsewhere",
    }


def test_what_is_effective_leads_to_the_same_findings(azure):
    for group in azure.fleet.of_type("Microsoft.Network/networkSecurityGroups"):
        group["properties"]["securityRules"] = [DENY]
    for table in azure.fleet.of_type("Microsoft.Network/routeTables"):
        hop = {"addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.0.0.9"}
        table["properties"]["routes"] = [{"name": "out", "properties": hop}]
    _result, vms = fleet(azure, effective_network=True)
    found = {entry["id"]: entry for entry in evaluate({"schema_version": 1, "azure": vms["vm0001"]})}
    assert "securityRules/DenyInternet (4000) denies AzureBackup" in found["azure_security_rule_denies"]["evidence"][0]
    assert "via the appliance 10.0.0.9" in found["azure_route_elsewhere"]["evidence"][0]


@pytest.mark.parametrize(
    "fault, sentence",
    [
        ({"status": 403, "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}}, "403 AuthorizationFailed"),
        (
            {"status": 429, "headers": {"Retry-After": "900"}, "body": {"error": {"code": "X", "message": "slow"}}},
            "Azure asks to wait 900 s",
        ),
    ],
)
def test_where_they_may_not_be_read_the_written_ones_count(azure, fault, sentence):
    azure.fault("POST .*/vm0001-nic/effectiveRouteTable", times=9, **fault)
    result, vms = fleet(azure, effective_network=True)
    assert len(result["errors"]) == 1 and sentence in result["errors"][0] and "so the written ones count" in result["errors"][0]
    assert vms["vm0001"]["network"][0]["effective"] == ["nsgs"] and vms["vm0002"]["network"][0]["effective"] == ["nsgs", "routes"]


def test_a_vm_that_does_not_run_is_not_asked_for(azure):
    azure.fleet.live[azure.fleet.of_type("Microsoft.Compute/virtualMachines")[1]["id"].lower()]["power"] = "deallocated"
    result, vms = fleet(azure, effective_network=True)
    assert len(asked(azure)) == 4 and result["errors"] == [] and vms["vm0001"]["network"][0]["effective"] == []


def test_routes_for_service_tags_stay_as_written_and_inactive_ones_do_not_count():
    written = [{"name": "tag", "prefix": "AzureBackup", "next_hop": "Internet", "address": None}, {"name": "x", "prefix": "10.0.0.0/8"}]
    answer = {"value": [{"state": "Invalid", "addressPrefix": ["0.0.0.0/0"]}, {"state": "Active", "source": "VirtualNetworkGateway",
              "addressPrefix": ["0.0.0.0/0", "10.1.0.0/16"], "nextHopType": "VirtualNetworkGateway", "nextHopIpAddress": None}]}  # fmt: skip
    made = effective.routes(answer, written)
    assert [(route["name"], route["prefix"]) for route in made] == [
        ("tag", "AzureBackup"),
        ("VirtualNetworkGateway", "0.0.0.0/0"),
        ("VirtualNetworkGateway", "10.1.0.0/16"),
    ]


@pytest.mark.parametrize("answer", [None, [], {}, {"value": None}, "text"])
def test_an_answer_of_any_shape_changes_nothing(answer):
    assert effective.groups(answer) is None and effective.routes(answer, []) is None
