#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Collect
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Native
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Registry
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Snapshot
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# Collects raw values only; plugins/plugin_utils/_windows makes facts of them on the controller. No CIM, no WMI, no event log, no compiler.

$spec = @{
    options = @{
        gather_subset = @{ type = 'list'; elements = 'str'; default = @('all'); choices = @('all', 'agent', 'extension', 'network', 'vss', 'load') }
        timeout_s = @{ type = 'float'; default = 3.0 }
        cpu_window_ms = @{ type = 'int'; default = 200 }
        log_bytes = @{ type = 'int'; default = 524288 }
        storage_endpoint = @{ type = 'str' }
        vss_writers = @{ type = 'str'; default = 'auto'; choices = @('auto', 'always', 'never') }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

if ("$($ExecutionContext.SessionState.LanguageMode)" -ne 'FullLanguage') {
    $module.FailJson("PowerShell runs in $($ExecutionContext.SessionState.LanguageMode) mode on this guest, which forbids what a collector needs. " +
        'Let the account that Ansible logs on with run in full language mode, then diagnose again.')
}
if ($module.Params.timeout_s -le 0 -or $module.Params.log_bytes -le 0 -or $module.Params.cpu_window_ms -lt 0) {
    $module.FailJson('timeout_s and log_bytes must be above 0, cpu_window_ms must not be negative.')
}

$timeoutMs = [int]($module.Params.timeout_s * 1000)
$logBytes = $module.Params.log_bytes
$subset = @($module.Params.gather_subset)
$wanted = @{}
foreach ($area in 'agent', 'extension', 'network', 'vss', 'load') { $wanted[$area] = $subset -contains 'all' -or $subset -contains $area }

$raw = @{
    collected_at = [DateTime]::UtcNow.ToString('o', [cultureinfo]::InvariantCulture)
    registry = @{}
    services = @{}
    files = @{}
    folders = @{}
    versions = @{}
    acls = @{}
    probes = @{}
    commands = @{}
    processes = @()
    denied = @()
    errors = @()
}
Start-Collection $raw $timeoutMs
$drive = $env:SystemDrive
$windir = $env:windir
# The 64-bit programs, whatever the bitness of this process.
$system32 = "$windir\System32"
if ([Environment]::Is64BitOperatingSystem -and -not [Environment]::Is64BitProcess) { $system32 = "$windir\Sysnative" }
$snapshot = 'Microsoft.Azure.RecoveryServices.VMSnapshot'
$plugins = "$drive\Packages\Plugins"
$logs = "$drive\WindowsAzure\Logs"
$services = 'HKLM\SYSTEM\CurrentControlSet\Services'
$state = @{ agent_log = $null; vss_pointed = $false; cpu_before = $null; cpu_at = 0 }
$native = $null
# What points at VSS as the reason of a failure.
$pointer = ('(?i)\b(vss|writers?|volume shadow)\b[^\r\n]{0,120}\b(fail\w*|error\w*|bad|time\w*|not respond\w*)|' +
    '\b(fail\w*|error\w*|bad|time\w*)\b[^\r\n]{0,120}\b(vss|writers?|volume shadow)\b|Vss(Writer|Service)InBadState|0x80042[0-9a-f]{3}')

# ---- load

# Idle, kernel (idle included), user, this process; all in 100 ns.
function Read-Cpu {
    $memory = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(24)
    try {
        if (-not $native::GetSystemTimes($memory, [IntPtr]::Add($memory, 8), [IntPtr]::Add($memory, 16))) { return $null }
        $own = [System.Diagnostics.Process]::GetCurrentProcess().TotalProcessorTime.Ticks
        return @(0, 8, 16 | ForEach-Object { [System.Runtime.InteropServices.Marshal]::ReadInt64($memory, $_) }) + @($own)
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($memory) }
}

# Total and available memory, total and available page file.
function Read-Memory {
    if ($null -eq $native) { return }
    $memory = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(64)
    try {
        [System.Runtime.InteropServices.Marshal]::WriteInt32($memory, 64)
        if ($native::GlobalMemoryStatusEx($memory)) {
            $raw.memory = @(8, 16, 24, 32 | ForEach-Object { [System.Runtime.InteropServices.Marshal]::ReadInt64($memory, $_) })
        }
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($memory) }
}

# Fixed drives, and where the time comes from.
function Read-Drive {
    $raw.drives = @(foreach ($volume in [System.IO.DriveInfo]::GetDrives()) {
            if ("$($volume.DriveType)" -ne 'Fixed') { continue }
            $row = @{ name = $volume.Name; format = $null; label = $null; size = $null; free = $null; temporary = $false; error = $null }
            try {
                $row.temporary = [System.IO.File]::Exists([System.IO.Path]::Combine($volume.Name, 'DATALOSS_WARNING_README.txt'))
                $row.format = $volume.DriveFormat
                $row.size = $volume.TotalSize
                $row.free = $volume.TotalFreeSpace
            } catch { $row.error = "$($_.Exception.GetBaseException().Message)" }
            $row
        })
    [void](Read-Key 'load' 'HKLM\SYSTEM\CurrentControlSet\Services\W32Time\Parameters' @('Type', 'NtpServer'))
}

# The load of the processors since the first look.
function Complete-Cpu {
    $left = [int]($module.Params.cpu_window_ms - ((Get-Elapsed) - $state.cpu_at))
    if ($left -gt 0) { [System.Threading.Thread]::Sleep($left) }
    $raw.cpu = @{ before = $state.cpu_before; after = Read-Cpu; window_ms = (Get-Elapsed) - $state.cpu_at }
}

# ---- probes

# Asks the Azure host and the instance metadata service.
function Start-HostProbe {
    $end = "Connection: close`r`nUser-Agent: vmbackup.azure`r`n"
    $hostAddress = '168.63.129.16'
    Start-Probe 'wireserver' "http://$hostAddress/?comp=versions" $hostAddress 80 "GET /?comp=versions HTTP/1.1`r`nHost: $hostAddress`r`n$end`r`n"
    Start-Probe 'hostgaplugin' "http://${hostAddress}:32526/versions" $hostAddress 32526 "GET /versions HTTP/1.1`r`nHost: $hostAddress`r`n$end`r`n"
    $document = '/metadata/instance?api-version=2021-02-01'
    $request = "GET $document HTTP/1.1`r`nHost: 169.254.169.254`r`nMetadata: true`r`n$end`r`n"
    Start-Probe 'imds' "http://169.254.169.254$document" '169.254.169.254' 80 $request
}

# Connects to the storage endpoint that was given, or that the agent's log mentions last.
function Start-StorageProbe {
    $endpoint = $module.Params.storage_endpoint
    if (-not $endpoint -and $state.agent_log) {
        $pattern = 'https://([a-z0-9-]+(?:\.[a-z0-9-]+)*\.blob\.[a-z0-9.-]+?)(?=[/:?\s"'']|$)'
        $mentioned = [regex]::Match($state.agent_log, $pattern, 'IgnoreCase, RightToLeft')
        if ($mentioned.Success) { $endpoint = $mentioned.Groups[1].Value.ToLowerInvariant() }
    }
    if ($endpoint) { Start-Probe 'storage' "tcp://${endpoint}:443" $endpoint 443 '' }
}

# ---- extension

# Logs of the snapshot extension.
function Read-SnapshotLog([string]$Version) {
    $folder = "$logs\Plugins\$snapshot\$Version"
    $names = @('CommandExecution.log', 'Install.log', 'Update.log')
    $names += @(Read-Folder 'extension' $folder 'IaaSBcdrExtension*.log' | Select-Object -First 1)
    foreach ($log in $names) { [void](Read-File 'extension' "$folder\$log" ([int][Math]::Min($logBytes, 262144))) }
}

# Status files and heartbeat of one extension.
function Read-Handler([string]$Name) {
    $versions = @(Select-Version @(Read-Folder 'extension' "$plugins\$Name" '*' -Folders))
    if (-not $versions.Count) { return }
    $status = "$plugins\$Name\$($versions[0])\Status"
    $numbered = @(Read-Folder 'extension' $status '*.status' | Where-Object { $_ -match '^\d{1,9}\.status$' } |
            Sort-Object -Descending -Property { [int]($_ -replace '\D') })
    $count = 1
    if ($Name -eq $snapshot) { $count = 4 }
    foreach ($file in @($numbered | Select-Object -First $count)) {
        $text = Read-File 'extension' "$status\$file" 262144
        if ($Name -eq $snapshot -and $file -eq $numbered[0] -and $text -match $pointer) { $state.vss_pointed = $true }
    }
    [void](Read-File 'extension' "$status\HeartBeat.Json" 65536)
    if ($Name -eq $snapshot) { Read-SnapshotLog $versions[0] }
}

# All extensions, and what the agent reported of them last.
function Read-Extension {
    foreach ($name in @(Read-Folder 'extension' $plugins '*' -Folders | Select-Object -First 60)) { Read-Handler $name }
    foreach ($name in @(Read-Folder 'extension' "$logs\AggregateStatus" 'aggregatestatus*.json' | Select-Object -First 1)) {
        $text = Read-File 'extension' "$logs\AggregateStatus\$name" 1048576
        if ($text -and $text -match '"handlerName"\s*:\s*"[^"]*VMSnapshot"' -and $text -match $pointer) { $state.vss_pointed = $true }
    }
}

# State of the extensions in the registry, and the access rights that they need.
function Read-HandlerState {
    $states = 'HKLM\SOFTWARE\Microsoft\Windows Azure\HandlerState'
    $key = Read-Key 'extension' $states @('none')
    if ($key) {
        $noSecret = '(?i)^(?!.*(settings|secret|thumbprint)).*$'
        foreach ($name in @($key.subkeys | Select-Object -First 100)) { [void](Read-Key 'extension' "$states\$name" $null $noSecret) }
    }
    Read-Acl 'extension' "$env:ProgramData\Microsoft\Crypto\RSA\MachineKeys"
    foreach ($path in 'WindowsAzure', 'Packages') { Read-Acl 'extension' "$drive\$path" }
}

# Certificates of Azure in LocalMachine\My.
function Read-Certificate {
    $location = [System.Security.Cryptography.X509Certificates.StoreLocation]::LocalMachine
    $store = New-Object System.Security.Cryptography.X509Certificates.X509Store('My', $location)
    $wantedNames = 'TenantEncryptionCert|Windows Azure (CRP Certificate Generator|Service Management)'
    $store.Open([System.Security.Cryptography.X509Certificates.OpenFlags]'ReadOnly, OpenExistingOnly')
    $raw.certificates = @(foreach ($certificate in @($store.Certificates | Select-Object -First 200)) {
            if ("$($certificate.FriendlyName) $($certificate.Issuer)" -notmatch $wantedNames) { continue }
            @{
                friendly_name = $certificate.FriendlyName; subject = $certificate.Subject; issuer = $certificate.Issuer
                not_before = $certificate.NotBefore.ToUniversalTime().ToString('o', [cultureinfo]::InvariantCulture)
                not_after = $certificate.NotAfter.ToUniversalTime().ToString('o', [cultureinfo]::InvariantCulture)
                has_private_key = $certificate.HasPrivateKey
            }
        })
    $store.Close()
}

# ---- snapshot

# Asks for writers, providers and shadow storage, where that is wanted.
function Start-VssQuery {
    $look = $module.Params.vss_writers
    $raw.vss_looked = $look -eq 'always' -or ($look -eq 'auto' -and $state.vss_pointed)
    if ($raw.vss_looked) {
        # Writers may take a minute to answer.
        foreach ($what in 'writers', 'providers', 'shadowstorage') { Start-Program 'vss' "$system32\vssadmin.exe" "list $what" ($timeoutMs * 20) }
    }
}

# Settings of the backup extension.
function Read-Vss {
    foreach ($name in 'BcdrAgent', 'BcdrAgentPersistentKeys') { [void](Read-Key 'vss' "HKLM\SOFTWARE\Microsoft\$name") }
    [void](Read-Key 'vss' 'HKLM\SOFTWARE\Microsoft\Microsoft SQL Server' @('InstalledInstances'))
}

# A writer that waits may do so for a moment only; twice more is enough, since waiting alone is never a failure.
function Complete-Writer {
    for ($again = 0; $again -lt 2; $again++) {
        if ((Get-ProgramText 'vssadmin list writers') -notmatch '\[[2-5]\]') { break }
        [System.Threading.Thread]::Sleep(3000)
        Clear-Program
        Start-Program 'vss' "$system32\vssadmin.exe" 'list writers' ($timeoutMs * 20)
        Complete-Program
    }
}

# ---- system, services, agent

# The system, and whether it waits for a restart.
function Read-System {
    $identity = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = New-Object System.Security.Principal.WindowsPrincipal $identity
    $raw.system = @{
        hostname = [Environment]::MachineName
        os_version = "$([Environment]::OSVersion.Version)"
        architecture = "$env:PROCESSOR_ARCHITECTURE"
        is_64bit = [Environment]::Is64BitProcess
        processors = [Environment]::ProcessorCount
        powershell = "$($PSVersionTable.PSVersion)"
        language_mode = "$($ExecutionContext.SessionState.LanguageMode)"
        privileged = $principal.IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator) -or $identity.IsSystem
        oem_code_page = [cultureinfo]::InstalledUICulture.TextInfo.OEMCodePage
        uptime_ms = $null
        utc_offset_s = [int][System.TimeZoneInfo]::Local.GetUtcOffset([DateTime]::UtcNow).TotalSeconds
    }
    if ($env:PROCESSOR_ARCHITEW6432) { $raw.system.architecture = $env:PROCESSOR_ARCHITEW6432 }
    if ($null -ne $native) { $raw.system.uptime_ms = [long]$native::GetTickCount64() }
    [void](Read-Key 'system' 'HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion' @('ProductName', 'CurrentBuild', 'UBR', 'DisplayVersion'))
    [void](Read-Key 'system' 'HKLM\SYSTEM\CurrentControlSet\Control\Nls\CodePage' @('OEMCP'))
    foreach ($key in 'Component Based Servicing\RebootPending', 'WindowsUpdate\Auto Update\RebootRequired') {
        [void](Read-Key 'system' "HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\$key" @('none'))
    }
}

# The program of a service.
function Get-ImagePath([string]$Text) {
    if ($Text -match '^\s*"([^"]+)"') { $path = $Matches[1] }
    elseif ($Text -match '^\s*(.+?\.(?:exe|dll|sys|com))(?:\s|$)') { $path = $Matches[1] }
    else { $path = $Text.Trim() }
    $path = [Environment]::ExpandEnvironmentVariables($path) -replace '^\\\?\?\\' -replace '^\\SystemRoot\\', "$windir\"
    if ($path -notmatch '^([a-zA-Z]:|\\\\)') { $path = "$windir\$path" }
    if ($path.StartsWith("$windir\System32\", [System.StringComparison]::OrdinalIgnoreCase)) { $path = $system32 + $path.Substring("$windir\System32".Length) }
    return $path
}

# The services that count for backups.
function Get-ServiceName {
    $names = @('RdAgent', 'WindowsAzureGuestAgent', 'WindowsAzureTelemetryService', 'IaaSVmProvider', 'VSS', 'swprv', 'COMSysApp', 'EventSystem',
        'MSDTC', 'SQLWriter', 'KeyIso', 'Winmgmt', 'CryptSvc', 'msiserver', 'W32Time')
    $key = Open-Key $services
    $names += @($key.GetSubKeyNames() -match '^(MSSQLSERVER|MSSQL\$.{1,60})$' | Select-Object -First 50)
    $key.Dispose()
    return $names
}

# Adds state and process of a service.
function Add-ServiceStatus([IntPtr]$Manager, [IntPtr]$Memory, [string]$Name, $Service) {
    $handle = [IntPtr]::Zero
    if ($Manager -ne [IntPtr]::Zero) { $handle = $native::OpenServiceW($Manager, $Name, 4) }
    if ($handle -eq [IntPtr]::Zero) { return }
    $needed = [uint32]0
    if ($native::QueryServiceStatusEx($handle, 0, $Memory, 36, [ref]$needed)) {
        $Service.state = [System.Runtime.InteropServices.Marshal]::ReadInt32($Memory, 4)
        $Service.pid = [System.Runtime.InteropServices.Marshal]::ReadInt32($Memory, 28)
    }
    [void]$native::CloseServiceHandle($handle)
}

# The services, and the versions of the agent's.
function Read-Service {
    $manager = [IntPtr]::Zero
    $memory = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(64)
    if ($null -ne $native) {
        $manager = $native::OpenSCManagerW([NullString]::Value, [NullString]::Value, 1)
        if ($manager -eq [IntPtr]::Zero) { Add-Denied 'state of the services' }
    }
    $shown = @('Start', 'DelayedAutostart', 'ObjectName', 'ImagePath', 'FailureActions', 'Type')
    try {
        foreach ($name in @(Get-ServiceName)) {
            $entry = Read-Key 'agent' "$services\$name" $shown
            if ($null -eq $entry) { continue }
            $service = @{ state = $null; pid = $null; path = $null; path_exists = $null }
            if ($entry.values.ContainsKey('ImagePath')) {
                $service.path = Get-ImagePath $entry.values['ImagePath'][1]
                $service.path_exists = [System.IO.File]::Exists($service.path)
            }
            Add-ServiceStatus $manager $memory $name $service
            $raw.services[$name] = $service
        }
    } finally {
        [System.Runtime.InteropServices.Marshal]::FreeHGlobal($memory)
        if ($manager -ne [IntPtr]::Zero) { [void]$native::CloseServiceHandle($manager) }
    }
    foreach ($name in 'RdAgent', 'WindowsAzureGuestAgent') { if ($raw.services.ContainsKey($name)) { Read-Version $raw.services[$name].path } }
}

# Processes of the agent and of the snapshot extension.
function Read-Process {
    $raw.processes = @(foreach ($process in [System.Diagnostics.Process]::GetProcesses()) {
            if ('WaAppAgent', 'WindowsAzureGuestAgent', 'IaaSBcdrExtension' -notcontains $process.ProcessName) { continue }
            $started = $null
            try { $started = $process.StartTime.ToUniversalTime().ToString('o', [cultureinfo]::InvariantCulture) }
            catch { Add-Denied "start time of process $($process.Id)" }
            @{ pid = $process.Id; name = $process.ProcessName; started = $started }
        })
}

# Versions, settings and state of the agent.
function Read-Agent {
    foreach ($folder in @(Read-Folder 'agent' "$drive\WindowsAzure" 'GuestAgent_*' -Folders | Select-Object -First 5)) {
        Read-Version "$drive\WindowsAzure\$folder\WindowsAzureGuestAgent.exe"
    }
    foreach ($path in 'WaAppAgent.exe', 'GuestAgent\WindowsAzureGuestAgent.exe') { Read-Version "$drive\WindowsAzure\Packages\$path" }
    $noSecret = '(?i)^(?!.*(secret|password|token|thumbprint|privatekey)).*$'
    [void](Read-Key 'agent' 'HKLM\SOFTWARE\Microsoft\Virtual Machine\Guest' $null $noSecret)
    [void](Read-Key 'agent' 'HKLM\SOFTWARE\Microsoft\GuestAgent' $null $noSecret)
    $updates = 'HKLM\SOFTWARE\Microsoft\Windows Azure\GuestAgentUpdateState'
    $key = Read-Key 'agent' $updates @('none')
    if ($key) {
        foreach ($name in @($key.subkeys | Select-Object -First 20)) { [void](Read-Key 'agent' "$updates\$name" @('Code', 'Message', 'State')) }
    }
    [void](Read-Key 'agent' 'HKLM\SOFTWARE\Microsoft\NET Framework Setup\NDP\v4\Full' @('Release', 'Version'))
    [void](Read-File 'agent' "$logs\TransparentInstaller.log" ([int][Math]::Min($logBytes, 65536)))
}

# Installed programs that agent and extension need.
function Read-Program {
    $raw.programs = @(foreach ($root in 'SOFTWARE', 'SOFTWARE\WOW6432Node') {
            $key = Open-Key ("HKLM\$root\Microsoft\Windows\CurrentVersion\Uninstall")
            if ($null -eq $key) { continue }
            foreach ($name in $key.GetSubKeyNames()) {
                $program = $key.OpenSubKey($name)
                if ($null -eq $program) { continue }
                $title = "$($program.GetValue('DisplayName'))"
                if ($title -match '^Windows Azure VM Agent|^Microsoft Visual C\+\+ 20') {
                    @{ name = $title; version = "$($program.GetValue('DisplayVersion'))"; key = $name; root = $root }
                }
                $program.Dispose()
            }
            $key.Dispose()
        })
    foreach ($version in '12.0', '14.0') {
        [void](Read-Key 'extension' "HKLM\SOFTWARE\Microsoft\VisualStudio\$version\VC\Runtimes\x64" @('Installed', 'Version'))
        [void](Read-Key 'extension' "HKLM\SOFTWARE\WOW6432Node\Microsoft\VisualStudio\$version\VC\Runtimes\x64" @('Installed', 'Version'))
    }
}

# Whether .NET may use TLS 1.2.
function Read-DotNet {
    foreach ($root in 'HKLM\SOFTWARE\Microsoft\.NETFramework', 'HKLM\SOFTWARE\WOW6432Node\Microsoft\.NETFramework') {
        $key = Read-Key 'agent' $root @('Enable64Bit')
        if ($key) { foreach ($name in @($key.subkeys -match '^v[24]\.')) { [void](Read-Key 'agent' "$root\$name" @('SchUseStrongCrypto')) } }
    }
}

# ---- network

# The proxy of .NET. The file may hold keys: only this element leaves the guest.
function Read-MachineConfig {
    $raw.machine_config = @{}
    foreach ($folder in 'Framework64', 'Framework') {
        $path = "$windir\Microsoft.NET\$folder\v4.0.30319\Config\machine.config"
        if ([System.IO.File]::Exists($path) -and (New-Object System.IO.FileInfo $path).Length -lt 2097152) {
            $element = [regex]::Match([System.IO.File]::ReadAllText($path), '(?is)<defaultProxy\b[^>]*(?:/>|>.*?</defaultProxy>)')
            if ($element.Success) { $raw.machine_config[$path] = Hide-Secret $element.Value }
        }
    }
}

# The first proxy that counts for the SYSTEM account.
function Get-ProxyServer {
    $settings = 'Software\Microsoft\Windows\CurrentVersion\Internet Settings'
    $server = $null
    $system = $raw.registry["HKU\S-1-5-18\$settings"]
    $machine = $raw.registry["HKLM\$settings\Connections"]
    if ($system -and $system.values.ContainsKey('ProxyServer') -and $system.values.ContainsKey('ProxyEnable')) {
        if ($system.values['ProxyEnable'][1] -eq 1) { $server = "$($system.values['ProxyServer'][1])" }
    }
    if ($machine -and $machine.values.ContainsKey('WinHttpSettings')) {
        $bytes = [Convert]::FromBase64String("$($machine.values['WinHttpSettings'][1])")
        if ($bytes.Length -gt 16 -and ($bytes[8] -band 2)) {
            Start-Program 'network' "$system32\netsh.exe" 'winhttp show proxy' $timeoutMs
            $length = [BitConverter]::ToInt32($bytes, 12)
            if (-not $server -and $length -gt 0 -and 16 + $length -le $bytes.Length) { $server = [System.Text.Encoding]::GetEncoding(28591).GetString($bytes, 16, $length) }
        }
    }
    return $server
}

# Proxies, and a probe of the one that counts.
function Read-Proxy {
    $settings = 'Software\Microsoft\Windows\CurrentVersion\Internet Settings'
    $names = @('ProxyEnable', 'ProxyServer', 'ProxyOverride', 'AutoConfigURL', 'AutoDetect', 'ProxySettingsPerUser')
    foreach ($root in 'HKU\S-1-5-18', 'HKLM') {
        [void](Read-Key 'network' "$root\$settings" $names)
        [void](Read-Key 'network' "$root\$settings\Connections" @('DefaultConnectionSettings', 'WinHttpSettings'))
    }
    [void](Read-Key 'network' "HKLM\SOFTWARE\Policies\Microsoft\Windows\CurrentVersion\Internet Settings" $names)
    [void](Read-Key 'network' 'HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment' $null '(?i)^(https?|all|no)_proxy$')
    Read-MachineConfig
    $server = Get-ProxyServer
    $pattern = '(?i)(?:^|;|\s)(?:https?=)?(?:https?://)?(?:[^@/;\s]*@)?([a-z0-9._-]{1,253}):(\d{1,5})(?:[;/\s]|$)'
    if ($server -and $server -match $pattern -and [int]$Matches[2] -lt 65536) {
        $name = $Matches[1]
        $port = [int]$Matches[2]
        Start-Probe 'proxy' "tcp://${name}:$port" $name $port ''
    }
}

# Network interfaces with their addresses.
function Read-Interface {
    $interfaces = 'HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces'
    $values = @('EnableDHCP', 'DhcpIPAddress', 'DhcpServer', 'LeaseTerminatesTime', 'DhcpInterfaceOptions')
    $cards = @([System.Net.NetworkInformation.NetworkInterface]::GetAllNetworkInterfaces() | Select-Object -First 64)
    $raw.interfaces = @(foreach ($card in $cards) {
            if ("$($card.NetworkInterfaceType)" -eq 'Loopback') { continue }
            $properties = $card.GetIPProperties()
            $index = $null
            try { $index = $properties.GetIPv4Properties().Index } catch { $index = $null }
            [void](Read-Key 'network' "$interfaces\$($card.Id)" $values)
            @{
                name = $card.Name; description = $card.Description; guid = $card.Id; mac = "$($card.GetPhysicalAddress())"
                status = "$($card.OperationalStatus)"; index = $index
                addresses = @(foreach ($address in $properties.UnicastAddresses) {
                        if ("$($address.Address.AddressFamily)" -eq 'InterNetwork') { , @("$($address.Address)", $address.PrefixLength) }
                    })
                gateways = @(foreach ($gateway in $properties.GatewayAddresses) {
                        if ("$($gateway.Address.AddressFamily)" -eq 'InterNetwork') { "$($gateway.Address)" }
                    })
                resolvers = @(foreach ($address in $properties.DnsAddresses) { "$address" })
            }
        })
}

# Both tables of routes.
function Read-Route {
    if ($null -ne $native) {
        $table = [IntPtr]::Zero
        $answer = $native::GetIpForwardTable2([uint16]2, [ref]$table)
        if ($answer -ne 0) { throw "GetIpForwardTable2 returned error $answer" }
        try {
            # MIB_IPFORWARD_TABLE2: a count, then rows of 104 bytes each.
            $count = [Math]::Min([System.Runtime.InteropServices.Marshal]::ReadInt32($table), 8192)
            $bytes = New-Object byte[] (8 + 104 * $count)
            [System.Runtime.InteropServices.Marshal]::Copy($table, $bytes, 0, $bytes.Length)
            $raw.forward_table = ConvertTo-Packed $bytes
        } finally { $native::FreeMibTable($table) }
    }
    [void](Read-Key 'network' 'HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\PersistentRoutes')
}

# The way to the Azure host. Connecting a datagram socket sends nothing, but routes.
function Read-Lookup {
    $raw.lookups = @{}
    foreach ($address in '168.63.129.16', '169.254.169.254') {
        $socket = New-Object System.Net.Sockets.Socket([System.Net.Sockets.AddressFamily]::InterNetwork,
            [System.Net.Sockets.SocketType]::Dgram, [System.Net.Sockets.ProtocolType]::Udp)
        $lookup = @{ source = $null; code = $null }
        try {
            $socket.Connect($address, 80)
            $lookup.source = "$($socket.LocalEndPoint.Address)"
        } catch {
            $inner = $_.Exception.GetBaseException()
            if ($inner -is [System.Net.Sockets.SocketException]) { $lookup.code = "$($inner.SocketErrorCode)" } else { $lookup.code = 'Unknown' }
        } finally { $socket.Dispose() }
        $raw.lookups[$address] = $lookup
    }
}

# Rules that block, and what the profiles do.
function Read-Firewall {
    $policy = 'HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy'
    $block = '(?i)\|Action=Block\|.*\|Dir=Out\||\|Dir=Out\|.*\|Action=Block\|'
    [void](Read-Key 'network' "$policy\FirewallRules" $null $null $block)
    [void](Read-Key 'network' 'HKLM\SOFTWARE\Policies\Microsoft\WindowsFirewall\FirewallRules' $null $null $block)
    foreach ($name in 'DomainProfile', 'StandardProfile', 'PublicProfile') {
        [void](Read-Key 'network' "$policy\$name" @('EnableFirewall', 'DefaultOutboundAction'))
    }
}

# ---- the run: what waits comes first, and is looked after between the other readings

try { $native = Get-Native } catch { Add-Failure 'system' 'Win32 functions' $_ }
if ($wanted.load -and $null -ne $native) {
    Read-Area 'load' 'processors' {
        $state.cpu_before = Read-Cpu
        $state.cpu_at = Get-Elapsed
    }
}
if ($wanted.network) { Start-HostProbe }
if ($wanted.agent -or $wanted.network) {
    Read-Area 'agent' 'agent log' { $state.agent_log = Read-File 'agent' "$logs\WaAppAgent.log" $logBytes }
}
if ($wanted.network) { Start-StorageProbe }
if ($wanted.extension -or $wanted.vss) { Read-Area 'extension' 'extensions' { Read-Extension } }
if ($wanted.vss) { Start-VssQuery }
Read-Area 'system' 'system' { Read-System }
Read-Area 'agent' 'services' { Read-Service; Read-Process }
if ($wanted.agent) { Read-Area 'agent' 'agent' { Read-Agent } }
if ($wanted.agent -or $wanted.extension) { Read-Area 'agent' '.NET and installed programs' { Read-DotNet; Read-Program } }
if ($wanted.extension) {
    Read-Area 'extension' 'running snapshot' { $raw.snapshot = Get-SnapshotWork }
    Read-Area 'extension' 'state of the extensions' { Read-HandlerState }
    Read-Area 'extension' 'certificate store LocalMachine\My' { Read-Certificate }
}
if ($wanted.vss) { Read-Area 'vss' 'settings of the backup extension' { Read-Vss } }
if ($wanted.network) {
    Read-Area 'network' 'proxies' { Read-Proxy }
    Read-Area 'network' 'network interfaces' { Read-Interface }
    Read-Area 'network' 'routes' { Read-Route }
    Read-Area 'network' 'way to the host' { Read-Lookup }
    Read-Area 'network' 'firewall' { Read-Firewall }
}
if ($wanted.load) {
    Read-Area 'load' 'memory' { Read-Memory }
    Read-Area 'load' 'drives' { Read-Drive }
}
if ($wanted.network) { Read-Area 'network' 'probes' { Complete-Probe } }
Read-Area 'system' 'programs' { Complete-Program }
Read-Area 'vss' 'vssadmin list writers' { Complete-Writer }
if ($null -ne $state.cpu_before) { Read-Area 'load' 'processors' { Complete-Cpu } }
$raw.duration_ms = Get-Elapsed
$module.Result.raw = $raw
$module.ExitJson()
