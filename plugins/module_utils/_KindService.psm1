# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Native
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Registry
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Snapshot
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# Kind service. Item: name. State: exists, start_type, delayed (the value of that name), failure_actions (hexadecimal), state.
Set-StrictMode -Version 2.0

# Windows PowerShell loads it with Get-Service only; PowerShell 7 finds it by itself.
if ($PSVersionTable.PSVersion.Major -lt 6) {
    [void][System.Reflection.Assembly]::Load('System.ServiceProcess, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b03f5f7f11d50a3a')
}

$script:ServiceTimeout = 60
$script:StopPendingWait = 300
$script:StopPendingRestart = 'RdAgent'
# The only ones that are treated so: Microsoft describes it for the agent.
$script:Agent = @('RdAgent', 'WindowsAzureGuestAgent', 'WindowsAzureTelemetryService')
# What begins like this is not stopped along with a service that it depends on, since its users notice at once; as BY_HAND in _windows/vss.py.
$script:ByHand = @('ntds', 'ntfrs', 'dfsr', 'vmms', 'msexchangeis', 'msexchangerepl', 'spwriterv4', 'osearch')
$script:StopAlong = @()
$script:StartTypes = @{ 0 = 'boot'; 1 = 'system'; 2 = 'auto'; 3 = 'manual'; 4 = 'disabled' }

function Set-ServiceLimit([int]$Timeout, [int]$StopPendingWait, [string]$StopPendingRestart, [string[]]$StopAlong) {
    <#
    .SYNOPSIS
    How long services may take, and which may be stopped along with others.
    .PARAMETER Timeout
    Seconds for one service to start or stop.
    .PARAMETER StopPendingWait
    Seconds after which a service that hangs in StopPending loses its process.
    .PARAMETER StopPendingRestart
    Service that is restarted before that.
    .PARAMETER StopAlong
    Services that may be stopped along with one that they depend on, though their users notice at once.
    #>
    $script:StopAlong = @($StopAlong | Where-Object { $_ })
    $script:ServiceTimeout = $Timeout
    $script:StopPendingWait = $StopPendingWait
    $script:StopPendingRestart = $StopPendingRestart
}

function Get-ServiceKey([string]$Name) {
    <#
    .SYNOPSIS
    The registry key of a service.
    .PARAMETER Name
    Name of the service.
    #>
    'HKLM\SYSTEM\CurrentControlSet\Services\' + $Name
}

function Use-Service([string]$Name, [uint32]$Access, [scriptblock]$Use) {
    <#
    .SYNOPSIS
    Does what a handle of the service manager is needed for.
    .PARAMETER Name
    Name of the service.
    .PARAMETER Access
    Rights of the handle.
    .PARAMETER Use
    Gets the Win32 functions and the handle.
    #>
    $native = Get-Native
    $manager = $native::OpenSCManagerW([NullString]::Value, [NullString]::Value, 1)
    if ($manager -eq [IntPtr]::Zero) { throw "The service manager could not be opened; administrator's rights are needed." }
    $handle = $native::OpenServiceW($manager, $Name, $Access)
    try {
        if ($handle -eq [IntPtr]::Zero) { throw "The service $Name could not be opened; administrator's rights are needed." }
        & $Use $native $handle
    } finally {
        if ($handle -ne [IntPtr]::Zero) { [void]$native::CloseServiceHandle($handle) }
        [void]$native::CloseServiceHandle($manager)
    }
}

function Get-ServicePid([string]$Name) {
    <#
    .SYNOPSIS
    The process of a service.
    .PARAMETER Name
    Name of the service.
    #>
    $buffer = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(64)
    try {
        Use-Service $Name 4 {
            param($Native, $Handle)
            $needed = [uint32]0
            if ($Native::QueryServiceStatusEx($Handle, 0, $buffer, 64, [ref]$needed)) { [System.Runtime.InteropServices.Marshal]::ReadInt32($buffer, 28) }
        }
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($buffer) }
}

function Get-ServiceState([string]$Name) {
    <#
    .SYNOPSIS
    running, stopped, stop_pending and so on; $null when the service manager does not know the service.
    .PARAMETER Name
    Name of the service.
    #>
    $controller = New-Object System.ServiceProcess.ServiceController $Name
    try {
        $text = "$($controller.Status)"
        return ($text -creplace '(?<=[a-z])([A-Z])', '_$1').ToLowerInvariant()
    } catch { return $null } finally { $controller.Dispose() }
}

