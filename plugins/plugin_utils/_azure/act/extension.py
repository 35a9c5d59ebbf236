# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove the backup's own extension, which the next backup installs anew. No other extension is ever removed."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.machine import UNDER_WAY, fresh
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Look, Run, Target, Write
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.machine import SNAPSHOT
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.read import COMPUTE_VERSION


class RemoveExtension:
    remedy = "azure.remove_extension"

    def resource(self, target: Target) -> str:
        return str(target.vm["id"])

    def look(self, client: Client, targets: Sequence[Target], run: Run) -> Look:
        vm, _answer = fresh(client, targets[0])
        listed = next((entry for entry in vm["extensions"] if str(entry["type"]).lower() in SNAPSHOT), None)
        handler = next((entry for entry in vm["handlers"] if str(entry["type"]).lower() in SNAPSHOT), None)
        if listed is None:
            if handler is None or handler["ready"]:
                return Look("Azure lists no backup extension that failed.", seen=True)
            text = "The backup extension cannot be removed from Azure, which lists none (the VM has managed disks): remove it in the guest."
            return Look(text, failed=True)
        state = str(listed["provisioning_state"] or "unknown")
        if state.lower() not in ("failed", "deleting") and str(listed["level"] or "").lower() != "error":
            return Look("The backup extension is {0} by Azure.".format(state), seen=True)
        if values.mapping(vm.get("agent")).get("ready") is not True:
            return Look("Azure does not call the agent ready, and the agent is what removes an extension.", waits=True)
        if str(vm["provisioning_state"]).lower() in UNDER_WAY and state.lower() != "deleting":
            return Look("An operation on the VM is under way ({0}).".format(vm["provisioning_state"]), waits=True)
        job = values.mapping(values.mapping(vm.get("backup")).get("running_job"))
        if job:
            return Look("A backup runs since {0}.".format(job.get("start")), waits=True)
        id_ = "{0}/extensions/{1}".format(vm["id"], listed["name"])
        old = "{0} {1}: {2}".format(listed["type"], listed["version"], state)
        write = Write("DELETE", id_, COMPUTE_VERSION, str(vm["id"]), "extension {0}".format(listed["name"]), old, "absent")
        return Look("Removes the backup extension {0}, which the next backup installs anew.".format(listed["name"]), [write])
