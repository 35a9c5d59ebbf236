# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors

# Stand-in for Windows' module NetTCPIP (and Get-NetAdapter), which Wine lacks: the documented parameters, both stores, the documented errors.
# The stores are kept below HKLM\SOFTWARE\VmbackupLab\NetTCPIP: Active and Persistent hold one value for each route, named
# PREFIX|INTERFACE|NEXTHOP, with its metric; Interfaces holds the cards. What PersistentStore holds for IPv4 is also written where Windows
# keeps it. As documented, a route is made in both stores or in ActiveStore alone, and changed in ActiveStore alone: PersistentStore is refused
# (error 87) by New-NetRoute and Set-NetRoute. A lease brings the two host routes of Azure's DHCP server, in ActiveStore. Changes of ActiveStore are told to the container through C:\VmbackupLab\network.journal (see netkeeper.py).
Set-StrictMode -Version 2.0

$script:Root = 'SOFTWARE\VmbackupLab\NetTCPIP'
$script:Tcpip = 'SYSTEM\CurrentControlSet\Services\Tcpip\Parameters'
$script:Journal = 'C:\VmbackupLab\network.journal'
$script:Machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Registry64')
$script:Utf8 = New-Object System.Text.UTF8Encoding $false

function New-Failure([string]$Text, [string]$Id, [string]$Category, $Target) {
    New-Object System.Management.Automation.ErrorRecord((New-Object System.Exception $Text), $Id, $Category, $Target)
}

function Get-Family([string]$Prefix) { if ($Prefix.Contains(':')) { 'IPv6' } else { 'IPv4' } }

# PREFIX/LENGTH in the form that Windows returns; $null for what is none.
function Get-Canonical([string]$Prefix) {
    $parts = $Prefix.Split('/')
    $address = $null
    $length = 0
    if ($parts.Count -ne 2 -or -not [System.Net.IPAddress]::TryParse($parts[0], [ref]$address) -or -not [int]::TryParse($parts[1], [ref]$length)) { return $null }
    $bytes = $address.GetAddressBytes()
    if ($length -lt 0 -or $length -gt 8 * $bytes.Length) { return $null }
    for ($bit = $length; $bit -lt 8 * $bytes.Length; $bit++) {
        if ($bytes[$bit -shr 3] -band (0x80 -shr ($bit -band 7))) { return $null }
    }
    "$address/$length"
}

function Write-Journal([string]$Verb, [string]$Prefix, [string]$Hop) {
    if ([System.IO.File]::Exists($script:Journal)) {
        [System.IO.File]::AppendAllText($script:Journal, "route $Verb $Prefix $Hop`n", $script:Utf8)
    }
}

# Azure's DHCP server gives the ways to the Azure host along with a lease (option 121); Windows puts them into ActiveStore, with the metric 1.
function Set-DhcpRoute($Card, [bool]$Leased) {
    $key = $script:Machine.OpenSubKey("$script:Tcpip\Interfaces\$($Card.guid)")
    $gateway = $null
    if ($null -ne $key) {
        $gateway = @($key.GetValue('DhcpDefaultGateway') | Where-Object { $_ })[0]
        $key.Dispose()
    }
    if (-not $gateway) { return }
    foreach ($prefix in '168.63.129.16/32', '169.254.169.254/32') {
        if ($Leased) {
            Set-Stored Active $prefix $Card.index $gateway 1
            Write-Journal add $prefix $gateway
        } else {
            Set-Stored Active $prefix $Card.index $gateway $null
            Write-Journal del $prefix $gateway
        }
    }
}

function Get-PersistentName([string]$Prefix, [string]$Hop, [int]$Metric) {
    $address, $length = $Prefix.Split('/')
    $mask = [uint32]0
    if ([int]$length -gt 0) { $mask = [uint32]([uint64]0xFFFFFFFFL -shl (32 - [int]$length) -band 0xFFFFFFFFL) }
    $dotted = (($mask -shr 24), ($mask -shr 16 -band 255), ($mask -shr 8 -band 255), ($mask -band 255)) -join '.'
    "$address,$dotted,$Hop,$Metric"
}

