# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import json
import os
import stat
import subprocess
import time

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, restore, undo
from ansible_collections.vmbackup.azure.plugins.modules import undo as undo_module
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run


class Module(object):
    """What a change needs of an AnsibleModule."""

    def __init__(self, params):
        self.params = params

    def get_bin_path(self, name):
        return name

    def run_command(self, arguments, **_options):
        return subprocess.call(arguments), "", ""


class Guest(object):
    """A guest of files below a directory, one unit and one package."""

    def __init__(self, monkeypatch, tmp_path):
        self.monkeypatch = monkeypatch
        self.root = tmp_path / "etc"
        self.root.mkdir()
        self.store = tmp_path / "store"
        self.unit = {"exists": True, "unit_file_state": "enabled", "active_state": "active", "masked": None, "links": ["x"]}
        self.package = "1.0"
        self.systemctl = []
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "chown", lambda *_arguments: None)
        monkeypatch.setattr(undo, "unit_state", lambda name, runner=None: dict(self.unit, unit=name))
        monkeypatch.setattr(undo, "package_state", lambda name, runner=None: {"name": name, "manager": "dpkg", "version": self.package})
        monkeypatch.setattr(restore, "systemctl", lambda runner, arguments: self.systemctl.append(arguments))

    def path(self, name):
        return self.root / name

    def keep(self, remedy="agent.service", now=None, **things):
        """Keep the present state, as a writer does before it writes."""
        named = [things.get(kind, []) for kind in ("files", "units", "packages", "moves")]
        captured = undo.capture(*(named + [None]))
        store = str(self.store)
        point, existing = undo.plan_point(store, remedy, captured, undo.read_points(store), time.time() if now is None else now)
        if not existing:
            undo.write_point(store, point)
        return dict(point, existing=existing)

    def seal(self, point):
        """Keep what was written, as a writer does afterwards."""
        undo.seal({key: value for key, value in point.items() if key != "existing"}, None)

    def restore(self, check_mode=False, **params):
        return run(self.monkeypatch, undo_module, dict(params, store=str(self.store)), check_mode)

    def change(self, write, **things):
        """Do a whole change of the files named, in the frame that every writer uses."""
        module = Module(dict(change.options(), undo="agent.service", keep_days=90, store=str(self.store)))
        with change.Change(module, **things) as frame:
            write(frame)
        return frame.point_id

    def tree(self):
        found = {}
        for directory, names, files in os.walk(str(self.root)):
            for name in names + files:
                path = os.path.join(directory, name)
                found[os.path.relpath(path, str(self.root))] = (
                    os.readlink(path) if os.path.islink(path) else open(path).read() if os.path.isfile(path) else "directory",
                    stat.S_IMODE(os.lstat(path).st_mode),
                )
        return found


@pytest.fixture
def guest(monkeypatch, tmp_path):
    return Guest(monkeypatch, tmp_path)


def test_round_trip(guest):
    guest.path("a").write_text("one\n")
    guest.path("a").chmod(0o600)
    guest.path("link").symlink_to("a")
    guest.path("dir").mkdir()
    guest.path("dir").joinpath("inner").write_text("x")
    before = guest.tree()
    point = guest.keep(
        files=[str(guest.path("a")), str(guest.path("new")), str(guest.path("link"))],
        moves=[str(guest.path("dir")), str(guest.path("none"))],
    )
    assert [move["path"] for move in point["moves"]] == [str(guest.path("dir"))]
    os.rename(str(guest.path("dir")), point["moves"][0]["stored"])
    guest.path("a").write_text("two\n")
    guest.path("a").chmod(0o644)
    guest.path("new").write_text("new\n")
    guest.path("link").unlink()
    changed = guest.tree()
    would = guest.restore(check_mode=True)
    assert guest.tree() == changed
    done = guest.restore()
    assert guest.tree() == before
    assert would["steps"] == done["steps"] and would["diff"] == done["diff"] and would["changed"] and done["changed"]
    kept = done["kept"]
    assert kept and sorted(
        open(str(guest.store / kept / "files" / name)).read() for name in os.listdir(str(guest.store / kept / "files"))
    ) == ["new\n", "two\n"]
    again = guest.restore()
    assert not again["changed"] and again["points"] == []


