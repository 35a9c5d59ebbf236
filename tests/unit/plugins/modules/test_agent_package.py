# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import json
import os
import time
import types

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, extension, package_zypper, packages
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.change import snapshot_runs
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest as RealGuest
from ansible_collections.vmbackup.azure.plugins.module_utils._values import iso
from ansible_collections.vmbackup.azure.plugins.modules import agent_package
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run

SNAPSHOT = "/var/lib/waagent/" + extension.SNAPSHOT + "-1.0.9200.0"


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
            "problem": None,
            "state": version and "installed",
            "older_versions": [],
            "unfinished_others": [],
        }
        self.answers = {}
        self.snapshots = []  # what each look for a snapshot finds; none any more when it is empty
        facts = {"distribution": {"family": "debian", "pretty_name": "Debian"}, "image_based": image_based}
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(agent_package.system, "collect", lambda host: facts)
        monkeypatch.setattr(agent_package, "look", lambda *arguments, **options: dict(self.found))
        monkeypatch.setattr(agent_package.frame, "snapshot_runs", lambda module: self.snapshots.pop(0) if self.snapshots else False)
        monkeypatch.setattr(agent_package.Apt, "lists_age", lambda manager, now: 10**6)
        monkeypatch.setattr(agent_package.time, "sleep", lambda seconds: None)

    def command(self, arguments):
        line = " ".join(arguments[4:] if arguments[0] == "timeout" else arguments)
        self.calls.append(line)
        for words, answer in self.answers.items():
            if words in line and answer != []:
                return answer.pop(0) if isinstance(answer, list) else answer
        if " install waagent" in line and " -s " not in line:
            self.found["version"] = self.found["candidate"]
        if " remove waagent" in line and " -s " not in line:
            self.found["version"] = None
        return 0, "", ""

    def run(self, check_mode=False, **params):
        return run(self.monkeypatch, agent_package, params, check_mode, self.command)


def manager_of(name):
    return agent_package.MANAGERS[name](types.SimpleNamespace(params={"lock_timeout_s": 0, "command_timeout_s": 0}), None)


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


BUSY = (100, "", "dpkg: error: dpkg frontend lock was locked by another process with pid 123\nNote: removing the lock file is always wrong")
CHANGE = "apt-get -q -y"  # the simulation says apt-get -s
TRACES = ("changed", "deferred", "before", "after")


@pytest.mark.parametrize("manager", ["apt", "dnf", "yum", "tdnf", "zypper"])
@pytest.mark.parametrize(
    "state, version",
    [("present", None), ("latest", "1.0-1"), ("version", "3.0-1"), ("absent", "1.0-1")],
)
def test_nothing_is_changed_while_a_snapshot_runs(monkeypatch, manager, state, version):
    guest = Guest(monkeypatch, manager, version=version)
    guest.snapshots = [True]
    done = guest.run(state=state, version="1.0-1" if state == "version" else None)
    assert [done[key] for key in TRACES] == [False, True, version, version]
    assert [call for call in guest.calls if " -s " not in call and not call.endswith(("update", "makecache", "fast", "refresh"))] == []


def test_a_change_is_not_called_deferred(monkeypatch):
    guest = Guest(monkeypatch)
    assert guest.run(check_mode=True)["deferred"] is False
    assert guest.run()["deferred"] is False


def test_a_snapshot_that_began_during_the_wait_for_the_lock_counts(monkeypatch):
    guest = Guest(monkeypatch)
    guest.snapshots = [False, False, True]
    guest.answers[CHANGE] = [BUSY]
    done = guest.run()
    assert (done["changed"], done["deferred"]) == (False, True) and len(changing(guest.calls)) == 1


def test_dpkgs_own_lock_is_waited_for(monkeypatch):
    guest = Guest(monkeypatch)
    guest.answers[CHANGE] = [BUSY, BUSY]
    assert guest.run()["changed"] and len(changing(guest.calls)) == 3


