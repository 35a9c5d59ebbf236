# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the scenario `agent` cannot show: consent that is missing, a snapshot that runs, a host that is lost, remedies used alone."""

import os
import threading

import pytest
from conftest import CACHE, findings, host_of

UNIT = "walinuxagent.service"


def main_pid(lab, guest):
    return lab.shell(guest, "systemctl show -p MainPID --value " + UNIT).strip()


def use_remedy(lab, tmp_path, guest, remedy, variables, *arguments):
    """Use one entry point of the role as somebody else's playbook would."""
    book = tmp_path / "alone.yml"
    lines = [
        "- hosts: " + guest,
        "  gather_facts: false",
        "  tasks:",
        "    - ansible.builtin.include_role:",
        "        name: vmbackup.azure.agent",
    ]
    lines += ["        tasks_from: " + remedy]
    book.write_text("\n".join(lines) + "\n")
    extra = [word for pair in variables.items() for word in ("-e", "{0}={1}".format(*pair))]
    return lab.ansible("ansible-playbook", str(book), *(extra + list(arguments)))


def test_nothing_is_done_without_consent(lab, tmp_path):
    plan = {"f01": "agent_disable_marker", "f02": "agent_update_broken", "f03": "agent_held", "f04": "agent_auto_update_off"}
    lab.plant(plan)
    before = {guest: main_pid(lab, guest) for guest in plan}
    code, output, report = lab.playbook("vmbackup.azure.remediate", sorted(plan), tmp_path)
    assert code != 0, "a blocker is left over"
    for guest in plan:
        host = host_of(report, guest)
        assert host["actions"] == [], host
        assert "consent" in host["findings"][0]["next"] and "vmbackup_allow_" in host["findings"][0]["command"]
    assert {guest: main_pid(lab, guest) for guest in plan} == before
    assert lab.shell("f01", "ls /var/lib/waagent/disable_agent").strip() == "/var/lib/waagent/disable_agent"
    assert "changed=0" in output and "changed=1" not in output


def test_a_running_snapshot_puts_the_restart_off(lab, tmp_path):
    lab.plant({"f05": "agent_verbose"})
    pid = main_pid(lab, "f05")
    lab.start_snapshot("f05", seconds=300)
    removed = lab.ansible("ansible", "f05", "-b", "-m", "vmbackup.azure.agent_package", "-a", "state=absent")
    assert '"deferred": true' in removed.stdout and "CHANGED" not in removed.stdout, removed.stdout
    consent = ["-e", "vmbackup_allow_verbose_logging_off=true"]
    report = lab.playbook("vmbackup.azure.remediate", ["f05"], tmp_path, *(consent + ["-e", "vmbackup_snapshot_wait_s=6"]))[2]
    assert lab.snapshot_runs("f05"), "the snapshot was over before the test looked"
    assert host_of(report, "f05")["status"] == "deferred", host_of(report, "f05")
    assert [finding["state"] for finding in host_of(report, "f05")["findings"]] == ["deferred"], "the agent does not know of it yet"
    assert main_pid(lab, "f05") == pid, "the agent was restarted while a snapshot ran"
    end = threading.Timer(12, lambda: lab.end_snapshot("f05"))
    end.start()
    report = lab.playbook("vmbackup.azure.remediate", ["f05"], tmp_path, *(consent + ["-e", "vmbackup_snapshot_wait_s=300"]))[2]
    end.join()
    assert not lab.snapshot_runs("f05")
    assert host_of(report, "f05")["status"] == "repaired", host_of(report, "f05")
    assert main_pid(lab, "f05") != pid
    assert "Logs.Verbose = False" in lab.shell("f05", "waagent --show-configuration")


