# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The store that keeps, on the guest, what a remedy is about to change.

One directory per undo point, ``<UTC stamp>-<remedy>``, readable by root only, holding ``entry.json`` and copies. A point is written
under a temporary name and renamed when it is whole, so a point that is there is complete. The plan of what to bring back is a
pure function of the points and of what is there now.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time

STORE = "/var/lib/vmbackup_azure/undo"
ENTRY = "entry.json"
SCHEMA = 1
RESERVE_BYTES = 4 * 1024 * 1024  # left free beside what is copied, so that an undo point never fills the disk
_REMEDY = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?\Z")
_UNIT = re.compile(r"[A-Za-z0-9@_.:\\-]+\Z")
_UNIT_PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,FragmentPath"


class UndoError(Exception):
    """The store cannot do what was asked; the text says why and what to do."""


def _text(error):
    return os.strerror(error.errno) if getattr(error, "errno", None) else str(error)


def runner_of(module):
    """Return a function that runs a command through the module: (exit code, output, error output), 127 when it is not there."""

    def run(arguments):
        program = module.get_bin_path(arguments[0])
        if not program:
            return 127, "", "{0} is not there".format(arguments[0])
        return module.run_command([program] + arguments[1:], environ_update={"LC_ALL": "C", "LANG": "C"})

    return run


def digest(path):
    """Return the SHA-256 of a regular file."""
    sum_ = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sum_.update(block)
    return sum_.hexdigest()


