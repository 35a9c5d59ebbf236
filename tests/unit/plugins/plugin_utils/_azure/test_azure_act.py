# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remedies in Azure against the stand-in: in check mode, done, done again, and with everything that can go wrong in the middle."""

import json
import os
from dataclasses import replace

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, tls
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import address, extension, machine, phases, security
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Target, carry_out
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure_action import Journal, noted
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings.azure_network import SERVICES
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import merged
from azure_world import World

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())
OWN = {"publisher": "Microsoft.Azure.RecoveryServices", "type": "VMSnapshotLinux", "typeHandlerVersion": "1.0"}


def stopped(world, name="vm0001"):
    world.live(name)["power"] = "stopped"


def broken(world, name="vm0001"):
    world.machine(name)["properties"]["provisioningState"] = "Failed"


def extended(world, name="vm0001", state="Failed"):
    """Give a VM a backup extension that Azure lists, as VMs with unmanaged disks have it."""
    id_ = world.machine(name)["id"] + "/extensions/VMSnapshotLinux"
    kind = "Microsoft.Compute/virtualMachines/extensions"
    document = {"id": id_, "name": "VMSnapshotLinux", "type": kind, "location": "westeurope"}
    world.azure.fleet.put({**document, "properties": {**OWN, "provisioningState": state}})


# remedy: how it comes to be needed, what is sent, and how it is seen by another way
def denied(world, *_names):
    """Have the security group of all VMs deny everything outside, with a rule of somebody else just above."""
    (group,) = [entry for entry in world.azure.fleet.of_type("Microsoft.Network/networkSecurityGroups") if "westeurope" in entry["name"]]
    rules = {"DenyOut": (4000, "Deny", "Internet"), "Other": (3999, "Allow", "10.0.0.0/8")}
    plain = {"protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": "*", "direction": "Outbound"}
    group["properties"]["securityRules"] = [
        documents.rule(group["id"], name, {**plain, "priority": priority, "access": access, "destinationAddressPrefix": there})
        for name, (priority, access, there) in rules.items()
    ]


def rules_of(world):
    groups = world.azure.fleet.of_type("Microsoft.Network/networkSecurityGroups")
    return {rule["name"]: rule["properties"] for group in groups for rule in group["properties"]["securityRules"]}


CASES = {
    "azure.power_state": (
        machine.PowerState(), stopped, ("POST", "deallocate", 202), lambda world: world.live("vm0001")["power"] == "deallocated"),
    "azure.reapply": (
        machine.Reapply(), broken, ("POST", "reapply", 202),
        lambda world: world.machine("vm0001")["properties"]["provisioningState"] == "Succeeded"),
    "azure.remove_extension": (
        extension.RemoveExtension(), extended, ("DELETE", "VMSnapshotLinux", 202),
        lambda world: not world.azure.fleet.of_type("Microsoft.Compute/virtualMachines/extensions")),
}  # fmt: skip


@pytest.fixture(params=sorted(CASES))
def case(request):
    return CASES[request.param]


def done(world, step, *names, **options):
    return carry_out(world.client, step, world.targets(*(names or ["vm0001"])), world.run(**options))


def test_in_check_mode_nothing_but_reads_is_sent_and_the_plan_is_told(case):
    step, need, _request, seen = case
    with World(check=True) as world:
        need(world)
        (entry,) = done(world, step)
        assert entry["changed"] and not entry["failed"] and len(entry["changes"]) == 1
        assert world.writes() == [] and not seen(world) and world.kept == []


def test_done_once_and_seen_by_another_way(case):
    step, need, request, seen = case
    with World() as world:
        need(world)
        (entry,) = done(world, step)
        assert (entry["changed"], entry["failed"], entry["proved"]) == (True, False, True), entry
        assert entry["remedy"] == step.remedy and entry["changes"][0]["old"] != entry["changes"][0]["new"]
        assert world.writes() == [request] and seen(world)
        assert [kept["state"] for kept in world.kept] == ["begun", "done"]


def test_a_second_run_sends_nothing(case):
    step, need, _request, _seen = case
    with World() as world:
        need(world)
        done(world, step)
        (entry,) = done(world, step)
        assert (entry["changed"], entry["failed"], entry["proved"]) == (False, False, True), entry
        assert world.writes() == []


def test_where_it_is_not_needed_nothing_is_sent(case):
    step, _need, _request, _seen = case
    with World() as world:
        (entry,) = done(world, step)
        assert not entry["changed"] and not entry["failed"] and world.writes() == []


