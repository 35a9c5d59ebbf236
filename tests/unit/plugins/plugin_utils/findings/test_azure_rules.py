# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Findings that Azure's facts answer: each fires, does not, at the limit, and with its data missing."""

import copy
import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate, rows
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import AZURE, BY_NAME
from azure_cases import CASES, COMPANIONS
from cases import both, changed, evaluated, fires, ids

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures")


def load(*names):
    with open(os.path.join(FIXTURES, *names), encoding="utf-8") as stream:
        return json.load(stream)


VM = load("azure", "healthy-vm.json")
GUEST = load("facts", "healthy-debian12.json")
BASE = {**GUEST, "azure": VM}
OURS = [row.id for row in rows(AZURE)]
FAILED = {
    "azure/states": ["failed"],
    "azure/backup/failed": True,
    "azure/backup/last_status": "Failed",
    "azure/backup/failed_since": "2026-11-19T22:30:00Z",
}


def patched(changes):
    return changed(BASE, both(FAILED if changes.get("failed") else {}, {key: value for key, value in changes.items() if key != "failed"}))


def test_a_healthy_vm_has_no_finding_with_its_guest_or_without():
    assert ids(BASE) == [] and ids({"schema_version": 1, "azure": VM}) == []


def test_a_vm_whose_backup_failed_has_none_for_that_alone():
    assert ids(patched({"failed": True})) == []


def test_facts_of_azure_alone_ask_nothing_of_the_guest():
    assert ids({"schema_version": 1, "azure": {}}) == []
    assert "azure" not in {finding["side"] for finding in evaluate(changed(GUEST, {"extension/snapshot/code": 121}))}


def test_every_finding_has_its_cases():
    assert set(CASES) == set(OURS)
    for id_, cases in CASES.items():
        assert cases["fires"] and cases["not"] and cases["missing"], id_


def each(kind):
    return [
        pytest.param(id_, case, id="{0}-{1}".format(id_, number))
        for id_, cases in sorted(CASES.items())
        for number, case in enumerate(cases[kind])
    ]


@pytest.mark.parametrize("id_, case", each("fires"))
def test_fires_and_brings_nothing_unrelated(id_, case):
    assert set(ids(patched(case))) - COMPANIONS.get(id_, set()) == {id_}


@pytest.mark.parametrize("id_, case", each("not"))
def test_does_not_fire_just_beside(id_, case):
    assert not fires(id_, patched(case), AZURE)


@pytest.mark.parametrize("id_, case", each("missing"))
def test_what_is_not_known_is_no_finding(id_, case):
    assert not fires(id_, patched(case), AZURE)


@pytest.mark.parametrize("id_", OURS)
def test_nothing_at_all_is_no_finding(id_):
    for facts in ({"azure": {}}, {"azure": None}, {"azure": dict.fromkeys(VM)}, {"azure": {**VM, "backup": None, "states": []}}):
        assert not fires(id_, facts, AZURE) or (id_ == "azure_not_protected" and facts["azure"].get("exists")), facts


@pytest.mark.parametrize("id_", OURS)
def test_evidence_and_commands_are_whole(id_):
    finding = next(entry for entry in evaluated(patched(CASES[id_]["fires"][0])) if entry["id"] == id_)
    assert finding["side"] == "azure" and finding["cause"] == 5
    assert finding["remedy"] is None or BY_NAME[finding["remedy"]].on == (AZURE,)
    assert finding["evidence"] and all(
        len(text) > 10 and "{" not in text and "unknown" not in text.split(":")[0] for text in finding["evidence"]
    )
    assert all(command.startswith("az ") and "None" not in command for command in finding["commands"])


@pytest.mark.parametrize("id_", OURS)
def test_every_code_names_a_finding_that_answers_it(id_):
    assert FINDINGS[id_][AZURE].doc.startswith("https://learn.microsoft.com/")


def test_a_command_is_one_word_for_each_text_of_azure():
    evil = "vm'; touch /tmp/x; $(id) `id`"
    facts = patched({"failed": True, "azure/id": evil, "azure/power_state": "stopped", "system/uptime_s": 1})
    (command,) = next(entry for entry in evaluated(facts) if entry["id"] == "azure_vm_not_running")["commands"]
    import shlex

    assert shlex.split(command) == ["az", "vm", "start", "--ids", evil]


def test_the_guests_finding_stands_before_what_follows_from_it_in_azure():
    facts = patched({"failed": True, "azure/agent/ready": False, "azure/agent/status": "Not Ready"})
    facts["agent"]["service"].update(active_state="inactive", sub_state="dead")
    facts["agent"]["processes"] = {"daemon": [], "handler": []}
    found = evaluated(facts, error_code="UserErrorGuestAgentStatusUnavailable")
    names = [finding["id"] for finding in found]
    assert names.index("agent_service_stopped") < names.index("azure_agent_not_ready")
    assert "agent_service_stopped" in found[names.index("azure_agent_not_ready")]["explained_by"]


def test_a_rule_never_changes_its_facts():
    for cases in CASES.values():
        facts = patched(cases["fires"][0])
        before = copy.deepcopy(facts)
        evaluated(facts)
        assert facts == before
