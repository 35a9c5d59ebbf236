# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""DHCP on the primary interface: which client, which lease, option 245, and DHCP or static by configuration.

Option 245 carries the address of the Azure host; a guest without it needs another way to find it, so its absence alone proves nothing.
"""

import calendar
import re

from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_int, wildcard

OPTION = 245
_OCTAL = re.compile(r"\\([0-7]{3})")
# Clients that keep options which they do not know; the others lose option 245 even when the server sent it.
KEEPS_OPTION = ("dhclient", "systemd-networkd", "dhcpcd")


def address_of(raw):
    """Return dotted text for four bytes, else None."""
    return ".".join(str(byte) for byte in bytearray(raw)) if len(raw) == 4 else None


def option_bytes(text):
    """Return the bytes of an option's value as dhclient writes it: hex by colons (unpadded allowed) or a quoted string."""
    text = text.strip()[:4096]
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        out, i, body = bytearray(), 0, text[1:-1]
        while i < len(body):
            octal = _OCTAL.match(body, i)
            if octal:
                out.append(int(octal.group(1), 8) & 0xFF)
                i += 4
            else:
                i += 1 if body[i] == "\\" and i + 1 < len(body) else 0
                out.extend(body[i].encode("utf-8", "replace")[:1])
                i += 1
        return bytes(out)
    parts = text.split(":")
    if not all(re.match(r"^[0-9A-Fa-f]{1,2}$", part) for part in parts):
        return b""
    return bytes(bytearray(int(part, 16) for part in parts))


def _expiry(text):
    """Return (known, seconds since the epoch or None for never) of an ``expire`` statement's text."""
    text = text.strip()
    if "never" in text.split():
        return True, None
    found = re.search(r"epoch\s+(\d{1,18})", text)
    if found:
        return True, int(found.group(1))
    found = re.search(r"(\d{4})/(\d{1,2})/(\d{1,2}) (\d{1,2}):(\d{1,2}):(\d{1,2})", text)
    if not found:
        return False, None
    numbers = [int(group) for group in found.groups()]
    if not (1 <= numbers[1] <= 12 and 1 <= numbers[2] <= 31):
        return False, None
    try:
        # timegm, because infinite leases end in the year 2152 and mktime may not reach it
        return True, calendar.timegm(tuple(numbers) + (0, 0, 0))
    except (ValueError, OverflowError):
        return False, None


_OPTIONS = ("unknown-245", "option-245", "private-245", "ms-wireserver", "azure-wireserver")


def _statements(block):
    """Return {name: text} of the statements of a lease, one a line; an option's name comes with its word before it."""
    found = {}
    for line in block:
        line = line.strip()[:8192]
        if not line.endswith(";") and ";" not in line:
            continue
        words = line.rpartition(";")[0].split(None, 2)
        if len(words) > 2 and words[0] == "option":
            found["option " + words[1]] = words[2]
        elif len(words) > 1:
            found[words[0]] = " ".join(words[1:])
    return found


def _blocks(text):
    """Return the lines of each lease that is closed; a file of leases is read while its client writes it."""
    block = None
    for line in (text or "").split("\n"):
        words = line.split(None, 1)[:1]
        if words == ["lease"] and "{" in line or words == ["lease{"]:
            block = []
        elif block is not None and line.strip().startswith("}"):
            yield block
            block = None
        elif block is not None:
            block.append(line)


def parse_leases(text, interface, now):
    """Return the newest lease of an interface that has not expired, from an ISC dhclient file; None when there is none.

    :returns: address, server, option_245 (dotted, or None).
    Newest stands last. ``expire`` is UTC.
    """
    best = None
    for block in _blocks(text):
        values = _statements(block)
        named = values.get("interface", "")
        if interface and named and named.strip('"') != interface:
            continue
        known, end = _expiry(values["expire"]) if "expire" in values else (True, None)
        if not known or (end is not None and end < now):
            continue
        option = next((values["option " + name] for name in _OPTIONS if "option " + name in values), None)
        best = {
            "address": values.get("fixed-address"),
            "server": values.get("option dhcp-server-identifier"),
            "option_245": address_of(option_bytes(option)) if option else None,
        }
    return best


