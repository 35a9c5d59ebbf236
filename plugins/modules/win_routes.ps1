#!powershell
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -CSharpUtil Ansible.Basic
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Change
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Confirm
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindRoute
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._KindRoutesList
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Lock
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Native
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

$spec = @{
    options = @{
        routes = @{ type = 'list'; elements = 'str'; default = @() }
        next_hop = @{ type = 'str' }
        interface = @{ type = 'str' }
        metric = @{ type = 'int'; default = 256 }
        state = @{ type = 'str'; choices = @('present', 'absent'); default = 'present' }
        purge = @{ type = 'bool'; default = $false }
        skip_gateway_check = @{ type = 'bool'; default = $false }
        expect = @{ type = 'dict' }
    }
    supports_check_mode = $true
}
$spec.options = Get-GuardedOption $spec.options
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

# Interfaces by index, with the networks on their link; default routes by family, best first.
function Read-Network($Table) {
    $network = @{ links = @{}; aliases = @{}; defaults = @{ 4 = @(); 16 = @() } }
    foreach ($route in $Table.Values) {
        if ($null -eq $route['active']) { continue }
        $network.aliases[$route['index']] = $route['alias']
        $address, $length = $route['prefix'].Split('/')
        $bytes = Get-AddressBytes $address
        if ($null -eq $bytes) { continue }
        if ($route['hop'] -eq '0.0.0.0' -or $route['hop'] -eq '::') {
            if ([int]$length -gt 0) {
                if (-not $network.links.ContainsKey($route['index'])) { $network.links[$route['index']] = New-Object System.Collections.ArrayList }
                [void]$network.links[$route['index']].Add(@($bytes, [int]$length))
            }
        } elseif ([int]$length -eq 0) {
            $rank = $route['active'] + (Get-InterfaceMetric $route @{ 4 = 'IPv4'; 16 = 'IPv6' }[$bytes.Length])
            $network.defaults[$bytes.Length] += @{ index = $route['index']; hop = $route['hop']; rank = $rank }
        }
    }
    return $network
}

function Get-InterfaceMetric($Route, [string]$Family) {
    if ($null -ne $Route['interface_metric']) { return [int]$Route['interface_metric'] }
    $metric = 0
    foreach ($card in @(Get-NetIPInterface -InterfaceIndex $Route['index'] -AddressFamily $Family -ErrorAction SilentlyContinue)) {
        if ($null -ne $card) { $metric = [int]$card.InterfaceMetric }
    }
    return $metric
}

# The index of the interface that the caller named, $null when none was.
function Get-Chosen($Network) {
    $name = $module.Params.interface
    if (-not $name) { return $null }
    $chosen = @($Network.aliases.Keys | Where-Object { "$_" -eq $name -or $Network.aliases[$_] -eq $name })
    if ($chosen.Count -ne 1) { Stop-Here "There is no interface '$name' with routes on this guest (alias or index)." }
    return $chosen[0]
}

# The interface over which the given next hop is reached.
function Get-HopInterface($Network, [byte[]]$Given, [string]$Hop, $Chosen) {
    $index = $Chosen
    $candidates = @($Network.links.Keys)
    if ($null -ne $Chosen) { $candidates = @($Chosen) }
    $best = -1
    $near = @{}
    foreach ($candidate in $candidates) {
        if (-not $Network.links.ContainsKey($candidate)) { continue }
        foreach ($link in $Network.links[$candidate]) {
            # A host's own address is a network of one on its link.
            if ($link[1] -ge 8 * $Given.Length -or -not (Test-InNetwork $Given $link[0] $link[1])) { continue }
            $near[$candidate] = $true
            if ($link[1] -gt $best) { $best = $link[1]; $index = $candidate }
        }
    }
    # Every interface has a network of link-local addresses; the one that such a default route uses is meant.
    if ($null -eq $Chosen -and ([System.Net.IPAddress]$Hop).IsIPv6LinkLocal) {
        $index = @($Network.defaults[16] | Where-Object { $_.hop -eq $Hop } | ForEach-Object { $_.index })
        if (-not $index.Count) { $index = @($candidates | Where-Object { $near.ContainsKey($_) }) }
        if ($index.Count -gt 1) { Stop-Here "next_hop $Hop is link-local, so it can be on several interfaces; give interface." }
        if ($index.Count) { $index = $index[0] }
    }
    if ($best -lt 0) {
        $where = 'any interface'
        if ($null -ne $Chosen) { $where = "interface $Chosen" }
        Stop-Here "next_hop $Hop is in no network on the link of $where, so it cannot be reached."
    }
    return $index
}

