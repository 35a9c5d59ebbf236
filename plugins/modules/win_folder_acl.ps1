#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindFolderAcl
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

$spec = @{
    options = @{
        path = @{ type = 'path'; required = $true }
        sddl = @{ type = 'str'; required = $true }
        match = @{ type = 'str'; choices = @('exact', 'at_least'); default = 'exact' }
        expect = @{ type = 'str' }
    }
    supports_check_mode = $true
}
$spec.options = Get-WriterOption $spec.options
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

function Get-Descriptor([string]$Sddl) {
    try { return New-Object System.Security.AccessControl.RawSecurityDescriptor $Sddl }
    catch { $module.FailJson("'$Sddl' is no security descriptor: $(Get-Cause $_) Nothing was changed.") }
}

Initialize-Result $module
$path = $module.Params.path
if (-not [System.IO.Path]::IsPathRooted($path) -or -not [System.IO.Directory]::Exists($path)) {
    $module.FailJson("$path is no folder of this guest; give the full path of one that exists. Nothing was changed.")
}
$descriptor = Get-Descriptor $module.Params.sddl
if ($null -eq $descriptor.DiscretionaryAcl) { $module.FailJson('The security descriptor holds no access list (D:), so everybody would get every right. Nothing was changed.') }
foreach ($ace in $descriptor.DiscretionaryAcl) {
    if ([int]$ace.AceFlags -band 3) { $module.FailJson("The security descriptor has an entry that is inherited by what is in $path; only the folder itself may be set. Nothing was changed.") }
}
$change = @{ item = @{ kind = 'folder_acl'; path = $path }; wanted = @{ exists = $true; sddl = $module.Params.sddl } }
if ($module.Params.match -eq 'at_least') { $change.wanted.at_least = $true }
if ($null -ne $module.Params.expect) {
    [void](Get-Descriptor $module.Params.expect)
    $change.expect = @{ exists = $true; sddl = $module.Params.expect }
}
Invoke-Change $module @($change)
