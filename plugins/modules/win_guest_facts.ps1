#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic

# Collects raw values only; plugins/module_utils/windows makes facts of them on the controller. No CIM, no WMI, no event log, no compiler.

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

$clock = [System.Diagnostics.Stopwatch]::StartNew()
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
$latin1 = [System.Text.Encoding]::GetEncoding(28591)
$ignoreCase = [System.StringComparison]::OrdinalIgnoreCase
$drive = $env:SystemDrive
$windir = $env:windir
# The 64-bit view, whatever the bitness of this process.
$system32 = "$windir\System32"
if ([Environment]::Is64BitOperatingSystem -and -not [Environment]::Is64BitProcess) { $system32 = "$windir\Sysnative" }
$view = [Microsoft.Win32.RegistryView]::Registry32
if ([Environment]::Is64BitOperatingSystem) { $view = [Microsoft.Win32.RegistryView]::Registry64 }
$hives = @{
    HKLM = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::LocalMachine, $view)
    HKU = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::Users, $view)
}

function Add-Failure([string]$Area, [string]$What, $Problem) {
    $text = "$Problem"
    if ($Problem -is [System.Management.Automation.ErrorRecord]) { $text = "$($Problem.Exception.GetBaseException().Message)" }
    $raw.errors += @{ area = $Area; what = $What; error = $text }
}

function Add-Denied([string]$What) {
    if ($raw.denied -notcontains $What) { $raw.denied += $What }
}

function Test-Denied($Problem) {
    $inner = $Problem.Exception.GetBaseException()
    return $inner -is [System.UnauthorizedAccessException] -or $inner -is [System.Security.SecurityException]
}

# Secrets leave the guest as asterisks of the same length, so that lengths inside binary values still hold.
$secret = New-Object System.Text.RegularExpressions.Regex(
    ('(?<=\bsig(?:=|%3d|%253d|\\?u003d))[^&\s"''<>;,\\]+|(?<=[a-z][a-z0-9+.-]*://)[^/\s"''@<>\x00]+(?=@)|' +
        '(?<=(?:protectedSettings|password|passwd|accountKey|sharedAccessSignature|access_token|client_secret)\\?"?\s*[:=]\s*\\?"?)[^\s",;}&]+'),
    ([System.Text.RegularExpressions.RegexOptions]'IgnoreCase, CultureInvariant'))
# In addresses of proxies, credentials need no scheme in front of them.
$credentials = New-Object System.Text.RegularExpressions.Regex '(?<=^|[\x00-\x20=;,/])[^\x00-\x20=;,/@]+:[^\x00-\x20@]*(?=@)'
$stars = [System.Text.RegularExpressions.MatchEvaluator] { param($found) '*' * $found.Length }

function Hide-Secret([string]$Text, [bool]$Proxy) {
    if ($secret.IsMatch($Text)) { $Text = $secret.Replace($Text, $stars) }
    if ($Proxy -and $credentials.IsMatch($Text)) { $Text = $credentials.Replace($Text, $stars) }
    return $Text
}

function ConvertTo-Packed([byte[]]$Bytes) {
    $buffer = New-Object System.IO.MemoryStream
    $gzip = New-Object System.IO.Compression.GZipStream($buffer, [System.IO.Compression.CompressionMode]::Compress)
    $gzip.Write($Bytes, 0, $Bytes.Length)
    $gzip.Dispose()
    return [Convert]::ToBase64String($buffer.ToArray())
}