def parse_networkd_lease(text):
    """Return address, server, option_245 of a lease file of systemd-networkd (``KEY=value`` lines)."""
    values = dict(line.split("=", 1) for line in (text or "").split("\n") if "=" in line and not line.startswith("#"))
    raw = values.get("OPTION_245", "").strip()
    data = bytes(bytearray.fromhex(raw)) if re.match(r"^(?:[0-9A-Fa-f]{2})+$", raw) else b""
    if not values.get("ADDRESS"):
        return None
    return {"address": values["ADDRESS"], "server": values.get("SERVER_ADDRESS") or None, "option_245": address_of(data)}


def parse_packet(raw):
    """Return address, server, option_245 of a DHCP packet as dhcpcd keeps it; None when it is none.

    Options start at byte 240, after the magic cookie (RFC 2131).
    """
    raw = bytearray(raw or b"")
    if len(raw) < 241 or bytes(raw[236:240]) != b"\x63\x82\x53\x63":
        return None
    options, i = {}, 240
    while i < len(raw) and raw[i] != 255:
        if raw[i] == 0:
            i += 1
            continue
        if i + 1 >= len(raw) or i + 2 + raw[i + 1] > len(raw):
            break  # cut short: what came before still counts
        options[raw[i]] = bytes(raw[i + 2 : i + 2 + raw[i + 1]])
        i += 2 + raw[i + 1]
    return {
        "address": address_of(bytes(raw[16:20])),
        "server": address_of(options.get(54, b"")),
        "option_245": address_of(options.get(OPTION, b"")),
    }


def parse_nmcli(text):
    """Return address, server, option_245 from ``nmcli -t -f DHCP4 device show``."""
    values = dict(re.findall(r"(?m)^DHCP4\.OPTION\[\d+\]:(\w+) = (.*)$", text or ""))
    if not values:
        return None
    raw = values.get("private_245") or values.get("unknown_245") or ""
    return {
        "address": values.get("ip_address"),
        "server": values.get("dhcp_server_identifier"),
        "option_245": address_of(option_bytes(raw)) if raw else None,
    }


def parse_interfaces(text, interface):
    """Return the method (dhcp, static, manual...) of ``iface NAME inet METHOD`` for an interface, and the source lines' patterns.

    An interface may have several stanzas: secondary addresses are static ones beside dhcp, as Microsoft describes.
    """
    method, sources = None, []
    for line in re.sub(r"\\\n", " ", text or "").split("\n"):
        words = line.split()
        if len(words) > 3 and words[0] == "iface" and words[1] == interface and words[2] == "inet":
            method = words[3] if method != "dhcp" else method
        elif len(words) > 1 and words[0] in ("source", "source-directory"):
            sources.append((words[0], words[1]))
    return method, sources


def parse_sections(text):
    """Return [(section, {lower-case key: [values]})] of an INI-like file of systemd or NetworkManager, in order."""
    sections = []
    for line in (text or "").split("\n"):
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            sections.append((line[1:-1], {}))
        elif sections and "=" in line and not line.startswith(("#", ";")):
            key, _separator, value = line.partition("=")
            sections[-1][1].setdefault(key.strip().lower(), []).append(value.strip())
    return sections


def _listed(values):
    """Return the words of a list that several lines of one key make: an empty line empties it."""
    words = []
    for value in values:
        if value:
            words.extend(value.split())
        else:
            words = []
    return words


def _matches(key, values, told):
    """Say whether a line of ``[Match]`` holds for the interface, None where it cannot be known.

    :param told: what is known of the interface, by the key in lower case.
    A list that begins with an exclamation mark is inverted.
    """
    words = _listed(values)
    known = told.get(key)
    if not words:
        return True
    if known is None or any(sign in word for word in words for sign in "?[{"):
        return None
    inverted = words[0].startswith("!")
    words[0] = words[0].lstrip("!")
    if key.endswith("macaddress"):
        return (known.lower() in [word.lower().replace("-", ":") for word in words]) != inverted
    return any(wildcard(word, known) for word in words) != inverted


