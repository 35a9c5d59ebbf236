# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 2: the guest agent does not run, or not as it should."""

from __future__ import annotations

from typing import Iterator

from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._agent import (
    CANNOT_START,
    NO_PATH,
    WINDOWS_SERVICES,
    agent_down,
    agent_services,
    daemons,
    handlers_of,
    service_of,
    start_fix,
    unit_fix,
    unit_seen,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Limits,
    Seen,
    duration,
    get,
    log_match,
    part,
    quoted,
    registry_fix,
    seen,
    service_fix,
    windows_service,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import (
    AGENT,
    ARTICLE,
    LINUX_AGENT,
    NETWORK,
    NO_AGENT,
    WINDOWS_AGENT,
    WINDOWS_TROUBLE,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import LINUX, WINDOWS

cause = Cause(2, doc=LINUX_AGENT, module=__name__)
finding, on_windows = cause.finding, cause.on_windows


@finding(
    on=(LINUX,),
    severity="risk",
    title="The agent is not restarted when it ends",
    evidence="{unit} has Restart={policy}, so systemd does not always start it again when it ends",
    action="Set Restart=always for the unit by a drop-in.",
    remedy="agent.auto_restart",
    codes=AGENT,
    doc=ARTICLE,
)
def agent_restart_policy(facts: Facts, limits: Limits) -> Iterator[Seen]:
    service = service_of(facts)
    if service.get("restart") not in (None, "always") and service.get("manager") == "systemd":
        yield seen(fix=unit_seen(facts, "restart"), unit=service.get("unit"), policy=service.get("restart"))


@on_windows(
    severity="notice",
    doc=WINDOWS_AGENT,
    evidence="the service {name} has no recovery action that starts it again after a failure",
    action="Let the service manager restart the services RdAgent and WindowsAzureGuestAgent after a failure.",
)
def agent_restart_policy_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for row in agent_services(facts):
        if (row.get("failure_actions") or {}).get("restart") is False:
            yield seen(fix=service_fix(row["name"], recovery="restart"), name=row["name"])


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent is switched off by a marker file",
    evidence="{directory}/disable_agent exists: the agent sleeps for ever and handles no extension",
    action="Find out who created disable_agent and why; then allow its removal.",
    remedy="agent.service",
    consent="disable_agent_removal",
    codes=AGENT,
)
def agent_disable_marker(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "agent.markers.disable_agent"):
        directory = get(facts, "agent.lib_dir.path")
        yield seen(fix=start_fix(facts, take=["{0}/disable_agent".format(directory or "/var/lib/waagent")]), directory=directory)
        yield from quoted(facts, "agent.log", "disabled_by_marker")


def _pid_file_stale(facts: Facts) -> bool:
    return bool(get(facts, "agent.markers.pid_file.stale")) and not daemons(facts)


@finding(
    on=(LINUX,),
    severity="blocker",
    title="A stale pid file keeps the agent from starting",
    evidence="{path} names process {pid}, which lives but is no agent ({command}); a new agent ends at once because of it",
    action="Remove the pid file and start the agent.",
    remedy="agent.service",
    codes=AGENT,
)
def agent_pid_file_stale(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if _pid_file_stale(facts):
        pid_file = part(facts, "agent.markers.pid_file")
        fix = start_fix(facts, remove=[pid_file["path"]]) if pid_file.get("path") else None
        yield seen(fix=fix, path=pid_file.get("path"), pid=pid_file.get("pid"), command=pid_file.get("command"))


@finding(
    on=(WINDOWS,),
    severity="blocker",
    title="The agent's service hangs while it stops",
    evidence="the service {name} was told to stop and has not (state StopPending, process {pid})",
    action="Restart RdAgent, wait five minutes, then end the process of the service that hangs and start it.",
    remedy="agent.service",
    codes=AGENT,
    doc=WINDOWS_TROUBLE,
)
def agent_service_stop_pending(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for row in agent_services(facts):
        if row.get("state") == "stop_pending":
            yield seen(fix=service_fix(row["name"], state="started"), name=row["name"], pid=row.get("pid"))


@finding(
    on=(WINDOWS,),
    severity="blocker",
    title="The agent is registered as a service, but its program is gone",
    evidence="the service {name} starts {path}, which does not exist",
    action="Install the agent anew from the MSI that Microsoft publishes; name it with its checksum in agent_msi and allow it.",
    remedy="agent.install",
    consent="agent_install",
    codes=NO_AGENT,
    doc=WINDOWS_TROUBLE,
)
def agent_service_path_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for row in agent_services(facts):
        if row.get("image_exists") is False:
            yield seen(name=row["name"], path=row.get("image_path"))


@finding(
    on=(WINDOWS,),
    severity="blocker",
    title="The .NET Framework is older than the agent needs",
    evidence="the .NET Framework's Release is {release}, the agent needs at least {minimum} (4.5)",
    action="Install .NET Framework 4.5 or newer (4.8 is the last one), restart the system, and restart the agent.",
    codes=AGENT,
    doc=WINDOWS_AGENT,
)
def agent_dotnet_old(facts: Facts, limits: Limits) -> Iterator[Seen]:
    release = get(facts, "agent.dotnet.release")
    if release is not None and release < limits["dotnet_release"]:
        yield seen(release=release, minimum=int(limits["dotnet_release"]))


@finding(
    on=(WINDOWS,),
    severity="blocker",
    title="64-bit programs of the .NET Framework are switched off",
    evidence="{key}: Enable64Bit is 0, so the agent's 64-bit programs do not start",
    action="Set Enable64Bit to 1 (DWORD) below HKLM\\SOFTWARE\\Microsoft\\.NETFramework and restart the agent.",
    remedy="extension.prerequisites",
    codes=AGENT,
    doc=WINDOWS_TROUBLE,
)
def agent_dotnet_64bit_off(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "agent.dotnet.enable_64bit") == 0:
        key = "HKLM\\SOFTWARE\\Microsoft\\.NETFramework"
        yield seen(fix=registry_fix(key, "Enable64Bit", "dword", 1, {"type": "dword", "data": 0}), key=key)


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent's service is masked",
    evidence="{unit} is masked, so nothing can start it",
    action="Unmask, enable and start the service.",
    remedy="agent.service",
    codes=AGENT,
)
def agent_service_masked(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if service_of(facts).get("masked"):
        stopped = service_of(facts).get("active_state") != "active"
        yield seen(fix=start_fix(facts, unmasked=True) if stopped else unit_fix(facts, unmasked=True), unit=service_of(facts).get("unit"))


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent's service failed too often and is not started any more",
    evidence="{unit} failed too often in a short time (result {result}), so systemd starts it no more",
    action="Reset the failed state and start the service; read the agent's log when it fails again.",
    remedy="agent.service",
    codes=AGENT,
    explained_by=CANNOT_START,
)
def agent_start_limit_hit(facts: Facts, limits: Limits) -> Iterator[Seen]:
    service = service_of(facts)
    if service.get("start_limit_hit"):
        yield seen(fix=start_fix(facts), unit=service.get("unit"), result=service.get("result"))


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent's service has failed",
    evidence="{unit} has failed: result {result}, exit status {status}",
    action="Start the service; read the agent's log when it fails again.",
    remedy="agent.service",
    codes=AGENT,
    explained_by=CANNOT_START,
)
def agent_service_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    service = service_of(facts)
    if service.get("active_state") == "failed" and not service.get("start_limit_hit") and not service.get("masked"):
        yield seen(fix=start_fix(facts), unit=service.get("unit"), result=service.get("result"), status=service.get("exit_status"))


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent's service does not run",
    evidence="{unit} is inactive ({sub_state}) and no agent process runs",
    action="Start the service.",
    remedy="agent.service",
    codes=AGENT,
    explained_by=CANNOT_START,
)
def agent_service_stopped(facts: Facts, limits: Limits) -> Iterator[Seen]:
    service = service_of(facts)
    if service.get("active_state") != "inactive" or service.get("masked") or daemons(facts):
        return
    if not _condition_failed(facts) and not _pid_file_stale(facts):
        yield seen(fix=start_fix(facts), unit=service.get("unit"), sub_state=service.get("sub_state"))