# Names: only these values; Match: only values whose name fits; without either all of them, at most 500.
function Read-Key([string]$Area, [string]$Path, [string[]]$Names, [string]$Match, [string]$DataMatch) {
    $hive, $below = $Path.Split([char[]]'\', 2)
    $entry = $null
    $proxy = $Path -match '\\(Internet Settings(\\Connections)?|Session Manager\\Environment)$'
    try {
        $key = $hives[$hive].OpenSubKey($below)
        if ($null -ne $key) {
            $values = @{}
            $present = $key.GetValueNames()
            if ($Names) { $present = @($present | Where-Object { $Names -contains $_ }) }
            elseif ($Match) { $present = @($present -match $Match) }
            foreach ($name in $present) {
                $data = $key.GetValue($name, $null, [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames)
                if ($DataMatch -and "$data" -notmatch $DataMatch) { continue }
                if ($values.Count -ge 500) { break }
                $kind = "$($key.GetValueKind($name))"
                if ($data -is [byte[]]) { $data = [Convert]::ToBase64String($latin1.GetBytes((Hide-Secret $latin1.GetString($data) $proxy))) }
                elseif ($data -is [string]) { $data = Hide-Secret $data.Substring(0, [Math]::Min($data.Length, 8192)) $proxy }
                elseif ($data -is [string[]]) { $data = @(foreach ($text in $data) { Hide-Secret $text $proxy }) }
                $values[$name] = @($kind, $data)
            }
            $entry = @{ values = $values; subkeys = @($key.GetSubKeyNames()) }
            $key.Dispose()
        }
        $raw.registry[$Path] = $entry
    } catch {
        if (Test-Denied $_) { Add-Denied $Path } else { Add-Failure $Area "read $Path" $_ }
    }
    return $entry
}

# A file's last Limit bytes, never more; nothing for a file that is not there.
function Read-File([string]$Area, [string]$Path, [int]$Limit) {
    $stream = $null
    try {
        if (-not [System.IO.File]::Exists($Path)) { return $null }
        $stream = New-Object System.IO.FileStream($Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read,
            ([System.IO.FileShare]'ReadWrite, Delete'))
        $size = $stream.Length
        $count = [int][Math]::Min($size, $Limit)
        $bytes = New-Object byte[] $count
        if ($size -gt $count) { [void]$stream.Seek(-$count, [System.IO.SeekOrigin]::End) }
        $done = 0
        while ($done -lt $count) {
            $got = $stream.Read($bytes, $done, $count - $done)
            if ($got -le 0) { break }
            $done += $got
        }
        $encoding = $latin1
        if ($done -ge 2 -and $bytes[0] -eq 0xff -and $bytes[1] -eq 0xfe) { $encoding = [System.Text.Encoding]::Unicode }
        $text = $encoding.GetString($bytes, 0, $done)
        $clean = Hide-Secret $text
        if ($clean -cne $text) { $bytes = $encoding.GetBytes($clean); $done = $bytes.Length }
        if ($done -lt $bytes.Length) { $bytes = [byte[]]$bytes[0..([Math]::Max(0, $done - 1))] }
        $raw.files[$Path] = @{
            size = $size
            modified = [System.IO.File]::GetLastWriteTimeUtc($Path).ToString('o', [cultureinfo]::InvariantCulture)
            data = ConvertTo-Packed $bytes
        }
        return $clean
    } catch {
        if (Test-Denied $_) { Add-Denied $Path } else { Add-Failure $Area "read $Path" $_ }
    } finally {
        if ($null -ne $stream) { $stream.Dispose() }
    }
    return $null
}

# The names in a folder (at most 500), newest written first; $null for one that is not there.
function Read-Folder([string]$Area, [string]$Path, [string]$Filter, [switch]$Folders) {
    $names = $null
    try {
        $info = New-Object System.IO.DirectoryInfo $Path
        if ($info.Exists) {
            if ($Folders) { $found = $info.GetDirectories($Filter) } else { $found = $info.GetFiles($Filter) }
            $names = @($found | Sort-Object -Property LastWriteTimeUtc -Descending | Select-Object -First 500 | ForEach-Object { $_.Name })
        }
        $raw.folders["$Path\$Filter"] = $names
    } catch {
        if (Test-Denied $_) { Add-Denied $Path } else { Add-Failure $Area "list $Path" $_ }
    }
    if ($null -ne $names) { $names }
}

function Read-Version([string]$Path) {
    if (-not $Path -or $raw.versions.ContainsKey($Path)) { return }
    try {
        if (-not [System.IO.File]::Exists($Path)) { return }
        $info = [System.Diagnostics.FileVersionInfo]::GetVersionInfo($Path)
        $raw.versions[$Path] = @{
            file = "$($info.FileMajorPart).$($info.FileMinorPart).$($info.FileBuildPart).$($info.FilePrivatePart)"
            product = $info.ProductVersion
        }
    } catch { Add-Failure 'agent' "read the version of $Path" $_ }
}

function Read-Acl([string]$Area, [string]$Path) {
    try {
        if (-not [System.IO.Directory]::Exists($Path)) { return }
        $descriptor = New-Object System.Security.AccessControl.DirectorySecurity(
            $Path, ([System.Security.AccessControl.AccessControlSections]'Access, Owner, Group'))
        $raw.acls[$Path] = $descriptor.GetSecurityDescriptorSddlForm([System.Security.AccessControl.AccessControlSections]'Access, Owner, Group')
    } catch {
        if (Test-Denied $_) { Add-Denied $Path } else { Add-Failure $Area "read the access rights of $Path" $_ }
    }
}

# Win32 functions without a compiler: methods that are emitted, not compiled.
function Get-Native {
    $name = New-Object System.Reflection.AssemblyName 'VmbackupNative'
    $assembly = [System.Reflection.Emit.AssemblyBuilder]::DefineDynamicAssembly($name, [System.Reflection.Emit.AssemblyBuilderAccess]::Run)
    $type = $assembly.DefineDynamicModule('VmbackupNative').DefineType('Vmbackup.Native', 'Public, Class, Sealed, Abstract')
    $pointer = [IntPtr]
    $functions = @(
        @('kernel32.dll', 'GlobalMemoryStatusEx', [int], @($pointer)),
        @('kernel32.dll', 'GetSystemTimes', [int], @($pointer, $pointer, $pointer)),
        @('kernel32.dll', 'GetTickCount64', [uint64], @()),
        @('iphlpapi.dll', 'GetIpForwardTable2', [int], @([uint16], $pointer.MakeByRefType())),
        @('iphlpapi.dll', 'FreeMibTable', [void], @($pointer)),
        @('advapi32.dll', 'OpenSCManagerW', $pointer, @([string], [string], [uint32])),
        @('advapi32.dll', 'OpenServiceW', $pointer, @($pointer, [string], [uint32])),
        @('advapi32.dll', 'QueryServiceStatusEx', [int], @($pointer, [int], $pointer, [uint32], [uint32].MakeByRefType())),
        @('advapi32.dll', 'CloseServiceHandle', [int], @($pointer))
    )
    foreach ($function in $functions) {
        $method = $type.DefinePInvokeMethod($function[1], $function[0], [System.Reflection.MethodAttributes]'Public, Static, PinvokeImpl',
            [System.Reflection.CallingConventions]::Standard, $function[2], [type[]]$function[3],
            [System.Runtime.InteropServices.CallingConvention]::Winapi, [System.Runtime.InteropServices.CharSet]::Unicode)
        $method.SetImplementationFlags([System.Reflection.MethodImplAttributes]::PreserveSig)
    }
    return $type.CreateType()
}

# Probes: all started at once, looked after between the other readings, ended by one deadline. None goes through a proxy.
$probes = New-Object System.Collections.ArrayList

function Start-Probe([string]$Name, [string]$Url, [string]$Address, [int]$Port, [string]$Request) {
    $probe = @{
        name = $Name; url = $Url; request = $Request; stage = 'connect'; done = $false; error = $null; code = $null; time_ms = $null
        received = $null; text = ''; buffer = (New-Object byte[] 16384); task = $null
        client = (New-Object System.Net.Sockets.TcpClient([System.Net.Sockets.AddressFamily]::InterNetwork))
        started = $clock.ElapsedMilliseconds; stream = $null
    }
    try { $probe.task = $probe.client.ConnectAsync($Address, $Port) } catch { Stop-Probe $probe $_.Exception }
    [void]$probes.Add($probe)
}

function Stop-Probe($Probe, $Problem) {
    $Probe.done = $true
    $Probe.time_ms = $clock.ElapsedMilliseconds - $Probe.started
    if ($null -ne $Problem) {
        $inner = $Problem.GetBaseException()
        $Probe.error = $inner.Message
        if ($inner -is [System.Net.Sockets.SocketException]) { $Probe.code = "$($inner.SocketErrorCode)" }
    }
    try { $Probe.client.Close() } catch { $Probe.stage = 'closed' }
}

function Step-Probe {
    foreach ($probe in $probes) {
        while (-not $probe.done -and $probe.task.IsCompleted) {
            try {
                if ($probe.task.IsFaulted -or $probe.task.IsCanceled) { Stop-Probe $probe $probe.task.Exception; break }
                if ($probe.stage -eq 'connect') {
                    if (-not $probe.request) { Stop-Probe $probe $null; break }
                    $probe.stream = $probe.client.GetStream()
                    $bytes = [System.Text.Encoding]::ASCII.GetBytes($probe.request)
                    $probe.stream.Write($bytes, 0, $bytes.Length)
                    $probe.stage = 'answer'
                } else {
                    $count = $probe.task.Result
                    $probe.text += $latin1.GetString($probe.buffer, 0, $count)
                    if ($null -eq $probe.received) { $probe.received = [DateTime]::UtcNow.ToString('o', [cultureinfo]::InvariantCulture) }
                    $head = $probe.text.IndexOf("`r`n`r`n")
                    $length = -1
                    if ($head -ge 0 -and $probe.text.Substring(0, $head) -match '(?im)^content-length:\s*(\d{1,9})\s*$') {
                        $length = [int]$Matches[1]
                    }
                    if ($count -eq 0 -or $probe.text.Length -ge 65536 -or ($length -ge 0 -and $probe.text.Length -ge $head + 4 + $length)) {
                        Stop-Probe $probe $null
                        break
                    }
                }
                $probe.task = $probe.stream.ReadAsync($probe.buffer, 0, $probe.buffer.Length)
            } catch { Stop-Probe $probe $_.Exception; break }
        }
    }
}

function Complete-Probe {
    while ($true) {
        Step-Probe
        $open = @($probes | Where-Object { -not $_.done })
        if (-not $open.Count) { break }
        $left = [int](($open | ForEach-Object { $_.started + $timeoutMs } | Measure-Object -Maximum).Maximum - $clock.ElapsedMilliseconds)
        if ($left -le 0) { break }
        [void][System.Threading.Tasks.Task]::WaitAny([System.Threading.Tasks.Task[]]@($open | ForEach-Object { $_.task }), $left)
    }
    foreach ($probe in $probes) {
        if (-not $probe.done) { Stop-Probe $probe $null; $probe.code = 'Deadline' }
        $result = @{
            url = $probe.url; time_ms = $probe.time_ms; stage = $probe.stage; code = $probe.code; error = $probe.error; received = $probe.received
            head = ''; body = ''
        }
        $end = $probe.text.IndexOf("`r`n`r`n")
        $length = [Math]::Min($probe.text.Length, 200)
        if ($end -ge 0) { $length = [Math]::Min($end, 4096) }
        $result.head = $probe.text.Substring(0, $length)
        if ($end -ge 0 -and $probe.name -eq 'wireserver') {
            $result.body = $probe.text.Substring($end + 4, [Math]::Min(2048, $probe.text.Length - $end - 4))
        }
        if ($end -ge 0 -and $probe.name -eq 'imds') {
            # The document may hold user data: only what is needed leaves the guest.
            $imds = @{ location = $null; cloud = $null; addresses = @() }
            if ($probe.text -match '"location"\s*:\s*"([^"]{0,60})"') { $imds.location = $Matches[1] }
            if ($probe.text -match '"azEnvironment"\s*:\s*"([^"]{0,60})"') { $imds.cloud = $Matches[1] }
            $imds.addresses = @([regex]::Matches($probe.text, '"privateIpAddress"\s*:\s*"([0-9.]{7,15})"') | ForEach-Object { $_.Groups[1].Value })
            $raw.imds = $imds
        }
        $raw.probes[$probe.name] = $result
    }
}

# Programs: started early, read at the end. Bytes as they come: the text is in the system's language and its OEM code page.
$programs = New-Object System.Collections.ArrayList

function Start-Program([string]$Area, [string]$Path, [string]$Arguments, [int]$LimitMs) {
    $name = "$([System.IO.Path]::GetFileNameWithoutExtension($Path)) $Arguments"
    if (-not [System.IO.File]::Exists($Path)) { Add-Failure $Area $name "$Path does not exist"; return }
    try {
        $start = New-Object System.Diagnostics.ProcessStartInfo($Path, $Arguments)
        $start.UseShellExecute = $false
        $start.CreateNoWindow = $true
        $start.RedirectStandardOutput = $true
        $start.RedirectStandardInput = $true
        $process = [System.Diagnostics.Process]::Start($start)
        $process.StandardInput.Close()
        $output = New-Object System.IO.MemoryStream
        $copy = $process.StandardOutput.BaseStream.CopyToAsync($output)
        $until = $clock.ElapsedMilliseconds + $LimitMs
        [void]$programs.Add(@{ area = $Area; name = $name; process = $process; output = $output; copy = $copy; until = $until; limit = $LimitMs })
    } catch { Add-Failure $Area $name $_ }
}

function Complete-Program {
    foreach ($program in $programs) {
        $left = [int][Math]::Max(0, $program.until - $clock.ElapsedMilliseconds)
        try {
            if (-not $program.process.WaitForExit($left)) {
                $program.process.Kill()
                Add-Failure $program.area $program.name "no answer within $($program.limit / 1000) s"
                continue
            }
            # Somebody else may hold the pipe open after the program's end: what no longer grows is complete.
            $length = -1
            while (-not $program.copy.Wait(250) -and $length -ne $program.output.Length) { $length = $program.output.Length }
            $bytes = $program.output.ToArray()
            if ($bytes.Length -gt 262144) { $bytes = [byte[]]$bytes[0..262143] }
            $raw.commands[$program.name] = @{ rc = $program.process.ExitCode; data = ConvertTo-Packed ([byte[]]$bytes) }
        } catch { Add-Failure $program.area $program.name $_ }
    }
}

function Read-Area([string]$Area, [string]$What, [scriptblock]$Script) {
    try { & $Script } catch { Add-Failure $Area $What $_ }
    Step-Probe
}

# --- what waits comes first ---
$state = @{ agent_log = $null; vss_pointed = $false; cpu_before = $null; cpu_at = 0 }
$native = $null
try { $native = Get-Native } catch { Add-Failure 'system' 'Win32 functions' $_ }

function Read-Cpu {
    $memory = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(24)
    try {
        if (-not $native::GetSystemTimes($memory, [IntPtr]::Add($memory, 8), [IntPtr]::Add($memory, 16))) { return $null }
        $own = [System.Diagnostics.Process]::GetCurrentProcess().TotalProcessorTime.Ticks
        # Idle, kernel (idle included), user, this process; all in 100 ns.
        return @(0, 8, 16 | ForEach-Object { [System.Runtime.InteropServices.Marshal]::ReadInt64($memory, $_) }) + @($own)
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($memory) }
}

if ($wanted.load -and $null -ne $native) {
    Read-Area 'load' 'processors' {
        $state.cpu_before = Read-Cpu
        $state.cpu_at = $clock.ElapsedMilliseconds
    }
}

$end = "Connection: close`r`nUser-Agent: vmbackup.azure`r`n"
if ($wanted.network) {
    $hostAddress = '168.63.129.16'
    Start-Probe 'wireserver' "http://$hostAddress/?comp=versions" $hostAddress 80 "GET /?comp=versions HTTP/1.1`r`nHost: $hostAddress`r`n$end`r`n"
    Start-Probe 'hostgaplugin' "http://${hostAddress}:32526/versions" $hostAddress 32526 "GET /versions HTTP/1.1`r`nHost: $hostAddress`r`n$end`r`n"
    $document = '/metadata/instance?api-version=2021-02-01'
    $request = "GET $document HTTP/1.1`r`nHost: 169.254.169.254`r`nMetadata: true`r`n$end`r`n"
    Start-Probe 'imds' "http://169.254.169.254$document" '169.254.169.254' 80 $request
}

$snapshot = 'Microsoft.Azure.RecoveryServices.VMSnapshot'
$plugins = "$drive\Packages\Plugins"
$logs = "$drive\WindowsAzure\Logs"
if ($wanted.agent -or $wanted.network) {
    Read-Area 'agent' 'agent log' { $state.agent_log = Read-File 'agent' "$logs\WaAppAgent.log" $logBytes }
}
if ($wanted.network) {
    $endpoint = $module.Params.storage_endpoint
    if (-not $endpoint -and $state.agent_log) {
        $pattern = 'https://([a-z0-9-]+(?:\.[a-z0-9-]+)*\.blob\.[a-z0-9.-]+?)(?=[/:?\s"'']|$)'
        $mentioned = [regex]::Match($state.agent_log, $pattern, 'IgnoreCase, RightToLeft')
        if ($mentioned.Success) { $endpoint = $mentioned.Groups[1].Value.ToLowerInvariant() }
    }
    if ($endpoint) { Start-Probe 'storage' "tcp://${endpoint}:443" $endpoint 443 '' }
}

# --- extension ---
if ($wanted.extension -or $wanted.vss) {
    Read-Area 'extension' 'extensions' {
        $pointer = ('(?i)\b(vss|writers?|volume shadow)\b[^\r\n]{0,120}\b(fail\w*|error\w*|bad|time\w*|not respond\w*)|' +
            '\b(fail\w*|error\w*|bad|time\w*)\b[^\r\n]{0,120}\b(vss|writers?|volume shadow)\b|Vss(Writer|Service)InBadState|0x80042[0-9a-f]{3}')
        foreach ($name in @(Read-Folder 'extension' $plugins '*' -Folders | Select-Object -First 60)) {
            $versions = @(Read-Folder 'extension' "$plugins\$name" '*' -Folders | Sort-Object -Descending -Property {
                    $version = $null
                    if ([version]::TryParse($_, [ref]$version)) { $version } else { [version]'0.0' }
                })
            if (-not $versions.Count) { continue }
            $status = "$plugins\$name\$($versions[0])\Status"
            $numbered = @(Read-Folder 'extension' $status '*.status' | Where-Object { $_ -match '^\d{1,9}\.status$' } |
                    Sort-Object -Descending -Property { [int]($_ -replace '\D') })
            $count = 1
            if ($name -eq $snapshot) { $count = 4 }
            foreach ($file in @($numbered | Select-Object -First $count)) {
                $text = Read-File 'extension' "$status\$file" 262144
                if ($name -eq $snapshot -and $file -eq $numbered[0] -and $text -match $pointer) { $state.vss_pointed = $true }
            }
            $beat = Read-File 'extension' "$status\HeartBeat.Json" 65536
            if ($name -eq $snapshot) {
                $folder = "$logs\Plugins\$snapshot\$($versions[0])"
                $names = @('CommandExecution.log', 'Install.log', 'Update.log')
                $names += @(Read-Folder 'extension' $folder 'IaaSBcdrExtension*.log' | Select-Object -First 1)
                foreach ($log in $names) { [void](Read-File 'extension' "$folder\$log" ([int][Math]::Min($logBytes, 262144))) }
            }
        }
        foreach ($name in @(Read-Folder 'extension' "$logs\AggregateStatus" 'aggregatestatus*.json' | Select-Object -First 1)) {
            $text = Read-File 'extension' "$logs\AggregateStatus\$name" 1048576
            if ($text -and $text -match '"handlerName"\s*:\s*"[^"]*VMSnapshot"' -and $text -match $pointer) { $state.vss_pointed = $true }
        }
    }
}
if ($wanted.vss) {
    $look = $module.Params.vss_writers
    $raw.vss_looked = $look -eq 'always' -or ($look -eq 'auto' -and $state.vss_pointed)
    if ($raw.vss_looked) {
        # Writers may take a minute to answer.
        foreach ($what in 'writers', 'providers', 'shadowstorage') { Start-Program 'vss' "$system32\vssadmin.exe" "list $what" ($timeoutMs * 20) }
    }
}

# --- system ---
Read-Area 'system' 'system' {
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
    }
    if ($env:PROCESSOR_ARCHITEW6432) { $raw.system.architecture = $env:PROCESSOR_ARCHITEW6432 }
    if ($null -ne $native) { $raw.system.uptime_ms = [long]$native::GetTickCount64() }
    [void](Read-Key 'system' 'HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion' @('ProductName', 'CurrentBuild', 'UBR', 'DisplayVersion'))
    [void](Read-Key 'system' 'HKLM\SYSTEM\CurrentControlSet\Control\Nls\CodePage' @('OEMCP'))
    foreach ($key in 'Component Based Servicing\RebootPending', 'WindowsUpdate\Auto Update\RebootRequired') {
        [void](Read-Key 'system' "HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\$key" @('none'))
    }
}

# --- services ---
$services = 'HKLM\SYSTEM\CurrentControlSet\Services'
function Get-ImagePath([string]$Text) {
    if ($Text -match '^\s*"([^"]+)"') { $path = $Matches[1] }
    elseif ($Text -match '^\s*(.+?\.(?:exe|dll|sys|com))(?:\s|$)') { $path = $Matches[1] }
    else { $path = $Text.Trim() }
    $path = [Environment]::ExpandEnvironmentVariables($path) -replace '^\\\?\?\\' -replace '^\\SystemRoot\\', "$windir\"
    if ($path -notmatch '^([a-zA-Z]:|\\\\)') { $path = "$windir\$path" }
    if ($path.StartsWith("$windir\System32\", $ignoreCase)) { $path = $system32 + $path.Substring("$windir\System32".Length) }
    return $path
}

Read-Area 'agent' 'services' {
    $names = @('RdAgent', 'WindowsAzureGuestAgent', 'WindowsAzureTelemetryService', 'IaaSVmProvider', 'VSS', 'swprv', 'COMSysApp', 'EventSystem',
        'MSDTC', 'SQLWriter', 'KeyIso', 'Winmgmt', 'CryptSvc', 'msiserver', 'W32Time')
    $key = $hives.HKLM.OpenSubKey('SYSTEM\CurrentControlSet\Services')
    $names += @($key.GetSubKeyNames() -match '^(MSSQLSERVER|MSSQL\$.{1,60})$' | Select-Object -First 50)
    $key.Dispose()
    $manager = [IntPtr]::Zero
    $memory = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(64)
    if ($null -ne $native) {
        $manager = $native::OpenSCManagerW([NullString]::Value, [NullString]::Value, 1)
        if ($manager -eq [IntPtr]::Zero) { Add-Denied 'state of the services' }
    }
    $shown = @('Start', 'DelayedAutostart', 'ObjectName', 'ImagePath', 'FailureActions', 'Type')
    try {
        foreach ($name in $names) {
            $entry = Read-Key 'agent' "$services\$name" $shown
            if ($null -eq $entry) { continue }
            $service = @{ state = $null; pid = $null; path = $null; path_exists = $null }
            if ($entry.values.ContainsKey('ImagePath')) {
                $service.path = Get-ImagePath $entry.values['ImagePath'][1]
                $service.path_exists = [System.IO.File]::Exists($service.path)
            }
            $handle = [IntPtr]::Zero
            if ($manager -ne [IntPtr]::Zero) { $handle = $native::OpenServiceW($manager, $name, 4) }
            if ($handle -ne [IntPtr]::Zero) {
                $needed = [uint32]0
                if ($native::QueryServiceStatusEx($handle, 0, $memory, 36, [ref]$needed)) {
                    $service.state = [System.Runtime.InteropServices.Marshal]::ReadInt32($memory, 4)
                    $service.pid = [System.Runtime.InteropServices.Marshal]::ReadInt32($memory, 28)
                }
                [void]$native::CloseServiceHandle($handle)
            }
            $raw.services[$name] = $service
        }
    } finally {
        [System.Runtime.InteropServices.Marshal]::FreeHGlobal($memory)
        if ($manager -ne [IntPtr]::Zero) { [void]$native::CloseServiceHandle($manager) }
    }
    foreach ($name in 'RdAgent', 'WindowsAzureGuestAgent') { if ($raw.services.ContainsKey($name)) { Read-Version $raw.services[$name].path } }
    $raw.processes = @(foreach ($process in [System.Diagnostics.Process]::GetProcesses()) {
            if ('WaAppAgent', 'WindowsAzureGuestAgent', 'IaaSBcdrExtension' -notcontains $process.ProcessName) { continue }
            $started = $null
            try { $started = $process.StartTime.ToUniversalTime().ToString('o', [cultureinfo]::InvariantCulture) }
            catch { Add-Denied "start time of process $($process.Id)" }
            @{ pid = $process.Id; name = $process.ProcessName; started = $started }
        })
}

# --- agent ---
if ($wanted.agent) {
    Read-Area 'agent' 'agent' {
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
}
if ($wanted.agent -or $wanted.extension) {
    Read-Area 'agent' '.NET and installed programs' {
        foreach ($root in 'HKLM\SOFTWARE\Microsoft\.NETFramework', 'HKLM\SOFTWARE\WOW6432Node\Microsoft\.NETFramework') {
            $key = Read-Key 'agent' $root @('Enable64Bit')
            if ($key) { foreach ($name in @($key.subkeys -match '^v[24]\.')) { [void](Read-Key 'agent' "$root\$name" @('SchUseStrongCrypto')) } }
        }
        $raw.programs = @(foreach ($root in 'SOFTWARE', 'SOFTWARE\WOW6432Node') {
                $key = $hives.HKLM.OpenSubKey("$root\Microsoft\Windows\CurrentVersion\Uninstall")
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
}
if ($wanted.extension) {
    Read-Area 'extension' 'state of the extensions' {
        $states = 'HKLM\SOFTWARE\Microsoft\Windows Azure\HandlerState'
        $key = Read-Key 'extension' $states @('none')
        if ($key) {
            $noSecret = '(?i)^(?!.*(settings|secret|thumbprint)).*$'
            foreach ($name in @($key.subkeys | Select-Object -First 100)) { [void](Read-Key 'extension' "$states\$name" $null $noSecret) }
        }
        Read-Acl 'extension' "$env:ProgramData\Microsoft\Crypto\RSA\MachineKeys"
        foreach ($path in 'WindowsAzure', 'Packages') { Read-Acl 'extension' "$drive\$path" }
    }
    Read-Area 'extension' 'certificate store LocalMachine\My' {
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
}

# --- snapshot ---
if ($wanted.vss) {
    Read-Area 'vss' 'settings of the backup extension' {
        foreach ($name in 'BcdrAgent', 'BcdrAgentPersistentKeys') { [void](Read-Key 'vss' "HKLM\SOFTWARE\Microsoft\$name") }
        [void](Read-Key 'vss' 'HKLM\SOFTWARE\Microsoft\Microsoft SQL Server' @('InstalledInstances'))
    }
}

# --- network ---
if ($wanted.network) {
    Read-Area 'network' 'proxies' {
        $settings = 'Software\Microsoft\Windows\CurrentVersion\Internet Settings'
        $names = @('ProxyEnable', 'ProxyServer', 'ProxyOverride', 'AutoConfigURL', 'AutoDetect', 'ProxySettingsPerUser')
        foreach ($root in 'HKU\S-1-5-18', 'HKLM') {
            [void](Read-Key 'network' "$root\$settings" $names)
            [void](Read-Key 'network' "$root\$settings\Connections" @('DefaultConnectionSettings', 'WinHttpSettings'))
        }
        [void](Read-Key 'network' "HKLM\SOFTWARE\Policies\Microsoft\Windows\CurrentVersion\Internet Settings" $names)
        [void](Read-Key 'network' 'HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment' $null '(?i)^(https?|all|no)_proxy$')
        $raw.machine_config = @{}
        foreach ($folder in 'Framework64', 'Framework') {
            $path = "$windir\Microsoft.NET\$folder\v4.0.30319\Config\machine.config"
            if ([System.IO.File]::Exists($path) -and (New-Object System.IO.FileInfo $path).Length -lt 2097152) {
                # The file may hold keys: only this element leaves the guest.
                $element = [regex]::Match([System.IO.File]::ReadAllText($path), '(?is)<defaultProxy\b[^>]*(?:/>|>.*?</defaultProxy>)')
                if ($element.Success) { $raw.machine_config[$path] = Hide-Secret $element.Value }
            }
        }
        # One address to probe: the first proxy that counts for the SYSTEM account.
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
                if (-not $server -and $length -gt 0 -and 16 + $length -le $bytes.Length) { $server = $latin1.GetString($bytes, 16, $length) }
            }
        }
        $pattern = '(?i)(?:^|;|\s)(?:https?=)?(?:https?://)?(?:[^@/;\s]*@)?([a-z0-9._-]{1,253}):(\d{1,5})(?:[;/\s]|$)'
        if ($server -and $server -match $pattern -and [int]$Matches[2] -lt 65536) {
            $name = $Matches[1]
            $port = [int]$Matches[2]
            Start-Probe 'proxy' "tcp://${name}:$port" $name $port ''
        }
    }
    Read-Area 'network' 'network interfaces' {
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
    Read-Area 'network' 'routes' {
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
    Read-Area 'network' 'way to the host' {
        # Connecting a datagram socket sends nothing, but routes.
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
    Read-Area 'network' 'firewall' {
        $policy = 'HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy'
        $block = '(?i)\|Action=Block\|.*\|Dir=Out\||\|Dir=Out\|.*\|Action=Block\|'
        [void](Read-Key 'network' "$policy\FirewallRules" $null $null $block)
        [void](Read-Key 'network' 'HKLM\SOFTWARE\Policies\Microsoft\WindowsFirewall\FirewallRules' $null $null $block)
        foreach ($name in 'DomainProfile', 'StandardProfile', 'PublicProfile') {
            [void](Read-Key 'network' "$policy\$name" @('EnableFirewall', 'DefaultOutboundAction'))
        }
    }
}

# --- load ---
if ($wanted.load) {
    Read-Area 'load' 'memory' {
        if ($null -ne $native) {
            $memory = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(64)
            try {
                [System.Runtime.InteropServices.Marshal]::WriteInt32($memory, 64)
                if ($native::GlobalMemoryStatusEx($memory)) {
                    # Total and available memory, total and available page file.
                    $raw.memory = @(8, 16, 24, 32 | ForEach-Object { [System.Runtime.InteropServices.Marshal]::ReadInt64($memory, $_) })
                }
            } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($memory) }
        }
    }
    Read-Area 'load' 'drives' {
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
}

# --- what was waited for ---
if ($wanted.network) { Read-Area 'network' 'probes' { Complete-Probe } }
Read-Area 'system' 'programs' { Complete-Program }
if ($null -ne $state.cpu_before) {
    Read-Area 'load' 'processors' {
        $left = [int]($module.Params.cpu_window_ms - ($clock.ElapsedMilliseconds - $state.cpu_at))
        if ($left -gt 0) { [System.Threading.Thread]::Sleep($left) }
        $raw.cpu = @{ before = $state.cpu_before; after = Read-Cpu; window_ms = $clock.ElapsedMilliseconds - $state.cpu_at }
    }
}

$raw.duration_ms = $clock.ElapsedMilliseconds
$module.Result.raw = $raw
$module.ExitJson()
