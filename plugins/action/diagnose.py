# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect on the guest in one execution, decide on the controller, together with what the inventory knows of Azure."""

import json

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _approval, _remedies
from ansible_collections.vmbackup.azure.plugins.plugin_utils._collect import collect
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import WISHES, evaluate, note_on_error_code
from ansible_collections.vmbackup.azure.plugins.plugin_utils._thresholds import merged
from ansible_collections.vmbackup.azure.plugins.plugin_utils._unsafe import untrusted

# Own options, beside those of the collector.
OPTIONS = {
    "error_code": {"type": "str"},
    "azure": {"type": "bool", "default": False},
    "guest": {"type": "bool", "default": True},
    "thresholds": {"type": "dict", "default": {}},
    "allow": {"type": "dict", "default": {}},
    "never": {"type": "list", "elements": "str", "default": []},
    "approved": {"type": "dict", "options": {"plan": {"type": "dict"}, "hash": {"type": "str"}}},
    "causes": {"type": "list", "elements": "str", "default": list(_remedies.CAUSES), "choices": list(_remedies.CAUSES)},
    "vss_backup_type": {"type": "str", "default": "unset", "choices": ["copy_only", "full", "unset"]},
    "vss_article": {"type": "str", "default": "2025-11", "choices": ["2025-11", "2016-10"]},
    "verbose_logging": {"type": "str", "default": "unset", "choices": ["on", "off", "unset"]},
}
# YAML reads on and off as booleans.
SWITCH = {True: "on", False: "off", "True": "on", "False": "off"}
# The variable of a host that holds its VM by Azure, as the inventory plugin sets it.
VM = "vmbackup_azure"
# Where Azure was read again after repairs: by the module azure_steps.
AGAIN = "vmbackup_azure_look"
# What the report shows of it.
SHOWN = ("read_at", "id", "os_name", "power_state")
SHOWN_OF_BACKUP = ("vault", "policy", "last_recovery_point", "failed_since", "failed_in_a_row")


def vm_of(task_vars):
    """Return the VM that the inventory knows, as plain data, None without one. It is Azure's text: read as it is, never as a template."""
    again = ((task_vars or {}).get(AGAIN) or {}).get("vms") or {}
    value = again.get(str((task_vars or {}).get("inventory_hostname"))) or (task_vars or {}).get(VM)
    return json.loads(json.dumps(value, default=str)) if isinstance(value, dict) and value.get("id") else None


def why_not_contacted(vm, guest):
    """Return why the guest is left alone, None where it is to be contacted."""
    if not guest:
        return "Its guest was not contacted, as vmbackup_guests says."
    if vm is None:
        return None
    if vm.get("exists") is False:
        return "Azure has no such VM any more, so its guest was not contacted."
    if vm.get("power_state") in ("deallocated", "deallocating"):
        return "Azure called the VM {0} at {1}, so its guest was not contacted.".format(
            vm["power_state"], vm.get("read_at") or "a time unknown"
        )
    return None


def shown(vm):
    """Return the few facts of Azure that a report shows beside the findings."""
    backup = vm.get("backup") or {}
    error = backup.get("error") or {}
    return {
        **{name: vm.get(name) for name in SHOWN},
        **{name: backup.get(name) for name in SHOWN_OF_BACKUP},
        "error_code": error.get("code"),
        "error_message": error.get("message"),
    }


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        spec = dict(argument_spec(), **OPTIONS)
        verbose = self._task.args.get("verbose_logging")
        if isinstance(verbose, (bool, str)) and verbose in SWITCH:
            self._task.args["verbose_logging"] = SWITCH[verbose]
        _validation, options = self.validate_argument_spec(spec)
        try:
            limits = merged(options["thresholds"])
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        unknown = _remedies.unknown(options["never"])
        if unknown:
            raise AnsibleActionFail(
                "never: no remedy is named {0}; the remedies are: {1}.".format(", ".join(unknown), ", ".join(_remedies.BY_NAME))
            )
        vm = vm_of(task_vars) if options["azure"] else None
        reason = why_not_contacted(vm, options["guest"])
        if reason:
            if vm is None:
                raise AnsibleActionFail(
                    "There are no facts of Azure for this host ({0}), and the guest was not to be contacted. Use the inventory plugin "
                    "vmbackup.azure.failed_backups, or let the guest be contacted.".format(VM)
                )
            result.update(changed=False, contacted=False, reason=reason, **self._decided({}, vm, options, task_vars))
            return result
        own = {key: value for key, value in options.items() if key not in OPTIONS and value is not None}
        own["candidate_below"] = self._task.args.get("candidate_below", limits["minimum_linux_agent"])
        collected = self._collected(own, task_vars, vm)
        if collected.get("failed") or collected.get("unreachable"):
            result.update(collected)
            if vm is not None:  # what Azure knows of a guest that does not answer is what is left
                contact = {"reached": not collected.get("unreachable"), "message": collected.get("msg")}
                result.update(contacted=True, **self._decided({"contact": contact}, vm, options, task_vars))
            return result
        facts = collected["ansible_facts"]["vmbackup"]
        result.update(changed=False, contacted=True, ansible_facts={"vmbackup": facts}, **self._decided(facts, vm, options, task_vars))
        for key in ("warnings", "deprecations"):
            if collected.get(key):
                result[key] = collected[key]
        return result

    def _collected(self, own, task_vars, vm):
        """Return what the collector brings. A lost connection stays the executor's matter, unless Azure has something to say on it."""
        try:
            return collect(self, own, task_vars)
        except AnsibleConnectionFailure as error:
            if vm is None:
                raise
            return {"unreachable": True, "changed": False, "msg": str(error)}

    @staticmethod
    def _decided(facts, vm, options, task_vars):
        """Return findings, remedies and note."""
        given = facts if vm is None else {"schema_version": 1, **facts, "azure": vm}
        # A blank answer of a survey, or an alert without a code, hides what the inventory says by the same name.
        code = options["error_code"] or (shown(vm)["error_code"] if vm else None)
        try:
            findings = evaluate(given, options["thresholds"], code, {name: options[name] for name in WISHES})
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        kind = (facts.get("system") or {}).get("kind")
        allow = dict(options["allow"])
        if options["verbose_logging"] == "off":  # choosing it is the consent
            allow["vmbackup_allow_verbose_logging_off"] = True
        remedies = _remedies.plan(findings, allow, options["never"], options["causes"], kind or _remedies.LINUX)
        if options["approved"] is not None:
            given, sealed = options["approved"].get("plan"), options["approved"].get("hash")
            try:
                remedies = _approval.restricted(
                    remedies, task_vars["inventory_hostname"], json.loads(json.dumps(given, default=str)), sealed
                )
            except ValueError as error:
                raise AnsibleActionFail(str(error)) from error
        decided = {
            "findings": findings,
            "remedies": remedies,
            "note": note_on_error_code(findings, code, kind, guest="system" in facts, azure=vm is not None),
        }
        return decided if vm is None else untrusted({**decided, "azure": shown(vm)})
