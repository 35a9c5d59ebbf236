#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Guard
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindDhcp
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindFirewallRule
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindFolderAcl
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindPackage
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindRegistry
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindRoute
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindRoutesList
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindService
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Lock
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Restore
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._UndoStore

$spec = @{
    options = @{
        point = @{ type = 'str' }
        packages = @{ type = 'bool'; default = $true }
        force = @{ type = 'bool'; default = $false }
        keep_days = @{ type = 'int'; default = 90 }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

# The points to undo: all that are open, or the one that was named.
function Get-Chosen {
    $all = @(Get-UndoPoint)
    $open = @($all | Where-Object { -not $_['undone_at'] })
    $name = $module.Params.point
    if (-not $name) { return $open }
    $points = @($all | Where-Object { $_['id'] -eq $name })
    if (-not $points.Count) {
        $known = @($open | ForEach-Object { $_['id'] }) -join ', '
        if (-not $known) { $known = 'none' }
        $module.FailJson("There is no undo point $name; those that can be undone: $known.")
    }
    if ($points[0]['undone_at']) { $module.FailJson("The undo point $name was undone at $($points[0]['undone_at']).") }
    $own = @($points[0]['items'] | ForEach-Object { Get-Identity $_ })
    $later = @($open | Where-Object { $_['sequence'] -gt $points[0]['sequence'] -and @($_['items'] | Where-Object { $own -contains (Get-Identity $_) }).Count } | ForEach-Object { $_['id'] })
    if ($later.Count) { $module.FailJson("$name cannot be undone alone, since $($later -join ', ') came later and touched the same; undo that first, or all.") }
    return $points
}

# Of each thing its items in all points, newest first; written in that order too.
function Get-Chain($Points) {
    $chains = [ordered]@{}
    for ($number = $Points.Count - 1; $number -ge 0; $number--) {
        $items = @($Points[$number]['items'])
        # A package that came over an agent which was there cannot be taken away without taking the agent.
        $there = @($items | Where-Object { $_['kind'] -eq 'service' -and $_['before']['exists'] }).Count -gt 0
        for ($at = $items.Count - 1; $at -ge 0; $at--) {
            $identity = Get-Identity $items[$at]
            if (-not $chains.Contains($identity)) { $chains[$identity] = @{ items = (New-Object System.Collections.ArrayList); replaced = $false } }
            [void]$chains[$identity].items.Add($items[$at])
            $chains[$identity].replaced = $there
        }
    }
    return $chains
}

# Adds what one thing needs to the plan, and returns what stays, as sentences.
function Add-Step($Plan, $Chain) {
    $items = @($Chain.items)
    $item = $items[-1]
    $state = Read-State $item
    $kind = Get-Kind $item
    if (-not $kind['write']) {
        # What is only read is a package: who calls this uninstalls it.
        if (Test-Same $item $state $item['before']) { return }
        $former = Get-FormerPackage $state $items (-not $Chain.replaced) $module.Params.force
        [void]$Plan.packages.Add(@{
                name = $item['name']; present = @($state['installed']); before = @($item['before']['installed']); removable = -not $Chain.replaced
                uninstall = @($former['uninstall'])
            })
        return $former['left']
    }
    $former = Get-FormerState $state $items $module.Params.force
    $target = $former['target']
    if ($null -eq $target) { return $former['left'] }
    if ($kind['veto'] -and -not $module.Params.force) {
        $veto = & $kind['veto'] $item $target
        if ($veto) { return "$(Get-Label $item): $veto" }
    }
    $only = @($target.Keys | Where-Object { $_ -ne 'missing_keys' })
    [void]$Plan.steps.Add(@{
            item = $item; state = $state; target = $target; text = "$(Get-Label $item): $(Get-Text $item $target $only)"
            was = "$(Get-Label $item): $(Get-Text $item $state $only)"
        })
    return $former['left']
}

function Get-Plan {
    $plan = @{
        points = @(Get-Chosen); steps = (New-Object System.Collections.ArrayList); packages = (New-Object System.Collections.ArrayList)
        left = (New-Object System.Collections.ArrayList); stays = @{}
    }
    $chains = Get-Chain $plan.points
    foreach ($identity in $chains.Keys) {
        foreach ($sentence in @(Add-Step $plan $chains[$identity])) {
            if (-not $sentence) { continue }
            [void]$plan.left.Add($sentence)
            # What stays keeps its points open, for an undo with force.
            $plan.stays[$identity] = $true
        }
    }
    return $plan
}

function Set-Result($Plan) {
    $steps = $Plan.steps
    $module.Result.points = @($Plan.points | ForEach-Object { $_['id'] })
    $module.Result.steps = @($steps | ForEach-Object { $_.text })
    $module.Result.packages = @($Plan.packages)
    $module.Result.left = @($Plan.left)
    $module.Result.changed = $steps.Count -gt 0
    if ($steps.Count) {
        $module.Diff.before = (@($steps | ForEach-Object { $_.was }) -join "`n") + "`n"
        $module.Diff.after = (@($steps | ForEach-Object { $_.text }) -join "`n") + "`n"
    }
}

# Writes the plan; returns what could not be put back, by identity. What was done beside is told.
function Invoke-Step($Plan) {
    $notes = New-Object System.Collections.ArrayList
    $stuck = @{}
    foreach ($step in $Plan.steps) {
        $step.item['undone_from'] = $step.state
        try { Write-State $step.item $step.target $notes } catch { $stuck[(Get-Identity $step.item)] = "$(Get-Label $step.item): $(Get-Cause $_)" }
    }
    $module.Result.notes = @($notes)
    foreach ($item in @(Get-Unrestored @($Plan.steps | Where-Object { -not $stuck.ContainsKey((Get-Identity $_.item)) }))) {
        if ($null -ne $item) { $stuck[(Get-Identity $item)] = "$(Get-Label $item): is not as it was." }
    }
    return $stuck
}

# What waits for a confirmation is taken back by its guard, or kept by whoever confirms it; undo must come before neither.
function Exit-DuringGuard {
    try { $reason = Get-WaitReason @(Get-WaitingGuard) } catch { $module.FailJson("$(Get-Cause $_) Nothing was changed.", $_) }
    if (-not $reason) { return }
    Set-Deferred $module $reason
    $module.ExitJson()
}

# A guard that was ended by force has nothing to put back any more.
function Remove-DeadGuard($Point) {
    if ($Point['undone_at'] -and (Test-GuardPath $Point['id'] 'log') -and -not (Test-Guard $Point['id'])) { Remove-Guard $Point['id'] }
}

function Undo-Change {
    Exit-DuringGuard
    try { $plan = Get-Plan } catch { $module.FailJson("Could not see what there is to undo: $(Get-Cause $_) Nothing was changed.", $_) }
    Set-Result $plan
    if ($plan.packages.Count -and -not $module.Params.packages -and -not $module.CheckMode) {
        $names = @($plan.packages | ForEach-Object { $_.name }) -join ', '
        $module.FailJson("These packages are not back at the version they had before the repairs, so nothing was undone: $names.")
    }
    if ($module.CheckMode) { $module.ExitJson() }
    if ($plan.points.Count) { Exit-DuringSnapshot $module }
    $stuck = Invoke-Step $plan
    try {
        foreach ($point in $plan.points) {
            if (-not @($point['items'] | Where-Object { $stuck.ContainsKey((Get-Identity $_)) -or $plan.stays.ContainsKey((Get-Identity $_)) }).Count) { $point['undone_at'] = Get-Now }
            Update-UndoPoint $point
            Remove-DeadGuard $point
        }
        Remove-OldPoint $module.Params.keep_days
    } catch { $module.FailJson("What was put back could not be noted: $(Get-Cause $_)", $_) }
    if ($stuck.Count) { $module.FailJson("Undo could not put everything back: $(@($stuck.Values) -join ' ') The rest was. Solve that, then run this again.") }
    $module.ExitJson()
}

foreach ($name in 'points', 'steps', 'packages', 'left', 'notes') { $module.Result[$name] = @() }
$module.Result.deferred = $false
$module.Result.reason = $null
$module.Diff.before = ''
$module.Diff.after = ''
if ($module.Params.keep_days -lt 0) { $module.FailJson('keep_days must not be negative. Nothing was changed.') }
Use-GuestLock $module { Undo-Change }
