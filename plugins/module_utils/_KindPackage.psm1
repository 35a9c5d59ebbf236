# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Registry

# Kind package: what Windows Installer installed. Item: name (its beginning). State: installed, the products as CODE|VERSION|NAME. Read only.
Set-StrictMode -Version 2.0

function Read-Package($Item) {
    <#
    .SYNOPSIS
    The products of a package.
    .PARAMETER Item
    The item.
    #>
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

function Get-FormerPackage($State, $Chain, [bool]$Removable, [bool]$Force) {
    <#
    .SYNOPSIS
    Products of a package: which of them undo may uninstall, and what stays.
    .PARAMETER State
    The present state.
    .PARAMETER Chain
    The items of the package in all undo points, newest first.
    .PARAMETER Removable
    Whether nothing was there before.
    .PARAMETER Force
    Whether what the repair is not known to have installed goes too.
    #>
    $present = @($State['installed'] | Where-Object { $_ })
    $before = @($Chain[-1]['before']['installed'] | Where-Object { $_ })
    $wrote = @(foreach ($link in $Chain) { foreach ($written in @($link['written'] | Where-Object { $null -ne $_ })) { @($written['installed'] | Where-Object { $_ }) } })
    $extra = @($present | Where-Object { $before -notcontains $_ })
    $mine = @($extra | Where-Object { $Force -or $wrote -contains $_ })
    $left = @($extra | Where-Object { $mine -notcontains $_ } | ForEach-Object {
            $product, $version, $shown = $_.Split([char[]]'|', 3)
            "package ${shown}: version $version is not known to come from a repair, so it stays."
        })
    if (-not $Removable) { $mine = @() }
    return @{ uninstall = $mine; left = $left }
}

function Get-PackageLabel($Item) {
    <#
    .SYNOPSIS
    The name of an item.
    .PARAMETER Item
    The item.
    #>
    "package $($Item['name'])"
}

function Get-PackageText($Item, $State) {
    <#
    .SYNOPSIS
    A state as a person reads it.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state.
    #>
    $null = $Item
    if (@($State['installed']).Count) { return @($State['installed']) -join ', ' }
    return 'absent'
}

function Get-KindPackage {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{ read = ${function:Read-Package}; label = ${function:Get-PackageLabel}; text = ${function:Get-PackageText} }
}

Export-ModuleMember -Function Get-FormerPackage, Get-KindPackage
