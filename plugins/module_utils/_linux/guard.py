# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The net under a change that may cut the connection: the guest takes it back by itself unless it is confirmed in time.

A guard is a directory below ``guard`` beside the undo store, named like the undo point. A transient timer of systemd runs its program at the
deadline; a unit that is enabled until then runs it when the guest starts again, before the network is set up.
"""

import os
import re
import shutil
import sys
import tempfile
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import guard_program, undo

UNITS = "/etc/systemd/system"
WANTS = "sysinit.target.wants"
KEEP_S = 7 * 86400
GUEST_WAIT_S = 20
# How long after its deadline a guard may still be at work: it waits for the lock of the guest, and each of its steps is bounded.
LATE_S = 300
_REMEDY = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?\Z")
_TOKEN = re.compile(r"[0-9TZ]+-[a-z0-9_.]+(?:-[0-9]+)?\Z")
BOOT_UNIT = """# Written by vmbackup.azure for as long as a change waits for its confirmation.
[Unit]
Description=Take back a change of vmbackup.azure that was not confirmed before the guest restarted
DefaultDependencies=no
RequiresMountsFor={directory}
After=local-fs.target
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
ConditionPathExists={directory}/plan.json

[Service]
Type=oneshot
TimeoutStartSec=120
ExecStart={python} {directory}/guard.py {directory} boot
"""


class Busy(undo.UndoError):
    """A change is still being made; it can be confirmed later."""


def home(store):
    return os.path.join(os.path.dirname(store), "guard")


def unit_names(token):
    """Return (name of the timer and its service, name of the unit for the next start)."""
    return "vmbackup-guard-{0}".format(token), "vmbackup-guard-boot-{0}.service".format(token)


def program():
    """Return the text of the guard's program, out of the archive that the module runs from."""
    loader = getattr(guard_program, "__loader__", None) or guard_program.__spec__.loader
    return loader.get_source(guard_program.__name__)


def state_of(directory):
    """Return the state of a guard, None where there is none that can be read."""
    try:
        return guard_program.read_json(os.path.join(directory, "state.json"))
    except (OSError, ValueError):
        return None


def known(store):
    """Return (token, directory, state) of the guards of this guest, oldest first."""
    place, found = home(store), []
    try:
        names = sorted(os.listdir(place))
    except OSError:
        return found
    undo.check_trusted(place)
    for name in names:
        state = state_of(os.path.join(place, name)) if _TOKEN.match(name) else None
        if state:
            found.append((name, os.path.join(place, name), state))
    return found


def repair_of(token):
    """Return the name of the repair that a change belongs to."""
    return re.sub(r"-\d+\Z", "", token.split("-", 1)[1])


def armed(store):
    """Return (token, name of the repair, when its time is over) of the changes that wait for their confirmation, or are being taken back."""
    found = []
    for token, directory, state in known(store):
        if state.get("state") != "armed" or state.get("until", 0) + LATE_S < time.time():
            continue
        try:
            start = guard_program.read_json(os.path.join(directory, "plan.json"))["start"]
        except (OSError, ValueError, KeyError):
            start = guard_program.this_start()
        if start == guard_program.this_start():
            found.append((token, repair_of(token), state.get("until", 0)))
    return found


def waiting(store):
    """Return a sentence when a change of this guest waits for its confirmation or is being taken back, None when none does."""
    for _token, remedy, until in armed(store):
        return "the change of {0} waits for its confirmation until {1}".format(remedy, guard_program.utc(until))
    return None


def unconfirmed(store, remedy):
    """Return (token, sentence) for a call that finds nothing to write: what it finds may be a change that is not confirmed yet.

    The token is that of a change of the same repair, which this call may confirm; the sentence says why it may not.
    """
    for token, own, until in armed(store):
        if own == remedy and until > time.time():
            return token, None
    return None, waiting(store)


def note_written(token, store):
    """Tell a guard what its change has written: what somebody else changes afterwards is not taken back."""
    directory = os.path.join(home(store), token)
    states = guard_program.read_json(os.path.join(directory, "plan.json"))["files"]
    written = {state["path"]: guard_program.identity(state["path"]) for state in states}
    guard_program.write_json(os.path.join(directory, "written.json"), written)


def _copies(point, directory):
    """Copy what the undo point keeps of files, with attributes; return their states with the places of the copies."""
    states = []
    for number, state in enumerate(point["files"]):
        state = dict(state)
        if state["kind"] == "file":
            state["copy"] = "files/{0}".format(number)
            target = os.path.join(directory, state["copy"])
            shutil.copyfile(state["path"], target)
            shutil.copystat(state["path"], target)
        states.append(state)
    return states


