# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What win_services does not stop. The service manager is a stand-in inside the part: no service of the machine is to be touched."""

import pytest
import test_lab_windows_engine
from windows_guest import LACKS, said_of

engine = test_lab_windows_engine.engine  # the fixture
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

MANAGER = r"""
$global:snapshot = $false
$global:done = @()
& (Get-Own '_KindService') {
    function script:Get-Dependent([string]$Name) { @{ Winmgmt = @('One', 'Two'); Two = @('VMMS', 'Winmgmt'); CryptSvc = @('One') }[$Name] }
    function script:Stop-One([string]$Name, $Stopped) { $global:done += "stop $Name" }
    function script:Start-One([string]$Name) { $global:done += "start $Name" }
    function script:Get-ServiceState([string]$Name) { 'running' }
    function script:Wait-Service { 'stop_pending' }
    function script:Open-Key { [pscustomobject]@{} | Add-Member -PassThru ScriptMethod GetValue { 0x20 } | Add-Member -PassThru ScriptMethod Dispose {} }
    function script:Test-Snapshot { $global:snapshot }
}
function Show-Done([string]$What, [scriptblock]$Do) {
    $global:done = @()
    $said = ''
    try { & (Get-Own '_KindService') $Do } catch { $said = $_.Exception.Message }
    "${What}: $($global:done -join ', ') / $said"
}
"""


def test_what_hangs_on_a_service_is_not_stopped_along_where_users_notice(engine):
    script = (
        MANAGER
        + r"""
Show-Done 'fine' { Restart-One 'CryptSvc' $null }
Show-Done 'refused' { Restart-One 'Winmgmt' $null }
Show-Done 'allowed' { Set-ServiceLimit 1 1 'RdAgent' @('vmms'); Restart-One 'Winmgmt' $null }
"""
    )
    lines = engine(["_Change", "_KindService"], script)[1]
    said = said_of(lines)
    assert said["fine"] == "stop CryptSvc, start CryptSvc / " and said["allowed"] == "stop Winmgmt, start Winmgmt / ", lines
    assert said["refused"].startswith(" / The service Winmgmt was not stopped, since VMMS depends on it"), lines


def test_the_agent_is_restarted_for_its_own_services_only_and_not_in_a_snapshot(engine):
    script = (
        MANAGER
        + r"""
$notes = New-Object System.Collections.ArrayList
Show-Done 'other' { Resolve-StopPending 'VSS' $notes }
Show-Done 'own' { Resolve-StopPending 'WindowsAzureGuestAgent' $notes }
$global:snapshot = $true
Show-Done 'snapshot' { Resolve-StopPending 'WindowsAzureGuestAgent' $notes }
Show-Done 'itself' { function script:Open-Key { [pscustomobject]@{} | Add-Member -PassThru ScriptMethod GetValue { 0x10 } |
    Add-Member -PassThru ScriptMethod Dispose {} }; function script:Get-ServicePid { 1 }; Resolve-StopPending 'RdAgent' $notes }
"""
    )
    lines = engine(["_Change", "_KindService"], script)[1]
    said = said_of(lines)
    assert said["other"].startswith(" / The service VSS hangs in StopPending and is none of the agent's"), lines
    assert said["own"].startswith("stop RdAgent, start RdAgent / The service WindowsAzureGuestAgent hangs in StopPending and shares"), lines
    assert said["snapshot"].startswith(" / A snapshot began meanwhile, so RdAgent was not restarted"), lines
    assert said["itself"].startswith(" / A snapshot began meanwhile, so the process of RdAgent"), lines


def test_what_depends_on_a_service_and_is_disabled_is_not_stopped_along(engine):
    """It runs until it is stopped, and would not start again. The key of one that is not there says nothing."""
    script = (
        MANAGER
        + r"""
& (Get-Own '_KindService') {
    function script:Open-Key([string]$Path) {
        if ($Path.EndsWith('\One')) { return $null }
        $start = @{ $true = 4; $false = 2 }[$Path -eq "HKLM\SYSTEM\CurrentControlSet\Services\$($global:disabled)"]
        [pscustomobject]@{ start = $start } | Add-Member -PassThru ScriptMethod GetValue { $this.start } | Add-Member -PassThru ScriptMethod Dispose {}
    }
    Set-ServiceLimit 1 1 'RdAgent' @('vmms')
}
$global:disabled = ''
Show-Done 'fine' { Restart-One 'Winmgmt' $null }
foreach ($name in 'Two', 'VMMS') { $global:disabled = $name; Show-Done $name { Restart-One 'Winmgmt' $null } }
$global:disabled = 'Winmgmt'
Show-Done 'itself' { Restart-One 'Winmgmt' $null }
"""
    )
    lines = engine(["_Change", "_KindService"], script)[1]
    said = said_of(lines)
    assert said["fine"] == said["itself"] == "stop Winmgmt, start Winmgmt / ", lines
    for name in ("Two", "VMMS"):
        assert said[name].startswith(
            " / The service Winmgmt was not stopped, since {0} depends on it and runs, but is disabled".format(name)
        )


