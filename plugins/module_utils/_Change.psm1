# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Lock
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._UndoStore

# The engine of the writers. A change is one item (what), the state that is wanted of it, and the state that is expected where the caller says so.
# Comparing, check mode, diff, the guest's lock, the look for a snapshot, undo record, reading back and rolling back are here once; what a kind
# of item is, its part _Kind<Name> says. That part exports Get-Kind<Name>, which returns a hashtable of what the engine calls:
#   read        item -> state
#   write       item, state, notes; none for a kind that is only read
#   label       item -> its name for people
#   text        item, state, names of the parts that count -> the state for people; default: its parts as name=value
#   show        name, value -> one part for people
#   same        name, state, wanted -> whether a part that differs means the same
#   keep        state -> what of it can be brought back
#   parts       the parts that are expected and taken back on their own: name -> names in the state; default: all of it at once
#   former      state, chain -> the state that undo brings back, for a kind that works that out itself
#   veto        item, state -> why undo must not bring it back
#   gone        item -> whether that is gone which it is a setting of
#   stores      names in the state that are written apart from each other, and may be somebody else's
#   first       wanted -> what is written before anybody confirmed it, $null for nothing; default: all of it
#   clear       interfaces -> has what is cached read again
# and marks: brief, silent, settles, comes_first, comes_back_otherwise, comes_with_a_package, must_stand, outlasts_restart.
# In a wanted state, restart and at_least are no parts of it: the one is an order, the other says how to compare.
Set-StrictMode -Version 2.0

$script:Kinds = @{}

# ---- kinds

function Get-KindName([string]$Kind) {
    <#
    .SYNOPSIS
    How the part of a kind is called, KindRoutesList for routes_list.
    .PARAMETER Kind
    The kind.
    #>
    'Kind' + (@($Kind.Split('_') | Where-Object { $_ } | ForEach-Object { $_.Substring(0, 1).ToUpperInvariant() + $_.Substring(1) }) -join '')
}

function Get-Kind($Item) {
    <#
    .SYNOPSIS
    What there is to call for the kind of an item.
    .PARAMETER Item
    The item.
    #>
    $name = "$($Item['kind'])"
    if (-not $script:Kinds.ContainsKey($name)) {
        # Ansible loads parts in any order, so a kind is asked when it is needed first.
        $maker = $null
        if ($name -match '^[a-z_]+$') { $maker = Get-Item "function:Get-$(Get-KindName $name)" -ErrorAction SilentlyContinue }
        if ($null -eq $maker) { throw "There is no kind '$name'." }
        $script:Kinds[$name] = & $maker
    }
    return $script:Kinds[$name]
}

function Clear-Cache([bool]$Interfaces) {
    <#
    .SYNOPSIS
    Has everything that kinds keep read again.
    .PARAMETER Interfaces
    Whether the interfaces too.
    #>
    foreach ($kind in $script:Kinds.Values) { if ($kind['clear']) { & $kind['clear'] $Interfaces } }
}

function Read-State($Item) {
    <#
    .SYNOPSIS
    The present state of an item.
    .PARAMETER Item
    The item.
    #>
    return & (Get-Kind $Item)['read'] $Item
}

function Write-State($Item, $State, $Notes) {
    <#
    .SYNOPSIS
    Brings an item into a state.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about.
    .PARAMETER Notes
    List; what was done beside is added to it.
    #>
    $kind = Get-Kind $Item
    if ($kind['write']) { & $kind['write'] $Item $State $Notes }
}

# ---- comparing and telling

function ConvertTo-Comparable($Value) {
    <#
    .SYNOPSIS
    One text for a value, to compare by.
    .PARAMETER Value
    The value.
    #>
    if ($null -eq $Value) { return 'null' }
    if ($Value -is [System.Collections.IList]) { return '[' + ((@($Value) | ForEach-Object { ConvertTo-Comparable $_ }) -join ',') + ']' }
    if ($Value -is [bool]) { return "$Value".ToLowerInvariant() }
    return "$Value"
}

function Test-Same($Item, $State, $Wanted) {
    <#
    .SYNOPSIS
    Whether a state is as it is wanted; what Wanted does not name does not count.
    .PARAMETER Item
    The item.
    .PARAMETER State
    Its state.
    .PARAMETER Wanted
    The state that is wanted.
    #>
    $same = (Get-Kind $Item)['same']
    foreach ($name in $Wanted.Keys) {
        if ($name -eq 'missing_keys' -or $name -eq 'at_least') { continue }
        if ($name -eq 'restart') { return $false }
        if ($same -and (& $same $name $State $Wanted)) { continue }
        if ((ConvertTo-Comparable $State[$name]) -cne (ConvertTo-Comparable $Wanted[$name])) { return $false }
    }
    return $true
}

