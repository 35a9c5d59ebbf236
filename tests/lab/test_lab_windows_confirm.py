# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which guarded changes of a Windows guest are kept, by the guests' own PowerShell but without a guest: registry, lock and files are real."""

import pytest
import test_lab_windows_engine
from test_lab_windows_engine import OTHER
from windows_guest import LACKS, said_of

engine = test_lab_windows_engine.engine  # the fixture
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

# Registry values as a kind that must stand, and whose reading can fail. A guard that lives is a file that is held open.
CHANGE = r"""
$global:broken = 0
$kind = Get-KindRegistry
$kind['must_stand'] = $true
$kind['settles'] = $true
$read = $kind['read']
$kind['read'] = { param($Item) if ($global:broken -gt 0) { $global:broken--; throw 'WMI is away.' }; & $read $Item }.GetNewClosure()
& (Get-Own '_Change') { param($Kind) $script:Kinds['registry'] = $Kind } $kind
function New-Change([string]$Name, [string[]]$Signs, [string]$End = 'armed as process 1') {
    Set-One $Name (Get-Want 'new')
    $item = (Get-One $Name) + @{ before = (Get-Want 'old'); written = @(, (Get-Want 'new')); then = (Get-Want 'new') }
    $point = Save-UndoPoint 'connectivity.proxy' @($item) 90
    [void](Initialize-Home 'guard')
    [System.IO.File]::WriteAllText((Get-GuardPath $point['id'] 'log'), "2026-01-01T00:00:00Z $End`r`n")
    foreach ($sign in $Signs) { Set-GuardSign $point['id'] $sign }
    return $point
}
function Open-Guard($Point) { New-Object System.IO.FileStream((Get-GuardPath $Point['id'] 'alive'), 'Create', 'Write', 'None', 16, 'DeleteOnClose') }
function Confirm-It([string]$When, [string]$Name) {
    $said = 'kept'
    try { & (Get-Own '_Confirm') { param($Name) Confirm-Guard $Name } $Name } catch { $said = $_.Exception.Message }
    "${When}: $said"
}
function Show-Change([string]$When, $Point) {
    $kept = @(Get-UndoPoint $Point['id'])[0]
    if ($null -eq $kept) { $kept = @{} }
    $signs = @('log', 'confirmed', 'finished', 'failed') | Where-Object { Test-GuardPath $Point['id'] $_ }
    "$When is: $((Read-State (Get-One $Point['items'][0]['name']))['data']) $([bool]$kept['undone_at']) $([bool]$kept['confirmed_at']) [$($signs -join ' ')]"
}
function Clear-Change { foreach ($point in @(Get-UndoPoint)) { Remove-GuardFile $point['id']; Remove-UndoPoint $point } }
"""


