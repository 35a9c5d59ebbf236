# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What single rules have to get right beyond their cases."""

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS
from cases import both, fires, ids
from cases import evaluated as evaluate
from linux_cases import CASES, CODED, HANDLERS_AGE, HEALTHY, LINUX, OLD, RUNNING, STOPPED, asked, conf, patched, probe, verdict


def test_storage_weighs_less_while_the_host_relays():
    assert evaluate(patched(probe("storage")))[0]["severity"] == "notice"
    found = {f["id"]: f["severity"] for f in evaluate(patched(both(probe("storage"), probe("hostgaplugin"))))}
    assert found["storage_unreachable"] == "blocker"


def test_a_host_that_was_not_reached_is_told_by_the_failed_snapshot():
    codes = {"extension/snapshot/host_codes": {"hostStatusCodeDoSnapshot": 555}}
    assert ids(patched(both(codes, {"extension/snapshot/code": 76}))) == ["snapshot_no_network"]
    assert ids(patched(both(codes, {"extension/snapshot/code": 1}))) == ["snapshot_host_failed"]


LOST = {"phrase": "p", "at": "2026-11-21T09:44:50Z", "count": 1, "line": "cannot get status report parameters , Exception 556"}


@pytest.mark.parametrize("meaning, id_", [("host_code_lost", "snapshot_host_failed"), ("rate_code_lost", "snapshot_rate_exceeded")])
def test_a_code_that_never_comes_to_the_status_is_told_by_the_log_at_once(meaning, id_):
    stays = both(RUNNING, {"extension/snapshot/age_s": 15, "extension/log/verdicts": [dict(LOST, meaning=meaning)]})
    facts = patched(stays)
    assert ids(facts) == [id_] and "Exception 556" in evaluate(facts)[0]["evidence"][-1]
    # After the time of "stuck" it is still the same finding, and only that.
    assert ids(patched(both(stays, {"extension/snapshot/age_s": 5000}))) == [id_]
    # A line of an earlier snapshot, a process that is still there, processes that are not known, a result that did come.
    assert ids(patched(both(stays, {"extension/log/verdicts": [dict(LOST, meaning=meaning, at="2026-11-21T09:00:00Z")]}))) == []
    assert ids(patched(both(stays, {"extension/snapshot/processes": [{"pid": 7, "command": "handle.py -daemon"}]}))) == []
    assert ids(patched(both(stays, {"extension/snapshot/processes": None}))) == []
    assert ids(patched(both(stays, {"extension/snapshot/code": 1}))) == []


def test_a_result_before_the_newest_settings_is_history():
    failed = {"extension/snapshot/code": 121, "extension/snapshot/sequence": 1}
    assert ids(patched(failed)) == ["fs_freeze_failed"]
    newer = both(failed, {"extension/snapshot/settings_sequence": 2, "extension/snapshot/settings_age_s": 30})
    assert ids(patched(newer)) == []


@pytest.mark.parametrize("code, id_", [(2, "snapshot_failed"), (11, "snapshot_parameter_missing"), (76, "snapshot_no_network")])
def test_a_missing_key_is_told_by_the_log_whatever_the_code(code, id_):
    line = {"phrase": "p", "meaning": "certificate", "count": 1, "line": "unable to load certificate"}
    failed = {"extension/snapshot/code": code}
    assert ids(patched(failed)) == [id_]
    now = patched(both(failed, {"extension/log/verdicts": [dict(line, at="2026-11-21T09:44:40Z")]}))
    assert ids(now) == ["snapshot_certificate_missing"] and "unable to load" in evaluate(now)[0]["evidence"][-1]
    assert ids(patched(both(failed, {"extension/log/verdicts": [dict(line, at="2026-11-21T09:00:00Z")]}))) == [id_]


