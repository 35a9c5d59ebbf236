# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which VMs should go to which policy and time."""

from collections import Counter

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import schedule


def policy(name, start, **values):
    made = {
        "id": "/V/backupPolicies/" + name, "name": name, "vault_id": "/v", "type": "V1", "frequency": "Daily", "start_times": [start],
        "days": [], "interval_h": 24.0, "every_h": None, "time_zone": "UTC", "instant_days": 2,
    }  # fmt: skip
    return dict(made, **values)


def fleet(counts, **more):
    """Return VMs by policy: {policy: how many}."""
    vms = {}
    for name, count in counts.items():
        for number in range(count):
            key = "{0}{1:04d}".format(name, number)
            backup = {"policy_id": "/V/BackupPolicies/" + name, "policy": name, "vault": "v", "item_id": "/item/" + key, "crowd": None}
            vms[key] = {"name": key, "id": "/" + key, "states": [], "backup": dict(backup, **more)}
    return vms


def by_id(*policies):
    return {entry["id"].lower(): entry for entry in policies}


def test_the_plan_leaves_no_time_with_more_than_the_limit():
    policies = by_id(policy("a", "22:30"), policy("b", "22:30"), policy("late", "01:00"), policy("full", "02:00"))
    vms = fleet({"a": 150, "b": 60, "late": 70, "full": 100})
    schedule.mark(vms, policies)
    moves = schedule.plan(vms, 100)
    assert len(moves) == 110 and {entry["from_start"] for entry in moves} == {"22:30"}
    assert Counter((entry["policy"], entry["start"]) for entry in moves) == {("late", "01:00"): 30, (None, "23:00"): 80}
    assert len({entry["vm"] for entry in moves}) == 110


def test_new_times_follow_each_other_and_pass_midnight():
    vms = fleet({"a": 350})
    schedule.mark(vms, by_id(policy("a", "23:30"), policy("x", "00:30", type="V2")))
    assert Counter(entry["start"] for entry in schedule.plan(vms, 100)) == {"00:00": 100, "00:30": 100, "01:00": 50}


def test_no_vm_goes_to_a_policy_of_another_kind():
    others = [policy("v2", "01:00", type="V2"), policy("weekly", "01:00", frequency="Weekly"), policy("zone", "01:00", time_zone="CET"),
              policy("vault", "01:00", vault_id="/w"), policy("short", "01:00", instant_days=1)]  # fmt: skip
    vms = fleet({"a": 101})
    schedule.mark(vms, by_id(policy("a", "22:30"), *others))
    assert [(entry["policy"], entry["start"]) for entry in schedule.plan(vms, 100)] == [(None, "23:00")]


@pytest.mark.parametrize("count, moves", [(20, 0), (100, 0), (101, 1)])
def test_at_the_limit(count, moves):
    vms = fleet({"a": count})
    schedule.mark(vms, by_id(policy("a", "22:30")))
    assert len(schedule.plan(vms, 100)) == moves
    assert (vms["a0000"]["backup"]["crowd"] is None) is (count <= 20)


def test_what_is_not_backed_up_or_not_known_is_no_crowd():
    for vms in (fleet({"a": 150}, policy_id=None), fleet({"unknown": 150})):
        schedule.mark(vms, by_id(policy("a", "22:30")))
        assert schedule.plan(vms, 100) == []
    stopped = {key: dict(vm, states=["stopped"]) for key, vm in fleet({"a": 150}).items()}
    schedule.mark(stopped, by_id(policy("a", "22:30")))
    timeless = fleet({"a": 150})
    schedule.mark(timeless, by_id(policy("a", "22:30", start_times=[])))
    assert schedule.plan(stopped, 100) == schedule.plan(timeless, 100) == []


def test_a_limit_of_nought_ends():
    vms = fleet({"a": 30})
    schedule.mark(vms, by_id(policy("a", "22:30")))
    assert len(schedule.plan(vms, 0)) == 29
