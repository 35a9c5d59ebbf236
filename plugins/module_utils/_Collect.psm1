# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Registry
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# Shared utilities of the collector: bounded reads of keys, files and folders, probes, programs. What they find goes into one table.
Set-StrictMode -Version 2.0

$script:Latin1 = [System.Text.Encoding]::GetEncoding(28591)
$script:Raw = $null
$script:Clock = $null
$script:TimeoutMs = 0
# Probes: all started at once, looked after between the other readings, ended by one deadline. None goes through a proxy.
$script:Probes = New-Object System.Collections.ArrayList
# Programs: started early, read at the end. Bytes as they come: the text is in the system's language and its OEM code page.
$script:Programs = New-Object System.Collections.ArrayList

function Start-Collection($Raw, [int]$TimeoutMs) {
    <#
    .SYNOPSIS
    Starts the clock.
    .PARAMETER Raw
    The table that takes what is found.
    .PARAMETER TimeoutMs
    How long one probe may take.
    #>
    $script:Raw = $Raw
    $script:TimeoutMs = $TimeoutMs
    $script:Clock = [System.Diagnostics.Stopwatch]::StartNew()
}

function Get-Elapsed {
    <#
    .SYNOPSIS
    Milliseconds since the start.
    #>
    $script:Clock.ElapsedMilliseconds
}

function Add-Failure([string]$Area, [string]$What, $Problem) {
    <#
    .SYNOPSIS
    Notes what could not be read.
    .PARAMETER Area
    The area it belongs to.
    .PARAMETER What
    What was tried.
    .PARAMETER Problem
    Error record, or text.
    #>
    $text = "$Problem"
    if ($Problem -is [System.Management.Automation.ErrorRecord]) { $text = "$($Problem.Exception.GetBaseException().Message)" }
    $script:Raw.errors += @{ area = $Area; what = $What; error = $text }
}

function Add-Denied([string]$What) {
    <#
    .SYNOPSIS
    Notes what this account must not read.
    .PARAMETER What
    What it is.
    #>
    if ($script:Raw.denied -notcontains $What) { $script:Raw.denied += $What }
}

function Test-Denied($Problem) {
    <#
    .SYNOPSIS
    Whether a failure is for want of rights.
    .PARAMETER Problem
    Error record.
    #>
    $inner = $Problem.Exception.GetBaseException()
    return $inner -is [System.UnauthorizedAccessException] -or $inner -is [System.Security.SecurityException]
}

function ConvertTo-Packed([byte[]]$Bytes) {
    <#
    .SYNOPSIS
    Bytes, compressed, as text.
    .PARAMETER Bytes
    The bytes.
    #>
    $buffer = New-Object System.IO.MemoryStream
    $gzip = New-Object System.IO.Compression.GZipStream($buffer, [System.IO.Compression.CompressionMode]::Compress)
    $gzip.Write($Bytes, 0, $Bytes.Length)
    $gzip.Dispose()
    return [Convert]::ToBase64String($buffer.ToArray())
}

