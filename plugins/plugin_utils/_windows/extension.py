# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The extensions' state, and what the last snapshot came to."""

import re
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.extension import (
    HISTORY,
    blank_snapshot,
    handler_directories,
    numbered,
    parse_aggregate,
    parse_status,
)
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import RUNNING, name_of
from ansible_collections.vmbackup.azure.plugins.module_utils._values import (
    age,
    as_dict,
    as_list,
    as_text,
    epoch,
    iso,
    parse_json,
    version_key,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import acl, logs
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int, to_text

SNAPSHOT = "Microsoft.Azure.RecoveryServices.VMSnapshot"
STATES = "HKLM\\SOFTWARE\\Microsoft\\Windows Azure\\HandlerState"
VC_RUNTIMES = ("HKLM\\SOFTWARE\\Microsoft\\VisualStudio", "HKLM\\SOFTWARE\\WOW6432Node\\Microsoft\\VisualStudio")
_PLUGINS = re.compile(r"^([A-Za-z]:\\Packages\\Plugins)\\\*$", re.I)
_STATUS = re.compile(r"^(\d+)\.status$")
STATUSES = {"ready": "Ready", "notready": "NotReady", "installing": "Installing", "unresponsive": "Unresponsive"}


def document(raw: Any, path: str) -> Any:
    """Return the JSON of a file, with a mark, NUL bytes or in UTF-16 as it may be; None for what is none."""
    data, _size, _modified = raw.file(path)
    return None if data is None else parse_json(to_text(data))


def status_of(value: Any) -> Any:
    """Return a handler's status in the spelling that the rules know."""
    text = public_line(as_text(value), 40)
    return STATUSES.get((text or "").lower(), text)


def aggregate(raw: Any) -> Any:
    """Return what the agent last reported for all handlers, None when there is no report."""
    paths = raw.file_paths("", ".json")
    for path in [p for p in paths if "\\aggregatestatus\\" in p.lower()]:
        found = parse_aggregate(document(raw, path), raw.now)
        if found is None:
            raw.error("extension", "parse " + path, "no report of the agent (half written, empty or damaged)")
            continue
        found.update(path=path, agent_status=status_of(found["agent_status"]))
        for handler in found["handlers"]:
            handler["status"] = status_of(handler["status"])
        return found
    return None


def versions_on_disk(raw: Any) -> tuple[Any, ...]:
    """Return (folder of the plug-ins, {name: [versions, highest first]}); (None, None) when there is no such folder or it was not looked at."""
    for path, names in raw.part("folders").items():
        found = _PLUGINS.match(path) if isinstance(path, str) else None
        if found and names is not None:
            root = found.group(1)
            pairs = [(name, raw.folder("{0}\\{1}\\*".format(root, name)) or []) for name in raw.folder(path) or []]
            return root, {
                name: sorted((v for v in versions if re.match(r"^\d+(\.\d+)*$", v)), key=version_key, reverse=True)
                for name, versions in pairs
            }
    return None, None


def plugins_looked(raw: Any) -> bool:
    return any(_PLUGINS.match(path) for path in raw.part("folders") if isinstance(path, str))


def registry_state(raw: Any, name: str, version: str) -> Any:
    """Return the text of a handler's state in the registry, whatever its value is called; None without one."""
    for _key, (value_name, kind, data) in sorted((raw.key("{0}\\{1}_{2}".format(STATES, name, version)) or {}).items()):
        if "state" in value_name.lower() and kind in ("REG_SZ", "REG_EXPAND_SZ") and isinstance(data, str):
            return public_line(data, 40)
    return None


def heartbeat_of(raw: Any, path: str) -> tuple[Any, ...]:
    """Return (status, code, message) of a HeartBeat.Json, all None without one."""
    items = as_list(document(raw, path))
    beat = as_dict(as_dict(items[0] if items else None).get("heartbeat"))
    return (
        status_of(beat.get("status")),
        as_int(beat.get("code")),
        public_line(as_text(as_dict(beat.get("formattedMessage")).get("message"))),
    )


def handlers(raw: Any, root: str, versions: dict[str, Any], report: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the current version of each handler on disk; status, code and message are those that the agent last reported for it."""
    reported = {(h["name"], h["version"]): h for h in (report or {}).get("handlers") or []}
    by_state = handler_directories([key.rpartition("\\")[2].replace("_", "-") for key in raw.keys_below(STATES)])
    found = []
    for name in sorted(versions):
        if not versions[name]:
            continue
        version = versions[name][0]
        known = reported.get((name, version)) or {}
        beat = heartbeat_of(raw, "{0}\\{1}\\{2}\\Status\\HeartBeat.Json".format(root, name, version)) if not known else (None, None, None)
        state = registry_state(raw, name, version)
        found.append(
            {
                "name": public_line(name, 120),
                "version": public_line(version, 40),
                "state": state or ("Enabled" if version in by_state.get(name, []) else None),
                "status": known.get("status") or beat[0],
                "code": known.get("code") if known else beat[1],
                "message": known.get("message") or beat[2],
            }
        )
    return found


def snapshot_processes(raw: Any) -> list[Any]:
    """Return the processes of a snapshot that is being taken."""
    return [
        {"pid": as_int(row.get("pid")), "command": "IaaSBcdrExtension.exe"}
        for row in raw.rows("processes") or []
        if (as_text(row.get("name")) or "").lower() == "iaasbcdrextension"
    ]


def snapshot(raw: Any, root: str | None, current: dict[str, Any] | None) -> dict[str, Any]:
    """Return the facts of VMSnapshot; current is its handler's entry or None."""
    result = dict(blank_snapshot(current, snapshot_processes(raw)), stuck=None)
    # The guest itself says it, by what its writers look at too.
    work = raw.part("snapshot")
    at_work = work.get("in_progress") if isinstance(work.get("in_progress"), bool) else None
    result["in_progress"] = result["in_progress"] or at_work is True
    result["busy"] = result["in_progress"] or work.get("busy") is True
    if not current:
        return result
    folder = "{0}\\{1}\\{2}\\Status".format(root, SNAPSHOT, current["version"])
    sequences = numbered(raw.folder(folder + "\\*.status"), _STATUS)
    for place, sequence in enumerate(sequences[:HISTORY]):
        path = "{0}\\{1}.status".format(folder, sequence)
        if place == 0:
            result["sequence"] = sequence
        data, _size, modified = raw.file(path)
        if data is None:
            continue
        status = parse_status(document(raw, path))
        if status is None:
            raw.error("extension", "parse " + path, "no status document (half written, empty or damaged)")
            continue
        at = status["at"] or modified
        if place:
            result["history"].append({"sequence": sequence, "code": status["code"], "at": iso(at)})
            continue
        result.update(status)
        result.update(
            at=iso(at), age_s=age(at, raw.now), started_at=iso(status["started_at"]), code_name=name_of(status["code"], "windows")
        )
        result["stuck"] = False if status["code"] != RUNNING else None if at is None or at_work is None else not result["in_progress"]
    return result


def certificate(raw: Any) -> dict[str, Any]:
    """Return whether the agent's certificate for protected settings is in the store, and what is wrong with it."""
    rows = raw.rows("certificates")
    result: dict[str, Any] = {"looked": rows is not None, "found": None, "valid_until": None, "problem": None}
    if rows is None:
        return result
    result["found"] = bool(rows)
    newest = max(rows, key=lambda row: epoch(as_text(row.get("not_after"))) or 0) if rows else {}
    until, since = epoch(as_text(newest.get("not_after"))), epoch(as_text(newest.get("not_before")))
    result["valid_until"] = iso(until)
    if until is not None and until < raw.now:
        result["problem"] = "it expired at {0}".format(iso(until))
    elif since is not None and since > raw.now:
        result["problem"] = "it is valid from {0} on only".format(iso(since))
    elif newest.get("has_private_key") is False:
        result["problem"] = "its private key is missing"
    return result


def vc_redist(raw: Any) -> list[dict[str, Any]] | None:
    """Return the Visual C++ redistributables that are installed: name and version; None when they were not looked for."""
    rows = raw.rows("programs")
    if rows is None:
        return None
    found = []
    for row in rows:
        name = as_text(row.get("name")) or ""
        if name.startswith("Microsoft Visual C++"):
            found.append({"name": public_line(name, 120), "version": public_line(as_text(row.get("version")), 40)})
    for root in VC_RUNTIMES:
        for version in ("12.0", "14.0"):
            key = "{0}\\{1}\\VC\\Runtimes\\x64".format(root, version)
            if as_int(raw.value(key, "Installed")):
                text = public_line(as_text(raw.value(key, "Version")) or version, 40)
                found.append({"name": "Visual C++ runtime {0} x64".format(version), "version": text.lstrip("v")})
    return found


def log(raw: Any) -> dict[str, Any]:
    """Return the verdicts of the newest version's logs together."""
    paths = [p for p in raw.file_paths("", ".log") if "\\logs\\plugins\\" in p.lower()]
    found, total = [], None
    for path in paths:
        lines, size = raw.lines(path)
        if size is not None:
            total = (total or 0) + size
            found += logs.verdicts(lines, logs.EXTENSION_PHRASES)
    folder = paths[0].rpartition("\\")[0] if paths else "C:\\WindowsAzure\\Logs\\Plugins\\" + SNAPSHOT
    return {"path": folder, "size_bytes": total, "verdicts": found if paths else None}


def collect(raw: Any) -> dict[str, Any]:
    """Return the facts of the extensions."""
    root, versions = versions_on_disk(raw)
    report = aggregate(raw)
    entries = handlers(raw, root, versions, report) if versions is not None else ([] if plugins_looked(raw) else None)
    current = next((entry for entry in entries or [] if entry["name"] == SNAPSHOT), None)
    facts = snapshot(raw, root, current)
    if entries is None:
        facts["installed"] = None
    keys = [path for path in raw.part("acls") if isinstance(path, str) and path.lower().endswith("\\machinekeys")]
    return {
        "handlers": entries,
        "snapshot": facts,
        "aggregate": report,
        "vmbackup_conf": None,
        "script_hooks": None,
        "machine_keys": acl.machine_keys(keys[0], raw.acl(keys[0])) if keys else None,
        "certificate": certificate(raw),
        "vc_redist": vc_redist(raw),
        "log": log(raw),
    }
