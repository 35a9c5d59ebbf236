# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring back what undo points keep. Used by undo, and by a writer whose change failed half-way."""

import os

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import conf, guard_program, kinds, packages, undo
from ansible_collections.vmbackup.azure.plugins.module_utils._values import version_key

DIFF_BYTES = 65536
LISTED = 20
UNITS = ("/etc/systemd/", "/usr/lib/systemd/", "/lib/systemd/")
PROFILES = "/etc/NetworkManager/system-connections/"


def text_of(path, state):
    """Return the content of a state for the diff: of a configuration known settings only, of a unit's drop-in all but secrets.

    :param path: where the content is; the state names the file that it is of.
    """
    if state["kind"] == "absent":
        return ""
    if state["kind"] != "file":
        return "{0}\n".format(state.get("target") or state["kind"])
    with open(path, "rb") as stream:
        data = stream.read(DIFF_BYTES + 1)
    if len(data) > DIFF_BYTES or b"\0" in data:
        return "content with SHA-256 {0}\n".format(state["sha256"])
    text = data.decode("utf-8", "replace")
    return conf.mask(text) if state["path"].startswith(UNITS) else conf.shown(text)


def differences(plan_):
    """Return the diff of what :func:`restore` does."""
    diff = [
        {
            "before": text_of(now["path"], now),
            "after": text_of(os.path.join(want["directory"], want.get("copy", "")), want),
            "before_header": now["path"],
            "after_header": now["path"],
        }
        for want, now in plan_.files
    ]
    steps = "".join(step + "\n" for step in describe(plan_))
    return diff + [{"before": "", "after": steps, "before_header": "undo", "after_header": "undo"}]


def _changed_since(thing, now, expect):
    return "{0} was left as it is, since somebody changed it after the repair ({1}).".format(
        thing, "{0}, the repair left {1}".format(now, expect)
    )


def _file_words(state):
    if state["kind"] == "file":
        return "a file of {0} bytes, mode {1:04o}".format(state["size"], state["mode"])
    return {"absent": "not there", "link": "a link to {0}".format(state.get("target"))}.get(state["kind"], "a {0}".format(state["kind"]))


def _unit_words(state):
    if not state["exists"]:
        return "not there"
    return "masked" if state["masked"] else state["unit_file_state"] or "of unknown state"


def _package_words(state):
    return "{0}{1}".format(state["version"] or "not installed", ", half installed" if state.get("unfinished") else "")


class Plan(object):
    """What undo does and what it leaves: ``files``, ``units`` and ``items`` as (wanted, present), ``moves``, ``packages``, ``left`` (sentences)."""

    def __init__(self):
        self.files, self.moves, self.units, self.packages, self.items, self.left = [], [], [], [], [], []


def plan(points, runner, force=False):
    """Observe and decide.

    :param points: oldest first.
    :param force: take back what somebody changed after the repair, too; what is overwritten is kept.
    :returns: Plan.
    """
    wanted, result = targets(points), Plan()
    for path, (want, expect) in sorted(wanted["files"].items()):
        now = undo.file_state(path)
        # What the repair left as it was is none of undo's business, whoever changed it since.
        if undo.same_file(want, now) or (expect and undo.same_file(want, expect)):
            continue
        if now["kind"] == "directory":
            result.left.append("{0} is a directory now and was not one; move it away by hand, then run this again.".format(path))
        elif expect and not force and not undo.same_file(expect, now):
            result.left.append(_changed_since(path, _file_words(now), _file_words(expect)))
        else:
            result.files.append((want, now))
    for move in wanted["moves"]:
        if os.path.lexists(move["path"]) and not force:
            result.left.append("{0} was left as it is, since it came back after the repair moved it away.".format(move["path"]))
        else:
            result.moves.append(move)
    for name, (want, expect) in sorted(wanted["units"].items()):
        now = undo.unit_state(name, runner)
        if expect and now["exists"] and undo.same_settings(want, expect) and not undo.same_settings(want, now):
            continue  # the repair left it as it was
        # A unit that is gone went with its package.
        if expect and not force and now["exists"] and not (undo.same_settings(expect, now) or undo.same_settings(want, now)):
            result.left.append(_changed_since(name, _unit_words(now), _unit_words(expect)))
        else:
            result.units.append((want, now))
    # What goes with the agent's package comes after it, and is back with it then.
    for name, (want, expect) in sorted(wanted["packages"].items(), key=lambda item: (item[0] in packages.SUSE_CONFIGURATIONS, item[0])):
        now = undo.package_state(name, runner)
        if undo.same_package(want, now) or (expect and undo.same_package(want, expect)):
            continue
        if want["version"] == now["version"] and not now.get("unfinished"):
            continue  # an interrupted installation that was finished is not interrupted again
        newer = expect and now["version"] and version_key(now["version"]) > version_key(expect["version"])
        # What somebody installed since is never downgraded, forced or not.
        if expect and not now.get("unfinished") and now["version"] != expect["version"] and (newer or not force):
            result.left.append(_changed_since("The package " + name, _package_words(now), _package_words(expect)))
        else:
            result.packages.append({"name": name, "version": want["version"], "present": now["version"]})
    _plan_items(result, wanted["items"], runner, force)
    return result