def networkd_method(sections, interface, mac, driver=None):
    """Return (matches, method) of a ``.network`` file for an interface: dhcp, static or None; matches is None where it cannot be known."""
    told = {"name": interface, "macaddress": mac, "permanentmacaddress": mac, "driver": driver, "type": "ether"}
    answers, dhcp, address = None, None, False
    for name, values in sections:
        if name == "Match":
            answers = (answers or []) + [_matches(key, found, told) for key, found in values.items()]
        elif name == "Network":
            dhcp = (values.get("dhcp") or [dhcp])[-1]
            address = address or bool(values.get("address"))
        elif name == "Address":
            address = address or bool(values.get("address"))
    if answers is None or False in answers:
        return False, None
    if None in answers:
        return None, None
    if str(dhcp).lower() in ("yes", "true", "ipv4", "both", "1", "on"):
        return True, "dhcp"
    return True, "static" if address else None


def ifcfg_method(text):
    """Return dhcp, static or None of an ``ifcfg-`` file of RHEL or SUSE."""
    values = {}
    for line in (text or "").split("\n"):
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            values[key.strip().upper()] = value.strip().strip("\"'")
    protocol = values.get("BOOTPROTO", "").lower()
    if protocol in ("dhcp", "dhcp4", "dhcp+autoip", "bootp"):
        return "dhcp"
    return "static" if protocol in ("none", "static") or "IPADDR" in values else None


# A file of the same name in a later folder replaces the earlier one.
_NETWORKD = (
    "/lib/systemd/network",
    "/usr/lib/systemd/network",
    "/usr/local/lib/systemd/network",
    "/run/systemd/network",
    "/etc/systemd/network",
)


def _by_name(host, pattern):
    """Return the paths of systemd-networkd's files in the order in which it reads them: by name, whatever their folder is."""
    found = {path.rpartition("/")[2]: path for directory in _NETWORKD for path in host.glob(directory + "/" + pattern)}
    return [found[name] for name in sorted(found)]


def _by_networkd(host, interface, mac):
    """Return (matches, method, path) of the first file that is for the interface, or may be; (False, None, None) where none is."""
    said = host.read("network", "/sys/class/net/{0}/device/uevent".format(interface)) or ""
    driver = next((line[7:].strip() for line in said.split("\n") if line.startswith("DRIVER=")), None)
    for path in _by_name(host, "*.network"):
        parts = [path] + _by_name(host, path.rpartition("/")[2] + ".d/*.conf")
        sections = [section for part in parts for section in parse_sections(host.read("network", part))]
        matches, found = networkd_method(sections, interface, mac, driver)
        if matches is not False:
            return matches, found, path
    return False, None, None


def _by_network_manager(host, interface, mac):
    """Return (method, path) of the first profile of NetworkManager that it connects the interface by on its own."""
    for directory in ("/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections"):
        for path in host.glob(directory + "/*"):
            values = dict(parse_sections(host.read("network", path)))
            connection = {key: found[-1] for key, found in values.get("connection", {}).items()}
            if connection.get("interface-name") not in (None, interface) or connection.get("autoconnect", "true").lower() in (
                "false",
                "no",
                "0",
            ):
                continue
            if connection.get("type", "ethernet") not in ("ethernet", "802-3-ethernet"):
                continue
            card = values.get("ethernet", values.get("802-3-ethernet", {})).get("mac-address", [mac])[-1]
            if mac and card and card.lower() != mac.lower():
                continue
            found = {"auto": "dhcp", "manual": "static"}.get(values.get("ipv4", {}).get("method", [""])[-1])
            if found:
                return found, path
    return None, None