function Set-Stored([string]$Store, [string]$Prefix, [int]$Index, [string]$Hop, $Metric) {
    $key = $script:Machine.CreateSubKey("$script:Root\$Store")
    $name = "$Prefix|$Index|$Hop"
    $before = $key.GetValue($name)
    if ($null -eq $Metric) { $key.DeleteValue($name, $false) } else { $key.SetValue($name, [int]$Metric, 'DWord') }
    $key.Dispose()
    if ($Store -eq 'Persistent' -and -not $Prefix.Contains(':')) {
        $key = $script:Machine.CreateSubKey("$script:Tcpip\PersistentRoutes")
        if ($null -ne $before) { $key.DeleteValue((Get-PersistentName $Prefix $Hop $before), $false) }
        if ($null -ne $Metric) { $key.SetValue((Get-PersistentName $Prefix $Hop $Metric), '') }
        $key.Dispose()
    }
}

function Get-Card {
    $all = $script:Machine.OpenSubKey("$script:Root\Interfaces")
    if ($null -eq $all) {
        Initialize-VmbackupLabNetwork
        $all = $script:Machine.OpenSubKey("$script:Root\Interfaces")
    }
    foreach ($name in $all.GetSubKeyNames()) {
        $key = $all.OpenSubKey($name)
        @{ index = [int]$name; alias = $key.GetValue('Alias'); guid = $key.GetValue('Guid'); mac = $key.GetValue('Mac'); metric = [int]$key.GetValue('Metric')
            addresses = @($key.GetValue('Addresses')) }
        $key.Dispose()
    }
    $all.Dispose()
}

function Select-Card($Index, $Alias) {
    $found = @(Get-Card | Where-Object { (-not $Index -or $Index -contains $_.index) -and (-not $Alias -or @($Alias | Where-Object { $_ }) -contains $_.alias) })
    if (($Index -or $Alias) -and -not $found.Count) { return $null }
    $found
}

function Read-Store([string]$Store, [hashtable]$Cards) {
    $key = $script:Machine.OpenSubKey("$script:Root\$Store")
    if ($null -eq $key) { return }
    foreach ($name in $key.GetValueNames()) {
        $prefix, $index, $hop = $name.Split('|')
        $card = $Cards[[int]$index]
        $route = [pscustomobject]@{
            DestinationPrefix = $prefix
            NextHop = $hop
            InterfaceIndex = [int]$index
            ifIndex = [int]$index
            InterfaceAlias = ''
            InterfaceMetric = $null
            RouteMetric = [int]$key.GetValue($name)
            AddressFamily = Get-Family $prefix
            Protocol = 'NetMgmt'
            Publish = 'No'
            State = 'Alive'
            Store = $Store + 'Store'
        }
        if ($null -ne $card) { $route.InterfaceAlias = $card.alias; $route.InterfaceMetric = $card.metric }
        $route
    }
    $key.Dispose()
}

function Get-Interfaces {
    $cards = @{}
    foreach ($card in Get-Card) { $cards[$card.index] = $card }
    $cards
}

