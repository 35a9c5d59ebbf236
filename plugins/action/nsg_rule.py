# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let VMs reach what backup talks to by rules of their security groups, or take such rules back."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.security import NsgRule, NsgRuleAbsent
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import carry_out
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure_action import RemedyAction
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings.azure_network import SERVICES


class ActionModule(RemedyAction):
    spec = {"state": {"type": "str", "default": "present", "choices": ["present", "absent"]}}

    def fix(self, vm):
        groups = [group["id"] for nic in vm["network"] for group in nic["nsgs"]]
        return {"denied": [{"group": id_, "service": service} for id_ in groups for service in SERVICES]}

    def act(self, client, targets, options, run):
        step = NsgRule() if options["state"] == "present" else NsgRuleAbsent()
        return carry_out(client, step, [each for target in targets for each in step.expand(target)], run)
