# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fleet, read from the stand-in: what is found, with how many requests, and what goes on when something fails."""

import json

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, tls
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm.server import StandIn
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.budget import Budget
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import read

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())


def open_client(azure, **options):
    waits = []
    client = Client.from_options({**azure.options(), **options}, environ={"HOME": "/nonexistent"}, budget=Budget(), sleep=waits.append)
    client.waits = waits
    return client


def fleet(azure, client=None, **scope):
    with client or open_client(azure) as one:
        return read.fleet(one, read.Scope(**scope))


@pytest.fixture
def azure():
    with StandIn(fleet_.generate(12, 5, unprotected=1)) as stand_in:
        yield stand_in


def by_name(result):
    return {vm["name"]: vm for vm in result["vms"].values()}


def first_vault(azure):
    return azure.fleet.of_type("Microsoft.RecoveryServices/vaults")[0]


def item_of(azure, name):
    return next(item for item in azure.fleet.items.values() if item["properties"]["friendlyName"] == name)


# What is found


def test_each_vm_with_its_backup_its_state_and_its_way(azure):
    result = fleet(azure)
    vm = by_name(result)["vm0001"]
    assert vm["states"] == ["failed", "rpo_breached"] and vm["backup"]["error"]["code"] == "GuestAgentSnapshotTaskStatusError"
    assert (vm["backup"]["failed_jobs_14d"], vm["backup"]["failed_in_a_row"], vm["backup"]["jobs_14d"]) == (2, 2, 14)
    assert vm["backup"]["rpo_h"] == 24.0 and 49 < vm["backup"]["age_h"] < 51 and vm["backup"]["vault"] == "Vault02"
    assert vm["agent"]["ready"] is True and vm["snapshot_extension"]["type"].endswith("VMSnapshotLinux")
    assert vm["private_addresses"] == ["10.0.0.5"] and vm["network"][0]["nsgs"][0]["on"] == "subnet"
    assert by_name(result)["vm0000"]["agent"]["ready"] is False
    assert by_name(result)["vm0011"]["states"] == ["unprotected"]
    assert by_name(result)["vm0009"]["power_state"] == "deallocated" and by_name(result)["vm0009"]["states"] == []
    assert result["errors"] == [] and result["policies"] and result["vaults"]
    json.dumps(result)


def test_every_key_of_a_vm_is_described(azure):
    from ansible_collections.vmbackup.azure.plugins.plugin_utils import _azure

    result = fleet(azure)
    vm = by_name(result)["vm0001"]
    for shown in (result, vm, vm["backup"], vm["network"][0], next(iter(result["policies"].values()))):
        for key in shown:
            assert key in _azure.__doc__, key
    assert {tuple(sorted(one)) for one in result["vms"].values()} == {tuple(sorted(vm))}, "every VM has all keys"


def test_ids_in_mixed_letter_case_are_one_vm(azure):
    result = fleet(azure)
    written = [vm["backup"]["item_id"] for vm in result["vms"].values() if vm["backup"]]
    assert any(";RG-APP" in id_ for id_ in written), "the stand-in writes groups in capitals for some"
    assert len(result["vms"]) == 12


def test_locks_and_restore_points_reach_their_vm(azure):
    vm = by_name(fleet(azure))["vm0000"]
    assert {(lock["name"], lock["on"]) for lock in vm["locks"]} == {("keep", "restore_points"), ("vault", "vault")}
    assert vm["restore_points"][0]["name"].startswith("AzureBackup_vm0000_")
    subscription = next(iter(azure.fleet.subscriptions))
    azure.fleet.put(documents.lock("/subscriptions/" + subscription, "all", "ReadOnly"))
    azure.fleet.put(documents.lock(azure.fleet.of_type("Microsoft.Compute/virtualMachines")[0]["id"], "vm"))
    locked = by_name(fleet(azure))["vm0000"]["locks"]
    assert {(lock["name"], lock["on"], lock["level"]) for lock in locked} >= {
        ("all", "subscription", "ReadOnly"),
        ("vm", "vm", "CanNotDelete"),
    }


