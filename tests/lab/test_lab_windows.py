# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Windows guests over the real pywinrm and HTTPS. What the molecule scenario `windows` plants, repairs and looks at is not repeated here."""

import base64
import functools
import hashlib
import http.server
import json
import os
import re
import threading
import time

import pytest
import yaml
from conftest import CACHE, ROOT, findings, host_of
from windows_guest import LACKS

with open(os.path.join(ROOT, "lab", "expected.yml")) as stream:
    EXPECTED = yaml.safe_load(stream)["lab_expected"]
with open(os.path.join(ROOT, "extensions", "molecule", "windows", "vars", "main.yml")) as stream:
    IN_SCENARIO = {fault for faults in yaml.safe_load(stream)["lab_plan"].values() for fault in faults}
with open(os.path.join(ROOT, "lab", "guests.json")) as stream:
    GATEWAY = json.load(stream)["network"]["gateway"]  # this machine, as the guests see it
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)


# Several faults on a guest, none of which hides another.
ROUNDS = [
    {
        "w01": ["win_agent_missing"],
        "w02": ["win_agent_old", "win_imds_silent"],
        "w03": ["win_sql_server", "win_storage_blocked", "win_no_option_245"],
    },
    {
        "w01": ["win_msdtc_account", "win_dotnet_old", "win_extension_failed", "win_machine_keys"],
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
    if any("win_agent_silent" in faults for faults in plan.values()):
        time.sleep(31)  # an agent that has just started is given this long for its first heartbeat
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
    lab("reset", "w03")
    key = r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
    lab("exec", "w03", "--", "guest", "reg", "add", key, "/v", "__PSLockdownPolicy", "/d", "4", "/f")
    done = lab.ansible("ansible", "w03", "-m", "vmbackup.azure.diagnose")
    lab("reset", "w03")
    assert done.returncode != 0 and "constrained language mode" in done.stdout, done.stdout[-2000:]
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("core", ["2.16", "2.21"])
def test_other_cores_diagnose_a_windows_guest(lab, tmp_path, core):
    if core == "2.21":
        pytest.skip(
            "ansible-core 2.21 itself needs Windows PowerShell 5.1 or PowerShell 7.5 (ConvertFrom-Json -DateKind); the lab's is 7.4"
        )
    if not os.path.isdir(os.path.join(CACHE, "core-" + core)):
        pytest.skip("ansible-core {0} is not installed".format(core))
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["w01"], tmp_path, core=core)
    assert code == 0 and findings(report, "w01") == {}, output


def role_book(tmp_path, entry, **variables):
    """Write a playbook that calls one entry point of the role connectivity on w03; return its path."""
    called = {"name": "vmbackup.azure.connectivity", "tasks_from": entry}
    path = tmp_path / (entry + ".yml")
    path.write_text(
        json.dumps([{"hosts": "w03", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": called, "vars": variables}]}])
    )
    return str(path)


def routes_of(lab, guest):
    """Return the guest's own routing table, as its kernel has it."""
    return lab.shell(guest, "ip route").splitlines()


def win_routes(lab, *arguments, **options):
    """Add or remove routes on w03. What waits for a confirmation waits for one of the test."""
    if "confirm_s" in options:
        options.setdefault("verify", False)
    return lab.ansible("ansible", "w03", "-m", "vmbackup.azure.win_routes", "-a", json.dumps(options), *arguments)


def test_routes_are_added_verified_and_taken_back(lab, tmp_path):
    lab("reset", "w03")
    before = routes_of(lab, "w03")
    ranges = ROOT + "/tests/unit/fixtures/azure-ip-ranges/ServiceTags_Public_20260622-excerpt.json"
    book = role_book(
        tmp_path,
        "azure_routes",
        connectivity_ip_ranges_file=ranges,
        connectivity_regions=["francecentral"],
        connectivity_prefixes=["203.0.113.0/24"],
        vmbackup_allow_routes="{{ allowed | default(true) | bool }}",
    )
    refused = lab.ansible("ansible-playbook", book, "-e", "allowed=false")
    assert refused.returncode != 0 and "only when vmbackup_allow_routes is true" in refused.stdout
    looked = lab.ansible("ansible-playbook", book, "--check")
    assert looked.returncode == 0 and routes_of(lab, "w03") == before, looked.stdout[-2000:]
    added = lab.ansible("ansible-playbook", book)
    assert added.returncode == 0, added.stdout[-3000:]
    now = routes_of(lab, "w03")
    assert "168.63.129.16 via 10.94.0.2 dev eth0 " in now or "168.63.129.16 via 10.94.0.2 dev eth0" in now
    assert any(line.startswith("203.0.113.0/24 via 10.94.0.2") for line in now)
    assert len(now) > len(before) + 5, "the prefixes of the region are missing"
    again = lab.ansible("ansible-playbook", book)
    assert "changed=0" in again.stdout, again.stdout[-2000:]
    code, output, _report = lab.playbook("vmbackup.azure.undo", ["w03"], tmp_path)
    assert code == 0, output
    assert sorted(routes_of(lab, "w03")) == sorted(before)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"routes": ["20.38.98.0"]}, "'20.38.98.0' is no prefix"),
        ({"routes": ["20.38.98.0/24", "20.38.98.0/24"]}, "20.38.98.0/24"),
        ({"routes": ["0.0.0.0/0"]}, "is the default route"),
        ({"routes": ["20.38.98.0/24"], "next_hop": "192.0.2.1"}, "192.0.2.1"),
        ({"routes": ["20.38.98.0/24"], "next_hop": "10.94.0.99"}, "10.94.0.99"),
    ],
)
def test_routes_that_cannot_be_are_refused_in_one_sentence(lab, options, words):
    before = routes_of(lab, "w03")
    done = win_routes(lab, **options)
    assert done.returncode != 0 and words in done.stdout and "Nothing was changed." in done.stdout, done.stdout
    assert "Traceback" not in done.stdout and routes_of(lab, "w03") == before


