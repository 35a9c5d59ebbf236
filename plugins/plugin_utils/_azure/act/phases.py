# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The phases of a run: which remedies are done in Azure on which VMs, in the order of the table, for the whole fleet in one process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import backup, machine, waiting
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.address import DYNAMIC, StaticIp, to_take_back
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.extension import RemoveExtension
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.security import NsgRule, NsgRuleAbsent
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Run, Step, Target, carry_out
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import AZURE, BACKUP, REMEDIES

STEPS: dict[str, Step] = {step.remedy: step for step in (machine.PowerState(), NsgRule(), StaticIp(), machine.Reapply(), RemoveExtension())}
# Who is backed up at the end: what this run repaired, every VM whose backup failed, nobody.
CHOICES = ("repaired", "all", "none")
# How long is waited until Azure calls the agents of repaired guests ready: they report about once a minute.
READY_S, READY_POLL_S = 300.0, 15.0


@dataclass
class Member:
    """A host of the run whose VM is known.

    before, after: results of diagnose. actions: what the run did on it so far, failures among it. lost: it stopped answering. never: remedies.
    stopped: the run stopped itself before it came to this host.
    """

    host: str
    vm: dict[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    actions: list[Mapping[str, Any]] = field(default_factory=list)
    lost: bool = False
    never: Sequence[str] = ()
    stopped: bool = False

    def planned(self) -> list[Mapping[str, Any]]:
        """Return the plan of the newest diagnosis."""
        newest = self.after if isinstance(self.after.get("findings"), list) else self.before
        return [entry for entry in values.entries(newest.get("remedies")) if entry.get("planned")]

    def findings(self) -> list[dict[str, Any]]:
        newest = self.after if isinstance(self.after.get("findings"), list) else self.before
        return values.entries(newest.get("findings"))


def anything(phase: str, members: Sequence[Member], which: str, check: bool) -> bool:
    """Say whether a phase has anything to do: without that nobody signs in."""
    if phase == "look":
        return not check and bool(changed(members))
    if phase == "undo":
        return True
    names = remedies_of(phase)
    planned = any(entry["remedy"] in names for one in members for entry in one.planned())
    return planned or (phase == "after" and any(why_not(one, which, check) is None or why_not(one, which, check) for one in members))


def remedies_of(phase: str) -> list[str]:
    """Return the remedies of a phase that answer findings, in order."""
    return [remedy.name for remedy in REMEDIES if AZURE in remedy.on and remedy.phase == phase and remedy.name != BACKUP]


def repair(client: Client, phase: str, members: Sequence[Member], run: Run) -> dict[str, list[dict[str, Any]]]:
    """Do the remedies of a phase that the plans of the VMs name; return what was done, by host. Members get it among their actions."""
    done: dict[str, list[dict[str, Any]]] = {}
    if phase == "after":  # nothing more on a guest that was lost, nor after a run stopped itself
        members = [one for one in members if not one.lost and not one.stopped]
    names = [name for name in remedies_of(phase) if any(name == entry["remedy"] for one in members for entry in one.planned())]
    if names:
        _running_jobs(client, [one for one in members if any(entry["remedy"] in names for entry in one.planned())], run)
    for name in names:
        targets = [
            Target(one.host, one.vm, entry.get("fix") or {}) for one in members for entry in one.planned() if entry["remedy"] == name
        ]
        expand = getattr(STEPS[name], "expand", None)
        targets = [each for target in targets for each in expand(target)] if expand else targets
        by_host = {one.host: one for one in members}
        for entry in carry_out(client, STEPS[name], targets, run):
            done.setdefault(entry["host"], []).append(entry)
            by_host[entry["host"]].actions.append(entry)
    return done


def _running_jobs(client: Client, members: Sequence[Member], run: Run) -> None:
    """Set which backup runs now: what the inventory knew may be old. Where that cannot be read, what it knew stands."""
    vaults = sorted({str(one.vm["backup"]["vault_id"]) for one in members if one.vm.get("backup")})
    now = run.now(client)
    for vault, jobs in client.at_once(lambda vault: backup.job_list(client, vault, now - backup.HISTORY, now + backup.A_DAY), vaults):
        if isinstance(jobs, errors.AzureError):
            continue
        for one in members:
            if one.vm.get("backup") and str(one.vm["backup"]["vault_id"]) == vault:
                running = next((job for job in jobs.get(one.vm["key"], []) if job.runs), None)
                found = {"id": running.id, "name": running.name, "start": values.iso(running.start)} if running else None
                one.vm["backup"] = {**one.vm["backup"], "running_job": found}


def look(client: Client, members: Sequence[Member], run: Run) -> dict[str, dict[str, Any]]:
    """Read VMs anew after repairs, waiting until Azure calls their agents ready or the time is over; return them by host."""
    until = run.clock() + (0.0 if run.check else READY_S)
    found: dict[str, dict[str, Any]] = {}
    waiting_ = [one for one in members if one.vm.get("exists")]
    while waiting_:
        answers = client.at_once(lambda one: machine.fresh(client, Target(one.host, one.vm))[0], waiting_)
        for one, vm in answers:
            if isinstance(vm, errors.NotFound):
                found[one.host] = {**one.vm, "exists": False, "states": ["vm_gone"]}
            elif not isinstance(vm, errors.AzureError):
                found[one.host] = {**vm, "read_at": values.iso(run.now(client))}
        waiting_ = [one for one in waiting_ if not _ready(found.get(one.host))]
        if not waiting_ or run.clock() + READY_POLL_S > until:
            break
        run.sleep(READY_POLL_S)
    return found


def _ready(vm: Mapping[str, Any] | None) -> bool:
    """Say whether there is nothing to wait for."""
    if vm is None or not vm.get("exists") or vm.get("power_state") != "running":
        return True
    return bool(values.mapping(vm.get("agent")).get("ready"))


def back_up(client: Client, members: Sequence[Member], which: str, options: backup.Options, run: Run) -> dict[str, list[dict[str, Any]]]:
    """Back up the VMs that may be; return what became of each, by host."""
    targets, done = [], {}
    for one in members:
        reason = why_not(one, which, run.check)
        if reason is None:
            targets.append(Target(one.host, one.vm))
        elif reason:
            done[one.host] = [waiting.made(Target(one.host, one.vm), reason)]
    for entry in waiting.back_up(client, targets, options, run) if targets else []:
        done.setdefault(entry["host"], []).append(entry)
    return done


def why_not(one: Member, which: str, check: bool) -> str | None:
    """Return why a VM is not backed up: None where it is, an empty text where nothing need be said."""
    if which == "none" or "failed" not in (one.vm.get("states") or []) or one.vm.get("exists") is False or not one.vm.get("backup"):
        return ""
    if backup.REMEDY in one.never:
        return "Not backed up, since vmbackup_never or vmbackup_never_too names {0}.".format(backup.REMEDY)
    planned = {id_ for entry in one.planned() for id_ in entry.get("findings") or []} if check else set()
    repaired = any(action.get("changed") and not action.get("failed") for action in one.actions) or bool(planned)
    if which == "repaired" and not repaired:
        return ""
    if one.stopped:
        return "Not backed up, since the run stopped itself before it came to this guest."
    if one.lost or (one.after.get("failed") or one.after.get("unreachable")):
        return "Not backed up, since the guest stopped answering."
    if any(action.get("deferred") for action in one.actions):
        return "Not backed up, since a repair was deferred."
    left = [finding for finding in blockers(one) if finding.get("id") not in planned]
    if left:
        return "Not backed up, since this still stands against it: {0}.".format("; ".join(str(finding.get("title")) for finding in left))
    return None


def blockers(one: Member) -> list[Mapping[str, Any]]:
    """Return the blockers that are left: those of the newest diagnosis, without those that Azure shows as gone, and without those that tell of
    the failed snapshot itself while all that they followed from is gone."""
    proved = {action.get("remedy") for action in one.actions if action.get("proved")}
    findings = [finding for finding in one.findings() if finding.get("remedy") not in proved]
    ids = {finding.get("id") for finding in findings}
    roots = {finding.get("id"): set(finding.get("explained_by") or []) for finding in values.entries(one.before.get("findings"))}
    return [
        finding
        for finding in findings
        if finding.get("severity") == "blocker" and not (roots.get(finding.get("id")) and not roots[finding.get("id")] & ids)
    ]


def undo(client: Client, members: Sequence[Member], run: Run, noted: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Take back what remedies in Azure changed and what still stands like that; return it by host, only where there was something.

    Rules tell by themselves who made them; that an address was not kept before is noted.
    """
    rules = [each for one in members for each in NsgRuleAbsent.expand(Target(one.host, one.vm))]
    addresses = [Target(one.host, one.vm, fix) for one in members for fix in to_take_back(noted, one.vm)]
    done: dict[str, list[dict[str, Any]]] = {}
    for entry in carry_out(client, StaticIp(DYNAMIC), addresses, run) + carry_out(client, NsgRuleAbsent(), rules, run):
        if entry["changed"] or entry["failed"] or entry["deferred"]:
            done.setdefault(entry["host"], []).append(entry)
    return done


def without_backup(targets: Sequence[Target]) -> tuple[list[Target], list[dict[str, Any]]]:
    """Return (VMs that a vault backs up, results of the others)."""
    ready = [target for target in targets if target.vm.get("backup") and target.vm.get("exists") is not False]
    others = [target for target in targets if target not in ready]
    return ready, [waiting.made(target, "No vault backs this VM up.", failed=True) for target in others]


def changed(members: Iterable[Member]) -> list[Member]:
    """Return the members on which something was done, by a guest's own plan or in Azure: they are looked at again."""
    return [one for one in members if any(action.get("changed") for action in one.actions)]
