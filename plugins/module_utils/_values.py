# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Times, numbers, texts and versions as guests give them. Used everywhere; imports nothing of the collection."""

import json
from datetime import datetime, timedelta, timezone


def iso(epoch):
    """Return seconds since the epoch as ISO 8601 in UTC, None for None or for a time that no calendar holds."""
    if epoch is None:
        return None
    try:
        return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=int(epoch))).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return None


def epoch(text):
    """Return the seconds since the epoch of a time as agent and extension write it, or None.

    Taken: ``2026-01-31T02:03:04.123456Z``, ``2026-01-31 02:03:04.12``, ``2017/06/22 05:52:33.690610`` (all UTC).
    """
    text = (text or "").strip().replace("/", "-").replace("T", " ").rstrip("Z")
    head = text[:19]
    try:
        parsed = datetime.strptime(head, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    return (parsed - datetime(1970, 1, 1)).total_seconds()


def age(then, now):
    """Return whole seconds from then to now, None when then is not known."""
    return None if then is None else int(now - then)


def parse_json(raw):
    """Return the value of JSON as it is found on guests: bytes or text, with BOM, NUL padding or cut short. None when it is no JSON."""
    if isinstance(raw, bytes):
        raw = raw.decode("utf-8", "replace")
    if raw is None:
        return None
    try:
        return json.loads(raw.lstrip("\ufeff").replace("\x00", "").strip())
    except (ValueError, RecursionError):
        return None


def as_dict(value):
    """Return value if it is a dictionary, else an empty one: JSON of guests holds null where an object is expected."""
    return value if isinstance(value, dict) else {}


def as_list(value):
    """Return value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_int(value):
    """Return an int for an int or for text that spells one, else None. Codes come as numbers and as strings."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return int(value) if abs(value) < 1e15 else None  # not for NaN either
    try:
        return int(str(value).strip())
    except ValueError:
        return None


def as_text(value):
    """Return value if it is text, else None."""
    return value if isinstance(value, str) else None


def version_key(text):
    """Return a sort key for dotted versions that compares numbers as numbers: 1.0.9100 is above 1.0.999."""
    key = []
    for part in (text or "")[:256].replace("-", ".").replace("~", ".").split("."):
        digits = "".join(c for c in part if c in "0123456789")[:18]
        key.append(int(digits) if digits else -1)
    return tuple(key)


def wildcard(pattern, text):
    """Say whether a pattern whose asterisks stand for any text matches a whole text; linear, whatever the number of asterisks."""
    at = place = 0
    star, resumed = -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resumed, at = at, place, at + 1
        elif at < len(pattern) and pattern[at] == text[place]:
            at, place = at + 1, place + 1
        elif star >= 0:
            resumed += 1
            at, place = star + 1, resumed
        else:
            return False
    return not pattern[at:].strip("*")
