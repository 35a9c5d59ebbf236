# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import os

import pytest
from ansible_collections.vmbackup.azure.plugins.modules import agent_package
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run


class Guest(object):
    """A guest whose package manager is a dictionary."""

    def __init__(self, monkeypatch, manager="apt", version=None, candidate="2.0-1", held=False, image_based=False):
        self.monkeypatch, self.calls = monkeypatch, []
        self.found = {
            "manager": manager,
            "name": "waagent",
            "version": version,
            "candidate": candidate,
            "held": held,
            "repositories_disabled": [],
            "installed": version is not None,
        }
        self.answers = {}
        facts = {"distribution": {"family": "debian", "pretty_name": "Debian"}, "image_based": image_based}
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(agent_package.system, "collect", lambda host: facts)
        monkeypatch.setattr(agent_package, "look", lambda host, family, name: dict(self.found))
        monkeypatch.setattr(agent_package, "lists_age", lambda now: 10**6)
        monkeypatch.setattr(agent_package.time, "sleep", lambda seconds: None)

    def command(self, arguments):
        line = " ".join(arguments)
        self.calls.append(line)
        for words, answer in self.answers.items():
            if words in line:
                return answer.pop(0) if isinstance(answer, list) else answer
        if " install waagent" in line and " -s " not in line:
            self.found["version"] = self.found["candidate"]
        if " remove waagent" in line and " -s " not in line:
            self.found["version"] = None
        return 0, "", ""

    def run(self, check_mode=False, **params):
        return run(self.monkeypatch, agent_package, params, check_mode, self.command)


def changing(calls):
    return [call for call in calls if " -s " not in call and " update" not in call.replace("--only-upgrade", "")]


def test_install_and_again(monkeypatch):
    guest = Guest(monkeypatch)
    done = guest.run()
    assert (done["changed"], done["before"], done["after"], done["refreshed"]) == (True, None, "2.0-1", True)
    assert len(changing(guest.calls)) == 1
    assert "--force-confold" in guest.calls[-1] and guest.calls[-1].endswith("install waagent=2.0-1")
    guest.calls[:] = []
    assert not guest.run()["changed"] and guest.calls == []


