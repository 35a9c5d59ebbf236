# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Interface
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# Kind route. Item: prefix, index, guid, hop. State: active, persistent: the metric in that store, $null for none.
Set-StrictMode -Version 2.0

$script:Routes = $null

function Add-RouteColumn($Table, [string]$Store) {
    <#
    .SYNOPSIS
    Adds what a store holds to the table.
    .PARAMETER Table
    The table.
    .PARAMETER Store
    ActiveStore or PersistentStore.
    #>
    $column = $Store.Replace('Store', '').ToLowerInvariant()
    $found = @(Get-NetRoute -PolicyStore $Store -ErrorAction SilentlyContinue -ErrorVariable problems)
    # A store without a route is no trouble; one that cannot be read is not one without a route.
    foreach ($problem in @($problems)) {
        if ($problem -isnot [System.Management.Automation.ErrorRecord] -or "$($problem.CategoryInfo.Category)" -eq 'ObjectNotFound') { continue }
        throw "The routes in $Store could not be read: $(Get-Cause $problem)"
    }
    foreach ($route in $found) {
        if ($null -eq $route) { continue }
        $key = "$($route.DestinationPrefix)|$($route.InterfaceIndex)|$($route.NextHop)".ToLowerInvariant()
        if (-not $Table.ContainsKey($key)) {
            # Windows Server 2012 R2 has no such property.
            $metric = $route.PSObject.Properties['InterfaceMetric']
            if ($null -ne $metric) { $metric = $metric.Value }
            $Table[$key] = @{
                prefix = "$($route.DestinationPrefix)".ToLowerInvariant(); index = [int]$route.InterfaceIndex; hop = "$($route.NextHop)".ToLowerInvariant()
                alias = "$($route.InterfaceAlias)"; interface_metric = $metric; active = $null; persistent = $null
            }
        }
        $Table[$key][$column] = [int]$route.RouteMetric
    }
}

function Get-RouteTable {
    <#
    .SYNOPSIS
    Both stores, read once: PREFIX|INDEX|HOP to the metrics.
    #>
    if ($null -ne $script:Routes) { return $script:Routes }
    $table = @{}
    foreach ($store in 'ActiveStore', 'PersistentStore') { Add-RouteColumn $table $store }
    $script:Routes = $table
    return $table
}

function Clear-RouteTable([bool]$Interfaces) {
    <#
    .SYNOPSIS
    Has the routes read again.
    .PARAMETER Interfaces
    Whether to have the interfaces read again too.
    #>
    $script:Routes = $null
    if ($Interfaces) { Clear-InterfaceMap }
}

function Get-RouteKey($Item) {
    <#
    .SYNOPSIS
    The key of an item in the table.
    .PARAMETER Item
    The item.
    #>
    "$($Item['prefix'])|$(Get-InterfaceIndex $Item)|$($Item['hop'])"
}

function Get-RouteItem([string]$Key) {
    <#
    .SYNOPSIS
    The item of a route.
    .PARAMETER Key
    Its key in the table.
    #>
    $prefix, $index, $hop = $Key.Split('|')
    return @{ kind = 'route'; prefix = $prefix; index = [int]$index; guid = Get-InterfaceGuid ([int]$index); hop = $hop }
}

function Read-Route($Item) {
    <#
    .SYNOPSIS
    The state of a route.
    .PARAMETER Item
    The item.
    #>
    $found = (Get-RouteTable)[(Get-RouteKey $Item)]
    if ($null -eq $found) { return @{ active = $null; persistent = $null } }
    return @{ active = $found['active']; persistent = $found['persistent'] }
}

