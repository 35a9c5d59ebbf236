#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: undo_restore
short_description: Bring a guest back to the state before the repairs
version_added: 0.1.0
description:
  - Reads the undo points that M(vmbackup.azure.undo_point) kept and restores files, moved directories and the state of units.
  - Goes back to the state before the oldest point that was not undone yet, or to the state before the one named in O(point).
  - What it overwrites or removes is kept in the store as well.
  - Packages are not touched. RV(packages) names those whose version differs, for the package manager to bring back.
options:
  point:
    description: Name of one undo point. Without it all that were not undone yet are undone.
    type: str
  packages:
    description:
      - Whether differing packages may stay. With V(false) nothing is undone before the packages are back, and the module says which.
      - The states of units and files are only right once the packages are.
    type: bool
    default: true
  store:
    description: Directory of all undo points.
    type: path
    default: /var/lib/vmbackup_azure/undo
notes:
  - Needs root. Wait until no snapshot runs before you call this, since it starts and stops units.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
attributes:
  platform:
    description: Linux guests.
    support: full
    platforms: linux
seealso:
  - module: vmbackup.azure.undo_point
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Undo everything that was repaired
  vmbackup.azure.undo_restore:
  become: true

- name: Undo one repair
  vmbackup.azure.undo_restore:
    point: 20261121T092008Z-agent.configuration
  become: true
"""

RETURN = r"""
points:
  description: The undo points that were, or would be, undone, oldest first.
  returned: always
  type: list
  elements: str
steps:
  description: What was, or would be, done, one sentence each.
  returned: always
  type: list
  elements: str
packages:
  description: Packages whose installed version differs from the one before the repairs.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the package.
      returned: always
      type: str
    version:
      description: The version before the repairs, V(null) when it was not installed.
      returned: always
      type: str
    present:
      description: The version that is installed now, V(null) when it is not installed.
      returned: always
      type: str
restart_units:
  description: Units that run on, and whose files were restored, so that they should be restarted.
  returned: always
  type: list
  elements: str
kept:
  description: The point that keeps what was overwritten, V(null) when nothing was.
  returned: always
  type: str
