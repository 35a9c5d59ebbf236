# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Leaf: takes secrets out of texts before they leave the guest. The same expressions as in _redact.py, where each is explained; tests compare what both
# make of one table. Every expression is bounded or moves forward only, long lines are cut before, and there is a limit of time: a text that takes
# longer is refused, never passed on half masked.
Set-StrictMode -Version 2.0

$script:Mask = '[redacted]'
$script:LineLimit = 4096
$script:Clock = New-Object System.Diagnostics.Stopwatch
$script:LimitMs = 0

function New-Pattern([string]$Text) {
    <#
    .SYNOPSIS
    An expression that does not look for longer than some seconds.
    .PARAMETER Text
    Its text.
    #>
    New-Object System.Text.RegularExpressions.Regex($Text, [System.Text.RegularExpressions.RegexOptions]::CultureInvariant, [TimeSpan]::FromSeconds(10))
}

# ---- names

$script:Ends = New-Pattern ('(?:connectionstring|credential|credentials|key|pass|passcode|passphrase|passwd|passwds|password|passwords|pwd|regcode|sastoken' +
    '|secret|secrets|signature|token|tokens)\z')
$script:Whole = New-Pattern ('(?:\A|26|3f|u0026|amp|\A[nrt])(?:auth|authorization|blobsas|commandtoexecute|containersas|cookie|encodedsignature|logsbloburi' +
    '|objectstr|protectedsettings|protectedsettingscertthumbprint|proxyauthorization|pw|sas|sasuri|sasurl|setcookie|sig|snapshoturi|statusbloburi' +
    '|statusuploadblob|xauth)\z')
$script:Harmless = New-Pattern ('(?:\A(?:bypass|cachekey|compass|encompass|foreignkey|gpgkey|hotkey|inkey|key|monitorkey|monkey|onpass|parentkey|partitionkey' +
    '|publickey|registrykey|rowkey|sortkey|subkey|surpass|turkey)|publickey)\z')
$script:Tail = New-Pattern '(?:value|text|plaintext|plain|hash|base64|b64|old|new|prod|production|dev|test|string|data|[0-9]{1,4})\z'
$script:Sign = New-Pattern '[^\p{L}\p{N}]'
$script:OwnWord = New-Pattern '(?:[a-z0-9]Pass|[_.-][Pp]ass|PASS)\W{0,4}\z'
$script:Rest = New-Pattern '(?:authorization|proxyauthorization|cookie|setcookie)\z'
$script:KeyOf = New-Pattern '(?i)(?:access|account|api|private|shared|secret|subscription|storage|workspace|signing|encryption|primary|secondary)[ _-]\z'
$script:Nothing = New-Pattern '(?i)\A(?:true|false|yes|no|y|n|on|off|null|none|\*+)?\z'
$script:Number = New-Pattern '\A[0-9]{1,5}\z'
$script:AnyWord = New-Pattern '(?:pass|word|passwd|pwd|pw|phrase|code)\z'
# Names that were looked at, since each comes many times in a log. Upper and lower case differ here.
$script:Known = New-Object 'System.Collections.Generic.Dictionary[string,bool]'

# ---- what stands around names and values

$core = '(?:auth|blob|command|connection|cookie|credential|key|objectstr|pass|protected|pw|regcode|sas|secret|sig|token|uri)'
$quote = '(?:\\{0,16}["'']|&quot;|&#34;|%22|%27|\\{0,4}u0022)'
$separator = '(?:=>|:=|[:=]|%3a|%3d|%253a|%253d|\\{0,4}u003d|\\{0,4}u003a)'
$script:Named = New-Pattern "(?i)(?<![\w.-])(?=[\w.-]*?$core)([\w.-]+)(?:$quote)?[ \t]{0,8}${separator}(\s{0,16})"
$script:Option = New-Pattern "(?<![\w./-])--?(?=(?i:[\w-]*?$core))([A-Za-z][\w-]*)([ \t]{1,8})(?=[^\s-])"
$script:Pair = New-Pattern ("(?i)(?<!\w)(?:name|key)${quote}?\s{0,4}[:=]\s{0,4}${quote}(?=[\w.-]*?$core)([\w.-]+)${quote}[,\s]{1,8}${quote}?value${quote}?" +
    '\s{0,4}[:=](\s{0,4})')
