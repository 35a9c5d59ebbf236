# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Interface
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Registry
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# Kind dhcp: IPv4 of an interface. Item: index, guid. State: exists, enabled, addresses, gateways.
Set-StrictMode -Version 2.0

function ConvertTo-PrefixLength([string]$Mask) {
    <#
    .SYNOPSIS
    The length of a prefix.
    .PARAMETER Mask
    Its mask.
    #>
    $length = 0
    foreach ($byte in ([System.Net.IPAddress]$Mask).GetAddressBytes()) { for ($bit = 7; $bit -ge 0; $bit--) { $length += ($byte -shr $bit) -band 1 } }
    return $length
}

function Open-InterfaceKey($Item) {
    <#
    .SYNOPSIS
    The key that holds the settings of an interface, $null when there is none.
    .PARAMETER Item
    The item.
    #>
    Open-Key ('HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\' + $Item['guid'])
}

function Read-Dhcp($Item) {
    <#
    .SYNOPSIS
    The state of an interface.
    .PARAMETER Item
    The item.
    #>
    # Windows keeps the settings of an adapter that is gone.
    $key = $null
    if ($null -ne (Get-InterfaceIndex $Item)) { $key = Open-InterfaceKey $Item }
    if ($null -eq $key) { return @{ exists = $false; enabled = $null; addresses = @(); gateways = @() } }
    try {
        $state = @{ exists = $true; enabled = $key.GetValue('EnableDHCP') -eq 1; addresses = @(); gateways = @() }
        if ($state['enabled']) { return $state }
        $masks = @($key.GetValue('SubnetMask') | Where-Object { $_ })
        $number = 0
        foreach ($address in @($key.GetValue('IPAddress') | Where-Object { $_ -and $_ -ne '0.0.0.0' })) {
            $state['addresses'] += "$address/$(ConvertTo-PrefixLength $masks[$number])"
            $number++
        }
        $state['gateways'] = @($key.GetValue('DefaultGateway') | Where-Object { $_ })
        return $state
    } finally { $key.Dispose() }
}

function Get-Lease($Item) {
    <#
    .SYNOPSIS
    The address that DHCP gave an interface, $null for none.
    .PARAMETER Item
    The item.
    #>
    $key = Open-InterfaceKey $Item
    if ($null -eq $key) { return $null }
    try { $address = "$($key.GetValue('DhcpIPAddress'))" } finally { $key.Dispose() }
    if (-not $address -or $address -eq '0.0.0.0' -or $address.StartsWith('169.254.')) { return $null }
    return $address
}

function Get-KeptGateway([int]$Index, [string]$Gateway, [bool]$Remove) {
    <#
    .SYNOPSIS
    How many default routes over a gateway are kept in PersistentStore.
    .PARAMETER Index
    Index of the interface.
    .PARAMETER Gateway
    Address of the gateway.
    .PARAMETER Remove
    Whether to remove such routes from both stores instead.
    #>
    $where = @{ InterfaceIndex = $Index; ErrorAction = 'SilentlyContinue' }
    $kept = 0
    foreach ($store in 'PersistentStore', 'ActiveStore') {
        foreach ($route in @(Get-NetRoute @where -DestinationPrefix '0.0.0.0/0' -PolicyStore $store)) {
            if ($null -eq $route -or $route.NextHop -ne $Gateway) { continue }
            if ($Remove) { Remove-NetRoute @where -DestinationPrefix '0.0.0.0/0' -NextHop $Gateway -PolicyStore $store -Confirm:$false }
            elseif ($store -eq 'PersistentStore') { $kept++ }
        }
    }
    return $kept
}

function Set-StaticAddress([int]$Index, $State, [bool]$Remove) {
    <#
    .SYNOPSIS
    Gives an interface its addresses and its gateway.
    .PARAMETER Index
    Index of the interface.
    .PARAMETER State
    The state to bring about.
    .PARAMETER Remove
    Whether to remove what lingers of a lease before.
    #>
    $gateways = @($State['gateways'] | Where-Object { $_ })
    $first = $true
    foreach ($text in @($State['addresses'])) {
        $address, $length = $text.Split('/')
        $more = @{}
        if ($Remove) { Remove-NetIPAddress -InterfaceIndex $Index -ErrorAction SilentlyContinue -IPAddress $address -Confirm:$false }
        if ($first -and $gateways.Count -and -not (Get-KeptGateway $Index $gateways[0] $Remove)) { $more['DefaultGateway'] = $gateways[0] }
        $first = $false
        [void](New-NetIPAddress -InterfaceIndex $Index -IPAddress $address -PrefixLength $length @more -ErrorAction Stop)
    }
}

function Write-Dhcp($Item, $State) {
    <#
    .SYNOPSIS
    Switches DHCP on, or off with the addresses of the state.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about.
    #>
    $index = Get-InterfaceIndex $Item
    if ($null -eq $index) { throw "The interface $($Item['guid']) is not there any more." }
    if ($State['enabled']) {
        Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Enabled -ErrorAction Stop
        return
    }
    Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Disabled -ErrorAction Stop
    # The lease's address and default route may linger, and keep the same ones from being set. Then they are removed, and it is tried again.
    for ($try = 1; $true; $try++) {
        try { Set-StaticAddress $index $State ($try -gt 1); return } catch {
            if ($try -lt 4) { [System.Threading.Thread]::Sleep(2000); continue }
            # An interface that has neither a lease nor an address is the worst of all.
            Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Enabled -ErrorAction Stop
            throw "The static address could not be set, so DHCP was left on: $(Get-Cause $_)"
        }
    }
}

function Get-DhcpLabel($Item) {
    <#
    .SYNOPSIS
    The name of an item.
    .PARAMETER Item
    The item.
    #>
    "DHCP of interface $($Item['index'])"
}

function Get-DhcpVeto($Item, $Target) {
    <#
    .SYNOPSIS
    Why undo must not bring a state back, $null when it may.
    .PARAMETER Item
    The item.
    .PARAMETER Target
    The state.
    #>
    # Where it is off already, nothing keeps the guest connected that could be lost.
    if ($Target['enabled'] -or -not (Read-Dhcp $Item)['enabled']) { return $null }
    # Azure's address may be another one by now; with the former one the guest would be cut off, and no guard watches over an undo.
    $lease = Get-Lease $Item
    $addresses = @($Target['addresses'] | Where-Object { $_ })
    if (-not $lease -or @($addresses | ForEach-Object { $_.Split('/')[0] }) -contains $lease) { return $null }
    return "DHCP gives it $lease, and $($addresses -join ', ') was set before. So DHCP stays on."
}

function Get-KindDhcp {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{
        read = ${function:Read-Dhcp}; write = ${function:Write-Dhcp}; label = ${function:Get-DhcpLabel}; veto = ${function:Get-DhcpVeto}
        clear = { param([bool]$Interfaces) if ($Interfaces) { Clear-InterfaceMap } }
        settles = $true; gone = { param($Item) $null -eq (Get-InterfaceIndex $Item) }
        # A restart of the guest does not bring the former state back, so the guard has to outlast it.
        outlasts_restart = $true; must_stand = $true
    }
}

Export-ModuleMember -Function Get-KindDhcp
