# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When a policy starts its next backup. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.zones import zone

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def next_start(policy: Mapping[str, Any], now: datetime, within: timedelta) -> datetime | None:
    """Return the first start of a policy within a time from now, None where there is none.

    Raises ValueError where the policy does not tell. The times of a policy are those of its own time zone, whatever letter they end with.
    """
    place = zone(policy.get("time_zone"))
    frequency = str(policy.get("frequency") or "").lower()
    if place is None or not policy.get("start_times") or frequency not in ("daily", "weekly", "hourly"):
        raise ValueError("the policy does not tell when it starts")
    days = {str(day).lower() for day in policy.get("days") or []} if frequency == "weekly" else set()
    local = now.astimezone(place)
    found = []
    for text in policy["start_times"]:
        hour, minute = (int(part) for part in str(text).split(":"))
        # An hourly policy is taken to start around the clock: within its window alone would be less, never more.
        hours = range(hour % int(_interval(policy)), 24, int(_interval(policy))) if frequency == "hourly" else (hour,)
        for each in hours:
            for offset in (0, 1):
                moment = (local + timedelta(days=offset)).replace(hour=each, minute=minute, second=0, microsecond=0)
                if days and DAYS[moment.weekday()] not in days:
                    continue
                if now <= moment <= now + within:
                    found.append(moment)
    return min(found) if found else None


def _interval(policy: Mapping[str, Any]) -> float:
    """Return the hours between two starts of an hourly policy; its longest gap, which spans the night, would pass over most of them."""
    value = policy.get("every_h")
    return float(value) if isinstance(value, (int, float)) and value >= 1 else 1.0


def by_history(started: Iterable[datetime], now: datetime, within: timedelta) -> datetime | None:
    """Return a start to be expected within a time, since a backup was started a day before; None where there was none."""
    day = timedelta(days=1)
    found = [moment + day for moment in started if now <= moment + day <= now + within]
    return min(found) if found else None
