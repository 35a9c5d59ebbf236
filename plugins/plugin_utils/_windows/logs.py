# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logs of the Windows agent and of the backup extension: lines of both shapes, and the phrases that say something about backup."""

import re
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import logs
from ansible_collections.vmbackup.azure.plugins.module_utils._values import age, iso

# Of keys that cannot be read, or that this Windows cannot take in.
_OF_CERTIFICATES = tuple(
    (text, "certificate")
    for text in (
        "Invalid provider type specified",
        "FailedToDecryptProtectedSettings",
        "Self-signed Certificate Generation failed",
        "PFXImportCertStore failed",
    )
)
# Source: logs quoted in Microsoft's articles on the Windows guest agent; the host's own words are those of the Linux agent's list.
AGENT_PHRASES = (
    ("GetVersions() failed", "wireserver_timeout"),
    ("Empty DHCP option data returned", "no_option_245"),
    ("Did not discover fabric address on interface", "no_endpoint"),
    ("Failed to get goal state", "goal_state_error"),
    ("GoalState executed successfully", "goal_state_done"),
    ("Successfully processed goal state", "goal_state_done"),
    ("is blocked by group policy", "blocked"),
    ("contains a virus or potentially unwanted software", "blocked"),
    ("0x800704EC", "blocked"),
    ("0x800700E1", "blocked"),
    ("Keyset does not exist", "certificate"),
    ("Cannot find the certificate and private key for decryption", "certificate"),
    *_OF_CERTIFICATES,
)

EXTENSION_PHRASES = (
    ("is blocked by group policy", "blocked"),
    ("contains a virus or potentially unwanted software", "blocked"),
    ("0x800704EC", "blocked"),
    ("0x800700E1", "blocked"),
    ("VCRedist", "vc_redist"),
    ("vcredist", "vc_redist"),
    ("VC++ redistributable", "vc_redist"),
    ("ExtensionFailedVssWriterInBadState", "vss_writer"),
    ("ExtensionFailedVssServiceInBadState", "vss_service"),
    ("VSS Writers in bad state", "vss_writer"),
    ("VSS_E_WRITER", "vss_writer"),
    ("0x800423F", "vss_writer"),
    ("0x8004230", "vss_service"),
    ("Keyset does not exist", "certificate"),
    *_OF_CERTIFICATES,
    ("SqlServerWriter", "sql_writer"),
    ("Could not create SSL/TLS secure channel", "no_secure_channel"),
)

_NEW = re.compile(r"^\s*(?:\[[0-9A-Fa-f]+\]\s*)?\[?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)")
_OLD = re.compile(r"^\s*(?:\[[0-9A-Fa-f]+\]\s*)?\[(\d\d)/(\d\d)/(\d{4}) (\d\d:\d\d:\d\d)")
_HEARTBEAT = re.compile(r"\[HEART\]\s+WindowsAzureGuestAgent|WindowsAzureGuestAgent Heartbeat", re.I)
_BAD = re.compile(r"(?i)error|fail|exception|exit code: ?-?[1-9]|bad state|denied|blocked")


def dated(line: str) -> str:
    """Return a line with its time in front, as ISO in UTC, and without the number of the thread; unchanged when it carries no time.

    Both shapes: ``[00000011] [12/11/2018 06:27:55.66] [WARN]  text`` and ``[00000018] 2026-01-12T16:35:45Z [INFO]  text``.
    """
    found = _NEW.match(line)
    if found:
        return "{0}T{1}Z {2}".format(found.group(1), found.group(2), line[found.end() :].lstrip("Z.0123456789]"))
    found = _OLD.match(line)
    if found:
        month, day, year, clock = found.groups()
        return "{0}-{1}-{2}T{3}Z {4}".format(year, month, day, clock, line[found.end() :].lstrip(".0123456789]"))
    return line


def heartbeat(lines: list[str], now: float) -> dict[str, Any] | None:
    """Return the newest heartbeat in the agent's log: at and age_s; None when the lines hold none."""
    for line in reversed(lines):
        if _HEARTBEAT.search(line):
            at = logs.stamp(dated(line))
            if at is not None:
                return {"at": iso(at), "age_s": age(at, now), "version": None}
    return None


def verdicts(lines: list[str], phrases: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return what the lines say, as on Linux; a redistributable or a writer that is merely named says nothing."""
    plain = [dated(line) for line in lines]
    mild = {"vc_redist", "sql_writer"}
    told = list(logs.verdicts(plain, [pair for pair in phrases if pair[1] not in mild]))
    return told + list(logs.verdicts([line for line in plain if _BAD.search(line)], [pair for pair in phrases if pair[1] in mild]))
