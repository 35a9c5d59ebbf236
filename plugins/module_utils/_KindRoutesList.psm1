# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Interface
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindRoute
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._UndoStore

# Kind routes_list: the routes that this collection added. State: routes, each as PREFIX|GUID OF THE INTERFACE|HOP.
Set-StrictMode -Version 2.0

function ConvertTo-OwnRoute([string]$Key) {
    <#
    .SYNOPSIS
    How the list names a route; what has no adapter stays as it is.
    .PARAMETER Key
    Its key in the table of routes.
    #>
    if ($Key -notmatch '\|\d+\|') { return $Key }
    $item = Get-RouteItem $Key
    if ($item['guid']) { return "$($item['prefix'])|$($item['guid'])|$($item['hop'])" }
    return $Key
}

function ConvertFrom-OwnRoute([string]$Own) {
    <#
    .SYNOPSIS
    The key of a route in the table of routes.
    .PARAMETER Own
    How the list names it.
    #>
    $prefix, $interface, $hop = $Own.Split('|')
    $index = (Get-InterfaceMap)['index'][$interface]
    if ($null -ne $index) { return "$prefix|$index|$hop" }
    return $Own
}

function Get-RoutesFile {
    <#
    .SYNOPSIS
    The file that holds the list.
    #>
    [System.IO.Path]::Combine((Get-Base), 'routes.json')
}

function Read-RoutesList($Item) {
    <#
    .SYNOPSIS
    The list.
    .PARAMETER Item
    The item; there is one only.
    #>
    $null = $Item
    $file = Get-RoutesFile
    if (-not [System.IO.File]::Exists($file)) { return @{ routes = @() } }
    Assert-Trusted $file
    try { $found = Read-Json $file } catch { throw "$file cannot be read ($(Get-Cause $_)) Correct or delete it: it lists the routes that this collection added." }
    return @{ routes = @($found['routes'] | Where-Object { $_ }) }
}

function Write-RoutesList($Item, $State) {
    <#
    .SYNOPSIS
    Writes the list; an empty one is deleted.
    .PARAMETER Item
    The item; there is one only.
    .PARAMETER State
    The state to bring about.
    #>
    $null = $Item
    $file = Get-RoutesFile
    $routes = @($State['routes'] | Where-Object { $_ })
    if (-not $routes.Count) {
        Assert-Trusted $file
        if ([System.IO.File]::Exists($file)) { [System.IO.File]::Delete($file) }
        Remove-Home
        return
    }
    [void](Initialize-Home)
    Write-Json $file @{ routes = $routes }
}

function Get-FormerList($State, $Chain) {
    <#
    .SYNOPSIS
    The list without what repairs put in, and with what they took out. The rest stays.
    .PARAMETER State
    The present state.
    .PARAMETER Chain
    The items in all undo points, newest first.
    #>
    $routes = @($State['routes'] | Where-Object { $_ })
    foreach ($link in $Chain) {
        $before = @($link['before']['routes'] | Where-Object { $_ })
        foreach ($written in @($link['written'] | Where-Object { $null -ne $_ })) {
            $after = @($written['routes'] | Where-Object { $_ })
            $routes = @($routes | Where-Object { $before -contains $_ -or $after -notcontains $_ })
            $routes += @($before | Where-Object { $after -notcontains $_ -and $routes -notcontains $_ })
        }
    }
    return @{ routes = @($routes | Sort-Object -Unique) }
}

function Get-KindRoutesList {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{
        read = ${function:Read-RoutesList}; write = ${function:Write-RoutesList}; former = ${function:Get-FormerList}
        label = { 'list of added routes' }
        text = { param($Item, $State) $null = $Item; "$(@($State['routes'] | Where-Object { $_ }).Count) routes" }
        # Nothing before the confirmation; then before any route, so that no route is kept that is not in it.
        first = { $null }
        comes_first = $true
        # No change of its own in what is told.
        silent = $true
    }
}

Export-ModuleMember -Function ConvertFrom-OwnRoute, ConvertTo-OwnRoute, Get-KindRoutesList
