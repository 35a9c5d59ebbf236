# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Proxies that agent and extension see: in waagent.conf and in the service's environment, not in anybody's shell."""

import re
import shlex
import socket
import struct

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import redact_proxy

HOST_ADDRESSES = ("168.63.129.16", "169.254.169.254")
_NAMES = ("http_proxy", "https_proxy", "all_proxy")


def parse_environment(text):
    """Return the variables of ``Environment=`` of systemctl show or of an environment file."""
    values = {}
    for line in (text or "")[:65536].split("\n"):
        if line.lstrip().startswith(("#", ";")):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        for word in words:
            name, separator, value = word.partition("=")
            if separator and re.match(r"^[A-Za-z_]\w*$", name):
                values[name] = value
    return values


def parse_environ(raw):
    """Return the variables of ``/proc/<pid>/environ``."""
    pairs = (item.partition("=") for item in (raw or b"").decode("utf-8", "replace").split("\x00"))
    return {name: value for name, separator, value in pairs if separator}


def _number(address):
    return struct.unpack("!I", socket.inet_aton(address))[0]


def bypasses(no_proxy, address):
    """Say whether a no_proxy list excepts an address: itself, a prefix in CIDR notation, or ``*``."""
    for item in re.split(r"[,\s]+", no_proxy or ""):
        if item in ("*", address):
            return True
        network, separator, length = item.partition("/")
        if separator and length.isdigit() and int(length) <= 32:
            try:
                if _number(network) >> (32 - int(length)) == _number(address) >> (32 - int(length)):
                    return True
            except (OSError, ValueError):
                continue
    return False


def from_environment(source, values):
    """Return the proxies of one environment."""
    found = []
    no_proxy = values.get("no_proxy") or values.get("NO_PROXY")
    for name in _NAMES:
        for spelled in (name, name.upper()):
            if values.get(spelled):
                found.append(
                    {
                        "source": source,
                        "name": spelled,
                        "value": redact_proxy(values[spelled]),
                        "bypass": redact_proxy(no_proxy),
                        "bypasses_host": all(bypasses(no_proxy, address) for address in HOST_ADDRESSES),
                    }
                )
    return found


def collect(host, configuration, unit, environment, daemon_pid):
    """Return every proxy that the agent's service sees; masked, with what it goes round.

    :param configuration: values of waagent.conf as the agent's facts hold them, or None.
    :param environment: texts of the unit's environment.
    """
    found = []
    values = configuration or {}
    name, port = (values.get(key) or {} for key in ("HttpProxy.Host", "HttpProxy.Port"))
    if name.get("effective"):
        shown = redact_proxy("{0}:{1}".format(name["effective"], port.get("effective") if port.get("effective") is not None else ""))
        found.append({"source": "waagent.conf", "name": "HttpProxy.Host", "value": shown, "bypass": None, "bypasses_host": True})
    in_unit = {}
    for text in environment:
        in_unit.update(parse_environment(text))
    found += from_environment(unit or "unit", in_unit)
    if daemon_pid:
        running = parse_environ(host.read_bytes("network", "/proc/{0}/environ".format(daemon_pid), 65536))
        known = {(p["name"], p["value"]) for p in found}
        found += [p for p in from_environment("process {0}".format(daemon_pid), running) if (p["name"], p["value"]) not in known]
    return found
