# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who is repaired and backed up in a phase of a run, by what the diagnoses and the repairs before said."""

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, tls
from ansible_collections.vmbackup.azure.plugins.action import azure_steps
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _remedies
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import phases
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.backup import Options
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.phases import Member, why_not
from azure_world import World

VM = {"id": "/x", "states": ["failed"], "exists": True, "backup": {"item_id": "/i"}}
DONE = {"remedy": "agent.service", "changed": True, "failed": False}
BLOCKER = {"id": "agent_missing", "severity": "blocker", "title": "The agent is not installed", "remedy": "agent.install"}


def member(vm=None, before=(), after=None, actions=(DONE,), **more):
    diagnosis = {"findings": list(before), "remedies": []}
    again = {} if after is None else {"findings": list(after), "remedies": []}
    return Member("web", dict(vm or VM), diagnosis, again, list(actions), **more)


@pytest.mark.parametrize(
    "one, which, reason",
    [
        (member(), "repaired", None),
        (member(actions=()), "repaired", ""),
        (member(actions=()), "all", None),
        (member(), "none", ""),
        (member(vm={**VM, "states": []}), "all", ""),
        (member(vm={**VM, "exists": False}), "all", ""),
        (member(vm={**VM, "backup": None}), "all", ""),
        (member(before=[BLOCKER], after=[]), "repaired", None),
        (member(before=[BLOCKER]), "repaired", "still stands against it: The agent is not installed"),
        (member(before=[], after=[BLOCKER]), "all", "still stands against it"),
        (member(before=[dict(BLOCKER, severity="risk")]), "repaired", None),
        (member(lost=True), "all", "stopped answering"),
        (member(actions=[DONE, {"remedy": "agent.restart", "deferred": True}]), "repaired", "was deferred"),
        (member(actions=[{"remedy": "agent.update", "changed": True, "failed": True}]), "repaired", ""),
        (member(never=["azure.backup_now"]), "all", "vmbackup_never"),
    ],
)
def test_who_is_backed_up(one, which, reason):
    found = why_not(one, which, False)
    assert (found is None) if reason is None else (found == "" if reason == "" else reason in found)


def test_a_finding_that_azure_shows_as_gone_stands_against_nothing():
    failed = {"id": "azure_provisioning_failed", "severity": "blocker", "title": "x", "remedy": "azure.reapply"}
    assert why_not(member(before=[failed]), "repaired", False)
    assert (
        why_not(member(before=[failed], actions=[{"remedy": "azure.reapply", "changed": True, "proved": True}]), "repaired", False) is None
    )


def test_the_trace_of_the_failed_snapshot_stands_against_nothing_once_its_causes_are_gone():
    """The result of the last snapshot stays until the next one, which would never be if it stood against it."""
    trace = {"id": "snapshot_no_network", "severity": "blocker", "title": "x", "explained_by": ["route_blackhole"]}
    cause = {"id": "route_blackhole", "severity": "blocker", "title": "y"}
    after = [dict(trace, explained_by=[])]
    assert why_not(member(before=[trace, cause], after=after), "repaired", False) is None
    assert why_not(member(before=[trace, cause], after=[trace, cause]), "repaired", False)
    assert why_not(member(before=[dict(trace, explained_by=[])], after=after), "repaired", False), "nobody knows its cause"


def test_in_check_mode_what_would_be_repaired_counts_as_gone():
    one = member(before=[BLOCKER], actions=())
    one.before["remedies"] = [{"remedy": "agent.install", "planned": True, "findings": ["agent_missing"]}]
    assert why_not(one, "repaired", True) is None and why_not(one, "repaired", False) == ""


def test_every_remedy_of_azure_is_a_step():
    names = [remedy.name for remedy in _remedies.REMEDIES if remedy.phase != "guest"]
    assert names == [*phases.remedies_of("before"), *phases.remedies_of("after"), _remedies.BACKUP]
    assert set(phases.STEPS) == set(names) - {_remedies.BACKUP} and all(phases.STEPS[name].remedy == name for name in phases.STEPS)


needs_tls = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())


@needs_tls
def test_a_job_that_began_since_the_inventory_was_read_is_seen():
    with World() as world:
        (target,) = world.targets("vm0001")
        world.machine("vm0001")["properties"]["provisioningState"] = "Failed"
        vault = next(iter(world.azure.fleet.of_type("Microsoft.RecoveryServices/vaults")))
        job = documents.job(
            vault, "11111111-0000-0000-0000-000000000000", world.machine("vm0001"), world.azure.fleet.now(), status="InProgress"
        )
        world.azure.fleet.jobs[job["id"].lower()] = job
        plan = [{"remedy": "azure.reapply", "planned": True, "findings": ["azure_provisioning_failed"]}]
        done = phases.repair(world.client, "before", [Member("web", dict(target.vm), {"findings": [], "remedies": plan})], world.run())
        assert done["web"][0]["deferred"] and world.writes() == []


@needs_tls
def test_vms_are_read_again_until_their_agents_are_ready():
    with World() as world:
        targets = world.targets("vm0000", "vm0001", "vm0002")
        world.live("vm0001")["power"] = "deallocated"
        gone = world.machine("vm0002")["id"].lower()
        del world.azure.fleet.resources[gone]
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            if len(waited) == 2:
                world.live("vm0000")["agent"] = "ready"
            World.sleep(world, seconds)

        world.sleep = sleep
        found = phases.look(world.client, [Member(target.host, dict(target.vm)) for target in targets], world.run())
        assert found["vm0000"]["agent"]["ready"] is True and len(waited) == 2
        assert found["vm0001"]["power_state"] == "deallocated" and found["vm0002"]["exists"] is False


@needs_tls
def test_the_wait_for_an_agent_is_bounded():
    with World() as world:
        (target,) = world.targets("vm0000")
        found = phases.look(world.client, [Member("vm0000", dict(target.vm))], world.run())
        assert found["vm0000"]["agent"]["ready"] is False and world.elapsed <= phases.READY_S


@needs_tls
def test_a_phase_backs_up_those_that_may_be():
    with World() as world:
        targets = world.targets()
        members = [Member(target.host, dict(target.vm), {"findings": [], "remedies": []}, actions=[DONE]) for target in targets]
        members[0].never = ["azure.backup_now"]
        done = phases.back_up(world.client, members, "repaired", Options(), world.run())
        assert "vmbackup_never" in done["vm0000"][0]["text"]
        assert [done[name][0]["backup"]["result"] for name in ("vm0001", "vm0002", "vm0003")] == ["snapshot taken"] * 3


@pytest.mark.parametrize(
    "named",
    ["azure.nsg_rule, agent.update", ["azure.nsg_rule", "agent.update"], ["azure.nsg_rule,agent.update"], ("azure.nsg_rule,,agent.update")],
)
def test_what_is_never_done_is_named_in_each_form_that_the_guests_take(named):
    assert azure_steps.listed(named) == ["azure.nsg_rule", "agent.update"] and azure_steps.listed([]) == []
