# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Leaf: whether a snapshot runs or starts. The collector reports it, and writers look immediately before they write.
Set-StrictMode -Version 2.0

$script:Extension = 'Microsoft.Azure.RecoveryServices.VMSnapshot'
$script:Process = 'IaaSBcdrExtension'
# The code that says "still running". A younger one counts as a running snapshot.
$script:Running = 4
$script:RunningLimitS = 600
# Settings or a status that young may belong to a snapshot that is just beginning.
$script:BeginningS = 10
# A clock that is being corrected.
$script:ClockMarginS = 5
$script:StatusBytes = 1048576

function Select-Version([string[]]$Names) {
    <#
    .SYNOPSIS
    Names of versions, highest first; what is no version comes last.
    .PARAMETER Names
    The names.
    #>
    $Names | Where-Object { $_ } | Sort-Object -Descending -Property {
        $version = $null
        if ([version]::TryParse($_, [ref]$version)) { $version } else { [version]'0.0' }
    }
}

function Get-ExtensionFolder {
    <#
    .SYNOPSIS
    The folder of the highest version of the snapshot extension, $null without one.
    #>
    $root = "$env:SystemDrive\Packages\Plugins\$($script:Extension)"
    if (-not [System.IO.Directory]::Exists($root)) { return $null }
    $versions = @(Select-Version @([System.IO.Directory]::GetDirectories($root) | ForEach-Object { [System.IO.Path]::GetFileName($_) }))
    if (-not $versions.Count) { return $null }
    return [System.IO.Path]::Combine($root, $versions[0])
}

function Get-NewestFile([string]$Folder, [string]$Ending) {
    <#
    .SYNOPSIS
    The file with the highest number: @{ number; path; age_s }. Its number is -1 without one.
    .PARAMETER Folder
    The folder.
    .PARAMETER Ending
    status or settings.
    #>
    $newest = @{ number = -1; path = $null; age_s = $null }
    if (-not [System.IO.Directory]::Exists($Folder)) { return $newest }
    foreach ($path in [System.IO.Directory]::GetFiles($Folder, "*.$Ending")) {
        $name = [System.IO.Path]::GetFileName($path)
        if ($name -notmatch "^(\d{1,9})\.$Ending$" -or [int]$Matches[1] -le $newest['number']) { continue }
        $newest = @{ number = [int]$Matches[1]; path = $path; age_s = ([DateTime]::UtcNow - [System.IO.File]::GetLastWriteTimeUtc($path)).TotalSeconds }
    }
    return $newest
}

function Get-Field([string]$Name, $Value) {
    <#
    .SYNOPSIS
    A member of what ConvertFrom-Json made, $null without one.
    .PARAMETER Name
    Its name.
    .PARAMETER Value
    The object, or what there is instead.
    #>
    if ($Value -isnot [System.Management.Automation.PSCustomObject]) { return $null }
    $property = $Value.PSObject.Properties[$Name]
    if ($null -ne $property) { return $property.Value }
}

function Get-Code($Status) {
    <#
    .SYNOPSIS
    The code of a status, be it a number or a text; $null without one.
    .PARAMETER Status
    The status.
    #>
    $code = "$(Get-Field 'code' $Status)"
    if ($code -match '^-?\d{1,9}$') { return [int]$code }
    return $null
}

function Get-Age($Value) {
    <#
    .SYNOPSIS
    Seconds since a time, $null for what is none. ConvertFrom-Json makes a time of some texts, and leaves others.
    .PARAMETER Value
    The time.
    #>
    $at = [DateTime]::MinValue
    if ($Value -is [datetime]) {
        $at = $Value
        if ("$($Value.Kind)" -eq 'Local') { $at = $Value.ToUniversalTime() }
    } elseif (-not [DateTime]::TryParse("$Value", [cultureinfo]::InvariantCulture, [System.Globalization.DateTimeStyles]'AdjustToUniversal, AssumeUniversal', [ref]$at)) {
        return $null
    }
    return ([DateTime]::UtcNow - $at).TotalSeconds
}

function Read-Status([string]$Path) {
    <#
    .SYNOPSIS
    What a status file says: @{ code; age_s }, both $null for one that is half written or cannot be read.
    .PARAMETER Path
    The file.
    #>
    $said = @{ code = $null; age_s = $null }
    $reader = $null
    try {
        if ((New-Object System.IO.FileInfo $Path).Length -gt $script:StatusBytes) { return $said }
        $stream = New-Object System.IO.FileStream($Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, ([System.IO.FileShare]'ReadWrite, Delete'))
        $reader = New-Object System.IO.StreamReader $stream
        $found = ConvertFrom-Json ($reader.ReadToEnd().Replace("$([char]0)", ''))
        $outer = @($found)[0]
        $status = Get-Field 'status' $outer
        $said['code'] = Get-Code $status
        $said['age_s'] = Get-Age (Get-Field 'timestampUTC' $outer)
        foreach ($sub in @(Get-Field 'substatus' $status)) {
            # Newer versions put the status that counts into a text.
            $text = "$(Get-Field 'name' $sub)"
            if (-not $text.TrimStart().StartsWith('[')) { continue }
            $found = ConvertFrom-Json $text
            $inner = @($found)[0]
            if ($null -eq (Get-Field 'status' $inner)) { continue }
            $code = Get-Code (Get-Field 'status' $inner)
            if ($null -ne $code) { $said['code'] = $code }
            $age = Get-Age (Get-Field 'timestampUTC' $inner)
            if ($null -ne $age) { $said['age_s'] = $age }
            break
        }
    } catch { return $said } finally { if ($null -ne $reader) { $reader.Dispose() } }
    return $said
}

function Get-SnapshotWork {
    <#
    .SYNOPSIS
    What the snapshot extension does: @{ in_progress; busy }. Busy is a snapshot that begins, too.
    #>
    $runs = $false
    foreach ($process in [System.Diagnostics.Process]::GetProcessesByName($script:Process)) { $runs = $true; $process.Dispose() }
    $folder = Get-ExtensionFolder
    if ($null -eq $folder) { return @{ in_progress = $runs; busy = $runs } }
    $status = Get-NewestFile "$folder\Status" 'status'
    $settings = Get-NewestFile "$folder\RuntimeSettings" 'settings'
    $said = @{ code = $null; age_s = $null }
    if ($null -ne $status['path']) { $said = Read-Status $status['path'] }
    # Of the time in the status and that of its file the older counts. Times of the future are those of a clock that was wrong, and prove nothing.
    $age = @($said['age_s'], $status['age_s'] | Where-Object { $null -ne $_ } | Sort-Object)
    if ($said['code'] -eq $script:Running -and $age.Count -and $age[-1] -ge -$script:ClockMarginS -and $age[-1] -lt $script:RunningLimitS) { $runs = $true }
    # Settings that no status answers yet, or a status that says nothing yet.
    $answered = $status['number'] -ge $settings['number'] -and $null -ne $said['code'] -and $said['code'] -ne $script:Running
    $young = @($status, $settings | Where-Object { $null -ne $_['path'] -and $_['age_s'] -ge -$script:ClockMarginS -and $_['age_s'] -lt $script:BeginningS })
    return @{ in_progress = $runs; busy = $runs -or (-not $answered -and $young.Count -gt 0) }
}

function Test-Snapshot {
    <#
    .SYNOPSIS
    Whether a snapshot runs or starts.
    #>
    (Get-SnapshotWork)['busy']
}

Export-ModuleMember -Function Get-SnapshotWork, Select-Version, Test-Snapshot
