# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the rules share. A rule is a function of facts and limits that returns evidence (text or texts), or None."""


class Evidence(list):
    """Evidence that also sets the severity, where the same symptom weighs differently."""

    def __init__(self, texts, severity=None):
        super(Evidence, self).__init__([texts] if isinstance(texts, str) else texts)
        self.severity = severity


def get(facts, path):
    """Return the value at a dotted path, None where any part is missing or null."""
    value = facts
    for key in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def items(facts, path):
    """Return the list at a dotted path, an empty one where there is none."""
    value = get(facts, path)
    return value if isinstance(value, list) else []


def is_windows(facts):
    return get(facts, "system.kind") == "windows"


def windows_service(facts, name):
    """Return the facts of one Windows service, an empty dictionary where there are none."""
    return next((row for row in items(facts, "agent.services") if row.get("name") == name), {})


def filled(text, values):
    """Return a text with values at its names; one that is missing or null is called unknown."""
    return text.format_map(_Known({name: "unknown" if value is None else value for name, value in values.items()}))


class _Known(dict):
    def __missing__(self, name):
        return "unknown"


def duration(seconds):
    """Return seconds as a person says them."""
    if seconds is None:
        return "an unknown time"
    seconds = int(seconds)
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return "{0} {1}s".format(seconds // size, name)
    return "{0} seconds".format(seconds)


def size(count):
    """Return bytes as a person says them."""
    if count is None:
        return "an unknown number of bytes"
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return "{0:.1f} {1}".format(float(count) / unit, name)
    return "{0} bytes".format(count)


def verdict(facts, path, meaning):
    """Return the newest entry of a log with a meaning, None without one."""
    found = [entry for entry in items(facts, path) if entry.get("meaning") == meaning]
    return max(found, key=lambda entry: entry.get("at") or "") if found else None


def quoted(facts, path, meaning):
    """Return the log's own line for a meaning as a list of none or one piece of evidence."""
    entry = verdict(facts, path + ".verdicts", meaning)
    return ["{0}: {1}".format(get(facts, path + ".path"), entry["line"])] if entry and entry.get("line") else []
