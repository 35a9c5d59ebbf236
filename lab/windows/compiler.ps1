# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Compiles compiler.cs, which lies beside this file, to an assembly beside PowerShell.
$ErrorActionPreference = 'Stop'
$source = [IO.File]::ReadAllText([IO.Path]::Combine([IO.Path]::GetDirectoryName($PSCommandPath), 'compiler.cs'))
$tree = [Microsoft.CodeAnalysis.SyntaxTree[]]@([Microsoft.CodeAnalysis.CSharp.CSharpSyntaxTree]::ParseText($source))
$references = [Collections.Generic.List[Microsoft.CodeAnalysis.MetadataReference]]@()
foreach ($file in [IO.Directory]::EnumerateFiles($PSHOME, '*.dll')) {
    if ([IO.Path]::GetFileName($file) -like 'powershell.*') { continue }
    try { [void][Reflection.AssemblyName]::GetAssemblyName($file) } catch { continue } # not one of .NET
    $references.Add([Microsoft.CodeAnalysis.MetadataReference]::CreateFromFile($file))
}
$options = [Microsoft.CodeAnalysis.CSharp.CSharpCompilationOptions]::new([Microsoft.CodeAnalysis.OutputKind]::DynamicallyLinkedLibrary)
$made = [Microsoft.CodeAnalysis.CSharp.CSharpCompilation]::Create('powershell.compiler', $tree, $references, $options)
$stream = [IO.MemoryStream]::new()
$result = $made.Emit($stream)
if (-not $result.Success) { throw ($result.Diagnostics -join "`n") }
[IO.File]::WriteAllBytes([IO.Path]::Combine($PSHOME, 'powershell.compiler.dll'), $stream.ToArray())