function Get-StatePart($Item) {
    <#
    .SYNOPSIS
    The parts of a state that are expected and taken back on their own.
    .PARAMETER Item
    The item.
    #>
    $parts = (Get-Kind $Item)['parts']
    if ($parts) { return @($parts.Keys) }
    return 'all'
}

function Select-StatePart($Item, $State, [string]$Part) {
    <#
    .SYNOPSIS
    One part of a state.
    .PARAMETER Item
    The item.
    .PARAMETER State
    Its state.
    .PARAMETER Part
    Name of the part.
    #>
    if ($null -eq $State) { return @{} }
    if ($Part -eq 'all') { return $State }
    $found = @{}
    foreach ($name in (Get-Kind $Item)['parts'][$Part]) { if ($State.ContainsKey($name)) { $found[$name] = $State[$name] } }
    return $found
}

function Get-Label($Item) {
    <#
    .SYNOPSIS
    The name of an item for people.
    .PARAMETER Item
    The item.
    #>
    return & (Get-Kind $Item)['label'] $Item
}

function Get-Text($Item, $State, $Only) {
    <#
    .SYNOPSIS
    A state as a person reads it.
    .PARAMETER Item
    The item.
    .PARAMETER State
    Its state.
    .PARAMETER Only
    Names of the parts that count.
    #>
    $kind = Get-Kind $Item
    if ($kind['text']) { return & $kind['text'] $Item $State $Only }
    if ($State.ContainsKey('exists') -and -not $State['exists']) { return 'absent' }
    $parts = @()
    foreach ($name in @($State.Keys | Sort-Object)) {
        if (@('exists', 'restart', 'at_least', 'delayed') -contains $name -or ($Only -and $Only -notcontains $name)) { continue }
        $value = $State[$name]
        if ($kind['show']) { $value = & $kind['show'] $name $value }
        if ($value -is [bool]) { $value = "$value".ToLowerInvariant() }
        $parts += "$name=$(@($value) -join ', ')"
    }
    return $parts -join ' '
}

function Get-ChangeText($Item, $Wanted) {
    <#
    .SYNOPSIS
    One line of the report: what is set, and to what where that is short.
    .PARAMETER Item
    The item.
    .PARAMETER Wanted
    The state that is wanted.
    #>
    $label = Get-Label $Item
    if ($Wanted['restart'] -or (Get-Kind $Item)['brief']) { return $label }
    $text = Get-Text $Item $Wanted @($Wanted.Keys)
    if ($text.Length -gt 80) { return $label }
    return "$label ($text)"
}

# ---- options that writers share

function Get-WriterOption($Own) {
    <#
    .SYNOPSIS
    The options of a writer: its own, and those of all.
    .PARAMETER Own
    Its own.
    #>
    return $Own + @{ undo = @{ type = 'str' }; keep_days = @{ type = 'int'; default = 90 } }
}

function Initialize-Result($Module) {
    <#
    .SYNOPSIS
    What every writer returns, as long as nothing was done.
    .PARAMETER Module
    The Ansible module.
    #>
    foreach ($entry in @{ changed = $false; changes = @(); notes = @(); undo_point = $null; deferred = $false; reason = $null }.GetEnumerator()) {
        $Module.Result[$entry.Key] = $entry.Value
    }
}

function Get-Expected($Arguments, [string]$Option) {
    <#
    .SYNOPSIS
    Which entries of a list of dictionaries have expect, be it null. Ansible.Basic makes a null of what was not given, so this comes before it.
    .PARAMETER Arguments
    The options as Ansible sent them.
    .PARAMETER Option
    Name of the list.
    #>
    $entries = @()
    if ($Arguments -is [System.Collections.IDictionary]) { $entries = @($Arguments[$Option]) }
    $named = @(foreach ($entry in $entries) { $entry -is [System.Collections.IDictionary] -and @($entry.Keys) -contains 'expect' })
    # Ansible takes such a list as text too, which does not tell null from nothing.
    $unclear = @($entries | Where-Object { $_ -isnot [System.Collections.IDictionary] -and "$_" -match 'expect' }).Count -gt 0
    return @{ named = $named; unclear = $unclear }
}

