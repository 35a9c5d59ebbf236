# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Effective security rules and routes of a network interface, as far as they are used. No recording shows them."""

from __future__ import annotations

from typing import Any

from .documents import Document
from .fleet import Fleet

DEFAULT_RULES = (
    ("AllowVnetOutBound", 65000, "Allow", "VirtualNetwork"),
    ("AllowInternetOutBound", 65001, "Allow", "Internet"),
    ("DenyAllOutBound", 65500, "Deny", "0.0.0.0/0"),
)


def _subnet(fleet: Fleet, interface: Document) -> Document:
    id_ = interface["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"]
    network = fleet.resources.get(id_.lower().partition("/subnets/")[0], {"properties": {}})
    return next((entry for entry in network["properties"].get("subnets", []) if entry["id"].lower() == id_.lower()), {"properties": {}})


def _rule(name: str, values: Document) -> Document:
    shown = {"name": "securityRules/" + name, **values}
    shown["protocol"] = "All" if values.get("protocol") == "*" else values.get("protocol")
    return shown


def rules(fleet: Fleet, interface: Document) -> Document:
    """Return the answer of effectiveNetworkSecurityGroups."""
    value = []
    for place, holder in (("networkInterface", interface), ("subnet", _subnet(fleet, interface))):
        reference = holder["properties"].get("networkSecurityGroup")
        group = fleet.resources.get(reference["id"].lower()) if reference else None
        if group is None:
            continue
        shown = [_rule(rule["name"], rule["properties"]) for rule in group["properties"].get("securityRules", [])]
        for name, priority, access, destination in DEFAULT_RULES:
            shown.append(
                {
                    "name": "defaultSecurityRules/" + name, "protocol": "All", "sourcePortRange": "0-65535", "destinationPortRange": "0-65535",
                    "sourceAddressPrefix": "0.0.0.0/0", "destinationAddressPrefix": destination, "access": access, "priority": priority,
                    "direction": "Outbound",
                }
            )  # fmt: skip
        association = {place: {"id": holder.get("id")}}
        value.append({"networkSecurityGroup": {"id": group["id"]}, "association": association, "effectiveSecurityRules": shown})
    return {"value": value}


def routes(fleet: Fleet, interface: Document) -> Document:
    """Return the answer of effectiveRouteTable: a user's route for a prefix makes the default one invalid."""
    reference = _subnet(fleet, interface)["properties"].get("routeTable")
    table: Any = fleet.resources.get(reference["id"].lower()) if reference else None
    own = list((table or {"properties": {}})["properties"].get("routes", []))
    taken = {route["properties"]["addressPrefix"] for route in own}
    state = "Invalid" if "0.0.0.0/0" in taken else "Active"
    value = [{"source": "Default", "state": state, "addressPrefix": ["0.0.0.0/0"], "nextHopType": "Internet", "nextHopIpAddress": []}]
    for route in own:
        hop = route["properties"].get("nextHopIpAddress")
        value.append(
            {
                "name": route["name"], "source": "User", "state": "Active", "addressPrefix": [route["properties"]["addressPrefix"]],
                "nextHopType": route["properties"]["nextHopType"], "nextHopIpAddress": [hop] if hop else [],
            }
        )  # fmt: skip
    return {"value": value}
