# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Windows guests over the real pywinrm and HTTPS. What the molecule scenario `windows` plants, repairs and looks at is not repeated here."""

import os
import subprocess

import pytest
import yaml
from conftest import CACHE, LAB, ROOT, findings, host_of

with open(os.path.join(ROOT, "lab", "expected.yml")) as stream:
    EXPECTED = yaml.safe_load(stream)["lab_expected"]
with open(os.path.join(ROOT, "extensions", "molecule", "windows", "vars", "main.yml")) as stream:
    IN_SCENARIO = {fault for faults in yaml.safe_load(stream)["lab_plan"].values() for fault in faults}
LACKS = subprocess.run([LAB, "lacks", "windows"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)


# Several faults on a guest, none of which hides another.
ROUNDS = [
    {
        "w01": ["win_agent_missing"],
        "w02": ["win_agent_old", "win_imds_silent"],
        "w03": ["win_sql_server", "win_storage_blocked", "win_no_option_245"],
        "w04": ["win_msdtc_account", "win_dotnet_old", "win_extension_failed", "win_machine_keys"],
    },
    {
        "w02": ["win_agent_path_missing", "win_wireserver_silent"],
        "w03": ["win_route_blackhole", "win_agent_silent"],
    },
]


def test_every_windows_fault_is_planted_somewhere():
    planted = {fault for plan in ROUNDS for faults in plan.values() for fault in faults}
    assert planted | IN_SCENARIO == {fault for fault in EXPECTED if fault.startswith("win_")}


def test_a_healthy_guest_has_no_finding(lab, tmp_path):
    lab("reset", "w01")
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["w01"], tmp_path)
    assert code == 0, output
    assert findings(report, "w01") == {}
    assert "canary-9f3c" not in output + str(report), "something that must never be read was read"


def test_canaries_do_not_show_at_any_verbosity(lab):
    done = lab.ansible("ansible", "w01", "-vvvvv", "-m", "vmbackup.azure.win_guest_facts")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "canary-9f3c" not in done.stdout


@pytest.mark.parametrize("plan", ROUNDS, ids=["agent-and-extension", "paths"])
def test_every_fault_brings_its_findings_and_nothing_unrelated(lab, tmp_path, plan):
    lab.plant(plan)
    output, report = lab.playbook("vmbackup.azure.diagnose", sorted(plan), tmp_path)[1:]
    wanted = {name: sorted({id_ for fault in faults for id_ in EXPECTED[fault]}) for name, faults in plan.items()}
    assert {name: sorted(findings(report, name)) for name in plan} == wanted, output
    for name, ids in wanted.items():
        for id_ in ids:
            assert findings(report, name)[id_], "{0} without evidence".format(id_)


def test_trouble_with_one_guest_is_one_sentence_and_the_others_go_on(lab, tmp_path):
    lab("reset", "w01")
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        """
windows:
  hosts:
    refused: {ansible_host: 10.94.0.61, ansible_port: 5999}
    wrong_password: {ansible_host: 10.94.0.61, ansible_password: wrong}
    untrusted: {ansible_host: 10.94.0.61, ansible_winrm_ca_trust_path: /etc/ssl/certs/ca-certificates.crt}
    no_administrator: {ansible_host: 10.94.0.61, ansible_user: reader}
    well: {ansible_host: 10.94.0.61}
  vars:
    ansible_connection: winrm
    ansible_port: 5986
    ansible_winrm_transport: basic
    ansible_winrm_ca_trust_path: %s/lab/.state/winrm_ca.pem
    ansible_user: azureadmin
    ansible_password: "{{ lookup('ansible.builtin.file', '%s/lab/.state/winrm_password') }}"
    vmbackup_thresholds: {cpu_busy_percent: 101}
"""
        % (ROOT, ROOT)
    )
    hosts = ["refused", "wrong_password", "untrusted", "no_administrator", "well"]
    code, output, report = lab.playbook("vmbackup.azure.diagnose", hosts, tmp_path, inventory=str(inventory))
    assert code != 0, "hosts that were lost must not go unnoticed"
    assert findings(report, "well") == {} and host_of(report, "well")["status"] == "healthy"
    words = {
        "refused": "WinRM does not answer",
        "wrong_password": "WinRM refused user and password",
        "untrusted": "certificate is not trusted",
        "no_administrator": "the account is an administrator",
    }
    for name, said in words.items():
        told = host_of(report, name)
        assert told["status"] == "not_reached", told
        assert said in str(told), told
    assert "Traceback" not in output
    with open(os.path.join(ROOT, "lab", ".state", "winrm_password")) as stream:
        assert stream.read().strip() not in output + str(report)


def test_constrained_language_mode_is_one_sentence(lab):
    lab("reset", "w04")
    key = r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
    lab("exec", "w04", "--", "guest", "reg", "add", key, "/v", "__PSLockdownPolicy", "/d", "4", "/f")
    done = lab.ansible("ansible", "w04", "-m", "vmbackup.azure.diagnose")
    lab("reset", "w04")
    assert done.returncode != 0 and "constrained language mode" in done.stdout, done.stdout[-2000:]
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("core", ["2.16", "2.21"])
def test_other_cores_diagnose_a_windows_guest(lab, tmp_path, core):
    if not os.path.isdir(os.path.join(CACHE, "core-" + core)):
        pytest.skip("ansible-core {0} is not installed".format(core))
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["w01"], tmp_path, core=core)
    assert code == 0 and findings(report, "w01") == {}, output
