# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._GuardTask
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Lock
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Native
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Restore
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._UndoStore

# The guard: a process of the guest that puts a change back unless it is told in time that all is well. What may cut the connection is changed
# under it, and confirmed by a second call. The guard's script holds every part of this collection that it needs.
Set-StrictMode -Version 2.0

$script:Utf8 = New-Object System.Text.UTF8Encoding $false
$script:PartName = 'ansible_collections.vmbackup.azure.plugins.module_utils.'
# Failed: the writer could not take back what it had done; tried: nor could the guard.
$script:Signs = @('log', 'confirmed', 'finished', 'dropped', 'failed', 'tried', 'ps1')
# A run that hangs must not keep a guest cut off that the guard could bring back.
$script:LockWaitMs = 120000
# How long a guard tries, and how long after that a start of the guest is worth another try: later, what was set before may be of nobody any more.
$script:TryS = 600
$script:TryAgainS = 86400

# ---- files

function Get-GuardFolder {
    <#
    .SYNOPSIS
    The folder of the guards.
    #>
    [System.IO.Path]::Combine((Get-Base), 'guard')
}

function Get-GuardPath([string]$Token, [string]$End) {
    <#
    .SYNOPSIS
    A file of a guard.
    .PARAMETER Token
    Name of the change.
    .PARAMETER End
    Ending of the file.
    #>
    [System.IO.Path]::Combine((Get-GuardFolder), $Token + '.' + $End)
}

function Test-GuardPath([string]$Token, [string]$End) {
    <#
    .SYNOPSIS
    Whether a guard has a file.
    .PARAMETER Token
    Name of the change.
    .PARAMETER End
    Ending of the file.
    #>
    [System.IO.File]::Exists((Get-GuardPath $Token $End))
}

function Set-GuardSign([string]$Token, [string]$End) {
    <#
    .SYNOPSIS
    Tells a guard something by an empty file.
    .PARAMETER Token
    Name of the change.
    .PARAMETER End
    What: confirmed, finished, dropped, failed or tried.
    #>
    [System.IO.File]::WriteAllText((Get-GuardPath $Token $End), '')
}

function Remove-GuardFile([string]$Token, [string[]]$Ends = $script:Signs) {
    <#
    .SYNOPSIS
    Deletes files of a guard.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Ends
    Endings of the files; all but what a living guard holds without.
    #>
    foreach ($end in $Ends) { [System.IO.File]::Delete((Get-GuardPath $Token $end)) }
}

function Get-GuardEnd([string]$Token) {
    <#
    .SYNOPSIS
    The last line of a guard's log.
    .PARAMETER Token
    Name of the change.
    #>
    $log = Get-GuardPath $Token 'log'
    if (-not [System.IO.File]::Exists($log)) { return $null }
    try {
        $stream = New-Object System.IO.FileStream($log, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, ([System.IO.FileShare]'ReadWrite, Delete'))
        $reader = New-Object System.IO.StreamReader $stream
        $lines = @($reader.ReadToEnd().Trim() -split "`r?`n")
        $reader.Dispose()
        return $lines[-1]
    } catch { return $null }
}

function Test-Guard([string]$Token) {
    <#
    .SYNOPSIS
    Whether a guard lives. It holds a file open as long; the number of its process may be another's after a restart.
    .PARAMETER Token
    Name of the change.
    #>
    $file = Get-GuardPath $Token 'alive'
    if (-not [System.IO.File]::Exists($file)) { return $false }
    try {
        [System.IO.File]::Open($file, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, [System.IO.FileShare]::None).Dispose()
        return $false
    } catch [System.IO.FileNotFoundException] { return $false } catch { return $true }
}

function Get-RemedyName([string]$Token) {
    <#
    .SYNOPSIS
    The name of the repair that made a change.
    .PARAMETER Token
    Name of the change.
    #>
    $Token -replace '^[0-9TZ]+-' -replace '-\d+$'
}

function Get-WaitingGuard {
    <#
    .SYNOPSIS
    The changes that wait for a confirmation or are being taken back, oldest first, as @{ token; remedy; armed; alive }. Armed: whether they still can
    be confirmed. Alive: whether their guard is; one that was ended by force puts nothing back.
    #>
    $folder = Get-GuardFolder
    if (-not [System.IO.Directory]::Exists($folder)) { return }
    Assert-Trusted $folder
    foreach ($file in @([System.IO.Directory]::GetFiles($folder, '*.log') | Sort-Object)) {
        Assert-Trusted $file
        $token = [System.IO.Path]::GetFileNameWithoutExtension($file)
        $alive = Test-Guard $token
        $end = "$(Get-GuardEnd $token)"
        $armed = $end -match ' armed as process \d+$'
        if ($armed -or ($alive -and $end -notmatch ' (?:confirmed|dropped)$')) { @{ token = $token; remedy = Get-RemedyName $token; armed = $armed; alive = $alive } }
    }
}

