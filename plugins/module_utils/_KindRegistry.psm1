# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Registry
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# Kind registry: a value. Item: key, name. State: exists, type, data, missing_keys; text has "=" before it, so that no reader of JSON takes it
# for a time.
Set-StrictMode -Version 2.0

$script:Types = @{ string = 'String'; expandstring = 'ExpandString'; multistring = 'MultiString'; dword = 'DWord'; qword = 'QWord'; binary = 'Binary' }

function Get-KeyPath([string]$Key) {
    <#
    .SYNOPSIS
    HIVE\PATH in one spelling; $null for what is no key of this machine or of its accounts.
    .PARAMETER Key
    The key as the caller wrote it.
    #>
    if ($Key -notmatch '^(HKLM|HKEY_LOCAL_MACHINE|HKU|HKEY_USERS):?\\+([^\\].*?)\\*$') { return $null }
    $hive = @{ HKLM = 'HKLM'; HKEY_LOCAL_MACHINE = 'HKLM'; HKU = 'HKU'; HKEY_USERS = 'HKU' }[$Matches[1].ToUpperInvariant()]
    return $hive + '\' + $Matches[2]
}

function ConvertTo-RegistryByte($Data, [string]$Where) {
    <#
    .SYNOPSIS
    Bytes that the caller gave, as hexadecimal digits; throws one sentence.
    .PARAMETER Data
    Hexadecimal digits, or a list of numbers.
    .PARAMETER Where
    How the sentence names it.
    #>
    $bytes = @()
    if ($Data -is [System.Collections.IList]) { $bytes = @($Data) }
    else {
        $hex = "$Data" -replace '^hex:' -replace '[\s,]'
        if ($hex -notmatch '^([0-9A-Fa-f]{2})*$') { throw "$Where must be hexadecimal bytes." }
        return $hex.ToLowerInvariant()
    }
    $text = ''
    foreach ($byte in $bytes) {
        $number = 0
        if (-not [int]::TryParse("$byte", [ref]$number) -or $number -lt 0 -or $number -gt 255) { throw "$Where must be bytes from 0 to 255." }
        $text += $number.ToString('x2')
    }
    return $text
}

function ConvertTo-RegistryNumber($Data, [int]$Bits, [string]$Where) {
    <#
    .SYNOPSIS
    A number that the caller gave, without sign; throws one sentence.
    .PARAMETER Data
    Decimal, or hexadecimal with 0x.
    .PARAMETER Bits
    32 or 64.
    .PARAMETER Where
    How the sentence names it.
    #>
    $number = [decimal]0
    $read = [decimal]::TryParse("$Data", [System.Globalization.NumberStyles]'Integer', [cultureinfo]::InvariantCulture, [ref]$number)
    if (-not $read -and "$Data" -match '^0[xX][0-9A-Fa-f]{1,16}$') { $number = [decimal][Convert]::ToUInt64("$Data".Substring(2), 16); $read = $true }
    $top = [decimal][Math]::Pow(2, 16) * [decimal][Math]::Pow(2, 16)
    if ($Bits -eq 64) { $top *= $top }
    if (-not $read -or $number -ge $top -or $number -lt - $top / 2) { throw "$Where must be a whole number of $Bits bits, not '$Data'." }
    if ($number -lt 0) { $number += $top }
    return $number.ToString([cultureinfo]::InvariantCulture)
}

function ConvertTo-RegistryData($Data, [string]$Type, [string]$Where) {
    <#
    .SYNOPSIS
    What the caller gave as data, in the form of a state; throws one sentence.
    .PARAMETER Data
    The data.
    .PARAMETER Type
    Type of the value.
    .PARAMETER Where
    How the sentence names it.
    #>
    if ($Type -eq 'multistring') { return , @(@($Data) | ForEach-Object { "=$_" }) }
    if ($Type -eq 'binary') { return ConvertTo-RegistryByte $Data $Where }
    if ($Type -eq 'dword' -or $Type -eq 'qword') { return ConvertTo-RegistryNumber $Data @{ dword = 32; qword = 64 }[$Type] $Where }
    if ($Data -is [System.Collections.IList]) { throw "$Where must be one text; for a list use type multistring." }
    if ($Data -is [bool]) { throw "$Where must be text or a number; put '$Data' in quotes." }
    return "=$Data"
}

