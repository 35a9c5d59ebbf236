# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The primary interface and the routes to the Azure host's addresses."""

import array
import errno
import fcntl
import re
import socket
import struct

WIRESERVER = "168.63.129.16"
IMDS = "169.254.169.254"
_REJECT = 0x0200  # RTF_REJECT of linux/route.h
_SIOCGIFCONF, _SIOCGIFADDR, _SIOCGIFNETMASK = 0x8912, 0x8915, 0x891B
_IFREQ_BYTES = 40 if struct.calcsize("P") == 8 else 32


def dotted(little_endian_hex):
    """Return dotted text for an address in /proc/net/route, which writes it little-endian: 10813FA8 is 168.63.129.16."""
    return socket.inet_ntoa(struct.pack("<I", int(little_endian_hex, 16)))


def number(address):
    return struct.unpack("!I", socket.inet_aton(address))[0]


def parse_routes(text):
    """Return the routes of /proc/net/route: interface, destination, prefix_length, gateway, metric, reject."""
    routes = []
    for line in (text or "").split("\n")[1:]:
        fields = line.split()
        try:
            flags, mask = int(fields[3], 16), number(dotted(fields[7]))
            routes.append(
                {
                    "interface": fields[0],
                    "destination": dotted(fields[1]),
                    "prefix_length": bin(mask).count("1"),
                    "gateway": dotted(fields[2]) if int(fields[2], 16) else None,
                    "metric": int(fields[6]),
                    "reject": bool(flags & _REJECT),
                }
            )
        except (IndexError, ValueError, struct.error, OSError):
            continue
    return routes


def matching(routes, address):
    """Return the route of the main table that the kernel would take: longest prefix, then lowest metric; None without one."""
    wanted = number(address)
    hits = []
    for route in routes:
        shift = 32 - route["prefix_length"]
        if wanted >> shift == number(route["destination"]) >> shift:
            hits.append(route)
    return min(hits, key=lambda r: (-r["prefix_length"], r["metric"])) if hits else None


def _may_send(holders, interface):
    """Say whether the main table may have chosen this source: an address of the interface, or one that is on none that sends."""
    return not holders or interface in holders or any(name == "lo" or name.startswith("dummy") for name in holders)


def describe(routes, address, lookup, holders):
    """Return the route facts of one address.

    :param lookup: (source address or None, errno or None) of the kernel's own decision, which knows rules and tables beyond the main one.
    :param holders: {address: the interfaces that have it} of this guest.
    """
    source, error = lookup
    route = matching(routes, address)
    result = {"ok": source is not None, "kind": "none", "prefix": None, "device": None, "gateway": None, "source": source}
    # Of a refusal only where that route makes it: a rule or another table may, too.
    if route is not None and (source is not None or route["interface"] == "*" or route["reject"]):
        result["prefix"] = "{0}/{1}".format(route["destination"], route["prefix_length"])
    if source is None:
        kinds = {errno.EINVAL: "blackhole", errno.EHOSTUNREACH: "unreachable", errno.EACCES: "prohibit", errno.ENETUNREACH: "none"}
        result["kind"] = kinds.get(error, "none")
        # The main table has a way: what says so is its own route that refuses, or a rule.
        if error == errno.ENETUNREACH and route is not None and (route["reject"] or route["interface"] != "*"):
            result["kind"] = "unreachable"
        return result
    # From an address of another interface: not the main table has decided, but a rule.
    if route is None or route["interface"] == "*" or not _may_send(holders.get(source), route["interface"]):
        result.update(kind="other", prefix=None)
        return result
    result.update(device=route["interface"], gateway=route["gateway"])
    result["kind"] = {32: "host", 0: "default"}.get(route["prefix_length"], "other")
    return result


def kernel_lookup(address):
    """Ask the kernel how it would reach an address: connecting a datagram socket sends nothing, but routes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 80))
            return probe.getsockname()[0], None
        except OSError as error:
            return None, error.errno


def interface_address(interface, request):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), request, struct.pack("256s", interface.encode()[:15]))
            return socket.inet_ntoa(answer[20:24])
        except OSError:
            return None


def address_holders():
    """Return {IPv4 address: the interfaces that have it} of this guest, empty where the kernel does not say."""
    buffer = array.array("B", bytes(_IFREQ_BYTES * 512))
    place, length = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFCONF, struct.pack("iP", length, place))
        except OSError:
            return {}
    data, found = buffer.tobytes()[: struct.unpack("iP", answer)[0]], {}
    for start in range(0, len(data), _IFREQ_BYTES):
        name = data[start : start + 16].split(b"\0", 1)[0].decode("utf-8", "replace")
        found.setdefault(socket.inet_ntoa(data[start + 20 : start + 24]), set()).add(name.split(":", 1)[0])
    return found


def unknown():
    """Return the primary interface's facts where nothing is known of it."""
    return dict.fromkeys(["interface", "mac", "address", "prefix_length", "gateway", "state"])


def primary(host, routes):
    """Return the primary interface: the one with the default route of the lowest metric, else the first that has an address.

    A network card comes before a tunnel, whose default route wins where a VPN takes all.
    """
    defaults = [r for r in routes if r["prefix_length"] == 0 and r["destination"] == "0.0.0.0" and not r["reject"]]
    result = unknown()
    if defaults:
        route = min(defaults, key=lambda r: (not host.exists("network", "/sys/class/net/{0}/device".format(r["interface"])), r["metric"]))
        result.update(interface=route["interface"], gateway=route["gateway"])
    else:
        for name in host.names("network", "/sys/class/net") or []:
            if name != "lo" and interface_address(name, _SIOCGIFADDR):
                result["interface"] = name
                break
    name = result["interface"]
    if name:
        directory = "/sys/class/net/" + name
        result["mac"] = (host.read("network", directory + "/address") or "").strip() or None
        result["state"] = (host.read("network", directory + "/operstate") or "").strip() or None
        result["address"] = interface_address(name, _SIOCGIFADDR)
        mask = interface_address(name, _SIOCGIFNETMASK)
        result["prefix_length"] = bin(number(mask)).count("1") if mask else None
    return result


_MAC = re.compile(r"(?i)(?<![0-9a-f:-])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![0-9a-f:-])")
CONFIGURED = (
    "/etc/netplan/*.yaml",
    "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/sysconfig/network/ifcfg-*",
    "/etc/systemd/network/*.network",
    "/etc/NetworkManager/system-connections/*",
)


def parse_macs(text):
    """Return the MAC addresses that lines of a network configuration name, comments left out, in lower case with colons."""
    lines = [line for line in (text or "").split("\n") if not line.lstrip().startswith(("#", ";"))]
    return [mac.lower().replace("-", ":") for mac in _MAC.findall("\n".join(lines))]


def foreign_macs(host):
    """Return the configured MAC addresses that no interface has, as a copied machine keeps them: path, mac."""
    own = set()
    for name in host.names("network", "/sys/class/net") or []:
        own.add((host.read("network", "/sys/class/net/{0}/address".format(name), 64) or "").strip().lower())
    found = []
    for path in [path for pattern in CONFIGURED for path in host.glob(pattern)]:
        found += [{"path": path, "mac": mac} for mac in parse_macs(host.read("network", path, 65536)) if mac not in own]
    return found if own else []


def collect(host):
    """Return (primary interface, routes to the two host addresses)."""
    routes, holders = parse_routes(host.read("network", "/proc/net/route")), address_holders()
    return primary(host, routes), {a: describe(routes, a, kernel_lookup(a), holders) for a in (WIRESERVER, IMDS)}
