# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect on the guest in one execution, decide on the controller."""

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.vmbackup.azure.plugins.module_utils.facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils.findings import evaluate, note_on_error_code, remedies
from ansible_collections.vmbackup.azure.plugins.module_utils.thresholds import merged
from ansible_collections.vmbackup.azure.plugins.module_utils.windows.vss import TEXTS, TYPES, backup_type
from ansible_collections.vmbackup.azure.plugins.plugin_utils.collect import collect

# Own options, beside those of the collector.
OPTIONS = {
    "error_code": {"type": "str"},
    "thresholds": {"type": "dict", "default": {}},
    "allow": {"type": "dict", "default": {}},
    "vss_backup_type": {"type": "str", "default": "unset", "choices": list(TYPES)},
    "vss_backup_text": {"type": "str", "default": "2025-11", "choices": list(TEXTS)},
}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        spec = dict(argument_spec(), **OPTIONS)
        _validation, options = self.validate_argument_spec(spec)
        try:
            limits = merged(options["thresholds"])
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        own = {key: value for key, value in options.items() if key not in OPTIONS and value is not None}
        own["candidate_below"] = self._task.args.get("candidate_below", limits["minimum_linux_agent"])
        collected = collect(self, own, task_vars)
        if collected.get("failed") or collected.get("unreachable"):
            result.update(collected)
            return result
        facts = collected["ansible_facts"]["vmbackup"]
        if facts.get("vss"):
            facts["vss"]["backup_type"] = backup_type(options["vss_backup_type"], options["vss_backup_text"])
        try:
            findings = evaluate(facts, options["thresholds"], options["error_code"])
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        result.update(
            changed=False,
            ansible_facts={"vmbackup": facts},
            findings=findings,
            remedies=remedies(findings, options["allow"]),
            note=note_on_error_code(findings, options["error_code"], (facts.get("system") or {}).get("kind")),
        )
        for key in ("warnings", "deprecations"):
            if collected.get(key):
                result[key] = collected[key]
        return result
