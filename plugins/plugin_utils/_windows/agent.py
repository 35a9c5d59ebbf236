# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guest agent: services, versions, processes, heartbeat, registry, updates, .NET, log."""

import re
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import MASK, public_line, secret_name
from ansible_collections.vmbackup.azure.plugins.module_utils._values import age, as_text, epoch, iso, version_key
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import logs, registry, services
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int

GUEST = "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Guest"
AGENT = "HKLM\\SOFTWARE\\Microsoft\\GuestAgent"
UPDATES = "HKLM\\SOFTWARE\\Microsoft\\Windows Azure\\GuestAgentUpdateState"
NDP = "HKLM\\SOFTWARE\\Microsoft\\NET Framework Setup\\NDP\\v4\\Full"
FRAMEWORKS = (("HKLM\\SOFTWARE\\Microsoft\\.NETFramework", 64), ("HKLM\\SOFTWARE\\WOW6432Node\\Microsoft\\.NETFramework", 32))
LOG = "C:\\WindowsAzure\\Logs\\WaAppAgent.log"
ROLES = {"waappagent": "daemon", "windowsazureguestagent": "handler"}
# Lowest Release of each .NET Framework. Source: Microsoft, "How to: Determine which .NET Framework versions are installed".
RELEASES = (
    (378389, "4.5"),
    (378675, "4.5.1"),
    (379893, "4.5.2"),
    (393295, "4.6"),
    (394254, "4.6.1"),
    (394802, "4.6.2"),
    (460798, "4.7"),
    (461308, "4.7.1"),
    (461808, "4.7.2"),
    (528040, "4.8"),
    (533320, "4.8.1"),
)


def log_path(raw: Any) -> str:
    """Return the path of the agent's log, on whatever drive the system is."""
    paths = raw.file_paths("", "\\WindowsAzure\\Logs\\WaAppAgent.log")
    return paths[0] if paths else LOG


def processes(raw: Any) -> dict[str, Any] | None:
    """Return {"daemon": [...], "handler": [...]}: RdAgent's process and the guest agent's, None when they were not listed."""
    rows = raw.rows("processes")
    found: dict[str, Any] = {"daemon": [], "handler": []}
    for row in rows or []:
        role = ROLES.get((as_text(row.get("name")) or "").lower())
        if role:
            started = epoch(as_text(row.get("started")))
            found[role].append(
                {
                    "pid": as_int(row.get("pid")),
                    "age_s": age(started, raw.now),
                    "started_at": iso(started),
                    "version": None,
                    "command": public_line(as_text(row.get("name")), 80),
                }
            )
    return found if rows is not None else None


def heartbeat(raw: Any, lines: list[str]) -> dict[str, Any] | None:
    """Return the newest heartbeat: the agent's value in the registry or a line of its log; None without either."""
    found = logs.heartbeat(lines, raw.now)
    at = registry.when(raw.value(AGENT, "HeartbeatLastStatusUpdateTime"))
    if at is not None and (found is None or at > (epoch(found["at"]) or 0)):
        found = {"at": iso(at), "age_s": age(at, raw.now), "version": None}
    return found


def values(raw: Any, key: str) -> dict[str, Any] | None:
    """Return the values of a key as facts: {name: {value, type}}, None when it is not there."""
    found = raw.key(key)
    if found is None:
        return None
    result = {}
    for name, kind, data in list(found.values())[:100]:
        number = isinstance(data, int) and not isinstance(data, bool)
        shown = data if number else MASK if secret_name(name) else public_line(str(data), 300)
        result[public_line(name, 80)] = {"value": shown, "type": kind}
    return result


def update_state(raw: Any) -> list[Any]:
    """Return what the agent keeps about its updates: version, code, message, state; newest version first."""
    found = []
    for key in raw.keys_below(UPDATES):
        entry = {"version": public_line(key.rpartition("\\")[2], 60)}
        for name in ("Code", "Message", "State"):
            value = raw.value(key, name)
            entry[name.lower()] = as_int(value) if name == "Code" else public_line(None if value is None else str(value), 300)
        found.append(entry)
    return sorted(found, key=lambda entry: version_key(entry["version"]), reverse=True)


def dotnet(raw: Any) -> dict[str, Any]:
    """Return what is installed of .NET Framework 4, and the settings of both registry views that backup depends on."""
    release = raw.value(NDP, "Release", int)
    strong = []
    for root, bits in FRAMEWORKS:
        for key in raw.keys_below(root):
            strong.append({"key": key, "view": bits, "value": as_int(raw.value(key, "SchUseStrongCrypto"))})
    return {
        "release": release,
        "version": next((name for lowest, name in reversed(RELEASES) if release is not None and release >= lowest), None),
        "enable_64bit": as_int(raw.value(FRAMEWORKS[0][0], "Enable64Bit")),
        "strong_crypto": strong,
    }


def package(raw: Any) -> dict[str, Any] | None:
    """Return the MSI entry of the agent, None where the platform brought it."""
    for row in raw.rows("programs") or []:
        name = as_text(row.get("name")) or ""
        found = re.match(r"(?i)^Windows Azure VM Agent(?:\s*-\s*(\S+))?", name)
        if found:
            version = found.group(1) or as_text(row.get("version"))
            return {
                "manager": "msi",
                "name": public_line(name, 120),
                "installed": True,
                "version": public_line(version, 60),
                "product_code": public_line(as_text(row.get("key")), 60),
            }
    return None


def service_state(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next((row for row in rows if row["name"] == name), {})


def collect(raw: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the facts of the agent.

    :param rows: facts of the services.
    """
    path = log_path(raw)
    lines, size = raw.lines(path)
    programs = {name: services.path_of(raw, name) for name in ("RdAgent", "WindowsAzureGuestAgent")}
    there = {name: program for name, program in programs.items() if service_state(rows, name).get("image_exists")}
    version, source = raw.version(programs["WindowsAzureGuestAgent"]), "program"
    if version is None:
        version, source = public_line(raw.value(GUEST, "GuestAgentVersion", str), 60), "registry"
    installed = package(raw)
    exists = [service_state(rows, name).get("exists") for name in programs]
    return {
        "service": None,
        "services": rows,
        "binary": there.get("WindowsAzureGuestAgent") or there.get("RdAgent"),
        "package": installed,
        "installed_by": "msi" if installed else "platform" if any(exists) and raw.rows("programs") is not None else None,
        "version": {
            "daemon": raw.version(programs["RdAgent"]) or raw.version("C:\\WindowsAzure\\Packages\\WaAppAgent.exe"),
            "goal_state": version,
            "goal_state_source": source if version else None,
        },
        "processes": processes(raw),
        "heartbeat": heartbeat(raw, lines),
        "config": None,
        "markers": None,
        "auto_update": None,
        "lib_dir": None,
        "python": None,
        "openssl": None,
        "registry": {"guest": values(raw, GUEST), "agent": values(raw, AGENT)},
        "update_state": update_state(raw) if raw.looked(UPDATES) else None,
        "dotnet": dotnet(raw),
        "log": {
            "path": path,
            "size_bytes": size,
            "starts_last_hour": None,
            "verdicts": None if size is None else logs.verdicts(lines, logs.AGENT_PHRASES),
        },
    }
