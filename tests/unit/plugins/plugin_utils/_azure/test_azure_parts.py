# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is made of single documents of Azure."""

import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import backup, codes, hosts, machine, network, values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import cause_of

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "..", "..", ".."))
RECORDINGS = os.environ.get("VMBACKUP_ARM_RECORDINGS") or os.path.join(ROOT, "..", "shared", "fixtures", "arm")
recorded = pytest.mark.skipif(not os.path.isdir(RECORDINGS), reason="SKIPPED: there are no recordings of Azure at " + RECORDINGS)
VM = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1"
VAULT = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v1"


def recording(name):
    with open(os.path.join(RECORDINGS, name), encoding="utf-8") as stream:
        return [entry["body"] for entry in json.load(stream)["interactions"]]


# Values


@pytest.mark.parametrize(
    "given, iso",
    [
        ("2020-08-01T21:02:49.6605279Z", "2020-08-01T21:02:49Z"),
        ("2023-05-25T10:31:39.6353456+00:00", "2023-05-25T10:31:39Z"),
        ("2023-05-25T10:31:39+02:30", "2023-05-25T08:01:39Z"),
        ("2001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00", None),
        ("2023-13-45T10:31:39Z", None),
        ("", None),
        (None, None),
        ("yesterday", None),
    ],
)
def test_times(given, iso):
    assert values.time(given) == iso


@pytest.mark.parametrize("given, seconds", [("13.23:59:44.15", 1209584), ("00:10:00", 600), ("soon", None), (None, None)])
def test_time_spans(given, seconds):
    assert values.span_s(given) == seconds


def test_ids_are_compared_without_case_and_without_the_address_in_front():
    assert values.key("https://management.azure.com/Subscriptions/S/RG/") == values.key("/subscriptions/s/rg")
    assert values.part(VM, "resourcegroups") == "rg" and values.part(VM, "vaults") is None and values.last(VM) == "vm1"


def test_texts_cannot_steer_a_terminal_or_fill_a_report():
    assert values.text("a\x1b[31mb\u202ec\r") == "a[31mbc"
    assert len(values.text("x" * 100000)) == 4000
    assert values.text({"a": 1}) is None and values.text("") is None


# Codes


@pytest.mark.parametrize(
    "number, title, message, code",
    [
        (400196, "UserErrorGuestAgentStatusUnavailable", "text", "UserErrorGuestAgentStatusUnavailable"),
        (400196, "Agent der VM antwortet nicht", "text", "UserErrorGuestAgentStatusUnavailable"),
        (1, "Fehler", "inner error: ExtensionSnapshotFailedNoNetwork, see", "ExtensionSnapshotFailedNoNetwork"),
        (1, "Snapshot failed", "no symbol here", None),
        (1, "UPPERCASE", None, None),
    ],
)
def test_the_symbol_of_an_error(number, title, message, code):
    assert codes.symbol_of(number, title, message) == code


@pytest.mark.parametrize(
    "detail", [{"code": 400239, "title": "IaasVmHealthGreenDefault", "message": "ok"}, {"code": 0, "title": "Success"}, {}]
)
def test_a_good_state_is_no_error(detail):
    assert codes.error_of(detail, "item") is None


@pytest.mark.parametrize(
    "code, cause",
    [
        ("GuestAgentSnapshotTaskStatusError", "agent"),
        ("UserErrorGuestAgentStatusUnavailable", "agent"),
        ("ExtensionSnapshotFailedNoNetwork", "connectivity"),
        ("UserErrorFsFreezeFailed", "snapshot"),
        ("ExtensionFailedVssWriterInBadState", "snapshot"),
        ("ExtensionStuckInDeletionState", "extension"),
        ("ExtensionSnapshotFailedCOM", "extension"),
        ("UserErrorRpCollectionLimitReached", "azure"),
        ("Something", "azure"),
        (None, "unknown"),
    ],
)
def test_the_cause_that_a_code_points_to(code, cause):
    assert cause_of(code) == cause


@recorded
def test_recorded_items_name_their_error():
    named = {}
    for body in recording("04-items-failed.json"):
        for item in body["value"]:
            error = backup.item_error(item["properties"])
            named[item["properties"]["friendlyName"]] = (item["properties"]["lastBackupStatus"], error and error["code"])
    assert named["vm10"] == ("Failed", "UserErrorGuestAgentStatusUnavailable")
    assert named["vm16"] == ("Failed", "UserErrorVmNotFoundV2")
    assert named["vm01"] == ("Completed", None)


@recorded
def test_a_recorded_failed_job_names_its_error():
    details = recording("09-job-failed.json")[1]["properties"]["errorDetails"][0]
    error = codes.error_of(details, "job_detail")
    assert (error["code"], error["number"]) == ("UserErrorIncompatibleSrcTargetSystemsForRestore", 520512) and error["recommendations"]


