# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine of the Windows writers, by the guests' own PowerShell but without a guest: registry, lock and guard are real."""

import glob
import json
import os
import re
import subprocess

import pytest
from conftest import LAB, ROOT
from windows_guest import LACKS

pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

ENGINE = os.path.join(ROOT, "tests", "lab", "engine.ps1")
KEY = r"HKLM\SOFTWARE\VmbackupLab\Engine"
START = (
    r"""
function Get-One([string]$Name) { @{ kind = 'registry'; key = '%s'; name = $Name } }
function Get-Want([string]$Text) { @{ exists = $true; type = 'string'; data = "=$Text" } }
function Set-One([string]$Name, $State) { Write-State (Get-One $Name) $State $null }
function Get-Own([string]$Part) { Get-Module | Where-Object { $_.Name -like "*.$Part" } }
"""
    % KEY
)
PLUGIN = r"C:\Packages\Plugins\Microsoft.Azure.RecoveryServices.VMSnapshot"
STOP = "if ([IO.Directory]::Exists('{0}')) {{ [IO.Directory]::Delete('{0}', $true) }}\n".format(PLUGIN)
STOP += "[Microsoft.Win32.Registry]::LocalMachine.DeleteSubKeyTree('SOFTWARE\\VmbackupLab\\Engine', $false)\n"
# Another run: another thread, since a mutex belongs to a thread. It says when it has the lock, and keeps it until it is told.
OTHER = r"""
$word = [hashtable]::Synchronized(@{ has = $false; go = $false })
$other = [powershell]::Create()
[void]$other.AddScript({
    param($Word, $Keep)
    $mutex = New-Object System.Threading.Mutex($false, 'Global\vmbackup.azure')
    [void]$mutex.WaitOne()
    $Word.has = $true
    if (-not $Keep) { return }
    while (-not $Word.go) { [System.Threading.Thread]::Sleep(50) }
    $mutex.ReleaseMutex()
}).AddArgument($word).AddArgument(%s)
$running = $other.BeginInvoke()
while (-not $word.has) { [System.Threading.Thread]::Sleep(20) }
"""


@pytest.fixture
def engine(tmp_path):
    """Run a script with the parts that it names; return what the writer returned, and all lines."""
    place = os.path.join(ROOT, ".cache", "engine")
    os.makedirs(place, exist_ok=True)

    def run(parts, script):
        path = os.path.join(place, tmp_path.name + ".ps1")
        with open(path, "w") as stream:
            stream.write("Import-Part '{0}'\n{1}{2}{3}".format("', '".join(parts), START, STOP, script))
        command = [LAB, "pwsh", "--share", ROOT, "--", "-NoProfile", "-File", ENGINE, "-Root", ROOT, "-Script", path]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        os.unlink(path)
        lines = done.stdout.replace("\r", "").splitlines()
        found = [line[3:] for line in lines if line.startswith(">> ")]
        return (json.loads(found[-1]) if found else None), lines

    return run


def writer(changes, undo="$null", check="$false"):
    """Return the lines of a writer that prints what stands in the registry before it ends."""
    text = r"""
$module = New-FakeModule @{ undo = %s; keep_days = 90 } %s
$module | Add-Member -Force ScriptMethod ExitJson {
    foreach ($name in 'a', 'b') { "$name=$(Get-Text (Get-One $name) (Read-State (Get-One $name)))" | Out-Default }
    '>> ' + (ConvertTo-Json $this.Result -Depth 6 -Compress) | Out-Default
    [Environment]::Exit(0)
}
$module | Add-Member -Force ScriptMethod FailJson { $this.Result['failed'] = $true; $this.Result['msg'] = $args[0]; $this.ExitJson() }
Initialize-Result $module
Invoke-Change $module @(%s)
"""
    return text % (undo, check, changes)


# ---- the parts


def needs():
    """Return {part: the parts that it asks for}."""
    found = {}
    for path in glob.glob(os.path.join(ROOT, "plugins", "module_utils", "*.psm1")):
        with open(path) as stream:
            text = stream.read()
        found[os.path.basename(path)[:-5]] = set(re.findall(r"^#AnsibleRequires -PowerShell [\w.]+\.(\w+)$", text, re.M))
    return found


