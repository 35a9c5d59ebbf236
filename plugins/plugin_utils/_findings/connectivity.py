# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 1: the guest cannot reach the Azure host or, where it must, storage."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import MASK
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Fix,
    Limits,
    Seen,
    get,
    host_answers,
    is_windows,
    items,
    part,
    seen,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import (
    ARTICLE,
    HOST_ADDRESS,
    LINUX_AGENT,
    NETWORK,
    WINDOWS_AGENT,
    WINDOWS_TROUBLE,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import LINUX

WIRESERVER, IMDS = "168.63.129.16", "169.254.169.254"
PROBE = "{url}: {error} (after {time_ms} ms)"
ROUTE = {"remedy": "connectivity.route", "consent": "routes"}
ROUTES = {"remedy": "connectivity.azure_routes", "consent": "routes"}
PATHS = ("route_wireserver_missing", "route_wireserver_not_primary", "firewall_blocks_host")

cause = Cause(1, doc=HOST_ADDRESS, module=__name__)
finding, on_windows = cause.finding, cause.on_windows


def _failed(facts: Facts, name: str) -> Mapping[str, Any] | None:
    """Return a probe that was made and failed. Without root the Linux agent's own firewall rules make it fail: no evidence."""
    probe = part(facts, "network.probes." + name)
    if probe.get("ok") is not False or (get(facts, "system.privileged") is False and not is_windows(facts)):
        return None
    return {"url": probe.get("url"), "error": probe.get("error"), "time_ms": probe.get("time_ms")}


def _own_route(address: str, route: Mapping[str, Any]) -> str | None:
    """Return what was seen of the route that an address has to itself, as the module routes names it; None where it has none."""
    if route.get("prefix") != address + "/32":
        return None
    return str(route.get("kind")) if route.get("ok") is False else str(route.get("gateway") or "link")


def _rule_decides(route: Mapping[str, Any]) -> bool:
    """Say whether a policy rule sends packets elsewhere or discards them, which no route of the main table would change."""
    if route.get("ok"):
        return route.get("source") is not None and route.get("device") is None
    return route.get("kind") in ("blackhole", "unreachable", "prohibit") and "prefix" in route and route.get("prefix") is None


def _route_fix(facts: Facts) -> Fix | None:
    """Return the host routes that a Linux guest needs, None where the gateway is not known."""
    interface, gateway = get(facts, "network.primary.interface"), get(facts, "network.primary.gateway")
    if is_windows(facts) or not interface or not gateway:
        return None
    expect = {}
    for address in (WIRESERVER, IMDS):
        route = part(facts, "network.routes").get(address) or {}
        if not _rule_decides(route) and (route.get("ok") is False or route.get("device") != interface):
            expect[address + "/32"] = _own_route(address, route)
    return {"routes": list(expect), "next_hop": gateway, "interface": interface, "expect": expect}


@finding(
    severity="blocker",
    title="No route to the Azure host",
    evidence="the {whose} has no way to {address}: {why}",
    action="Remove the route or policy rule (ip rule) that takes 168.63.129.16 away, and check that the primary interface has its default route.",
    codes=NETWORK,
    **ROUTE,
    windows={**ROUTES, "action": "Remove the route that takes 168.63.129.16 away, or add one via the gateway of the primary interface."},
)
def route_wireserver_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    route = part(facts, "network.routes").get(WIRESERVER) or {}
    if route.get("ok") is False:
        kind = route.get("kind")
        why = {"blackhole": "a blackhole route discards it", "none": "there is no route"}.get(str(kind), "the route says {0}".format(kind))
        if not is_windows(facts) and _rule_decides(route):
            why = "a policy rule or the table that it names says {0}".format(kind)
        yield seen(fix=_route_fix(facts), whose="system" if is_windows(facts) else "kernel", address=WIRESERVER, why=why)


@finding(
    severity="risk",
    title="The route to the Azure host leaves by the wrong interface",
    evidence="{address} is routed by {device} from {source}; the primary interface is {primary} with {primary_address}",
    action="Route 168.63.129.16 via the gateway of the primary interface; look for a VPN, a second interface that took the default route, or a policy "
    "rule (ip rule).",
    codes=NETWORK,
    **ROUTE,
    windows={
        **ROUTES,
        "action": "Route 168.63.129.16 via the gateway of the primary interface; look for a VPN or a second interface that took the default route.",
    },
)
def route_wireserver_not_primary(facts: Facts, limits: Limits) -> Iterator[Seen]:
    route = part(facts, "network.routes").get(WIRESERVER) or {}
    primary, address = get(facts, "network.primary.interface"), get(facts, "network.primary.address")
    source = route.get("source")
    if not (route.get("ok") and primary and source and address) or source == address:
        return
    # A second address of the primary interface leaves by it too.
    if route.get("device") != primary and not host_answers(facts):
        device = route.get("device") or "a policy rule"
        yield seen(fix=_route_fix(facts), address=WIRESERVER, device=device, source=source, primary=primary, primary_address=address)


@finding(
    on=(LINUX,),
    severity="notice",
    title="The network configuration names a MAC address of another machine",
    evidence="{path} names the MAC address {mac}, which no interface of this machine has",
    action="Correct or remove the address; a machine that was copied or got a new network interface loses its network at the next boot.",
    codes=NETWORK,
)
def mac_address_foreign(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for entry in items(facts, "network.foreign_macs"):
        yield seen(path=entry.get("path"), mac=entry.get("mac"))


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The guest's own packet filter blocks the Azure host",
    evidence="{rule}",
    action="Remove the rule shown, or put before it one that lets root reach 168.63.129.16 on TCP ports 80 and 32526.",
    codes=NETWORK,
    remedy="connectivity.firewall",
    consent="firewall",
)
def firewall_blocks_host(facts: Facts, limits: Limits) -> Iterator[Seen]:
    places = items(facts, "network.firewall.places")
    for rule in items(facts, "network.firewall.drops_root"):
        yield seen(fix={"places": places} if places else None, rule=rule)


@on_windows(
    remedy="connectivity.firewall",
    consent="firewall",
    evidence={
        "rule": "firewall rule {name} ({display_name}, profile {profile}, {where}) blocks outbound traffic to {remote}, ports {ports}",
        "answers": "the Azure host answered this diagnosis all the same",
    },
    action="Disable the rule shown, or exclude 168.63.129.16 on TCP ports 80 and 32526 from it; a rule of a group policy must be changed there.",
)
def firewall_blocks_host_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    answers = host_answers(facts)
    rules = items(facts, "network.firewall.rules")
    for rule in rules:
        policy = rule.get("store") == "policy"
        # A rule of a group policy cannot be changed on the guest; where the Azure host answers, a rule does no harm and stays.
        fix = {"rules": [rule.get("name")]} if rule.get("store") == "local" and not answers else None
        yield seen(
            "rule",
            fix=fix,
            severity="risk" if answers else None,
            name=rule.get("name"),
            display_name=rule.get("display_name"),
            profile=rule.get("profile"),
            where="set by a group policy" if policy else "set on the guest",
            remote=", ".join(rule.get("remote") or []),
            ports=", ".join(rule.get("ports") or []) or "all",
        )
    if rules and answers:
        yield seen("answers", severity="risk")  # it may be for another profile, or for the services alone


@finding(
    severity="blocker",
    title="The Azure host does not answer on port 80 (WireServer)",
    evidence=PROBE,
    action="Let the guest reach 168.63.129.16 on TCP port 80: routes, packet filter and third-party security software in the guest.",
    codes=NETWORK,
    explained_by=PATHS,
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Let the guest reach 168.63.129.16 on TCP port 80: routes, Windows Firewall and third-party security software in the guest.",
    },
)
def wireserver_unreachable(facts: Facts, limits: Limits) -> Iterator[Seen]:
    failed = _failed(facts, "wireserver")
    if failed:
        yield seen(**failed)


