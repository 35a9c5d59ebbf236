# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import os
import subprocess

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, undo
from ansible_collections.vmbackup.azure.plugins.modules import agent_service
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run

UNIT = "walinuxagent.service"


class Guest(object):
    """systemd as a dictionary of one unit, and files below a directory."""

    def __init__(self, monkeypatch, tmp_path):
        self.monkeypatch, self.calls, self.refuses = monkeypatch, [], None
        self.unit = {"load": "loaded", "state": "enabled", "active": "active", "restart": "always", "links": ["l"]}
        self.root = tmp_path
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(agent_service, "DROP_IN", str(tmp_path) + "/{0}.d/{1}")
        monkeypatch.setattr(undo, "enabled_links", lambda unit, root=None: list(self.unit["links"]))

    def command(self, arguments):
        if arguments[0] == "mv":
            return subprocess.call(arguments), "", ""
        words = arguments[1:]
        if words[0] == "show" and "Restart,DropInPaths" in words[1]:
            return 0, "Restart={0}\nDropInPaths=\n".format(self.unit["restart"]), ""
        if words[0] == "show":
            text = "LoadState={load}\nUnitFileState={state}\nActiveState={active}\n".format(**self.unit)
            return 0, text, ""
        self.calls.append(" ".join(words))
        if self.refuses == words[0]:
            return 1, "", "Access denied"
        if words[0] == "unmask":
            self.unit.update(load="loaded", state="enabled" if self.unit["links"] else "disabled")
        if words[0] == "mask":
            self.unit.update(load="masked", state="masked")
        if words[0] == "enable":
            self.unit.update(state="enabled", links=["l"])
        if words[0] == "daemon-reload" and os.path.isdir(str(self.root / (UNIT + ".d"))):
            self.unit["restart"] = "always"
        if words[0] in ("start", "stop"):
            self.unit["active"] = "active" if words[0] == "start" else "inactive"
        return 0, "", ""

    def run(self, check_mode=False, **params):
        return run(self.monkeypatch, agent_service, dict({"unit": UNIT, "undo": "agent.service"}, **params), check_mode, self.command)


@pytest.fixture
def guest(monkeypatch, tmp_path):
    return Guest(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "unit, calls",
    [
        ({"load": "masked", "state": "masked"}, ["unmask " + UNIT]),
        ({"load": "masked", "state": "masked", "links": []}, ["unmask " + UNIT, "enable " + UNIT]),
        ({"load": "masked", "state": "masked-runtime"}, ["unmask --runtime " + UNIT]),
        ({"state": "disabled", "links": []}, ["enable " + UNIT]),
        ({}, []),
    ],
)
def test_unmasked_and_enabled_and_again(guest, unit, calls):
    guest.unit.update(unit)
    would = guest.run(check_mode=True, unmasked=True, enabled=True)
    assert guest.calls == [] and would["changed"] == bool(calls)
    done = guest.run(unmasked=True, enabled=True)
    assert guest.calls == calls and done["changes"] == would["changes"] and bool(done["undo_point"]) == bool(calls)
    again = guest.run(unmasked=True, enabled=True)
    assert not again["changed"] and guest.calls == calls


def test_the_restart_policy_is_a_drop_in(guest):
    guest.unit["restart"] = "no"
    done = guest.run(restart_policy=True)
    path = guest.root / (UNIT + ".d") / "99-vmbackup-restart.conf"
    assert done["changed"] and "Restart=always" in path.read_text() and path.stat().st_mode & 0o7777 == 0o644
    assert not guest.run(restart_policy=True)["changed"]


def test_a_masked_unit_keeps_its_policy(guest):
    guest.unit.update(load="masked", state="masked", restart="no")
    assert not guest.run(restart_policy=True)["changed"]


