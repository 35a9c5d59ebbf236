# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cases of the findings of Azure: {id: {fires, not, missing: [changes of a healthy VM beside its healthy guest]}}.

``failed`` stands for a last backup that failed. "not" holds what is next to the limit.
"""

from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import rows
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import AZURE
from cases import REMOVED, both

FAILED = {"failed": True}
NOT_READY = {
    "failed": True,
    "azure/agent/ready": False,
    "azure/agent/status": "Not Ready",
    "azure/agent/message": "VM status blob is found but not yet populated.",
    "azure/agent/version": None,
}
AGENT_DOWN = {
    "agent/service/active_state": "inactive",
    "agent/service/sub_state": "dead",
    "agent/processes": {"daemon": [], "handler": []},
}
NO_GUEST = {"system": REMOVED, "agent": REMOVED, "extension": REMOVED, "network": REMOVED, "load": REMOVED}
SILENT = {"contact": {"reached": False, "message": "the guest did not answer: timed out"}}
EXTENSION = {
    "name": "Script",
    "type": "Microsoft.Azure.Extensions.CustomScript",
    "version": "2.1",
    "provisioning_state": "Succeeded",
    "status": "Provisioning succeeded",
    "level": "Info",
    "message": None,
}
OWN = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"


def extension(**values):
    return {"azure/extensions": [dict(EXTENSION, **values)]}


def error(code, message="Azure's own words on it"):
    return {
        "failed": True,
        "azure/backup/error": {"code": code, "number": 1, "title": code, "message": message, "recommendations": [], "source": "item"},
    }


def disk(**values):
    return dict({"name": "data1", "id": "/disks/data1", "lun": 0, "size_gb": 128, "storage": "Premium_LRS", "encryption": None}, **values)


def crowd(count, rank, slots=({"start": "01:00", "policy": "Late", "vms": 99},)):
    return {"azure/backup/crowd": {"start": "22:30", "time_zone": "UTC", "vms": count, "rank": rank, "slots": list(slots)}}


def rule(priority=4000, access="Deny", **values):
    made = {"name": "r{0}".format(priority), "priority": priority, "access": access, "protocol": "*"}
    return dict(made, **dict({"sources": ["*"], "destinations": ["*"], "ports": ["*"]}, **values))


def rules(*made):
    return {"azure/network/0/nsgs/0/rules": list(made)}


def route(prefix, hop):
    return {"name": "out", "prefix": prefix, "next_hop": hop, "address": "10.0.0.4"}


def routes(*made):
    return {"azure/network/0/routes": list(made)}


def by_hand(allocation):
    """Return a guest whose address is set by hand, and how Azure has it."""
    entry = {"name": "ipconfig1", "address": "10.0.0.9", "allocation": allocation}
    return {"network/dhcp/method": "static", "network/primary/address": "10.0.0.9", "azure/network/0/configurations": [entry]}


CLOSED = {"azure/network/0/default_outbound_access": False, "azure/network/0/load_balanced": False}


def lock(place, level="CanNotDelete"):
    return {"azure/locks": [{"id": "/locks/keep", "name": "keep", "level": level, "notes": "audit", "on": place}]}


# Findings that a code alone decides.
CODED = {
    row.id: {
        "fires": [error(code) for code in row.codes],
        "not": [{key: value for key, value in error(row.codes[0]).items() if key != "failed"}, error("UserErrorVmNotFound")],
        "missing": [both(error(row.codes[0]), {"azure/backup/error/code": None}), {"failed": True, "azure/backup/error": None}],
    }
    for row in rows(AZURE)
    if row.module.endswith(".azure_codes")
}
CASES = {
    **CODED,
    "azure_vm_gone": {
        "fires": [{"azure/exists": False, "azure/states": ["vm_gone"]}, both(error("UserErrorVmNotFoundV2"), {"azure/exists": False})],
        "not": [error("UserErrorVmNotFoundV2"), {"azure/exists": False, "azure/backup": None}],
        "missing": [{"azure/exists": None}],
    },
    "azure_vm_not_running": {
        # The guest was started after Azure was asked: it is another run of it.
        "fires": [both(NO_GUEST, FAILED, {"azure/power_state": "deallocated"}), both(FAILED, {"azure/power_state": "stopped", "system/uptime_s": 10})],
        "not": [both(NO_GUEST, {"azure/power_state": "deallocated"}), both(FAILED, {"azure/power_state": "starting"})],
        "missing": [both(FAILED, {"azure/power_state": None}), both(FAILED, {"azure/power_state": "unknown"})],
    },
    "azure_vm_shut_down_inside": {
        "fires": [both(NO_GUEST, FAILED, SILENT, {"azure/power_state": "stopped"})],
        "not": [both(NO_GUEST, SILENT, {"azure/power_state": "stopped"}), both(NO_GUEST, FAILED, SILENT, {"azure/power_state": "deallocated"})],
        # A guest that nobody called may run: it must not be deallocated.
        "missing": [both(NO_GUEST, FAILED, {"azure/power_state": "stopped"}), both(NO_GUEST, FAILED, SILENT, {"azure/power_state": None})],
    },
    "azure_vm_replaced": {
        "fires": [error("UserErrorVmNotFoundV2"), error("ResourceNotFound")],
        "not": [both(error("UserErrorVmNotFoundV2"), {"azure/exists": False}), error("AllocationFailed")],
        "missing": [both(error("UserErrorVmNotFoundV2"), {"azure/exists": None}), {"failed": True, "azure/backup/error": None}],
    },
    "azure_vm_stopped_but_guest_runs": {
        # The guest of the fixture was looked at at 09:47:54, 474 seconds after Azure; two clocks may differ by 300.
        "fires": [{"azure/power_state": "stopped", "system/uptime_s": 775}, {"azure/power_state": "deallocated"}],
        "not": [
            {"azure/power_state": "stopped", "system/uptime_s": 774},
            {"azure/power_state": "running"},
            {"azure/power_state": "stopped", "load/time/offset_s": -400},
        ],
        "missing": [
            {"azure/power_state": "stopped", "system/uptime_s": None},
            {"azure/power_state": "stopped", "azure/read_at": None},
            both(NO_GUEST, {"azure/power_state": "stopped"}),
        ],
    },
    "azure_vm_running_but_guest_silent": {
        "fires": [both(NO_GUEST, {"contact": {"reached": False, "message": "the guest did not answer: timed out"}})],
        "not": [
            both(NO_GUEST, {"contact": {"reached": False, "message": "timed out"}, "azure/power_state": "deallocated"}),
            {"contact": {"reached": True, "message": None}},
        ],
        "missing": [NO_GUEST, both(NO_GUEST, {"contact": None})],
    },
    "azure_agent_not_ready": {
        "fires": [both(NOT_READY, NO_GUEST), both(NO_GUEST, {"azure/agent": None}), both(NOT_READY, AGENT_DOWN)],
        "not": [NOT_READY, both(NOT_READY, NO_GUEST, {"azure/power_state": "starting"}), both(NOT_READY, NO_GUEST, {"azure/power_state": "deallocated"})],
        "missing": [
            both(NO_GUEST, {"azure/agent": None, "azure/view": "not_read"}),
            both(NO_GUEST, {"azure/agent": None, "azure/view": "failed"}),
            both(NO_GUEST, {"azure/agent/ready": None}),
        ],
    },
    "azure_agent_report_missing": {
        "fires": [NOT_READY, {"azure/agent": None}],
        "not": [both(NOT_READY, AGENT_DOWN), both(NOT_READY, {"azure/power_state": "stopping"})],
        "missing": [both(NOT_READY, NO_GUEST), both(NOT_READY, {"agent/processes": None}), both(NOT_READY, {"azure/view": "failed"})],
    },
    "azure_agent_status_stale": {
        "fires": [AGENT_DOWN],
        "not": [both(NOT_READY, AGENT_DOWN), both(AGENT_DOWN, {"agent/service/active_state": "active", "agent/processes": {"daemon": [{"pid": 1}]}})],
        "missing": [both(AGENT_DOWN, {"azure/agent": None}), both(AGENT_DOWN, {"agent/service/active_state": None})],
    },
    "azure_extension_operations_off": {
        "fires": [{"azure/allow_extension_operations": False}],
        "not": [{"azure/allow_extension_operations": True}],
        "missing": [{"azure/allow_extension_operations": None}],
    },
    "azure_agent_not_provisioned": {
        "fires": [both(NOT_READY, NO_GUEST, {"azure/provision_vm_agent": False})],
        "not": [{"azure/provision_vm_agent": False}, NOT_READY],
        "missing": [both(NOT_READY, {"azure/provision_vm_agent": None}), {"azure/provision_vm_agent": False, "azure/view": "not_read", "azure/agent": None}],
    },
    "azure_provisioning_failed": {
        "fires": [{"azure/provisioning_state": "Failed"}, {"azure/provisioning_state": "failed", "azure/provisioning_error": "VMExtensionProvisioningError"}],
        "not": [{"azure/provisioning_state": "Succeeded"}, {"azure/provisioning_state": "Updating"}],
        "missing": [{"azure/provisioning_state": None}],
    },
    "azure_operation_under_way": {
        "fires": [both(FAILED, {"azure/provisioning_state": "Updating"})],
        "not": [{"azure/provisioning_state": "Updating"}, both(FAILED, {"azure/provisioning_state": "Failed"})],
        "missing": [both(FAILED, {"azure/provisioning_state": None})],
    },
    "azure_extension_failed": {
        "fires": [
            extension(provisioning_state="Failed", level="Error", message="Command exited with 1"),
            extension(level="Error"),
            {"azure/handlers": [{"type": OWN, "version": "1", "ready": False, "status": "Not Ready", "level": "Error", "message": "no"}]},
        ],
        "not": [extension(), extension(level="Warning"), extension(provisioning_state="Deleting", level="Error")],
        "missing": [extension(provisioning_state=None, level=None), {"azure/extensions": []}],
    },
    "azure_backup_extension_broken": {
        "fires": [extension(type=OWN, provisioning_state="Failed"), both(FAILED, extension(type=OWN, provisioning_state="Deleting"))],
        "not": [extension(type=OWN), extension(provisioning_state="Failed"), extension(type=OWN, provisioning_state="Deleting")],
        "missing": [extension(type=None, provisioning_state="Failed"), extension(type=OWN, provisioning_state=None, level=None)],
    },
    "azure_extension_deleting": {
        "fires": [both(FAILED, extension(provisioning_state="Deleting")), error("ExtensionStuckInDeletionState")],
        "not": [extension(provisioning_state="Deleting"), both(FAILED, extension(provisioning_state="Updating"))],
        "missing": [both(FAILED, extension(provisioning_state=None))],
    },
    "azure_address_not_kept": {
        "fires": [by_hand("Dynamic")],
        "not": [
            by_hand("Static"),
            both(by_hand("Dynamic"), {"network/dhcp/method": "dhcp"}),
            both(by_hand("Dynamic"), {"network/primary/address": "10.9.9.9"}),
        ],
        "missing": [by_hand(None), both(by_hand("Dynamic"), {"network/dhcp/method": None}), both(by_hand("Dynamic"), NO_GUEST)],
    },
    "azure_resolver_denied": {
        "fires": [both(FAILED, rules(rule(destinations=["AzurePlatformDNS"], ports=["53"], protocol="udp")))],
        "not": [
            rules(rule(destinations=["AzurePlatformDNS"])),
            both(FAILED, rules(rule(destinations=["AzurePlatformDNS"], ports=["53"])), {"azure/network/0/dns_servers": ["10.0.0.53"]}),
        ],
        "missing": [both(FAILED, {"azure/network/0/nsgs": []}), both(FAILED, {"azure/network": []})],
    },
    "azure_security_rule_denies": {
        "fires": [
            both(FAILED, rules(rule())),
            both(FAILED, rules(rule(destinations=["Storage.eastus", "Sql"]))),
            both(FAILED, rules(rule(ports=["80-443"], protocol="tcp", sources=["10.0.0.0/24"]))),
            both(FAILED, rules(rule(100, "Allow", destinations=["10.0.0.0/8", "VirtualNetwork"]), rule())),
            both(FAILED, rules(rule(100, "Allow", ports=["80"]), rule())),
            both(FAILED, rules(rule(100, "Allow", destinations=["Storage"]), rule(200, "Allow", destinations=["AzureBackup"]), rule())),
        ],
        "not": [
            rules(rule()),
            both(FAILED, rules(rule(100, "Allow", destinations=["AzureCloud"]), rule())),
            both(FAILED, rules(rule(ports=["444-65535", "0-442"]))),
            both(FAILED, rules(rule(protocol="udp"))),
            both(FAILED, rules(rule(sources=["10.9.0.0/16"]))),
            both(FAILED, rules(rule(destinations=["VirtualNetwork", "10.0.0.0/8"]))),
        ],
        "missing": [
            # An allowance for single addresses, or for a group of applications, may be what the VM uses.
            both(FAILED, rules(rule(100, "Allow", destinations=["20.1.2.0/24"]), rule())),
            both(FAILED, rules(rule(100, "Allow", sources=[]), rule())),
            both(FAILED, rules(rule(sources=[]))),
            both(FAILED, rules(rule(ports=None))),
            both(FAILED, {"azure/network/0/nsgs": None}),
        ],
    },
    "azure_route_elsewhere": {
        "fires": [
            both(FAILED, routes(route("0.0.0.0/0", "None"))),
            both(FAILED, routes(route("0.0.0.0/0", "VirtualAppliance"))),
            both(FAILED, routes(route("0.0.0.0/0", "Internet"), route("AzureBackup", "VirtualNetworkGateway"))),
            both(FAILED, routes(route("0.0.0.0/0", "None"), route("Storage", "Internet"), route("AzureBackup", "Internet"))),
        ],
        "not": [
            routes(route("0.0.0.0/0", "None")),
            both(FAILED, routes(route("0.0.0.0/0", "Internet"))),
            both(FAILED, routes(route("10.0.0.0/8", "VirtualAppliance"))),
            both(FAILED, routes(route("0.0.0.0/0", "VirtualAppliance"), route("AzureCloud", "Internet"))),
            both(FAILED, routes(route("Storage", "None")), {"azure/network/0/service_endpoints": ["Microsoft.Storage"]}),
        ],
        "missing": [both(FAILED, routes(route("0.0.0.0/0", None))), both(FAILED, {"azure/network/0/routes": None})],
    },
    "azure_no_way_out": {
        "fires": [both(FAILED, CLOSED)],
        "not": [
            CLOSED,
            both(FAILED, CLOSED, {"azure/network/0/default_outbound_access": True}),
            both(FAILED, CLOSED, {"azure/network/0/public_addresses": ["20.1.1.1"]}),
            both(FAILED, CLOSED, {"azure/network/0/nat_gateway_id": "/nat"}),
            both(FAILED, CLOSED, {"azure/network/0/load_balanced": True}),
            both(FAILED, CLOSED, routes(route("0.0.0.0/0", "Internet"))),
        ],
        "missing": [
            both(FAILED, CLOSED, {"azure/network/0/default_outbound_access": None}),
            both(FAILED, CLOSED, {"azure/network/0/load_balanced": None}),
            both(FAILED, {"azure/network": []}),
        ],
    },
    "azure_not_protected": {
        "fires": [{"azure/backup": None, "azure/states": ["unprotected"]}],
        "not": [{"azure/backup": None, "azure/states": []}, {"azure/states": ["stopped"]}],
        "missing": [{"azure/backup": None, "azure/states": ["unprotected"], "azure/exists": None}],
    },
    "azure_protection_stopped": {
        "fires": [
            {"azure/states": ["stopped"], "azure/backup/protection_state": "ProtectionStopped"},
            error("UserErrorBcmDatasourceNotPresent"),
        ],
        "not": [FAILED, {"azure/states": ["soft_deleted"]}],
        "missing": [{"azure/states": None}],
    },
    "azure_soft_deleted": {
        "fires": [{"azure/states": ["soft_deleted"], "azure/backup/soft_deleted": True, "azure/backup/deleted_until_s": 7300}],
        "not": [{"azure/states": ["stopped"], "azure/backup/soft_deleted": False}],
        "missing": [{"azure/backup/soft_deleted": None}],
    },
    "azure_protection_error": {
        "fires": [{"azure/backup/protection_state": "ProtectionError"}],
        "not": [{"azure/backup/protection_state": "IRPending"}],
        "missing": [{"azure/backup/protection_state": None}],
    },
    "azure_rpo_breached": {
        "fires": [{"azure/states": ["rpo_breached"], "azure/backup/rpo_breached": True, "azure/backup/age_h": 36.1}],
        "not": [{"azure/backup/age_h": 36.0, "azure/backup/rpo_breached": False}],
        "missing": [{"azure/states": ["rpo_breached"], "azure/backup/rpo_breached": None}],
    },
    "azure_backup_in_progress": {
        "fires": [
            both(
                error("UserErrorBackupOperationInProgress"),
                {"azure/backup/running_job": {"id": "/jobs/1", "name": "1", "start": "2026-11-21T07:00:00Z"}},
            ),
            both(
                error("UserErrorBackupOperationInProgress"),
                {"azure/other_backups": [{"vault": "old", "protection_state": "Protected", "soft_deleted": False, "running_job": None}]},
            ),
        ],
        "not": [
            error("UserErrorVmNotFoundV2"),
            {"azure/backup/running_job": {"id": "/jobs/1", "name": "1", "start": "2026-11-21T07:00:00Z"}},
        ],
        "missing": [both(FAILED, {"azure/backup/error": None})],
    },
    "azure_policy_tier": {
        "fires": [
            {"azure/disks/data": [disk(storage="PremiumV2_LRS")]},
            {"azure/security_type": "ConfidentialVM"},
            both(FAILED, {"azure/security_type": "TrustedLaunch"}),
        ],
        "not": [
            {"azure/disks/data": [disk(storage="UltraSSD_LRS")], "azure/backup/policy_type": "V2"},
            {"azure/security_type": "TrustedLaunch"},
            {"azure/disks/data": [disk()]},
        ],
        "missing": [
            {"azure/disks/data": [disk(storage="UltraSSD_LRS")], "azure/backup/policy_type": None},
            {"azure/disks/data": [disk(storage=None)]},
        ],
    },
    "azure_disk_unsupported": {
        "fires": [
            both(FAILED, {"azure/unusual_disks": [{"name": "shared", "max_shares": 2}]}),
            both(FAILED, {"azure/disks/data": [disk(size_gb=32768)]}),
            both(FAILED, {"azure/disks/data": [disk(size_gb=4096, encryption="ade")]}),
            both(FAILED, {"azure/disks/os/ephemeral": True}),
            both(FAILED, {"azure/disks/data": [disk()] * 33}),
        ],
        "not": [
            {"azure/unusual_disks": [{"name": "shared", "max_shares": 2}]},
            both(FAILED, {"azure/unusual_disks": [{"name": "plain", "max_shares": 1}]}),
            both(FAILED, {"azure/disks/data": [disk(size_gb=32767)]}),
            both(FAILED, {"azure/disks/data": [disk(size_gb=4095, encryption="ade")]}),
            both(FAILED, {"azure/disks/data": [disk(size_gb=4096)]}),
            both(FAILED, {"azure/disks/data": [disk()] * 32}),
        ],
        "missing": [
            both(FAILED, {"azure/unusual_disks": [{"name": "shared", "max_shares": None}], "azure/disks/data": [disk(size_gb=None)]}),
            both(FAILED, {"azure/disks": None}),
        ],
    },
    "azure_start_time_crowded": {
        "fires": [both(FAILED, crowd(101, 100)), both(FAILED, crowd(101, 0)), both(FAILED, crowd(101, 100, []))],
        "not": [both(FAILED, crowd(100, 99)), crowd(101, 100)],
        "missing": [both(FAILED, {"azure/backup/crowd": None}), both(FAILED, crowd(None, None))],
    },
    "azure_restore_points_locked": {
        "fires": [lock("restore_points"), lock("subscription"), both(lock("resource_group"), {"azure/restore_points/0/resource_group": "RG-app05"})],
        "not": [lock("resource_group"), lock("vault"), lock("vm"), both(lock("subscription"), {"azure/restore_points": []})],
        "missing": [{"azure/locks": None}, both(lock("restore_points"), {"azure/restore_points": None})],
    },
    "azure_lock_read_only": {
        "fires": [both(FAILED, lock("vm", "ReadOnly")), both(FAILED, lock("resource_group", "ReadOnly"))],
        "not": [lock("vm", "ReadOnly"), both(FAILED, lock("vm")), both(FAILED, lock("vault", "ReadOnly"))],
        "missing": [both(FAILED, lock("vm", None))],
    },
    "azure_restore_points_left": {
        "fires": [
            {"azure/exists": None, "azure/states": ["unprotected"], "azure/backup": None},
            {"azure/restore_points/0/provisioning_state": "Failed"},
        ],
        "not": [{}, {"azure/states": ["unprotected"], "azure/backup": None, "azure/restore_points/0/name": "mine"}],
        "missing": [{"azure/states": ["unprotected"], "azure/restore_points": None}],
    },
}  # fmt: skip
# What a case brings beside its own finding.
COMPANIONS = {
    "azure_address_not_kept": {"dhcp_static_address"},
    "azure_agent_not_ready": {"agent_service_stopped"},
    "azure_agent_status_stale": {"agent_service_stopped"},
    "azure_agent_not_provisioned": {"azure_agent_not_ready"},
    "azure_restore_points_left": {"azure_not_protected"},
    "azure_restore_point_limit": {"azure_restore_points_left"},
    "azure_vm_gone": {"azure_restore_points_left"},
    "azure_not_protected": {"azure_restore_points_left"},
}
