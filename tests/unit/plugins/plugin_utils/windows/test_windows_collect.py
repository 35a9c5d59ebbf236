# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what the collector returned to facts: the recorded guest, what is missing, what is damaged."""

import base64
import copy
import gzip
import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _schema as shape
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.collect import AREAS, facts_of

RAW = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "windows", "healthy-raw.json")
with open(RAW) as stream:
    HEALTHY = json.load(stream)
STATUS = "C:\\Packages\\Plugins\\Microsoft.Azure.RecoveryServices.VMSnapshot\\1.0.81.0\\Status\\5.status"


def packed(text):
    return base64.b64encode(gzip.compress(text if isinstance(text, bytes) else text.encode())).decode()


def changed(**parts):
    return dict(copy.deepcopy(HEALTHY), **parts)


def with_status(parts=None, **values):
    document = changed(**parts or {})
    status = {
        "status": {"status": "error", "code": 4, "formattedMessage": {"message": "m"}},
        "timestampUTC": HEALTHY["collected_at"][:19] + "Z",
    }
    status["status"].update(values)
    document["files"][STATUS]["data"] = packed("\ufeff" + json.dumps([status]) + "\0\0")
    return facts_of(document, ["extension"])["extension"]["snapshot"]


def test_the_recorded_guest():
    facts = facts_of(HEALTHY, ["all"])
    assert shape.problem(facts) is None and evaluate(facts) == []
    assert facts["agent"]["version"] == {"daemon": "2.7.41491.1176", "goal_state": "2.7.41491.1176", "goal_state_source": "program"}
    assert facts["agent"]["installed_by"] == "platform" and facts["agent"]["package"] is None
    assert facts["network"]["dhcp"]["option_245"] == "168.63.129.16"
    assert facts["network"]["imds_addresses"] == ["192.0.2.2"] and facts["network"]["region"] == "westeurope"
    assert facts["extension"]["snapshot"]["code"] == 1 and facts["extension"]["snapshot"]["sequence"] == 5
    assert facts["vss"]["writers_looked"] is True and all(w["state_code"] == 1 for w in facts["vss"]["writers"])
    assert facts["system"]["kind"] == "windows" and facts["load"]["time"]["offset_s"] == 0


@pytest.mark.parametrize(
    ("cards", "addresses", "fixed"),
    [
        ([("02-FC-00-00-00-01", ["192.0.2.2", "192.0.2.9"])], ["192.0.2.2", "192.0.2.9"], True),
        ([("02fc00000001", ["192.0.2.9", "192.0.2.2"])], ["192.0.2.9", "192.0.2.2"], False),
        ([("02FC00000009", ["192.0.2.2"]), ("02FC00000001", ["192.0.2.9"])], ["192.0.2.9"], False),
        ([("02FC00000009", ["192.0.2.2"])], None, False),
        ([("", ["192.0.2.2"])], None, False),
        (None, None, False),
    ],
)
def test_dhcp_is_switched_on_only_where_it_brings_the_same_address(cards, addresses, fixed):
    document = changed(imds={"cards": cards and [{"mac": mac, "addresses": own} for mac, own in cards]})
    facts = facts_of(document, ["all"])
    assert facts["network"]["imds_addresses"] == addresses
    facts["network"]["dhcp"]["method"] = "static"
    found = next(finding for finding in evaluate(facts) if finding["id"] == "dhcp_static_address")
    assert found["fix"] == ([{"interface": "eth0"}] if fixed else [])


@pytest.mark.parametrize("area", AREAS)
def test_an_area_that_was_not_asked_for_is_null(area):
    facts = facts_of(HEALTHY, [area])
    assert facts["gather_subset"] == [area] and [a for a in AREAS if facts[a] is not None] == [area]


@pytest.mark.parametrize("part", sorted(HEALTHY))
def test_a_part_that_is_missing_or_of_another_kind_is_no_finding_and_no_error(part):
    for value in (None, [], {}, "text", 7):
        facts = facts_of(changed(**{part: value}), ["all"])
        assert shape.problem(facts) is None
        # Listing no service at all, or no answer at all, is not what these parts can say.
        assert evaluate(facts) == [], (part, value)


def test_no_raw_values_at_all():
    facts = facts_of({}, ["all"])
    assert shape.problem(facts) is None and evaluate(facts) == []


RUNS, BEGINS, RESTS = {"in_progress": True, "busy": True}, {"in_progress": False, "busy": True}, {"in_progress": False, "busy": False}


@pytest.mark.parametrize(
    "work, code, in_progress, busy, stuck",
    [
        (RUNS, 4, True, True, False),
        (RESTS, 4, False, False, True),
        (BEGINS, 1, False, True, False),
        (RESTS, 1, False, False, False),
        (None, 4, False, False, None),
        ({"in_progress": "x", "busy": "x"}, 4, False, False, None),
    ],
)
def test_whether_a_snapshot_runs_is_what_the_guest_says(work, code, in_progress, busy, stuck):
    found = with_status({"snapshot": work}, code=code)
    assert (found["in_progress"], found["busy"], found["stuck"]) == (in_progress, busy, stuck)


def test_a_process_of_a_snapshot_is_a_snapshot_that_runs():
    found = facts_of(changed(processes=[{"pid": 7, "name": "IaaSBcdrExtension"}]), ["extension"])["extension"]["snapshot"]
    assert found["in_progress"] is True and found["busy"] is True


def test_the_inner_code_counts():
    inner = json.dumps([{"status": {"code": "701", "formattedMessage": {"message": "inner"}}}])
    found = with_status(status="success", code=0, substatus=[{"name": inner}])
    assert (found["code"], found["code_source"], found["message"]) == (701, "inner", "inner")


def test_a_damaged_status_is_an_error_of_its_own():
    document = copy.deepcopy(HEALTHY)
    document["files"][STATUS]["data"] = packed('[{"status": {')
    facts = facts_of(document, ["extension"])
    assert facts["extension"]["snapshot"]["code"] is None and facts["errors"][0]["what"] == "parse " + STATUS


def test_not_an_administrator():
    document = changed(denied=["HKLM\\SYSTEM\\X"])
    document["system"]["privileged"] = False
    facts = facts_of(document, ["all"])
    assert facts["system"]["privileged"] is False and len(facts["not_visible"]) == 2 and evaluate(facts) == []


def test_an_agent_from_an_msi():
    entry = {
        "name": "Windows Azure VM Agent - 2.7.41491.1176",
        "version": "2.7.41491.1176",
        "key": "{5CF4D04A-F16C-4892-9196-6025EA61F964}",
        "root": "r",
    }
    agent = facts_of(changed(programs=entry), ["agent"])["agent"]
    assert agent["installed_by"] == "msi" and agent["package"]["product_code"] == "{5CF4D04A-F16C-4892-9196-6025EA61F964}"


def test_nothing_secret_comes_through():
    document = copy.deepcopy(HEALTHY)
    document["registry"]["HKU\\S-1-5-18\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings"] = {
        "values": {"ProxyEnable": ["DWord", 1], "ProxyServer": ["String", "http://user:S3cr3t@proxy:3128"]}, "subkeys": [],
    }  # fmt: skip
    document["files"]["C:\\WindowsAzure\\Logs\\WaAppAgent.log"]["data"] = packed(
        "2026-01-01T00:00:00Z GetVersions() failed https://h/p?sig=S3cr3t"
    )
    facts = facts_of(document, ["all"])
    assert "S3cr3t" not in json.dumps(facts) and facts["network"]["proxy"][0]["bypasses_host"] is False
