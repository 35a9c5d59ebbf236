# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""routes, and the confirmation of what it changed."""

from ansible_collections.vmbackup.azure.plugins.plugin_utils._rollback import RollbackAction


class ActionModule(RollbackAction):
    MODULE = "vmbackup.azure.routes"