def test_stopped_deleted_and_gone_are_not_failed(azure):
    item_of(azure, "vm0000")["properties"].update(protectionState="ProtectionStopped", policyId="")
    item_of(azure, "vm0001")["properties"].update(
        protectionState="ProtectionStopped", policyId="", isScheduledForDeferredDelete=True, deferredDeleteTimeRemaining="13.23:59:44.15"
    )
    gone = next(key for key in azure.fleet.resources if key.endswith("/virtualmachines/vm0002"))
    del azure.fleet.resources[gone]
    vms = by_name(fleet(azure))
    assert [vms["vm000{0}".format(number)]["states"] for number in range(3)] == [["stopped"], ["soft_deleted"], ["vm_gone"]]
    assert vms["vm0001"]["backup"]["deleted_until_s"] == 1209584
    assert vms["vm0002"]["exists"] is False


def test_a_vm_in_an_old_and_a_new_vault_is_judged_by_the_new_one(azure):
    machine = azure.fleet.of_type("Microsoft.Compute/virtualMachines")[0]
    other = next(vault for vault in azure.fleet.of_type("Microsoft.RecoveryServices/vaults") if vault["name"] == "Vault03")
    item_of(azure, "vm0000")["properties"].update(protectionState="ProtectionStopped")
    azure.fleet.protect(other, machine, days=0)
    vm = by_name(fleet(azure))["vm0000"]
    assert vm["states"] == [] and vm["backup"]["vault"] == "Vault03" and vm["other_backups"][0]["vault"] == "Vault01"


def test_unusual_disks_are_found_by_their_owner(azure):
    machine = azure.fleet.of_type("Microsoft.Compute/virtualMachines")[0]
    base = machine["id"].rpartition("/virtualMachines/")[0] + "/disks/"
    for name, properties in (("shared", {"maxShares": 2, "diskSizeGB": 10}), ("plain", {"diskSizeGB": 10})):
        document = {
            "name": name,
            "id": base + name,
            "type": "Microsoft.Compute/disks",
            "location": "westeurope",
            "sku": {"name": "Premium_LRS"},
        }
        azure.fleet.put({**document, "managedBy": machine["id"].upper(), "properties": properties})
    vm = by_name(fleet(azure))["vm0000"]
    assert [(disk["name"], disk["max_shares"]) for disk in vm["unusual_disks"]] == [("shared", 2)]


def test_several_subscriptions_and_a_management_group():
    with StandIn(fleet_.generate(12, 4, subscriptions=2)) as azure:
        first, second = azure.fleet.subscriptions
        azure.fleet.management_groups["production"] = [second]
        assert len(fleet(azure)["vms"]) == 12
        result = fleet(azure, management_groups=["production"])
        assert {vm["subscription_id"] for vm in result["vms"].values()} == {second} == set(result["subscriptions"])
        assert len(fleet(azure, subscriptions=[first])["vms"]) == 6
        with pytest.raises(errors.AccessDenied, match="management group 'none'"):
            fleet(azure, management_groups=["none"])


# How many requests


@pytest.mark.parametrize("count, failing, most", [(100, 20, 16), (1000, 200, 20)])
def test_few_requests_and_one_for_each_vm_that_failed(count, failing, most):
    with StandIn(fleet_.generate(count, failing)) as azure:
        result = fleet(azure)
        views = azure.requests(r"GET .*/virtualMachines/[^/]+$")
        others = len(azure.requests()) - len(views)
        assert sum("failed" in vm["states"] for vm in result["vms"].values()) == len(views) == failing
        assert others <= most
        assert azure.requests("GET .*backupJobs") == []
        assert {(method, path) for method, path, _status in azure.requests() if method != "GET"} == {
            ("POST", "/33333333-3333-3333-3333-333333333333/oauth2/v2.0/token"),
            ("POST", "/providers/Microsoft.ResourceGraph/resources"),
        }
        assert {status for _method, _path, status in azure.requests()} == {200}


