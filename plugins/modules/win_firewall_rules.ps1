#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindFirewallRule

$spec = @{
    options = @{
        names = @{ type = 'list'; elements = 'str'; required = $true }
        enabled = @{ type = 'bool'; required = $true }
    }
    supports_check_mode = $true
}
$spec.options = Get-WriterOption $spec.options
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

Initialize-Result $module
$changes = New-Object System.Collections.ArrayList
$seen = @{}
foreach ($name in $module.Params.names) {
    if ($seen.ContainsKey($name)) { $module.FailJson("The firewall rule $name is named twice. Nothing was changed.") }
    $seen[$name] = $true
    $item = @{ kind = 'firewall_rule'; name = $name }
    # An asterisk would stand for other rules.
    if ($name -match '[*?\[\]]' -or -not (Read-State $item).exists) {
        $module.FailJson("There is no firewall rule '$name' among this guest's own ones. A rule of a group policy can only be changed in the policy. Nothing was changed.")
    }
    [void]$changes.Add(@{ item = $item; wanted = @{ exists = $true; enabled = $module.Params.enabled } })
}
Invoke-Change $module $changes
