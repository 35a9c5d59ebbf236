# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a remedy is carried out in Azure: look, write once, look again. A write is never repeated on a guess."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.read import SUBSCRIPTION_VERSION

# Answers that say that nothing was done, since something else is at work on the resource: looked at and planned anew, so often and after so long.
BUSY = ("RetryableError", "AnotherOperationInProgress", "RetryableErrorDueToAnotherOperation", "OperationNotAllowedOnVMImage", "Conflict")
ROUNDS, ROUND_S = 3, 10.0
# How long a change may take to show itself, and how often is looked.
PROOF_S, PROOF_POLL_S = 60.0, 5.0
# One resource, then so many percent of them.
BATCHES = (0, 10, 100)


@dataclass(frozen=True)
class Target:
    """A VM that something is to be done on: the caller's name of it, the VM as the package describes it, and what its findings ask for."""

    host: str
    vm: Mapping[str, Any]
    fix: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Write:
    """One request that changes one property of one resource."""

    method: str
    path: str
    version: str
    resource: str
    name: str
    old: Any
    new: Any
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What was found on a resource: what to write, or why nothing is written. text is a sentence for people, in both cases.

    seen: whether what is wanted is there. waits: something else is at work, so that another run may do it. failed: it cannot be done.
    undo: how it can be taken back. settled: what an operation that succeeded promises is there, though it was there before as well.
    """

    text: str
    writes: Sequence[Write] = ()
    seen: bool = False
    waits: bool = False
    failed: bool = False
    undo: str | None = None
    settled: bool = False


@dataclass
class Run:
    """How this run goes: in check mode nothing is written. The clocks are the caller's, so that tests have their own."""

    check: bool = False
    wait_s: float = 900.0
    most_failures: int = 3
    keep: Callable[[Mapping[str, Any]], None] = field(default=lambda entry: None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall: Callable[[], float] = field(default=time.time, repr=False)
    # Why a host may not be changed now, empty where it may: asked right before each write, since a run may outlast a maintenance window.
    closed: Callable[[str], str] = field(default=lambda host: "", repr=False)

    def note(self, entry: Mapping[str, Any]) -> list[str]:
        """Keep what became of a write; return a sentence where that fails. The write was sent, whether it is noted or not, so nothing is raised."""
        try:
            self.keep(entry)
        except errors.AzureError as error:
            return [str(error)]
        return []

    def now(self, client: Client) -> datetime:
        """Return the time by Azure's clock, which the first answer of a client tells."""
        if client.clock_skew_s is None:
            with contextlib.suppress(errors.AzureError):
                client.get("/subscriptions", SUBSCRIPTION_VERSION)
        return datetime.fromtimestamp(self.wall() - (client.clock_skew_s or 0.0), timezone.utc)


class Step(Protocol):
    """A remedy."""

    remedy: str

    def resource(self, target: Target) -> str:
        """Return the resource that the change is made on; VMs that share one are one group."""

    def look(self, client: Client, targets: Sequence[Target], run: Run) -> Look:
        """Read the resource, and say what is to be written for a group."""


def outcome(step: Step, target: Target, text: str, **more: Any) -> dict[str, Any]:
    """Return what a remedy did on one VM, as the report takes it."""
    plain: dict[str, Any] = {
        "host": target.host,
        "vm_id": target.vm.get("id"),
        "remedy": step.remedy,
        "text": text,
        "changed": False,
        "deferred": False,
        "failed": False,
        "proved": False,
        "changes": [],
        "undo_point": None,
    }
    return {**plain, **more}


def carry_out(client: Client, step: Step, targets: Sequence[Target], run: Run) -> list[dict[str, Any]]:
    """Carry a remedy out on VMs: groups that share a resource are dealt with at once with others, in batches, until too many failed."""
    groups: dict[str, list[Target]] = {}
    for target in targets:
        groups.setdefault(values.key(step.resource(target)), []).append(target)
    waiting, failed = list(groups.values()), 0
    done: list[dict[str, Any]] = []
    for batch in BATCHES:
        size = max(1, math.ceil(len(groups) * batch / 100))
        now, waiting = waiting[:size], waiting[size:]
        if failed > run.most_failures:
            waiting = now + waiting
            break
        for group, result in client.at_once(lambda group: _group(client, step, group, run), now):
            if isinstance(result, (errors.AuthenticationError, errors.ConfigurationError)) and not done:
                raise result  # it is no matter of one VM
            results = [outcome(step, one, str(result), failed=True) for one in group] if isinstance(result, errors.AzureError) else result
            failed += any(entry["failed"] for entry in results)
            done += results
    text = "Not started: this had failed on {0} resources before, and vmbackup_max_failures is {1}. Read why, then run this again."
    done += [outcome(step, target, text.format(failed, run.most_failures), deferred=True) for group in waiting for target in group]
    return done


def _group(client: Client, step: Step, group: Sequence[Target], run: Run) -> list[dict[str, Any]]:
    """Deal with the VMs of one resource."""
    try:
        look = step.look(client, group, run)
    except errors.NotFound as error:
        return [outcome(step, target, "It is not there any more: {0}".format(error), failed=True) for target in group]
    if not look.writes:
        more: dict[str, Any] = {"deferred": look.waits, "failed": look.failed, "proved": look.seen}
        return [outcome(step, target, look.text, **more) for target in group]
    changes = [change(write) for write in look.writes]
    if run.check:
        return [outcome(step, target, look.text, changed=True, changes=changes) for target in group]
    reason = next(filter(None, (run.closed(target.host) for target in group)), "")
    if reason:
        text = "{0} Deferred: {1}. Run this again inside of it.".format(look.text, reason)
        return [outcome(step, target, text, deferred=True, outside=True) for target in group]
    notes: list[str] = []
    written = _written(client, step, group, look, run, notes)
    more = {"failed": written.failed, "proved": written.proved, "changed": bool(written.writes)}
    more["changes"] = [change(write) for write in written.writes]
    more["undo_point"] = look.undo if written.writes else None
    return [outcome(step, target, " ".join([written.text, *notes]), **more) for target in group]


@dataclass(frozen=True)
class Written:
    """What became of the writes of a group: a sentence, what was or may be changed, whether it was seen afterwards."""

    text: str
    writes: Sequence[Write] = ()
    proved: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Sent:
    """What was sent: writes that Azure took, and what went wrong. taken: the last of them was taken, and its operation is what went wrong.

    entry: what was kept of the write of which is not known whether it was done.
    """

    writes: Sequence[Write] = ()
    trouble: errors.AzureError | None = None
    taken: bool = False
    entry: Mapping[str, Any] | None = None

    @property
    def refused(self) -> bool:
        return self.trouble is not None and not self.taken and is_refused(self.trouble)


def change(write: Write) -> dict[str, Any]:
    return {"resource": write.resource, "property": write.name, "old": write.old, "new": write.new}


def _written(client: Client, step: Step, group: Sequence[Target], look: Look, run: Run, notes: list[str]) -> Written:
    """Write what a look asks for, and look again. notes gets what could not be noted."""
    first = look.text
    for round_ in range(ROUNDS):
        sent = _sent(client, step, look, run, notes)
        trouble = sent.trouble
        if trouble is None or sent.writes or not _is_busy(trouble) or round_ + 1 == ROUNDS:
            break
        run.sleep(ROUND_S)
        look = step.look(client, group, run)
        if not look.writes:
            return Written("{0} Something else was at work: {1}".format(look.text, trouble), proved=look.seen, failed=not look.seen)
    if trouble is not None and sent.refused:
        if not sent.writes:
            return Written("{0} Azure refused it, and nothing was changed: {1}{2}".format(first, trouble, _advice(trouble)), failed=True)
        names = ", ".join("{0} of {1}".format(write.name, write.resource) for write in sent.writes)
        return Written(
            "{0} Written: {1}. The rest was not: {2}{3}".format(first, names, trouble, _advice(trouble)), sent.writes, failed=True
        )
    seen = _proof(client, step, group, run, trouble is None)
    if trouble is None:
        if seen is not None and (seen.seen or seen.settled):
            return Written(first, look.writes, proved=True)
        return Written(
            "{0} Azure took it, but does not show it after {1:.0f} s. Run this again.".format(first, PROOF_S), look.writes, failed=True
        )
    if seen is not None and seen.seen:
        if sent.entry is not None:
            notes += run.note({**sent.entry, "state": "done"})
        return Written("{0} Azure shows it, though: {1}".format(first, trouble), look.writes, proved=True)
    if sent.taken and not isinstance(trouble, errors.OperationFailed):
        text = "{0} Azure took it, but what became of it is not known: {1} Run this again."
        return Written(text.format(first, trouble), sent.writes, failed=True)
    text = "{0} Whether it was done is not known: {1} Azure does not show it, and it was not sent again. Run this again."
    return Written(text.format(first, trouble), sent.writes[:-1] if sent.taken else sent.writes, failed=True)


def _sent(client: Client, step: Step, look: Look, run: Run, notes: list[str]) -> Sent:
    """Send what a look asks for, one after the other, each kept before: what cannot be kept is not sent. An error of the operation is no refusal of
    the write."""
    done: list[Write] = []
    for write in look.writes:
        entry = {"remedy": step.remedy, "at": values.iso(run.now(client)), **change(write)}
        try:
            run.keep({**entry, "state": "begun"})
        except errors.AzureError as error:
            if not done:
                raise
            return Sent(done, error)
        try:
            answer = client.write(write.method, write.path, write.version, write.body, write.headers)
        except errors.AzureError as error:
            refused = is_refused(error)
            notes += run.note({**entry, "state": "refused" if refused else "unknown"})
            return Sent(done, error, entry=None if refused else entry)
        done.append(write)
        try:
            client.wait(answer, run.wait_s)
        except errors.AzureError as error:
            notes += run.note({**entry, "state": "unknown"})
            return Sent(done, error, taken=True, entry=entry)
        notes += run.note({**entry, "state": "done"})
    return Sent(done)


def _proof(client: Client, step: Step, group: Sequence[Target], run: Run, succeeded: bool) -> Look | None:
    """Look until what was wanted is there, bounded; None where nobody could look, and where the resource is gone."""
    until = run.clock() + PROOF_S
    seen = None
    while True:
        try:
            seen = step.look(client, group, run)
        except errors.AzureError:
            seen = None
        if (seen is not None and (seen.seen or (succeeded and seen.settled))) or run.clock() + PROOF_POLL_S > until:
            return seen
        run.sleep(PROOF_POLL_S)


def _is_busy(error: errors.AzureError) -> bool:
    return error.status == 412 or (error.status in (409, 429) and error.code in BUSY)


def is_refused(error: errors.AzureError) -> bool:
    """Say whether an error proves that nothing was done: an answer to the write itself with a reason of Azure's own."""
    if isinstance(error, (errors.OperationFailed, errors.TransportError)):
        return False
    return isinstance(error, (errors.BudgetExhausted, errors.AuthenticationError, errors.ReadOnly, errors.ConfigurationError)) or bool(
        error.status is not None and 400 <= error.status < 500 and error.status != 408 and error.code
    )


def _advice(error: errors.AzureError) -> str:
    if error.code == "ScopeLocked":
        return " Remove the lock that it names, or leave it to the person who set it."
    return " The rights that each remedy needs are in docs/azure.md." if error.status == 403 else ""


def kept(entry: Mapping[str, Any]) -> str:
    """Return an entry of what is kept as one line."""
    return json.dumps(entry, sort_keys=True, default=str)
