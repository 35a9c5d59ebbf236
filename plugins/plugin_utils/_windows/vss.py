# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Volume Shadow Copy: what vssadmin says, read by its structure in any language; settings of the backup extension; SQL Server."""

import re
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int, to_text, unpacked
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.services import is_sql

BCDR = "HKLM\\SOFTWARE\\Microsoft\\BcdrAgent"
PERSISTENT = "HKLM\\SOFTWARE\\Microsoft\\BcdrAgentPersistentKeys"
SQL = "HKLM\\SOFTWARE\\Microsoft\\Microsoft SQL Server"
OPTIONS = (
    (BCDR, "UseVSSCopyBackup"),
    (PERSISTENT, "SnapshotWithoutThreads"),
    (PERSISTENT, "SnapshotMethod"),
    (PERSISTENT, "CalculateSnapshotTimeFromHost"),
)
# VSS_WRITER_STATE of vss.h.
STATES = {
    0: "unknown", 1: "stable", 2: "waiting for freeze", 3: "waiting for thaw", 4: "waiting for post-snapshot", 5: "waiting for backup completion",
    6: "failed at identify", 7: "failed at prepare backup", 8: "failed at prepare snapshot", 9: "failed at freeze", 10: "failed at thaw",
    11: "failed at post-snapshot", 12: "failed at backup complete", 13: "failed at pre-restore", 14: "failed at post-restore",
    15: "failed at backup shutdown",
}  # fmt: skip
# Writer to the service whose restart brings it back; by the writer's id, since names are translated in part. None: only a restart of the system.
SERVICES = {
    "a65faa63-5ea8-4ebc-9dbd-a0c4db26912a": "SQLWriter",
    "e8132975-6f93-4464-a53e-1050253ae220": "CryptSvc",
    "a6ad56c2-b509-4e6c-bb19-49d8f43532f0": "Winmgmt",
    "afbab4a2-367d-4d15-a586-71dbb18f8485": "VSS",
    "542da469-d3e1-473c-9f4f-7847f01fc64f": "VSS",
    "be000cbe-11fe-4426-9c58-531aa6355fc4": "VSS",
    "4dc3bdd4-ab48-4d07-adb0-3bee2926fd7f": "VSS",
    "2a40fd15-dfca-4aa8-a654-1f8c654603f6": "AppHostSvc",
    "59b1f0cf-90ef-465f-9609-6ca8b2938366": "IISADMIN",
    "d61d61c8-d73a-4eee-8cdd-f6f9786b7124": "Schedule",
    "4969d978-be47-48b0-b100-f328f07ac1e0": "BITS",
    "b2014c9e-8711-4c5c-a5a9-3cf384484757": "NTDS",
    "2707761b-2324-473d-88eb-eb007a359533": "DFSR",
    "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de": "vmms",
    "be9ac81e-3619-421f-920f-4c6fea9e93ad": "DHCPServer",
    "76fe1ac4-15f7-4bcd-987e-8e1acb462fb7": "MSExchangeIS",
    "da452614-4858-5e53-a512-38aab25c61ad": "SPWriterV4",
}
# Names in English, for writers whose id differs between versions.
NAMED = (
    ("sqlserverwriter", "SQLWriter"),
    ("system writer", "CryptSvc"),
    ("wmi writer", "Winmgmt"),
    ("iis config writer", "AppHostSvc"),
    ("iis metabase writer", "IISADMIN"),
    ("microsoft exchange writer", "MSExchangeIS"),
    ("dhcp jet writer", "DHCPServer"),
    ("osearch", "OSearch"),
)
# Never restarted unless the operator names them: databases of a directory, virtual machines, mail and SharePoint, whose users notice at once.
BY_HAND = ("ntds", "ntfrs", "dfsr", "vmms", "msexchangeis", "msexchangerepl", "spwriterv4", "osearch")
DOMAIN_CONTROLLER = "b2014c9e-8711-4c5c-a5a9-3cf384484757"  # the writer of Active Directory
WAITING = (2, 3, 4, 5)  # states of a writer while a backup runs, by whatever product
NO_ERROR = "no error"
ERRORS = (
    "timed out",
    "retryable error",
    "non-retryable error",
    "inconsistent shadow copy",
    "out of resources",
    "not responding",
    "unexpected error",
)
_GUID = re.compile(r"\{([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}")
_QUOTED = re.compile(
    r"^\S[^:\uff1a]*[:\uff1a]\s*(?:'(.+)'|\"(.+)\"|\u00ab\s*(.+?)\s*\u00bb|\u201e(.+)[\u201c\u201d]|\u201c(.+)\u201d|\u2018(.+)\u2019)\s*$"
)
_STATE = re.compile(r"\[(\d{1,2})\]\s*(.*)$")
_VALUE = re.compile(r"^[^:\uff1a]*[:\uff1a]\s*(.*)$")
_SIZE = re.compile(r"([0-9][0-9.,\u00a0\u202f' ]{0,40})\s*([A-Za-z\u0370-\u03ff\u0400-\u04ff]{1,8})?\.?\s*\((\d{1,3})\s?%\)")
_UNITS = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def _lines(text: str) -> list[str]:
    # No line of vssadmin has a hundred characters; names and paths in it may have a few more.
    return [line[:400] for line in (text or "").replace("\r", "").replace("\x00", "").split("\n")]


