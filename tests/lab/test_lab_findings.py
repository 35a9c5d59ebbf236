# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Healthy guests of each family have no finding; every fault brings its own findings and nothing unrelated.

What the molecule scenario `agent` plants, repairs and looks at is not repeated here.
"""

import os

import pytest
import yaml
from conftest import CACHE, ROOT, findings, host_of

with open(os.path.join(ROOT, "lab", "expected.yml")) as stream:
    EXPECTED = yaml.safe_load(stream)["lab_expected"]

# Guests are planted on together, one fault each. cpu_load stands alone: all guests share this machine's processors.
ROUNDS = [
    {
        "f01": "agent_conf_duplicate",
        "f02": "agent_conf_article",
        "f03": "agent_policy",
        "f04": "agent_verbose",
        "f05": "agent_auto_update_off",
        "f06": "agent_held",
        "f17": "agent_conf_missing",
        "f09": "route_wireserver_blackhole",
        "f10": "wireserver_blocked",
        "f11": "hostgaplugin_blocked",
        "f12": "no_option_245",
        "f13": "static_address",
        "f14": "proxy_conf",
        "f15": "proxy_no_bypass",
        "f16": "storage_blocked",
    },
    {
        "f01": "snapshot_failed_121",
        "f02": "snapshot_failed_76",
        "f03": "snapshot_stuck",
        "f04": "extension_install_failed",
        "f05": "vmbackup_conf_malformed",
        "f06": "script_permissions",
        "f09": "mount_hung",
        "f10": "disk_full_libdir",
        "f11": "libdir_noexec",
        "f12": "agent_stopped",
        "f14": "agent_old_no_candidate",
        "f15": "forced_tunnel",
        "f13": "firewall_root_accept_lost",
    },
    {"f16": "cpu_load"},
]
# Planted, repaired and looked at by the scenario `agent`.
with open(os.path.join(ROOT, "extensions", "molecule", "agent", "vars", "main.yml")) as stream:
    IN_SCENARIO = {
        fault for faults in yaml.safe_load(stream)["lab_plan"].values() for fault in ([faults] if isinstance(faults, str) else faults)
    }


def test_every_fault_of_the_lab_is_planted_somewhere():
    assert {fault for plan in ROUNDS for fault in plan.values()} | IN_SCENARIO == {
        fault for fault in EXPECTED if not fault.startswith("win_")
    }


def test_healthy_guests_have_no_finding(lab, tmp_path):
    guests = lab.names("healthy")
    lab("wait-ready", *guests)
    code, output, report = lab.playbook("vmbackup.azure.diagnose", guests, tmp_path)
    assert code == 0, output
    assert {name: findings(report, name) for name in guests} == {name: {} for name in guests}
    assert len([name for name in guests if name != "py313"]) >= 4, "one of each family"


def test_healthy_guest_on_python_36_from_core_216(lab, tmp_path):
    if not lab.names("python36") or not os.path.isdir(os.path.join(CACHE, "core-2.16")):
        pytest.skip("no Python 3.6 in the lab, or no ansible-core 2.16: core 2.17 and newer do not reach Python 3.6")
    lab("wait-ready", "py36")
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["py36"], tmp_path, core="2.16")
    assert code == 0, output
    assert findings(report, "py36") == {}


def test_guests_with_a_network_of_their_own(lab, tmp_path):
    lab("wait-ready", "no245", "static1")
    report = lab.playbook("vmbackup.azure.diagnose", ["no245", "static1"], tmp_path)[2]
    assert list(findings(report, "no245")) == ["dhcp_option_245_missing"]
    assert list(findings(report, "static1")) == ["dhcp_static_address"]


@pytest.mark.parametrize("plan", ROUNDS, ids=["agent-and-network", "extension-and-load", "processors"])
def test_every_fault_brings_its_findings_and_nothing_unrelated(lab, tmp_path, plan):
    lab.plant(plan)
    limits = ["-e", '{"vmbackup_thresholds": {}}'] if "cpu_load" in plan.values() else []
    if limits:
        lab.shell(next(iter(plan)), "sleep 75")  # pressure is measured over the last minute
    output, report = lab.playbook("vmbackup.azure.diagnose", sorted(plan), tmp_path, *limits)[1:]
    found = {"{0} on {1}".format(plan[name], name): sorted(findings(report, name)) for name in plan}
    assert found == {"{0} on {1}".format(fault, name): sorted(EXPECTED[fault]) for name, fault in plan.items()}, output
    for name, fault in plan.items():
        for id_ in EXPECTED[fault]:
            assert findings(report, name)[id_], "{0} without evidence".format(id_)
    if limits:
        lab("reset", *plan)


def test_a_hung_mount_and_a_silent_endpoint_cost_their_deadline_not_the_run(lab, tmp_path):
    lab.plant({"f09": "mount_hung", "f10": "wireserver_blocked"})
    done = lab.ansible("ansible", "f09:f10", "-m", "vmbackup.azure.diagnose", "-a", "timeout_s=2")
    durations = [int(line.split(":")[1].strip(" ,")) for line in done.stdout.split("\n") if '"duration_ms"' in line]
    assert len(durations) == 2 and max(durations) < 6000, durations
    assert "gives no answer" in done.stdout


def test_error_code_narrows_and_orders(lab, tmp_path):
    lab.plant({"f13": "static_address"})
    code = "vmbackup_error_code=ExtensionSnapshotFailedNoNetwork"
    report = lab.playbook("vmbackup.azure.diagnose", ["f13", "deb12"], tmp_path, "-e", code)[2]
    assert host_of(report, "f13")["findings"][0]["explains_error_code"] is True
    assert "nothing in the guest explains it" in host_of(report, "deb12")["note"]


def test_saved_facts_give_the_same_findings(lab, tmp_path):
    book = tmp_path / "saved.yml"
    book.write_text(
        """
- hosts: static1
  gather_facts: false
  tasks:
    - vmbackup.azure.guest_facts:
      register: collected
    - ansible.builtin.copy:
        content: "{{ collected.ansible_facts.vmbackup | to_json }}"
        dest: %s/facts.json
      delegate_to: localhost
      become: false
    - ansible.builtin.assert:
        that: saved | vmbackup.azure.findings(thresholds=vmbackup_thresholds) | map(attribute='id') | list == ['dhcp_static_address']
      vars:
        saved: "{{ lookup('ansible.builtin.file', '%s/facts.json') | from_json }}"
"""
        % (tmp_path, tmp_path)
    )
    done = lab.ansible("ansible-playbook", str(book))
    assert done.returncode == 0, done.stdout
