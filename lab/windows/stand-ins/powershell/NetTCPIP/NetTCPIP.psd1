# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Stand-in for the module of Windows; see NetTCPIP.psm1.
@{
    RootModule = 'NetTCPIP.psm1'
    ModuleVersion = '1.0.0.0'
    GUID = '9e8d6c1b-0b9e-4b8b-8d3f-6f5a1f0c9a11'
    Author = 'vmbackup.azure contributors'
    Description = 'Stand-in of the lab for NetTCPIP'
    PowerShellVersion = '5.1'
    CompatiblePSEditions = @('Desktop', 'Core')
    FunctionsToExport = @('Get-NetAdapter', 'Get-NetIPAddress', 'New-NetIPAddress', 'Remove-NetIPAddress', 'Get-NetIPInterface',
        'Set-NetIPInterface', 'Find-NetRoute', 'Get-NetRoute', 'New-NetRoute', 'Set-NetRoute', 'Remove-NetRoute', 'Find-NetRoute', 'Initialize-VmbackupLabNetwork')
    CmdletsToExport = @()
    VariablesToExport = @()
    AliasesToExport = @()
}
