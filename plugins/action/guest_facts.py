# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The facts of a guest in one shape, whatever its system is."""

from ansible.plugins.action import ActionBase
from ansible_collections.vmbackup.azure.plugins.module_utils.facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.plugin_utils.collect import collect


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(argument_spec())
        result.update(collect(self, options, task_vars))
        return result
