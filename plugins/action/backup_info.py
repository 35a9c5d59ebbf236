# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Azure knows of VMs and their backups; read by the controller, since modules cannot import what the inventory plugin shares with it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.options import ARGUMENTS, scope_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import read, schedule, values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.backup import STATES
from ansible_collections.vmbackup.azure.plugins.plugin_utils._thresholds import DEFAULTS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._unsafe import untrusted

display = Display()
SPEC = {
    **ARGUMENTS,
    "include": {"type": "list", "elements": "str", "default": ["failed"], "choices": [*STATES, "all"]},
    "vms": {"type": "list", "elements": "str"},
}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(SPEC)
        try:
            fleet = self._read(options)
        except errors.AzureError as error:
            result.update(failed=True, msg=str(error), code=error.code, correlation_id=error.correlation_id)
            return result
        for sentence in fleet["errors"]:
            display.warning(sentence)
        chosen = [vm for _key, vm in sorted(fleet["vms"].items()) if wanted(vm, options["include"], options["vms"])]
        counts = {state: sum(state in vm["states"] for vm in fleet["vms"].values()) for state in STATES}
        moves = schedule.plan(fleet["vms"], DEFAULTS["vms_per_start_time"])
        result.update(untrusted({**fleet, "vms": chosen, "counts": {**counts, "vms": len(fleet["vms"])}, "moves": moves}))
        result["changed"] = False
        return result

    @staticmethod
    def _read(options: dict[str, Any]) -> dict[str, Any]:
        """Read the fleet; the instance views of the VMs that are named, else of those that failed."""

        def told(method: str, url: str, status: int, seconds: float) -> None:
            display.vvvv("{0} {1} -> {2}, {3:.2f} s".format(method, url, status, seconds))

        views = (lambda vm: named(vm, options["vms"])) if options["vms"] else None
        with Client.from_options(options, on_request=told) as client:
            return read.fleet(client, scope_of(options), views)


def named(vm: dict[str, Any], names: list[str]) -> bool:
    """Say whether a VM is meant by one of the names: its id or its name, in any letter case."""
    return any(values.key(name) in (vm["key"], str(vm["name"]).lower()) for name in names)


def wanted(vm: dict[str, Any], include: list[str], names: list[str] | None) -> bool:
    """Say whether a VM is returned: VMs that are named are, whatever their state."""
    if names:
        return named(vm, names)
    return "all" in include or bool(set(include) & set(vm["states"]))