# ---- the guard's own process

function Test-Process([int]$Id) {
    <#
    .SYNOPSIS
    Whether a process lives.
    .PARAMETER Id
    Its number.
    #>
    if ($Id -le 0) { return $false }
    try { $process = [System.Diagnostics.Process]::GetProcessById($Id) } catch { return $false }
    try { return -not $process.HasExited } catch { return $true } finally { $process.Dispose() }
}

function Write-GuardLog([string]$Token, [string]$Text) {
    <#
    .SYNOPSIS
    Writes a line. A full disk must not keep the guard from putting back.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Text
    The line.
    #>
    try { [System.IO.File]::AppendAllText((Get-GuardPath $Token 'log'), "$(Get-Now) $Text`r`n", $script:Utf8) } catch { $null = $_ }
}

function Wait-Confirmation([string]$Token, [int]$Seconds, [int]$Writer) {
    <#
    .SYNOPSIS
    Waits for a word: confirmed or dropped; $null when the time is over.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Seconds
    How long to wait once the change is made.
    .PARAMETER Writer
    The process that makes it.
    #>
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    # The change itself may take a while; the time counts from its end, or from that of its process.
    $limit = $Seconds + 900
    $finished = $false
    while ($clock.Elapsed.TotalSeconds -lt $limit) {
        foreach ($word in 'confirmed', 'dropped') { if (Test-GuardPath $Token $word) { return $word } }
        if (-not $finished -and ((Test-GuardPath $Token 'finished') -or -not (Test-Process $Writer))) {
            $finished = $true
            $limit = $clock.Elapsed.TotalSeconds + $Seconds
        }
        [System.Threading.Thread]::Sleep(250)
    }
    return $null
}

function Test-Over([string]$Token) {
    <#
    .SYNOPSIS
    Whether a change was confirmed or undone while the guest's start waited for the lock.
    .PARAMETER Token
    Name of the change.
    #>
    if ((Test-GuardPath $Token 'confirmed') -or -not (Test-GuardPath $Token 'log') -or -not (Test-GuardPath $Token 'ps1')) { return $true }
    try { $point = @(Get-UndoPoint $Token)[0] } catch { return $false }
    return $null -ne $point -and [bool]($point['undone_at'] -or $point['confirmed_at'])
}

function Undo-Once([string]$Token, $Point, $How) {
    <#
    .SYNOPSIS
    Puts a change back under the guest's lock, as far as that goes now: @{ failed; left; over }. Over: nothing was to be done any more.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Point
    Its undo point.
    .PARAMETER How
    Parameters of Restore-UndoPoint.
    #>
    $lock = $null
    try { $lock = Enter-GuestLock $script:LockWaitMs } catch { Write-GuardLog $Token "no lock: $(Get-Cause $_)" }
    if ($null -eq $lock) { Write-GuardLog $Token 'another run keeps the lock of the guest, putting back without it' }
    try {
        if ($How['Careful'] -and (Test-Over $Token)) { return @{ failed = @(); left = @(); over = $true } }
        $result = Restore-UndoPoint $Point @How
        # What could not be put back stays open for undo.
        if (-not $result['failed'].Count -and -not $result['left'].Count) {
            $Point['undone_at'] = Get-Now
            try { Update-UndoPoint $Point } catch { Write-GuardLog $Token "the undo point stays open: $(Get-Cause $_)" }
        }
    } finally { Exit-GuestLock $lock }
    return $result + @{ over = $false }
}

