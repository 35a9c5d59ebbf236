# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 2: the guest agent is missing, old, stopped or misconfigured. One function per finding, named after it."""

import re

from ansible_collections.vmbackup.azure.plugins.module_utils.linux.host import epoch, version_key
from ansible_collections.vmbackup.azure.plugins.module_utils.rules._common import (
    duration,
    filled,
    get,
    is_windows,
    items,
    quoted,
    size,
    verdict,
    windows_service,
)

BACKUP_SWITCH = "Extensions.Enabled"
# The services of the Windows agent, in the order in which they are started.
WINDOWS_SERVICES = ("RdAgent", "WindowsAzureGuestAgent")


def _service(facts):
    return get(facts, "agent.service") or {}


def _daemons(facts):
    return items(facts, "agent.processes.daemon")


def _handlers(facts):
    return items(facts, "agent.processes.handler")


def _older(version, minimum):
    return version is not None and version_key(version) < version_key(minimum)


def _down(facts):
    """Say whether the service is known not to run; activating and deactivating are on their way."""
    return _service(facts).get("active_state") in ("inactive", "failed")


def _value(facts, key):
    return (get(facts, "agent.config.values") or {}).get(key) or {}


def _where(facts, value):
    path = get(facts, "agent.config.path")
    return "{0} line {1}".format(path, value["line"]) if value.get("line") else "{0} (default)".format(path)


def _newest_package(facts):
    """Return the candidate's version when it is newer than what is installed, else None."""
    candidate, installed = get(facts, "agent.package.candidate"), get(facts, "agent.package.version")
    if candidate and (installed is None or version_key(_upstream(candidate)) > version_key(_upstream(installed))):
        return candidate
    return None


def _upstream(version):
    """Return the upstream part of a package version: without epoch and release."""
    return re.split(r"[-+~]", version.partition(":")[2] or version)[0]


def _windows_services(facts):
    return [row for row in (windows_service(facts, name) for name in WINDOWS_SERVICES) if row.get("exists")]


def _windows_missing(facts):
    rows = [windows_service(facts, name) for name in WINDOWS_SERVICES]
    gone = [row["name"] for row in rows if row.get("exists") is False]
    if not gone:
        return None
    text = "there is no service {0}".format(" and none called ".join(gone))
    return text if len(gone) == 1 else text + (", and no program of the agent" if get(facts, "agent.binary") is None else "")


def agent_missing(facts, limits):
    if is_windows(facts):
        return _windows_missing(facts)
    gone = get(facts, "agent.package.installed") is False and get(facts, "agent.binary") is None and not _daemons(facts)
    if not gone or get(facts, "agent.service.load_state") == "loaded":
        return None
    return "no package of the agent is installed ({0}), there is no waagent program and no agent process".format(
        get(facts, "agent.package.manager")
    )


def agent_not_from_package(facts, limits):
    if get(facts, "agent.package.installed") is not False or not get(facts, "agent.binary"):
        return None
    return "{0} is there, but no package of the distribution owns an agent".format(get(facts, "agent.binary"))


def _windows_old(facts, limits):
    version = get(facts, "agent.version.goal_state")
    if not _older(version, limits["minimum_windows_agent"]) or _windows_missing(facts):
        return None
    by = {"msi": "installed from the MSI {0}".format(get(facts, "agent.package.version")), "platform": "brought by the platform"}
    text = "the agent is {0} (seen in: {1}; {2}), the oldest supported is {3}"
    where = {"program": "the version of its program", "registry": "the registry"}.get(
        get(facts, "agent.version.goal_state_source"), "unknown"
    )
    return text.format(version, where, by.get(get(facts, "agent.installed_by"), "installed by unknown"), limits["minimum_windows_agent"])


