# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Refuses what Windows PowerShell 5.1 does not have and what this collection must not use: pslint.ps1 FILE...
# Prints "file:line: message" for each, exit code 1 when there is any. Runs on PowerShell 7, whose parser knows the newer syntax by name.
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

# Commands of Windows PowerShell 5.1 that the collection may use. What is not here is added after a look at Microsoft's 5.1 documentation.
$known = @(
    'Add-Content', 'Add-Member', 'Compare-Object', 'ConvertFrom-Csv', 'ConvertFrom-Json', 'ConvertFrom-SddlString', 'ConvertTo-Json', 'Copy-Item',
    'Export-ModuleMember', 'ForEach-Object', 'Get-Acl', 'Get-ChildItem', 'Get-Command', 'Get-Content', 'Get-Date', 'Get-Item', 'Get-ItemProperty',
    'Get-Location', 'Get-Member', 'Get-Module', 'Get-Process', 'Get-PSDrive', 'Get-Service', 'Get-Variable', 'Group-Object', 'Import-Module', 'Invoke-CimMethod',
    'Join-Path', 'Measure-Object', 'Move-Item', 'New-Item', 'New-ItemProperty', 'New-Object', 'New-PSDrive', 'New-Service', 'Out-Null', 'Out-String',
    'Register-ScheduledTask', 'Remove-Item', 'Remove-ItemProperty', 'Remove-PSDrive', 'Rename-Item', 'Resolve-Path', 'Restart-Service', 'Select-Object',
    'Set-Acl', 'Set-Content', 'Set-Item', 'Set-ItemProperty', 'Set-Location', 'Set-Service', 'Set-StrictMode', 'Set-Variable', 'Sort-Object',
    'Split-Path', 'Start-Process', 'Start-Service', 'Start-Sleep', 'Stop-Process', 'Stop-Service', 'Suspend-Service', 'Test-ModuleManifest',
    'Test-Path', 'Unregister-ScheduledTask', 'Wait-Process', 'Where-Object', 'Write-Error', 'Write-Output', 'Write-Verbose', 'Write-Warning',
    # NetTCPIP and NetSecurity of Windows 8 and Server 2012.
    'Find-NetRoute', 'Get-NetAdapter', 'Get-NetIPAddress', 'Get-NetIPConfiguration', 'Get-NetIPInterface', 'Get-NetRoute', 'New-NetIPAddress',
    'New-NetRoute', 'Remove-NetIPAddress', 'Remove-NetRoute', 'Set-NetIPInterface', 'Set-NetRoute', 'Disable-NetFirewallRule',
    'Enable-NetFirewallRule', 'Get-NetFirewallAddressFilter', 'Get-NetFirewallPortFilter', 'Get-NetFirewallProfile', 'Get-NetFirewallRule',
    'Set-NetFirewallRule', 'Get-DnsClientServerAddress', 'Set-DnsClientServerAddress'
)
$forbidden = @{
    'Add-Type' = 'starts the compiler, which takes a second; use .NET classes or emitted methods'
    'Invoke-Expression' = 'runs text as a program'
    'Get-WinEvent' = 'walks the event log'
    'Get-EventLog' = 'walks the event log'
    'Invoke-WebRequest' = 'goes through the proxy of the account'
    'Invoke-RestMethod' = 'goes through the proxy of the account'
    'Write-Host' = 'breaks the JSON that a module prints'
}
# Parameters that 5.1 lacks.
$newParameters = @{
    'Join-Path' = @('AdditionalChildPath', 'Extension')
    'Split-Path' = @('LeafBase', 'Extension')
    'ForEach-Object' = @('Parallel', 'ThrottleLimit', 'AsJob', 'TimeoutSeconds', 'UseNewRunspace')
    'ConvertFrom-Json' = @('AsHashtable', 'Depth', 'NoEnumerate', 'DateKind')
    'ConvertTo-Json' = @('AsArray', 'EnumsAsStrings', 'EscapeHandling')
    'Get-Content' = @('AsByteStream')
    'Set-Content' = @('AsByteStream')
    'Add-Content' = @('AsByteStream')
    'Sort-Object' = @('Top', 'Bottom', 'Stable')
    'Select-Object' = @('SkipIndex')
    'Measure-Object' = @('StandardDeviation', 'AllStats')
    'Get-ChildItem' = @('FollowSymlink')
    'New-Service' = @('SecurityDescriptorSddl')
    'Set-Service' = @('SecurityDescriptorSddl', 'Credential', 'Force')
    'Get-Date' = @('AsUTC', 'UnixTimeSeconds', 'FormatUFormat')
    'Start-Sleep' = @('Duration')
    'Start-Process' = @('Environment')
}
# Members and variables that .NET Framework or 5.1 lack; a third text: what a file that asks for them first holds.
$newMembers = @(
    @('(?i)\[(System\.)?Environment\]::(TickCount64|ProcessPath|ProcessId)\b', 'is not in .NET Framework'),
    @('(?i)FileSystemAclExtensions', 'is not in .NET Framework', 'Directory\]::CreateDirectory\(\$path, \$security\)'),
    @('(?i)MutexAcl', 'is not in .NET Framework', 'Threading\.Mutex\(\$false, '),
    @('(?i)OperatingSystem\]::Is', 'is not in .NET Framework'),
    @('(?i)\[(System\.)?Convert\]::(To|From)HexString', 'is not in .NET Framework'),
    @('(?i)\[(System\.)?IO\.Path\]::(GetRelativePath|IsPathFullyQualified|TrimEndingDirectorySeparator|Exists|EndsInDirectorySeparator)\b', 'is not in .NET Framework'),
    @('(?i)\[(System\.)?Math\]::Clamp\b', 'is not in .NET Framework'),
    @('(?i)Encoding\]::Latin1\b', 'is not in .NET Framework'),
    @('(?i)\[(System\.)?Array\]::Fill\b', 'is not in .NET Framework'),
    @('(?i)System\.Text\.Json|Http\.SocketsHttpHandler|Security\.Cryptography\.(SHA\w+|MD5)\]::HashData', 'is not in .NET Framework'),
    @('(?i)\$(IsWindows|IsLinux|IsMacOS|IsCoreCLR|PSStyle|EnabledExperimentalFeatures)\b', 'is not set in Windows PowerShell 5.1'),
    @('(?i)\[(wmi|wmiclass|wmisearcher|cimsession|ciminstance)\]|System\.Management\.Management|Microsoft\.Management\.Infrastructure', 'is WMI, which a sick guest may not answer')
)
$newTokens = @{
    QuestionQuestion = 'the operator ?? is not in Windows PowerShell 5.1'
    QuestionQuestionEquals = 'the operator ??= is not in Windows PowerShell 5.1'
    QuestionDot = 'the operator ?. is not in Windows PowerShell 5.1'
    QuestionLBracket = 'the operator ?[] is not in Windows PowerShell 5.1'
    AndAnd = 'pipeline chains (&&) are not in Windows PowerShell 5.1'
    OrOr = 'pipeline chains (||) are not in Windows PowerShell 5.1'
    QuestionMark = 'the ternary operator is not in Windows PowerShell 5.1'
    Clean = 'clean blocks are not in Windows PowerShell 5.1'
    Using = 'using is not allowed: Ansible puts text in front of it'
    Workflow = 'workflows are not allowed'
}
$encodings = @('ASCII', 'BigEndianUnicode', 'Byte', 'Default', 'OEM', 'String', 'Unicode', 'UTF7', 'UTF8', 'UTF32')