function Set-PersistentRoute($What, $Now, $Metric) {
    <#
    .SYNOPSIS
    Makes or removes a route in PersistentStore.
    .PARAMETER What
    The parameters that name the route.
    .PARAMETER Now
    The present state, which is kept up to date.
    .PARAMETER Metric
    The metric, $null for none.
    #>
    $stores = @{ active = 'ActiveStore'; persistent = 'PersistentStore' }
    if ($null -eq $Metric) { Remove-NetRoute @What -PolicyStore PersistentStore -Confirm:$false; return }
    # Windows makes a route in both stores or in ActiveStore, never in PersistentStore alone, and changes a metric in ActiveStore only.
    foreach ($column in 'persistent', 'active') {
        if ($null -ne $Now[$column]) { Remove-NetRoute @What -PolicyStore $stores[$column] -Confirm:$false }
    }
    try { [void](New-NetRoute @What -RouteMetric $Metric -Confirm:$false) } catch {
        $problem = $_
        # The way that was there is worth more than that it is kept.
        if ($null -ne $Now['active']) { try { [void](New-NetRoute @What -PolicyStore ActiveStore -RouteMetric $Now['active'] -Confirm:$false) } catch { $null = $_ } }
        throw $problem
    }
    $Now['active'] = $Metric
}

function Write-Route($Item, $State) {
    <#
    .SYNOPSIS
    Brings a route into a state.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about; what it does not name stays.
    #>
    $now = Read-Route $Item
    $index = Get-InterfaceIndex $Item
    if ($null -eq $index) {
        if ($null -eq $State['active'] -and $null -eq $State['persistent']) { return }
        throw "The interface $($Item['guid']) is not there any more."
    }
    $what = @{ DestinationPrefix = $Item['prefix']; InterfaceIndex = $index; NextHop = $Item['hop']; ErrorAction = 'Stop' }
    $target = @{ active = $now['active']; persistent = $now['persistent'] }
    foreach ($column in 'active', 'persistent') { if ($State.ContainsKey($column)) { $target[$column] = $State[$column] } }
    if ($now['persistent'] -ne $target['persistent']) { Set-PersistentRoute $what $now $target['persistent'] }
    if ($now['active'] -ne $target['active']) {
        if ($null -eq $target['active']) { Remove-NetRoute @what -PolicyStore ActiveStore -Confirm:$false }
        elseif ($null -eq $now['active']) { [void](New-NetRoute @what -PolicyStore ActiveStore -RouteMetric $target['active'] -Confirm:$false) }
        else { Set-NetRoute @what -PolicyStore ActiveStore -RouteMetric $target['active'] -Confirm:$false }
    }
    $key = Get-RouteKey $Item
    $table = Get-RouteTable
    if (-not $table.ContainsKey($key)) { $table[$key] = @{ prefix = $Item['prefix']; index = $index; hop = $Item['hop']; alias = ''; interface_metric = $null } }
    $table[$key]['active'] = $target['active']
    $table[$key]['persistent'] = $target['persistent']
}

function Get-RouteLabel($Item) {
    <#
    .SYNOPSIS
    The name of an item.
    .PARAMETER Item
    The item.
    #>
    "route $($Item['prefix']) via $($Item['hop']) on interface $($Item['index'])"
}

function Get-RouteText($Item, $State) {
    <#
    .SYNOPSIS
    A state as a person reads it.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state.
    #>
    $null = $Item
    $parts = @(foreach ($store in 'active', 'persistent') { if ($null -ne $State[$store]) { "$store (metric $($State[$store]))" } })
    if ($parts.Count) { return $parts -join ', ' }
    return 'absent'
}

function Get-FirstRoute($Wanted) {
    <#
    .SYNOPSIS
    What of a state is written before anybody confirmed it: nothing that outlasts a restart of the guest.
    .PARAMETER Wanted
    The state that is wanted.
    #>
    return @{ active = $Wanted['active'] }
}

function Get-KindRoute {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{
        read = ${function:Read-Route}; write = ${function:Write-Route}; label = ${function:Get-RouteLabel}; text = ${function:Get-RouteText}
        first = ${function:Get-FirstRoute}; clear = ${function:Clear-RouteTable}
        brief = $true; settles = $true; stores = @('active', 'persistent'); gone = { param($Item) $null -eq (Get-InterfaceIndex $Item) }
        # What was written first does not outlast a restart, so only while it stands an answer of the guest says anything about it.
        must_stand = $true
    }
}

Export-ModuleMember -Function Get-KindRoute, Get-RouteItem, Get-RouteTable
