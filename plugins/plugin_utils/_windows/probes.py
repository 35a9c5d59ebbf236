# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the endpoints answered, from the sockets' raw results."""

import re
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.probes import clock_offset, parse_response
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict, as_text, epoch
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int

NAMES = ("wireserver", "hostgaplugin", "imds", "storage", "proxy")
# System.Net.Sockets.SocketError.
WORDS = {
    "ConnectionRefused": "connection refused",
    "HostUnreachable": "no route to host",
    "NetworkUnreachable": "network unreachable",
    "NetworkDown": "network down",
    "AddressNotAvailable": "no route to host",
    "AccessDenied": "not permitted (firewall)",
    "ConnectionReset": "connection reset",
    "ConnectionAborted": "connection reset",
    "TimedOut": "no answer",
    "HostNotFound": "name not resolved",
    "NoData": "name not resolved",
    "TryAgain": "name not resolved: the name server does not answer",
    "NoRecovery": "name not resolved",
}


def probe(name: str, row: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Return the facts of one probe."""
    result = {
        "url": public_line(as_text(row.get("url")), 300),
        "ok": None,
        "time_ms": as_int(row.get("time_ms")),
        "status": None,
        "error": None,
    }
    code, error = as_text(row.get("code")), as_text(row.get("error"))
    if code == "Deadline":
        result.update(ok=False, error="no answer within {0:g} s".format(timeout_s))
        return result
    if code or error:
        result.update(ok=False, error=WORDS.get(code) or public_line(error, 160) or code)
        return result
    if name in ("storage", "proxy"):
        result["ok"] = True
        return result
    head = as_text(row.get("head")) or ""
    status, _headers, _body = parse_response(head.encode("latin-1", "replace") + b"\r\n\r\n")
    result["status"] = status
    result["ok"] = status == 200 and (name != "wireserver" or "<Versions" in (as_text(row.get("body")) or ""))
    if not result["ok"]:
        result["error"] = "unexpected answer: HTTP {0}".format(status) if status else "unexpected answer, not HTTP"
    return result


def offset(row: dict[str, Any]) -> int | None:
    """Return by how many seconds the guest's clock is ahead of the host's, None when the host did not say."""
    found = re.search(r"(?im)^date:[ \t]*(\S[^\r\n]{0,60})", as_text(row.get("head")) or "")
    return clock_offset(found.group(1).strip(), epoch(as_text(row.get("received")))) if found else None


def collect(raw: Any, timeout_s: float) -> tuple[Any, ...]:
    """Return (facts of all probes, None for one that was not made; offset of the clock)."""
    rows = {name: as_dict(raw.part("probes").get(name)) for name in NAMES}
    return {name: probe(name, row, timeout_s) if row else None for name, row in rows.items()}, offset(rows["wireserver"])