function Read-Service($Item) {
    <#
    .SYNOPSIS
    The state of a service.
    .PARAMETER Item
    The item.
    #>
    $state = @{ exists = $false; start_type = $null; delayed = $null; failure_actions = $null; state = $null }
    $key = Open-Key (Get-ServiceKey $Item['name'])
    if ($null -eq $key) { return $state }
    try {
        $start = $key.GetValue('Start')
        if ($null -eq $start -or ($null -eq $key.GetValue('Type') -and $null -eq $key.GetValue('ImagePath'))) { return $state }
        $state['exists'] = $true
        $state['start_type'] = $script:StartTypes[[int]$start]
        $state['delayed'] = $key.GetValue('DelayedAutostart')
        if ($start -eq 2 -and $state['delayed'] -eq 1) { $state['start_type'] = 'delayed' }
        $actions = $key.GetValue('FailureActions')
        if ($actions -is [byte[]]) { $state['failure_actions'] = ConvertTo-Hex $actions }
    } finally { $key.Dispose() }
    $state['state'] = Get-ServiceState $Item['name']
    return $state
}

function Get-RestartAction {
    <#
    .SYNOPSIS
    Recovery actions: restart after one minute, three times; counted anew after a day.
    #>
    '805101000000000000000000030000001400000001000000' + '60ea00000100000060ea00000100000060ea0000'
}

function Test-RestartAction([string]$Hex) {
    <#
    .SYNOPSIS
    Whether a service comes back after every failure: all of its actions are a restart.
    .PARAMETER Hex
    Its recovery actions.
    #>
    if ($Hex.Length -lt 56) { return $false }
    $count = [BitConverter]::ToInt32((ConvertFrom-Hex $Hex.Substring(24, 8)), 0)
    if ($count -lt 1 -or $Hex.Length -lt 40 + 16 * $count) { return $false }
    for ($action = 0; $action -lt $count; $action++) {
        if ([BitConverter]::ToInt32((ConvertFrom-Hex $Hex.Substring(40 + 16 * $action, 8)), 0) -ne 1) { return $false }
    }
    return $true
}

function Set-StartType([string]$Name, [string]$StartType) {
    <#
    .SYNOPSIS
    Sets when a service starts.
    .PARAMETER Name
    Name of the service.
    .PARAMETER StartType
    boot, system, auto, delayed, manual or disabled.
    #>
    $number = @{ boot = 0; system = 1; auto = 2; delayed = 2; manual = 3; disabled = 4 }[$StartType]
    $delayed = [int]($StartType -eq 'delayed')
    $key = Open-Key (Get-ServiceKey $Name)
    $was = $key.GetValue('DelayedAutostart')
    $key.Dispose()
    Use-Service $Name 2 {
        param($Native, $Handle)
        $none = [IntPtr]::Zero
        $keep = [uint32]::MaxValue
        if (-not $Native::ChangeServiceConfigW($Handle, $keep, [uint32]$number, $keep, $none, $none, $none, $none, $none, $none, $none)) {
            throw "The service manager refused the start type $StartType for $Name; is it protected?"
        }
        if ($number -eq 2 -and [int]($was -eq 1) -ne $delayed) {
            $buffer = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(8)
            try {
                [System.Runtime.InteropServices.Marshal]::WriteInt32($buffer, $delayed)
                [void]$Native::ChangeServiceConfig2W($Handle, 3, $buffer)
            } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($buffer) }
        }
    }
    if ($number -ne 2 -or [int]($was -eq 1) -eq $delayed) { return }
    # A service manager that does not know the call keeps the setting here all the same.
    $key = Open-Key (Get-ServiceKey $Name) -Write
    if ([int]($key.GetValue('DelayedAutostart') -eq 1) -ne $delayed) { $key.SetValue('DelayedAutostart', $delayed, 'DWord') }
    $key.Dispose()
}

function Send-FailureAction([string]$Name, [byte[]]$Bytes) {
    <#
    .SYNOPSIS
    Tells the service manager the recovery actions of a service.
    .PARAMETER Name
    Name of the service.
    .PARAMETER Bytes
    The actions as the registry holds them.
    #>
    $count = [BitConverter]::ToInt32($Bytes, 12)
    $size = [IntPtr]::Size
    # SERVICE_FAILURE_ACTIONSW, and the actions behind it; texts are left as they are.
    $buffer = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(64 + 8 * $count)
    try {
        for ($at = 0; $at -lt 64; $at += 4) { [System.Runtime.InteropServices.Marshal]::WriteInt32($buffer, $at, 0) }
        [System.Runtime.InteropServices.Marshal]::WriteInt32($buffer, 0, [BitConverter]::ToInt32($Bytes, 0))
        [System.Runtime.InteropServices.Marshal]::WriteInt32($buffer, 3 * $size, $count)
        [System.Runtime.InteropServices.Marshal]::WriteIntPtr($buffer, 4 * $size, [IntPtr]($buffer.ToInt64() + 48))
        if ($count) { [System.Runtime.InteropServices.Marshal]::Copy($Bytes, 20, [IntPtr]($buffer.ToInt64() + 48), 8 * $count) }
        # Start is needed beside the change of configuration, since the actions start the service.
        Use-Service $Name 0x12 { param($Native, $Handle) [void]$Native::ChangeServiceConfig2W($Handle, 2, $buffer) }
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($buffer) }
}

