# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values of Azure: ids, times, texts."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?$")
_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d\d):(\d\d)(?:\.\d+)?$")
LONGEST_TEXT = 4000


def text(value: Any) -> str | None:
    """Return a text of Azure without what could steer a terminal; None where there is none."""
    if value is None or isinstance(value, (dict, list)):
        return None
    return _CONTROL.sub("", str(value))[:LONGEST_TEXT] or None


def texts(value: Any) -> list[str]:
    return [entry for entry in map(text, value) if entry] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value) else None


def flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def when(value: Any) -> datetime | None:
    """Return a time; the years 1 and 2001 are Azure's way to say never."""
    match = _TIME.match(str(value or ""))
    if not match:
        return None
    year = int(match.group(1))
    if year <= 2001:
        return None
    try:
        month, day, hour, minute, second = (int(part) for part in match.groups()[1:6])
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    zone = match.group(7)
    if zone and zone != "Z":
        moment -= timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[4:]))
    return moment


def iso(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def time(value: Any) -> str | None:
    return iso(when(value))


def span_s(value: Any) -> int | None:
    """Return the seconds of a .NET time span such as 13.23:59:44.15."""
    match = _SPAN.match(str(value or ""))
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def key(id_: Any) -> str:
    """Return an id as a key: one service writes it in another letter case than the next, and vaultId begins with the cloud's address."""
    return re.sub(r"^https?://[^/]+", "", str(id_ or "")).strip().rstrip("/").lower()


def is_resource(id_: Any) -> bool:
    """Say whether a text is the id of a resource: only such a one is asked for, and joined to others."""
    return bool(re.match(r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/[^/]+/[^/]+/[^/]+", key(id_)))


def part(id_: Any, name: str) -> str | None:
    """Return what stands behind a name in an id: part(id, "resourceGroups")."""
    pieces = str(id_ or "").split("/")
    for index, piece in enumerate(pieces[:-1]):
        if piece.lower() == name.lower():
            return pieces[index + 1] or None
    return None


def last(id_: Any) -> str | None:
    return str(id_ or "").rstrip("/").rpartition("/")[2] or None