def _would_run_newer(facts, limits):
    """Say whether an agent that does not run would start a self-update that is new enough."""
    if _handlers(facts) or _value(facts, "AutoUpdate.Enabled").get("effective") is False:
        return False
    usable = [entry.get("version") for entry in items(facts, "agent.auto_update.directories") if entry.get("rejected") is False]
    return any(version and not _older(version, limits["minimum_linux_agent"]) for version in usable)


def _old(facts, limits):
    if is_windows(facts):
        return None  # only packages of a distribution can be held, older than a repository's, or not yet running
    version = get(facts, "agent.version.goal_state")
    if not _older(version, limits["minimum_linux_agent"]):
        return None
    if get(facts, "agent.version.goal_state_source") == "installed" and _would_run_newer(facts, limits):
        return None
    package = get(facts, "agent.package") or {}
    return "the agent that runs is {0} (seen in: {1}), the oldest supported is {2}; installed package: {3} {4}".format(
        version,
        get(facts, "agent.version.goal_state_source"),
        limits["minimum_linux_agent"],
        package.get("name"),
        package.get("version"),
    )


def agent_version_old(facts, limits):
    if is_windows(facts):
        return _windows_old(facts, limits)
    text = _old(facts, limits)
    newer = _newest_package(facts)
    if not text or get(facts, "agent.package.held"):
        return None
    if newer:
        return [text, "the repository offers {0}".format(newer)]
    if get(facts, "agent.package.candidate_looked") and get(facts, "agent.package.candidate"):
        installed = _upstream(get(facts, "agent.package.version") or "0")
        if not _older(installed, limits["minimum_linux_agent"]):
            return None  # the package is new enough, only the running process is not: agent_restart_pending
    if get(facts, "agent.package.candidate_looked"):
        return None  # agent_version_old_no_package
    return text


def agent_version_old_no_package(facts, limits):
    text = _old(facts, limits)
    if not text or not get(facts, "agent.package.candidate_looked") or _newest_package(facts):
        return None
    installed = get(facts, "agent.package.version")
    if installed and not _older(_upstream(installed), limits["minimum_linux_agent"]):
        return None
    found = [text, "the configured repositories offer {0}".format(get(facts, "agent.package.candidate") or "no package of the agent")]
    disabled = items(facts, "agent.package.repositories_disabled")
    if disabled:
        found.append("repositories that may hold a newer one are disabled: {0}".format(", ".join(disabled)))
    return found


def agent_restart_pending(facts, limits):
    installed = get(facts, "agent.package.version")
    if not _old(facts, limits) or not installed or _older(_upstream(installed), limits["minimum_linux_agent"]):
        return None
    return "package {0} is installed, but {1} still runs".format(installed, get(facts, "agent.version.goal_state"))


def agent_package_held(facts, limits):
    text = _old(facts, limits)
    if not text or not get(facts, "agent.package.held"):
        return None
    return [
        text,
        "package {0} is held back from updates ({1})".format(get(facts, "agent.package.name"), get(facts, "agent.package.manager")),
    ]


def agent_service_masked(facts, limits):
    service = _service(facts)
    return "{0} is masked, so nothing can start it".format(service.get("unit")) if service.get("masked") else None


def agent_service_disabled(facts, limits):
    if is_windows(facts):
        text = "the service {0} has start type {1}: it will not start with the system ({2} now)"
        rows = [row for row in _windows_services(facts) if row.get("start_type") in ("disabled", "manual")]
        return [text.format(row["name"], row["start_type"], row.get("state") or "state unknown") for row in rows] or None
    service = _service(facts)
    if service.get("unit_file_state") != "disabled" or service.get("masked"):
        return None
    return "{0} is disabled: it will not start with the system ({1} now)".format(service.get("unit"), service.get("active_state"))


def agent_start_limit_hit(facts, limits):
    service = _service(facts)
    if not service.get("start_limit_hit"):
        return None
    return "{0} failed too often in a short time (result {1}), so systemd starts it no more".format(
        service.get("unit"), service.get("result")
    )