function Read-Registry($Item) {
    <#
    .SYNOPSIS
    The state of a value.
    .PARAMETER Item
    The item.
    #>
    $state = @{ exists = $false; type = $null; data = $null; missing_keys = @() }
    $key = Open-Key $Item['key']
    if ($null -eq $key) {
        $path = $Item['key']
        while ($path.Contains('\')) {
            $found = Open-Key $path
            if ($null -ne $found) { $found.Dispose(); break }
            $state['missing_keys'] += $path
            $path = $path.Substring(0, $path.LastIndexOf('\'))
        }
        return $state
    }
    try {
        $data = $key.GetValue($Item['name'], $null, [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames)
        if ($null -eq $data) { return $state }
        $state['exists'] = $true
        $state['type'] = "$($key.GetValueKind($Item['name']))".ToLowerInvariant()
        if ($data -is [byte[]]) { $state['data'] = ConvertTo-Hex $data }
        elseif ($data -is [string[]]) { $state['data'] = @($data | ForEach-Object { "=$_" }) }
        elseif ($data -is [string]) { $state['data'] = "=$data" }
        elseif ($data -is [int]) { $state['data'] = [BitConverter]::ToUInt32([BitConverter]::GetBytes($data), 0).ToString([cultureinfo]::InvariantCulture) }
        else { $state['data'] = [BitConverter]::ToUInt64([BitConverter]::GetBytes([long]$data), 0).ToString([cultureinfo]::InvariantCulture) }
    } finally { $key.Dispose() }
    return $state
}

function Remove-Value($Item, $State) {
    <#
    .SYNOPSIS
    Deletes a value, and the keys that were made for it.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about.
    #>
    $key = Open-Key $Item['key']
    if ($null -ne $key) {
        $key.Dispose()
        $key = Open-Key $Item['key'] -Write
        $key.DeleteValue($Item['name'], $false)
        $key.Dispose()
    }
    foreach ($path in @($State['missing_keys'])) { if ($path -and -not (Remove-EmptyKey $path)) { break } }
}

function Write-Registry($Item, $State) {
    <#
    .SYNOPSIS
    Brings a value into a state.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about.
    #>
    if (-not $State['exists']) { Remove-Value $Item $State; return }
    $data = $State['data']
    switch ($State['type']) {
        'multistring' { $data = [string[]]@(@($data) | Where-Object { $null -ne $_ } | ForEach-Object { $_.Substring(1) }) }
        'binary' { $data = [byte[]](ConvertFrom-Hex $data) }
        'dword' { $data = [BitConverter]::ToInt32([BitConverter]::GetBytes([uint32]$data), 0) }
        'qword' { $data = [BitConverter]::ToInt64([BitConverter]::GetBytes([uint64]$data), 0) }
        default { $data = $data.Substring(1) }
    }
    $key = Open-Key $Item['key'] -Write
    try { $key.SetValue($Item['name'], $data, [Microsoft.Win32.RegistryValueKind]$script:Types[$State['type']]) } finally { $key.Dispose() }
}

function Hide-Binary([string]$Hex) {
    <#
    .SYNOPSIS
    What is shown of bytes: their number and a digest, which tells whether they differ. They may hold a password, as a proxy's settings do.
    .PARAMETER Hex
    The bytes as hexadecimal digits.
    #>
    $bytes = ConvertFrom-Hex $Hex
    $sha = [System.Security.Cryptography.SHA256]::Create()
    try { $digest = ConvertTo-Hex $sha.ComputeHash($bytes) } finally { $sha.Dispose() }
    return "$($bytes.Length) bytes, SHA-256 $digest"
}

function Get-RegistryText($Item, $State) {
    <#
    .SYNOPSIS
    A state as a person reads it.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state.
    #>
    if (-not $State['exists']) { return 'absent' }
    if ($State['type'] -eq 'binary') { return "binary, $(Hide-Binary "$($State['data'])")" }
    $data = @($State['data'] | ForEach-Object { "$_" -replace '^=' }) -join ', '
    return Hide-Secret "$($State['type']) $data" -Short
}

function Get-RegistryLabel($Item) {
    <#
    .SYNOPSIS
    The name of an item.
    .PARAMETER Item
    The item.
    #>
    $name = $Item['name']
    if (-not $name) { $name = '(default)' }
    return "$($Item['key'])\$name"
}

function Get-KindRegistry {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{
        read = ${function:Read-Registry}; write = ${function:Write-Registry}; label = ${function:Get-RegistryLabel}; text = ${function:Get-RegistryText}
        settles = $true
    }
}

Export-ModuleMember -Function ConvertTo-RegistryData, Get-KeyPath, Get-KindRegistry
