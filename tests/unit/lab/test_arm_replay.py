# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Recorded answers of Azure against the stand-in: the same requests must bring the same status, headers, keys and types."""

import http.client
import json
import os
import re
import ssl
from collections import defaultdict
from datetime import datetime, timezone
from urllib.parse import urlsplit

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, tls
from ansible_collections.vmbackup.azure.lab.arm.fleet import Fleet
from ansible_collections.vmbackup.azure.lab.arm.server import StandIn

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
RECORDINGS = os.environ.get("VMBACKUP_ARM_RECORDINGS") or os.path.join(ROOT, "..", "shared", "fixtures", "arm")
REASON = "there are no recordings of Azure at {0}; VMBACKUP_ARM_RECORDINGS names them".format(RECORDINGS)
pytestmark = [
    pytest.mark.skipif(not os.path.isdir(RECORDINGS), reason="SKIPPED replay: " + REASON),
    pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED replay: " + tls.lacks()),
]
S = "00000000-0000-0000-0000-000000000000"
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What the recorder made of the body, and what differs with every request.
NOT_COMPARED = {"date", "content-length"}
# Fields of documents whose keys are names that a user gave.
FREE = re.compile(r"tags\.|propertyBag\.|\._trimmed$|^_trimmed$|userAssignedIdentities\.")


def load(name):
    with open(os.path.join(RECORDINGS, name), encoding="utf-8") as stream:
        return json.load(stream)["interactions"]


# The worlds: what there was before the first request of each recording


def clitest(state="Protected", **values):
    """The vault and VM of the tests of the command line."""
    fleet = Fleet()
    # The recording's requests name times of then.
    fleet.offset = datetime(2023, 5, 17, tzinfo=timezone.utc) - datetime.now(timezone.utc)
    fleet.subscribe(S)
    vault = fleet.add_vault(S, "clitest.rg000001", "clitest-vault000002", "centraluseuap")
    subnet = fleet.add_network(S, "clitest.rg000001", "centraluseuap")
    machine = fleet.add_vm(S, "clitest.rg000001", "clitest-vm000003", "centraluseuap", "windows", subnet, "10.0.0.4")
    if state:
        item = fleet.protect(vault, machine, days=0, protectionState=state, **values)
        if state == "IRPending":
            item["properties"].update(lastBackupStatus="", lastBackupTime=documents.NEVER_ITEM)
            for key in ("healthDetails", "kpisHealths", "extendedProperties", "lastRecoveryPoint"):
                item["properties"].pop(key)
    return fleet


def jobs():
    fleet = clitest()
    vault = fleet.of_type("Microsoft.RecoveryServices/vaults")[0]
    machine = fleet.of_type("Microsoft.Compute/virtualMachines")[0]
    now = datetime.now(timezone.utc)
    info = {
        "tasksList": [{"taskId": "Transfer data from vault", "duration": "PT0S", "status": "InProgress"}],
        "propertyBag": {"Job Type": "Recover disks"},
        "internalPropertyBag": {"restoreLocationType": "RestoreDisks"},
        "progressPercentage": 1.0,
    }
    names = ("0004a6aa-f171-48b5-a361-0f518ac74e8e", "b0", "c0")
    made = (
        documents.job(vault, names[0], machine, now, operation="Restore", status="InProgress", endTime=None, extendedInfo=info),
        documents.job(vault, names[1], machine, now),
        documents.job(vault, names[2], machine, now, operation="ConfigureBackup", actionsInfo=None),
    )
    for job in made:
        fleet.jobs[job["id"].lower()] = job
    return fleet


def items():
    """Vaults whose VMs are healthy, stopped, failed and gone."""
    fleet = Fleet()
    fleet.subscribe(S)
    named = (
        ("rg01", "Vault01"),
        ("Rg07", "Vault02"),
        ("namewlRG1bca8", "namewlRSV1bca8"),
        ("name-rg-donotuse", "name-rsvault-donotuse"),
        ("Rg12", "Vault05"),
    )
    subnet = fleet.add_network(S, "rg", "westus")
    green = {
        "resourceHealthStatus": "Healthy",
        "resourceHealthDetails": [{"code": 0, "title": "Success", "message": "", "recommendations": []}],
    }
    for group, name in named:
        vault = fleet.add_vault(S, group, name, "westus")
        for number, error in enumerate((None, None, (400196, "UserErrorGuestAgentStatusUnavailable", "text", "do this"))):
            machine = fleet.add_vm(S, "Rg{0:02d}".format(number), "{0}-vm{1}".format(name, number), "westus", "linux", subnet, "10.0.0.4")
            item = fleet.protect(vault, machine, error, days=0, kpisHealths={"BackupRPOKPI": green, "BackupOperationStatusKPI": green})
            if number == 1:
                item["properties"].update(
                    protectionState="ProtectionStopped", lastBackupStatus="", policyId="", policyName="", kpisHealths={}
                )
                item["properties"].pop("healthDetails")
                item["properties"].pop("lastRecoveryPoint")
    return fleet


