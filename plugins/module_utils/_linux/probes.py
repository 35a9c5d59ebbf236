# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the Azure host's endpoints, all at once, each with its own deadline. Nothing here goes through a proxy and nothing changes state."""

import calendar
import errno
import json
import re
import socket
import threading
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.routes import IMDS, WIRESERVER
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import clip, public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict, as_list, as_text

LIMIT_BYTES = 65536
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STORAGE_NAME = re.compile(r"https://([a-z0-9-][a-z0-9.-]{1,250}[a-z0-9-])(?=[/:?\s\"']|$)", re.I)


def reason(error, timeout_s):
    """Return an error of a socket in words."""
    if isinstance(error, socket.timeout):
        return "no answer within {0:g} s".format(timeout_s)
    if isinstance(error, socket.gaierror):
        return "name not resolved: {0}".format(error.strerror or error)
    known = {
        errno.ECONNREFUSED: "connection refused",
        errno.EHOSTUNREACH: "no route to host",
        errno.ENETUNREACH: "network unreachable",
        errno.EACCES: "not permitted (route or firewall)",
        errno.EPERM: "not permitted (firewall)",
        errno.EINVAL: "discarded by a blackhole route",
        errno.ECONNRESET: "connection reset",
        errno.ETIMEDOUT: "no answer",
    }
    return known.get(getattr(error, "errno", None)) or clip(str(error), 120) or type(error).__name__


def parse_response(raw):
    """Return (status code or None, headers in lower case, body) of an HTTP/1.x response."""
    head, _separator, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    found = re.match(r"^HTTP/1\.\d (\d{3})", lines[0])
    headers = {}
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip().lower()] = value.strip()
    return (int(found.group(1)) if found else None), headers, body


def http_get(address, port, path, headers, deadline):
    """Return (status, headers, body) of a plain GET; the whole exchange ends at the deadline (time.monotonic)."""
    with socket.create_connection((address, port), timeout=max(0.05, deadline - time.monotonic())) as connection:
        lines = ["GET {0} HTTP/1.1".format(path), "Host: " + address, "Connection: close", "User-Agent: vmbackup.azure"]
        lines += ["{0}: {1}".format(*pair) for pair in headers]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        raw = b""
        while len(raw) < LIMIT_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout()
            connection.settimeout(left)
            chunk = connection.recv(16384)
            if not chunk:
                break
            raw += chunk
            status, found, body = parse_response(raw)
            if status and "content-length" in found and found["content-length"].isdigit() and len(body) >= int(found["content-length"]):
                break
    return parse_response(raw)


class Probe(object):
    """One request to one endpoint, in a thread of its own."""

    def __init__(self, url, timeout_s, ask):
        self.result = {"url": url, "ok": None, "time_ms": None, "status": None, "error": None}
        self.timeout_s = timeout_s
        self.body = None
        self.date = None
        self.received = None
        self._ask = ask
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._work)
        self._thread.daemon = True  # a silent endpoint must not hold the module
        self._thread.start()

    def _work(self):
        result = dict(self.result)
        try:
            status, headers, body, fine = self._ask(self._started + self.timeout_s)
            result.update(status=status, ok=fine)
            if not fine:
                result["error"] = "unexpected answer: HTTP {0}".format(status) if status else "unexpected answer, not HTTP"
            self.body, self.date, self.received = body, headers.get("date"), time.time()
        except Exception as error:  # a probe's failure is its result
            result.update(ok=False, error=reason(error, self.timeout_s))
        result["time_ms"] = int((time.monotonic() - self._started) * 1000)
        self.result = result

    def wait(self):
        """Return the result, at the deadline the fact that none came."""
        self._thread.join(max(0.0, self._started + self.timeout_s + 0.25 - time.monotonic()))
        if self._thread.is_alive():
            return dict(self.result, ok=False, time_ms=int(self.timeout_s * 1000), error="no answer within {0:g} s".format(self.timeout_s))
        return self.result


def wireserver(timeout_s):
    def ask(deadline):
        status, headers, body = http_get(WIRESERVER, 80, "/?comp=versions", (), deadline)
        return status, headers, body, status == 200 and b"<Versions" in body

    return Probe("http://{0}/?comp=versions".format(WIRESERVER), timeout_s, ask)