function Get-NetRoute {
    [CmdletBinding()]
    param(
        [Parameter(Position = 0)][string[]]$DestinationPrefix, [Alias('ifIndex')][uint32[]]$InterfaceIndex, [Alias('ifAlias')][string[]]$InterfaceAlias,
        [string[]]$NextHop, [ValidateSet('IPv4', 'IPv6')][string[]]$AddressFamily, [uint16[]]$RouteMetric,
        [ValidateSet('ActiveStore', 'PersistentStore')][string]$PolicyStore = 'ActiveStore'
    )
    $cards = Get-Interfaces
    $found = 0
    $asked = @(foreach ($prefix in $DestinationPrefix) { $prefix.ToLowerInvariant() })
    foreach ($route in Read-Store $PolicyStore.Replace('Store', '') $cards) {
        if ($DestinationPrefix -and $asked -notcontains $route.DestinationPrefix) { continue }
        if ($InterfaceIndex -and $InterfaceIndex -notcontains $route.InterfaceIndex) { continue }
        if ($InterfaceAlias -and $InterfaceAlias -notcontains $route.InterfaceAlias) { continue }
        if ($NextHop -and $NextHop -notcontains $route.NextHop) { continue }
        if ($AddressFamily -and $AddressFamily -notcontains $route.AddressFamily) { continue }
        if ($PSBoundParameters.ContainsKey('RouteMetric') -and $RouteMetric -notcontains $route.RouteMetric) { continue }
        $found++
        $route
    }
    if (-not $found) {
        foreach ($name in 'DestinationPrefix', 'InterfaceIndex', 'InterfaceAlias', 'NextHop') {
            if ($PSBoundParameters.ContainsKey($name)) {
                $text = "No MSFT_NetRoute objects found with property '$name' equal to '$($PSBoundParameters[$name] -join ', ')'.  Verify the value of the property and retry."
                $PSCmdlet.WriteError((New-Failure $text "CmdletizationQuery_NotFound_$name,Get-NetRoute" 'ObjectNotFound' $PSBoundParameters[$name]))
                return
            }
        }
    }
}

# The interface and the route that lead to an address: the longest prefix that holds it.
function Find-NetRoute {
    [CmdletBinding()]
    param([Parameter(Mandatory, Position = 0)][string]$RemoteIPAddress)
    $address = [System.Net.IPAddress]::Parse($RemoteIPAddress).GetAddressBytes()
    $best = $null
    $longest = -1
    foreach ($route in Get-NetRoute -AddressFamily (Get-Family $RemoteIPAddress)) {
        $network, $length = $route.DestinationPrefix.Split('/')
        $bytes = [System.Net.IPAddress]::Parse($network).GetAddressBytes()
        $inside = $true
        for ($bit = 0; $bit -lt [int]$length -and $inside; $bit++) {
            $mask = 0x80 -shr ($bit -band 7)
            $inside = ($bytes[$bit -shr 3] -band $mask) -eq ($address[$bit -shr 3] -band $mask)
        }
        if ($inside -and [int]$length -gt $longest) { $best = $route; $longest = [int]$length }
    }
    if ($best) {
        foreach ($card in Get-Card | Where-Object { $_.index -eq $best.InterfaceIndex }) {
            [pscustomobject]@{ InterfaceIndex = $card.index; InterfaceAlias = $card.alias; IPAddress = (@($card.addresses)[0] -split '/')[0] }
        }
        $best
    }
}

