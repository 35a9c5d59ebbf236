#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindService

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
                expect = @{
                    type = 'dict'
                    options = @{
                        start_type = @{ type = 'str'; choices = @('boot', 'system', 'auto', 'delayed', 'manual', 'disabled') }
                        state = @{
                            type = 'str'
                            choices = @('running', 'stopped', 'paused', 'start_pending', 'stop_pending', 'continue_pending', 'pause_pending')
                        }
                    }
                }
            }
        }
        timeout_s = @{ type = 'int'; default = 60 }
        stop_pending_wait_s = @{ type = 'int'; default = 300 }
        stop_pending_restart = @{ type = 'str'; default = 'RdAgent' }
        stop_along = @{ type = 'list'; elements = 'str'; default = @() }
    }
    supports_check_mode = $true
}
$spec.options = Get-WriterOption $spec.options
$expected = Get-Expected $complex_args 'services'
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

function Get-ServiceChange($Service, [bool]$Expected) {
    $name = $Service.name
    $item = @{ kind = 'service'; name = $name }
    $state = Read-State $item
    if (-not $state.exists) { $module.FailJson("There is no service $name on this guest, so it cannot be set. Nothing was changed.") }
    $wanted = @{}
    if ($Service.start_type) { $wanted.start_type = $Service.start_type }
    if ($Service.recovery -and -not (Test-RestartAction "$($state.failure_actions)")) { $wanted.failure_actions = Get-RestartAction }
    if ($Service.state) { $wanted.state = @{ started = 'running'; restarted = 'running'; stopped = 'stopped' }[$Service.state] }
    if ($Service.state -eq 'restarted') { $wanted.restart = $true }
    $start = $state.start_type
    if ($Service.start_type) { $start = $Service.start_type }
    if ($start -eq 'disabled' -and $wanted.ContainsKey('state') -and $wanted.state -eq 'running') {
        $module.FailJson("The service $name is disabled and cannot be started; give start_type too. Nothing was changed.")
    }
    $change = @{ item = $item; wanted = $wanted }
    if ($Expected) {
        if ($null -eq $Service.expect) { $module.FailJson("The service $name is there, but was expected to be absent; something changed it since it was looked at. Nothing was changed.") }
        $change.expect = @{ exists = $true }
        foreach ($part in 'start_type', 'state') { if ($null -ne $Service.expect[$part]) { $change.expect[$part] = $Service.expect[$part] } }
    }
    return $change
}

Initialize-Result $module
if ($module.Params.timeout_s -lt 1 -or $module.Params.stop_pending_wait_s -lt 0) {
    $module.FailJson('timeout_s must be above 0, stop_pending_wait_s must not be negative. Nothing was changed.')
}
Set-ServiceLimit $module.Params.timeout_s $module.Params.stop_pending_wait_s $module.Params.stop_pending_restart @($module.Params.stop_along)

$changes = New-Object System.Collections.ArrayList
$seen = @{}
foreach ($service in $module.Params.services) {
    $name = $service.name
    if ($name -notmatch '^[^\\/]{1,256}$') { $module.FailJson("'$name' is no name of a service. Nothing was changed.") }
    if ($seen.ContainsKey($name)) { $module.FailJson("The service $name is named twice. Nothing was changed.") }
    $seen[$name] = $true
    [void]$changes.Add((Get-ServiceChange $service (Test-Expected $module $expected $changes.Count $service.expect)))
}
Invoke-Change $module $changes
