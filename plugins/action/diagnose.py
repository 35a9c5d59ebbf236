# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect on the guest in one execution, decide on the controller."""

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.vmbackup.azure.plugins.module_utils.facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils.findings import evaluate, note_on_error_code, remedies
from ansible_collections.vmbackup.azure.plugins.module_utils.redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils.thresholds import merged

COLLECTORS = {"linux": "vmbackup.azure.guest_facts"}
# Own options, beside those of the collector.
OPTIONS = {
    "error_code": {"type": "str"},
    "thresholds": {"type": "dict", "default": {}},
    "allow": {"type": "dict", "default": {}},
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
        shell = getattr(self._connection._shell, "_IS_WINDOWS", False)
        if shell:
            raise AnsibleActionFail("diagnose does not read Windows guests yet; leave them out of the hosts of this run.")
        own = {key: value for key, value in options.items() if key not in OPTIONS and value is not None}
        own["candidate_below"] = self._task.args.get("candidate_below", limits["minimum_linux_agent"])
        collected = self._execute_module(module_name=COLLECTORS["linux"], module_args=own, task_vars=task_vars)
        collected.pop("invocation", None)
        if collected.get("failed") or collected.get("unreachable"):
            result.update(collected)
            if collected.get("failed"):
                result["msg"] = explain(collected)
                result.pop("module_stdout", None)
                result.pop("module_stderr", None)
                result.pop("exception", None)
            return result
        facts = collected["ansible_facts"]["vmbackup"]
        findings = evaluate(facts, options["thresholds"], options["error_code"])
        result.update(
            changed=False,
            ansible_facts={"vmbackup": facts},
            findings=findings,
            remedies=remedies(findings, options["allow"]),
            note=note_on_error_code(findings, options["error_code"]),
        )
        for key in ("warnings", "deprecations"):
            if collected.get(key):
                result[key] = collected[key]
        return result


def explain(collected):
    """Return one sentence for a collector that did not come back with facts."""
    text = "{0}\n{1}\n{2}".format(collected.get("msg", ""), collected.get("module_stdout", ""), collected.get("module_stderr", ""))
    low = text.lower()
    if "interpreter" in low and ("not found" in low or "no such file" in low or "discovery" in low) or collected.get("rc") == 127:
        return (
            "The guest has no Python that the collector can run on (tried: the interpreter that Ansible found or was told). "
            "Install python3 on the guest or set ansible_python_interpreter, then diagnose again."
        )
    if "sudo" in low and "password" in low:
        return "Becoming root with sudo needs a password. Give ansible_become_password or run with -K, then diagnose again."
    if "syntaxerror" in low or "requires a minimum of python" in low or "python version" in low:
        return "The guest's Python is too old for this ansible-core (it says: {0}). Use ansible-core 2.16 for Python 3.6 and 3.7.".format(
            public_line(text[-200:])
        )
    # Of a traceback only the last line says what happened; a person who wants the rest runs with -vvv.
    said = [line.strip() for line in text.split("\n") if line.strip()]
    return "The collector did not come back with facts. It said: {0}".format(public_line(said[-1]) if said else "nothing")
