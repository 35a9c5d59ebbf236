# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The way of a VM to Azure, from rows of Resource Graph: addresses, security rules and routes that somebody made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values

Rows = Mapping[str, Mapping[str, Any]]


def _many(properties: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of a field that a rule writes in the singular or in the plural."""
    one = values.text(properties.get(name))
    plural = name + "es" if name.endswith("Prefix") else name + "s"
    return ([one] if one else []) + values.texts(properties.get(plural))


def rules_of(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the outbound rules of a security group that a user made, by priority."""
    result = []
    for rule in values.entries(values.mapping(group.get("properties")).get("securityRules")):
        properties = values.mapping(rule.get("properties"))
        if str(properties.get("direction", "")).lower() != "outbound":
            continue
        result.append(
            {
                "name": values.text(rule.get("name")),
                "priority": values.number(properties.get("priority")),
                "access": (values.text(properties.get("access")) or "").capitalize() or None,
                "protocol": (values.text(properties.get("protocol")) or "*").lower(),
                "sources": _many(properties, "sourceAddressPrefix"),
                "destinations": _many(properties, "destinationAddressPrefix"),
                "ports": _many(properties, "destinationPortRange"),
            }
        )
    return sorted(result, key=lambda rule: (rule["priority"] or 0, rule["name"] or ""))


def routes_of(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the routes of a route table."""
    result = []
    for route in values.entries(values.mapping(table.get("properties")).get("routes")):
        properties = values.mapping(route.get("properties"))
        result.append(
            {
                "name": values.text(route.get("name")),
                "prefix": values.text(properties.get("addressPrefix")),
                "next_hop": values.text(properties.get("nextHopType")),
                "address": values.text(properties.get("nextHopIpAddress")),
            }
        )
    return result


class Network:
    """Networks of the fleet, by id; what many VMs share is made once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._subnets: dict[str, Mapping[str, Any]] = {}
        self._rules: dict[str, list[dict[str, Any]]] = {}
        self._routes: dict[str, list[dict[str, Any]]] = {}
        for row in rows.values():
            if str(row.get("type", "")).lower() == "microsoft.network/virtualnetworks":
                for subnet in values.entries(values.mapping(row.get("properties")).get("subnets")):
                    self._subnets[values.key(subnet.get("id"))] = {**subnet, "_dns": self._dns(row)}

    @staticmethod
    def _dns(network: Mapping[str, Any]) -> list[str]:
        return values.texts(values.mapping(values.mapping(network.get("properties")).get("dhcpOptions")).get("dnsServers"))

    def interface(self, id_: Any) -> dict[str, Any]:
        """Return a network interface with its subnet's security group and routes; None and empty where the identity may not see them."""
        row = self._rows.get(values.key(id_), {})
        properties = values.mapping(row.get("properties"))
        private, public, subnet_id, configurations = [], [], None, []
        balanced = False if row else None
        for configuration in values.entries(properties.get("ipConfigurations")):
            inner = values.mapping(configuration.get("properties"))
            configurations.append(
                {
                    "name": values.text(configuration.get("name")),
                    "address": values.text(inner.get("privateIPAddress")),
                    "allocation": values.text(inner.get("privateIPAllocationMethod")),
                }
            )
            private += [address for address in [values.text(inner.get("privateIPAddress"))] if address]
            balanced = balanced or bool(inner.get("loadBalancerBackendAddressPools"))
            subnet_id = subnet_id or values.text(values.mapping(inner.get("subnet")).get("id"))
            address = self._rows.get(values.key(values.mapping(inner.get("publicIPAddress")).get("id")), {})
            public += [found for found in [values.text(values.mapping(address.get("properties")).get("ipAddress"))] if found]
        subnet = self._subnets.get(values.key(subnet_id), {})
        below = values.mapping(subnet.get("properties"))
        table = values.text(values.mapping(below.get("routeTable")).get("id"))
        own_dns = values.texts(values.mapping(properties.get("dnsSettings")).get("dnsServers"))
        return {
            "id": values.text(row.get("id")) or values.text(id_),
            "name": values.text(row.get("name")) or values.last(id_),
            "primary": values.flag(properties.get("primary")),
            "private_addresses": private,
            "configurations": configurations,
            "public_addresses": public,
            "subnet_id": subnet_id,
            "load_balanced": balanced,
            "dns_servers": own_dns or subnet.get("_dns", []),
            "nsgs": [entry for entry in (self._nsg(properties, "nic"), self._nsg(below, "subnet")) if entry],
            "routes": self._routes_of(table),
            "route_table_id": table,
            "nat_gateway_id": values.text(values.mapping(below.get("natGateway")).get("id")),
            "effective": [],
            "service_endpoints": [
                name for name in (values.text(entry.get("service")) for entry in values.entries(below.get("serviceEndpoints"))) if name
            ],
            "default_outbound_access": values.flag(below.get("defaultOutboundAccess")),
        }

    def _nsg(self, properties: Mapping[str, Any], place: str) -> dict[str, Any] | None:
        id_ = values.text(values.mapping(properties.get("networkSecurityGroup")).get("id"))
        if not id_:
            return None
        key = values.key(id_)
        if key not in self._rules:
            self._rules[key] = rules_of(self._rows.get(key, {}))
        return {"id": id_, "name": values.last(id_), "on": place, "rules": self._rules[key]}

    def _routes_of(self, id_: str | None) -> list[dict[str, Any]]:
        key = values.key(id_)
        if key not in self._routes:
            self._routes[key] = routes_of(self._rows.get(key, {}))
        return self._routes[key]
