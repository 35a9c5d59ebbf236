#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils.Repair

$spec = @{
    options = @{
        routes = @{ type = 'list'; elements = 'str'; default = @() }
        next_hop = @{ type = 'str' }
        interface = @{ type = 'str' }
        metric = @{ type = 'int'; default = 256 }
        state = @{ type = 'str'; choices = @('present', 'absent'); default = 'present' }
        purge = @{ type = 'bool'; default = $false }
        skip_gateway_check = @{ type = 'bool'; default = $false }
        confirm_s = @{ type = 'int'; default = 0 }
        confirm = @{ type = 'str' }
        undo = @{ type = 'str' }
    }
    supports_check_mode = $true
}
$module = [Ansible.Basic.AnsibleModule]::Create($args, $spec)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

function Stop-Here([string]$Text) { $module.FailJson("$Text Nothing was changed.") }

function Get-AddressBytes([string]$Text) {
    $address = $null
    # Short forms such as 10.1 are addresses to Windows, and mistakes here.
    if ($Text -notmatch '^\d{1,3}(\.\d{1,3}){3}$' -and $Text -notmatch '^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$') { return $null }
    if (-not [System.Net.IPAddress]::TryParse($Text, [ref]$address)) { return $null }
    return , $address.GetAddressBytes()
}

function Test-InNetwork([byte[]]$Address, [byte[]]$Network, [int]$Length) {
    if ($Address.Length -ne $Network.Length) { return $false }
    $whole = $Length -shr 3
    for ($at = 0; $at -lt $whole; $at++) { if ($Address[$at] -ne $Network[$at]) { return $false } }
    $rest = $Length -band 7
    if (-not $rest) { return $true }
    $mask = (0xff -shl (8 - $rest)) -band 0xff
    return ($Address[$whole] -band $mask) -eq ($Network[$whole] -band $mask)
}

# The network of a prefix in the spelling of Windows; ends the module for what is none.
function Get-Network([string]$Text) {
    $parts = $Text.Trim().Split('/')
    $length = -1
    $bytes = $null
    if ($parts.Count -eq 2 -and $parts[1] -match '^\d{1,3}$') { $bytes = Get-AddressBytes $parts[0]; $length = [int]$parts[1] }
    if ($null -eq $bytes -or $length -gt 8 * $bytes.Length) { Stop-Here "'$Text' is no prefix such as 20.38.98.0/24 or 2603:1020::/40." }
    if ($length -eq 0) { Stop-Here "'$Text' is the default route, which this module leaves alone." }
    $clean = New-Object byte[] $bytes.Length
    for ($at = 0; $at -lt $bytes.Length; $at++) {
        $left = [Math]::Max(0, [Math]::Min(8, $length - 8 * $at))
        $clean[$at] = $bytes[$at] -band ((0xff -shl (8 - $left)) -band 0xff)
    }
    $network = "$(New-Object System.Net.IPAddress (, $clean))/$length"
    if ([BitConverter]::ToString($clean) -ne [BitConverter]::ToString($bytes)) { Stop-Here "'$Text' has bits set behind its length; the network is $network." }
    return $network.ToLowerInvariant()
}

# Whether a gateway is there: any answer counts, to ARP, to a neighbor solicitation or to an echo request.
function Test-Gateway([string]$Hop, [int]$Index) {
    $address = [System.Net.IPAddress]$Hop
    # Each interface has such a network of its own.
    if ($address.IsIPv6LinkLocal) { $address.ScopeId = $Index }
    $ping = New-Object System.Net.NetworkInformation.Ping
    try {
        for ($try = 0; $try -lt 2; $try++) { if ("$($ping.Send($address, 1000).Status)" -eq 'Success') { return $true } }
    } catch [System.Net.NetworkInformation.PingException] { $null = $_ } finally { $ping.Dispose() }
    $bytes = $address.GetAddressBytes()
    $buffer = [System.Runtime.InteropServices.Marshal]::AllocHGlobal(88)
    try {
        if ($bytes.Length -eq 4) {
            $size = [uint32]8
            return (Get-Native)::SendARP([BitConverter]::ToUInt32($bytes, 0), [uint32]0, $buffer, [ref]$size) -eq 0
        }
        # MIB_IPNET_ROW2: a SOCKADDR_INET (family 23, address at 8, scope at 24), then the index of the interface at 28.
        $row = New-Object byte[] 88
        $row[0] = 23
        [Array]::Copy($bytes, 0, $row, 8, 16)
        if ($address.IsIPv6LinkLocal) { [Array]::Copy([BitConverter]::GetBytes($Index), 0, $row, 24, 4) }
        [Array]::Copy([BitConverter]::GetBytes($Index), 0, $row, 28, 4)
        [System.Runtime.InteropServices.Marshal]::Copy($row, 0, $buffer, 88)
        try { return (Get-Native)::ResolveIpNetEntry2($buffer, [IntPtr]::Zero) -eq 0 } catch { return $false }
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($buffer) }
}