def test_lines_of_before_the_snapshot_are_no_evidence():
    line = {"phrase": "p", "meaning": "freeze_failed", "count": 1, "line": "Failed to FIFREEZE: /data"}
    for at, shown in (("2026-11-21T09:44:33Z", False), ("2026-11-21T09:44:34Z", True), ("2026-11-21T09:45:00Z", True)):
        facts = patched({"extension/snapshot/code": 121, "extension/log/verdicts": [dict(line, at=at)]})
        assert ("FIFREEZE" in str(evaluate(facts)[0]["evidence"])) is shown


def test_an_update_of_the_extension_that_skips_its_settings_is_no_missing_status():
    skipped = {"phrase": "p", "meaning": "same_sequence", "at": "2026-11-21T09:40:05Z", "count": 1, "line": "l"}
    assert ids(patched(asked(301))) == ["snapshot_no_status"]
    assert ids(patched(both(asked(301), {"extension/log/verdicts": [skipped]}))) == []
    assert ids(patched(both(asked(301), {"extension/snapshot/state": "Installed"}))) == []


def test_a_rejected_update_up_to_what_runs_was_overcome():
    entry = {"path": "/p", "failure_count": 3, "was_fatal": True, "reason": "r", "rejected": True}
    running = HEALTHY["agent"]["version"]["goal_state"]
    for version, told in (("1.0", False), (running, False), (running + ".1", True)):
        assert ("agent_update_rejected" in ids(patched({"agent/auto_update/directories": [dict(entry, version=version)]}))) is told


def test_a_hold_is_over_when_a_goal_state_was_completed_since():
    facts = patched(verdict("agent", "on_hold", "2026-11-21T09:40:00Z"))
    assert ids(facts) == ["agent_on_hold"]
    for at, told in (("2026-11-21T09:39:59Z", True), ("2026-11-21T09:40:00Z", False)):
        done = dict(facts["agent"]["log"]["verdicts"][0], meaning="goal_state_done", at=at)
        later = patched({"agent/log/verdicts": facts["agent"]["log"]["verdicts"] + [done]})
        assert ("agent_on_hold" in ids(later)) is told


def test_no_status_quotes_only_lines_since_the_settings():
    line = {"phrase": "p", "meaning": "daemon_failed", "count": 1, "line": "Failed to call the daemon"}
    for at, quoted in (("2026-11-21T09:39:00Z", False), ("2026-11-21T09:40:01Z", True)):
        facts = patched(both(asked(301), {"extension/log/verdicts": [dict(line, at=at)]}))
        assert ("Failed to call" in str(evaluate(facts)[0]["evidence"])) is quoted


def test_code_below_usr_local_is_told_and_never_restarted_for():
    local = {"agent/code": {"path": "/usr/local/lib/python3.11/dist-packages/azurelinuxagent/common/version.py", "local": True}}
    assert ids(patched(local)) == ["agent_not_from_package"] and evaluate(patched(local))[0]["severity"] == "notice"
    assert ids(patched({"agent/code": {"path": "/usr/lib/python3/dist-packages/x", "local": False}})) == []
    pending = both(OLD, {"agent/package/version": "2.7.3.0-4", "agent/package/candidate": "2.7.3.0-4"})
    assert ids(patched(pending)) == ["agent_restart_pending"]
    # A restart starts the same code again, and an update changes the other: no remedy follows from its age.
    for more in ({}, {"agent/package/version": "2.2.45-1"}, {"agent/package/held": True}, {"agent/package/candidate": None}):
        found = evaluate(patched(both(pending, local, more)))
        assert [(row["id"], row["severity"], row["remedy"]) for row in found] == [("agent_not_from_package", "risk", None)]


def test_goal_state_errors_are_cleared_by_a_later_success():
    facts = patched(verdict("agent", "goal_state_error", "2026-11-21T09:40:00Z"))
    facts["agent"]["log"]["verdicts"].append(
        {"phrase": "q", "meaning": "goal_state_done", "at": "2026-11-21T09:40:00Z", "count": 1, "line": "l"}
    )
    assert ids(facts) == []