def agent_service_failed(facts, limits):
    service = _service(facts)
    if service.get("active_state") != "failed" or service.get("start_limit_hit") or service.get("masked"):
        return None
    return "{0} has failed: result {1}, exit status {2}".format(service.get("unit"), service.get("result"), service.get("exit_status"))


def agent_condition_failed(facts, limits):
    service = _service(facts)
    failed = service.get("conditions_failed") or []
    if not _down(facts) or service.get("condition_result") is not False:
        return None
    reasons = ["{0} does not hold".format(condition) for condition in failed]
    if not reasons:
        reasons = ["a condition of the unit does not hold (ConditionResult=no)"]
    return ["{0} is skipped at every start, without an error: {1}".format(service.get("unit"), reason) for reason in reasons]


def agent_pid_file_stale(facts, limits):
    pid_file = get(facts, "agent.markers.pid_file") or {}
    if not pid_file.get("stale") or _daemons(facts):
        return None
    return "{0} names process {1}, which lives but is no agent ({2}); a new agent ends at once because of it".format(
        pid_file.get("path"), pid_file.get("pid"), pid_file.get("command")
    )


def agent_service_stopped(facts, limits):
    if is_windows(facts):
        # One whose program is gone cannot be started: agent_service_path_missing.
        rows = [
            row for row in _windows_services(facts) if row.get("state") in ("stopped", "paused") and row.get("image_exists") is not False
        ]
        return ["the service {0} is {1} (start type {2})".format(row["name"], row["state"], row.get("start_type")) for row in rows] or None
    service = _service(facts)
    if service.get("active_state") != "inactive" or service.get("masked") or _daemons(facts):
        return None
    if agent_condition_failed(facts, limits) or agent_pid_file_stale(facts, limits):
        return None
    return "{0} is inactive ({1}) and no agent process runs".format(service.get("unit"), service.get("sub_state"))


def agent_service_stop_pending(facts, limits):
    rows = [row for row in _windows_services(facts) if row.get("state") == "stop_pending"]
    text = "the service {0} was told to stop and has not (state StopPending, process {1})"
    return [text.format(row["name"], row.get("pid") or "unknown") for row in rows] or None


def agent_service_path_missing(facts, limits):
    rows = [row for row in _windows_services(facts) if row.get("image_exists") is False]
    return ["the service {0} starts {1}, which does not exist".format(row["name"], row.get("image_path")) for row in rows] or None


def agent_dotnet_old(facts, limits):
    release = get(facts, "agent.dotnet.release")
    if release is None or release >= limits["dotnet_release"]:
        return None
    text = "the .NET Framework's Release is {0}, the agent needs at least {1:.0f} (4.5)"
    return text.format(release, limits["dotnet_release"])


def agent_dotnet_64bit_off(facts, limits):
    if get(facts, "agent.dotnet.enable_64bit") != 0:
        return None
    return "HKLM\\SOFTWARE\\Microsoft\\.NETFramework: Enable64Bit is 0, so the agent's 64-bit programs do not start"


def agent_update_failed(facts, limits):
    """Only the newest version's record counts: an older one's failure was overcome."""
    newest = next(iter(items(facts, "agent.update_state")), {})
    state, code = (newest.get("state") or "").lower(), newest.get("code")
    if code in (None, 0) and not re.search("fail|error", state):
        return None
    running = get(facts, "agent.version.goal_state")
    if running and newest.get("version") and version_key(running) >= version_key(newest["version"]):
        return None
    return "the update to {0} came to state {1}, code {2}: {3}".format(
        newest.get("version"), newest.get("state"), code, newest.get("message") or "no message"
    )