function New-NetRoute {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0)][string]$DestinationPrefix, [Alias('ifIndex')][uint32]$InterfaceIndex, [Alias('ifAlias')][string]$InterfaceAlias,
        [string]$NextHop, [uint16]$RouteMetric = 256, [ValidateSet('IPv4', 'IPv6')][string]$AddressFamily,
        [ValidateSet('ActiveStore', 'PersistentStore')][string]$PolicyStore
    )
    $prefix = Get-Canonical $DestinationPrefix
    $family = Get-Family $DestinationPrefix
    if ($null -eq $prefix -or ($AddressFamily -and $AddressFamily -ne $family)) {
        $PSCmdlet.ThrowTerminatingError((New-Failure 'Invalid parameter DestinationPrefix' 'Windows System Error 87,New-NetRoute' 'InvalidArgument' $DestinationPrefix))
    }
    if (-not $NextHop) { $NextHop = @{ IPv4 = '0.0.0.0'; IPv6 = '::' }[$family] }
    $hop = $null
    if (-not [System.Net.IPAddress]::TryParse($NextHop, [ref]$hop) -or (Get-Family $NextHop) -ne $family) {
        $PSCmdlet.ThrowTerminatingError((New-Failure 'Invalid parameter NextHop' 'Windows System Error 87,New-NetRoute' 'InvalidArgument' $NextHop))
    }
    $card = Select-Card $InterfaceIndex $InterfaceAlias
    if ($null -eq $card -or (-not $InterfaceIndex -and -not $InterfaceAlias)) {
        $PSCmdlet.ThrowTerminatingError((New-Failure 'Element not found.' 'Windows System Error 1168,New-NetRoute' 'ObjectNotFound' $InterfaceIndex))
    }
    if ($PolicyStore -eq 'PersistentStore') {
        $PSCmdlet.ThrowTerminatingError((New-Failure 'The parameter is incorrect.' 'Windows System Error 87,New-NetRoute' 'InvalidArgument' 'MSFT_NetRoute'))
    }
    $stores = @('Active', 'Persistent')
    if ($PolicyStore) { $stores = @('Active') }
    $name = "$prefix|$($card.index)|$hop"
    foreach ($store in $stores) {
        $key = $script:Machine.OpenSubKey("$script:Root\$store")
        $there = $null -ne $key -and $null -ne $key.GetValue($name)
        if ($null -ne $key) { $key.Dispose() }
        if ($there) {
            $PSCmdlet.ThrowTerminatingError((New-Failure 'Instance MSFT_NetRoute already exists' 'Windows System Error 5010,New-NetRoute' 'InvalidOperation' 'MSFT_NetRoute'))
        }
    }
    if (-not $PSCmdlet.ShouldProcess($prefix)) { return }
    foreach ($store in $stores) {
        Set-Stored $store $prefix $card.index "$hop" $RouteMetric
        if ($store -eq 'Active') { Write-Journal add $prefix "$hop" }
        [pscustomobject]@{
            DestinationPrefix = $prefix; NextHop = "$hop"; InterfaceIndex = $card.index; ifIndex = $card.index; InterfaceAlias = $card.alias
            InterfaceMetric = $card.metric; RouteMetric = [int]$RouteMetric; AddressFamily = $family; Protocol = 'NetMgmt'; Publish = 'No'
            State = 'Alive'; Store = $store + 'Store'
        }
    }
}

function Select-Stored($Bound, $InputObject, [string]$Cmdlet, $Caller) {
    if ($InputObject) { return $InputObject }
    $asked = @{}
    foreach ($name in 'DestinationPrefix', 'InterfaceIndex', 'InterfaceAlias', 'NextHop', 'AddressFamily') {
        if ($Bound.ContainsKey($name)) { $asked[$name] = $Bound[$name] }
    }
    $stores = @('ActiveStore', 'PersistentStore')
    if ($Bound.ContainsKey('PolicyStore')) { $stores = @($Bound['PolicyStore']) }
    $found = @(foreach ($store in $stores) { Get-NetRoute @asked -PolicyStore $store -ErrorAction SilentlyContinue })
    if (-not $found.Count) {
        $name = @($asked.Keys)[0]
        $text = "No MSFT_NetRoute objects found with property '$name' equal to '$($asked[$name] -join ', ')'.  Verify the value of the property and retry."
        $Caller.WriteError((New-Failure $text "CmdletizationQuery_NotFound_$name,$Cmdlet" 'ObjectNotFound' $asked[$name]))
    }
    $found
}

function Set-NetRoute {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Position = 0)][string[]]$DestinationPrefix, [Alias('ifIndex')][uint32[]]$InterfaceIndex, [Alias('ifAlias')][string[]]$InterfaceAlias,
        [string[]]$NextHop, [ValidateSet('IPv4', 'IPv6')][string[]]$AddressFamily, [ValidateSet('ActiveStore', 'PersistentStore')][string]$PolicyStore,
        [Parameter(Mandatory)][uint16]$RouteMetric, [Parameter(ValueFromPipeline)]$InputObject, [switch]$PassThru
    )
    process {
        $asked = @{}
        foreach ($name in @($PSBoundParameters.Keys)) { $asked[$name] = $PSBoundParameters[$name] }
        if (-not $PolicyStore) { $asked['PolicyStore'] = 'ActiveStore' }
        foreach ($route in Select-Stored $asked $InputObject 'Set-NetRoute' $PSCmdlet) {
            if ($PolicyStore -eq 'PersistentStore' -or $route.Store -eq 'PersistentStore') {
                $PSCmdlet.ThrowTerminatingError((New-Failure 'The parameter is incorrect.' 'Windows System Error 87,Set-NetRoute' 'InvalidArgument' 'MSFT_NetRoute'))
            }
            if (-not $PSCmdlet.ShouldProcess($route.DestinationPrefix)) { continue }
            Set-Stored $route.Store.Replace('Store', '') $route.DestinationPrefix $route.InterfaceIndex $route.NextHop $RouteMetric
            if ($PassThru) { $route.RouteMetric = [int]$RouteMetric; $route }
        }
    }
}