def test_routes_without_undo_leave_nothing_behind_when_they_go(lab):
    lab("reset", "w03")
    before = routes_of(lab, "w03")
    for state, there in (("present", True), ("absent", False)):
        options = {"routes": ["20.38.98.0/24"], "state": state}
        done = win_routes(lab, **options)
        assert done.returncode == 0 and "CHANGED" in done.stdout, done.stdout
        assert any(line.startswith("20.38.98.0/24 via 10.94.0.2") for line in routes_of(lab, "w03")) is there
    assert routes_of(lab, "w03") == before
    assert "there is none" in lab.shell("w03", "ls /wine/drive_c/ProgramData/vmbackup_azure 2>/dev/null || echo there is none")


def test_purge_takes_only_routes_that_the_module_added(lab):
    lab("reset", "w03")
    index = "(Get-NetRoute -DestinationPrefix 0.0.0.0/0).InterfaceIndex"
    foreign = "New-NetRoute -DestinationPrefix 198.51.100.0/24 -InterfaceIndex {0} -NextHop 10.94.0.2".format(index)
    done = lab.ansible(
        "ansible", "w03", "-m", "ansible.windows.win_powershell", "-a", json.dumps({"script": foreign, "error_action": "stop"})
    )
    assert done.returncode == 0, done.stdout
    done = win_routes(lab, routes=["20.38.98.0/24", "52.239.140.0/22"])
    assert done.returncode == 0, done.stdout
    both = routes_of(lab, "w03")
    looked = win_routes(lab, "--check", "--diff", routes=["20.38.98.0/24"], purge=True)
    assert "CHANGED" in looked.stdout and "52.239.140.0/22" in looked.stdout, looked.stdout
    assert routes_of(lab, "w03") == both
    done = win_routes(lab, routes=["20.38.98.0/24"], purge=True)
    assert "CHANGED" in done.stdout, done.stdout
    assert [line for line in both if line not in routes_of(lab, "w03")] == [line for line in both if line.startswith("52.239.140.0/22 ")]
    assert "CHANGED" not in win_routes(lab, routes=["20.38.98.0/24"], purge=True).stdout
    assert "CHANGED" in win_routes(lab, routes=[], purge=True).stdout
    assert [line.split()[0] for line in both if line not in routes_of(lab, "w03")] == ["20.38.98.0/24", "52.239.140.0/22"]


def test_routes_of_ipv6(lab):
    lab("reset", "w03")
    # As on Azure, the gateway has a link-local address. Its own, which it made out of its hardware address.
    gateway = re.search(r"inet6 (fe80:[0-9a-f:]+)/64", lab.shell("platform", "ip -6 address show eth0")).group(1)
    silent = win_routes(lab, routes=["2603:1020:800::/40"], next_hop="fe80::bad")
    assert silent.returncode != 0 and "fe80::bad answers neither a neighbor solicitation nor an echo request" in silent.stdout, (
        silent.stdout
    )
    # Wine sends neither echo requests nor solicitations over IPv6: no gateway answers it.
    for state, there in (("present", True), ("present", True), ("absent", False)):
        before = lab.shell("w03", "ip -6 route")
        done = win_routes(lab, routes=["2603:1020:800::/40"], next_hop=gateway, state=state, skip_gateway_check=True)
        now = lab.shell("w03", "ip -6 route")
        assert done.returncode == 0 and ("CHANGED" in done.stdout) is (now != before), done.stdout
        assert ("2603:1020:800::/40 via {0} dev eth0".format(gateway) in now) is there, now


