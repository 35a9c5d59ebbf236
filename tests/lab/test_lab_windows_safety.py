# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What must never make a Windows guest worse: routes and DHCP, the guard, and what is left alone. What Wine cannot show is in docs/windows-proof.md."""

import html
import json
import re

import pytest
from conftest import findings, host_of
from windows_guest import DHCP, HOME, LACKS, NET, REMEDY, call, engine, powershell, registry, restart, role, routes, start_type

pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)


def test_the_routes_of_the_dhcp_client_stay_as_they_are(lab, tmp_path):
    lab("reset", "w04")
    own = {"168.63.129.16/32": 1, "169.254.169.254/32": 1}
    before = routes(lab, "Active")
    assert {prefix: before.get(prefix) for prefix in own} == own and not routes(lab, "Persistent")
    done = role(lab, tmp_path, "connectivity", "azure_routes", connectivity_prefixes=["203.0.113.0/24"], vmbackup_allow_routes=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert routes(lab, "Active") == dict(before, **{"203.0.113.0/24": 256})
    assert routes(lab, "Persistent") == {"203.0.113.0/24": 256}
    code, output, _report = lab.playbook("vmbackup.azure.undo", ["w04"], tmp_path)
    assert code == 0 and routes(lab, "Active") == before and not routes(lab, "Persistent"), output


def test_routes_outlast_a_restart_only_when_they_were_confirmed(lab):
    lab("reset", "w04")
    before = routes(lab, "Active")
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert result["token"], said
    assert routes(lab, "Active")["20.38.98.0/24"] == 256 and not routes(lab, "Persistent")
    restart(lab)
    assert routes(lab, "Active") == before
    # The guard was killed: the next run neither waits for it nor fails because of it.
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert result["token"] and result["changed"], said
    call(lab, "win_routes", confirm=result["token"])
    # The answer may have been lost.
    again, said = call(lab, "win_routes", confirm=result["token"])
    assert not again["failed"], said
    restart(lab)
    assert routes(lab, "Persistent") == {"20.38.98.0/24": 256} and routes(lab, "Active") == dict(before, **{"20.38.98.0/24": 256})
    # An own route is taken away for good only after a confirmation, too.
    result, said = call(lab, "win_routes", routes=[], purge=True, undo=REMEDY, confirm_s=300)
    assert "20.38.98.0/24" not in routes(lab, "Active") and "20.38.98.0/24" in routes(lab, "Persistent"), said
    call(lab, "win_routes", confirm=result["token"])
    assert not routes(lab, "Persistent")
    result, said = call(lab, "win_undo")
    assert result["left"] == [] and routes(lab, "Active") == before and not routes(lab, "Persistent"), said


def test_a_change_whose_guard_was_killed_is_confirmed_by_the_next_run(lab):
    lab("reset", "w04")
    first, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    other, said = call(lab, "win_routes", routes=["52.239.140.0/22"], undo=REMEDY, confirm_s=300)
    assert (other["changed"], other["reason"]) == (False, "the change of {0} waits for its confirmation".format(REMEDY)), said
    # Without a time to confirm, nothing may be found there that still may be taken back.
    again, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY)
    assert again["deferred"] and not again["changed"] and not routes(lab, "Persistent"), said
    lab.shell("w04", "for p in $(pgrep -f 'guard.*[.]ps1'); do kill -9 $p; done; true")
    second, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert second["token"] == first["token"] and second["changed"], said
    call(lab, "win_routes", confirm=second["token"])
    assert routes(lab, "Persistent") == {"20.38.98.0/24": 256}
    assert call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)[0]["changed"] is False


def test_a_guard_does_not_wait_for_a_writer_that_was_killed(lab):
    """Without its word that it has finished, the guard used to wait 900 s more. Who lost the connection to it confirms by the name of the repair."""
    lab("reset", "w04")
    call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=30)
    lab.shell("w04", "rm -f {0}/guard/*.finished".format(HOME))
    refused, said = call(lab, "win_routes", confirm=REMEDY)
    assert refused.get("failed") and "was not finished, so it is not kept" in refused["msg"], said
    lab.shell("w04", "for i in $(seq 60); do ip route | grep -q ^20.38.98.0/24 || exit 0; sleep 1; done; exit 1")
    assert "20.38.98.0/24" not in routes(lab, "Active")


