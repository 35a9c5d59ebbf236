# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("action plugins run on the controller, which needs Python 3.10", allow_module_level=True)

import base64
import hashlib
import io
import json
import os
import zipfile
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


def zipped(texts):
    """Return what a Windows guest sends of such files."""
    manifest = {
        "files": [{"name": name, "redactions": 1, "bytes": len(text), "sha256": "0"} for name, text in texts.items()],
        "redactions": 7,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in texts.items():
            archive.writestr("vmbackup/" + name, text)
        archive.writestr("vmbackup/manifest.json", b"\xef\xbb\xbf" + json.dumps(manifest).encode())
    data = buffer.getvalue()
    return dict(
        SENT, content=base64.b64encode(data).decode(), sha256=hashlib.sha256(data).hexdigest(), redactions=7, manifest=manifest
    ), data


def test_check_mode_writes_nothing_and_windows_sends_a_zip(tmp_path):
    assert act(tmp_path / "logs", SENT, check_mode=True)["path"] is None and not (tmp_path / "logs").exists()
    answer, data = zipped({"files/C/a.log": "password=[redacted]\n"})
    result = act(tmp_path, answer, windows=True)
    assert result["path"].endswith(".zip") and result["redactions"] == 7
    with open(result["path"], "rb") as stream:
        assert stream.read() == data, "nothing was to be masked"


def test_what_a_windows_guest_missed_is_masked_before_it_is_kept(tmp_path):
    answer, _data = zipped({"files/C/a.log": "Pwd=S3cr3t; [redacted]\n-Password S3cr3t\n", "files/C/b.log": "fine\n"})
    result = act(tmp_path, answer, windows=True)
    with open(result["path"], "rb") as stream:
        kept = stream.read()
    assert (result["bytes"], result["sha256"]) == (len(kept), hashlib.sha256(kept).hexdigest())
    with zipfile.ZipFile(io.BytesIO(kept)) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    assert (
        texts["vmbackup/files/C/a.log"] == b"Pwd=[redacted]; [redacted]\n-Password [redacted]\n"
        and texts["vmbackup/files/C/b.log"] == b"fine\n"
    )
    manifest = json.loads(texts["vmbackup/manifest.json"].decode("utf-8-sig"))
    assert manifest == result["manifest"] and manifest["redactions"] == result["redactions"] == 9
    entry = manifest["files"][0]
    assert entry["redactions"] == 3 and entry["sha256"] == hashlib.sha256(texts["vmbackup/files/C/a.log"]).hexdigest()


def test_what_is_no_zip_or_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    with pytest.raises(AnsibleActionFail, match="no archive"):
        act(tmp_path / "logs", SENT, windows=True)
    monkeypatch.setattr(collect_logs, "MAX_BYTES", 3)
    with pytest.raises(AnsibleActionFail, match="too large"):
        act(tmp_path / "logs", zipped({"files/C/a.log": "long"})[0], windows=True)
    assert not (tmp_path / "logs").exists()
