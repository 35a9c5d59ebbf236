# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Lays out what a healthy Windows guest on Azure has and a new Wine prefix has not: services, registry, files. Run once, when the image is made.
$ErrorActionPreference = 'Stop'
$machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Registry64')

function Set-Value([string]$Key, [string]$Name, $Data, [string]$Kind = 'String') {
    $opened = $machine.CreateSubKey($Key)
    $opened.SetValue($Name, $Data, [Microsoft.Win32.RegistryValueKind]$Kind)
    $opened.Dispose()
}

# The machine's certificate store, empty: every Windows has one.
$machine.CreateSubKey('SOFTWARE\Microsoft\SystemCertificates\My\Certificates').Dispose()

# Restart after 1, 1 and 5 minutes; counted anew after a day.
$restart = [byte[]]@(0x80, 0x51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0x14, 0, 0, 0,
    1, 0, 0, 0, 0x60, 0xEA, 0, 0, 1, 0, 0, 0, 0x60, 0xEA, 0, 0, 1, 0, 0, 0, 0xE0, 0x93, 4, 0)
$agent = (Get-ChildItem C:\WindowsAzure -Directory -Filter 'GuestAgent_*')[0].FullName
$any = 'C:\windows\system32\VmbackupLabService.exe'
$services = @(
    @('RdAgent', 'RdAgent', 'C:\WindowsAzure\Packages\WaAppAgent.exe', 2, 'LocalSystem', $restart),
    @('WindowsAzureGuestAgent', 'Windows Azure Guest Agent', "$agent\WindowsAzureGuestAgent.exe", 2, 'LocalSystem', $restart),
    @('IaaSVmProvider', 'IaaSVmProvider', 'C:\windows\system32\IaaSVmProvider.exe', 2, 'LocalSystem', $null),
    @('VSS', 'Volume Shadow Copy', $any, 3, 'LocalSystem', $null),
    @('swprv', 'Microsoft Software Shadow Copy Provider', $any, 3, 'LocalSystem', $null),
    @('COMSysApp', 'COM+ System Application', $any, 3, 'LocalSystem', $null),
    @('EventSystem', 'COM+ Event System', $any, 2, 'NT AUTHORITY\LocalService', $null),
    @('MSDTC', 'Distributed Transaction Coordinator', $any, 2, 'NT AUTHORITY\NetworkService', $null),
    @('KeyIso', 'CNG Key Isolation', $any, 3, 'LocalSystem', $null),
    @('CryptSvc', 'Cryptographic Services', $any, 2, 'NT AUTHORITY\NetworkService', $null)
)
foreach ($service in $services) {
    $key = 'SYSTEM\CurrentControlSet\Services\' + $service[0]
    Set-Value $key DisplayName $service[1]
    Set-Value $key ImagePath $service[2] ExpandString
    Set-Value $key Start $service[3] DWord
    Set-Value $key Type 16 DWord
    Set-Value $key ErrorControl 1 DWord
    Set-Value $key ObjectName $service[4]
    if ($service[5]) { Set-Value $key FailureActions $service[5] Binary }
}
Set-Value 'SYSTEM\CurrentControlSet\Services\MSDTC' DelayedAutoStart 1 DWord
Set-Value 'SYSTEM\CurrentControlSet\Services\Winmgmt' Start 2 DWord
Set-Value 'SYSTEM\CurrentControlSet\Services\Msiserver' Start 3 DWord