function Set-FailureAction([string]$Name, $Hex) {
    <#
    .SYNOPSIS
    Sets the recovery actions of a service.
    .PARAMETER Name
    Name of the service.
    .PARAMETER Hex
    The actions; $null for none.
    #>
    if ($null -eq $Hex) { $bytes = New-Object byte[] 20 } else { $bytes = ConvertFrom-Hex $Hex }
    $key = Open-Key (Get-ServiceKey $Name) -Write
    try {
        Send-FailureAction $Name $bytes
        if ($null -eq $Hex) { $key.DeleteValue('FailureActions', $false); return }
        $now = $key.GetValue('FailureActions')
        $text = ''
        if ($now -is [byte[]]) { $text = ConvertTo-Hex $now }
        # A service manager that does not know the call reads them from here when it starts.
        if ($text -ne $Hex) { $key.SetValue('FailureActions', $bytes, 'Binary') }
    } finally { $key.Dispose() }
}

function Wait-Service([string]$Name, [string[]]$States, [double]$Seconds) {
    <#
    .SYNOPSIS
    Waits until a service is in one of the states, and returns the one that it is in.
    .PARAMETER Name
    Name of the service.
    .PARAMETER States
    The states.
    .PARAMETER Seconds
    How long to wait.
    #>
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        $state = Get-ServiceState $Name
        if ($States -contains $state) { return $state }
        if ($clock.Elapsed.TotalSeconds -ge $Seconds) { return $state }
        [System.Threading.Thread]::Sleep(250)
    }
}

function Start-One([string]$Name) {
    <#
    .SYNOPSIS
    Starts a service and waits for it.
    .PARAMETER Name
    Name of the service.
    #>
    $controller = New-Object System.ServiceProcess.ServiceController $Name
    try { if (@('start_pending', 'running') -notcontains (Get-ServiceState $Name)) { $controller.Start() } }
    catch {
        # Somebody else, such as a service that depends on it, may have been faster.
        if (@('start_pending', 'running') -notcontains (Get-ServiceState $Name)) { throw "The service $Name could not be started: $(Get-Cause $_)" }
    }
    finally { $controller.Dispose() }
    $state = Wait-Service $Name @('running', 'stopped') $script:ServiceTimeout
    if ($state -ne 'running') { throw "The service $Name was started, but is $state after $($script:ServiceTimeout) s. Look into its log." }
}

function Get-Dependent([string]$Name) {
    <#
    .SYNOPSIS
    Names of the services that depend on one and are not stopped: .NET stops those that are paused or about to start along with it.
    .PARAMETER Name
    Name of the service.
    #>
    $controller = New-Object System.ServiceProcess.ServiceController $Name
    try { $controller.DependentServices | Where-Object { "$($_.Status)" -ne 'Stopped' } | ForEach-Object { $_.ServiceName } } finally { $controller.Dispose() }
}

function Test-Disabled([string]$Name) {
    <#
    .SYNOPSIS
    Whether a service cannot be started, though it may still run.
    .PARAMETER Name
    Name of the service.
    #>
    $key = Open-Key (Get-ServiceKey $Name)
    if ($null -eq $key) { return $false }
    try { return $key.GetValue('Start') -eq 4 } finally { $key.Dispose() }
}

function Assert-Stoppable([string]$Name) {
    <#
    .SYNOPSIS
    Throws when a service would be stopped along whose users notice at once, or which would not start again.
    .PARAMETER Name
    Name of the service that is to be stopped.
    #>
    $seen = @{ $Name = $true }
    $open = New-Object System.Collections.Queue
    $open.Enqueue($Name)
    while ($open.Count) {
        foreach ($other in @(Get-Dependent $open.Dequeue())) {
            if (-not $other -or $seen.ContainsKey($other)) { continue }
            $seen[$other] = $true
            $open.Enqueue($other)
            if (Test-Disabled $other) { throw "The service $Name was not stopped, since $other depends on it and runs, but is disabled and would not start again. Correct the start type of $other first." }
            if ($script:StopAlong -contains $other -or -not @($script:ByHand | Where-Object { $other.ToLowerInvariant().StartsWith($_) }).Count) { continue }
            throw "The service $Name was not stopped, since $other depends on it and its users notice at once. Restart it by hand in a maintenance window, or allow to stop $other along (stop_along, in the role snapshot_restart_services)."
        }
    }
}

