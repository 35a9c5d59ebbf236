# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The extensions' state on disk, and what the last snapshot really came to.

The backup extension writes ``success`` as its status for failures too; the truth is in the code and in JSON inside JSON.
"""

import configparser
import os
import re
import stat

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import logs
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.conf import mask_value
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import bounded, public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import RUNNING, name_of
from ansible_collections.vmbackup.azure.plugins.module_utils._values import (
    age,
    as_dict,
    as_int,
    as_list,
    as_text,
    epoch,
    iso,
    parse_json,
    version_key,
)

SNAPSHOT = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"
NO_PROCESS_LIMIT_S = 60  # the same where no process of it is there, though all could be seen: enable starts the daemon within 5 s
BEGINNING_S = 10  # settings or a status that young may belong to a snapshot that is just beginning
CLOCK_MARGIN_S = 5  # a clock that is being corrected
RUNNING_LIMIT_S = 600  # a younger "still running" counts as a running snapshot: azure-guest reference 9.7
HISTORY = 10
TICKS_OF_1970 = 621355968000000000  # .NET ticks (100 ns since the year 1)
_DIRECTORY = re.compile(r"^([A-Za-z][\w.]*[A-Za-z]\w*)-(\d+(?:\.\d+)+)$")
_STATUS = re.compile(r"^(\d+)\.status$")
_SETTINGS = re.compile(r"^(\d+)\.settings$")
_OLD_STATUS = re.compile(r"^(\d+)_status$")
_JSON_DATE = re.compile(r"^\\?/Date\((-?\d+)(?:[+-]\d{4})?\)\\?/$")


def handler_directories(names):
    """Return {handler name: [versions, highest first]} of the directory names in Lib.Dir; the agent's own are left out."""
    found = {}
    for name in names or []:
        match = _DIRECTORY.match(name) if len(name) < 256 else None
        if match and match.group(1) != "WALinuxAgent":
            found.setdefault(match.group(1), []).append(match.group(2))
    return {name: sorted(versions, key=version_key, reverse=True) for name, versions in found.items()}


def parse_time(value):
    """Return seconds since the epoch of ISO text or of ``/Date(milliseconds)/``, else None."""
    text = as_text(value)
    if text is None:
        return None
    found = _JSON_DATE.match(text)
    if found:
        milliseconds = int(found.group(1))
        return milliseconds / 1000.0 if abs(milliseconds) < 10**14 else None
    return epoch(text)


def parse_ticks(value):
    """Return seconds since the epoch of .NET ticks, None when they are out of any calendar."""
    ticks = as_int(value)
    if ticks is None or not TICKS_OF_1970 < ticks < 10**18:
        return None
    return (ticks - TICKS_OF_1970) / 10000000.0


def message_of(formatted):
    """Return the text of a formattedMessage: plain, or JSON with ``messageStr`` in newer versions."""
    message = as_text(as_dict(formatted).get("message"))
    inner = as_dict(parse_json(message)) if message and message.lstrip().startswith("{") else {}
    return as_text(inner.get("messageStr")) or message


def parse_status(document):
    """Return the truth of an ``N.status`` document (parsed JSON), None when it is no status.

    :returns: code (int or None), code_source ("inner" or "outer"), reported_status, message, at and started_at (seconds since the epoch),
        task_id, host_codes ({name: int}), vm_health (0 green, 128 yellow, 256 red, or None), failed_disks (count or None).
    Source: VMBackup/main/Utils/{HandlerUtil,Status}.py of Azure/azure-linux-extensions.
    """
    items = as_list(document)
    outer_document = as_dict(items[0]) if items else {}
    outer = as_dict(outer_document.get("status"))
    if not outer:
        return None
    at = parse_time(outer_document.get("timestampUTC"))
    inner, code, source = {}, as_int(outer.get("code")), "outer"
    for sub in as_list(outer.get("substatus")):
        text = as_text(as_dict(sub).get("name"))
        inner_items = as_list(parse_json(text)) if text and text.lstrip().startswith("[") else []
        inner_document = as_dict(inner_items[0]) if inner_items else {}
        inner = as_dict(inner_document.get("status"))
        if inner:
            at = parse_time(inner_document.get("timestampUTC")) or at
            break
    if as_int(inner.get("code")) is not None:
        code, source = as_int(inner.get("code")), "inner"
    host_codes = {}
    for pair in as_list(inner.get("telemetryData")):
        key, value = as_text(as_dict(pair).get("Key")), as_int(as_dict(pair).get("Value"))
        if key in ("hostStatusCodePreSnapshot", "hostStatusCodeDoSnapshot") and value is not None:
            host_codes[key] = value
    disks = as_list(inner.get("snapshotInfo"))
    failed = [d for d in disks if str(as_dict(d).get("isSuccessful")).lower() == "false"]
    return {
        "code": code,
        "code_source": source if code is not None else None,
        "reported_status": as_text(outer.get("status")),
        "message": public_line(message_of(inner.get("formattedMessage")) or message_of(outer.get("formattedMessage"))),
        "at": at,
        "started_at": parse_ticks(inner.get("commandStartTimeUTCTicks") or outer.get("commandStartTimeUTCTicks")),
        "task_id": public_line(as_text(inner.get("taskId")) or as_text(outer.get("taskId")), 64),
        "host_codes": host_codes,
        "vm_health": as_int(as_dict(inner.get("vmHealthInfo")).get("vmHealthState")),
        "vm_health_code": as_int(as_dict(inner.get("vmHealthInfo")).get("vmHealthStatusCode")),
        "failed_disks": len(failed) if disks else None,
    }


