#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils.Repair

$spec = @{
    options = @{
        values = @{
            type = 'list'
            elements = 'dict'
            required = $true
            options = @{
                key = @{ type = 'str'; required = $true; no_log = $false }
                name = @{ type = 'str'; required = $true }
                type = @{ type = 'str'; choices = @('string', 'expandstring', 'multistring', 'dword', 'qword', 'binary'); default = 'string' }
                data = @{ type = 'raw' }
                state = @{ type = 'str'; choices = @('present', 'absent'); default = 'present' }
            }
        }
        undo = @{ type = 'str' }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$changes = New-Object System.Collections.ArrayList
$seen = @{}
foreach ($value in $module.Params.values) {
    $key = Get-KeyPath $value.key
    if ($null -eq $key) {
        $module.FailJson("'$($value.key)' is no registry key that this module writes: it must begin with HKLM\ or HKU\ and name a key below. Nothing was changed.")
    }
    $where = "$key\$($value.name)"
    if ($seen.ContainsKey($where)) { $module.FailJson("$where is named twice. Nothing was changed.") }
    $seen[$where] = $true
    $wanted = @{ exists = $value.state -eq 'present' }
    if ($wanted.exists) {
        if ($null -eq $value.data) { $module.FailJson("$where has no data; give data, or state absent. Nothing was changed.") }
        try { $wanted.data = ConvertTo-RegistryData $value.data $value.type "The data of $where" }
        catch { $module.FailJson("$($_.Exception.Message) Nothing was changed.") }
        $wanted.type = $value.type
    }
    [void]$changes.Add(@{ item = @{ kind = 'registry'; key = $key; name = $value.name }; wanted = $wanted })
}
Invoke-Repair $module $changes
