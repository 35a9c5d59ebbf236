# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._UndoStore

# What undo and the guard take back.
Set-StrictMode -Version 2.0

function Test-Standing($Item, $State, $Wrote, $Before) {
    <#
    .SYNOPSIS
    Whether a state is what a repair left. Of a kind with stores, one that it did not write has to be as it was: somebody else's is not taken away.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state.
    .PARAMETER Wrote
    What the repair wrote.
    .PARAMETER Before
    The state before.
    #>
    if (-not (Test-Same $Item $State $Wrote)) { return $false }
    $rest = @{}
    foreach ($name in @((Get-Kind $Item)['stores'] | Where-Object { $_ })) { if (-not $Wrote.ContainsKey($name) -and $Before.ContainsKey($name)) { $rest[$name] = $Before[$name] } }
    return Test-Same $Item $State $rest
}

function Step-Back($Item, $Present, $Chain, [string]$Part, [bool]$Force) {
    <#
    .SYNOPSIS
    Goes back through the items of one thing, over each repair whose writing still stands: reached, and left as a sentence.
    .PARAMETER Item
    The item.
    .PARAMETER Present
    The part of the present state.
    .PARAMETER Chain
    Its items in all undo points, newest first.
    .PARAMETER Part
    Name of the part.
    .PARAMETER Force
    Whether to go back over what was changed since.
    #>
    $label = Get-Label $Item
    $reached = $Present
    foreach ($link in $Chain) {
        $before = Select-StatePart $Item $link['before'] $Part
        if (-not $before.Count -or (Test-Same $Item $reached $before)) { continue }
        $known = @($link['written'] | Where-Object { $null -ne $_ })
        $wrote = @($known | ForEach-Object { Select-StatePart $Item $_ $Part } | Where-Object { $_.Count })
        # The repair did not touch it.
        if ($known.Count -and -not $wrote.Count) { continue }
        if ($Force -or @($wrote | Where-Object { Test-Standing $Item $reached $_ $before }).Count) { $reached = $before; continue }
        $now = Get-Text $Item $reached @($before.Keys | Where-Object { $_ -ne 'missing_keys' })
        if ($known.Count) {
            $then = Get-Text $Item $wrote[-1] @($wrote[-1].Keys)
            return @{ reached = $reached; left = "${label}: is $now, the repair had written $then. It was changed since, so it stays." }
        }
        return @{ reached = $reached; left = "${label}: is $now. What the repair wrote was not kept (an older undo point), so it stays." }
    }
    return @{ reached = $reached; left = $null }
}

function Test-Gone($Item) {
    <#
    .SYNOPSIS
    Whether that is gone which an item is a setting of.
    .PARAMETER Item
    The item.
    #>
    $gone = (Get-Kind $Item)['gone']
    return [bool]($gone -and (& $gone $Item))
}

function Get-FormerState($State, $Chain, [bool]$Force) {
    <#
    .SYNOPSIS
    The state to write (only its parts that differ; $null for none), and what stays, as sentences.
    .PARAMETER State
    The present state.
    .PARAMETER Chain
    The items of one thing in all undo points, newest first.
    .PARAMETER Force
    Whether to go back over what was changed since.
    #>
    $item = $Chain[0]
    $kind = Get-Kind $item
    if (Test-Gone $item) {
        $left = @()
        if (-not (Test-Same $item $State $Chain[-1]['before'])) { $left = @("$(Get-Label $item): its interface is not there any more, so nothing of it was put back.") }
        return @{ target = $null; left = $left }
    }
    if ($kind['former']) {
        $former = & $kind['former'] $State $Chain
        if (Test-Same $item $State $former) { $former = $null }
        return @{ target = $former; left = @() }
    }
    if ($kind['comes_with_a_package'] -and -not ($State['exists'] -and $Chain[-1]['before']['exists'])) {
        $left = @()
        if ($Chain[-1]['before']['exists']) { $left = @("$(Get-Label $item): is not there any more, so nothing of it was put back.") }
        return @{ target = $null; left = $left }
    }
    $target = @{}
    $left = @()
    foreach ($part in @(Get-StatePart $item)) {
        $present = Select-StatePart $item $State $part
        $step = Step-Back $item $present $Chain $part $Force
        if ($step['left']) { $left += $step['left'] }
        if (-not (Test-Same $item $present $step['reached'])) { foreach ($name in $step['reached'].Keys) { $target[$name] = $step['reached'][$name] } }
    }
    if (-not $target.Count) { $target = $null }
    return @{ target = $target; left = $left }
}