def file_state(path):
    """Return what a path is now: ``kind`` (absent, file, link, directory) with mode, owner and content's digest or target."""
    try:
        info = os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return {"path": path, "kind": "absent"}
        raise UndoError("Could not look at {0}: {1}.".format(path, _text(error)))
    state = {"path": path, "mode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid}
    if stat.S_ISLNK(info.st_mode):
        state.update(kind="link", target=os.readlink(path))
    elif stat.S_ISREG(info.st_mode):
        try:
            state.update(kind="file", sha256=digest(path), size=info.st_size)
        except OSError as error:
            raise UndoError("Could not read {0}: {1}.".format(path, _text(error)))
    elif stat.S_ISDIR(info.st_mode):
        state["kind"] = "directory"
    else:
        raise UndoError("{0} is neither a file, a link nor a directory; it is not touched.".format(path))
    return state


def same_file(one, other):
    """Say whether two states of a path are the same to whoever uses it."""
    keys = {"absent": ("kind",), "link": ("kind", "target"), "directory": ("kind", "mode", "uid", "gid")}
    return all(one.get(key) == other.get(key) for key in keys.get(one.get("kind"), ("kind", "mode", "uid", "gid", "sha256")))


def enabled_links(unit, root="/etc/systemd/system"):
    """Return the links that make systemd start a unit at boot."""
    found = []
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return found
    for name in names:
        path = os.path.join(root, name, unit)
        if name.endswith((".wants", ".requires")) and os.path.islink(path):
            found.append(path)
    return found


def parse_unit(text):
    """Return the state of a unit from the output of ``systemctl show``; ``exists`` tells a unit from a name."""
    values = dict(line.split("=", 1) for line in (text or "").strip().split("\n") if "=" in line)
    file_state_ = values.get("UnitFileState") or None
    load = values.get("LoadState") or None
    masked = None
    if load == "masked" or file_state_ in ("masked", "masked-runtime"):
        masked = "runtime" if file_state_ == "masked-runtime" else "persistent"
    return {
        "exists": load not in (None, "not-found"),
        "unit_file_state": file_state_,
        "active_state": values.get("ActiveState") or None,
        "masked": masked,
    }


def unit_state(unit, runner):
    """Return the state of a unit as an undo point keeps it."""
    if not _UNIT.match(unit):
        raise UndoError("{0!r} is not the name of a unit.".format(unit))
    code, out, err = runner(["systemctl", "show", "--no-pager", "--property=" + _UNIT_PROPERTIES, unit])
    if code != 0:
        raise UndoError("Could not ask systemd about {0}: {1}.".format(unit, (err or out).strip() or "exit code {0}".format(code)))
    state = parse_unit(out)
    state.update(unit=unit, links=enabled_links(unit))
    return state


def same_unit(one, other):
    keys = ("exists", "masked", "unit_file_state", "active_state", "links")
    return all(one.get(key) == other.get(key) for key in keys)


def package_state(name, runner):
    """Return name, manager (dpkg or rpm) and installed version (None when it is not installed) of a package."""
    code, out, err = runner(["dpkg-query", "-W", "-f=${db:Status-Want} ${db:Status-Status} ${Version}", name])
    if code in (0, 1):
        cells = out.split()
        present = len(cells) == 3 and cells[1] not in ("not-installed", "config-files")
        known = {"name": name, "manager": "dpkg", "version": cells[2] if present else None, "held": present and cells[0] == "hold"}
        if known["version"] or runner(["rpm", "--version"])[0] == 127:
            return known
    elif code != 127:
        raise UndoError("Could not ask dpkg about {0}: {1}.".format(name, err.strip() or "exit code {0}".format(code)))
    code, out, err = runner(["rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}\\n", name])
    if code == 127:
        raise UndoError("Neither dpkg nor rpm is there to ask about the package {0}.".format(name))
    version = out.strip().rpartition("\n")[2] if code == 0 else None
    if code != 0 and "not installed" not in out:
        raise UndoError("Could not ask rpm about {0}: {1}.".format(name, (err or out).strip()))
    return {"name": name, "manager": "rpm", "version": version, "held": None}


def tree_bytes(path):
    """Return the bytes below a path, without following links."""
    if not os.path.isdir(path) or os.path.islink(path):
        return os.lstat(path).st_size if os.path.lexists(path) else 0
    total = 0
    for directory, _directories, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except OSError:
                pass
    return total


def nearest(path):
    """Return the deepest directory of a path that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def check_room(store, need_bytes, statvfs=os.statvfs):
    """Refuse where the store cannot take what is to be kept."""
    place = nearest(store)
    try:
        info = statvfs(place)
    except OSError as error:
        raise UndoError("Could not ask {0} for free space: {1}.".format(place, _text(error)))
    if info.f_flag & os.ST_RDONLY:
        raise UndoError("The file system of {0} is read-only, so nothing can be kept for undo. Nothing was changed.".format(place))
    free = info.f_bavail * info.f_frsize
    if free < need_bytes + RESERVE_BYTES:
        raise UndoError(
            "{0} has {1} bytes free, but {2} are needed to keep what would be changed. Free some space, then run this again; "
            "nothing was changed.".format(place, free, need_bytes + RESERVE_BYTES)
        )


def read_points(store):
    """Return every undo point, oldest first, each with its ``directory``.

    :raises UndoError: when an entry cannot be read; nothing may be undone on half of the knowledge.
    """
    try:
        names = sorted(os.listdir(store))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return []
        raise UndoError("Could not read {0}: {1}.".format(store, _text(error)))
    points = []
    for name in names:
        directory = os.path.join(store, name)
        if name.startswith(".") or not os.path.isdir(directory):
            continue
        path = os.path.join(directory, ENTRY)
        try:
            with open(path, "rb") as stream:
                point = json.loads(stream.read().decode("utf-8"))
            if not isinstance(point, dict) or point.get("schema_version") != SCHEMA:
                raise ValueError("not an undo point of this version")
            for key, kind in (
                ("id", str),
                ("remedy", str),
                ("sequence", int),
                ("files", list),
                ("units", list),
                ("packages", list),
                ("moves", list),
            ):
                if not isinstance(point.get(key), kind):
                    raise ValueError("no {0} in it".format(key))
        except (OSError, ValueError) as error:
            raise UndoError(
                "Could not read the undo point {0}: {1}. Move that directory away by hand to go on without it.".format(path, _text(error))
            )
        point["directory"] = directory
        points.append(point)
    return sorted(points, key=lambda point: point["sequence"])


def write_entry(directory, point):
    """Write entry.json of a point, atomically and readable by root only."""
    content = {key: value for key, value in point.items() if key != "directory"}
    handle, temporary = tempfile.mkstemp(prefix=".entry", dir=directory)
    with os.fdopen(handle, "wb") as stream:
        stream.write((json.dumps(content, indent=1, sort_keys=True) + "\n").encode("utf-8"))
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, os.path.join(directory, ENTRY))


def same_point(point, capture):
    """Say whether a point already keeps what was captured."""

    def match(kept, now, name, same):
        return len(kept) == len(now) and all(one[name] == other[name] and same(one, other) for one, other in zip(kept, now))

    return (
        match(point["files"], capture["files"], "path", same_file)
        and match(point["units"], capture["units"], "unit", same_unit)
        and match(point["packages"], capture["packages"], "name", lambda a, b: a["version"] == b["version"])
        and [move["path"] for move in point["moves"]] == capture["moves"]
        # A place that is taken holds an earlier thing of that name.
        and not any(os.path.lexists(move["stored"]) for move in point["moves"])
    )


def capture(files, units, packages, moves, runner):
    """Return the present state of everything that a remedy names; moves are those that are there.

    Of a link, the file that it leads to is kept as well: writers follow links.
    """
    places = set(files) | {os.path.realpath(path) for path in files if os.path.islink(path)}
    states = [file_state(path) for path in sorted(places)]
    for state in states:
        if state["kind"] == "directory":
            raise UndoError("{0} is a directory; name files to keep, or directories to move.".format(state["path"]))
    return {
        "files": states,
        "units": [unit_state(unit, runner) for unit in sorted(set(units))],
        "packages": [package_state(name, runner) for name in sorted(set(packages))],
        "moves": [path for path in sorted(set(moves)) if os.path.lexists(path)],
    }


def stamp(now):
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def plan_point(store, remedy, captured, points, now):
    """Return (point, existing): the point to write, or the one that already keeps the same state.

    Only the remedy's newest point that was not undone counts as the same.
    """
    if not _REMEDY.match(remedy):
        raise UndoError("{0!r} is not the name of a remedy, such as agent.service.".format(remedy))
    open_points = [point for point in points if point["remedy"] == remedy and not point.get("undone_at")]
    if open_points and same_point(open_points[-1], captured):
        return open_points[-1], True
    taken = {point["id"] for point in points}
    name = base = "{0}-{1}".format(stamp(now), remedy)
    count = 1
    while name in taken or os.path.lexists(os.path.join(store, name)):
        count += 1
        name = "{0}-{1}".format(base, count)
    directory = os.path.join(store, name)
    point = {
        "schema_version": SCHEMA,
        "id": name,
        "remedy": remedy,
        "sequence": (points[-1]["sequence"] if points else 0) + 1,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "undone_at": None,
        "files": [
            dict(state, copy="files/{0}".format(n)) if state["kind"] == "file" else dict(state) for n, state in enumerate(captured["files"])
        ],
        "units": captured["units"],
        "packages": captured["packages"],
        "moves": [{"path": path, "stored": os.path.join(directory, "moves", str(n))} for n, path in enumerate(captured["moves"])],
        "directory": directory,
    }
    return point, False


def _device(path):
    return os.lstat(path).st_dev


def write_point(store, point):
    """Write a point: everything under a temporary name first, renamed when whole."""
    need = sum(state.get("size", 0) for state in point["files"])
    try:
        device = _device(nearest(store))
        need += sum(tree_bytes(move["path"]) for move in point["moves"] if _device(move["path"]) != device)
        check_room(store, need)
        os.makedirs(store, 0o700, exist_ok=True)
        os.chmod(store, 0o700)
        temporary = tempfile.mkdtemp(prefix=".new-", dir=store)
        try:
            os.mkdir(os.path.join(temporary, "files"), 0o700)
            os.mkdir(os.path.join(temporary, "moves"), 0o700)
            for state in point["files"]:
                if state["kind"] == "file":
                    target = os.path.join(temporary, state["copy"])
                    shutil.copyfile(state["path"], target)
                    os.chmod(target, 0o600)
                    if digest(target) != state["sha256"]:
                        raise UndoError("{0} changed while it was being copied; run this again.".format(state["path"]))
            write_entry(temporary, point)
            os.rename(temporary, point["directory"])
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except (OSError, shutil.Error) as error:
        raise UndoError("Could not keep the present state in {0}: {1}. Nothing was changed.".format(store, _text(error)))


def choose(points, name=None):
    """Return the points to undo, oldest first: all that were not undone yet, or the one that is named.

    :raises UndoError: when the name is not known, was undone, or a newer point that was not undone covers the same things.
    """
    if name is None:
        return [point for point in points if not point.get("undone_at")]
    found = [point for point in points if point["id"] == name]
    if not found:
        known = ", ".join(point["id"] for point in points if not point.get("undone_at")) or "none"
        raise UndoError("There is no undo point {0}; those that can be undone: {1}.".format(name, known))
    if found[0].get("undone_at"):
        raise UndoError("The undo point {0} was undone at {1}.".format(name, found[0]["undone_at"]))

    def things(point):
        return set(
            [state["path"] for state in point["files"]]
            + [state["unit"] for state in point["units"]]
            + [state["name"] for state in point["packages"]]
            + [move["path"] for move in point["moves"]]
        )

    later = [
        point["id"]
        for point in points
        if point["sequence"] > found[0]["sequence"] and not point.get("undone_at") and things(point) & things(found[0])
    ]
    if later:
        raise UndoError(
            "{0} cannot be undone alone, since {1} came later and touched the same; undo that first, or all.".format(name, ", ".join(later))
        )
    return found


def targets(points):
    """Return the state before the oldest of the points: files, units and packages by name, moves as list.

    :param points: oldest first; the oldest that names a thing decides.
    """
    files, units, packages, moves, moved = {}, {}, {}, [], set()
    for point in points:
        for state in point["files"]:
            files.setdefault(state["path"], dict(state, directory=point["directory"]))
        for state in point["units"]:
            units.setdefault(state["unit"], state)
        for state in point["packages"]:
            packages.setdefault(state["name"], state)
        for move in point["moves"]:
            if move["path"] not in moved and os.path.lexists(move["stored"]):
                moved.add(move["path"])
                moves.append(move)
    for path in moved:
        files.pop(path, None)
    return {"files": files, "units": units, "packages": packages, "moves": moves}


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
