# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What agent_package decides and does, by package manager."""

import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest as RealGuest
from ansible_collections.vmbackup.azure.plugins.modules import agent_package
from package_guest import Guest, changing, manager_of


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


@pytest.mark.parametrize("manager", ["dnf", "zypper"])
def test_what_others_need_is_not_removed(monkeypatch, manager):
    """dnf and zypper would remove those that need it with it, and ask nobody."""
    guest = Guest(monkeypatch, manager, version="2.0-1")
    monkeypatch.setattr(agent_package.packages, "configuration_package", lambda host, timeout_s: None)
    guest.answers["rpm -e --test waagent"] = (1, "", "error: Failed dependencies:\n\twaagent is needed by (installed) tool-1.0-1.noarch")
    result = guest.run(state="absent")
    assert result["failed"] and "is needed by (installed) tool" in result["msg"]
    assert not any(" remove waagent" in call for call in guest.calls)
    guest.answers.clear()
    assert guest.run(state="absent")["changed"]


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
            "dnf -y --setopt=exit_on_lock=True --setopt=disable_excludes=all,* --disableplugin=versionlock upgrade WALinuxAgent",
        ),
        (
            "yum",
            "upgrade",
            "2",
            True,
            "yum -y --setopt=exit_on_lock=True --disableexcludes=all --disableplugin=versionlock update WALinuxAgent",
        ),
        ("yum", "upgrade", "2", False, "yum -y --setopt=exit_on_lock=True update WALinuxAgent"),
        ("tdnf", "upgrade", "2", False, "tdnf -y update WALinuxAgent"),
        ("tdnf", "version", "1-1", False, "tdnf -y downgrade WALinuxAgent-1-1"),
        ("zypper", "install", "2", False, "zypper --non-interactive install WALinuxAgent"),
        ("zypper", "upgrade", "2", False, "zypper --non-interactive update WALinuxAgent"),
        ("zypper", "version", "1-1", False, "zypper --non-interactive install --oldpackage WALinuxAgent=1-1"),
        ("zypper", "remove", None, False, "zypper --non-interactive remove WALinuxAgent"),
        ("dnf", "remove", None, False, "dnf -y --setopt=exit_on_lock=True --setopt=clean_requirements_on_remove=False remove WALinuxAgent"),
    ],
)
def test_change_command(manager, action, version, unhold, command):
    assert " ".join(manager_of(manager).command(action, "WALinuxAgent", version, unhold)) == command


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


class Suse(object):
    def __init__(self, configuration=None, offered=True):
        self.configuration, self.offered, self.errors = configuration, offered, []

    def run(self, _area, command, _timeout_s, accept=(0,)):
        if command[0] == "rpm":
            return "{0}\t{1}\n".format(*self.configuration) if self.configuration else "no package provides waagent-config\n"
        assert command[-1] == "python-azure-agent-config-server"
        row = "  | {0} | package | 2.7-1 | noarch | agent\n".format(command[-1])
        return row if self.offered else None


@pytest.mark.parametrize(
    "host, action, conf, expected",
    [
        (Suse(), "install", False, "python-azure-agent-config-server"),
        (Suse(), "install", True, None),  # the package would replace what somebody put there
        (Suse(offered=False), "install", False, None),
        (Suse(("python-azure-agent-config-hpc", "2.7-1")), "install", True, None),
        (Suse(("python-azure-agent-config-hpc", "2.7-1")), "version", True, "python-azure-agent-config-hpc"),
        (Suse(("python-azure-agent-config-hpc", "2.7-1")), "remove", True, "python-azure-agent-config-hpc"),
        (Suse(), None, False, None),
    ],
)
def test_the_configuration_of_suse_goes_with_the_agent(monkeypatch, host, action, conf, expected):
    monkeypatch.setattr(os.path, "lexists", lambda path: conf)
    found = {"manager": "zypper", "name": "python3-azure-agent"}
    assert manager_of("zypper").companion_of(host, found, action) == expected
    assert manager_of("dnf").companion_of(host, dict(found, manager="dnf"), action) is None
    assert expected is None or manager_of("zypper").companion_of(host, dict(found, name=expected), "version") is None


def test_a_package_that_goes_with_the_agent_is_asked_for_by_its_name(monkeypatch):
    versions = {"python3-azure-agent": "2.7-1", "python-azure-agent-config-server": "2.2-1"}

    class Zypper(RealGuest):
        def which(self, name):
            return name == "zypper"

        def run(self, _area, command, _timeout_s, accept=(0,)):
            rows = ["{0}\t{1}\n".format(name, versions[name]) for name in command[4:] if name in versions]
            return "".join(rows)

    def look(name):
        found = agent_package.look(Zypper(), "suse", name)
        return found["version"], found["state"]

    assert look("python-azure-agent-config-server") == ("2.2-1", "installed")
    assert look(None) == ("2.7-1", "installed")
    assert look("python-azure-agent-config-hpc") == (None, None)


@pytest.mark.parametrize(
    "version, held, expect, unhold, words",
    [
        ("1.0-1", False, {"version": "1.0-1", "held": False}, False, None),
        ("1.0-1", None, {"version": "1.0-1", "held": False}, False, None),
        ("1.1-1", False, {"version": "1.0-1"}, False, "waagent is 1.1-1 now, the diagnosis saw it at 1.0-1."),
        ("2.0-1", False, {"version": "1.0-1", "held": False}, False, None),  # as it is wanted
        ("1.0-1", True, {"version": "1.0-1", "held": False}, True, "waagent is held now, the diagnosis saw it not held."),
        ("1.0-1", False, {"version": "1.0-1", "held": True}, True, None),  # what was to be lifted is gone
        ("1.0-1", False, {"version": "1.0-1", "held": True}, False, "waagent is not held now, the diagnosis saw it held."),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_package_that_changed_since_it_was_looked_at_is_left(monkeypatch, check_mode, version, held, expect, unhold, words):
    guest = Guest(monkeypatch, version=version, held=held)
    done = guest.run(check_mode=check_mode, state="latest", expect=expect, unhold=unhold)
    if words:
        assert done["failed"] and done["msg"] == words + " Nothing was changed; diagnose the guest again." and changing(guest.calls) == []
    else:
        assert "failed" not in done and done["changed"] == (version == "1.0-1"), done


def test_what_changes_during_the_wait_for_the_lock_is_seen(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1")
    looks = []

    def look(*_arguments, **_options):
        looks.append(1)
        return dict(guest.found, version="1.0-1" if len(looks) < 3 else "1.5-1")

    monkeypatch.setattr(agent_package, "look", look)
    done = guest.run(state="latest", expect={"version": "1.0-1"})
    assert done["failed"] and "waagent is 1.5-1 now" in done["msg"] and changing(guest.calls) == []


def test_what_another_run_did_during_the_wait_for_the_lock_is_not_done_again(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1")
    looks = []

    def look(*_arguments, **_options):
        looks.append(1)
        return dict(guest.found, version="1.0-1" if len(looks) < 3 else "2.0-1")

    monkeypatch.setattr(agent_package, "look", look)
    done = guest.run(state="latest", expect={"version": "1.0-1"})
    assert "failed" not in done and not done["changed"] and changing(guest.calls) == []


def test_an_interrupted_installation_of_another_version_is_left(monkeypatch):
    guest = Guest(monkeypatch, version="1.5-1")
    guest.found["state"] = "half-configured"
    done = guest.run(expect={"version": "1.0-1"})
    assert done["failed"] and "waagent is 1.5-1 now" in done["msg"] and changing(guest.calls) == []