def test_a_confirmation_whose_answer_was_lost_is_given_again(engine):
    """The first one deletes all that the guard had, which is no reason to call the change lost. For a name an older change would answer."""
    script = (
        CHANGE
        + r"""
$point = New-Change 'a' @('finished')
Confirm-It 'first' $point['id']
Show-Change 'first' $point
Confirm-It 'second' $point['id']
Confirm-It 'name' 'connectivity.proxy'
$kept = @(Get-UndoPoint $point['id'])[0]
$kept['undone_at'] = Get-Now
Update-UndoPoint $kept
Confirm-It 'undone' $point['id']
Clear-Change
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = said_of(lines)
    assert said["first"] == "kept" and said["first is"] == "=new False True []", lines
    assert said["second"] == "kept", lines
    assert said["name"] == "There is no change of connectivity.proxy that waits for a confirmation.", lines
    assert said["undone"].startswith("There is no change '"), lines


def test_a_confirmation_that_another_run_keeps_waiting_is_asked_for_again(engine):
    script = CHANGE + "& (Get-Own '_Confirm') { $script:LockWaitMs = 300 }\n" + OTHER % "$true"
    script += r"""
$module = New-FakeModule @{ confirm = 'connectivity.proxy' } $false
Complete-Change $module
"""
    result, lines = engine(["_Confirm", "_KindRegistry"], script)
    assert result["failed"] and result["again"] is True and result["msg"].startswith("Another run is changing this guest"), lines


@pytest.mark.parametrize("signs", ["@()", "@('finished', 'failed')"])
def test_a_change_that_was_not_finished_is_not_kept(engine, signs):
    """Its run was ended in the middle, and its caller confirms by the name of the repair. A guard that lives is not told; a dead one is stood in for."""
    script = (
        CHANGE
        + r"""
$point = New-Change 'a' %s
$alive = Open-Guard $point
Confirm-It 'alive' 'connectivity.proxy'
Show-Change 'alive' $point
$alive.Dispose()
Confirm-It 'dead' $point['id']
Show-Change 'dead' $point
Clear-Change
"""
        % signs
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = said_of(lines)
    assert said["alive"].endswith(
        "' was not finished, so it is not kept. The guest puts the former state back by itself. Run the repair again after that."
    )
    assert said["alive is"].startswith("=new False False [log") and "confirmed" not in said["alive is"], lines
    assert said["dead"].endswith("' was not finished, so it is not kept. Run the repair again."), lines
    assert said["dead is"] == "=old True False []", lines


def test_a_change_that_does_not_stand_is_not_kept_and_its_guard_still_takes_it_back(engine):
    script = (
        CHANGE
        + r"""
$point = New-Change 'a' @('finished')
$alive = Open-Guard $point
Set-One 'a' (Get-Want 'other')
Confirm-It 'alive' $point['id']
Show-Change 'alive' $point
$alive.Dispose()
# Another item of it still stands; without a guard nobody else would take that back.
$more = (Get-One 'b') + @{ before = (Get-Want 'old'); written = @(, (Get-Want 'new')) }
Set-One 'b' (Get-Want 'new')
$point['items'] = @($point['items']) + @($more)
Update-UndoPoint $point
Confirm-It 'dead' $point['id']
Show-Change 'dead' $point
"b: $((Read-State (Get-One 'b'))['data'])"
Clear-Change
# A look that fails once says nothing.
$point = New-Change 'a' @('finished')
$global:broken = 2
Confirm-It 'patient' $point['id']
Show-Change 'patient' $point
Clear-Change
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = said_of(lines)
    assert "does not stand any more (" in said["alive"] and "The guest puts the former state back by itself." in said["alive"], lines
    assert said["alive is"] == "=other False False [log finished]", lines
    assert "does not stand any more (" in said["dead"] and "This could not be put back: " in said["dead"], lines
    assert said["dead is"] == "=other False False []" and said["b"] == "=old", lines
    assert (said["patient"], said["patient is"]) == ("kept", "=new False True []"), lines


def test_a_living_guard_is_told_and_says_so(engine):
    script = (
        CHANGE
        + r"""
Set-One 'a' (Get-Want 'new')
$point = Save-UndoPoint 'connectivity.proxy' @((Get-One 'a') + @{ before = (Get-Want 'old'); written = @(, (Get-Want 'new')) }) 90
Start-Guard $point 300
Set-GuardSign $point['id'] 'finished'
Confirm-It 'told' 'connectivity.proxy'
Show-Change 'told' $point
Clear-Change
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = said_of(lines)
    assert (said["told"], said["told is"]) == ("kept", "=new False True []"), lines


@pytest.mark.parametrize(
    "end, days, words",
    [
        ("put back", 0, "was not confirmed in time"),
        ("put back", 2, "There is no change of connectivity.proxy that waits for a confirmation."),
        ("confirmed", 2, "kept"),
        ("armed as process 1", 2, "kept"),
    ],
)
def test_a_name_does_not_stand_for_what_ended_long_ago(engine, end, days, words):
    script = (
        CHANGE
        + r"""
$point = New-Change 'a' @('finished') '%s'
[System.IO.File]::SetLastWriteTimeUtc((Get-GuardPath $point['id'] 'log'), [DateTime]::UtcNow.AddDays(-%d))
Confirm-It 'name' 'connectivity.proxy'
Clear-Change
"""
        % (end, days)
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    assert words in said_of(lines)["name"], lines


# ---- the start of the guest

# What schtasks.exe is asked, and what happens while the start of the guest waits for the lock.
STARTS = (
    CHANGE
    + r"""
$global:asked = @()
& (Get-Own '_GuardTask') { function script:Invoke-TaskTool([string]$Arguments) { $global:asked += $Arguments; @{ code = 0; text = '' } } }
& (Get-Own '_Guard') {
    function script:Enter-GuestLock([int]$Milliseconds) { & $global:meanwhile | Out-Null; & (Get-Own '_Lock') { Enter-GuestLock 1000 } }
}
$global:meanwhile = {}
function Start-It([string]$When, $Point) {
    $global:asked = @()
    Invoke-Guard $Point['id'] 5 0 -Parts @('_Guard') -AfterRestart
    Show-Change $When $Point
    "$When asked: $($global:asked -join ', ')"
}
function New-Waiting {
    $point = New-Change 'a' @('finished', 'ps1')
    $point['task'] = $true
    Update-UndoPoint $point
    return $point
}
"""
)


def test_what_is_confirmed_or_undone_while_the_start_waits_for_the_lock_stays(engine):
    script = (
        STARTS
        + r"""
foreach ($case in 'nothing', 'files', 'confirmed', 'undone', 'noted') {
    $global:point = New-Waiting
    $global:meanwhile = @{
        nothing = { }
        files = { Remove-GuardFile $global:point['id'] }
        confirmed = { Set-GuardSign $global:point['id'] 'confirmed' }
        undone = { $kept = @(Get-UndoPoint $global:point['id'])[0]; $kept['undone_at'] = Get-Now; Update-UndoPoint $kept }
        noted = { $kept = @(Get-UndoPoint $global:point['id'])[0]; $kept['confirmed_at'] = Get-Now; Update-UndoPoint $kept }
    }[$case]
    Start-It $case $global:point
    Clear-Change
}
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = said_of(lines)
    assert said["nothing is"] == "=old True False [log]", lines
    assert said["files is"] == said["confirmed is"] == "=new False False []", lines
    assert said["undone is"] == "=new True False []" and said["noted is"] == "=new False True []", lines
    cases = ("nothing", "files", "confirmed", "undone", "noted")
    assert all(said[case + " asked"].startswith("/Delete /TN") for case in cases), lines


def test_a_task_goes_though_its_undo_point_is_gone(engine):
    script = (
        STARTS
        + r"""
$point = New-Waiting
$first = $point['id']
Remove-UndoPoint $point
Start-It 'start' $point
"start left: $(Test-GuardPath $first 'ps1') $first"
Remove-GuardFile $first
foreach ($case in 'gone', 'without', 'with') {
    $point = New-Waiting
    if ($case -eq 'gone') { Remove-UndoPoint $point }
    if ($case -eq 'without') { $point['task'] = $false; Update-UndoPoint $point }
    $global:asked = @()
    & (Get-Own '_Guard') { param($Token) Remove-Guard $Token } $point['id']
    "${case}: $(($global:asked -join ', ').Replace($point['id'], 'TOKEN'))"
    Clear-Change
}
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = said_of(lines)
    assert said["start is"].startswith("=new "), lines
    left, token = said["start left"].split()
    assert left == "False" and said["start asked"] == '/Delete /TN "vmbackup_azure {0}" /F'.format(token), lines
    assert said["gone"] == said["with"] == '/Delete /TN "vmbackup_azure TOKEN" /F' and said["without"] == "", lines


def test_an_old_undo_point_stays_while_a_start_of_the_guest_would_need_it(engine):
    script = (
        CHANGE
        + r"""
foreach ($case in 'waits', 'over', 'undone', 'other') {
    $point = New-Change $case @('ps1')
    $point['created_at'] = '2020-01-01T00:00:00Z'
    $point['task'] = $case -ne 'other'
    if ($case -eq 'undone') { $point['undone_at'] = Get-Now }
    if ($case -eq 'over') { Remove-GuardFile $point['id'] }
    Update-UndoPoint $point
}
Remove-OldPoint 90
"stay: $(@(Get-UndoPoint | ForEach-Object { $_['items'][0]['name'] }) -join ' ')"
Clear-Change
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    assert said_of(lines)["stay"] == "waits", lines


def test_the_first_line_of_a_guard_is_on_the_disk(engine):
    """A guest that is switched off hard has the script and the undo point; without the line its start would take the change for one that is over."""
    script = (
        CHANGE
        + r"""
$global:durable = @()
& (Get-Own '_Guard') {
    function script:Write-Durable([string]$Path, [string]$Text, $Encoding) {
        $global:durable += "$Path|$Text"
        [System.IO.File]::WriteAllText($Path, $Text, $Encoding)
    }
}
$point = New-Change 'a' @('dropped')
Invoke-Guard $point['id'] 5 0 -Parts @('_Guard')
$path, $line = "$($global:durable)".Trim().Split('|')
"durable: $($global:durable.Count) $($path -eq (Get-GuardPath $point['id'] 'log')) $($line -match 'Z armed as process \d+$')"
"end: $(Get-GuardEnd $point['id'])"
Clear-Change
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = said_of(lines)
    assert said["durable"] == "1 True True" and said["end"].endswith(" dropped"), lines
