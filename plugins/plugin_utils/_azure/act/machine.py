# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remedies of the VM itself: deallocate one that was shut down from inside, reapply the model of one whose state is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import machine, values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Look, Run, Target, Write
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.read import COMPUTE_VERSION

# Provisioning states that end by themselves.
UNDER_WAY = ("updating", "creating", "migrating", "deleting")
STOPPED, DEALLOCATED = "stopped", "deallocated"


def fresh(client: Client, target: Target) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return (the VM with its state of now, what Compute answered)."""
    parameters = {"$expand": "instanceView"}
    answer = values.mapping(client.get(str(target.vm["id"]), COMPUTE_VERSION, **parameters))
    vm = dict(target.vm)
    machine.set_view(vm, answer)
    return vm, answer


def provisioned_at(answer: Mapping[str, Any]) -> str | None:
    """Return when the VM's model was last brought to its host, by the status of its provisioning."""
    for status in values.entries(values.mapping(values.mapping(answer.get("properties")).get("instanceView")).get("statuses")):
        if str(status.get("code") or "").lower().startswith("provisioningstate/"):
            return values.time(status.get("time"))
    return None


def failed_at(vm: Mapping[str, Any]) -> str | None:
    """Return when the backup that failed last was started."""
    backup = values.mapping(vm.get("backup"))
    return values.text(values.mapping(backup.get("last_failed_job")).get("start")) or values.text(backup.get("last_time"))


class _OfMachine:
    def resource(self, target: Target) -> str:
        return str(target.vm["id"])


class PowerState(_OfMachine):
    """Deallocate what Azure calls stopped. No VM is ever started, and none that runs is ever stopped."""

    remedy = "azure.power_state"

    def look(self, client: Client, targets: Sequence[Target], run: Run) -> Look:
        vm, _answer = fresh(client, targets[0])
        power = str(vm["power_state"] or "unknown")
        if power == DEALLOCATED:
            return Look("Azure calls the VM deallocated.", seen=True)
        if power == "deallocating":
            return Look("The VM is being deallocated.", waits=True)
        if power != STOPPED:
            return Look("Azure calls the VM {0}: only a VM that is stopped is deallocated.".format(power), failed=power == "unknown")
        if str(vm["provisioning_state"]).lower() in UNDER_WAY:
            return Look("An operation on the VM is under way ({0}).".format(vm["provisioning_state"]), waits=True)
        id_ = str(vm["id"])
        write = Write("POST", id_ + "/deallocate", COMPUTE_VERSION, id_, "power state", STOPPED, DEALLOCATED)
        return Look("Deallocates the VM, which was shut down from inside. It is not started, and there is no undo: start it.", [write])


class Reapply(_OfMachine):
    """Have Azure bring the VM's model to its host once more, which sets a state right that is wrong; the guest keeps running."""

    remedy = "azure.reapply"

    def look(self, client: Client, targets: Sequence[Target], run: Run) -> Look:
        vm, answer = fresh(client, targets[0])
        state, at = str(vm["provisioning_state"] or "unknown"), provisioned_at(answer)
        if state.lower() in UNDER_WAY:
            return Look("An operation on the VM is under way ({0}).".format(state), waits=True)
        since = failed_at(vm)
        newer = bool(at and since and at > since)
        agent = values.mapping(vm.get("agent")).get("ready")
        if state.lower() == "succeeded" and (newer or agent):
            when = "since {0}".format(at) if at else "now"
            text = "Azure calls the VM provisioned {0}; the agent is {1} by Azure.".format(when, "ready" if agent else "not ready yet")
            return Look(text, seen=True)
        if state.lower() == "succeeded" and not targets[0].fix.get("agent"):
            return Look("The provisioning state is Succeeded.", seen=True)
        job = values.mapping(values.mapping(vm.get("backup")).get("running_job"))
        if job:
            return Look("A backup runs since {0}.".format(job.get("start")), waits=True)
        id_ = str(vm["id"])
        write = Write("POST", id_ + "/reapply", COMPUTE_VERSION, id_, "provisioning state", "{0} at {1}".format(state, at), "Succeeded")
        # After the operation the state alone counts, should Azure leave its time as it was.
        return Look(
            "Reapplies the VM's model; its provisioning state was {0}.".format(state), [write], settled=state.lower() == "succeeded"
        )
