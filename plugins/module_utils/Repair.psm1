# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# The engine of the writers for Windows guests. A change is one item (what) and the state that is wanted of it. Reading, comparing, check mode,
# diff, undo record, writing, reading back and rolling back are here once. No compiler; WMI only where nothing else starts the guard.
#
# Kinds of items and their states:
#   registry       key, name          exists, type, data ("=" before text, so that no reader of JSON takes it for a time), missing_keys
#   service        name               exists, start_type, delayed (the value of that name), failure_actions (hexadecimal), state
#   folder_acl     path               exists, sddl
#   firewall_rule  name               exists, enabled
#   dhcp           index, guid        exists, enabled, addresses, gateways
#   route          prefix, index, guid, hop   active, persistent: the metric, $null for none
#   routes_list                       routes that this collection added: PREFIX|GUID OF THE INTERFACE|HOP
# An interface is known by its GUID, since its index may be another one after a restart. Without a GUID the index has to do.
#   package        name               installed: version and product code; read only
Set-StrictMode -Version 2.0

# Windows PowerShell loads it with Get-Service only; PowerShell 7 finds it by itself.
if ($PSVersionTable.PSVersion.Major -lt 6) {
    [void][System.Reflection.Assembly]::Load('System.ServiceProcess, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b03f5f7f11d50a3a')
}

$script:Base = [System.IO.Path]::Combine([Environment]::GetFolderPath('CommonApplicationData'), 'vmbackup_azure')
$script:Utf8 = New-Object System.Text.UTF8Encoding $false
$script:OwnSddl = 'O:BAG:BAD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)'
$script:Native = $null
$script:Routes = $null
$script:Interfaces = $null
$script:ServiceTimeout = 60
$script:StopPendingWait = 300
$script:StopPendingRestart = 'RdAgent'
$script:StartTypes = @{ 0 = 'boot'; 1 = 'system'; 2 = 'auto'; 3 = 'manual'; 4 = 'disabled' }
$script:Types = @{ string = 'String'; expandstring = 'ExpandString'; multistring = 'MultiString'; dword = 'DWord'; qword = 'QWord'; binary = 'Binary' }

function Get-View {
    if ([Environment]::Is64BitOperatingSystem) { return [Microsoft.Win32.RegistryView]::Registry64 }
    return [Microsoft.Win32.RegistryView]::Default
}

$script:Hives = @{
    HKLM = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::LocalMachine, (Get-View))
    HKU = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::Users, (Get-View))
}

function Get-Cause($Problem) {
    $text = "$($Problem.Exception.GetBaseException().Message)".Trim()
    if ($text -and '.!?' -notlike "*$($text[-1])*") { $text += '.' }
    return $text
}

# ---- data ----------------------------------------------------------------------------------------------------------------------------------