def test_a_reset_before_the_write_arrives_is_not_repeated(case):
    step, need, request, seen = case
    with World() as world:
        need(world)
        targets = world.targets("vm0001")
        world.azure.fault("{0} .*/{1}$".format(*request), reset=True)
        (entry,) = carry_out(world.client, step, targets, world.run())
        assert entry["failed"] and not entry["changed"] and "not sent again" in entry["text"]
        assert world.writes() == [(request[0], request[1], 0)] and not seen(world)


def test_a_reset_after_the_write_arrived_is_found_out_and_not_repeated(case):
    step, need, request, seen = case
    with World(polls=0) as world:
        need(world)
        targets = world.targets("vm0001")
        world.azure.fault("{0} .*/{1}$".format(*request), cut=True)
        run = world.run()
        (entry,) = carry_out(world.client, step, targets, run)
        assert entry["proved"] and entry["changed"] and not entry["failed"] and "Azure shows it" in entry["text"], entry
        assert len(world.writes()) == 1 and seen(world)


def test_something_else_at_work_is_waited_for_and_planned_anew(case):
    step, need, request, seen = case
    busy = {"error": {"code": "AnotherOperationInProgress", "message": "Another operation is in progress."}}
    with World() as world:
        need(world)
        targets = world.targets("vm0001")
        world.azure.fault("{0} .*/{1}$".format(*request), status=409, body=busy)
        (entry,) = carry_out(world.client, step, targets, world.run())
        assert entry["changed"] and not entry["failed"] and seen(world)
        assert [status for _method, _name, status in world.writes()] == [409, 202]


def test_429_retryable_is_sent_again(case):
    step, need, request, seen = case
    busy = {"error": {"code": "RetryableError", "message": "A retryable error occurred."}}
    with World() as world:
        need(world)
        targets = world.targets("vm0001")
        world.azure.fault("{0} .*/{1}$".format(*request), times=2, status=429, body=busy)
        (entry,) = carry_out(world.client, step, targets, world.run())
        assert entry["changed"] and not entry["failed"] and seen(world)
        assert [status for _method, _name, status in world.writes()] == [429, 429, 202]


def test_a_token_that_ends_in_the_middle_is_renewed(case):
    step, need, request, seen = case
    with World(polls=2) as world:
        need(world)
        targets = world.targets("vm0001")
        for match in ("{0} .*/{1}$".format(*request), "GET .*/operations/"):
            world.azure.fault(match, expire=True)
        (entry,) = carry_out(world.client, step, targets, world.run())
        assert entry["changed"] and not entry["failed"] and seen(world)
        assert [status for _method, _name, status in world.writes()] == [401, 202]


def test_a_vm_that_is_deleted_meanwhile_fails_alone(case):
    step, need, request, _seen = case
    with World() as world:
        for name in ("vm0001", "vm0002"):
            need(world, name)
        targets = world.targets("vm0001", "vm0002")
        gone = world.machine("vm0001")["id"].lower()
        for key in [key for key in world.azure.fleet.resources if key.startswith(gone)]:
            del world.azure.fleet.resources[key]
        first, second = carry_out(world.client, step, targets, world.run())
        assert first["failed"] and "not there any more" in first["text"] and second["changed"] and not second["failed"]
        assert world.writes() == [request]


def test_a_lock_and_missing_rights_are_said_in_one_sentence(case):
    step, need, request, seen = case
    with World() as world:
        need(world)
        targets = world.targets("vm0001")
        lock = world.azure.fleet.put(documents.lock(world.machine("vm0001")["id"], "keep", "ReadOnly"))
        (entry,) = carry_out(world.client, step, targets, world.run())
        assert entry["failed"] and "ScopeLocked" in entry["text"] and "nothing was changed" in entry["text"] and not seen(world)
        del world.azure.fleet.resources[lock["id"].lower()]
        world.azure.fleet.read_only.add(world.machine("vm0001")["id"].lower())
        (entry,) = carry_out(world.client, step, targets, world.run())
        assert entry["failed"] and "403" in entry["text"] and "docs/azure.md" in entry["text"] and not entry["changed"]
        assert [status for _method, _name, status in world.writes()] == [409, 403]


