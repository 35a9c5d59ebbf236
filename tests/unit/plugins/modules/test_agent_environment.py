# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, undo
from ansible_collections.vmbackup.azure.plugins.modules import agent_environment
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run

UNIT = "walinuxagent.service"


class Guest(object):
    """systemd that reads its own variables and the drop-in."""

    def __init__(self, monkeypatch, tmp_path):
        self.monkeypatch, self.root, self.variables, self.files, self.deaf = monkeypatch, tmp_path, {}, "", False
        self.named = "EnvironmentFiles"
        self.drop_in = tmp_path / (UNIT + ".d") / "zzz.conf"
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(undo, "TRUSTED_UID", os.getuid())
        monkeypatch.setattr(agent_environment, "DROP_IN", str(tmp_path) + "/{0}.d/zzz.conf")
        monkeypatch.setattr(change, "snapshot_runs", lambda module: False)

    def command(self, words):
        if words[1] != "show":
            return 0, "", ""
        merged = dict(self.variables, **({} if self.deaf else agent_environment.own(str(self.drop_in))))
        text = " ".join('"{0}={1}"'.format(*pair) for pair in merged.items())
        return 0, "LoadState=loaded\nActiveState=active\nEnvironment={0}\n{2}={1}\n".format(text, self.files, self.named), ""

    def run(self, variables, check_mode=False, **params):
        params = dict(
            {"unit": UNIT, "variables": variables, "undo": "connectivity.proxy", "store": str(self.root / "base" / "undo")}, **params
        )
        return run(self.monkeypatch, agent_environment, params, check_mode, self.command)


@pytest.fixture
def guest(monkeypatch, tmp_path):
    return Guest(monkeypatch, tmp_path)


def test_variables_are_set_once_and_kept_for_undo(guest):
    guest.variables = {"http_proxy": "http://10.0.0.9:3128"}
    assert guest.run({"no_proxy": "a"}, check_mode=True)["changed"] and not guest.drop_in.exists()
    done = guest.run({"no_proxy": "168.63.129.16"}, expect={"no_proxy": None})
    assert done["changes"] == ["no_proxy=168.63.129.16"] and done["undo_point"] and done["restart_required"]
    assert guest.drop_in.read_text().endswith('[Service]\nEnvironment="no_proxy=168.63.129.16"\n')
    assert os.stat(str(guest.drop_in)).st_mode & 0o777 == 0o600
    assert not guest.run({"no_proxy": "168.63.129.16"})["changed"]
    assert guest.run({"http_proxy": ""})["changes"] == ["http_proxy="]
    assert 'Environment="http_proxy="\nEnvironment="no_proxy=168.63.129.16"\n' in guest.drop_in.read_text()


def test_a_password_is_never_shown(guest):
    guest.variables = {"http_proxy": "http://user:S3cr3t@10.0.0.9:3128"}
    done = guest.run({"https_proxy": "http://user:S3cr3t@10.0.0.9:3128"})
    assert done["changed"] and "S3cr3t" not in str(done)
    failed = guest.run({"http_proxy": "http://b"}, expect={"http_proxy": "http://u:S3cr3t2@c"})
    assert "diagnose the guest again" in failed["msg"] and "S3cr3t" not in str(failed)


@pytest.mark.parametrize("named", ["EnvironmentFiles", "EnvironmentFile"])  # since systemd 231, and before
def test_what_a_file_sets_wins_and_is_refused(guest, named):
    path = guest.root / "default"
    path.write_text("no_proxy=localhost\n")
    guest.named = named
    guest.files = "{0} (ignore_errors=yes)".format(path)
    assert "no_proxy is set in {0}".format(path) in guest.run({"no_proxy": "a"})["msg"] and not guest.drop_in.exists()


@pytest.mark.parametrize(
    "variables, words",
    [({"no proxy": "a"}, "name of a variable"), ({"a": 'b"\nExecStart=c'}, "control character"), ({"a": "\\"}, "backslash")],
)
def test_bad_input_is_one_sentence(guest, variables, words):
    failed = guest.run(variables)
    assert failed["failed"] and words in failed["msg"] and "Nothing was changed" in failed["msg"]


def test_a_unit_that_does_not_take_it_up_is_put_back(guest):
    guest.deaf = True
    assert "the unit does not show it" in guest.run({"no_proxy": "a"})["msg"] and not guest.drop_in.exists()