def test_the_diff_shows_of_a_configuration_what_its_writer_shows(guest):
    guest.path("a").write_text("# ask bob, the word is hunter2\nLogs.Verbose=y\nHttpProxy.Host=u:hunter2@proxy\nOther=hunter2\n")
    guest.keep(files=[str(guest.path("a"))])
    guest.path("a").write_text("Logs.Verbose=n\n")
    diff = guest.restore(check_mode=True)["diff"]
    assert "hunter2" not in repr(diff) and "Logs.Verbose=y" in diff[0]["after"]


def test_store_is_for_root_only(guest):
    guest.path("a").write_text("secret")
    point = guest.keep(files=[str(guest.path("a"))])
    for path in (str(guest.store), point["directory"]):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(point["directory"], "files", "0")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.join(point["directory"], "entry.json")).st_mode) == 0o600


def test_same_state_is_kept_once(guest):
    guest.path("a").write_text("one")
    first = guest.keep(files=[str(guest.path("a"))], units=["a.service"])
    assert guest.keep(files=[str(guest.path("a"))], units=["a.service"])["id"] == first["id"]
    other = guest.keep("agent.update", files=[str(guest.path("a"))], units=["a.service"])
    assert other["id"] != first["id"] and not other["existing"]
    guest.path("a").write_text("two")
    assert guest.keep(files=[str(guest.path("a"))], units=["a.service"])["id"] != first["id"]
    guest.restore()
    assert not guest.keep(files=[str(guest.path("a"))], units=["a.service"])["existing"]


def test_what_a_link_leads_to_is_kept(guest):
    guest.path("real").write_text("one\n")
    guest.path("link").symlink_to(guest.path("real"))
    before = guest.tree()
    guest.keep(files=[str(guest.path("link"))])
    guest.path("real").write_text("two\n")
    guest.restore()
    assert guest.tree() == before


def test_a_thing_that_comes_again_is_moved_again(guest):
    for text in ("one", "two"):
        guest.path("marker").write_text(text)
        point = guest.keep(moves=[str(guest.path("marker"))])
        assert not point["existing"] and not os.path.lexists(point["moves"][0]["stored"])
        os.rename(str(guest.path("marker")), point["moves"][0]["stored"])
    guest.restore(force=True)
    assert guest.path("marker").read_text() == "one", "back to before the oldest"
    kept = [str(path) for path in guest.store.rglob("*") if path.is_file() and path.read_text() == "two"]
    assert kept, "the second one is not lost"


def test_goes_back_to_before_the_oldest(guest):
    guest.path("a").write_text("one")
    guest.keep(files=[str(guest.path("a"))])
    guest.path("a").write_text("two")
    guest.keep("agent.update", files=[str(guest.path("a"))])
    guest.path("a").write_text("three")
    done = guest.restore()
    assert guest.path("a").read_text() == "one" and len(done["points"]) == 2


def test_one_point_only(guest):
    for name in ("a", "b"):
        guest.path(name).write_text("one")
    first = guest.keep(files=[str(guest.path("a"))])
    guest.keep("agent.update", files=[str(guest.path("b"))])
    for name in ("a", "b"):
        guest.path(name).write_text("two")
    guest.restore(point=first["id"])
    assert (guest.path("a").read_text(), guest.path("b").read_text()) == ("one", "two")
    assert "was undone" in guest.restore(point=first["id"])["msg"]
    assert "no undo point" in guest.restore(point="20200101T000000Z-agent.none")["msg"]


def test_point_under_a_newer_one_is_refused(guest):
    guest.path("a").write_text("one")
    first = guest.keep(files=[str(guest.path("a"))])
    guest.path("a").write_text("two")
    second = guest.keep("agent.update", files=[str(guest.path("a"))])
    result = guest.restore(point=first["id"])
    assert result["failed"] and second["id"] in result["msg"]


def test_moved_thing_that_came_back_is_kept(guest):
    guest.path("dir").mkdir()
    point = guest.keep(moves=[str(guest.path("dir"))])
    os.rename(str(guest.path("dir")), point["moves"][0]["stored"])
    guest.path("dir").mkdir()
    guest.path("dir").joinpath("later").write_text("x")
    left = guest.restore()
    assert not left["changed"] and "came back" in left["left"][0] and os.listdir(str(guest.path("dir"))) == ["later"]
    done = guest.restore(force=True)
    assert os.listdir(str(guest.path("dir"))) == []
    assert os.listdir(str(guest.store / done["kept"] / "moves" / "0")) == ["later"]


def test_move_that_never_happened(guest):
    guest.path("dir").mkdir()
    guest.keep(moves=[str(guest.path("dir"))])
    done = guest.restore()
    assert guest.path("dir").is_dir() and not done["changed"]


