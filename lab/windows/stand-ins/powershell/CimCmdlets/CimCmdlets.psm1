# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors

# Stand-in for Windows' module CimCmdlets, which Wine lacks, as far as ansible.windows.win_route asks for: the persistent routes of IPv4.
# The collection itself uses no CIM; this is for the comparison in bench.
function Get-CimInstance {
    [CmdletBinding()]
    param([Parameter(Mandatory, Position = 0)][string]$ClassName, [string]$Filter)
    if ($ClassName -ne 'Win32_IP4PersistedRouteTable') { throw "Invalid class $ClassName (the lab's stand-in knows the persistent routes only)" }
    $wanted = if ($Filter -match "^Destination = '([^']*)'$") { $Matches[1] }
    $key = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Registry64').OpenSubKey('SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\PersistentRoutes')
    if ($null -eq $key) { return }
    foreach ($name in $key.GetValueNames()) {
        $destination, $mask, $hop, $metric = $name.Split(',')
        if ($wanted -and $destination -ne $wanted) { continue }
        [pscustomobject]@{ Destination = $destination; Mask = $mask; NextHop = $hop; Metric1 = [int]$metric }
    }
    $key.Dispose()
}
