# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# An interface is known by its GUID, since its index may be another one after a restart. Without a GUID the index has to do.
Set-StrictMode -Version 2.0

$script:Interfaces = $null

function Get-InterfaceMap {
    <#
    .SYNOPSIS
    Interfaces by index and by GUID, read once.
    #>
    if ($null -eq $script:Interfaces) {
        $map = @{ guid = @{}; index = @{} }
        # Without an answer every route would seem to be gone, and every way back done.
        foreach ($adapter in @(Get-NetAdapter -ErrorAction Stop)) {
            if ($null -eq $adapter -or -not $adapter.InterfaceGuid) { continue }
            $guid = "$($adapter.InterfaceGuid)".ToUpperInvariant()
            $map['guid'][[int]$adapter.ifIndex] = $guid
            $map['index'][$guid] = [int]$adapter.ifIndex
        }
        $script:Interfaces = $map
    }
    return $script:Interfaces
}

function Clear-InterfaceMap {
    <#
    .SYNOPSIS
    Has the interfaces read again.
    #>
    $script:Interfaces = $null
}

function Get-InterfaceGuid([int]$Index) {
    <#
    .SYNOPSIS
    GUID of an interface, $null for one that is no adapter.
    .PARAMETER Index
    Its index.
    #>
    (Get-InterfaceMap)['guid'][$Index]
}

function Get-InterfaceIndex($Item) {
    <#
    .SYNOPSIS
    The present index of an item's interface, $null when the interface is gone.
    .PARAMETER Item
    The item.
    #>
    if (-not $Item['guid']) { return [int]$Item['index'] }
    return (Get-InterfaceMap)['index']["$($Item['guid'])".ToUpperInvariant()]
}

Export-ModuleMember -Function Clear-InterfaceMap, Get-InterfaceGuid, Get-InterfaceIndex, Get-InterfaceMap
