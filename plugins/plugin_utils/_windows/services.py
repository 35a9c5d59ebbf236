# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Services from registry and service manager."""

from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict, as_text
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import registry
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int

ROOT = "HKLM\\SYSTEM\\CurrentControlSet\\Services"
# Azure guest's services of the agent, of the extension, of VSS, and what they stand on.
NAMES = (
    "RdAgent",
    "WindowsAzureGuestAgent",
    "WindowsAzureTelemetryService",
    "IaaSVmProvider",
    "VSS",
    "swprv",
    "COMSysApp",
    "EventSystem",
    "MSDTC",
    "SQLWriter",
    "KeyIso",
    "Winmgmt",
    "CryptSvc",
    "msiserver",
    "W32Time",
)


def is_sql(name: str) -> bool:
    return name.upper() == "MSSQLSERVER" or name.upper().startswith("MSSQL$")


def service(raw: Any, name: str) -> dict[str, Any]:
    """Return the facts of one service; exists is None when its key could not be read."""
    key = ROOT + "\\" + name
    entry = dict.fromkeys(("start_type", "state", "pid", "account", "image_path", "image_exists", "failure_actions"))
    entry.update(name=name, exists=None)
    if not raw.looked(key):
        return entry
    values = raw.key(key)
    entry["exists"] = values is not None
    if values is None:
        return entry
    start = registry.START_TYPES.get(raw.value(key, "Start", int))
    if start == "auto" and raw.value(key, "DelayedAutostart", int):
        start = "delayed"
    row = as_dict({k.lower(): v for k, v in raw.part("services").items()}.get(name.lower()))
    pid = as_int(row.get("pid"))
    present = row.get("path_exists")
    entry.update(
        start_type=start,
        state=registry.STATES.get(as_int(row.get("state")) or 0),
        pid=pid or None,
        account=public_line(raw.value(key, "ObjectName", str), 120),
        image_path=public_line(raw.value(key, "ImagePath", str), 300),
        image_exists=present if isinstance(present, bool) else None,
    )
    if "failureactions" in values:
        entry["failure_actions"] = registry.failure_actions(raw.binary(key, "FailureActions"))
    else:
        entry["failure_actions"] = {"restart": False, "reset_s": None, "actions": []}
    return entry


def path_of(raw: Any, name: str) -> Any:
    """Return the full path of a service's program, None without one."""
    return as_text(as_dict({k.lower(): v for k, v in raw.part("services").items()}.get(name.lower())).get("path"))


def collect(raw: Any) -> list[dict[str, Any]]:
    """Return the facts of all services that backup depends on, those that do not exist included, and of every SQL Server instance."""
    start = len(ROOT) + 1
    instances = [path[start:] for path in raw.keys_below(ROOT) if is_sql(path[start:])]
    return [service(raw, name) for name in list(NAMES) + instances]