def method(host, interface, mac, running):
    """Return (dhcp, static or None, the file that says so). What is configured counts, not what happens to run."""
    if "systemd-networkd" in running:
        matches, found, path = _by_networkd(host, interface, mac)
        if path:
            return found if matches else None, path
    if "NetworkManager" in running:
        found, path = _by_network_manager(host, interface, mac)
        if found:
            return found, path
    pending, seen, last = ["/etc/network/interfaces"], set(), (None, None)
    while pending and len(seen) < 64:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        found, sources = parse_interfaces(host.read("network", path), interface)
        if found in ("dhcp", "static", "manual") and last[0] != "dhcp":
            last = ({"manual": None}.get(found, found), path)
        for kind, pattern in sources:
            if not pattern.startswith("/"):
                pattern = path.rpartition("/")[0] + "/" + pattern
            pending += host.glob(pattern if kind == "source" else pattern + "/*")
    if last[1]:
        return last
    for path in ("/etc/sysconfig/network-scripts/ifcfg-", "/etc/sysconfig/network/ifcfg-"):
        text = host.read("network", path + interface)
        if text is not None:
            return ifcfg_method(text), path + interface
    return None, None


CLIENTS = ("dhclient", "dhcpcd", "NetworkManager", "systemd-networkd", "wickedd-dhcp4", "udhcpc")


def running_clients(processes):
    found = set()
    for process in processes:
        name = process["command"][0].split(" ")[0].rstrip(":").rpartition("/")[2]
        if name in CLIENTS:
            found.add(name)
    return found


def lease(host, interface, index, running, timeout_s):
    """Return (client, lease file, lease) of the first client that holds one for the interface."""
    patterns = ("/var/lib/dhcp/dhclient*.lease*", "/var/lib/dhclient/dhclient*.lease*", "/var/lib/NetworkManager/dhclient-*.lease")
    path = "/run/systemd/netif/leases/{0}".format(index)
    text = host.read("network", path) if index is not None else None
    found = parse_networkd_lease(text)
    if found:
        return "systemd-networkd", path, found
    newest = None
    for path in [path for pattern in patterns for path in host.glob(pattern)]:
        info = host.stat("network", path)
        found = parse_leases(host.read("network", path, 1 << 20), interface, host.now)
        if info is not None and found and (newest is None or info.st_mtime >= newest[0]):
            newest = (info.st_mtime, path, found)
    if newest and ("dhclient" in running or not running):
        return "dhclient", newest[1], newest[2]
    for pattern in ("/var/lib/dhcpcd/{0}*.lease", "/var/lib/dhcpcd5/dhcpcd-{0}*.lease"):
        for path in host.glob(pattern.format(interface)):
            found = parse_packet(host.read_bytes("network", path, 65536))
            if found:
                return "dhcpcd", path, found
    if "NetworkManager" in running and host.which("nmcli"):
        found = parse_nmcli(host.run("network", ["nmcli", "-t", "-f", "DHCP4", "device", "show", interface], timeout_s))
        if found:
            return "NetworkManager", None, found
    for path in host.glob("/var/lib/wicked/lease-{0}-dhcp-ipv4.xml".format(interface)):
        return "wicked", path, {"address": None, "server": None, "option_245": None}
    if newest:
        return "dhclient", newest[1], newest[2]
    return None, None, None


def collect(host, interface, mac, address, processes, timeout_s):
    """Return the facts of DHCP on the primary interface; address is the one that it has now."""
    result = dict.fromkeys(
        [
            "client",
            "method",
            "method_source",
            "lease_file",
            "lease_active",
            "server",
            "option_245",
            "option_245_looked",
            "option_245_possible",
        ]
    )
    if not interface:
        return result
    index = as_int(host.read("network", "/sys/class/net/{0}/ifindex".format(interface)))
    running = running_clients(processes)
    client, path, found = lease(host, interface, index, running, timeout_s)
    result["client"] = client or (sorted(running)[0] if len(running) == 1 else None)
    configured, source = method(host, interface, mac, running)
    result.update(method=configured, method_source=source, lease_file=path)
    # A lease of yesterday's client does not count: it must be for the address that the interface has.
    result["lease_active"] = bool(found and (found["address"] is None or found["address"] == address))
    if found and result["lease_active"]:
        result.update(server=found["server"], option_245=found["option_245"])
        result["option_245_possible"] = client in KEEPS_OPTION or found["option_245"] is not None
        if configured is None:
            result.update(method="dhcp", method_source=path)
    result["option_245_looked"] = bool(result["lease_active"] and result["option_245_possible"])
    return result