def _plan_items(result, wanted, runner, force):
    """Decide on what the running system holds: routes and rules."""
    for now in kinds.capture(sorted(wanted), runner) if wanted else []:
        want, expect = wanted[now["key"]]
        if kinds.same(want, now) or (expect and kinds.same(want, expect)):
            continue
        # After a restart of the guest what was not kept is as it was before, or gone: neither is somebody's change.
        if expect and not force and not kinds.alike(expect, now) and now["state"] is not None:
            result.left.append(
                "{0} was left as it is, since it was changed after the repair, which had left {1}.".format(
                    kinds.words(now), kinds.words(expect)
                )
            )
        else:
            result.items.append((want, now))


def place(want):
    """Put one file or link back, atomically, with its mode and owner."""
    path = want["path"]
    parent = os.path.dirname(path)
    if want["kind"] == "absent":
        os.unlink(path)
        if parent.endswith((".service.d", ".network.d")) and not os.listdir(parent):
            os.rmdir(parent)
        return
    guard_program.make_public(parent)
    if want["kind"] == "link":
        temporary = os.path.join(parent, ".vmbackup-{0}".format(os.getpid()))
        os.symlink(want["target"], temporary)
        os.rename(temporary, path)
        return

    def check(temporary):
        if undo.digest(temporary) != want["sha256"]:
            raise undo.UndoError("The kept copy of {0} in {1} is damaged; the file was left as it is.".format(path, want["directory"]))

    with open(os.path.join(want["directory"], want["copy"]), "rb") as source:
        blocks = iter(lambda: source.read(1 << 20), b"")
        try:
            undo.replace(path, blocks, want["mode"], (want["uid"], want["gid"]), check)
        except OSError as error:
            raise undo.UndoError("Could not put {0} back: {1}.".format(path, error.strerror or error))


def _chain(points, kind, name, same):
    """Return {thing: (state to bring back, state that must stand now or None)}, back to where somebody else changed the thing in between.

    :param points: oldest first. What a point found must be what the point before it wrote; else the older ones no longer count.
    """
    result = {}
    for point in reversed(points):
        written = {state[name]: state for state in (point["written"] or {}).get(kind) or []}
        for state in point[kind]:
            thing = state[name]
            state = dict(state, directory=point["directory"])
            if thing not in result:
                result[thing] = [state, written.get(thing), True]
            elif result[thing][2]:
                if thing in written and not same(written[thing], result[thing][0]):
                    result[thing][2] = False
                else:
                    result[thing][0] = state
    return {thing: (want, expect) for thing, (want, expect, _open) in result.items()}


def targets(points):
    """Return what to bring back: files, units, packages and items by name with (state, what the repair wrote or None), moves as list.

    :param points: oldest first.
    """
    moves, moved = [], set()
    for point in points:
        for move in point["moves"]:
            if move["path"] not in moved and os.path.lexists(move["stored"]):
                moved.add(move["path"])
                moves.append(move)
    files = _chain(points, "files", "path", undo.same_file)
    for path in moved:
        files.pop(path, None)
    return {
        "files": files,
        "units": _chain(points, "units", "unit", undo.same_settings),
        "packages": _chain(points, "packages", "name", undo.same_version),
        "items": _chain(points, "items", "key", kinds.alike),
        "moves": moves,
    }