@finding(
    severity="blocker",
    title="The Azure host does not answer on port 32526 (HostGAPlugin)",
    evidence=PROBE,
    action="Let the guest reach 168.63.129.16 on TCP port 32526: routes, packet filter and third-party security software in the guest.",
    codes=NETWORK,
    explained_by=PATHS,
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Let the guest reach 168.63.129.16 on TCP port 32526: routes, Windows Firewall and third-party security software in the guest.",
    },
)
def hostgaplugin_unreachable(facts: Facts, limits: Limits) -> Iterator[Seen]:
    failed = _failed(facts, "hostgaplugin")
    if failed:
        yield seen(**failed)


@finding(
    severity="risk",
    title="A storage endpoint of the region cannot be reached",
    evidence=PROBE,
    action="Allow TCP port 443 to storage in firewall and network security group, or route it past a forced tunnel. Not needed while the "
    "Azure host relays for the guest.",
    codes=NETWORK,
    doc=ARTICLE,
    **ROUTES,
)
def storage_unreachable(facts: Facts, limits: Limits) -> Iterator[Seen]:
    failed = _failed(facts, "storage")
    if failed:
        yield seen(severity="notice" if host_answers(facts) else "blocker", **failed)


@finding(
    on=(LINUX,),
    severity="risk",
    title="The agent's proxy does not answer, or refuses",
    evidence="the proxy of {path} is of no use: " + PROBE,
    action="Start the proxy and have it let the guest through to storage without a password, or remove it or set another by "
    "connectivity_proxy_state.",
    codes=NETWORK,
    doc=LINUX_AGENT,
    remedy="connectivity.proxy",
    consent="proxy",
)
def proxy_unreachable(facts: Facts, limits: Limits) -> Iterator[Seen]:
    failed = _failed(facts, "proxy")
    if failed:
        yield seen(path=get(facts, "agent.config.path"), **failed)