GUARDED = {"_Guard", "_KindDhcp", "_KindRoute", "_KindRoutesList"}


def closure(names):
    asked, open_, known = set(), list(names), needs()
    while open_:
        name = open_.pop()
        if name not in asked:
            asked.add(name)
            open_ += known[name]
    return asked


def test_the_guard_takes_every_part_that_it_needs_and_does_not_watch_without_one(engine):
    """Each variant of the guard's script runs in a session of its own, where nothing is loaded."""
    script = r"""
[void](Initialize-Home 'guard')
$point = Save-UndoPoint 'connectivity.azure_routes' @(@{ kind = 'route' }, @{ kind = 'routes_list' }, @{ kind = 'dhcp' }) 90
$token = $point['id']
$text = Get-GuardScript $point 5
$all = @([regex]::Matches($text, "(?m)^New-Module -Name '[\w.]+\.module_utils\.(\w+)'") | ForEach-Object { $_.Groups[1].Value })
"parts: $($all -join ' ')"
foreach ($left in @('none') + $all) {
    Remove-GuardFile $token
    Set-GuardSign $token 'dropped'
    $less = [regex]::Replace($text, "(?ms)^New-Module -Name '[\w.]+\.$left' .*?^\} \| Import-Module [^\r\n]*", '')
    if ($left -ne 'none' -and $less.Length -eq $text.Length) { throw "$left was not left out" }
    $session = [powershell]::Create()
    try { [void]$session.AddScript($less).Invoke() } catch { $null = $_ } finally { $session.Dispose() }
    "without ${left}: [$(Get-GuardEnd $token)]"
}
Remove-GuardFile $token
Remove-UndoPoint $point
"""
    lines = engine(["_Confirm", "_KindRoutesList", "_KindDhcp"], script)[1]
    said = dict(re.findall(r"^without (\w+): \[(.*)\]$", "\n".join(lines), re.M))
    parts = next(line for line in lines if line.startswith("parts: ")).split()[1:]
    assert set(parts) == closure(GUARDED), lines
    assert said.pop("none").endswith(" dropped"), lines
    assert said == dict.fromkeys(parts, ""), "a guard that lacks a part said that it watches"


def test_a_change_whose_kind_is_not_loaded_gets_no_guard(engine):
    script = r"""
try { Get-GuardScript @{ id = 'x'; items = @(@{ kind = 'registry' }) } 5 } catch { "said: $($_.Exception.Message)" }
try { Read-State @{ kind = 'nonsense' } } catch { "said: $($_.Exception.Message)" }
"""
    lines = engine(["_Confirm", "_KindDhcp", "_KindRoute"], script.replace("'registry'", "'folder_acl'"))[1]
    assert "said: The part _KindFolderAcl is not loaded, so nothing could put the change back. Nothing was changed." in lines
    assert "said: There is no kind 'nonsense'." in lines


# What a call of a writer that may cut the connection finds: the token of a change that it may confirm, or why it waits.
EARLIER = r"""
function Show-Earlier([string]$When, [int]$Seconds, [string]$Undo, [bool]$Quiet) {
    $result = @{ token = $null; deferred = $false; reason = $null; changed = $false; changes = @(); notes = @(); undo_point = $null }
    $call = [pscustomobject]@{ Params = @{ undo = $Undo; confirm_s = $Seconds }; Result = $result; Diff = @{}; CheckMode = $false }
    & (Get-Own '_Confirm') { param($Module, $Quiet) Find-Earlier $Module $Quiet } $call $Quiet
    "$When $Seconds $Undo ${Quiet}: [$($result['token'] -replace '^.*Z-')] $($result['reason'])"
}
"""
WAITS = "[] the change of connectivity.proxy waits for its confirmation"
TAKEN = "[] the change of connectivity.proxy is being taken back"


