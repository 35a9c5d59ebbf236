# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Native

# Kind folder_acl: the access list of a folder. Item: path. State: exists, sddl.
Set-StrictMode -Version 2.0

function Get-Entry([string]$Sddl) {
    <#
    .SYNOPSIS
    The entries of an access list, as texts that do not depend on spelling or order; $null when there is no list.
    .PARAMETER Sddl
    The security descriptor.
    #>
    if (-not $Sddl) { return $null }
    try { $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor $Sddl } catch { return $null }
    if ($null -eq $descriptor.DiscretionaryAcl) { return $null }
    return , @($descriptor.DiscretionaryAcl | ForEach-Object { "$($_.AceQualifier);$($_.AceFlags);$($_.AccessMask);$($_.SecurityIdentifier)" } | Sort-Object -Unique)
}

function Test-SameSddl([string]$Left, [string]$Right) {
    <#
    .SYNOPSIS
    Whether two access lists have the same entries.
    .PARAMETER Left
    The one.
    .PARAMETER Right
    The other.
    #>
    $both = @((Get-Entry $Left), (Get-Entry $Right))
    if ($null -eq $both[0] -or $null -eq $both[1]) { return $false }
    return ($both[0] -join '|') -ceq ($both[1] -join '|')
}

function Get-Grant([string]$Sddl) {
    <#
    .SYNOPSIS
    Rights that a list grants on the folder itself, by SID; $null when it denies anybody anything.
    .PARAMETER Sddl
    The security descriptor.
    #>
    $grants = @{}
    $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor $Sddl
    foreach ($ace in $descriptor.DiscretionaryAcl) {
        # Entries that only what is below inherits (8) say nothing about the folder.
        if ([int]$ace.AceFlags -band 8) { continue }
        $who = "$($ace.SecurityIdentifier)"
        if ("$($ace.AceQualifier)" -eq 'AccessDenied') { return $null }
        $mask = [int]$ace.AccessMask
        if ($mask -band 0x10000000) { $mask = $mask -bor 0x1F01FF }
        if ($grants.ContainsKey($who)) { $mask = $mask -bor $grants[$who] }
        $grants[$who] = $mask
    }
    return $grants
}

function Test-SddlCover([string]$Sddl, [string]$Wanted) {
    <#
    .SYNOPSIS
    Whether a list denies nobody anything and grants everyone that Wanted names at least what is asked.
    .PARAMETER Sddl
    The security descriptor.
    .PARAMETER Wanted
    What is asked.
    #>
    if ($null -eq (Get-Entry $Sddl)) { return $false }
    $present = Get-Grant $Sddl
    if ($null -eq $present) { return $false }
    $asked = Get-Grant $Wanted
    foreach ($who in $asked.Keys) {
        $granted = 0
        # SYSTEM and the administrators can each become the other, so one of them will do.
        foreach ($sid in $who, 'S-1-5-18', 'S-1-5-32-544') {
            if (($sid -eq $who -or @('S-1-5-18', 'S-1-5-32-544') -contains $who) -and $present.ContainsKey($sid)) { $granted = $granted -bor $present[$sid] }
        }
        if (($asked[$who] -band $granted) -ne $asked[$who]) { return $false }
    }
    return $true
}

function Test-FolderPart([string]$Name, $State, $Wanted) {
    <#
    .SYNOPSIS
    Whether a part of a state is as it is wanted, where texts that differ mean the same.
    .PARAMETER Name
    Name of the part.
    .PARAMETER State
    The state.
    .PARAMETER Wanted
    The state that is wanted.
    #>
    if ($Name -ne 'sddl') { return $false }
    if (Test-SameSddl $State['sddl'] $Wanted['sddl']) { return $true }
    return $Wanted['at_least'] -and (Test-SddlCover $State['sddl'] $Wanted['sddl'])
}

function Read-FolderAcl($Item) {
    <#
    .SYNOPSIS
    The state of a folder.
    .PARAMETER Item
    The item.
    #>
    if (-not [System.IO.Directory]::Exists($Item['path'])) { return @{ exists = $false; sddl = $null } }
    $parts = [System.Security.AccessControl.AccessControlSections]'Access, Owner, Group'
    $acl = New-Object System.Security.AccessControl.DirectorySecurity($Item['path'], $parts)
    return @{ exists = $true; sddl = $acl.GetSecurityDescriptorSddlForm($parts) }
}

function Write-FolderAcl($Item, $State) {
    <#
    .SYNOPSIS
    Gives a folder an access list.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about.
    #>
    if (-not $State['exists']) { return }
    # Not SetNamedSecurityInfo, as .NET would: that one also changes what inherits from the folder.
    $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor $State['sddl']
    $bytes = New-Object byte[] $descriptor.BinaryLength
    $descriptor.GetBinaryForm($bytes, 0)
    $native = Get-Native
    $buffer = [System.Runtime.InteropServices.Marshal]::AllocHGlobal($bytes.Length)
    try {
        [System.Runtime.InteropServices.Marshal]::Copy($bytes, 0, $buffer, $bytes.Length)
        if (-not $native::SetFileSecurityW($Item['path'], 4, $buffer)) {
            $path = $Item['path']
            throw "Windows refused the access list for $path. Administrators may lack the right to change it while the folder belongs to SYSTEM: as an administrator, run takeown /F `"$path`" /A, then this again, then icacls `"$path`" /setowner SYSTEM."
        }
    } finally { [System.Runtime.InteropServices.Marshal]::FreeHGlobal($buffer) }
}

function Get-FolderLabel($Item) {
    <#
    .SYNOPSIS
    The name of an item.
    .PARAMETER Item
    The item.
    #>
    "access rights of $($Item['path'])"
}

function Get-KindFolderAcl {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{
        read = ${function:Read-FolderAcl}; write = ${function:Write-FolderAcl}; label = ${function:Get-FolderLabel}; same = ${function:Test-FolderPart}
        brief = $true
        # The list may come back with what it inherits.
        comes_back_otherwise = $true
    }
}

Export-ModuleMember -Function Get-KindFolderAcl
