# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guest agent: service, package, versions, processes, heartbeat, configuration, markers, updates, log."""

import errno
import os
import re
import stat

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import conf, logs, packages, service
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import NotAFile, read_regular
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import clip, public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import age, as_dict, as_int, as_text, epoch, iso, version_key

# Images without a writable /etc/waagent.conf keep it elsewhere. Source: azurelinuxagent/common/osutil/*.py.
CONFIG_PATHS = ("/etc/waagent.conf", "/usr/share/oem/waagent.conf", "/usr/share/defaults/waagent/waagent.conf")
LOG_PATH = "/var/log/waagent.log"
# Python takes what lies below /usr/local first, wherever a distribution's own packages lie.
LOCAL_VERSION_FILES = (
    "/usr/local/lib/python[23]*/dist-packages/azurelinuxagent/common/version.py",
    "/usr/local/lib/python[23]*/site-packages/azurelinuxagent/common/version.py",
    "/usr/local/lib64/python[23]*/site-packages/azurelinuxagent/common/version.py",
)
VERSION_FILES = (
    "/usr/lib/python3/dist-packages/azurelinuxagent/common/version.py",
    "/usr/lib/python3*/site-packages/azurelinuxagent/common/version.py",
    "/usr/lib/python2*/site-packages/azurelinuxagent/common/version.py",
    "/usr/lib/python2*/dist-packages/azurelinuxagent/common/version.py",
)
_VERSION = re.compile(r"(?m)^[ \t]*AGENT_VERSION[ \t]*=[ \t]*['\"](\d+(?:\.\d+)+)['\"]")
_EGG = re.compile(r"WALinuxAgent-(\d+(?:\.\d+)+)")
_HEARTBEAT = re.compile(r"Agent WALinuxAgent-(\d+(?:\.\d+)+) is running as the goal state agent")
_UPDATE_DIRECTORY = re.compile(r"^WALinuxAgent-(\d+(?:\.\d+)+)$")
REJECT_AFTER_FAILURES = 3  # azurelinuxagent/ga/guestagent.py: MAX_FAILURE


def role_of(command):
    """Return "daemon", "handler" or None for a process's command line (list).

    The agent is a Python program: the interpreter comes first, the script or egg later.
    """
    program = os.path.basename(command[0])
    if program != "waagent" and "python" not in program:
        return None
    if not any(os.path.basename(part) == "waagent" or _EGG.search(part) for part in command[:4]):
        return None
    flags = {part.lstrip("-/") for part in command[1:]}
    if "run-exthandlers" in flags:
        return "handler"
    if "daemon" in flags:
        return "daemon"
    return None


def agent_processes(processes, now):
    """Return {"daemon": [...], "handler": [...]} from all processes."""
    found = {"daemon": [], "handler": []}
    for process in processes:
        role = role_of(process["command"])
        if role:
            text = " ".join(process["command"])
            egg = _EGG.search(text)
            entry = {
                "pid": process["pid"],
                "age_s": age(process["started_at"], now),
                "started_at": iso(process["started_at"]),
                "version": egg.group(1) if egg else None,
                "command": public_line(text, 200),
            }
            found[role].append(entry)
    return found


def heartbeat(lines, now):
    """Return the newest heartbeat in the agent's log: at, age_s, version; None when the lines hold none.

    periodic tells it from the line that older agents write once, when their handler starts.
    """
    for line in reversed(lines):
        found = _HEARTBEAT.search(line)
        if found:
            at = logs.stamp(line)
            return {"at": iso(at), "age_s": age(at, now), "version": found.group(1), "periodic": "[HEARTBEAT]" in line}
    return None


def since_start(lines):
    """Return the lines from the last start of the daemon on; all lines when none of them tells of a start."""
    for number in range(len(lines) - 1, -1, -1):
        if "Azure Linux Agent Version" in lines[number] and " Daemon " in lines[number]:
            return lines[number:]
    return lines


def daemon_starts(lines):
    """Return the times at which the log says that the daemon started (seconds since the epoch)."""
    found = [logs.stamp(line) for line in lines if "Azure Linux Agent Version" in line and " Daemon " in line]
    return [at for at in found if at is not None]


# The daemon's words when its handler ended; one failure writes up to three such lines, events among them, within the same second.
_HANDLER_ENDED = re.compile(
    r" launched with command .{0,600}?(?:failed with return code: (-?\d+)|returned code: (-?\d+)|failed with exception: )"
)
HOUR_S = 3600


def handler_failures(lines, now):
    """Return how often the daemon saw its extension handler fail in the last hour, since its own last start: count, last_at, line.

    The daemon starts a handler that ends at once again about every second, for ever, so some process of it is there at most looks.
    Source: run_latest of azurelinuxagent/ga/update.py.
    """
    seconds, last = set(), None
    for line in since_start(lines):
        found = _HANDLER_ENDED.search(line[:4096]) if " launched with command " in line else None
        at = logs.stamp(line) if found else None
        if at is None or (found.group(1) or found.group(2)) == "0" or not 0 <= now - at <= HOUR_S:
            continue
        seconds.add(int(at))
        last = line
    return {
        "count": len(seconds),
        "last_at": iso(max(seconds)) if seconds else None,
        "line": public_line(last),
    }