def _after(line: str) -> str | None:
    found = _VALUE.match(line)
    return public_line(found.group(1).strip(), 200) if found and found.group(1).strip() else None


def service_of(name: str, identifier: str) -> str | None:
    """Return the service whose restart brings a writer back, None when there is none or it is not known."""
    known = SERVICES.get((identifier or "").lower())
    if known:
        return known
    low = (name or "").lower()
    return next((service for start, service in NAMED if low.startswith(start)), None)


def _blocks(text: str) -> list[Any]:
    """Return (quoted name, lines that follow) of each block: it starts at a line at the margin that ends in a quoted name."""
    found: list[Any] = []
    for line in _lines(text):
        named = _QUOTED.match(line)
        if named:
            found.append((next(group for group in named.groups() if group), []))
        elif found:
            found[-1][1].append(line)
    return found


def parse_writers(text: str) -> list[dict[str, Any]]:
    """Return the writers of ``vssadmin list writers``: a quoted name, two ids, a line with ``[n]``, a line with the last error."""
    writers = []
    for name, lines in _blocks(text):
        ids, code, state, error = [], None, None, None
        for line in lines:
            if code is None:
                ids += _GUID.findall(line)
                found = _STATE.search(line)
                if found:
                    code, state = int(found.group(1)), found.group(2).strip()
            elif error is None and _after(line):
                error = _after(line)
        if not ids or code is None:
            continue
        writers.append(
            {
                "name": public_line(name, 120),
                "id": ids[0].lower(),
                "instance_id": ids[1].lower() if len(ids) > 1 else None,
                "state_code": code,
                "state": STATES.get(code) or public_line(state, 60),
                "last_error": error,
                "service": service_of(name, ids[0]),
            }
        )
    return judged(writers)


def _no_errors(writers: list[dict[str, Any]]) -> tuple[Any, ...]:
    """Return how the guest's language says that there was no error: what most of the stable writers say."""
    stable = [writer["last_error"] for writer in writers if writer["state_code"] == 1 and writer["last_error"]]
    usual = max(sorted(set(stable)), key=stable.count).lower() if stable else ""
    return (NO_ERROR,) if not usual or usual.startswith(ERRORS) else (NO_ERROR, usual)