def test_too_many_failures_stop_what_is_left():
    with World(count=40, failing=30) as world:
        names = ["vm{0:04d}".format(number) for number in range(30)]
        for name in names:
            broken(world, name)
            world.live(name)["reapply_error"] = {"code": "OSProvisioningClientError", "message": "The start of the system failed."}
        results = done(world, machine.Reapply(), *names)
        assert len(results) == 30 and sum(entry["deferred"] for entry in results) == 26
        # One alone, then a tenth, then no more: the limit is 3.
        assert len(world.writes()) == 4 and sum(entry["failed"] for entry in results) == 4
        assert "OSProvisioningClientError" in results[0]["text"]


def test_only_what_azure_calls_stopped_is_deallocated():
    with World() as world:
        for power in ("running", "starting", "deallocated", "deallocating", "stopping"):
            world.live("vm0001")["power"] = power
            (entry,) = done(world, machine.PowerState())
            assert not entry["changed"], power
        assert world.writes() == []


def test_reapply_waits_for_what_is_under_way_and_for_backups():
    with World() as world:
        world.machine("vm0001")["properties"]["provisioningState"] = "Updating"
        (entry,) = done(world, machine.Reapply())
        assert entry["deferred"] and not entry["changed"]
        broken(world)
        (target,) = world.targets("vm0001")
        target.vm["backup"]["running_job"] = {"start": "2026-11-28T12:00:00Z"}
        (entry,) = carry_out(world.client, machine.Reapply(), [target], world.run())
        assert entry["deferred"] and world.writes() == []


def test_reapply_for_an_agent_that_azure_does_not_see_is_done_once():
    with World() as world:
        world.live("vm0001").update(agent="not_ready", sees_agent=False)
        (entry,) = carry_out(world.client, machine.Reapply(), world.targets("vm0001", fix={"agent": True}), world.run())
        assert entry["changed"] and entry["proved"]
        # Azure shows one that is newer than the failed backup, so that it is not done again though the agent is still not seen.
        (entry,) = carry_out(world.client, machine.Reapply(), world.targets("vm0001", fix={"agent": True}), world.run())
        assert not entry["changed"] and world.writes() == []
        (entry,) = carry_out(world.client, machine.Reapply(), world.targets("vm0002"), world.run())
        assert not entry["changed"] and world.writes() == []


def test_reapply_counts_by_its_operation_where_azure_renews_no_time():
    with World() as world:
        world.live("vm0001").update(agent="not_ready", keeps_time=True)
        (entry,) = carry_out(world.client, machine.Reapply(), world.targets("vm0001", fix={"agent": True}), world.run())
        assert entry["changed"] and entry["proved"] and not entry["failed"] and len(world.writes()) == 1


def test_an_extension_is_removed_only_where_the_agent_is_ready():
    with World() as world:
        extended(world)
        world.live("vm0001")["agent"] = "not_ready"
        (entry,) = done(world, extension.RemoveExtension())
        assert entry["deferred"] and world.writes() == []


def test_an_extension_that_azure_does_not_list_is_the_guests():
    with World() as world:
        world.live("vm0001")["handlers"] = [documents.handler("linux", False)]
        (entry,) = done(world, extension.RemoveExtension())
        assert entry["failed"] and "remove it in the guest" in entry["text"] and world.writes() == []


def test_the_removal_of_an_extension_is_bounded():
    with World(polls=1000) as world:
        extended(world)
        (entry,) = done(world, extension.RemoveExtension(), wait_s=0.5)
        assert entry["failed"] and "0 s" in entry["text"] and "it was not sent again" in entry["text"]
        assert len(world.writes()) == 1


# Security rules


def nsg_targets(world, *names):
    """Return VMs with what their findings ask for."""
    found = []
    for target in world.targets(*names):
        facts = {"schema_version": 1, "azure": target.vm}
        fixes = [fix for finding in evaluate(facts) if finding["id"] == "azure_security_rule_denies" for fix in finding["fix"]]
        found += security.NsgRule.expand(Target(target.host, target.vm, merged(fixes)))
    return found