def agent_restarting(facts, limits):
    service = _service(facts)
    starts = get(facts, "agent.log.starts_last_hour")
    if (
        service.get("active_state") == "activating"
        and service.get("sub_state") == "auto-restart"
        and not get(facts, "agent.markers.pid_file.stale")
    ):
        text = "{0} ends and is started again by systemd ({1} times so far): result {2}, exit status {3}"
        return text.format(service.get("unit"), service.get("restarts"), service.get("result"), service.get("exit_status"))
    if starts is None or starts <= limits["starts_per_hour"] or get(facts, "agent.markers.pid_file.stale"):
        return None
    return "{0}: the agent started {1} times in the last hour".format(get(facts, "agent.log.path"), starts)


def agent_disable_marker(facts, limits):
    if not get(facts, "agent.markers.disable_agent"):
        return None
    found = ["{0}/disable_agent exists: the agent sleeps for ever and handles no extension".format(get(facts, "agent.lib_dir.path"))]
    return found + quoted(facts, "agent.log", "disabled_by_marker")


def agent_handler_dead(facts, limits):
    daemons = _daemons(facts)
    if not daemons or _handlers(facts) or get(facts, "agent.markers.disable_agent") is not False:
        return None
    age_s = max(daemon.get("age_s") or 0 for daemon in daemons)
    if age_s <= limits["handler_missing_s"]:
        return None
    return "the agent's daemon (process {0}) has run for {1}, but its extension handler does not run".format(
        daemons[0].get("pid"), duration(age_s)
    )


def agent_restart_policy(facts, limits):
    if is_windows(facts):
        text = "the service {0} has no recovery action that starts it again after a failure"
        rows = [row for row in _windows_services(facts) if (row.get("failure_actions") or {}).get("restart") is False]
        return [text.format(row["name"]) for row in rows] or None
    service = _service(facts)
    if service.get("restart") in (None, "always") or service.get("manager") != "systemd":
        return None
    return "{0} has Restart={1}, so systemd does not always start it again when it ends".format(service.get("unit"), service.get("restart"))


def agent_conf_missing(facts, limits):
    if get(facts, "agent.config.exists") is not False or agent_missing(facts, limits):
        return None
    return "{0} does not exist".format(get(facts, "agent.config.path"))


def agent_conf_unreadable(facts, limits):
    problem = get(facts, "agent.config.problem")
    return "{0}: {1}".format(get(facts, "agent.config.path"), problem) if problem else None


def agent_conf_empty(facts, limits):
    return (
        "{0} is empty; the agent refuses to start with it".format(get(facts, "agent.config.path"))
        if get(facts, "agent.config.empty")
        else None
    )


def agent_extensions_disabled(facts, limits):
    value = _value(facts, BACKUP_SWITCH)
    if value.get("effective") is not False:
        return None
    found = ["{0}: {1}={2}".format(_where(facts, value), BACKUP_SWITCH, value.get("value"))]
    return found + quoted(facts, "agent.log", "extensions_disabled")


def agent_conf_invalid_value(facts, limits):
    found = []
    for key in sorted(get(facts, "agent.config.values") or {}):
        value = _value(facts, key)
        if value.get("valid") is False and value.get("value") is not None:
            text = "{0}: {1}={2} is not a value that the agent knows; it uses {3}"
            found.append(text.format(_where(facts, value), key, value.get("value"), value.get("effective")))
    return found or None


def agent_conf_duplicate_keys(facts, limits):
    found = []
    for duplicate in items(facts, "agent.config.duplicates"):
        lines = ", ".join(str(line) for line in duplicate.get("lines", []))
        found.append(
            "{0}: {1} stands on lines {2}; only the last one counts".format(get(facts, "agent.config.path"), duplicate.get("key"), lines)
        )
    return found or None


def agent_conf_loose_syntax(facts, limits):
    found = []
    for entry in items(facts, "agent.config.loose"):
        text = "{0} line {1}: the agent reads {2}, the backup extension's stricter reader stumbles over blanks and quotes"
        found.append(text.format(get(facts, "agent.config.path"), entry.get("line"), entry.get("key")))
    return found or None


