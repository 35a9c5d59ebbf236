#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Logs
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

$spec = @{
    options = @{
        directory = @{ type = 'str' }
        max_bytes = @{ type = 'int'; default = 20971520 }
        max_file_bytes = @{ type = 'int'; default = 4194304 }
        max_files = @{ type = 'int'; default = 500 }
        max_age_days = @{ type = 'int'; default = 30 }
        timeout_s = @{ type = 'float'; default = 10.0 }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$limits = @{}
foreach ($name in 'max_bytes', 'max_file_bytes', 'max_files', 'max_age_days', 'timeout_s') {
    if ($module.Params[$name] -le 0) { $module.FailJson("$name must be more than 0.") }
    $limits[$name] = $module.Params[$name]
}
$root = "$($env:SystemDrive)\"
try {
    $archive = New-LogArchive $limits
    Add-LogFolder $archive "${root}WindowsAzure\Logs" @('*.log', '*.json') 3
    Add-LogFolder $archive "${root}Packages\Plugins" @('*.status', 'HandlerManifest.json', 'HandlerEnvironment.json', 'HeartBeat.Json') 3
    $done = Complete-LogArchive $archive
} catch { $module.FailJson("The logs could not be collected: $(Get-Cause $_)") }
foreach ($key in $done.Keys) { $module.Result[$key] = $done[$key] }
$module.Result.changed = $false
$module.ExitJson()
