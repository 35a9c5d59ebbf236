# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# The folder of this collection on a guest: trusted, or not used at all. In it undo points, one file each: id, sequence, remedy, created_at,
# undone_at, and items with before, written (the states that the repair leaves, any of which counts) and then (what is written when a guarded
# change is confirmed).
Set-StrictMode -Version 2.0

$script:Base = [System.IO.Path]::Combine([Environment]::GetFolderPath('CommonApplicationData'), 'vmbackup_azure')
$script:Utf8 = New-Object System.Text.UTF8Encoding $false
$script:OwnSddl = 'O:BAG:BAD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)'

function Get-Base {
    <#
    .SYNOPSIS
    The folder of this collection.
    #>
    $script:Base
}

# ---- trust

function Get-Distrust([string]$Owner, $Entries, [string[]]$Trusted) {
    <#
    .SYNOPSIS
    Why an owner and an access list are not to be trusted, $null when only Trusted can write.
    .PARAMETER Owner
    SID of the owner.
    .PARAMETER Entries
    List of @{ sid; allow; mask; known }, $null where there is no list, which lets everybody do everything.
    .PARAMETER Trusted
    SIDs of those that are trusted.
    #>
    if ($Trusted -notcontains $Owner) { return "it belongs to $Owner, neither to SYSTEM nor to the administrators" }
    if ($null -eq $Entries) { return 'it has no access list, so everybody can write to it' }
    foreach ($entry in $Entries) {
        if (-not $entry['known']) { return 'its access list has an entry of a kind that is not known here' }
        if (-not $entry['allow'] -or $Trusted -contains $entry['sid']) { continue }
        # Everything but reading, listing and running: write, append, delete, attributes, access list, owner, and the generic ones.
        if ([int64]$entry['mask'] -band 0x500D0156) { return "$($entry['sid']) can write to it" }
    }
    return $null
}

function Get-Distrusted([string]$Path) {
    <#
    .SYNOPSIS
    Why a file or folder is not to be trusted, $null when it is.
    .PARAMETER Path
    The file or folder.
    #>
    if ([int][System.IO.File]::GetAttributes($Path) -band 0x400) { return 'it is a link to another place' }
    $parts = [System.Security.AccessControl.AccessControlSections]'Owner, Access'
    if ([System.IO.Directory]::Exists($Path)) { $acl = New-Object System.Security.AccessControl.DirectorySecurity($Path, $parts) }
    else { $acl = New-Object System.Security.AccessControl.FileSecurity($Path, $parts) }
    $bytes = $acl.GetSecurityDescriptorBinaryForm()
    $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor($bytes, 0)
    $entries = $null
    if ($null -ne $descriptor.DiscretionaryAcl) {
        $entries = @(foreach ($ace in $descriptor.DiscretionaryAcl) {
                if ($ace -is [System.Security.AccessControl.QualifiedAce]) {
                    @{ known = $true; sid = "$($ace.SecurityIdentifier)"; allow = "$($ace.AceQualifier)" -eq 'AccessAllowed'; mask = [int64]$ace.AccessMask -band 0xFFFFFFFFL }
                } else { @{ known = $false; sid = ''; allow = $true; mask = [int64]0 } }
            })
    }
    # The account itself is an administrator, or it could not write here at all.
    return Get-Distrust "$($descriptor.Owner)" $entries @('S-1-5-18', 'S-1-5-32-544', "$([System.Security.Principal.WindowsIdentity]::GetCurrent().User)")
}