def test_one_rule_for_each_denied_service_serves_all_vms_of_a_group():
    with World(count=8, failing=4, vaults=1) as world:
        denied(world)
        targets = nsg_targets(world, "vm0001", "vm0002")
        assert len(targets) == 2
        results = carry_out(world.client, security.NsgRule(), targets, world.run())
        assert [(entry["changed"], entry["failed"], entry["proved"]) for entry in results] == [(True, False, True)] * 2, results
        assert world.writes() == [("PUT", "vmbackup-allow-{0}-outbound".format(name), 201) for name in SERVICES]
        # The free numbers just below the rule that denies, whose neighbour was taken.
        made = {name: rule for name, rule in rules_of(world).items() if name.startswith("vmbackup-")}
        assert [rule["priority"] for rule in made.values()] == [3998, 3997, 3996]
        assert {rule["destinationAddressPrefix"] for rule in made.values()} == set(SERVICES) and len(rules_of(world)) == 5
        assert all(not fixes for fixes in nsg_targets(world, "vm0001", "vm0002")), "the finding is gone"
        assert results[0]["undo_point"]


def test_rules_in_check_mode_again_and_taken_back():
    with World(check=True) as world:
        denied(world)
        (entry,) = carry_out(world.client, security.NsgRule(), nsg_targets(world, "vm0001"), world.run())
        assert entry["changed"] and len(entry["changes"]) == 3 and world.writes() == []
    with World() as world:
        denied(world)
        targets = nsg_targets(world, "vm0001")
        before = rules_of(world)
        carry_out(world.client, security.NsgRule(), targets, world.run())
        (entry,) = carry_out(world.client, security.NsgRule(), targets, world.run())
        assert not entry["changed"] and entry["proved"] and len(world.writes()) == 3
        absent = security.NsgRuleAbsent()
        rules_of(world)["vmbackup-allow-Storage-outbound"]["access"] = "Deny"
        (entry,) = carry_out(world.client, absent, absent.expand(world.targets("vm0001")[0]), world.run())
        assert entry["changed"] and "Left, since somebody changed them: vmbackup-allow-Storage-outbound" in entry["text"]
        assert set(rules_of(world)) == {*before, "vmbackup-allow-Storage-outbound"}
        (entry,) = carry_out(world.client, absent, absent.expand(world.targets("vm0001")[0]), world.run())
        assert not entry["changed"] and not entry["failed"]


def test_a_rule_that_somebody_changes_meanwhile_is_not_deleted():
    with World() as world:
        denied(world)
        carry_out(world.client, security.NsgRule(), nsg_targets(world, "vm0001"), world.run())
        absent = security.NsgRuleAbsent()
        targets = absent.expand(world.targets("vm0001")[0])
        changed = {"error": {"code": "PreconditionFailed", "message": "Precondition failed."}}
        world.azure.fault("DELETE .*/securityRules/vmbackup-allow-AzureBackup-outbound$", status=412, body=changed)
        (entry,) = carry_out(world.client, absent, targets, world.run())
        # Looked at and planned anew: it still was what this collection wrote.
        assert entry["changed"] and not entry["failed"] and not any(name.startswith("vmbackup-") for name in rules_of(world))


def test_a_group_without_a_free_number_is_left():
    with World() as world:
        denied(world)
        rules_of(world)["DenyOut"]["priority"] = 100
        (entry,) = carry_out(world.client, security.NsgRule(), nsg_targets(world, "vm0001"), world.run())
        assert entry["failed"] and "No number is free" in entry["text"] and world.writes() == []


def test_a_reset_between_two_rules_is_found_out():
    with World() as world:
        denied(world)
        targets = nsg_targets(world, "vm0001")
        world.azure.fault("PUT .*/vmbackup-allow-Storage-outbound$", reset=True)
        (entry,) = carry_out(world.client, security.NsgRule(), targets, world.run())
        assert entry["failed"] and "not sent again" in entry["text"]
        assert [status for _method, _name, status in world.writes()] == [201, 0]
        # The next run writes what is missing, and nothing twice.
        (entry,) = carry_out(world.client, security.NsgRule(), targets, world.run())
        assert entry["changed"] and entry["proved"] and [status for _method, _name, status in world.writes()] == [201, 0, 201, 201]


def test_the_real_service_takes_one_tag_a_rule():
    """The stand-in refuses two, as the documentation says, so that a rule with a list of tags would be seen."""
    with World() as world:
        denied(world)
        targets = nsg_targets(world, "vm0001")
        body = {"properties": {**security.rule_body("Storage", 300), "destinationAddressPrefixes": ["Storage", "AzureBackup"]}}
        with pytest.raises(errors.AnswerError, match="SecurityRuleInvalidAddressPrefix"):
            world.client.write("PUT", targets[0].fix["group"] + "/securityRules/x", security.NETWORK_VERSION, body)


