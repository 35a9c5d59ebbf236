# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""waagent.conf as the guest agent reads it, as the backup extension reads it, and how to change it for both.

The agent splits the file at line feeds. A line counts unless its first character is ``#`` or it holds no ``=``. The key is what
stands left of the first ``=``, stripped. The value is what stands right of it, cut at the first ``#``, freed from double quotes
and blanks at both ends, then stripped. The value ``None`` means unset. The last line of a key decides.
The backup extension (VMSnapshotLinux) reads the same file with an older reader: the first word of the line, split at ``=``.
A line whose first word holds no ``=`` makes it drop every setting, the proxy included.

Everything here is pure: text in, data or text out. Source of the grammar: azurelinuxagent/common/conf.py and VMBackup/main/WaagentLib.py.
"""

import re

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import LINE_LIMIT, MASK, redact, redact_proxy_host

BOM = "\ufeff"
SWITCH, INTEGER, TEXT = "switch", "int", "str"

# Keys that matter for backup: kind and the default of the agent's code. A default that is a tuple follows another key.
KEYS = {
    "Extensions.Enabled": (SWITCH, True),
    "Extensions.GoalStatePeriod": (INTEGER, 6),
    "Extensions.InitialGoalStatePeriod": (INTEGER, ("Extensions.GoalStatePeriod",)),
    "Extensions.WaitForCloudInit": (SWITCH, False),
    "Extensions.WaitForCloudInitTimeout": (INTEGER, 3600),
    "Provisioning.Agent": (TEXT, "auto"),
    "Logs.Verbose": (SWITCH, False),
    "Logs.Console": (SWITCH, True),
    "Logs.Collect": (SWITCH, True),
    "Logs.CollectPeriod": (INTEGER, 3600),
    "AutoUpdate.Enabled": (SWITCH, True),
    "AutoUpdate.UpdateToLatestVersion": (SWITCH, ("AutoUpdate.Enabled",)),
    "AutoUpdate.GAFamily": (TEXT, "Prod"),
    "Autoupdate.Frequency": (INTEGER, 3600),
    "HttpProxy.Host": (TEXT, None),
    "HttpProxy.Port": (INTEGER, None),
    "OS.EnableFirewall": (SWITCH, False),
    "OS.EnableFirewallPeriod": (INTEGER, 300),
    "Lib.Dir": (TEXT, "/var/lib/waagent"),
    "Extension.LogDir": (TEXT, "/var/log/azure"),
    "Pid.File": (TEXT, "/var/run/waagent.pid"),
    "OS.OpensslPath": (TEXT, "/usr/bin/openssl"),
    "OS.EnableFIPS": (SWITCH, False),
    "OS.AllowHTTP": (SWITCH, False),
    "Protocol.EndpointDiscovery": (TEXT, "dhcp"),
    "Policy.PolicyFilePath": (TEXT, "/etc/waagent_policy.json"),
    "OS.MonitorDhcpClientRestartPeriod": (INTEGER, 30),
    "CGroups.Enabled": (SWITCH, True),
    "EnableOverProvisioning": (SWITCH, True),
    "Debug.EnableFastTrack": (SWITCH, True),
    "Debug.EnableGAVersioning": (SWITCH, True),
    "Debug.EnableExtensionPolicy": (SWITCH, False),
    "Debug.AgentCpuQuota": (INTEGER, 50),
    "Debug.AgentMemoryQuota": (INTEGER, 30 * 1024 * 1024),
    "Debug.CgroupCheckPeriod": (INTEGER, 300),
}
# Words that a text key takes; others are read but mean nothing to the agent.
WORDS = {
    "Provisioning.Agent": ("auto", "waagent", "cloud-init", "disabled"),
    "Protocol.EndpointDiscovery": ("dhcp", "static"),
}
# Spellings that documents and people use for keys that do not exist under that name (folded as in _fold).
_ALIASES = {
    "extensionsenable": "Extensions.Enabled",
    "extensionenable": "Extensions.Enabled",
    "extensionenabled": "Extensions.Enabled",
    "autoupdateenable": "AutoUpdate.Enabled",
    "logverbose": "Logs.Verbose",
    "logsverbosity": "Logs.Verbose",
    "provisioningagents": "Provisioning.Agent",
    "httpproxyhostname": "HttpProxy.Host",
}
_KEY = re.compile(r"[^\s=#\"'\x00-\x1f\x7f]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
MAX_BYTES = 1 << 20  # real files have a few kB
_HOST_KEY = "httpproxy.host"
_WORD = re.compile(r"[^\s#=]")


class ConfError(ValueError):
    """What was asked cannot be done; the text says why and what to do instead."""


def decode(data, path="waagent.conf"):
    """Return the text of a configuration file.

    :param data: bytes of the file; one more than ``MAX_BYTES`` shows that it is too large.
    :raises ConfError: when they are not UTF-8, with which the agent does not start, or more than any configuration holds.
    """
    if len(data) > MAX_BYTES:
        raise ConfError(
            "{0} is larger than {1} kB, which no configuration of the guest agent is, so it is not read. Bring the file back from a backup or "
            "from the package.".format(path, MAX_BYTES >> 10)
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfError(
            "{0} is not UTF-8 text (byte 0x{1:02x} in line {2}); the guest agent cannot read it either. Correct that line by hand, "
            "then run this again.".format(path, data[error.start], line)
        )


def _fold(key):
    return "".join(character for character in key.lower() if character.isalnum())


_FOLDED = {_fold(name): name for name in KEYS}


def _split_lines(text):
    """Return (line, line end) pairs; the line end is LF, CR LF, or nothing at the end of the file."""
    pairs = []
    rows = text.split("\n")
    for row in rows[:-1]:
        pairs.append((row[:-1], "\r\n") if row.endswith("\r") else (row, "\n"))
    if rows[-1]:
        pairs.append((rows[-1], ""))
    return pairs


def _read(line):
    """Return (key, value, is a setting) of a line as the agent reads it."""
    if line.startswith("#") or "=" not in line:
        return None, None, False
    key, _separator, rest = line.partition("=")
    value = rest.split("#")[0].strip('" ').strip()
    return key.strip(), (None if value == "None" else value), True


def _strict(line):
    """Return (key, value) as the backup extension reads a setting, or None where its reader gives up on the whole file."""
    words = line.split()
    parts = words[0].split("=") if words else []
    if len(parts) < 2:
        return None
    value = parts[1].strip('" ')
    return parts[0], (None if value == "None" else value)


def _line(key, value):
    return "{0}={1}".format(key, "None" if value is None else value)


def _canonical(line, key, value):
    """Return the line as both readers take it, or the line itself where nothing is to be done about it."""
    strict = _strict(line)
    if not _KEY.match(key):
        # No key of the agent looks like this: an indented comment, or prose. Only worth touching where it stops the other reader.
        if strict is not None:
            return line
        bare = line.lstrip(BOM + " \t")
        return bare if bare.startswith("#") else "# " + bare
    if strict == (key, value):
        return line
    wanted = _line(key, value)
    if strict is not None and _strict(wanted) != (key, value):
        return line  # not even the plain form would be read alike; leave it
    return wanted + _comment(line)


def _comment(line):
    """Return the comment at the end of a setting, set off by a blank."""
    _setting, separator, rest = line.partition("=")[2].partition("#")
    return " #" + rest.rstrip("\r") if separator else ""


def parse(text):
    """Return every setting of a file in its order.

    :param text: the whole file.
    :returns: list of ``key``, ``value`` (text, or None where the file says ``None``), ``raw`` (the line), ``line`` (from 1) and
        ``loose`` (the agent takes the line, the backup extension does not). A key behind a byte order mark keeps the mark in its name.
    """
    entries = []
    for number, raw in enumerate((text or "").split("\n"), 1):
        key, value, setting = _read(raw)
        if not setting:
            continue
        line = raw[:-1] if raw.endswith("\r") else raw
        entries.append(
            {"key": key, "value": value, "raw": line, "line": number, "loose": _canonical(line, key, value) != line},
        )
    return entries


def _decide(kind, name, value, default):
    """Return (effective value, valid) of one key."""
    if value is None:
        return default, True
    if kind == SWITCH:
        known = {"y": True, "n": False}.get(value.lower())
        return (default, False) if known is None else (known, True)
    if kind == INTEGER:
        try:
            return int(value), True
        except ValueError:
            return default, False
    return value, name not in WORDS or value in WORDS[name]


def effective(text):
    """Return what the agent makes of every key that matters for backup.

    :param text: the whole file, or None when there is none.
    :returns: key: ``value`` (as it stands in the deciding line, or None), ``effective`` (typed), ``source`` (``file`` or ``default``),
        ``line`` (the deciding one, or None), ``lines`` (all of them), ``valid`` (whether the agent understands the value).
    """
    found = {}
    for entry in parse(text):
        if entry["key"] in KEYS:
            found.setdefault(entry["key"], []).append(entry)
    result = {}
    for name, (kind, default) in KEYS.items():
        if isinstance(default, tuple):
            default = result[default[0]]["effective"]  # KEYS names the followed key first
        entries = found.get(name, [])
        value = entries[-1]["value"] if entries else None
        typed, valid = _decide(kind, name, value, default)
        result[name] = {
            "value": value,
            "effective": typed,
            "source": "file" if value is not None and (valid or kind == TEXT) else "default",
            "line": entries[-1]["line"] if entries else None,
            "lines": [entry["line"] for entry in entries],
            "valid": valid,
        }
    return result


def duplicates(entries):
    """Return the keys that stand in more than one line, as list of ``key`` and ``lines`` in order of the first line."""
    found, order = {}, []
    for entry in entries:
        if _KEY.match(entry["key"]):
            if entry["key"] not in found:
                order.append(entry["key"])
            found.setdefault(entry["key"], []).append(entry)
    return [{"key": key, "lines": [e["line"] for e in found[key]]} for key in order if len(found[key]) > 1]


def loose(entries):
    """Return the lines that the agent takes and the backup extension does not, as list of ``line``, ``key`` and ``raw``."""
    return [
        {"line": e["line"], "key": e["key"] if _KEY.match(e["key"]) else "a comment", "raw": _shown_line(e["raw"])}
        for e in entries
        if e["loose"]
    ]


def meant(key):
    """Return the key of the agent that a wrong spelling stands for, or None when the key is right or not known at all."""
    if key in KEYS:
        return None
    folded = _fold(key)
    return _ALIASES.get(folded) or _FOLDED.get(folded)


def unknown_backup_keys(entries):
    """Return settings that the agent ignores because their key is spelled wrongly: list of ``key``, ``line``, ``meant``."""
    found = []
    for entry in entries:
        if entry["key"].lstrip(BOM).startswith("#"):
            continue
        name = meant(entry["key"])
        if name:
            found.append({"key": entry["key"], "line": entry["line"], "meant": name})
    return found


def _mask_line(line):
    key, separator, value = line.partition("=")
    if separator and _HOST_KEY in key.lower():
        # In comments as well; nobody knows where a password ends, so a value that is more than an address goes as a whole.
        shown = value.strip()
        plain = shown.strip('"').partition("#")[0].strip('" ')
        if shown and ("@" in shown or redact_proxy_host(plain) != plain):
            return redact(key) + "=" + (MASK + "@" + redact(shown.rpartition("@")[2]) if "@" in shown else redact_proxy_host(plain))
    return None


def mask(text):
    """Return configuration text without credentials: those of a proxy's address, and what is called or looks like a secret."""
    if not text:
        return text
    lines = text.split("\n")
    hosts = {number: _mask_line(line[:LINE_LIMIT]) for number, line in enumerate(lines) if "=" in line[:LINE_LIMIT]}
    masked = {number: line for number, line in hosts.items() if line is not None}
    shown = redact("\n".join("" if number in masked else line for number, line in enumerate(lines))).split("\n")
    for number, line in masked.items():
        if number < len(shown):
            shown[number] = line + ("\r" if lines[number].endswith("\r") else "")
    return "\n".join(shown)