"""

import os
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils.linux import conf, undo

DIFF_BYTES = 65536


def text_of(path, state):
    """Return the content of a state for the diff, without proxy credentials."""
    if state["kind"] == "absent":
        return ""
    if state["kind"] != "file":
        return "{0}\n".format(state.get("target") or state["kind"])
    with open(path, "rb") as stream:
        data = stream.read(DIFF_BYTES + 1)
    if len(data) > DIFF_BYTES or b"\0" in data:
        return "content with SHA-256 {0}\n".format(state["sha256"])
    return conf.mask(data.decode("utf-8", "replace"))


def plan(points, runner):
    """Observe and decide: what differs from the state before the points."""
    wanted = undo.targets(points)
    files = []
    for path in sorted(wanted["files"]):
        want, now = wanted["files"][path], undo.file_state(path)
        if not undo.same_file(want, now):
            if now["kind"] == "directory":
                raise undo.UndoError(
                    "{0} was a file or absent and is a directory now; move it away by hand, then run this again.".format(path)
                )
            files.append((want, now))
    units = [(want, undo.unit_state(name, runner)) for name, want in sorted(wanted["units"].items())]
    packages = []
    for name, want in sorted(wanted["packages"].items()):
        now = undo.package_state(name, runner)
        if now["version"] != want["version"]:
            packages.append({"name": name, "version": want["version"], "present": now["version"]})
    return files, wanted["moves"], units, packages


def place(module, want):
    """Put one file or link back, atomically, with its mode and owner."""
    path = want["path"]
    parent = os.path.dirname(path)
    if want["kind"] == "absent":
        os.unlink(path)
        if parent.endswith(".service.d") and not os.listdir(parent):
            os.rmdir(parent)
        return
    if not os.path.isdir(parent):
        os.makedirs(parent, 0o755)
    if want["kind"] == "link":
        temporary = os.path.join(parent, ".vmbackup-{0}".format(os.getpid()))
        os.symlink(want["target"], temporary)
        os.rename(temporary, path)
        return
    handle, temporary = tempfile.mkstemp(prefix=".vmbackup-", dir=parent)
    try:
        with os.fdopen(handle, "wb") as stream, open(os.path.join(want["directory"], want["copy"]), "rb") as source:
            for block in iter(lambda: source.read(1 << 20), b""):
                stream.write(block)
        if undo.digest(temporary) != want["sha256"]:
            raise undo.UndoError("The kept copy of {0} in {1} is damaged; the file was left as it is.".format(path, want["directory"]))
        if os.path.islink(path):
            os.unlink(path)  # kept before; a link must not be written through
        try:
            module.atomic_move(temporary, path)
        except Exception as error:  # it raises plain exceptions, with a sentence in them
            raise undo.UndoError("Could not put {0} back: {1}".format(path, error))
        os.chown(path, want["uid"], want["gid"])
        os.chmod(path, want["mode"])
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def systemctl(runner, arguments):
    code, out, err = runner(["systemctl"] + arguments)
    if code != 0:
        raise undo.UndoError("systemctl {0} failed: {1}.".format(" ".join(arguments), (err or out).strip() or "exit code {0}".format(code)))


def move(runner, source, target):
    code, out, err = runner(["mv", "-T", "--", source, target])
    if code != 0:
        raise undo.UndoError("Could not move {0} to {1}: {2}.".format(source, target, (err or out).strip()))


def keep(runner, store, files, moves, now):
    """Keep what is about to be overwritten, as a point that counts as undone; returns its name or None."""
    in_the_way = [entry["path"] for entry in moves if os.path.lexists(entry["path"])]
    present = [state["path"] for _want, state in files if state["kind"] != "absent"]
    if not in_the_way and not present:
        return None
    captured = undo.capture(present, [], [], in_the_way, runner)
    point = undo.plan_point(store, "undo", captured, undo.read_points(store), now)[0]
    point["undone_at"] = point["created_at"]
    undo.write_point(store, point)
    for entry in point["moves"]:
        move(runner, entry["path"], entry["stored"])
    return point["id"]


def restore(module, runner, files, moves, units):
    """Act: moved things first, then files, then units."""
    for entry in moves:
        move(runner, entry["stored"], entry["path"])
    for want, _now in files:
        place(module, want)
    if files and any(want["path"].startswith(("/etc/systemd/", "/usr/lib/systemd/", "/lib/systemd/")) for want, _now in files):
        systemctl(runner, ["daemon-reload"])
    for want, _now in units:
        for arguments in undo.unit_steps(want, undo.unit_state(want["unit"], runner)):
            systemctl(runner, arguments)


def describe(files, moves, units):
    steps = ["Move {0} back.".format(entry["path"]) for entry in moves]
    for want, _now in files:
        steps.append(("Remove {0}, which was not there." if want["kind"] == "absent" else "Put {0} back.").format(want["path"]))
    for want, now in units:
        steps.extend("Run systemctl {0}.".format(" ".join(arguments)) for arguments in undo.unit_steps(want, now))
    return steps


def main():
    module = AnsibleModule(
        argument_spec={
            "point": {"type": "str"},
            "packages": {"type": "bool", "default": True},
            "store": {"type": "path", "default": undo.STORE},
        },
        supports_check_mode=True,
    )
    store = module.params["store"]
    if os.geteuid() != 0:
        module.fail_json(msg="Reading the undo points in {0} needs root; run this task with become.".format(store))
    runner = undo.runner_of(module)
    kept = None
    try:
        points = undo.choose(undo.read_points(store), module.params["point"])
        files, moves, units, packages = plan(points, runner)
        steps = describe(files, moves, units)
        diff = [
            {
                "before": text_of(now["path"], now),
                "after": text_of(os.path.join(want["directory"], want.get("copy", "")), want),
                "before_header": now["path"],
                "after_header": now["path"],
            }
            for want, now in files
        ]
        diff.append({"before": "", "after": "".join(step + "\n" for step in steps), "before_header": "undo", "after_header": "undo"})
        if packages and not module.params["packages"] and not module.check_mode:
            module.fail_json(
                msg="These packages are not back at the version they had before the repairs, so nothing was undone: {0}.".format(
                    ", ".join(
                        "{0} (now {1}, was {2})".format(p["name"], p["present"] or "absent", p["version"] or "absent") for p in packages
                    )
                )
            )
        restart = [
            want["unit"] for want, now in units if (files or moves) and want["active_state"] == "active" and now["active_state"] == "active"
        ]
        if points and not module.check_mode:
            now_s = time.time()
            if files or moves:
                undo.check_room(store, 0)
                kept = keep(runner, store, files, moves, now_s)
            restore(module, runner, files, moves, units)
            for point in points:
                point["undone_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
                undo.write_entry(point["directory"], point)
    except undo.UndoError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg="Undo stopped at {0}: {1}. Nothing that was kept is lost; run this again once that is solved.".format(
                error.filename or store, error.strerror or error
            )
        )
    module.exit_json(
        changed=bool(steps),
        points=[point["id"] for point in points],
        steps=steps,
        packages=packages,
        restart_units=restart,
        kept=kept,
        diff=diff if steps else [],
    )


if __name__ == "__main__":
    main()
