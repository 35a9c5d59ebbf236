# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the private address of VMs, or let Azure choose it again."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.address import DYNAMIC, STATIC, StaticIp, primary
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import carry_out, outcome
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure_action import RemedyAction


class ActionModule(RemedyAction):
    spec = {"state": {"type": "str", "default": "static", "choices": ["static", "dynamic"]}}

    def fix(self, vm):
        return primary(vm) or {}

    def act(self, client, targets, options, run):
        step = StaticIp(STATIC if options["state"] == "static" else DYNAMIC)
        lacking = [outcome(step, target, "No private address of this VM is known.", failed=True) for target in targets if not target.fix]
        return lacking + carry_out(client, step, [target for target in targets if target.fix], run)
