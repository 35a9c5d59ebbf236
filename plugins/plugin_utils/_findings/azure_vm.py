# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 5, Azure: the VM, its agent and its extensions, as Azure sees them, beside what the guest says of itself."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch
from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import GONE
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._azure import (
    NUMBER,
    STOPPED,
    az,
    azure,
    code_of,
    failed,
    guest_was_seen,
    lower,
    power,
    vm_arguments,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Limits,
    Seen,
    get,
    is_windows,
    items,
    part,
    seen,
    windows_service,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import (
    AGENT,
    AGENT_SUPPORT,
    ERRORS,
    NO_AGENT,
    OFFLINE,
    STATE,
    STATES,
    STUCK,
)

SNAPSHOT = "microsoft.azure.recoveryservices.vmsnapshot"
# Provisioning states that end by themselves.
BUSY = ("updating", "creating", "migrating")

cause = Cause(NUMBER, doc=ERRORS, module=__name__)
finding = azure(cause)


# Is there a VM, and does it run?


@finding(
    severity="blocker",
    title="The VM of this backup does not exist any more",
    evidence={"gone": "Azure has no VM {id}", "code": "the backup says {code}: {message}"},
    action="Restore or create the VM under its name, or stop its protection; the recovery points that are kept cost money.",
    codes=GONE,
)
def azure_vm_gone(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "azure.exists") is False and part(facts, "azure.backup"):
        yield seen("gone", id=get(facts, "azure.id"))
        if code_of(facts) in GONE:
            yield seen("code", code=code_of(facts), message=get(facts, "azure.backup.error.message"))


@finding(
    severity="blocker",
    title="The backup is of another VM than the one that has its name now",
    evidence="the backup failed with {code}, and Azure has a VM {id}",
    action="The VM was made anew or moved, which is another VM to Azure Backup. Stop protection of the old one, keeping its data, and protect the "
    "VM that is there.",
    codes=GONE,
)
def azure_vm_replaced(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if failed(facts) and get(facts, "azure.exists") is True and code_of(facts) in GONE:
        yield seen(code=code_of(facts), id=get(facts, "azure.id"))


@finding(
    severity="risk",
    title="The VM does not run",
    evidence="Azure calls the VM {power}",
    action="Start the VM and start a backup. A VM that is stopped is backed up without the guest's help only after its extension was "
    "installed once, while it ran.",
    codes=OFFLINE,
    doc=STATES,
)
def azure_vm_not_running(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """A stopped VM can be backed up, so that it is stopped matters only where that fails."""
    other = _runs_all_the_same(facts, limits) or _shut_down_inside(facts)
    if failed(facts) and power(facts) in (*STOPPED, "stopping", "deallocating") and not other:
        yield seen(power=power(facts), command=az("vm", "start", *vm_arguments(facts)))


def _shut_down_inside(facts: Facts) -> bool:
    """Say whether Azure calls the VM stopped, still allocated, and its guest was called and did not answer."""
    return power(facts) == "stopped" and get(facts, "contact.reached") is False


@finding(
    severity="risk",
    title="The VM was shut down from inside",
    evidence="Azure calls the VM stopped, still allocated; {message}",
    action="Start the VM, or deallocate it: Azure takes the state of a VM that was shut down from inside for a running one, and asks its agent.",
    remedy="azure.power_state",
    consent="power_state",
    undoable=False,
    codes=OFFLINE,
    doc=STATES,
)
def azure_vm_shut_down_inside(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Only what was tried counts: a guest that runs, though Azure calls it stopped, must not be deallocated."""
    if failed(facts) and _shut_down_inside(facts):
        yield seen(message=get(facts, "contact.message"), command=az("vm", "start", *vm_arguments(facts)))


def _runs_all_the_same(facts: Facts, limits: Limits) -> bool:
    """Say whether the guest already ran when Azure called the VM stopped, by more than two clocks may differ."""
    looked, uptime = epoch(get(facts, "collected_at")), get(facts, "system.uptime_s")
    asked, margin = epoch(get(facts, "azure.read_at")), limits["clock_offset_s"]
    if power(facts) not in STOPPED or looked is None or uptime is None or asked is None:
        return False
    # A guest whose clock is known to be wrong tells nothing of when it was started.
    return bool(abs(get(facts, "load.time.offset_s") or 0) <= margin and looked - uptime < asked - margin)


@finding(
    severity="risk",
    title="Azure calls the VM stopped, but its guest runs",
    evidence="Azure called the VM {power} at {read_at}; the guest has run for {uptime_s} seconds at {collected_at}",
    action="Reapply the VM's model, which makes Azure look again. If it still calls the VM stopped, restart it from Azure, not from inside.",
    codes=OFFLINE,
    doc=STATES,
)
def azure_vm_stopped_but_guest_runs(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """The address that answered may belong to another machine by now, which the guest's own age tells."""
    if _runs_all_the_same(facts, limits):
        yield seen(
            power=power(facts),
            read_at=get(facts, "azure.read_at"),
            uptime_s=get(facts, "system.uptime_s"),
            collected_at=get(facts, "collected_at"),
            command=az("vm", "reapply", *vm_arguments(facts)),
        )


@finding(
    severity="risk",
    title="Azure calls the VM running, but its guest does not answer",
    evidence="Azure calls the VM running; {message}",
    action="Look at the boot diagnostics. A guest that was shut down from inside, or hangs, cannot be backed up with its help: start it from "
    "Azure. If it runs, the way from the controller to it is closed, which is no matter of backup.",
    codes=NO_AGENT,
    doc=STATES,
)
def azure_vm_running_but_guest_silent(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Only what was tried counts: a guest that nobody called has not failed to answer."""
    if power(facts) == "running" and get(facts, "contact.reached") is False:
        yield seen(
            message=get(facts, "contact.message"),
            command=az("vm", "boot-diagnostics", "get-boot-log", *vm_arguments(facts)),
        )


# The agent


@finding(
    severity="blocker",
    title="Azure calls the agent not ready",
    evidence={
        "status": "the agent is {status} by Azure ({version}): {message}",
        "none": "the VM runs, and its agent has never reported to Azure since it was started",
    },
    action="Diagnose the guest: the agent is stopped, missing, or does not reach 168.63.129.16.",
    codes=(*NO_AGENT, "VMAgentStatusCommunicationError"),
    doc=AGENT_SUPPORT,
    explained_by=("azure_agent_not_provisioned", "agent_missing", "agent_service_stopped", "agent_disable_marker"),
)
def azure_agent_not_ready(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if _not_ready(facts) and not _agent_runs(facts):
        yield from _reported(facts)


def _not_ready(facts: Facts) -> bool:
    """Say whether Azure knows the agent of a running VM as not ready: None is a status that it did not tell."""
    if power(facts) != "running" or get(facts, "azure.view") != "read":
        return False
    agent = get(facts, "azure.agent")
    return agent is None or get(agent, "ready") is False


def _reported(facts: Facts) -> Iterator[Seen]:
    agent = part(facts, "azure.agent")
    if agent:
        yield seen(
            "status", status=agent.get("status"), version=agent.get("version") or "version not reported", message=agent.get("message")
        )
    else:
        yield seen("none")


def _agent_runs(facts: Facts) -> bool | None:
    """Say whether the agent runs in the guest; None where nobody looked."""
    if not guest_was_seen(facts):
        return None
    if is_windows(facts):
        state = windows_service(facts, "WindowsAzureGuestAgent").get("state")
        return None if state is None else state == "running"
    state = get(facts, "agent.service.active_state")
    processes = part(facts, "agent.processes")
    if state is None or not processes:
        return None
    return state == "active" and bool(processes.get("daemon") or processes.get("handler"))


@finding(
    severity="blocker",
    title="The agent runs in the guest, but Azure calls it not ready",
    evidence={
        "status": "the agent runs in the guest, and is {status} by Azure ({version}): {message}",
        "none": "the agent runs in the guest, and has never reported to Azure since the VM was started",
    },
    action="Look at the findings of connectivity first: the report goes to 168.63.129.16. Restart the agent. If Azure still calls it not "
    "ready after ten minutes, reapply the VM's model.",
    remedy="azure.reapply",
    undoable=False,
    codes=(*AGENT, "VMAgentStatusCommunicationError"),
    doc=AGENT_SUPPORT,
    explained_by=(
        "agent_disable_marker",
        "agent_service_stopped",
        "wireserver_unreachable",
        "hostgaplugin_unreachable",
        "agent_goal_state_errors",
        "agent_heartbeat_stale",
    ),
)
def azure_agent_report_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if _not_ready(facts) and _agent_runs(facts):
        for piece in _reported(facts):
            command = az("vm", "reapply", *vm_arguments(facts))
            yield piece._replace(data={**piece.data, "command": command}, fix={"agent": True})


@finding(
    severity="notice",
    title="Azure calls the agent ready, but it does not run in the guest",
    evidence="the agent is {status} by Azure since {time}, and does not run in the guest",
    action="Believe the guest: Azure keeps the last report for some time. Repair what the guest's findings name.",
    codes=NO_AGENT,
    doc=AGENT_SUPPORT,
)
def azure_agent_status_stale(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "azure.agent.ready") is True and _agent_runs(facts) is False:
        yield seen(status=get(facts, "azure.agent.status"), time=get(facts, "azure.agent.time"))


@finding(
    severity="blocker",
    title="Extensions are switched off in the VM's model",
    evidence="osProfile.allowExtensionOperations is false",
    action="Set it to true: the backup extension cannot be installed or called without.",
    codes=(*AGENT, "OperationNotAllowed"),
    doc=AGENT_SUPPORT,
)
def azure_extension_operations_off(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if get(facts, "azure.allow_extension_operations") is False:
        yield seen(command=az("vm", "update", *vm_arguments(facts), "--set", "osProfile.allowExtensionOperations=true"))


@finding(
    severity="risk",
    title="The VM was created without an agent",
    evidence="provisionVMAgent is false in the VM's model, and Azure has no agent that is ready",
    action="Install the agent in the guest. The flag cannot be changed; extensions work as soon as an agent reports and "
    "allowExtensionOperations is true.",
    codes=NO_AGENT,
    doc=AGENT_SUPPORT,
)
def azure_agent_not_provisioned(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """An agent that somebody installed later does as well, so the flag alone is no finding."""
    if get(facts, "azure.provision_vm_agent") is False and _not_ready(facts):
        yield seen()


# Provisioning and extensions


@finding(
    severity="risk",
    title="The VM is in a failed provisioning state",
    evidence="provisioning state {state}{reason}",
    action="Repair or remove the extension that failed, if one is named; else reapply the VM's model. What tells the causes apart is the reason: "
    "an extension, an allocation, the start of the system (OSProvisioning), or an update that broke off.",
    remedy="azure.reapply",
    undoable=False,
    codes=(*STATE, "OSProvisioningClientError", "AllocationFailed", "BCMCrpInternalError", "UserErrorCrpReportedUserError"),
    doc=STATES,
    explained_by=("azure_backup_extension_broken", "azure_extension_failed", "azure_extension_deleting"),
)
def azure_provisioning_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if lower(get(facts, "azure.provisioning_state")) == "failed":
        reason = get(facts, "azure.provisioning_error")
        yield seen(
            severity="blocker" if failed(facts) else None,
            state=get(facts, "azure.provisioning_state"),
            reason=": {0}".format(reason) if reason else "",
            command=az("vm", "reapply", *vm_arguments(facts)),
        )


@finding(
    severity="notice",
    title="An operation on the VM was under way",
    evidence="provisioning state {state} at {read_at}",
    action="Wait until it has ended and start a backup. An operation that does not end within hours is stuck: reapply the VM's model.",
    codes=("UserErrorVmProvisioningStateFailed", "ExtensionOperationInProgress", "VmNotInDesirableState", "UserErrorVmNotInDesirableState"),
    doc=STATES,
)
def azure_operation_under_way(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """It is nothing unusual in itself, so it is told only where a backup failed."""
    if failed(facts) and lower(get(facts, "azure.provisioning_state")) in BUSY:
        yield seen(state=get(facts, "azure.provisioning_state"), read_at=get(facts, "azure.read_at"))


def _is_own(type_: Any) -> bool:
    return lower(type_).startswith(SNAPSHOT)


@finding(
    severity="risk",
    title="An extension of the VM failed",
    evidence={
        "extension": "extension {name} ({type} {version}): {state}{message}",
        "handler": "the agent reports {type} {version} as {status}{message}",
    },
    action="Read the message. Repair or remove the extension: one that failed can keep the VM in a failed state, and that keeps backups from "
    "starting. The backup extension of a VM with managed disks is not listed by Azure: remove it in the guest; the next backup installs it again.",
    codes=(*STATE, "ExtensionOperationFailedForManagedDisks", "VMAgentStatusCommunicationError", "VMRestorePointInternalError"),
)
def azure_extension_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    told = {lower(extension.get("type")) for extension in _own_broken(facts)}
    for extension in items(facts, "azure.extensions"):
        if _is_broken(extension) and lower(extension.get("type")) not in told and lower(extension.get("provisioning_state")) != "deleting":
            told.add(lower(extension.get("type")))
            yield seen("extension", **_shown(facts, extension))
    for handler in items(facts, "azure.handlers"):
        if lower(handler.get("level")) == "error" and lower(handler.get("type")) not in told:
            yield seen(
                "handler",
                severity="blocker" if _is_own(handler.get("type")) and failed(facts) else None,
                type=handler.get("type"),
                version=handler.get("version"),
                status=handler.get("status"),
                message=_said(handler),
            )


def _is_broken(extension: Mapping[str, Any]) -> bool:
    return lower(extension.get("provisioning_state")) in ("failed", "deleting") or lower(extension.get("level")) == "error"


def _own_broken(facts: Facts) -> list[Mapping[str, Any]]:
    """Return the backup's own extension where Azure lists it, and it failed or is stuck in deletion."""
    found = [entry for entry in items(facts, "azure.extensions") if _is_own(entry.get("type")) and _is_broken(entry)]
    return found if failed(facts) else [entry for entry in found if lower(entry.get("provisioning_state")) != "deleting"]


def _shown(facts: Facts, extension: Mapping[str, Any]) -> dict[str, Any]:
    id_ = "{0}/extensions/{1}".format(get(facts, "azure.id"), extension.get("name"))
    return {
        "name": extension.get("name"),
        "type": extension.get("type"),
        "version": extension.get("version"),
        "state": extension.get("status") or extension.get("provisioning_state"),
        "message": _said(extension),
        "command": az("vm", "extension", "delete", "--ids", id_),
    }


@finding(
    severity="risk",
    title="The backup extension failed or is stuck in deletion",
    evidence="extension {name} ({type} {version}): {state}{message}",
    action="Remove the extension: the next backup installs it anew. The agent does the removal, so it has to be ready.",
    remedy="azure.remove_extension",
    undoable=False,
    codes=(*STATE, *STUCK, "ExtensionOperationFailedForManagedDisks", "VMAgentStatusCommunicationError"),
    explained_by=("azure_agent_not_ready", "azure_agent_report_missing"),
)
def azure_backup_extension_broken(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Only one that Azure lists can be removed there."""
    for extension in _own_broken(facts):
        yield seen(severity="blocker" if failed(facts) else None, **_shown(facts, extension))


def _said(entry: Mapping[str, Any]) -> str:
    return ": {0}".format(entry["message"]) if entry.get("message") else ""


@finding(
    severity="blocker",
    title="An extension is stuck in deletion",
    evidence={
        "extension": "extension {name} ({type}) is being deleted, and the backup failed",
        "code": "the backup says that the extension is in deletion: {message}",
    },
    action="Check that the agent is ready, since it does the deletion. Delete the extension once more, then start a backup. The backup extension "
    "of a VM with managed disks is not listed by Azure: remove it in the guest.",
    codes=STUCK,
    explained_by=("azure_agent_not_ready", "azure_agent_report_missing"),
)
def azure_extension_deleting(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if not failed(facts):
        return
    for extension in items(facts, "azure.extensions"):
        if lower(extension.get("provisioning_state")) == "deleting" and not _is_own(extension.get("type")):
            yield seen(
                "extension",
                name=extension.get("name"),
                type=extension.get("type"),
                command=az(
                    "vm", "extension", "delete", "--ids", "{0}/extensions/{1}".format(get(facts, "azure.id"), extension.get("name"))
                ),
            )
    if code_of(facts) in STUCK and not _own_broken(facts):
        yield seen("code", message=get(facts, "azure.backup.error.message"))