def installed_code(host):
    """Return (version, path) of the agent's code that Python takes, read from its own source file; (None, None) without one."""
    for patterns in (LOCAL_VERSION_FILES, VERSION_FILES):
        found = []
        for pattern in patterns:
            for path in host.glob(pattern):
                match = _VERSION.search(host.read("agent", path, 65536) or "")
                if match:
                    found.append((version_key(match.group(1)), match.group(1), path))
        if found:
            return max(found)[1:]
    return None, None


def _content(host, path):
    """Return (bytes of the configuration, None), or (None, what keeps the agent from reading it, None where only this reader cannot)."""
    try:
        return read_regular(host.path(path), conf.MAX_BYTES + 1), None
    except NotAFile as error:
        return None, error.strerror
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and os.path.islink(host.path(path)):
            return None, "it is a link that leads nowhere ({0})".format(clip(os.readlink(host.path(path)), 120))
        host.failed("agent", path, error)
        return None, None


def config(host):
    """Return the effective configuration with where each value comes from."""
    path = CONFIG_PATHS[0]
    for candidate in CONFIG_PATHS:
        if host.exists("agent", candidate):
            path = candidate
            break
    exists = host.exists("agent", path)
    raw, problem, text = None, None, None
    if exists:
        raw, problem = _content(host, path)
    if raw is not None:
        try:
            text = conf.decode(raw, path)
        except conf.ConfError as error:
            problem = str(error)
    result = {
        "path": path,
        "exists": exists,
        "readable": raw is not None if exists else None,
        "problem": problem,
        "empty": None if text is None else not text.strip(),
        "modified_at": None,
        "values": None,
        "duplicates": None,
        "loose": None,
        "unknown_backup_keys": None,
    }
    info = host.stat("agent", path) if exists else None
    if info is not None:
        result["modified_at"] = iso(info.st_mtime)
    if text is not None:
        entries = conf.parse(text)
        values = conf.effective(text)
        result.update(
            values=conf.public(values, text),
            duplicates=conf.duplicates(entries),
            loose=conf.loose(entries),
            unknown_backup_keys=conf.unknown_backup_keys(entries),
        )
    return result


def setting(configuration, key, default):
    """Return the effective value of a key of the configuration facts, default when the file could not be read."""
    value = as_dict(as_dict(configuration.get("values")).get(key)).get("effective")
    return default if value is None else value


def pid_file(host, path, processes):
    """Return what the agent's pid file says and whether it would keep a new daemon from starting.

    The daemon exits at once when the process that the file names is alive, whatever program that is.
    """
    exists = host.exists("agent", path)
    result = {"path": path, "exists": exists, "pid": None, "alive": None, "agent": None, "stale": None}
    if not exists:
        result["stale"] = False if exists is False else None
        return result
    result["pid"] = pid = as_int(host.read("agent", path, 64))
    if pid is None:
        return result
    running = [process for process in processes if process["pid"] == pid]
    result["alive"] = bool(running) or host.exists("agent", "/proc/{0}".format(pid))
    result["agent"] = bool(running and role_of(running[0]["command"]))
    result["stale"] = bool(result["alive"] and not result["agent"])
    if running and result["stale"]:
        result["command"] = public_line(" ".join(running[0]["command"]), 120)
    return result


def update_directories(host, lib_dir, names):
    """Return the agent's self-updates on disk, highest version first."""
    found = []
    for name in names or []:
        match = _UPDATE_DIRECTORY.match(name)
        path = "{0}/{1}".format(lib_dir, name)
        info = host.stat("agent", path) if match else None
        if info is None or not stat.S_ISDIR(info.st_mode):
            continue
        record = as_dict(host.read_json("agent", path + "/error.json"))
        failures = as_int(record.get("failure_count"))
        fatal = record.get("was_fatal") if isinstance(record.get("was_fatal"), bool) else None
        found.append(
            {
                "version": match.group(1),
                "path": path,
                "failure_count": failures,
                "was_fatal": fatal,
                "reason": public_line(as_text(record.get("reason")), 200),
                "rejected": bool(fatal) or (failures or 0) >= REJECT_AFTER_FAILURES,
            }
        )
    return sorted(found, key=lambda entry: version_key(entry["version"]), reverse=True)


def lib_dir(host, path, mounts):
    """Return the agent's state directory with the file system that holds it."""
    info = host.stat("agent", path)
    result = dict.fromkeys(
        ("mount_point", "fs_type", "options", "noexec", "read_only", "free_bytes", "size_bytes", "free_inodes", "inodes")
    )
    result.update(path=path, exists=host.exists("agent", path))
    above = [m for m in mounts if path == m["mount_point"] or path.startswith(m["mount_point"].rstrip("/") + "/")]
    if above:
        mount = max(enumerate(above), key=lambda pair: (len(pair[1]["mount_point"]), pair[0]))[1]
        result.update(mount_point=mount["mount_point"], fs_type=mount["fs_type"], options=mount["options"])
        result.update(noexec="noexec" in mount["options"], read_only="ro" in mount["options"])
    if info is not None:
        try:
            space = os.statvfs(host.path(path))
            result.update(free_bytes=space.f_bavail * space.f_frsize, size_bytes=space.f_blocks * space.f_frsize)
            if space.f_files:
                result.update(free_inodes=space.f_favail, inodes=space.f_files)
        except OSError as error:
            host.error("agent", "statvfs " + path, error)
    return result