# Addresses


def nic(world, name="vm0001"):
    return next(entry for entry in world.azure.fleet.resources.values() if entry["name"] == name + "-nic")


def kept_target(world, name="vm0001"):
    (target,) = world.targets(name)
    return Target(target.host, target.vm, address.primary(target.vm))


def test_an_address_is_kept_once_and_nothing_else_of_the_interface_changes():
    with World(check=True) as world:
        (entry,) = carry_out(world.client, address.StaticIp(), [kept_target(world)], world.run())
        assert entry["changed"] and world.writes() == []
    with World() as world:
        before = json.loads(json.dumps(nic(world)))
        (entry,) = carry_out(world.client, address.StaticIp(), [kept_target(world)], world.run())
        assert entry["changed"] and entry["proved"] and entry["undo_point"] and world.writes() == [("PUT", "vm0001-nic", 200)], entry
        after = json.loads(json.dumps(nic(world)))
        assert after["properties"]["ipConfigurations"][0]["properties"].pop("privateIPAllocationMethod") == "Static"
        before["properties"]["ipConfigurations"][0]["properties"].pop("privateIPAllocationMethod")
        assert {**after, "etag": ""} == {**before, "etag": ""}
        (entry,) = carry_out(world.client, address.StaticIp(), [kept_target(world)], world.run())
        assert not entry["changed"] and entry["proved"] and world.writes() == []


