# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Back VMs up now: which may be, and the one request for each. What it started is awaited in waiting.py.

The id of a request is made of the backup item and the job before it, so that another run, after this one was killed, finds what was started.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import backup as backup_
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.starts import by_history, next_start
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Run, Target
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.read import BACKUP_VERSION, ITEMS_FILTER

REMEDY = "azure.backup_now"
NAMESPACE = uuid.UUID("3d1c1f0e-6d0f-4f0b-9a3b-6f8f8d7f5e52")
RUNNING = ("inprogress", "cancelling")
GOOD = ("completed", "completedwithwarnings")
A_DAY, MOST_A_DAY = timedelta(days=1), 4
BEFORE_SCHEDULE = timedelta(minutes=60)
HISTORY = timedelta(hours=25)
IN_PROGRESS = "UserErrorBackupOperationInProgress"


@dataclass(frozen=True)
class Options:
    """How backups are started and awaited.

    parallel: of one vault at a time. until: snapshot, job, none. await_s: how long, 0 as long as such a thing takes. first_s: seconds after
    the start until the first look, look_s: between the next ones.
    """

    parallel: int = 50
    retention_days: int = 30
    until: str = "snapshot"
    await_s: float = 0.0
    first_s: float = 480.0
    look_s: float = 240.0


@dataclass(frozen=True)
class Job:
    """A backup job of a vault's list."""

    id: str
    name: str
    status: str
    start: datetime | None
    activity: str
    error: Mapping[str, Any] | None = None

    @property
    def runs(self) -> bool:
        return self.status in RUNNING


@dataclass
class Vault:
    """What was read of a vault: jobs by VM, items by their own id. trouble: why nothing was read."""

    jobs: dict[str, list[Job]] = field(default_factory=dict)
    items: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    trouble: str | None = None


def request_id(item: str, before: str) -> str:
    """Return the id of the request for a backup after another job; the same for the same two, on every controller."""
    return str(uuid.uuid5(NAMESPACE, "{0}|{1}".format(values.key(item), before.lower())))


def job_list(client: Client, vault: str, since: datetime, until: datetime) -> dict[str, list[Job]]:
    """Return the backup jobs of a vault by VM, newest first: one read, and one for each further page."""
    terms = "operation eq 'Backup' and backupManagementType eq 'AzureIaasVM' and startTime eq '{0}' and endTime eq '{1}'"
    parameters = {"$filter": terms.format(_filter_time(since), _filter_time(until))}
    found: dict[str, list[Job]] = {}
    for entry in client.items(vault + "/backupJobs", BACKUP_VERSION, **parameters):
        properties = values.mapping(entry.get("properties"))
        start = values.when(properties.get("startTime"))
        if start is not None and start < since.replace(microsecond=0):
            continue
        row = {"id": entry.get("id"), "container": properties.get("containerName")}
        found.setdefault(backup_.vm_of_job(row), []).append(job_of(entry))
    for jobs in found.values():
        jobs.sort(key=lambda job: job.start.timestamp() if job.start else 0.0, reverse=True)
    return found


def _filter_time(moment: datetime) -> str:
    """Return a time as the service's filter takes it. The halves of the day are written here, since %p depends on the locale of the controller."""
    half = "AM" if moment.hour < 12 else "PM"
    return "{0} {1:02d}:{2} {3}".format(moment.strftime("%Y-%m-%d"), moment.hour % 12 or 12, moment.strftime("%M:%S"), half)


def job_of(entry: Mapping[str, Any]) -> Job:
    properties = values.mapping(entry.get("properties"))
    errors_ = values.entries(properties.get("errorDetails"))
    return Job(
        id=values.text(entry.get("id")) or "",
        name=(values.text(entry.get("name")) or "").lower(),
        status=str(properties.get("status") or "").lower(),
        start=values.when(properties.get("startTime")),
        activity=str(properties.get("activityId") or "").lower(),
        error=errors_[0] if errors_ else None,
    )


def read_vaults(client: Client, vaults: Iterable[str], now: datetime) -> dict[str, Vault]:
    """Read jobs of a day and the items of vaults: two lists each, whatever the number of VMs."""
    found = {values.key(vault): Vault() for vault in vaults}
    parameters = {"$filter": ITEMS_FILTER}

    def read(vault: str) -> None:
        own = found[values.key(vault)]
        own.jobs = job_list(client, vault, now - HISTORY, now + timedelta(minutes=10))
        for entry in client.items(vault + "/backupProtectedItems", BACKUP_VERSION, **parameters):
            own.items[values.key(entry.get("id"))] = values.mapping(entry.get("properties"))

    for vault, trouble in client.at_once(read, sorted(set(vaults))):
        if isinstance(trouble, errors.AzureError):
            found[values.key(vault)].trouble = str(trouble)
    return found


def policies(client: Client, targets: Sequence[Target]) -> dict[str, Mapping[str, Any]]:
    """Read each policy once; one that cannot be read is not there."""
    ids = sorted({str(target.vm["backup"]["policy_id"]) for target in targets if target.vm["backup"].get("policy_id")})
    answers = client.at_once(lambda id_: backup_.policy(values.mapping(client.get(id_, BACKUP_VERSION))), ids)
    return {values.key(id_): answer for id_, answer in answers if not isinstance(answer, errors.AzureError)}


