# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deallocate VMs that were shut down from inside."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.machine import PowerState
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import carry_out
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure_action import RemedyAction


class ActionModule(RemedyAction):
    def act(self, client, targets, options, run):
        return carry_out(client, PowerState(), targets, run)
