# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Start backups, so many at a time in each vault, and await them within what an hour allows.

The snapshot takes about eight minutes, and it is what proves a repair. Up to DETAILED VMs of a subscription are looked at by their job, at most twice
each, since a subscription allows 150 reads of jobs in an hour; more than that by a new restore point of the VM. After that the list of the vault's jobs
tells what ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import codes, values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import backup as backup_
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.backup import GOOD, Job, Options, Vault
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Run, Target, is_refused
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.read import BACKUP_VERSION, COMPUTE_VERSION

# Seconds after the start when its job is looked for, and when that is given up. The first look at the snapshot is the caller's (Options).
FIND_S, LOST_S = 30.0, 180.0
# VMs of a subscription that are looked at by their job's details, and how often each.
DETAILED, DETAILS = 60, 2
POINTS = 3
OWN_COLLECTION = "azurebackup_"
# How long is waited for a snapshot and for a whole job, where the caller does not say. After SLOT_S another VM of the vault may start.
AWAIT_S = {"snapshot": 2700.0, "job": 21600.0, "none": LOST_S}
SLOT_S = 1200.0
TICK_S = 10.0
TAKEN, BACKED_UP, UNSEEN = "snapshot taken", "backed up", "started, not seen"


@dataclass
class Started:
    """A backup that was asked for."""

    target: Target
    id: str
    at: float
    wall: datetime
    answer: Answer | None = None
    job: Job | None = None
    found: bool = False
    looks: int = 0
    next: float = 0.0
    way: str = "list"
    result: dict[str, Any] | None = None
    doubt: str = ""
    # What could not be noted of it.
    notes: list[str] = field(default_factory=list)


def made(target: Target, text: str, **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "host": target.host,
        "vm_id": target.vm.get("id"),
        "remedy": backup_.REMEDY,
        "text": text,
        "changed": False,
        "deferred": False,
        "failed": False,
        "proved": False,
        "changes": [],
        "undo_point": None,
        "backup": None,
    }
    return {**plain, **more}


def back_up(client: Client, targets: Sequence[Target], options: Options, run: Run) -> list[dict[str, Any]]:
    """Back VMs up, as far as nothing stands against it; return what became of each."""
    now = run.now(client)
    vaults = backup_.read_vaults(client, [str(target.vm["backup"]["vault_id"]) for target in targets], now)
    policies = backup_.policies(client, targets)
    done, work = [], Work(client, options, run, vaults)
    for target in targets:
        backup = target.vm["backup"]
        decision = backup_.decide(target, vaults[values.key(backup["vault_id"])], policies.get(values.key(backup.get("policy_id"))), now)
        if decision.start and run.check:
            done.append(
                made(target, "Starts a backup in vault {0}, kept {1} days.".format(backup["vault"], options.retention_days), changed=True)
            )
        elif decision.start:
            work.queue.setdefault(values.key(backup["vault_id"]), []).append((target, decision.start))
        elif decision.found and not run.check and options.until != "none":
            work.open.append(
                Started(target, decision.found.activity, run.clock(), decision.found.start or now, job=decision.found, found=True)
            )
        else:
            done.append(made(target, decision.reason, deferred=decision.waits, failed=decision.failed, proved=decision.done))
    return done + work.all()