def numbered(names, pattern):
    """Return the numbers of the names that match, highest first: 10 is above 9."""
    return sorted((int(m.group(1)[:12]) for m in map(pattern.match, names or []) if m), reverse=True)


def read_status(host, path):
    """Return (parsed status, time of the file) of a status file; a half-written one is None with its time."""
    info = host.stat("extension", path)
    raw = host.read_bytes("extension", path, 1 << 20)
    if raw is None or info is None:
        return None, None
    status = parse_status(parse_json(raw))
    if status is None:
        host.error("extension", "parse " + path, "no status document (half written, empty or damaged)")
    return status, info.st_mtime


def handler(host, lib_dir, name, versions):
    """Return the current version's facts of one handler: the highest version that is installed, else the highest."""
    chosen = None
    for version in versions:
        path = "{0}/{1}-{2}".format(lib_dir, name, version)
        state = (host.read("extension", path + "/config/HandlerState", 64) or "NotInstalled").strip()
        status = as_dict(host.read_json("extension", path + "/config/HandlerStatus"))
        entry = {
            "name": name,
            "version": version,
            "path": path,
            "state": public_line(state, 40),
            "status": public_line(as_text(status.get("status")), 40),
            "code": as_int(status.get("code")),
            "message": public_line(as_text(status.get("message"))),
        }
        if state in ("Installed", "Enabled"):
            return entry
        chosen = chosen or entry
    return chosen


# The handler's operations that lead to a snapshot: enable waits up to 5 s before it writes that it runs, its daemon does the work.
_AT_WORK = re.compile(r"handle\.(?:py|sh)\b[^|;&]{0,300}?[\s/-](?:daemon|enable)\b")


def snapshot_processes(processes, directory_of=None):
    """Return the processes of a snapshot that is being taken: the extension's handler, its daemon and the freezer.

    :param directory_of: function that returns the working directory of a process; a daemon is started with a relative path.
    """
    found = []
    for process in processes:
        text = " ".join(process["command"])[:4096]
        freezer = "safefreeze" in os.path.basename(process["command"][0])
        if not freezer and not _AT_WORK.search(text):
            continue
        if freezer or "VMSnapshotLinux" in text or (directory_of and "VMSnapshotLinux" in (directory_of(process["pid"]) or "")):
            found.append({"pid": process["pid"], "command": public_line(text, 160)})
    return found


def runs_by_status(at, written, now, seen):
    """Say whether a status that says "still running" is believed, without any process of a snapshot.

    A daemon is there within seconds of that status, so where all processes could be seen it is not believed for long. Times of the future
    are those of a clock that was wrong, and prove nothing.

    :param at: time in the status, :param written: of its file, :param seen: whether all processes of the guest could be seen.
    """
    known = [time for time in (at, written) if time is not None]
    return bool(known) and -CLOCK_MARGIN_S <= now - min(known) < (NO_PROCESS_LIMIT_S if seen else RUNNING_LIMIT_S)


def blank_snapshot(current, running):
    """Return the facts of the snapshot extension as far as its handler's entry (or None) and its processes tell; the rest is null."""
    keys = ("version", "state", "handler_status", "handler_code", "handler_message", "sequence", "code", "code_name", "code_source")
    keys += ("message", "reported_status", "at", "age_s", "task_id", "started_at", "vm_health", "vm_health_code", "failed_disks")
    keys += ("settings_sequence", "settings_at", "settings_age_s", "recent_s")
    result = dict.fromkeys(keys)
    result.update(installed=bool(current), processes=running, host_codes={}, history=[], in_progress=bool(running), busy=bool(running))
    if current:
        result.update(version=current["version"], state=current["state"], handler_status=current["status"])
        result.update(handler_code=current["code"], handler_message=current["message"])
    return result


