# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules of Windows Firewall that keep the guest from the Azure host, from their texts in the registry."""

import re
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.routes import WIRESERVER, number
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int

_POLICY = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\SharedAccess\\Parameters\\FirewallPolicy"
STORES = ((_POLICY + "\\FirewallRules", "local"), ("HKLM\\SOFTWARE\\Policies\\Microsoft\\WindowsFirewall\\FirewallRules", "policy"))
PROFILES = {"DomainProfile": "Domain", "StandardProfile": "Private", "PublicProfile": "Public"}
PORTS = (80, 32526)
LISTED = 100


def parse_rule(text: str) -> dict[str, Any]:
    """Return {key: [values]} of a rule: ``v2.31|Action=Block|Active=TRUE|Dir=Out|...|``; keys may stand more than once."""
    fields: dict[str, list[str]] = {}
    for part in (text or "").split("|"):
        name, separator, value = part.partition("=")
        if separator:
            fields.setdefault(name, []).append(value)
    return fields


def covers(remote: str, address: str) -> bool:
    """Say whether an address of a rule (one, a range, a network with length or mask) holds an IPv4 address."""
    wanted = number(address)
    try:
        first, separator, last = remote.partition("-")
        if separator:
            return bool(number(first) <= wanted <= number(last))
        network, separator, mask = remote.partition("/")
        if not re.match(r"^\d{1,3}(\.\d{1,3}){3}$", network):
            return False  # LocalSubnet and other words
        if not separator:
            return bool(number(network) == wanted)
        if mask.isdigit():
            bits = (0xFFFFFFFF << (32 - int(mask))) & 0xFFFFFFFF if int(mask) <= 32 else None
        else:
            bits = number(mask)
        if bits is None:
            return False
        return bool(number(network) & bits == wanted & bits)
    except (OSError, ValueError):
        return False


def _ports(fields: dict[str, Any]) -> list[str]:
    found = []
    for key in ("RPort", "RPort2_10", "RPort2_20", "RPort2_24"):
        for value in fields.get(key, []):
            found += [part.strip() for part in value.split(",")]
    return found


def reaches_ports(ports: list[str]) -> bool:
    """Say whether a rule's remote ports hold one of the host's; no port is every port."""
    if not ports:
        return True
    for text in ports:
        first, separator, last = text.partition("-")
        low, high = as_int(first), as_int(last) if separator else as_int(first)
        if low is not None and high is not None and any(low <= port <= high for port in PORTS):
            return True
    return False


# Of a security descriptor that names users: who the token of LocalSystem is, by short name or SID.
_SYSTEM = ("sy", "ba", "wd", "au", "s-1-5-18", "s-1-5-32-544", "s-1-1-0", "s-1-5-11")
_AGENTS = ("*", "rdagent", "windowsazureguestagent", "iaasvmprovider")
_ACE = re.compile(r"\((\w{1,4});[^;()]{0,40};[^;()]{0,80};[^;()]{0,80};[^;()]{0,80};([^;()]{1,200})(?:;[^()]{0,400})?\)")


def _users_hold_system(descriptor: str) -> bool:
    """Say whether a list of users, as a security descriptor, holds LocalSystem; one that cannot be read does not."""
    entries = [(kind.lower(), sid.lower()) for kind, sid in _ACE.findall(descriptor[:8192])]
    if any(kind.startswith(("d", "xd")) and sid in _SYSTEM for kind, sid in entries):
        return False
    return any(kind in ("a", "xa") and sid in _SYSTEM for kind, sid in entries)


def holds_for_system(fields: dict[str, Any]) -> bool:
    """Say whether a rule that is limited by user, owner, service, package or interface holds for the agent, which runs as LocalSystem.

    One that is limited to an interface is left out: which one the guest has on Azure may change with each redeployment.
    """
    if any(not _users_hold_system(text) for name in ("LUAuth", "LUAuth2_24") for text in fields.get(name, [])):
        return False
    if any(text.lower() not in ("sy", "s-1-5-18") for text in fields.get("LUOwn", [])):
        return False
    if fields.get("Svc") and not any(text.lower() in _AGENTS for text in fields["Svc"]):
        return False
    if any(fields.get(name) for name in ("AppPkgId", "PFN", "IF")):
        return False
    return not fields.get("IFType") or any(text.lower() == "lan" for text in fields["IFType"])


def blocks_host(fields: dict[str, Any]) -> bool:
    """Say whether a rule that is on blocks the way to the host: outbound, TCP or every protocol, to its address and ports, by name.

    A rule for every address, for one program only, or for somebody else than LocalSystem, says nothing about the host and is left out.
    """

    def first(name: str) -> str:
        return str((fields.get(name) or [""])[0]).lower()

    if first("Action") != "block" or first("Active") != "true" or first("Dir") != "out":
        return False
    if first("Protocol") not in ("", "6", "256"):
        return False
    if not holds_for_system(fields):
        return False
    if first("App") and not re.search(r"waappagent|windowsazureguestagent|iaasbcdrextension", first("App")):
        return False
    return any(covers(remote, WIRESERVER) for remote in fields.get("RA4", [])) and reaches_ports(_ports(fields))


def rule(name: Any, store: Any, fields: Any) -> Any:
    """Return the facts of one rule."""
    return {
        "name": public_line(name, 200),
        "display_name": public_line((fields.get("Name") or [None])[0], 200),
        "profile": public_line(",".join(fields.get("Profile") or []) or "Any", 60),
        "direction": "outbound",
        "remote": [public_line(text, 60) for text in fields.get("RA4", [])[:20]],
        "ports": [public_line(text, 40) for text in _ports(fields)[:20]],
        "protocol": public_line((fields.get("Protocol") or ["Any"])[0], 20),
        "program": public_line((fields.get("App") or [None])[0], 200),
        "action": "block",
        "store": store,
    }


def collect(raw: Any) -> dict[str, Any]:
    """Return the rules that block the host and the profiles that block everything outbound; rules is None when none could be read."""
    if not any(raw.looked(key) for key, _store in STORES):
        return {"agent_rules": None, "drops_root": None, "rules": None, "blocks_host": None, "outbound_blocked": None}
    found = []
    for key, store in STORES:
        for name, _kind, text in (raw.key(key) or {}).values():
            fields = parse_rule(text if isinstance(text, str) else "")
            if blocks_host(fields):
                found.append(rule(name, store, fields))
    closed = [
        PROFILES[name]
        for name in sorted(PROFILES)
        if raw.value("{0}\\{1}".format(_POLICY, name), "DefaultOutboundAction", int) == 1
        and raw.value("{0}\\{1}".format(_POLICY, name), "EnableFirewall", int) != 0
    ]
    return {"agent_rules": None, "drops_root": None, "rules": found[:LISTED], "blocks_host": bool(found), "outbound_blocked": closed}
