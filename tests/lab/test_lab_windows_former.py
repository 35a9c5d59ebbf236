# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What undo and the guard bring back of a network that changed meanwhile, by the guests' own PowerShell but without a guest."""

import pytest
import test_lab_windows_engine
from windows_guest import LACKS, said_of

engine = test_lab_windows_engine.engine  # the fixture
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

# One adapter, and one route in the stores that are named.
NETWORK = r"""
$global:card = '{0C1A3D1C-0000-4C39-9E56-3B2B5B6E2F02}'
$settings = "SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\$card"
$key = [Microsoft.Win32.Registry]::LocalMachine.CreateSubKey($settings)
$key.SetValue('EnableDHCP', 1)
$key.Dispose()
$global:there = $true
$global:metrics = @{}
function global:Get-NetAdapter { [CmdletBinding()] param() if ($global:there) { [pscustomobject]@{ InterfaceGuid = $global:card; ifIndex = 7 } } }
function global:Get-NetRoute {
    [CmdletBinding()] param($PolicyStore)
    if (-not $global:metrics.ContainsKey($PolicyStore)) { return }
    [pscustomobject]@{
        DestinationPrefix = '20.38.98.0/24'; InterfaceIndex = 7; NextHop = '10.0.0.1'; InterfaceAlias = 'a'; InterfaceMetric = 1
        RouteMetric = $global:metrics[$PolicyStore]
    }
}
function Get-Route($Before, $Wrote) {
    @{ kind = 'route'; prefix = '20.38.98.0/24'; index = 7; guid = $card; hop = '10.0.0.1'; before = $Before; written = @(, $Wrote) }
}
$before = @{ exists = $true; enabled = $false; addresses = @('10.0.0.4/24'); gateways = @('10.0.0.1') }
$dhcp = @{ kind = 'dhcp'; index = 7; guid = $card; before = $before; written = @(, @{ exists = $true; enabled = $true }) }
$none = @{ active = $null; persistent = $null }
function Show-Former([string]$Name, $Item, [bool]$Force) {
    Clear-Cache $true
    $former = Get-FormerState (Read-State $Item) @($Item) $Force
    "${Name}: $($null -ne $former['target']) $($former['left'] -join ' ')"
}
"""
END = r"""
[Microsoft.Win32.Registry]::LocalMachine.DeleteSubKeyTree($settings, $false)
"""


def test_what_was_set_on_an_adapter_that_is_gone_is_left(engine):
    script = (
        NETWORK
        + r"""
Show-Former 'there' $dhcp $false
$global:there = $false
Show-Former 'dhcp' $dhcp $false
Show-Former 'forced' $dhcp $true
Show-Former 'route' (Get-Route @{ active = 1; persistent = 1 } $none) $false
Show-Former 'nothing' (Get-Route $none @{ active = 256 }) $false
"guard: $((Restore-UndoPoint @{ items = @($dhcp, (Get-Route $none @{ active = 256 })) } -Standing)['failed'] -join ' ')"
"""
        + END
    )
    lines = engine(["_Restore", "_KindDhcp", "_KindRoute"], script)[1]
    said, gone = said_of(lines), "its interface is not there any more, so nothing of it was put back."
    assert said["there"] == "True ", "the test could not fail otherwise"
    assert said["dhcp"] == said["forced"] == "False DHCP of interface 7: " + gone, lines
    assert said["route"] == "False route 20.38.98.0/24 via 10.0.0.1 on interface 7: " + gone and said["nothing"] == "False ", lines
    assert said["guard"] == "DHCP of interface 7: Its interface is not there.", "a guest that starts has it later"


def test_a_store_that_the_repair_did_not_write_is_somebody_elses(engine):
    script = (
        NETWORK
        + r"""
$route = Get-Route $none @{ active = 256 }
$global:metrics = @{ ActiveStore = 256 }
Show-Former 'own' $route $false
$global:metrics = @{ ActiveStore = 256; PersistentStore = 300 }
Show-Former 'other' $route $false
Show-Former 'both' (Get-Route $none @{ active = 256; persistent = 300 }) $false
[void](Initialize-Home)
$point = Save-UndoPoint 'connectivity.azure_routes' @($route) 90
Close-Point $point
"stands: [$((Get-UndoPoint $point['id'])['undone_at'])]"
$global:metrics = @{}
Close-Point $point
"gone: $([bool](Get-UndoPoint $point['id'])['undone_at'])"
Remove-UndoPoint $point
"""
        + END
    )
    lines = engine(["_Restore", "_KindDhcp", "_KindRoute"], script)[1]
    said = said_of(lines)
    assert said["own"] == "True " and said["both"] == "True " and said["other"].startswith("False ") and "changed since" in said["other"], (
        lines
    )
    assert said["stands"] == "[]" and said["gone"] == "True", lines