def mask_value(key, value):
    """Return the value of a setting as text, without credentials."""
    return mask("{0}={1}".format(key, value)).partition("=")[2]


def _shown_line(line):
    """Return a line as it may be shown to everybody: a setting of a known key; of everything else only what kind of line it is."""
    if not line:
        return line
    key, _value, is_setting = _read(line)
    name = key.lstrip(BOM) if is_setting else None
    if name in KEYS:
        setting_text, mark, comment = line.partition("#")
        masked = mask(setting_text if _HOST_KEY not in name.lower() else line)
        return masked if not mark or _HOST_KEY in name.lower() else masked + "#" + (" [comment]" if _WORD.search(comment) else "")
    head = line[: len(line) - len(line.lstrip(BOM + " \t"))]
    if is_setting and _KEY.match(name):
        blanks = line.partition("=")[2]
        return line.partition("=")[0] + "=" + blanks[: len(blanks) - len(blanks.lstrip())] + "[value]"
    if not _WORD.search(line):
        return line[:LINE_LIMIT]
    return head + ("# [comment]" if line.lstrip(BOM + " \t").startswith("#") else "[text]")


def shown(text):
    """Return a configuration for a diff: only known settings with their values, masked; the text of comments and other keys stays here."""
    return "\n".join(_shown_line(line[:LINE_LIMIT]) for line in text.split("\n"))


