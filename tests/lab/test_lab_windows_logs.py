# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logs of a Windows guest for a support case: the archive by the guests' own PowerShell, and one of a guest."""

import base64
import hashlib
import io
import json
import os
import random
import sys
import zipfile

import pytest
import test_lab_windows_engine
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import redact
from conftest import ROOT
from windows_guest import LACKS

engine = test_lab_windows_engine.engine  # the fixture
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

UNIT = os.path.join(ROOT, "tests", "unit")
sys.path.insert(0, os.path.join(UNIT, "plugins", "module_utils"))
import redact_table  # noqa: E402
import test_linear_time  # noqa: E402

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
[IO.File]::WriteAllText("$place\names.log", 'Pwd=SECRET; "token":"SECRET", {"clientSecret": "a,SECRET"} Authorization: Bearer SECRET')
[IO.File]::WriteAllBytes("$place\binary.log", [byte[]](65, 0, 66))
$body = 'SECRET' * 40
[IO.File]::WriteAllText("$place\long.log", ("x" * 4000) + "`n-----BEGIN PRIVATE KEY-----`nSECRET$body`nSECRET`n-----END PRIVATE KEY-----`nend`n")
$archive = New-LogArchive @{ max_bytes = 100000; max_file_bytes = 400; max_files = 50; max_age_days = 30; timeout_s = 20 }
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
    assert manifest["redactions"] >= 8


def texts_for_both():
    """Return the table, mixtures of it, and whole files."""
    table = [
        redact_table.planted(text) for text in redact_table.HIDDEN + redact_table.LEFT + redact_table.SHAPES + redact_table.FINE if text
    ]
    rng, found = random.Random(7), list(table)
    for _number in range(400):
        pieces = [rng.choice(table) for _piece in range(rng.randint(2, 4))]
        if rng.random() < 0.5:
            pieces = [piece[rng.randrange(len(piece)) :] if rng.random() < 0.5 else piece[: rng.randrange(len(piece))] for piece in pieces]
        found.append(rng.choice([" ", "\n", ",", "", '"', "=", "; ", "&", "\\", "\t"]).join(pieces))
    found += ["x " * 2040 + "http://user:" + "S3cr3t" * 1000 + "@host", "password" + "S3cr3t" * 1000, "a\n" + "b, " * 5000 + "\nc"]
    for folder in ("waagent", "windows"):
        for name in sorted(os.listdir(os.path.join(UNIT, "fixtures", folder))):
            if name.endswith((".json", ".xml", ".txt")):
                with open(os.path.join(UNIT, "fixtures", folder, name)) as stream:
                    found.append(stream.read(65536))
    return found


def planted(texts, tmp_path):
    """Keep texts where the engine reads them; Base64, since ConvertFrom-Json makes times of some."""
    path = os.path.join(ROOT, ".cache", "engine", tmp_path.name + ".json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as stream:
        json.dump([base64.b64encode(text.encode()).decode() for text in texts], stream)
    decode = "[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($_))"
    return "$texts = @(ConvertFrom-Json ([IO.File]::ReadAllText('{0}')) | ForEach-Object {{ {1} }})\n".format(path, decode)


def test_both_systems_mask_the_same(engine, tmp_path):
    texts = texts_for_both()
    script = planted(texts, tmp_path) + (
        "$shown = @($texts | ForEach-Object { [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes((Protect-Text $_ 20))) })\n"
        "'>> ' + (ConvertTo-Json $shown -Compress) | Out-Default\n"
    )
    shown, lines = engine(["_Redact"], script)
    assert shown and len(shown) == len(texts), lines
    shown = [base64.b64decode(text).decode() for text in shown]
    assert [pair for pair in zip(texts, shown, map(redact, texts)) if pair[1] != pair[2]] == []
    hidden = len(redact_table.HIDDEN)
    assert not [text for text in shown[:hidden] if "S3cr3t" in text], "and that hides what is secret"


def test_no_log_holds_the_guest_up(engine, tmp_path):
    """What makes an expression run long, and what has no end: the file is left out."""
    kinds = sorted(test_linear_time.TEXTS)
    script = (
        planted([test_linear_time.TEXTS[kind][:131072] for kind in kinds], tmp_path)
        + r"""
$took = @(foreach ($text in $texts) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    try { [void](Protect-Text $text 10); $clock.Elapsed.TotalSeconds } catch { 10 }
})
[void][IO.Directory]::CreateDirectory('C:\VmbackupLab\slow')
[IO.File]::WriteAllText('C:\VmbackupLab\slow\a.log', 'password=x ' * 300000)
[IO.File]::WriteAllText('C:\VmbackupLab\slow\b.log', ("password=x`n" * 300000))
$archive = New-LogArchive @{ max_bytes = 20000000; max_file_bytes = 4194304; max_files = 50; max_age_days = 30; timeout_s = 0.2 }
$clock = [Diagnostics.Stopwatch]::StartNew()
Add-LogFolder $archive 'C:\VmbackupLab\slow' @('b.log') 0
$archive.limits.timeout_s = 0.0001
Add-LogFolder $archive 'C:\VmbackupLab\slow' @('a.log') 0
$took_all = $clock.Elapsed.TotalSeconds
$left = @((Complete-LogArchive $archive)['manifest']['left_out'] | ForEach-Object { $_['reason'] })
[IO.Directory]::Delete('C:\VmbackupLab\slow', $true)
'>> ' + (ConvertTo-Json @{ took = $took; left = $left; all = $took_all } -Compress) | Out-Default
"""
    )
    found, lines = engine(["_Logs"], script)
    assert found, lines
    assert {kind: took for kind, took in zip(kinds, found["took"]) if took > 5} == {}
    assert found["left"] == ["to look for secrets in it took too long.", "the time was over"] and found["all"] < 10, found


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