@on_windows(
    doc=WINDOWS_TROUBLE,
    evidence="the service {name} is {state} (start type {start_type})",
    action="Start RdAgent, then WindowsAzureGuestAgent.",
)
def agent_service_stopped_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    # One whose program is gone cannot be started: agent_service_path_missing.
    for row in agent_services(facts):
        if row.get("state") in ("stopped", "paused") and row.get("image_exists") is not False:
            fix = service_fix(row["name"], start_type="auto", state="started")
            yield seen(fix=fix, name=row.get("name"), state=row.get("state"), start_type=row.get("start_type"))


@finding(
    on=(LINUX,),
    severity="risk",
    title="The agent's service will not start with the system",
    evidence="{unit} is disabled: it will not start with the system ({state} now)",
    action="Enable the service.",
    remedy="agent.service",
    codes=AGENT,
)
def agent_service_disabled(facts: Facts, limits: Limits) -> Iterator[Seen]:
    service = service_of(facts)
    if service.get("unit_file_state") == "disabled" and not service.get("masked"):
        yield seen(fix=unit_fix(facts, enabled=True), unit=service.get("unit"), state=service.get("active_state"))


@on_windows(
    doc=WINDOWS_TROUBLE,
    evidence="the service {name} has start type {start_type}: it will not start with the system ({state} now)",
    action="Set the start type of RdAgent and WindowsAzureGuestAgent to automatic.",
)
def agent_service_disabled_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for row in agent_services(facts):
        if row.get("start_type") in ("disabled", "manual"):
            fix = service_fix(row["name"], start_type="auto")
            yield seen(fix=fix, name=row["name"], start_type=row["start_type"], state=row.get("state") or "state unknown")


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent's extension handler does not run",
    evidence="the agent's daemon (process {pid}) has run for {age}, but its extension handler does not run",
    action="Restart the agent; if the handler still does not run, read the end of the agent's log.",
    remedy="agent.service",
    undoable=False,
    codes=AGENT,
    explained_by=("agent_python_missing", "agent_openssl_missing", "agent_lib_dir_noexec", "agent_lib_dir_full"),
)
def agent_handler_dead(facts: Facts, limits: Limits) -> Iterator[Seen]:
    running = daemons(facts)
    if not running or handlers_of(facts) or get(facts, "agent.markers.disable_agent") is not False:
        return
    age_s = max(daemon.get("age_s") or 0 for daemon in running)
    if age_s > limits["handler_missing_s"]:
        yield seen(fix=start_fix(facts), pid=running[0].get("pid"), age=duration(age_s))


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent's extension handler fails again and again",
    evidence={
        "failures": "the daemon started its extension handler again and again: it failed {count} times in the last hour, last at {last_at}",
    },
    action="Run the command that the log names by hand, as root: it says why it ends. A restart does not help; reinstall the agent's package or "
    "repair its Python.",
    codes=AGENT,
    explained_by=("agent_python_missing", "agent_openssl_missing", "agent_lib_dir_noexec", "agent_lib_dir_full"),
)
def agent_handler_failing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """A handler that ends again and again is there at most looks; one that has stayed since is well."""
    failures = part(facts, "agent.handler_failures")
    count = failures.get("count")
    if count is None or count <= limits["handler_failures_per_hour"]:
        return
    if any((handler.get("age_s") or 0) > limits["handler_missing_s"] for handler in handlers_of(facts)):
        return
    yield seen("failures", count=count, last_at=failures.get("last_at"))
    if failures.get("line"):
        yield seen("quote", path=get(facts, "agent.log.path"), line=failures["line"])


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The agent is in a restart loop",
    evidence={
        "unit": "{unit} ends and is started again by systemd ({restarts} times so far): result {result}, exit status {status}",
        "log": "{path}: the agent started {starts} times in the last hour",
    },
    action="Read the end of the agent's log and of journalctl -u for its unit: it shows the reason.",
    codes=AGENT,
    explained_by=CANNOT_START,
)
def agent_restarting(facts: Facts, limits: Limits) -> Iterator[Seen]:
    service, starts = service_of(facts), get(facts, "agent.log.starts_last_hour")
    if get(facts, "agent.markers.pid_file.stale") or service.get("start_limit_hit"):
        return  # another finding says why it ends, or that it is not started any more
    if service.get("active_state") == "activating" and service.get("sub_state") == "auto-restart":
        status = service.get("exit_status")
        yield seen("unit", unit=service.get("unit"), restarts=service.get("restarts"), result=service.get("result"), status=status)
    elif starts is not None and starts > limits["starts_per_hour"]:
        yield seen("log", path=get(facts, "agent.log.path"), starts=starts)