$found = New-Object System.Collections.ArrayList

function Add-Finding([string]$Path, [int]$Line, [string]$Message) {
    [void]$found.Add(@{ path = $Path; line = $Line; message = $Message })
}

function Test-Command([string]$Path, $Command, [string[]]$Own) {
    $name = $Command.GetCommandName()
    if (-not $name) { return }  # & $script and the like
    $line = $Command.Extent.StartLineNumber
    if ($forbidden.ContainsKey($name)) { Add-Finding $Path $line "$name is not allowed: it $($forbidden[$name])"; return }
    # The guard's last way out of a job; where WMI does not answer, nothing is changed.
    $guard = $name -eq 'Invoke-CimMethod' -and [System.IO.Path]::GetFileName($Path) -eq '_Guard.psm1'
    if (-not $guard -and $name -match '(?i)^(\w+)-(Cim|Wmi)\w*$') { Add-Finding $Path $line "$name is CIM or WMI, which a sick guest may not answer"; return }
    if ($Own -notcontains $name -and $known -notcontains $name) {
        Add-Finding $Path $line "$name is no command that Windows PowerShell 5.1 is known to have (an alias, a typing error, or a newer one)"
        return
    }
    $parameters = @($Command.CommandElements | Where-Object { $_ -is [System.Management.Automation.Language.CommandParameterAst] })
    foreach ($parameter in $parameters) {
        if ($newParameters.ContainsKey($name) -and $newParameters[$name] -contains $parameter.ParameterName) {
            Add-Finding $Path $parameter.Extent.StartLineNumber "$name has no parameter -$($parameter.ParameterName) in Windows PowerShell 5.1"
        }
    }
    if ($name -eq 'Join-Path') {
        $places = @($Command.CommandElements | Select-Object -Skip 1 | Where-Object { $_ -isnot [System.Management.Automation.Language.CommandParameterAst] })
        if ($places.Count -gt 2) { Add-Finding $Path $line 'Join-Path joins only two paths in Windows PowerShell 5.1' }
    }
    if ('Get-Content', 'Set-Content', 'Add-Content' -contains $name) {
        $encoding = @($parameters | Where-Object { $_.ParameterName -eq 'Encoding' })
        if (-not $encoding.Count) {
            Add-Finding $Path $line "$name needs -Encoding: its default differs between Windows PowerShell 5.1 and newer ones"
        } else {
            $at = $Command.CommandElements.IndexOf($encoding[0]) + 1
            $value = $encoding[0].Argument
            if ($null -eq $value -and $at -lt $Command.CommandElements.Count) { $value = $Command.CommandElements[$at] }
            if ($value -is [System.Management.Automation.Language.StringConstantExpressionAst] -and $encodings -notcontains $value.Value) {
                Add-Finding $Path $line "Windows PowerShell 5.1 knows no encoding $($value.Value)"
            }
        }
    }
}

