# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 2, second part: the agent's configuration, its directory, and the programs that it runs with. All of it is of Linux guests."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._agent import daemons, missing, start_fix
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Fix,
    Limits,
    Rule,
    Seen,
    get,
    items,
    log_match,
    part,
    quoted,
    seen,
    size,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import AGENT, ARTICLE, LINUX_AGENT, STATUS, UPDATE_AGENT
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import LINUX

BACKUP_SWITCH = "Extensions.Enabled"
VERBOSE = "Logs.Verbose"
UNUSUAL = ("/usr/local/", "/opt/", "/home/", "/root/")

cause = Cause(2, doc=LINUX_AGENT, module=__name__)


def finding(**columns: Any) -> Callable[[Rule], Rule]:
    return cause.finding(on=(LINUX,), **columns)


def value_of(facts: Facts, key: str) -> Mapping[str, Any]:
    return part(facts, "agent.config.values").get(key) or {}


def _where(facts: Facts, value: Mapping[str, Any]) -> str:
    path = get(facts, "agent.config.path")
    return "{0} line {1}".format(path, value["line"]) if value.get("line") else "{0} (default)".format(path)


def _setting(facts: Facts, **settings: str) -> Fix:
    """Return what waagent_conf has to write, and what each key says now; None where it is not in the file."""
    wanted = {key.replace("_", "."): value for key, value in settings.items()}
    return {"settings": wanted, "expect": {key: _written(facts, key) for key in wanted}}


def _written(facts: Facts, key: str) -> Any:
    value = value_of(facts, key)
    return value.get("value") if value.get("line") else None


@finding(
    severity="blocker",
    title="The agent's configuration is missing",
    evidence="{path} does not exist",
    action="Bring /etc/waagent.conf back from a backup or from the package (apt: reinstall with --force-confmiss; dnf, zypper: reinstall).",
    codes=AGENT,
)
def agent_conf_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "agent.config.exists") is False and not missing(facts):
        yield seen(path=get(facts, "agent.config.path"))


@finding(
    severity="blocker",
    title="The agent cannot read its configuration",
    evidence="{path}: {problem}",
    action="Correct the file by hand, or bring /etc/waagent.conf back from a backup or from the package. Do not restart the agent before.",
    codes=AGENT,
)
def agent_conf_unreadable(facts: Facts, limits: Limits) -> Iterator[Seen]:
    problem = get(facts, "agent.config.problem")
    if problem:
        yield seen(path=get(facts, "agent.config.path"), problem=problem)


@finding(
    severity="blocker",
    title="The agent's configuration is empty",
    evidence="{path} is empty; the agent refuses to start with it",
    action="Bring /etc/waagent.conf back from a backup or from the package.",
    codes=AGENT,
)
def agent_conf_empty(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "agent.config.empty"):
        yield seen(path=get(facts, "agent.config.path"))


@finding(
    severity="blocker",
    title="Extensions are switched off in the agent's configuration",
    evidence="{where}: {key}={value}",
    action="Set Extensions.Enabled=y in the agent's configuration and restart the agent.",
    remedy="agent.configuration",
    codes=AGENT,
    doc=ARTICLE,
)
def agent_extensions_disabled(facts: Facts, limits: Limits) -> Iterator[Seen]:
    value = value_of(facts, BACKUP_SWITCH)
    if value.get("effective") is False:
        yield seen(fix=_setting(facts, Extensions_Enabled="y"), where=_where(facts, value), key=BACKUP_SWITCH, value=value.get("value"))
        yield from quoted(facts, "agent.log", "extensions_disabled")


