# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Windows guests while a snapshot runs, and what is looked at again between two remedies of one run."""

import json
import re

import pytest
from conftest import host_of
from windows_guest import LACKS

pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

GUEST = "w01"
NET = r"HKLM\SOFTWARE\VmbackupLab\NetTCPIP\Active"
TEST = r"HKLM\SOFTWARE\VmbackupLab\Test"
SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
STATUS = r"C:\Packages\Plugins\Microsoft.Azure.RecoveryServices.VMSnapshot\1.0.81.0\Status\6.status"
RULES = SERVICES + r"\SharedAccess\Parameters\FirewallPolicy\FirewallRules"
RULE = "{0C1A3D1C-7F0B-4C39-9E56-3B2B5B6E2F11}"


def call(lab, name, *arguments, **options):
    """Call a module; return what it returned, and all that was printed."""
    given = ["-a", json.dumps(options)] if options else []
    said = lab.ansible("ansible", GUEST, "-m", "vmbackup.azure." + name, *given, *arguments).stdout
    found = re.search(r"^\w+ \| .*?=> (\{.*\})\s*\Z", said, re.S | re.M)
    assert found, said
    return json.loads(found.group(1)), said


def powershell(lab, script):
    return lab("exec", GUEST, "--", "guest", "powershell", "-NoProfile", "-Command", script).replace("\r", "")


def registry(lab, key, *more):
    return lab("exec", GUEST, "--", "guest", "reg", "query", key, *more, check=False).replace("\r", "")


def start_type(lab, name):
    return re.search(r"Start\s+REG_DWORD\s+0x(\d)", registry(lab, SERVICES + "\\" + name, "/v", "Start")).group(1)


def remediate(lab, tmp_path, **variables):
    """Return (exit code, output, the guest in the report, its actions by name)."""
    code, output, report = lab.playbook("vmbackup.azure.remediate", [GUEST], tmp_path, "-e", json.dumps(variables))
    guest = host_of(report, GUEST)
    return code, output, guest, {action["remedy"]: action for action in guest["actions"]}


def snapshot(lab, code):
    """Have the snapshot extension say that a snapshot runs (4) or is done (1), as of now."""
    script = (
        "$at = (Get-Date).ToUniversalTime().ToString('s') + 'Z'; "
        "$status = @{{ operation = 'Enable'; status = 'transitioning'; code = {0}; formattedMessage = @{{ message = 'm' }} }}; "
        "$text = ConvertTo-Json @(, @{{ version = '1.0'; timestampUTC = $at; status = $status }}) -Depth 6 -Compress; "
        "[IO.File]::WriteAllText('{1}', $text)"
    )
    powershell(lab, script.format(code, STATUS))


def test_nothing_is_written_while_a_snapshot_runs(lab, tmp_path):
    lab.plant({GUEST: ["win_vss_disabled"]})
    value = {"key": TEST, "name": "n", "data": "old"}
    call(lab, "win_registry", values=[value], undo="connectivity.proxy")
    before = registry(lab, NET)
    snapshot(lab, 4)
    facts, said = call(lab, "guest_facts", gather_subset=["extension"])
    assert facts["ansible_facts"]["vmbackup"]["extension"]["snapshot"]["busy"] is True, said
    writers = (
        ("win_registry", {"values": [dict(value, data="new")], "undo": "connectivity.proxy"}),
        ("win_services", {"services": [{"name": "VSS", "start_type": "manual"}], "undo": "snapshot.vss_services"}),
        ("win_routes", {"routes": ["20.38.98.0/24"], "undo": "connectivity.azure_routes", "confirm_s": 60}),
        ("win_undo_point", {"remedy": "agent.install", "packages": ["Windows Azure VM Agent"]}),
        ("win_undo", {}),
    )
    for name, options in writers:
        result, said = call(lab, name, **options)
        assert (result["deferred"], result["reason"], result["changed"]) == (True, "a snapshot is running", False), said
    result, said = call(lab, "win_registry", "--check", values=[dict(value, data="new")])
    assert result["changed"] and result["deferred"] is False, said
    assert "old" in registry(lab, TEST) and start_type(lab, "VSS") == "4" and registry(lab, NET) == before
    code, output, _guest, actions = remediate(lab, tmp_path, vmbackup_snapshot_wait_s=0)
    assert code != 0 and actions["snapshot.vss_services"]["deferred"] and not actions["snapshot.vss_services"]["changed"], output
    assert start_type(lab, "VSS") == "4", output
    snapshot(lab, 1)
    code, output, guest, _actions = remediate(lab, tmp_path, vmbackup_snapshot_wait_s=0)
    assert code == 0 and guest["status"] == "repaired" and start_type(lab, "VSS") == "3", output


def test_an_installer_waits_for_a_snapshot(lab, tmp_path):
    lab.plant({GUEST: ["win_agent_missing"]})
    snapshot(lab, 4)
    checksum = lab("exec", GUEST, "--", "sha256sum", "/wine/drive_c/VmbackupLab/agent.msi").split()[0]
    given = {"vmbackup_allow_agent_install": True, "agent_msi": r"C:\VmbackupLab\agent.msi", "agent_msi_sha256": checksum}
    code, output, _guest, actions = remediate(lab, tmp_path, vmbackup_snapshot_wait_s=0, **given)
    assert code != 0 and actions["agent.install"]["deferred"] and not actions["agent.install"]["changed"], output
    lab.shell(GUEST, "! test -e /wine/drive_c/windows/logs/vmbackup-agent-install.log")


def test_the_guest_is_diagnosed_again_only_where_the_network_was_changed(lab, tmp_path):
    lab.plant({GUEST: ["win_storage_blocked", "win_firewall_rule", "win_vss_disabled"]})
    given = {"vmbackup_allow_routes": True, "vmbackup_allow_firewall": True, "connectivity_prefixes": ["203.0.113.0/24"]}
    _code, output, _guest, actions = remediate(lab, tmp_path, **given)
    assert [name for name, action in actions.items() if action["changed"]] == [
        "connectivity.azure_routes",
        "connectivity.firewall",
        "snapshot.vss_services",
    ], output
    looks = re.findall(r"^TASK \[vmbackup.azure.repair : Diagnose the guest, [^\n]*\n(ok|skipping): ", output, re.M)
    assert looks == ["skipping", "ok", "skipping"], output
    assert "Active=FALSE" in registry(lab, RULES, "/v", RULE)


def test_what_was_seen_of_proxies_and_addresses_is_expected_and_found(lab, tmp_path):
    lab.plant({GUEST: ["win_static_address", "win_proxy_no_bypass", "win_agent_stopped"]})
    _code, output, _guest, actions = remediate(lab, tmp_path, vmbackup_allow_dhcp=True, vmbackup_allow_proxy=True)
    assert all(actions[name]["changed"] for name in ("connectivity.proxy", "snapshot.dhcp", "agent.service")), output
    assert not any(action["failed"] for action in actions.values()), output