function Test-File([string]$Path, [string[]]$Shared) {
    $tokens = $null
    $errors = $null
    $tree = [System.Management.Automation.Language.Parser]::ParseFile($Path, [ref]$tokens, [ref]$errors)
    foreach ($problem in $errors) { Add-Finding $Path $problem.Extent.StartLineNumber "does not parse: $($problem.Message)" }
    if ($errors.Count) { return }
    $namespace = 'System.Management.Automation.Language'
    foreach ($token in $tokens) {
        $kind = "$($token.Kind)"
        if ($newTokens.ContainsKey($kind)) { Add-Finding $Path $token.Extent.StartLineNumber $newTokens[$kind] }
        if ($kind -eq 'Number' -and $token.Text -match '(?i)^(0b|\d[\d.]*(?:u|y|uy|s|us|ul|n)$)') {
            Add-Finding $Path $token.Extent.StartLineNumber "the number $($token.Text) is written in a way that Windows PowerShell 5.1 does not know"
        }
        if ($kind -match '^(StringExpandable|HereStringExpandable)$' -and $token.Text -cmatch '`e|`u\{') {
            Add-Finding $Path $token.Extent.StartLineNumber 'the escapes `e and `u{} are not in Windows PowerShell 5.1'
        }
    }
    foreach ($node in $tree.FindAll({ param($one) $true }, $true)) {
        $type = $node.GetType().FullName
        if ($type -eq "$namespace.PipelineAst" -and $node.Background) { Add-Finding $Path $node.Extent.StartLineNumber 'background jobs by & are not in Windows PowerShell 5.1' }
        if ($type -eq "$namespace.CommandAst") {
            Test-Command $Path $node $Shared
        }
    }
    $lines = [System.IO.File]::ReadAllLines($Path)
    for ($number = 0; $number -lt $lines.Count; $number++) {
        if ($lines[$number] -match '^\s*#') { continue }
        foreach ($member in $newMembers) {
            if ($member.Count -gt 2 -and ($lines -match $member[2]).Count) { continue }
            if ($lines[$number] -match $member[0]) { Add-Finding $Path ($number + 1) "$($Matches[0]) $($member[1])" }
        }
    }
}

