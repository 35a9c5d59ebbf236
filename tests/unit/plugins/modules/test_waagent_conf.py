# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import os
import stat

import pytest
from ansible_collections.vmbackup.azure.plugins.modules import waagent_conf
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "waagent.conf"
    path.write_bytes(b"# head\nExtensions.Enabled=n\nLogs.Verbose = y\nHttpProxy.Host=http://u:hunter2@proxy\n")
    path.chmod(0o640)
    return path


def test_set_check_mode_then_really(monkeypatch, path):
    params = {"path": str(path), "settings": {"Extensions.Enabled": True}, "absent": ["Logs.Verbose"]}
    before = path.read_bytes()
    would = run(monkeypatch, waagent_conf, params, check_mode=True)
    assert path.read_bytes() == before
    did = run(monkeypatch, waagent_conf, params)
    assert would == did
    assert did["changed"] and did["restart_required"]
    assert did["changes"] == {"Extensions.Enabled": {"before": "n", "after": "y"}, "Logs.Verbose": {"before": "y", "after": None}}
    assert path.read_bytes() == b"# head\nExtensions.Enabled=y\nHttpProxy.Host=http://u:hunter2@proxy\n"
    assert stat.S_IMODE(os.stat(str(path)).st_mode) == 0o640
    again = run(monkeypatch, waagent_conf, params)
    assert not again["changed"] and again["changes"] == {}
    assert "hunter2" not in repr((would, did, again))


def test_canonical_changes_no_value(monkeypatch, path):
    done = run(monkeypatch, waagent_conf, {"path": str(path), "canonical": True})
    assert done["changed"] and done["changes"] == {}
    assert b"\nLogs.Verbose=y\n" in path.read_bytes()


def test_link_is_followed(monkeypatch, path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    done = run(monkeypatch, waagent_conf, {"path": str(link), "settings": {"Extensions.Enabled": "y"}})
    assert done["path"] == str(path) and link.is_symlink()


@pytest.mark.parametrize(
    "params, words",
    [
        ({"settings": {"Extensions.Enable": "y"}}, "use 'Extensions.Enabled'"),
        ({"settings": {"Extensions.Enabled": "on"}}, "only y or n"),
        ({"settings": {"A": "1"}, "absent": ["A"]}, "choose one"),
    ],
)
def test_refused(monkeypatch, path, params, words):
    before = path.read_bytes()
    result = run(monkeypatch, waagent_conf, dict(params, path=str(path)))
    assert result["failed"] and words in result["msg"]
    assert path.read_bytes() == before


def test_missing_file(monkeypatch, tmp_path):
    result = run(monkeypatch, waagent_conf, {"path": str(tmp_path / "none")})
    assert result["failed"] and "does not exist" in result["msg"] and "install" in result["msg"]


def test_not_utf8(monkeypatch, path):
    path.write_bytes(b"A=\xff\n")
    result = run(monkeypatch, waagent_conf, {"path": str(path), "settings": {"A": "1"}})
    assert result["failed"] and "not UTF-8" in result["msg"]


def test_replacing_fails(monkeypatch, path):
    """By what this module says itself: older versions of ansible-core end a module whose file they cannot replace, and show what it was given."""
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(waagent_conf.undo.os, "fsync", full)
    settings = {"Extensions.Enabled": "y", "HttpProxy.Host": "u:hunter3@proxy"}
    result = run(monkeypatch, waagent_conf, {"path": str(path), "settings": settings})
    assert result["failed"] and "Could not replace" in result["msg"] and "No space left" in result["msg"]
    assert "hunter" not in repr(result["invocation"]["module_args"]["settings"])
    assert path.read_bytes() == before and os.listdir(str(path.parent)) == ["waagent.conf"]


def test_owner_mode_and_attributes_stay(monkeypatch, path):
    try:
        os.setxattr(str(path), "user.test", b"kept")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    run(monkeypatch, waagent_conf, {"path": str(path), "settings": {"Extensions.Enabled": "y"}})
    assert os.getxattr(str(path), "user.test") == b"kept" and stat.S_IMODE(path.stat().st_mode) == 0o640


def test_credentials_do_not_come_back(monkeypatch, path):
    settings = {"HttpProxy.Host": "u:hunter3@proxy", "HttpProxy.Port": 3128}
    done = run(monkeypatch, waagent_conf, {"path": str(path), "settings": settings})
    assert b"HttpProxy.Host=u:hunter3@proxy\n" in path.read_bytes()
    assert "hunter" not in repr(done) and done["invocation"]["module_args"]["settings"]["HttpProxy.Port"] == "3128"
    refused = run(monkeypatch, waagent_conf, {"path": str(path), "settings": dict(settings, A="a b#")})
    assert refused["failed"] and "hunter" not in repr(refused)