# Policies


def schedule(**values_):
    return {"id": VAULT + "/backupPolicies/p", "name": "p", "properties": {"schedulePolicy": values_}}


@pytest.mark.parametrize(
    "plan, hours",
    [
        ({"scheduleRunFrequency": "Daily"}, 24.0),
        ({"scheduleRunFrequency": "Weekly", "scheduleRunDays": ["Sunday"]}, 168.0),
        ({"scheduleRunFrequency": "Weekly", "scheduleRunDays": ["Monday", "Thursday"]}, 96.0),
        ({"scheduleRunFrequency": "Weekly", "weeklySchedule": {"scheduleRunDays": ["Sunday", "Monday"]}}, 144.0),
        ({"scheduleRunFrequency": "Hourly", "hourlySchedule": {"interval": 4, "scheduleWindowDuration": 12}}, 12.0),
        ({"scheduleRunFrequency": "Hourly", "hourlySchedule": {"interval": 4, "scheduleWindowDuration": 24}}, 4.0),
        ({"scheduleRunFrequency": "Hourly", "hourlySchedule": {}}, None),
        ({"scheduleRunFrequency": "Sometimes"}, None),
        ({}, None),
    ],
)
def test_the_longest_time_between_two_backups(plan, hours):
    assert backup.policy(schedule(**plan))["interval_h"] == hours


@recorded
def test_recorded_policies():
    bodies = recording("07-policies.json")
    daily, hourly = backup.policy(bodies[0]), backup.policy(bodies[1])
    assert (daily["type"], daily["start_times"], daily["interval_h"], daily["items"]) == ("V1", ["22:30"], 24.0, 1)
    assert (hourly["type"], hourly["start_times"], hourly["interval_h"], hourly["every_h"]) == ("V2", ["08:00"], 12.0, 4.0)
    assert daily["every_h"] is None
    prefixes = [backup.policy(body) for body in bodies if isinstance(body, dict) and body.get("name") == "clitest-policy000009"]
    assert prefixes[-1]["group_prefix"] == "RG_prefix" and prefixes[-1]["group_suffix"] == "RG_suffix"


# States


def entry(**changed):
    return {
        "soft_deleted": False,
        "protection_state": "Protected",
        "failed": False,
        "rpo_breached": False,
        "last_time": "2026-01-01T00:00:00Z",
        **changed,
    }


@pytest.mark.parametrize(
    "exists, item, states",
    [
        (True, None, ["unprotected"]),
        (None, None, []),
        (True, entry(), []),
        (True, entry(failed=True), ["failed"]),
        (True, entry(failed=True, rpo_breached=True), ["failed", "rpo_breached"]),
        (True, entry(rpo_breached=None), []),
        (True, entry(failed=True, protection_state="ProtectionStopped"), ["stopped"]),
        (True, entry(protection_state="BackupsSuspended"), ["stopped"]),
        (True, entry(failed=True, protection_state="ProtectionError"), ["failed"]),
        (True, entry(failed=True, soft_deleted=True, protection_state="ProtectionStopped"), ["soft_deleted"]),
        (False, entry(failed=True), ["vm_gone"]),
        (None, entry(failed=True), ["failed"]),
    ],
)
def test_states(exists, item, states):
    assert backup.states(exists, item) == states


def test_the_item_that_counts_is_the_one_that_is_backed_up():
    old = entry(protection_state="ProtectionStopped", last_time="2026-02-01T00:00:00Z")
    gone = entry(soft_deleted=True, last_time="2026-03-01T00:00:00Z")
    active = entry(last_time=None)
    assert backup.choose([old, gone, active]) == (active, [old, gone])
    assert backup.choose([]) == (None, [])


def job_row(status, start, error=None, vm=VM, vault=VAULT, **more):
    return {"id": vault + "/backupJobs/" + start, "name": start, "vm": vm, "status": status, "start": start, "error": error, **more}


def test_the_history_of_a_vms_jobs():
    error = {"errorCode": 400196, "errorTitle": "t"}
    rows = [job_row("Failed", "2026-01-0{0}T01:00:00Z".format(day), error) for day in (2, 5, 6)]
    rows += [job_row("InProgress", "2026-01-07T01:00:00Z"), job_row("Failed", "2026-01-06T02:00:00Z", vault=VAULT + "x")]
    jobs = backup.Jobs(rows, [{"id": VM.lower(), "jobs": 9, "last": "2026-01-04T01:00:00.000Z"}])
    told = jobs.history(VM.lower(), VAULT.lower())
    assert (told["failed_jobs_14d"], told["jobs_14d"], told["failed_in_a_row"], told["failed_since"]) == (3, 13, 2, "2026-01-05T01:00:00Z")
    assert told["codes_14d"] == {"UserErrorGuestAgentStatusUnavailable": 3} and told["running_job"]["name"].startswith("2026-01-07")
    assert told["last_failed_job"]["start"] == "2026-01-06T01:00:00Z"