def test_units_and_restart(guest):
    guest.path("a").write_text("one")
    guest.unit.update(unit_file_state="masked", masked="persistent", active_state="inactive", links=[])
    guest.keep(units=["a.service"])
    guest.unit.update(unit_file_state="enabled", masked=None, active_state="active", links=["x"])
    guest.keep("agent.configuration", files=[str(guest.path("a"))], units=["a.service"])
    done = guest.restore()
    assert guest.systemctl == [["disable", "a.service"], ["stop", "a.service"], ["mask", "a.service"]]
    assert done["restart_units"] == []


def test_restart_of_what_runs_on(guest):
    guest.path("a").write_text("one")
    guest.keep(files=[str(guest.path("a"))], units=["a.service"])
    guest.path("a").write_text("two")
    assert guest.restore(check_mode=True)["restart_units"] == ["a.service"]


def test_packages(guest):
    guest.keep(packages=["waagent"])
    guest.package = "2.0"
    assert guest.restore(check_mode=True)["packages"] == [{"name": "waagent", "version": "1.0", "present": "2.0"}]
    result = guest.restore(packages=False)
    assert result["failed"] and "waagent (now 2.0, was 1.0)" in result["msg"]
    guest.package = "1.0"
    assert guest.restore(packages=False)["packages"] == []


def test_what_goes_with_the_agent_comes_after_it(guest):
    names = ["python-azure-agent-config-server", "python3-azure-agent"]
    guest.keep(packages=names)
    guest.package = "2.0"
    assert [package["name"] for package in guest.restore(check_mode=True)["packages"]] == names[::-1]


def test_damaged_copy_is_not_restored(guest):
    guest.path("a").write_text("one")
    point = guest.keep(files=[str(guest.path("a"))])
    guest.path("a").write_text("two")
    with open(os.path.join(point["directory"], "files", "0"), "w") as stream:
        stream.write("bad")
    result = guest.restore()
    assert result["failed"] and "damaged" in result["msg"] and guest.path("a").read_text() == "two"
    assert undo.read_points(str(guest.store))[0]["undone_at"] is None


def test_damaged_entry_stops_everything(guest):
    point = guest.keep(files=[str(guest.path("a"))])
    for content in ("", "[]", "{}", json.dumps({"schema_version": 1})):
        with open(os.path.join(point["directory"], "entry.json"), "w") as stream:
            stream.write(content)
        result = guest.restore()
        assert result["failed"] and "Move that directory away" in result["msg"]


@pytest.mark.parametrize(
    "remedy, path, words",
    [
        ("../../etc", "/a", "not the name of a remedy"),
        ("agent.service", "/", "is a directory"),
        ("agent.service", "/dev/null", "neither a file"),
    ],
)
def test_refused(guest, remedy, path, words):
    with pytest.raises(undo.UndoError, match=words):
        guest.keep(remedy, files=[path])
    assert not guest.store.exists()


