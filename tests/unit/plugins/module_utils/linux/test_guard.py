# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guard of a change: its program is really run, systemd is a list of what was asked of it."""

import json
import os
import subprocess
import sys
import time
import types

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, guard, guard_program, persist, undo

REMEDY = "connectivity.route"


class Guest(object):
    """A guest below a directory: a store, a file that a change writes, a systemd that starts what it is told."""

    def __init__(self, monkeypatch, root):
        self.root, self.calls, self.code = root, [], 0
        os.chmod(str(root), 0o700)
        self.store = str(root / "base" / "undo")
        monkeypatch.setattr(undo, "TRUSTED_UID", os.getuid())
        monkeypatch.setattr(guard, "UNITS", str(root / "units"))
        os.mkdir(guard.UNITS)
        self.file = root / "etc.conf"
        self.file.write_text("before\n")
        captured = undo.capture([str(self.file), str(root / "new.conf")], [], [], [], self.runner)
        self.point = undo.plan_point(self.store, REMEDY, captured, [], 1700000000)[0]
        undo.write_point(self.store, self.point)
        self.trace = root / "ran"

    def runner(self, arguments, data=None):
        self.calls.append(arguments)
        return self.code if arguments[0] == "systemd-run" else 0, "", "Failed to connect to bus" if self.code else ""

    def arm(self):
        steps = [{"argv": ["sh", "-c", 'cat >"$0"', str(self.trace)], "input": "route replace x\n"}]
        guard.arm(self.point, steps, 120, self.store, self.runner)
        self.file.write_text("after\n")
        (self.root / "new.conf").write_text("new\n")
        guard.note_written(self.point["id"], self.store)
        return os.path.join(guard.home(self.store), self.point["id"])

    def fire(self, directory, occasion="timer"):
        subprocess.check_call([sys.executable, os.path.join(directory, "guard.py"), directory, occasion])

    def units(self):
        return sorted(name for _dir, _dirs, names in os.walk(guard.UNITS) for name in names)


@pytest.fixture
def guest(monkeypatch, tmp_path):
    return Guest(monkeypatch, tmp_path)


def replan(directory, **values):
    path = os.path.join(directory, "plan.json")
    guard_program.write_json(path, dict(guard_program.read_json(path), **values))


def restart(directory):
    """Let it look as if the guest had been started again."""
    replan(directory, start="another start")


def timer(directory, runs):
    """Let it look as if the timer ran, or not."""
    replan(directory, waits={"argv": ["true" if runs else "false"], "may_fail": False})


def test_what_nobody_confirms_is_taken_back(guest):
    directory = guest.arm()
    assert guest.file.read_text() == "after\n" and len(guest.units()) == 2 and "until" in guard.waiting(guest.store)
    assert [call[:2] for call in guest.calls[:2]] == [["systemctl", "daemon-reload"], ["systemctl", "start"]]
    assert [call[0] for call in guest.calls[2:]] == ["systemd-run", "systemctl"] and "--on-active=120s" in guest.calls[2]
    guest.fire(directory)
    assert guest.file.read_text() == "before\n" and not (guest.root / "new.conf").exists()
    assert guest.trace.read_text() == "route replace x\n"
    assert guest.units() == [] and guard.waiting(guest.store) is None
    assert undo.read_points(guest.store)[0]["undone_at"]
    with pytest.raises(undo.UndoError) as caught:
        guard.confirm(guest.point["id"], guest.store, guest.runner)
    assert "nobody did within 120 s; the guest put the former state back at" in str(caught.value)


def test_a_restart_before_the_confirmation_takes_it_back_too(guest):
    directory = guest.arm()
    timer(directory, True)
    guest.fire(directory, "boot")
    assert guest.file.read_text() == "after\n", "the guest did not restart"
    restart(directory)
    guest.fire(directory, "boot")
    assert guest.file.read_text() == "before\n" and guest.units() == []
    assert not guest.trace.exists(), "what the running system held went with the restart"
    with pytest.raises(undo.UndoError) as caught:
        guard.confirm(REMEDY, guest.store, guest.runner)
    assert "the guest restarted before" in str(caught.value)


def test_a_soft_reboot_takes_it_back_with_what_the_running_system_holds(guest):
    """The kernel and process 1 go on, and so do the routes, but the timer is gone."""
    directory = guest.arm()
    timer(directory, False)
    guest.fire(directory, "boot")
    assert guest.file.read_text() == "before\n" and guest.units() == [] and guest.trace.read_text() == "route replace x\n"


