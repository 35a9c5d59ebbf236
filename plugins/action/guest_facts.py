# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The facts of a guest in one shape, whatever its system is; win_guest_facts leads here too (meta/runtime.yml)."""

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.plugin_utils._collect import LINUX_ONLY, collect, is_windows


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        spec = argument_spec()
        if self._task.action.endswith("win_guest_facts"):
            if not is_windows(self._connection):
                raise AnsibleActionFail("win_guest_facts reads Windows guests; this connection leads to another system. Use guest_facts.")
            spec = {name: option for name, option in spec.items() if name not in LINUX_ONLY}
        _validation, options = self.validate_argument_spec(spec)
        result.update(collect(self, options, task_vars))
        return result