def hostgaplugin(timeout_s):
    def ask(deadline):
        status, headers, body = http_get(WIRESERVER, 32526, "/versions", (), deadline)
        return status, headers, body, status == 200

    return Probe("http://{0}:32526/versions".format(WIRESERVER), timeout_s, ask)


def imds(timeout_s):
    path = "/metadata/instance/compute?api-version=2021-02-01"

    def ask(deadline):
        status, headers, body = http_get(IMDS, 80, path, (("Metadata", "true"),), deadline)
        return status, headers, body, status == 200

    return Probe("http://{0}{1}".format(IMDS, path), timeout_s, ask)


def imds_network(timeout_s):
    """Ask which addresses Azure gives the interfaces. A call of its own: the whole document may be long, by what the owner put into it."""
    path = "/metadata/instance/network?api-version=2021-02-01"

    def ask(deadline):
        status, headers, body = http_get(IMDS, 80, path, (("Metadata", "true"),), deadline)
        return status, headers, body, status == 200

    return Probe("http://{0}{1}".format(IMDS, path), timeout_s, ask)


def connect(name, port, timeout_s):
    """Probe a storage endpoint or a proxy; nothing is sent, an open connection is the answer."""

    def ask(deadline):
        left = max(0.05, deadline - time.monotonic())
        with socket.create_connection((name, port), timeout=left):
            pass
        return None, {}, b"", True

    return Probe("tcp://{0}:{1}".format(name, port), timeout_s, ask)


REFUSALS = {
    403: "it answers, and refuses to connect to {0} (HTTP 403)",
    407: "it asks for user name and password (HTTP 407), which the agent cannot give",
}


def through(address, port, name, timeout_s):
    """Probe a proxy by asking it for a connection to a storage endpoint; without a name of one, an open connection is the answer."""
    if not name:
        return connect(address, port, timeout_s)

    def ask(deadline):
        request = "CONNECT {0}:443 HTTP/1.1\r\nHost: {0}:443\r\nUser-Agent: vmbackup.azure\r\n\r\n".format(name)
        with socket.create_connection((address, port), timeout=max(0.05, deadline - time.monotonic())) as connection:
            connection.sendall(request.encode("ascii", "replace"))
            connection.settimeout(max(0.05, deadline - time.monotonic()))
            status = parse_response(connection.recv(4096))[0]
        if status in REFUSALS:
            raise OSError(REFUSALS[status].format(name))
        # What else it says, it is there and takes the agent's word; whether storage answers is another probe's matter.
        return status, {}, b"", True

    return Probe("tcp://{0}:{1}".format(address, port), timeout_s, ask)


def storage_names(lines):
    """Return the names of storage endpoints that log lines mention, newest first; names only, never a query."""
    found = []
    for line in reversed(lines):
        for name in _STORAGE_NAME.findall(line):
            if ".blob." in name.lower() and ".." not in name and name.lower() not in found:
                found.append(name.lower())
        if len(found) > 8:
            break  # the newest is asked, the others are only there to be looked at
    return found


def parse_imds(body):
    """Return (region, cloud) of an IMDS compute document, None for what it does not hold."""
    try:
        document = as_dict(json.loads((body or b"").decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None, None
    compute = as_dict(document.get("compute")) or document
    return public_line(as_text(compute.get("location")), 40) or None, public_line(as_text(compute.get("azEnvironment")), 40) or None


def parse_imds_network(body, mac):
    """Return the private addresses that IMDS gives to the interface with a MAC address; None where it says nothing of it."""
    try:
        document = as_dict(json.loads((body or b"").decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None
    wanted = (mac or "").replace(":", "").lower()
    for card in map(as_dict, as_list(document.get("interface"))):
        if wanted and (as_text(card.get("macAddress")) or "").replace(":", "").replace("-", "").lower() == wanted:
            found = [as_text(as_dict(entry).get("privateIpAddress")) for entry in as_list(as_dict(card.get("ipv4")).get("ipAddress"))]
            return [public_line(address, 40) for address in found if address]
    return None


def clock_offset(date, now):
    """Return by how many seconds the guest's clock is ahead of an HTTP Date header, None without a readable one."""
    found = re.match(r"^\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT$", date or "")
    if not found or now is None or found.group(2) not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found.group(n)) for n in (1, 3, 4, 5, 6))
    try:
        return int(round(now - calendar.timegm((year, _MONTHS.index(found.group(2)) + 1, day, hour, minute, second))))
    except (OverflowError, ValueError):
        return None