# Next hop and interface of one family, found once and checked.
function Get-Way($Run, [int]$Size, [string]$Prefix) {
    if ($Run.ways.ContainsKey($Size)) { return $Run.ways[$Size] }
    $family = @{ 4 = 'IPv4'; 16 = 'IPv6' }[$Size]
    if ($null -ne $Run.given) {
        if ($Run.given.Length -ne $Size) { Stop-Here "next_hop $($module.Params.next_hop) and the prefix $Prefix are not of one family; call the module once for each." }
        $hop = "$(New-Object System.Net.IPAddress (, $Run.given))".ToLowerInvariant()
        $index = Get-HopInterface $Run.network $Run.given $hop $Run.chosen
    } else {
        $found = @($Run.network.defaults[$Size] | Where-Object { $null -eq $Run.chosen -or $_.index -eq $Run.chosen } | Sort-Object -Property { $_.rank }, { $_.index })
        if (-not $found.Count) { Stop-Here "There is no $family default route to take the next hop from; give next_hop and interface." }
        $hop = $found[0].hop
        $index = $found[0].index
    }
    if (-not $module.Params.skip_gateway_check -and -not (Test-Gateway $hop $index)) {
        Stop-Here "The gateway $hop answers neither $(@{ 4 = 'ARP'; 16 = 'a neighbor solicitation' }[$Size]) nor an echo request, so no route is led over it. Correct next_hop, or set skip_gateway_check when it is known to be silent."
    }
    $Run.ways[$Size] = @{ hop = $hop; index = $index }
    return $Run.ways[$Size]
}

function Get-ShownHop([string]$Hop) {
    if ($Hop -eq '0.0.0.0' -or $Hop -eq '::') { return 'its own link' }
    return $Hop
}

# What was seen of a prefix: the gateway of its route, $null for no route of its own. Refused when it is neither that nor what is wanted.
function Assert-ExpectedHop($Run, [string]$Prefix, $Wanted) {
    if (-not $Run.expect.ContainsKey($Prefix)) { return }
    $present = @(@($Run.by_prefix[$Prefix]) | Where-Object { $_ -and $null -ne $Run.table[$_]['active'] } | ForEach-Object { $Run.table[$_]['hop'] } | Sort-Object -Unique)
    $known = @(@($Run.expect[$Prefix], $Wanted) | Where-Object { $_ })
    $strange = @($present | Where-Object { $known -notcontains $_ })
    $gone = -not $present.Count -and $Run.expect[$Prefix] -and $Wanted
    if (-not $strange.Count -and -not $gone) { return }
    $is = 'no route of its own'
    if ($present.Count) { $is = "a route over $(@($present | ForEach-Object { Get-ShownHop $_ }) -join ', ')" }
    $was = 'none'
    if ($Run.expect[$Prefix]) { $was = "one over $(Get-ShownHop $Run.expect[$Prefix])" }
    Stop-Here "$Prefix has $is, but $was was expected; something changed it since it was looked at."
}

function Add-Present($Run, [string]$Prefix) {
    $size = 4
    if ($Prefix.Contains(':')) { $size = 16 }
    $way = Get-Way $Run $size $Prefix
    Assert-ExpectedHop $Run $Prefix $way.hop
    $key = "$Prefix|$($way.index)|$($way.hop)"
    $Run.kept[$key] = $true
    foreach ($other in @($Run.by_prefix[$Prefix])) {
        if (-not $other -or $other -eq $key) { continue }
        if ($Run.owned.ContainsKey($other)) { $Run.remove[$other] = $true; continue }
        Stop-Here "$Prefix has a route over $(Get-ShownHop $Run.table[$other]['hop']) on interface $($Run.table[$other]['index']) that this module did not add; remove that or leave the prefix out."
    }
    if ($Run.table.ContainsKey($key) -and -not $Run.owned.ContainsKey($key)) {
        # It belongs to somebody else, such as the DHCP client, and does what is wanted: it stays as it is, with its metric.
        if ($null -ne $Run.table[$key]['active']) { return }
        [void]$Run.changes.Add(@{ item = Get-RouteItem $key; wanted = @{ active = $Run.table[$key]['persistent'] } })
        return
    }
    [void]$Run.changes.Add(@{ item = Get-RouteItem $key; wanted = @{ active = $module.Params.metric; persistent = $module.Params.metric } })
    $Run.list[$key] = $true
}

function Add-Absent($Run, [string]$Prefix) {
    Assert-ExpectedHop $Run $Prefix $null
    $only = $null
    if ($null -ne $Run.given) { $only = "$(New-Object System.Net.IPAddress (, $Run.given))".ToLowerInvariant() }
    foreach ($key in @($Run.by_prefix[$Prefix])) {
        if (-not $key) { continue }
        $route = $Run.table[$key]
        if (($only -and $route['hop'] -ne $only) -or ($null -ne $Run.chosen -and $route['index'] -ne $Run.chosen)) { continue }
        if ($route['hop'] -eq '0.0.0.0' -or $route['hop'] -eq '::') { Stop-Here "$Prefix is on the link of interface $($route['index']), not behind a gateway, so its route is not removed." }
        $Run.remove[$key] = $true
    }
}