def test_half_a_change_is_not_confirmed(guest):
    directory = guest.arm()
    os.unlink(os.path.join(directory, "written.json"))
    with pytest.raises(undo.UndoError, match="was not finished.*puts the former state back at 20"):
        guard.confirm(REMEDY, guest.store, guest.runner)
    assert guard.state_of(directory)["state"] == "armed"
    guest.fire(directory)
    assert guest.file.read_text() == "before\n"


def test_a_change_that_is_still_being_made_is_confirmed_later(guest, monkeypatch):
    directory = guest.arm()
    monkeypatch.setattr(guard, "GUEST_WAIT_S", 0)
    os.unlink(os.path.join(directory, "written.json"))
    at_work = guard_program.lock(os.path.join(os.path.dirname(guest.store), "lock"), 0)
    with pytest.raises(guard.Busy, match="not confirmed yet"):
        guard.confirm(REMEDY, guest.store, guest.runner)
    with pytest.raises(guard.Busy, match="is not known yet"):
        guard.confirm("connectivity.proxy", guest.store, guest.runner)
    assert guard.state_of(directory)["state"] == "armed"
    os.close(at_work)
    guard.note_written(guest.point["id"], guest.store)
    assert guard.confirm(REMEDY, guest.store, guest.runner) == guest.point["id"]


def test_a_change_that_is_whole_is_confirmed_though_another_run_is_at_work(guest):
    guest.arm()
    at_work = guard_program.lock(os.path.join(os.path.dirname(guest.store), "lock"), 0)
    assert guard.confirm(REMEDY, guest.store, guest.runner) == guest.point["id"]
    os.close(at_work)


def test_the_timer_of_a_killed_run_does_not_stand_in_the_way_of_the_next(guest):
    guest.arm()
    guest.calls.clear()
    guest.arm()
    assert guest.calls[0] == ["systemctl", "stop", "vmbackup-guard-{0}.timer".format(guest.point["id"])]


def test_a_guard_that_a_restart_ended_confirms_nothing(guest):
    restart(guest.arm())
    with pytest.raises(undo.UndoError) as caught:
        guard.confirm(REMEDY, guest.store, guest.runner)
    assert "its guard did not run" in str(caught.value)


def test_a_confirmed_change_stays(guest):
    directory = guest.arm()
    assert guard.confirm(REMEDY, guest.store, guest.runner) == guest.point["id"]
    assert guest.units() == [] and guest.calls[-1][:2] == ["systemctl", "stop"]
    guest.fire(directory)
    guest.fire(directory, "boot")
    assert guest.file.read_text() == "after\n" and guard.waiting(guest.store) is None
    assert guard.confirm(REMEDY, guest.store, guest.runner) == guest.point["id"], "a lost answer is asked for again"


def test_what_was_confirmed_long_ago_says_nothing_of_a_change_whose_answer_was_lost(guest):
    directory = guest.arm()
    guard.confirm(REMEDY, guest.store, guest.runner)
    path = os.path.join(directory, "state.json")
    guard_program.write_json(path, dict(guard_program.read_json(path), until=1))
    with pytest.raises(undo.UndoError, match="no change connectivity.route on this guest"):
        guard.confirm(REMEDY, guest.store, guest.runner)


@pytest.mark.parametrize("ago, words", [(60, "nobody did within 120 s"), (3600, "There is no change")])
def test_a_change_of_long_ago_does_not_answer_for_one_of_today(guest, ago, words):
    directory = guest.arm()
    guest.fire(directory)
    path = os.path.join(directory, "state.json")
    guard_program.write_json(path, dict(guard_program.read_json(path), until=time.time() - ago))
    with pytest.raises(undo.UndoError, match=words):
        guard.confirm(REMEDY, guest.store, guest.runner)
    with pytest.raises(undo.UndoError, match="nobody did within 120 s"):
        guard.confirm(guest.point["id"], guest.store, guest.runner)


def test_a_guard_that_is_at_work_is_not_told_to_keep_the_change(guest, monkeypatch):
    directory = guest.arm()
    busy = guard_program.lock(os.path.join(directory, "lock"), 0)
    monkeypatch.setattr(guard_program.time, "sleep", lambda seconds: None)
    real = guard_program.lock
    monkeypatch.setattr(guard_program, "lock", lambda path, seconds: real(path, 0))
    with pytest.raises(undo.UndoError, match="just putting the former state"):
        guard.confirm(REMEDY, guest.store, guest.runner)
    os.close(busy)
    assert guard.state_of(directory)["state"] == "armed"


