# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shape of the facts (docs/facts.md), so that the rules may rely on it whatever collector, version or file they come from.

Every value may be null, though no entry of a list, and every key may be missing; keys that are not listed are let through.
``{"*": x}`` is a mapping with names of its own, ``[x]`` a list of x.
"""

TEXT, NUMBER, FLAG, SCALAR = "a text", "a number", "true or false", "a text, a number, true or false"
# Beyond every size, age and count of a real guest; what is larger would only break the arithmetic.
LARGEST = 10**18

LOG = {
    "path": TEXT,
    "size_bytes": NUMBER,
    "starts_last_hour": NUMBER,
    "verdicts": [{"phrase": TEXT, "meaning": TEXT, "at": TEXT, "count": NUMBER, "line": TEXT}],
}
HANDLER = {"name": TEXT, "version": TEXT, "state": TEXT, "status": TEXT, "code": SCALAR, "message": TEXT}
PROCESS = {"pid": NUMBER, "age_s": NUMBER, "started_at": TEXT, "version": TEXT, "command": TEXT}
PROBE = {"url": TEXT, "ok": FLAG, "time_ms": NUMBER, "status": NUMBER, "error": TEXT}
PROGRAM = {"path": TEXT, "exists": FLAG, "resolved": TEXT}
PRESSURE = {"some_avg10": NUMBER, "some_avg60": NUMBER, "full_avg10": NUMBER}

AGENT = {
    "service": {
        "manager": TEXT, "unit": TEXT, "load_state": TEXT, "active_state": TEXT, "sub_state": TEXT, "unit_file_state": TEXT, "masked": FLAG,
        "restart": TEXT, "result": TEXT, "exit_status": SCALAR, "start_limit_hit": FLAG, "restarts": NUMBER, "condition_result": FLAG,
        "conditions_failed": [TEXT], "fragment_path": TEXT, "drop_ins": [TEXT], "exec_start": TEXT, "main_pid": NUMBER, "active_since": TEXT,
        "candidates": [TEXT],
    },
    "services": [
        {
            "name": TEXT, "exists": FLAG, "start_type": TEXT, "state": TEXT, "pid": NUMBER, "account": TEXT, "image_path": TEXT,
            "image_exists": FLAG,
            "failure_actions": {"restart": FLAG, "reset_s": NUMBER, "actions": [{"type": TEXT, "delay_ms": NUMBER}]},
        }
    ],
    "binary": TEXT,
    "package": {
        "manager": TEXT, "name": TEXT, "installed": FLAG, "version": TEXT, "candidate": TEXT, "candidate_looked": FLAG, "held": FLAG,
        "repositories_disabled": [TEXT], "product_code": TEXT,
    },
    "installed_by": TEXT,
    "version": {"daemon": TEXT, "goal_state": TEXT, "goal_state_source": TEXT},
    "processes": {"daemon": [PROCESS], "handler": [PROCESS]},
    "heartbeat": {"at": TEXT, "age_s": NUMBER, "version": TEXT, "periodic": FLAG},
    "config": {
        "path": TEXT, "exists": FLAG, "readable": FLAG, "problem": TEXT, "empty": FLAG, "modified_at": TEXT,
        "values": {"*": {"value": TEXT, "effective": SCALAR, "source": TEXT, "line": NUMBER, "lines": [NUMBER], "valid": FLAG}},
        "duplicates": [{"key": TEXT, "lines": [NUMBER]}], "loose": [{"key": TEXT, "line": NUMBER}],
        "unknown_backup_keys": [{"key": TEXT, "line": NUMBER, "meant": TEXT}],
    },
    "markers": {
        "disable_agent": FLAG,
        "pid_file": {"path": TEXT, "exists": FLAG, "pid": NUMBER, "alive": FLAG, "agent": FLAG, "stale": FLAG, "command": TEXT},
        "policy": {"enabled": FLAG, "path": TEXT, "exists": FLAG},
    },
    "auto_update": {
        "directories": [
            {"version": TEXT, "path": TEXT, "failure_count": NUMBER, "was_fatal": FLAG, "reason": TEXT, "rejected": FLAG}
        ]
    },
    "lib_dir": {
        "path": TEXT, "exists": FLAG, "mount_point": TEXT, "fs_type": TEXT, "options": [TEXT], "noexec": FLAG, "read_only": FLAG,
        "free_bytes": NUMBER, "size_bytes": NUMBER, "free_inodes": NUMBER, "inodes": NUMBER,
    },
    "python": PROGRAM,
    "openssl": PROGRAM,
    "log": LOG,
    "registry": {"*": {"*": {"type": TEXT, "value": SCALAR}}},
    "update_state": [{"version": TEXT, "code": NUMBER, "message": TEXT, "state": TEXT}],
    "dotnet": {
        "release": NUMBER, "version": TEXT, "enable_64bit": SCALAR, "strong_crypto": [{"key": TEXT, "view": NUMBER, "value": SCALAR}],
    },
}  # fmt: skip

EXTENSION = {
    "handlers": [HANDLER],
    "snapshot": {
        "installed": FLAG, "version": TEXT, "state": TEXT, "handler_status": TEXT, "handler_code": SCALAR, "handler_message": TEXT,
        "sequence": NUMBER, "code": SCALAR, "code_name": TEXT, "code_source": TEXT, "message": TEXT, "reported_status": TEXT,
        "host_codes": {"*": NUMBER}, "at": TEXT, "age_s": NUMBER, "task_id": TEXT, "started_at": TEXT, "processes": [PROCESS],
        "in_progress": FLAG, "stuck": FLAG, "history": [{"sequence": NUMBER, "code": SCALAR, "at": TEXT}], "vm_health": SCALAR,
        "failed_disks": NUMBER,
    },
    "aggregate": {
        "path": TEXT, "at": TEXT, "age_s": NUMBER, "agent_status": TEXT, "agent_version": TEXT, "goal_state_status": TEXT,
        "goal_state_message": TEXT, "handlers": [HANDLER],
    },
    "vmbackup_conf": {"path": TEXT, "exists": FLAG, "valid": FLAG, "error": TEXT, "values": {"*": TEXT}},
    "script_hooks": [{"path": TEXT, "exists": FLAG, "mode": TEXT, "owner_uid": NUMBER, "problems": [TEXT]}],
    "log": LOG,
    "machine_keys": {"path": TEXT, "sddl": TEXT, "expected_sddl": TEXT, "ok": FLAG, "same": FLAG, "missing": [TEXT]},
    "certificate": {"looked": FLAG, "found": FLAG, "valid_until": TEXT, "problem": TEXT},
    "vc_redist": [{"name": TEXT, "version": TEXT}],
}  # fmt: skip

NETWORK = {
    "primary": {
        "interface": TEXT, "mac": TEXT, "address": TEXT, "prefix_length": NUMBER, "gateway": TEXT, "state": TEXT, "index": NUMBER,
        "guid": TEXT, "addresses": [TEXT],
    },
    "route_list": [
        {"prefix": TEXT, "next_hop": TEXT, "interface": TEXT, "interface_index": NUMBER, "metric": NUMBER, "store": TEXT}
    ],
    "imds_addresses": [TEXT],
    "dhcp": {
        "client": TEXT, "method": TEXT, "method_source": TEXT, "lease_file": TEXT, "lease_active": FLAG, "option_245": TEXT,
        "option_245_looked": FLAG, "option_245_possible": FLAG, "server": TEXT,
    },
    "routes": {"*": {"ok": FLAG, "kind": TEXT, "device": TEXT, "gateway": TEXT, "source": TEXT}},
    "probes": {"*": PROBE},
    "region": TEXT,
    "cloud": TEXT,
    "foreign_macs": [{"path": TEXT, "mac": TEXT}],
    "resolvers": [TEXT],
    "proxy": [{
        "source": TEXT, "key": TEXT, "name": TEXT, "value": TEXT, "bypass": SCALAR, "bypass_type": TEXT, "bypasses_host": FLAG, "settings": TEXT,
        "by_hand": TEXT,
    }],
    "firewall": {
        "agent_rules": [TEXT], "drops_root": [TEXT], "blocks_host": FLAG, "outbound_blocked": [TEXT],
        "rules": [
            {
                "name": TEXT, "display_name": TEXT, "profile": TEXT, "direction": TEXT, "action": TEXT, "program": TEXT, "protocol": TEXT,
                "remote": [TEXT], "ports": [TEXT], "store": TEXT,
            }
        ],
    },
}  # fmt: skip

LOAD = {
    "cpu": {"busy_percent": NUMBER, "steal_percent": NUMBER, "window_ms": NUMBER, "count": NUMBER, "load_1m": NUMBER,
            "others_busy_percent": NUMBER},
    "memory": {
        "total_bytes": NUMBER, "available_bytes": NUMBER, "used_percent": NUMBER, "swap_total_bytes": NUMBER, "swap_used_bytes": NUMBER,
    },
    "pressure": {"cpu": PRESSURE, "memory": PRESSURE, "io": PRESSURE},
    "filesystems": [
        {
            "mount_point": TEXT, "device": TEXT, "fs_type": TEXT, "freezes": FLAG, "read_only": FLAG, "size_bytes": NUMBER,
            "free_bytes": NUMBER, "used_percent": NUMBER, "inodes_used_percent": NUMBER, "responds": FLAG, "directory": FLAG,
            "duplicate": FLAG, "error": TEXT,
        }
    ],
    "time": {"synchronised": FLAG, "source": TEXT, "offset_s": NUMBER},
}  # fmt: skip

VSS = {
    "backup_type": {"type": TEXT, "text": TEXT, "value": TEXT},
    "bcdr": {"*": {"key": TEXT, "type": TEXT, "value": SCALAR}},
    "writers": [
        {"name": TEXT, "id": TEXT, "instance_id": TEXT, "state_code": NUMBER, "state": TEXT, "last_error": TEXT, "service": TEXT}
    ],
    "writers_looked": FLAG,
    "providers": [{"name": TEXT, "id": TEXT, "version": TEXT}],
    "shadow_storage": [
        {"volume": TEXT, "storage_volume": TEXT, "used_bytes": NUMBER, "allocated_bytes": NUMBER, "maximum_bytes": NUMBER}
    ],
    "sql_server": {"present": FLAG, "instances": [TEXT]},
}  # fmt: skip

SHAPE = {
    "schema_version": NUMBER,
    "collected_at": TEXT,
    "duration_ms": NUMBER,
    "gather_subset": [TEXT],
    "system": {
        "kind": TEXT, "kernel": TEXT, "architecture": TEXT, "init": TEXT, "hostname": TEXT, "python_version": TEXT, "privileged": FLAG,
        "uptime_s": NUMBER, "fips": FLAG, "image_based": FLAG,
        "pending_reboot": FLAG,
        "powershell": {"version": TEXT, "language_mode": TEXT, "is_64bit": FLAG},
        "distribution": {"id": TEXT, "version_id": TEXT, "id_like": [TEXT], "pretty_name": TEXT, "family": TEXT},
    },
    "errors": [{"area": TEXT, "what": TEXT, "error": TEXT}],
    "not_visible": [TEXT],
    "agent": AGENT,
    "extension": EXTENSION,
    "network": NETWORK,
    "load": LOAD,
    "vss": VSS,
}  # fmt: skip


def _said(value):
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a text"
    # Not a number fails every comparison.
    return "a number" if -LARGEST <= value <= LARGEST else "a number beyond every limit"


def _expected(shape):
    return shape if isinstance(shape, str) else _said(shape)


def _scalar_fits(value, wanted):
    if isinstance(value, bool):
        return wanted in (FLAG, SCALAR)
    if isinstance(value, (int, float)):
        # not a number and the infinities fail every comparison or this one
        return wanted in (NUMBER, SCALAR) and -LARGEST <= value <= LARGEST
    return isinstance(value, str) and wanted in (TEXT, SCALAR)


def problem(facts, shape=None, path=""):
    """Return one sentence on the first value that has another kind than docs/facts.md says, None when all fit."""
    shape = SHAPE if shape is None else shape
    if facts is None:
        return None
    if isinstance(shape, dict):
        if not isinstance(facts, dict):
            return "{0} is {1}, a mapping is expected".format(path or "the whole", _said(facts))
        inside = [(str(key), facts[key], shape.get(key, shape.get("*"))) for key in facts]
    elif isinstance(shape, list):
        if not isinstance(facts, (list, tuple)):
            return "{0} is {1}, a list is expected".format(path, _said(facts))
        if any(value is None for value in facts):
            return "{0} holds null, where {1} is expected".format(path, _expected(shape[0]))
        inside = [(str(number), value, shape[0]) for number, value in enumerate(facts)]
    else:
        return None if _scalar_fits(facts, shape) else "{0} is {1}, {2} is expected".format(path, _said(facts), shape)
    for key, value, wanted in inside:
        if wanted is not None:
            found = problem(value, wanted, path + "." + key if path else key)
            if found:
                return found
    return None