def test_the_guest_goes_back_by_itself_when_it_is_cut_off(lab):
    lab("reset", "w03")
    before = routes_of(lab, "w03")
    options = {
        "routes": ["10.94.0.1/32"],
        "next_hop": "10.94.0.99",
        "skip_gateway_check": True,
        "undo": "connectivity.azure_routes",
        "confirm_s": 20,
    }
    limits = ["-e", "ansible_winrm_operation_timeout_sec=4", "-e", "ansible_winrm_read_timeout_sec=6"]
    done = win_routes(lab, *limits, **options)
    assert done.returncode != 0, "the answer cannot have come back over that route"
    assert any(line.startswith("10.94.0.1 via 10.94.0.99") for line in routes_of(lab, "w03")), "the route was never there"
    deadline = time.monotonic() + 60
    while routes_of(lab, "w03") != before and time.monotonic() < deadline:
        time.sleep(1)
    assert routes_of(lab, "w03") == before
    assert lab.ansible("ansible", "w03", "-m", "ansible.windows.win_ping").returncode == 0


def test_a_change_whose_answer_was_lost_is_confirmed_by_its_name(lab):
    lab("reset", "w03")
    remedy = "connectivity.azure_routes"
    nothing = win_routes(lab, confirm=remedy)
    assert nothing.returncode != 0 and "There is no change of connectivity.azure_routes that waits" in nothing.stdout, nothing.stdout
    done = win_routes(lab, routes=["20.38.98.0/24"], undo=remedy, confirm_s=15)
    assert done.returncode == 0, done.stdout
    now = routes_of(lab, "w03")
    done = win_routes(lab, confirm=remedy)
    assert done.returncode == 0, done.stdout
    time.sleep(20)
    assert routes_of(lab, "w03") == now and any(line.startswith("20.38.98.0/24 ") for line in now)
    assert lab.ansible("ansible", "w03", "-m", "vmbackup.azure.win_undo").returncode == 0
    assert not any(line.startswith("20.38.98.0/24 ") for line in routes_of(lab, "w03"))


def test_a_static_address_comes_back_though_the_lease_lingers(lab):
    lab.plant({"w03": ["win_static_address"]})
    interfaces = r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces"
    before, routes = lab("exec", "w03", "--", "guest", "reg", "query", interfaces, "/s"), routes_of(lab, "w03")
    done = lab.ansible("ansible", "w03", "-m", "vmbackup.azure.win_dhcp", "-a", json.dumps({"interface": "2", "undo": "snapshot.dhcp"}))
    assert done.returncode == 0 and "CHANGED" in done.stdout, done.stdout
    # As Windows may have it for a moment: DHCP is off, and the address of the lease is still there.
    key = re.search(r"^HKEY_LOCAL_MACHINE\\(\S+\{\S+\})", before, re.M).group(1)
    address = re.search(r"^ +IPAddress +REG_MULTI_SZ +(\d\S+)", before, re.M).group(1)
    for name, data in (("IPAddress", address), ("SubnetMask", "255.255.255.0")):
        lab("exec", "w03", "--", "guest", "reg", "add", "HKLM\\" + key, "/v", name, "/t", "REG_MULTI_SZ", "/d", data, "/f")
    done = lab.ansible("ansible", "w03", "-m", "vmbackup.azure.win_undo")
    assert done.returncode == 0 and "CHANGED" in done.stdout, done.stdout
    assert lab("exec", "w03", "--", "guest", "reg", "query", interfaces, "/s") == before
    assert routes_of(lab, "w03") == routes


def test_a_proxy_is_set_and_removed(lab, tmp_path):
    lab("reset", "w03")
    key = r"HKU\S-1-5-18\Software\Microsoft\Windows\CurrentVersion\Internet Settings"
    before = lab("exec", "w03", "--", "guest", "reg", "query", key, "/s")
    book = role_book(tmp_path, "proxy", connectivity_proxy="proxy.example.com:3128", vmbackup_allow_proxy=True)
    done = lab.ansible("ansible-playbook", book, "-e", "connectivity_proxy_state=present")
    assert done.returncode == 0, done.stdout[-3000:]
    said = lab("exec", "w03", "--", "guest", "reg", "query", key)
    assert "proxy.example.com:3128" in said and "168.63.129.16;169.254.169.254" in said and "ProxyEnable    REG_DWORD    0x1" in said
    settings = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Internet Settings\Connections"
    winhttp = lab("exec", "w03", "--", "guest", "reg", "query", settings, "/v", "WinHttpSettings")
    assert b"proxy.example.com:3128".hex().upper() in winhttp.upper() and b"168.63.129.16".hex().upper() in winhttp.upper()
    again = lab.ansible("ansible-playbook", book, "-e", "connectivity_proxy_state=present")
    assert "changed=0" in again.stdout, again.stdout[-2000:]
    done = lab.ansible("ansible-playbook", book, "-e", "connectivity_proxy_state=absent")
    assert done.returncode == 0 and "proxy.example.com" not in lab("exec", "w03", "--", "guest", "reg", "query", key), done.stdout[-2000:]
    code, output, _report = lab.playbook("vmbackup.azure.undo", ["w03"], tmp_path)
    assert code == 0, output
    assert lab("exec", "w03", "--", "guest", "reg", "query", key, "/s") == before


