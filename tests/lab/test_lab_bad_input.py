# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bad input gets one clear sentence; a host that is lost does not stop the others; secrets never show."""

import re
import time

import pytest
from conftest import INVENTORY, findings, host_of


def assert_one_sentence(output, *words):
    assert "Traceback" not in output, output
    for word in words:
        assert word in output, output


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("gather_subset=everything", ["gather_subset", "everything"]),
        ("nosuch=1", ["nosuch"]),
        ('{"thresholds": {"nosuch": 1}}', ["Unknown threshold 'nosuch'", "heartbeat_age_s"]),
        ('{"thresholds": {"heartbeat_age_s": "soon"}}', ["must be a number"]),
        ("timeout_s=0", ["must be above 0"]),
    ],
)
def test_wrong_option(lab, arguments, words):
    done = lab.ansible("ansible", "deb12", "-m", "vmbackup.azure.diagnose", "-a", arguments)
    assert done.returncode != 0
    assert_one_sentence(done.stdout, *words)


def test_unknown_error_code_is_said_and_nothing_fails(lab, tmp_path):
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["deb12"], tmp_path, "-e", "vmbackup_error_code=NoSuchCode")
    assert code == 0, output
    assert "Unknown Azure Backup error code NoSuchCode" in host_of(report, "deb12")["note"]


def test_unknown_fault(lab):
    done = lab.ansible("ansible-playbook", "lab/break.yml", "-e", "fault=nosuch")
    assert done.returncode != 0
    assert_one_sentence(done.stdout, "No fault is named 'nosuch'", "agent_masked")


def test_configuration_that_cannot_be_used(lab, tmp_path):
    lab("reset", "f01", "f02")
    lab("wait-ready", "f01", "f02")
    lab.shell("f01", "printf 'Extensions.Enabled=n\\n\\377\\376=x\\n' > /etc/waagent.conf")
    lab.shell("f02", "rm /etc/waagent.conf && mkdir /etc/waagent.conf")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01", "f02"], tmp_path)
    assert code != 0
    assert_one_sentence(output, "is not UTF-8")
    assert "agent_conf_unreadable" in findings(report, "f01") and "agent_conf_unreadable" in findings(report, "f02")
    assert any("waagent -run-exthandlers" in line for line in lab.processes("f01")), "the agent that ran on its old configuration was ended"
    assert lab.shell("f01", "od -An -tx1 /etc/waagent.conf | tr -d ' \\n'").strip().endswith("0afffe3d780a"), "the file was changed"
    assert "f02" in [host["host"] for host in report["hosts"]]


def test_guest_without_python(lab, tmp_path):
    lab("reset", "f03")
    arguments = ["-e", "ansible_python_interpreter=/usr/bin/python9"]
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["f03"], tmp_path, *arguments)
    assert code != 0
    assert_one_sentence(output, "has no Python that the collector can run on")
    assert host_of(report, "f03")["status"] == "failed"


def test_without_root_it_says_what_it_could_not_see(lab, tmp_path):
    lab("wait-ready", "deb12")
    arguments = ["-e", "ansible_become=false", "-e", "vmbackup_become=false"]
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["deb12"], tmp_path, *arguments)
    assert code != 0, output
    assert findings(report, "deb12") == {}
    assert host_of(report, "deb12")["status"] == "not_seen"
    assert any("/var/lib/waagent" in line and "become" in line for line in host_of(report, "deb12")["not_seen"])


def test_a_lost_host_does_not_stop_the_others(lab, tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "all:\n  hosts:\n    nobody:\n      ansible_host: 10.94.0.250\n      ansible_ssh_common_args: -o ConnectTimeout=3\n"
    )
    lab("reset", "f01")
    lab("wait-ready", "f01")
    lab.shell("f01", "systemctl mask --now walinuxagent.service")
    arguments = ["-i", INVENTORY]
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["nobody", "f01"], tmp_path, *arguments, inventory=str(inventory))
    assert code != 0
    assert_one_sentence(output)
    assert (host_of(report, "nobody")["status"], host_of(report, "f01")["status"]) == ("not_reached", "repaired")


