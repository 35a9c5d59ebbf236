# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Back VMs up now, and await what was started."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.phases import without_backup
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.waiting import back_up
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure_action import BACKUP_SPEC, RemedyAction, backup_options


class ActionModule(RemedyAction):
    spec = BACKUP_SPEC

    def act(self, client, targets, options, run):
        chosen = backup_options(options)
        ready, others = without_backup(targets)
        return others + back_up(client, ready, chosen, run)