class Work:
    """The backups of one run."""

    def __init__(self, client: Client, options: Options, run: Run, vaults: Mapping[str, Vault]) -> None:
        self.client, self.options, self.run, self.vaults = client, options, run, vaults
        self.queue: dict[str, list[tuple[Target, str]]] = {}
        self.open: list[Started] = []
        self.closed: list[Started] = []
        self.not_sent: list[dict[str, Any]] = []
        self.failures = 0
        # Collections of restore points by VM, as far as they were looked for.
        self.collections: dict[str, str] = {}
        self.await_s = options.await_s or AWAIT_S[options.until]
        self.tick_s = min(TICK_S, max(1.0, options.first_s / 4))
        self.find_s = min(FIND_S, max(1.0, options.first_s / 2))

    def all(self) -> list[dict[str, Any]]:
        """Send and await until nothing is left."""
        first = True
        while self.queue or self.open:
            self._send(1 if first else self.options.parallel)
            first = False
            self._look()
            for one in self.open:
                if one.result is not None:
                    one.result["text"] = " ".join([one.result["text"], *one.notes])
                    self.closed.append(one)
            self.open = [one for one in self.open if one.result is None]
            if self.queue or self.open:
                self.run.sleep(self.tick_s)
        return self.not_sent + [one.result for one in self.closed if one.result is not None]

    # Sending

    def _send(self, most: int) -> None:
        """Start what each vault has room for; the first of a run goes alone, and after too many failures nothing more is sent."""
        now = self.run.clock()
        batch: list[tuple[Target, str]] = []
        for vault in list(self.queue):
            counted = [*self.open, *(self.closed if self.options.until == "none" else [])]
            busy = sum(self._vault(one.target) == vault and (now - one.at < SLOT_S or one.result is not None) for one in counted)
            room = min(max(0, self.options.parallel - busy), most - len(batch) if most == 1 else most)
            batch += self.queue[vault][:room]
            self.queue[vault] = self.queue[vault][room:]
            if not self.queue[vault]:
                del self.queue[vault]
            elif self.options.until == "none" and busy >= self.options.parallel:
                self._leave(vault, "Not started: {0} were, which is the limit of vmbackup_backup_parallel. Run this again.".format(busy))
        batch = [(target, id_) for target, id_ in batch if not self._outside(target)]
        for (target, id_), answer in self.client.at_once(self._one, batch):
            self._note(target, id_, answer, now)
        if self.failures > self.run.most_failures:
            text = "Not started: {0} others could not be, and vmbackup_max_failures is {1}. Read why, then run this again."
            for vault in list(self.queue):
                self._leave(vault, text.format(self.failures, self.run.most_failures))

    def _outside(self, target: Target) -> bool:
        """Leave a VM that may not be changed now; backups that wait for their turn may outlast a maintenance window."""
        reason = self.run.closed(target.host)
        if reason:
            self.not_sent.append(made(target, "Deferred: {0}. Run this again inside of it.".format(reason), deferred=True, outside=True))
        return bool(reason)

    def _leave(self, vault: str, text: str) -> None:
        self.not_sent += [made(target, text, deferred=True) for target, _id in self.queue.pop(vault, [])]

    def _one(self, work: tuple[Target, str]) -> tuple[Answer, list[str]]:
        return backup_.send(self.client, work[0], work[1], self.options, self.run)

    def _note(self, target: Target, id_: str, answer: tuple[Answer, list[str]] | errors.AzureError, at: float) -> None:
        started = Started(target, id_, at, self.run.now(self.client), next=at + self.find_s)
        if not isinstance(answer, errors.AzureError):
            started.answer, started.notes = answer
        elif not is_refused(answer):
            started.doubt = str(answer)
        elif answer.code == backup_.IN_PROGRESS:
            self.not_sent.append(made(target, "A backup runs already: {0}".format(answer), deferred=True))
            return
        else:
            self.failures += 1
            who = "Azure refused to start the backup" if answer.status else "The backup was not started"
            self.not_sent.append(made(target, "{0}, and nothing was changed: {1}".format(who, answer), failed=True))
            return
        self.open.append(started)

    @staticmethod
    def _vault(target: Target) -> str:
        return values.key(target.vm["backup"]["vault_id"])

    # Looking

    def _look(self) -> None:
        """Look at what is due: by one list for each vault, by details, by restore points."""
        now = self.run.clock()
        due = [one for one in self.open if one.next <= now]
        for one in due:
            one.way = self._way(one)
        by_list = {self._vault(one.target): one for one in due if one.job is None or one.way == "list"}
        for vault, first in by_list.items():
            since = min(one.wall for one in self.open if self._vault(one.target) == vault) - timedelta(minutes=5)
            self._refresh(str(first.target.vm["backup"]["vault_id"]), since)
        for one in due:
            if one.job is None:
                self._find(one, now)
            elif one.way == "list":
                self._by_list(one, now)
        self._find_collections([one for one in due if one.result is None and one.way == "points" and one.next <= now])
        singles = [one for one in due if one.result is None and one.job is not None and one.next <= now]
        for one, seen in self.client.at_once(self._single, singles):
            self._judge(one, now, None if isinstance(seen, errors.AzureError) else seen)

    def _refresh(self, vault: str, since: datetime) -> None:
        try:
            until = self.run.now(self.client) + timedelta(minutes=10)
            self.vaults[values.key(vault)].jobs = backup_.job_list(self.client, vault, since, until)
            self.vaults[values.key(vault)].trouble = None
        except errors.AzureError as error:
            self.vaults[values.key(vault)].trouble = str(error)

    def _way(self, one: Started) -> str:
        """Return how a backup is looked at next: details, points or list."""
        if self.options.until != "snapshot":
            return "list"
        many = sum(other.target.vm.get("subscription_id") == one.target.vm.get("subscription_id") for other in [*self.open, *self.closed])
        if many <= DETAILED:
            return "details" if one.looks < DETAILS else "list"
        return "points" if one.looks < POINTS else "list"

    def _find_collections(self, due: Sequence[Started]) -> None:
        """Find the collections of VMs that had none when the run began: one list for each subscription."""
        for one in due:
            known = _collection(one.target)
            if known:
                self.collections.setdefault(values.key(one.target.vm["id"]), known)
        lacking = [one for one in due if values.key(one.target.vm["id"]) not in self.collections]
        path = "/subscriptions/{0}/providers/Microsoft.Compute/restorePointCollections"

        def read(subscription: str) -> list[dict[str, Any]]:
            return list(self.client.items(path.format(subscription), COMPUTE_VERSION))

        for _subscription, found in self.client.at_once(read, sorted({str(one.target.vm["subscription_id"]) for one in lacking})):
            for entry in [] if isinstance(found, errors.AzureError) else found:
                vm = values.key(values.mapping(values.mapping(entry.get("properties")).get("source")).get("id"))
                if str(entry.get("name")).lower().startswith(OWN_COLLECTION):
                    self.collections.setdefault(vm, values.text(entry.get("id")) or "")

    def _find(self, one: Started, now: float) -> None:
        """Find the job of a request: by the request's id, else the one that its VM has since then, else by the operation."""
        vault = self.vaults[self._vault(one.target)]
        jobs = backup_.jobs_of(one.target, vault)
        job = next((job for job in jobs if job.activity == one.id), None)
        if job is None:
            job = next((job for job in jobs if job.start and job.start >= one.wall - timedelta(seconds=60)), None)
        if job is None and one.answer is not None and now - one.at >= self.find_s:
            job = self._by_operation(one, one.answer)
        if one.result is not None:
            return
        if job is not None:
            one.job, one.next = job, one.at + self.options.first_s
            if not job.runs:
                self._by_list(one, now)
            elif self.options.until == "none":
                self._end(one, "Started; it was not to be awaited.", "started")
        elif now - one.at >= LOST_S:
            if one.doubt:
                text = "Whether it was started is not known: {0} Azure shows no job, and it was not sent again. Run this again."
                one.result = made(one.target, text.format(one.doubt), failed=True)
                self.failures += 1
            else:
                self._end(one, "Azure took the request, and shows no job yet{0}.".format(_why(vault)), UNSEEN)
        else:
            one.next = now + self.find_s * 2

    def _by_operation(self, one: Started, answer: Answer) -> Job | None:
        try:
            operation = self.client.wait(answer, 30.0)
        except errors.OperationFailed as error:
            if error.code == backup_.IN_PROGRESS:
                one.result = made(one.target, "A backup runs already: {0}".format(error), deferred=True)
            elif error.code:
                one.result = made(one.target, "The backup did not start: {0}".format(error), failed=True, changed=True)
                self.failures += 1
            return None
        except errors.AzureError:
            return None
        finally:
            one.answer = None
        name = values.text(operation.properties.get("jobId"))
        if not name:
            return None
        id_ = "{0}/backupJobs/{1}".format(one.target.vm["backup"]["vault_id"], name)
        return Job(id_, name.lower(), "inprogress", one.wall, one.id)

    def _by_list(self, one: Started, now: float) -> None:
        vault = self.vaults[self._vault(one.target)]
        job = next((job for job in backup_.jobs_of(one.target, vault) if one.job and job.name == one.job.name), None)
        self._judge(one, now, {"status": job.status, "error": job.error} if job else None)

    def _single(self, one: Started) -> dict[str, Any] | None:
        """Return {status, error, snapshot} of a backup by its job, or by a new restore point of its VM."""
        one.looks += 1
        if one.way == "points":
            collection = self.collections.get(values.key(one.target.vm["id"]))
            if not collection:
                return None
            answer = values.mapping(self.client.get(collection, COMPUTE_VERSION, **{"$expand": "restorePoints"}))
            return {"status": "inprogress", "snapshot": _new_point(answer, one.wall)}
        entry = values.mapping(self.client.get(one.job.id, BACKUP_VERSION)) if one.job else {}
        job = backup_.job_of(entry)
        tasks = values.entries(values.mapping(values.mapping(entry.get("properties")).get("extendedInfo")).get("tasksList"))
        states = {str(task.get("taskId")).lower(): str(task.get("status")).lower() for task in tasks}
        return {"status": job.status, "error": job.error, "snapshot": states.get("take snapshot") in GOOD}

    def _judge(self, one: Started, now: float, seen: Mapping[str, Any] | None) -> None:
        """End a backup by what was seen of it, or look again later, until the time is over."""
        status = str((seen or {}).get("status") or "")
        if status in GOOD:
            self._end(one, "Backed up in vault {0}.".format(one.target.vm["backup"]["vault"]), BACKED_UP)
        elif status and status not in backup_.RUNNING:
            error = codes.error_of(values.mapping((seen or {}).get("error")), "job") or {}
            said = ": {0}".format(": ".join(str(error[key]) for key in ("code", "message") if error.get(key))) if error else ""
            text = "The backup ended as {0}{1}".format(status, said.rstrip(".") + ".")
            one.result = made(one.target, text, failed=True, changed=not one.found, backup=self._shown(one, "failed", error))
        elif (seen or {}).get("snapshot") and self.options.until == "snapshot":
            self._end(one, "The snapshot is taken; the transfer to the vault goes on.", TAKEN)
        elif now + self.options.look_s > one.at + self.await_s:
            vault = self.vaults[self._vault(one.target)]
            self._end(one, "Started, and not seen to end within {0:.0f} minutes{1}.".format(self.await_s / 60, _why(vault)), UNSEEN)
        else:
            one.next = now + self.options.look_s

    def _end(self, one: Started, text: str, result: str) -> None:
        again = "Found again, started before. " if one.found else "Started a backup. "
        shown = self._shown(one, result, {})
        one.result = made(one.target, again + text, changed=not one.found, proved=result in (TAKEN, BACKED_UP), backup=shown)

    @staticmethod
    def _shown(one: Started, result: str, error: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "result": result,
            "request_id": one.id,
            "job": one.job.id if one.job else None,
            "code": error.get("code"),
            "message": error.get("message"),
        }


def _why(vault: Vault) -> str:
    return " ({0})".format(vault.trouble.rstrip(".")) if vault.trouble else ""


def _collection(target: Target) -> str | None:
    """Return the collection of restore points that Azure Backup keeps of a VM."""
    for entry in target.vm.get("restore_points") or []:
        if str(entry.get("name")).lower().startswith(OWN_COLLECTION):
            return str(entry["id"])
    return None


def _new_point(collection: Mapping[str, Any], since: datetime) -> bool:
    for point in values.entries(values.mapping(collection.get("properties")).get("restorePoints")):
        properties = values.mapping(point.get("properties"))
        made = values.when(properties.get("timeCreated"))
        if made and made >= since.replace(microsecond=0) and str(properties.get("provisioningState")).lower() == "succeeded":
            return True
    return False