def unit_steps(want, now):
    """Return the arguments of systemctl that bring a unit from its present state to the wanted one, in order.

    Whether a masked unit was also enabled is told by its links.
    """
    unit = want["unit"]
    if not now["exists"]:
        return []  # its package is gone; bringing the package back brings the unit back
    if not want["exists"]:
        return [["stop", unit]] if now["active_state"] == "active" else []
    steps = []
    masked = now["masked"]
    if masked and masked != want["masked"]:
        steps.append(["unmask", unit] if masked == "persistent" else ["unmask", "--runtime", unit])
        masked = None
    was_enabled = want["unit_file_state"] in ("enabled", "enabled-runtime") or (want["masked"] and want["links"])
    switchable = want["masked"] or want["unit_file_state"] in ("enabled", "disabled", "enabled-runtime")
    is_enabled = bool(now["links"]) or now["unit_file_state"] in ("enabled", "enabled-runtime")
    if switchable and not masked and bool(was_enabled) != is_enabled:
        steps.append(["enable" if was_enabled else "disable", unit])
    active = want["active_state"] in ("active", "activating", "reloading")
    if active and now["active_state"] != "active" and not want["masked"]:
        steps.append(["start", unit])
    elif not active and now["active_state"] in ("active", "activating", "reloading"):
        steps.append(["stop", unit])
    if want["masked"] and masked != want["masked"]:
        steps.append(["mask", unit] if want["masked"] == "persistent" else ["mask", "--runtime", unit])
    return steps


def systemctl(runner, arguments):
    code, out, err = runner(["systemctl"] + arguments)
    if code != 0:
        raise undo.UndoError("systemctl {0} failed: {1}.".format(" ".join(arguments), (err or out).strip() or "exit code {0}".format(code)))


def move(runner, source, target):
    code, out, err = runner(["mv", "-T", "--", source, target])
    if code != 0:
        raise undo.UndoError("Could not move {0} to {1}: {2}.".format(source, target, (err or out).strip()))


def keep(runner, store, plan_, now):
    """Keep what is about to be overwritten, as a point that counts as undone; returns its name or None."""
    in_the_way = [entry["path"] for entry in plan_.moves if os.path.lexists(entry["path"])]
    present = [state["path"] for _want, state in plan_.files if state["kind"] != "absent"]
    if not in_the_way and not present:
        return None
    captured = undo.capture(present, [], [], in_the_way, runner)
    point = undo.plan_point(store, "undo", captured, undo.read_points(store), now)[0]
    point["undone_at"] = point["created_at"]
    undo.write_point(store, point)
    for entry in point["moves"]:
        move(runner, entry["path"], entry["stored"])
    return point["id"]


def restore(runner, plan_):
    """Act: moved things first, then files, then units, then what the running system holds."""
    for entry in plan_.moves:
        move(runner, entry["stored"], entry["path"])
    for want, _now in plan_.files:
        place(want)
    if any(want["path"].startswith(UNITS) for want, _now in plan_.files):
        systemctl(runner, ["daemon-reload"])
    if any(want["path"].startswith(PROFILES) for want, _now in plan_.files):
        runner(["nmcli", "connection", "reload"])  # reads them, and changes no connection that is up
    for want, _now in plan_.units:
        for arguments in unit_steps(want, undo.unit_state(want["unit"], runner)):
            systemctl(runner, arguments)
    kinds.restore(plan_.items, runner)


def describe(plan_):
    """Return what :func:`restore` does, one sentence each."""
    steps = ["Move {0} back.".format(entry["path"]) for entry in plan_.moves]
    for want, _now in plan_.files:
        steps.append(("Remove {0}, which was not there." if want["kind"] == "absent" else "Put {0} back.").format(want["path"]))
    for want, now in plan_.units:
        steps.extend("Run systemctl {0}.".format(" ".join(arguments)) for arguments in unit_steps(want, now))
    steps.extend("Put back: {0}.".format(kinds.words(want)) for want, _now in plan_.items[:LISTED])
    if len(plan_.items) > LISTED:
        steps.append("Put back as well: {0} more of this kind.".format(len(plan_.items) - LISTED))
    return steps