function Undo-Guarded([string]$Token, $Point, [bool]$AfterRestart) {
    <#
    .SYNOPSIS
    Puts a change back, and tries again for some minutes where that fails: while the guest starts, its network may not be there yet. As Undo-Once.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Point
    Its undo point, $null when it is gone.
    .PARAMETER AfterRestart
    Whether the guest has just started.
    #>
    if ($null -eq $Point) { return @{ failed = @(); left = @(); over = $false } }
    # What somebody changed since stays. Of what was not finished, or was taken back by half, nobody knows how it stands.
    $half = (Test-GuardPath $Token 'failed') -or (Test-GuardPath $Token 'tried')
    # The guest may be restarted in the middle.
    if ($Point['task']) { try { Set-GuardSign $Token 'tried' } catch { Write-GuardLog $Token "a start of the guest would not know: $(Get-Cause $_)" } }
    $how = @{ Standing = ($AfterRestart -or (Test-GuardPath $Token 'finished')) -and -not $half; Careful = $AfterRestart; Begun = @{} }
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    for ($try = 1; $true; $try++) {
        $result = Undo-Once $Token $Point $how
        if (-not $result['failed'].Count -or $clock.Elapsed.TotalSeconds -gt $script:TryS) { break }
        if ($try -eq 1) { Write-GuardLog $Token "not put back yet, trying again: $($result['failed'] -join ' ')" }
        [System.Threading.Thread]::Sleep(10000)
    }
    if (-not $result['failed'].Count -or $AfterRestart) { Remove-GuardTask $Token $Point }
    return $result
}

function Stop-Late([string]$Token, $Point) {
    <#
    .SYNOPSIS
    Whether a guest that starts leaves a change: it was confirmed, could not be taken back long ago, or nothing is kept of it. Then it also ends what
    waits for a start.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Point
    Its undo point, $null when it is gone.
    #>
    # Who confirmed it may have been cut off before the task was gone, or may have ended it while this began; and undo may have taken it back.
    $over = (Test-GuardPath $Token 'confirmed') -or "$(Get-GuardEnd $Token)" -match ' confirmed$' -or -not (Test-GuardPath $Token 'log') -or
    ($null -ne $Point -and ($Point['undone_at'] -or $Point['confirmed_at']))
    if (-not $over -and (Test-GuardPath $Token 'tried')) {
        $over = ([DateTime]::UtcNow - [System.IO.File]::GetLastWriteTimeUtc((Get-GuardPath $Token 'tried'))).TotalSeconds -gt $script:TryAgainS
        if ($over) { Write-GuardLog $Token 'started with the guest, too long after it could not be put back, so it stays' }
    }
    if (-not $over -and $null -eq $Point) {
        $over = $true
        Write-GuardLog $Token 'started with the guest, but the undo point is gone, so the change stays'
    }
    if (-not $over) { return $false }
    Remove-GuardTask $Token $Point
    Remove-GuardFile $Token @('ps1', 'finished', 'failed', 'tried')
    return $true
}

function Invoke-Guard([string]$Token, [int]$Seconds, [int]$Writer, [string[]]$Parts, [switch]$AfterRestart) {
    <#
    .SYNOPSIS
    What runs in the guard's own process.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Seconds
    How long to wait for the confirmation.
    .PARAMETER Writer
    The process that makes the change.
    .PARAMETER Parts
    Names of the parts that must be there.
    .PARAMETER AfterRestart
    Whether Windows started it.
    #>
    Assert-Trusted (Get-GuardPath $Token 'log')
    Assert-Part $Parts
    $point = @(Get-UndoPoint $Token)[0]
    $alive = New-Object System.IO.FileStream((Get-GuardPath $Token 'alive'), [System.IO.FileMode]::Create, [System.IO.FileAccess]::Write, [System.IO.FileShare]::None, 16,
        [System.IO.FileOptions]::DeleteOnClose)
    if ($AfterRestart) {
        if (Stop-Late $Token $point) { $alive.Dispose(); return }
        Write-GuardLog $Token 'started with the guest, nobody had confirmed, putting back'
    } else {
        # Without this line the next start of the guest would take the change for one that is over.
        Write-Durable (Get-GuardPath $Token 'log') "$(Get-Now) armed as process $PID`r`n" $script:Utf8
        $word = Wait-Confirmation $Token $Seconds $Writer
        if ($word) { $alive.Dispose(); Write-GuardLog $Token $word; return }
        Write-GuardLog $Token 'not confirmed in time, putting back'
    }
    $result = Undo-Guarded $Token $point $AfterRestart
    $alive.Dispose()
    if ($result['over']) {
        Remove-GuardFile $Token
        Remove-Home
        return
    }
    $open = @($result['failed']) + @($result['left'])
    if ($open.Count) { Write-GuardLog $Token "put back, except: $($open -join ' ')" } else { Write-GuardLog $Token 'put back' }
    Remove-GuardFile $Token @('finished', 'confirmed', 'failed')
    # The task that starts with the guest needs its script once more when something could not be put back.
    if (-not $result['failed'].Count -or $AfterRestart -or $null -eq $point -or -not $point['task']) { Remove-GuardFile $Token @('ps1', 'tried') }
}

