# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was approved is what is done."""

import json

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _approval as approval


def entry(remedy, planned=True, **fix):
    return {"remedy": remedy, "planned": planned, "fix": fix}


ENTRIES = [entry("agent.service", start=True), entry("snapshot.bcdr_options", False, name="x"), entry("agent.restart")]
PLAN = {"web1": approval.of_host(ENTRIES)}


def planned(entries):
    return [item["remedy"] for item in entries if item["planned"]]


def test_a_plan_holds_what_is_planned_and_survives_its_way_as_json():
    assert list(PLAN["web1"]) == ["agent.service", "agent.restart"]
    travelled = json.loads(json.dumps(PLAN))
    assert approval.seal(travelled) == approval.seal(PLAN)
    assert planned(approval.restricted(ENTRIES, "web1", travelled, approval.seal(PLAN))) == ["agent.service", "agent.restart"]


@pytest.mark.parametrize(
    "entries, host",
    [
        (ENTRIES, "web2"),  # a host that was not previewed
        ([entry("agent.service", start=True, expect={"masked": True}), entry("agent.restart")], "web1"),  # the guest changed since
        ([entry("agent.update"), entry("agent.restart")], "web1"),  # came since; the restart alone serves nothing
    ],
)
def test_what_was_not_approved_is_not_planned_and_says_so(entries, host):
    result = approval.restricted(entries, host, PLAN, approval.seal(PLAN))
    assert planned(result) == []
    assert [item["remedy"] for item in result if item["not_approved"]][0] == entries[0]["remedy"]


@pytest.mark.parametrize(
    "plan, sealed, words", [(None, "", "no approved plan"), ({}, "", "not the one"), (dict(PLAN, x={}), approval.seal(PLAN), "not the one")]
)
def test_without_its_seal_a_plan_is_refused(plan, sealed, words):
    with pytest.raises(ValueError, match=words):
        approval.restricted(ENTRIES, "web1", plan, sealed)


def test_an_empty_plan_that_was_approved_approves_nothing():
    assert planned(approval.restricted(ENTRIES, "web1", {}, approval.seal({}))) == []