function Remove-NetRoute {
    [CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High')]
    param(
        [Parameter(Position = 0)][string[]]$DestinationPrefix, [Alias('ifIndex')][uint32[]]$InterfaceIndex, [Alias('ifAlias')][string[]]$InterfaceAlias,
        [string[]]$NextHop, [ValidateSet('IPv4', 'IPv6')][string[]]$AddressFamily, [ValidateSet('ActiveStore', 'PersistentStore')][string]$PolicyStore,
        [Parameter(ValueFromPipeline)]$InputObject, [switch]$PassThru
    )
    process {
        foreach ($route in Select-Stored $PSBoundParameters $InputObject 'Remove-NetRoute' $PSCmdlet) {
            if (-not $PSCmdlet.ShouldProcess($route.DestinationPrefix)) { continue }
            Set-Stored $route.Store.Replace('Store', '') $route.DestinationPrefix $route.InterfaceIndex $route.NextHop $null
            if ($route.Store -eq 'ActiveStore') { Write-Journal del $route.DestinationPrefix $route.NextHop }
            if ($PassThru) { $route }
        }
    }
}

function Get-NetAdapter {
    [CmdletBinding()]
    param([Parameter(Position = 0)][string[]]$Name, [Alias('ifIndex')][uint32[]]$InterfaceIndex)
    foreach ($card in Select-Card $InterfaceIndex $Name) {
        [pscustomobject]@{
            Name = $card.alias; InterfaceAlias = $card.alias; InterfaceDescription = 'Microsoft Hyper-V Network Adapter'; InterfaceIndex = $card.index
            ifIndex = $card.index; InterfaceGuid = $card.guid; MacAddress = $card.mac; Status = 'Up'
        }
    }
}

function Get-NetIPInterface {
    [CmdletBinding()]
    param([Alias('ifIndex')][uint32[]]$InterfaceIndex, [Alias('ifAlias')][string[]]$InterfaceAlias, [ValidateSet('IPv4', 'IPv6')][string[]]$AddressFamily)
    $cards = @(Select-Card $InterfaceIndex $InterfaceAlias)
    if ($cards.Count -eq 1 -and $null -eq $cards[0]) {
        $text = "No MSFT_NetIPInterface objects found with property 'InterfaceIndex' equal to '$($InterfaceIndex -join ', ')'.  Verify the value of the property and retry."
        $PSCmdlet.WriteError((New-Failure $text 'CmdletizationQuery_NotFound_InterfaceIndex,Get-NetIPInterface' 'ObjectNotFound' $InterfaceIndex))
        return
    }
    foreach ($card in $cards) {
        foreach ($family in 'IPv4', 'IPv6') {
            if ($AddressFamily -and $AddressFamily -notcontains $family) { continue }
            $key = $script:Machine.OpenSubKey("$script:Tcpip\Interfaces\$($card.guid)")
            $dhcp = 'Disabled'
            if ($null -ne $key) {
                if ($family -eq 'IPv4' -and $key.GetValue('EnableDHCP') -eq 1) { $dhcp = 'Enabled' }
                $key.Dispose()
            }
            [pscustomobject]@{
                InterfaceIndex = $card.index; ifIndex = $card.index; InterfaceAlias = $card.alias; AddressFamily = $family; Dhcp = $dhcp
                InterfaceMetric = $card.metric; NlMtu = 1500; ConnectionState = 'Connected'; Store = 'ActiveStore'
            }
        }
    }
}

function Set-NetIPInterface {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Alias('ifIndex')][uint32[]]$InterfaceIndex, [Alias('ifAlias')][string[]]$InterfaceAlias, [ValidateSet('IPv4', 'IPv6')][string]$AddressFamily = 'IPv4',
        [ValidateSet('Enabled', 'Disabled')][string]$Dhcp, [uint32]$InterfaceMetric
    )
    $cards = @(Select-Card $InterfaceIndex $InterfaceAlias)
    if ($cards.Count -eq 1 -and $null -eq $cards[0]) {
        $PSCmdlet.ThrowTerminatingError((New-Failure 'Element not found.' 'Windows System Error 1168,Set-NetIPInterface' 'ObjectNotFound' $InterfaceIndex))
    }
    foreach ($card in $cards) {
        if (-not $PSCmdlet.ShouldProcess($card.alias)) { continue }
        if ($PSBoundParameters.ContainsKey('InterfaceMetric')) {
            $key = $script:Machine.CreateSubKey("$script:Root\Interfaces\$($card.index)")
            $key.SetValue('Metric', [int]$InterfaceMetric, 'DWord')
            $key.Dispose()
        }
        if (-not $Dhcp -or $AddressFamily -ne 'IPv4') { continue }
        $key = $script:Machine.CreateSubKey("$script:Tcpip\Interfaces\$($card.guid)")
        if ($Dhcp -eq 'Enabled' -and $key.GetValue('EnableDHCP') -ne 1) {
            # The lease that Azure's DHCP server gives: the same address, and option 245.
            $key.SetValue('EnableDHCP', 1, 'DWord')
            $key.SetValue('DhcpIPAddress', @($card.addresses | Where-Object { $_ -notmatch ':' })[0].Split('/')[0])
            $key.SetValue('DhcpServer', '168.63.129.16')
            $key.SetValue('LeaseTerminatesTime', 0x7fffffff, 'DWord')
            $head = { param($Code, $Length) [byte[]]@($Code, 0, 0, 0, 0, 0, 0, 0, $Length, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f) }
            $key.SetValue('DhcpInterfaceOptions', [byte[]]((& $head 6 4) + @(168, 63, 129, 16) + (& $head 53 1) + @(5, 0, 0, 0) + (& $head 252 0) +
                    (& $head 245 4) + @(168, 63, 129, 16)), 'Binary')
            foreach ($name in 'IPAddress', 'SubnetMask') { $key.DeleteValue($name, $false) }
            Set-DhcpRoute $card $true
        } elseif ($Dhcp -eq 'Disabled') {
            $key.SetValue('EnableDHCP', 0, 'DWord')
            foreach ($name in 'DhcpIPAddress', 'DhcpServer', 'LeaseTerminatesTime', 'DhcpInterfaceOptions') { $key.DeleteValue($name, $false) }
            Set-DhcpRoute $card $false
        }
        $key.Dispose()
    }
}