function Test-Expected($Module, $Expected, [int]$Number, $Value) {
    <#
    .SYNOPSIS
    Whether the present state of an entry is to be compared with its expect.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Expected
    What Get-Expected returned.
    .PARAMETER Number
    Number of the entry.
    .PARAMETER Value
    Its expect.
    #>
    if ($Expected['unclear']) { $Module.FailJson('expect needs a list of dictionaries, not a text. Nothing was changed.') }
    return $null -ne $Value -or ($Number -lt $Expected['named'].Count -and $Expected['named'][$Number])
}

# ---- the run of a writer

function Find-Unexpected($Entry) {
    <#
    .SYNOPSIS
    A sentence when the present state is neither expected nor wanted.
    .PARAMETER Entry
    The entry of a plan.
    #>
    if (-not $Entry['change'].ContainsKey('expect')) { return }
    $item, $state, $expect, $wanted = $Entry['item'], $Entry['state'], $Entry['change']['expect'], $Entry['wanted']
    foreach ($part in @(Get-StatePart $item)) {
        $asked = Select-StatePart $item $expect $part
        if (-not $asked.Count -or (Test-Same $item $state $asked)) { continue }
        $goal = Select-StatePart $item $wanted $part
        if ($goal.Count -and (Test-Same $item $state $goal)) { continue }
        $only = @($asked.Keys | Where-Object { $_ -ne 'missing_keys' })
        "$(Get-Label $item) is $(Get-Text $item $state $only), but $(Get-Text $item $expect $only) was expected; something changed it since it was looked at."
    }
}

function Get-Plan($Changes, $Guard) {
    <#
    .SYNOPSIS
    What is to be written: the changes whose item is not as it is wanted.
    .PARAMETER Changes
    List of @{ item; wanted; expect }.
    .PARAMETER Guard
    What a guarded change adds, $null without.
    #>
    foreach ($change in $Changes) {
        $item = $change['item']
        $state = Read-State $item
        if (Test-Same $item $state $change['wanted']) { continue }
        $kept = $state
        $keep = (Get-Kind $item)['keep']
        if ($keep) { $kept = & $keep $state }
        $first = $change['wanted']
        if ($null -ne $Guard) { $first = & $Guard['first'] $item $change['wanted'] }
        # What is in force already, and only does not outlast a restart, needs no guard.
        $inForce = $null -ne $first -and (Test-Same $item $state $first)
        @{ change = $change; item = $item; state = $state; before = $kept; wanted = $change['wanted']; first = $first; in_force = $inForce }
    }
}

function Set-PlanResult($Module, $Plan) {
    <#
    .SYNOPSIS
    Tells what a plan changes.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Plan
    The plan.
    #>
    $before = New-Object System.Text.StringBuilder
    $after = New-Object System.Text.StringBuilder
    foreach ($entry in $Plan) {
        $label = Get-Label $entry['item']
        $only = @($entry['wanted'].Keys)
        [void]$before.Append("${label}: $(Get-Text $entry['item'] $entry['state'] $only)`n")
        $what = Get-Text $entry['item'] $entry['wanted'] $only
        if ($entry['wanted']['restart']) { $what += ' (restarted)' }
        [void]$after.Append("${label}: $what`n")
    }
    $Module.Result['changed'] = $Plan.Count -gt 0
    $Module.Result['changes'] = @($Plan | Where-Object { -not (Get-Kind $_['item'])['silent'] } | ForEach-Object { Get-ChangeText $_['item'] $_['wanted'] })
    $Module.Diff['before'] = $before.ToString()
    $Module.Diff['after'] = $after.ToString()
}

function Save-Plan([string]$Remedy, $Plan, [int]$KeepDays) {
    <#
    .SYNOPSIS
    Keeps what a plan is going to change, and returns the undo point.
    .PARAMETER Remedy
    Name of the repair.
    .PARAMETER Plan
    The plan.
    .PARAMETER KeepDays
    After how many days older undo points are removed.
    #>
    $items = @(foreach ($entry in $Plan) {
            $copy = $entry['item'].Clone()
            $copy['before'] = $entry['before']
            $copy['written'] = @()
            if ($null -ne $entry['first']) {
                $wrote = $entry['first'].Clone()
                foreach ($name in 'restart', 'at_least') { $wrote.Remove($name) }
                $copy['written'] = @(, $wrote)
            }
            if (-not [object]::ReferenceEquals($entry['first'], $entry['wanted'])) { $copy['then'] = $entry['wanted'] }
            $copy
        })
    return Save-UndoPoint $Remedy $items $KeepDays
}

