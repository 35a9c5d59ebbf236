# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups on demand that run: snapshot, transfer, end. The snapshot is a guest's where there is one (snapshots), else it is a matter of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import documents
from .documents import Document

if TYPE_CHECKING:
    from .backup import Backup

# What a real one takes: the snapshot was done after 7 min 36 to 7 min 49, the whole after 31 min to 2 h 31.
SNAPSHOT_S, DONE_S = 460.0, 3600.0


@dataclass
class RunningBackup:
    job: Document
    item: Document
    began: datetime
    phase: str = "snapshot"


class Runs:
    """The backups that run.

    snapshots(vm id) begins the snapshot in a guest and returns a function that tells its result: None while it runs, else (code, message),
    code 1 where all went well; None instead of a function where no guest belongs to the VM. live of a VM: backup_error, never_ends.
    """

    def __init__(self, backup: Backup) -> None:
        self.backup = backup
        self.snapshot_s, self.done_s = SNAPSHOT_S, DONE_S
        self.snapshots: Callable[[str], Callable[[], tuple[int, str] | None] | None] = lambda vm: None
        # Whether a job has an activity of its own, not the id of the request; whether lists do not show new jobs yet.
        self.own_activity = self.hidden = False
        self.running: list[RunningBackup] = []
        self._guests: dict[str, Callable[[], tuple[int, str] | None] | None] = {}

    def set_pace(self, snapshot_s: float | None = None, done_s: float | None = None) -> None:
        self.snapshot_s = self.snapshot_s if snapshot_s is None else float(snapshot_s)
        self.done_s = self.done_s if done_s is None else float(done_s)

    def of(self, item: Document) -> bool:
        """Say whether a backup of an item runs, also one that a schedule began."""
        container = item["properties"]["containerName"].lower()
        return any(
            job["properties"]["status"] == "InProgress" and job["properties"]["containerName"].lower() == container
            for job in self.backup.fleet.jobs.values()
            if job["properties"]["operation"] == "Backup"
        )

    def add(self, job: Document, item: Document) -> None:
        if self.own_activity:
            job["properties"]["activityId"] = documents.guid("activity", job["name"])
        one = RunningBackup(job, item, self.backup.fleet.now())
        self.running.append(one)
        self._guests[job["id"]] = self.snapshots(item["properties"]["virtualMachineId"])

    def advance(self) -> None:
        for one in list(self.running):
            live = self.backup.fleet.live.get(one.item["properties"]["virtualMachineId"].lower(), {})
            passed = (self.backup.fleet.now() - one.began).total_seconds()
            if one.job["properties"]["status"] != "InProgress":
                self.running.remove(one)
            elif live.get("never_ends"):
                continue
            elif one.phase == "snapshot":
                self._snapshot(one, live, passed)
            elif passed >= self.done_s:
                self.backup.progress(one.job, "done")

    def _snapshot(self, one: RunningBackup, live: Document, passed: float) -> None:
        guest = self._guests[one.job["id"]]
        result: tuple[Any, str] | None = (1, "") if passed >= self.snapshot_s else None
        if guest is not None:
            result = guest()
        elif result and live.get("backup_error"):
            result = tuple(live["backup_error"])
        if result is None:
            return
        if result[0] not in (0, 1):
            self._fail(one, str(result[0]), result[1])
            return
        one.phase = "transfer"
        self.backup.progress(one.job, "transfer")
        self._point(one)

    def _fail(self, one: RunningBackup, code: str, message: str) -> None:
        now = documents.stamp(self.backup.fleet.now())
        detail = {"errorCode": 490010, "errorTitle": code, "errorString": message, "recommendations": ["Look at the guest."]}
        one.job["properties"].update(status="Failed", endTime=now, errorDetails=[detail])
        health = {"code": 490010, "title": code, "message": message, "recommendations": ["Look at the guest."]}
        one.item["properties"].update(lastBackupStatus="Failed", lastBackupTime=now, healthStatus="ActionSuggested", healthDetails=[health])

    def _point(self, one: RunningBackup) -> None:
        """Add a restore point to the VM's own collection."""
        fleet, id_ = self.backup.fleet, one.item["properties"]["virtualMachineId"]
        machine = fleet.resources.get(id_.lower())
        if machine is None:
            return
        parts = machine["id"].split("/")
        found = [
            entry
            for entry in fleet.of_type("Microsoft.Compute/restorePointCollections")
            if entry["properties"]["source"]["id"].lower() == id_.lower()
        ]
        group = "AzureBackupRG_{0}_1".format(machine["location"])
        name = "AzureBackup_{0}_{1}".format(machine["name"], int(documents.guid(id_)[:8], 16))
        made = documents.restore_point_collection(parts[2], group, name, machine["location"], machine["id"])
        collection = found[0] if found else fleet.put(made)
        path = "{0}/restorePoints/AzureBackup_{1}".format(collection["id"], fleet.now().strftime("%Y%m%d_%H%M%S"))
        point = documents.restore_point(path, machine, "ApplicationConsistent", fleet.now())
        fleet.resources[path.lower()] = {**point, "type": "Microsoft.Compute/restorePointCollections/restorePoints"}