def test_a_hold_is_not_touched_while_a_snapshot_runs(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1", held=True)
    guest.snapshots = [True]
    assert guest.run(state="latest", unhold=True)["deferred"] and "apt-mark hold waagent" not in guest.calls


def test_a_lost_hold_is_told(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1", held=True)
    guest.answers["apt-mark"] = (100, "", "E: Executing dpkg failed.")
    result = guest.run(state="latest", unhold=True)
    assert result["failed"] and guest.found["version"] == "2.0-1"
    assert "waagent was updated, but" in result["msg"] and "E: Executing dpkg failed" in result["msg"]
    assert result["msg"].endswith("apt-mark hold waagent.")


def test_a_lost_hold_does_not_hide_the_failure_before(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1", held=True)
    guest.answers[CHANGE] = (100, "", "E: broken")
    guest.answers["apt-mark"] = BUSY
    result = guest.run(state="latest", unhold=True, lock_timeout_s=0)
    assert "E: broken" in result["msg"] and result["msg"].endswith("apt-mark hold waagent.")


def test_a_hold_goes_with_the_package_that_is_removed(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1", held=True)
    assert guest.run(state="absent", unhold=True)["changed"] and "apt-mark hold waagent" not in guest.calls
    guest = Guest(monkeypatch, version="1.0-1", held=True)
    guest.answers["remove waagent"] = (100, "", "E: broken")
    assert guest.run(state="absent", unhold=True)["failed"] and guest.calls[-1] == "apt-mark hold waagent"


def zypper_locks(monkeypatch, tmp_path):
    """Return the file of locks, which zypper empties when a lock is removed."""
    path = tmp_path / "locks"
    path.write_text("solvable_name: waagent\n")
    path.chmod(0o640)
    monkeypatch.setattr(package_zypper, "LOCKS", str(path))
    guest = Guest(monkeypatch, "zypper", version="1.0-1", held=True)
    plain = guest.command

    def command(arguments):
        if "removelock" in arguments:
            path.unlink()
            path.write_text("")
        if "update" in arguments:
            assert path.read_text() == ""
            guest.found["version"] = "2.0-1"
        return plain(arguments)

    guest.command = command
    return guest, path


def test_locks_of_zypper_come_back(monkeypatch, tmp_path):
    guest, path = zypper_locks(monkeypatch, tmp_path)
    assert guest.run(state="latest", unhold=True)["changed"]
    assert path.read_text() == "solvable_name: waagent\n" and path.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(str(tmp_path)) == ["locks"]


def test_locks_of_zypper_come_back_when_a_snapshot_begins(monkeypatch, tmp_path):
    guest, path = zypper_locks(monkeypatch, tmp_path)
    guest.snapshots = [False, False, False, True]
    assert guest.run(state="latest", unhold=True)["deferred"] and path.read_text() == "solvable_name: waagent\n"


def test_locks_of_zypper_that_are_lost_are_told(monkeypatch, tmp_path):
    guest, path = zypper_locks(monkeypatch, tmp_path)

    def rename(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agent_package.os, "rename", rename)
    result = guest.run(state="latest", unhold=True)
    assert "waagent was updated, but" in result["msg"] and "No space left" in result["msg"]
    assert result["msg"].endswith("zypper addlock waagent.") and os.listdir(str(tmp_path)) == ["locks"]


class Disk(object):
    """A guest of files below a directory, with a package manager that is asked for real."""

    def __init__(self, monkeypatch, root, manager="dnf", version=None, candidate="2.7.3.0-1.el9"):
        self.monkeypatch, self.root = monkeypatch, str(root)
        self.version, self.offered, self.calls = version, candidate, []
        self.lists, self.fetched, self.rpm = True, True, None
        self.write("/usr/bin/" + manager, "")
        os.chmod(self.root + "/usr/bin/" + manager, 0o755)
        self.write("/etc/os-release", "ID={0}\n".format("azurelinux" if manager == "tdnf" else "rhel"))
        self.write("/proc/stat", "btime 1\n")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        for module in (agent_package, change):
            monkeypatch.setattr(module, "Guest", lambda run_command: RealGuest(self.root, run_command=run_command))
        monkeypatch.setattr(change, "snapshot_runs", snapshot_runs)
        monkeypatch.setattr(agent_package.time, "sleep", lambda seconds: None)

    def write(self, path, text):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as stream:
            stream.write(text)

    def command(self, arguments):
        line = " ".join(arguments[4:] if arguments[0] == "timeout" else arguments)
        self.calls.append(line)
        if arguments[0] == "rpm":
            if self.rpm:
                return self.rpm
            return (0, "WALinuxAgent\t{0}\n".format(self.version), "") if self.version else (1, "package is not installed\n", "")
        if "makecache" in line:
            self.lists = self.lists or self.fetched
            return (0, "", "") if self.fetched else (1, "", "Error: Failed to download metadata")
        if "repoquery" in line:
            if not self.lists:
                return 1, "", "Error: Cache-only enabled but no cache for 'baseos'"
            hidden = os.path.exists(self.root + "/etc/dnf/dnf.conf") and "disable_excludes" not in line
            return 0, "" if hidden or not self.offered else self.offered + "\n", ""
        if "list available" in line:
            return (0, "WALinuxAgent.noarch 2.7.3.0-1 base\n", "") if self.offered else (243, "", "Error(1011) : No matching packages")
        if " install WALinuxAgent" in line or " upgrade WALinuxAgent" in line:
            self.version = self.offered
        if " downgrade WALinuxAgent-" in line:
            self.version = line.rpartition("WALinuxAgent-")[2]
        if " remove WALinuxAgent" in line:
            self.version = None
        return 0, "", ""

    def run(self, check_mode=False, **params):
        return run(self.monkeypatch, agent_package, params, check_mode, self.command)


@pytest.mark.parametrize("state, version", [("present", None), ("latest", "2.2.46-1.el9")])
def test_lists_that_are_missing_are_fetched(monkeypatch, tmp_path, state, version):
    guest = Disk(monkeypatch, tmp_path, version=version)
    guest.lists = False
    done = guest.run(state=state)
    assert (done["changed"], done["refreshed"], done["after"]) == (True, True, "2.7.3.0-1.el9")


def test_lists_that_cannot_be_had_are_told(monkeypatch, tmp_path):
    guest = Disk(monkeypatch, tmp_path, version="2.2.46-1.el9")
    guest.lists = guest.fetched = False
    for state in ("latest", "present"):
        result = guest.run(state=state)
        if state == "latest":
            assert "no cache for 'baseos'" in result["msg"] and "Nothing was changed" in result["msg"]
        else:
            assert result["changed"] is False  # it is installed, so no list is needed
    guest.version = None
    assert "no cache for 'baseos'" in guest.run()["msg"]
    assert guest.run(check_mode=True, refresh=False)["failed"]


@pytest.mark.parametrize("state, wanted, after", [("absent", None, None), ("version", "2.2.46-1.el9", "2.2.46-1.el9")])
def test_undo_asks_for_no_candidate(monkeypatch, tmp_path, state, wanted, after):
    guest = Disk(monkeypatch, tmp_path, version="2.7.3.0-1.el9")
    guest.lists = guest.fetched = False
    done = guest.run(state=state, version=wanted, name="WALinuxAgent")
    assert (done["changed"], done["after"]) == (True, after) and not [call for call in guest.calls if "repoquery" in call]


@pytest.mark.parametrize("state, version, changed", [("present", None, True), ("latest", "2.2.46-1.el9", False)])
def test_check_mode_says_that_the_lists_are_missing(monkeypatch, tmp_path, state, version, changed):
    guest = Disk(monkeypatch, tmp_path, version=version)
    guest.lists = False
    would = guest.run(check_mode=True, state=state)
    assert would["changed"] is changed and would["before"] == version
    (warning,) = would["warnings"]
    assert "missing" in warning and "A real run fetches" in warning


def test_what_is_installed_has_to_be_known(monkeypatch, tmp_path):
    guest = Disk(monkeypatch, tmp_path)
    guest.rpm = (255, "", "error: cannot open Packages database")
    for check_mode in (False, True):
        for state in ("present", "latest", "absent"):
            result = guest.run(check_mode, state=state)
            assert "cannot open Packages database" in result["msg"] and "Nothing was changed" in result["msg"]
    assert {call.split()[0] for call in guest.calls} == {"rpm"}


def test_what_cannot_be_asked_after_a_change_is_not_called_unchanged(monkeypatch, tmp_path):
    guest = Disk(monkeypatch, tmp_path)
    plain = guest.command

    def command(arguments):
        answer = plain(arguments)
        if "install" in arguments:
            guest.rpm = (255, "", "error: database is locked")
        return answer

    guest.command = command
    result = guest.run()
    assert "database is locked" in result["msg"] and "WALinuxAgent was installed" in result["msg"] and "Nothing" not in result["msg"]


def test_tdnf_that_finds_nothing_has_answered(monkeypatch, tmp_path):
    guest = Disk(monkeypatch, tmp_path, "tdnf", candidate=None)
    assert "No enabled repository offers" in guest.run()["msg"]


def test_consent_reaches_what_is_excluded(monkeypatch, tmp_path):
    guest = Disk(monkeypatch, tmp_path, version="2.2.46-1.el9")
    guest.write("/etc/dnf/dnf.conf", "[main]\nexclude=WALinuxAgent*\n")
    refused = guest.run(state="latest")
    assert refused["failed"] and "is held at 2.2.46-1.el9" in refused["msg"]
    done = guest.run(state="latest", unhold=True)
    assert done["changed"] and done["held"] and done["after"] == "2.7.3.0-1.el9"


def test_snapshot_runs_by_its_status(monkeypatch, tmp_path):
    guest = Disk(monkeypatch, tmp_path, version="2.2.46-1.el9")
    guest.write(SNAPSHOT + "/config/HandlerState", "Enabled")
    status = {"status": {"status": "transitioning", "code": extension.RUNNING}, "timestampUTC": iso(time.time())}
    guest.write(SNAPSHOT + "/status/7.status", json.dumps([status]))
    done = guest.run(state="latest")
    assert done["deferred"] and guest.version == "2.2.46-1.el9"
    status["status"]["code"] = 1
    guest.write(SNAPSHOT + "/status/7.status", json.dumps([status]))
    assert guest.run(state="latest")["changed"]


def test_snapshot_runs_by_its_processes_and_in_another_lib_dir(monkeypatch, tmp_path):
    guest = Disk(monkeypatch, tmp_path, version="2.2.46-1.el9")
    guest.write("/etc/waagent.conf", "Lib.Dir=/srv/agent\n")
    place = SNAPSHOT.replace("/var/lib/waagent", "/srv/agent")
    guest.write(place + "/config/HandlerState", "Enabled")
    guest.write("/proc/42/cmdline", "\0".join(["python3", place + "/main/handle.py", "-daemon"]))
    guest.write("/proc/42/stat", "42 (python3) S 1 " + "0 " * 40)
    assert guest.run(state="absent")["deferred"]
    os.remove(guest.root + "/proc/42/cmdline")
    status = {"status": {"status": "transitioning", "code": extension.RUNNING}, "timestampUTC": iso(time.time())}
    guest.write(place + "/status/1.status", json.dumps([status]))
    assert guest.run(state="absent")["deferred"] and guest.version


INTERRUPTED = ("half-configured", "unpacked", "half-installed")


@pytest.mark.parametrize("state", INTERRUPTED)
def test_an_interrupted_installation_is_finished_first(monkeypatch, state):
    guest = Guest(monkeypatch, version="1.0-1")
    guest.found.update(state=state)
    unfinished = [state == "half-installed"]
    monkeypatch.setattr(agent_package.packages, "unfinished", lambda host, name: unfinished[0])

    def configure(arguments):
        line = " ".join(arguments[4:])
        if line.startswith("dpkg") or " install waagent" in line and " -s " not in line:
            guest.found["state"] = "installed"
        return Guest.command(guest, arguments)

    done = run(monkeypatch, agent_package, {}, False, configure)
    assert done["changed"] and done["finished"] and not done.get("failed"), done
    assert [call.split()[0] for call in changing(guest.calls)] == ["dpkg"] + ["apt-get"] * unfinished[0]
    assert "--force-confold" in guest.calls[0]
    again = guest.run()
    assert not again["changed"] and not again["finished"]


def test_an_interrupted_installation_is_only_told_in_check_mode(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1")
    guest.found.update(state="half-configured")
    would = guest.run(check_mode=True)
    assert would["changed"] and would["finished"] and guest.calls == []


def test_other_interrupted_packages_are_left_to_a_person(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1")
    guest.found.update(state="unpacked", unfinished_others=["mariadb-server"])
    result = guest.run()
    assert result["failed"] and "mariadb-server" in result["msg"] and guest.calls == []


@pytest.mark.parametrize("version, state", [(None, "present"), ("1.0-1", "latest"), ("1.0-1", "absent")])
def test_nothing_is_changed_while_other_packages_are_unfinished(monkeypatch, version, state):
    """apt-get configures them with whatever it is asked for."""
    guest = Guest(monkeypatch, version=version)
    guest.found["unfinished_others"] = ["mariadb-server"]
    result = guest.run(state=state)
    assert result["failed"] and "mariadb-server" in result["msg"] and changing(guest.calls) == []


def test_a_package_that_stays_unfinished_is_no_success(monkeypatch):
    guest = Guest(monkeypatch, version="1.0-1")
    guest.found.update(state="half-configured")
    monkeypatch.setattr(agent_package.packages, "unfinished", lambda host, name: False)
    result = guest.run()
    assert result["failed"] and "waagent is half-configured 1.0-1" in result["msg"]


def test_of_two_versions_in_rpms_database_the_older_goes(monkeypatch):
    guest = Guest(monkeypatch, "dnf", version="2.0-1")
    guest.found.update(state="duplicate", older_versions=["1.0-1"])

    def erase(arguments):
        if arguments[4:6] == ["rpm", "-e"]:
            guest.found.update(state="installed", older_versions=[])
        return Guest.command(guest, arguments)

    done = run(monkeypatch, agent_package, {}, False, erase)
    assert done["changed"] and changing(guest.calls) == ["rpm -e waagent-1.0-1"]


def test_a_command_that_does_not_end_is_ended(monkeypatch):
    guest = Guest(monkeypatch)
    guest.answers[CHANGE] = (124, "Setting up waagent ...", "")
    result = guest.run(command_timeout_s=7)
    assert result["failed"] and "did not end within 7 s" in result["msg"] and "Setting up waagent" in result["msg"]


DPKG = "Package: {0}\nEssential: yes\nStatus: install {2} {1}\nVersion: 1\n\n"


@pytest.mark.parametrize(
    "rows, journal, expected",
    [
        ([("a", "installed", "ok")], [], []),
        ([("a", "half-configured", "ok"), ("b", "installed", "ok")], [], ["a"]),
        ([("a", "installed", "reinstreq")], [], ["a"]),
        ([("a", "triggers-pending", "ok"), ("b", "config-files", "ok"), ("c", "not-installed", "ok")], [], []),
        ([("a", "installed", "ok")], [("a", "half-installed", "ok")], ["a"]),
        ([("a", "unpacked", "ok")], [("a", "unpacked", "ok"), ("a", "installed", "ok")], []),
    ],
)
def test_parse_dpkg_unfinished(rows, journal, expected):
    texts = ["".join(DPKG.format(*row) for row in rows)] + [DPKG.format(*row) for row in journal]
    assert packages.parse_dpkg_unfinished(texts) == expected


def test_the_journal_of_dpkg_goes_before_its_status(tmp_path):
    for path, row in (("status", ("waagent", "installed", "ok")), ("updates/0001", ("waagent", "half-configured", "ok"))):
        (tmp_path / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
        (tmp_path / "var/lib/dpkg/updates").mkdir(exist_ok=True)
        (tmp_path / "var/lib/dpkg" / path).write_text(DPKG.format(*row))
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/apt-get").write_text("")
    (tmp_path / "usr/bin/apt-get").chmod(0o755)
    found = packages.collect(RealGuest(str(tmp_path)), "debian", lambda version: False, 1)
    assert (found["version"], found["state"], found["unfinished_others"]) == ("1", "half-configured", [])


def test_two_versions_in_rpms_database_are_a_duplicate():
    host = RealGuest(run_command=lambda *arguments, **options: (0, "WALinuxAgent\t2.7.3.0-1\nWALinuxAgent\t2.2.46-1\n", ""))
    found = packages._rpm(host, ("WALinuxAgent",), 1)
    assert (found["version"], found["state"], found["older_versions"]) == ("2.7.3.0-1", "duplicate", ["2.2.46-1"])


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