def arm(point, steps, seconds, store, runner):
    """Start the guard of a change that is about to be made.

    :param point: the undo point, already kept.
    :param steps: what puts the running system back (kinds.steps).
    :raises undo.UndoError: the guard did not start; nothing was changed.
    """
    token, place = point["id"], home(store)
    directory = os.path.join(place, token)
    timer, boot = unit_names(token)
    unit, link = os.path.join(UNITS, boot), os.path.join(UNITS, WANTS, boot)
    try:
        undo.make_directory(place)
        _clear(place, store)
        if os.path.isdir(directory):  # of a run that was killed before it changed anything: its timer may still wait
            runner(["systemctl", "stop", timer + ".timer"])
        shutil.rmtree(directory, ignore_errors=True)
        building = tempfile.mkdtemp(prefix=".new-", dir=place)
        os.mkdir(os.path.join(building, "files"), 0o700)
        plan = {
            "files": _copies(point, building),
            "steps": steps,
            "seconds": seconds,
            "start": guard_program.this_start(),
            "entry": os.path.join(point["directory"], undo.ENTRY),
            "boot_files": [link, unit],
            "waits": {"argv": ["systemctl", "is-active", "--quiet", timer + ".timer"], "may_fail": False},
            "guest_lock": os.path.join(os.path.dirname(store), "lock"),
        }
        guard_program.write_json(os.path.join(building, "plan.json"), plan)
        # Armed below: a run that is killed until then has changed nothing, so nothing waits for its guard.
        guard_program.write_json(os.path.join(building, "state.json"), {"state": "prepared", "until": int(time.time()) + seconds})
        guard_program.write(os.path.join(building, "guard.py"), program().encode("utf-8"))
        guard_program.sync_directory(building)
        os.rename(building, directory)
        guard_program.sync_directory(place)
        undo.replace(unit, [BOOT_UNIT.format(directory=directory, python=sys.executable).encode("utf-8")], mode=0o644)
        if not os.path.isdir(os.path.dirname(link)):
            guard_program.make_public(os.path.dirname(link))
        if not os.path.lexists(link):
            os.symlink(unit, link)
        guard_program.sync_directory(os.path.dirname(link))
    except (OSError, shutil.Error) as error:
        disarm(token, store)
        raise undo.UndoError("The guard of this change could not be prepared in {0}: {1}. Nothing was changed.".format(place, error))
    # The unit for the next start is played once: where the system does not let this program run, nothing would be taken back.
    code, out, err = runner(["systemctl", "daemon-reload"])
    if code == 0:
        code, out, err = runner(["systemctl", "start", boot])
    if code != 0:
        disarm(token, store)
        raise undo.UndoError(
            "The guard of this change cannot run on this guest ({0}): {1}. Look at it with journalctl -u {2}; SELinux or fapolicyd may refuse "
            "it. Nothing was changed.".format(directory, (err or out).strip() or "exit code {0}".format(code), boot)
        )
    command = ["systemd-run", "--quiet", "--unit=" + timer, "--on-active={0}s".format(seconds), "--timer-property=AccuracySec=500ms"]
    command += ["--description=Take back a change of vmbackup.azure unless it is confirmed"]
    code, out, err = runner(command + [sys.executable, os.path.join(directory, "guard.py"), directory, "timer"])
    if code == 0:
        code, out, err = runner(["systemctl", "is-active", timer + ".timer"])
    if code != 0:
        disarm(token, store)
        why = (err or out).strip() or "exit code {0}".format(code)
        raise undo.UndoError(
            "The guard of this change did not start ({0}). It needs systemd; with confirm_s 0 the change is made without one. Nothing was "
            "changed.".format(why)
        )
    # The time counts from now on: to start all this takes seconds on a guest under load.
    try:
        guard_program.write_json(os.path.join(directory, "state.json"), {"state": "armed", "until": int(time.time()) + seconds})
    except (IOError, OSError) as error:
        disarm(token, store, runner)
        raise undo.UndoError("The guard of this change could not be prepared in {0}: {1}. Nothing was changed.".format(place, error))


def _clear(place, store):
    """Remove what is left of guards of earlier times."""
    for token, directory, state in known(store):
        if state.get("state") != "armed" and state.get("until", 0) < time.time() - KEEP_S:
            _forget_boot(token)
            shutil.rmtree(directory, ignore_errors=True)
    for name in os.listdir(place):
        if name.startswith(".new-"):
            shutil.rmtree(os.path.join(place, name), ignore_errors=True)