function Get-NetIPAddress {
    [CmdletBinding()]
    param([Parameter(Position = 0)][string[]]$IPAddress, [Alias('ifIndex')][uint32[]]$InterfaceIndex, [ValidateSet('IPv4', 'IPv6')][string[]]$AddressFamily)
    foreach ($card in Select-Card $InterfaceIndex $null) {
        foreach ($text in $card.addresses) {
            $address, $length = $text.Split('/')
            $family = Get-Family $address
            if (($IPAddress -and $IPAddress -notcontains $address) -or ($AddressFamily -and $AddressFamily -notcontains $family)) { continue }
            [pscustomobject]@{
                IPAddress = $address; PrefixLength = [int]$length; InterfaceIndex = $card.index; ifIndex = $card.index; InterfaceAlias = $card.alias
                AddressFamily = $family; Store = 'ActiveStore'
            }
        }
    }
}

function New-NetIPAddress {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0)][string]$IPAddress, [Parameter(Mandatory)][Alias('ifIndex')][uint32]$InterfaceIndex,
        [Parameter(Mandatory)][byte]$PrefixLength, [string]$DefaultGateway, [ValidateSet('ActiveStore', 'PersistentStore')][string]$PolicyStore
    )
    $card = Select-Card $InterfaceIndex $null
    if ($null -eq $card) { $PSCmdlet.ThrowTerminatingError((New-Failure 'Element not found.' 'Windows System Error 1168,New-NetIPAddress' 'ObjectNotFound' $InterfaceIndex)) }
    $key = $script:Machine.CreateSubKey("$script:Tcpip\Interfaces\$($card.guid)")
    $present = @($key.GetValue('IPAddress') | Where-Object { $_ })
    if ($present -contains $IPAddress) {
        $PSCmdlet.ThrowTerminatingError((New-Failure 'Instance MSFT_NetIPAddress already exists' 'Windows System Error 5010,New-NetIPAddress' 'InvalidOperation' 'MSFT_NetIPAddress'))
    }
    if (-not $PSCmdlet.ShouldProcess($IPAddress)) { return }
    $mask = (Get-PersistentName "0.0.0.0/$PrefixLength" '' 0).Split(',')[1]
    $key.SetValue('EnableDHCP', 0, 'DWord')
    $key.SetValue('IPAddress', [string[]]@($present + $IPAddress), 'MultiString')
    $key.SetValue('SubnetMask', [string[]](@($key.GetValue('SubnetMask') | Where-Object { $_ }) + $mask), 'MultiString')
    if ($DefaultGateway) { $key.SetValue('DefaultGateway', [string[]]@($DefaultGateway), 'MultiString') }
    $key.Dispose()
    $default = @{ DestinationPrefix = '0.0.0.0/0'; InterfaceIndex = $card.index; NextHop = $DefaultGateway; PolicyStore = 'ActiveStore' }
    if ($DefaultGateway -and -not @(Get-NetRoute @default -ErrorAction SilentlyContinue).Count) { [void](New-NetRoute @default -RouteMetric 0) }
}

