#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindPackage
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindService
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Lock
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._UndoStore

$spec = @{
    options = @{
        remedy = @{ type = 'str' }
        complete = @{ type = 'str' }
        keep_days = @{ type = 'int'; default = 90 }
        services = @{ type = 'list'; elements = 'str'; default = @() }
        packages = @{ type = 'list'; elements = 'str'; default = @() }
    }
    required_one_of = @(, @('remedy', 'complete'))
    mutually_exclusive = @(, @('remedy', 'complete'))
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

function Complete-Record {
    $module.Result.id = $module.Params.complete
    $module.Result.existing = $true
    try {
        $point = @(Get-UndoPoint $module.Params.complete)
        if (-not $point.Count) { throw "There is no undo point $($module.Params.complete)." }
        foreach ($item in $point[0]['items']) { $item['written'] = @(, (Read-State $item)) }
        if (-not $module.CheckMode) { Update-UndoPoint $point[0] }
    } catch { $module.FailJson("What the repair wrote could not be noted for undo: $(Get-Cause $_)", $_) }
    $module.ExitJson()
}

# The newest point of this repair, when it holds the same things in the same state.
function Find-SamePoint($Items) {
    $last = @(Get-UndoPoint | Where-Object { $_['remedy'] -eq $module.Params.remedy -and -not $_['undone_at'] } | Select-Object -Last 1)
    if (-not $last.Count -or $last[0]['items'].Count -ne $Items.Count) { return $null }
    for ($at = 0; $at -lt $Items.Count; $at++) {
        $kept = $last[0]['items'][$at]
        if ($kept['kind'] -ne $Items[$at].kind -or $kept['name'] -ne $Items[$at].name -or -not (Test-Same $kept $Items[$at].before $kept['before'])) { return $null }
    }
    return $last[0]['id']
}

function Save-Record($Items) {
    # An installer follows, which looks for no snapshot.
    Exit-DuringSnapshot $module
    try {
        foreach ($item in $Items) { $item.before = Read-State $item }
        $module.Result.id = Find-SamePoint $Items
        $module.Result.existing = $null -ne $module.Result.id
        if (-not $module.Result.existing -and -not $module.CheckMode) { $module.Result.id = (Save-UndoPoint $module.Params.remedy $Items $module.Params.keep_days)['id'] }
    } catch { $module.FailJson("The state for undo could not be kept: $(Get-Cause $_)", $_) }
    $module.ExitJson()
}

$module.Result.id = $null
$module.Result.existing = $false
$module.Result.deferred = $false
$module.Result.reason = $null
if ($module.Params.keep_days -lt 0) { $module.FailJson('keep_days must not be negative. Nothing was kept.') }
if ($module.Params.complete) { Use-GuestLock $module { Complete-Record } }
if ($module.Params.remedy -notmatch '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$') {
    $module.FailJson("remedy is the name of a repair such as agent.install, not '$($module.Params.remedy)'. Nothing was kept.")
}
$items = New-Object System.Collections.ArrayList
foreach ($name in $module.Params.packages) { [void]$items.Add(@{ kind = 'package'; name = $name }) }
foreach ($name in $module.Params.services) { [void]$items.Add(@{ kind = 'service'; name = $name }) }
Use-GuestLock $module { Save-Record $items }
