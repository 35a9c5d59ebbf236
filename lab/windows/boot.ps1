# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# What DHCP leaves on a guest on Azure, for the address that this guest has. Run at each start, before the WinRM listener.
$ErrorActionPreference = 'Stop'
$machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Registry64')
$card = [Net.NetworkInformation.NetworkInterface]::GetAllNetworkInterfaces() | Where-Object { $_.NetworkInterfaceType -ne 'Loopback' } | Select-Object -First 1
$address = $card.GetIPProperties().UnicastAddresses | Where-Object { $_.Address.AddressFamily -eq 'InterNetwork' } | Select-Object -First 1
$key = $machine.CreateSubKey('SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\' + $card.Id)
if ($null -eq $key.GetValue('EnableDHCP')) {
    $expires = [byte[]]@(0xff, 0xff, 0xff, 0x7f)
    $record = { param([int]$Code, [byte[]]$Data) [byte[]](@($Code, 0, 0, 0, 0, 0, 0, 0, $Data.Length, 0, 0, 0, 0, 0, 0, 0) + $expires + $Data + @(0) * ((4 - $Data.Length % 4) % 4)) }
    $host_address = [byte[]]@(168, 63, 129, 16)
    $key.SetValue('EnableDHCP', 1, 'DWord')
    $key.SetValue('DhcpIPAddress', $address.Address.ToString())
    $key.SetValue('DhcpSubnetMask', $address.IPv4Mask.ToString())
    $key.SetValue('DhcpServer', '168.63.129.16')
    $key.SetValue('DhcpDefaultGateway', [string[]]@($env:LAB_GATEWAY), 'MultiString')
    $key.SetValue('LeaseTerminatesTime', 0x7fffffff, 'DWord')
    $key.SetValue('DhcpInterfaceOptions', [byte[]]((& $record 6 $host_address) + (& $record 53 ([byte[]]@(5))) + (& $record 252 ([byte[]]@())) + (& $record 245 $host_address)), 'Binary')
}
$key.Dispose()
if (Get-Command Initialize-VmbackupLabNetwork -ErrorAction SilentlyContinue) { Initialize-VmbackupLabNetwork }