def tasks(lab):
    """Return the XML of the tasks that the guest has for this collection, which is UTF-16, without what is not ASCII."""
    place = "/wine/drive_c/windows/system32"
    return lab.shell("w04", "cat {0}/[Tt]asks/vmbackup_azure* 2>/dev/null | tr -cd '\\11\\12\\40-\\176'; true".format(place))


def run_task(lab, task):
    """Run what a task runs when the guest starts."""
    words = html.unescape(re.search(r"<Arguments>(.*?)</Arguments>", task).group(1))
    options, command = re.match(r'(.*) -Command "(.*)"\Z', words).groups()
    assert command.endswith(" -AfterRestart"), words
    lab("exec", "w04", "--", "guest", "powershell", *options.split(), "-Command", command)


def test_dhcp_that_nobody_confirmed_is_taken_back_when_the_guest_starts(lab):
    lab.plant({"w04": ["win_static_address"]})
    before = registry(lab, DHCP, "/s")
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=300)
    assert result["token"] and registry(lab, DHCP, "/s") != before, said
    task = tasks(lab)
    assert "<BootTrigger>" in task and "S-1-5-18" in task, task
    restart(lab)
    run_task(lab, task)
    assert registry(lab, DHCP, "/s") == before
    assert tasks(lab) == "" and "no guard" in lab.shell("w04", "ls {0}/guard/*.ps1 2>/dev/null || echo no guard".format(HOME))
    late, said = call(lab, "win_dhcp", confirm="snapshot.dhcp")
    assert late.get("failed") and "was not confirmed in time" in late["msg"], said
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=300)
    assert result["token"] and tasks(lab), said
    call(lab, "win_dhcp", confirm=result["token"])
    assert tasks(lab) == ""
    # Azure gives another address by now: the former one would cut the guest off.
    guid = re.search(r"Interfaces\\(\{[^}]+\})", registry(lab, DHCP, "/s")).group(1)
    lease = "$key = [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey('{0}', $true); $old = $key.GetValue('DhcpIPAddress');"
    lease += " $key.SetValue('DhcpIPAddress', '{1}'); $old"
    path = DHCP.replace("HKLM\\", "") + "\\" + guid
    former = powershell(lab, lease.format(path, "10.9.9.9")).split()[-1]
    result, said = call(lab, "win_undo")
    assert not result["changed"] and "10.9.9.9" in result["left"][0] and "DHCP stays on" in result["left"][0], said
    powershell(lab, lease.format(path, former))
    assert call(lab, "win_undo")[0]["changed"] and registry(lab, DHCP, "/s") == before


def test_a_confirmation_after_a_restart_keeps_no_route(lab):
    """The guest answers again because the former routes are back, which says nothing about the new ones."""
    lab("reset", "w04")
    before = routes(lab, "Active")
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert result["token"], said
    restart(lab)
    late, said = call(lab, "win_routes", confirm=result["token"])
    assert late.get("failed") and "does not stand any more" in late["msg"], said
    point = json.loads(lab.shell("w04", "cat {0}/undo/{1}.json".format(HOME, result["token"])))
    assert point["undone_at"], "it must not take away later what somebody sets"
    assert routes(lab, "Active") == before and not routes(lab, "Persistent")


def test_a_guard_that_could_not_put_back_tries_again(lab):
    lab.plant({"w04": ["win_static_address"]})
    before = registry(lab, DHCP, "/s")
    cards = "'HKLM:\\SOFTWARE\\VmbackupLab\\NetTCPIP\\{0}'"
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=15)
    assert result["token"], said
    # For the time of the first attempt the adapter is another one.
    guid = re.search(r"\{[^}]+\}", registry(lab, NET + r"\Interfaces\2", "/v", "Guid")).group(0)
    powershell(lab, "Set-ItemProperty {0} Guid '{{00000000-0000-0000-0000-000000000000}}'".format(cards.format(r"Interfaces\2")))
    wait = "for i in $(seq 60); do grep -q '{1}' {0}/guard/*.log && exit 0; sleep 1; done; cat {0}/guard/*.log; exit 1"
    lab.shell("w04", wait.format(HOME, "not put back yet"))
    assert tasks(lab), "a start of the guest would try again, too"
    powershell(lab, "Set-ItemProperty {0} Guid '{1}'".format(cards.format(r"Interfaces\2"), guid))
    lab.shell("w04", wait.format(HOME, "Z put back.$"))
    assert registry(lab, DHCP, "/s") == before and tasks(lab) == ""