function Get-Target($Item, $State, [bool]$Standing, [bool]$Careful) {
    <#
    .SYNOPSIS
    What a guard writes: @{ target; left }, the target $null for nothing.
    .PARAMETER Item
    The item.
    .PARAMETER State
    Its present state.
    .PARAMETER Standing
    Only what still is as it was written.
    .PARAMETER Careful
    Whether to ask the kind.
    #>
    $found = @{ target = $Item['before']; left = @() }
    # For a guard it may come back: while the guest starts, an adapter takes its time.
    if ((Test-Gone $Item) -and -not (Test-Same $Item $State $Item['before'])) { throw 'Its interface is not there.' }
    if ($Standing) { $found = Get-FormerState $State @($Item) $false }
    $veto = (Get-Kind $Item)['veto']
    if ($null -eq $found['target'] -or (Test-Same $Item $State $found['target']) -or -not $Careful -or -not $veto) { return $found }
    $why = & $veto $Item $found['target']
    if (-not $why) { return $found }
    return @{ target = $null; left = @("$(Get-Label $Item): $why") }
}

function Restore-UndoPoint($Point, [switch]$Standing, [switch]$Careful, [System.Collections.IDictionary]$Begun = @{}) {
    <#
    .SYNOPSIS
    Puts the items of one undo point back, last first: @{ failed; left }, what could not be and what was left, as sentences.
    .PARAMETER Point
    The undo point.
    .PARAMETER Standing
    Only what still is as it was written.
    .PARAMETER Careful
    Not what its kind says must not come back: time has passed.
    .PARAMETER Begun
    What an earlier call began to write, which is written in any case; kept up to date.
    #>
    $failed = @()
    $left = @()
    $notes = New-Object System.Collections.ArrayList
    $items = @($Point['items'])
    Clear-Cache $true
    $steps = @()
    for ($at = $items.Count - 1; $at -ge 0; $at--) {
        $item = $items[$at]
        try {
            if (-not (Get-Kind $item)['write']) { continue }
            $state = Read-State $item
            $name = Get-Identity $item
            if ($Begun.Contains($name)) { $target = $Begun[$name] } else {
                $found = Get-Target $item $state $Standing $Careful
                $left += @($found['left'])
                $target = $found['target']
            }
            if ($null -eq $target -or (Test-Same $item $state $target)) { continue }
            $Begun[$name] = $target
            Write-State $item $target $notes
            $steps += @{ item = $item; target = $target }
        } catch { $failed += "$(Get-Label $item): $(Get-Cause $_)" }
    }
    if (-not $failed.Count) { $failed = @(Get-Unrestored $steps | Where-Object { $null -ne $_ } | ForEach-Object { "$(Get-Label $_): is not as it was." }) }
    return @{ failed = @($failed); left = @($left | Where-Object { $_ }) }
}

function Close-Point($Point) {
    <#
    .SYNOPSIS
    Marks an undo point as undone where everything is as it was before: nobody is to bring that back later, over what comes in between.
    .PARAMETER Point
    The undo point.
    #>
    if ($Point['undone_at']) { return }
    Clear-Cache $true
    foreach ($item in $Point['items']) { if (-not (Test-Same $item (Read-State $item) $item['before'])) { return } }
    $Point['undone_at'] = Get-Now
    Update-UndoPoint $Point
}

function Get-Unrestored($Steps) {
    <#
    .SYNOPSIS
    Looks at what was put back, and returns the items that are not as they should be. The network may take a moment.
    .PARAMETER Steps
    List of @{ item; target }.
    #>
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        Clear-Cache
        $wrong = @()
        foreach ($step in $Steps) {
            if ($null -eq $step -or -not (Get-Kind $step['item'])['settles']) { continue }
            $same = $false
            # A network that has just been changed may not answer a moment long.
            try { $same = Test-Same $step['item'] (Read-State $step['item']) $step['target'] } catch { $same = $false }
            if (-not $same) { $wrong += @(, $step['item']) }
        }
        if (-not $wrong.Count -or $clock.Elapsed.TotalSeconds -gt 10) { break }
        [System.Threading.Thread]::Sleep(500)
    }
    return $wrong
}

Export-ModuleMember -Function Close-Point, Get-FormerState, Get-Unrestored, Restore-UndoPoint