def _condition_failed(facts: Facts) -> bool:
    return agent_down(facts) and service_of(facts).get("condition_result") is False


@finding(
    on=(LINUX,),
    severity="blocker",
    title="A condition of the agent's unit does not hold",
    evidence="{unit} is skipped at every start, without an error: {reason}",
    action="Bring back what the condition asks for; starting again does not help.",
    codes=AGENT,
)
def agent_condition_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    service = service_of(facts)
    if _condition_failed(facts):
        reasons = ["{0} does not hold".format(condition) for condition in service.get("conditions_failed") or []]
        for reason in reasons or ["a condition of the unit does not hold (ConditionResult=no)"]:
            yield seen(unit=service.get("unit"), reason=reason)


@finding(
    severity="risk",
    title="The agent cannot fetch its goal state",
    evidence="{path}: {line}",
    action="Look at the findings of connectivity first; without one of those, redeploy the VM to another host.",
    codes=NETWORK,
    explained_by=NO_PATH,
    windows={"doc": WINDOWS_TROUBLE},
)
def agent_goal_state_errors(facts: Facts, limits: Limits) -> Iterator[Seen]:
    error, done = (log_match(facts, "agent.log", meaning) for meaning in ("goal_state_error", "goal_state_done"))
    if not error or not error.get("at") or not get(facts, "collected_at"):
        return
    if done and (done.get("at") or "") >= error["at"]:
        return
    if epoch(get(facts, "collected_at")) - epoch(error["at"]) <= limits["goal_state_error_age_s"]:
        yield from quoted(facts, "agent.log", "goal_state_error")


