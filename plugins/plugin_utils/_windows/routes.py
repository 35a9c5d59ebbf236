# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Interfaces and routes: the active table as the IP helper returns it, the persistent routes from the registry."""

import re
import socket
import struct
from collections.abc import Sequence
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.routes import IMDS, WIRESERVER, number
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict, as_list, as_text
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int, unpacked

PERSISTENT = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\PersistentRoutes"
ROW_BYTES = 104  # MIB_IPFORWARD_ROW2 of netioapi.h
AF_INET = 2
LISTED = 500


def parse_table(data: bytes | None) -> list[dict[str, Any]]:
    """Return the IPv4 routes of a MIB_IPFORWARD_TABLE2: destination, prefix_length, gateway (None: on the link), index, metric."""
    if not data or len(data) < 8:
        return []
    count = min(struct.unpack_from("<I", data)[0], (len(data) - 8) // ROW_BYTES)
    routes = []
    for row in range(count):
        at = 8 + row * ROW_BYTES
        index, family = struct.unpack_from("<IH", data, at + 8)
        length = data[at + 40]
        if family != AF_INET or length > 32:
            continue
        hop = data[at + 48 : at + 52]
        routes.append(
            {
                "destination": socket.inet_ntoa(data[at + 16 : at + 20]),
                "prefix_length": length,
                "gateway": socket.inet_ntoa(hop) if any(hop) else None,
                "index": index,
                "metric": struct.unpack_from("<I", data, at + 84)[0],
                "protocol": struct.unpack_from("<I", data, at + 88)[0],
            }
        )
    return routes


def parse_persistent(names: list[str]) -> list[dict[str, Any]]:
    """Return the routes that are the names of the values below PersistentRoutes: ``destination,mask,gateway,metric``."""
    routes = []
    for name in names:
        parts = [part.strip() for part in name.split(",")]
        if len(parts) < 3 or not all(re.match(r"^\d{1,3}(\.\d{1,3}){3}$", part) for part in parts[:3]):
            continue
        try:
            mask = number(parts[1])
            socket.inet_aton(parts[0])
            socket.inet_aton(parts[2])
        except OSError:
            continue
        bits = bin(mask)[2:].zfill(32)
        if "01" in bits:
            continue  # no mask of a prefix
        metric = as_int(parts[3]) if len(parts) > 3 else None
        routes.append({"destination": parts[0], "prefix_length": bits.count("1"), "gateway": parts[2], "metric": metric})
    return routes


def matching(routes: list[dict[str, Any]], address: str) -> dict[str, Any] | None:
    """Return the route that the system takes: longest prefix, then lowest metric; None without one."""
    wanted = number(address)
    hits = [r for r in routes if wanted >> (32 - r["prefix_length"]) == number(r["destination"]) >> (32 - r["prefix_length"])]
    return min(hits, key=lambda r: (-r["prefix_length"], r["metric"])) if hits else None


def mac(text: Any) -> str | None:
    """Return a hardware address with colons in lower case, None for what is none."""
    digits = re.sub(r"[^0-9A-Fa-f]", "", as_text(text) or "").lower()
    return ":".join(digits[n : n + 2] for n in range(0, 12, 2)) if len(digits) == 12 else None


def addresses(card: dict[str, Any]) -> list[Any]:
    """Return (address, prefix length) of an interface's IPv4 addresses."""
    found = []
    for pair in map(as_list, as_list(card.get("addresses"))):
        if len(pair) == 2 and as_text(pair[0]) and as_int(pair[1]) is not None:
            found.append((pair[0], as_int(pair[1])))
    return found


def primary_card(
    cards: list[dict[str, Any]], routes: list[dict[str, Any]], of_azure: Sequence[str | None] = (), source: str | None = None
) -> tuple[Any, ...]:
    """Return (card, gateway) of the interface with the default route, else of the first that is up, best with a gateway.

    :param of_azure: MAC addresses that the instance metadata names: a VPN's default route may have the lower metric.
    :param source: the address that the system itself takes by the default route. Windows adds the interface's metric to the route's, which is
        not in the table, so that the lowest one decides only where this says nothing.
    """
    cards = [card for card in cards if mac(card.get("mac")) in of_azure] or cards
    defaults = sorted((r for r in routes if r["prefix_length"] == 0), key=lambda r: r["metric"])
    found = [(card, route["gateway"]) for route in defaults for card in cards if as_int(card.get("index")) == route["index"]]
    if found:
        taken = [pair for pair in found if source in [address for address, _length in addresses(pair[0])]]
        return (taken or found)[0]
    up = [card for card in cards if card.get("status") == "Up" and addresses(card)]
    up.sort(key=lambda card: not as_list(card.get("gateways")))
    if not up:
        return None, None
    gateways = [as_text(g) for g in as_list(up[0].get("gateways"))]
    return up[0], gateways[0] if gateways else None


def primary(card: dict[str, Any] | None, gateway: str | None) -> dict[str, Any]:
    """Return the facts of the primary interface."""
    keys = ("interface", "index", "guid", "mac", "address", "prefix_length", "gateway", "addresses", "state")
    result = dict.fromkeys(keys)
    if card is None:
        return result
    found = addresses(card)
    result.update(
        interface=public_line(as_text(card.get("name")), 120),
        index=as_int(card.get("index")),
        guid=public_line(as_text(card.get("guid")), 60),
        mac=mac(card.get("mac")),
        gateway=gateway,
        addresses=[address for address, _length in found],
        state=(as_text(card.get("status")) or "").lower() or None,
    )
    if found:
        result.update(address=found[0][0], prefix_length=found[0][1])
    return result


# System.Net.Sockets.SocketError of a connection that found no way.
KINDS = {"NetworkUnreachable": "none", "HostUnreachable": "unreachable", "AddressNotAvailable": "none", "InvalidArgument": "blackhole"}


def describe(
    routes: list[dict[str, Any]] | None, cards: list[dict[str, Any]], address: str, lookup: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the facts of the route to one address; None when neither the table nor the system's own decision is known.

    :param lookup: ``source`` and ``code`` of the system's own decision: how a connected datagram socket was bound.
    """
    source, code = as_text(lookup.get("source")), as_text(lookup.get("code"))
    route = matching(routes, address) if routes is not None else None
    if routes is None and source is None and code is None:
        return None
    result = {
        "ok": source is not None or (code is None and route is not None),
        "kind": "none",
        "device": None,
        "gateway": None,
        "source": source,
    }
    if not result["ok"]:
        result["kind"] = KINDS.get(code, "none")
        return result
    if route is None:
        result["kind"] = "other"
        return result
    result["gateway"] = route["gateway"]
    result["kind"] = {32: "host", 0: "default"}.get(route["prefix_length"], "other")
    for card in cards:
        own = [a for a, _length in addresses(card)]
        if as_int(card.get("index")) == route["index"]:
            result["device"] = public_line(as_text(card.get("name")), 120)
            result["source"] = source or next(iter(own), None)
    return result


def listed(active: list[dict[str, Any]], persistent: list[Any], cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the routes of both stores that somebody set: those over a gateway; at most LISTED of each."""
    names = {as_int(card.get("index")): public_line(as_text(card.get("name")), 120) for card in cards}
    found = []
    for store, routes in (("active", active), ("persistent", persistent)):
        for route in [r for r in routes if r["gateway"]][:LISTED]:
            found.append(
                {
                    "prefix": "{0}/{1}".format(route["destination"], route["prefix_length"]),
                    "next_hop": route["gateway"],
                    "interface_index": route.get("index"),
                    "interface": names.get(route.get("index")),
                    "metric": route["metric"],
                    "store": store,
                }
            )
    return found


def collect(raw: Any) -> tuple[Any, ...]:
    """Return (primary interface, routes to the host's addresses or None, list of routes, all interfaces)."""
    cards = raw.rows("interfaces") or []
    table = raw.document.get("forward_table")
    active = parse_table(unpacked(table)) if table else None
    persistent = parse_persistent([found[0] for found in (raw.key(PERSISTENT) or {}).values()])
    lookups = raw.part("lookups")
    taken = matching(active or [], WIRESERVER)
    source = as_text(as_dict(lookups.get(WIRESERVER)).get("source")) if taken and taken["prefix_length"] == 0 else None
    of_azure = [mac(as_dict(card).get("mac")) for card in as_list(raw.part("imds").get("cards"))]
    card, gateway = primary_card(cards, active or [], [address for address in of_azure if address], source)
    found = {a: describe(active, cards, a, as_dict(lookups.get(a))) for a in (WIRESERVER, IMDS)}
    to_host = {a: route for a, route in found.items() if route is not None} or None
    return primary(card, gateway), to_host, listed(active or [], persistent, cards), cards