def snapshot(host, current, processes):
    """Return the facts of VMSnapshotLinux; current is its handler's entry or None."""
    result = blank_snapshot(current, snapshot_processes(processes, host.working_directory))
    if not current:
        return result
    touched = []
    settings = numbered(host.names("extension", current["path"] + "/config"), _SETTINGS)
    if settings:
        # Only the number and the time: what is in it is protected.
        info = host.stat("extension", "{0}/config/{1}.settings".format(current["path"], settings[0]))
        result["settings_sequence"] = settings[0]
        if info is not None:
            result.update(settings_at=iso(info.st_mtime), settings_age_s=age(info.st_mtime, host.now))
            touched.append(info.st_mtime)
    directory = current["path"] + "/status"
    names = host.names("extension", directory) or []
    sequences = numbered(names, _STATUS)
    if sequences:
        result["sequence"] = sequences[0]
        status, written = read_status(host, "{0}/{1}.status".format(directory, sequences[0]))
        touched += [written] if written is not None else []
        if status:
            at = status["at"] or written
            result.update(status)
            result.update(at=iso(at), age_s=age(at, host.now), started_at=iso(status["started_at"]))
            result["code_name"] = name_of(status["code"])
            if status["code"] == RUNNING and runs_by_status(at, written, host.now, host.privileged and bool(processes)):
                result["in_progress"] = True
    past = [host.now - time for time in touched if host.now - time >= -CLOCK_MARGIN_S]
    answered = result["code"] not in (None, RUNNING) and result["sequence"] >= (settings or sequences)[0]
    result["recent_s"] = max(0, int(min(past))) if past and not answered else None
    beginning = result["recent_s"] is not None and result["recent_s"] < BEGINNING_S
    result["busy"] = result["in_progress"] or beginning
    for sequence in numbered(names, _OLD_STATUS)[:HISTORY]:
        status, written = read_status(host, "{0}/{1}_status".format(directory, sequence))
        if status:
            result["history"].append({"sequence": sequence, "code": status["code"], "at": iso(status["at"] or written)})
    return result


def parse_aggregate(document, now):
    """Return what the agent last reported for all handlers, from ``waagent_status.json`` (parsed), None when it is no report."""
    report = as_dict(as_dict(document).get("aggregateStatus"))
    if not report:
        return None
    agent = as_dict(report.get("guestAgentStatus"))
    goal_state = as_dict(as_dict(report.get("vmArtifactsAggregateStatus")).get("goalStateAggregateStatus"))
    at = parse_time(as_dict(document).get("timestampUTC"))
    handlers = []
    for item in map(as_dict, as_list(report.get("handlerAggregateStatus"))):
        handlers.append(
            {
                "name": public_line(as_text(item.get("handlerName")), 120),
                "version": public_line(as_text(item.get("handlerVersion")), 40),
                "status": public_line(as_text(item.get("status")), 40),
                "code": as_int(item.get("code")),
                "message": public_line(as_text(as_dict(item.get("formattedMessage")).get("message"))),
            }
        )
    return {
        "at": iso(at),
        "age_s": age(at, now),
        "agent_status": public_line(as_text(agent.get("status")), 40),
        "agent_version": public_line(as_text(agent.get("version")), 40),
        "goal_state_status": public_line(as_text(goal_state.get("status")), 40),
        "goal_state_message": public_line(as_text(as_dict(goal_state.get("formattedMessage")).get("message"))),
        "handlers": handlers,
    }


def aggregate(host, lib_dir, names):
    """Return the newest report of the agent: at the root in older versions, in the newest history directory in newer ones."""
    paths = ["{0}/{1}".format(lib_dir, name) for name in names or [] if re.match(r"^waagent_status(?:\.\d+)?\.json$", name)]
    history = lib_dir + "/history"
    if "history" in (names or []):
        for name in [n for n in host.names("extension", history) or [] if not n.endswith(".zip")][-3:]:
            path = "{0}/{1}/waagent_status.json".format(history, name)
            if host.exists("extension", path):
                paths.append(path)
    dated = [(info.st_mtime, path) for info, path in ((host.stat("extension", p), p) for p in paths) if info]
    if not dated:
        return None
    newest = max(dated)[1]
    result = parse_aggregate(host.read_json("extension", newest), host.now)
    if result:
        result["path"] = newest
    return result


# What the extension asks for, in lower case as its reader has them; other keys mean nothing to it and may hold anything.
VMBACKUP_KEYS = (
    "timeout", "safefreezewaitinseconds", "mountstoskip", "snapshotmethod", "seqsnapshot", "isanysnapshotfailed", "uploadstatusandlog", "writelog",
    "loggingoff", "disable_logging", "onlylocalfilesystems", "onappfailuredofsfreeze", "onappsuccessdofsfreeze", "sudo_off", "fsfreeze",
)  # fmt: skip
_BLANKS = re.compile(r"[ \t]{9,}")
_INTERPOLATED = re.compile(r"%%|%\(([^()%]{1,80})\)s")


