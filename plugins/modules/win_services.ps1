#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils.Repair

$spec = @{
    options = @{
        services = @{
            type = 'list'
            elements = 'dict'
            required = $true
            options = @{
                name = @{ type = 'str'; required = $true }
                start_type = @{ type = 'str'; choices = @('auto', 'delayed', 'manual', 'disabled') }
                state = @{ type = 'str'; choices = @('started', 'stopped', 'restarted') }
                recovery = @{ type = 'str'; choices = @('restart') }
            }
        }
        timeout_s = @{ type = 'int'; default = 60 }
        stop_pending_wait_s = @{ type = 'int'; default = 300 }
        stop_pending_restart = @{ type = 'str'; default = 'RdAgent' }
        undo = @{ type = 'str' }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

if ($module.Params.timeout_s -lt 1 -or $module.Params.stop_pending_wait_s -lt 0) {
    $module.FailJson('timeout_s must be above 0, stop_pending_wait_s must not be negative. Nothing was changed.')
}
Set-RepairLimit $module.Params.timeout_s $module.Params.stop_pending_wait_s $module.Params.stop_pending_restart

$changes = New-Object System.Collections.ArrayList
$seen = @{}
foreach ($service in $module.Params.services) {
    $name = $service.name
    if ($name -notmatch '^[^\\/]{1,256}$') { $module.FailJson("'$name' is no name of a service. Nothing was changed.") }
    if ($seen.ContainsKey($name)) { $module.FailJson("The service $name is named twice. Nothing was changed.") }
    $seen[$name] = $true
    $item = @{ kind = 'service'; name = $name }
    $state = Read-State $item
    if (-not $state.exists) { $module.FailJson("There is no service $name on this guest, so it cannot be set. Nothing was changed.") }
    $wanted = @{}
    if ($service.start_type) { $wanted.start_type = $service.start_type }
    if ($service.recovery -and -not (Test-RestartAction "$($state.failure_actions)")) { $wanted.failure_actions = Get-RestartAction }
    if ($service.state) { $wanted.state = @{ started = 'running'; restarted = 'running'; stopped = 'stopped' }[$service.state] }
    if ($service.state -eq 'restarted') { $wanted.restart = $true }
    $start = $state.start_type
    if ($service.start_type) { $start = $service.start_type }
    if ($start -eq 'disabled' -and $wanted.ContainsKey('state') -and $wanted.state -eq 'running') {
        $module.FailJson("The service $name is disabled and cannot be started; give start_type too. Nothing was changed.")
    }
    [void]$changes.Add(@{ item = $item; wanted = $wanted })
}
Invoke-Repair $module $changes