def test_where_its_program_may_not_run_nothing_is_changed(guest):
    real = guest.runner

    def refuses(arguments):
        return (1, "", "status=203/EXEC") if arguments[:2] == ["systemctl", "start"] else real(arguments)

    with pytest.raises(undo.UndoError, match="cannot run on this guest.*203/EXEC.*Nothing was changed"):
        guard.arm(guest.point, [], 120, guest.store, refuses)
    assert guest.units() == [] and guard.waiting(guest.store) is None


def test_without_a_timer_nothing_is_changed(guest):
    guest.code = 1
    with pytest.raises(undo.UndoError) as caught:
        guard.arm(guest.point, [], 120, guest.store, guest.runner)
    assert "did not start (Failed to connect to bus)" in str(caught.value) and "Nothing was changed" in str(caught.value)
    assert guest.units() == [] and guard.waiting(guest.store) is None


@pytest.mark.parametrize("occasion", ["timer", "boot"])
def test_a_run_that_was_killed_before_it_changed_anything_holds_up_nobody(guest, occasion):
    def killed(arguments):
        if arguments[:2] == ["systemctl", "start"]:  # the program is tried out here, and stays for what is to come
            guest.fire(os.path.join(guard.home(guest.store), guest.point["id"]), "boot")
            assert len(guest.units()) == 2
        if arguments[0] == "systemd-run":
            raise KeyboardInterrupt
        return 0, "", ""

    with pytest.raises(KeyboardInterrupt):
        guard.arm(guest.point, [], 120, guest.store, killed)
    assert guard.waiting(guest.store) is None
    guest.file.write_text("of an administrator\n")
    directory = os.path.join(guard.home(guest.store), guest.point["id"])
    if occasion == "boot":
        restart(directory)
    guest.fire(directory, occasion)
    assert guest.units() == [] and guest.file.read_text() == "of an administrator\n", "there was nothing to take back"
    with pytest.raises(undo.UndoError, match="There is no change connectivity.route"):
        guard.confirm(REMEDY, guest.store, guest.runner)


def test_what_is_left_of_a_run_that_was_killed_goes_after_a_week(guest, monkeypatch):
    def killed(arguments):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guard.arm(guest.point, [], 120, guest.store, killed)
    assert len(guest.units()) == 2
    later = time.time() + guard.KEEP_S + 300
    monkeypatch.setattr(guard.time, "time", lambda: later)
    guard._clear(guard.home(guest.store), guest.store)
    assert guest.units() == [] and os.listdir(guard.home(guest.store)) == []


def test_what_cannot_be_put_back_is_said(guest):
    directory = guest.arm()
    os.unlink(os.path.join(directory, "files", "0"))
    guest.fire(directory)
    assert not (guest.root / "new.conf").exists(), "the others are put back all the same"
    with pytest.raises(undo.UndoError) as caught:
        guard.confirm(REMEDY, guest.store, guest.runner)
    assert "This could not be put back: {0}".format(guest.file) in str(caught.value)


def test_an_unknown_change_is_refused(guest):
    with pytest.raises(undo.UndoError) as caught:
        guard.confirm("../../etc", guest.store, guest.runner)
    assert "There is no change ../../etc" in str(caught.value)
    with open(os.path.join(guest.arm(), "state.json")) as stream:
        assert json.load(stream)["state"] == "armed"


def test_what_somebody_else_changed_after_the_change_is_left_and_said(guest):
    directory = guest.arm()
    guard.note_written(guest.point["id"], guest.store)
    guest.file.write_text("of an administrator\n")
    guest.fire(directory)
    assert guest.file.read_text() == "of an administrator\n" and not (guest.root / "new.conf").exists()
    with pytest.raises(undo.UndoError) as caught:
        guard.confirm(REMEDY, guest.store, guest.runner)
    assert "{0} was changed by somebody else meanwhile".format(guest.file) in str(caught.value)
    entry = guard_program.read_json(os.path.join(guest.point["directory"], undo.ENTRY))
    assert not entry.get("undone_at"), "what was left can still be undone"