function Assert-Written($Plan, $Point) {
    <#
    .SYNOPSIS
    Looks at what was written; throws when something is not as it should be.
    .PARAMETER Plan
    The plan.
    .PARAMETER Point
    Its undo point, $null for none.
    #>
    Clear-Cache
    $more = $false
    for ($number = 0; $number -lt $Plan.Count; $number++) {
        $entry = $Plan[$number]
        if ($null -eq $entry['first']) { continue }
        $wanted = $entry['first'].Clone()
        $wanted.Remove('restart')
        $state = Read-State $entry['item']
        if (-not (Test-Same $entry['item'] $state $wanted)) {
            $only = @($wanted.Keys)
            throw "$(Get-Label $entry['item']) is not what was written: $(Get-Text $entry['item'] $state $only) instead of $(Get-Text $entry['item'] $wanted $only); something else sets it too."
        }
        if ($null -ne $Point -and (Get-Kind $entry['item'])['comes_back_otherwise']) { $Point['items'][$number]['written'] = @(, $state); $more = $true }
    }
    if ($more) { Update-UndoPoint $Point }
}

function Undo-Plan($Done, $Notes) {
    <#
    .SYNOPSIS
    Puts back what was written, last first; returns what could not be.
    .PARAMETER Done
    The entries that were written.
    .PARAMETER Notes
    List; what was done beside is added to it.
    #>
    Clear-Cache
    for ($at = $Done.Count - 1; $at -ge 0; $at--) {
        $item = $Done[$at]['item']
        try { if (-not (Test-Same $item (Read-State $item) $Done[$at]['before'])) { Write-State $item $Done[$at]['before'] $Notes } }
        catch { "$(Get-Label $item): $(Get-Cause $_)" }
    }
}

function Exit-Late($Module, $Run, [string]$Reason) {
    <#
    .SYNOPSIS
    Ends the module as deferred, though it had begun: what it waits for came in between. All is as it was, but a restart cannot be taken back.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Run
    What was done.
    .PARAMETER Reason
    What it waits for.
    #>
    # The last one is what was not done.
    $labels = @($Run['done'] | Select-Object -First ([Math]::Max(0, $Run['done'].Count - 1)) | Where-Object { $_['wanted']['restart'] } | ForEach-Object { Get-Label $_['item'] })
    if ($labels.Count) { $Module.Result['notes'] += "Restarted before: $($labels -join ', ')." }
    Set-Deferred $Module $Reason
    $Module.ExitJson()
}

function Stop-Plan($Module, $Run, $Problem) {
    <#
    .SYNOPSIS
    Puts everything back after a failure, and ends the module.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Run
    What was done: done, point, notes, guard.
    .PARAMETER Problem
    The failure.
    #>
    $text = Get-Cause $Problem
    # The guest may be restarted in the middle.
    if ($null -ne $Run['guard'] -and $Run['done'].Count) { try { & $Run['guard']['half'] $Run['point'] } catch { $text += " $(Get-Cause $_)" } }
    $failed = @(Undo-Plan $Run['done'] $Run['notes'])
    $again = ''
    if ($null -ne $Run['point']) {
        if ($null -ne $Run['guard']) {
            # With something left the guard is the way back: the guest may be cut off by now.
            if ($failed.Count) { $again = ' The guest tries again by itself.' }
            try { & $Run['guard'][@{ $true = 'keep'; $false = 'stop' }[$failed.Count -gt 0]] $Run['point'] } catch { $text += " $(Get-Cause $_)" }
        }
        if (-not $failed.Count) { Remove-UndoPoint $Run['point'] }
    }
    # What was done beside, such as a service that did not start again, is not put back.
    $Module.Result['notes'] = @($Run['notes'])
    if ($Run['notes'].Count) { $text += " $(@($Run['notes']) -join ' ')" }
    $reason = "$($Problem.Exception.Data['deferred'])"
    if ($reason -and -not $failed.Count) { Exit-Late $Module $Run $reason }
    $Module.Result['changed'] = $failed.Count -gt 0
    $Module.Result['changes'] = @()
    if ($failed.Count) { $Module.FailJson("$text What had been changed before could not be put back: $($failed -join ' ')$again", $Problem) }
    if ($Run['done'].Count) { $Module.FailJson("$text All that this call had changed was put back.", $Problem) }
    $Module.FailJson($text, $Problem)
}