def _forget_boot(token):
    """Remove what would start a guard's program at the next start of the guest."""
    boot = unit_names(token)[1]
    for path in (os.path.join(UNITS, WANTS, boot), os.path.join(UNITS, boot)):
        if os.path.lexists(path):
            os.unlink(path)


def disarm(token, store, runner=None, said="given up"):
    """End a guard without taking anything back. One that is given up ends on a full disk, too."""
    directory = os.path.join(home(store), token)
    timer = unit_names(token)[0]
    state, path = state_of(directory), os.path.join(directory, "state.json")
    if state:
        try:
            guard_program.write_json(path, dict(state, state=said, at=guard_program.utc()))
        except (IOError, OSError):
            if said == "confirmed":
                raise
            os.unlink(path)  # without a state it takes nothing back
    _forget_boot(token)
    if runner:
        runner(["systemctl", "stop", timer + ".timer"])


def _may_be_meant(state):
    """Say whether the name of a repair may mean this guard: one that ended long ago, or never began, says nothing of a change of today."""
    left = state.get("until", 0) - time.time()
    since = {"armed": left, "confirmed": 0, "taken back": -LATE_S, "given up": -LATE_S}
    return left >= since.get(state.get("state"), float("inf"))


def find(name, store):
    """Return (token, directory) of the guard that is meant: its token, or the name of a remedy for the one of it that waits, or else its newest."""
    by_repair = bool(_REMEDY.match(name))
    if by_repair:
        own = [guard for guard in known(store) if repair_of(guard[0]) == name and _may_be_meant(guard[2])]
        found = sorted(own, key=lambda guard: (guard[2]["state"] == "armed", guard[0]))
    else:
        found = [guard for guard in known(store) if guard[0] == name]
    if not found:
        if by_repair and _changes_now(store):
            raise Busy("Another run is changing this guest; whether it is the change {0} is not known yet.".format(name))
        raise undo.UndoError("There is no change {0} on this guest that waits for a confirmation.".format(name))
    return found[-1][:2]


def _changes_now(store):
    """Say whether a run changes this guest at this moment."""
    path = os.path.join(os.path.dirname(store), "lock")
    if not os.path.exists(path):
        return False
    handle = guard_program.lock(path, 0)
    try:
        return not guard_program.holds(handle)
    finally:
        os.close(handle)


def _finished(directory):
    """Say whether a change was made as a whole: this is written last."""
    return os.path.exists(os.path.join(directory, "written.json"))


def _check_finished(token, directory, guest, state):
    """Refuse to keep half a change: a run that lost its connection may be at work still, or have been killed."""
    alone = guard_program.holds(guest)
    if _finished(directory):
        return
    if not alone:
        raise Busy("Another run is changing this guest, so the change {0} is not confirmed yet.".format(token))
    raise undo.UndoError(
        "The change {0} was not finished, so it is not kept: the guest puts the former state back at {1}. Run the repair again after "
        "that.".format(token, guard_program.utc(state.get("until", 0)))
    )


def confirm(name, store, runner):
    """Tell a guard to keep the change.

    :raises Busy: when a run still changes the guest.
    :raises undo.UndoError: when it is too late or the change was not finished, saying what becomes of it.
    """
    token, directory = find(name, store)
    guest = None
    lock = guard_program.lock(os.path.join(directory, "lock"), 90)
    try:
        if not guard_program.holds(lock):
            raise undo.UndoError("The guest is just putting the former state of {0} back. Diagnose it again.".format(token))
        state, plan = state_of(directory) or {}, guard_program.read_json(os.path.join(directory, "plan.json"))
        if state.get("state") == "confirmed":
            return token
        if state.get("state") == "armed" and plan["start"] == guard_program.this_start():
            if not _finished(directory):
                guest = guard_program.lock(plan["guest_lock"], GUEST_WAIT_S)
                _check_finished(token, directory, guest, state)
            disarm(token, store, runner, "confirmed")
            return token
    except (OSError, ValueError) as error:
        raise undo.UndoError("The guard of the change {0} cannot be read: {1}.".format(token, error))
    finally:
        os.close(lock)
        if guest is not None:
            os.close(guest)
    if state.get("state") == "taken back":
        text = "The change {0} was not confirmed in time, since {1}; the guest put the former state back at {2}.".format(
            token, state.get("why"), state.get("at")
        )
        left = "; ".join(state.get("problems") or [])
        raise undo.UndoError(text + (" This could not be put back: {0}.".format(left) if left else ""))
    if state.get("state") == "armed":
        raise undo.UndoError(
            "The guest restarted before the change {0} was confirmed, and its guard did not run. Undo that point, then run the repair "
            "again.".format(token)
        )
    raise undo.UndoError("The change {0} was given up before, so there is nothing to confirm.".format(token))
