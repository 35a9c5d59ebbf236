# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 2: the guest agent is missing, broken or old. agent_service.py says whether it runs, agent_config.py what it needs around it."""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.module_utils._values import version_key
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._agent import (
    handlers_of,
    missing,
    newest_package,
    older,
    package_fix,
    services_gone,
    start_fix,
    unit_fix,
    upstream,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Limits,
    Seen,
    get,
    items,
    part,
    seen,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import (
    AGENT,
    AGENT_SUPPORT,
    LINUX_AGENT,
    NO_AGENT,
    UPDATE_AGENT,
    WINDOWS_AGENT,
    WINDOWS_TROUBLE,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import LINUX, WINDOWS

cause = Cause(2, doc=LINUX_AGENT, module=__name__)
finding, on_windows = cause.finding, cause.on_windows


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The guest agent is not installed",
    evidence="no package of the agent is installed ({manager}), there is no waagent program and no agent process",
    action="Install the agent from the distribution's repository.",
    remedy="agent.install",
    codes=NO_AGENT,
)
def agent_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if missing(facts):
        yield seen(manager=get(facts, "agent.package.manager"))


@on_windows(
    consent="agent_install",
    doc=WINDOWS_AGENT,
    evidence="there is no service {names}",
    action="Install the agent from the MSI that Microsoft publishes; name it with its checksum in agent_msi and allow it.",
)
def agent_missing_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    gone = services_gone(facts)
    if gone:
        program = ", and no program of the agent" if len(gone) > 1 and get(facts, "agent.binary") is None else ""
        yield seen(names=" and none called ".join(gone) + program)


@finding(
    on=(LINUX,),
    severity="blocker",
    title="The guest agent's package is half installed",
    evidence={
        "package": "package {name} {version} is {state} ({manager})",
        "older": "entries of older versions: {versions}",
        "others": "other packages are unfinished too: {names}",
    },
    action="Finish the installation that was interrupted: dpkg --configure -a, then install the package again; with rpm, remove the older entry.",
    remedy="agent.install",
    codes=NO_AGENT,
    doc=UPDATE_AGENT,
)
def agent_package_half_installed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    package = part(facts, "agent.package")
    if package.get("state") in (None, "installed"):
        return
    yield seen("package", fix=package_fix(facts), **{key: package.get(key) for key in ("name", "version", "state", "manager")})
    if package.get("older_versions"):
        yield seen("older", versions=", ".join(package["older_versions"]))
    if package.get("unfinished_others"):
        yield seen("others", names=", ".join(package["unfinished_others"][:10]))


def _local_code(facts: Facts) -> str | None:
    """Return the path of agent code that Python takes before the package's, None without any. Packages and restarts do not change it."""
    return get(facts, "agent.code.path") if get(facts, "agent.code.local") else None


@finding(
    on=(LINUX,),
    severity="notice",
    title="The guest agent was not installed from a package",
    evidence={
        "local": "{path} (version {version}) is not the distribution's, and Python takes it before the code of any package{package}",
        "binary": "{binary} is there, but no package of the distribution owns an agent",
    },
    action="Remove the code that is not the package's (pip uninstall, or the directory named), install the distribution's package, restart the agent; "
    "Microsoft advises against code from the agent's source site.",
    codes=AGENT,
    doc=UPDATE_AGENT,
)
def agent_not_from_package(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if _local_code(facts):
        package = part(facts, "agent.package")
        words = "; the package is {0} {1}".format(package.get("name"), package.get("version")) if package.get("installed") else ""
        # It is what runs, so neither an update of the package nor a restart helps where it is too old.
        severity = "risk" if _old(facts, limits) else None
        yield seen("local", severity=severity, path=_local_code(facts), version=get(facts, "agent.version.daemon"), package=words)
    elif get(facts, "agent.package.installed") is False and get(facts, "agent.binary"):
        yield seen("binary", binary=get(facts, "agent.binary"))


def _would_run_newer(facts: Facts, limits: Limits) -> bool:
    """Say whether an agent that does not run would start a self-update that is new enough."""
    if handlers_of(facts) or (part(facts, "agent.config.values").get("AutoUpdate.Enabled") or {}).get("effective") is False:
        return False
    usable = [entry.get("version") for entry in items(facts, "agent.auto_update.directories") if entry.get("rejected") is False]
    return any(version and not older(version, limits["minimum_linux_agent"]) for version in usable)


def _old(facts: Facts, limits: Limits) -> dict[str, Any] | None:
    """Return what is told of a Linux agent that is too old, None where it is not known to be."""
    version = get(facts, "agent.version.goal_state")
    if not older(version, limits["minimum_linux_agent"]):
        return None
    if get(facts, "agent.version.goal_state_source") == "installed" and _would_run_newer(facts, limits):
        return None
    package = part(facts, "agent.package")
    return {
        "version": version,
        "source": get(facts, "agent.version.goal_state_source"),
        "minimum": limits["minimum_linux_agent"],
        "package": "{0} {1}".format(package.get("name"), package.get("version")),
    }


def _package_new_enough(facts: Facts, limits: Limits) -> bool:
    """Say whether the installed package is new enough, so that only the running process is not."""
    installed = get(facts, "agent.package.version")
    return bool(installed) and not older(upstream(installed), limits["minimum_linux_agent"])


OLD = "the agent that runs is {version} (seen in: {source}), the oldest supported is {minimum}; installed package: {package}"


@finding(
    on=(LINUX,),
    severity="risk",
    title="The guest agent is older than Azure supports",
    evidence={"old": OLD, "offer": "the repository offers {candidate}"},
    action="Update the agent from the distribution's repository.",
    remedy="agent.update",
    codes=AGENT,
    doc=AGENT_SUPPORT,
)
def agent_version_old(facts: Facts, limits: Limits) -> Iterator[Seen]:
    old, newer = _old(facts, limits), newest_package(facts)
    if not old or _local_code(facts) or get(facts, "agent.package.held"):
        return
    # Where the repositories were asked and have none, agent_version_old_no_package or agent_restart_pending tells.
    if newer or not get(facts, "agent.package.candidate_looked"):
        yield seen("old", fix=package_fix(facts), **old)
    if newer:
        yield seen("offer", candidate=newer)


@on_windows(
    consent="agent_install",
    evidence="the agent is {version} (seen in: {source}; {by}), the oldest supported is {minimum}",
    action="Update the agent from the MSI that Microsoft publishes; name it with its checksum in agent_msi and allow it. Not while a backup runs.",
)
def agent_version_old_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    version = get(facts, "agent.version.goal_state")
    if not older(version, limits["minimum_windows_agent"]) or services_gone(facts):
        return
    by = {"msi": "installed from the MSI {0}".format(get(facts, "agent.package.version")), "platform": "brought by the platform"}
    sources = {"program": "the version of its program", "registry": "the registry"}
    yield seen(
        version=version,
        source=sources.get(get(facts, "agent.version.goal_state_source")),
        by=by.get(get(facts, "agent.installed_by"), "installed by unknown"),
        minimum=limits["minimum_windows_agent"],
    )


@finding(
    on=(LINUX,),
    severity="risk",
    title="The guest agent is old, and its package is held back",
    evidence={"old": OLD, "held": "package {name} is held back from updates ({manager})"},
    action="Find out who held it and why; then allow the update. The hold is put back afterwards.",
    remedy="agent.update",
    consent="package_unhold",
    codes=AGENT,
    doc=AGENT_SUPPORT,
)
def agent_package_held(facts: Facts, limits: Limits) -> Iterator[Seen]:
    old = _old(facts, limits)
    if old and not _local_code(facts) and get(facts, "agent.package.held"):
        name = get(facts, "agent.package.name")
        yield seen("old", **old)
        yield seen("held", fix=package_fix(facts, unhold=True), name=name, manager=get(facts, "agent.package.manager"))


@finding(
    on=(LINUX,),
    severity="risk",
    title="The guest agent is old, and the repositories have no newer one",
    evidence={
        "old": OLD,
        "offer": "the configured repositories offer {candidate}",
        "disabled": "repositories that may hold a newer one are disabled: {names}",
    },
    action="Ask the distribution's support for a newer package; on Oracle Linux enable the add-ons repository, on RHEL check the "
    "subscription or update infrastructure. Do not install from source.",
    codes=AGENT,
    doc=UPDATE_AGENT,
)
def agent_version_old_no_package(facts: Facts, limits: Limits) -> Iterator[Seen]:
    old = _old(facts, limits)
    if not old or _local_code(facts) or not get(facts, "agent.package.candidate_looked") or newest_package(facts):
        return
    if _package_new_enough(facts, limits):
        return
    yield seen("old", **old)
    yield seen("offer", candidate=get(facts, "agent.package.candidate") or "no package of the agent")
    disabled = items(facts, "agent.package.repositories_disabled")
    if disabled:
        yield seen("disabled", names=", ".join(disabled))


@finding(
    on=(LINUX,),
    severity="risk",
    title="A newer agent is installed, but the old one still runs",
    evidence="package {package} is installed, but {running} still runs",
    action="Restart the agent's service when no backup runs.",
    remedy="agent.service",
    undoable=False,
    codes=AGENT,
    doc=UPDATE_AGENT,
)
def agent_restart_pending(facts: Facts, limits: Limits) -> Iterator[Seen]:
    # With code of its own a restart would start the same again: agent_not_from_package.
    if not _local_code(facts) and _old(facts, limits) and _package_new_enough(facts, limits):
        yield seen(fix=start_fix(facts), package=get(facts, "agent.package.version"), running=get(facts, "agent.version.goal_state"))


@finding(
    on=(LINUX,),
    severity="risk",
    title="A self-update of the agent failed and was rejected",
    evidence="{path} was rejected by the agent: {count} failures, fatal: {fatal}, reason: {reason}",
    action="The agent skips this version by itself and goes on with the one that runs. Repair the reason shown, then let it try again: stop the "
    "agent, move the rejected directory away, start the agent. To stay with the version that runs, leave the directory where it is.",
    remedy="agent.retry_update",
    consent="update_retry",
    codes=AGENT,
    doc=UPDATE_AGENT,
)
def agent_update_rejected(facts: Facts, limits: Limits) -> Iterator[Seen]:
    running = get(facts, "agent.version.goal_state")
    for entry in items(facts, "agent.auto_update.directories"):
        overcome = running and entry.get("version") and version_key(entry["version"]) <= version_key(running)
        if entry.get("rejected") and not overcome:
            path = entry.get("path")
            yield seen(
                fix=unit_fix(facts, take=[path, "{0}.zip".format(path)]) if path else None,
                path=path,
                count=entry.get("failure_count"),
                fatal=entry.get("was_fatal"),
                reason=entry.get("reason") or "none given",
            )


@finding(
    on=(WINDOWS,),
    severity="risk",
    title="The agent's own update failed",
    evidence="the update to {version} came to state {state}, code {code}: {message}",
    action="Read the message and the end of TransparentInstaller.log below C:\\WindowsAzure\\Logs; if the problem persists, install the agent from its MSI.",
    codes=AGENT,
    doc=WINDOWS_TROUBLE,
)
def agent_update_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Only the newest version's record counts: an older one's failure was overcome."""
    newest: Mapping[str, Any] = next(iter(items(facts, "agent.update_state")), {})
    state, code, running = (newest.get("state") or "").lower(), newest.get("code"), get(facts, "agent.version.goal_state")
    if code in (None, 0) and not re.search("fail|error", state):
        return
    if not (running and newest.get("version") and version_key(running) >= version_key(newest["version"])):
        message = newest.get("message") or "no message"
        yield seen(version=newest.get("version"), state=newest.get("state"), code=code, message=message)