function Get-Function([string]$Path) {
    $tokens = $null
    $errors = $null
    $tree = [System.Management.Automation.Language.Parser]::ParseFile($Path, [ref]$tokens, [ref]$errors)
    return @($tree.FindAll({ param($one) $one -is [System.Management.Automation.Language.FunctionDefinitionAst] }, $true))
}

# A part of module_utils: what it defines, what it exports, which parts it asks for.
$parts = @{}
function Read-Part([string]$Path) {
    if ($parts.ContainsKey($Path)) { return $parts[$Path] }
    $text = [System.IO.File]::ReadAllText($Path)
    $own = @(Get-Function $Path | ForEach-Object { $_.Name })
    $exported = @()
    if ($text -match '(?s)Export-ModuleMember -Function (.*?)\s*$') { $exported = @($Matches[1] -split '[\s,]+' | Where-Object { $_ }) }
    $asked = @([regex]::Matches($text, '(?m)^#AnsibleRequires -PowerShell ansible_collections\.vmbackup\.azure\.plugins\.module_utils\.(\w+)\s*$') |
            ForEach-Object { $_.Groups[1].Value })
    $parts[$Path] = @{ own = $own; exported = $exported; asked = $asked }
    return $parts[$Path]
}

# What a file may call: its own functions, and what the parts export that it asks for itself. Ansible loads only those, and the guard takes
# only those along. What stands in a string, as in a test, counts as little as a comment.
function Get-Callable([string]$Path) {
    $part = Read-Part $Path
    foreach ($name in $part.exported) {
        if ($part.own -notcontains $name) { Add-Finding $Path 1 "$name is exported, but not defined here" }
    }
    $callable = $part.own
    foreach ($name in $part.asked) {
        $file = [System.IO.Path]::Combine($root, 'plugins', 'module_utils', "$name.psm1")
        if (-not [System.IO.File]::Exists($file)) { Add-Finding $Path 1 "asks for $name, which is no part of this collection"; continue }
        $callable += (Read-Part $file).exported
    }
    return $callable
}

function Test-Size([string]$Path) {
    $count = [System.IO.File]::ReadAllLines($Path).Count
    if ($count -gt 600) { Add-Finding $Path 600 "$count lines are more than 600" }
    foreach ($function in @(Get-Function $Path)) {
        $line = $function.Extent.StartLineNumber
        $count = $function.Extent.EndLineNumber - $line + 1
        if ($count -gt 60) { Add-Finding $Path $line "$($function.Name) has $count lines, more than 60" }
        if ($Path -notmatch 'psm1$') { continue }
        $help = $function.GetHelpContent()
        if ($null -eq $help -or -not $help.Synopsis) { Add-Finding $Path $line "$($function.Name) has no .SYNOPSIS"; continue }
        foreach ($parameter in @($function.Parameters) + @($function.Body.ParamBlock | ForEach-Object { if ($_) { $_.Parameters } })) {
            if ($null -eq $parameter) { continue }
            $name = $parameter.Name.VariablePath.UserPath
            if (-not $help.Parameters.ContainsKey($name.ToUpperInvariant())) { Add-Finding $Path $line "$($function.Name) has no .PARAMETER $name" }
        }
    }
}

$root = [System.IO.Path]::GetDirectoryName([System.IO.Path]::GetDirectoryName([System.IO.Path]::GetDirectoryName($PSCommandPath)))
foreach ($path in $args) {
    Test-File $path (Get-Callable $path)
    Test-Size $path
}
foreach ($one in @($found | Sort-Object -Property { $_.path }, { $_.line })) { "$($one.path):$($one.line): $($one.message)" }
if ($found.Count) { exit 1 }
exit 0