def parse_vmbackup_conf(text):
    """Return (values of [SnapshotThread] with lower-case keys, error); the extension drops the whole file at an error of its syntax.

    The reader is Python's ConfigParser, as in the extension, which interpolates only the values that it asks for. Values of other keys are
    not shown.
    """
    parser = configparser.RawConfigParser()
    try:
        # Long runs of blanks take the parser's own expressions very long, and mean nothing.
        parser.read_string(_BLANKS.sub(" " * 8, bounded(text[:65536])))
    except (configparser.Error, UnicodeError) as error:
        return None, public_line(str(error), 200)
    values = {}
    for key, value in parser.items("SnapshotThread") if parser.has_section("SnapshotThread") else ():
        if key not in VMBACKUP_KEYS:
            values[public_line(key, 80)] = "[value]"
            continue
        value = value or ""
        names = [found.group(1) for found in _INTERPOLATED.finditer(value) if found.group(1)]
        if "%" in _INTERPOLATED.sub("", value) or not all(parser.has_option("SnapshotThread", name) for name in names):
            return None, "{0} holds a % that stands for nothing: {1}".format(key, public_line(value, 100))
        values[key] = public_line(mask_value(key, value), 300)
    return values, None


def vmbackup_conf(host):
    path = "/etc/azure/vmbackup.conf"
    exists = host.exists("extension", path)
    result = {"path": path, "exists": exists, "valid": None, "error": None, "values": None}
    text = host.read("extension", path, 1 << 16) if exists else None
    if text is not None:
        values, error = parse_vmbackup_conf(text)
        result.update(valid=error is None, error=error, values=values)
    return result


def permission_problems(info, forbidden, owner=0):
    """Return in words what is wrong with a file's owner and mode; forbidden is the mask of bits that must not be set."""
    problems = []
    if info.st_uid != owner:
        problems.append("owner is uid {0}, must be root".format(info.st_uid))
    mode = stat.S_IMODE(info.st_mode)
    if mode & forbidden:
        problems.append("mode is {0:04o}, must not have any of {1:04o}".format(mode, forbidden))
    return problems


def script_hooks(host):
    """Return the pre and post script files that stand on the guest, each with what the extension would refuse."""
    result = []
    host_path = "/etc/azure/VMSnapshotPluginHost.conf"
    plugin_path = "/etc/azure/VMSnapshotScriptPluginConfig.json"
    paths = [(host_path, 0o033), (plugin_path, 0o177)]
    document = host.read("extension", plugin_path, 1 << 18)
    if document is not None:
        parsed = parse_json(document)
        for key in ("preScriptLocation", "postScriptLocation"):
            location = as_text(as_dict(parsed).get(key))
            if location and location.startswith("/"):
                paths.append((os.path.normpath(location), 0o077))
    for path, forbidden in paths:
        exists = host.exists("extension", path)
        if not exists and path in (host_path, plugin_path):
            continue
        entry = {"path": path, "exists": exists, "mode": None, "owner_uid": None, "problems": []}
        info = host.stat("extension", path) if exists else None
        if info is not None:
            entry.update(mode="{0:04o}".format(stat.S_IMODE(info.st_mode)), owner_uid=info.st_uid)
            entry["problems"] = permission_problems(info, forbidden)
        elif exists is False:
            entry["problems"].append("does not exist, but {0} names it".format(plugin_path))
        if path == plugin_path and document is not None and not isinstance(parse_json(document), (dict, list)):
            entry["problems"].append("is not JSON")
        result.append(entry)
    return result


def collect(host, context, options):
    """Return the facts of the extensions.

    :param context: ``processes``, ``lib_dir`` and ``extension_log_dir`` (paths as the configuration sets them).
    :param options: ``log_bytes``.
    """
    lib_dir = context["lib_dir"]
    names = host.names("extension", lib_dir)
    directories = handler_directories(names)
    handlers = [handler(host, lib_dir, name, versions) for name, versions in sorted(directories.items())]
    current = next((entry for entry in handlers if entry["name"] == SNAPSHOT), None)
    log_path = "{0}/{1}/extension.log".format(context["extension_log_dir"], SNAPSHOT)
    lines, size = host.tail("extension", log_path, options["log_bytes"])
    facts = snapshot(host, current, context["processes"])
    if names is None:
        facts["installed"] = None
    return {
        "handlers": None if names is None else [{k: v for k, v in entry.items() if k != "path"} for entry in handlers],
        "snapshot": facts,
        "aggregate": aggregate(host, lib_dir, names),
        "vmbackup_conf": vmbackup_conf(host),
        "script_hooks": script_hooks(host),
        "log": {"path": log_path, "size_bytes": size, "verdicts": None if size is None else logs.verdicts(lines, logs.EXTENSION_PHRASES)},
    }
