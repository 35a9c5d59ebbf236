# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the collector that fits the guest and return its facts, or one clear sentence on why there are none."""

from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import AREAS, argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.collect import facts_of

LINUX, WINDOWS = "vmbackup.azure.guest_facts", "vmbackup.azure.win_guest_facts"
# Options that only mean something to one of the collectors.
LINUX_ONLY = ("deadline_s", "candidate", "candidate_below")
WINDOWS_ONLY = ("vss_writers",)

# Text in what came back (lower case) to one sentence; the first that fits. Each names what to do next.
_NO_WINRM = (
    (
        ("credentials were rejected", "401", "access is denied", "logon failure"),
        "WinRM refused user and password. Check ansible_user, ansible_password and ansible_winrm_transport, and that the account is an administrator.",
    ),
    (
        ("certificate_verify_failed", "certificate verify failed", "hostname mismatch", "certificate is not valid"),
        "The guest's WinRM certificate is not trusted. Set ansible_winrm_ca_trust_path to the authority that signed it, and call the guest by "
        "the certificate's name.",
    ),
    (
        ("sslerror", "wrong version number", "ssl:"),
        "The guest's WinRM port does not speak HTTPS as the controller does. Check ansible_winrm_scheme and ansible_port (5985 is HTTP, 5986 HTTPS).",
    ),
    (
        ("connection refused", "failed to establish a new connection", "no route to host", "network is unreachable"),
        "WinRM does not answer. Check that the WinRM service runs with a listener, and that ansible_host, ansible_port and the firewall let the "
        "controller reach it.",
    ),
    (
        ("timed out", "timeout"),
        "WinRM did not answer in time. Check network and load of the guest, or raise ansible_winrm_read_timeout_sec.",
    ),
    (("name or service not known", "getaddrinfo", "name resolution"), "The guest's name cannot be resolved. Check ansible_host."),
    (("is not installed", "no module named"), "The controller lacks a Python package for WinRM. Install pywinrm where ansible-core runs."),
)
_CONSTRAINED = (
    "constrainedlanguage",
    "constrained language",
    "language mode",
    "only on core types",
    "only core types",
    "script is not allowed",
)


def is_windows(connection: Any) -> bool:
    """Say whether the guest's shell is a Windows one; known from the connection, before anything is asked."""
    return bool(getattr(getattr(connection, "_shell", None), "_IS_WINDOWS", False))


def unreachable(text: str) -> str:
    """Return one sentence for a WinRM connection that failed."""
    low = text.lower()
    said = public_line(text, 200)
    for signs, sentence in _NO_WINRM:
        if any(sign in low for sign in signs):
            return "{0} It said: {1}".format(sentence, said)
    return "The guest could not be reached by WinRM. It said: {0}".format(said or "nothing")


def explain(collected: dict[str, Any]) -> str:
    """Return one sentence for a collector that did not come back with facts."""
    text = "{0}\n{1}\n{2}".format(collected.get("msg", ""), collected.get("module_stdout", ""), collected.get("module_stderr", ""))
    low = text.lower()
    if any(sign in low for sign in _CONSTRAINED):
        return (
            "PowerShell on the guest is restricted (constrained language mode), so no Ansible module can run there. "
            "Let the account that Ansible logs on with run in full language mode, then diagnose again."
        )
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
    if "is not recognized as a name of a cmdlet" in low or "is not recognized as the name of a cmdlet" in low:
        return "PowerShell on the guest lacks a command that Ansible needs. Windows PowerShell 5.1 or newer is needed. It said: {0}".format(
            public_line(next((line for line in text.split("\n") if "recognized" in line.lower()), text), 200)
        )
    # Of a traceback only the last line says what happened; a person who wants the rest runs with -vvv.
    said = [line.strip() for line in text.split("\n") if line.strip()]
    return "The collector did not come back with facts. It said: {0}".format(public_line(said[-1]) if said else "nothing")


def collect(action: Any, options: dict[str, Any], task_vars: dict[str, Any]) -> Any:
    """Run the collector of the guest's system and return its result, with ``ansible_facts.vmbackup`` in the one shape of docs/facts.md.

    :param action: the action plugin.
    :param options: dictionary with the keys of ``facts.argument_spec()``.
    :returns: result dictionary; failed or unreachable with ``msg`` as one sentence when there are no facts.
    """
    if not options["gather_subset"]:
        raise AnsibleActionFail(
            "gather_subset names no area, so nothing would be looked at. Use all, or name areas: {0}.".format(", ".join(AREAS))
        )
    windows = is_windows(action._connection)
    foreign = LINUX_ONLY if windows else WINDOWS_ONLY
    own = {key: value for key, value in options.items() if key in argument_spec() and key not in foreign and value is not None}
    try:
        collected = action._execute_module(module_name=WINDOWS if windows else LINUX, module_args=own, task_vars=task_vars)
    except AnsibleConnectionFailure as error:
        if not windows:
            raise
        return {"unreachable": True, "changed": False, "msg": unreachable(str(error))}
    collected.pop("invocation", None)
    if collected.get("unreachable"):
        return dict(collected, msg=unreachable(str(collected.get("msg", "")))) if windows else collected
    if not collected.get("failed") and windows and not isinstance(collected.get("raw"), dict):
        collected.update(failed=True)
    if collected.get("failed"):
        msg = explain(collected)
        for key in ("raw", "module_stdout", "module_stderr", "exception"):
            collected.pop(key, None)
        return dict(collected, msg=msg)
    if windows:
        facts = facts_of(collected.pop("raw"), options["gather_subset"], options["timeout_s"])
        collected["ansible_facts"] = {"vmbackup": facts}
    return collected