@finding(
    severity="risk",
    title="The agent reports that it is not ready",
    evidence="{path}: the agent reports itself as {status}",
    action="Read the end of the agent's log: it shows the reason.",
    codes=AGENT,
    explained_by=NO_PATH,
    windows={"doc": WINDOWS_TROUBLE, "action": "Read the end of C:\\WindowsAzure\\Logs\\WaAppAgent.log: it shows the reason."},
)
def agent_not_ready(facts: Facts, limits: Limits) -> Iterator[Seen]:
    report = part(facts, "extension.aggregate")
    if report.get("agent_status") not in (None, "Ready") and (report.get("age_s") or 0) <= limits["report_age_s"]:
        yield seen(path=report.get("path"), status=report.get("agent_status"))


@finding(
    on=(LINUX,),
    severity="risk",
    title="The agent is running but its heartbeat is stale",
    evidence="the newest heartbeat in {path} is {age} old, one is due every 30 minutes",
    action="Restart the agent.",
    remedy="agent.service",
    undoable=False,
    codes=AGENT,
)
def agent_heartbeat_stale(facts: Facts, limits: Limits) -> Iterator[Seen]:
    beat, handlers = part(facts, "agent.heartbeat"), handlers_of(facts)
    if beat.get("age_s") is None or beat["age_s"] <= limits["heartbeat_age_s"] or not handlers or beat.get("periodic") is False:
        return
    if min(handler.get("age_s") or 0 for handler in handlers) > limits["heartbeat_age_s"]:
        yield seen(fix=start_fix(facts), path=get(facts, "agent.log.path"), age=duration(beat["age_s"]))


@on_windows(
    doc=WINDOWS_TROUBLE,
    evidence="the agent's newest heartbeat is of {at}, {age} ago, though its service runs",
    action="Restart WindowsAzureGuestAgent when no backup runs.",
)
def agent_heartbeat_stale_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    beat, name = part(facts, "agent.heartbeat"), WINDOWS_SERVICES[1]
    if beat.get("age_s") is None or beat["age_s"] <= limits["windows_heartbeat_age_s"]:
        return
    started = [handler.get("age_s") for handler in handlers_of(facts) if handler.get("age_s") is not None]
    if windows_service(facts, name).get("state") != "running" or (started and min(started) <= limits["windows_first_heartbeat_s"]):
        return
    yield seen(fix=service_fix(name, start_type="auto", state="restarted"), at=beat.get("at"), age=duration(beat["age_s"]))