def test_a_full_disk_while_the_guard_starts_leaves_none(guest, monkeypatch):
    real, asked = guard_program.write_json, []

    def full(path, data):
        if path.endswith("state.json") and ".new-" not in path:
            raise OSError(28, "No space left on device")
        real(path, data)

    def runner(command):
        asked.append(command)
        return guest.runner(command)

    monkeypatch.setattr(guard_program, "write_json", full)
    with pytest.raises(undo.UndoError) as caught:
        guard.arm(guest.point, [], 120, guest.store, runner)
    assert "No space left" in str(caught.value) and "Nothing was changed" in str(caught.value)
    timer, boot = guard.unit_names(guest.point["id"])
    assert asked[-1] == ["systemctl", "stop", timer + ".timer"] and not os.path.lexists(os.path.join(guard.UNITS, guard.WANTS, boot))
    assert not guard.waiting(guest.store)


def test_what_was_put_back_already_is_no_change_of_somebody_else(guest):
    directory = guest.arm()
    guard.note_written(guest.point["id"], guest.store)
    guest.file.write_text("before\n")
    guest.fire(directory)
    assert guard.state_of(directory)["problems"] == []


def test_a_step_that_fails_is_said(guest):
    steps = [{"argv": ["false"], "input": "", "may_fail": False}, {"argv": ["false"], "input": "", "may_fail": True}]
    guard.arm(guest.point, steps, 120, guest.store, guest.runner)
    directory = os.path.join(guard.home(guest.store), guest.point["id"])
    guest.fire(directory)
    assert guard.state_of(directory)["problems"] == ["false: "]


@pytest.mark.parametrize(("late_s", "waits"), [(1, True), (guard.LATE_S + 5, False)])
def test_a_guard_whose_time_is_just_over_is_still_waited_for(guest, late_s, waits):
    directory = guest.arm()
    path = os.path.join(directory, "state.json")
    guard_program.write_json(path, dict(guard_program.read_json(path), until=int(time.time()) - late_s))
    assert bool(guard.waiting(guest.store)) is waits
    assert guard.unconfirmed(guest.store, REMEDY)[0] is None, "its time is over"


def test_its_time_counts_from_when_it_was_started(guest, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(guard.time, "time", lambda: now[0])
    real = guest.runner

    def slow(arguments):
        now[0] += 20
        return real(arguments)

    guard.arm(guest.point, [], 60, guest.store, slow)
    assert guard.state_of(os.path.join(guard.home(guest.store), guest.point["id"]))["until"] == now[0] + 60


def test_a_call_that_finds_its_own_change_waiting_gets_the_token(guest):
    assert guard.unconfirmed(guest.store, REMEDY) == (None, None)
    guest.arm()
    assert guard.unconfirmed(guest.store, REMEDY) == (guest.point["id"], None)
    token, reason = guard.unconfirmed(guest.store, "connectivity.azure_routes")
    assert token is None and "the change of connectivity.route waits for its confirmation" in reason


def test_directories_are_readable_whatever_the_umask(guest):
    former = os.umask(0o077)
    path = guest.root / "a" / "b"
    try:
        guard_program.make_public(str(path))
        assert [oct(each.stat().st_mode & 0o777) for each in (path, path.parent)] == ["0o755"] * 2
    finally:
        os.umask(former)


def test_a_change_whose_guard_does_not_start_leaves_no_undo_point(guest, monkeypatch):
    guest.code = 1
    monkeypatch.setattr(undo, "runner_of", lambda module: guest.runner)
    options = {"undo": "connectivity.azure_routes", "keep_days": 0, "store": guest.store, "confirm_s": 60}
    with pytest.raises(undo.UndoError, match="did not start.*Nothing was changed"):
        with change.Change(types.SimpleNamespace(params=options), files=[str(guest.file)]):
            raise AssertionError("nothing is written")
    kept = [point["id"] for point in undo.read_points(guest.store)]
    assert kept == [guest.point["id"]], "it would bring back later what somebody changed meanwhile"


@pytest.mark.parametrize(
    ("mode", "group", "after"), [(0o750, "networkd", 0o750), (0o750, "others", 0o755), (0o700, "networkd", 0o705), (0o755, "others", 0o755)]
)
def test_a_directory_of_drop_ins_is_opened_only_where_networkd_may_not_read_it(tmp_path, monkeypatch, mode, group, after):
    monkeypatch.setattr(persist, "_group", lambda name: os.getgid() if group == "networkd" else os.getgid() + 1)
    directory = tmp_path / "10-eth0.network.d"
    directory.mkdir()
    directory.chmod(mode)
    place = persist.Place(str(directory / "routes.conf"), "text")
    (directory / "routes.conf").write_text("text")
    assert place.stale() is (mode != after)
    place.write(None)
    assert directory.stat().st_mode & 0o777 == after
