# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# The task that takes the guard's place after a restart of the guest, and how PowerShell is called for either.
Set-StrictMode -Version 2.0

function Get-SystemFolder {
    <#
    .SYNOPSIS
    The folder of the 64-bit programs, whatever the bitness of this process.
    #>
    $system = 'System32'
    if ([Environment]::Is64BitOperatingSystem -and -not [Environment]::Is64BitProcess) { $system = 'Sysnative' }
    return [System.IO.Path]::Combine($env:SystemRoot, $system)
}

function Get-PowerShellPath {
    <#
    .SYNOPSIS
    The 64-bit PowerShell.
    #>
    [System.IO.Path]::Combine((Get-SystemFolder), 'WindowsPowerShell\v1.0\powershell.exe')
}

function Get-TaskName([string]$Token) {
    <#
    .SYNOPSIS
    Name of the task of a change.
    .PARAMETER Token
    Name of the change.
    #>
    'vmbackup_azure ' + $Token
}

function Invoke-TaskTool([string]$Arguments) {
    <#
    .SYNOPSIS
    Runs schtasks.exe: its exit code, and what it said.
    .PARAMETER Arguments
    Its arguments.
    #>
    $start = New-Object System.Diagnostics.ProcessStartInfo ([System.IO.Path]::Combine((Get-SystemFolder), 'schtasks.exe')), $Arguments
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.RedirectStandardOutput = $true
    $start.RedirectStandardError = $true
    $process = [System.Diagnostics.Process]::Start($start)
    try {
        $texts = @($process.StandardOutput.ReadToEndAsync(), $process.StandardError.ReadToEndAsync())
        if (-not $process.WaitForExit(60000)) { $process.Kill(); throw 'schtasks.exe did not end within 60 s.' }
        return @{ code = $process.ExitCode; text = (($texts | ForEach-Object { "$($_.Result)".Trim() } | Where-Object { $_ }) -join ' ') }
    } finally { $process.Dispose() }
}

function Get-GuardArgument([string]$Script, [string]$More) {
    <#
    .SYNOPSIS
    The arguments with which PowerShell runs a guard's script: as a text, since a group policy may forbid files that nobody signed (AllSigned), and
    in the scope that its modules see.
    .PARAMETER Script
    The script.
    .PARAMETER More
    Its parameters.
    #>
    $path = $Script.Replace("'", "''")
    "-NoProfile -NonInteractive -ExecutionPolicy Bypass -Command `". ([scriptblock]::Create([System.IO.File]::ReadAllText('$path'))) $More`""
}

function Register-GuardTask([string]$Token, [string]$Script) {
    <#
    .SYNOPSIS
    Has Windows run the guard's script at its start.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Script
    The script.
    #>
    $escape = { param([string]$Text) [System.Security.SecurityElement]::Escape($Text) }
    $program = [System.IO.Path]::Combine($env:SystemRoot, 'System32\WindowsPowerShell\v1.0\powershell.exe')
    $arguments = Get-GuardArgument $Script '-AfterRestart'
    $xml = '<?xml version="1.0" encoding="UTF-16"?>' + "`r`n" +
    '<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">' +
    '<RegistrationInfo><Description>Takes back a change of vmbackup.azure that nobody confirmed.</Description></RegistrationInfo>' +
    '<Triggers><BootTrigger><Enabled>true</Enabled></BootTrigger></Triggers>' +
    '<Principals><Principal id="Author"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal></Principals>' +
    '<Settings><DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries><StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>' +
    '<StartWhenAvailable>true</StartWhenAvailable><ExecutionTimeLimit>PT1H</ExecutionTimeLimit><Enabled>true</Enabled></Settings>' +
    "<Actions Context=`"Author`"><Exec><Command>$(& $escape $program)</Command><Arguments>$(& $escape $arguments)</Arguments></Exec></Actions></Task>"
    $file = [System.IO.Path]::ChangeExtension($Script, 'xml')
    [System.IO.File]::WriteAllText($file, $xml, [System.Text.Encoding]::Unicode)
    try {
        $done = Invoke-TaskTool "/Create /TN `"$(Get-TaskName $Token)`" /XML `"$file`" /F"
        if ($done['code'] -eq 0) { $done = Invoke-TaskTool "/Query /TN `"$(Get-TaskName $Token)`"" }
        if ($done['code'] -ne 0) { throw "The task that would put the change back after a restart of the guest could not be made (schtasks.exe: $($done['code']) $($done['text'])), so nothing was changed." }
    } finally { [System.IO.File]::Delete($file) }
}

function Remove-GuardTask([string]$Token, $Point) {
    <#
    .SYNOPSIS
    Removes the task of a change. One that is gone already is no trouble.
    .PARAMETER Token
    Name of the change.
    .PARAMETER Point
    Its undo point, which knows whether there is a task; $null when it is gone.
    #>
    if ($null -ne $Point -and -not $Point['task']) { return }
    [void](Invoke-TaskTool "/Delete /TN `"$(Get-TaskName $Token)`" /F")
}

Export-ModuleMember -Function Get-GuardArgument, Get-PowerShellPath, Register-GuardTask, Remove-GuardTask
