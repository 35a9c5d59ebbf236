# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logs for a support case: from a real guest, without the secrets that were planted in everything that is collected."""

import hashlib
import json
import os
import tarfile

SECRET = "Zq7pLw2xKv9mRt4yBn6c"
PLANT = """
lib=/var/lib/waagent; log=/var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux
handler=$(ls -d $lib/Microsoft.Azure.RecoveryServices.VMSnapshotLinux-* | grep -v zip | tail -1)
sas="https://account.blob.core.windows.net/c/b?sv=2020-08-04&sr=b&sig={0}%3D"
printf '2026-11-21T09:00:00.1Z INFO ExtHandler put %s\\n-----BEGIN PRIVATE KEY-----\\n{0}\\n-----END PRIVATE KEY-----\\n' "$sas" >>/var/log/waagent.log
printf '2026-11-21 09:00:00.1 [X-1.0]snapshotTaskToken: "{0}" %s\\n' "$sas" >>$log/extension.log
printf '{{"protectedSettings": "{0}", "password": "{0}"}}\\n' >>$log/CommandExecution.log
printf '<a>%s</a>' "$sas" | sed 's/&/\\&amp;/g' >$lib/SharedConfig.xml
printf '<AdminPassword>{0}</AdminPassword>' >$lib/ovf-env.xml
printf '<x>{0}</x>' >$lib/ExtensionsConfig.9.xml
printf '{0}' >$lib/TransportPrivate.pem
printf '[{{"status": {{"substatus": [{{"uri": "%s"}}]}}}}]' "$sas" >$handler/status/99.status
sed -i 's/^HttpProxy.Host=.*/HttpProxy.Host=user:{0}@10.94.0.9/' /etc/waagent.conf
printf '//10.94.0.9/share /mnt cifs noauto,username=a,password={0} 0 0\\n' >>/etc/fstab
mkdir -p /etc/systemd/system/walinuxagent.service.d
printf '[Service]\\nEnvironment=https_proxy=http://user:{0}@10.94.0.9:3128\\n' >/etc/systemd/system/walinuxagent.service.d/p.conf
systemctl daemon-reload
"""


def opened(directory, guest):
    """Return {name: content} of the one archive of a guest."""
    names = [name for name in os.listdir(str(directory)) if name.startswith(guest + "-")]
    assert len(names) == 1, names
    with tarfile.open(os.path.join(str(directory), names[0])) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}


def test_no_secret_leaves_the_guest_and_nothing_stays_on_it(lab, tmp_path):
    lab("reset", "f14")
    lab("wait-ready", "f14")
    lab.shell("f14", PLANT.format(SECRET))
    before = lab.shell("f14", "ls -A /tmp /var/tmp /root /var/lib /var/lib/waagent")
    code, output, _report = lab.playbook(
        "vmbackup.azure.collect_logs", ["f14"], tmp_path, "-vvv", "-e", "collect_logs_directory={0}".format(tmp_path / "logs")
    )
    assert code == 0 and "changed=0" in output and SECRET not in output, output[-3000:]
    texts = opened(tmp_path / "logs", "f14")
    assert not [name for name, data in texts.items() if SECRET.encode() in data]
    manifest = json.loads(texts["vmbackup/manifest.json"].decode())
    assert manifest["redactions"] >= 8
    assert all(hashlib.sha256(texts["vmbackup/" + entry["name"]]).hexdigest() == entry["sha256"] for entry in manifest["files"])
    names = set(texts)
    for path in ("/var/log/waagent.log", "/etc/waagent.conf", "/var/lib/waagent/SharedConfig.xml", "/etc/fstab"):
        assert "vmbackup/files" + path in names, sorted(names)
    assert {"vmbackup/facts.json", "vmbackup/commands/ip-route.txt", "vmbackup/commands/agent-unit.txt"} <= names
    assert not [name for name in names if "ovf-env" in name or "ExtensionsConfig" in name or name.endswith((".pem", ".settings", ".prv"))]
    assert lab.shell("f14", "ls -A /tmp /var/tmp /root /var/lib /var/lib/waagent") == before


def test_logs_are_collected_of_what_is_left_and_of_nothing_else(lab, tmp_path):
    lab.plant({"f16": "agent_disable_marker"})
    more = ["-e", "vmbackup_collect_logs=on_failure", "-e", "collect_logs_directory={0}".format(tmp_path / "logs")]
    code, output, _report = lab.playbook("vmbackup.azure.remediate", ["f16", "deb12"], tmp_path, *more)
    assert code != 0, "a blocker is left"
    assert [name.split("-")[0] for name in os.listdir(str(tmp_path / "logs"))] == ["f16"], output[-3000:]