def public(values, text=None):
    """Return the result of :func:`effective` as it may be shown: the credentials of a proxy address masked, and what is called a secret.

    :param text: the file's text, to see what stands behind a ``#`` in the line of the proxy, where the agent cuts a password.
    """
    result = {}
    rows = text.split("\n") if text else []
    for key, entry in values.items():
        result[key] = entry
        if not isinstance(entry["value"], str) or not entry["value"]:
            continue
        masked = mask_value(key, entry["value"])
        if key == "HttpProxy.Host":
            line = rows[entry["line"] - 1] if entry["line"] and entry["line"] <= len(rows) else ""
            masked = MASK if masked == entry["value"] and "@" in line.partition("=")[2] else masked
        if masked != entry["value"]:
            result[key] = dict(entry, value=masked, effective=masked if entry["effective"] == entry["value"] else entry["effective"])
    return result


def setting(key, value):
    """Return the text that is to be written for a key.

    :param value: text, whole number or boolean (y and n).
    :raises ConfError: when the agent would not read back what was asked.
    """
    name = meant(key)
    if name:
        raise ConfError("The guest agent has no key {0!r} and would ignore it; use {1!r}.".format(key, name))
    if not _KEY.match(key) or key.startswith(BOM):
        raise ConfError("{0!r} is not a key of waagent.conf: keys have no blanks, quotes, '=' or '#'.".format(key))
    kind = KEYS.get(key, (TEXT, None))[0]
    if value is None:
        raise ConfError("{0} has no value; to remove the key name it as absent, to unset it write 'None'.".format(key))
    if isinstance(value, bool):
        value = "y" if value else "n"
    value = "{0}".format(value)
    if "#" in value:
        raise ConfError("The value of {0} contains '#', where the guest agent cuts it off; use one without.".format(key))
    if _CONTROL.search(value):
        raise ConfError("The value of {0} contains a line break or another control character; use one line of text.".format(key))
    if value == "None":
        return value
    if kind == SWITCH and value.lower() not in ("y", "n"):
        raise ConfError("{0} takes only y or n, not {1!r}; the guest agent would fall back to its default.".format(key, value))
    if kind == INTEGER:
        try:
            int(value)
        except ValueError:
            raise ConfError("{0} takes a whole number, not {1!r}.".format(key, value))
    if key in WORDS and value not in WORDS[key]:
        raise ConfError("{0} takes one of {1}, not {2!r}.".format(key, ", ".join(WORDS[key]), value))
    if _read(_line(key, value))[:2] != (key, value):
        raise ConfError(
            "The guest agent would not read {0} back as it stands: no quotes or blanks around a value.".format(mask(_line(key, value)))
        )
    return value


