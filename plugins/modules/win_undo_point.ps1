#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils.Repair

$spec = @{
    options = @{
        remedy = @{ type = 'str'; required = $true }
        services = @{ type = 'list'; elements = 'str'; default = @() }
        packages = @{ type = 'list'; elements = 'str'; default = @() }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

if ($module.Params.remedy -notmatch '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$') {
    $module.FailJson("remedy is the name of a repair such as agent.install, not '$($module.Params.remedy)'. Nothing was kept.")
}
$items = New-Object System.Collections.ArrayList
foreach ($name in $module.Params.packages) { [void]$items.Add(@{ kind = 'package'; name = $name }) }
foreach ($name in $module.Params.services) { [void]$items.Add(@{ kind = 'service'; name = $name }) }
$module.Result.id = $null
$module.Result.existing = $false
try {
    foreach ($item in $items) { $item.before = Read-State $item }
    $last = @(Get-UndoPoint | Where-Object { $null -ne $_ -and $_['remedy'] -eq $module.Params.remedy -and -not $_['undone_at'] } | Select-Object -Last 1)
    if ($last.Count -and $last[0]['items'].Count -eq $items.Count) {
        $same = $true
        for ($at = 0; $at -lt $items.Count; $at++) {
            $kept = $last[0]['items'][$at]
            if ($kept['kind'] -ne $items[$at].kind -or $kept['name'] -ne $items[$at].name -or -not (Test-Same $items[$at].before $kept['before'])) { $same = $false }
        }
        if ($same) { $module.Result.id = $last[0]['id']; $module.Result.existing = $true }
    }
    if (-not $module.Result.existing -and -not $module.CheckMode) { $module.Result.id = (Save-UndoPoint $module.Params.remedy $items)['id'] }
} catch { $module.FailJson("The state for undo could not be kept: $(Get-Cause $_)", $_) }
$module.ExitJson()