def test_the_guard_puts_back_under_the_lock_what_it_wrote_and_nothing_else(engine):
    script = (
        EARLIER
        + r"""
$items = @(foreach ($name in 'a', 'b') {
    Set-One $name (Get-Want 'old')
    (Get-One $name) + @{ before = (Get-Want 'old'); written = @(, (Get-Want 'new')) }
})
$point = Save-UndoPoint 'connectivity.proxy' $items 90
Start-Guard $point 2
foreach ($name in 'a', 'b') { Set-One $name (Get-Want 'new') }
"armed: $(Get-GuardEnd $point['id'])"
Show-Earlier 'waits' 60 'connectivity.proxy' $true
Show-Earlier 'waits' 60 'connectivity.proxy' $false
Show-Earlier 'waits' 0 'connectivity.proxy' $true
Show-Earlier 'waits' 60 'snapshot.dhcp' $true
"""
    )
    script += OTHER % "$true"
    script += r"""
Set-GuardSign $point['id'] 'finished'
Set-One 'b' (Get-Want 'other')
[System.Threading.Thread]::Sleep(6000)
"kept: $((Read-State (Get-One 'a'))['data']) $(Get-GuardEnd $point['id'])"
Show-Earlier 'late' 60 'connectivity.proxy' $true
Show-Earlier 'late' 0 'connectivity.proxy' $true
try { Start-Guard $point 2 } catch { "second: $($_.Exception.Message)" }
$word.go = $true
for ($try = 0; $try -lt 100 -and "$(Get-GuardEnd $point['id'])" -notmatch ' put back'; $try++) { [System.Threading.Thread]::Sleep(100) }
"then: $((Read-State (Get-One 'a'))['data']) $((Read-State (Get-One 'b'))['data']) $(Get-GuardEnd $point['id'])"
"open: [$((Get-UndoPoint $point['id'])['undone_at'])]"
Show-Earlier 'over' 60 'connectivity.proxy' $true
Remove-GuardFile $point['id']
Remove-UndoPoint $point
"""
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = {line.split(": ")[0]: line.split(": ", 1)[1] for line in lines if ": " in line}
    assert " armed as process " in said["armed"], lines
    assert said["kept"].startswith("=new ") and said["kept"].endswith("not confirmed in time, putting back"), lines
    assert said["then"].startswith("=old =other ") and " put back, except: " in said["then"] and "is string other" in said["then"], lines
    assert said["open"] == "[]", "what was left can still be undone with force"
    # A call in between neither finds it there nor writes over it.
    assert said["waits 60 connectivity.proxy True"] == "[connectivity.proxy] ", lines
    assert {said["waits " + call] for call in ("60 connectivity.proxy False", "0 connectivity.proxy True", "60 snapshot.dhcp True")} == {
        WAITS
    }
    assert {said["late {0} connectivity.proxy True".format(seconds)] for seconds in (0, 60)} == {TAKEN}, lines
    assert "still waits for its confirmation" in said["second"] and said["over 60 connectivity.proxy True"] == "[] ", lines


def test_a_guard_stays_when_the_writer_cannot_take_back_what_it_did(engine):
    script = r"""
Set-One 'a' (Get-Want 'old')
$kind = Get-KindRegistry
$real = $kind['write']
$kind['write'] = {
    param($Item, $State, $Notes)
    if ($State['data'] -ne '=new') { throw 'Still broken.' }
    & $real $Item (Get-Want 'half') $Notes
    throw 'Broken.'
}.GetNewClosure()
& (Get-Own '_Change') { param($Kind) $script:Kinds['registry'] = $Kind } $kind
$module = New-FakeModule @{ undo = 'connectivity.proxy'; keep_days = 90; confirm_s = 2; confirm = $null } $false
$module | Add-Member -Force ScriptMethod FailJson {
    $point = @(Get-UndoPoint)[-1]
    # As the end of the module does.
    [System.Threading.Mutex]::OpenExisting('Global\vmbackup.azure').ReleaseMutex()
    for ($try = 0; $try -lt 200 -and "$(Get-GuardEnd $point['id'])" -notmatch ' (put back|dropped)'; $try++) { [System.Threading.Thread]::Sleep(100) }
    $this.Result['msg'] = $args[0]
    $this.Result['a'] = (Read-State (Get-One 'a'))['data']
    $this.Result['end'] = "$(Get-GuardEnd $point['id'])"
    Remove-GuardFile $point['id']
    Remove-UndoPoint $point
    $this.ExitJson()
}
Initialize-Result $module
$module.Result['token'] = $null
Invoke-GuardedChange $module @(@{ item = (Get-One 'a'); wanted = (Get-Want 'new') })
"""
    result, lines = engine(["_Confirm", "_KindRegistry"], script)
    assert result["msg"].endswith(": Still broken. The guest tries again by itself.") and result["changed"], lines
    assert result["a"] == "=old" and result["end"].endswith(" put back"), result


