#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Confirm
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindDhcp

$spec = @{
    options = @{
        interface = @{ type = 'str' }
        enabled = @{ type = 'bool'; default = $true }
        expect = @{
            type = 'dict'
            options = @{
                addresses = @{ type = 'list'; elements = 'str' }
                gateways = @{ type = 'list'; elements = 'str' }
            }
        }
    }
    required_one_of = @(, @('interface', 'confirm'))
    mutually_exclusive = @(, @('interface', 'confirm'))
    supports_check_mode = $true
}
$spec.options = Get-GuardedOption $spec.options
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

Initialize-Result $module
Complete-Change $module
$name = $module.Params.interface
$adapters = @(Get-NetAdapter | Where-Object { "$($_.Name)" -eq $name -or "$($_.ifIndex)" -eq $name -or "$($_.InterfaceGuid)" -eq $name })
if ($adapters.Count -ne 1) { $module.FailJson("There is no interface '$name' on this guest (name, index or GUID). Nothing was changed.") }
$item = @{ kind = 'dhcp'; index = [int]$adapters[0].ifIndex; guid = "$($adapters[0].InterfaceGuid)" }
$state = Read-State $item
if (-not $state.exists) { $module.FailJson("The registry has no settings of the interface '$name'. Nothing was changed.") }
if (-not $module.Params.enabled -and $state.enabled) {
    $module.FailJson("DHCP of '$name' is on. It is switched off by undo only, which knows the address that was set before. Nothing was changed.")
}
$change = @{ item = $item; wanted = @{ exists = $true; enabled = $module.Params.enabled } }
if ($null -ne $module.Params.expect) {
    $change.expect = @{ exists = $true; enabled = $false }
    foreach ($part in 'addresses', 'gateways') { if ($null -ne $module.Params.expect[$part]) { $change.expect[$part] = @($module.Params.expect[$part]) } }
}
Invoke-GuardedChange $module @($change)
