# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the table of remedies is for the controller, which needs Python 3.10", allow_module_level=True)

from ansible_collections.vmbackup.azure.plugins.module_utils._facts import AREAS
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _engine, _remedies
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import REMEDIES, plan


def found(id_, kind="linux", **fix):
    row = FINDINGS[id_][kind]
    return {"id": id_, "remedy": row.remedy, "consent": row.consent, "fix": [fix] if fix else []}


def names(entries, key="remedy"):
    return [entry[key] for entry in entries]


SICK = [found("agent_disable_marker"), found("agent_service_disabled"), found("agent_extensions_disabled")]
CONSENT = {"vmbackup_allow_disable_agent_removal": True}


def test_the_order_is_that_of_the_table():
    entries = plan(SICK)
    assert names(entries) == ["agent.configuration", "agent.service", "agent.restart"] and all(names(entries, "planned"))
    assert entries[1]["findings"] == ["agent_service_disabled"] and entries[1]["consent"] == ["vmbackup_allow_disable_agent_removal"]
    assert names(plan(reversed(SICK))) == names(entries)


def test_a_consent_brings_the_findings_that_waited():
    entry = plan(SICK, CONSENT)[1]
    assert entry["findings"] == ["agent_disable_marker", "agent_service_disabled"] and entry["consent"] == []


def test_without_any_allowed_finding():
    (entry,) = plan(SICK[:1])
    assert (entry["allowed"], entry["planned"], entry["findings"]) == (False, False, ["agent_disable_marker"])


def test_never_beats_every_consent():
    entries = plan(SICK, CONSENT, never=["agent.service"])
    assert [(entry["remedy"], entry["allowed"], entry["never"]) for entry in entries] == [
        ("agent.configuration", True, False),
        ("agent.service", False, True),
        ("agent.restart", True, False),
    ]


def test_the_restart_comes_only_where_something_needs_it():
    assert names(plan([found("agent_restart_policy")])) == ["agent.auto_restart"]
    assert names(plan(SICK, kind="windows"))[-1] == "agent.service"
    assert [entry["planned"] for entry in plan(SICK, never=["agent.restart"])] == [True, True, False]


def test_causes_choose():
    entries = plan(SICK + [found("vss_service_disabled", "windows")], causes=["snapshot"])
    assert [(entry["remedy"], entry["planned"]) for entry in entries] == [
        ("agent.configuration", False),
        ("snapshot.vss_services", True),
        ("agent.service", False),
    ]


def test_a_last_resort_is_left_alone_where_the_guest_explains_it():
    missing = found("azure_agent_report_missing", "azure", agent=True)
    assert names(plan([missing])) == ["azure.reapply"] and plan([missing])[0]["fix"] == {"agent": True}
    assert plan([dict(missing, explained_by=["agent_disable_marker"])]) == []
    assert names(plan([dict(missing, explained_by=["azure_extension_failed"])])) == ["azure.reapply"]


def test_a_finding_without_a_remedy_is_nobodys():
    assert plan([found("agent_version_old_no_package")]) == []
    assert _remedies.unknown(["agent.service", "agent.nothing"]) == ["agent.nothing"]


def test_what_to_write_comes_from_the_allowed_findings():
    marker = found("agent_disable_marker", take=["/var/lib/waagent/disable_agent"], start=True)
    disabled, stopped = found("agent_service_disabled", enabled=True), found("agent_service_stopped", start=True)
    assert plan([marker, disabled, stopped])[0]["fix"] == {"enabled": True, "start": True}
    assert plan([marker, disabled], CONSENT)[0]["fix"] == {"take": ["/var/lib/waagent/disable_agent"], "start": True, "enabled": True}
    assert plan([marker])[0]["fix"] == {} and plan([disabled], never=["agent.service"])[0]["fix"] == {}


def test_fixes_of_one_thing_become_one():
    one, two = {"services": [{"name": "A", "state": "started"}]}, {"services": [{"name": "A", "start_type": "auto"}, {"name": "B"}]}
    assert _remedies.merged([one, two]) == {"services": [{"name": "A", "state": "started", "start_type": "auto"}, {"name": "B"}]}
    values = [{"values": [{"key": "K", "name": "x", "data": 1}]}, {"values": [{"key": "L", "name": "x", "data": 1}]}]
    assert len(_remedies.merged(values)["values"]) == 2
    assert _remedies.merged([{"settings": {"a": "y"}}, {"settings": {"b": "n"}}]) == {"settings": {"a": "y", "b": "n"}}
    assert _remedies.merged([{"take": ["p"]}, {"take": ["p", "q"]}]) == {"take": ["p", "q"]}


def test_table_and_findings_agree():
    """Every remedy of the table answers a finding on each of its systems, asks only for its own consents, and none is missing."""
    served, consents = {}, {}
    for row in (row for system in _remedies.SYSTEMS for row in _engine.rows(system)):
        if row.remedy:
            served.setdefault(row.remedy, set()).add(row.on)
            consents.setdefault(row.remedy, set()).update({row.consent} - {None})
    own = [remedy for remedy in REMEDIES if remedy.name not in (_remedies.RESTART, _remedies.BACKUP)]
    assert {name: set(served[name]) for name in served} == {remedy.name: set(remedy.on) for remedy in own}
    for remedy in own:
        assert {_remedies.CONSENT_PREFIX + name for name in remedy.consents} == consents[remedy.name], remedy.name


@pytest.mark.parametrize("remedy", REMEDIES, ids=[remedy.name for remedy in REMEDIES])
def test_rows_are_whole(remedy):
    assert remedy.cause in _remedies.CAUSES and remedy.phase in _remedies.PHASES and set(remedy.on) <= set(_remedies.SYSTEMS)
    assert (remedy.phase == "guest") == (_remedies.AZURE not in remedy.on)
    assert set(remedy.areas) <= set(AREAS) and set(remedy.consents) <= set(_remedies.CONSENTS)
    assert remedy.title[0].isupper() and not remedy.title.endswith(".")