def test_an_error_that_graph_does_not_name_is_looked_up_in_the_vault_then_in_the_job(azure):
    """Whether rows of items and jobs name the error is not proved: each source must do."""
    for job in azure.fleet.jobs.values():
        job["properties"].pop("errorDetails", None)
    azure.faults.clear()
    nameless, by_item = item_of(azure, "vm0000"), item_of(azure, "vm0001")
    details = nameless["properties"].pop("healthDetails")
    job = next(
        job
        for job in azure.fleet.jobs.values()
        if job["properties"]["entityFriendlyName"] == "vm0000" and job["properties"]["status"] == "Failed"
    )
    vms = by_name(fleet(azure))
    assert vms["vm0001"]["backup"]["error"]["source"] == "item" and by_item
    assert vms["vm0000"]["backup"]["error"] is None and vms["vm0000"]["states"] == ["failed"]
    assert len(azure.requests("GET .*/backupProtectedItems")) == 1 and len(azure.requests("GET .*/backupJobs/")) == 1
    job["properties"]["errorDetails"] = [{"errorCode": details[0]["code"], "errorString": details[0]["message"], "recommendations": []}]
    assert by_name(fleet(azure))["vm0000"]["backup"]["error"]["code"] == "UserErrorGuestAgentStatusUnavailable"


def test_good_jobs_of_more_vms_than_a_page_holds(azure):
    azure.graph_page = 10
    result = fleet(azure)
    assert result["errors"] == [] and all(vm["backup"]["jobs_14d"] == 14 for vm in result["vms"].values() if vm["backup"])


def test_the_budget_of_job_reads_ends_in_sentences_not_in_a_failure():
    with StandIn(fleet_.generate(130, 130)) as azure:
        for item in azure.fleet.items.values():
            item["properties"].pop("healthDetails")
        for job in azure.fleet.jobs.values():
            if "errorDetails" in job["properties"]:
                job["properties"]["errorDetails"] = []
        result = fleet(azure)
        assert len(azure.requests("GET .*/backupJobs/")) == 120
        assert len([sentence for sentence in result["errors"] if "No more reads of backup jobs" in sentence]) == 10
        assert sum("failed" in vm["states"] for vm in result["vms"].values()) == 130


# What goes on when something fails


def test_a_vault_without_access_of_three_is_one_sentence_and_the_others_are_read(azure):
    vaults = [vault["id"] for vault in azure.fleet.of_type("Microsoft.RecoveryServices/vaults")]
    azure.backup.deny(vaults[0])
    result = fleet(azure, vaults=vaults)
    assert len(result["errors"]) == 1 and result["errors"][0].startswith("Vault Vault01 was not read: GET https://")
    assert "403 AuthorizationFailed" in result["errors"][0] and "correlation id" in result["errors"][0]
    assert {vm["backup"]["vault"] for vm in result["vms"].values()} == {"Vault02", "Vault03"}


def test_a_vault_that_is_not_there_is_one_sentence(azure):
    result = fleet(azure, vaults=["Vault02", "Nowhere"])
    assert result["errors"] == ["Vault Nowhere was not read: it is not there, or the identity has no access to it."]
    assert {vm["backup"]["vault"] for vm in result["vms"].values()} == {"Vault02"}


def test_an_unknown_subscription_beside_a_known_one(azure):
    known = next(iter(azure.fleet.subscriptions))
    result = fleet(azure, subscriptions=[known.upper(), "99999999-0000-0000-0000-000000000000"])
    assert result["errors"] == ["Subscription 99999999-0000-0000-0000-000000000000 is not known, or the identity has no access to it."]
    assert len(result["vms"]) == 12


def test_no_subscription_at_all_is_one_sentence(azure):
    with pytest.raises(errors.ConfigurationError, match="no subscription to read: 99.* unknown or without access. Check the ids"):
        fleet(azure, subscriptions=["99"])


def test_a_vm_that_is_deleted_meanwhile_is_gone_and_no_error(azure):
    azure.fault("GET .*/virtualMachines/vm0001$", status=404, body={"error": {"code": "ResourceNotFound", "message": "gone"}})
    result = fleet(azure)
    assert by_name(result)["vm0001"]["states"] == ["vm_gone"] and result["errors"] == []


