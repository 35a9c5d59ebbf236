# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 5, Azure: security rules and routes that somebody made, which keep the VM from what backup talks to.

A snapshot of managed disks is taken by the host, and no way to the internet is needed for it. So these matter only where a backup failed, and
they weigh as much as the error code points to the network. What is not certain (a rule for single addresses) is no finding.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import cause_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._azure import NUMBER, azure, code_of, failed, lower
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Limits,
    Seen,
    get,
    items,
    seen,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import NETWORK, SERVICE_TAGS

SERVICES = ("AzureBackup", "Storage", "AzureActiveDirectory")
PORT = 443
ANYWHERE = ("*", "any", "0.0.0.0/0", "internet")
OUTSIDE = ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1")
# How much of something a prefix covers.
ALL, PART, NONE = "all", "part", "none"

cause = Cause(NUMBER, doc=SERVICE_TAGS, module=__name__)
finding = azure(cause)


def _weight(facts: Facts) -> str:
    return "risk" if code_of(facts) is None or cause_of(code_of(facts)) == "connectivity" else "notice"


def _network(prefix: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return None


def _covers(prefix: Any, service: str, region: str) -> str:
    """Say how much of a service, in the VM's region, a prefix of a rule or route covers."""
    name, tag = lower(prefix), service.lower()
    if name in (*ANYWHERE, "azurecloud", tag, "{0}.{1}".format(tag, region)):
        return ALL
    if name == "azurecloud.{0}".format(region):
        # Entra ID has addresses in other regions too.
        return PART if service == "AzureActiveDirectory" else ALL
    network = _network(name)
    if network is not None:
        return NONE if network.is_private or network.is_link_local else PART
    return PART if name.startswith((tag + ".", "azurecloud.")) else NONE


def _has_port(ports: Any) -> bool:
    for port in ports or []:
        first, _dash, last = str(port).partition("-")
        if port == "*" or (first.isdigit() and int(first) <= PORT <= int(last if last.isdigit() else first)):
            return True
    return False


def _from_here(sources: Any, addresses: Any) -> str:
    """Say whether a rule is for the VM. Groups of applications are not read: such a rule has no sources."""
    if not sources:
        return PART
    for source in map(lower, sources):
        if source in (*ANYWHERE[:3], "virtualnetwork"):
            return ALL
        network = _network(source)
        for address in addresses or []:
            own = _network(str(address))
            if network is not None and own is not None and own.version == network.version and own.subnet_of(network):  # type: ignore[arg-type]
                return ALL
    return NONE


def _match(rule: Mapping[str, Any], service: str, region: str, addresses: Any) -> str:
    if lower(rule.get("protocol")) not in ("*", "any", "tcp") or not _has_port(rule.get("ports")):
        return NONE
    destinations = rule.get("destinations")
    found = [_covers(prefix, service, region) for prefix in destinations] if destinations else [PART]
    there = ALL if ALL in found else PART if PART in found else NONE
    here = _from_here(rule.get("sources"), addresses)
    return NONE if NONE in (there, here) else PART if PART in (there, here) else ALL


def denying(group: Mapping[str, Any], service: str, region: str, addresses: Any) -> Mapping[str, Any] | None:
    """Return the rule of a security group that keeps a service away; None where it is open, or where that cannot be told."""
    for rule in group.get("rules") or []:
        match = _match(rule, service, region, addresses)
        if match == PART:
            return None
        if match == ALL:
            return rule if lower(rule.get("access")) == "deny" else None
    return None


@finding(
    severity="risk",
    title="Security rules keep the VM from what backup talks to",
    evidence={
        "rule": "security group {group} on the {place}: rule {name} ({priority}) denies {service} at port 443",
    },
    action="Allow the VM to reach the service tags AzureBackup, Storage and AzureActiveDirectory at port 443, by a rule before the one that "
    "denies them. Look at this first when the error names the network; other errors mostly have other causes, since snapshots of managed disks "
    "need no way to the internet.",
    remedy="azure.nsg_rule",
    consent="nsg_rule",
    codes=NETWORK,
)
def azure_security_rule_denies(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if not failed(facts):
        return
    region = lower(get(facts, "azure.region"))
    for interface in items(facts, "azure.network"):
        for group in interface.get("nsgs") or []:
            told = {"group": group.get("name"), "place": "subnet" if group.get("on") == "subnet" else "network interface"}
            for service in SERVICES:
                rule = denying(group, service, region, interface.get("private_addresses"))
                if rule is not None:
                    # A name for each, so that fixes of several groups and services stay apart.
                    denied = {"name": "{0} {1}".format(group.get("id"), service), "group": group.get("id"), "service": service}
                    yield seen(
                        "rule",
                        severity=_weight(facts),
                        fix={"denied": [denied]},
                        name=rule.get("name"),
                        priority=rule.get("priority"),
                        service=service,
                        **told,
                    )


@finding(
    severity="risk",
    title="The guest has its address set by hand, and Azure may give the VM another one",
    evidence="the guest has {address} set by hand; Azure chooses the address of {interface} ({configuration}) by itself",
    action="Keep the address in Azure, on the network interface, and switch DHCP on in the guest.",
    remedy="azure.static_ip",
    consent="static_ip",
    codes=NETWORK,
    explained_by=("dhcp_static_address",),
)
def azure_address_not_kept(facts: Facts, limits: Limits) -> Iterator[Seen]:
    address = get(facts, "network.primary.address")
    if get(facts, "network.dhcp.method") != "static" or not address:
        return
    for interface in items(facts, "azure.network"):
        for entry in interface.get("configurations") or []:
            if entry.get("address") == address and lower(entry.get("allocation")) == "dynamic":
                fix = {"interface": interface.get("id"), "configuration": entry.get("name"), "address": address}
                yield seen(fix=fix, address=address, interface=interface.get("name"), configuration=entry.get("name"))


@finding(
    severity="risk",
    title="Security rules keep the VM from its resolver",
    evidence="security group {group} on the {place}: rule {name} ({priority}) denies AzurePlatformDNS, the resolver of the VM",
    action="Allow AzurePlatformDNS, or give the VM's network a resolver of its own.",
    codes=NETWORK,
)
def azure_resolver_denied(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if not failed(facts):
        return
    for interface in items(facts, "azure.network"):
        for group in interface.get("nsgs") or []:
            told = {"group": group.get("name"), "place": "subnet" if group.get("on") == "subnet" else "network interface"}
            for rule in [] if interface.get("dns_servers") else group.get("rules") or []:
                if lower(rule.get("access")) == "deny" and "azureplatformdns" in map(lower, rule.get("destinations") or []):
                    yield seen(severity=_weight(facts), name=rule.get("name"), priority=rule.get("priority"), **told)


def _route(routes: Any, service: str, region: str) -> Mapping[str, Any] | None:
    """Return the route that a service's traffic takes: one for its tag before one for all of Azure before one for everything."""
    wanted = (
        ("{0}.{1}".format(service.lower(), region),),
        (service.lower(),),
        ("azurecloud.{0}".format(region),) if service != "AzureActiveDirectory" else (),
        ("azurecloud",),
        OUTSIDE,
    )
    for names in wanted:
        for route in routes or []:
            if lower(route.get("prefix")) in names:
                return dict(route)
    return None


@finding(
    severity="risk",
    title="Routes lead what backup talks to elsewhere",
    evidence={
        "dropped": "route {name} ({prefix}) of the subnet drops {service}",
        "appliance": "route {name} ({prefix}) of the subnet sends {service} via the appliance {address}",
        "gateway": "route {name} ({prefix}) of the subnet sends {service} via the virtual network gateway",
    },
    action="Add routes for the service tags AzureBackup, Storage and AzureActiveDirectory with the next hop Internet, which stays inside Azure; or "
    "let the appliance or the network behind the gateway pass port 443 to them.",
    codes=NETWORK,
)
def azure_route_elsewhere(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """An appliance may well let everything through, so that it is there is a remark only, unless the error names the network."""
    if not failed(facts):
        return
    region = lower(get(facts, "azure.region"))
    for interface in items(facts, "azure.network"):
        for service in SERVICES:
            route = _route(interface.get("routes"), service, region)
            if route is None or (service == "Storage" and _endpoint(interface)):
                continue
            kind = {"none": "dropped", "virtualappliance": "appliance", "virtualnetworkgateway": "gateway"}.get(
                lower(route.get("next_hop"))
            )
            if kind:
                told = {name: route.get(name) for name in ("name", "prefix", "address")}
                yield seen(kind, severity=_weight(facts), service=service, **told)


def _endpoint(interface: Mapping[str, Any]) -> bool:
    return any(lower(name).startswith("microsoft.storage") for name in interface.get("service_endpoints") or [])


@finding(
    severity="risk",
    title="The VM has no way out to what backup talks to",
    evidence="subnet {subnet} gives no outbound access of its own, and {interface} has no public address, NAT gateway, load balancer or route out",
    action="Give the subnet a NAT gateway. Snapshots of managed disks need no way out; write accelerator, and errors that name the network, do.",
    codes=NETWORK,
)
def azure_no_way_out(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Subnets made since 2025 have no default outbound access; a VM with several interfaces may use another."""
    interfaces = items(facts, "azure.network")
    if not failed(facts) or not interfaces or any(not _closed(interface) for interface in interfaces):
        return
    for interface in interfaces:
        yield seen(severity=_weight(facts), subnet=str(interface.get("subnet_id")).rpartition("/")[2], interface=interface.get("name"))


def _closed(interface: Mapping[str, Any]) -> bool:
    return (
        interface.get("default_outbound_access") is False
        and interface.get("load_balanced") is False
        and not interface.get("public_addresses")
        and not interface.get("nat_gateway_id")
        and not any(lower(route.get("prefix")) in OUTSIDE for route in interface.get("routes") or [])
    )
