# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backup items, jobs and policies, and the state that they put a VM into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import codes, values

ACTIVE = ("protected", "irpending", "protectionerror")
STATES = ("failed", "unprotected", "rpo_breached", "stopped", "soft_deleted", "vm_gone")
# A backup may start late and takes hours: the objective counts as missed after this many intervals without a recovery point.
RPO_FACTOR = 1.5
HOURS_OF_A_WEEK = 168.0
VM = "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Compute/virtualMachines/{2}"


def _interval_h(schedule: Mapping[str, Any]) -> float | None:
    """Return the longest time between two backups that a schedule allows."""
    frequency = str(schedule.get("scheduleRunFrequency", "")).lower()
    if frequency == "daily":
        return 24.0
    if frequency == "weekly":
        weekly = values.mapping(schedule.get("weeklySchedule"))
        days = values.texts(schedule.get("scheduleRunDays")) or values.texts(weekly.get("scheduleRunDays"))
        return _longest_gap_h(days)
    if frequency == "hourly":
        hourly = values.mapping(schedule.get("hourlySchedule"))
        interval, window = values.number(hourly.get("interval")), values.number(hourly.get("scheduleWindowDuration"))
        if not interval or window is None:
            return None
        return float(max(interval, 24 - window // interval * interval))
    return None


def _every_h(schedule: Mapping[str, Any]) -> float | None:
    """Return the hours between two starts within the window of an hourly schedule, None for any other."""
    if str(schedule.get("scheduleRunFrequency", "")).lower() != "hourly":
        return None
    interval = values.number(values.mapping(schedule.get("hourlySchedule")).get("interval"))
    return float(interval) if interval else None


def _longest_gap_h(days: Sequence[str]) -> float:
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    numbers = sorted({names.index(day.lower()) for day in days if day.lower() in names})
    if len(numbers) < 2:
        return HOURS_OF_A_WEEK
    return 24.0 * max((after - before) % 7 for before, after in zip(numbers, [*numbers[1:], numbers[0]]))


def policy(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy from its row."""
    properties = values.mapping(row.get("properties"))
    schedule = values.mapping(properties.get("schedulePolicy"))
    inner = [values.mapping(schedule.get(name)) for name in ("dailySchedule", "weeklySchedule")]
    starts = values.texts(schedule.get("scheduleRunTimes")) or [
        time for entry in inner for time in values.texts(entry.get("scheduleRunTimes"))
    ]
    window = values.text(values.mapping(schedule.get("hourlySchedule")).get("scheduleWindowStartTime"))
    groups = values.mapping(properties.get("instantRPDetails"))
    id_ = values.text(row.get("id"))
    return {
        "id": id_,
        "name": values.text(row.get("name")),
        "vault_id": values.key(id_).partition("/backuppolicies/")[0],
        "type": values.text(properties.get("policyType")) or ("V2" if str(schedule.get("schedulePolicyType", "")).endswith("V2") else "V1"),
        "frequency": values.text(schedule.get("scheduleRunFrequency")),
        "start_times": sorted(
            {moment.strftime("%H:%M") for moment in map(values.when, [*starts, *([window] if window else [])]) if moment}
        ),
        "days": values.texts(schedule.get("scheduleRunDays")) or values.texts(inner[1].get("scheduleRunDays")),
        "interval_h": _interval_h(schedule),
        "every_h": _every_h(schedule),
        "time_zone": values.text(properties.get("timeZone")),
        "items": values.number(properties.get("protectedItemsCount")),
        "instant_days": values.number(properties.get("instantRpRetentionRangeInDays")),
        "group_prefix": values.text(groups.get("azureBackupRGNamePrefix")),
        "group_suffix": values.text(groups.get("azureBackupRGNameSuffix")),
    }


def vm_of_job(row: Mapping[str, Any]) -> str:
    """Return the key of the VM that a job was for; jobs of old may name the container only."""
    key = values.key(row.get("vm"))
    if key:
        return key
    pieces = str(row.get("container") or "").split(";")
    subscription = values.part(row.get("id"), "subscriptions")
    if len(pieces) < 2 or not subscription:
        return ""
    return values.key(VM.format(subscription, pieces[-2], pieces[-1]))


def vm_of_item(row: Mapping[str, Any]) -> str | None:
    """Return the id of the VM that an item backs up: rows of Resource Graph name it in another place than the service's own list."""
    properties = values.mapping(row.get("properties"))
    source = values.mapping(properties.get("dataSourceInfo"))
    for id_ in (properties.get("virtualMachineId"), properties.get("sourceResourceId"), source.get("resourceID")):
        if values.is_resource(id_):
            return values.text(id_)
    # VM;iaasvmcontainerv2;GROUP;VM; a backup is always in the subscription of its VM.
    pieces = (values.last(row.get("id")) or "").split(";")
    subscription = values.part(row.get("id"), "subscriptions")
    if len(pieces) == 4 and pieces[1].lower() == "iaasvmcontainerv2" and subscription:
        return VM.format(subscription, pieces[2], pieces[3])
    return None


def _job(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "id": values.text(row.get("id")),
        "name": values.text(row.get("name")),
        "operation": values.text(row.get("operation")),
        "start": values.time(row.get("start")),
        "end": values.time(row.get("end")),
        "activity_id": values.text(row.get("activity")),
    }


def item_error(properties: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the error that an item names: by its health, or by its indicator of the last backup."""
    indicator = values.mapping(values.mapping(properties.get("kpisHealths")).get("BackupOperationStatusKPI"))
    for detail in (*values.entries(properties.get("healthDetails")), *values.entries(indicator.get("resourceHealthDetails"))):
        error = codes.error_of(detail, "item")
        if error:
            return error
    return None


class Jobs:
    """Jobs of the last days, by VM."""

    def __init__(self, others: Sequence[Mapping[str, Any]], good: Sequence[Mapping[str, Any]]) -> None:
        self._others: dict[str, list[Mapping[str, Any]]] = {}
        for row in others:
            self._others.setdefault(vm_of_job(row), []).append(row)
        for rows in self._others.values():
            rows.sort(key=lambda row: str(row.get("start") or ""), reverse=True)
        self._good = {values.key(row.get("id")): row for row in good}

    def last_good(self, vm: str) -> datetime | None:
        return values.when(self._good.get(vm, {}).get("last"))

    def history(self, vm: str, vault: str) -> dict[str, Any]:
        """Return what the jobs of a VM in a vault say."""
        rows = [row for row in self._others.get(vm, []) if values.key(row.get("id")).startswith(vault + "/")]
        failed = [row for row in rows if str(row.get("status")).lower() == "failed"]
        running = next((row for row in rows if str(row.get("status")).lower() == "inprogress"), None)
        good = self.last_good(vm)
        in_a_row = [row for row in failed if good is None or (values.when(row.get("start")) or good) > good]
        errors = [codes.error_of(values.mapping(row.get("error")), "job") for row in failed]
        counted = Counter((error or {}).get("code") or "unknown" for error in errors)
        return {
            "failed_jobs_14d": len(failed),
            "jobs_14d": len(rows) + (values.number(self._good.get(vm, {}).get("jobs")) or 0),
            "failed_in_a_row": len(in_a_row),
            "failed_since": values.time(in_a_row[-1].get("start")) if in_a_row else None,
            "codes_14d": dict(sorted(counted.items())),
            "last_failed_job": _job(failed[0] if failed else None),
            "running_job": _job(running),
            "_error": errors[0] if errors and in_a_row else None,
        }


def backup(
    row: Mapping[str, Any], vm: str, jobs: Jobs, policies: Mapping[str, Mapping[str, Any]], vaults: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return a backup from its item's row."""
    properties = values.mapping(row.get("properties"))
    id_ = values.text(row.get("id"))
    vault_id = (
        (id_ or "").partition("/backupFabrics/")[0] if "/backupFabrics/" in (id_ or "") else values.key(id_).partition("/backupfabrics/")[0]
    )
    vault = values.mapping(vaults.get(values.key(vault_id)))
    policy_id = values.text(properties.get("policyId"))
    plan = values.mapping(policies.get(values.key(policy_id)))
    history = jobs.history(vm, values.key(vault_id))
    job_error = history.pop("_error")
    point = values.when(properties.get("lastRecoveryPoint"))
    age = round((now - point).total_seconds() / 3600, 1) if point else None
    interval = plan.get("interval_h")
    error = job_error if job_error and job_error["code"] else item_error(properties) or job_error
    status = values.text(properties.get("lastBackupStatus"))
    failed = _failed(status, properties, jobs.last_good(vm))
    if failed and not history["failed_since"]:
        history["failed_since"] = values.time(properties.get("lastBackupTime"))
    soft = properties.get("isScheduledForDeferredDelete") is True
    return {
        "item_id": id_,
        "vault_id": vault.get("id") or vault_id,
        "vault": vault.get("name") or values.last(vault_id),
        "vault_region": vault.get("region"),
        "policy_id": policy_id,
        "policy": values.text(properties.get("policyName")) or plan.get("name"),
        "policy_type": values.text(properties.get("policyType")) or plan.get("type"),
        "protection_state": values.text(properties.get("protectionState")) or values.text(properties.get("currentProtectionState")),
        "health": values.text(properties.get("healthStatus")),
        "last_status": status,
        "last_time": values.time(properties.get("lastBackupTime")),
        "last_recovery_point": values.iso(point),
        "age_h": age,
        "rpo_h": interval,
        "rpo_breached": None if age is None or not interval else age > interval * RPO_FACTOR,
        "soft_deleted": soft,
        "deleted_until_s": values.span_s(properties.get("deferredDeleteTimeRemaining")) if soft else None,
        "failed": failed,
        "error": error if failed else None,
        "crowd": None,
        **history,
        "failed_since": history["failed_since"] if failed else None,
    }


def _failed(status: str | None, properties: Mapping[str, Any], last_good: datetime | None) -> bool:
    """Say whether the last backup failed: a job that went well since then has the last word, the item may lag behind."""
    if (status or "").lower() not in ("failed", "unhealthy"):
        return False
    last = values.when(properties.get("lastBackupTime"))
    return not (last_good and last and last_good > last)


def is_active(entry: Mapping[str, Any]) -> bool:
    return not entry["soft_deleted"] and str(entry["protection_state"] or "").lower() in ACTIVE


def choose(entries: Sequence[dict[str, Any]]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return (the item that counts, the others): one that is backed up before one that was stopped before one that is deleted; then the youngest."""
    ordered = sorted(entries, key=lambda entry: (is_active(entry), not entry["soft_deleted"], entry["last_time"] or ""), reverse=True)
    return (ordered[0], ordered[1:]) if ordered else (None, [])


def states(exists: bool | None, entry: Mapping[str, Any] | None) -> list[str]:
    """Return the states that a VM is in: none is the good one."""
    if entry is None:
        return ["unprotected"] if exists else []
    if entry["soft_deleted"]:
        return ["soft_deleted"]
    if exists is False:
        return ["vm_gone"]
    if not is_active(entry):
        return ["stopped"]
    return [name for name, holds in (("failed", entry["failed"]), ("rpo_breached", entry["rpo_breached"])) if holds]
