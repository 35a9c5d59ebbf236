# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Guard
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._GuardTask
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Lock
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Restore
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._UndoStore

# What writers share that may cut the connection: they change under a guard, and a second call confirms the change.
Set-StrictMode -Version 2.0

$script:LockWaitMs = 30000
# For as long a name stands for what its guard took back.
$script:MeantS = 86400
$script:Token = '^[0-9TZ]+-[\w.-]+$'

function Find-Fallen($Point) {
    <#
    .SYNOPSIS
    The label of an item that is not as it was written, though an answer of the guest says something only while it is; $null without one.
    .PARAMETER Point
    The undo point of the change.
    #>
    # After a restart of the guest the former routes are back, and undo may have switched DHCP off: an answer says nothing about either.
    $steps = @(foreach ($item in $Point['items']) {
            $first = @($item['written'] | Where-Object { $null -ne $_ })
            if ((Get-Kind $item)['must_stand'] -and $first.Count) { @{ item = $item; target = $first[-1] } }
        })
    $fallen = @(Get-Unrestored $steps | Where-Object { $null -ne $_ })
    if ($fallen.Count) { return Get-Label $fallen[0] }
}

function Undo-Dead($Point) {
    <#
    .SYNOPSIS
    Takes back what still stands of a change that is not kept, in the place of its guard, which was ended by force. What could not be taken back, as
    sentences.
    .PARAMETER Point
    The undo point of the change.
    #>
    $result = Restore-UndoPoint $Point -Standing -Careful
    $open = @($result['failed']) + @($result['left'])
    # What is left stays open for undo.
    if (-not $open.Count) {
        $Point['undone_at'] = Get-Now
        Update-UndoPoint $Point
    }
    # With its files a next call, or the next start of the guest, tries again.
    if (-not $result['failed'].Count) {
        Remove-GuardTask $Point['id'] $Point
        Remove-GuardFile $Point['id']
        Remove-Home
    }
    return $open
}

function Assert-Kept([string]$Token, $Point, [bool]$Dead) {
    <#
    .SYNOPSIS
    Throws unless a change may be kept: it was made as a whole, and stands. Asked before its guard is told, which then takes nothing back any more.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Point
    Its undo point.
    .PARAMETER Dead
    Whether its guard was ended by force.
    #>
    $why = $null
    if ((Test-GuardPath $Token 'failed') -or -not (Test-GuardPath $Token 'finished')) { $why = 'was not finished, so it is not kept.' } else {
        $label = Find-Fallen $Point
        if ($label) { $why = "does not stand any more ($label): the guest was restarted since, or somebody changed it. Nothing of it is kept." }
    }
    if (-not $why) { return }
    $open = @()
    $when = ''
    if ($Dead) { $open = @(Undo-Dead $Point | Where-Object { $_ }) } else { $why += ' The guest puts the former state back by itself.'; $when = ' after that' }
    if ($open.Count) { $why += " This could not be put back: $($open -join ' ')" }
    throw "The change '$Token' $why Run the repair again$when."
}

function Complete-Point($Point) {
    <#
    .SYNOPSIS
    Writes what waited for the confirmation, and notes in the undo point that the change is kept: an answer that is lost is asked for again.
    .PARAMETER Point
    The undo point of the change.
    #>
    $failed = @()
    $done = @()
    Clear-Cache
    $waiting = @($Point['items'] | Where-Object { $null -ne $_['then'] } | Sort-Object -Property { [int](-not (Get-Kind $_)['comes_first']) })
    foreach ($item in $waiting) {
        try {
            Write-State $item $item['then'] $null
            $item['written'] = @($item['written'] | Where-Object { $null -ne $_ }) + @(, $item['then'])
            $done += @{ item = $item; target = $item['then'] }
            $item.Remove('then')
        } catch {
            $failed += "$(Get-Label $item): $(Get-Cause $_)"
            if ((Get-Kind $item)['comes_first']) { break }
        }
    }
    if ($waiting.Count) { Update-UndoPoint $Point }
    $failed += @(Get-Unrestored $done | Where-Object { $null -ne $_ } | ForEach-Object { "$(Get-Label $_): is not as it was written." })
    if ($failed.Count) { throw "The change '$($Point['id'])' is confirmed, but not all of it outlasts a restart of the guest: $($failed -join ' ') Run the repair again." }
    $Point['confirmed_at'] = Get-Now
    # Only a caller whose answer is lost needs it.
    try { Update-UndoPoint $Point } catch { $null = $_ }
}