def test_a_vm_that_may_not_be_read_stays_failed_and_is_named(azure):
    azure.fault("GET .*/virtualMachines/vm0001$", status=403, body={"error": {"code": "AuthorizationFailed", "message": "no"}})
    result = fleet(azure)
    vm = by_name(result)["vm0001"]
    assert (vm["states"][0], vm["view"], vm["agent"]) == ("failed", "failed", None)
    assert len(result["errors"]) == 1 and "state of VM vm0001 could not be read" in result["errors"][0]


def test_resets_and_a_500_are_survived(azure):
    azure.fault("GET .*/virtualMachines/", reset=True, times=3)
    azure.fault("POST .*ResourceGraph", status=500, times=2)
    azure.fault("GET .*/locks", status=503)
    assert fleet(azure)["errors"] == []


def test_a_storm_of_429_on_jobs_costs_sentences_and_the_rest_is_read(azure):
    for item in azure.fleet.items.values():
        item["properties"].pop("healthDetails", None)
    for job in azure.fleet.jobs.values():
        job["properties"].pop("errorDetails", None)
    azure.limits.jobs_an_hour = 1
    result = fleet(azure)
    assert sum("failed" in vm["states"] for vm in result["vms"].values()) == 5 and len(result["vms"]) == 12
    sentences = [sentence for sentence in result["errors"] if sentence.startswith("The failed job of VM")]
    assert len(sentences) == len(result["errors"]) == 4
    assert any("exceeded the limit of '1'" in sentence and "run it again" in sentence for sentence in sentences)
    assert by_name(result)["vm0001"]["view"] == "read" and by_name(result)["vm0001"]["locks"]


def test_a_storm_of_429_everywhere_is_waited_out_and_noted(azure):
    azure.fault("GET .*/virtualMachines/vm0001$", status=429, headers={"Retry-After": "7"}, times=2)
    azure.fault("POST .*ResourceGraph", status=429, headers={"Retry-After": "1"}, times=3)
    client = open_client(azure)
    result = fleet(azure, client)
    assert result["errors"] == [] and by_name(result)["vm0001"]["view"] == "read"
    assert sum(7 <= wait < 8 for wait in client.waits) == 2 and any("Waited 7 s" in note for note in result["notes"])


def test_a_token_that_expires_while_the_fleet_is_read_is_renewed(azure):
    client = open_client(azure)
    client.get("/subscriptions", read.SUBSCRIPTION_VERSION)
    azure.tokens.expire()
    result = fleet(azure, client)
    assert result["errors"] == [] and len(result["vms"]) == 12
    assert len(azure.requests("POST .*/token")) == 2


@pytest.mark.parametrize(
    "what, sentence",
    [("locks", "The locks of subscription"), ("restorePointCollections", "The restore points of"), ("virtualMachines", "The states of")],
)
def test_a_list_that_may_not_be_read_is_one_sentence(azure, what, sentence):
    azure.fault("GET .*/{0}$".format(what), status=403, body={"error": {"code": "AuthorizationFailed", "message": "no"}})
    result = fleet(azure)
    assert len(result["errors"]) == 1 and result["errors"][0].startswith(sentence)
    assert by_name(result)["vm0001"]["states"] == ["failed", "rpo_breached"]


def test_a_wrong_clock_of_the_controller_does_not_make_backups_old(azure):
    azure.clock_skew_s = -10 * 86400
    result = fleet(azure)
    assert any("clock" in note for note in result["notes"])
    azure.fleet.offset = fleet_.timedelta()
    ages = [vm["backup"]["age_h"] for vm in result["vms"].values() if vm["backup"]]
    assert max(ages) < 0, "ages are reckoned by Azure's clock, which is ten days behind the stand-in's documents"


def test_a_graph_that_is_refused_for_good_is_one_sentence(azure):
    azure.fault("POST .*ResourceGraph", status=403, body={"error": {"code": "AuthorizationFailed", "message": "no"}}, times=9)
    with pytest.raises(errors.AccessDenied, match="403 AuthorizationFailed"):
        fleet(azure)


def test_nothing_but_reads_is_sent(azure):
    fleet(azure)
    assert {method for method, _path, _status in azure.requests()} == {"GET", "POST"}
    assert all("/token" in path or "ResourceGraph" in path for method, path, _status in azure.requests() if method == "POST")