$script:Element = New-Pattern "(?i)<(?:[\w-]{1,30}:)?(?=[\w.-]*?$core)([\w.-]+)(?:\s[^<>]{0,200})?>(?=\s{0,16}[^<\s])"
$script:Opening = New-Pattern "(?i)\G$quote"
$script:AfterName = New-Pattern "(?i)\G${quote}[ \t]{0,8}[:=]"
$script:Bare = New-Pattern '\G[^\s"''<>]*'
$script:EndOfBare = New-Pattern ('(?i)(?:[,;&}\])]|%26|%2c|\\{1,16}\z)(?=[\s,;&}\])]|\z|[\w.-]{1,64}(?:\\{0,4}["''])?\s{0,2}[:=]|[\w.-]{1,64}%3d)')
$script:EndOfRest = [char[]]"`n`"'"
$script:Brackets = [char[]]'{}[]'
# Behind the mark of a block there may be a carriage return here.
$script:Block = New-Pattern '\G[|>][+-]?[ \t\r]{0,8}(?=\n)'
$script:Indented = New-Pattern '\G(?:\n[ \t]+[^\n]*)+'

# ---- addresses and shapes

$script:Word = New-Pattern ('(?i)(?<![^\s"''<>])(?=[^\s"''<>]*(?:@|%40|%2540))[^\s"''<>]*?(?://|\\/\\/|%2f%2f|%252f%252f)[^\s"''<>]*')
$script:Authority = New-Pattern '(?i)(?<plain>//|\\/\\/)|%2f%2f|%252f%252f'
$script:AuthorityEnd = New-Pattern '[/?#]'
$script:EncodedEnd = New-Pattern '(?i)%2f|%252f|[/?#]'
$script:At = New-Pattern '(?i)%40|%2540|@'
$script:Colon = New-Pattern '(?i)%3a|%253a|:'
$script:Signature = New-Pattern '(?i)(?:^|[?&;]|%3f|%26|%253f|%2526|u0026|amp;|\s)sig(?:=|%3d|%253d|\\?u003d)'
$script:Url = New-Pattern '(?i)\bhttps?(?::|%3a|%253a)(?:[\\]?/[\\]?/|%2f%2f|%252f%252f)[^\s"''<>]+'
$script:Query = New-Pattern '(?i)\?|%3f|%253f'
$script:BareSignature = New-Pattern '(?i)\bsig(=|%3d|%253d|\\?u003d)[^&\s"''<>;,\\]+'
$script:Key = New-Pattern '(?s)-----BEGIN [A-Z0-9 ]{1,60}-----.*?(?:-----END [A-Z0-9 ]{1,60}-----|\z)'
$script:LongLine = New-Pattern "(?<![^\n])[^\n]{$($script:LineLimit + 1),}"
$masked = '${1}' + $script:Mask
# Each with what it cannot do without, which is looked for first.
$script:Shapes = @(
    @(@('login', 'sshpass', 'attach'), $masked, (New-Pattern ('(?i)\b(login[ \t]{1,8}\S{1,128}[ \t]{1,8}password[ \t]{1,8}|sshpass[ \t]{1,8}-p[ \t]{0,8}' +
                '|pro[ \t]{1,8}attach[ \t]{1,8}(?!-))\S+'))),
    @(@('$'), $script:Mask, (New-Pattern '(?<![\w$])\$(?:1|5|6|7|y|gy|2[abxy])\$[\w./$=,+-]{8,}')),
    @(@('gh', 'glpat-', 'xox'), $script:Mask, (New-Pattern '(?<![\w-])(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,})')),
    @(@('bearer'), $masked, (New-Pattern ('(?i)\b((?:bearer[ \t]{1,8}){1,3}["'']?)(?!(?:tokens?|auth\w{0,16}|scheme|realm|error|is|was|or|and|for)\b)' +
                '(?![-]|[^\s"'',;<>]*["''][ \t]{0,8}[:=])[^\s"'',;<>]+'))),
    @(@('basic', 'negotiate', 'ntlm', 'sharedkey', 'sharedaccess', 'digest'), $masked, (New-Pattern (
                '(?i)\b((?:basic|negotiate|ntlm|sharedkey(?:lite)?|sharedaccesssignature|digest)[ \t]{1,8})(?=[^\s"''<>]{0,64}[0-9=+/])[^\s"''<>]{6,}'))),
    @(@('eyj'), $script:Mask, (New-Pattern '(?<![\w-])eyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*){0,3}')),
    @(@('=='), $script:Mask, (New-Pattern '(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}==')),
    @(@('-u'), $masked, (New-Pattern '(?<![\w-])((?:-[uU]|--(?:proxy-)?user(?:name)?)(?:[ \t]{1,8}|=)["'']?[^\s:"'']{1,128}:)[^\s"'']+')),
    @(@('proxy'), ($masked + '@'), (New-Pattern ('(?i)(proxy(?:[._-]?(?:host|server|url|uri|address))?["'']?[ \t]{0,4}[=:][ \t]{0,4}["'']?)' +
                '(?=[^\s"'']{1,641}@)[^\s"''@/]{1,128}:[^\s"'']{1,512}@'))),
    @(@('@'), ($script:Mask + '@'), (New-Pattern '(?<![\w/@:.%+-])[\w.\\+%-]{1,64}:[^\s"''@/]{1,128}@(?=[\w.-]{1,253}:\d{2,5}(?![\w.]))')),
    @(@('identified'), $masked, (New-Pattern '(?i)\b(identified[ \t]{1,8}by[ \t]{1,8})(?:''[^''\n]*''?|"[^"\n]*"?|\S+)'))
)

