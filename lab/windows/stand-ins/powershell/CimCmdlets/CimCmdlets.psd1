# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
@{
    ModuleVersion = '1.0.0'
    RootModule = 'CimCmdlets.psm1'
    FunctionsToExport = @('Get-CimInstance')
    CmdletsToExport = @()
    AliasesToExport = @()
}