# ---- starting and stopping it

function Get-LoadedPart {
    <#
    .SYNOPSIS
    The parts of this collection that are loaded: name to text.
    #>
    $parts = @{}
    foreach ($module in @(Get-Module)) {
        if (-not $module.Name.StartsWith($script:PartName) -or -not $module.ExportedFunctions.Count) { continue }
        $tree = @($module.ExportedFunctions.Values)[0].ScriptBlock.Ast
        while ($null -ne $tree.Parent) { $tree = $tree.Parent }
        $parts[$module.Name.Substring($script:PartName.Length)] = $tree.Extent.Text
    }
    return $parts
}

function Assert-Part([string[]]$Names) {
    <#
    .SYNOPSIS
    Throws when a part is not loaded. A guard must not say that it watches when it could not put back.
    .PARAMETER Names
    Names of the parts.
    #>
    $loaded = Get-LoadedPart
    foreach ($name in $Names) { if (-not $loaded.ContainsKey($name)) { throw "The part $name is not loaded." } }
}

function Get-NeededPart($Point) {
    <#
    .SYNOPSIS
    The parts that the guard of a change needs, name to text: its own, those of the kinds of items, and what these say that they require.
    .PARAMETER Point
    The undo point of the change.
    #>
    $loaded = Get-LoadedPart
    $needed = @{}
    $open = New-Object System.Collections.Queue
    $open.Enqueue('_Guard')
    foreach ($item in $Point['items']) { $open.Enqueue("_$(Get-KindName $item['kind'])") }
    while ($open.Count) {
        $name = $open.Dequeue()
        if ($needed.ContainsKey($name)) { continue }
        if (-not $loaded.ContainsKey($name)) { throw "The part $name is not loaded, so nothing could put the change back. Nothing was changed." }
        $needed[$name] = $loaded[$name]
        foreach ($line in [regex]::Matches($loaded[$name], '(?m)^#AnsibleRequires -PowerShell ([\w.]+)\s*$')) {
            $open.Enqueue($line.Groups[1].Value.Substring($script:PartName.Length))
        }
    }
    return $needed
}

function Get-GuardScript($Point, [int]$Seconds) {
    <#
    .SYNOPSIS
    The text of the guard's script: the parts as Ansible loads them, and one call.
    .PARAMETER Point
    The undo point of the change.
    .PARAMETER Seconds
    How long to wait for the confirmation.
    #>
    $parts = Get-NeededPart $Point
    $names = @($parts.Keys | Sort-Object)
    $text = "param([switch]`$AfterRestart)`r`n`$ErrorActionPreference = 'Stop'`r`n"
    foreach ($name in $names) { $text += "New-Module -Name '$($script:PartName)$name' -ScriptBlock {`r`n$($parts[$name])`r`n} | Import-Module -Global -WarningAction SilentlyContinue`r`n" }
    return $text + "Invoke-Guard '$($Point['id'])' $Seconds $PID -Parts '$($names -join "', '")' -AfterRestart:`$AfterRestart`r`n"
}