def test_what_could_not_be_put_back_long_ago_stays_when_the_guest_starts(engine):
    script = (
        EARLIER
        + r"""
[void](Initialize-Home 'guard')
Set-One 'a' (Get-Want 'half')
$point = Save-UndoPoint 'connectivity.proxy' @((Get-One 'a') + @{ before = (Get-Want 'old'); written = @(, (Get-Want 'new')) }) 90
foreach ($days in 2, 0) {
    [System.IO.File]::WriteAllText((Get-GuardPath $point['id'] 'log'), "2026-01-01T00:00:00Z put back, except: all`r`n")
    foreach ($sign in 'tried', 'ps1') { Set-GuardSign $point['id'] $sign }
    [System.IO.File]::SetLastWriteTimeUtc((Get-GuardPath $point['id'] 'tried'), [DateTime]::UtcNow.AddDays(-$days))
    Invoke-Guard $point['id'] 5 0 -Parts @('_Guard') -AfterRestart
    "after ${days}: $((Read-State (Get-One 'a'))['data']) $(Test-GuardPath $point['id'] 'tried') $(Get-GuardEnd $point['id'])"
}
# What undo took back, and what was confirmed while the task began, is set again by somebody.
foreach ($case in 'undone', 'gone') {
    Set-One 'a' (Get-Want 'half')
    $point['undone_at'] = $null
    if ($case -eq 'undone') { $point['undone_at'] = Get-Now; Set-GuardSign $point['id'] 'tried' } else { Remove-GuardFile $point['id'] }
    Update-UndoPoint $point
    Invoke-Guard $point['id'] 5 0 -Parts @('_Guard') -AfterRestart
    "after ${case}: $((Read-State (Get-One 'a'))['data'])"
}
# A call that finds there what it wants: no start of the guest is to take that back.
foreach ($undo in 'snapshot.dhcp', 'connectivity.proxy') {
    Set-GuardSign $point['id'] 'ps1'
    Show-Earlier 'found' 0 $undo $true
    "waits for ${undo}: $(Test-GuardPath $point['id'] 'ps1')"
}
# A call of another repair cannot read what that one wrote.
[void](Initialize-Home 'guard')
$other = Save-UndoPoint 'snapshot.dhcp' @(@{ kind = 'dhcp'; index = 2; before = @{ enabled = $false }; written = @() }) 90
& (Get-Own '_Guard') { param($Token) Remove-Guard $Token } $other['id']
"other: [$((Get-UndoPoint $other['id'])['undone_at'])]"
foreach ($each in $other, $point) { Remove-UndoPoint $each }
"left: [$(@(Get-UndoPoint).Count)]"
"""
    )
    lines = engine(["_Confirm", "_KindRegistry"], script)[1]
    said = dict(line.split(": ", 1) for line in lines if line.startswith("after "))
    assert said["after 2"].startswith("=half False ") and said["after 2"].endswith(", so it stays"), lines
    assert said["after 0"].startswith("=old False ") and said["after 0"].endswith(" put back"), lines
    assert (said["after undone"], said["after gone"]) == ("=half", "=half"), lines
    assert "waits for snapshot.dhcp: True" in lines and "waits for connectivity.proxy: False" in lines, lines
    assert "other: []" in lines and "left: [0]" in lines, lines