function Invoke-Plan($Module, $Plan, $Guard) {
    <#
    .SYNOPSIS
    Keeps, writes, looks again; puts everything back when that fails. Ends the module.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Plan
    The plan.
    .PARAMETER Guard
    What a guarded change adds, $null without.
    #>
    $run = @{ done = (New-Object System.Collections.ArrayList); notes = (New-Object System.Collections.ArrayList); point = $null; guard = $Guard }
    try {
        if ($Module.Params['undo']) { $run['point'] = Save-Plan $Module.Params['undo'] $Plan ([int]$Module.Params['keep_days']) }
        if ($null -ne $Guard) { & $Guard['start'] $run['point'] }
        foreach ($entry in $Plan) {
            if ($null -eq $entry['first']) { continue }
            [void]$run['done'].Add($entry)
            Write-State $entry['item'] $entry['first'] $run['notes']
        }
        Assert-Written $Plan $run['point']
    } catch { Stop-Plan $Module $run $_ }
    if ($null -ne $run['point']) { $Module.Result['undo_point'] = $run['point']['id'] }
    $Module.Result['notes'] = @($run['notes'])
    if ($null -ne $Guard) { & $Guard['finish'] $run['point'] }
    $Module.ExitJson()
}

function Invoke-LockedChange($Module, $Changes, $Guard, $Earlier) {
    <#
    .SYNOPSIS
    Looks, and writes what is not as it is wanted. Ends the module.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Changes
    List of @{ item; wanted; expect }.
    .PARAMETER Guard
    What a guarded change adds, $null without.
    .PARAMETER Earlier
    Looks for an earlier change that is not confirmed, $null for nothing.
    #>
    try {
        $plan = @(Get-Plan $Changes $Guard)
        $unexpected = @($plan | ForEach-Object { Find-Unexpected $_ })
        if (-not $unexpected.Count) { Set-PlanResult $Module $plan }
    } catch { $Module.FailJson("Could not look at the present state: $(Get-Cause $_) Nothing was changed.", $_) }
    # What is found may be a change that is still taken back: a connection that broke has the module run twice, for example.
    $look = {
        param([bool]$Quiet)
        if ($null -eq $Earlier -or $Module.CheckMode) { return }
        try { & $Earlier $Quiet } catch { $Module.FailJson("$(Get-Cause $_) Nothing was changed.", $_) }
        if ($Module.Result['deferred'] -or $Module.Result['token']) { $Module.ExitJson() }
    }
    if ($unexpected.Count) {
        & $look $false
        # A snapshot starts and stops services itself.
        Exit-DuringSnapshot $Module
        $more = ''
        if ($unexpected.Count -gt 1) { $more = " So it is with $($unexpected.Count - 1) more." }
        $Module.FailJson("$($unexpected[0])$more Nothing was changed.")
    }
    if ($Module.CheckMode) { $Module.ExitJson() }
    # A list of routes alone waits for nobody, nor do routes that are in force already.
    $quiet = -not @($plan | Where-Object { $null -ne $_['first'] -and -not $_['in_force'] }).Count
    & $look $quiet
    if ($null -ne $Guard -and $quiet) {
        $Guard = $null
        foreach ($entry in $plan) { $entry['first'] = $entry['wanted'] }
    }
    if (-not $plan.Count) { $Module.ExitJson() }
    Exit-DuringSnapshot $Module
    Invoke-Plan $Module $plan $Guard
}

function Invoke-Change($Module, $Changes, $Guard = $null, $Earlier = $null) {
    <#
    .SYNOPSIS
    Makes changes under the guest's lock. Ends the module.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Changes
    List of @{ item; wanted; expect }; expect only where the caller gave it.
    .PARAMETER Guard
    What a guarded change adds, see _Confirm.
    .PARAMETER Earlier
    Looks for an earlier change that is not confirmed, see _Confirm.
    #>
    $remedy = $Module.Params['undo']
    if ($remedy -and $remedy -notmatch '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$') { $Module.FailJson("undo is the name of a repair such as agent.service, not '$remedy'. Nothing was changed.") }
    if ([int]$Module.Params['keep_days'] -lt 0) { $Module.FailJson('keep_days must not be negative. Nothing was changed.') }
    Use-GuestLock $Module { Invoke-LockedChange $Module $Changes $Guard $Earlier }
}

Export-ModuleMember -Function Clear-Cache, Get-Expected, Get-Kind, Get-KindName, Get-Label, Get-StatePart, Get-Text, Get-WriterOption, Initialize-Result,
Invoke-Change, Read-State, Select-StatePart, Test-Expected, Test-Same, Write-State