# ---- functions

function Test-SecretName([string]$Name) {
    <#
    .SYNOPSIS
    Whether what is stored under a name is a secret, by the name alone.
    .PARAMETER Name
    The name.
    #>
    $is = $false
    if ($script:Known.TryGetValue($Name, [ref]$is)) { return $is }
    $end = $Name.Substring([Math]::Max(0, $Name.Length - 80))
    $plain = $script:Sign.Replace($end.ToLowerInvariant(), '')
    for ($part = 0; $part -lt 3; $part++) {
        if ($script:Harmless.IsMatch($plain)) { break }
        if ($script:Whole.IsMatch($plain)) { $is = $true; break }
        $found = $script:Ends.Match($plain)
        if ($found.Success) { $is = $found.Value -cne 'pass' -or $plain -ceq 'pass' -or $script:OwnWord.IsMatch($end); break }
        $shorter = $script:Tail.Replace($plain, '')
        if ($shorter -ceq $plain) { break }
        $plain = $shorter
    }
    if ($script:Known.Count -gt 4096) { $script:Known.Clear() }
    $script:Known[$Name] = $is
    return $is
}

function Find-Closing([string]$Text, [int]$At, [string]$Quote) {
    <#
    .SYNOPSIS
    Where the text ends that a quote began; at the end of the line when nothing ends it.
    .PARAMETER Text
    The text.
    .PARAMETER At
    Where it begins.
    .PARAMETER Quote
    The quote, which may stand behind backslashes.
    #>
    $line = $Text.IndexOf([char]10, $At)
    if ($line -lt 0) { $line = $Text.Length }
    $mark = $Quote
    if ('"'''.IndexOf($Quote[-1]) -ge 0) { $mark = $Quote.TrimStart([char]'\') }
    $depth = $Quote.Length - $mark.Length
    $place = $At
    while ($true) {
        $place = $Text.IndexOf($mark, $place, $line - $place, [StringComparison]::Ordinal)
        if ($place -lt 0) { return $line }
        $before = $place
        while ($before -gt $At -and $Text[$before - 1] -ceq [char]'\') { $before-- }
        if ($place - $before -le $depth) {
            if ($depth) { return $before }
            return $place
        }
        $place += $mark.Length
    }
}

function Find-Nested([string]$Text) {
    <#
    .SYNOPSIS
    Where the value ends that a bracket begins.
    .PARAMETER Text
    The text from the bracket on.
    #>
    $depth = 0
    for ($place = 0; $place -ge 0; $place = $Text.IndexOfAny($script:Brackets, $place + 1)) {
        if ($Text[$place] -ceq [char]'{' -or $Text[$place] -ceq [char]'[') { $depth++ } else { $depth-- }
        if (-not $depth) { return $place + 1 }
        if ($place + 1 -ge $Text.Length) { break }
        Assert-Time
    }
    return $Text.Length
}

function Find-Bare([string]$Text, [string]$Name) {
    <#
    .SYNOPSIS
    Where a value ends that is neither quoted nor in brackets: its begin and its end, nothing where it is none.
    .PARAMETER Text
    The text from the value on.
    .PARAMETER Name
    The name of the value.
    #>
    $found = $script:Block.Match($Text)
    if ($found.Success) {
        $lines = $script:Indented.Match($Text, $found.Length)
        if ($lines.Success) { return ($lines.Index + 1), ($lines.Index + $lines.Length) }
        return
    }
    $value = $script:Bare.Match($Text).Value
    $cut = $script:EndOfBare.Match($value)
    if ($cut.Success) { $value = $value.Substring(0, $cut.Index) }
    if (-not $value.Length -or $script:Nothing.IsMatch($value)) { return }
    if ($script:Number.IsMatch($value) -and -not $script:AnyWord.IsMatch($Name.ToLowerInvariant().TrimEnd([char[]]'_-.'))) { return }
    return 0, $value.Length
}

function Find-Value([string]$Text, [string]$Name, [bool]$Crossed) {
    <#
    .SYNOPSIS
    Begin and end of the value with which a text begins, nothing where there is nothing to mask.
    .PARAMETER Text
    The text.
    .PARAMETER Name
    The name of the value.
    .PARAMETER Crossed
    Whether a line's end lies between the name and the value: then only quotes and brackets begin one.
    #>
    if ($Text.StartsWith($script:Mask, [StringComparison]::Ordinal)) { return }
    $opening = $script:Opening.Match($Text)
    if ($opening.Success) {
        $begin = $opening.Length
        $end = Find-Closing $Text $begin $opening.Value
        $value = $Text.Substring($begin, $end - $begin)
        # The next name, which has a value of its own; this one has none.
        if ($script:AfterName.IsMatch($Text, $end) -and (Test-SecretName $value)) { return }
        if (-not $value.Length -or $value -ceq $script:Mask -or $script:Nothing.IsMatch($value)) { return }
        return $begin, $end
    }
    if (-not $Crossed) {
        $plain = $script:Sign.Replace($Name.Substring([Math]::Max(0, $Name.Length - 40)).ToLowerInvariant(), '')
        if ($script:Rest.IsMatch($plain)) {
            $end = $Text.IndexOfAny($script:EndOfRest)
            if ($end -lt 0) { $end = $Text.Length }
            return 0, $end
        }
    }
    if ($Text -and ($Text[0] -ceq [char]'{' -or $Text[0] -ceq [char]'[')) { return 0, (Find-Nested $Text) }
    if (-not $Crossed) { return Find-Bare $Text $Name }
}

function Assert-Time {
    <#
    .SYNOPSIS
    Throws when the time is over.
    #>
    if ($script:LimitMs -gt 0 -and $script:Clock.ElapsedMilliseconds -gt $script:LimitMs) { throw 'to look for secrets in it took too long' }
}

function Hide-Named([string]$Text, $Expression) {
    <#
    .SYNOPSIS
    Masks the values of what is called like a secret.
    .PARAMETER Text
    The text.
    .PARAMETER Expression
    Finds names and what is between them and their values.
    #>
    $shown = New-Object System.Text.StringBuilder
    $kept = 0
    for ($found = $Expression.Match($Text); $found.Success; $found = $found.NextMatch()) {
        Assert-Time
        if ($found.Index -lt $kept) { continue }
        $name = $found.Groups[1].Value
        if (-not (Test-SecretName $name)) {
            $from = [Math]::Max(0, $found.Index - 14)
            if ($name -ne 'key' -or -not $script:KeyOf.IsMatch($Text.Substring($from, $found.Index - $from))) { continue }
        }
        $begin = $found.Index + $found.Length
        if ([object]::ReferenceEquals($Expression, $script:Element)) {
            $end = $Text.IndexOf([char]'<', $begin)
            if ($end -lt 0) { $end = $Text.Length }
        } else {
            # Of the whole text only where the value goes beyond its line: PowerShell 7 takes a look at each argument of a method.
            $crossed = $found.Groups[2].Value.IndexOf([char]10) -ge 0
            $rest = $Text.Length - $begin
            $size = $Text.IndexOf([char]10, $begin) + 2 - $begin
            if ($size -lt 2 -or $size -gt $rest) { $size = $rest }
            $span = @(Find-Value $Text.Substring($begin, $size) $name $crossed)
            if ($span.Count -eq 2 -and $span[1] -ge $size -and $size -lt $rest) { $span = @(Find-Value $Text.Substring($begin) $name $crossed) }
            if ($span.Count -ne 2) { continue }
            $end = $begin + $span[1]
            $begin += $span[0]
        }
        [void]$shown.Append($Text.Substring($kept, $begin - $kept)).Append($script:Mask)
        $kept = $end
    }
    if (-not $kept) { return $Text }
    return $shown.Append($Text.Substring($kept)).ToString()
}

function Hide-Credential([string]$Address) {
    <#
    .SYNOPSIS
    Masks the credentials of the addresses in one word.
    .PARAMETER Address
    The word.
    #>
    Assert-Time
    $signs = $script:At.Matches($Address)
    if (-not $signs.Count) { return $Address }
    $last = $signs[$signs.Count - 1]
    foreach ($found in $script:Authority.Matches($Address)) {
        $begin = $found.Index + $found.Length
        if ($begin -gt $last.Index) { break }
        $at = $last.Index
        $ends = $script:EncodedEnd
        if ($found.Groups['plain'].Success) {
            $ends = $script:AuthorityEnd
            if ($last.Value -cne '@') {
                $at = $Address.LastIndexOf([char]'@')
                if ($at -lt $begin) { continue }
            }
        }
        $end = $ends.Match($Address, $begin)
        $length = $Address.Length - $begin
        if ($end.Success) { $length = $end.Index - $begin }
        # Credentials with a slash in them still have their colon before it.
        if ($at -lt $begin + $length -or $script:Colon.IsMatch($Address.Substring($begin, $length))) {
            return $Address.Substring(0, $begin) + $script:Mask + $Address.Substring($at)
        }
    }
    return $Address
}

function Hide-Query([string]$Address) {
    <#
    .SYNOPSIS
    Masks the query of an address that is signed.
    .PARAMETER Address
    The address.
    #>
    Assert-Time
    if (-not $script:Signature.IsMatch($Address)) { return $Address }
    $query = $script:Query.Match($Address)
    if ($query.Success) { return $Address.Substring(0, $query.Index) + '?' + $script:Mask }
    return $script:Mask
}

function Limit-Line([string]$Line) {
    <#
    .SYNOPSIS
    Cuts a long line. The word at which it is cut goes as a whole, since half a secret is not recognised as one.
    .PARAMETER Line
    The line.
    #>
    $head = $Line.Substring(0, $script:LineLimit)
    $end = [Math]::Max($head.LastIndexOf([char]' '), $head.LastIndexOf([char]9))
    if ($end -le 0) { $end = [Math]::Max($head.LastIndexOf([char]','), $head.LastIndexOf([char]';')) }
    if ($end -gt 0) { return $head.Substring(0, $end) + ' ...' }
    return '[a very long word]'
}

$script:LineOf = [System.Text.RegularExpressions.MatchEvaluator] { param($Found) Limit-Line $Found.Value }
$script:WordOf = [System.Text.RegularExpressions.MatchEvaluator] { param($Found) Hide-Credential $Found.Value }
$script:UrlOf = [System.Text.RegularExpressions.MatchEvaluator] { param($Found) Hide-Query $Found.Value }

function Test-Holds([string]$Text, [string[]]$Words) {
    <#
    .SYNOPSIS
    Whether a text holds one of the words, in upper or lower case.
    .PARAMETER Text
    The text.
    .PARAMETER Words
    The words.
    #>
    foreach ($word in $Words) { if ($Text.IndexOf($word, [StringComparison]::OrdinalIgnoreCase) -ge 0) { return $true } }
    return $false
}

function Protect-Text([string]$Text, [double]$Seconds) {
    <#
    .SYNOPSIS
    A text without credentials, shared access signatures and settings that Azure protects. Throws when that takes too long.
    .PARAMETER Text
    The text. Its long lines are cut.
    .PARAMETER Seconds
    How long it may take; 0 for no limit.
    #>
    if (-not $Text) { return $Text }
    $script:LimitMs = [long](1000 * $Seconds)
    $script:Clock.Restart()
    $Text = $script:LongLine.Replace($script:Key.Replace($Text, $script:Mask), $script:LineOf)
    if (Test-Holds $Text @('@', '%40', '%2540')) { $Text = $script:Word.Replace($Text, $script:WordOf) }
    if (Test-Holds $Text @('sig')) { $Text = $script:BareSignature.Replace($script:Url.Replace($Text, $script:UrlOf), ('sig${1}' + $script:Mask)) }
    # Shapes and options first: what has two words, as "token: Bearer X", would lose the one that tells the other.
    foreach ($shape in $script:Shapes) {
        Assert-Time
        if (Test-Holds $Text $shape[0]) { $Text = $shape[2].Replace($Text, $shape[1]) }
    }
    foreach ($expression in $script:Option, $script:Named, $script:Pair, $script:Element) { $Text = Hide-Named $Text $expression }
    Assert-Time
    return $Text
}

function Measure-Mask([string]$Text) {
    <#
    .SYNOPSIS
    How many masks a text holds.
    .PARAMETER Text
    The text.
    #>
    [int](($Text.Length - $Text.Replace($script:Mask, '').Length) / $script:Mask.Length)
}

Export-ModuleMember -Function Measure-Mask, Protect-Text
