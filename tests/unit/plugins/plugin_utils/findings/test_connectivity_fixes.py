# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the findings of cause 1 give their remedies to write on Linux."""

import pytest
from cases import both
from cases import evaluated as evaluate
from linux_cases import patched, probe

BLACKHOLE = {"ok": False, "kind": "blackhole", "prefix": "168.63.129.16/32", "device": None, "gateway": None, "source": None}


def route_fix(changes):
    found = next(f for f in evaluate(patched(changes)) if f["id"].startswith("route_wireserver_"))
    assert (found["remedy"], found["consent"]) == ("connectivity.route", "vmbackup_allow_routes")
    return found["fix"][0] if found["fix"] else None


def test_what_the_remedy_of_a_missing_route_has_to_write():
    fix = route_fix({"network/routes/168.63.129.16": BLACKHOLE, "network/primary/gateway": "10.94.0.2"})
    assert fix["routes"] == ["168.63.129.16/32"] and fix["next_hop"] == "10.94.0.2" and fix["expect"] == {"168.63.129.16/32": "blackhole"}
    wider = dict(BLACKHOLE, prefix="168.63.0.0/16")
    assert route_fix({"network/routes/168.63.129.16": wider, "network/primary/gateway": "10.94.0.2"})["expect"] == {
        "168.63.129.16/32": None
    }
    assert route_fix({"network/routes/168.63.129.16": BLACKHOLE, "network/primary/gateway": None}) is None
    tunnel = {"ok": True, "kind": "host", "device": "tun0", "source": "10.8.0.2", "gateway": None, "prefix": "168.63.129.16/32"}
    changes = both(probe("wireserver"), {"network/routes/168.63.129.16": tunnel, "network/primary/gateway": "10.94.0.2"})
    assert route_fix(changes)["expect"] == {"168.63.129.16/32": "link"}


def test_the_variables_that_exclude_the_azure_host():
    row = {
        "source": "walinuxagent.service",
        "name": "http_proxy",
        "value": "http://p:3128",
        "bypass": "localhost, 10.0.0.0/8",
        "bypasses_host": False,
    }

    def fix(**more):
        changes = {"network/proxy": [dict(row, **more)], "agent/service/unit": "walinuxagent.service"}
        found = next(f for f in evaluate(patched(changes)) if f["id"] == "proxy_without_bypass")
        return found["fix"]

    value = "localhost,10.0.0.0/8,168.63.129.16,169.254.169.254"
    assert fix() == [{"variables": {"no_proxy": value, "NO_PROXY": value}, "expect": {"no_proxy": "localhost, 10.0.0.0/8"}}]
    assert fix(bypass="168.63.129.16")[0]["variables"]["no_proxy"] == "168.63.129.16,169.254.169.254"
    assert fix(bypass=None)[0]["expect"] == {"no_proxy": None}
    assert fix(source="process 7") == [] and fix(bypass="u:[redacted]@h") == []


def test_dhcp_is_switched_on_only_where_azure_gives_the_card_this_same_address():
    def fix(addresses):
        changes = {
            "network/dhcp/method": "static",
            "network/dhcp/method_source": "/etc/network/interfaces",
            "network/imds_addresses": addresses,
        }
        found = next(f for f in evaluate(patched(changes)) if f["id"] == "dhcp_static_address")
        return found["fix"]

    address = patched({})["network"]["primary"]["address"]
    assert fix([address]) == [{"interface": "eth0", "path": "/etc/network/interfaces", "address": address}]
    assert fix(["10.9.9.9"]) == [] and fix(None) == []
    assert fix([address, "10.9.9.9"]) != [] and fix(["10.9.9.9", address]) == [], "DHCP gives the first one"


@pytest.mark.parametrize(
    "route", [{"ok": False, "kind": "prohibit", "prefix": None}, {"ok": True, "kind": "other", "device": None, "source": "10.8.0.2"}]
)
def test_a_policy_rule_gets_no_route_that_would_not_help(route):
    given = {"network/routes/168.63.129.16": dict(route, gateway=None), "network/primary/gateway": "10.94.0.2"}
    assert route_fix(both(probe("wireserver"), given))["routes"] == []
