# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The store that keeps, on the guest, what a remedy is about to change.

One directory per undo point, ``<UTC stamp>-<remedy>``, readable by root only, holding ``entry.json`` and copies. A point is written
under a temporary name and renamed when it is whole, so a point that is there is complete. When the remedy has written, the point is
sealed: it also holds what was written, so that undo can tell it from what somebody changed since. The plan of what to bring back
is a pure function of the points and of what is there now.
"""

import calendar
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import guard_program

STORE = "/var/lib/vmbackup_azure/undo"
ENTRY = "entry.json"
SCHEMA = 1
RESERVE_BYTES = 4 * 1024 * 1024  # left free beside what is copied, so that an undo point never fills the disk
TRUSTED_UID = 0
FINISHED = ("installed", "triggers-awaited", "triggers-pending")  # states of dpkg in which a package works
_REMEDY = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?\Z")
_UNIT = re.compile(r"[A-Za-z0-9@_.:\\-]+\Z")
_UNIT_PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,FragmentPath"


class UndoError(Exception):
    """The store cannot do what was asked; the text says why and what to do."""


def _text(error):
    return os.strerror(error.errno) if getattr(error, "errno", None) else str(error)


def runner_of(module):
    """Return a function that runs a command through the module: (exit code, output, error output), 127 when it is not there.

    Its second argument is what the command reads.
    """

    def run(arguments, data=None):
        program = module.get_bin_path(arguments[0])
        if not program:
            return 127, "", "{0} is not there".format(arguments[0])
        more = {} if data is None else {"data": data}
        return module.run_command([program] + arguments[1:], environ_update={"LC_ALL": "C", "LANG": "C"}, **more)

    return run


def digest(path):
    """Return the SHA-256 of a regular file."""
    sum_ = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sum_.update(block)
    return sum_.hexdigest()


def replace(path, blocks, mode=None, owner=None, check=None):
    """Replace a file in one step, on the disk before it returns; made beside it, so that what is there stays until the new one is whole.

    Mode, owner, access list and SELinux context are those of the file that is there, unless they are given.

    :param blocks: the content, an iterable of bytes.
    :param owner: (uid, gid).
    :param check: is called with the path of the new file before it takes the place, and raises when it must not.
    :raises OSError: the file is as it was.
    """
    parent = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(prefix=".vmbackup-", dir=parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            for block in blocks:
                stream.write(block)
            stream.flush()
            if os.path.isfile(path) and not os.path.islink(path):
                info = os.stat(path)
                os.chown(temporary, info.st_uid, info.st_gid)
                shutil.copystat(path, temporary)  # extended attributes too
                os.utime(temporary, None)
            else:
                os.chmod(temporary, 0o644)
            if owner is not None:
                os.chown(temporary, *owner)
            if mode is not None:
                os.chmod(temporary, mode)
            os.fsync(stream.fileno())
        if check:
            check(temporary)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    guard_program.sync_directory(parent)


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


def same_settings(one, other):
    """Say whether two states of a unit are the same apart from whether it runs."""
    return all(one.get(key) == other.get(key) for key in ("exists", "masked", "unit_file_state", "links"))


def same_unit(one, other):
    return same_settings(one, other) and one.get("active_state") == other.get("active_state")


def same_package(one, other):
    return one.get("version") == other.get("version") and bool(one.get("unfinished")) == bool(other.get("unfinished"))


def same_version(one, other):
    """Say whether two states of a package are the same apart from whether its installation was finished, which anybody may do."""
    return one.get("version") == other.get("version")


def package_state(name, runner):
    """Return name, manager (dpkg or rpm), installed version (None when it is not installed) and ``unfinished`` of a package.

    ``unfinished`` says that its last installation or removal was interrupted.
    """
    code, out, err = runner(["dpkg-query", "-W", "-f=${db:Status-Want} ${db:Status-Status} ${db:Status-Eflag} ${Version}", name])
    if code in (0, 1):
        cells = out.split()
        present = len(cells) == 4 and cells[1] not in ("not-installed", "config-files")
        known = {"name": name, "manager": "dpkg", "version": cells[3] if present else None, "held": present and cells[0] == "hold"}
        known["unfinished"] = present and (cells[1] not in FINISHED or cells[2] != "ok")
        if known["version"] or runner(["rpm", "--version"])[0] == 127:
            return known
    elif code != 127:
        raise UndoError("Could not ask dpkg about {0}: {1}.".format(name, err.strip() or "exit code {0}".format(code)))
    code, out, err = runner(["rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}\\n", name])
    if code == 127:
        raise UndoError("Neither dpkg nor rpm is there to ask about the package {0}.".format(name))
    versions = out.split() if code == 0 else []
    if code != 0 and "not installed" not in out:
        raise UndoError("Could not ask rpm about {0}: {1}.".format(name, (err or out).strip()))
    # Two versions at once are what an interrupted update leaves behind.
    return {"name": name, "manager": "rpm", "version": versions[-1] if versions else None, "held": None, "unfinished": len(versions) > 1}


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


def check_trusted(path, directory=True):
    """Refuse what somebody other than root could have put there: what is undone is done as root.

    :raises UndoError: when the path is a link, of the wrong kind, of another owner, or writable by others.
    """
    info = os.lstat(path)
    kind = stat.S_ISDIR if directory else stat.S_ISREG
    if not kind(info.st_mode):
        why = "it is not a {0}".format("directory" if directory else "regular file")
    elif info.st_uid != TRUSTED_UID:
        why = "it belongs to the user with the number {0}".format(info.st_uid)
    elif info.st_mode & 0o022:
        why = "others may write to it (mode {0:04o})".format(stat.S_IMODE(info.st_mode))
    else:
        return
    raise UndoError(
        "{0} is not trusted, since {1}; undo points are used only when root alone can write them. Look at who made it, move it away, then "
        "run this again. Nothing was changed.".format(path, why)
    )


def make_directory(path):
    """Make a directory for root only where it is missing, and refuse one that is not trusted."""
    try:
        os.makedirs(path, 0o700)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    check_trusted(path)


def remove_point(store, point):
    """Remove a point and all that it keeps, in one step for whoever reads the store."""
    gone = tempfile.mkdtemp(prefix=".old-", dir=store)
    os.rename(point["directory"], os.path.join(gone, "point"))
    shutil.rmtree(gone, ignore_errors=True)


def mark_undone(point, now):
    point["undone_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    write_entry(point["directory"], point)


def read_points(store):
    """Return every undo point, oldest first, each with its ``directory``.

    :raises UndoError: when an entry cannot be read or is not trusted; nothing may be undone on half of the knowledge.
    """
    try:
        names = sorted(os.listdir(store))
        check_trusted(os.path.dirname(store))
        check_trusted(store)
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
            check_trusted(directory)
            check_trusted(path, directory=False)
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
            point.setdefault("written", None)
            point.setdefault("items", [])
            if point["written"] is not None and not isinstance(point["written"], dict):
                raise ValueError("what was written is no object")
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
    replace(os.path.join(directory, ENTRY), [(json.dumps(content, indent=1, sort_keys=True) + "\n").encode("utf-8")], mode=0o600)


def same_point(point, capture):
    """Say whether a point already keeps what was captured."""

    def match(kept, now, name, same):
        return len(kept) == len(now) and all(one[name] == other[name] and same(one, other) for one, other in zip(kept, now))

    return (
        match(point["files"], capture["files"], "path", same_file)
        and match(point["units"], capture["units"], "unit", same_unit)
        and match(point["packages"], capture["packages"], "name", same_package)
        and [move["path"] for move in point["moves"]] == capture["moves"]
        and point["items"] == capture.get("items", [])
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
        "items": captured.get("items", []),
        "moves": [{"path": path, "stored": os.path.join(directory, "moves", str(n))} for n, path in enumerate(captured["moves"])],
        "written": None,
        "directory": directory,
    }
    return point, False


def seal(point, runner, items=()):
    """Keep in a point what the remedy has written: the present state of all that the point names.

    :param items: the present state of the point's items (kinds.py).
    """
    point["written"] = {
        "files": [file_state(state["path"]) for state in point["files"]],
        "units": [unit_state(state["unit"], runner) for state in point["units"]],
        "packages": [package_state(state["name"], runner) for state in point["packages"]],
        "items": list(items),
    }
    try:
        write_entry(point["directory"], point)
    except OSError as error:
        raise UndoError(
            "The guest was changed, but the undo point {0} could not be finished: {1}. It can be undone; look first at what changed "
            "since.".format(point["id"], _text(error))
        )


def expired(points, keep_days, now):
    """Return the points that are older than so many days, oldest first; none when keep_days is 0.

    A point without a time that can be read stays.
    """
    result = []
    for point in points:
        try:
            made = calendar.timegm(time.strptime(str(point.get("created_at")), "%Y-%m-%dT%H:%M:%SZ"))
        except ValueError:
            continue
        if keep_days and now - made > keep_days * 86400:
            result.append(point)
    return result


def _device(path):
    return os.lstat(path).st_dev


def write_point(store, point):
    """Write a point: everything under a temporary name first, renamed when whole."""
    need = sum(state.get("size", 0) for state in point["files"])
    try:
        device = _device(nearest(store))
        need += sum(tree_bytes(move["path"]) for move in point["moves"] if _device(move["path"]) != device)
        check_room(store, need)
        make_directory(os.path.dirname(store))
        make_directory(store)
        temporary = tempfile.mkdtemp(prefix=".new-", dir=store)
        try:
            os.mkdir(os.path.join(temporary, "files"), 0o700)
            os.mkdir(os.path.join(temporary, "moves"), 0o700)
            for state in point["files"]:
                if state["kind"] == "file":
                    target = os.path.join(temporary, state["copy"])
                    shutil.copyfile(state["path"], target)
                    os.chmod(target, 0o600)
                    with open(target, "rb") as stream:
                        os.fsync(stream.fileno())  # a copy that a crash emptied could not be brought back
                    if digest(target) != state["sha256"]:
                        raise UndoError("{0} changed while it was being copied; run this again.".format(state["path"]))
            write_entry(temporary, point)
            guard_program.sync_directory(os.path.join(temporary, "files"))
            guard_program.sync_directory(temporary)
            os.rename(temporary, point["directory"])
            guard_program.sync_directory(store)
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
            + [item["key"] for item in point["items"]]
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
