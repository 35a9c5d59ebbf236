# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Maintenance windows: when a guest or its VM may be changed. What cannot be told is outside."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any, Mapping

from zoneinfo import ZoneInfo

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
OPTIONS = ("not_before", "not_after", "weekdays", "time_zone")
GUEST = "guest"
DAY = 24 * 60


class Unclear(ValueError):
    """A window that cannot be read: it is closed, and this says why."""


def _minutes(text: Any, name: str) -> int | None:
    if text in (None, ""):
        return None
    # YAML 1.1 reads 22:00 as a number to the base of 60.
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text <= DAY:
        return text
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)|24:00", str(text).strip())
    if not found:
        raise Unclear("{0} is no time of day such as 22:00: {1!r}".format(name, str(text)[:40]))
    return DAY if found.group(1) is None else int(found.group(1)) * 60 + int(found.group(2))


def _weekdays(given: Any) -> set[int]:
    words = given.replace(",", " ").split() if isinstance(given, str) else list(given or [])
    numbers = set()
    for word in words:
        text = str(word).strip().lower()
        number = next((number for number, day in enumerate(DAYS) if len(text) >= 3 and day.startswith(text)), None)
        if number is None:
            raise Unclear("vmbackup_weekdays: there is no day called {0!r}".format(str(word)[:40]))
        numbers.add(number)
    return numbers or set(range(7))


def _local(now: datetime, zone: Any, utc_offset_s: Any) -> datetime:
    name = str(zone or "UTC")
    if name == GUEST:
        if isinstance(utc_offset_s, bool) or not isinstance(utc_offset_s, int) or abs(utc_offset_s) > DAY * 60:
            raise Unclear("the guest's time zone is not known")
        return now.astimezone(timezone.utc) + timedelta(seconds=utc_offset_s)
    if name.upper() == "UTC":
        return now.astimezone(timezone.utc)
    try:
        return now.astimezone(ZoneInfo(name))
    except Exception:  # what zoneinfo raises depends on the name and on the system's tables
        raise Unclear("there is no time zone called {0!r} on the controller".format(name[:60])) from None


def closed(window: Mapping[str, Any], now: datetime, utc_offset_s: Any = None) -> str:
    """Return why nothing may be changed now, an empty text when it may.

    :param window: ``not_before`` and ``not_after`` (HH:MM; the window crosses midnight when the first is the later one), ``weekdays`` (days on
        which a window begins), ``time_zone`` (``guest``, or a name of the tz database; UTC without one). All empty: always open.
    :param now: the present time, with its zone.
    :param utc_offset_s: how far the guest's local time is ahead of UTC.
    """
    if all(window.get(name) in (None, "", []) for name in ("not_before", "not_after", "weekdays")):
        return ""
    try:
        begin, end = _minutes(window.get("not_before"), "vmbackup_not_before"), _minutes(window.get("not_after"), "vmbackup_not_after")
        days = _weekdays(window.get("weekdays"))
        local = _local(now, window.get("time_zone"), utc_offset_s)
    except Unclear as error:
        return "outside of the maintenance window, since {0}".format(error)
    begin, end = 0 if begin is None else begin, DAY if end is None else end
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if begin < end:
        inside = begin <= minute < end
    else:
        inside = minute >= begin or minute < end
        if minute < end:
            day = (day - 1) % 7  # the window began yesterday
    if inside and day in days:
        return ""
    shown = "from {0:02d}:{1:02d} to {2:02d}:{3:02d}".format(*divmod(begin, 60), *divmod(end, 60))
    names = "" if len(days) == 7 else " on " + ", ".join(DAYS[number].capitalize() for number in sorted(days))
    zone = "the guest's time" if window.get("time_zone") == GUEST else str(window.get("time_zone") or "UTC")
    return "outside of the maintenance window ({0}{1}, {2}; it is {3:%A %H:%M})".format(shown, names, zone, local)
