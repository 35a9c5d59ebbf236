# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Loads parts of module_utils as Ansible does: each with what it asks for, in no order that counts. For tests that need no guest.
param([string]$Root, [string]$Script)
$ErrorActionPreference = 'Stop'

$prefix = 'ansible_collections.vmbackup.azure.plugins.module_utils.'
$loaded = @{}

function Import-Part([string[]]$Names) {
    foreach ($name in $Names) {
        if ($loaded.ContainsKey($name)) { continue }
        $loaded[$name] = $true
        $text = [System.IO.File]::ReadAllText([System.IO.Path]::Combine($Root, 'plugins', 'module_utils', "$name.psm1"))
        New-Module -Name ($prefix + $name) -ScriptBlock ([scriptblock]::Create($text)) | Import-Module -Global -WarningAction SilentlyContinue
        foreach ($line in [regex]::Matches($text, '(?m)^#AnsibleRequires -PowerShell ([\w.]+)\s*$')) { Import-Part $line.Groups[1].Value.Substring($prefix.Length) }
    }
}

# What a writer sees of Ansible.Basic. As there, the end of the module is an exit, which no catch of the writer holds up.
function New-FakeModule($Params, [bool]$CheckMode) {
    $module = [pscustomobject]@{ Params = $Params; Result = @{ changed = $false }; Diff = @{}; CheckMode = $CheckMode }
    $module | Add-Member ScriptMethod ExitJson { '>> ' + (ConvertTo-Json $this.Result -Depth 6 -Compress) | Out-Default; [Environment]::Exit(0) }
    $module | Add-Member ScriptMethod FailJson {
        $this.Result['failed'] = $true
        $this.Result['msg'] = $args[0]
        '>> ' + (ConvertTo-Json $this.Result -Depth 6 -Compress) | Out-Default
        [Environment]::Exit(0)
    }
    return $module
}

. ([scriptblock]::Create([System.IO.File]::ReadAllText($Script)))
