# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logs of a Windows guest for a support case: the archive by the guests' own PowerShell, and one of a guest."""

import base64
import hashlib
import io
import json
import os
import zipfile

import pytest
import test_lab_windows_engine
from windows_guest import LACKS

engine = test_lab_windows_engine.engine  # the fixture
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

SECRET = "Zq7pLw2xKv9mRt4yBn6c"
PLANT = r"""
$sas = 'https://account.blob.core.windows.net/c/b?sv=2020&sig=SECRET%3D'
$place = 'C:\VmbackupLab\logs'
[void][IO.Directory]::CreateDirectory("$place\a\b")
$key = "-----BEGIN PRIVATE KEY-----`nSECRET`n-----END PRIVATE KEY-----`n"
[IO.File]::WriteAllText("$place\one.log", "put $sas`n${key}done`n")
[IO.File]::WriteAllText("$place\wide.log", "{`"protectedSettings`": `"SECRET`"}`nwide`n", [Text.Encoding]::Unicode)
[IO.File]::WriteAllText("$place\a\b\1.settings", 'SECRET')
[IO.File]::WriteAllText("$place\a\old.log", 'old')
[IO.File]::SetLastWriteTimeUtc("$place\a\old.log", [DateTime]::UtcNow.AddDays(-60))
[IO.File]::WriteAllBytes("$place\binary.log", [byte[]](65, 0, 66))
$body = 'SECRET' * 40
[IO.File]::WriteAllText("$place\long.log", ("x" * 4000) + "`n-----BEGIN PRIVATE KEY-----`nSECRET$body`nSECRET`n-----END PRIVATE KEY-----`nend`n")
$archive = New-LogArchive @{ max_bytes = 100000; max_file_bytes = 400; max_files = 50; max_age_days = 30 }
Add-LogFolder $archive $place @('*.log', '*.settings') 3
Add-LogFolder $archive 'C:\VmbackupLab\nowhere' @('*') 1
'>> ' + (ConvertTo-Json (Complete-LogArchive $archive) -Depth 6 -Compress) | Out-Default
[IO.Directory]::Delete($place, $true)
"""


def opened(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_archive_holds_no_secret_and_its_manifest_tells_each_file(engine):
    found, lines = engine(["_Logs"], PLANT.replace("SECRET", SECRET))
    assert found, lines
    data = base64.b64decode(found["content"])
    assert hashlib.sha256(data).hexdigest() == found["sha256"] and len(data) == found["bytes"]
    texts = opened(data)
    assert not [name for name, text in texts.items() if SECRET.encode() in text]
    manifest = json.loads(texts.pop("vmbackup/manifest.json").decode("utf-8-sig"))
    assert {"vmbackup/" + entry["name"]: entry["sha256"] for entry in manifest["files"]} == {
        name: hashlib.sha256(text).hexdigest() for name, text in texts.items()
    }
    ends = {name.rpartition("/")[2]: text for name, text in texts.items()}
    assert ends["long.log"].endswith(b"end\n") and b"xxx" not in ends["long.log"] and ends["wide.log"].endswith(b"wide\n")
    reasons = {entry["path"].rpartition("\\")[2]: entry["reason"] for entry in manifest["left_out"]}
    assert reasons == {"1.settings": "never collected", "old.log": "older than 30 days", "binary.log": "no text"}
    assert manifest["redactions"] >= 4


def test_the_logs_of_a_guest(lab, tmp_path):
    code, output, _report = lab.playbook(
        "vmbackup.azure.collect_logs", ["w01"], tmp_path, "-e", "collect_logs_directory={0}".format(tmp_path / "logs")
    )
    assert code == 0 and "changed=0" in output, output[-3000:]
    names = os.listdir(str(tmp_path / "logs"))
    assert len(names) == 1 and names[0].startswith("w01-") and names[0].endswith(".zip")
    with open(str(tmp_path / "logs" / names[0]), "rb") as stream:
        texts = opened(stream.read())
    assert any(name.endswith("CommandExecution.log") for name in texts) and any(name.endswith(".status") for name in texts)
    assert not [name for name in texts if name.endswith(".settings")]
