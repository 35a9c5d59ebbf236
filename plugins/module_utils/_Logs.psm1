# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Redact
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# What a support case needs of a Windows guest, in one archive in memory: read within bounds, redacted here before it travels, listed in a manifest.
Set-StrictMode -Version 2.0
# Windows PowerShell does not load it by itself.
[void][System.Reflection.Assembly]::Load('System.IO.Compression, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089')

$script:Mask = '[redacted]'
# How many times as long as one file all of them may take.
$script:Files = 30
# Never read, whatever folder they lie in: keys, certificates, answers to the setup, settings of extensions, archives.
$script:Never = New-Object System.Text.RegularExpressions.Regex(
    '(?:\.(?:settings|pem|pfx|p7m|cer|crt|key|prv|zip|gz|cab|etl|dmp|evtx)|[\\/](?:ovf-env|unattend|customdata|certificates|extensionsconfig|vmsettings)[^\\/]*)$',
    ([System.Text.RegularExpressions.RegexOptions]'IgnoreCase, CultureInvariant'))
$script:KeyEnd = New-Object System.Text.RegularExpressions.Regex '-----END [A-Z0-9 ]{1,40}-----'

function New-LogArchive($Limits) {
    <#
    .SYNOPSIS
    An empty archive.
    .PARAMETER Limits
    max_bytes, max_file_bytes, max_files, max_age_days, timeout_s.
    #>
    $stream = New-Object System.IO.MemoryStream
    return @{
        limits = $Limits; left = [long]$Limits.max_bytes; stream = $stream; clock = [System.Diagnostics.Stopwatch]::StartNew()
        files = (New-Object System.Collections.ArrayList); left_out = (New-Object System.Collections.ArrayList)
        zip = (New-Object System.IO.Compression.ZipArchive($stream, [System.IO.Compression.ZipArchiveMode]::Create, $true))
    }
}

function Get-TimeLeft($Archive) {
    <#
    .SYNOPSIS
    Seconds that are left for the archive.
    .PARAMETER Archive
    The archive.
    #>
    $script:Files * [double]$Archive.limits.timeout_s - $Archive.clock.Elapsed.TotalSeconds
}

function Protect-LogText([string]$Text, [bool]$Cut, [double]$Seconds) {
    <#
    .SYNOPSIS
    A text without secrets, and how many were masked. Throws when that takes too long.
    .PARAMETER Text
    The text.
    .PARAMETER Cut
    Whether its beginning is missing: a key that began there is known by its end only.
    .PARAMETER Seconds
    How long it may take.
    #>
    $before = Measure-Mask $Text
    if ($Cut) {
        $end = $script:KeyEnd.Match($Text)
        $begin = $Text.IndexOf('-----BEGIN ', [StringComparison]::Ordinal)
        if ($end.Success -and ($begin -lt 0 -or $begin -gt $end.Index)) { $Text = $script:Mask + $Text.Substring($end.Index + $end.Length) }
    }
    $Text = Protect-Text $Text $Seconds
    return @{ text = $Text; count = [Math]::Max(0, (Measure-Mask $Text) - $before) }
}

function Add-Left($Archive, [string]$Path, [string]$Reason) {
    <#
    .SYNOPSIS
    Notes what is not in the archive.
    .PARAMETER Archive
    The archive.
    .PARAMETER Path
    What it is.
    .PARAMETER Reason
    Why it is not.
    #>
    [void]$Archive.left_out.Add(@{ path = (Protect-Text $Path); reason = $Reason })
}

function Add-Entry($Archive, [string]$Name, [byte[]]$Bytes) {
    <#
    .SYNOPSIS
    Puts bytes into the archive.
    .PARAMETER Archive
    The archive.
    .PARAMETER Name
    Name in it.
    .PARAMETER Bytes
    The bytes.
    #>
    $stream = $Archive.zip.CreateEntry("vmbackup/$Name").Open()
    try { $stream.Write($Bytes, 0, $Bytes.Length) } finally { $stream.Dispose() }
}

function Get-Sha256([byte[]]$Bytes) {
    <#
    .SYNOPSIS
    The SHA-256 of bytes, in hexadecimal digits.
    .PARAMETER Bytes
    The bytes.
    #>
    $hash = [System.Security.Cryptography.SHA256]::Create()
    try { return ConvertTo-Hex $hash.ComputeHash($Bytes) } finally { $hash.Dispose() }
}

function Add-LogText($Archive, [string]$Name, [string]$Source, [string]$Text, $Size, $Modified, [bool]$Cut) {
    <#
    .SYNOPSIS
    Redacts a text and puts it into the archive.
    .PARAMETER Archive
    The archive.
    .PARAMETER Name
    Name in it.
    .PARAMETER Source
    Where it comes from.
    .PARAMETER Text
    The text.
    .PARAMETER Size
    Bytes of the source, if it is a file.
    .PARAMETER Modified
    When it was written, if that is known.
    .PARAMETER Cut
    Whether the beginning is missing.
    #>
    $seconds = [Math]::Min([double]$Archive.limits.timeout_s, (Get-TimeLeft $Archive))
    if ($seconds -le 0) { return Add-Left $Archive $Source 'the time was over' }
    # What was not looked through to its end does not leave the guest.
    try { $shown = Protect-LogText $Text $Cut $seconds } catch { return Add-Left $Archive $Source (Get-Cause $_) }
    $bytes = (New-Object System.Text.UTF8Encoding $false).GetBytes($shown.text)
    $Archive.left -= $bytes.Length
    Add-Entry $Archive $Name $bytes
    [void]$Archive.files.Add(@{
            name = $Name; source = (Protect-Text $Source); bytes = $bytes.Length; source_bytes = $Size; modified = $Modified; cut = $Cut
            redactions = $shown.count; sha256 = (Get-Sha256 $bytes)
        })
}

