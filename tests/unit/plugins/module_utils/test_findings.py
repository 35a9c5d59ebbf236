# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import copy
import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils import thresholds
from ansible_collections.vmbackup.azure.plugins.module_utils.catalogue import CATALOGUE
from ansible_collections.vmbackup.azure.plugins.module_utils.error_codes import ERROR_CODES, canonical
from ansible_collections.vmbackup.azure.plugins.module_utils.findings import evaluate, note_on_error_code, remedies

with open(os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "facts", "healthy-debian12.json")) as stream:
    HEALTHY = json.load(stream)


def sick():
    facts = copy.deepcopy(HEALTHY)
    facts["network"]["dhcp"]["option_245"] = None
    facts["agent"]["service"]["unit_file_state"] = "disabled"
    facts["agent"]["config"]["values"]["Extensions.Enabled"].update(value="n", effective=False)
    facts["agent"]["markers"]["disable_agent"] = True
    facts["extension"]["snapshot"]["code"] = 121
    return facts


def test_worst_first_then_in_the_order_of_repair():
    found = [(f["severity"], f["id"]) for f in evaluate(sick())]
    assert found == [
        ("blocker", "agent_extensions_disabled"),
        ("blocker", "agent_disable_marker"),
        ("risk", "agent_service_disabled"),
        ("risk", "fs_freeze_failed"),
        ("notice", "dhcp_option_245_missing"),
    ]


def test_error_code_puts_its_findings_first():
    found = evaluate(sick(), error_code="usererrorfsfreezefailed")
    assert found[0]["id"] == "fs_freeze_failed" and found[0]["explains_error_code"] is True
    assert found[1]["explains_error_code"] is False
    assert len(found) == len(evaluate(sick()))
    assert note_on_error_code(found, "UserErrorFsFreezeFailed") is None


@pytest.mark.parametrize(
    "code, words",
    [
        ("UserErrorRpCollectionLimitReached", "in Azure, not in the guest"),
        ("ExtensionFailedVssWriterInBadState", "only Windows"),
        ("GuestAgentSnapshotTaskStatusError", "nothing in the guest explains it"),
        ("380008", "AzureVmOffline"),
        ("NoSuchCode", "no error code of Azure VM backup that is known here"),
    ],
)
def test_note_when_no_finding_explains_the_code(code, words):
    assert words in note_on_error_code([], code)


def test_every_code_of_the_catalogue_is_known():
    assert {code for row in CATALOGUE.values() for code in row["codes"]} <= set(ERROR_CODES)


def test_codes_of_the_guest_have_a_finding():
    explained = {code for row in CATALOGUE.values() for code in row["codes"]}
    assert [code for code, (side, _advice) in ERROR_CODES.items() if side in ("guest", "both") and code not in explained] == []


def test_canonical():
    assert canonical(" guestagentsnapshottaskstatuserror ") == "GuestAgentSnapshotTaskStatusError"
    assert canonical(320001) == "ResourceNotFound"
    assert canonical("Other") == "Other"


def test_remedies_in_order_the_restart_last():
    plan = remedies(evaluate(sick()))
    assert [(entry["remedy"], entry["allowed"]) for entry in plan] == [("agent.configuration", True), ("agent.service", True)]
    assert plan[1]["findings"] == ["agent_service_disabled"]
    assert plan[1]["consent"] == ["vmbackup_allow_disable_agent_removal"]


def test_remedies_with_consent():
    plan = remedies(evaluate(sick()), {"vmbackup_allow_disable_agent_removal": True})
    assert plan[1]["findings"] == ["agent_disable_marker", "agent_service_disabled"] and plan[1]["consent"] == []


def test_remedies_without_any_allowed_finding():
    facts = copy.deepcopy(HEALTHY)
    facts["agent"]["markers"]["disable_agent"] = True
    plan = remedies(evaluate(facts))
    assert [(entry["remedy"], entry["allowed"], entry["findings"]) for entry in plan] == [
        ("agent.service", False, ["agent_disable_marker"])
    ]


def test_thresholds_change_the_verdict():
    assert [f["id"] for f in evaluate(HEALTHY, {"minimum_linux_agent": "2.8"})] != []
    assert evaluate(HEALTHY, {"minimum_linux_agent": "2.7.3.0"}) == []


@pytest.mark.parametrize(
    "overrides, words",
    [
        ({"nosuch": 1}, "no limit called 'nosuch'"),
        ({"heartbeat_age_s": "soon"}, "must be a number"),
        ({"heartbeat_age_s": -1}, "must not be below 0"),
        ({"heartbeat_age_s": float("nan")}, "must not be below 0"),
        ({"minimum_linux_agent": "new"}, "must be a version"),
    ],
)
def test_thresholds_that_cannot_be_used(overrides, words):
    with pytest.raises(ValueError) as caught:
        evaluate(HEALTHY, overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_threshold_has_unit_and_source():
    assert all(unit and source for _name, _default, unit, source in thresholds.THRESHOLDS)


@pytest.mark.parametrize("facts", [None, [], "text", {}, {"agent": {}}])
def test_facts_that_cannot_be_used(facts):
    with pytest.raises(ValueError):
        evaluate(facts)