# Hashtables and arrays of what ConvertFrom-Json made.
function ConvertTo-Plain($Value) {
    if ($Value -is [System.Management.Automation.PSCustomObject]) {
        $plain = @{}
        foreach ($property in $Value.PSObject.Properties) { $plain[$property.Name] = ConvertTo-Plain $property.Value }
        return $plain
    }
    if ($Value -is [System.Collections.IList]) { return , @($Value | ForEach-Object { ConvertTo-Plain $_ }) }
    if ($Value -is [datetime]) { return $Value.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ', [cultureinfo]::InvariantCulture) }
    return $Value
}

# One text for a value, to compare by.
function ConvertTo-Comparable($Value) {
    if ($null -eq $Value) { return 'null' }
    if ($Value -is [System.Collections.IList]) { return '[' + ((@($Value) | ForEach-Object { ConvertTo-Comparable $_ }) -join ',') + ']' }
    if ($Value -is [bool]) { return "$Value".ToLowerInvariant() }
    return "$Value"
}

function Test-Same($State, $Wanted) {
    foreach ($name in $Wanted.Keys) {
        if ($name -eq 'missing_keys' -or $name -eq 'at_least') { continue }
        if ($name -eq 'restart') { return $false }
        if ($name -eq 'sddl' -and (Test-SameSddl $State[$name] $Wanted[$name])) { continue }
        if ($name -eq 'sddl' -and $Wanted['at_least'] -and (Test-SddlCover $State[$name] $Wanted[$name])) { continue }
        if ((ConvertTo-Comparable $State[$name]) -cne (ConvertTo-Comparable $Wanted[$name])) { return $false }
    }
    return $true
}

function Get-Now { [DateTime]::UtcNow.ToString('yyyy-MM-ddTHH:mm:ssZ', [cultureinfo]::InvariantCulture) }

# ---- Win32 functions without a compiler ----------------------------------------------------------------------------------------------------

function Get-Native {
    if ($null -ne $script:Native) { return $script:Native }
    $name = New-Object System.Reflection.AssemblyName 'VmbackupRepair'
    $assembly = [System.Reflection.Emit.AssemblyBuilder]::DefineDynamicAssembly($name, [System.Reflection.Emit.AssemblyBuilderAccess]::Run)
    $type = $assembly.DefineDynamicModule('VmbackupRepair').DefineType('Vmbackup.Repair', 'Public, Class, Sealed, Abstract')
    $pointer = [IntPtr]
    $functions = @(
        @('advapi32.dll', 'OpenSCManagerW', $pointer, @([string], [string], [uint32])),
        @('advapi32.dll', 'OpenServiceW', $pointer, @($pointer, [string], [uint32])),
        @('advapi32.dll', 'QueryServiceStatusEx', [int], @($pointer, [int], $pointer, [uint32], [uint32].MakeByRefType())),
        @('advapi32.dll', 'ChangeServiceConfigW', [int],
            @($pointer, [uint32], [uint32], [uint32], $pointer, $pointer, $pointer, $pointer, $pointer, $pointer, $pointer)),
        @('advapi32.dll', 'ChangeServiceConfig2W', [int], @($pointer, [uint32], $pointer)),
        @('advapi32.dll', 'CloseServiceHandle', [int], @($pointer)),
        @('advapi32.dll', 'SetFileSecurityW', [int], @([string], [uint32], $pointer)),
        @('iphlpapi.dll', 'ResolveIpNetEntry2', [int], @($pointer, $pointer)),
        @('iphlpapi.dll', 'SendARP', [int], @([uint32], [uint32], $pointer, [uint32].MakeByRefType())),
        @('kernel32.dll', 'CreateProcessW', [int], @([string], $pointer, $pointer, $pointer, [int], [uint32], $pointer, [string], $pointer, $pointer))
    )
    foreach ($function in $functions) {
        $method = $type.DefinePInvokeMethod($function[1], $function[0], [System.Reflection.MethodAttributes]'Public, Static, PinvokeImpl',
            [System.Reflection.CallingConventions]::Standard, $function[2], [type[]]$function[3],
            [System.Runtime.InteropServices.CallingConvention]::Winapi, [System.Runtime.InteropServices.CharSet]::Unicode)
        $method.SetImplementationFlags([System.Reflection.MethodImplAttributes]::PreserveSig)
    }
    $script:Native = $type.CreateType()
    return $script:Native
}

# ---- registry ------------------------------------------------------------------------------------------------------------------------------

# HIVE\PATH in one spelling; $null for what is no key of this machine or of its accounts.
function Get-KeyPath([string]$Key) {
    if ($Key -notmatch '^(HKLM|HKEY_LOCAL_MACHINE|HKU|HKEY_USERS):?\\+([^\\].*?)\\*$') { return $null }
    $hive = @{ HKLM = 'HKLM'; HKEY_LOCAL_MACHINE = 'HKLM'; HKU = 'HKU'; HKEY_USERS = 'HKU' }[$Matches[1].ToUpperInvariant()]
    return $hive + '\' + $Matches[2]
}

function Open-Key([string]$Path, [switch]$Write) {
    $hive, $below = $Path.Split([char[]]'\', 2)
    if ($Write) { return $script:Hives[$hive].CreateSubKey($below) }
    return $script:Hives[$hive].OpenSubKey($below)
}

# What the caller gave as data, in the form of a state; throws one sentence.
function ConvertTo-RegistryData($Data, [string]$Type, [string]$Where) {
    if ($Type -eq 'multistring') { return , @(@($Data) | ForEach-Object { "=$_" }) }
    if ($Type -eq 'binary') {
        $bytes = @()
        if ($Data -is [System.Collections.IList]) { $bytes = @($Data) }
        else {
            $hex = "$Data" -replace '^hex:' -replace '[\s,]'
            if ($hex -notmatch '^([0-9A-Fa-f]{2})*$') { throw "$Where must be hexadecimal bytes, not '$Data'." }
            for ($at = 0; $at -lt $hex.Length; $at += 2) { $bytes += [Convert]::ToByte($hex.Substring($at, 2), 16) }
        }
        $text = ''
        foreach ($byte in $bytes) {
            $number = 0
            if (-not [int]::TryParse("$byte", [ref]$number) -or $number -lt 0 -or $number -gt 255) { throw "$Where must be bytes from 0 to 255, not '$byte'." }
            $text += $number.ToString('x2')
        }
        return $text
    }
    if ($Type -eq 'dword' -or $Type -eq 'qword') {
        $bits = @{ dword = 32; qword = 64 }[$Type]
        $number = [decimal]0
        $read = [decimal]::TryParse("$Data", [System.Globalization.NumberStyles]'Integer', [cultureinfo]::InvariantCulture, [ref]$number)
        if (-not $read -and "$Data" -match '^0[xX][0-9A-Fa-f]{1,16}$') { $number = [decimal][Convert]::ToUInt64("$Data".Substring(2), 16); $read = $true }
        $top = [decimal][Math]::Pow(2, 16) * [decimal][Math]::Pow(2, 16)
        if ($bits -eq 64) { $top *= $top }
        if (-not $read -or $number -ge $top -or $number -lt - $top / 2) { throw "$Where must be a whole number of $bits bits, not '$Data'." }
        if ($number -lt 0) { $number += $top }
        return $number.ToString([cultureinfo]::InvariantCulture)
    }
    if ($Data -is [System.Collections.IList]) { throw "$Where must be one text; for a list use type multistring." }
    if ($Data -is [bool]) { throw "$Where must be text or a number; put '$Data' in quotes." }
    return "=$Data"
}

function Read-Registry($Item) {
    $state = @{ exists = $false; type = $null; data = $null; missing_keys = @() }
    $key = Open-Key $Item['key']
    if ($null -eq $key) {
        $path = $Item['key']
        while ($path.Contains('\')) {
            $found = Open-Key $path
            if ($null -ne $found) { $found.Dispose(); break }
            $state['missing_keys'] += $path
            $path = $path.Substring(0, $path.LastIndexOf('\'))
        }
        return $state
    }
    try {
        $data = $key.GetValue($Item['name'], $null, [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames)
        if ($null -eq $data) { return $state }
        $state['exists'] = $true
        $state['type'] = "$($key.GetValueKind($Item['name']))".ToLowerInvariant()
        if ($data -is [byte[]]) { $state['data'] = [BitConverter]::ToString($data).Replace('-', '').ToLowerInvariant() }
        elseif ($data -is [string[]]) { $state['data'] = @($data | ForEach-Object { "=$_" }) }
        elseif ($data -is [string]) { $state['data'] = "=$data" }
        elseif ($data -is [int]) { $state['data'] = [BitConverter]::ToUInt32([BitConverter]::GetBytes($data), 0).ToString([cultureinfo]::InvariantCulture) }
        else { $state['data'] = [BitConverter]::ToUInt64([BitConverter]::GetBytes([long]$data), 0).ToString([cultureinfo]::InvariantCulture) }
    } finally { $key.Dispose() }
    return $state
}

function Write-Registry($Item, $State) {
    if (-not $State['exists']) {
        $key = Open-Key $Item['key']
        if ($null -ne $key) {
            $key.Dispose()
            $key = Open-Key $Item['key'] -Write
            $key.DeleteValue($Item['name'], $false)
            $key.Dispose()
        }
        foreach ($path in @($State['missing_keys'])) {
            if (-not $path) { continue }
            $key = Open-Key $path
            if ($null -eq $key) { continue }
            $used = $key.ValueCount + $key.SubKeyCount
            $key.Dispose()
            if ($used) { break }
            $hive, $below = $path.Split([char[]]'\', 2)
            $script:Hives[$hive].DeleteSubKey($below, $false)
        }
        return
    }
    $data = $State['data']
    switch ($State['type']) {
        'multistring' { $data = [string[]]@(@($data) | Where-Object { $null -ne $_ } | ForEach-Object { $_.Substring(1) }) }
        'binary' {
            $bytes = New-Object byte[] ($data.Length / 2)
            for ($at = 0; $at -lt $bytes.Length; $at++) { $bytes[$at] = [Convert]::ToByte($data.Substring(2 * $at, 2), 16) }
            $data = $bytes
        }
        'dword' { $data = [BitConverter]::ToInt32([BitConverter]::GetBytes([uint32]$data), 0) }
        'qword' { $data = [BitConverter]::ToInt64([BitConverter]::GetBytes([uint64]$data), 0) }
        default { $data = $data.Substring(1) }
    }
    $key = Open-Key $Item['key'] -Write
    try { $key.SetValue($Item['name'], $data, [Microsoft.Win32.RegistryValueKind]$script:Types[$State['type']]) } finally { $key.Dispose() }
}

# ---- services ------------------------------------------------------------------------------------------------------------------------------

function Get-ServiceKey([string]$Name) { 'HKLM\SYSTEM\CurrentControlSet\Services\' + $Name }

# What a handle of the service manager is needed for; $Use gets the handle.
function Use-Service([string]$Name, [uint32]$Access, [scriptblock]$Use) {
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
    $controller = New-Object System.ServiceProcess.ServiceController $Name
    try {
        $text = "$($controller.Status)"
        return ($text -creplace '(?<=[a-z])([A-Z])', '_$1').ToLowerInvariant()
    } catch { return $null } finally { $controller.Dispose() }
}

function Read-Service($Item) {
    $state = @{ exists = $false; start_type = $null; delayed = $null; failure_actions = $null; state = $null }
    $key = Open-Key (Get-ServiceKey $Item['name'])
    if ($null -eq $key) { return $state }
    try {
        $start = $key.GetValue('Start')
        if ($null -eq $start -or $null -eq $key.GetValue('Type') -and $null -eq $key.GetValue('ImagePath')) { return $state }
        $state['exists'] = $true
        $state['start_type'] = $script:StartTypes[[int]$start]
        $state['delayed'] = $key.GetValue('DelayedAutostart')
        if ($start -eq 2 -and $state['delayed'] -eq 1) { $state['start_type'] = 'delayed' }
        $actions = $key.GetValue('FailureActions')
        if ($actions -is [byte[]]) { $state['failure_actions'] = [BitConverter]::ToString($actions).Replace('-', '').ToLowerInvariant() }
    } finally { $key.Dispose() }
    $state['state'] = Get-ServiceState $Item['name']
    return $state
}

# Restart after one minute, three times; counted anew after a day.
function Get-RestartAction { '805101000000000000000000030000001400000001000000' + '60ea00000100000060ea00000100000060ea0000' }

# Whether a service comes back after every failure: the first action is a restart, and none switches that off later.
function Test-RestartAction([string]$Hex) {
    if ($Hex.Length -lt 56) { return $false }
    $count = [BitConverter]::ToInt32((Get-Bytes $Hex.Substring(24, 8)), 0)
    if ($count -lt 1 -or $Hex.Length -lt 40 + 16 * $count) { return $false }
    for ($action = 0; $action -lt $count; $action++) {
        if ([BitConverter]::ToInt32((Get-Bytes $Hex.Substring(40 + 16 * $action, 8)), 0) -ne 1) { return $false }
    }
    return $true
}

function Get-Bytes([string]$Hex) {
    $bytes = New-Object byte[] ($Hex.Length / 2)
    for ($at = 0; $at -lt $bytes.Length; $at++) { $bytes[$at] = [Convert]::ToByte($Hex.Substring(2 * $at, 2), 16) }
    return , $bytes
}

function Set-StartType([string]$Name, [string]$StartType) {
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

function Set-FailureAction([string]$Name, $Hex) {
    $key = Open-Key (Get-ServiceKey $Name) -Write
    try {
        if ($null -eq $Hex) { $bytes = New-Object byte[] 20 } else { $bytes = Get-Bytes $Hex }
        $count = [BitConverter]::ToInt32($bytes, 12)
        $size = [IntPtr]::Size
        # SERVICE_FAILURE_ACTIONSW, and the actions behind it; texts are left as they are.
        $buffer = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(64 + 8 * $count)
        try {
            for ($at = 0; $at -lt 64; $at += 4) { [System.Runtime.InteropServices.Marshal]::WriteInt32($buffer, $at, 0) }
            [System.Runtime.InteropServices.Marshal]::WriteInt32($buffer, 0, [BitConverter]::ToInt32($bytes, 0))
            [System.Runtime.InteropServices.Marshal]::WriteInt32($buffer, 3 * $size, $count)
            [System.Runtime.InteropServices.Marshal]::WriteIntPtr($buffer, 4 * $size, [IntPtr]($buffer.ToInt64() + 48))
            if ($count) { [System.Runtime.InteropServices.Marshal]::Copy($bytes, 20, [IntPtr]($buffer.ToInt64() + 48), 8 * $count) }
            # Start is needed beside the change of configuration, since the actions start the service.
            Use-Service $Name 0x12 { param($Native, $Handle) [void]$Native::ChangeServiceConfig2W($Handle, 2, $buffer) }
        } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($buffer) }
        if ($null -eq $Hex) { $key.DeleteValue('FailureActions', $false) }
        else {
            $now = $key.GetValue('FailureActions')
            $text = ''
            if ($now -is [byte[]]) { $text = [BitConverter]::ToString($now).Replace('-', '').ToLowerInvariant() }
            # A service manager that does not know the call reads them from here when it starts.
            if ($text -ne $Hex) { $key.SetValue('FailureActions', $bytes, 'Binary') }
        }
    } finally { $key.Dispose() }
}

function Wait-Service([string]$Name, [string[]]$States, [double]$Seconds) {
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        $state = Get-ServiceState $Name
        if ($States -contains $state) { return $state }
        if ($clock.Elapsed.TotalSeconds -ge $Seconds) { return $state }
        [System.Threading.Thread]::Sleep(250)
    }
}

function Start-One([string]$Name) {
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

# Stops a service and those that depend on it; the names of the latter are added to Stopped, each before it is stopped.
function Stop-One([string]$Name, $Stopped) {
    $controller = New-Object System.ServiceProcess.ServiceController $Name
    try {
        foreach ($other in @($controller.DependentServices | Where-Object { "$($_.Status)" -eq 'Running' } | ForEach-Object { $_.ServiceName })) {
            if ((Get-ServiceState $other) -ne 'running') { continue }
            [void]$Stopped.Add($other)
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

# Starts what Stop-One stopped besides, the last one first.
function Start-Again($Stopped, $Notes) {
    for ($at = $Stopped.Count - 1; $at -ge 0; $at--) {
        try { Start-One $Stopped[$at] } catch { [void]$Notes.Add("$($Stopped[$at]) was stopped along with it and did not start again: $(Get-Cause $_)") }
    }
}

# Stops and starts a service. Those that depend on it run again afterwards, even when it does not.
function Restart-One([string]$Name, $Notes) {
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

# Microsoft's way for a service that never gets past StopPending: restart RdAgent, wait, then end the process.
function Resolve-StopPending([string]$Name, $Notes) {
    $helper = $script:StopPendingRestart
    if ($helper -and $helper -ne $Name -and (Get-ServiceState $helper) -eq 'running') {
        Restart-One $helper $Notes
        [void]$Notes.Add("$Name hung in StopPending: $helper was restarted.")
    }
    $state = Wait-Service $Name @('stopped', 'running') $script:StopPendingWait
    if ($state -ne 'stop_pending') { return }
    $key = Open-Key (Get-ServiceKey $Name)
    $type = $key.GetValue('Type')
    $key.Dispose()
    if (-not ([int]$type -band 0x10)) { throw "The service $Name hangs in StopPending and shares its process with others, so the process is not ended; restart the guest." }
    $id = Get-ServicePid $Name
    if (-not $id) { throw "The service $Name hangs in StopPending and has no process; restart the guest." }
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
    if ($now['state'] -eq 'stop_pending') { Resolve-StopPending $name $Notes; $now = Read-Service $Item }
    if ($wanted -eq 'running') {
        if ($State['restart'] -and $now['state'] -eq 'running') { Restart-One $name $Notes }
        else { Start-One $name }
    } elseif ($wanted -eq 'stopped' -and $now['state'] -ne 'stopped') { Stop-One $name (New-Object System.Collections.ArrayList) }
}

# ---- folders -------------------------------------------------------------------------------------------------------------------------------

# The entries of an access list, as texts that do not depend on spelling or order; $null when there is no list.
function Get-Entry([string]$Sddl) {
    if (-not $Sddl) { return $null }
    try { $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor $Sddl } catch { return $null }
    if ($null -eq $descriptor.DiscretionaryAcl) { return $null }
    return , @($descriptor.DiscretionaryAcl | ForEach-Object { "$($_.AceQualifier);$($_.AceFlags);$($_.AccessMask);$($_.SecurityIdentifier)" } | Sort-Object -Unique)
}

function Test-SameSddl([string]$Left, [string]$Right) {
    $both = @((Get-Entry $Left), (Get-Entry $Right))
    if ($null -eq $both[0] -or $null -eq $both[1]) { return $false }
    return ($both[0] -join '|') -ceq ($both[1] -join '|')
}

# Rights that a list grants on the folder itself, by SID; $null when it denies anybody anything.
function Get-Grant([string]$Sddl) {
    $grants = @{}
    $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor $Sddl
    foreach ($ace in $descriptor.DiscretionaryAcl) {
        # Entries that only what is below inherits (8) say nothing about the folder.
        if ([int]$ace.AceFlags -band 8) { continue }
        $who = "$($ace.SecurityIdentifier)"
        if ("$($ace.AceQualifier)" -eq 'AccessDenied') { return $null }
        $mask = [int]$ace.AccessMask
        if ($mask -band 0x10000000) { $mask = $mask -bor 0x1F01FF }
        if ($grants.ContainsKey($who)) { $mask = $mask -bor $grants[$who] }
        $grants[$who] = $mask
    }
    return $grants
}

# Whether a list denies nobody anything and grants everyone that Wanted names at least what is asked. SYSTEM and the administrators can each
# become the other, so one of them will do.
function Test-SddlCover([string]$Sddl, [string]$Wanted) {
    if ($null -eq (Get-Entry $Sddl)) { return $false }
    $present = Get-Grant $Sddl
    if ($null -eq $present) { return $false }
    $asked = Get-Grant $Wanted
    foreach ($who in $asked.Keys) {
        $granted = 0
        foreach ($sid in $who, 'S-1-5-18', 'S-1-5-32-544') {
            if (($sid -eq $who -or @('S-1-5-18', 'S-1-5-32-544') -contains $who) -and $present.ContainsKey($sid)) { $granted = $granted -bor $present[$sid] }
        }
        if (($asked[$who] -band $granted) -ne $asked[$who]) { return $false }
    }
    return $true
}

function Read-FolderAcl($Item) {
    if (-not [System.IO.Directory]::Exists($Item['path'])) { return @{ exists = $false; sddl = $null } }
    $parts = [System.Security.AccessControl.AccessControlSections]'Access, Owner, Group'
    $acl = New-Object System.Security.AccessControl.DirectorySecurity($Item['path'], $parts)
    return @{ exists = $true; sddl = $acl.GetSecurityDescriptorSddlForm($parts) }
}

function Set-FolderSddl([string]$Path, [string]$Sddl) {
    $acl = New-Object System.Security.AccessControl.DirectorySecurity
    $parts = [System.Security.AccessControl.AccessControlSections]::Access
    $acl.SetSecurityDescriptorSddlForm($Sddl, $parts)
    $folder = New-Object System.IO.DirectoryInfo $Path
    # A method of the folder on Windows PowerShell, an extension on PowerShell 7.
    if ($folder.PSObject.Methods['SetAccessControl']) { $folder.SetAccessControl($acl) }
    else { [System.IO.FileSystemAclExtensions]::SetAccessControl($folder, $acl) }
}

function Write-FolderAcl($Item, $State) {
    if (-not $State['exists']) { return }
    # Not SetNamedSecurityInfo, as .NET would: that one also changes what inherits from the folder.
    $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor $State['sddl']
    $bytes = New-Object byte[] $descriptor.BinaryLength
    $descriptor.GetBinaryForm($bytes, 0)
    $native = Get-Native
    $buffer = [System.Runtime.InteropServices.Marshal]::AllocHGlobal($bytes.Length)
    try {
        [System.Runtime.InteropServices.Marshal]::Copy($bytes, 0, $buffer, $bytes.Length)
        if (-not $native::SetFileSecurityW($Item['path'], 4, $buffer)) { throw "Windows refused the access list for $($Item['path']); administrator's rights are needed." }
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($buffer) }
}

# ---- firewall ------------------------------------------------------------------------------------------------------------------------------

function Read-FirewallRule($Item) {
    $rule = Get-NetFirewallRule -Name $Item['name'] -ErrorAction SilentlyContinue
    if ($null -eq $rule) { return @{ exists = $false; enabled = $null } }
    return @{ exists = $true; enabled = "$(@($rule)[0].Enabled)" -eq 'True' }
}

function Write-FirewallRule($Item, $State) {
    if (-not $State['exists']) { return }
    if ($State['enabled']) { Enable-NetFirewallRule -Name $Item['name'] -ErrorAction Stop }
    else { Disable-NetFirewallRule -Name $Item['name'] -ErrorAction Stop }
}

# ---- DHCP ----------------------------------------------------------------------------------------------------------------------------------

function ConvertTo-PrefixLength([string]$Mask) {
    $length = 0
    foreach ($byte in ([System.Net.IPAddress]$Mask).GetAddressBytes()) { for ($bit = 7; $bit -ge 0; $bit--) { $length += ($byte -shr $bit) -band 1 } }
    return $length
}

function Read-Dhcp($Item) {
    $key = Open-Key ('HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\' + $Item['guid'])
    if ($null -eq $key) { return @{ exists = $false; enabled = $null; addresses = @(); gateways = @() } }
    try {
        $state = @{ exists = $true; enabled = $key.GetValue('EnableDHCP') -eq 1; addresses = @(); gateways = @() }
        if ($state['enabled']) { return $state }
        $masks = @($key.GetValue('SubnetMask') | Where-Object { $_ })
        $number = 0
        foreach ($address in @($key.GetValue('IPAddress') | Where-Object { $_ -and $_ -ne '0.0.0.0' })) {
            $state['addresses'] += "$address/$(ConvertTo-PrefixLength $masks[$number])"
            $number++
        }
        $state['gateways'] = @($key.GetValue('DefaultGateway') | Where-Object { $_ })
        return $state
    } finally { $key.Dispose() }
}

# Interfaces by index and by GUID.
function Get-InterfaceMap {
    if ($null -eq $script:Interfaces) {
        $map = @{ guid = @{}; index = @{} }
        foreach ($adapter in @(Get-NetAdapter -ErrorAction SilentlyContinue)) {
            if ($null -eq $adapter -or -not $adapter.InterfaceGuid) { continue }
            $guid = "$($adapter.InterfaceGuid)".ToUpperInvariant()
            $map['guid'][[int]$adapter.ifIndex] = $guid
            $map['index'][$guid] = [int]$adapter.ifIndex
        }
        $script:Interfaces = $map
    }
    return $script:Interfaces
}

# GUID of an interface, $null for one that is no adapter.
function Get-InterfaceGuid([int]$Index) { (Get-InterfaceMap)['guid'][$Index] }

# The present index of an item's interface, $null when the interface is gone.
function Get-InterfaceIndex($Item) {
    if (-not $Item['guid']) { return [int]$Item['index'] }
    return (Get-InterfaceMap)['index']["$($Item['guid'])".ToUpperInvariant()]
}

function Write-Dhcp($Item, $State) {
    $index = Get-InterfaceIndex $Item
    if ($null -eq $index) { throw "The interface $($Item['guid']) is not there any more." }
    if ($State['enabled']) {
        Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Enabled -ErrorAction Stop
        return
    }
    $gateways = @($State['gateways'] | Where-Object { $_ })
    $where = @{ InterfaceIndex = $index; ErrorAction = 'SilentlyContinue' }
    Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Disabled -ErrorAction Stop
    # The lease's address and default route may linger, and keep the same ones from being set. Then they are removed, and it is tried again.
    for ($try = 1; $true; $try++) {
        try {
            $first = $true
            foreach ($text in @($State['addresses'])) {
                $address, $length = $text.Split('/')
                $more = @{}
                if ($try -gt 1) { Remove-NetIPAddress @where -IPAddress $address -Confirm:$false }
                if ($first -and $gateways.Count) {
                    $kept = 0
                    foreach ($store in 'PersistentStore', 'ActiveStore') {
                        foreach ($route in @(Get-NetRoute @where -DestinationPrefix '0.0.0.0/0' -PolicyStore $store)) {
                            if ($null -eq $route -or $route.NextHop -ne $gateways[0]) { continue }
                            if ($try -gt 1) { Remove-NetRoute @where -DestinationPrefix '0.0.0.0/0' -NextHop $gateways[0] -PolicyStore $store -Confirm:$false }
                            elseif ($store -eq 'PersistentStore') { $kept++ }
                        }
                    }
                    if (-not $kept) { $more['DefaultGateway'] = $gateways[0] }
                }
                $first = $false
                [void](New-NetIPAddress -InterfaceIndex $index -IPAddress $address -PrefixLength $length @more -ErrorAction Stop)
            }
            return
        } catch {
            if ($try -lt 4) { [System.Threading.Thread]::Sleep(2000); continue }
            # An interface that has neither a lease nor an address is the worst of all.
            Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Enabled -ErrorAction Stop
            throw "The static address could not be set, so DHCP was left on: $(Get-Cause $_)"
        }
    }
}

# ---- routes --------------------------------------------------------------------------------------------------------------------------------

# Both stores, read once: PREFIX|INDEX|HOP to the metrics.
function Get-RouteTable([switch]$Fresh) {
    if ($null -ne $script:Routes -and -not $Fresh) { return $script:Routes }
    $table = @{}
    foreach ($store in 'ActiveStore', 'PersistentStore') {
        $column = $store.Replace('Store', '').ToLowerInvariant()
        foreach ($route in @(Get-NetRoute -PolicyStore $store -ErrorAction SilentlyContinue)) {
            if ($null -eq $route) { continue }
            $key = "$($route.DestinationPrefix)|$($route.InterfaceIndex)|$($route.NextHop)".ToLowerInvariant()
            if (-not $table.ContainsKey($key)) {
                # Windows Server 2012 R2 has no such property.
                $metric = $route.PSObject.Properties['InterfaceMetric']
                if ($null -ne $metric) { $metric = $metric.Value }
                $table[$key] = @{
                    prefix = "$($route.DestinationPrefix)".ToLowerInvariant(); index = [int]$route.InterfaceIndex; hop = "$($route.NextHop)".ToLowerInvariant()
                    alias = "$($route.InterfaceAlias)"; interface_metric = $metric; active = $null; persistent = $null
                }
            }
            $table[$key][$column] = [int]$route.RouteMetric
        }
    }
    $script:Routes = $table
    return $table
}

function Get-RouteKey($Item) { "$($Item['prefix'])|$(Get-InterfaceIndex $Item)|$($Item['hop'])" }

# The item of a route, from its key in the table.
function Get-RouteItem([string]$Key) {
    $prefix, $index, $hop = $Key.Split('|')
    return @{ kind = 'route'; prefix = $prefix; index = [int]$index; guid = Get-InterfaceGuid ([int]$index); hop = $hop }
}

# Keys of the table to those of the list of own routes, and back; what has no adapter stays as it is.
function ConvertTo-OwnRoute([string]$Key) {
    if ($Key -notmatch '\|\d+\|') { return $Key }
    $item = Get-RouteItem $Key
    if ($item['guid']) { return "$($item['prefix'])|$($item['guid'])|$($item['hop'])" }
    return $Key
}

function ConvertFrom-OwnRoute([string]$Own) {
    $prefix, $interface, $hop = $Own.Split('|')
    $index = (Get-InterfaceMap)['index'][$interface]
    if ($null -ne $index) { return "$prefix|$index|$hop" }
    return $Own
}

function Read-Route($Item) {
    $found = (Get-RouteTable)[(Get-RouteKey $Item)]
    if ($null -eq $found) { return @{ active = $null; persistent = $null } }
    return @{ active = $found['active']; persistent = $found['persistent'] }
}

function Write-Route($Item, $State) {
    $now = Read-Route $Item
    $index = Get-InterfaceIndex $Item
    if ($null -eq $index) {
        if ($null -eq $State['active'] -and $null -eq $State['persistent']) { return }
        throw "The interface $($Item['guid']) is not there any more."
    }
    $what = @{ DestinationPrefix = $Item['prefix']; InterfaceIndex = $index; NextHop = $Item['hop']; ErrorAction = 'Stop' }
    if ($null -eq $now['active'] -and $null -eq $now['persistent'] -and $null -ne $State['active'] -and $State['active'] -eq $State['persistent']) {
        [void](New-NetRoute @what -RouteMetric $State['active'] -Confirm:$false)
    } else {
        foreach ($column in 'active', 'persistent') {
            $store = @{ active = 'ActiveStore'; persistent = 'PersistentStore' }[$column]
            if ($null -eq $State[$column]) {
                if ($null -ne $now[$column]) { Remove-NetRoute @what -PolicyStore $store -Confirm:$false }
            } elseif ($null -eq $now[$column]) { [void](New-NetRoute @what -PolicyStore $store -RouteMetric $State[$column] -Confirm:$false) }
            elseif ($now[$column] -ne $State[$column]) { Set-NetRoute @what -PolicyStore $store -RouteMetric $State[$column] -Confirm:$false }
        }
    }
    $key = Get-RouteKey $Item
    $table = Get-RouteTable
    if (-not $table.ContainsKey($key)) { $table[$key] = @{ prefix = $Item['prefix']; index = $index; hop = $Item['hop']; alias = ''; interface_metric = $null } }
    $table[$key]['active'] = $State['active']
    $table[$key]['persistent'] = $State['persistent']
}

function Get-RoutesFile { [System.IO.Path]::Combine($script:Base, 'routes.json') }

function Read-RoutesList {
    $file = Get-RoutesFile
    if (-not [System.IO.File]::Exists($file)) { return @{ routes = @() } }
    try { $found = ConvertTo-Plain (ConvertFrom-Json ([System.IO.File]::ReadAllText($file))) } catch { throw "$file cannot be read ($(Get-Cause $_)) Correct or delete it: it lists the routes that this collection added." }
    return @{ routes = @($found['routes'] | Where-Object { $_ }) }
}

function Write-RoutesList($State) {
    $file = Get-RoutesFile
    $routes = @($State['routes'] | Where-Object { $_ })
    if (-not $routes.Count) {
        if ([System.IO.File]::Exists($file)) { [System.IO.File]::Delete($file) }
        Remove-Home
        return
    }
    [void](Initialize-Home)
    Write-Json $file @{ routes = $routes }
}

# ---- packages ------------------------------------------------------------------------------------------------------------------------------

function Read-Package($Item) {
    $found = @()
    foreach ($root in 'HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall', 'HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall') {
        $key = Open-Key $root
        if ($null -eq $key) { continue }
        foreach ($name in $key.GetSubKeyNames()) {
            $entry = $key.OpenSubKey($name)
            if ($null -eq $entry) { continue }
            $shown = "$($entry.GetValue('DisplayName'))"
            if ($shown.StartsWith($Item['name'], [System.StringComparison]::OrdinalIgnoreCase) -and $name -match '^\{[0-9A-Fa-f-]{36}\}$') {
                $found += "$name|$($entry.GetValue('DisplayVersion'))|$shown"
            }
            $entry.Dispose()
        }
        $key.Dispose()
    }
    return @{ installed = @($found | Sort-Object -Unique) }
}

# ---- all kinds -----------------------------------------------------------------------------------------------------------------------------

function Read-State($Item) {
    switch ($Item['kind']) {
        'registry' { return Read-Registry $Item }
        'service' { return Read-Service $Item }
        'folder_acl' { return Read-FolderAcl $Item }
        'firewall_rule' { return Read-FirewallRule $Item }
        'dhcp' { return Read-Dhcp $Item }
        'route' { return Read-Route $Item }
        'routes_list' { return Read-RoutesList }
        'package' { return Read-Package $Item }
    }
    throw "There is no kind '$($Item['kind'])'."
}

function Write-State($Item, $State, $Notes) {
    switch ($Item['kind']) {
        'registry' { Write-Registry $Item $State }
        'service' { Write-Service $Item $State $Notes }
        'folder_acl' { Write-FolderAcl $Item $State }
        'firewall_rule' { Write-FirewallRule $Item $State }
        'dhcp' { Write-Dhcp $Item $State }
        'route' { Write-Route $Item $State }
        'routes_list' { Write-RoutesList $State }
    }
}

function Get-Label($Item) {
    switch ($Item['kind']) {
        'registry' { $name = $Item['name']; if (-not $name) { $name = '(default)' }; return "$($Item['key'])\$name" }
        'service' { return "service $($Item['name'])" }
        'folder_acl' { return "access rights of $($Item['path'])" }
        'firewall_rule' { return "firewall rule $($Item['name'])" }
        'dhcp' { return "DHCP of interface $($Item['index'])" }
        'route' { return "route $($Item['prefix']) via $($Item['hop']) on interface $($Item['index'])" }
        'routes_list' { return 'list of added routes' }
        'package' { return "package $($Item['name'])" }
    }
}

# Credentials of an address, such as a proxy's, with and without a scheme.
function Hide-Secret([string]$Text) { [regex]::Replace([regex]::Replace($Text, '(?<=//)[^/\s@]+(?=@)', '***'), '(?<=^|[\s=;,/])[^\s=;,/@]+:[^\s@]*(?=@)', '***') }

# A state as a person reads it; Only names the parts that count.
function Get-Text($Item, $State, $Only) {
    switch ($Item['kind']) {
        'registry' {
            if (-not $State['exists']) { return 'absent' }
            $data = @($State['data'] | ForEach-Object { "$_" -replace '^=' }) -join ', '
            return Hide-Secret "$($State['type']) $data"
        }
        'route' {
            $parts = @(foreach ($store in 'active', 'persistent') { if ($null -ne $State[$store]) { "$store (metric $($State[$store]))" } })
            if ($parts.Count) { return $parts -join ', ' }
            return 'absent'
        }
        'routes_list' { return "$(@($State['routes'] | Where-Object { $_ }).Count) routes" }
        'package' { if (@($State['installed']).Count) { return @($State['installed']) -join ', ' }; return 'absent' }
    }
    if ($State.ContainsKey('exists') -and -not $State['exists']) { return 'absent' }
    $parts = @()
    foreach ($name in @($State.Keys | Sort-Object)) {
        if (@('exists', 'restart', 'at_least', 'delayed') -contains $name -or ($Only -and $Only -notcontains $name)) { continue }
        $value = $State[$name]
        if ($value -is [bool]) { $value = "$value".ToLowerInvariant() }
        if ($name -eq 'failure_actions') {
            if ($value -and (Test-RestartAction $value)) { $value = 'restart' } elseif ($value) { $value = 'other' } else { $value = 'none' }
        }
        $parts += "$name=$(@($value) -join ', ')"
    }
    return $parts -join ' '
}

# One line of the report: what is set, and to what where that is short.
function Get-ChangeText($Item, $Wanted) {
    $label = Get-Label $Item
    if ($Wanted['restart'] -or @('folder_acl', 'route') -contains $Item['kind']) { return $label }
    $text = Get-Text $Item $Wanted @($Wanted.Keys)
    if ($text.Length -gt 80) { return $label }
    return "$label ($text)"
}

# ---- undo store ----------------------------------------------------------------------------------------------------------------------------

# The folder of this collection, for SYSTEM and administrators only; refused when somebody else made it.
function Initialize-Home([string]$Below) {
    $wanted = @($script:Base)
    if ($Below) { $wanted += [System.IO.Path]::Combine($script:Base, $Below) }
    foreach ($path in $wanted) {
        if (-not [System.IO.Directory]::Exists($path)) {
            [void][System.IO.Directory]::CreateDirectory($path)
            Set-FolderSddl $path $script:OwnSddl
        }
        $acl = New-Object System.Security.AccessControl.DirectorySecurity($path, [System.Security.AccessControl.AccessControlSections]'Owner, Access')
        $owner = "$($acl.GetOwner([System.Security.Principal.SecurityIdentifier]))"
        $self = [System.Security.Principal.WindowsIdentity]::GetCurrent().User
        if (@('S-1-5-18', 'S-1-5-32-544', "$self") -notcontains $owner) {
            throw "$path belongs to $owner, neither to SYSTEM nor to the administrators, so nothing is kept there. Look at it and delete it, then run this again."
        }
        # Users may not write what is kept for undo.
        foreach ($rule in $acl.GetAccessRules($true, $true, [System.Security.Principal.SecurityIdentifier])) {
            if (@('S-1-5-18', 'S-1-5-32-544', "$self") -notcontains "$($rule.IdentityReference)" -and "$($rule.AccessControlType)" -eq 'Allow' -and
                ([int]$rule.FileSystemRights -band 0x10116)) {
                Set-FolderSddl $path $script:OwnSddl
                break
            }
        }
    }
    return $wanted[-1]
}

# Leaves no empty folder behind.
function Remove-Home {
    foreach ($path in [System.IO.Path]::Combine($script:Base, 'guard'), $script:Base) {
        if ([System.IO.Directory]::Exists($path) -and -not @([System.IO.Directory]::GetFileSystemEntries($path)).Count) { [System.IO.Directory]::Delete($path) }
    }
}

function Write-Json([string]$Path, $Value) {
    $temporary = $Path + '.new'
    [System.IO.File]::WriteAllText($temporary, (ConvertTo-Json $Value -Depth 8 -Compress), $script:Utf8)
    if ([System.IO.File]::Exists($Path)) { [System.IO.File]::Replace($temporary, $Path, [NullString]::Value) }
    else { [System.IO.File]::Move($temporary, $Path) }
}

function Get-UndoFolder { [System.IO.Path]::Combine($script:Base, 'undo') }

# All undo points, oldest first.
function Get-UndoPoint {
    $folder = Get-UndoFolder
    if (-not [System.IO.Directory]::Exists($folder)) { return }
    $points = @(foreach ($file in [System.IO.Directory]::GetFiles($folder, '*.json')) {
            try { ConvertTo-Plain (ConvertFrom-Json ([System.IO.File]::ReadAllText($file))) }
            catch { throw "The undo point $file cannot be read: $(Get-Cause $_) Move it away to go on without it." }
        })
    $points | Sort-Object -Property { [int]$_['sequence'] }
}

function Save-UndoPoint([string]$Remedy, $Items) {
    $folder = Initialize-Home 'undo'
    $sequence = 1
    foreach ($point in @(Get-UndoPoint)) { if ($null -ne $point -and [int]$point['sequence'] -ge $sequence) { $sequence = [int]$point['sequence'] + 1 } }
    $id = [DateTime]::UtcNow.ToString('yyyyMMddTHHmmssZ', [cultureinfo]::InvariantCulture) + '-' + $Remedy
    $number = 1
    $name = $id
    while ([System.IO.File]::Exists([System.IO.Path]::Combine($folder, $name + '.json'))) { $number++; $name = "$id-$number" }
    $point = @{ id = $name; sequence = $sequence; remedy = $Remedy; created_at = Get-Now; undone_at = $null; items = @($Items) }
    Write-Json ([System.IO.Path]::Combine($folder, $name + '.json')) $point
    return $point
}

function Update-UndoPoint($Point) { Write-Json ([System.IO.Path]::Combine((Get-UndoFolder), $Point['id'] + '.json')) $Point }

function Remove-UndoPoint($Point) {
    [System.IO.File]::Delete([System.IO.Path]::Combine((Get-UndoFolder), $Point['id'] + '.json'))
    if (-not @([System.IO.Directory]::GetFileSystemEntries((Get-UndoFolder))).Count) { [System.IO.Directory]::Delete((Get-UndoFolder)) }
    Remove-Home
}

# Puts the items of one point back, last first; returns what could not be.
function Restore-UndoPoint($Point) {
    $failed = @()
    $notes = New-Object System.Collections.ArrayList
    $items = @($Point['items'])
    for ($at = $items.Count - 1; $at -ge 0; $at--) {
        if ($items[$at]['kind'] -eq 'package') { continue }
        try { if (-not (Test-Same (Read-State $items[$at]) $items[$at]['before'])) { Write-State $items[$at] $items[$at]['before'] $notes } }
        catch { $failed += "$(Get-Label $items[$at]): $(Get-Cause $_)" }
    }
    if (-not $failed.Count) { $failed = @(Get-Unrestored $items | ForEach-Object { "$(Get-Label $_): is not as it was." }) }
    return $failed
}

# Looks at what was put back, and returns what is not as it was. The network may take a moment.
function Get-Unrestored($Items) {
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        $script:Routes = $null
        $wrong = @($Items | Where-Object { @('dhcp', 'route', 'registry', 'firewall_rule') -contains $_['kind'] -and -not (Test-Same (Read-State $_) $_['before']) })
        if (-not $wrong.Count -or $clock.Elapsed.TotalSeconds -gt 10) { break }
        [System.Threading.Thread]::Sleep(500)
    }
    return $wrong
}

# ---- guard: a process of the guest that puts everything back unless it is told in time that all is well -------------------------------------

function Get-GuardPath([string]$Token, [string]$End) { [System.IO.Path]::Combine($script:Base, 'guard', $Token + '.' + $End) }

function Get-PowerShellPath {
    $system = 'System32'
    if ([Environment]::Is64BitOperatingSystem -and -not [Environment]::Is64BitProcess) { $system = 'Sysnative' }
    return [System.IO.Path]::Combine($env:SystemRoot, "$system\WindowsPowerShell\v1.0\powershell.exe")
}

# Runs in the guard's own process.
function Invoke-Guard([string]$Token, [int]$Seconds) {
    $log = Get-GuardPath $Token 'log'
    $say = { param($Text) [System.IO.File]::AppendAllText($log, "$(Get-Now) $Text`r`n", $script:Utf8) }
    & $say "armed as process $PID"
    # The change itself may take a while; the time counts from its end.
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    $limit = $Seconds + 900
    $finished = $false
    while ($clock.Elapsed.TotalSeconds -lt $limit) {
        if ([System.IO.File]::Exists((Get-GuardPath $Token 'confirmed'))) { & $say 'confirmed'; return }
        if ([System.IO.File]::Exists((Get-GuardPath $Token 'dropped'))) { & $say 'dropped'; return }
        if (-not $finished -and [System.IO.File]::Exists((Get-GuardPath $Token 'finished'))) { $finished = $true; $limit = $clock.Elapsed.TotalSeconds + $Seconds }
        [System.Threading.Thread]::Sleep(250)
    }
    & $say 'not confirmed in time, putting back'
    $point = @(Get-UndoPoint | Where-Object { $_['id'] -eq $Token })[0]
    $failed = @(Restore-UndoPoint $point)
    # What could not be put back stays open for undo.
    if (-not $failed.Count) {
        $point['undone_at'] = Get-Now
        Update-UndoPoint $point
    }
    if ($failed.Count) { & $say "put back, except: $($failed -join ' ')" } else { & $say 'put back' }
    foreach ($end in 'ps1', 'psm1', 'finished') { [System.IO.File]::Delete((Get-GuardPath $Token $end)) }
}

function Get-GuardEnd([string]$Token) {
    $log = Get-GuardPath $Token 'log'
    if (-not [System.IO.File]::Exists($log)) { return $null }
    try {
        $stream = New-Object System.IO.FileStream($log, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, ([System.IO.FileShare]'ReadWrite, Delete'))
        $reader = New-Object System.IO.StreamReader $stream
        $lines = @($reader.ReadToEnd().Trim() -split "`r?`n")
        $reader.Dispose()
        return $lines[-1]
    } catch { return $null }
}

# Starts the guard and waits until it says that it watches; throws when it does not.
function Start-Guard($Point, [int]$Seconds) {
    $token = $Point['id']
    [void](Initialize-Home 'guard')
    foreach ($end in 'log', 'confirmed', 'finished', 'dropped') { [System.IO.File]::Delete((Get-GuardPath $token $end)) }
    # This very module, as Ansible sent it, and one call.
    $tree = (Get-Item function:Invoke-Guard).ScriptBlock.Ast
    while ($null -ne $tree.Parent) { $tree = $tree.Parent }
    $withMark = New-Object System.Text.UTF8Encoding $true
    $guard = Get-GuardPath $token 'ps1'
    $engine = Get-GuardPath $token 'psm1'
    [System.IO.File]::WriteAllText($engine, $tree.Extent.Text, $withMark)
    [System.IO.File]::WriteAllText($guard, "`$ErrorActionPreference = 'Stop'`r`nImport-Module '$($engine.Replace("'", "''"))'`r`nInvoke-Guard '$token' $Seconds`r`n", $withMark)
    $program = Get-PowerShellPath
    $line = "`"$program`" -NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$guard`""
    $native = Get-Native
    $command = [System.Runtime.InteropServices.Marshal]::StringToHGlobalUni($line)
    $start = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(256)
    try {
        # Out of the job of the remote shell, which ends all its processes; without a window of its own.
        $started = 0
        for ($at = 0; $at -lt 256; $at += 4) { [System.Runtime.InteropServices.Marshal]::WriteInt32($start, $at, 0) }
        [System.Runtime.InteropServices.Marshal]::WriteInt32($start, 0, @{ 8 = 104; 4 = 68 }[[IntPtr]::Size])
        $none = [IntPtr]::Zero
        $started = $native::CreateProcessW($program, $command, $none, $none, 0, [uint32]0x09000200, $none, $env:SystemRoot, $start, [IntPtr]($start.ToInt64() + 128))
        # Where the job lets nothing out (some SSH servers), WMI starts it. Inside the job it would end with the connection, just when it is needed.
        if (-not $started) {
            try { $started = (Invoke-CimMethod -ClassName Win32_Process -MethodName Create -Arguments @{ CommandLine = $line; CurrentDirectory = $env:SystemRoot }).ReturnValue -eq 0 }
            catch { $started = $false }
        }
    } finally {
        [System.Runtime.InteropServices.Marshal]::FreeHGlobal($command)
        [System.Runtime.InteropServices.Marshal]::FreeHGlobal($start)
    }
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($started -and $clock.Elapsed.TotalSeconds -lt 60) {
        if (Get-GuardEnd $token) { return }
        [System.Threading.Thread]::Sleep(100)
    }
    throw "The process on the guest that would put the change back did not start ($program), so nothing was changed."
}

# Tells the guard that all is well; throws one sentence when it is too late.
function Confirm-Guard([string]$Token) {
    if ($Token -match '^[a-z][a-z0-9_.]*$') {
        # Whoever lost the connection during the change does not know its token: the newest one of that repair is meant.
        $folder = [System.IO.Path]::GetDirectoryName((Get-GuardPath 'any' 'log'))
        $logs = @()
        if ([System.IO.Directory]::Exists($folder)) { $logs = @([System.IO.Directory]::GetFiles($folder, "*-$Token*.log") | Sort-Object) }
        if (-not $logs.Count) { throw "There is no change of $Token that waits for a confirmation." }
        $Token = [System.IO.Path]::GetFileNameWithoutExtension($logs[-1])
    }
    if ($Token -notmatch '^[0-9TZ]+-[\w.-]+$' -or -not [System.IO.File]::Exists((Get-GuardPath $Token 'log'))) { throw "There is no change '$Token' that waits for a confirmation." }
    $end = "$(Get-GuardEnd $Token)"
    if ($end -notmatch 'confirmed$' -or $end -match 'not confirmed') {
        [System.IO.File]::WriteAllText((Get-GuardPath $Token 'confirmed'), '')
        $clock = [System.Diagnostics.Stopwatch]::StartNew()
        while ($clock.Elapsed.TotalSeconds -lt 60) {
            $end = "$(Get-GuardEnd $Token)"
            if ($end -notmatch ' armed as process') { break }
            [System.Threading.Thread]::Sleep(100)
        }
    }
    if ($end -notmatch ' confirmed$') { throw "The change '$Token' was not confirmed in time; its guard says: $end" }
    foreach ($ending in 'log', 'confirmed', 'finished', 'ps1', 'psm1') { [System.IO.File]::Delete((Get-GuardPath $Token $ending)) }
    Remove-Home
}

# ---- the run of a writer -------------------------------------------------------------------------------------------------------------------

function Set-RepairLimit([int]$ServiceTimeout, [int]$StopPendingWait, [string]$StopPendingRestart) {
    $script:ServiceTimeout = $ServiceTimeout
    $script:StopPendingWait = $StopPendingWait
    $script:StopPendingRestart = $StopPendingRestart
}

# The second call of a change with confirm_s: tells the guard that all is well. Ends the module.
function Complete-Repair($Module) {
    $Module.Result['changed'] = $false
    $Module.Result['changes'] = @()
    $Module.Result['notes'] = @()
    $Module.Result['undo_point'] = $null
    $Module.Result['token'] = $null
    if ($Module.CheckMode) { $Module.ExitJson() }
    try { Confirm-Guard $Module.Params['confirm'] } catch { $Module.FailJson((Get-Cause $_), $_) }
    $Module.ExitJson()
}

# Changes: list of @{ item; wanted }. Ends the module.
function Invoke-Repair($Module, $Changes, [int]$ConfirmSeconds = 0) {
    $module = $Module
    $remedy = $module.Params['undo']
    if ($remedy -and $remedy -notmatch '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$') { $module.FailJson("undo is the name of a repair such as agent.service, not '$remedy'. Nothing was changed.") }
    if ($ConfirmSeconds -gt 0 -and -not $remedy) { $module.FailJson('confirm_s needs undo, since the state to go back to is kept there. Nothing was changed.') }
    $todo = New-Object System.Collections.ArrayList
    $before = New-Object System.Text.StringBuilder
    $after = New-Object System.Text.StringBuilder
    try {
        foreach ($change in $Changes) {
            $state = Read-State $change['item']
            if (Test-Same $state $change['wanted']) { continue }
            # What hangs between two states cannot be brought back.
            if ($change['item']['kind'] -eq 'service' -and @('running', 'stopped') -notcontains $state['state']) { $kept = $state.Clone(); $kept.Remove('state') } else { $kept = $state }
            [void]$todo.Add(@{ item = $change['item']; before = $kept; wanted = $change['wanted'] })
            $label = Get-Label $change['item']
            $only = @($change['wanted'].Keys)
            [void]$before.Append("${label}: $(Get-Text $change['item'] $state $only)`n")
            $what = Get-Text $change['item'] $change['wanted'] $only
            if ($change['wanted']['restart']) { $what += ' (restarted)' }
            [void]$after.Append("${label}: $what`n")
        }
    } catch { $module.FailJson("Could not look at the present state: $(Get-Cause $_) Nothing was changed.", $_) }
    $module.Result['changed'] = $todo.Count -gt 0
    $module.Result['changes'] = @($todo | Where-Object { $_['item']['kind'] -ne 'routes_list' } | ForEach-Object { Get-ChangeText $_['item'] $_['wanted'] })
    $module.Result['undo_point'] = $null
    $module.Result['notes'] = @()
    if ($todo.Count) { $module.Diff['before'] = $before.ToString(); $module.Diff['after'] = $after.ToString() }
    else { $module.Diff['before'] = ''; $module.Diff['after'] = '' }
    if (-not $todo.Count -or $module.CheckMode) { $module.ExitJson() }
    $notes = New-Object System.Collections.ArrayList
    $point = $null
    $done = New-Object System.Collections.ArrayList
    try {
        if ($remedy) {
            $items = @(foreach ($entry in $todo) { $copy = $entry['item'].Clone(); $copy['before'] = $entry['before']; $copy })
            $point = Save-UndoPoint $remedy $items
        }
        if ($ConfirmSeconds -gt 0) { Start-Guard $point $ConfirmSeconds }
        foreach ($entry in $todo) {
            [void]$done.Add($entry)
            Write-State $entry['item'] $entry['wanted'] $notes
        }
        $script:Routes = $null
        foreach ($entry in $todo) {
            $wanted = $entry['wanted'].Clone()
            $wanted.Remove('restart')
            if (-not (Test-Same (Read-State $entry['item']) $wanted)) {
                throw "$(Get-Label $entry['item']) is not what was written: $(Get-Text $entry['item'] (Read-State $entry['item']) @($wanted.Keys)) instead of $(Get-Text $entry['item'] $wanted @($wanted.Keys)); something else sets it too."
            }
        }
    } catch {
        $problem = $_
        $failed = @()
        $script:Routes = $null
        for ($at = $done.Count - 1; $at -ge 0; $at--) {
            try { if (-not (Test-Same (Read-State $done[$at]['item']) $done[$at]['before'])) { Write-State $done[$at]['item'] $done[$at]['before'] $notes } }
            catch { $failed += "$(Get-Label $done[$at]['item']): $(Get-Cause $_)" }
        }
        $text = Get-Cause $problem
        if ($null -ne $point) {
            if ($ConfirmSeconds -gt 0 -and [System.IO.Directory]::Exists([System.IO.Path]::Combine($script:Base, 'guard'))) { Stop-Guard $point['id'] }
            if (-not $failed.Count) { Remove-UndoPoint $point }
        }
        $module.Result['changed'] = $failed.Count -gt 0
        $module.Result['changes'] = @()
        if ($failed.Count) { $module.FailJson("$text What had been changed before could not be put back: $($failed -join ' ')", $problem) }
        if ($done.Count) { $module.FailJson("$text All that this call had changed was put back.", $problem) }
        $module.FailJson($text, $problem)
    }
    if ($null -ne $point) { $module.Result['undo_point'] = $point['id'] }
    $module.Result['notes'] = @($notes)
    if ($ConfirmSeconds -gt 0) {
        [System.IO.File]::WriteAllText((Get-GuardPath $point['id'] 'finished'), '')
        $module.Result['token'] = $point['id']
    }
    $module.ExitJson()
}

function Stop-Guard([string]$Token) {
    [System.IO.File]::WriteAllText((Get-GuardPath $Token 'dropped'), '')
    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    while ($clock.Elapsed.TotalSeconds -lt 5 -and "$(Get-GuardEnd $Token)" -match ' armed as process') { [System.Threading.Thread]::Sleep(100) }
    foreach ($ending in 'log', 'dropped', 'finished', 'confirmed', 'ps1', 'psm1') { [System.IO.File]::Delete((Get-GuardPath $Token $ending)) }
    Remove-Home
}

Export-ModuleMember -Function @('ConvertTo-Plain', 'Complete-Repair', 'ConvertTo-RegistryData', 'Get-Cause', 'Get-KeyPath', 'Get-Label', 'Get-Now', 'Get-RestartAction', 'Get-RouteItem', 'Get-RouteTable', 'ConvertTo-OwnRoute', 'ConvertFrom-OwnRoute', 'Get-Unrestored', 'Get-Native', 'Get-Text', 'Get-UndoPoint', 'Invoke-Guard', 'Invoke-Repair', 'Read-State', 'Save-UndoPoint', 'Set-RepairLimit',
    'Test-RestartAction', 'Test-Same', 'Update-UndoPoint', 'Write-State')