def vaults(count=6):
    fleet = Fleet()
    fleet.subscribe(S)
    for number in range(count):
        vault = fleet.add_vault(S, "rg{0}".format(number), "vault{0:02d}".format(number), "westus")
        if number % 2:
            vault["identity"] = {"tenantId": S, "principalId": S, "type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {}}
    return fleet


def machines():
    fleet = Fleet()
    fleet.subscribe(S)
    subnet = fleet.add_network(S, "rg", "eastus")
    access = "Microsoft.OSTCExtensions.VMAccessForLinux"
    extension = {
        "name": "enablevmaccess",
        "type": access,
        "typeHandlerVersion": "1.5.14",
        "statuses": [documents.status("ProvisioningState/succeeded", "Provisioning succeeded", message="Enable succeeded.")],
    }
    live = {"handlers": [documents.handler("linux", name=access)], "extensions": [extension]}
    for group, name, system, more in (
        ("cli_test_vm_state_mod000001", "vm-state-mod", "linux", live),
        ("clitest.rg000001", "vm1", "windows", {"agent": "not_ready"}),
        ("cli_test_vm_extension000001", "myvm", "linux", {"handlers": []}),
    ):
        made = fleet.add_vm(S, group, name, "westus", system, subnet, "10.0.0.4", tags={"a": "b"}, **more)["properties"]
        if name == "vm-state-mod":
            made["storageProfile"]["osDisk"].pop("managedDisk")
            made["storageProfile"]["osDisk"]["vhd"] = {"uri": "https://account.blob.core.windows.net/vhds/disk.vhd"}
        if system == "windows":
            made["licenseType"] = "Windows_Server"
    for group, machine, name in (
        ("cli_test_vm_state_mod000001", "vm-state-mod", "enablevmaccess"),
        ("cli_test_vm_extension000001", "myvm", "VMAccessForLinux"),
    ):
        path = "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Compute/virtualMachines/{2}/extensions/{3}".format(
            S, group, machine, name
        )
        properties = {
            "autoUpgradeMinorVersion": True,
            "provisioningState": "Succeeded",
            "publisher": "Microsoft.OSTCExtensions",
            "type": "VMAccessForLinux",
            "typeHandlerVersion": "1.5",
            **({"settings": {}} if machine == "vm-state-mod" else {"forceUpdateTag": S, "enableAutomaticUpgrade": False}),
        }
        fleet.put(
            {
                "name": name,
                "id": path,
                "type": "Microsoft.Compute/virtualMachines/extensions",
                "location": "westus",
                "properties": properties,
            }
        )
    return fleet


def points():
    fleet = Fleet()
    fleet.subscribe(S)
    subnet = fleet.add_network(S, "rg", "westus")
    group = "cli_test_restore_point000001"
    machine = fleet.add_vm(S, group, "vm_000004", "EastUS2EUAP", "linux", subnet, "10.0.0.4")
    fleet.put(documents.restore_point_collection(S, group, "collection_000002", "EastUS2EUAP", machine["id"]))
    return fleet


def network():
    fleet = Fleet()
    fleet.subscribe(S)
    rule = {
        "protocol": "Tcp",
        "sourcePortRange": "*",
        "sourceAddressPrefix": "Internet",
        "access": "Allow",
        "priority": 500,
        "direction": "Inbound",
    }
    fleet.put(documents.nsg(S, "cli_test_nsg000001", "test-nsg1", "westus"))
    fleet.put(documents.nsg(S, "cli_test_nsg000001", "test-nsg2", "westus", {"test-rule2": rule}))
    return fleet


def locks():
    fleet = Fleet()
    fleet.subscribe(S)
    fleet.put(documents.lock("/subscriptions/{0}/resourceGroups/rg86/providers/Microsoft.Compute/snapshots/s1".format(S), "l4"))
    return fleet


def one_backup():
    fleet = Fleet()
    fleet.subscribe(S)
    vault = fleet.add_vault(S, "rg01", "vault01", "westindia")
    machine = fleet.add_vm(S, "rg01", "vm01", "westindia", "linux", fleet.add_network(S, "rg01", "westindia"), "10.0.0.4")
    fleet.protect(vault, machine, days=0)
    return fleet


def failed_job():
    fleet = clitest()
    vault = fleet.of_type("Microsoft.RecoveryServices/vaults")[0]
    machine = fleet.of_type("Microsoft.Compute/virtualMachines")[0]
    details = [
        {"errorCode": 400196, "errorTitle": "UserErrorGuestAgentStatusUnavailable", "errorString": "text", "recommendations": ["do this"]}
    ]
    name = "a32ed2ba-21da-44fc-ac3e-c67503131367"
    job = documents.job(vault, name, machine, datetime.now(timezone.utc), status="Failed", errorDetails=details)
    fleet.jobs[job["id"].lower()] = job
    return fleet


# What happened between two requests that the recording does not show


def last_job(azure):
    return list(azure.fleet.jobs.values())[-1]


def transfer(azure, replay, entry):
    azure.backup.progress(last_job(azure), "transfer")


def done(azure, replay, entry):
    azure.backup.progress(last_job(azure), "done")


def settle(azure, replay, entry):
    """Operations ended, and the job that is asked for next is the last one."""
    azure.fleet.settle()
    if "/backupJobs/" in entry["uri"]:
        replay.names[GUID.findall(urlsplit(entry["uri"]).path)[-1]] = last_job(azure)["name"]


def power(state):
    def change(azure, replay, entry):
        for live in azure.fleet.live.values():
            live["power"] = state

    return change


def collection(azure, replay, entry):
    """The recorder's tests put a tag on it."""
    for entry in azure.fleet.of_type("Microsoft.Compute/restorePointCollections"):
        entry["tags"] = {"tag": "x"}


# file: (world, polls in progress, what happens before request N)
WORLDS = {
    "01-backup-now.json": (lambda: clitest("IRPending"), 2, {6: transfer, 8: done}),
    "02-jobs-list-and-cancel.json": (jobs, 1, {}),
    "04-items-failed.json": (items, 1, {}),
    "06-protect-stop-status.json": (lambda: clitest(None), 1, {6: settle, 10: settle}),
    "07-policies.json": (clitest, 1, {}),
    "08-vaults-paged.json": (vaults, 1, {}),
    "09-job-failed.json": (failed_job, 1, {}),
    "10-recovery-points.json": (clitest, 1, {}),
    "20-vm-instance-view.json": (machines, 1, {1: power("stopped"), 2: power("deallocated"), 3: power("running")}),
    "22-vm-extension-delete.json": (machines, 1, {}),
    "24-restore-points.json": (points, 0, {1: collection, 6: settle}),
    "30-nsg-rule.json": (network, 0, {}),
    "32-locks.json": (locks, 1, {}),
    "40-graph.json": (lambda: vaults(12), 1, {}),
    "50-backup-now-headers.json": (one_backup, 0, {}),
}
# Failed jobs were recorded of other workloads only: what a VM's job has in common with them are the error's details.
ONLY = {"09-job-failed.json": "properties.errorDetails"}
LEFT_OUT = {("09-job-failed.json", 1)}


def kind(value):
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return {dict: "object", list: "list", str: "text", type(None): "null"}[type(value)]


def shape(value, path="", types=None, always=None):
    """Return ({path: types}, {path of an object: keys that each such object has})."""
    types = defaultdict(set) if types is None else types
    always = {} if always is None else always
    types[path].add(kind(value))
    if isinstance(value, dict):
        keys = set(value)
        always[path] = always[path] & keys if path in always else keys
        for key, entry in value.items():
            shape(entry, (path + "." if path else "") + key, types, always)
    elif isinstance(value, list):
        for entry in value:
            shape(entry, path + "[]", types, always)
    return types, always


def route(method, uri):
    """Return what a request asks for, without names: requests of one kind share their fields."""
    return method, tuple(part.lower() for part in urlsplit(uri).path.strip("/").split("/")[::2])


@pytest.fixture(scope="module")
def known():
    """Types of all fields that were ever recorded for a kind of request, and the keys that each object had."""
    result = defaultdict(lambda: (defaultdict(set), {}))
    for name in WORLDS:
        for entry in load(name):
            shape(entry["body"], "", *result[route(entry["method"], entry["uri"])])
    return result


class Replay:
    """Sends what was recorded; ids that the stand-in chose itself take the place of the recorded ones."""

    def __init__(self, azure):
        self.azure, self.names, self.following = azure, {}, None
        self.connection = http.client.HTTPSConnection("127.0.0.1", azure.port, context=ssl.create_default_context(cafile=azure.ca_file))
        self.token = azure.tokens.give()

    def send(self, entry):
        target = entry["uri"].partition("https://management.azure.com")[2].replace(" ", "%20")
        if self.following and "skiptoken" in target.lower():
            target = self.following.partition("127.0.0.1:{0}".format(self.azure.port))[2]
        for recorded, own in self.names.items():
            target = target.replace(recorded, own)
        headers = {"Authorization": "Bearer " + self.token, "x-ms-client-request-id": S}
        body = None
        if entry["request_body"] is not None:
            body = json.dumps(entry["request_body"]).encode()
            headers["Content-Type"] = "application/json"
        self.connection.request(entry["method"], target, body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        own = {name.lower(): value for name, value in answer.getheaders()}
        parsed = json.loads(content) if content else None
        for name in ("azure-asyncoperation", "location"):
            if name in entry["headers"] and name in own:
                recorded, ours = (GUID.findall(urlsplit(text).path) for text in (entry["headers"][name], own[name]))
                self.names[recorded[-1]] = ours[-1]
        for pick in (lambda body: body["properties"]["jobId"], lambda body: body["value"][0]["name"]):
            try:
                recorded, ours = pick(entry["body"]), pick(parsed)
            except (KeyError, TypeError, IndexError):
                continue
            if GUID.fullmatch(recorded) or recorded.isdigit():
                self.names[recorded] = ours
        self.following = (parsed or {}).get("nextLink") if isinstance(parsed, dict) else None
        return answer.status, own, parsed


def differences(entry, status, headers, body, types, always, only=""):
    """Return in what an answer differs from the recorded one. Entries of a list are in several states: they must have what all recorded ones have."""
    found = []
    if status != entry["status"]:
        found.append("status {0}, recorded {1}: {2}".format(status, entry["status"], json.dumps(body)[:300]))
        return found
    for name in sorted({name.lower() for name in entry["headers"]} - NOT_COMPARED - set(headers)):
        found.append("no header " + name)
    if "content-type" in entry["headers"] and not headers.get("content-type", "").startswith("application/json"):
        found.append("content-type {0}".format(headers.get("content-type")))
    own_types, own_always = shape(body)
    recorded_types, recorded_always = shape(entry["body"])
    for path, kinds in own_types.items():
        if path.startswith(only) and not FREE.search(path) and not kinds <= types.get(path, set()):
            found.append("{0} is {1}, recorded {2}".format(path, sorted(kinds), sorted(types.get(path, []))))
    for path, keys in recorded_always.items():
        keys = always[path] if "[]" in path else keys
        lacking = [key for key in sorted(keys - own_always.get(path, keys)) if not FREE.search("{0}.{1}".format(path, key))]
        if path.startswith(only) and lacking and not FREE.search(path + "."):
            found.append("{0} lacks {1}".format(path or "the body", lacking))
    found += [path + " is empty" for path in ("value[]", "data[]") if path in recorded_types and path not in own_types]
    return found


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_the_stand_in_answers_as_azure_did(name, known):
    world, polls, between = WORLDS[name]
    with StandIn(world(), page=2 if "vaults" in name else 200, polls=polls) as azure:
        replay, found = Replay(azure), []
        for number, entry in enumerate(load(name)):
            if (name, number) in LEFT_OUT:
                continue
            if number in between:
                between[number](azure, replay, entry)
            answer = replay.send(entry)
            fields = known[route(entry["method"], entry["uri"])]
            found += [
                "{0} {1}: {2}".format(number, entry["method"], text) for text in differences(entry, *answer, *fields, ONLY.get(name, ""))
            ]
    assert not found, "\n".join(found)


def test_every_recording_is_replayed():
    assert sorted(name for name in os.listdir(RECORDINGS) if name.endswith(".json")) == sorted(WORLDS)
