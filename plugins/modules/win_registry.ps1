#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindRegistry

$types = @('string', 'expandstring', 'multistring', 'dword', 'qword', 'binary')
$spec = @{
    options = @{
        values = @{
            type = 'list'
            elements = 'dict'
            required = $true
            options = @{
                key = @{ type = 'str'; required = $true; no_log = $false }
                name = @{ type = 'str'; required = $true }
                type = @{ type = 'str'; choices = $types; default = 'string' }
                data = @{ type = 'raw' }
                state = @{ type = 'str'; choices = @('present', 'absent'); default = 'present' }
                expect = @{
                    type = 'dict'
                    options = @{
                        type = @{ type = 'str'; choices = $types }
                        data = @{ type = 'raw'; required = $true }
                    }
                }
            }
        }
    }
    supports_check_mode = $true
}
$spec.options = Get-WriterOption $spec.options
$expected = Get-Expected $complex_args 'values'
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

# Bytes may hold a password, and Ansible repeats the options of a call in its result: there they stand as what they are, no more.
function Hide-GivenByte($Holder, [string]$Type) {
    $data = $Holder.data
    if ($Type -eq 'binary' -and $null -ne $data) {
        $Holder.data = 'bytes, not shown'
        [void]$module.Result.Remove('invocation')
    }
    return , $data
}

function Get-Given($Value) {
    $given = @{ data = Hide-GivenByte $Value $Value.type; seen = $null; seen_type = $Value.type }
    if ($null -ne $Value.expect) {
        if ($Value.expect.type) { $given.seen_type = $Value.expect.type }
        $given.seen = Hide-GivenByte $Value.expect $given.seen_type
    }
    return $given
}

function ConvertTo-State($Data, [string]$Type, [string]$Where) {
    try { return @{ exists = $true; type = $Type; data = ConvertTo-RegistryData $Data $Type $Where } }
    catch { $module.FailJson("$($_.Exception.Message) Nothing was changed.") }
}

function Get-ValueChange($Value, [string]$Key, $Given, [bool]$Expected) {
    $where = "$Key\$($Value.name)"
    $change = @{ item = @{ kind = 'registry'; key = $Key; name = $Value.name }; wanted = @{ exists = $false } }
    if ($Value.state -eq 'present') {
        if ($null -eq $Given.data) { $module.FailJson("$where has no data; give data, or state absent. Nothing was changed.") }
        $change.wanted = ConvertTo-State $Given.data $Value.type "The data of $where"
    }
    if ($Expected) {
        $change.expect = @{ exists = $false }
        if ($null -ne $Value.expect) { $change.expect = ConvertTo-State $Given.seen $Given.seen_type "The expected data of $where" }
    }
    return $change
}

Initialize-Result $module
$given = @($module.Params.values | ForEach-Object { Get-Given $_ })
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
    $at = $changes.Count
    [void]$changes.Add((Get-ValueChange $value $key $given[$at] (Test-Expected $module $expected $at $value.expect)))
}
Invoke-Change $module $changes
