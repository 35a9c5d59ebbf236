# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every writer on a Linux guest shares: the guest's lock, a look for a snapshot, the undo point, and the way back when writing fails.

::

    with Change(module, files=[path]) as change:
        write()                      # what raises here is rolled back
    module.exit_json(undo_point=change.point_id)
"""

import errno
import fcntl
import os
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import agent, extension, guard, kinds, restore, system, undo
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest

LOCK_WAIT_S = 10


class Deferred(Exception):
    """Nothing was changed, for now; the text says why."""


def options():
    """Return the options that every writer has; each call makes a new dictionary."""
    return {
        "undo": {"type": "str"},
        "keep_days": {"type": "int", "default": 90},
        "store": {"type": "path", "default": undo.STORE},
    }


def guarded_options():
    """Return the options of a writer that may cut the connection."""
    return dict(options(), confirm_s={"type": "int", "default": 0}, confirm={"type": "str"}, verify={"type": "bool", "default": True})


def confirm(module):
    """Answer a call that only confirms an earlier change, and end the module; do nothing in any other call."""
    name = module.params["confirm"]
    seconds = module.params["confirm_s"]
    if not name:
        if seconds < 0 or seconds and not module.params["undo"]:
            module.fail_json(msg="confirm_s takes seconds, 0 for none, and needs undo: the guest goes back to what was kept.")
        return
    if os.geteuid() != 0:
        module.fail_json(msg="Confirming a change needs root; run this task with become.")
    try:
        token = None if module.check_mode else guard.confirm(name, module.params["store"], undo.runner_of(module))
    except guard.Busy as error:
        module.fail_json(msg=str(error), again=True)
    except (undo.UndoError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, changes=[], notes=[], undo_point=token, token=None, deferred=False, reason=None)


def unconfirmed(module):
    """Return (token, reason to defer) of a call that finds nothing to write, None where nothing waits.

    What it finds may be an earlier change that the guest still takes back: a connection that broke has the module run twice, for example.
    """
    token, reason = guard.unconfirmed(module.params["store"], module.params["undo"])
    if token and not module.params["confirm_s"]:
        return None, guard.waiting(module.params["store"])
    return token, reason


def snapshot_runs(module):
    """Say whether a snapshot runs at this moment, told by what the collector tells it by."""
    host = Guest(run_command=module.run_command)
    lib_dir = str(agent.setting(agent.config(host), "Lib.Dir", "/var/lib/waagent")).rstrip("/")
    versions = extension.handler_directories(host.names("extension", lib_dir)).get(extension.SNAPSHOT)
    current = extension.handler(host, lib_dir, extension.SNAPSHOT, versions) if versions else None
    return extension.snapshot(host, current, system.processes(host))["busy"]


class Change(object):
    """One change of the guest, for as long as the ``with`` block lasts.

    :param module: the AnsibleModule, with the options of :func:`options`.
    :param files: paths whose content, mode and owner are kept for undo.
    :param units: names of systemd units whose state is kept.
    :param packages: names of packages whose version is kept.
    :param moves: paths that are moved away; ``self.moves`` says where to.
    :param items: keys of what the running system holds, and what is to be written, as {key: state} (kinds.py).
    :param steps: what a guard runs beside, after it put the files back.
    :param minds_guards: whether an earlier change that waits for its confirmation comes first. Writers with ``confirm_s`` always do.
    :param roll_back: whether a block that raises is undone at once. A package manager's half-done work is not: it is finished instead.

    With the option ``confirm_s`` a guard is started before the block; the change then waits for its confirmation.

    :raises Deferred: before anything was changed: another run is at work, a snapshot runs, or an earlier change waits for its confirmation.
    :raises undo.UndoError: when the present state could not be kept; nothing was changed.
    """

    def __init__(self, module, files=(), units=(), packages=(), moves=(), roll_back=True, items=None, steps=(), minds_guards=False):
        self.module, self.roll_back = module, roll_back
        self.things, self.items = (files, units, packages, moves), items or {}
        self.guarded, self.steps = bool(module.params.get("confirm_s")), list(steps)
        self.minds_guards = minds_guards or "confirm_s" in module.params
        self.store = module.params["store"]
        self.runner = undo.runner_of(module)
        self.point, self._lock, self._is_new = None, None, False

    @property
    def point_id(self):
        return self.point["id"] if self.point else None

    @property
    def moves(self):
        return self.point["moves"] if self.point else []

    def __enter__(self):
        self._take_lock()
        try:
            if snapshot_runs(self.module):
                raise Deferred("a snapshot is running")
            earlier = guard.waiting(self.store) if self.minds_guards else None
            if earlier:
                raise Deferred(earlier)
            if self.module.params.get("undo"):
                self.point = self._keep(self.module.params["undo"])
            if self.guarded:
                wanted = [{"key": item["key"], "state": self.items[item["key"]]} for item in self.point["items"]]
                steps = self.steps + kinds.steps(list(zip(self.point["items"], wanted)))
                guard.arm(self.point, steps, self.module.params["confirm_s"], self.store, self.runner)
        except BaseException:
            self._forget()
            self._free_lock()
            raise
        return self

    def __exit__(self, kind, error, _traceback):
        try:
            if kind is None:
                if self.point:
                    self._seal()
            elif self.point and self.roll_back and not issubclass(kind, Deferred):
                self._go_back(error)
            elif self.point:
                self._note_what_is_left()
        finally:
            self._free_lock()
        return False

    def _forget(self):
        """Remove an undo point that was kept for a change that is not made: it would bring back later what somebody changed meanwhile."""
        if self.point and self._is_new:
            try:
                undo.remove_point(self.store, self.point)
            except OSError:
                pass  # why nothing is changed is what has to be told

    @property
    def token(self):
        """Return what confirms the change, None where it waits for nothing."""
        return self.point_id if self.guarded else None

    def _seal(self):
        undo.seal(self.point, self.runner, kinds.capture([item["key"] for item in self.point["items"]], self.runner))
        if self.guarded:
            guard.note_written(self.point_id, self.store)

    def _keep(self, remedy):
        now = time.time()
        captured = undo.capture(*(self.things + (self.runner,)))
        captured["items"] = kinds.capture(sorted(self.items), self.runner)
        points = undo.read_points(self.store)
        point, existing = undo.plan_point(self.store, remedy, captured, points, now)
        if not existing:
            for old in undo.expired(points, self.module.params["keep_days"], now):
                try:
                    undo.remove_point(self.store, old)
                except OSError as error:
                    raise undo.UndoError(
                        "Could not remove the undo point {0}, which expired: {1}. Nothing was changed.".format(
                            old["directory"], error.strerror or error
                        )
                    )
            undo.write_point(self.store, point)
            self._is_new = True
        return point

    def _go_back(self, error):
        """Bring back what was kept; what cannot be brought back is said beside what went wrong."""
        try:
            plan = restore.plan([dict(self.point, written=None)], self.runner, force=True)
            restore.restore(self.runner, plan)
            undo.mark_undone(self.point, time.time())
            if self.guarded:
                guard.disarm(self.point_id, self.store, self.runner)
        except (undo.UndoError, OSError) as second:
            raise undo.UndoError(
                "{0} Besides, the state before could not be brought back ({1}); run vmbackup.azure.undo for this guest.".format(
                    error, second
                )
            )

    def _note_what_is_left(self):
        """Keep what stands after a change that was given up, so that undo can tell it from what somebody changes afterwards."""
        try:
            self._seal()
        except (undo.UndoError, OSError):
            pass  # what went wrong before is what has to be told

    def _take_lock(self):
        """Take the lock of the guest, so that two runs never change it at once. Without root there is nothing to guard."""
        if os.geteuid() != 0:
            return
        base = os.path.dirname(self.store)
        try:
            undo.make_directory(base)
            self._lock = os.open(os.path.join(base, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._no_lock(error)
        deadline = time.time() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except (IOError, OSError) as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN) or time.time() >= deadline:
                    self._free_lock()
                    if error.errno not in (errno.EACCES, errno.EAGAIN):
                        raise self._no_lock(error)
                    raise Deferred("another run is changing this guest")
            time.sleep(0.5)

    def _no_lock(self, error):
        return undo.UndoError(
            "Could not lock this guest in {0}: {1}. Nothing was changed.".format(os.path.dirname(self.store), error.strerror or error)
        )

    def _free_lock(self):
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
