# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 1: the guest cannot reach the Azure host or, where it must, storage. One function per finding, named after it."""

from ansible_collections.vmbackup.azure.plugins.module_utils.rules._common import Evidence, filled, get, is_windows, items

WIRESERVER = "168.63.129.16"


def _failed(facts, name):
    """Return the evidence of a probe that was made and failed. Without root the Linux agent's own firewall rules make it fail: no evidence."""
    probe = get(facts, "network.probes." + name)
    if not probe or probe.get("ok") is not False or (get(facts, "system.privileged") is False and not is_windows(facts)):
        return None
    return "{0}: {1} (after {2} ms)".format(probe.get("url"), probe.get("error"), probe.get("time_ms"))


def wireserver_unreachable(facts, limits):
    return _failed(facts, "wireserver")


def hostgaplugin_unreachable(facts, limits):
    return _failed(facts, "hostgaplugin")


def route_wireserver_missing(facts, limits):
    route = (get(facts, "network.routes") or {}).get(WIRESERVER)
    if not route or route.get("ok") is not False:
        return None
    kind = route.get("kind")
    words = {"blackhole": "a blackhole route discards it", "none": "there is no route"}.get(kind, "the route says {0}".format(kind))
    return "the {0} has no way to {1}: {2}".format("system" if is_windows(facts) else "kernel", WIRESERVER, words)


def route_wireserver_not_primary(facts, limits):
    route = (get(facts, "network.routes") or {}).get(WIRESERVER) or {}
    primary = get(facts, "network.primary.interface")
    source, address = route.get("source"), get(facts, "network.primary.address")
    if not (route.get("ok") and primary and source and address) or source == address:
        return None
    if route.get("device") == primary:
        return None  # a second address of the primary interface
    if get(facts, "network.probes.wireserver.ok") and get(facts, "network.probes.hostgaplugin.ok"):
        return None
    where = route.get("device") or "another table"
    return "{0} is routed by {1} from {2}; the primary interface is {3} with {4}".format(WIRESERVER, where, source, primary, address)


def _windows_rules(facts):
    text = "firewall rule {0} ({1}, profile {2}, {3}) blocks outbound traffic to {4}, ports {5}"
    found = []
    for rule in items(facts, "network.firewall.rules"):
        where = "set by a group policy" if rule.get("store") == "policy" else "set on the guest"
        remote, ports = ", ".join(rule.get("remote") or []), ", ".join(rule.get("ports") or []) or "all"
        found.append(text.format(rule.get("name"), rule.get("display_name"), rule.get("profile"), where, remote, ports))
    if not found:
        return None
    answers = get(facts, "network.probes.wireserver.ok") and get(facts, "network.probes.hostgaplugin.ok")
    if not answers:
        return found
    # It may be for another profile, or for the services alone.
    return Evidence(found + ["the Azure host answered this diagnosis all the same"], severity="risk")


def mac_address_foreign(facts, limits):
    text = "{path} names the MAC address {mac}, which no interface of this machine has"
    return [filled(text, entry) for entry in items(facts, "network.foreign_macs")] or None


def firewall_blocks_host(facts, limits):
    if is_windows(facts):
        return _windows_rules(facts)
    return items(facts, "network.firewall.drops_root") or None


def imds_unreachable(facts, limits):
    return _failed(facts, "imds")


def storage_unreachable(facts, limits):
    text = _failed(facts, "storage")
    if not text:
        return None
    host_answers = get(facts, "network.probes.wireserver.ok") and get(facts, "network.probes.hostgaplugin.ok")
    return Evidence(text, severity="notice" if host_answers else "blocker")


def proxy_without_bypass(facts, limits):
    found = []
    for proxy in items(facts, "network.proxy"):
        if proxy.get("bypasses_host") is False:
            text = filled("{source}: {name}={value}", proxy)
            missing = (
                "{0}, exceptions {1} do not name 168.63.129.16 and 169.254.169.254"
                if is_windows(facts)
                else ("{0}, no_proxy={1} does not name 168.63.129.16 and 169.254.169.254")
            )
            found.append(missing.format(text, proxy.get("bypass") or ""))
            if proxy.get("by_hand"):
                found.append(proxy["by_hand"])
    return found or None


def proxy_unreachable(facts, limits):
    text = _failed(facts, "proxy")
    if text and is_windows(facts):
        named = [filled("{source}: {name}={value}", proxy) for proxy in items(facts, "network.proxy")]
        return "the proxy does not answer: {0} ({1})".format(text, "; ".join(named) or "set for the SYSTEM account or WinHTTP")
    return "the proxy of {0} does not answer: {1}".format(get(facts, "agent.config.path"), text) if text else None


def proxy_incomplete(facts, limits):
    values = get(facts, "agent.config.values") or {}
    name, port = (values.get(key) or {} for key in ("HttpProxy.Host", "HttpProxy.Port"))
    path = get(facts, "agent.config.path")
    if name.get("effective") and port.get("effective") is None:
        return "{0}: HttpProxy.Host={1}, but HttpProxy.Port is not set; the agent uses neither".format(path, name.get("effective"))
    if port.get("effective") is not None and not name.get("effective"):
        return "{0}: HttpProxy.Port={1}, but HttpProxy.Host is not set; the agent uses neither".format(path, port.get("effective"))
    return None
