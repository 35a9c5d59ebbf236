# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which Windows this is, and how the collector ran on it."""

from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_text
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int

VERSION = "HKLM\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion"
CODE_PAGE = "HKLM\\SYSTEM\\CurrentControlSet\\Control\\Nls\\CodePage"
_CURRENT = "HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\"
REBOOT = (_CURRENT + "Component Based Servicing\\RebootPending", _CURRENT + "WindowsUpdate\\Auto Update\\RebootRequired")


def _flag(value: bool | None) -> bool | None:
    return value if isinstance(value, bool) else None


def pending_reboot(raw: Any) -> bool | None:
    """Return whether servicing or Windows Update wait for a restart, None when neither key could be read."""
    looked = [key for key in REBOOT if raw.looked(key)]
    return any(raw.key(key) is not None for key in looked) if looked else None


def code_page(raw: Any) -> int | None:
    """Return the OEM code page that console programs write in, None when it is not known."""
    return as_int(raw.value(CODE_PAGE, "OEMCP", str)) or as_int(raw.part("system").get("oem_code_page"))


def collect(raw: Any) -> dict[str, Any]:
    part = raw.part("system")
    build = as_text(raw.value(VERSION, "CurrentBuild")) or ((as_text(part.get("os_version")) or "").split(".") + [""] * 3)[2]
    revision = raw.value(VERSION, "UBR", int)
    uptime = as_int(part.get("uptime_ms"))
    name = public_line(raw.value(VERSION, "ProductName", str), 120)
    return {
        "kind": "windows",
        "distribution": {
            "id": "windows",
            "version_id": public_line("{0}.{1}".format(build, revision) if revision is not None and build else build, 40) or None,
            "id_like": [],
            "pretty_name": name,
            "family": "windows",
        },
        "kernel": public_line(as_text(part.get("os_version")), 40),
        "architecture": public_line(as_text(part.get("architecture")), 20),
        "init": None,
        "hostname": public_line(as_text(part.get("hostname")), 80),
        "python_version": None,
        "powershell": {
            "version": public_line(as_text(part.get("powershell")), 40),
            "language_mode": public_line(as_text(part.get("language_mode")), 40),
            "is_64bit": _flag(part.get("is_64bit")),
        },
        "privileged": _flag(part.get("privileged")),
        "uptime_s": None if uptime is None else uptime // 1000,
        "utc_offset_s": as_int(part.get("utc_offset_s")),
        "fips": None,
        "image_based": False,
        "pending_reboot": pending_reboot(raw),
    }