def test_not_root(guest, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "become" in guest.restore()["msg"]


def test_what_somebody_changed_since_is_left(guest):
    for name in ("a", "b"):
        guest.path(name).write_text("one")
    point = guest.keep(files=[str(guest.path("a")), str(guest.path("b"))], units=["a.service"])
    for name in ("a", "b"):
        guest.path(name).write_text("repaired")
    guest.unit.update(unit_file_state="static")
    guest.seal(point)
    guest.path("b").write_text("administrator")
    guest.unit.update(unit_file_state="masked", masked="persistent")
    done = guest.restore()
    assert (guest.path("a").read_text(), guest.path("b").read_text()) == ("one", "administrator")
    assert guest.systemctl == [] and [line.split()[0] for line in done["left"]] == [str(guest.path("b")), "a.service"]
    assert undo.read_points(str(guest.store))[0]["undone_at"] is None, "what was left can be taken back later"
    guest.unit.update(unit_file_state="enabled", masked=None)
    forced = guest.restore(force=True)
    assert guest.path("b").read_text() == "one" and forced["left"] == []
    assert open(str(guest.store / forced["kept"] / "files" / "0")).read() == "administrator", "nothing is lost"


def test_goes_back_only_to_where_somebody_changed_it(guest):
    path = guest.path("a")
    path.write_text("one")
    first = guest.keep(files=[str(path)])
    path.write_text("two")
    guest.seal(first)
    path.write_text("administrator")
    second = guest.keep("agent.update", files=[str(path)])
    path.write_text("three")
    guest.seal(second)
    guest.restore()
    assert path.read_text() == "administrator"


@pytest.mark.parametrize(
    "present, unfinished, force, back",
    [
        ("2.0", False, False, True),
        ("3.0", False, False, False),
        ("3.0", False, True, False),
        ("1.5", False, False, False),
        ("1.5", False, True, True),
        ("2.0", True, False, True),
        ("3.0", True, False, True),
    ],
)
def test_a_package_is_not_downgraded_below_what_somebody_installed(guest, present, unfinished, force, back):
    point = guest.keep(packages=["waagent"])
    guest.package = "2.0"
    guest.seal(point)
    guest.package = present
    guest.monkeypatch.setattr(
        undo, "package_state", lambda name, runner=None: {"name": name, "version": guest.package, "unfinished": unfinished}
    )
    done = guest.restore(check_mode=True, force=force)
    assert bool(done["packages"]) == back and bool(done["left"]) != back
    assert back or present in done["left"][0]


def test_a_package_that_was_not_finished_is_taken_back(guest):
    guest.keep(packages=["waagent"])
    guest.monkeypatch.setattr(undo, "package_state", lambda name, runner=None: {"name": name, "version": "1.0", "unfinished": True})
    assert guest.restore(check_mode=True)["packages"] == [{"name": "waagent", "version": "1.0", "present": "1.0"}]


def test_an_interrupted_installation_that_was_finished_is_not_interrupted_again(guest):
    states = {"version": "1.0", "unfinished": True}
    guest.monkeypatch.setattr(undo, "package_state", lambda name, runner=None: dict(states, name=name))
    point = guest.keep("agent.install", packages=["waagent"])
    states["unfinished"] = False
    guest.seal(point)
    done = guest.restore(packages=False)
    assert not done.get("failed") and done["packages"] == [] and done["points"] == [point["id"]]


@pytest.mark.parametrize("error", [ValueError("failed"), change.Deferred("a snapshot is running")])
def test_what_is_changed_after_a_change_that_was_given_up_is_left(guest, error):
    guest.path("a").write_text("one")

    def fail(frame):
        guest.package = "2.0"
        raise error

    with pytest.raises(type(error)):
        guest.change(fail, files=[str(guest.path("a"))], packages=["waagent"], roll_back=False)
    guest.path("a").write_text("administrator")
    for force in (False, True):
        would = guest.restore(check_mode=True, force=force)
        assert would["steps"] == [] and would["left"] == []
        assert would["packages"] == [{"name": "waagent", "version": "1.0", "present": "2.0"}]
    guest.package = "1.0"
    guest.restore(packages=False)
    assert guest.path("a").read_text() == "administrator" and undo.read_points(str(guest.store))[0]["undone_at"]


def test_what_the_repair_did_not_change_does_not_keep_undo_from_its_end(guest):
    guest.path("a").write_text("one")
    point = guest.keep("agent.update", files=[str(guest.path("a"))], units=["a.service"], packages=["waagent"])
    guest.seal(point)
    guest.path("a").write_text("administrator")
    guest.package = "3.0"
    guest.unit.update(unit_file_state="masked", masked="persistent", active_state="inactive")
    done = guest.restore(force=True)
    assert (done["left"], done["packages"], guest.path("a").read_text()) == ([], [], "administrator")
    assert guest.systemctl == [] and guest.restore()["points"] == []


def test_a_repair_that_ends_while_undo_waits_for_the_lock_is_undone(guest):
    path = guest.path("a")
    path.write_text("one")
    point, enter = guest.keep(files=[str(path)]), change.Change.__enter__

    def late(frame):
        path.write_text("two")
        guest.seal(point)
        return enter(frame)

    guest.monkeypatch.setattr(change.Change, "__enter__", late)
    assert guest.restore()["changed"] and path.read_text() == "one"


def test_the_agent_that_runs_on_reads_its_restored_configuration(guest):
    guest.path("a").write_text("one")
    guest.keep("agent.configuration", files=[str(guest.path("a"))])
    guest.path("a").write_text("two")
    assert guest.restore(check_mode=True, readers=["a.service"])["restart_units"] == ["a.service"]
    guest.unit["active_state"] = "inactive"
    assert guest.restore(readers=["a.service"])["restart_units"] == []
    guest.unit["active_state"] = "active"
    assert guest.restore(readers=["a.service"])["restart_units"] == [], "nothing was restored"


def test_points_expire(guest):
    now = time.time()
    guest.path("a").write_text("one")
    old = guest.keep(now=now - 91 * 86400, files=[str(guest.path("a"))])
    young = guest.keep("agent.update", now=now - 89 * 86400, files=[str(guest.path("a"))])
    guest.path("a").write_text("two")
    point = guest.change(lambda frame: guest.path("a").write_text("three"), files=[str(guest.path("a"))])
    assert [entry["id"] for entry in undo.read_points(str(guest.store))] == [young["id"], point] and not os.path.exists(old["directory"])
    assert undo.expired([old], 0, now) == []
    assert undo.expired([dict(old, created_at="never")], 90, now) == []


@pytest.mark.parametrize("what", ["store", "base", "point", "entry", "link", "owner"])
def test_a_store_that_others_can_write_is_refused(guest, tmp_path, what):
    guest.path("a").write_text("one")
    point = guest.keep(files=[str(guest.path("a"))])
    guest.path("a").write_text("two")
    entry = os.path.join(point["directory"], "entry.json")
    if what == "link":
        os.rename(entry, str(tmp_path / "entry"))
        os.symlink(str(tmp_path / "entry"), entry)
    elif what == "owner":
        guest.monkeypatch.setattr(undo, "TRUSTED_UID", os.getuid() + 1)
    else:
        path = {"store": str(guest.store), "base": str(tmp_path), "point": point["directory"], "entry": entry}[what]
        os.chmod(path, 0o777)
    result = guest.restore()
    assert result["failed"] and "is not trusted" in result["msg"] and "Nothing was changed" in result["msg"]
    assert guest.path("a").read_text() == "two"
    with pytest.raises(undo.UndoError, match="is not trusted"):
        guest.change(lambda frame: None, files=[str(guest.path("a"))])


def test_a_change_that_fails_is_rolled_back(guest):
    guest.path("a").write_text("one")
    guest.path("gone").write_text("kept")

    def write(frame):
        guest.path("a").write_text("half")
        os.rename(frame.moves[0]["path"], frame.moves[0]["stored"])
        raise ValueError("no")

    with pytest.raises(ValueError):
        guest.change(write, files=[str(guest.path("a"))], moves=[str(guest.path("gone"))])
    assert (guest.path("a").read_text(), guest.path("gone").read_text()) == ("one", "kept")
    assert undo.read_points(str(guest.store))[0]["undone_at"], "there is nothing left to undo"
    assert not guest.restore()["changed"]


def test_a_second_run_on_the_guest_is_deferred(guest, monkeypatch):
    monkeypatch.setattr(change, "LOCK_WAIT_S", 0)
    guest.path("a").write_text("one")

    def write(frame):
        with pytest.raises(change.Deferred, match="another run"):
            guest.change(lambda inner: guest.path("a").write_text("inner"), files=[str(guest.path("a"))])
        assert guest.restore()["changed"] is False
        guest.path("a").write_text("outer")

    guest.change(write, files=[str(guest.path("a"))])
    assert guest.path("a").read_text() == "outer"
    assert guest.restore()["changed"] and guest.path("a").read_text() == "one"


def test_nothing_is_written_while_a_snapshot_runs(guest, monkeypatch):
    guest.path("a").write_text("one")
    monkeypatch.setattr(change, "snapshot_runs", lambda module: True)
    with pytest.raises(change.Deferred, match="snapshot"):
        guest.change(lambda frame: guest.path("a").write_text("two"), files=[str(guest.path("a"))])
    assert guest.path("a").read_text() == "one" and not guest.store.exists()


@pytest.mark.parametrize("what", ["lock", "directory"])
def test_a_guest_that_cannot_be_locked_is_told(guest, monkeypatch, tmp_path, what):
    """Such as a /var that is read-only: in words, not as a traceback."""
    if what == "lock":
        (tmp_path / "lock").mkdir()
    else:
        (tmp_path / "file").write_text("")
        guest.store = tmp_path / "file" / "undo"
    with pytest.raises(undo.UndoError, match="Could not lock this guest .*Nothing was changed|is not trusted"):
        guest.change(lambda frame: None, files=[str(guest.path("a"))])


def test_a_point_that_cannot_be_finished_is_told(guest, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with pytest.raises(undo.UndoError, match="was changed, but .*No space left"):
        guest.change(lambda frame: monkeypatch.setattr(undo, "replace", full), files=[str(guest.path("a"))])


class Space(object):
    f_bavail, f_frsize, f_flag = 10, 4096, 0


def test_room(tmp_path):
    with pytest.raises(undo.UndoError, match="bytes free"):
        undo.check_room(str(tmp_path / "deep" / "store"), 0, lambda path: Space)
    read_only = type("ReadOnly", (Space,), {"f_flag": os.ST_RDONLY, "f_bavail": 10**9})
    with pytest.raises(undo.UndoError, match="read-only"):
        undo.check_room(str(tmp_path), 0, lambda path: read_only)
    undo.check_room(str(tmp_path), 10, lambda path: type("Enough", (Space,), {"f_bavail": 10**6}))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("LoadState=loaded\nUnitFileState=enabled\nActiveState=active", (True, None, "enabled", "active")),
        ("LoadState=masked\nUnitFileState=masked\nActiveState=inactive", (True, "persistent", "masked", "inactive")),
        ("LoadState=masked\nUnitFileState=masked-runtime\nActiveState=inactive", (True, "runtime", "masked-runtime", "inactive")),
        ("LoadState=not-found\nUnitFileState=\nActiveState=inactive", (False, None, None, "inactive")),
        ("", (False, None, None, None)),
    ],
)
def test_parse_unit(text, expected):
    got = undo.parse_unit(text)
    assert (got["exists"], got["masked"], got["unit_file_state"], got["active_state"]) == expected