$guest = 'SOFTWARE\Microsoft\Virtual Machine\Guest'
Set-Value $guest GuestAgentVersion '2.7.41491.1176'
Set-Value $guest GuestAgentStatus 'GuestAgent started'
Set-Value $guest DHCPStatus 'DHCP option 245 found'
Set-Value $guest WireServerStatus 'WireServer connected'
Set-Value $guest TransparentInstallerStatus 'TransparentInstaller running'
Set-Value $guest RequiredDotNetVersionPresent 1 DWord
Set-Value $guest OsVersion '10.0.20348.0'
Set-Value 'SOFTWARE\Microsoft\GuestAgent' ContainerId '11111111-2222-3333-4444-555555555555'
Set-Value 'SOFTWARE\Microsoft\GuestAgent' Incarnation '1'
Set-Value 'SOFTWARE\Microsoft\GuestAgent' VmProvisionedAt '2026-01-12T10:15:00Z'
Set-Value 'SOFTWARE\Microsoft\Windows Azure' VmId '99999999-8888-7777-6666-555555555555'
Set-Value 'SOFTWARE\Microsoft\Windows Azure\HandlerState\Microsoft.Azure.RecoveryServices.VMSnapshot_1.0.81.0' State 'Enabled'
Set-Value 'SOFTWARE\Microsoft\Windows Azure\HandlerState\Microsoft.Azure.RecoveryServices.VMSnapshot_1.0.81.0' SequenceNumber '5'
Set-Value 'SOFTWARE\Microsoft\NET Framework Setup\NDP\v4\Full' Release 528449 DWord
Set-Value 'SOFTWARE\Microsoft\NET Framework Setup\NDP\v4\Full' Version '4.8.04161'
Set-Value 'SOFTWARE\Microsoft\.NETFramework' Enable64Bit 1 DWord
Set-Value 'SOFTWARE\Microsoft\.NETFramework' InstallRoot 'C:\Windows\Microsoft.NET\Framework64\'
foreach ($version in 'v2.0.50727', 'v4.0.30319') {
    Set-Value "SOFTWARE\Microsoft\.NETFramework\$version" SchUseStrongCrypto 1 DWord
    Set-Value "SOFTWARE\WOW6432Node\Microsoft\.NETFramework\$version" SchUseStrongCrypto 1 DWord
}
Set-Value 'SOFTWARE\Microsoft\BcdrAgent' Installed 'True'
Set-Value 'SOFTWARE\Microsoft\BcdrAgentPersistentKeys' SnapshotMethod 'firstHostThenGuest'
foreach ($version in '12.0', '14.0') {
    Set-Value "SOFTWARE\Microsoft\VisualStudio\$version\VC\Runtimes\x64" Installed 1 DWord
    Set-Value "SOFTWARE\Microsoft\VisualStudio\$version\VC\Runtimes\x64" Version "v$version.40660.00"
}
Set-Value 'SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules' 'CoreNet-DNS-Out-UDP' (
    'v2.31|Action=Allow|Active=TRUE|Dir=Out|Protocol=17|RPort=53|App=%SystemRoot%\system32\svchost.exe|Name=Core Networking - DNS (UDP-Out)|')
foreach ($profile in 'DomainProfile', 'StandardProfile', 'PublicProfile') {
    Set-Value "SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\$profile" EnableFirewall 1 DWord
}
$direct = [byte[]](@(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0) + @(0) * 12)
Set-Value 'SOFTWARE\Microsoft\Windows\CurrentVersion\Internet Settings\Connections' WinHttpSettings $direct Binary

$users = [Microsoft.Win32.RegistryKey]::OpenBaseKey('Users', 'Registry64')
$opened = $users.CreateSubKey('.DEFAULT\Software\Microsoft\Windows\CurrentVersion\Internet Settings')
$opened.SetValue('ProxyEnable', 0, 'DWord')
$opened.Dispose()

foreach ($folder in 'C:\WindowsAzure\Logs\AggregateStatus', 'C:\WindowsAzure\Logs\Plugins\Microsoft.Azure.RecoveryServices.VMSnapshot\1.0.81.0',
    'C:\ProgramData\Microsoft\Crypto\RSA\MachineKeys', 'C:\WindowsAzure\config') {
    [void][IO.Directory]::CreateDirectory($folder)
}
# Canaries: nothing may ever read these.
[IO.File]::WriteAllText('C:\WindowsAzure\config\goalstate.xml', '<GoalState>canary-9f3c</GoalState>')
[IO.File]::WriteAllText('C:\ProgramData\Microsoft\Crypto\RSA\MachineKeys\6d14e4b1d8ca773bab785d1be032546e', 'canary-9f3c')

$keys = 'C:\ProgramData\Microsoft\Crypto\RSA\MachineKeys'
$acl = New-Object System.Security.AccessControl.DirectorySecurity
$acl.SetSecurityDescriptorSddlForm('O:SYG:SYD:PAI(A;;0x12019f;;;WD)(A;;FA;;;BA)')
[IO.FileSystemAclExtensions]::SetAccessControl((New-Object IO.DirectoryInfo $keys), $acl)