function Start-Detached([string]$Arguments) {
    <#
    .SYNOPSIS
    Starts PowerShell out of the job of the remote shell, which ends all its processes; without a window. Whether it was started.
    .PARAMETER Arguments
    Its arguments.
    #>
    $program = Get-PowerShellPath
    $line = "`"$program`" $Arguments"
    $native = Get-Native
    $command = [System.Runtime.InteropServices.Marshal]::StringToHGlobalUni($line)
    $start = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(256)
    try {
        for ($at = 0; $at -lt 256; $at += 4) { [System.Runtime.InteropServices.Marshal]::WriteInt32($start, $at, 0) }
        [System.Runtime.InteropServices.Marshal]::WriteInt32($start, 0, @{ 8 = 104; 4 = 68 }[[IntPtr]::Size])
        $none = [IntPtr]::Zero
        if ($native::CreateProcessW($program, $command, $none, $none, 0, [uint32]0x09000200, $none, $env:SystemRoot, $start, [IntPtr]($start.ToInt64() + 128))) { return $true }
        # Where the job lets nothing out (some SSH servers), WMI starts it. Inside the job it would end with the connection, just when it is needed.
        try { return (Invoke-CimMethod -ClassName Win32_Process -MethodName Create -Arguments @{ CommandLine = $line; CurrentDirectory = $env:SystemRoot }).ReturnValue -eq 0 }
        catch { return $false }
    } finally {
        [System.Runtime.InteropServices.Marshal]::FreeHGlobal($command)
        [System.Runtime.InteropServices.Marshal]::FreeHGlobal($start)
    }
}

function Remove-Guard([string]$Token) {
    <#
    .SYNOPSIS
    Removes what a guard left that is gone: files, and the task that starts with the guest.
    .PARAMETER Token
    Name of the change.
    #>
    $point = @(Get-UndoPoint $Token)[0]
    Remove-GuardTask $Token $point
    # After a restart of the guest its routes are as they were. What this call cannot read, such as another kind, stays open for undo.
    if ($null -ne $point) { try { Close-Point $point } catch { $null = $_ } }
    Remove-GuardFile $Token ($script:Signs + @('alive'))
}

function Remove-StaleGuard([string]$Remedy) {
    <#
    .SYNOPSIS
    Removes what waits for the next start of the guest, and would then take back what a caller has just asked for again.
    .PARAMETER Remedy
    Name of the repair.
    #>
    $folder = Get-GuardFolder
    if (-not $Remedy -or -not [System.IO.Directory]::Exists($folder)) { return }
    foreach ($file in [System.IO.Directory]::GetFiles($folder, '*.ps1')) {
        Assert-Trusted $file
        $token = [System.IO.Path]::GetFileNameWithoutExtension($file)
        if ((Get-RemedyName $token) -eq $Remedy -and -not (Test-Guard $token)) { Remove-Guard $token }
    }
    Remove-Home
}

function Start-Guard($Point, [int]$Seconds) {
    <#
    .SYNOPSIS
    Starts the guard and waits until it says that it watches; throws when it does not.
    .PARAMETER Point
    The undo point of the change.
    .PARAMETER Seconds
    How long to wait for the confirmation.
    #>
    $token = $Point['id']
    # What an earlier guard keeps for the next start of the guest would then be put back over this change.
    Remove-StaleGuard (Get-RemedyName $token)
    [void](Initialize-Home 'guard')
    foreach ($other in @(Get-WaitingGuard)) {
        if ($null -eq $other) { continue }
        if ($other['alive']) { throw "The change '$($other['token'])' still waits for its confirmation, and would be taken back over this one. Confirm it, or wait until its time is over. Nothing was changed." }
        # Its guard was ended by force; nothing puts that change back but undo.
        Remove-Guard $other['token']
    }
    foreach ($end in $script:Signs) { Assert-Trusted (Get-GuardPath $token $end) }
    Remove-GuardFile $token @('log', 'confirmed', 'finished', 'dropped', 'failed', 'tried')
    $guard = Get-GuardPath $token 'ps1'
    Write-Durable $guard (Get-GuardScript $Point $Seconds) (New-Object System.Text.UTF8Encoding $true)
    if (@($Point['items'] | Where-Object { (Get-Kind $_)['outlasts_restart'] }).Count) {
        # Noted before it is made, so that whoever ends the change looks for it.
        $Point['task'] = $true
        Update-UndoPoint $Point
        Register-GuardTask $token $guard
    }
    $started = Start-Detached (Get-GuardArgument $guard)
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($started -and $clock.Elapsed.TotalSeconds -lt 60) {
        if (Get-GuardEnd $token) { return }
        [System.Threading.Thread]::Sleep(100)
    }
    throw "The process on the guest that would put the change back did not start ($(Get-PowerShellPath)), so nothing was changed."
}

function Stop-Guard($Point) {
    <#
    .SYNOPSIS
    Ends the guard of a change that was put back already.
    .PARAMETER Point
    The undo point of the change.
    #>
    if (-not [System.IO.Directory]::Exists((Get-GuardFolder))) { return }
    $token = $Point['id']
    Set-GuardSign $token 'dropped'
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($clock.Elapsed.TotalSeconds -lt 15 -and "$(Get-GuardEnd $token)" -match ' armed as process') { [System.Threading.Thread]::Sleep(100) }
    Remove-GuardTask $token $Point
    # A guard that is slow to see it must not put back later what somebody may have set by then: the word stays for it.
    if (Test-Guard $token) { return }
    Remove-GuardFile $token
    Remove-Home
}

Export-ModuleMember -Function Get-GuardEnd, Get-GuardFolder, Get-GuardPath, Get-GuardScript, Get-RemedyName, Get-WaitingGuard, Invoke-Guard, Remove-Guard,
Remove-GuardFile, Remove-StaleGuard, Set-GuardSign, Start-Guard, Stop-Guard, Test-Guard, Test-GuardPath