ITEM = (
    VAULT + "/backupFabrics/Azure/protectionContainers/IaasVMContainer;iaasvmcontainerv2;rg;vm1/protectedItems/VM;iaasvmcontainerv2;rg;vm1"
)


@pytest.mark.parametrize(
    "id_, properties, vm",
    [
        (VAULT, {"virtualMachineId": VM}, VM),
        (VAULT, {"sourceResourceId": VM}, VM),
        (VAULT, {"dataSourceInfo": {"resourceID": VM}}, VM),
        (ITEM, {"virtualMachineId": "", "sourceResourceId": None, "dataSourceInfo": None}, VM),
        (ITEM.replace("iaasvmcontainerv2", "iaasvmcontainer"), {}, None),
        ("VM;iaasvmcontainerv2;rg;vm1", {}, None),
    ],
)
def test_the_vm_of_an_item_in_any_of_its_places(id_, properties, vm):
    assert backup.vm_of_item({"id": id_, "properties": properties}) == vm


def test_a_job_without_the_vms_id_is_found_by_its_container():
    row = job_row("Failed", "2026-01-01T01:00:00Z", vm="", container="iaasvmcontainerv2;RG;VM1")
    assert backup.vm_of_job(row) == VM.lower()
    assert backup.vm_of_job({"container": "x"}) == ""


def test_a_job_that_went_well_after_the_item_was_written_has_the_last_word():
    assert backup._failed("Failed", {"lastBackupTime": "2026-01-02T00:00:00Z"}, values.when("2026-01-02T03:00:00Z")) is False
    assert backup._failed("Failed", {"lastBackupTime": "2026-01-02T00:00:00Z"}, values.when("2026-01-01T03:00:00Z")) is True
    assert backup._failed("Failed", {}, values.when("2026-01-02T03:00:00Z")) is True
    assert backup._failed("", {}, None) is False


# VMs


@recorded
def test_recorded_instance_views():
    made = []
    for body in recording("20-vm-instance-view.json"):
        vm = machine.empty(body["id"])
        machine.set_view(vm, body)
        made.append(vm)
    running, stopped, deallocated, not_ready = made
    assert [vm["power_state"] for vm in made] == ["running", "stopped", "deallocated", "running"]
    assert [vm["agent"] and vm["agent"]["ready"] for vm in made] == [True, True, None, False]
    assert not_ready["agent"]["version"] is None and not_ready["os"] == "windows"
    assert (
        running["extensions"][0]["type"] == "Microsoft.OSTCExtensions.VMAccessForLinux"
        and running["extensions"][0]["message"] == "Enable succeeded."
    )
    assert running["disks"]["os"]["managed"] is False and not_ready["disks"]["os"]["managed"] is True
    assert deallocated["os_name"] is None and running["os_name"] == "centos"


def test_statuses_in_any_order_and_with_the_reason_of_a_failure():
    vm = machine.empty(VM)
    machine.set_statuses(
        vm, [{"code": "OSState/generalized"}, {"code": "PowerState/Running"}, {"code": "ProvisioningState/failed/AllocationFailed"}]
    )
    assert (vm["power_state"], vm["provisioning_state"], vm["provisioning_error"]) == ("running", "Failed", "AllocationFailed")
    machine.set_statuses(vm, None)
    assert vm["power_state"] == "running"


def test_an_extension_that_azure_does_not_list_cannot_be_removed_from_azure():
    handler = {
        "type": "Microsoft.Azure.RecoveryServices.VMSnapshotLinux",
        "version": "1.0",
        "ready": True,
        "status": "Ready",
        "message": None,
    }
    listed = {
        "name": "VMSnapshotLinux",
        "type": "Microsoft.Azure.RecoveryServices.VMSnapshotLinux",
        "version": "1.0",
        "status": "x",
        "message": None,
    }
    assert machine._snapshot([handler], [])["name"] is None
    assert machine._snapshot([handler], [listed])["name"] == "VMSnapshotLinux"
    assert machine._snapshot([], []) is None


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"properties": None},
        {"properties": {"instanceView": [], "osProfile": 5}},
        {"resources": "x", "properties": {"instanceView": {"vmAgent": {"statuses": {}}}}},
    ],
)
def test_an_answer_of_any_shape_breaks_nothing(answer):
    vm = machine.empty(VM)
    machine.set_view(vm, answer)
    assert vm["view"] == "read"


