# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Stand-in for the module of Windows; see NetSecurity.psm1.
@{
    RootModule = 'NetSecurity.psm1'
    ModuleVersion = '2.0.0.0'
    GUID = '4b26ff51-7aee-4731-9cf7-508b82532cbf'
    Author = 'vmbackup.azure contributors'
    Description = 'Stand-in of the lab for NetSecurity'
    PowerShellVersion = '5.1'
    CompatiblePSEditions = @('Desktop', 'Core')
    FunctionsToExport = @('Get-NetFirewallRule', 'Set-NetFirewallRule', 'Enable-NetFirewallRule', 'Disable-NetFirewallRule')
    CmdletsToExport = @()
    VariablesToExport = @()
    AliasesToExport = @()
}
