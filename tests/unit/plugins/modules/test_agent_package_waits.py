# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What agent_package leaves alone: while a snapshot runs, under another's lock, what was held, interrupted installations."""

import json
import os
import time

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import extension, package_zypper, packages
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest as RealGuest
from ansible_collections.vmbackup.azure.plugins.module_utils._values import iso
from ansible_collections.vmbackup.azure.plugins.modules import agent_package
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run
from package_guest import BUSY, CHANGE, SNAPSHOT, TRACES, Disk, Guest, changing


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
