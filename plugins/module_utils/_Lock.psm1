# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Snapshot
#AnsibleRequires -PowerShell ansible_collections.vmbackup.azure.plugins.module_utils._Text

# What keeps a writer from writing, for now. The lock of the guest: two runs never change it at once. It is a named mutex of the machine, which
# Windows frees when its process ends. And a snapshot: nothing is written while one runs or starts.
Set-StrictMode -Version 2.0

$script:LockName = 'Global\vmbackup.azure'
$script:LockWaitMs = 10000

function Enter-GuestLock([int]$Milliseconds) {
    <#
    .SYNOPSIS
    Takes the lock and returns it, $null when another run keeps it. One that its owner left behind is taken.
    .PARAMETER Milliseconds
    How long to wait for it.
    #>
    # Administrators and SYSTEM: the guard may run as the one, a writer as the other.
    $security = New-Object System.Security.AccessControl.MutexSecurity
    $security.SetSecurityDescriptorSddlForm('D:P(A;;0x1f0001;;;SY)(A;;0x1f0001;;;BA)')
    $created = $false
    # A constructor on Windows PowerShell, a method of another class on PowerShell 7.
    if ($PSVersionTable.PSVersion.Major -lt 6) { $mutex = New-Object System.Threading.Mutex($false, $script:LockName, [ref]$created, $security) }
    else { $mutex = [System.Threading.MutexAcl]::Create($false, $script:LockName, [ref]$created, $security) }
    try { $taken = $mutex.WaitOne($Milliseconds) } catch [System.Threading.AbandonedMutexException] { $taken = $true }
    if ($taken) { return $mutex }
    $mutex.Dispose()
    return $null
}

function Exit-GuestLock($Mutex) {
    <#
    .SYNOPSIS
    Frees the lock.
    .PARAMETER Mutex
    What Enter-GuestLock returned; $null is no trouble.
    #>
    if ($null -eq $Mutex) { return }
    try { $Mutex.ReleaseMutex() } finally { $Mutex.Dispose() }
}

function Set-Deferred($Module, [string]$Reason) {
    <#
    .SYNOPSIS
    Has the module end as deferred.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Reason
    What it waits for.
    #>
    $Module.Result['changed'] = $false
    foreach ($name in 'changes', 'steps') { if ($Module.Result.ContainsKey($name)) { $Module.Result[$name] = @() } }
    foreach ($name in 'before', 'after') { $Module.Diff[$name] = '' }
    $Module.Result['deferred'] = $true
    $Module.Result['reason'] = $Reason
}

function Exit-Deferred($Module, [string]$Reason) {
    <#
    .SYNOPSIS
    Ends the module as deferred.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Reason
    What it waits for.
    #>
    Set-Deferred $Module $Reason
    $Module.ExitJson()
}

function Get-WaitReason($Waiting) {
    <#
    .SYNOPSIS
    Why nothing else may be changed while a guard lives, $null when none does.
    .PARAMETER Waiting
    What Get-WaitingGuard found.
    #>
    $alive = @($Waiting | Where-Object { $null -ne $_ -and $_['alive'] })
    if (-not $alive.Count) { return $null }
    $what = 'is being taken back'
    if ($alive[0]['armed']) { $what = 'waits for its confirmation' }
    return "the change of $($alive[0]['remedy']) $what"
}

function Exit-DuringSnapshot($Module) {
    <#
    .SYNOPSIS
    Ends the module as deferred when a snapshot runs or starts. Called under the lock, immediately before the first write; never in check mode.
    .PARAMETER Module
    The Ansible module.
    #>
    if ($Module.CheckMode) { return }
    try { $busy = Test-Snapshot } catch { $Module.FailJson("Could not see whether a snapshot runs: $(Get-Cause $_) Nothing was changed.", $_) }
    if ($busy) { Exit-Deferred $Module 'a snapshot is running' }
}

function Use-GuestLock($Module, [scriptblock]$Body) {
    <#
    .SYNOPSIS
    Runs what reads and writes under the lock. When another run keeps it, the module ends as deferred. Check mode takes no lock.
    .PARAMETER Module
    The Ansible module.
    .PARAMETER Body
    What to run. It may call this again: a lock that is kept already is taken once more.
    #>
    if ($Module.CheckMode) { & $Body; return }
    try { $lock = Enter-GuestLock $script:LockWaitMs }
    catch { $Module.FailJson("Could not lock this guest ($($script:LockName)): $(Get-Cause $_) Nothing was changed.", $_) }
    if ($null -eq $lock) { Exit-Deferred $Module 'another run is changing this guest' }
    try { & $Body } finally { Exit-GuestLock $lock }
}

Export-ModuleMember -Function Enter-GuestLock, Exit-DuringSnapshot, Exit-GuestLock, Get-WaitReason, Set-Deferred, Use-GuestLock
