# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Leaf: the 64-bit view of the registry, whatever the bitness of this process.
Set-StrictMode -Version 2.0

$script:Hives = @{}

function Get-Hive([string]$Name) {
    <#
    .SYNOPSIS
    An open hive.
    .PARAMETER Name
    HKLM or HKU.
    #>
    if (-not $script:Hives.ContainsKey($Name)) {
        $view = [Microsoft.Win32.RegistryView]::Default
        if ([Environment]::Is64BitOperatingSystem) { $view = [Microsoft.Win32.RegistryView]::Registry64 }
        $hive = @{ HKLM = [Microsoft.Win32.RegistryHive]::LocalMachine; HKU = [Microsoft.Win32.RegistryHive]::Users }[$Name]
        $script:Hives[$Name] = [Microsoft.Win32.RegistryKey]::OpenBaseKey($hive, $view)
    }
    return $script:Hives[$Name]
}

function Open-Key([string]$Path, [switch]$Write) {
    <#
    .SYNOPSIS
    Opens a key, $null for one that does not exist.
    .PARAMETER Path
    HKLM\... or HKU\...
    .PARAMETER Write
    For writing; it is created where it does not exist.
    #>
    $hive, $below = $Path.Split([char[]]'\', 2)
    if ($Write) { return (Get-Hive $hive).CreateSubKey($below) }
    return (Get-Hive $hive).OpenSubKey($below)
}

function Remove-EmptyKey([string]$Path) {
    <#
    .SYNOPSIS
    Deletes a key that has neither values nor keys below. Whether it is gone.
    .PARAMETER Path
    HKLM\... or HKU\...
    #>
    $key = Open-Key $Path
    if ($null -eq $key) { return $true }
    $used = $key.ValueCount + $key.SubKeyCount
    $key.Dispose()
    if ($used) { return $false }
    $hive, $below = $Path.Split([char[]]'\', 2)
    (Get-Hive $hive).DeleteSubKey($below, $false)
    return $true
}

Export-ModuleMember -Function Open-Key, Remove-EmptyKey