def test_what_is_taken_goes_into_the_store_while_the_agent_is_stopped(guest):
    taken = guest.root / "1.2.3.4"
    taken.mkdir()
    done = guest.run(take=[str(taken), str(guest.root / "none")], stopped_meanwhile=True)
    assert done["changed"] and not taken.exists() and guest.calls == ["stop " + UNIT, "start " + UNIT]
    (point,) = undo.read_points(undo.STORE)
    assert os.path.isdir(point["moves"][0]["stored"]) and point["written"]


def test_a_step_that_fails_is_rolled_back(guest):
    guest.unit.update(load="masked", state="masked", links=[])
    guest.refuses = "enable"
    result = guest.run(unmasked=True, enabled=True)
    assert result["failed"] and "Access denied" in result["msg"]
    assert guest.unit["load"] == "masked" and undo.read_points(undo.STORE)[0]["undone_at"]


def test_the_state_before_a_restart_is_kept(guest):
    guest.unit["active"] = "inactive"
    done = guest.run(unmasked=True, enabled=True, restart_follows=True)
    assert not done["changed"] and done["undo_point"]
    assert undo.read_points(undo.STORE)[0]["units"][0]["active_state"] == "inactive"


def test_nothing_while_a_snapshot_runs(guest, monkeypatch):
    monkeypatch.setattr(change, "snapshot_runs", lambda module: True)
    guest.unit.update(state="disabled", links=[])
    done = guest.run(enabled=True)
    assert (done["changed"], done["deferred"], done["reason"]) == (False, True, "a snapshot is running") and guest.calls == []


def test_bad_input(guest, monkeypatch):
    assert "undo has to name a remedy" in guest.run(take=["/a"], undo=None)["msg"]
    guest.unit["load"] = "not-found"
    assert "systemd knows no unit" in guest.run(enabled=True)["msg"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "become" in guest.run(enabled=True)["msg"]


MASKED = {"load": "masked", "state": "masked"}


@pytest.mark.parametrize(
    "unit, expect, words",
    [
        ({"state": "disabled", "links": []}, {"masked": False, "unit_file_state": "disabled"}, None),
        ({"state": "enabled"}, {"masked": False, "unit_file_state": "disabled"}, None),  # as it is wanted
        (
            {"state": "disabled", "links": []},
            {"unit_file_state": "enabled"},
            "UnitFileState=disabled now, the diagnosis saw it UnitFileState=enabled",
        ),
        (MASKED, {"masked": True}, None),
        (MASKED, {"masked": False, "unit_file_state": "enabled"}, "masked now, the diagnosis saw it not masked"),
        ({}, {"masked": True}, None),
        ({"restart": "no"}, {"restart": "on-failure"}, "Restart=no now, the diagnosis saw it Restart=on-failure"),
        ({"restart": "on-failure"}, {"restart": "on-failure"}, None),
        ({"restart": "always"}, {"restart": "on-failure"}, None),
        (MASKED, {"restart": "on-failure"}, None),
        ({}, {}, None),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_unit_that_changed_since_it_was_looked_at_is_left(guest, check_mode, unit, expect, words):
    guest.unit.update(unit)
    done = guest.run(check_mode=check_mode, unmasked=True, enabled=True, restart_policy=True, expect=expect)
    if words:
        assert done["failed"] and done["msg"] == "{0} is {1}. Nothing was changed; diagnose the guest again.".format(UNIT, words)
        assert guest.calls == []
    else:
        assert "failed" not in done, done


def test_a_unit_that_is_masked_during_the_wait_for_the_lock_is_left(guest, monkeypatch):
    guest.unit.update(state="disabled", links=[])
    plain = guest.command
    looks = []

    def command(arguments):
        looks.append(arguments)
        if len(looks) == 2:
            guest.unit.update(MASKED)
        return plain(arguments)

    guest.command = command
    done = guest.run(unmasked=True, enabled=True, expect={"masked": False})
    assert done["failed"] and "masked now, the diagnosis saw it not masked" in done["msg"]
    assert "enable " + UNIT not in guest.calls and "unmask " + UNIT not in guest.calls
