#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils.Repair

$spec = @{
    options = @{
        point = @{ type = 'str' }
        packages = @{ type = 'bool'; default = $true }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

function Get-Identity($Item) {
    $names = @('kind', 'key', 'name', 'path', 'guid', 'prefix', 'hop')
    # The index of an interface may change, its GUID does not.
    if (-not $Item['guid']) { $names += 'index' }
    return ($names | ForEach-Object { "$($Item[$_])".ToLowerInvariant() }) -join '|'
}

$module.Result.points = @()
$module.Result.steps = @()
$module.Result.packages = @()
$module.Diff.before = ''
$module.Diff.after = ''
try {
    $all = @(Get-UndoPoint | Where-Object { $null -ne $_ })
    $open = @($all | Where-Object { -not $_['undone_at'] })
    $points = $open
    $name = $module.Params.point
    if ($name) {
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
    }
    # Of each item the state before the oldest point; written in the order from the newest point to the oldest.
    $order = New-Object System.Collections.ArrayList
    $target = @{}
    $replaced = @{}
    for ($number = $points.Count - 1; $number -ge 0; $number--) {
        $items = @($points[$number]['items'])
        # A package that came over an agent which was there cannot be taken away without taking the agent.
        $there = @($items | Where-Object { $_['kind'] -eq 'service' -and $_['before']['exists'] }).Count -gt 0
        for ($at = $items.Count - 1; $at -ge 0; $at--) {
            $identity = Get-Identity $items[$at]
            if (-not $target.ContainsKey($identity)) { [void]$order.Add($identity) }
            $target[$identity] = $items[$at]
            $replaced[$identity] = $there
        }
    }
    $steps = New-Object System.Collections.ArrayList
    $packages = New-Object System.Collections.ArrayList
    foreach ($identity in $order) {
        $item = $target[$identity]
        $state = Read-State $item
        if (Test-Same $state $item['before']) { continue }
        if ($item['kind'] -eq 'package') {
            [void]$packages.Add(@{ name = $item['name']; present = @($state['installed']); before = @($item['before']['installed']); removable = -not $replaced[$identity] })
            continue
        }
        $only = @($item['before'].Keys | Where-Object { $_ -ne 'missing_keys' })
        [void]$steps.Add(@{ item = $item; state = $state; text = "$(Get-Label $item): $(Get-Text $item $item['before'] $only)"; was = "$(Get-Label $item): $(Get-Text $item $state $only)" })
    }
} catch { $module.FailJson("Could not see what there is to undo: $(Get-Cause $_) Nothing was changed.", $_) }

$module.Result.points = @($points | ForEach-Object { $_['id'] })
$module.Result.steps = @($steps | ForEach-Object { $_.text })
$module.Result.packages = @($packages)
$module.Result.changed = $steps.Count -gt 0
if ($steps.Count) {
    $module.Diff.before = (@($steps | ForEach-Object { $_.was }) -join "`n") + "`n"
    $module.Diff.after = (@($steps | ForEach-Object { $_.text }) -join "`n") + "`n"
}
if ($packages.Count -and -not $module.Params.packages -and -not $module.CheckMode) {
    $names = @($packages | ForEach-Object { $_.name }) -join ', '
    $module.FailJson("These packages are not back at the version they had before the repairs, so nothing was undone: $names.")
}
if ($module.CheckMode) { $module.ExitJson() }

$notes = New-Object System.Collections.ArrayList
$failed = @()
$stuck = @{}
foreach ($step in $steps) {
    $step.item['undone_from'] = $step.state
    try { Write-State $step.item $step.item['before'] $notes } catch {
        $failed += "$(Get-Label $step.item): $(Get-Cause $_)"
        $stuck[(Get-Identity $step.item)] = $true
    }
}
$written = @($steps | ForEach-Object { $_.item } | Where-Object { -not $stuck.ContainsKey((Get-Identity $_)) })
foreach ($item in @(Get-Unrestored $written)) {
    if ($null -eq $item) { continue }
    $failed += "$(Get-Label $item): is not as it was."
    $stuck[(Get-Identity $item)] = $true
}
try {
    foreach ($point in $points) {
        if (@($point['items'] | Where-Object { $stuck.ContainsKey((Get-Identity $_)) }).Count) { continue }
        $point['undone_at'] = Get-Now
        Update-UndoPoint $point
    }
} catch { $module.FailJson("What was put back could not be noted: $(Get-Cause $_)", $_) }
if ($failed.Count) { $module.FailJson("Undo could not put everything back: $($failed -join ' ') The rest was. Solve that, then run this again.") }
$module.ExitJson()