# Networks


def test_rules_and_routes_that_a_user_made():
    rules = {
        "properties": {
            "securityRules": [
                {"name": "in", "properties": {"direction": "Inbound", "priority": 100}},
                {
                    "name": "b",
                    "properties": {
                        "direction": "outbound",
                        "priority": 300,
                        "access": "deny",
                        "protocol": "TCP",
                        "destinationAddressPrefix": "Storage",
                        "destinationPortRanges": ["443", "80"],
                    },
                },
                {
                    "name": "a",
                    "properties": {
                        "direction": "Outbound",
                        "priority": 200,
                        "access": "Allow",
                        "protocol": "*",
                        "destinationAddressPrefixes": ["10.0.0.0/8"],
                    },
                },
            ]
        }
    }
    assert [(rule["name"], rule["access"], rule["protocol"], rule["destinations"], rule["ports"]) for rule in network.rules_of(rules)] == [
        ("a", "Allow", "*", ["10.0.0.0/8"], []),
        ("b", "Deny", "tcp", ["Storage"], ["443", "80"]),
    ]
    routes = {
        "properties": {
            "routes": [
                {
                    "name": "r",
                    "properties": {"addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.0.0.4"},
                }
            ]
        }
    }
    assert network.routes_of(routes) == [{"name": "r", "prefix": "0.0.0.0/0", "next_hop": "VirtualAppliance", "address": "10.0.0.4"}]


@pytest.mark.parametrize("pools, balanced", [([{"id": "/pool"}], True), ([], False), (None, False)])
def test_an_interface_in_a_pool_of_a_load_balancer(pools, balanced):
    inner = {"privateIPAddress": "10.0.0.4", **({} if pools is None else {"loadBalancerBackendAddressPools": pools})}
    row = {"id": "/Nic", "type": "microsoft.network/networkinterfaces", "properties": {"ipConfigurations": [{"properties": inner}]}}
    assert network.Network({"/nic": row}).interface("/NIC")["load_balanced"] is balanced
    assert network.Network({}).interface("/NIC")["load_balanced"] is None, "an interface that may not be seen is not known"


# Names


@pytest.mark.parametrize(
    "wanted, name",
    [
        ("vm-01.example.com", "vm-01.example.com"),
        ("-oProxyCommand=touch x", "oProxyCommand_touch_x"),
        ("../../etc/passwd", "etc_passwd"),
        ("{{ lookup('pipe', 'x') }}", "lookup__pipe____x"),
        ("größe", "gr__e"),
    ],
)
def test_names_of_hosts_are_safe(wanted, name):
    assert hosts.host_name(wanted, "k") == name


@pytest.mark.parametrize("wanted", ["localhost", "LOCALHOST", "127.0.0.1", "all", "ungrouped", "", "{{}}", "..."])
def test_no_vm_takes_a_name_of_ansible(wanted):
    name = hosts.host_name(wanted, "k")
    assert name.lower() not in hosts.TAKEN and len(name) > 7 and name == hosts.host_name(wanted, "k") != hosts.host_name(wanted, "other")


@pytest.mark.parametrize(
    "wanted, name", [("backup_vault_My Vault-1", "backup_vault_My_Vault_1"), ("1st", "_1st"), ("", "_"), ("{{ x }}", "___x___")]
)
def test_names_of_groups_are_safe(wanted, name):
    assert hosts.group_name(wanted) == name


def test_equal_names_get_a_stable_suffix_each():
    vms = [{"name": name, "key": key} for name, key in (("web", "a"), ("WEB", "b"), ("db", "c"))]
    shared = hosts.twins(vms)
    assert shared == {"a", "b"}
    names = [hosts.name_of(vm, vm["key"] in shared) for vm in vms]
    assert names == [hosts.name_of(vm, vm["key"] in shared) for vm in vms] and len(set(names)) == 3 and names[2] == "db"
    assert names[0].startswith("web_") and names[1].startswith("WEB_")
    assert hosts.apart({"x": "same", "y": "Same", "z": "own"})["z"] == "own"
    assert len({name.lower() for name in hosts.apart({"x": "same", "y": "Same"}).values()}) == 2


def test_an_address_that_is_none_is_not_connected_to():
    vm = {**machine.empty(VM), "private_addresses": ["{{ evil }}", "10.0.0.4"], "public_addresses": ["52.0.0.1"]}
    assert hosts.variables_of(vm)["ansible_host"] == "10.0.0.4"
    assert hosts.variables_of(vm, "public")["ansible_host"] == "52.0.0.1"
    assert "ansible_host" not in hosts.variables_of(machine.empty(VM))