# Two services in one call. A snapshot begins when the first one was written.
BEGINS = r"""
$global:begun = $false
$global:state = @{ VSS = 'running'; SWPRV = 'running' }
& (Get-Own '_KindService') {
    function script:Test-Snapshot { $global:begun }
    function script:Read-Service($Item) {
        @{ exists = $true; start_type = 'auto'; delayed = $null; failure_actions = $null; state = $global:state[$Item['name']] }
    }
    function script:Restart-One([string]$Name, $Notes) { $global:begun = $true; [void]$Notes.Add("$Name took long.") }
    function script:Start-One([string]$Name) { $global:begun = $true; $global:state[$Name] = 'running' }
}
$module = New-FakeModule @{ undo = 'snapshot.vss_writers'; keep_days = 90 } $false
$module | Add-Member -Force ScriptMethod ExitJson {
    $this.Result['points'] = @(Get-UndoPoint).Count
    foreach ($point in @(Get-UndoPoint)) { Remove-UndoPoint $point }
    '>> ' + (ConvertTo-Json $this.Result -Depth 6 -Compress) | Out-Default
    [Environment]::Exit(0)
}
$module | Add-Member -Force ScriptMethod FailJson { $this.Result['failed'] = $true; $this.Result['msg'] = $args[0]; $this.ExitJson() }
Initialize-Result $module
$restart = @{ item = @{ kind = 'service'; name = 'SWPRV' }; wanted = @{ state = 'running'; restart = $true } }
$first = @{ item = @{ kind = 'service'; name = 'VSS' }; wanted = @{ state = 'running' } }
"""


def test_a_repair_is_deferred_when_a_snapshot_begins_in_the_middle(engine):
    script = BEGINS + "$first.wanted['restart'] = $true\nInvoke-Change $module @($first, $restart)\n"
    result, lines = engine(["_Change", "_KindService"], script)
    assert (result["deferred"], result["reason"]) == (True, "a snapshot is running") and not result.get("failed"), lines
    assert result["notes"] == ["VSS took long.", "Restarted before: service VSS."], lines
    assert (result["changed"], result["changes"], result["undo_point"], result["points"]) == (False, [], None, 0), lines


def test_what_cannot_be_put_back_when_a_snapshot_begins_is_a_failure(engine):
    script = BEGINS + "$global:state['VSS'] = 'stopped'\nInvoke-Change $module @($first, $restart)\n"
    result, lines = engine(["_Change", "_KindService"], script)
    assert result["failed"] and not result["deferred"] and result["changed"] and result["points"] == 1, lines
    assert "A snapshot began meanwhile, so SWPRV was not restarted." in result["msg"] and "could not be put back" in result["msg"], lines


def test_what_was_stopped_along_is_told(engine):
    script = r"""
& (Get-Own '_KindService') {
    function script:Test-Snapshot { $false }
    function script:Assert-Stoppable { }
    function script:Read-Service($Item) { @{ exists = $true; start_type = 'auto'; state = 'running' } }
    function script:Stop-One([string]$Name, $Stopped) { $Stopped.AddRange(@('One', 'Two')); if ($global:fails) { throw 'Two does not stop.' } }
    function script:Get-ServiceState([string]$Name) { if ($global:fails -and $Name -eq 'Two') { 'running' } else { 'stopped' } }
}
foreach ($fails in $false, $true) {
    $global:fails = $fails
    $notes = New-Object System.Collections.ArrayList
    try { Write-State @{ kind = 'service'; name = 'VSS' } @{ state = 'stopped' } $notes } catch { $null = $_ }
    "notes ${fails}: $($notes -join ' ')"
}
$global:fails = $false
Write-State @{ kind = 'service'; name = 'VSS' } @{ state = 'stopped' } $null
'without: fine'
"""
    lines = engine(["_Change", "_KindService"], script)[1]
    said = said_of(lines)
    one = "One depends on VSS and was stopped along with it."
    assert said["notes True"] == one and said["notes False"] == one + " " + one.replace("One", "Two"), lines
    assert said["without"] == "fine", lines


def test_a_key_that_is_no_service_is_none(engine):
    """Under the services there are keys without a start type; such a one used to count as a service that starts with the system."""
    script = r"""
$place = 'SYSTEM\CurrentControlSet\Services\VmbackupLabKey'
foreach ($case in 'ImagePath', 'Start', 'Start Type', 'Start ImagePath', 'Start Type ImagePath', 'Type ImagePath') {
    [Microsoft.Win32.Registry]::LocalMachine.DeleteSubKeyTree($place, $false)
    $key = [Microsoft.Win32.Registry]::LocalMachine.CreateSubKey($place)
    foreach ($name in $case.Split(' ')) { if ($name -eq 'ImagePath') { $key.SetValue($name, 'x.exe') } else { $key.SetValue($name, 2) } }
    $key.Dispose()
    $state = Read-State @{ kind = 'service'; name = 'VmbackupLabKey' }
    "is ${case}: $($state['exists']) $($state['start_type'])"
}
[Microsoft.Win32.Registry]::LocalMachine.DeleteSubKeyTree($place, $false)
"""
    lines = engine(["_Change", "_KindService"], script)[1]
    said = dict(line[3:].split(": ", 1) for line in lines if line.startswith("is "))
    there = dict.fromkeys(("Start Type", "Start ImagePath", "Start Type ImagePath"), "True auto")
    assert said == dict.fromkeys(("ImagePath", "Start", "Type ImagePath"), "False ") | there, lines
