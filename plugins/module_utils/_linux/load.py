# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How busy the guest is: processors, memory, pressure, time."""

import os
import re

PRESSURE = ("cpu", "memory", "io")
TIME_UNITS = [name + ".service" for name in ("chrony", "chronyd", "systemd-timesyncd", "ntpsec", "ntp", "ntpd", "openntpd")]


def parse_cpu(text):
    """Return the counters of the first line of /proc/stat (ticks), None without them."""
    found = re.match(r"^cpu +((?:\d+ ?)+)", text or "")
    return [int(word) for word in found.group(1).split()] if found else None


def cpu_between(before, after):
    """Return (busy percent, steal percent) between two readings, (None, None) when no tick went by.

    Idle is idle plus waiting for I/O: fields 4 and 5 of proc(5); steal is field 8.
    """
    if not before or not after or min(len(before), len(after)) < 5:
        return None, None
    deltas = [max(0, b - a) for a, b in zip(before, after)][:8]
    total = sum(deltas)
    if not total:
        return None, None
    steal = 100.0 * deltas[7] / total if len(deltas) > 7 else None
    return round(100.0 * (total - deltas[3] - deltas[4]) / total, 1), None if steal is None else round(steal, 1)


def parse_meminfo(text):
    """Return total, available, swap total, swap free in bytes; None for what is not there."""
    values = {name: int(size) * 1024 for name, size in re.findall(r"(?m)^(\w+):\s+(\d{1,15}) kB", text or "")}
    available = values.get("MemAvailable")
    if available is None and "MemFree" in values:  # before kernel 3.14
        available = values["MemFree"] + values.get("Buffers", 0) + values.get("Cached", 0)
    return values.get("MemTotal"), available, values.get("SwapTotal"), values.get("SwapFree")


def parse_pressure(text):
    """Return some_avg10, some_avg60, full_avg10 in percent of a file below /proc/pressure, None when it says nothing."""
    found = {
        "{0}_{1}".format(kind, span): float(value)
        for kind, line in re.findall(r"(?m)^(some|full) (.*)$", text or "")
        for span, value in re.findall(r"(avg10|avg60)=(\d+(?:\.\d+)?)", line)
    }
    if not found:
        return None
    return {key: found.get(key) for key in ("some_avg10", "some_avg60", "full_avg10")}


def cpu_reading(host):
    return parse_cpu(host.read("load", "/proc/stat"))


def cpu(host, before, window_ms):
    busy, steal = cpu_between(before, cpu_reading(host))
    words = (host.read("load", "/proc/loadavg") or "").split()
    try:
        load_1m = float(words[0])
    except (IndexError, ValueError):
        load_1m = None
    return {"busy_percent": busy, "steal_percent": steal, "window_ms": window_ms, "count": os.cpu_count(), "load_1m": load_1m}


def memory(host):
    total, available, swap_total, swap_free = parse_meminfo(host.read("load", "/proc/meminfo"))
    return {
        "total_bytes": total,
        "available_bytes": available,
        "used_percent": None if not total or available is None else round(100.0 * (total - available) / total, 1),
        "swap_total_bytes": swap_total,
        "swap_used_bytes": None if swap_total is None or swap_free is None else swap_total - swap_free,
    }


def pressure(host):
    if not host.exists("load", "/proc/pressure"):
        return None
    return {name: parse_pressure(host.read("load", "/proc/pressure/" + name)) for name in PRESSURE}


def parse_units(text):
    """Return what ``systemctl show`` says of several units: a list of {property: value}."""
    found = [dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in (text or "").strip().split("\n\n")]
    return [unit for unit in found if unit.get("LoadState") in ("loaded", "masked")]


def time_unit(host, timeout_s):
    """Return the unit that is to keep the time: one that runs, or else one that systemd would start, or else any that is installed."""
    if not host.exists("load", "/run/systemd/system"):
        return {}
    units = parse_units(
        host.run("load", ["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState"] + TIME_UNITS, timeout_s * 3)
    )
    units.sort(key=lambda unit: (unit.get("ActiveState") != "active", unit.get("UnitFileState") != "enabled"))
    return units[0] if units else {}


def time_source(host, processes, timeout_s):
    """Return which program keeps the time, whether it says that it does, and which unit is to do so."""
    names = {os.path.basename(process["command"][0].split(" ")[0]).rstrip(":") for process in processes}
    source = next((name for name in ("chronyd", "ntpd", "systemd-timesyncd", "ptp4l", "phc2sys", "openntpd") if name in names), None)
    told = host.exists("load", "/run/systemd/timesync/synchronized")
    unit = time_unit(host, timeout_s)
    return {
        "source": source,
        "synchronised": True if told and source == "systemd-timesyncd" else None,
        "offset_s": None,
        "unit": unit.get("Id"),
        "unit_state": unit.get("ActiveState") or None,
        "unit_file_state": unit.get("UnitFileState") or None,
    }