@on_windows(
    remedy="connectivity.proxy",
    consent="proxy",
    evidence="the proxy does not answer: " + PROBE + " ({named})",
    action="Start the proxy, allow the guest to reach it, or remove it for the SYSTEM account and WinHTTP.",
)
def proxy_unreachable_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    failed = _failed(facts, "proxy")
    if failed:
        named = ["{0}: {1}={2}".format(*(proxy.get(key) or "unknown" for key in ("source", "name", "value"))) for proxy in _proxies(facts)]
        yield seen(named="; ".join(named) or "set for the SYSTEM account or WinHTTP", **failed)


@finding(
    on=(LINUX,),
    severity="risk",
    title="The agent's proxy is half configured",
    evidence="{path}: {set}={value}, but {missing} is not set; the agent uses neither",
    action="Set both HttpProxy.Host and HttpProxy.Port in the agent's configuration, or neither, by connectivity_proxy_state.",
    codes=NETWORK,
    doc=LINUX_AGENT,
    remedy="connectivity.proxy",
    consent="proxy",
)
def proxy_incomplete(facts: Facts, limits: Limits) -> Iterator[Seen]:
    values = part(facts, "agent.config.values")
    host, port = ((values.get(key) or {}).get("effective") for key in ("HttpProxy.Host", "HttpProxy.Port"))
    path = get(facts, "agent.config.path")
    if host and port is None:
        yield seen(path=path, set="HttpProxy.Host", value=host, missing="HttpProxy.Port")
    if port is not None and not host:
        yield seen(path=path, set="HttpProxy.Port", value=port, missing="HttpProxy.Host")


def _proxies(facts: Facts) -> list[Any]:
    return items(facts, "network.proxy")


def _bypass_fix(facts: Facts, proxy: Mapping[str, Any]) -> Fix | None:
    """Return the variables of the service that exclude the Azure host; None where they are not the service's, or hold what is masked."""
    bypass = str(proxy.get("bypass") or "")
    if proxy.get("source") != get(facts, "agent.service.unit") or MASK in bypass:
        return None
    known = [name.strip() for name in bypass.split(",") if name.strip()]
    value = ",".join(known + [address for address in (WIRESERVER, IMDS) if address not in known])
    return {"variables": {"no_proxy": value, "NO_PROXY": value}, "expect": {"no_proxy": bypass or None}}


@finding(
    on=(LINUX,),
    severity="notice",
    title="A proxy is set without an exception for the Azure host",
    evidence="{source}: {name}={value}, no_proxy={bypass} does not name 168.63.129.16 and 169.254.169.254",
    action="Add 168.63.129.16,169.254.169.254 to no_proxy wherever the proxy is set.",
    codes=NETWORK,
    doc=LINUX_AGENT,
    remedy="connectivity.proxy",
    consent="proxy",
)
def proxy_without_bypass(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for proxy in _proxies(facts):
        if proxy.get("bypasses_host") is False:
            yield seen(
                fix=_bypass_fix(facts, proxy),
                source=proxy.get("source"),
                name=proxy.get("name"),
                value=proxy.get("value"),
                bypass=proxy.get("bypass") or "",
            )


@on_windows(
    remedy="connectivity.proxy",
    consent="proxy",
    doc=WINDOWS_AGENT,
    evidence={
        "proxy": "{source}: {name}={value}, exceptions {bypass} do not name 168.63.129.16 and 169.254.169.254",
        "by_hand": "{sentence}",
    },
    action="Add 168.63.129.16;169.254.169.254 to the exceptions wherever the proxy is set.",
)
def proxy_without_bypass_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for proxy in _proxies(facts):
        if proxy.get("bypasses_host") is False:
            bypass = proxy.get("bypass") or ""
            yield seen("proxy", source=proxy.get("source"), name=proxy.get("name"), value=proxy.get("value"), bypass=bypass)
            if proxy.get("by_hand"):
                yield seen("by_hand", sentence=proxy["by_hand"])


@finding(
    severity="notice",
    title="The instance metadata service does not answer",
    evidence=PROBE,
    action="Let the guest reach 169.254.169.254 on TCP port 80 without a proxy. Backup itself does not need it.",
)
def imds_unreachable(facts: Facts, limits: Limits) -> Iterator[Seen]:
    failed = _failed(facts, "imds")
    if failed:
        yield seen(**failed)
