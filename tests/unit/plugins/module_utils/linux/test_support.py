# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is collected for a support case: bounds, manifest, and that no planted secret is in it."""

import hashlib
import io
import json
import os
import tarfile

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import support
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest

SECRET = "S3cr3tS3cr3tS3cr3t"
SAS = "https://x.blob.core.windows.net/a?sv=2020&sig=" + SECRET + "%3D"
KEY = "-----BEGIN RSA PRIVATE KEY-----\n{0}\n{0}\n-----END RSA PRIVATE KEY-----\n".format(SECRET)
LIB, LOG = "var/lib/waagent", "var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux"
HANDLER = LIB + "/Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0.9184.0"
PLANTED = {
    "var/log/waagent.log": "2026-11-21T09:00:00Z INFO put {0}\n{1}2026-11-21T09:00:01Z INFO done\n".format(SAS, KEY),
    LOG + "/extension.log": '2026-11-21 09:00:00 snapshotTaskToken: "{0}" uri {1}\n{{"protectedSettings": "{0}"}}\n'.format(SECRET, SAS),
    LIB + "/GoalState.1.xml": "<u>{0}</u>\n".format(SAS.replace("&", "&amp;")),
    HANDLER + "/status/1.status": json.dumps([{"status": {"snapshotInfo": [{"snapshotUri": SAS}]}}]),
    "etc/waagent.conf": "HttpProxy.Host=user:{0}@proxy\nHttpProxy.Port=3128\n".format(SECRET),
    "etc/fstab": "//server/share /mnt cifs user=a,password={0} 0 0\n".format(SECRET),
}
NEVER = {
    LIB + "/ovf-env.xml": "<AdminPassword>{0}</AdminPassword>",
    LIB + "/Certificates.xml": SECRET,
    LIB + "/ExtensionsConfig.1.xml": SECRET,
    HANDLER + "/config/1.settings": SECRET,
    LIB + "/TransportPrivate.pem": KEY,
}
LIMITS = {"max_bytes": 20 << 20, "max_file_bytes": 4 << 20, "max_files": 500, "max_age_days": 30, "timeout_s": 1.0}


@pytest.fixture
def root(tmp_path):
    for name, text in dict(PLANTED, **NEVER).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(SECRET) if "{0}" in text else text)
    return tmp_path


def gather(root, **limits):
    data, manifest = support.collect_all(Guest(root=str(root)), dict(LIMITS, **limits), None)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        texts = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    return texts, manifest


def test_no_planted_secret_is_in_the_archive(root):
    texts, manifest = gather(root)
    assert not [name for name, data in texts.items() if SECRET[:8].encode() in data]
    for name in PLANTED:
        assert "vmbackup/files/" + name in texts, name
    assert b"2026-11-21T09:00:01Z INFO done" in texts["vmbackup/files/var/log/waagent.log"]
    assert b"HttpProxy.Port=3128" in texts["vmbackup/files/etc/waagent.conf"]
    assert SECRET[:8] not in json.dumps(manifest) and manifest["redactions"] >= len(PLANTED)


def test_what_is_never_read_is_named_where_a_pattern_names_it(root):
    texts, manifest = gather(root)
    assert not [name for name in texts if any(name.endswith("/" + path) for path in NEVER)]
    reasons = {entry["path"]: entry["reason"] for entry in manifest["left_out"]}
    assert {reasons["/{0}/{1}".format(LIB, name)] for name in ("ovf-env.xml", "Certificates.xml", "ExtensionsConfig.1.xml")} == {
        "never collected"
    }


def test_the_manifest_tells_each_file_by_its_hash(root):
    texts, manifest = gather(root)
    assert json.loads(texts.pop("vmbackup/manifest.json").decode()) == json.loads(json.dumps(manifest))
    assert {"vmbackup/" + entry["name"]: entry["sha256"] for entry in manifest["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in texts.items()
    }


def test_of_a_long_file_the_end_is_taken_and_a_key_that_is_cut_is_masked(root):
    log = root / "var/log/waagent.log"
    log.write_text("old\n" * 100 + KEY + "new\n")
    texts, manifest = gather(root, max_file_bytes=len(KEY) - 40)
    data = texts["vmbackup/files/var/log/waagent.log"]
    assert data.endswith(b"new\n") and b"old" not in data and SECRET.encode() not in data
    assert next(entry for entry in manifest["files"] if entry["source"] == "/var/log/waagent.log")["cut"]


def test_bounds_in_size_number_and_age_are_kept_and_told(root):
    os.utime(str(root / LOG / "extension.log"), (1000000000, 1000000000))
    os.symlink("/etc/shadow", str(root / "var/log/azure/link.log"))
    (root / "var/log/azure/binary.log").write_bytes(b"a\0b")
    texts, manifest = gather(root)
    reasons = {entry["path"]: entry["reason"] for entry in manifest["left_out"]}
    assert reasons["/{0}/extension.log".format(LOG)] == "older than 30 days"
    assert reasons["/var/log/azure/link.log"] == "it is a link" and reasons["/var/log/azure/binary.log"] == "no text"
    texts, manifest = gather(root, max_files=3)
    assert len(manifest["files"]) == 3 and "the archive is full" in {entry["reason"] for entry in manifest["left_out"]}
    assert sum(entry["bytes"] for entry in gather(root, max_bytes=6000)[1]["files"][1:]) <= 6000 + 2000
