# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""DHCP on the primary interface: by the registry of Tcpip. Option 245 by a walk of the records, never by a search for its byte."""

import socket
import struct
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_text

INTERFACES = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\Interfaces"
OPTION = 245
_HEAD = struct.Struct("<5I")  # code, class, length, vendor specific, expiry


def parse_options(data: bytes | None) -> list[dict[str, Any]]:
    """Return the records of DhcpInterfaceOptions: code, vendor, expires, data. A record that is cut short ends the walk.

    Data is padded to a multiple of 4; a record of length 0 is an option that was asked for and not given.
    """
    found, at = [], 0
    while data is not None and at + _HEAD.size <= len(data):
        code, _class, length, vendor, expires = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if length > len(data) - at:
            break
        found.append({"code": code, "vendor": bool(vendor), "expires": expires, "data": data[at : at + length]})
        at += -(-length // 4) * 4
    return found


def host_address(options: list[dict[str, Any]]) -> str | None:
    """Return the address that option 245 carries, None without a record of it that holds an address."""
    for option in options:
        if option["code"] == OPTION and len(option["data"]) == 4:
            return socket.inet_ntoa(option["data"])
    return None


def collect(raw: Any, guid: str | None) -> dict[str, Any]:
    """Return the facts of DHCP on one interface."""
    key = "{0}\\{1}".format(INTERFACES, guid)
    result = dict.fromkeys(("client", "method", "method_source", "lease_file", "lease_active", "option_245", "server"))
    result.update(option_245_looked=False, option_245_possible=None)
    values = raw.key(key) if guid else None
    if values is None:
        return result
    result["client"] = "Dhcp"
    enabled = raw.value(key, "EnableDHCP", int)
    if enabled is not None:
        result.update(method="dhcp" if enabled else "static", method_source="{0} EnableDHCP={1}".format(key, enabled))
    if not enabled:
        return result
    result["server"] = public_line(as_text(raw.value(key, "DhcpServer")), 60)
    address = as_text(raw.value(key, "DhcpIPAddress"))
    ends = raw.value(key, "LeaseTerminatesTime", int)
    if address is not None:
        # All ones is a lease without an end.
        result["lease_active"] = address != "0.0.0.0" and (ends is None or ends >= 0x7FFFFFFF or ends > raw.now)
    data = raw.binary(key, "DhcpInterfaceOptions")
    if data is not None:
        result.update(
            lease_file=key + " DhcpInterfaceOptions",
            option_245=host_address(parse_options(data)),
            option_245_looked=True,
            option_245_possible=True,
        )
    return result