function Add-LogFile($Archive, [System.IO.FileInfo]$File) {
    <#
    .SYNOPSIS
    Puts the end of a file into the archive, or notes why not.
    .PARAMETER Archive
    The archive.
    .PARAMETER File
    The file.
    #>
    $path = $File.FullName
    if ($script:Never.IsMatch($path)) { return Add-Left $Archive $path 'never collected' }
    if ($File.Attributes -band [System.IO.FileAttributes]::ReparsePoint) { return Add-Left $Archive $path 'it is a link' }
    if (([DateTime]::UtcNow - $File.LastWriteTimeUtc).TotalDays -gt $Archive.limits.max_age_days) {
        return Add-Left $Archive $path "older than $($Archive.limits.max_age_days) days"
    }
    if ((Get-TimeLeft $Archive) -le 0) { return Add-Left $Archive $path 'the time was over' }
    $limit = [Math]::Min([long]$Archive.limits.max_file_bytes, $Archive.left)
    if ($limit -le 0 -or $Archive.files.Count -ge $Archive.limits.max_files) { return Add-Left $Archive $path 'the archive is full' }
    try {
        $stream = New-Object System.IO.FileStream($path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, [System.IO.FileShare]'ReadWrite, Delete')
        try {
            $size = $stream.Length
            $cut = $size -gt $limit
            if ($cut) { [void]$stream.Seek($size - $limit, [System.IO.SeekOrigin]::Begin) }
            $bytes = New-Object byte[] ([int][Math]::Min($size, $limit))
            $have = 0
            while ($have -lt $bytes.Length) {
                $count = $stream.Read($bytes, $have, $bytes.Length - $have)
                if ($count -le 0) { break }
                $have += $count
            }
        } finally { $stream.Dispose() }
    } catch { return Add-Left $Archive $path (Get-Cause $_) }
    $wide = $have -gt 1 -and $bytes[0] -eq 0xff -and $bytes[1] -eq 0xfe
    if ($cut -and -not $wide) { $wide = $have -gt 3 -and $bytes[1] -eq 0 -and $bytes[3] -eq 0 }
    $head = [Math]::Min($have, 8192)
    if (-not $wide -and [Array]::IndexOf($bytes, [byte]0, 0, $head) -ge 0) { return Add-Left $Archive $path 'no text' }
    $text = $(if ($wide) { [System.Text.Encoding]::Unicode } else { [System.Text.Encoding]::UTF8 }).GetString($bytes, 0, $have)
    if ($cut) { $text = $text.Substring($text.IndexOf("`n", [StringComparison]::Ordinal) + 1) }
    $name = 'files/' + $path.Replace(':', '').Replace('\', '/')
    Add-LogText $Archive $name $path $text $size $File.LastWriteTimeUtc.ToString('yyyy-MM-ddTHH:mm:ssZ', [cultureinfo]::InvariantCulture) $cut
}

function Add-LogFolder($Archive, [string]$Folder, [string[]]$Patterns, [int]$Depth) {
    <#
    .SYNOPSIS
    Puts the files of a folder and of those below it into the archive, the newest first.
    .PARAMETER Archive
    The archive.
    .PARAMETER Folder
    The folder; one that is not there is passed over.
    .PARAMETER Patterns
    Which files.
    .PARAMETER Depth
    How many folders deep. Links to folders are not followed.
    #>
    $open = @(New-Object System.IO.DirectoryInfo $Folder)
    $files = @()
    for ($level = 0; $level -le $Depth; $level++) {
        $next = @()
        foreach ($place in $open) {
            try {
                if (-not $place.Exists) { continue }
                foreach ($pattern in $Patterns) { $files += @($place.GetFiles($pattern)) }
                $next += @($place.GetDirectories() | Where-Object { -not ($_.Attributes -band [System.IO.FileAttributes]::ReparsePoint) })
            } catch { Add-Left $Archive $place.FullName (Get-Cause $_) }
        }
        $open = $next
    }
    foreach ($file in @($files | Sort-Object -Property LastWriteTimeUtc -Descending)) { Add-LogFile $Archive $file }
}

function Complete-LogArchive($Archive) {
    <#
    .SYNOPSIS
    Closes the archive; returns its content in Base64, and the manifest.
    .PARAMETER Archive
    The archive.
    #>
    $redactions = 0
    foreach ($file in $Archive.files) { $redactions += $file.redactions }
    $manifest = @{
        schema_version = 1; collected_at = (Get-Now); limits = $Archive.limits; redactions = $redactions
        files = @($Archive.files); left_out = @($Archive.left_out)
    }
    Add-Entry $Archive 'manifest.json' ([System.Text.Encoding]::UTF8.GetBytes((ConvertTo-Json $manifest -Depth 5)))
    $Archive.zip.Dispose()
    $bytes = $Archive.stream.ToArray()
    return @{
        content = [Convert]::ToBase64String($bytes); bytes = $bytes.Length; sha256 = (Get-Sha256 $bytes); redactions = $redactions; manifest = $manifest
    }
}

Export-ModuleMember -Function Add-LogFile, Add-LogFolder, Complete-LogArchive, New-LogArchive, Protect-LogText