def test_a_host_lost_in_the_middle_is_reported_and_stops_nobody(lab, tmp_path):
    lab.plant({"f05": "agent_verbose", "f06": "agent_masked"})
    lab.start_snapshot("f05", seconds=60)
    # While the repair waits for the snapshot, the guest stops to answer.
    cut = threading.Timer(12, lambda: lab("exec", "f05", "--", "iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"))
    cut.start()
    try:
        arguments = ["-e", "vmbackup_allow_verbose_logging_off=true", "-e", "vmbackup_snapshot_wait_s=60"]
        arguments += [
            "-e",
            "ansible_timeout=5",
            "-e",
            '{"ansible_ssh_extra_args": "-o ConnectTimeout=5 -o ServerAliveInterval=3 -o ServerAliveCountMax=2"}',
        ]
        code, output, report = lab.playbook("vmbackup.azure.remediate", ["f05", "f06"], tmp_path, *arguments)
    finally:
        cut.join()
        lab("reset", "f05")
    assert code != 0
    assert host_of(report, "f05")["status"] in ("lost", "failed"), output[-3000:]
    assert host_of(report, "f06")["status"] == "repaired"
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "remedy, variables, look",
    [
        ("verbose_logging", {"vmbackup_verbose_logging": "on"}, "waagent --show-configuration | grep -x 'Logs.Verbose = True'"),
        ("verbose_logging", {"vmbackup_verbose_logging": "off"}, "waagent --show-configuration | grep -x 'Logs.Verbose = False'"),
        ("auto_update", {"vmbackup_allow_auto_update": "true"}, "waagent --show-configuration | grep -x 'AutoUpdate.Enabled = True'"),
        ("service", {}, "systemctl is-active -q " + UNIT),
        ("auto_restart", {}, "systemctl show -p Restart --value {0} | grep -x always".format(UNIT)),
        ("update", {}, "dpkg-query -W -f '${Version}' waagent | grep 2.7.3.0"),
        ("install", {}, "dpkg-query -W -f '${Version}' waagent | grep 2.7.3.0"),
        ("configuration", {}, "waagent --show-configuration | grep -x 'Extensions.Enabled = True'"),
    ],
)
def test_each_remedy_alone_is_idempotent(lab, tmp_path, remedy, variables, look):
    lab("wait-ready", "f15")
    first = use_remedy(lab, tmp_path, "f15", remedy, variables)
    assert first.returncode == 0, first.stdout
    lab.shell("f15", look)
    second = use_remedy(lab, tmp_path, "f15", remedy, variables)
    assert second.returncode == 0 and "changed=0" in second.stdout, second.stdout


def test_a_missing_agent_is_installed_on_suse_and_taken_away_by_undo(lab, tmp_path):
    lab.plant({"f08": "agent_missing"})
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f08"], tmp_path)
    assert code == 0, output
    assert list(findings(report, "f08")) == ["agent_missing"] and host_of(report, "f08")["status"] == "repaired"
    assert any("waagent -run-exthandlers" in line for line in lab.processes("f08"))
    code, output, report = lab.playbook("vmbackup.azure.undo", ["f08"], tmp_path)
    assert code == 0, output
    assert "not installed" in lab.shell("f08", "rpm -q python3-azure-agent || true")


def test_an_update_on_suse_is_undone(lab, tmp_path):
    """Agent and configuration ask for each other's version: neither goes back alone."""
    both = "rpm -q --qf '%{NAME} %{VERSION}\\n' python3-azure-agent python-azure-agent-config-server"
    lab.plant({"f08": "agent_old_suse"})
    before = lab.shell("f08", both)
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f08"], tmp_path)
    assert host_of(report, "f08")["status"] == "repaired" and lab.shell("f08", both) != before, output
    code, output, report = lab.playbook("vmbackup.azure.undo", ["f08"], tmp_path)
    assert code == 0, output
    assert lab.shell("f08", both) == before


def test_remediate_from_core_216_and_221(lab, tmp_path):
    for core in ("2.16", "2.21"):
        if not os.path.isdir(os.path.join(CACHE, "core-" + core)):
            pytest.skip("ansible-core {0} is not installed: it needs a Python that this machine does not have".format(core))
        lab.plant({"f16": "agent_extensions_disabled"})
        code, output, report = lab.playbook("vmbackup.azure.remediate", ["f16", "deb12"], tmp_path, core=core)
        assert code == 0, output
        assert host_of(report, "f16")["status"] == "repaired" and findings(report, "deb12") == {}
        assert "DEPRECATION" not in output, output
        assert "Extensions.Enabled = True" in lab.shell("f16", "waagent --show-configuration")