def jobs_of(target: Target, vault: Vault) -> list[Job]:
    return vault.jobs.get(values.key(target.vm["id"]), [])


def own_ids(target: Target, jobs: Sequence[Job]) -> dict[str, str]:
    """Return {id of a request: job before it} of the requests that this collection may have sent for a VM."""
    item = str(target.vm["backup"]["item_id"])
    return {request_id(item, before): before for before in {_before(target, []), *(job.name for job in jobs)}}


def _before(target: Target, jobs: Sequence[Job]) -> str:
    """Return the newest job of a VM, by which a request for the next one is named."""
    known = values.mapping(target.vm["backup"].get("last_failed_job"))
    return jobs[0].name if jobs else str(known.get("name") or "none").lower()


def next_id(target: Target, jobs: Sequence[Job]) -> str:
    return request_id(str(target.vm["backup"]["item_id"]), _before(target, jobs))


@dataclass(frozen=True)
class Decision:
    """What becomes of a VM: start (None says no), found (a job of ours that runs already), or a reason."""

    start: str | None = None
    found: Job | None = None
    reason: str = ""
    waits: bool = False
    done: bool = False
    failed: bool = False


def decide(target: Target, vault: Vault, policy: Mapping[str, Any] | None, now: datetime) -> Decision:
    """Say whether a VM is backed up now. Pure."""
    backup = target.vm["backup"]
    if vault.trouble:
        return Decision(reason="Its vault could not be read: {0}".format(vault.trouble), failed=True)
    item = vault.items.get(values.key(backup["item_id"]))
    if item is None:
        return Decision(reason="Its backup item is not there any more.", failed=True)
    state = str(item.get("protectionState") or backup.get("protection_state") or "")
    if state.lower() not in backup_.ACTIVE or item.get("isScheduledForDeferredDelete") is True:
        return Decision(reason="Nothing protects the VM actively: protection state {0}.".format(state or "unknown"))
    jobs = jobs_of(target, vault)
    ours = own_ids(target, jobs)
    running = next((job for job in jobs if job.runs), None)
    if running is not None:
        if running.activity in ours:
            return Decision(found=running, reason="This was started before, and is found again.")
        return Decision(reason="A backup runs already since {0}.".format(values.iso(running.start)), waits=True)
    return _history(target, item, jobs, ours, now) or _schedule(jobs, policy, now) or Decision(start=next_id(target, jobs))


def _history(target: Target, item: Mapping[str, Any], jobs: Sequence[Job], ours: Mapping[str, str], now: datetime) -> Decision | None:
    known = values.mapping(target.vm["backup"].get("last_failed_job"))
    failed = [job.start for job in jobs if job.status == "failed" and job.start]
    since = max([*failed, *filter(None, [values.when(known.get("start"))])], default=None)
    good = next((job for job in jobs if job.status in GOOD and job.start and (since is None or job.start > since)), None)
    last = values.when(item.get("lastBackupTime"))
    if good is not None:
        return Decision(reason="A backup that was started at {0} succeeded since.".format(values.iso(good.start)), done=True)
    if str(item.get("lastBackupStatus") or "").lower() == "completed" and last and (since is None or last > since):
        return Decision(reason="A backup of {0} succeeded since.".format(values.iso(last)), done=True)
    count = sum(job.activity in ours and job.start is not None and job.start > now - A_DAY for job in jobs)
    if count >= MOST_A_DAY:
        return Decision(reason="It was started {0} times within a day already; no more than {1} are.".format(count, MOST_A_DAY), waits=True)
    return None


def _schedule(jobs: Sequence[Job], policy: Mapping[str, Any] | None, now: datetime) -> Decision | None:
    try:
        start = next_start(policy or {}, now, BEFORE_SCHEDULE)
    except ValueError:
        start = by_history([job.start for job in jobs if job.start], now, BEFORE_SCHEDULE)
    if start is None:
        return None
    text = "Its policy starts a backup at {0}, so none is started before."
    return Decision(reason=text.format(start.strftime("%Y-%m-%d %H:%M %Z")), waits=True)


def send(client: Client, target: Target, id_: str, options: Options, run: Run) -> tuple[Answer, list[str]]:
    """Start a backup: one request, with an id of its own, kept before it is sent. Return the answer, and what could not be noted of it."""
    item = str(target.vm["backup"]["item_id"])
    now = run.now(client)
    expires = (now + timedelta(days=options.retention_days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = {"remedy": REMEDY, "at": values.iso(now), "resource": item, "property": "backup", "old": None, "new": id_}
    run.keep({**entry, "state": "begun"})
    body = {"properties": {"objectType": "IaasVMBackupRequest", "recoveryPointExpiryTimeInUTC": expires}}
    answer = client.write("POST", item + "/backup", BACKUP_VERSION, body, {"x-ms-client-request-id": id_})
    return answer, run.note({**entry, "state": "done"})