function Assert-Trusted([string]$Path) {
    <#
    .SYNOPSIS
    Throws unless the folder of this collection and everything on the way to a path is trusted.
    .DESCRIPTION
    Called before anything below is read or written: what is kept there is later written with all rights. Never repaired, since nobody knows
    what was put there before.
    .PARAMETER Path
    A file or folder below it.
    #>
    $place = $script:Base
    $below = @($Path.Substring($script:Base.Length).Split([char[]]'\', [System.StringSplitOptions]::RemoveEmptyEntries))
    for ($at = 0; $true; $at++) {
        if (-not [System.IO.Directory]::Exists($place) -and -not [System.IO.File]::Exists($place)) { return }
        $why = Get-Distrusted $place
        if ($why) { throw "$place is not trusted: $why. So nothing there is read or written. Look at it, and delete it when it is not needed, then run this again." }
        if ($at -ge $below.Count) { return }
        $place = [System.IO.Path]::Combine($place, $below[$at])
    }
}

function Initialize-Home([string]$Below) {
    <#
    .SYNOPSIS
    Makes the folder of this collection, or one below it, for SYSTEM and administrators only.
    .PARAMETER Below
    Name of the one below.
    #>
    $wanted = @($script:Base)
    if ($Below) { $wanted += [System.IO.Path]::Combine($script:Base, $Below) }
    foreach ($path in $wanted) {
        if (-not [System.IO.Directory]::Exists($path)) {
            # Its descriptor is there from the first moment on.
            $security = New-Object System.Security.AccessControl.DirectorySecurity
            $security.SetSecurityDescriptorSddlForm($script:OwnSddl)
            # A method of the class on Windows PowerShell, an extension on PowerShell 7.
            if ($PSVersionTable.PSVersion.Major -lt 6) { [void][System.IO.Directory]::CreateDirectory($path, $security) }
            else { [void][System.IO.FileSystemAclExtensions]::CreateDirectory($security, $path) }
        }
        # Somebody else may have been faster.
        Assert-Trusted $path
    }
    return $wanted[-1]
}

function Remove-Home {
    <#
    .SYNOPSIS
    Leaves no empty folder behind.
    #>
    foreach ($path in [System.IO.Path]::Combine($script:Base, 'guard'), $script:Base) {
        if ([System.IO.Directory]::Exists($path) -and -not @([System.IO.Directory]::GetFileSystemEntries($path)).Count) { [System.IO.Directory]::Delete($path) }
    }
}

# ---- files

function ConvertTo-Plain($Value) {
    <#
    .SYNOPSIS
    Hashtables and arrays of what ConvertFrom-Json made.
    .PARAMETER Value
    What it made.
    #>
    if ($Value -is [System.Management.Automation.PSCustomObject]) {
        # Windows PowerShell writes a list that came out of a pipeline like this.
        $names = @($Value.PSObject.Properties | ForEach-Object { $_.Name } | Sort-Object)
        if ($names.Count -eq 2 -and $names[0] -ceq 'Count' -and $names[1] -ceq 'value') { return , @($Value.value | ForEach-Object { ConvertTo-Plain $_ }) }
        $plain = @{}
        foreach ($property in $Value.PSObject.Properties) { $plain[$property.Name] = ConvertTo-Plain $property.Value }
        return $plain
    }
    if ($Value -is [System.Collections.IList]) { return , @($Value | ForEach-Object { ConvertTo-Plain $_ }) }
    if ($Value -is [datetime]) { return $Value.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ', [cultureinfo]::InvariantCulture) }
    return $Value
}

function Read-Json([string]$Path) {
    <#
    .SYNOPSIS
    What a trusted file holds.
    .PARAMETER Path
    The file.
    #>
    Assert-Trusted $Path
    return ConvertTo-Plain (ConvertFrom-Json ([System.IO.File]::ReadAllText($Path)))
}

function Write-Durable([string]$Path, [string]$Text, [System.Text.Encoding]$Encoding) {
    <#
    .SYNOPSIS
    Writes onto the disk, not only into its cache: the way back is needed most after the guest was switched off.
    .PARAMETER Path
    The file.
    .PARAMETER Text
    Its text.
    .PARAMETER Encoding
    Its encoding.
    #>
    $stream = New-Object System.IO.FileStream($Path, [System.IO.FileMode]::Create, [System.IO.FileAccess]::Write, [System.IO.FileShare]::None)
    try {
        foreach ($bytes in $Encoding.GetPreamble(), $Encoding.GetBytes($Text)) { $stream.Write($bytes, 0, $bytes.Length) }
        $stream.Flush($true)
    } finally { $stream.Dispose() }
}

function Move-Over([string]$Temporary, [string]$Path) {
    <#
    .SYNOPSIS
    Puts a file in the place of another in one step. A scanner of viruses or an indexer may hold either open for a moment.
    .PARAMETER Temporary
    The file.
    .PARAMETER Path
    The place, where a file may be or not.
    #>
    for ($try = 1; $true; $try++) {
        try {
            if ([System.IO.File]::Exists($Path)) { [System.IO.File]::Replace($Temporary, $Path, [NullString]::Value) }
            else { [System.IO.File]::Move($Temporary, $Path) }
            return
        } catch {
            $kind = $_.Exception.GetBaseException().GetType()
            if ($try -gt 8 -or ($kind -ne [System.IO.IOException] -and $kind -ne [System.UnauthorizedAccessException])) { throw }
            [System.Threading.Thread]::Sleep(50 * $try)
        }
    }
}

function Write-Json([string]$Path, $Value) {
    <#
    .SYNOPSIS
    Replaces a trusted file.
    .PARAMETER Path
    The file.
    .PARAMETER Value
    What it is to hold.
    #>
    $temporary = $Path + '.new'
    Assert-Trusted $temporary
    Assert-Trusted $Path
    try { Write-Durable $temporary (ConvertTo-Json $Value -Depth 8 -Compress) $script:Utf8 } catch {
        $problem = $_
        # A full disk leaves half of it.
        try { [System.IO.File]::Delete($temporary) } catch { $null = $_ }
        throw $problem
    }
    Move-Over $temporary $Path
}

# ---- undo points

function Get-UndoFolder {
    <#
    .SYNOPSIS
    The folder of the undo points.
    #>
    [System.IO.Path]::Combine($script:Base, 'undo')
}

function Get-UndoFile($Point) {
    <#
    .SYNOPSIS
    The file of an undo point.
    .PARAMETER Point
    The undo point.
    #>
    [System.IO.Path]::Combine((Get-UndoFolder), $Point['id'] + '.json')
}

function Get-UndoPoint([string]$Id) {
    <#
    .SYNOPSIS
    All undo points, oldest first.
    .PARAMETER Id
    Only the one of this name.
    #>
    $folder = Get-UndoFolder
    Assert-Trusted $folder
    if (-not [System.IO.Directory]::Exists($folder)) { return }
    $points = @(foreach ($file in [System.IO.Directory]::GetFiles($folder, '*.json')) {
            Assert-Trusted $file
            try { Read-Json $file } catch { throw "The undo point $file cannot be read: $(Get-Cause $_) Move it away to go on without it." }
        })
    $points | Where-Object { $null -ne $_ -and (-not $Id -or $_['id'] -eq $Id) } | Sort-Object -Property { [int]$_['sequence'] }
}

function Get-Identity($Item) {
    <#
    .SYNOPSIS
    What an item is about, whatever the index of its interface is now.
    .PARAMETER Item
    The item.
    #>
    $names = @('kind', 'key', 'name', 'path', 'guid', 'prefix', 'hop')
    if (-not $Item['guid']) { $names += 'index' }
    return ($names | ForEach-Object { "$($Item[$_])".ToLowerInvariant() }) -join '|'
}

function Remove-OldPoint([int]$Days) {
    <#
    .SYNOPSIS
    Removes old undo points. One that a younger point builds on stays: both are the way back of one change.
    .PARAMETER Days
    After how many days; 0 keeps all.
    #>
    if ($Days -le 0) { return }
    $limit = [DateTime]::UtcNow.AddDays(-$Days)
    $points = @(Get-UndoPoint)
    $needed = @{}
    for ($at = $points.Count - 1; $at -ge 0; $at--) {
        $point = $points[$at]
        $made = [DateTime]::MaxValue
        $style = [System.Globalization.DateTimeStyles]'AdjustToUniversal, AssumeUniversal'
        $known = [DateTime]::TryParse("$($point['created_at'])", [cultureinfo]::InvariantCulture, $style, [ref]$made)
        $open = -not $point['undone_at']
        $names = @($point['items'] | ForEach-Object { Get-Identity $_ })
        # The next start of the guest takes it back.
        $waits = $open -and $point['task'] -and [System.IO.File]::Exists([System.IO.Path]::Combine($script:Base, 'guard', $point['id'] + '.ps1'))
        if (-not $known -or $made -ge $limit -or $waits -or ($open -and @($names | Where-Object { $needed.ContainsKey($_) }).Count)) {
            if ($open) { foreach ($name in $names) { $needed[$name] = $true } }
            continue
        }
        [System.IO.File]::Delete((Get-UndoFile $point))
    }
}

function Save-UndoPoint([string]$Remedy, $Items, [int]$KeepDays) {
    <#
    .SYNOPSIS
    Makes an undo point.
    .PARAMETER Remedy
    Name of the repair.
    .PARAMETER Items
    With before, and with written, where that is known.
    .PARAMETER KeepDays
    After how many days older ones are removed.
    #>
    $folder = Initialize-Home 'undo'
    $sequence = 1
    foreach ($point in @(Get-UndoPoint)) { if ([int]$point['sequence'] -ge $sequence) { $sequence = [int]$point['sequence'] + 1 } }
    $id = [DateTime]::UtcNow.ToString('yyyyMMddTHHmmssZ', [cultureinfo]::InvariantCulture) + '-' + $Remedy
    $number = 1
    $name = $id
    while ([System.IO.File]::Exists([System.IO.Path]::Combine($folder, $name + '.json'))) { $number++; $name = "$id-$number" }
    $point = @{ id = $name; sequence = $sequence; remedy = $Remedy; created_at = Get-Now; undone_at = $null; items = @($Items) }
    Write-Json (Get-UndoFile $point) $point
    Remove-OldPoint $KeepDays
    return $point
}

function Update-UndoPoint($Point) {
    <#
    .SYNOPSIS
    Writes an undo point again.
    .PARAMETER Point
    The undo point.
    #>
    Write-Json (Get-UndoFile $Point) $Point
}

function Remove-UndoPoint($Point) {
    <#
    .SYNOPSIS
    Removes an undo point, and folders that are empty then.
    .PARAMETER Point
    The undo point.
    #>
    [System.IO.File]::Delete((Get-UndoFile $Point))
    if (-not @([System.IO.Directory]::GetFileSystemEntries((Get-UndoFolder))).Count) { [System.IO.Directory]::Delete((Get-UndoFolder)) }
    Remove-Home
}

Export-ModuleMember -Function Assert-Trusted, ConvertTo-Plain, Get-Base, Get-Distrust, Get-Identity, Get-UndoPoint, Initialize-Home, Read-Json, Remove-Home,
Remove-OldPoint, Remove-UndoPoint, Save-UndoPoint, Update-UndoPoint, Write-Durable, Write-Json