function Test-Meant([string]$Log) {
    <#
    .SYNOPSIS
    Whether the name of a repair may stand for a change: it waits, was confirmed, or ended lately. What ended long ago is of an earlier call.
    .PARAMETER Log
    The log of its guard.
    #>
    $end = "$(Get-GuardEnd ([System.IO.Path]::GetFileNameWithoutExtension($Log)))"
    if ($end -match ' (?:armed as process \d+|confirmed)$') { return $true }
    return ([DateTime]::UtcNow - [System.IO.File]::GetLastWriteTimeUtc($Log)).TotalSeconds -lt $script:MeantS
}

function Get-Token([string]$Name) {
    <#
    .SYNOPSIS
    The change that is meant; throws when there is none.
    .PARAMETER Name
    Its token. Whoever lost the connection during the change does not know it: the name of the repair stands for its newest change.
    #>
    $folder = Get-GuardFolder
    Assert-Trusted $folder
    $token = $Name
    if ($Name -match '^[a-z][a-z0-9_.]*$') {
        $logs = @()
        if ([System.IO.Directory]::Exists($folder)) { $logs = @([System.IO.Directory]::GetFiles($folder, "*-$Name*.log") | Sort-Object) }
        $logs = @($logs | Where-Object { Test-Meant $_ })
        if (-not $logs.Count) { throw "There is no change of $Name that waits for a confirmation." }
        $token = [System.IO.Path]::GetFileNameWithoutExtension($logs[-1])
    }
    if ($token -notmatch $script:Token -or -not (Test-GuardPath $token 'log')) { throw "There is no change '$token' that waits for a confirmation." }
    Assert-Trusted (Get-GuardPath $token 'log')
    return $token
}

function Test-Confirmed([string]$Name) {
    <#
    .SYNOPSIS
    Whether a change was confirmed by an earlier call, whose answer was lost then.
    .PARAMETER Name
    Its token. The name of a repair would stand for an older change of it.
    #>
    if ($Name -notmatch $script:Token -or (Test-GuardPath $Name 'log')) { return $false }
    $point = @(Get-UndoPoint $Name)
    return $point.Count -gt 0 -and [bool]$point[0]['confirmed_at'] -and -not $point[0]['undone_at']
}

function Confirm-Guard([string]$Name) {
    <#
    .SYNOPSIS
    Tells a guard that all is well; throws one sentence when it is too late.
    .PARAMETER Name
    The token of the change, or the name of the repair.
    #>
    if (Test-Confirmed $Name) { return }
    $token = Get-Token $Name
    $point = @(Get-UndoPoint $token)[0]
    $end = "$(Get-GuardEnd $token)"
    # A guard that was ended by force puts nothing back.
    $armed = $end -match ' armed as process \d+$'
    $dead = $armed -and -not (Test-Guard $token)
    if ($armed -and $null -ne $point) { Assert-Kept $token $point $dead }
    if ($armed -and -not $dead) {
        Set-GuardSign $token 'confirmed'
        $clock = [System.Diagnostics.Stopwatch]::StartNew()
        while ($clock.Elapsed.TotalSeconds -lt 60) {
            $end = "$(Get-GuardEnd $token)"
            if ($end -notmatch ' armed as process') { break }
            [System.Threading.Thread]::Sleep(100)
        }
    }
    if (-not $dead -and $end -notmatch ' confirmed$') {
        # The word came too late, and must not keep the task of the guest's start from putting back what is left.
        Remove-GuardFile $token @('confirmed')
        throw "The change '$token' was not confirmed in time; its guard says: $end"
    }
    try {
        Remove-GuardTask $token $point
        if ($null -ne $point) { Complete-Point $point }
    } finally {
        Remove-GuardFile $token
        Remove-Home
    }
}

# ---- the run of a writer that may cut the connection

function Get-GuardedOption($Own) {
    <#
    .SYNOPSIS
    The options of such a writer: its own, and those of all of them.
    .PARAMETER Own
    Its own.
    #>
    return Get-WriterOption ($Own + @{ confirm_s = @{ type = 'int'; default = 0 }; confirm = @{ type = 'str' }; verify = @{ type = 'bool'; default = $true } })
}