def agent_conf_unknown_key(facts, limits):
    found = []
    for entry in items(facts, "agent.config.unknown_backup_keys"):
        text = "{0} line {1}: {2} is no key of the agent and is ignored; {3} is meant"
        found.append(text.format(get(facts, "agent.config.path"), entry.get("line"), entry.get("key"), entry.get("meant")))
    return found or None


def agent_conf_not_loaded(facts, limits):
    modified, daemons = epoch(get(facts, "agent.config.modified_at")), _daemons(facts)
    started = epoch(daemons[0].get("started_at")) if daemons else None
    if get(facts, "agent.config.problem") or get(facts, "agent.config.empty"):
        return None  # a restart would end the agent that still runs
    if modified is None or started is None or modified - started <= limits["conf_margin_s"]:
        return None
    text = "{0} was changed at {1}, the agent that runs read it at its start at {2}"
    return text.format(get(facts, "agent.config.path"), get(facts, "agent.config.modified_at"), daemons[0].get("started_at"))


def agent_provisioning_agent(facts, limits):
    value = _value(facts, "Provisioning.Agent")
    if value.get("source") != "file" or value.get("effective") in (None, "auto", "cloud-init"):
        return None
    return "{0}: Provisioning.Agent={1}, Microsoft asks for auto".format(_where(facts, value), value.get("value"))


def agent_auto_update_off(facts, limits):
    latest, enabled = _value(facts, "AutoUpdate.UpdateToLatestVersion"), _value(facts, "AutoUpdate.Enabled")
    decides, key = (latest, "AutoUpdate.UpdateToLatestVersion") if latest.get("source") == "file" else (enabled, "AutoUpdate.Enabled")
    if decides.get("effective") is not False:
        return None
    return "{0}: {1}={2}, so the agent does not update itself".format(_where(facts, decides), key, decides.get("value"))


def agent_update_rejected(facts, limits):
    found = []
    for entry in items(facts, "agent.auto_update.directories"):
        if entry.get("rejected"):
            text = "{0} was rejected by the agent: {1} failures, fatal: {2}, reason: {3}"
            found.append(
                text.format(entry.get("path"), entry.get("failure_count"), entry.get("was_fatal"), entry.get("reason") or "none given")
            )
    return found or None


def agent_verbose_logging(facts, limits):
    value = _value(facts, "Logs.Verbose")
    return "{0}: Logs.Verbose={1}".format(_where(facts, value), value.get("value")) if value.get("effective") is True else None


def agent_policy_active(facts, limits):
    policy = get(facts, "agent.markers.policy") or {}
    if not policy.get("enabled") or not policy.get("exists"):
        return None
    return ["{0} decides which extensions may run".format(policy.get("path"))] + quoted(facts, "agent.log", "extension_forbidden")


def _windows_heartbeat(facts, limits, beat):
    guest_agent = windows_service(facts, WINDOWS_SERVICES[1])
    started = [handler.get("age_s") for handler in _handlers(facts) if handler.get("age_s") is not None]
    if beat.get("age_s") is None or beat["age_s"] <= limits["windows_heartbeat_age_s"] or guest_agent.get("state") != "running":
        return None
    if started and min(started) <= limits["windows_first_heartbeat_s"]:
        return None
    return "the agent's newest heartbeat is of {0}, {1} ago, though its service runs".format(beat.get("at"), duration(beat["age_s"]))


def agent_heartbeat_stale(facts, limits):
    beat = get(facts, "agent.heartbeat") or {}
    if is_windows(facts):
        return _windows_heartbeat(facts, limits, beat)
    handlers = _handlers(facts)
    if beat.get("age_s") is None or beat["age_s"] <= limits["heartbeat_age_s"] or not handlers or beat.get("periodic") is False:
        return None
    if min(handler.get("age_s") or 0 for handler in handlers) <= limits["heartbeat_age_s"]:
        return None
    return "the newest heartbeat in {0} is {1} old, one is due every 30 minutes".format(
        get(facts, "agent.log.path"), duration(beat.get("age_s"))
    )