function Assert-NoSnapshot([string]$What) {
    <#
    .SYNOPSIS
    Throws when a snapshot runs: it may have begun while a service was waited for. The engine defers then.
    .PARAMETER What
    What is not done then.
    #>
    if (-not (Test-Snapshot)) { return }
    $problem = New-Object System.InvalidOperationException "A snapshot began meanwhile, so $What. Run this again."
    $problem.Data['deferred'] = 'a snapshot is running'
    throw $problem
}

function Stop-One([string]$Name, $Stopped) {
    <#
    .SYNOPSIS
    Stops a service and those that depend on it.
    .PARAMETER Name
    Name of the service.
    .PARAMETER Stopped
    List; the names of the latter are added to it, each before it is stopped.
    #>
    $controller = New-Object System.ServiceProcess.ServiceController $Name
    try {
        foreach ($other in @(Get-Dependent $Name)) {
            if (-not $other) { continue }
            $state = Get-ServiceState $other
            if ($state -eq 'stopped') { continue }
            if ($state -ne 'stop_pending') { [void]$Stopped.Add($other) }
            Stop-One $other $Stopped
        }
        $state = Get-ServiceState $Name
        if ($state -ne 'stopped' -and $state -ne 'stop_pending') { $controller.Stop() }
    } catch {
        throw "The service $Name could not be stopped: $(Get-Cause $_)"
    } finally { $controller.Dispose() }
    $state = Wait-Service $Name @('stopped') $script:ServiceTimeout
    if ($state -ne 'stopped') { throw "The service $Name does not stop: it is $state after $($script:ServiceTimeout) s." }
}

function Start-Again($Stopped, $Notes) {
    <#
    .SYNOPSIS
    Starts what Stop-One stopped besides, the last one first.
    .PARAMETER Stopped
    Names of the services.
    .PARAMETER Notes
    List; what went wrong is added to it.
    #>
    for ($at = $Stopped.Count - 1; $at -ge 0; $at--) {
        try { Start-One $Stopped[$at] } catch { [void]$Notes.Add("$($Stopped[$at]) was stopped along with it and did not start again: $(Get-Cause $_)") }
    }
}

function Restart-One([string]$Name, $Notes) {
    <#
    .SYNOPSIS
    Stops and starts a service. Those that depend on it run again afterwards, even when it does not.
    .PARAMETER Name
    Name of the service.
    .PARAMETER Notes
    List; what was done beside is added to it.
    #>
    Assert-Stoppable $Name
    $stopped = New-Object System.Collections.ArrayList
    try {
        Stop-One $Name $stopped
        Start-One $Name
    } catch {
        $lost = New-Object System.Collections.ArrayList
        Start-Again $stopped $lost
        throw "$(Get-Cause $_) $($lost -join ' ')".Trim()
    }
    Start-Again $stopped $Notes
}

function Resolve-StopPending([string]$Name, $Notes) {
    <#
    .SYNOPSIS
    Microsoft's way for a service of the agent that never gets past StopPending: restart RdAgent, wait, then end the process. Another one is waited for.
    .PARAMETER Name
    Name of the service.
    .PARAMETER Notes
    List; what was done beside is added to it.
    #>
    $helper = $script:StopPendingRestart
    $own = $script:Agent -contains $Name
    if ($own -and $helper -and $helper -ne $Name -and (Get-ServiceState $helper) -eq 'running') {
        Assert-NoSnapshot "$helper was not restarted for $Name, which hangs in StopPending"
        Restart-One $helper $Notes
        [void]$Notes.Add("$Name hung in StopPending: $helper was restarted.")
    }
    $state = Wait-Service $Name @('stopped', 'running') $script:StopPendingWait
    if ($state -ne 'stop_pending') { return }
    if (-not $own) { throw "The service $Name hangs in StopPending and is none of the agent's, so its process is not ended; restart the guest." }
    $key = Open-Key (Get-ServiceKey $Name)
    $type = $key.GetValue('Type')
    $key.Dispose()
    if (-not ([int]$type -band 0x10)) { throw "The service $Name hangs in StopPending and shares its process with others, so the process is not ended; restart the guest." }
    $id = Get-ServicePid $Name
    if (-not $id) { throw "The service $Name hangs in StopPending and has no process; restart the guest." }
    Assert-NoSnapshot "the process of $Name, which hangs in StopPending, was not ended"
    try {
        $process = [System.Diagnostics.Process]::GetProcessById($id)
        $process.Kill()
        [void]$process.WaitForExit(10000)
    } catch [System.ArgumentException] { [void]$Notes.Add("The process $id of $Name had ended.") }
    [void]$Notes.Add("$Name hung in StopPending for $($script:StopPendingWait) s more: its process $id was ended.")
    # The service manager may keep the state of a process that is gone; whether it starts it again shows when it is told to.
    [void](Wait-Service $Name @('stopped', 'running') 10)
}

