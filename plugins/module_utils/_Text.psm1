# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Leaf: texts for people, and bytes as text. Used by observers and writers.
Set-StrictMode -Version 2.0

# Bounded, so that no text of a guest holds a run up; one that takes longer all the same is masked as a whole.
$script:Limit = [TimeSpan]::FromSeconds(5)
$script:Secret = New-Object System.Text.RegularExpressions.Regex(
    ('(?<=\bsig(?:=|%3d|%253d|\\?u003d))[^&\s"''<>;,\\]+|(?<=[a-z][a-z0-9+.-]{0,30}://)[^/\s"''@<>\x00]{1,512}(?=@)|' +
        '(?<=(?:protectedSettings|password|passwd|pwd|(?:account|workspace|sharedAccess|storage_?)Key|sharedAccessSignature|access_token|client_?secret)\\?"?\s{0,16}[:=]\s{0,16}\\?"?)[^\s",;}&]+'),
    ([System.Text.RegularExpressions.RegexOptions]'IgnoreCase, CultureInvariant'), $script:Limit)
# In addresses of proxies, credentials need no scheme in front of them.
$script:Credentials = New-Object System.Text.RegularExpressions.Regex('(?<=^|[\x00-\x20=;,/])[^\x00-\x20=;,/@]{1,256}:[^\x00-\x20@]{0,256}(?=@)',
    [System.Text.RegularExpressions.RegexOptions]::CultureInvariant, $script:Limit)
$script:User = New-Object System.Text.RegularExpressions.Regex('(?<=//)[^/\s@]{1,512}(?=@)', [System.Text.RegularExpressions.RegexOptions]::CultureInvariant, $script:Limit)
$script:Stars = [System.Text.RegularExpressions.MatchEvaluator] { param($found) '*' * $found.Length }
$script:Short = [System.Text.RegularExpressions.MatchEvaluator] { param($found) '***' }

function Hide-Secret([string]$Text, [bool]$Proxy, [switch]$Short) {
    <#
    .SYNOPSIS
    Replaces secrets by asterisks.
    .PARAMETER Text
    Text that may hold secrets.
    .PARAMETER Proxy
    Whether the text is the address of a proxy.
    .PARAMETER Short
    Three asterisks, for people; else as many as the secret is long, so that lengths inside binary values still hold.
    #>
    $with = $script:Stars
    if ($Short) { $with = $script:Short }
    try {
        if ($script:Secret.IsMatch($Text)) { $Text = $script:Secret.Replace($Text, $with) }
        if ($Short) { $Text = $script:User.Replace($Text, $with) }
        if (($Proxy -or $Short) -and $script:Credentials.IsMatch($Text)) { $Text = $script:Credentials.Replace($Text, $with) }
    } catch [System.Text.RegularExpressions.RegexMatchTimeoutException] {
        if ($Short) { return '***' }
        return '*' * $Text.Length
    }
    return $Text
}

function Get-Cause($Problem) {
    <#
    .SYNOPSIS
    What went wrong, as a sentence.
    .PARAMETER Problem
    Error record.
    #>
    $text = "$($Problem.Exception.GetBaseException().Message)".Trim()
    if ($text -and '.!?'.IndexOf($text[-1]) -lt 0) { $text += '.' }
    return $text
}

function Get-Now {
    <#
    .SYNOPSIS
    The present time, ISO 8601, UTC.
    #>
    [DateTime]::UtcNow.ToString('yyyy-MM-ddTHH:mm:ssZ', [cultureinfo]::InvariantCulture)
}

function ConvertTo-Hex([byte[]]$Bytes) {
    <#
    .SYNOPSIS
    Bytes as hexadecimal digits.
    .PARAMETER Bytes
    The bytes.
    #>
    [BitConverter]::ToString($Bytes).Replace('-', '').ToLowerInvariant()
}

function ConvertFrom-Hex([string]$Hex) {
    <#
    .SYNOPSIS
    Hexadecimal digits as bytes.
    .PARAMETER Hex
    An even number of digits.
    #>
    $bytes = New-Object byte[] ($Hex.Length / 2)
    for ($at = 0; $at -lt $bytes.Length; $at++) { $bytes[$at] = [Convert]::ToByte($Hex.Substring(2 * $at, 2), 16) }
    return , $bytes
}

Export-ModuleMember -Function ConvertFrom-Hex, ConvertTo-Hex, Get-Cause, Get-Now, Hide-Secret