# Prefixes in the spelling of Windows, as the keys of a table that keeps their order.
function Get-Prefix {
    $prefixes = [ordered]@{}
    foreach ($text in $module.Params.routes) {
        $prefix = Get-Network $text
        if ($prefixes.Contains($prefix)) { Stop-Here "The prefix $prefix is in routes twice." }
        $prefixes[$prefix] = $true
    }
    return $prefixes
}

function Get-ExpectedHop {
    $expect = @{}
    if ($null -eq $module.Params.expect) { return $expect }
    foreach ($text in @($module.Params.expect.Keys)) {
        $hop = $module.Params.expect[$text]
        if ($null -ne $hop) {
            $bytes = Get-AddressBytes "$hop"
            if ($null -eq $bytes) { Stop-Here "expect of $text is '$hop', which is no address of a gateway." }
            $hop = "$(New-Object System.Net.IPAddress (, $bytes))".ToLowerInvariant()
        }
        $expect[(Get-Network $text)] = $hop
    }
    return $expect
}

function Read-Run($Prefixes, $Given, $Expect) {
    try {
        $table = Get-RouteTable
        $owned = @{}
        foreach ($own in (Read-State @{ kind = 'routes_list' })['routes']) { $owned[(ConvertFrom-OwnRoute $own)] = $true }
    } catch { Stop-Here "The routes of this guest could not be read: $(Get-Cause $_)" }
    $network = Read-Network $table
    $run = @{
        table = $table; owned = $owned; network = $network; given = $Given; expect = $Expect; chosen = Get-Chosen $network
        ways = @{}; by_prefix = @{}; kept = @{}; remove = @{}; list = $owned.Clone(); changes = (New-Object System.Collections.ArrayList)
    }
    foreach ($key in $table.Keys) {
        $prefix = $table[$key]['prefix']
        if (-not $Prefixes.Contains($prefix)) { continue }
        if (-not $run.by_prefix.ContainsKey($prefix)) { $run.by_prefix[$prefix] = @() }
        $run.by_prefix[$prefix] += $key
    }
    return $run
}

function Set-Route($Prefixes, $Given, $Expect) {
    $run = Read-Run $Prefixes $Given $Expect
    foreach ($prefix in $Prefixes.Keys) {
        if ($module.Params.state -eq 'present') { Add-Present $run $prefix } else { Add-Absent $run $prefix }
    }
    if ($module.Params.purge) { foreach ($key in $run.owned.Keys) { if (-not $run.kept.ContainsKey($key)) { $run.remove[$key] = $true } } }
    foreach ($key in @($run.remove.Keys | Sort-Object)) {
        $run.list.Remove($key)
        # An own route of an interface that is gone went with it.
        if ($key -notmatch '\|\d+\|') { continue }
        [void]$run.changes.Insert(0, @{ item = Get-RouteItem $key; wanted = @{ active = $null; persistent = $null } })
    }
    [void]$run.changes.Add(@{ item = @{ kind = 'routes_list' }; wanted = @{ routes = @($run.list.Keys | ForEach-Object { ConvertTo-OwnRoute $_ } | Sort-Object) } })
    $module.Result.next_hops = @($run.ways.Values | ForEach-Object { @{ next_hop = $_.hop; interface_index = [int]$_.index; interface = "$($run.network.aliases[$_.index])" } })
    Invoke-GuardedChange $module $run.changes
}

Initialize-Result $module
$module.Result.next_hops = @()
if ($module.Params.confirm -and $module.Params.routes.Count) { Stop-Here 'confirm is for a call of its own, without routes.' }
Complete-Change $module
$metric = $module.Params.metric
if ($module.Params.purge -and $module.Params.state -eq 'absent') { Stop-Here 'purge goes with state present only.' }
if (-not $module.Params.routes.Count -and -not $module.Params.purge) { Stop-Here 'routes is empty; give at least one prefix, or purge to remove all that were added.' }
if ($metric -lt 1 -or $metric -gt 9999) { Stop-Here "metric must be 1 to 9999, not $metric." }
$prefixes = Get-Prefix
$expect = Get-ExpectedHop
$given = $null
if ($module.Params.next_hop) {
    $given = Get-AddressBytes $module.Params.next_hop
    if ($null -eq $given) { Stop-Here "next_hop '$($module.Params.next_hop)' is no address." }
}
# What is decided here depends on the routes and on the list of those that were added, so the lock is taken before they are read.
Use-GuestLock $module { Set-Route $prefixes $given $expect }