def test_a_guard_runs_where_a_policy_allows_signed_files_only(engine):
    """The policy is that of PowerShell 7, which has no other here. A file shows that it holds."""
    script = r"""
$policy = 'SOFTWARE\Policies\Microsoft\PowerShellCore'
$key = [Microsoft.Win32.Registry]::LocalMachine.CreateSubKey($policy)
$key.SetValue('EnableScripts', 1)
$key.SetValue('ExecutionPolicy', 'AllSigned')
$key.Dispose()
$point = Save-UndoPoint 'connectivity.proxy' @((Get-One 'a') + @{ before = (Get-Want 'old'); written = @(, (Get-Want 'new')) }) 90
try {
    [void](Initialize-Home 'guard')
    $file = Get-GuardPath 'plain' 'ps1'
    [System.IO.File]::WriteAllText($file, "'ran'")
    "file: [$(& (Get-PowerShellPath) -NoProfile -NonInteractive -ExecutionPolicy Bypass -File $file 2>$null)]"
    Start-Guard $point 300
    "armed: $(Get-GuardEnd $point['id'])"
} finally {
    [Microsoft.Win32.Registry]::LocalMachine.DeleteSubKeyTree($policy, $false)
    Stop-Guard $point
    Remove-GuardFile $point['id']
    Remove-GuardFile 'plain'
    Remove-UndoPoint $point
}
"""
    said = {line.split(": ")[0]: line for line in engine(["_Confirm", "_KindRegistry"], script)[1] if ": " in line}
    assert said["file"] == "file: []", said
    assert " armed as process " in said["armed"], said


# ---- the lock

CHANGE = "@{ item = (Get-One 'a'); wanted = (Get-Want 'new') }"
QUICK = "& (Get-Own '_Lock') { $script:LockWaitMs = 500 }\n"


@pytest.mark.parametrize("check", ["$false", "$true"])
def test_a_second_writer_defers_and_writes_nothing(engine, check):
    result, lines = engine(["_Change", "_KindRegistry"], QUICK + OTHER % "$true" + writer(CHANGE, check=check))
    assert "a=absent" in lines
    if check == "$true":  # changes nothing, so it need not wait for anybody
        assert result["changed"] and not result["deferred"], lines
    else:
        assert not result["changed"] and result["changes"] == [] and result["deferred"] is True, lines
        assert result["reason"] == "another run is changing this guest" and "msg" not in result


def test_a_writer_waits_for_one_that_is_soon_done(engine):
    late = r"""
$timer = [powershell]::Create()
[void]$timer.AddScript({ param($Word) [System.Threading.Thread]::Sleep(1500); $Word.go = $true }).AddArgument($word)
$timing = $timer.BeginInvoke()
"""
    result, lines = engine(["_Change", "_KindRegistry"], OTHER % "$true" + late + writer(CHANGE))
    assert result["changed"] and not result["deferred"] and "a=string new" in lines, lines


def test_a_lock_that_its_owner_left_behind_is_taken(engine):
    """Without the answer to an abandoned mutex, every run after one that was killed would fail."""
    gone = "[void]$other.EndInvoke($running); $other.Runspace.Dispose(); [System.Threading.Thread]::Sleep(500)\n"
    result, lines = engine(["_Change", "_KindRegistry"], QUICK + OTHER % "$false" + gone + writer(CHANGE))
    assert result["changed"] and not result.get("failed") and "a=string new" in lines, lines


# ---- what is expected


def expected(name, text, expect):
    return "@{{ item = (Get-One '{0}'); wanted = (Get-Want '{1}'); expect = {2} }}".format(name, text, expect)


ABSENT = "@{ exists = $false }"


@pytest.mark.parametrize(
    "present, expect, words, check",
    [
        (None, ABSENT, None, "$false"),
        ("old", "(Get-Want 'old')", None, "$false"),
        ("new", "(Get-Want 'old')", None, "$false"),
        ("new", ABSENT, None, "$false"),
        ("other", "(Get-Want 'old')", r"\a is string other, but string old was expected", "$false"),
        ("other", ABSENT, r"\a is string other, but absent was expected", "$false"),
        (None, "(Get-Want 'old')", r"\a is absent, but string old was expected", "$false"),
        ("old", "(Get-Want 'old')", None, "$true"),
        ("other", ABSENT, "but absent was expected", "$true"),
        ("Old", "(Get-Want 'old')", r"\a is string Old, but string old was expected", "$false"),
    ],
)
def test_what_is_neither_expected_nor_wanted_stops_the_whole_call(engine, present, expect, words, check):
    before = "Set-One 'a' (Get-Want '{0}')\n".format(present) if present else ""
    changes = expected("b", "new", ABSENT) + ", " + expected("a", "new", expect)
    result, lines = engine(["_Change", "_KindRegistry"], before + writer(changes, check=check))
    was = "a=string " + present if present else "a=absent"
    if words:
        assert result["failed"] and words in result["msg"] and result["msg"].endswith("Nothing was changed."), result
        assert not result["changed"] and was in lines and "b=absent" in lines
    else:
        assert not result.get("failed"), result
        assert ("a=string new" in lines and "b=string new" in lines) if check == "$false" else (was in lines and "b=absent" in lines)


