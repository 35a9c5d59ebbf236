# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The configuration of an interface with DHCP instead of an address set by hand, in the files of four programs. Pure: text to text.

Each function returns None where the text does not give the interface that address by hand in a form that it knows.
"""

import re

_OF_ADDRESS = ("address", "netmask", "gateway", "broadcast", "network")
_STANZAS = ("iface", "auto", "mapping", "source", "source-directory", "no-auto-down", "no-scripts")


def interfaces(text, interface, address):
    """/etc/network/interfaces of ifupdown."""
    result, inside, done = [], False, False
    lines = text.split("\n")
    for number, line in enumerate(lines):
        words = line.split()
        if words and (words[0] in _STANZAS or words[0].startswith("allow-")):
            inside = False
            if not done and words[:4] == ["iface", interface, "inet", "static"] and _stanza_address(lines[number + 1 :]) == address:
                inside = done = True
                line = line.replace("static", "dhcp", 1) if interface != "static" else "iface {0} inet dhcp".format(interface)
        elif inside and words and words[0] in _OF_ADDRESS:
            continue
        result.append(line)
    return "\n".join(result) if done else None


def _stanza_address(lines):
    for line in lines:
        words = line.split()
        if words and (words[0] in _STANZAS or words[0].startswith("allow-")):
            return None
        if len(words) > 1 and words[0] == "address":
            return words[1].partition("/")[0]
    return None


def keyfile(text, _interface, address):
    """A profile of NetworkManager. Other addresses stay beside the one of DHCP."""
    section, result, done = None, [], False
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
        key, _separator, value = stripped.partition("=")
        key, value = key.strip(), value.strip()
        if section == "ipv4" and re.match(r"address(?:es)?\d*$", key) and value.partition("/")[0] == address:
            done = True
            continue
        if section == "ipv4" and key == "gateway":
            continue
        if section == "ipv4" and key == "method":
            line = "method=auto"
        result.append(line)
    return "\n".join(result) if done else None


def network(text, _interface, address):
    """A ``.network`` file of systemd-networkd."""
    blocks, result, done = [[]], [], False
    for line in text.split("\n"):
        if line.strip().startswith("["):
            blocks.append([])
        blocks[-1].append(line)
    for block in blocks:
        name = block[0].strip() if block else ""
        pairs = [line.partition("=")[::2] for line in block if "=" in line]
        given = {key.strip(): value.strip() for key, value in pairs}
        if name == "[Address]" and given.get("Address", "").partition("/")[0] == address:
            done = True
            continue
        if name == "[Route]" and _is_default(given):
            continue
        if name == "[Network]":
            kept, method = [], "ipv4"
            for line in block:
                key, _separator, value = (part.strip() for part in line.partition("="))
                if key == "Address" and value.partition("/")[0] == address:
                    done = True
                elif key == "DHCP":
                    # What it does for IPv6 stays.
                    method = "yes" if value.lower() in ("yes", "true", "on", "1", "y", "t", "both", "ipv6", "v6") else "ipv4"
                elif key != "Gateway" or ":" in value:
                    kept.append(line)
            block = [kept[0], "DHCP=" + method] + kept[1:]
        result += block
    return "\n".join(result) if done else None


def _is_default(route):
    """Say whether a section is the default route of IPv4 in the main table, which DHCP brings."""
    gateway = route.get("Gateway", ":")
    return (
        ":" not in gateway
        and gateway != "_ipv6ra"
        and route.get("Destination") in (None, "0.0.0.0/0")
        and route.get("Table") in (None, "main", "254")
    )


def ifcfg(text, _interface, address):
    """An ``ifcfg-`` file of network scripts and of wicked."""
    result, done = [], False
    for line in text.split("\n"):
        key, separator, value = line.strip().partition("=")
        if separator and key == "IPADDR" and value.strip("\"'").partition("/")[0] == address:
            done = True
            continue
        if separator and key in ("NETMASK", "PREFIX", "PREFIXLEN", "GATEWAY", "BROADCAST", "NETWORK"):
            continue
        result.append(re.sub(r"^(\s*BOOTPROTO=).*$", r"\1dhcp", line))
    if done and not any(line.strip().startswith("BOOTPROTO=") for line in result):
        result.insert(0, "BOOTPROTO=dhcp")
    return "\n".join(result) if done else None


def editor(path):
    """Return the function for a file, None for one that another program makes or that is not known."""
    for pattern, function in (
        (r"/etc/network/interfaces(?:\.d/.+|)\Z", interfaces),
        (r"/etc/NetworkManager/system-connections/[^/]+\Z", keyfile),
        (r"/etc/systemd/network/[^/]+\.network\Z", network),
        (r"/etc/sysconfig/(?:network|network-scripts)/ifcfg-[^/]+\Z", ifcfg),
    ):
        if re.match(pattern, path):
            return function
    return None
