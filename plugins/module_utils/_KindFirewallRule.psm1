# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Kind firewall_rule. Item: name. State: exists, enabled.
Set-StrictMode -Version 2.0

function Read-FirewallRule($Item) {
    <#
    .SYNOPSIS
    The state of a rule.
    .PARAMETER Item
    The item.
    #>
    $rule = Get-NetFirewallRule -Name $Item['name'] -ErrorAction SilentlyContinue
    if ($null -eq $rule) { return @{ exists = $false; enabled = $null } }
    return @{ exists = $true; enabled = "$(@($rule)[0].Enabled)" -eq 'True' }
}

function Write-FirewallRule($Item, $State) {
    <#
    .SYNOPSIS
    Enables or disables a rule.
    .PARAMETER Item
    The item.
    .PARAMETER State
    The state to bring about.
    #>
    if (-not $State['exists']) { return }
    if ($State['enabled']) { Enable-NetFirewallRule -Name $Item['name'] -ErrorAction Stop }
    else { Disable-NetFirewallRule -Name $Item['name'] -ErrorAction Stop }
}

function Get-FirewallLabel($Item) {
    <#
    .SYNOPSIS
    The name of an item.
    .PARAMETER Item
    The item.
    #>
    "firewall rule $($Item['name'])"
}

function Get-KindFirewallRule {
    <#
    .SYNOPSIS
    What the engine calls for this kind.
    #>
    return @{ read = ${function:Read-FirewallRule}; write = ${function:Write-FirewallRule}; label = ${function:Get-FirewallLabel}; settles = $true }
}

Export-ModuleMember -Function Get-KindFirewallRule