@pytest.mark.parametrize("id_", LINUX)
def test_evidence_is_text_that_quotes(id_):
    changes = CASES[id_][0] if id_ in CASES else {"extension/snapshot/code": CODED[id_][0]}
    finding = next(f for f in evaluate(patched(changes)) if f["id"] == id_)
    assert finding["evidence"] and all(isinstance(text, str) and len(text) > 10 for text in finding["evidence"])
    assert not any("check failed" in text or "{" in text for text in finding["evidence"])
    assert finding["cause"] == FINDINGS[id_]["linux"].cause


def test_a_heartbeat_that_old_agents_write_once_does_not_grow_stale():
    old = both(HANDLERS_AGE, {"agent/heartbeat/age_s": 90000})
    assert fires("agent_heartbeat_stale", patched(old))
    assert not fires("agent_heartbeat_stale", patched(both(old, {"agent/heartbeat/periodic": False})))


@pytest.mark.parametrize("rejected, enabled, expected", [(False, True, False), (True, True, True), (False, False, True)])
def test_a_stopped_agent_is_as_new_as_what_it_would_start(rejected, enabled, expected):
    update = {
        "version": "2.15.0.1",
        "path": "/var/lib/waagent/WALinuxAgent-2.15.0.1",
        "failure_count": 0,
        "was_fatal": False,
        "reason": None,
    }
    stopped = {
        "agent/version/goal_state": "2.2.46", "agent/version/goal_state_source": "installed", "agent/processes/handler": [],
        "agent/package/candidate": "2.7.3.0-1", "agent/auto_update/directories": [dict(update, rejected=rejected)],
    }  # fmt: skip
    facts = patched(both(stopped, conf("AutoUpdate.Enabled", "y" if enabled else "n", enabled)))
    assert fires("agent_version_old", facts) is expected


def fix_of(id_, changes):
    return next(f for f in evaluate(patched(changes)) if f["id"] == id_)["fix"]


SEEN = {"masked": False, "unit_file_state": "enabled"}


@pytest.mark.parametrize(
    "id_, changes, fix",
    [
        ("agent_service_stopped", STOPPED, {"start": True, "expect": SEEN}),
        (
            "agent_service_disabled",
            {"agent/service/unit_file_state": "disabled"},
            {"enabled": True, "expect": dict(SEEN, unit_file_state="disabled")},
        ),
        # While a unit is masked, its state of before is not known.
        (
            "agent_service_masked",
            both(STOPPED, {"agent/service/masked": True}),
            {"unmasked": True, "start": True, "expect": {"masked": True}},
        ),
        ("agent_restart_policy", {"agent/service/restart": "no"}, {"expect": dict(SEEN, restart="no")}),
        # Without systemd, or where it could not be asked, nothing is compared.
        ("agent_service_stopped", both(STOPPED, {"agent/service/manager": "sysv"}), {"start": True}),
        (
            "agent_service_stopped",
            both(STOPPED, {"agent/service/masked": None, "agent/service/unit_file_state": None}),
            {"start": True},
        ),
        (
            "agent_package_half_installed",
            {"agent/package/state": "half-configured", "agent/package/held": None},
            {"package": {"name": "waagent", "expect": {"version": "2.7.3.0-4.1"}}},
        ),
    ],
)
def test_a_fix_says_what_was_seen(id_, changes, fix):
    assert fix_of(id_, changes) == [fix]


@pytest.mark.parametrize("id_, held, more", [("agent_version_old", False, {}), ("agent_package_held", True, {"unhold": True})])
def test_an_update_says_which_version_was_seen(id_, held, more):
    old = {"agent/version/goal_state": "2.2.46", "agent/package/version": "2.2.46-1", "agent/package/held": held}
    expect = {"version": "2.2.46-1", "held": held}
    assert fix_of(id_, old) == [{"package": dict({"name": "waagent", "expect": expect}, **more)}]