def test_without_expect_nothing_is_compared(engine):
    result, lines = engine(["_Change", "_KindRegistry"], "Set-One 'a' (Get-Want 'other')\n" + writer(CHANGE))
    assert result["changed"] and "a=string new" in lines


def test_the_sentence_tells_no_secret(engine):
    secret = b"http://user:Pa55w0rd@proxy".hex()
    before = "Set-One 'a' (Get-Want 'http://user:Pa55w0rd@proxy:1')\n"
    result = engine(["_Change", "_KindRegistry"], before + writer(expected("a", "new", "(Get-Want 'u:S3cret@h:2')")))[0]
    assert "Pa55w0rd" not in result["msg"] and "S3cret" not in result["msg"] and "string ***@proxy:1" in result["msg"], result
    digest = "@{{ exists = $true; type = 'binary'; data = '{0}' }}".format(secret)
    result = engine(["_Change", "_KindRegistry"], before + writer(expected("a", "new", digest)))[0]
    assert "but binary, 26 bytes, SHA-256 " in result["msg"] and secret not in result["msg"], result


def test_parts_of_a_service_are_expected_on_their_own(engine):
    """A kind with parts; the service manager is a stand-in, as no service of the machine is to be touched."""
    script = r"""
$kind = Get-KindService
$kind['read'] = { param($Item) @{ exists = $true; start_type = $Item['start']; delayed = $null; failure_actions = $null; state = $Item['state'] } }
& (Get-Own '_Change') { param($Kind) $script:Kinds['service'] = $Kind } $kind
foreach ($case in @('disabled running', 'manual running', 'disabled stopped', 'disabled paused', 'auto stopped')) {
    $start, $state = $case.Split(' ')
    $change = @{ item = @{ kind = 'service'; name = 'VSS'; start = $start; state = $state }; wanted = @{ start_type = 'auto'; state = 'running' }
        expect = @{ exists = $true; start_type = 'disabled'; state = 'stopped' } }
    "${case}: " + (@(& (Get-Own '_Change') { param($Change) Get-Plan @($Change) $null | ForEach-Object { Find-Unexpected $_ } } $change) -join ' / ')
}
"""
    lines = engine(["_Change", "_KindService"], script)[1]
    said = dict(line.split(": ", 1) for line in lines if re.match(r"\w+ \w+: ", line))
    assert said["disabled running"] == "" and said["disabled stopped"] == "" and said["auto stopped"] == "", lines
    assert said["manual running"].startswith("service VSS is start_type=manual, but start_type=disabled was expected"), lines
    assert said["disabled paused"].startswith("service VSS is state=paused, but state=stopped was expected"), lines


# ---- a snapshot


def status(code, ago_s, inner=None):
    """Return the lines that write a status file's text into $text."""
    name = "''"
    if inner is not None:
        name = '(\'[{{"status": {{"code": {0}}}, "timestampUTC": "\' + (Get-Date).ToUniversalTime().ToString(\'s\') + \'Z"}}]\')'.format(
            inner
        )
    return r"""
$at = (Get-Date).ToUniversalTime().AddSeconds(-1 * %d).ToString('s') + 'Z'
$status = @{ status = 'transitioning'; code = %s; substatus = @(@{ name = %s; status = 'x' }) }
$text = '[' + (ConvertTo-Json @{ version = '1.0'; timestampUTC = $at; status = $status } -Depth 6 -Compress) + ']'
""" % (ago_s, code, name)