def judged(writers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each writer whether it has failed or waits, and whether its service is to be restarted by a person only.

    A writer that waits has been told of a backup and of no error. In a language whose words are not known here it has failed only when its
    last error differs from what stable writers say.
    """
    fine = _no_errors(writers)
    known = len(fine) > 1 or any((writer["last_error"] or "").lower() == NO_ERROR for writer in writers)
    controller = any(writer["id"] == DOMAIN_CONTROLLER for writer in writers)
    for writer in writers:
        code, error = writer["state_code"], (writer["last_error"] or "").lower()
        reported = error.startswith(ERRORS) or (known and error != "" and error not in fine)
        writer["failed"] = code >= 6 or (code in WAITING and reported)
        writer["waiting"] = code in WAITING and not reported
        service = (writer["service"] or "").lower()
        writer["by_hand"] = bool(service) and (controller or service.startswith(BY_HAND))
    return writers


def parse_providers(text: str) -> list[dict[str, Any]]:
    """Return the providers of ``vssadmin list providers``: name, id, version."""
    providers = []
    for name, lines in _blocks(text):
        ids = [guid for line in lines for guid in _GUID.findall(line)]
        versions = [_after(line) for line in lines if re.match(r"^\d+(\.\d+)+$", _after(line) or "")]
        if ids:
            providers.append({"name": public_line(name, 120), "id": ids[0].lower(), "version": versions[0] if versions else None})
    return providers


def parse_size(text: str | None) -> int | None:
    """Return the bytes of a size as vssadmin writes it, ``1,23 GB (4%)`` in any language; None for one without a number (unbounded)."""
    found = _SIZE.search(text or "")
    if not found:
        return None
    digits = re.sub(r"[\s\u00a0\u202f']", "", found.group(1)).rstrip(".,")
    # The last mark is the decimal one unless three digits follow it.
    whole, mark, rest = digits.rpartition("," if digits.rfind(",") > digits.rfind(".") else ".")
    if mark and len(rest) == 3 and whole:
        digits = re.sub(r"[.,]", "", digits)
    elif mark:
        digits = re.sub(r"[.,]", "", whole) + "." + rest
    try:
        value = float(digits)
    except ValueError:
        return None
    unit = (found.group(2) or "").lower()
    power = _UNITS.get(unit[:1], 0) if len(unit) > 1 and unit not in ("bytes", "octets", "byte") else 0
    total = value * (1 << power)
    return int(total) if total < 10**17 else None


def parse_shadow_storage(text: str) -> list[dict[str, Any]]:
    """Return the shadow storage of ``vssadmin list shadowstorage``: two lines with volumes, then used, allocated and maximum size."""
    found: list[dict[str, Any]] = []
    sizes = 0
    for line in _lines(text):
        volume = re.search(r"(?:\(([A-Za-z]:)\))?\\\\\?\\Volume(\{[0-9A-Fa-f-]{36}\})", line)
        if volume:
            if not found or sizes:
                found.append({"volume": None, "storage_volume": None, "used_bytes": None, "allocated_bytes": None, "maximum_bytes": None})
                sizes = 0
            name = (volume.group(1) + "\\").upper() if volume.group(1) else volume.group(2).lower()
            found[-1]["storage_volume" if found[-1]["volume"] else "volume"] = name
        elif found and sizes < 3 and re.search(r"\(\d{1,3}\s?%\)", line):
            found[-1][("used_bytes", "allocated_bytes", "maximum_bytes")[sizes]] = parse_size(_after(line) or "")
            sizes += 1
    return found


def command(raw: Any, name: str, code_page: int | None) -> str | None:
    """Return the text of a program's output, None when it was not run or gave none."""
    row = as_dict(raw.part("commands").get(name))
    if not row:
        return None
    text = to_text(unpacked(row.get("data")), code_page)
    if as_int(row.get("rc")) not in (0, None) and not text.strip():
        raw.error("vss", name, "exit code {0}".format(as_int(row.get("rc"))))
        return None
    return text


def option(raw: Any, key: str, name: str) -> dict[str, Any] | None:
    """Return key, value and type of a setting, None when it is not set."""
    found = (raw.key(key) or {}).get(name.lower())
    if found is None:
        return None
    return {"key": key, "value": public_line(str(found[2]), 120), "type": found[1]}


def sql_server(raw: Any, services: list[dict[str, Any]]) -> dict[str, Any]:
    """Return whether SQL Server is on the guest, and its instances, by its services."""
    instances = [s["name"] for s in services or [] if is_sql(s["name"]) and s["exists"]]
    listed = raw.value(SQL, "InstalledInstances")
    for name in listed if isinstance(listed, list) else []:
        service = "MSSQLSERVER" if str(name).upper() == "MSSQLSERVER" else "MSSQL${0}".format(name)
        if service.upper() not in [one.upper() for one in instances]:
            instances.append(public_line(service, 80))
    return {"present": bool(instances), "instances": instances}


def collect(raw: Any, services: list[dict[str, Any]], code_page: int | None) -> dict[str, Any]:
    """Return the facts of VSS."""
    looked = bool(raw.document.get("vss_looked"))
    texts = {what: command(raw, "vssadmin list " + what, code_page) for what in ("writers", "providers", "shadowstorage")}
    writers = None if texts["writers"] is None else parse_writers(texts["writers"])
    if looked and writers == []:
        raw.error("vss", "vssadmin list writers", "no writer in its answer: {0}".format(public_line(texts["writers"], 160) or "nothing"))
        writers = None
    return {
        "bcdr": {name: option(raw, key, name) for key, name in OPTIONS} if raw.looked(BCDR) or raw.looked(PERSISTENT) else None,
        "writers": writers,
        "writers_looked": looked and writers is not None,
        "providers": None if texts["providers"] is None else parse_providers(texts["providers"]),
        "shadow_storage": None if texts["shadowstorage"] is None else parse_shadow_storage(texts["shadowstorage"]),
        "sql_server": sql_server(raw, services),
    }
