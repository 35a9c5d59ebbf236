# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run of the playbooks does in Azure, one phase for all its hosts. What the hosts' diagnoses say is read from their variables."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible.utils.display import Display
from ansible_collections.vmbackup.azure.plugins.action.diagnose import vm_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _window
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.options import ARGUMENTS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import phases
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure_action import (
    BACKUP_SPEC,
    AzureAction,
    backup_options,
    entry_diff,
    noted,
    plain,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._unsafe import untrusted

display = Display()
SPEC = {
    **ARGUMENTS,
    **BACKUP_SPEC,
    "phase": {"type": "str", "required": True, "choices": ["before", "look", "after", "undo"]},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "directory": {"type": "path"},
    "max_failures": {"type": "int", "default": 3},
    "backup": {"type": "str", "default": "repaired", "choices": list(phases.CHOICES)},
    "causes": {"type": "list", "elements": "str", "default": ["azure"]},
}
# Where the results of this module are registered; what it did before counts among what was done on a host.
EARLIER = ("vmbackup_azure_before", "vmbackup_azure_after")


def listed(named: Any) -> list[str]:
    """Return the remedies that a variable names, as a list, a text with commas, or a list of such texts."""
    texts = named if isinstance(named, list) else [named]
    return [name.strip() for text in texts for name in str(text).split(",") if name.strip()]


def member(host: str, variables: Any, operators: Any) -> phases.Member | None:
    """Return a host of the run; None where no VM is known of it."""
    vm = vm_of({**{name: variables.get(name) for name in ("vmbackup_azure", "vmbackup_azure_look")}, "inventory_hostname": host})
    if vm is None:
        return None
    before, after = (plain(variables.get(name) or {}) for name in ("vmbackup_before", "vmbackup_after"))
    actions = plain(variables.get("vmbackup_actions") or []) + plain(variables.get("vmbackup_failures") or [])
    for name in EARLIER:
        actions += plain(((variables.get(name) or {}).get("hosts") or {}).get(host) or [])
    never: list[str] = []
    for name in NEVER:
        never += listed(operators.get(name) or [])
    lost, stopped = bool(variables.get("vmbackup_lost")), bool(variables.get("vmbackup_stopped"))
    return phases.Member(host, vm, before, after, actions, lost, never, stopped)


# What is never done: as hosts and groups say, and beside it as a job template does, whose extra variables would replace theirs.
NEVER = ("vmbackup_never", "vmbackup_never_too")
# Variables of operators: they may be templates, unlike the results that the run keeps.
OPERATORS = (*NEVER, "vmbackup_not_before", "vmbackup_not_after", "vmbackup_weekdays", "vmbackup_window_time_zone")


def chosen_by_operators(hostvars: Any, host: str) -> dict[str, Any]:
    """Return what operators set for a host, templated."""
    templated = hostvars[host]
    return {name: plain(templated[name]) for name in OPERATORS if name in templated}


def outside(operators: Any, variables: Any) -> str:
    """Return why a host may not be changed now, as its maintenance window says; empty where it may."""
    window = {name: operators.get("vmbackup_" + name) for name in ("not_before", "not_after", "weekdays")}
    facts = plain((variables.get("vmbackup_before") or {}).get("ansible_facts") or {})
    offset = ((facts.get("vmbackup") or {}).get("system") or {}).get("utc_offset_s")
    return _window.closed({**window, "time_zone": operators.get("vmbackup_window_time_zone")}, datetime.now(timezone.utc), offset)


def deferred(one: phases.Member, options: Any, reason: str, check: bool) -> list[dict[str, Any]]:
    """Return what the report says of a VM outside of its maintenance window."""
    text = "Deferred: {0}. Run this again inside of it.".format(reason)
    entry = {"host": one.host, "changed": False, "deferred": True, "outside": True, "failed": False, "undo_point": None, "text": text}
    names = [item["remedy"] for item in one.planned() if item["remedy"] in phases.remedies_of(options["phase"])]
    if options["phase"] == "after" and phases.why_not(one, options["backup"] if "azure" in options["causes"] else "none", check) is None:
        names.append(phases.BACKUP)
    return [dict(entry, remedy=name) for name in names]


class ActionModule(AzureAction):
    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(SPEC)
        hostvars = task_vars["hostvars"]
        # The raw form leaves out templating: these variables are results, not templates.
        get = getattr(hostvars, "raw_get", hostvars.__getitem__)
        hosts = [host for host in options["hosts"] if host in hostvars and get(host).get("vmbackup_azure") is not None]
        operators = {host: chosen_by_operators(hostvars, host) for host in hosts}
        known = [member(host, get(host), operators[host]) for host in hosts]
        members = [one for one in known if one is not None]
        self._closed = lambda host: outside(operators[host], get(host)) if host in operators else ""
        done: dict[str, Any] = {"hosts": {}, "vms": {}, "problem": None, "requests": {}}
        if options["phase"] in ("before", "after"):
            closed = {one.host: self._closed(one.host) for one in members}
            waits = {one.host: deferred(one, options, closed[one.host], self.check()) for one in members if closed[one.host]}
            done["hosts"] = {host: entries for host, entries in waits.items() if entries}
            members = [one for one in members if not closed[one.host]]
        if members:
            try:
                self._phase(members, options, done)
            except errors.AzureError as error:
                # The guests' repairs and the report go on all the same.
                done["problem"] = "In Azure nothing more was done: {0}".format(error)
                display.warning(done["problem"])
        entries = [entry for results in done["hosts"].values() for entry in results]
        result.update(untrusted(done))
        result["changed"] = any(entry["changed"] for entry in entries)
        result["again"] = sorted({entry["host"] for entry in entries if entry["changed"]})
        if self._task.diff:
            result["diff"] = untrusted([diff for entry in entries for diff in entry_diff(entry)])
        return result

    def _phase(self, members: list[phases.Member], options: dict[str, Any], done: dict[str, Any]) -> None:
        """Do one phase. Nobody signs in where there is nothing to do."""
        run = self.as_run(options, options["directory"])
        run.closed = self._closed if options["phase"] in ("before", "after") else run.closed
        chosen = backup_options(options)
        phase, which = options["phase"], options["backup"] if "azure" in options["causes"] else "none"
        if not phases.anything(phase, members, which, run.check):
            return
        with self.open(options) as client:
            if phase == "undo":
                done["hosts"] = phases.undo(client, members, run, noted(options["directory"]))
            elif phase == "look":
                done["vms"] = phases.look(client, phases.changed(members), run)
            else:
                done["hosts"].update(phases.repair(client, phase, members, run))
            if phase == "after":
                for host, entries in phases.back_up(client, members, which, chosen, run).items():
                    done["hosts"].setdefault(host, []).extend(entries)
            done["requests"] = dict(client.counts.requests)
