# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("action plugins run on the controller, which needs Python 3.10", allow_module_level=True)

import base64
import hashlib
import os
from unittest import mock

from ansible.errors import AnsibleActionFail
from ansible_collections.vmbackup.azure.plugins.action import collect_logs

DATA = b"an archive"
SENT = {"changed": False, "content": base64.b64encode(DATA).decode(), "sha256": hashlib.sha256(DATA).hexdigest(), "manifest": {"files": []}}


def act(directory, answer, host="web01", check_mode=False, windows=False):
    task = mock.MagicMock(args={"directory": str(directory)}, check_mode=check_mode, async_val=0, diff=False)
    connection = mock.MagicMock()
    connection._shell._IS_WINDOWS = windows
    action = collect_logs.ActionModule(
        task=task, connection=connection, play_context=mock.MagicMock(), loader=None, templar=None, shared_loader_obj=None
    )
    action._execute_module = lambda **_options: dict(answer)
    return action.run(task_vars={"inventory_hostname": host})


def test_the_archive_is_written_for_its_owner_only(tmp_path):
    result = act(tmp_path / "logs", SENT)
    assert os.path.basename(result["path"]).startswith("web01-") and "content" not in result and result["changed"] is False
    with open(result["path"], "rb") as stream:
        assert stream.read() == DATA
    assert os.stat(result["path"]).st_mode & 0o777 == 0o600 and os.stat(str(tmp_path / "logs")).st_mode & 0o777 == 0o700
    assert len(os.listdir(str(tmp_path / "logs"))) == 1


def test_odd_names_of_hosts_stay_below_the_directory_and_apart():
    names = {collect_logs.file_name(host, 0) for host in ("../a", "..-a", "a/b", "a_b", "..", "")}
    assert len(names) == 6 and not [name for name in names if "/" in name or name.startswith(".")]


@pytest.mark.parametrize("answer", [dict(SENT, sha256="0" * 64), dict(SENT, content="!"), dict(SENT, content=None)])
def test_what_is_not_what_was_collected_is_refused(tmp_path, answer):
    with pytest.raises(AnsibleActionFail):
        act(tmp_path / "logs", answer)
    assert not (tmp_path / "logs").exists()


def test_check_mode_writes_nothing_and_windows_sends_a_zip(tmp_path):
    assert act(tmp_path / "logs", SENT, check_mode=True)["path"] is None and not (tmp_path / "logs").exists()
    assert act(tmp_path, SENT, windows=True)["path"].endswith(".zip")