def agent_goal_state_errors(facts, limits):
    error = verdict(facts, "agent.log.verdicts", "goal_state_error")
    if not error or not error.get("at") or not get(facts, "collected_at"):
        return None
    done = verdict(facts, "agent.log.verdicts", "goal_state_done")
    if done and (done.get("at") or "") >= (error.get("at") or ""):
        return None
    if epoch(get(facts, "collected_at")) - epoch(error["at"]) > limits["goal_state_error_age_s"]:
        return None
    return quoted(facts, "agent.log", "goal_state_error")


def agent_on_hold(facts, limits):
    return quoted(facts, "agent.log", "on_hold") or None


def agent_not_ready(facts, limits):
    report = get(facts, "extension.aggregate") or {}
    if report.get("agent_status") in (None, "Ready") or (report.get("age_s") or 0) > limits["report_age_s"]:
        return None
    return "{0}: the agent reports itself as {1}".format(report.get("path"), report.get("agent_status"))


def agent_lib_dir_noexec(facts, limits):
    directory = get(facts, "agent.lib_dir") or {}
    if not directory.get("noexec"):
        return None
    return filled("{path} lies on {mount_point} ({fs_type}), which is mounted noexec: no extension can be run", directory)


def agent_lib_dir_read_only(facts, limits):
    directory = get(facts, "agent.lib_dir") or {}
    if not directory.get("read_only") or get(facts, "system.image_based"):
        return None
    return filled("{path} lies on {mount_point} ({fs_type}), which is mounted read-only", directory)


def agent_lib_dir_full(facts, limits):
    directory = get(facts, "agent.lib_dir") or {}
    free, inodes = directory.get("free_bytes"), directory.get("free_inodes")
    if directory.get("read_only"):
        return None
    found = []
    if free is not None and free < limits["lib_dir_free_bytes"]:
        found.append("{0} has {1} left on {2}".format(directory.get("path"), size(free), directory.get("mount_point")))
    if inodes == 0:
        found.append("{0} has no inode left on {1}".format(directory.get("path"), directory.get("mount_point")))
    return found or None


def agent_python_missing(facts, limits):
    python = get(facts, "agent.python") or {}
    if python.get("exists") is not False:
        return None
    return "the agent's interpreter {0} does not exist (resolved: {1})".format(python.get("path"), python.get("resolved"))


def _unusual(facts, name):
    """Say whether a program of the agent lies where no distribution puts one; a link to it counts as what it leads to."""
    resolved = get(facts, "agent.{0}.resolved".format(name))
    strange = bool(resolved) and resolved.startswith(("/usr/local/", "/opt/", "/home/", "/root/"))
    return resolved if strange and get(facts, "agent.{0}.exists".format(name)) is not False else None


def agent_python_unusual(facts, limits):
    resolved = _unusual(facts, "python")
    if not resolved:
        return None
    return "the agent's interpreter {0} is {1}, which no distribution installs".format(get(facts, "agent.python.path"), resolved)


def agent_openssl_missing(facts, limits):
    openssl = get(facts, "agent.openssl") or {}
    if openssl.get("exists") is not False or agent_missing(facts, limits):
        return None
    return "the agent uses {0} for its certificates, and there is no such program".format(openssl.get("path"))


def agent_openssl_unusual(facts, limits):
    resolved = _unusual(facts, "openssl")
    if not resolved:
        return None
    return "the agent's openssl {0} is {1}, which no distribution installs".format(get(facts, "agent.openssl.path"), resolved)


def agent_fips_not_set(facts, limits):
    value = _value(facts, "OS.EnableFIPS")
    if not get(facts, "system.fips") or value.get("effective") is not False:
        return None
    return "the system runs in FIPS mode (/proc/sys/crypto/fips_enabled is 1), but {0}: OS.EnableFIPS={1}".format(
        _where(facts, value), value.get("value") or "n"
    )