def _same(key, present, wanted):
    """Say whether two values mean the same to the agent."""
    if present == wanted:
        return True
    if present is None or wanted is None:
        return False
    kind = KEYS.get(key, (TEXT, None))[0]
    if kind == SWITCH:
        return present.lower() == wanted.lower()
    if kind == INTEGER:
        return _decide(kind, key, present, None) == _decide(kind, key, wanted, None) and _decide(kind, key, present, None)[1]
    return False


def _is_default(key, value):
    """Say whether a value is what the agent takes anyway when the key is not there."""
    kind, default = KEYS.get(key, (TEXT, ()))
    if isinstance(default, tuple):
        return False  # follows another key, or a key whose default is not known here
    return default is None if value == "None" else _decide(kind, key, value, None) == (default, True)


def rewrite(text, wanted, canonical=False):
    """Return the file's text with several keys set at once.

    A key that is there is written where its deciding line stands, its other lines go; a key that is not there is added at the end.
    A key that is not there and would only repeat the agent's default is left out. Line ends stay as they are, other lines are not
    touched. A key behind a byte order mark, which the agent does not see, counts as a line of that key. A line that already says
    the same in a form that both readers take stays as it is.

    :param wanted: key: text to write (see :func:`setting`), or None to remove the key.
    :param canonical: also bring every other line into a form that both readers take, and keep only the deciding line of a
        key that stands there more than once. The agent reads the same values afterwards.
    :raises ConfError: when the agent would not read afterwards what was asked.
    """
    pairs = _split_lines(text)
    wanted = {key: None if value is None else setting(key, value) for key, value in wanted.items()}
    rows = {}  # key: positions of its lines, hidden ones first
    for position, (line, end) in enumerate(pairs):
        key, _value, is_setting = _read(line + ("\r" if end == "\r\n" else ""))
        if is_setting:
            if position == 0 and key.startswith(BOM) and key.lstrip(BOM).strip() in wanted:
                key = key.lstrip(BOM).strip()
            rows.setdefault(key, []).append(position)
    new = dict(enumerate(pairs))
    for key in rows:
        positions = rows[key]
        deciding = positions[-1]
        line, end = pairs[deciding]
        value = _read(line + ("\r" if end == "\r\n" else ""))[1]
        if key in wanted:
            target = wanted[key]
            if target is None:
                for position in positions:
                    del new[position]
                continue
            target = None if target == "None" else target
            plain = not line.startswith(BOM) and line.split("#")[0].rstrip() == _line(key, value) and _strict(line) == (key, value)
            if not (plain and _same(key, value, target)):
                new[deciding] = (_line(key, target) + _comment(line), end)
        elif canonical:
            new[deciding] = (_canonical(line, key, value), end)
            if not _KEY.match(key):
                for position in positions[:-1]:
                    new[position] = (_canonical(pairs[position][0], key, _read(pairs[position][0])[1]), pairs[position][1])
                continue
        if key in wanted or canonical:
            for position in positions[:-1]:
                del new[position]
    result = [new[position] for position in sorted(new)]
    missing = [key for key in wanted if key not in rows and wanted[key] is not None and not _is_default(key, wanted[key])]
    if missing:
        line_end = pairs[0][1] if pairs and pairs[0][1] else "\n"
        if result and not result[-1][1]:
            result[-1] = (result[-1][0], line_end)
        result.extend((_line(key, None if wanted[key] == "None" else wanted[key]), line_end) for key in missing)
    after = "".join(line + end for line, end in result)
    _verify(text, after, wanted)
    return after


def _verify(before, after, wanted):
    """Read the new text as the agent does; refuse it unless it says exactly what was asked and the rest as before."""

    def values(text):
        return {e["key"]: e["value"] for e in parse(text) if _KEY.match(e["key"]) and not e["key"].startswith(BOM)}

    old, new = values(before), values(after)
    for key, value in wanted.items():
        if value is None:
            wrong = key in new
        else:
            target = None if value == "None" else value
            wrong = not _same(key, new[key], target) if key in new else not _is_default(key, value)
        if wrong:
            raise ConfError("Setting {0} would not have been read back by the guest agent; the file was left as it is.".format(key))
    for key in set(old) | set(new):
        if key not in wanted and old.get(key, "") != new.get(key, ""):
            raise ConfError("Changing the file would have changed {0} as well; it was left as it is.".format(key))
