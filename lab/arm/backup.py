# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Answers of Recovery Services."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from . import documents
from .documents import Document
from .fleet import Fleet, Operation
from .resources import Resources
from .rules import Answer, Request, not_found, refuse
from .runs import Runs

ITEM_FILTERS = (
    "backupmanagementtype",
    "itemtype",
    "policyname",
    "friendlyname",
    "healthstate",
    "containername",
    "fabricname",
    "backupsetname",
)
JOB_FILTERS = ("status", "operation", "backupmanagementtype", "starttime", "endtime", "jobid")
NEWER_ITEM_FIELDS = ("policyType", "sourceLocation")


def parse_filter(text: str, known: tuple[str, ...]) -> dict[str, str] | Answer:
    """Return what $filter asks for: terms with eq, joined by and; everything else is refused."""
    result: dict[str, str] = {}
    for term in re.split(r"(?i)\s+and\s+", text.strip()) if text.strip() else []:
        match = re.fullmatch(r"(?i)(\w+)\s+eq\s+'([^']*)'", term.strip())
        if not match or match.group(1).lower() not in known:
            return refuse(400, "BMSUserErrorInvalidInput", "Input provided for the call is invalid: {0}".format(term))
        result[match.group(1).lower()] = match.group(2)
    return result


class Backup:
    """Handlers; each gets the request and the parts of its path."""

    def __init__(self, fleet: Fleet, resources: Resources, list_errors: bool = True) -> None:
        self.fleet, self.resources = fleet, resources
        # Whether lists of jobs hold errorDetails is not known: both must work.
        self.list_errors = list_errors
        self.runs = Runs(self)

    def set_pace(self, **pace: float) -> None:
        """Say how long backups take: snapshot_s, done_s."""
        self.runs.set_pace(**pace)

    def advance(self) -> None:
        """Let the backups that were asked for go on."""
        self.runs.advance()

    def vault(self, path: str) -> Document | None:
        return self.fleet.resources.get(path.lower())

    def vaults(self, request: Request, subscription: str, group: str | None) -> Answer:
        below = "/subscriptions/{0}/{1}".format(subscription, "resourcegroups/{0}/".format(group) if group else "")
        entries = [
            entry for entry in self.fleet.of_type("Microsoft.RecoveryServices/vaults", below) if not self.fleet.is_denied(entry["id"])
        ]
        answer = self.resources.listed(request, entries, token="%24skiptoken")
        answer.headers["x-ms-original-request-ids"] = documents.guid("original", request.path)
        return answer

    def one_vault(self, request: Request, path: str) -> Answer:
        vault = self.vault(path)
        return Answer(200, vault) if vault else not_found(path)

    # Items

    def items(self, request: Request, path: str) -> Answer:
        vault = self.vault(path)
        if vault is None:
            return not_found(path)
        wanted = parse_filter(request.query.get("$filter", ""), ITEM_FILTERS)
        if isinstance(wanted, Answer):
            return wanted
        prefix = path.lower() + "/"
        found = [self._shown(entry, request) for key, entry in sorted(self.fleet.items.items()) if key.startswith(prefix)]
        if wanted.get("backupmanagementtype", "AzureIaasVM").lower() != "azureiaasvm":
            found = []
        if "friendlyname" in wanted:
            found = [entry for entry in found if entry["properties"]["friendlyName"].lower() == wanted["friendlyname"].lower()]
        return self.resources.listed(request, found)

    @staticmethod
    def _shown(item: Document, request: Request) -> Document:
        """Return an item as this version of the API shows it."""
        old = request.query["api-version"] < "2024"
        hidden = NEWER_ITEM_FIELDS if old else ()
        return {**item, "properties": {key: value for key, value in item["properties"].items() if key not in hidden}}

    def find_item(self, path: str) -> Document | None:
        """Return an item: semicolons may be encoded, and letter case does not matter."""
        return self.fleet.items.get(path.lower())

    def item(self, request: Request, path: str) -> Answer:
        known = self.find_item(path)
        vault = self.vault(path.split("/backupFabrics/")[0].split("/backupfabrics/")[0])
        if request.method == "GET":
            return Answer(200, self._shown(known, request)) if known else not_found(path)
        if vault is None:
            return not_found(path)
        if request.method == "DELETE":
            if known is None:
                return Answer(204)
            return self.start(request, vault, path, "DeleteBackupData", known, self._soft_delete(known))
        sent = (request.json() or {}).get("properties") or {}
        if sent.get("protectedItemType") != "Microsoft.Compute/virtualMachines" or not sent.get("sourceResourceId"):
            return refuse(400, "BMSUserErrorInvalidInput", "Input provided for the call is invalid")
        machine = self.fleet.resources.get(sent["sourceResourceId"].lower())
        if machine is None:
            return refuse(400, "UserErrorVmNotFoundV2", "Virtual machine doesn't exist.")
        if sent.get("protectionState") == "ProtectionStopped":
            if known is None:
                return not_found(path)

            def stop() -> None:
                known["properties"].update(protectionState="ProtectionStopped", policyId="", policyName="")

            return self.start(request, vault, path, "DisableBackup", known, stop)
        policy = self.fleet.resources.get(str(sent.get("policyId", "")).lower())
        if policy is None:
            return refuse(400, "BMSUserErrorInvalidPolicy", "The policy does not exist.")

        def protect() -> None:
            group = machine["id"].split("/")[4]
            made = documents.item(
                vault, machine["id"], group, machine["name"], policy=policy["name"], protectionState="IRPending", lastBackupStatus=""
            )
            for key in ("healthDetails", "kpisHealths", "extendedProperties", "lastRecoveryPoint"):
                made["properties"].pop(key, None)
            if known is None:
                self.fleet.items[made["id"].lower()] = made
            else:
                known["properties"].update(protectionState="Protected", policyId=policy["id"], policyName=policy["name"])

        return self.start(request, vault, path, "ConfigureBackup", {"machine": machine}, protect, {"Policy Name": policy["name"]})

    def _soft_delete(self, item: Document) -> Any:
        def finish() -> None:
            item["properties"].update(
                protectionState="ProtectionStopped",
                policyId="",
                policyName="",
                isScheduledForDeferredDelete=True,
                deferredDeleteTimeRemaining="13.23:59:44.15",
                deferredDeleteTimeInUTC=documents.stamp(self.fleet.now()),
                softDeleteRetentionPeriod=14,
            )

        return finish

    def backup_now(self, request: Request, path: str) -> Answer:
        known = self.find_item(path)
        if known is None:
            return not_found(path)
        sent = (request.json() or {}).get("properties") or {}
        if sent.get("objectType") != "IaasVMBackupRequest":
            return refuse(400, "BMSUserErrorInvalidInput", "Input provided for the call is invalid")
        expiry = sent.get("recoveryPointExpiryTimeInUTC")
        if expiry and (not re.match(r"\d{4}-\d\d-\d\dT", expiry) or expiry < documents.stamp(self.fleet.now())):
            return refuse(400, "UserErrorInvalidRecoveryPointExpiryTime", "The recovery point expiry time is invalid.")
        if known["properties"]["protectionState"] == "ProtectionStopped":
            return refuse(400, "UserErrorBcmDatasourceNotPresent", "The virtual machine is not actively protected by Azure Backup.")
        vault = self.vault(path.split("/backupFabrics/")[0])
        assert vault is not None
        values = {"status": "InProgress", "endTime": None, "activityId": request.headers.get("x-ms-client-request-id")}
        tasks = [
            {
                "taskId": "Take Snapshot",
                "startTime": documents.stamp(self.fleet.now()),
                "endTime": documents.NEVER_JOB,
                "duration": "PT1S",
                "status": "InProgress",
            },
            {
                "taskId": "Transfer data to vault",
                "startTime": documents.NEVER_JOB,
                "endTime": documents.NEVER_JOB,
                "duration": "PT0S",
                "status": "NotStarted",
            },
        ]
        running = self.runs.of(known)
        answer = self.start(request, vault, path, None if running else "Backup", known, None, {}, tasks, **values)
        if running:
            # What the service says of a second one is on no recording: its operation fails with the code that is documented.
            message = "Unable to initiate backup as another backup operation is currently in progress."
            next(reversed(self.fleet.operations.values())).error = {"code": "UserErrorBackupOperationInProgress", "message": message}
        else:
            self.runs.add(next(reversed(self.fleet.jobs.values())), known)
        answer.headers["retry-after"] = "60"
        return answer

    def refresh(self, request: Request, path: str) -> Answer:
        vault = self.vault(path)
        if vault is None:
            return not_found(path)
        return self.start(request, vault, path + "/backupFabrics/Azure", None, None, None)

    def start(
        self,
        request: Request,
        vault: Document,
        path: str,
        operation: str | None,
        item: Document | None,
        finish: Any,
        bag: dict[str, str] | None = None,
        tasks: list[Document] | None = None,
        **values: Any,
    ) -> Answer:
        """Start an operation and its job; return the two addresses."""
        name = documents.guid("backup", str(len(self.fleet.operations)), path)
        properties = None
        if operation and item:
            job_name = documents.guid("job", name)
            properties = {"objectType": "OperationStatusJobExtendedInfo", "jobId": job_name}
            machine = (
                item.get("machine")
                or self.fleet.resources.get(item["properties"]["virtualMachineId"].lower())
                or {
                    "id": item["properties"]["virtualMachineId"],
                    "name": item["properties"]["friendlyName"],
                }
            )
            if operation in ("ConfigureBackup", "DisableBackup"):
                values = {"actionsInfo": None, "duration": "PT31.0615899S", **values}
                bag = {"Policy Name": "", **(bag or {})}
            job = documents.job(vault, job_name, machine, self.fleet.now(), operation=operation, **values)
            job["properties"]["extendedInfo"]["propertyBag"].update(bag or {})
            if tasks:
                job["properties"]["extendedInfo"].update(
                    tasksList=tasks,
                    propertyBag={"VM Name": machine["name"], "Recovery Point Expiry Time in UTC": "6/16/2023 12:00:00 AM"},
                    internalPropertyBag={"IsInstantRpJob": "True"},
                    progressPercentage=0.0,
                )
                job["properties"]["duration"] = "PT11.353933S"
            self.fleet.jobs[job["id"].lower()] = job
        self.fleet.operations[name] = Operation(name, self.fleet.now(), self.resources.polls, properties=properties, finish=finish)
        version = request.query["api-version"]
        headers = {
            "azure-asyncoperation": "{0}{1}/operationsStatus/{2}?api-version={3}".format(request.base, path, name, version),
            "location": "{0}{1}/operationResults/{2}?api-version={3}".format(request.base, path, name, version),
        }
        return Answer(202, None, headers)

    def status(self, request: Request, name: str) -> Answer:
        """Answer a poll: backupOperations, or operationsStatus below an item."""
        operation = self.fleet.operations.get(name.lower())
        if operation is None:
            return refuse(404, "NotFound", "The operation was not found.")
        self.resources.advance(operation)
        body: Document = {"id": name, "name": name, "status": operation.status, "startTime": documents.stamp(operation.started)}
        body["endTime"] = documents.NEVER_JOB if operation.status == "InProgress" else documents.stamp(self.fleet.now())
        if operation.status == "Succeeded" and operation.properties:
            body["properties"] = operation.properties
        if operation.status == "Failed":
            body["error"] = operation.error
        return Answer(200, body)

    def result(self, request: Request, name: str) -> Answer:
        operation = self.fleet.operations.get(name.lower())
        if operation is None:
            return refuse(404, "NotFound", "The operation was not found.")
        # Where only Location is followed, it is what lets the operation go on.
        self.resources.advance(operation)
        if operation.status == "InProgress":
            return Answer(202, None, {"location": request.base + request.path + "?" + request.raw_query})
        return Answer(204)

    # Jobs

    def jobs(self, request: Request, path: str) -> Answer:
        if self.vault(path) is None:
            return not_found(path)
        wanted = parse_filter(request.query.get("$filter", ""), JOB_FILTERS)
        if isinstance(wanted, Answer):
            return wanted
        limits = {}
        for key in ("starttime", "endtime"):
            if key in wanted:
                try:
                    limits[key] = datetime.strptime(wanted[key], "%Y-%m-%d %I:%M:%S %p").replace(tzinfo=timezone.utc)
                except ValueError:
                    return refuse(400, "BMSUserErrorInvalidInput", "Input provided for the call is invalid: {0}".format(key))
        prefix = path.lower() + "/"
        found = []
        hidden_jobs = {one.job["id"] for one in self.runs.running} if self.runs.hidden else set()
        for key, job in sorted(self.fleet.jobs.items(), key=lambda pair: pair[1]["properties"]["startTime"], reverse=True):
            if job["id"] not in hidden_jobs and key.startswith(prefix) and self._matches(job, wanted, limits):
                hidden = {"extendedInfo"} | (set() if self.list_errors else {"errorDetails"})
                found.append(self._job_shown(job, request, hidden))
        return self.resources.listed(request, found)

    @staticmethod
    def _job_shown(job: Document, request: Request, hidden: set[str]) -> Document:
        """Return a job as this version of the API shows it: actions were numbers once."""
        properties = {name: value for name, value in job["properties"].items() if name not in hidden}
        if "actionsInfo" in properties and request.query["api-version"] < "2023-02-01":
            properties["actionsInfo"] = [1]
        return {**job, "properties": properties}

    @staticmethod
    def _matches(job: Document, wanted: dict[str, str], limits: dict[str, datetime]) -> bool:
        properties = job["properties"]
        for name, key in (("status", "status"), ("operation", "operation"), ("backupmanagementtype", "backupManagementType")):
            if name in wanted and properties[key].lower() != wanted[name].lower():
                return False
        if "jobid" in wanted and job["name"].lower() != wanted["jobid"].lower():
            return False
        started = properties["startTime"][:19]
        if "starttime" in limits and started < limits["starttime"].strftime("%Y-%m-%dT%H:%M:%S"):
            return False
        return not ("endtime" in limits and started > limits["endtime"].strftime("%Y-%m-%dT%H:%M:%S"))

    def job(self, request: Request, path: str) -> Answer:
        known = self.fleet.jobs.get(path.lower())
        return Answer(200, self._job_shown(known, request, set())) if known else refuse(404, "ResourceNotFound", "The job was not found.")

    def progress(self, job: Document, phase: str) -> None:
        """Let a backup go on: transfer (the snapshot is taken) or done."""
        properties, now = job["properties"], documents.stamp(self.fleet.now())
        snapshot, transfer = properties["extendedInfo"]["tasksList"]
        snapshot.update(endTime=now, status="Completed")
        transfer.update(startTime=now, status="InProgress")
        if phase == "done":
            transfer.update(endTime=now, status="Completed")
            properties["extendedInfo"]["propertyBag"]["Backup Size"] = "11374 MB"
            properties["extendedInfo"].pop("progressPercentage", None)
            properties.update(status="Completed", endTime=now)
            vm = properties["containerName"].lower()
            for item in self.fleet.items.values():
                if item["properties"]["containerName"].lower() == vm:
                    item["properties"].update(
                        lastBackupStatus="Completed", lastBackupTime=now, lastRecoveryPoint=now, protectionState="Protected"
                    )
                    item["properties"].setdefault("healthDetails", [documents.HEALTHY])
                    item["properties"].setdefault("kpisHealths", {})

    def cancel(self, request: Request, path: str) -> Answer:
        known = self.fleet.jobs.get(path.lower())
        if known is None:
            return refuse(404, "ResourceNotFound", "The job was not found.")
        vault = self.vault(path.split("/backupJobs/")[0])
        assert vault is not None
        return self.start(request, vault, path, None, None, lambda: known["properties"].update(status="Cancelled"))

    # Policies

    def policies(self, request: Request, path: str) -> Answer:
        if self.vault(path) is None:
            return not_found(path)
        wanted = parse_filter(request.query.get("$filter", ""), ("backupmanagementtype", "workloadtype"))
        if isinstance(wanted, Answer):
            return wanted
        return self.resources.listed(request, self.fleet.of_type("Microsoft.RecoveryServices/vaults/backupPolicies", path + "/"))

    def policy(self, request: Request, vault_path: str, name: str) -> Answer:
        vault = self.vault(vault_path)
        path = "{0}/backupPolicies/{1}".format(vault_path, name)
        known = self.fleet.resources.get(path.lower())
        if vault is None or (request.method == "GET" and known is None):
            return not_found(path)
        if request.method == "GET":
            return Answer(200, known)
        if request.method == "DELETE":
            return Answer(200 if self.fleet.resources.pop(path.lower(), None) else 204)
        sent = (request.json() or {}).get("properties") or {}
        if sent.get("backupManagementType") != "AzureIaasVM" or not sent.get("schedulePolicy") or not sent.get("retentionPolicy"):
            return refuse(400, "BMSUserErrorInvalidPolicyInput", "Input provided for the policy is invalid")
        made = documents.policy(vault, name)
        # Times come back without the fraction with which they were sent.
        made["properties"] = _without_fractions({**sent, "protectedItemsCount": 0})
        if sent["schedulePolicy"].get("schedulePolicyType") == "SimpleSchedulePolicyV2":
            made["properties"]["policyType"] = "V2"
        return Answer(200, self.fleet.put(made))

    # Others

    def recovery_points(self, request: Request, path: str, name: str | None) -> Answer:
        item = self.find_item(path)
        if item is None:
            return not_found(path)
        last = item["properties"].get("lastRecoveryPoint", documents.NEVER_ITEM)
        machine = self.fleet.resources.get(item["properties"]["virtualMachineId"].lower())
        if last == documents.NEVER_ITEM or machine is None:
            return Answer(200, {"value": []}) if name is None else not_found(path)
        number = str(int(documents.guid(path, last).replace("-", "")[:12], 16))
        point = {
            "id": "{0}/recoveryPoints/{1}".format(item["id"], number),
            "name": number,
            "type": "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints",
            "properties": {
                "objectType": "IaasVMRecoveryPoint",
                "recoveryPointType": "AppConsistent",
                "recoveryPointTime": last,
                "recoveryPointAdditionalInfo": "",
                "sourceVMStorageType": "PremiumVMOnPartialPremiumStorage",
                "isSourceVMEncrypted": False,
                "isInstantIlrSessionActive": False,
                "recoveryPointTierDetails": [{"type": "InstantRP", "status": "Valid"}, {"type": "HardenedRP", "status": "Valid"}],
                "isManagedVirtualMachine": True,
                "virtualMachineSize": machine["properties"]["hardwareProfile"]["vmSize"],
                "originalStorageAccountOption": False,
                "osType": machine["properties"]["storageProfile"]["osDisk"]["osType"],
                "recoveryPointMoveReadinessInfo": {"ArchivedRP": {"isReadyForMove": False, "additionalInfo": "Not yet known."}},
                "securityType": "None",
                "isPrivateAccessEnabledOnAnyDisk": False,
            },
        }
        if name is None:
            return Answer(200, {"value": [point]})
        return (
            Answer(200, point)
            if name in (number, "last")
            else refuse(404, "BMSUserErrorRecoveryPointNotFound", "The recovery point was not found.")
        )

    def backup_status(self, request: Request, subscription: str) -> Answer:
        sent = request.json() or {}
        source = sent.get("resourceId")
        if sent.get("resourceType") != "VM" or not source:
            return refuse(400, "BMSUserErrorInvalidInput", "Input provided for the call is invalid")
        parts = source.split("/")
        body: Document = {"protectionStatus": "NotProtected", "fabricName": "Azure", "protectedItemsCount": 0}
        body["containerName"] = "iaasvmcontainer;iaasvmcontainerv2;{0};{1}".format(parts[4], parts[-1])
        body["protectedItemName"] = "vm;iaasvmcontainerv2;{0};{1}".format(parts[4], parts[-1])
        for item in self.fleet.items.values():
            properties = item["properties"]
            if properties["virtualMachineId"].lower() == source.lower() and not properties.get("isScheduledForDeferredDelete"):
                body.update(
                    protectionStatus="Protected", vaultId=item["id"].split("/backupFabrics/")[0], policyName=properties["policyName"]
                )
        return Answer(200, body)

    def deny(self, path: str) -> None:
        """Take the identity's rights on a vault away."""
        self.fleet.denied.add(path.lower())

    def age(self, **amount: float) -> None:
        """Let time pass for all that is read from now on."""
        self.fleet.offset += timedelta(**amount)


def _without_fractions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_fractions(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_fractions(entry) for entry in value]
    return re.sub(r"\.000Z$", "Z", value) if isinstance(value, str) else value