def unit(state, active, masked=None, links=(), exists=True):
    return {"unit": "u", "unit_file_state": state, "active_state": active, "masked": masked, "links": list(links), "exists": exists}


@pytest.mark.parametrize(
    "want, now, steps",
    [
        (unit("enabled", "active", links="l"), unit("enabled", "active", links="l"), []),
        (unit("disabled", "inactive"), unit("enabled", "active", links="l"), ["disable", "stop"]),
        (unit("masked", "inactive", "persistent", "l"), unit("enabled", "active", links="l"), ["stop", "mask"]),
        (unit("masked", "inactive", "persistent"), unit("enabled", "active", links="l"), ["disable", "stop", "mask"]),
        (unit("masked-runtime", "inactive", "runtime", "l"), unit("enabled", "inactive", links="l"), ["mask --runtime"]),
        (unit("enabled", "active", links="l"), unit("masked", "inactive", "persistent", "l"), ["unmask", "start"]),
        (unit("enabled", "failed", links="l"), unit("enabled", "active", links="l"), ["stop"]),
        (unit("static", "active"), unit("static", "inactive"), ["start"]),
        (unit("enabled", "active"), unit(None, None, exists=False), []),
        (unit(None, "inactive", exists=False), unit("enabled", "active", links="l"), ["stop"]),
    ],
)
def test_unit_steps(want, now, steps):
    assert [" ".join(step[:-1]) for step in restore.unit_steps(want, now)] == steps