function Write-Service($Item, $State, $Notes) {
    <#
    .SYNOPSIS
    Brings a service into a state.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about; what it does not name stays.
    .PARAMETER Notes
    List; what was done beside is added to it.
    #>
    $name = $Item['name']
    $now = Read-Service $Item
    if (-not $now['exists']) { throw "The service $name does not exist any more." }
    $wanted = $State['state']
    # A disabled service cannot be started, and one that is to be disabled is stopped before.
    if ($State.ContainsKey('start_type') -and $State['start_type'] -ne $now['start_type']) { Set-StartType $name $State['start_type'] }
    if ($State.ContainsKey('delayed')) {
        $key = Open-Key (Get-ServiceKey $name) -Write
        if ($null -eq $State['delayed']) { $key.DeleteValue('DelayedAutostart', $false) }
        elseif ($key.GetValue('DelayedAutostart') -ne $State['delayed']) { $key.SetValue('DelayedAutostart', [int]$State['delayed'], 'DWord') }
        $key.Dispose()
    }
    if ($State.ContainsKey('failure_actions') -and $State['failure_actions'] -ne $now['failure_actions']) { Set-FailureAction $name $State['failure_actions'] }
    if (-not $wanted) { return }
    $hung = $now['state'] -eq 'stop_pending'
    if ($hung) { Resolve-StopPending $name $Notes; $now = Read-Service $Item }
    if ($wanted -eq 'running') {
        # One that hung and runs now was restarted by that.
        if ($State['restart'] -and $now['state'] -eq 'running' -and -not $hung) { Assert-NoSnapshot "$name was not restarted"; Restart-One $name $Notes }
        else { Start-One $name }
    } elseif ($wanted -eq 'stopped' -and $now['state'] -ne 'stopped') {
        Assert-NoSnapshot "$name was not stopped"
        Assert-Stoppable $name
        $stopped = New-Object System.Collections.ArrayList
        try { Stop-One $name $stopped } finally {
            if ($null -ne $Notes) {
                $ended = @($stopped | Where-Object { (Get-ServiceState $_) -eq 'stopped' })
                foreach ($other in $ended) { [void]$Notes.Add("$other depends on $name and was stopped along with it.") }
            }
        }
    }
}

function Get-ServiceLabel($Item) {
    <#
    .SYNOPSIS
    The name of an item.
    .PARAMETER Item
    The item.
    #>
    "service $($Item['name'])"
}

function Get-ServicePart([string]$Name, $Value) {
    <#
    .SYNOPSIS
    One part of a state as a person reads it.
    .PARAMETER Name
    Name of the part.
    .PARAMETER Value
    Its value.
    #>
    if ($Name -ne 'failure_actions') { return $Value }
    if (-not $Value) { return 'none' }
    if (Test-RestartAction $Value) { return 'restart' }
    return 'other'
}

function Get-KeptService($State) {
    <#
    .SYNOPSIS
    What of a state can be brought back: not what hangs between two states.
    .PARAMETER State
    The state.
    #>
    if (@('running', 'stopped') -contains $State['state']) { return $State }
    $kept = $State.Clone()
    $kept.Remove('state')
    return $kept
}

function Get-KindService {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{
        read = ${function:Read-Service}; write = ${function:Write-Service}; label = ${function:Get-ServiceLabel}; show = ${function:Get-ServicePart}
        keep = ${function:Get-KeptService}
        # Taken back on their own: somebody may have changed the one and not the other.
        parts = [ordered]@{ start_type = @('start_type', 'delayed'); failure_actions = @('failure_actions'); state = @('state') }
        # It came with a package and goes with it.
        comes_with_a_package = $true
    }
}

Export-ModuleMember -Function Get-KindService, Get-RestartAction, Set-ServiceLimit, Test-RestartAction