if ($module.Params.confirm) {
    if ($module.Params.routes.Count) { Stop-Here 'confirm is for a call of its own, without routes.' }
    $module.Result.next_hops = @()
    Complete-Repair $module
}
$purge = $module.Params.purge
$state = $module.Params.state
$metric = $module.Params.metric
if ($purge -and $state -eq 'absent') { Stop-Here 'purge goes with state present only.' }
if (-not $module.Params.routes.Count -and -not $purge) { Stop-Here 'routes is empty; give at least one prefix, or purge to remove all that were added.' }
if ($metric -lt 1 -or $metric -gt 9999) { Stop-Here "metric must be 1 to 9999, not $metric." }
if ($module.Params.confirm_s -lt 0) { Stop-Here 'confirm_s must not be negative.' }

$prefixes = New-Object System.Collections.ArrayList
$seen = @{}
foreach ($text in $module.Params.routes) {
    $prefix = Get-Network $text
    if ($seen.ContainsKey($prefix)) { Stop-Here "The prefix $prefix is in routes twice." }
    $seen[$prefix] = $true
    [void]$prefixes.Add($prefix)
}

try {
    $table = Get-RouteTable
    $owned = @{}
    foreach ($own in (Read-State @{ kind = 'routes_list' })['routes']) { $owned[(ConvertFrom-OwnRoute $own)] = $true }
} catch { Stop-Here "The routes of this guest could not be read: $(Get-Cause $_)" }

# Interfaces by index, with the networks on their link; default routes by family, best first.
$links = @{}
$aliases = @{}
$defaults = @{ 4 = @(); 16 = @() }
$byPrefix = @{}
foreach ($route in $table.Values) {
    if ($null -eq $route['active']) { continue }
    $aliases[$route['index']] = $route['alias']
    $network, $length = $route['prefix'].Split('/')
    $bytes = Get-AddressBytes $network
    if ($null -eq $bytes) { continue }
    if ($route['hop'] -eq '0.0.0.0' -or $route['hop'] -eq '::') {
        if ([int]$length -gt 0) {
            if (-not $links.ContainsKey($route['index'])) { $links[$route['index']] = New-Object System.Collections.ArrayList }
            [void]$links[$route['index']].Add(@($bytes, [int]$length))
        }
    } elseif ([int]$length -eq 0) {
        $interfaceMetric = 0
        if ($null -ne $route['interface_metric']) { $interfaceMetric = [int]$route['interface_metric'] }
        else {
            $family = @{ 4 = 'IPv4'; 16 = 'IPv6' }[$bytes.Length]
            foreach ($card in @(Get-NetIPInterface -InterfaceIndex $route['index'] -AddressFamily $family -ErrorAction SilentlyContinue)) {
                if ($null -ne $card) { $interfaceMetric = [int]$card.InterfaceMetric }
            }
        }
        $defaults[$bytes.Length] += @{ index = $route['index']; hop = $route['hop']; rank = $route['active'] + $interfaceMetric }
    }
}
foreach ($key in $table.Keys) {
    $prefix = $table[$key]['prefix']
    if ($seen.ContainsKey($prefix)) {
        if (-not $byPrefix.ContainsKey($prefix)) { $byPrefix[$prefix] = @() }
        $byPrefix[$prefix] += $key
    }
}

$chosen = $null
if ($module.Params.interface) {
    $name = $module.Params.interface
    $chosen = @($aliases.Keys | Where-Object { "$_" -eq $name -or $aliases[$_] -eq $name })
    if ($chosen.Count -ne 1) { Stop-Here "There is no interface '$name' with routes on this guest (alias or index)." }
    $chosen = $chosen[0]
}
$given = $null
if ($module.Params.next_hop) {
    $given = Get-AddressBytes $module.Params.next_hop
    if ($null -eq $given) { Stop-Here "next_hop '$($module.Params.next_hop)' is no address." }
}