def test_an_address_that_changed_meanwhile_is_not_kept():
    with World() as world:
        target = kept_target(world)
        nic(world)["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] = "10.0.9.9"
        (entry,) = carry_out(world.client, address.StaticIp(), [target], world.run())
        assert entry["failed"] and "10.0.9.9" in entry["text"] and world.writes() == []


def test_an_interface_that_somebody_changes_meanwhile_is_read_again():
    with World() as world:
        target = kept_target(world)
        body = {"error": {"code": "PreconditionFailed", "message": "Precondition failed."}}
        world.azure.fault("PUT .*-nic$", status=412, body=body)
        (entry,) = carry_out(world.client, address.StaticIp(), [target], world.run())
        assert entry["changed"] and entry["proved"] and [status for _m, _n, status in world.writes()] == [412, 200]


def test_a_reset_while_an_address_is_kept_is_found_out():
    for fault, changed, sent in ((dict(cut=True), True, 1), (dict(reset=True), False, 1)):
        with World(polls=0) as world:
            target = kept_target(world)
            world.azure.fault("PUT .*-nic$", **fault)
            (entry,) = carry_out(world.client, address.StaticIp(), [target], world.run())
            assert entry["changed"] is changed and entry["failed"] is not changed and len(world.writes()) == sent


def test_undo_lets_azure_choose_again_only_what_this_collection_kept():
    with World() as world:
        for name in ("vm0001", "vm0002"):
            carry_out(world.client, address.StaticIp(), [kept_target(world, name)], world.run())
        noted = [entry for entry in world.kept if "vm0001" in entry["resource"]]
        members = [phases.Member(target.host, dict(target.vm)) for target in world.targets("vm0001", "vm0002")]
        done = phases.undo(world.client, members, world.run(), noted)
        assert set(done) == {"vm0001"} and done["vm0001"][0]["changed"] and done["vm0001"][0]["proved"]
        methods = [
            nic(world, name)["properties"]["ipConfigurations"][0]["properties"]["privateIPAllocationMethod"]
            for name in ("vm0001", "vm0002")
        ]
        assert methods == ["Dynamic", "Static"]


def test_undo_after_a_run_that_was_killed_while_it_waited():
    with World() as world:
        carry_out(world.client, address.StaticIp(), [kept_target(world)], world.run())
        noted = world.kept[:1]
        assert [entry["state"] for entry in noted] == ["begun"]
        done = phases.undo(world.client, [phases.Member(one.host, dict(one.vm)) for one in world.targets("vm0001")], world.run(), noted)
        assert done["vm0001"][0]["changed"] and done["vm0001"][0]["proved"]


@pytest.mark.parametrize(
    "notes, ours",
    [
        ("Static begun", True),
        ("Static begun, Static done", True),
        ("Static begun, Static unknown", True),
        ("Static begun, Static refused", False),
        ("Static begun, Static done, Static begun, Static refused", True),
        # What is static since then, an administrator made so.
        ("Static begun, Static done, Dynamic begun, Dynamic done", False),
        ("Static begun, Static done, Dynamic begun, Dynamic done, Static begun, Static done", True),
        # Whether it was taken back is not known: it may be tried again.
        ("Static begun, Static done, Dynamic begun, Dynamic refused", True),
        ("Static begun, Static done, Dynamic begun, Dynamic unknown", True),
        ("", False),
    ],
)
def test_what_was_noted_last_says_whose_a_static_address_is(notes, ours):
    interface = {"id": "/NIC", "configurations": [{"name": "ip", "address": "10.0.0.4", "allocation": "Static"}]}
    name = "{0} of ip".format(address.METHOD)
    made = [dict(zip(("new", "state"), note.split())) for note in notes.split(", ") if note]
    kept = [{"remedy": "azure.static_ip", "resource": "/nic", "property": name, **note} for note in made]
    others = [dict(entry, resource="/other", new="Static", state="done") for entry in kept]
    assert bool(address.to_take_back(others + kept, {"network": [interface]})) is ours


def full(after):
    """Return what keeps notes until the disk is full after so many."""
    notes = []

    def keep(entry):
        if len(notes) == after:
            raise errors.ConfigurationError("No room for the note {0}.".format(entry["state"]))
        notes.append(entry)

    return keep


def test_a_write_whose_end_cannot_be_noted_is_reported_as_done():
    with World() as world:
        (entry,) = carry_out(world.client, address.StaticIp(), [kept_target(world)], replace(world.run(), keep=full(1)))
        assert entry["changed"] and entry["proved"] and not entry["failed"] and entry["undo_point"]
        assert entry["text"].endswith("No room for the note done.") and world.writes() == [("PUT", "vm0001-nic", 200)]


def test_a_refusal_that_cannot_be_noted_stays_a_refusal():
    with World() as world:
        target = kept_target(world)
        world.azure.fault("PUT .*-nic$", status=403, body={"error": {"code": "AuthorizationFailed", "message": "No."}})
        (entry,) = carry_out(world.client, address.StaticIp(), [target], replace(world.run(), keep=full(1)))
        assert entry["failed"] and not entry["changed"] and "Azure refused it" in entry["text"] and "note refused" in entry["text"]


def test_what_cannot_be_noted_before_is_not_written():
    with World() as world:
        target = kept_target(world)
        with pytest.raises(errors.ConfigurationError, match="note begun"):
            carry_out(world.client, address.StaticIp(), [target], replace(world.run(), keep=full(0)))
        assert world.writes() == []


def test_what_was_written_before_the_disk_was_full_is_reported():
    """Several rules go to one group, each with a note of its own."""
    with World() as world:
        denied(world)
        targets = nsg_targets(world, "vm0001")
        (entry,) = carry_out(world.client, security.NsgRule(), targets, replace(world.run(), keep=full(2)))
        assert entry["changed"] and entry["failed"] and len(entry["changes"]) == len(world.writes()) == 1
        assert "The rest was not: No room for the note begun." in entry["text"]


def test_what_azure_shows_after_a_lost_answer_is_noted_as_done():
    with World(polls=0) as world:
        target = kept_target(world)
        world.azure.fault("PUT .*-nic$", cut=True)
        carry_out(world.client, address.StaticIp(), [target], world.run())
        assert [entry["state"] for entry in world.kept] == ["begun", "unknown", "done"]


@pytest.mark.parametrize(
    "state, said", [("begun", "so it is not changed"), ("done", "could not be noted"), ("refused", "could not be noted")]
)
def test_the_journal_says_what_it_means_that_a_note_cannot_be_written(tmp_path, state, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ConfigurationError, match=said) as caught:
        Journal(str(tmp_path / "file" / "below"))({"state": state})
    assert ("not changed" in str(caught.value)) is (state == "begun")


def test_a_note_for_which_there_is_no_room_is_not_left_half_written(tmp_path, monkeypatch):
    journal = Journal(str(tmp_path))
    journal({"state": "begun", "step": "first"})
    path = next(tmp_path.iterdir())
    before, real = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:7]))
    with pytest.raises(errors.ConfigurationError, match="No space left"):
        journal({"state": "begun", "step": "second"})
    assert path.read_bytes() == before
    monkeypatch.undo()
    path.write_bytes(before + b'{"half')  # by a version that did not look
    journal({"state": "begun", "step": "third"})
    assert [entry["step"] for entry in noted(str(tmp_path))] == ["first", "third"]
