# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All areas of a Windows guest, from the raw values that win_guest_facts returned. Pure: runs on the controller, asks nobody."""

from collections.abc import Callable
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._facts import SCHEMA_VERSION
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict, as_list, as_text, iso
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import (
    agent,
    dhcp,
    extension,
    firewall,
    load,
    probes,
    proxy,
    routes,
    services,
    system,
    vss,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import Raw, as_int

AREAS = ("agent", "extension", "network", "vss", "load")
NETSH = "netsh winhttp show proxy"


def guarded(raw: Any, area: str, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a parser; what it did not foresee becomes an entry in errors, and the other parsers go on."""
    try:
        return function(*arguments)
    except Exception as error:  # null plus a reason, never a failed run
        raw.error(area, what, "{0}: {1}".format(type(error).__name__, error))
        return None


def imds_addresses(imds: dict[str, Any], mac: Any) -> list[str] | None:
    """Return the private addresses that IMDS gives to the interface with a MAC address, in their order; None where it says nothing of it."""
    wanted = plain_mac(mac)
    for card in map(as_dict, as_list(imds.get("cards"))):
        if wanted and plain_mac(card.get("mac")) == wanted:
            return [public_line(address, 40) for address in as_list(card.get("addresses")) if isinstance(address, str)] or None
    return None


def plain_mac(mac: Any) -> str:
    """Return the digits of a MAC address in lower case."""
    return "".join(letter for letter in (as_text(mac) or "").lower() if letter in "0123456789abcdef")


def network(raw: Any, page: int | None, timeout_s: float) -> tuple[Any, ...]:
    """Return (facts of the network, offset of the clock)."""
    primary, to_host, listed, cards = guarded(raw, "network", "routes", routes.collect, raw) or (None, None, None, [])
    results, offset_s = guarded(raw, "network", "probes", probes.collect, raw, timeout_s) or (None, None)
    netsh = guarded(raw, "network", NETSH, vss.command, raw, NETSH, page)
    imds = raw.part("imds")
    names = []
    for card in cards:
        names += [public_line(name, 60) for name in as_list(card.get("resolvers")) if isinstance(name, str) and name not in names]
    own: dict[str, Any] = next((card for card in cards if primary and card.get("guid") == primary.get("guid")), {})
    return {
        "primary": primary,
        "dhcp": guarded(raw, "network", "DHCP", dhcp.collect, raw, (primary or {}).get("guid")),
        "routes": to_host,
        "route_list": listed,
        "probes": results,
        "region": public_line(imds.get("location"), 40) if isinstance(imds.get("location"), str) else None,
        "cloud": public_line(imds.get("cloud"), 40) if isinstance(imds.get("cloud"), str) else None,
        "imds_addresses": imds_addresses(imds, own.get("mac")),
        "foreign_macs": None,
        "resolvers": names,
        "proxy": guarded(raw, "network", "proxies", proxy.collect, raw, netsh),
        "firewall": guarded(raw, "network", "firewall", firewall.collect, raw),
    }, offset_s


def facts_of(document: dict[str, Any], gather_subset: list[str], timeout_s: float = 3.0) -> dict[str, Any]:
    """Return ``ansible_facts.vmbackup`` of a Windows guest.

    :param document: ``raw`` of win_guest_facts.
    :param gather_subset: option of that name.
    """
    raw = Raw(document)
    wanted = [area for area in AREAS if "all" in gather_subset or area in gather_subset]
    result = dict.fromkeys(AREAS)
    found = guarded(raw, "system", "system", system.collect, raw) or {"kind": "windows"}
    page = system.code_page(raw)
    rows = guarded(raw, "agent", "services", services.collect, raw) or []
    offset_s = None
    if "agent" in wanted:
        result["agent"] = guarded(raw, "agent", "agent", agent.collect, raw, rows)
    if "extension" in wanted:
        result["extension"] = guarded(raw, "extension", "extension", extension.collect, raw)
    if "network" in wanted:
        result["network"], offset_s = network(raw, page, timeout_s)
    if "vss" in wanted:
        result["vss"] = guarded(raw, "vss", "VSS", vss.collect, raw, rows, page)
    if "load" in wanted:
        result["load"] = guarded(raw, "load", "load", load.collect, raw, offset_s, rows)
    if found.get("privileged") is False:
        raw.not_visible.insert(
            0, "access rights, other accounts' settings and parts of the registry: the account is no administrator on this guest"
        )
    result.update(
        schema_version=SCHEMA_VERSION,
        collected_at=iso(raw.now) if raw.now else None,
        duration_ms=as_int(raw.document.get("duration_ms")),
        gather_subset=wanted,
        system=found,
        errors=raw.errors,
        not_visible=[public_line(text, 300) for text in raw.not_visible],
    )
    return result