def _program(host, path):
    try:
        resolved = os.path.realpath(host.path(path))
    except OSError as error:  # on a file system that does not answer
        host.failed("agent", path, error)
        return {"path": path, "exists": None, "resolved": None}
    return {"path": path, "exists": os.path.exists(resolved), "resolved": host.plain(resolved)}


def python_of(host, exec_start):
    """Return the interpreter that the unit names: path, exists, resolved. The shell's python3 does not matter."""
    path = (exec_start or "").split(" ")[0] or None
    if path and "python" not in os.path.basename(path):
        first = (host.read("agent", path, 256) or "").split("\n")[0]
        words = first[2:].split() if first.startswith("#!") else []
        if words and os.path.basename(words[0]) == "env":
            names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            path = (host.which(names[0]) or names[0]) if names else None
        else:
            path = words[0] if words else None
    if not path:
        return {"path": None, "exists": None, "resolved": None}
    return _program(host, path)


def openssl_of(host, path):
    """Return the openssl that the agent is told to use: path, exists, resolved."""
    if not path:
        return {"path": None, "exists": None, "resolved": None}
    return _program(host, path)


def running_version(processes, beat, installed):
    """Return (version, source) of the extension handler that really runs, the one that the platform's minimum is about."""
    handlers = processes["handler"]
    if handlers and handlers[0]["version"]:
        return handlers[0]["version"], "process"
    if handlers and beat and beat["at"]:
        started = epoch(handlers[0]["started_at"])
        if started is None or (epoch(beat["at"]) or 0) >= started - 1:
            return beat["version"], "log"
    if installed:
        return installed, "installed"
    return (beat["version"], "log") if beat else (None, None)


def collect(host, context, options):
    """Return (facts of the agent, environment of its service as a list of texts).

    :param context: ``system``, ``processes``, ``mounts`` as the other areas returned them, ``agent_log`` (lines and size of the log).
    :param options: ``timeout_s``, ``candidate`` (auto, always, never), ``candidate_below`` (version).
    """
    processes = agent_processes(context["processes"], host.now)
    running = bool(processes["daemon"])
    environment = []
    if context["system"]["init"] == "systemd":
        service_facts, environment = service.from_systemd(host, options["timeout_s"] * 3)
    else:
        service_facts = service.from_scripts(host, context["system"]["init"], running)
    configuration = config(host)
    directory = str(setting(configuration, "Lib.Dir", "/var/lib/waagent")).rstrip("/") or "/var/lib/waagent"
    names = host.names("agent", directory)
    lines, size = context["agent_log"]
    beat = heartbeat(lines, host.now)
    installed, code = installed_code(host)
    version, source = running_version(processes, beat, installed)
    binary = host.which("waagent") or ("/usr/share/oem/bin/waagent" if host.exists("agent", "/usr/share/oem/bin/waagent") else None)

    def want_candidate(package_version):
        if options["candidate"] != "auto":
            return options["candidate"] == "always"
        known = version or package_version
        return known is None or package_version is None or version_key(known) < version_key(options["candidate_below"])

    package = packages.collect(host, context["system"]["distribution"]["family"], want_candidate, options["timeout_s"] * 5)
    starts = daemon_starts(lines)
    policy_path = str(setting(configuration, "Policy.PolicyFilePath", "/etc/waagent_policy.json"))
    facts = {
        "service": service_facts,
        "binary": binary,
        "package": package,
        "version": {"daemon": installed, "goal_state": version, "goal_state_source": source},
        "code": {"path": code, "local": None if code is None else code.startswith("/usr/local/")},
        "processes": processes,
        "heartbeat": beat,
        "handler_failures": None if size is None else handler_failures(lines, host.now),
        "config": configuration,
        "markers": {
            "disable_agent": host.exists("agent", directory + "/disable_agent"),
            "pid_file": pid_file(host, str(setting(configuration, "Pid.File", "/var/run/waagent.pid")), context["processes"]),
            "policy": {
                "enabled": setting(configuration, "Debug.EnableExtensionPolicy", None),
                "path": policy_path,
                "exists": host.exists("agent", policy_path),
            },
        },
        "auto_update": {"directories": None if names is None else update_directories(host, directory, names)},
        "lib_dir": lib_dir(host, directory, context["mounts"]),
        "python": python_of(host, (service_facts or {}).get("exec_start")),
        "openssl": openssl_of(host, setting(configuration, "OS.OpensslPath", None)),
        "log": {
            "path": LOG_PATH,
            "size_bytes": size,
            "starts_last_hour": None if size is None else len([at for at in starts if host.now - at <= 3600]),
            "verdicts": None if size is None else logs.verdicts(since_start(lines), logs.AGENT_PHRASES),
        },
    }
    return facts, environment
