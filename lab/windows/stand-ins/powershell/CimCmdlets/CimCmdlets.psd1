# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Stand-in for the module of Windows; see CimCmdlets.psm1.
@{
    RootModule = 'CimCmdlets.psm1'
    ModuleVersion = '1.0.0.0'
    GUID = 'fb6cc51d-c096-4b38-b78d-0fed6277096a'
    Author = 'vmbackup.azure contributors'
    Description = 'Stand-in of the lab for CimCmdlets'
    PowerShellVersion = '5.1'
    CompatiblePSEditions = @('Desktop', 'Core')
    FunctionsToExport = @('Get-CimInstance')
    CmdletsToExport = @()
    VariablesToExport = @()
    AliasesToExport = @()
}