def test_what_was_confirmed_is_not_taken_back_when_the_guest_starts(lab):
    """The caller was cut off after its confirmation, before the task was removed."""
    lab.plant({"w04": ["win_static_address"]})
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=300)
    assert result["token"], said
    after = registry(lab, DHCP, "/s")
    task = tasks(lab)
    restart(lab)
    lab.shell("w04", "touch {0}/guard/{1}.confirmed".format(HOME, result["token"]))
    run_task(lab, task)
    assert registry(lab, DHCP, "/s") == after and tasks(lab) == ""


BROKEN = {
    "Get-NetRoute": "function Get-NetRoute { [CmdletBinding()] param($PolicyStore) Write-Error 'WMI is away.' }",
    "Get-NetAdapter": "function Get-NetAdapter { [CmdletBinding()] param() Write-Error 'WMI is away.' }",
    "neither": "function Get-NetRoute { [CmdletBinding()] param($PolicyStore) Write-Error 'None.' -Category ObjectNotFound }",
}


@pytest.mark.parametrize("which", list(BROKEN))
def test_routes_that_cannot_be_read_are_not_gone(lab, tmp_path, which):
    item = "@{ kind = 'route'; prefix = '20.38.98.0/24'; index = 2; guid = '{00000000-0000-0000-0000-000000000002}'; hop = '10.0.0.1' }"
    script = (
        "function Get-NetAdapter {{ [CmdletBinding()] param() }}; function Get-NetRoute {{ [CmdletBinding()] param($PolicyStore) }}; {0};"
        " Import-Part '_Change', '_KindRoute'; try {{ $state = Read-State {1}; '[absent ' + ($null -eq $state['active']) + ']' }}"
        " catch {{ '[' + $_.Exception.Message + ']' }}"
    ).format(BROKEN[which], item)
    said = engine(lab, tmp_path, script)
    assert (said == "[absent True]") if which == "neither" else ("WMI is away." in said), said


def test_no_service_is_restarted_in_the_middle_of_another_backup(lab, tmp_path):
    lab.plant({"w04": ["win_writer_failed"]})
    change = (
        "$path = 'C:\\VmbackupLab\\vssadmin\\list writers.txt'; $text = [IO.File]::ReadAllText($path); $at = $text.IndexOf(\"'WMI Writer'\");"
        " [IO.File]::WriteAllText($path, $text.Substring(0, $at) + ([regex]'\\[1\\] Stable').Replace($text.Substring($at), '[5] Waiting for completion', 1))"
    )
    powershell(lab, change)
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w04"], tmp_path, "-e", "vmbackup_allow_vss_writer_restart=true")
    assert "vss_writer_failed" in findings(report, "w04") and "vss_writer_waiting" in findings(report, "w04"), output
    assert "WMI Writer" not in str(findings(report, "w04")["vss_writer_failed"])
    assert "Nothing was restarted, since another backup seems to run" in str(host_of(report, "w04")["actions"]), output


def test_a_rule_stays_where_the_azure_host_answers(lab, tmp_path):
    lab("reset", "w04")
    name = "{0C1A3D1C-7F0B-4C39-9E56-3B2B5B6E2F11}"
    key = r"HKLM:\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules"
    rule = "v2.31|Action=Block|Active=TRUE|Dir=Out|Protocol=6|RPort=32526|RA4=168.63.129.16|Name=Block unknown ports|"
    powershell(lab, "Set-ItemProperty -Path '{0}' -Name '{1}' -Value '{2}'".format(key, name, rule))
    done = role(lab, tmp_path, "connectivity", "firewall", vmbackup_allow_firewall=True)
    assert done.returncode == 0 and "The Azure host answers, so no rule was disabled." in done.stdout, done.stdout[-3000:]
    assert "Active=TRUE" in registry(lab, key.replace("HKLM:", "HKLM"), "/v", name)