@pytest.mark.parametrize(
    "answers, expected",
    [
        ([(0, "install installed ok 1.2-3", "")], ("dpkg", "1.2-3")),
        ([(0, "hold installed ok 1.2-3", "")], ("dpkg", "1.2-3")),
        ([(0, "install half-configured ok 1.2-3", "")], ("dpkg", "1.2-3", True)),
        ([(0, "install half-installed reinstreq 1.2-3", "")], ("dpkg", "1.2-3", True)),
        ([(0, "install triggers-pending ok 1.2-3", "")], ("dpkg", "1.2-3")),
        ([(0, "deinstall config-files ok 1.2-3", ""), (127, "", "")], ("dpkg", None)),
        ([(1, "", "no packages found"), (127, "", "")], ("dpkg", None)),
        ([(1, "", "no packages found"), (0, "RPM", ""), (0, "2.0-1\n", "")], ("rpm", "2.0-1")),
        ([(127, "", ""), (0, "2.0-1\n", "")], ("rpm", "2.0-1")),
        ([(127, "", ""), (0, "1.0-1\n2.0-1\n", "")], ("rpm", "2.0-1", True)),
        ([(127, "", ""), (1, "package x is not installed\n", "")], ("rpm", None)),
    ],
)
def test_package_state(answers, expected):
    rest = list(answers)
    got = undo.package_state("x", lambda arguments: rest.pop(0))
    assert (got["manager"], got["version"], bool(got["unfinished"])) == (expected + (False,))[:3] and not rest


def test_package_state_without_managers():
    with pytest.raises(undo.UndoError, match="Neither dpkg nor rpm"):
        undo.package_state("x", lambda arguments: (127, "", ""))