def test_the_agent_is_installed_from_the_operators_installer_only(lab, tmp_path):
    lab.plant({"w03": ["win_agent_missing"]})
    checksum = lab("exec", "w03", "--", "sha256sum", "/wine/drive_c/VmbackupLab/agent.msi").split()[0]
    given = {"vmbackup_allow_agent_install": True, "agent_msi": r"C:\VmbackupLab\agent.msi", "agent_msi_sha256": checksum}
    code, output, report = lab.playbook(
        "vmbackup.azure.remediate", ["w03"], tmp_path, "-e", json.dumps(dict(given, agent_msi_sha256="0" * 64))
    )
    assert code != 0 and "not the one in agent_msi_sha256" in str(host_of(report, "w03")), output
    assert "FAILED 1060" in lab("exec", "w03", "--", "guest", "sc", "query", "RdAgent", check=False).replace(
        ":", ""
    ) or "RUNNING" not in lab("exec", "w03", "--", "guest", "sc", "query", "RdAgent", check=False)
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w03"], tmp_path, "-e", json.dumps(given))
    assert code == 0 and host_of(report, "w03")["status"] == "repaired", output
    for service in ("RdAgent", "WindowsAzureGuestAgent"):
        assert "RUNNING" in lab("exec", "w03", "--", "guest", "sc", "query", service)
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w03"], tmp_path, "-e", json.dumps(given))
    assert code == 0 and "changed=0" in output, output
    code, output, _report = lab.playbook("vmbackup.azure.undo", ["w03"], tmp_path)
    assert code == 0 and "RUNNING" not in lab("exec", "w03", "--", "guest", "sc", "query", "RdAgent", check=False), output


def test_an_old_agent_is_updated_from_an_address(lab, tmp_path):
    lab.plant({"w03": ["win_agent_old"]})
    installer = base64.b64decode(lab("exec", "w03", "--", "base64", "/wine/drive_c/VmbackupLab/agent.msi"))
    (tmp_path / "agent.msi").write_bytes(installer)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer((GATEWAY, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = {
            "vmbackup_allow_agent_install": True,
            "agent_msi": "http://{0}:{1}/agent.msi".format(*server.server_address),
            "agent_msi_sha256": hashlib.sha256(installer).hexdigest(),
        }
        code, output, report = lab.playbook("vmbackup.azure.remediate", ["w03"], tmp_path, "-e", json.dumps(given))
        server.shutdown()
    host = host_of(report, "w03")
    assert code == 0 and host["status"] == "repaired", output
    assert list(findings(report, "w03")) == ["agent_version_old"]
    assert "the agent was 2.7.1198.778, now it is 2.7.41491.1210" in str(host["actions"]), host["actions"]
    said = lab("exec", "w03", "--", "guest", "reg", "query", r"HKLM\SOFTWARE\Microsoft\Virtual Machine\Guest", "/v", "GuestAgentVersion")
    assert "2.7.41491.1210" in said
    for service in ("RdAgent", "WindowsAzureGuestAgent"):
        assert "RUNNING" in lab("exec", "w03", "--", "guest", "sc", "query", service)
    assert "agent.msi" not in lab.shell("w03", "find /wine/drive_c -name agent.msi -not -path '*/VmbackupLab/*'")


@pytest.mark.parametrize(
    "choice, text, value", [("full", "2025-11", "TRUE"), ("copy_only", "2025-11", None), ("copy_only", "2016-10", "TRUE")]
)
def test_the_backup_type_of_vss_is_the_operators_choice(lab, tmp_path, choice, text, value):
    lab("reset", "w03")
    extra = ["-e", "vmbackup_vss_backup_type=" + choice, "-e", "vmbackup_vss_article=" + text]
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w03"], tmp_path, *extra)
    assert code == 0, output
    said = lab("exec", "w03", "--", "guest", "reg", "query", r"HKLM\SOFTWARE\Microsoft\BcdrAgent")
    found = re.search(r"USEVSSCOPYBACKUP\s+(\w+)\s+(\w+)", said, re.I)
    assert (found.groups() if found else None) == (("REG_SZ", value) if value else None)
    if value:
        assert "2016-10" in str(report) and "2025-11" in str(report), "the report says that the articles contradict each other"
