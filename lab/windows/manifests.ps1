# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Writes the manifests of PowerShell's built-in binary modules (the gem ships the assemblies, not the manifests).
$ErrorActionPreference = 'Stop'
$parts = [ordered]@{
    'Microsoft.PowerShell.Utility' = 'Microsoft.PowerShell.Commands.Utility'
    'Microsoft.PowerShell.Management' = 'Microsoft.PowerShell.Commands.Management'
    'Microsoft.PowerShell.Security' = 'Microsoft.PowerShell.Security'
    'Microsoft.PowerShell.Diagnostics' = 'Microsoft.PowerShell.Commands.Diagnostics'
    'Microsoft.WSMan.Management' = 'Microsoft.WSMan.Management'
    'CimCmdlets' = 'Microsoft.Management.Infrastructure.CimCmdlets'
}
foreach ($name in $parts.Keys) {
    $file = [IO.Path]::Combine($PSHOME, $parts[$name] + '.dll')
    if (-not [IO.File]::Exists($file)) { continue }
    $cmdlets = @(); $aliases = @()
    foreach ($type in [Reflection.Assembly]::LoadFrom($file).GetExportedTypes()) {
        $a = $type.GetCustomAttributes([Management.Automation.CmdletAttribute], $false)
        if ($a.Count) { $cmdlets += "'" + $a[0].VerbName + '-' + $a[0].NounName + "'" }
        foreach ($b in $type.GetCustomAttributes([Management.Automation.AliasAttribute], $false)) { foreach ($n in $b.AliasNames) { $aliases += "'$n'" } }
    }
    $dir = [IO.Path]::Combine($PSHOME, 'Modules', $name)
    [void][IO.Directory]::CreateDirectory($dir)
    $version = [Reflection.AssemblyName]::GetAssemblyName($file).Version
    $text = "@{`n    ModuleVersion = '$version'`n    CompatiblePSEditions = @('Core')`n    NestedModules = '$($parts[$name]).dll'`n" +
        "    CmdletsToExport = @($($cmdlets -join ', '))`n    AliasesToExport = @($($aliases -join ', '))`n    FunctionsToExport = @()`n}`n"
    [IO.File]::WriteAllText([IO.Path]::Combine($dir, "$name.psd1"), $text)
    "$name $($cmdlets.Count)"
}
