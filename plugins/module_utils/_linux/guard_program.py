# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What takes a change back that nobody confirmed. A copy of this file lies beside each such change; systemd runs it, so it imports nothing of ours.

guard_program.py DIRECTORY timer|boot
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

LOCK_WAIT_S = 30
STEP_S = 60


def read_json(path):
    with open(path, "rb") as stream:
        return json.loads(stream.read().decode("utf-8"))


def sync_directory(path):
    """Have the names in a directory survive a crash, on file systems that can promise it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # what was renamed stays renamed
    finally:
        os.close(handle)


def write(path, data, mode=0o600):
    """Replace a file in one step, on the disk before it returns."""
    temporary = "{0}.new-{1}".format(path, os.getpid())
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def write_json(path, value):
    write(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("utf-8"))


def boot_id():
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except (IOError, OSError):
        return None


def started_at():
    """Return when process 1 started, in clock ticks since the kernel did: a container's restart leaves the kernel's boot id as it is."""
    try:
        with open("/proc/1/stat") as stream:
            return stream.read().rpartition(")")[2].split()[19]
    except (IOError, OSError, IndexError):
        return None


def this_start():
    """Return what tells this start of the guest from the one before."""
    return "{0} {1}".format(boot_id(), started_at())


def utc(now=None):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def lock(path, seconds):
    """Take a lock, or go on without it after a time; returns what holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.time() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except (IOError, OSError):
            if time.time() >= deadline:
                return handle
        time.sleep(0.2)


def make_public(path):
    """Make a directory that everybody may read, and those above it, where they are missing: the umask must not keep a daemon out."""
    if not os.path.isdir(path):
        make_public(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)


def holds(handle):
    """Say whether a lock is held by this handle: :func:`lock` goes on without it after its time."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (IOError, OSError):
        return False


def identity(path):
    """Return what a path is, in one line."""
    if os.path.islink(path):
        return "link " + os.readlink(path)
    if not os.path.exists(path):
        return "absent"
    with open(path, "rb") as stream:
        return "file " + hashlib.sha256(stream.read()).hexdigest()


def former(state):
    """Return the identity of a kept state."""
    words = {"absent": "absent", "link": "link {0}".format(state.get("target")), "file": "file {0}".format(state.get("sha256"))}
    return words[state["kind"]]


def changed_since(directory, plan):
    """Return the paths that somebody changed after the change was written; none where the change was not finished."""
    try:
        written = read_json(os.path.join(directory, "written.json"))
    except (IOError, OSError, ValueError):
        return []
    found = []
    for state in plan["files"]:
        try:
            if identity(state["path"]) not in (written.get(state["path"]), former(state)):
                found.append(state["path"])
        except (IOError, OSError):
            pass
    return found


def put_file(directory, state):
    """Put a file or link back as it was, in one step."""
    path = state["path"]
    if state["kind"] == "absent":
        if os.path.lexists(path):
            os.unlink(path)
        return
    parent = os.path.dirname(path)
    make_public(parent)
    temporary = os.path.join(parent, ".vmbackup-guard-{0}".format(os.getpid()))
    if os.path.lexists(temporary):
        os.unlink(temporary)
    if state["kind"] == "link":
        os.symlink(state["target"], temporary)
    else:
        kept = os.path.join(directory, state["copy"])
        shutil.copyfile(kept, temporary)
        os.chown(temporary, state["uid"], state["gid"])
        shutil.copystat(kept, temporary)  # with its extended attributes: the SELinux context is one
        os.chmod(temporary, state["mode"])
        handle = os.open(temporary, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    os.rename(temporary, path)


def run(step):
    """Run a command, bounded; return why it failed, empty when it did not. A step that may fail is one that takes away what may not be there."""
    environment = dict(os.environ, LC_ALL="C", PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    try:
        # This program runs by itself: there is no module whose run_command could be called.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            step["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        out = process.communicate((step.get("input") or "").encode("utf-8"), timeout=STEP_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return "{0} did not end within {1} s".format(" ".join(step["argv"]), STEP_S)
    except OSError as error:
        return "{0}: {1}".format(step["argv"][0], error)
    if process.returncode != 0 and not step.get("may_fail", True):
        return "{0}: {1}".format(" ".join(step["argv"]), out.decode("utf-8", "replace").strip()[-300:])
    return ""


def mark_undone(plan):
    path = plan.get("entry")
    if path and os.path.exists(path):
        entry = read_json(path)
        entry["undone_at"] = utc()
        write_json(path, entry)


def take_back(directory, plan, restarted):
    """Put the former state back; returns what could not be."""
    problems, left = [], changed_since(directory, plan)
    for state in plan["files"]:
        if state["path"] in left:
            problems.append("{0} was changed by somebody else meanwhile, and was left as it is".format(state["path"]))
            continue
        try:
            put_file(directory, state)
        except (OSError, shutil.Error) as error:
            problems.append("{0}: {1}".format(state["path"], error))
    # What the running system held is gone with the restart.
    for step in [] if restarted else plan["steps"]:
        problem = run(step)
        if problem:
            problems.append(problem)
    if problems:
        return problems  # the undo point stays open: what was left can still be taken back
    try:
        mark_undone(plan)
    except (OSError, ValueError) as error:
        problems.append("{0}: {1}".format(plan.get("entry"), error))
    return problems


def disarm(plan):
    """Remove what would start this at the next start of the guest."""
    for path in plan["boot_files"]:
        if os.path.lexists(path):
            os.unlink(path)


def waits(plan):
    """Say whether the timer still waits: systemctl soft-reboot ends it, and nothing else tells that start from the one before."""
    return run(plan["waits"]) == ""


def main(directory, occasion):
    guard = lock(os.path.join(directory, "lock"), 60)
    plan, state = read_json(os.path.join(directory, "plan.json")), read_json(os.path.join(directory, "state.json"))
    restarted = plan["start"] != this_start()
    if occasion == "boot" and not restarted and (state["state"] == "prepared" or state["state"] == "armed" and waits(plan)):
        return 0  # it is tried out, or somebody started the unit by hand; the timer has still time
    if state["state"] != "armed":
        disarm(plan)
        return 0
    guest = lock(plan["guest_lock"], 0 if restarted else LOCK_WAIT_S)
    try:
        problems = take_back(directory, plan, restarted)
    finally:
        disarm(plan)  # before the state is written: with a full disk it would run again at each start
    state.update(
        state="taken back",
        at=utc(),
        why="the guest restarted before" if restarted else "nobody did within {0} s".format(plan["seconds"]),
        problems=problems,
    )
    write_json(os.path.join(directory, "state.json"), state)
    os.close(guest)
    os.close(guard)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2]))