# Next hop and interface of one family, found once and checked.
$ways = @{}
function Get-Way([int]$Size, [string]$Prefix) {
    if ($ways.ContainsKey($Size)) { return $ways[$Size] }
    $family = @{ 4 = 'IPv4'; 16 = 'IPv6' }[$Size]
    if ($null -ne $given) {
        if ($given.Length -ne $Size) { Stop-Here "next_hop $($module.Params.next_hop) and the prefix $Prefix are not of one family; call the module once for each." }
        $hop = "$(New-Object System.Net.IPAddress (, $given))".ToLowerInvariant()
        $index = $chosen
        $candidates = @($links.Keys)
        if ($null -ne $chosen) { $candidates = @($chosen) }
        $best = -1
        $near = @{}
        foreach ($candidate in $candidates) {
            if (-not $links.ContainsKey($candidate)) { continue }
            foreach ($link in $links[$candidate]) {
                # A host's own address is a network of one on its link.
                if ($link[1] -ge 8 * $Size -or -not (Test-InNetwork $given $link[0] $link[1])) { continue }
                $near[$candidate] = $true
                if ($link[1] -gt $best) { $best = $link[1]; $index = $candidate }
            }
        }
        # Every interface has a network of link-local addresses; the one that such a default route uses is meant.
        if ($null -eq $chosen -and ([System.Net.IPAddress]$hop).IsIPv6LinkLocal) {
            $index = @($defaults[16] | Where-Object { $_.hop -eq $hop } | ForEach-Object { $_.index })
            if (-not $index.Count) { $index = @($candidates | Where-Object { $near.ContainsKey($_) }) }
            if ($index.Count -gt 1) { Stop-Here "next_hop $hop is link-local, so it can be on several interfaces; give interface." }
            if ($index.Count) { $index = $index[0] }
        }
        if ($best -lt 0) {
            $where = 'any interface'
            if ($null -ne $chosen) { $where = "interface $chosen" }
            Stop-Here "next_hop $hop is in no network on the link of $where, so it cannot be reached."
        }
    } else {
        $found = @($defaults[$Size] | Where-Object { $null -eq $chosen -or $_.index -eq $chosen } | Sort-Object -Property { $_.rank }, { $_.index })
        if (-not $found.Count) { Stop-Here "There is no $family default route to take the next hop from; give next_hop and interface." }
        $hop = $found[0].hop
        $index = $found[0].index
    }
    if (-not $module.Params.skip_gateway_check -and -not (Test-Gateway $hop $index)) {
        Stop-Here "The gateway $hop answers neither $(@{ 4 = 'ARP'; 16 = 'a neighbor solicitation' }[$Size]) nor an echo request, so no route is led over it. Correct next_hop, or set skip_gateway_check when it is known to be silent."
    }
    $ways[$Size] = @{ hop = $hop; index = $index }
    return $ways[$Size]
}

$remove = @{}
$changes = New-Object System.Collections.ArrayList
$list = @{}
foreach ($key in $owned.Keys) { $list[$key] = $true }
if ($state -eq 'present') {
    $kept = @{}
    foreach ($prefix in $prefixes) {
        $size = 4
        if ($prefix.Contains(':')) { $size = 16 }
        $way = Get-Way $size $prefix
        $key = "$prefix|$($way.index)|$($way.hop)"
        $kept[$key] = $true
        foreach ($other in @($byPrefix[$prefix])) {
            if (-not $other -or $other -eq $key) { continue }
            if ($owned.ContainsKey($other)) { $remove[$other] = $true; continue }
            $hop = $table[$other]['hop']
            if ($hop -eq '0.0.0.0' -or $hop -eq '::') { $hop = 'its own link' }
            Stop-Here "$prefix has a route over $hop on interface $($table[$other]['index']) that this module did not add; remove that or leave the prefix out."
        }
        [void]$changes.Add(@{ item = Get-RouteItem $key; wanted = @{ active = $metric; persistent = $metric } })
        # What was there before belongs to somebody else.
        if (-not $table.ContainsKey($key)) { $list[$key] = $true }
    }
    if ($purge) { foreach ($key in $owned.Keys) { if (-not $kept.ContainsKey($key)) { $remove[$key] = $true } } }
} else {
    $only = $null
    if ($null -ne $given) { $only = "$(New-Object System.Net.IPAddress (, $given))".ToLowerInvariant() }
    foreach ($prefix in $prefixes) {
        foreach ($key in @($byPrefix[$prefix])) {
            if (-not $key) { continue }
            $route = $table[$key]
            if (($only -and $route['hop'] -ne $only) -or ($null -ne $chosen -and $route['index'] -ne $chosen)) { continue }
            if ($route['hop'] -eq '0.0.0.0' -or $route['hop'] -eq '::') { Stop-Here "$prefix is on the link of interface $($route['index']), not behind a gateway, so its route is not removed." }
            $remove[$key] = $true
        }
    }
}
foreach ($key in @($remove.Keys | Sort-Object)) {
    $list.Remove($key)
    # An own route of an interface that is gone went with it.
    if ($key -notmatch '\|\d+\|') { continue }
    [void]$changes.Insert(0, @{ item = Get-RouteItem $key; wanted = @{ active = $null; persistent = $null } })
}
[void]$changes.Add(@{ item = @{ kind = 'routes_list' }; wanted = @{ routes = @($list.Keys | ForEach-Object { ConvertTo-OwnRoute $_ } | Sort-Object) } })
$module.Result.next_hops = @($ways.Values | ForEach-Object { @{ next_hop = $_.hop; interface_index = [int]$_.index; interface = "$($aliases[$_.index])" } })
$module.Result.token = $null
Invoke-Repair $module $changes $module.Params.confirm_s