def plant(name, ago_s, text="$text"):
    """Return the line that writes a file of the snapshot extension, and makes it that old."""
    return "Set-Planted '%s' %s %d\n" % (name, text, ago_s)


PLANTED = (
    r"""
$root = '%s'
function Clear-Planted { if ([System.IO.Directory]::Exists($root)) { [System.IO.Directory]::Delete($root, $true) } }
function Set-Planted([string]$Name, [string]$Text, [int]$Ago) {
    $path = [System.IO.Path]::Combine($root, $Name)
    [void][System.IO.Directory]::CreateDirectory([System.IO.Path]::GetDirectoryName($path))
    [System.IO.File]::WriteAllText($path, $Text)
    [System.IO.File]::SetLastWriteTimeUtc($path, [DateTime]::UtcNow.AddSeconds(-$Ago))
}
"""
    % PLUGIN
)
OLD, NEW = r"1.0.9.0\Status" + "\\", r"1.0.81.0\Status" + "\\"
SETTINGS = r"1.0.81.0\RuntimeSettings" + "\\"
DONE = status(1, 60) + plant(NEW + "10.status", 60)
RESTS, RUNS, BEGINS = (False, False), (True, True), (False, True)
SNAPSHOTS = {
    "nothing": ("", RESTS),
    "runs": (status(4, 590) + plant(NEW + "10.status", 590), RUNS),
    "a text": (status("'4'", 590) + plant(NEW + "10.status", 590), RUNS),
    "an old file": (status(4, 60) + plant(NEW + "10.status", 620), RESTS),
    "an old time": (status(4, 620) + plant(NEW + "10.status", 60), RESTS),
    "of the future": (status(4, -3600) + plant(NEW + "10.status", -3600), RESTS),
    "a clock that was corrected": (status(4, -3600) + plant(NEW + "10.status", 60), RUNS),
    "old": (status(4, 620) + plant(NEW + "10.status", 620), RESTS),
    "done": (status(1, 5) + plant(NEW + "10.status", 5), RESTS),
    "an older version": (status(4, 60) + plant(OLD + "11.status", 60) + DONE, RESTS),
    "an older number": (status(4, 60) + plant(NEW + "9.status", 60) + DONE, RESTS),
    "the inner status runs": (status(1, 60, inner=4) + plant(NEW + "10.status", 60), RUNS),
    "the inner status is done": (status(4, 60, inner=1) + plant(NEW + "10.status", 60), RESTS),
    "the inner time": (status(4, 900, inner=4) + plant(NEW + "10.status", 60), RUNS),
    "a mark and NUL bytes": (status(4, 60) + plant(NEW + "10.status", 60, '("$([char]0xfeff)$text$([char]0)$([char]0)")'), RUNS),
    "half written": (plant(NEW + "10.status", 60, """'[{"status"'"""), RESTS),
    "being written": (plant(NEW + "10.status", 3, """'[{"status"'"""), BEGINS),
    "empty": (plant(NEW + "10.status", 60, "'[]'"), RESTS),
    "another file": (plant(NEW + "x.status", 3, "''"), RESTS),
    "new settings": (DONE + plant(SETTINGS + "11.settings", 3, "''"), BEGINS),
    "settings without an answer": (DONE + plant(SETTINGS + "11.settings", 15, "''"), RESTS),
    "settings with an answer": (DONE + plant(SETTINGS + "10.settings", 3, "''"), RESTS),
    "a clock that was wrong": (DONE + plant(SETTINGS + "11.settings", -60, "''"), RESTS),
}


def test_whether_a_snapshot_runs_or_starts(engine):
    looks = [
        'Clear-Planted\n{0}$work = Get-SnapshotWork; "is {1}: $($work.in_progress) $($work.busy)"\n'.format(files, name)
        for name, (files, _wanted) in SNAPSHOTS.items()
    ]
    lines = engine(["_Snapshot"], PLANTED + "".join(looks))[1]
    said = dict(re.findall(r"^is (.*): (\w+ \w+)$", "\n".join(lines), re.M))
    assert said == {name: "{0} {1}".format(*wanted) for name, (_files, wanted) in SNAPSHOTS.items()}, lines


