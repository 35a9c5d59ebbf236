# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors

# Stand-in for Windows' module NetSecurity, which Wine lacks: rules of the local store only, read from and written to the texts where Windows
# keeps them. Rules that block outbound are told to the container through C:\VmbackupLab\network.journal (see netkeeper.py).
Set-StrictMode -Version 2.0

$script:Rules = 'SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules'
$script:Journal = 'C:\VmbackupLab\network.journal'
$script:Machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Registry64')

function Get-Field([string]$Text) {
    $fields = @{}
    foreach ($part in $Text.Split('|')) {
        $name, $value = $part.Split([char[]]'=', 2)
        if ($null -ne $value -and -not $fields.ContainsKey($name)) { $fields[$name] = $value }
    }
    $fields
}

function Get-NetFirewallRule {
    [CmdletBinding()]
    param([Alias('ID')][string[]]$Name, [string[]]$DisplayName, [ValidateSet('True', 'False')][string]$Enabled, [string]$PolicyStore)
    $key = $script:Machine.OpenSubKey($script:Rules)
    if ($null -eq $key) { return }
    $seen = @()
    foreach ($id in $key.GetValueNames()) {
        $fields = Get-Field "$($key.GetValue($id))"
        $direction = 'Outbound'
        if ($fields['Dir'] -eq 'In') { $direction = 'Inbound' }
        $on = 'False'
        if ($fields['Active'] -eq 'TRUE') { $on = 'True' }
        if (($Name -and $Name -notcontains $id) -or ($DisplayName -and $DisplayName -notcontains $fields['Name']) -or ($Enabled -and $Enabled -ne $on)) { continue }
        $seen += $id
        [pscustomobject]@{
            Name = $id; ID = $id; InstanceID = $id; DisplayName = $fields['Name']; Enabled = $on; Direction = $direction; Action = $fields['Action']
            Profile = 'Any'; PolicyStoreSource = 'PersistentStore'; PolicyStoreSourceType = 'Local'
        }
    }
    $key.Dispose()
    foreach ($id in @($Name | Where-Object { $_ -and $seen -notcontains $_ })) {
        $text = "No MSFT_NetFirewallRule objects found with property 'InstanceID' equal to '$id'.  Verify the value of the property and retry."
        $PSCmdlet.WriteError((New-Object System.Management.Automation.ErrorRecord((New-Object System.Exception $text),
                    'CmdletizationQuery_NotFound_InstanceID,Get-NetFirewallRule', 'ObjectNotFound', $id)))
    }
}

function Set-Active([string]$Id, [bool]$On) {
    $key = $script:Machine.CreateSubKey($script:Rules)
    $text = "$($key.GetValue($Id))"
    $word = @{ $true = 'TRUE'; $false = 'FALSE' }[$On]
    $key.SetValue($Id, ($text -replace '\|Active=(TRUE|FALSE)\|', "|Active=$word|"))
    $key.Dispose()
    $fields = Get-Field $text
    if ([System.IO.File]::Exists($script:Journal) -and $Id -notmatch '\s' -and $fields['Action'] -eq 'Block' -and $fields['Dir'] -eq 'Out' -and $fields['RA4']) {
        $line = "unblock $Id`n"
        if ($On) { $line = "block $Id $($fields['RA4']) $(@{ '6' = 'tcp'; '17' = 'udp' }["$($fields['Protocol'])"]) $($fields['RPort'])".TrimEnd() + "`n" }
        [System.IO.File]::AppendAllText($script:Journal, $line, (New-Object System.Text.UTF8Encoding $false))
    }
}

function Set-NetFirewallRule {
    [CmdletBinding(SupportsShouldProcess)]
    param([Alias('ID')][string[]]$Name, [string[]]$DisplayName, [Parameter(ValueFromPipeline)]$InputObject, [ValidateSet('True', 'False')][string]$Enabled)
    process {
        $found = $InputObject
        if (-not $found) {
            $asked = @{}
            foreach ($option in 'Name', 'DisplayName') { if ($PSBoundParameters.ContainsKey($option)) { $asked[$option] = $PSBoundParameters[$option] } }
            $found = Get-NetFirewallRule @asked
        }
        foreach ($rule in $found) {
            if ($Enabled -and $PSCmdlet.ShouldProcess($rule.Name)) { Set-Active $rule.Name ($Enabled -eq 'True') }
        }
    }
}

function Enable-NetFirewallRule {
    [CmdletBinding(SupportsShouldProcess)]
    param([Alias('ID')][string[]]$Name, [string[]]$DisplayName, [Parameter(ValueFromPipeline)]$InputObject)
    process { Set-NetFirewallRule @PSBoundParameters -Enabled True }
}

function Disable-NetFirewallRule {
    [CmdletBinding(SupportsShouldProcess)]
    param([Alias('ID')][string[]]$Name, [string[]]$DisplayName, [Parameter(ValueFromPipeline)]$InputObject)
    process { Set-NetFirewallRule @PSBoundParameters -Enabled False }
}

Export-ModuleMember -Function '*-NetFirewallRule'
