# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How busy the guest is: processors, memory, drives, time."""

from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_list, as_text
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import services
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import as_int

W32TIME = services.ROOT + "\\W32Time\\Parameters"


def _numbers(values: Any, count: int) -> list[int] | None:
    found = [as_int(value) for value in as_list(values)]
    known = [value for value in found[:count] if value is not None]
    return known if len(known) == count else None


def cpu_between(before: list[int] | None, after: list[int] | None) -> tuple[Any, ...]:
    """Return (busy percent, busy percent without this collection) between two readings of idle, kernel, user and own time.

    GetSystemTimes: the kernel's time holds the idle time.
    """
    before, after = _numbers(before, 4), _numbers(after, 4)
    if before is None or after is None:
        return None, None
    idle, kernel, user, own = (max(0, b - a) for a, b in zip(before[:4], after[:4]))
    total = kernel + user
    if not total or idle > total:
        return None, None
    busy = 100.0 * (total - idle) / total
    others = total - min(own, total - idle)
    return round(busy, 1), round(100.0 * (others - idle) / others, 1) if others else None


def cpu(raw: Any) -> dict[str, Any]:
    part = raw.part("cpu")
    busy, others = cpu_between(part.get("before"), part.get("after"))
    return {
        "busy_percent": busy,
        "others_busy_percent": others,
        "steal_percent": None,
        "window_ms": as_int(part.get("window_ms")),
        "count": as_int(raw.part("system").get("processors")),
        "load_1m": None,
    }


def memory(raw: Any) -> dict[str, Any]:
    found = _numbers(raw.document.get("memory"), 4)
    if not found:
        return dict.fromkeys(("total_bytes", "available_bytes", "used_percent", "swap_total_bytes", "swap_used_bytes"))
    total, available, page_total, page_free = found
    # The system's limit of commitment holds the memory itself.
    swap = max(0, page_total - total)
    return {
        "total_bytes": total,
        "available_bytes": available,
        "used_percent": round(100.0 * (total - available) / total, 1) if total else None,
        "swap_total_bytes": swap,
        "swap_used_bytes": max(0, min(swap, swap - (page_free - available))),
    }


def filesystems(raw: Any) -> list[dict[str, Any]] | None:
    """Return the facts of the fixed drives, None when they were not listed."""
    rows = raw.rows("drives")
    if rows is None:
        return None
    found = []
    for row in rows[:100]:
        size, free = as_int(row.get("size")), as_int(row.get("free"))
        kind = public_line(as_text(row.get("format")), 20)
        found.append(
            {
                "mount_point": public_line(as_text(row.get("name")), 60),
                "device": None,
                "fs_type": kind,
                # Azure's temporary disk is no part of a backup.
                "freezes": None if kind is None else kind.upper() in ("NTFS", "REFS") and row.get("temporary") is not True,
                "read_only": None,
                "size_bytes": size,
                "free_bytes": free,
                "used_percent": round(100.0 * (size - free) / size, 1) if size and free is not None else None,
                "inodes_used_percent": None,
                "responds": None,
                "directory": True,
                "duplicate": False,
                "error": public_line(as_text(row.get("error")), 160),
            }
        )
    return found


def time_source(raw: Any, offset_s: int | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return which service keeps the time."""
    running = any(row["name"] == "W32Time" and row["state"] == "running" for row in rows or [])
    kind = public_line(raw.value(W32TIME, "Type", str), 20)
    return {
        "source": "W32Time ({0})".format(kind) if running and kind else "W32Time" if running else None,
        "synchronised": None,
        "offset_s": offset_s,
    }


def collect(raw: Any, offset_s: int | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cpu": cpu(raw),
        "memory": memory(raw),
        "pressure": None,
        "filesystems": filesystems(raw),
        "time": time_source(raw, offset_s, rows),
    }