function Remove-NetIPAddress {
    [CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High')]
    param([Parameter(Mandatory, Position = 0)][string]$IPAddress, [Alias('ifIndex')][uint32]$InterfaceIndex)
    foreach ($card in Select-Card $InterfaceIndex $null) {
        $key = $script:Machine.CreateSubKey("$script:Tcpip\Interfaces\$($card.guid)")
        $present = @($key.GetValue('IPAddress') | Where-Object { $_ })
        $at = [array]::IndexOf($present, $IPAddress)
        if ($at -ge 0 -and $PSCmdlet.ShouldProcess($IPAddress)) {
            $masks = @($key.GetValue('SubnetMask'))
            $left = @(0..($present.Count - 1) | Where-Object { $_ -ne $at })
            $key.SetValue('IPAddress', [string[]]@($left | ForEach-Object { $present[$_] }), 'MultiString')
            $key.SetValue('SubnetMask', [string[]]@($left | ForEach-Object { $masks[$_] }), 'MultiString')
        }
        $key.Dispose()
    }
}

# The interface and the route that lead to an address; the first object is the interface's address, as on Windows.
function Find-NetRoute {
    [CmdletBinding()]
    param([Parameter(Mandatory, Position = 0)][string]$RemoteIPAddress)
    $wanted = [System.Net.IPAddress]::Parse($RemoteIPAddress).GetAddressBytes()
    $best = $null
    foreach ($route in Read-Store Active (Get-Interfaces)) {
        $network, $length = $route.DestinationPrefix.Split('/')
        $bytes = [System.Net.IPAddress]::Parse($network).GetAddressBytes()
        if ($bytes.Length -ne $wanted.Length) { continue }
        $same = $true
        for ($bit = 0; $bit -lt [int]$length; $bit++) {
            $mask = 0x80 -shr ($bit -band 7)
            if (($bytes[$bit -shr 3] -band $mask) -ne ($wanted[$bit -shr 3] -band $mask)) { $same = $false; break }
        }
        if ($same -and ($null -eq $best -or [int]$length -gt [int]$best.DestinationPrefix.Split('/')[1])) { $best = $route }
    }
    if ($null -eq $best) {
        $PSCmdlet.ThrowTerminatingError((New-Failure 'The network location cannot be reached.' 'Windows System Error 1231,Find-NetRoute' 'NotSpecified' $RemoteIPAddress))
    }
    Get-NetIPAddress -InterfaceIndex $best.InterfaceIndex -AddressFamily $best.AddressFamily | Select-Object -First 1
    $best
}

# ActiveStore as it is after a start: what the container's own interface has, and the routes of PersistentStore.
function Initialize-VmbackupLabNetwork {
    [CmdletBinding()]
    param()
    foreach ($name in 'Active', 'Interfaces') { $script:Machine.DeleteSubKeyTree("$script:Root\$name", $false) }
    $script:Machine.CreateSubKey("$script:Root\Interfaces").Dispose()
    foreach ($card in [System.Net.NetworkInformation.NetworkInterface]::GetAllNetworkInterfaces()) {
        if ("$($card.NetworkInterfaceType)" -eq 'Loopback') { continue }
        $properties = $card.GetIPProperties()
        $own = @($properties.UnicastAddresses)
        if (-not @($own | Where-Object { "$($_.Address.AddressFamily)" -eq 'InterNetwork' }).Count) { continue }
        $index = $properties.GetIPv4Properties().Index
        $key = $script:Machine.CreateSubKey("$script:Root\Interfaces\$index")
        $key.SetValue('Alias', $card.Name)
        $key.SetValue('Guid', $card.Id)
        $key.SetValue('Mac', ($card.GetPhysicalAddress().ToString() -replace '(..)(?!$)', '$1-'))
        $key.SetValue('Metric', 15, 'DWord')
        $texts = @()
        foreach ($one in $own) {
            $address = [System.Net.IPAddress]::new($one.Address.GetAddressBytes())
            $length = $one.PrefixLength
            $texts += "$address/$length"
            $bytes = $address.GetAddressBytes()
            for ($bit = $length; $bit -lt 8 * $bytes.Length; $bit++) {
                $bytes[$bit -shr 3] = $bytes[$bit -shr 3] -band -bnot (0x80 -shr ($bit -band 7)) -band 255
            }
            $link = [System.Net.IPAddress]::new($bytes)
            $hop = @{ IPv4 = '0.0.0.0'; IPv6 = '::' }[(Get-Family "$link")]
            Set-Stored Active "$link/$length" $index $hop 256
        }
        $key.SetValue('Addresses', [string[]]$texts, 'MultiString')
        $key.Dispose()
        $gateway = @($properties.GatewayAddresses | ForEach-Object { "$($_.Address)" } | Where-Object { $_ -match '^\d' -and $_ -ne '0.0.0.0' })[0]
        if (-not $gateway) { $gateway = $env:LAB_GATEWAY }
        if ($gateway) { Set-Stored Active '0.0.0.0/0' $index $gateway 0 }
        $lease = $script:Machine.OpenSubKey("$script:Tcpip\Interfaces\$($card.Id)")
        if ($null -eq $lease) { continue }
        if ($lease.GetValue('EnableDHCP') -eq 1) { Set-DhcpRoute @{ index = $index; guid = $card.Id } $true }
        $lease.Dispose()
    }
    foreach ($route in Read-Store Persistent @{}) {
        Set-Stored Active $route.DestinationPrefix $route.InterfaceIndex $route.NextHop $route.RouteMetric
        Write-Journal add $route.DestinationPrefix $route.NextHop
    }
}

Export-ModuleMember -Function '*-Net*', Initialize-VmbackupLabNetwork
