# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""For every finding: facts that fire it, facts that do not, facts at the limit, facts that lack what it needs.

Each case changes single values of the facts of a healthy guest. A case that fires also says which other findings come with it."""

import json
import os

from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import CODES
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS
from cases import REMOVED, both, changed

FACTS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "facts", "healthy-debian12.json")


with open(FACTS) as stream:
    HEALTHY = json.load(stream)


NAME = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"


def patched(changes):
    return changed(HEALTHY, changes)


def conf(key, value, effective, **more):
    entry = {"value": value, "effective": effective, "source": "file", "line": 7, "lines": [7], "valid": True}
    return {"agent/config/values/" + key: dict(entry, **more)}


def probe(name, **more):
    return {"network/probes/" + name: dict({"url": "http://x", "ok": False, "time_ms": 3000, "status": None, "error": "no answer"}, **more)}


def verdict(where, meaning, at="2026-11-21T09:40:00Z"):
    entry = {"phrase": "p", "meaning": meaning, "at": at, "count": 1, "line": at + " p"}
    return {where + "/log/verdicts": [entry]}


def mount(**more):
    entry = {
        "mount_point": "/data",
        "device": "/dev/sdc1",
        "fs_type": "ext4",
        "read_only": False,
        "freezes": True,
        "responds": True,
        "error": None,
    }
    entry.update(
        {"size_bytes": 10**9, "free_bytes": 5 * 10**8, "used_percent": 50, "inodes_used_percent": 1, "duplicate": False, "directory": True}
    )
    return {"load/filesystems": [dict(entry, **more)]}


STOPPED = {
    "agent/service/active_state": "inactive",
    "agent/service/sub_state": "dead",
    "agent/processes/daemon": [],
    "agent/processes/handler": [],
}


def failing(count):
    return {"agent/handler_failures": {"count": count, "last_at": "2026-11-21T09:00:00Z", "line": "launched with command"}}


def asked(age_s, sequence=None, processes=()):
    """Azure asked for snapshot 2; the status of the one before is put away."""
    values = {"settings_sequence": 2, "settings_at": "2026-11-21T09:40:00Z", "settings_age_s": age_s, "sequence": sequence, "code": None}
    return both(
        {"extension/snapshot/" + key: value for key, value in values.items()},
        {"extension/snapshot/processes": None if processes is None else list(processes)},
    )


OLD = {"agent/version/goal_state": "2.2.45", "agent/package/version": "2.2.45-1", "agent/package/candidate_looked": True}


HANDLER = {"name": NAME, "version": "1.0.9184.0", "state": "Enabled", "status": "Ready", "code": 0, "message": None}


RUNNING = {"extension/snapshot/code": 4}
TIME_OFF = {"load/time/unit": "chrony.service", "load/time/unit_state": "inactive", "load/time/unit_file_state": "disabled"}


HANDLERS_AGE = {"agent/processes/handler/0/age_s": 90000}


# id: (fires, does not fire, at the limit and whether it fires there, the data that it needs is missing)
CASES = {
    "route_wireserver_missing": (
        {"network/routes/168.63.129.16": {"ok": False, "kind": "blackhole"}},
        {},
        ({"network/routes/168.63.129.16": {"ok": True, "kind": "default"}}, False),
        {"network/routes": None},
    ),
    "route_wireserver_not_primary": (
        both(probe("wireserver"), {"network/routes/168.63.129.16": {"ok": True, "kind": "host", "device": "tun0", "source": "10.8.0.2"}}),
        {"network/routes/168.63.129.16": {"ok": True, "kind": "host", "device": "tun0", "source": "10.8.0.2"}},
        (both(probe("wireserver"), {"network/routes/168.63.129.16": {"ok": True, "kind": "host", "device": "eth0", "source": "10.94.0.99"}}), False),
        both(probe("wireserver"), {"network/primary/address": None}),
    ),
    "mac_address_foreign": (
        {"network/foreign_macs": [{"path": "/etc/netplan/50-cloud-init.yaml", "mac": "00:0d:3a:00:00:01"}]}, {},
        ({"network/foreign_macs": []}, False), {"network/foreign_macs": None},
    ),
    "firewall_blocks_host": (
        {"network/firewall/drops_root": ["iptables -t filter -A OUTPUT -d 168.63.129.16/32 -j DROP"]},
        {"network/firewall/agent_rules": ["iptables -t security ..."]},
        ({"network/firewall/drops_root": []}, False),
        {"network/firewall": None},
    ),
    "wireserver_unreachable": (probe("wireserver"), {}, (both(probe("wireserver"), {"system/privileged": False}), False), {"network/probes": None}),
    "hostgaplugin_unreachable": (probe("hostgaplugin"), {}, (probe("hostgaplugin", ok=True), False), {"network/probes/hostgaplugin": None}),
    "storage_unreachable": (probe("storage"), probe("storage", ok=True), (probe("storage", ok=None), False), {"network/probes/storage": None}),
    "imds_unreachable": (probe("imds"), {}, (probe("imds", ok=True), False), {"network/probes/imds": None}),
    "proxy_unreachable": (probe("proxy"), probe("proxy", ok=True), (probe("proxy", ok=None), False), {"network/probes/proxy": REMOVED}),
    "proxy_incomplete": (
        conf("HttpProxy.Host", "proxy", "proxy"),
        both(conf("HttpProxy.Host", "proxy", "proxy"), conf("HttpProxy.Port", "3128", 3128)),
        (conf("HttpProxy.Port", "80 80", None, valid=False), False),
        {"agent/config/values": None},
    ),
    "proxy_without_bypass": (
        {"network/proxy": [{"source": "u", "name": "http_proxy", "value": "http://p:1", "bypass": None, "bypasses_host": False}]},
        {"network/proxy": [{"source": "u", "name": "http_proxy", "value": "http://p:1", "bypass": "*", "bypasses_host": True}]},
        ({"network/proxy": [{"source": "u", "name": "http_proxy", "value": "http://p:1", "bypass": None, "bypasses_host": None}]}, False),
        {"network/proxy": None},
    ),
    "agent_handler_failing": (
        both(failing(4), {"agent/processes/handler/0/age_s": 1}),
        failing(4),  # the handler has stayed since
        (both(failing(3), {"agent/processes/handler/0/age_s": 1}), False),
        {"agent/handler_failures": None},
    ),
    "agent_missing": (
        both(STOPPED, {"agent/package/installed": False, "agent/package/version": None, "agent/binary": None, "agent/service": None,
                       "agent/version/goal_state": None, "agent/config/exists": False}),
        both(STOPPED, {"agent/package/installed": False}),
        (both(STOPPED, {"agent/package/installed": False, "agent/binary": None}), False),  # a unit is still loaded
        both(STOPPED, {"agent/package/installed": None, "agent/binary": None, "agent/service": None}),
    ),
    "agent_package_half_installed": (
        {
            "agent/package/state": "half-configured",
            "agent/package/unfinished_others": ["mariadb-server"],
            "agent/package/older_versions": ["1.0-1"],
        },
        {"agent/package/state": "installed"},
        ({"agent/package/state": "installed", "agent/package/unfinished_others": ["mariadb-server"]}, False),
        {"agent/package/state": None},
    ),
    "agent_not_from_package": (
        {"agent/package/installed": False}, {}, ({"agent/package/installed": False, "agent/binary": None}, False), {"agent/package/installed": None},
    ),
    "agent_version_old": (
        both(OLD, {"agent/package/candidate": "2.7.3.0-1"}),
        {},
        ({"agent/version/goal_state": "2.2.53.1"}, False),
        {"agent/version/goal_state": None},
    ),
    "agent_package_held": (
        both(OLD, {"agent/package/held": True, "agent/package/candidate": "2.7.3.0-1"}),
        {"agent/package/held": True},
        ({"agent/version/goal_state": "2.2.53.1", "agent/package/held": True}, False),
        both(OLD, {"agent/package/held": None, "agent/package/candidate": "2.7.3.0-1"}),
    ),
    "agent_version_old_no_package": (
        both(OLD, {"agent/package/candidate": "2.2.45-1"}),
        both(OLD, {"agent/package/candidate": "2.7.3.0-1"}),
        (both(OLD, {"agent/package/candidate": "1:2.2.45.1-1"}), False),
        both(OLD, {"agent/package/candidate_looked": False}),
    ),
    "agent_restart_pending": (
        both(OLD, {"agent/package/version": "2.7.3.0-4", "agent/package/candidate": "2.7.3.0-4"}),
        both(OLD, {"agent/package/candidate": "2.7.3.0-1"}),
        (both(OLD, {"agent/package/version": "2.2.53.1-0ubuntu1", "agent/package/candidate": "2.2.53.1-0ubuntu1"}), True),
        both(OLD, {"agent/package/version": None, "agent/package/candidate": "2.7.3.0-1"}),
    ),
    "agent_conf_missing": ({"agent/config/exists": False}, {}, ({"agent/config/readable": False}, False), {"agent/config/exists": None}),
    "agent_conf_unreadable": (
        {"agent/config/problem": "it is a directory"}, {}, ({"agent/config/problem": "", "agent/config/readable": False}, False), {"agent/config": None},
    ),
    "agent_conf_empty": ({"agent/config/empty": True}, {}, ({"agent/config/empty": False}, False), {"agent/config/empty": None}),
    "agent_extensions_disabled": (
        conf("Extensions.Enabled", "n", False), {}, (conf("Extensions.Enabled", "no", True, valid=False), False), {"agent/config/values": None},
    ),
    "agent_conf_invalid_value": (
        # As conf.effective() has it: a switch that the agent does not know counts as not set.
        conf("Extensions.Enabled", "yes", True, valid=False, source="default"), {},
        (conf("Extensions.Enabled", None, True, valid=False, source="default"), False), {"agent/config": None},
    ),
    "agent_conf_duplicate_keys": (
        {"agent/config/duplicates": [{"key": "Logs.Verbose", "lines": [3, 9]}]}, {}, ({"agent/config/duplicates": []}, False),
        {"agent/config/duplicates": None},
    ),
    "agent_conf_loose_syntax": (
        {"agent/config/loose": [{"key": "HttpProxy.Host", "line": 3}]}, {}, ({"agent/config/loose": []}, False), {"agent/config/loose": None},
    ),
    "agent_conf_unknown_key": (
        {"agent/config/unknown_backup_keys": [{"key": "Extensions.Enable", "line": 3, "meant": "Extensions.Enabled"}]},
        {},
        ({"agent/config/unknown_backup_keys": []}, False),
        {"agent/config/unknown_backup_keys": None},
    ),
    "agent_conf_not_loaded": (
        {"agent/config/modified_at": "2026-11-21T09:50:00Z"}, {"agent/config/modified_at": "2026-11-20T00:00:00Z"},
        ({"agent/config/modified_at": "2026-11-21T09:44:33Z"}, False), {"agent/config/modified_at": None},
    ),
    "agent_provisioning_agent": (
        conf("Provisioning.Agent", "disabled", "disabled"), conf("Provisioning.Agent", "cloud-init", "cloud-init"),
        (conf("Provisioning.Agent", "auto", "auto"), False), {"agent/config/values/Provisioning.Agent": REMOVED},
    ),
    "agent_auto_update_off": (
        conf("AutoUpdate.Enabled", "n", False),
        both(conf("AutoUpdate.Enabled", "n", False), conf("AutoUpdate.UpdateToLatestVersion", "y", True)),
        (both(conf("AutoUpdate.Enabled", "y", True), conf("AutoUpdate.UpdateToLatestVersion", "n", False)), True),
        {"agent/config/values": None},
    ),
    "agent_verbose_logging_wanted": (
        {"wish:verbose_logging": "on"}, conf("Logs.Verbose", "y", True) | {"wish:verbose_logging": "on"},
        ({"wish:verbose_logging": "off"}, False), {"wish:verbose_logging": "on", "agent/config/values": {}},
    ),
    "agent_verbose_logging": (conf("Logs.Verbose", "y", True), {}, (conf("Logs.Verbose", "true", False, valid=False), False), {"agent/config": None}),
    "agent_update_rejected": (
        {"agent/auto_update/directories": [{"version": "9.9", "path": "/p", "failure_count": 1, "was_fatal": True, "reason": "", "rejected": True}]},
        {"agent/auto_update/directories": []},
        ({"agent/auto_update/directories": [{"version": "9.9", "path": "/p", "failure_count": 2, "was_fatal": False, "rejected": False}]}, False),
        {"agent/auto_update/directories": None},
    ),
    "agent_restart_policy": (
        {"agent/service/restart": "no"}, {}, ({"agent/service/restart": "on-failure"}, True), {"agent/service/restart": None},
    ),
    "agent_disable_marker": (
        {"agent/markers/disable_agent": True, "agent/processes/handler": []}, {}, ({"agent/markers/disable_agent": False}, False),
        {"agent/markers/disable_agent": None},
    ),
    "agent_pid_file_stale": (
        both(STOPPED, {"agent/markers/pid_file": {"path": "/p", "exists": True, "pid": 7, "alive": True, "agent": False, "stale": True}}),
        {},
        ({"agent/markers/pid_file": {"path": "/p", "exists": True, "pid": 7, "alive": True, "agent": False, "stale": True}}, False),
        {"agent/markers/pid_file": None},
    ),
    "agent_service_masked": (
        both(STOPPED, {"agent/service/masked": True, "agent/service/unit_file_state": "masked"}), {}, ({"agent/service/masked": False}, False),
        {"agent/service/masked": None},
    ),
    "agent_start_limit_hit": (
        both(STOPPED, {"agent/service/active_state": "failed", "agent/service/start_limit_hit": True}), {},
        ({"agent/service/start_limit_hit": False}, False), {"agent/service/start_limit_hit": None},
    ),
    "agent_service_failed": (
        both(STOPPED, {"agent/service/active_state": "failed", "agent/service/result": "exit-code"}), {},
        ({"agent/service/active_state": "activating"}, False), {"agent/service": None},
    ),
    "agent_service_stopped": (STOPPED, {}, (both(STOPPED, {"agent/service/active_state": "deactivating"}), False), {"agent/service": None}),
    "agent_service_disabled": (
        {"agent/service/unit_file_state": "disabled"}, {}, ({"agent/service/unit_file_state": "static"}, False), {"agent/service/unit_file_state": None},
    ),
    "agent_handler_dead": (
        {"agent/processes/handler": [], "agent/processes/daemon/0/age_s": 181},
        {"agent/processes/handler": [], "agent/processes/daemon/0/age_s": 10},
        ({"agent/processes/handler": [], "agent/processes/daemon/0/age_s": 180}, False),
        {"agent/processes": None},
    ),
    "agent_restarting": (
        {"agent/log/starts_last_hour": 11}, {}, ({"agent/log/starts_last_hour": 10}, False), {"agent/log": None},
    ),
    "agent_condition_failed": (
        both(STOPPED, {"agent/service/condition_result": False, "agent/service/conditions_failed": ["ConditionPathExists=/etc/waagent.conf"]}),
        {"agent/service/condition_result": False},  # it runs all the same
        (both(STOPPED, {"agent/service/condition_result": True}), False),
        both(STOPPED, {"agent/service/condition_result": None}),
    ),
    "agent_python_missing": ({"agent/python/exists": False}, {}, ({"agent/python/exists": True}, False), {"agent/python": None}),
    "agent_python_unusual": (
        {"agent/python/resolved": "/usr/local/bin/python3.12"}, {}, ({"agent/python/resolved": "/usr/localbin/python3"}, False),
        {"agent/python/resolved": None},
    ),
    "agent_openssl_missing": (
        {"agent/openssl": {"path": "/usr/bin/openssl", "exists": False, "resolved": "/usr/bin/openssl"}}, {},
        ({"agent/openssl": {"path": None, "exists": None, "resolved": None}}, False), {"agent/openssl": None},
    ),
    "agent_openssl_unusual": (
        {"agent/openssl": {"path": "/usr/bin/openssl", "exists": True, "resolved": "/usr/local/bin/openssl"}}, {},
        ({"agent/openssl": {"path": "/usr/bin/openssl", "exists": True, "resolved": "/usr/localbin/openssl"}}, False), {"agent/openssl": None},
    ),
    "agent_fips_not_set": (
        {"system/fips": True}, {"system/fips": False}, (both({"system/fips": True}, conf("OS.EnableFIPS", "y", True)), False), {"system/fips": None},
    ),
    "agent_lib_dir_noexec": ({"agent/lib_dir/noexec": True}, {}, ({"agent/lib_dir/noexec": False}, False), {"agent/lib_dir": None}),
    "agent_lib_dir_read_only": (
        {"agent/lib_dir/read_only": True}, {}, ({"agent/lib_dir/read_only": True, "system/image_based": True}, False), {"agent/lib_dir/read_only": None},
    ),
    "agent_lib_dir_full": (
        {"agent/lib_dir/free_bytes": 67108863}, {}, ({"agent/lib_dir/free_bytes": 67108864}, False), {"agent/lib_dir/free_bytes": None},
    ),
    "agent_policy_active": (
        {"agent/markers/policy": {"enabled": True, "path": "/p", "exists": True}}, {},
        ({"agent/markers/policy": {"enabled": False, "path": "/p", "exists": True}}, False), {"agent/markers/policy": None},
    ),
    "agent_on_hold": (verdict("agent", "on_hold"), {}, (verdict("agent", "heartbeat"), False), {"agent/log/verdicts": None}),
    "agent_goal_state_errors": (
        verdict("agent", "goal_state_error"), {}, (verdict("agent", "goal_state_error", "2026-11-21T02:47:53Z"), False), {"agent/log": None},
    ),
    "agent_not_ready": (
        {"extension/aggregate/agent_status": "NotReady"}, {},
        ({"extension/aggregate/agent_status": "NotReady", "extension/aggregate/age_s": 1801}, False), {"extension/aggregate": None},
    ),
    "agent_heartbeat_stale": (
        both(HANDLERS_AGE, {"agent/heartbeat/age_s": 5401}), {"agent/heartbeat/age_s": 5401}, (both(HANDLERS_AGE, {"agent/heartbeat/age_s": 5400}), False),
        both(HANDLERS_AGE, {"agent/heartbeat": None}),
    ),
    "snapshot_extension_failed": (
        {"extension/handlers": [dict(HANDLER, status="NotReady", code=1009)]}, {},
        ({"extension/handlers": [dict(HANDLER, status="Installing", code=0)]}, False), {"extension/handlers": None, "extension/aggregate": None},
    ),
    "extension_failed": (
        {"extension/handlers": [HANDLER, dict(HANDLER, name="Microsoft.X.Y", status="Unresponsive", code=None)]}, {},
        ({"extension/handlers": [HANDLER, dict(HANDLER, name="Microsoft.X.Y", status=None, code=None)]}, False), {"extension/handlers": None},
    ),
    "snapshot_extension_old": (
        {"extension/snapshot/version": "1.0.90.0"}, {}, ({"extension/snapshot/version": "1.0.91.0"}, False), {"extension/snapshot/version": None},
    ),
    "goal_state_failed": (
        {"extension/aggregate/goal_state_status": "Failed"}, {},
        ({"extension/aggregate/goal_state_status": "Failed", "extension/aggregate/age_s": 1801}, False), {"extension/aggregate": None},
    ),
    "vmbackup_conf_invalid": (
        {"extension/vmbackup_conf": {"path": "/etc/azure/vmbackup.conf", "exists": True, "valid": False, "error": "e"}}, {},
        ({"extension/vmbackup_conf": {"path": "/etc/azure/vmbackup.conf", "exists": True, "valid": True}}, False), {"extension/vmbackup_conf": None},
    ),
    "snapshot_stuck": (
        both(RUNNING, {"extension/snapshot/age_s": 601}), both(RUNNING, {"extension/snapshot/age_s": 5}),
        (both(RUNNING, {"extension/snapshot/age_s": 600}), False), both(RUNNING, {"extension/snapshot/age_s": None}),
    ),
    "snapshot_not_consistent": (
        {"extension/snapshot/vm_health": 128, "extension/snapshot/vm_health_code": 300}, {"extension/snapshot/vm_health": 0},
        ({"extension/snapshot/code": 300, "extension/snapshot/vm_health": 128}, False), {"extension/snapshot/vm_health": None},
    ),
    "snapshot_no_status": (
        asked(301), asked(301, sequence=2), (asked(300), False), asked(301, processes=None),
    ),
    "snapshot_host_failed": (
        {"extension/snapshot/host_codes": {"hostStatusCodeDoSnapshot": 555}}, {}, ({"extension/snapshot/host_codes": {"hostStatusCodeDoSnapshot": 201}}, False),
        {"extension/snapshot/host_codes": None},
    ),
    "mount_not_responding": (mount(responds=False), mount(), (mount(responds=None), False), {"load/filesystems": None}),
    "mount_unreadable": (mount(error="Stale file handle"), mount(), (mount(error=""), False), {"load": None}),
    "filesystem_full": (mount(used_percent=90), mount(used_percent=92, free_bytes=322122547200), (mount(used_percent=89, inodes_used_percent=94), False),
                        mount(used_percent=None, inodes_used_percent=None)),
    "load_cpu_high": (
        {"load/cpu/busy_percent": 99.0, "load/cpu/load_1m": 4.0}, {"load/cpu/busy_percent": 99.0, "load/cpu/load_1m": 1.0},
        ({"load/cpu/busy_percent": 90.0, "load/pressure": None, "load/cpu/load_1m": 1.8}, True), {"load/cpu/busy_percent": 99.0, "load/cpu/load_1m": None},
    ),
    "load_memory_high": ({"load/memory/used_percent": 97.0}, {}, ({"load/memory/used_percent": 90}, True), {"load/memory": None}),
    "load_io_pressure": ({"load/pressure/io/full_avg10": 70.0}, {}, ({"load/pressure/io/full_avg10": 40}, True), {"load/pressure": None}),
    "clock_wrong": ({"load/time/offset_s": -301}, {}, ({"load/time/offset_s": 300}, False), {"load/time/offset_s": None}),
    "time_service_off": (
        dict(TIME_OFF), dict(TIME_OFF, **{"load/time/source": "ntpd"}), (dict(TIME_OFF, **{"load/time/unit_state": "activating"}), False),
        dict(TIME_OFF, **{"load/time/unit_state": None}),
    ),
    "dhcp_static_address": ({"network/dhcp/method": "static"}, {}, ({"network/dhcp/method": None}, False), {"network/dhcp": None}),
    "dhcp_option_245_missing": (
        {"network/dhcp/option_245": None}, {}, ({"network/dhcp/option_245": None, "network/dhcp/option_245_looked": False}, False), {"network/dhcp": None},
    ),
    "script_hook_invalid": (
        {"extension/script_hooks": [{"path": "/p", "problems": ["mode is 0644"]}]}, {}, ({"extension/script_hooks": [{"path": "/p", "problems": []}]}, False),
        {"extension/script_hooks": None},
    ),
}  # fmt: skip


# What comes with a fault by its nature.
COMPANIONS = {
    "route_wireserver_not_primary": {"wireserver_unreachable"},
}


# Findings that a result code of the extension alone decides.
CODED = {}


for _code, (_name, _finding) in CODES.items():
    if _finding and _finding not in CASES:
        CODED.setdefault(_finding, []).append(_code)


LINUX = [id_ for id_, systems in FINDINGS.items() if "linux" in systems]