def test_check_mode_runs_nothing(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1")
    would = guest.run(check_mode=True, state="latest")
    assert would["changed"] and would["after"] == "2.0-1" and guest.calls == []
    assert would["diff"] == {"before": "waagent 1.0-1\n", "after": "waagent 2.0-1\n"}


def test_update_names_only_this_package(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1")
    assert guest.run(state="latest")["changed"]
    assert "--only-upgrade" in guest.calls[-1] and "--allow-downgrades" not in guest.calls[-1]


def test_never_downgrades(monkeypatch):
    guest = Guest(monkeypatch, version="3.0-1")
    done = guest.run(state="latest")
    assert not done["changed"] and changing(guest.calls) == []


def test_held_needs_consent_and_is_held_again(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1", held=True)
    refused = guest.run(state="latest")
    assert refused["failed"] and "held" in refused["msg"] and changing(guest.calls) == []
    guest.calls[:] = []
    assert guest.run(state="latest", unhold=True)["changed"]
    assert guest.calls[-1] == "apt-mark hold waagent" and "--allow-change-held-packages" in guest.calls[-2]


def test_hold_comes_back_after_a_failure(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1", held=True)
    guest.answers["-y -o Dpkg::Options::=--force-confdef"] = (100, "", "E: broken")
    assert guest.run(state="latest", unhold=True)["failed"]
    assert guest.calls[-1] == "apt-mark hold waagent"


def test_others_would_be_removed(monkeypatch):
    guest = Guest(monkeypatch)
    guest.answers[" -s "] = (0, "Remv network-manager [1.0]\nInst waagent (2.0-1)", "")
    result = guest.run()
    assert result["failed"] and "would remove network-manager" in result["msg"] and changing(guest.calls) == []


def test_lock_is_waited_for(monkeypatch):
    guest = Guest(monkeypatch)
    busy = (100, "", "E: Could not get lock /var/lib/dpkg/lock-frontend")
    guest.answers["apt-get -q update"] = [busy, busy, (0, "", "")]
    assert guest.run()["changed"]
    guest = Guest(monkeypatch)
    guest.answers["apt-get"] = busy
    result = guest.run(lock_timeout_s=0)
    assert result["failed"] and "held the lock" in result["msg"]


def test_nothing_offered(monkeypatch):
    guest = Guest(monkeypatch, candidate=None)
    result = guest.run()
    assert result["failed"] and "No enabled repository offers" in result["msg"]
    guest.found["repositories_disabled"] = ["ol8_addons"]
    assert "ol8_addons" in guest.run()["msg"]
    would = guest.run(check_mode=True)
    assert would["changed"] and would["warnings"]


def test_update_of_what_is_missing(monkeypatch):
    assert "Install it first" in Guest(monkeypatch).run(state="latest")["msg"]


def test_image_and_unknown(monkeypatch):
    assert "image" in Guest(monkeypatch, image_based=True).run()["msg"]
    assert "No package manager" in Guest(monkeypatch, manager=None).run()["msg"]


def test_not_root(monkeypatch):
    guest = Guest(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "become" in guest.run()["msg"] and guest.calls == []


def test_failure_says_what_came_back(monkeypatch):
    guest = Guest(monkeypatch)
    guest.answers["-y -o Dpkg::Options::=--force-confdef"] = (100, "", "line\nE: sub-process failed\nhttps://x/?sig=abc")
    result = guest.run()
    assert result["failed"] and "E: sub-process failed" in result["msg"] and "abc" not in result["msg"]


def test_success_without_effect(monkeypatch):
    guest = Guest(monkeypatch)
    guest.answers["install waagent"] = (0, "", "")
    assert "reported success" in guest.run()["msg"]


def test_undo_to_absent(monkeypatch):
    guest = Guest(monkeypatch, version="2.0-1")
    done = guest.run(state="absent")
    assert done["changed"] and done["after"] is None and guest.calls[-1].endswith("remove waagent")
    assert not guest.run(state="absent")["changed"]


@pytest.mark.parametrize(
    "manager, action, version, unhold, command",
    [
        ("dnf", "install", "2", False, "dnf -y --setopt=exit_on_lock=True install WALinuxAgent"),
        ("dnf", "upgrade", "2", False, "dnf -y --setopt=exit_on_lock=True upgrade WALinuxAgent"),
        (
            "dnf",
            "upgrade",
            "2",
            True,
            "dnf -y --setopt=exit_on_lock=True --disableexcludes=all --disableplugin=versionlock upgrade WALinuxAgent",
        ),
        ("yum", "upgrade", "2", False, "yum -y --setopt=exit_on_lock=True update WALinuxAgent"),
        ("tdnf", "upgrade", "2", False, "tdnf -y update WALinuxAgent"),
        ("tdnf", "version", "1-1", False, "tdnf -y downgrade WALinuxAgent-1-1"),
        ("zypper", "install", "2", False, "zypper --non-interactive install WALinuxAgent"),
        ("zypper", "upgrade", "2", False, "zypper --non-interactive update WALinuxAgent"),
        ("zypper", "version", "1-1", False, "zypper --non-interactive install --oldpackage WALinuxAgent=1-1"),
        ("zypper", "remove", None, False, "zypper --non-interactive remove WALinuxAgent"),
    ],
)
def test_change_command(manager, action, version, unhold, command):
    assert " ".join(agent_package.change_command(manager, action, "WALinuxAgent", version, unhold)) == command


@pytest.mark.parametrize(
    "state, present, candidate, wanted, expected",
    [
        ("present", None, "2", None, ("install", "2")),
        ("present", "1", "2", None, (None, "1")),
        ("latest", "1", "2", None, ("upgrade", "2")),
        ("latest", "1.10", "1.9", None, (None, "1.10")),
        ("latest", "1", None, None, (None, "1")),
        ("latest", None, "2", None, (None, None)),
        ("version", "2", None, "1", ("version", "1")),
        ("version", "1", None, "2", ("install_version", "2")),
        ("version", None, None, "2", ("install_version", "2")),
        ("version", "1", None, "1", (None, "1")),
        ("absent", "1", None, None, ("remove", None)),
        ("absent", None, None, None, (None, None)),
    ],
)
def test_decide(state, present, candidate, wanted, expected):
    assert agent_package.decide(state, {"version": present, "candidate": candidate}, wanted) == expected