RUNNING = status(4, 5) + plant(NEW + "10.status", 5)


@pytest.mark.parametrize("check", ["$false", "$true"])
def test_a_writer_defers_while_a_snapshot_runs_and_writes_nothing(engine, check):
    change = "@{ item = Get-One 'a'; wanted = Get-Want 'new' }"
    script = writer(change, undo="'connectivity.proxy'", check=check)
    result, lines = engine(["_Change", "_KindRegistry"], PLANTED + RUNNING + script)
    if check == "$true":
        assert result["changed"] and not result["deferred"] and result["reason"] is None, lines
    else:
        assert (result["deferred"], result["reason"]) == (True, "a snapshot is running"), lines
        assert not result["changed"] and result["changes"] == [] and result["undo_point"] is None, lines
    assert "a=absent" in lines, lines


def test_a_process_of_a_snapshot_is_a_snapshot_that_runs(engine):
    script = r"""
$copy = "$env:TEMP\IaaSBcdrExtension.exe"
[System.IO.File]::Copy("$env:SystemRoot\System32\cmd.exe", $copy, $true)
$start = New-Object System.Diagnostics.ProcessStartInfo $copy, '/k'
$start.UseShellExecute = $false
$start.RedirectStandardInput = $true
$start.RedirectStandardOutput = $true
$process = [System.Diagnostics.Process]::Start($start)
$runs = Test-Snapshot
$process.Kill()
[void]$process.WaitForExit(10000)
'>> ' + (ConvertTo-Json @{ runs = $runs; after = Test-Snapshot } -Compress)
"""
    said, lines = engine(["_Snapshot"], script)
    assert said == {"runs": True, "after": False}, lines


def test_a_writer_that_has_nothing_to_write_does_not_look_for_a_snapshot(engine):
    script = "Set-One 'a' (Get-Want 'new')\n" + writer("@{ item = Get-One 'a'; wanted = Get-Want 'new' }")
    result, lines = engine(["_Change", "_KindRegistry"], PLANTED + RUNNING + script)
    assert not result["changed"] and not result["deferred"], lines


def test_what_a_snapshot_changed_is_no_surprise(engine):
    change = "@{ item = Get-One 'a'; wanted = Get-Want 'new'; expect = Get-Want 'seen' }"
    script = "Set-One 'a' (Get-Want 'other')\n" + writer(change)
    result, lines = engine(["_Change", "_KindRegistry"], PLANTED + RUNNING + script)
    assert result["deferred"] is True and "failed" not in result and "a=string other" in lines, lines


# ---- the store


@pytest.mark.parametrize("held_ms, text", [(400, "new"), (6000, "old")])
def test_a_file_that_is_held_open_for_a_moment_is_replaced_all_the_same(engine, held_ms, text):
    """As a scanner of viruses does with files that were just written."""
    script = r"""
[void](Initialize-Home)
$file = [System.IO.Path]::Combine((Get-Base), 'held.json')
Write-Json $file @{ is = 'old' }
$holder = [powershell]::Create()
$word = [hashtable]::Synchronized(@{ has = $false })
[void]$holder.AddScript({
    param($File, $Word, $Milliseconds)
    $stream = New-Object System.IO.FileStream($File, 'Open', 'Read', 'Read')
    $Word.has = $true
    [System.Threading.Thread]::Sleep($Milliseconds)
    $stream.Dispose()
}).AddArgument($file).AddArgument($word).AddArgument(%d)
$running = $holder.BeginInvoke()
while (-not $word.has) { [System.Threading.Thread]::Sleep(10) }
$failed = $false
try { Write-Json $file @{ is = 'new' } } catch { $failed = $true }
[void]$holder.EndInvoke($running)
'>> ' + (ConvertTo-Json @{ is = (Read-Json $file)['is']; failed = $failed } -Compress)
[System.IO.File]::Delete($file)
[System.IO.File]::Delete($file + '.new')
Remove-Home
"""
    said, lines = engine(["_UndoStore"], script % held_ms)
    assert said == {"is": text, "failed": text == "old"}, lines