function Get-KeyValue($Key, [string[]]$Names, [string]$Match, [string]$DataMatch, [bool]$Proxy) {
    <#
    .SYNOPSIS
    Values of a key, at most 500, without secrets: name to type and data.
    .PARAMETER Key
    The open key.
    .PARAMETER Names
    Only these.
    .PARAMETER Match
    Only those whose name fits.
    .PARAMETER DataMatch
    Only those whose data fits.
    .PARAMETER Proxy
    Whether the data may be addresses of proxies.
    #>
    $values = @{}
    $present = $Key.GetValueNames()
    if ($Names) { $present = @(foreach ($name in $present) { if ($Names -contains $name) { $name } }) }
    elseif ($Match) { $present = @($present -match $Match) }
    foreach ($name in $present) {
        $data = $Key.GetValue($name, $null, [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames)
        if ($DataMatch -and "$data" -notmatch $DataMatch) { continue }
        if ($values.Count -ge 500) { break }
        $kind = "$($Key.GetValueKind($name))"
        if ($data -is [byte[]]) { $data = [Convert]::ToBase64String($script:Latin1.GetBytes((Hide-Secret $script:Latin1.GetString($data) $Proxy))) }
        elseif ($data -is [string]) { $data = Hide-Secret $data.Substring(0, [Math]::Min($data.Length, 8192)) $Proxy }
        elseif ($data -is [string[]]) { $data = @(foreach ($text in $data) { Hide-Secret $text $Proxy }) }
        $values[$name] = @($kind, $data)
    }
    return $values
}

function Read-Key([string]$Area, [string]$Path, [string[]]$Names, [string]$Match, [string]$DataMatch) {
    <#
    .SYNOPSIS
    Reads a key.
    .PARAMETER Area
    The area it belongs to.
    .PARAMETER Path
    The key.
    .PARAMETER Names
    Only these values.
    .PARAMETER Match
    Only values whose name fits.
    .PARAMETER DataMatch
    Only values whose data fits.
    #>
    $entry = $null
    $proxy = $Path -match '\\(Internet Settings(\\Connections)?|Session Manager\\Environment)$'
    try {
        $key = Open-Key $Path
        if ($null -ne $key) {
            $entry = @{ values = Get-KeyValue $key $Names $Match $DataMatch $proxy; subkeys = @($key.GetSubKeyNames()) }
            $key.Dispose()
        }
        $script:Raw.registry[$Path] = $entry
    } catch {
        if (Test-Denied $_) { Add-Denied $Path } else { Add-Failure $Area "read $Path" $_ }
    }
    return $entry
}

function Read-File([string]$Area, [string]$Path, [int]$Limit) {
    <#
    .SYNOPSIS
    A file's last bytes, never more; nothing for a file that is not there.
    .PARAMETER Area
    The area it belongs to.
    .PARAMETER Path
    The file.
    .PARAMETER Limit
    How many bytes.
    #>
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
        $encoding = $script:Latin1
        if ($done -ge 2 -and $bytes[0] -eq 0xff -and $bytes[1] -eq 0xfe) { $encoding = [System.Text.Encoding]::Unicode }
        $text = $encoding.GetString($bytes, 0, $done)
        $clean = Hide-Secret $text
        if ($clean -cne $text) { $bytes = $encoding.GetBytes($clean); $done = $bytes.Length }
        if ($done -lt $bytes.Length) { $bytes = [byte[]]$bytes[0..([Math]::Max(0, $done - 1))] }
        $script:Raw.files[$Path] = @{
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

function Read-Folder([string]$Area, [string]$Path, [string]$Filter, [switch]$Folders) {
    <#
    .SYNOPSIS
    The names in a folder (at most 500), newest written first; $null for one that is not there.
    .PARAMETER Area
    The area it belongs to.
    .PARAMETER Path
    The folder.
    .PARAMETER Filter
    Which names.
    .PARAMETER Folders
    Folders instead of files.
    #>
    $names = $null
    try {
        $info = New-Object System.IO.DirectoryInfo $Path
        if ($info.Exists) {
            if ($Folders) { $found = $info.GetDirectories($Filter) } else { $found = $info.GetFiles($Filter) }
            $names = @($found | Sort-Object -Property LastWriteTimeUtc -Descending | Select-Object -First 500 | ForEach-Object { $_.Name })
        }
        $script:Raw.folders["$Path\$Filter"] = $names
    } catch {
        if (Test-Denied $_) { Add-Denied $Path } else { Add-Failure $Area "list $Path" $_ }
    }
    if ($null -ne $names) { $names }
}

function Read-Version([string]$Path) {
    <#
    .SYNOPSIS
    Reads the version of a program.
    .PARAMETER Path
    The program.
    #>
    if (-not $Path -or $script:Raw.versions.ContainsKey($Path)) { return }
    try {
        if (-not [System.IO.File]::Exists($Path)) { return }
        $info = [System.Diagnostics.FileVersionInfo]::GetVersionInfo($Path)
        $script:Raw.versions[$Path] = @{
            file = "$($info.FileMajorPart).$($info.FileMinorPart).$($info.FileBuildPart).$($info.FilePrivatePart)"
            product = $info.ProductVersion
        }
    } catch { Add-Failure 'agent' "read the version of $Path" $_ }
}

function Read-Acl([string]$Area, [string]$Path) {
    <#
    .SYNOPSIS
    Reads the access rights of a folder.
    .PARAMETER Area
    The area it belongs to.
    .PARAMETER Path
    The folder.
    #>
    try {
        if (-not [System.IO.Directory]::Exists($Path)) { return }
        $descriptor = New-Object System.Security.AccessControl.DirectorySecurity(
            $Path, ([System.Security.AccessControl.AccessControlSections]'Access, Owner, Group'))
        $script:Raw.acls[$Path] = $descriptor.GetSecurityDescriptorSddlForm([System.Security.AccessControl.AccessControlSections]'Access, Owner, Group')
    } catch {
        if (Test-Denied $_) { Add-Denied $Path } else { Add-Failure $Area "read the access rights of $Path" $_ }
    }
}

function Start-Probe([string]$Name, [string]$Url, [string]$Address, [int]$Port, [string]$Request) {
    <#
    .SYNOPSIS
    Starts a probe.
    .PARAMETER Name
    Its name.
    .PARAMETER Url
    What it asks, for people.
    .PARAMETER Address
    Address or name.
    .PARAMETER Port
    Port.
    .PARAMETER Request
    What is sent; nothing when the connection is enough.
    #>
    $probe = @{
        name = $Name; url = $Url; request = $Request; stage = 'connect'; done = $false; error = $null; code = $null; time_ms = $null
        received = $null; text = ''; buffer = (New-Object byte[] 16384); task = $null
        client = (New-Object System.Net.Sockets.TcpClient([System.Net.Sockets.AddressFamily]::InterNetwork))
        started = $script:Clock.ElapsedMilliseconds; stream = $null
    }
    try { $probe.task = $probe.client.ConnectAsync($Address, $Port) } catch { Stop-Probe $probe $_.Exception }
    [void]$script:Probes.Add($probe)
}

function Stop-Probe($Probe, $Problem) {
    <#
    .SYNOPSIS
    Ends a probe.
    .PARAMETER Probe
    The probe.
    .PARAMETER Problem
    What went wrong, $null for nothing.
    #>
    $Probe.done = $true
    $Probe.time_ms = $script:Clock.ElapsedMilliseconds - $Probe.started
    if ($null -ne $Problem) {
        $inner = $Problem.GetBaseException()
        $Probe.error = $inner.Message
        if ($inner -is [System.Net.Sockets.SocketException]) { $Probe.code = "$($inner.SocketErrorCode)" }
    }
    try { $Probe.client.Close() } catch { $Probe.stage = 'closed' }
}

function Add-Answer($Probe) {
    <#
    .SYNOPSIS
    Takes what came in. Whether the answer is complete.
    .PARAMETER Probe
    The probe.
    #>
    $count = $Probe.task.Result
    $Probe.text += $script:Latin1.GetString($Probe.buffer, 0, $count)
    if ($null -eq $Probe.received) { $Probe.received = [DateTime]::UtcNow.ToString('o', [cultureinfo]::InvariantCulture) }
    $head = $Probe.text.IndexOf("`r`n`r`n")
    $length = -1
    if ($head -ge 0 -and $Probe.text.Substring(0, $head) -match '(?im)^content-length:\s*(\d{1,9})\s*$') {
        $length = [int]$Matches[1]
    }
    return $count -eq 0 -or $Probe.text.Length -ge 65536 -or ($length -ge 0 -and $Probe.text.Length -ge $head + 4 + $length)
}

function Step-Probe {
    <#
    .SYNOPSIS
    Takes every probe as far as it gets without waiting.
    #>
    foreach ($probe in $script:Probes) {
        while (-not $probe.done -and $probe.task.IsCompleted) {
            try {
                if ($probe.task.IsFaulted -or $probe.task.IsCanceled) { Stop-Probe $probe $probe.task.Exception; break }
                if ($probe.stage -eq 'connect') {
                    if (-not $probe.request) { Stop-Probe $probe $null; break }
                    $probe.stream = $probe.client.GetStream()
                    $bytes = [System.Text.Encoding]::ASCII.GetBytes($probe.request)
                    $probe.stream.Write($bytes, 0, $bytes.Length)
                    $probe.stage = 'answer'
                } elseif (Add-Answer $probe) { Stop-Probe $probe $null; break }
                $probe.task = $probe.stream.ReadAsync($probe.buffer, 0, $probe.buffer.Length)
            } catch { Stop-Probe $probe $_.Exception; break }
        }
    }
}

function Read-Imds([string]$Text) {
    <#
    .SYNOPSIS
    What of the instance metadata may leave the guest: the document may hold user data.
    .PARAMETER Text
    The answer.
    #>
    $imds = @{ location = $null; cloud = $null; cards = @() }
    if ($Text -match '"location"\s*:\s*"([^"]{0,60})"') { $imds.location = $Matches[1] }
    if ($Text -match '"azEnvironment"\s*:\s*"([^"]{0,60})"') { $imds.cloud = $Matches[1] }
    # Each card with its addresses in their order: by DHCP it gets the first.
    $begin = $Text.IndexOf('{')
    $end = $Text.LastIndexOf('}')
    try {
        if ($begin -ge 0 -and $end -gt $begin -and $Text.IndexOf('"interface"', [StringComparison]::Ordinal) -ge 0) {
            $imds.cards = @(foreach ($card in @((ConvertFrom-Json $Text.Substring($begin, $end - $begin + 1)).network.interface)) {
                    @{
                        mac = "$($card.macAddress)" -replace '[^0-9A-Fa-f]'
                        addresses = @(@($card.ipv4.ipAddress) | ForEach-Object { "$($_.privateIpAddress)" } | Where-Object { $_ -match '^[0-9.]{7,15}$' })
                    }
                })
        }
    } catch { Add-Failure 'network' 'the network of the instance metadata' $_ }
    $script:Raw.imds = $imds
}

function Get-ProbeResult($Probe) {
    <#
    .SYNOPSIS
    What is reported of a probe.
    .PARAMETER Probe
    The probe.
    #>
    $result = @{
        url = $Probe.url; time_ms = $Probe.time_ms; stage = $Probe.stage; code = $Probe.code; error = $Probe.error; received = $Probe.received
        head = ''; body = ''
    }
    $end = $Probe.text.IndexOf("`r`n`r`n")
    $length = [Math]::Min($Probe.text.Length, 200)
    if ($end -ge 0) { $length = [Math]::Min($end, 4096) }
    $result.head = $Probe.text.Substring(0, $length)
    if ($end -ge 0 -and $Probe.name -eq 'wireserver') {
        $result.body = $Probe.text.Substring($end + 4, [Math]::Min(2048, $Probe.text.Length - $end - 4))
    }
    if ($end -ge 0 -and $Probe.name -eq 'imds') { Read-Imds $Probe.text }
    return $result
}

function Complete-Probe {
    <#
    .SYNOPSIS
    Waits for the probes, until their deadline.
    #>
    while ($true) {
        Step-Probe
        $open = @($script:Probes | Where-Object { -not $_.done })
        if (-not $open.Count) { break }
        $left = [int](($open | ForEach-Object { $_.started + $script:TimeoutMs } | Measure-Object -Maximum).Maximum - $script:Clock.ElapsedMilliseconds)
        if ($left -le 0) { break }
        [void][System.Threading.Tasks.Task]::WaitAny([System.Threading.Tasks.Task[]]@($open | ForEach-Object { $_.task }), $left)
    }
    foreach ($probe in $script:Probes) {
        if (-not $probe.done) { Stop-Probe $probe $null; $probe.code = 'Deadline' }
        $script:Raw.probes[$probe.name] = Get-ProbeResult $probe
    }
}

function Start-Program([string]$Area, [string]$Path, [string]$Arguments, [int]$LimitMs) {
    <#
    .SYNOPSIS
    Starts a program.
    .PARAMETER Area
    The area it belongs to.
    .PARAMETER Path
    The program.
    .PARAMETER Arguments
    Its arguments.
    .PARAMETER LimitMs
    How long it may take.
    #>
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
        $until = $script:Clock.ElapsedMilliseconds + $LimitMs
        [void]$script:Programs.Add(@{ area = $Area; name = $name; process = $process; output = $output; copy = $copy; until = $until; limit = $LimitMs })
    } catch { Add-Failure $Area $name $_ }
}

function Complete-Program {
    <#
    .SYNOPSIS
    Waits for the programs, and reads what they wrote.
    #>
    foreach ($program in $script:Programs) {
        $left = [int][Math]::Max(0, $program.until - $script:Clock.ElapsedMilliseconds)
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
            $script:Raw.commands[$program.name] = @{ rc = $program.process.ExitCode; data = ConvertTo-Packed ([byte[]]$bytes) }
        } catch { Add-Failure $program.area $program.name $_ }
    }
}

function Get-ProgramText([string]$Name) {
    <#
    .SYNOPSIS
    What a program wrote; empty when it was not started.
    .PARAMETER Name
    Its name and arguments.
    #>
    $listed = @($script:Programs | Where-Object { $_.name -eq $Name } | Select-Object -Last 1)
    if (-not $listed.Count) { return '' }
    return [System.Text.Encoding]::ASCII.GetString($listed[0].output.ToArray())
}

function Clear-Program {
    <#
    .SYNOPSIS
    Forgets the programs that ended.
    #>
    $script:Programs.Clear()
}

function Read-Area([string]$Area, [string]$What, [scriptblock]$Script) {
    <#
    .SYNOPSIS
    Reads one thing; what fails is noted, and the rest goes on.
    .PARAMETER Area
    The area it belongs to.
    .PARAMETER What
    What is read.
    .PARAMETER Script
    Reads it.
    #>
    try { & $Script } catch { Add-Failure $Area $What $_ }
    Step-Probe
}

Export-ModuleMember -Function Add-Denied, Add-Failure, Clear-Program, Complete-Probe, Complete-Program, ConvertTo-Packed, Get-Elapsed,
Get-ProgramText, Read-Acl, Read-Area, Read-File, Read-Folder, Read-Key, Read-Version, Start-Collection, Start-Probe, Start-Program