def test_a_run_of_lost_hosts_alone_still_reports(lab, tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "all:\n  hosts:\n    nobody:\n      ansible_host: 10.94.0.250\n      ansible_ssh_common_args: -o ConnectTimeout=3\n"
    )
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["nobody"], tmp_path, inventory=str(inventory))
    assert code != 0 and host_of(report, "nobody")["status"] == "not_reached", output


def test_secrets_never_show(lab, tmp_path):
    lab("reset", "f04")
    lab("wait-ready", "f04")
    secret = "S3cr3tS3cr3t"
    script = """
printf 'HttpProxy.Host=http://user:{0}#x@10.94.0.250\\nHttpProxy.Port=3128\\nExtensions.Enabled=n\\n# {0}\\nMy.Word={0}\\n' >> /etc/waagent.conf
for line in 'https://x.blob.core.windows.net/s?sv=1&sig={0}' 'AZURE_CLIENT_SECRET={0} DB_PASSWORD={0}' 'Bearer {0}' '"storageAccountKey":"{0}"'; do
  echo "2099-01-31T00:00:00.1Z ERROR ExtHandler Error fetching the goal state: $line" >> /var/log/waagent.log
done
mkdir -p /etc/azure
printf '[SnapshotThread]\\ntimeout=60\\nshare={0}\\n' > /etc/azure/vmbackup.conf
for unit in walinuxagent waagent; do
  mkdir -p /etc/systemd/system/$unit.service.d
  printf '[Service]\\nEnvironment=https_proxy=http://user:{0}@10.94.0.250:3128 no_proxy=168.63.129.16,169.254.169.254\\n' \\
    > /etc/systemd/system/$unit.service.d/proxy.conf
done
systemctl daemon-reload
"""
    lab.shell("f04", script.format(secret))
    everything = lab.playbook("vmbackup.azure.remediate", ["f04"], tmp_path, "-vvvv", "--diff")[1]
    everything += lab.ansible("ansible", "f04", "-m", "vmbackup.azure.guest_facts", "-vvvv").stdout
    for path in tmp_path.iterdir():
        everything += path.read_text()
    assert "10.94.0.250" in everything and "was restarted" in everything
    assert not re.findall(".{0,80}" + secret, everything)
    assert secret in lab.shell("f04", "cat /etc/waagent.conf"), "the repair lost the proxy's password"


def test_pipes_and_a_link_that_leads_nowhere_hold_nothing_up(lab, tmp_path):
    lab("reset", "f04")
    lab("wait-ready", "f04")
    lab.shell(
        "f04",
        "cd /etc && mv waagent.conf kept.conf && ln -s gone.conf waagent.conf; rm -f /var/log/waagent.log /etc/azure/vmbackup.conf;"
        " mkdir -p /etc/azure && mkfifo /etc/azure/vmbackup.conf /var/log/waagent.log",
    )
    before = [line for line in lab.processes("f04") if "waagent" in line and "-daemon" in line]
    began = time.time()
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f04"], tmp_path, "-e", "vmbackup_allow_disable_agent_removal=true")
    assert time.time() - began < 90, output
    assert "a link that leads nowhere (gone.conf)" in str(findings(report, "f04")["agent_conf_unreadable"]), output
    assert [line for line in lab.processes("f04") if "waagent" in line and "-daemon" in line] == before, "the agent that ran was ended"
    facts = lab.ansible("ansible", "f04", "-m", "vmbackup.azure.guest_facts").stdout
    assert facts.count("it is a named pipe") == 2


def test_a_handler_that_ends_at_once_is_no_proof_of_life(lab, tmp_path):
    lab("reset", "f04")
    lab("wait-ready", "f04")
    lab.shell(
        "f04",
        "for program in /usr/sbin/waagent /usr/bin/waagent; do [ -f $program ] || continue;"
        " sed -i '1a import sys\\nif \"-run-exthandlers\" in sys.argv: sys.exit(1)' $program; done;"
        " rm -rf /var/lib/waagent/WALinuxAgent-*; echo Extensions.Enabled=n >> /etc/waagent.conf",
    )
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f04"], tmp_path, "-e", "agent_start_wait_s=40")
    assert code != 0 and "its extension handler did not come up" in output, output[-3000:]
    done = lab.ansible("ansible", "f04", "-m", "vmbackup.azure.diagnose")
    assert "agent_handler_failing" in done.stdout, done.stdout[-3000:]
    lab("reset", "f04")
