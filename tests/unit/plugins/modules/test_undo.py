# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import json
import os
import stat

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils.linux import undo
from ansible_collections.vmbackup.azure.plugins.modules import undo_point, undo_restore
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run


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
        monkeypatch.setattr(undo_restore, "systemctl", lambda runner, arguments: self.systemctl.append(arguments))

    def path(self, name):
        return self.root / name

    def keep(self, remedy="agent.service", check_mode=False, **params):
        return run(self.monkeypatch, undo_point, dict(params, remedy=remedy, store=str(self.store)), check_mode)

    def restore(self, check_mode=False, **params):
        return run(self.monkeypatch, undo_restore, dict(params, store=str(self.store)), check_mode)

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
    assert not point["changed"] and [move["path"] for move in point["moves"]] == [str(guest.path("dir"))]
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


def test_store_is_for_root_only(guest):
    guest.path("a").write_text("secret")
    point = guest.keep(files=[str(guest.path("a"))])
    for path in (str(guest.store), point["directory"]):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(point["directory"], "files", "0")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.join(point["directory"], "entry.json")).st_mode) == 0o600


def test_check_mode_writes_nothing(guest):
    point = guest.keep(check_mode=True, files=[str(guest.path("a"))])
    assert point["id"] and not guest.store.exists()


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
    guest.restore()
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
    done = guest.restore()
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
    "params, words",
    [
        ({"files": ["relative"]}, "absolute"),
        ({"remedy": "../../etc"}, "not the name of a remedy"),
        ({"files": ["/proc/self"]}, None),
        ({"files": ["/"]}, "is a directory"),
        ({"files": ["/dev/null"]}, "neither a file"),
    ],
)
def test_refused(guest, params, words):
    remedy = params.pop("remedy", "agent.service")
    result = guest.keep(remedy, **params)
    if words:
        assert result["failed"] and words in result["msg"]
        assert not guest.store.exists()


def test_not_root(guest, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "become" in guest.keep(files=["/a"])["msg"]
    assert "become" in guest.restore()["msg"]


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
    assert [" ".join(step[:-1]) for step in undo.unit_steps(want, now)] == steps


@pytest.mark.parametrize(
    "answers, expected",
    [
        ([(0, "install installed 1.2-3", "")], ("dpkg", "1.2-3")),
        ([(0, "hold installed 1.2-3", "")], ("dpkg", "1.2-3")),
        ([(0, "deinstall config-files 1.2-3", ""), (127, "", "")], ("dpkg", None)),
        ([(1, "", "no packages found"), (127, "", "")], ("dpkg", None)),
        ([(1, "", "no packages found"), (0, "RPM", ""), (0, "2.0-1\n", "")], ("rpm", "2.0-1")),
        ([(127, "", ""), (0, "2.0-1\n", "")], ("rpm", "2.0-1")),
        ([(127, "", ""), (1, "package x is not installed\n", "")], ("rpm", None)),
    ],
)
def test_package_state(answers, expected):
    rest = list(answers)
    got = undo.package_state("x", lambda arguments: rest.pop(0))
    assert (got["manager"], got["version"]) == expected and not rest


def test_package_state_without_managers():
    with pytest.raises(undo.UndoError, match="Neither dpkg nor rpm"):
        undo.package_state("x", lambda arguments: (127, "", ""))
