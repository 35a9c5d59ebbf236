# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors

# Stand-in for the one class of CIM that ansible.windows.win_route asks, so that make bench can compare with it: persistent routes by destination,
# from where Windows and the stand-in for NetTCPIP keep them. Nothing in the collection uses it.
Set-StrictMode -Version 2.0

function Get-CimInstance {
    [CmdletBinding()]
    param([Parameter(Mandatory, Position = 0)][string]$ClassName, [string]$Filter)
    if ($ClassName -ne 'Win32_IP4PersistedRouteTable' -or $Filter -notmatch "^Destination = '([\d.]+)'$") {
        $PSCmdlet.ThrowTerminatingError((New-Object System.Management.Automation.ErrorRecord((New-Object System.Exception 'Invalid class '), 'HRESULT 0x80041010,Get-CimInstance', 'MetadataError', $ClassName)))
    }
    $destination = $Matches[1]
    $key = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Registry64').OpenSubKey('SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\PersistentRoutes')
    if ($null -eq $key) { return }
    foreach ($name in $key.GetValueNames()) {
        $network, $mask, $hop, $metric = $name.Split(',')
        if ($network -eq $destination) { [pscustomobject]@{ Destination = $network; Mask = $mask; NextHop = $hop; Metric1 = [int]$metric } }
    }
    $key.Dispose()
}

Export-ModuleMember -Function Get-CimInstance