def installer(lab):
    checksum = lab("exec", "w04", "--", "sha256sum", "/wine/drive_c/VmbackupLab/agent.msi").split()[0]
    return {"vmbackup_allow_agent_install": True, "agent_msi": r"C:\VmbackupLab\agent.msi", "agent_msi_sha256": checksum}


def test_a_failed_installation_skips_the_agents_repairs_only(lab, tmp_path):
    lab.plant({"w04": ["win_agent_missing", "win_vss_disabled"]})
    lab(
        "exec",
        "w04",
        "--",
        "guest",
        "reg",
        "add",
        r"HKLM\SOFTWARE\VmbackupLab\Services\RdAgent",
        "/v",
        "NeverInstalls",
        "/t",
        "REG_DWORD",
        "/d",
        "1",
        "/f",
    )
    given = dict(installer(lab), agent_install_wait_s=12)
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w04"], tmp_path, "-e", json.dumps(given))
    actions = {action["remedy"]: action for action in host_of(report, "w04")["actions"]}
    assert code != 0 and actions["agent.install"]["failed"], output
    assert "WindowsAzureGuestAgent was not there 12 s later" in actions["agent.install"]["text"], actions
    assert actions["snapshot.vss_services"]["changed"] and start_type(lab, "VSS") == "3", output
    assert "agent.service" not in actions


def test_the_installers_log_is_written_and_a_product_that_came_since_stays(lab, tmp_path):
    lab.plant({"w04": ["win_agent_missing"]})
    lab.shell("w04", "! test -e /wine/drive_c/WindowsAzure")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w04"], tmp_path, "-e", json.dumps(installer(lab)))
    assert code == 0 and host_of(report, "w04")["status"] == "repaired", output
    lab.shell("w04", "test -s /wine/drive_c/windows/logs/vmbackup-agent-install.log")
    # Somebody installs another agent afterwards: another product.
    product = r"HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\{11111111-94C8-4A5E-8F0E-56ACDC3E24A1}"
    more = (
        "New-Item -Path '{0}' -Force | Out-Null; Set-ItemProperty -Path '{0}' -Name DisplayName -Value 'Windows Azure VM Agent - 2.7.5'; "
    )
    more += "Set-ItemProperty -Path '{0}' -Name DisplayVersion -Value '2.7.5'"
    powershell(lab, more.format(product))
    result, said = call(lab, "win_undo", "--check")
    assert [entry["uninstall"] for entry in result["packages"]] and "11111111" not in str(
        [entry["uninstall"] for entry in result["packages"]]
    ), said
    assert any("Windows Azure VM Agent - 2.7.5: version 2.7.5 is not known to come from a repair" in line for line in result["left"]), said
    code, output, report = lab.playbook("vmbackup.azure.undo", ["w04"], tmp_path)
    assert "Left: package Windows Azure VM Agent - 2.7.5" in str(host_of(report, "w04")["actions"]), output
    assert "11111111" in registry(lab, product.replace("HKLM:", "HKLM")), output


def test_an_agent_without_a_heartbeat_yet_has_not_failed(lab, tmp_path):
    lab.plant({"w04": ["win_agent_stopped"]})
    for name in ("RdAgent", "WindowsAzureGuestAgent"):
        lab(
            "exec",
            "w04",
            "--",
            "guest",
            "reg",
            "add",
            r"HKLM\SOFTWARE\VmbackupLab\Services" + "\\" + name,
            "/v",
            "Silent",
            "/t",
            "REG_DWORD",
            "/d",
            "1",
            "/f",
        )
    done = role(lab, tmp_path, "agent", "service", agent_first_heartbeat_wait_s=8)
    assert done.returncode == 0 and "has not written a heartbeat" in done.stdout.replace("a new heartbeat", "a heartbeat"), done.stdout[
        -3000:
    ]
    lab("exec", "w04", "--", "guest", "sc", "stop", "WindowsAzureGuestAgent")
    limits = {"agent_first_heartbeat_wait_s": 8, "vmbackup_thresholds": {"windows_first_heartbeat_s": 8}}
    done = role(lab, tmp_path, "agent", "service", **limits)
    assert done.returncode != 0 and "wrote no new heartbeat within 8 s" in done.stdout, done.stdout[-3000:]
