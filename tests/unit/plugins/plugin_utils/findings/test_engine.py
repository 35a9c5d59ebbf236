# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import copy
import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _thresholds
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate, note_on_error_code
from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import ERROR_CODES, canonical
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS

with open(os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "facts", "healthy-debian12.json")) as stream:
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
        ("blocker", "agent_disable_marker"),
        ("blocker", "agent_extensions_disabled"),
        ("risk", "agent_service_disabled"),
        ("risk", "fs_freeze_failed"),
        ("notice", "dhcp_option_245_missing"),
    ]


def test_a_root_cause_stands_before_what_follows_from_it():
    facts = copy.deepcopy(HEALTHY)
    facts["extension"]["snapshot"]["code"] = 13
    facts["load"]["time"]["offset_s"] = 4000
    facts["load"]["memory"]["used_percent"] = 99
    found = evaluate(facts)
    assert [f["id"] for f in found] == ["load_memory_high", "clock_wrong", "snapshot_wrong_time"]
    assert [f["explained_by"] for f in found] == [[], [], ["clock_wrong"]]
    # A notice that explains a blocker stands where the blocker would.
    facts["network"]["proxy"] = [{"source": "s", "name": "http_proxy", "value": "p", "bypass": "", "bypasses_host": False}]
    facts["agent"]["log"]["verdicts"] = [
        {"meaning": "goal_state_error", "at": facts["collected_at"], "line": "l", "phrase": "p", "count": 1}
    ]
    found = evaluate(facts)
    assert [f["id"] for f in found][:2] == ["proxy_without_bypass", "load_memory_high"]
    assert found[0]["severity"] == "notice"


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
        ("NoSuchCode", "Unknown Azure Backup error code"),
    ],
)
def test_note_when_no_finding_explains_the_code(code, words):
    assert words in note_on_error_code([], code)


@pytest.mark.parametrize(
    "code, guest, azure, words",
    [
        ("UserErrorRpCollectionLimitReached", True, True, "nothing that was read in Azure explains it"),
        ("GuestAgentSnapshotTaskStatusError", False, True, "the guest answers it, and was not looked at"),
        ("UserErrorGuestAgentStatusUnavailable", True, True, "nothing in the guest explains it, nor does what was read in Azure"),
        ("UserErrorGuestAgentStatusUnavailable", True, False, "so look at Azure"),
        ("ExtensionFailedVssWriterInBadState", False, True, "the guest answers it, and was not looked at"),
    ],
)
def test_the_note_says_what_was_looked_at(code, guest, azure, words):
    assert words in note_on_error_code([], code, guest=guest, azure=azure)


def test_every_code_of_the_catalogue_is_known():
    assert {code for rows in FINDINGS.values() for row in rows.values() for code in row.codes} <= set(ERROR_CODES)


def test_codes_of_the_guest_have_a_finding():
    explained = {code for rows in FINDINGS.values() for row in rows.values() for code in row.codes}
    assert [code for code, (side, _advice) in ERROR_CODES.items() if side in ("guest", "both") and code not in explained] == []


def test_canonical():
    assert canonical(" guestagentsnapshottaskstatuserror ") == "GuestAgentSnapshotTaskStatusError"
    assert canonical(320001) == "ResourceNotFound"
    assert canonical("Other") == "Other"


def test_thresholds_change_the_verdict():
    assert [f["id"] for f in evaluate(HEALTHY, {"minimum_linux_agent": "2.8"})] != []
    assert evaluate(HEALTHY, {"minimum_linux_agent": "2.7.3.0"}) == []


@pytest.mark.parametrize(
    "overrides, words",
    [
        ({"nosuch": 1}, "Unknown threshold 'nosuch'"),
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
    assert all(unit and source for _name, _default, unit, source in _thresholds.THRESHOLDS)


@pytest.mark.parametrize("facts", [None, [], "text", {}, {"agent": {}}])
def test_facts_that_cannot_be_used(facts):
    with pytest.raises(ValueError):
        evaluate(facts)