function Complete-Change($Module) {
    <#
    .SYNOPSIS
    The second call of a change: confirms it and ends the module. Returns when it is the first call.
    .PARAMETER Module
    The Ansible module.
    #>
    $Module.Result['token'] = $null
    if (-not $Module.Params['confirm']) { return }
    if ($Module.CheckMode) { $Module.ExitJson() }
    $lock = $null
    try { $lock = Enter-GuestLock $script:LockWaitMs } catch { $Module.FailJson("Could not lock this guest: $(Get-Cause $_) The change is not confirmed.", $_) }
    # Never deferred: the guard would take the change for one that nobody wants.
    if ($null -eq $lock) {
        # The run may be the change itself, whose caller lost the connection: it asks again.
        $Module.Result['again'] = $true
        $Module.FailJson('Another run is changing this guest, so the change is not confirmed. Run this again before the time of the change is over.')
    }
    try {
        try { Confirm-Guard $Module.Params['confirm'] } catch { $Module.FailJson((Get-Cause $_), $_) }
        $Module.ExitJson()
    } finally { Exit-GuestLock $lock }
}

function Resume-Change($Module, [string]$Token) {
    <#
    .SYNOPSIS
    Nothing is to be done, but an earlier call made the change and nobody confirmed it: its caller is asked to do so now.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Token
    Name of the change.
    #>
    $point = @(Get-UndoPoint $Token)
    if (-not $point.Count) { return }
    $Module.Result['token'] = $Token
    $Module.Result['undo_point'] = $Token
    $Module.Result['changed'] = $true
    $Module.Result['changes'] = @($point[0]['items'] | Where-Object { -not (Get-Kind $_)['silent'] } | ForEach-Object { Get-Label $_ })
    $Module.Result['notes'] = @('An earlier run made this change and did not confirm it.')
}

function Find-Earlier($Module, [bool]$Quiet) {
    <#
    .SYNOPSIS
    Looks for a change that is not confirmed: what a call finds or writes meanwhile would be taken back with it. Sets the token where this call may
    confirm it, else defers.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Quiet
    Whether this call has nothing to write that needs a guard.
    #>
    $waiting = @(Get-WaitingGuard | Where-Object { $null -ne $_ })
    $own = @($waiting | Where-Object { $_['armed'] -and $_['remedy'] -eq $Module.Params['undo'] })
    $reason = Get-WaitReason $waiting
    if ($Quiet -and $Module.Params['confirm_s'] -gt 0 -and $own.Count -and ($own[-1]['alive'] -or -not $reason)) { Resume-Change $Module $own[-1]['token'] }
    if ($Module.Result['token']) { return }
    if (-not $reason) {
        if ($Quiet) { Remove-StaleGuard $Module.Params['undo'] }
        return
    }
    Set-Deferred $Module $reason
}

function Get-FirstState($Item, $Wanted) {
    <#
    .SYNOPSIS
    What of a wanted state is written before anybody confirmed it.
    .PARAMETER Item
    The item.
    .PARAMETER Wanted
    The state that is wanted.
    #>
    $first = (Get-Kind $Item)['first']
    if ($first) { return & $first $Wanted }
    return $Wanted
}

function Invoke-GuardedChange($Module, $Changes) {
    <#
    .SYNOPSIS
    Makes changes under a guard, where confirm_s asks for one. Ends the module.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Changes
    As for Invoke-Change.
    #>
    $seconds = $Module.Params['confirm_s']
    if ($seconds -lt 0) { $Module.FailJson('confirm_s must not be negative. Nothing was changed.') }
    $earlier = { param([bool]$Quiet) Find-Earlier $Module $Quiet }
    if ($seconds -eq 0) { Invoke-Change $Module $Changes $null $earlier }
    if (-not $Module.Params['undo']) { $Module.FailJson('confirm_s needs undo, since the state to go back to is kept there. Nothing was changed.') }
    Invoke-Change $Module $Changes @{
        first = { param($Item, $Wanted) Get-FirstState $Item $Wanted }
        start = { param($Point) Start-Guard $Point $seconds }
        stop = { param($Point) Stop-Guard $Point }
        half = { param($Point) Set-GuardSign $Point['id'] 'failed' }
        keep = { param($Point) foreach ($sign in 'failed', 'finished') { Set-GuardSign $Point['id'] $sign } }
        finish = { param($Point) Set-GuardSign $Point['id'] 'finished'; $Module.Result['token'] = $Point['id'] }
    } $earlier
}

Export-ModuleMember -Function Complete-Change, Get-GuardedOption, Invoke-GuardedChange