@finding(
    severity="notice",
    title="A key is set more than once in the agent's configuration",
    evidence="{path}: {key} is set on lines {lines}; only the last one counts",
    action="Keep the last line, the one that counts, and remove the others.",
    remedy="agent.configuration",
    codes=STATUS,
)
def agent_conf_duplicate_keys(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for duplicate in items(facts, "agent.config.duplicates"):
        lines = ", ".join(str(line) for line in duplicate.get("lines", []))
        yield seen(fix={"canonical": True}, path=get(facts, "agent.config.path"), key=duplicate.get("key"), lines=lines)


@finding(
    severity="notice",
    title="The agent's configuration is written in a way that the backup extension cannot read",
    evidence="{path} line {line}: the agent reads {key}, the backup extension's stricter reader stumbles over blanks and quotes",
    action="Write Key=Value without blanks and quotes.",
    remedy="agent.configuration",
    codes=STATUS,
)
def agent_conf_loose_syntax(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for entry in items(facts, "agent.config.loose"):
        yield seen(fix={"canonical": True}, path=get(facts, "agent.config.path"), line=entry.get("line"), key=entry.get("key"))


@finding(
    severity="notice",
    title="A key in the agent's configuration is misspelled",
    evidence="{path} line {line}: {key} is no key of the agent and is ignored; {meant} is meant",
    action="Correct or remove the line; the agent ignores keys that it does not know, and case matters.",
    codes=STATUS,
)
def agent_conf_unknown_key(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for entry in items(facts, "agent.config.unknown_backup_keys"):
        yield seen(path=get(facts, "agent.config.path"), **{key: entry.get(key) for key in ("line", "key", "meant")})


@finding(
    severity="risk",
    title="A value in the agent's configuration is not understood",
    evidence="{where}: {key}={value} is not a value that the agent knows; it uses {effective}",
    action="Write y or n for switches and whole numbers for numbers, then restart the agent; until then its default counts.",
    codes=STATUS,
)
def agent_conf_invalid_value(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for key in sorted(part(facts, "agent.config.values")):
        value = value_of(facts, key)
        if value.get("valid") is False and value.get("value") is not None:
            yield seen(where=_where(facts, value), key=key, value=value["value"], effective=str(value.get("effective")))


@finding(
    severity="risk",
    title="The agent has not read its present configuration",
    evidence="{path} was changed at {modified}, the agent that runs read it at its start at {started}",
    action="Restart the agent; it reads its configuration at its start only.",
    remedy="agent.service",
    undoable=False,
    codes=STATUS,
)
def agent_conf_not_loaded(facts: Facts, limits: Limits) -> Iterator[Seen]:
    running = daemons(facts)
    modified_at, started_at = get(facts, "agent.config.modified_at"), running[0].get("started_at") if running else None
    modified, started = epoch(modified_at), epoch(started_at)
    if get(facts, "agent.config.problem") or get(facts, "agent.config.empty"):
        return  # a restart would end the agent that still runs
    if modified is not None and started is not None and modified - started > limits["conf_margin_s"]:
        yield seen(fix=start_fix(facts), path=get(facts, "agent.config.path"), modified=modified_at, started=started_at)


@finding(
    severity="notice",
    title="Provisioning.Agent is not auto",
    evidence="{where}: Provisioning.Agent={value}, Microsoft asks for auto",
    action="Set Provisioning.Agent=auto, as Microsoft's article asks, unless you have a reason not to.",
    remedy="agent.configuration",
    consent="provisioning_agent",
    codes=STATUS,
    doc=ARTICLE,
)
def agent_provisioning_agent(facts: Facts, limits: Limits) -> Iterator[Seen]:
    value = value_of(facts, "Provisioning.Agent")
    if value.get("source") == "file" and value.get("effective") not in (None, "auto", "cloud-init"):
        yield seen(fix=_setting(facts, Provisioning_Agent="auto"), where=_where(facts, value), value=value.get("value"))


@finding(
    severity="notice",
    title="The agent does not update itself",
    evidence="{where}: {key}={value}, so the agent does not update itself",
    action="Set AutoUpdate.UpdateToLatestVersion=y (AutoUpdate.Enabled=y for agents before 2.10.0.8).",
    remedy="agent.auto_update",
    consent="auto_update",
    codes=STATUS,
    doc=UPDATE_AGENT,
)
def agent_auto_update_off(facts: Facts, limits: Limits) -> Iterator[Seen]:
    latest, enabled = value_of(facts, "AutoUpdate.UpdateToLatestVersion"), value_of(facts, "AutoUpdate.Enabled")
    # The second key wins where it is set; where it is not, it follows the first.
    decides, key = (latest, "AutoUpdate.UpdateToLatestVersion") if latest.get("source") == "file" else (enabled, "AutoUpdate.Enabled")
    if decides.get("effective") is False:
        both = {"AutoUpdate_UpdateToLatestVersion": "y"} if latest.get("line") else {}
        yield seen(fix=_setting(facts, AutoUpdate_Enabled="y", **both), where=_where(facts, decides), key=key, value=decides.get("value"))


@finding(
    severity="notice",
    title="Verbose logging of the agent is on",
    evidence="{where}: Logs.Verbose={value}",
    action="Set Logs.Verbose=n when the diagnosis is over; the log grows fast.",
    remedy="agent.verbose_logging",
    consent="verbose_logging_off",
)
def agent_verbose_logging(facts: Facts, limits: Limits) -> Iterator[Seen]:
    value = value_of(facts, VERBOSE)
    if value.get("effective") is True and limits.get("verbose_logging") != "on":
        yield seen(fix=_setting(facts, Logs_Verbose="n"), where=_where(facts, value), value=value.get("value"))


@finding(
    severity="notice",
    title="Verbose logging of the agent is wanted, and off",
    evidence="{where}: Logs.Verbose={value}, and vmbackup_verbose_logging is on",
    action="Set Logs.Verbose=y and restart the agent; take it back when the diagnosis is over, since the log grows fast.",
    remedy="agent.verbose_logging",
)
def agent_verbose_logging_wanted(facts: Facts, limits: Limits) -> Iterator[Seen]:
    value = value_of(facts, VERBOSE)
    if limits.get("verbose_logging") == "on" and value.get("effective") is False:
        yield seen(fix=_setting(facts, Logs_Verbose="y"), where=_where(facts, value), value=value.get("value") or "n")


@finding(
    severity="notice",
    title="A policy file decides which extensions may run",
    evidence={"policy": "{path} decides which extensions may run"},
    action="Check that the policy allows Microsoft.Azure.RecoveryServices.VMSnapshotLinux.",
    codes=AGENT,
)
def agent_policy_active(facts: Facts, limits: Limits) -> Iterator[Seen]:
    policy = part(facts, "agent.markers.policy")
    if policy.get("enabled") and policy.get("exists"):
        yield seen("policy", path=policy.get("path"))
        yield from quoted(facts, "agent.log", "extension_forbidden")


@finding(
    severity="notice",
    title="The platform holds the handling of extensions",
    evidence="{path}: {line}",
    action="Wait until the scale set's over-provisioning is done; if the problem persists, stop (deallocate) and start the VM.",
    codes=AGENT,
    side="azure",
)
def agent_on_hold(facts: Facts, limits: Limits) -> Iterator[Seen]:
    hold, done = (log_match(facts, "agent.log", meaning) for meaning in ("on_hold", "goal_state_done"))
    # A hold is over when goal states were completed since.
    if hold and not (done and (done.get("at") or "") >= (hold.get("at") or "")):
        yield from quoted(facts, "agent.log", "on_hold")


@finding(
    severity="blocker",
    title="The agent's Python interpreter is missing",
    evidence="the agent's interpreter {path} does not exist (resolved: {resolved})",
    action="Reinstall the distribution's Python package, or put the alternatives link back.",
    codes=AGENT,
)
def agent_python_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    python = part(facts, "agent.python")
    if python.get("exists") is False:
        yield seen(path=python.get("path"), resolved=python.get("resolved"))


def _unusual(facts: Facts, name: str) -> str | None:
    """Return where a program of the agent lies when no distribution puts one there; a link to it counts as what it leads to."""
    resolved = get(facts, "agent.{0}.resolved".format(name))
    strange = bool(resolved) and resolved.startswith(UNUSUAL)
    return resolved if strange and get(facts, "agent.{0}.exists".format(name)) is not False else None


@finding(
    severity="notice",
    title="The agent runs on a Python that the distribution did not install",
    evidence="the agent's interpreter {path} is {resolved}, which no distribution installs",
    action="Point the system's python3 back to the distribution's interpreter.",
    codes=AGENT,
)
def agent_python_unusual(facts: Facts, limits: Limits) -> Iterator[Seen]:
    resolved = _unusual(facts, "python")
    if resolved:
        yield seen(path=get(facts, "agent.python.path"), resolved=resolved)


@finding(
    severity="risk",
    title="The agent's openssl is missing",
    evidence="the agent uses {path} for its certificates, and there is no such program",
    action="Install openssl from the distribution, or correct OS.OpensslPath in the agent's configuration and restart the agent.",
    codes=AGENT,
)
def agent_openssl_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    openssl = part(facts, "agent.openssl")
    if openssl.get("exists") is False and not missing(facts):
        yield seen(path=openssl.get("path"))


@finding(
    severity="notice",
    title="The agent uses an openssl that the distribution did not install",
    evidence="the agent's openssl {path} is {resolved}, which no distribution installs",
    action="Let OS.OpensslPath name the distribution's openssl; certificates of the extensions depend on it.",
    codes=AGENT,
)
def agent_openssl_unusual(facts: Facts, limits: Limits) -> Iterator[Seen]:
    resolved = _unusual(facts, "openssl")
    if resolved:
        yield seen(path=get(facts, "agent.openssl.path"), resolved=resolved)


@finding(
    severity="risk",
    title="The system is in FIPS mode, and the agent does not know",
    evidence="the system runs in FIPS mode (/proc/sys/crypto/fips_enabled is 1), but {where}: OS.EnableFIPS={value}",
    action="Set OS.EnableFIPS=y in the agent's configuration and restart the agent; certificates cannot be read otherwise.",
    codes=STATUS,
)
def agent_fips_not_set(facts: Facts, limits: Limits) -> Iterator[Seen]:
    value = value_of(facts, "OS.EnableFIPS")
    if get(facts, "system.fips") and value.get("effective") is False:
        yield seen(where=_where(facts, value), value=value.get("value") or "n")


ON_MOUNT = "{path} lies on {mount_point} ({fs_type}), which is mounted "


def _directory(facts: Facts) -> Mapping[str, Any]:
    return part(facts, "agent.lib_dir")


def _place(facts: Facts) -> dict[str, Any]:
    return {key: _directory(facts).get(key) for key in ("path", "mount_point", "fs_type")}


@finding(
    severity="blocker",
    title="The agent's directory is mounted noexec",
    evidence=ON_MOUNT + "noexec: no extension can be run",
    action="Mount the file system without noexec, in /etc/fstab too.",
    codes=AGENT,
)
def agent_lib_dir_noexec(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if _directory(facts).get("noexec"):
        yield seen(**_place(facts))


@finding(
    severity="blocker",
    title="The agent's directory is read-only",
    evidence=ON_MOUNT + "read-only",
    action="Look in dmesg for why the file system became read-only, repair it, mount it writable.",
    codes=AGENT,
)
def agent_lib_dir_read_only(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if _directory(facts).get("read_only") and not get(facts, "system.image_based"):
        yield seen(**_place(facts))


@finding(
    severity="blocker",
    title="The agent's directory has no space left",
    evidence={"bytes": "{path} has {free} left on {mount_point}", "inodes": "{path} has no inode left on {mount_point}"},
    action="Free space on that file system; the agent cannot unpack extensions or write their status.",
    codes=AGENT,
)
def agent_lib_dir_full(facts: Facts, limits: Limits) -> Iterator[Seen]:
    directory = _directory(facts)
    free, inodes = directory.get("free_bytes"), directory.get("free_inodes")
    if directory.get("read_only"):
        return
    if free is not None and free < limits["lib_dir_free_bytes"]:
        yield seen("bytes", free=size(free), **_place(facts))
    if inodes == 0:
        yield seen("inodes", **_place(facts))
