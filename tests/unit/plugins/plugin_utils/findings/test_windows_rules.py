# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""For every finding that a Windows guest can have: facts that fire it, facts that do not, facts at the limit, facts that lack what it needs.

Each case changes single values of the facts of a healthy Windows guest, which are parsed from what its collector returned.
"""

import json
import os
import re

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.collect import facts_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.vss import judged
from cases import both, changed, fires, ids
from cases import evaluated as evaluate

RAW = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "windows", "healthy-raw.json")
with open(RAW) as stream:
    HEALTHY = facts_of(json.load(stream), ["all"])

NAME = "Microsoft.Azure.RecoveryServices.VMSnapshot"
GUEST, RD = "agent/services/WindowsAzureGuestAgent", "agent/services/RdAgent"


def patched(changes, base=None):
    return changed(HEALTHY if base is None else base, changes)


def service(name, **values):
    return {"agent/services/{0}/{1}".format(name, key): value for key, value in values.items()}


def probe(name, **more):
    return {"network/probes/" + name: dict({"url": "http://x", "ok": False, "time_ms": 3000, "status": None, "error": "no answer"}, **more)}


def verdict(where, meaning):
    return {
        where + "/log/verdicts": [
            {"phrase": "p", "meaning": meaning, "at": "2026-11-21T12:40:00Z", "count": 1, "line": "the line of " + meaning}
        ]
    }


def drive(**more):
    entry = dict(HEALTHY["load"]["filesystems"][0], size_bytes=10**11, free_bytes=5 * 10**10, used_percent=50.0)
    return {"load/filesystems": [dict(entry, **more)]}


def writer(code, name="WMI Writer", owner="Winmgmt", error="Timed out"):
    row = {
        "name": name,
        "id": "a6ad56c2-b509-4e6c-bb19-49d8f43532f0",
        "instance_id": None,
        "state_code": code,
        "state": "s",
        "last_error": error,
    }
    return {"vss/writers": judged([dict(row, service=owner)]), "vss/writers_looked": True}


def rule(**more):
    row = {
        "name": "{0C1A}",
        "display_name": "Block",
        "profile": "Any",
        "direction": "outbound",
        "remote": ["168.63.129.16"],
        "ports": ["32526"],
    }
    return {"network/firewall/rules": [dict(row, action="block", store="local", **more)], "network/firewall/blocks_host": True}


def option(kind, value="1", name="SnapshotWithoutThreads"):
    return {"vss/bcdr/" + name: {"key": "HKLM\\SOFTWARE\\Microsoft\\BcdrAgent", "value": value, "type": kind}}


def wanted(kind, text="2025-11"):
    return {"wish:vss_backup_type": kind, "wish:vss_article": text}


def state(version="2.8.0.0", **more):
    return {"agent/update_state": [dict({"version": version, "code": 5, "message": "m", "state": "Failed"}, **more)]}


FAILED = {"extension/snapshot/code": 2, "extension/snapshot/message": "VCRedist could not be installed"}
GONE = both(
    service("RdAgent", exists=False),
    service("WindowsAzureGuestAgent", exists=False),
    {"agent/binary": None, "agent/version/goal_state": None},
)
STALE = {"agent/heartbeat": {"at": "2026-01-31T02:03:04Z", "age_s": 1801, "version": None}, "agent/processes/handler/0/age_s": 901}
SQL = {"vss/sql_server": {"present": True, "instances": ["MSSQLSERVER"]}}

# id: (fires, does not fire, at the limit and whether it fires there, the data that it needs is missing)
CASES = {
    "route_wireserver_missing": (
        {"network/routes/168.63.129.16": {"ok": False, "kind": "none"}}, {},
        ({"network/routes/168.63.129.16": {"ok": True, "kind": "other"}}, False), {"network/routes": None},
    ),
    "route_wireserver_not_primary": (
        both(probe("wireserver"), {"network/routes/168.63.129.16": {"ok": True, "kind": "host", "device": "VPN", "source": "10.8.0.2"}}),
        {"network/routes/168.63.129.16": {"ok": True, "kind": "host", "device": "VPN", "source": "10.8.0.2"}},
        (both(probe("wireserver"), {"network/routes/168.63.129.16": {"ok": True, "kind": "host", "device": "eth0", "source": "192.0.2.9"}}), False),
        both(probe("wireserver"), {"network/primary/address": None}),
    ),
    "firewall_blocks_host": (rule(), {}, ({"network/firewall/rules": []}, False), {"network/firewall": None}),
    "wireserver_unreachable": (probe("wireserver"), {}, (both(probe("wireserver"), {"system/privileged": False}), True), {"network/probes": None}),
    "hostgaplugin_unreachable": (probe("hostgaplugin"), {}, (probe("hostgaplugin", ok=True), False), {"network/probes/hostgaplugin": None}),
    "imds_unreachable": (probe("imds"), {}, (probe("imds", ok=True), False), {"network/probes/imds": None}),
    "storage_unreachable": (probe("storage"), probe("storage", ok=True), (probe("storage", ok=None), False), {"network/probes/storage": None}),
    "proxy_unreachable": (probe("proxy"), probe("proxy", ok=True), (probe("proxy", ok=None), False), {"network/probes": None}),
    "proxy_without_bypass": (
        {"network/proxy": [{"source": "s", "name": "ProxyServer", "value": "p:1", "bypass": "<local>", "bypasses_host": False}]},
        {"network/proxy": [{"source": "s", "name": "ProxyServer", "value": "p:1", "bypass": "168.*;169.*", "bypasses_host": True}]},
        ({"network/proxy": [{"source": "s", "name": "AutoConfigURL", "value": "http://p/x", "bypass": None, "bypasses_host": None}]}, False),
        {"network/proxy": None},
    ),
    "agent_missing": (GONE, {}, (service("RdAgent", exists=False), True),
                      both(service("RdAgent", exists=None), service("WindowsAzureGuestAgent", exists=None))),
    "agent_version_old": (
        {"agent/version/goal_state": "2.7.1198.778"}, {}, ({"agent/version/goal_state": "2.7.41491.1010"}, False), {"agent/version/goal_state": None},
    ),
    "agent_service_stopped": (
        service("WindowsAzureGuestAgent", state="stopped", pid=None), {}, (service("WindowsAzureGuestAgent", state="start_pending"), False),
        service("WindowsAzureGuestAgent", state=None),
    ),
    "agent_service_disabled": (
        service("RdAgent", start_type="disabled"), service("RdAgent", start_type="delayed"), (service("RdAgent", start_type="manual"), True),
        service("RdAgent", start_type=None),
    ),
    "agent_service_stop_pending": (
        service("WindowsAzureGuestAgent", state="stop_pending"), {}, (service("WindowsAzureGuestAgent", state="start_pending"), False),
        service("WindowsAzureGuestAgent", state=None),
    ),
    "agent_service_path_missing": (
        service("WindowsAzureGuestAgent", image_exists=False, state="stopped"), {}, (service("IaaSVmProvider", image_exists=False), False),
        service("WindowsAzureGuestAgent", image_exists=None),
    ),
    "agent_restart_policy": (
        service("RdAgent", failure_actions={"restart": False, "reset_s": None, "actions": []}), {},
        (service("RdAgent", failure_actions={"restart": False, "reset_s": 86400, "actions": [{"type": "reboot", "delay_ms": 0}]}), True),
        service("RdAgent", failure_actions=None),
    ),
    "agent_dotnet_old": ({"agent/dotnet/release": 378388}, {}, ({"agent/dotnet/release": 378389}, False), {"agent/dotnet/release": None}),
    "agent_dotnet_64bit_off": ({"agent/dotnet/enable_64bit": 0}, {}, ({"agent/dotnet/enable_64bit": 1}, False), {"agent/dotnet/enable_64bit": None}),
    "agent_update_failed": (
        state(), state(code=0, state="Completed"), (state(version="2.7.41491.1176"), False), {"agent/update_state": None},
    ),
    "agent_not_ready": (
        {"extension/aggregate/agent_status": "NotReady"}, {},
        ({"extension/aggregate/agent_status": "NotReady", "extension/aggregate/age_s": 1801}, False), {"extension/aggregate": None},
    ),
    "agent_heartbeat_stale": (
        STALE, both(STALE, {"agent/processes/handler/0/age_s": 900}), (both(STALE, {"agent/heartbeat/age_s": 1800}), False),
        both(STALE, {"agent/heartbeat": None}),
    ),
    "agent_goal_state_errors": (verdict("agent", "goal_state_error"), {}, (verdict("agent", "goal_state_done"), False), {"agent/log": None}),
    "snapshot_extension_failed": (
        {"extension/handlers/0/status": "NotReady", "extension/handlers/0/code": 1007}, {},
        ({"extension/handlers/0/status": "Installing", "extension/handlers/0/code": 0}, False), {"extension/handlers": None, "extension/aggregate": None},
    ),
    "extension_failed": (
        {"extension/aggregate/handlers": [{"name": "Microsoft.X.Y", "version": "1.0", "status": "Unresponsive", "code": None, "message": None}]}, {},
        ({"extension/aggregate/handlers": [{"name": "Microsoft.X.Y", "version": "1.0", "status": None, "code": None, "message": None}]}, False),
        {"extension/aggregate": None},
    ),
    "goal_state_failed": (
        {"extension/aggregate/goal_state_status": "Failed"}, {},
        ({"extension/aggregate/goal_state_status": "Failed", "extension/aggregate/age_s": 1801}, False), {"extension/aggregate": None},
    ),
    "extension_provider_disabled": (
        service("IaaSVmProvider", start_type="disabled"), service("IaaSVmProvider", exists=False, start_type=None),
        (service("IaaSVmProvider", start_type="manual"), False), service("IaaSVmProvider", start_type=None),
    ),
    "extension_installer_disabled": (
        service("msiserver", start_type="disabled"), {}, (service("msiserver", start_type="manual"), False), service("msiserver", start_type=None),
    ),
    "extension_strong_crypto_off": (
        {"agent/dotnet/strong_crypto/0/value": 0}, {"agent/dotnet/strong_crypto/0/value": None},
        (both({"agent/dotnet/strong_crypto/0/value": None, "extension/snapshot/code": None}, verdict("extension", "no_secure_channel")), True),
        {"agent/dotnet": None},
    ),
    "extension_machine_keys_acl": (
        {"extension/machine_keys/ok": False, "extension/machine_keys/missing": ["Everyone (S-1-1-0) lacks 0x6 of 0x12019f"]}, {},
        ({"extension/machine_keys/same": False}, False), {"extension/machine_keys": None},
    ),
    "extension_certificate_missing": (
        {"extension/certificate": {"looked": True, "found": True, "valid_until": "2026-01-01T00:00:00Z", "problem": "it expired at 2026-01-01T00:00:00Z"}},
        {"extension/certificate": {"looked": True, "found": True, "valid_until": "2028-01-01T00:00:00Z", "problem": None}},
        (verdict("agent", "certificate"), True), both(verdict("agent", "certificate"), {"extension/certificate": None}),
    ),
    "extension_vc_redist_missing": (
        both(FAILED, {"extension/vc_redist": []}), {"extension/vc_redist": []}, (verdict("extension", "vc_redist"), False),
        both(FAILED, {"extension/vc_redist": None}),
    ),
    "extension_blocked": (
        both(verdict("extension", "blocked"), {"extension/snapshot/code": None}), verdict("extension", "blocked"),
        (both(verdict("agent", "blocked"), {"extension/snapshot/code": None}), True), {"extension/log": None},
    ),
    "vss_service_disabled": (
        service("VSS", start_type="disabled"), service("VSS", start_type="manual", state="stopped"),
        (service("SQLWriter", exists=True, start_type="disabled"), False), {"agent/services": None},
    ),
    "sql_writer_disabled": (
        both(SQL, service("SQLWriter", exists=True, start_type="disabled")), both(SQL, service("SQLWriter", exists=True, start_type="auto")),
        (service("SQLWriter", exists=True, start_type="disabled"), False), {"agent/services": None},
    ),
    "vss_msdtc_account": (
        service("MSDTC", account="LocalSystem"), {}, (service("MSDTC", account="nt authority\\NETWORKSERVICE"), False), service("MSDTC", account=None),
    ),
    "vss_writer_failed": (writer(9, error="No error"), writer(1), (writer(5), True), {"vss/writers": None}),
    "vss_writer_waiting": (
        writer(5, error="No error"), writer(1, error="No error"),
        (both(writer(2, error="No error"), {"extension/snapshot/in_progress": True}), False),
        both(writer(5, error="No error"), {"extension/snapshot/in_progress": None}),
    ),
    "bcdr_option_wrong_type": (option("REG_DWORD"), option("REG_SZ", "True"), (option("REG_EXPAND_SZ", "True"), True), {"vss/bcdr": None}),
    "vss_backup_type_differs": (
        wanted("full"), wanted("copy_only"),
        (both(wanted("full"), option("REG_SZ", "true", "UseVSSCopyBackup")), False), both(wanted("full"), {"vss/bcdr": None}),
    ),
    "vss_copy_backup_unset": (
        both(SQL, writer(8, "SqlServerWriter", "SQLWriter")), SQL,
        (both(SQL, writer(8, "SqlServerWriter", "SQLWriter"), wanted("copy_only")), False), both(SQL, {"vss/writers": None}),
    ),
    "shadow_storage_low": (
        drive(free_bytes=335544319), drive(), (drive(free_bytes=335544320), False), drive(free_bytes=None),
    ),
    "snapshot_failed": ({"extension/snapshot/code": 701}, {}, ({"extension/snapshot/code": 0}, False), {"extension/snapshot": None}),
    "snapshot_stuck": (
        {"extension/snapshot/code": 4, "extension/snapshot/age_s": 601}, {"extension/snapshot/code": 4, "extension/snapshot/age_s": 5},
        ({"extension/snapshot/code": 4, "extension/snapshot/age_s": 600}, False), {"extension/snapshot/code": None},
    ),
    "mount_unreadable": (drive(error="locked by BitLocker"), drive(), (drive(error=""), False), {"load/filesystems": None}),
    "filesystem_full": (
        drive(used_percent=90, free_bytes=10**10), drive(used_percent=92, free_bytes=322122547200),
        (drive(used_percent=89.9, free_bytes=10**10), False), drive(used_percent=None),
    ),
    "load_cpu_high": (
        {"load/cpu/busy_percent": 99.0, "load/cpu/others_busy_percent": 97.0}, {"load/cpu/busy_percent": 99.0, "load/cpu/others_busy_percent": 20.0},
        ({"load/cpu/busy_percent": 90.0, "load/cpu/others_busy_percent": 90.0}, True), {"load/cpu/others_busy_percent": None},
    ),
    "load_memory_high": ({"load/memory/used_percent": 97.0}, {}, ({"load/memory/used_percent": 90}, True), {"load/memory": None}),
    "clock_wrong": ({"load/time/offset_s": -301}, {}, ({"load/time/offset_s": 300}, False), {"load/time/offset_s": None}),
    "time_service_off": (
        service("W32Time", state="stopped", start_type="disabled"), service("W32Time", state="stopped", start_type="manual"),
        (service("W32Time", state="start_pending", start_type="auto"), False), {"agent/services": None},
    ),
    "dhcp_static_address": (
        {"network/dhcp/method": "static"}, {"network/dhcp/method": "static", "network/primary/addresses": ["192.0.2.2", "192.0.2.3"]},
        ({"network/dhcp/method": None}, False), {"network/dhcp": None},
    ),
    "dhcp_option_245_missing": (
        {"network/dhcp/option_245": None}, {}, ({"network/dhcp/option_245": None, "network/dhcp/option_245_looked": False}, False), {"network/dhcp": None},
    ),
}  # fmt: skip

# What comes with a fault by its nature.
COMPANIONS = {
    "route_wireserver_not_primary": {"wireserver_unreachable"},
    "vss_copy_backup_unset": {"vss_writer_failed"},
    "extension_vc_redist_missing": {"snapshot_failed"},
}


WINDOWS = [id_ for id_, systems in FINDINGS.items() if "windows" in systems]


def test_a_healthy_guest_has_no_finding():
    assert ids(HEALTHY) == []
    assert HEALTHY["errors"] == [] and HEALTHY["not_visible"] == []


def test_every_finding_of_windows_has_its_cases():
    own = {id_ for id_ in WINDOWS if FINDINGS[id_]["windows"]._replace(on="linux") != FINDINGS[id_].get("linux")}
    coded = {"snapshot_certificate_missing", "snapshot_file_missing", "snapshot_wrong_time"}  # by the result code alone, as on Linux
    assert own <= set(CASES) | coded


@pytest.mark.parametrize("id_", sorted(CASES))
def test_fires_and_brings_nothing_unrelated(id_):
    assert set(ids(patched(CASES[id_][0]))) == {id_} | COMPANIONS.get(id_, set())


@pytest.mark.parametrize("id_", sorted(CASES))
def test_does_not_fire(id_):
    assert not fires(id_, patched(CASES[id_][1]), "windows")


@pytest.mark.parametrize("id_", sorted(CASES))
def test_at_the_limit(id_):
    changes, expected = CASES[id_][2]
    assert fires(id_, patched(changes), "windows") is expected


@pytest.mark.parametrize("id_", sorted(CASES))
def test_with_the_data_missing(id_):
    assert not fires(id_, patched(CASES[id_][3]), "windows")


@pytest.mark.parametrize("id_", WINDOWS)
@pytest.mark.parametrize("area", ["agent", "extension", "network", "vss", "load", "system"])
def test_an_area_that_was_not_looked_at_is_no_finding(id_, area):
    assert not fires(id_, patched({area: None}), "windows")
    assert not fires(id_, patched({area: {"kind": "windows"} if area == "system" else {}}), "windows")


@pytest.mark.parametrize("id_", sorted(CASES))
def test_evidence_speaks_of_windows(id_):
    finding = next(f for f in evaluate(patched(CASES[id_][0])) if f["id"] == id_)
    for text in finding["evidence"] + [finding["action"], finding["title"]]:
        assert isinstance(text, str) and len(text) > 8 and not re.search(r"\{[a-z_]*\}", text)
        for word in (
            "systemd",
            "waagent.conf",
            "kernel",
            "no_proxy",
            "/etc",
            "/var",
            "repository",
            "inode",
            "VMSnapshotLinux",
            "root ",
            "None",
        ):
            assert word not in text, text


def test_a_proxy_for_a_person_is_told():
    told = "A person must add it, since its address holds credentials."
    row = {"source": "s", "name": "ProxyServer", "value": "http://[redacted]@p:1", "bypass": None, "bypasses_host": False, "by_hand": told}
    found = evaluate(patched({"network/proxy": [row, dict(row, by_hand=None), dict(row, bypasses_host=None)]}))
    evidence = next(finding for finding in found if finding["id"] == "proxy_without_bypass")["evidence"]
    assert len(evidence) == 3 and evidence[1] == told


@pytest.mark.parametrize("name", ["IaaSVmProvider", "SQLWriter", "WindowsAzureTelemetryService", "VSS", "W32Time"])
def test_a_service_that_may_be_absent_is_no_finding(name):
    assert ids(patched(service(name, exists=False, start_type=None, state=None))) == []


@pytest.mark.parametrize(
    "kind, text, value", [("full", "2025-11", "TRUE"), ("copy_only", "2016-10", "TRUE"), ("copy_only", "2025-11", None)]
)
def test_the_kind_of_vss_backup_depends_on_the_text_that_holds(kind, text, value):
    asked = option("REG_SZ", "True", "UseVSSCopyBackup")
    without, with_value = patched(wanted(kind, text)), patched(both(wanted(kind, text), asked))
    assert ids(without) == (["vss_backup_type_differs"] if value else [])
    assert ids(with_value) == ([] if value else ["vss_backup_type_differs"])


def test_a_number_in_use_vss_copy_backup_is_told_and_left_alone():
    assert ids(patched(option("REG_DWORD", "1", "UseVSSCopyBackup"))) == ["vss_copy_backup_unset"]


def test_a_writer_that_waits_while_a_snapshot_runs_is_no_finding():
    assert ids(patched(both(writer(5), {"extension/snapshot/in_progress": True}))) == []


def test_another_products_backup_is_a_notice_and_no_failed_writer():
    found = evaluate(patched(writer(5, error="No error")))
    assert [(f["id"], f["severity"], f["remedy"]) for f in found] == [("vss_writer_waiting", "notice", None)]


def test_a_service_that_is_restarted_by_hand_only_is_named_as_such():
    found = evaluate(patched(writer(9, "Microsoft Hyper-V VSS Writer", "vmms")))
    assert "vmms, which is restarted by hand only" in found[0]["evidence"][0]


@pytest.mark.parametrize("code", [121, 124, 300, 500, 99999])
def test_a_code_that_only_linux_has_is_a_plain_failure(code):
    found = evaluate(patched({"extension/snapshot/code": code}))
    assert [f["id"] for f in found] == ["snapshot_failed"] and "(" not in found[0]["evidence"][0]


@pytest.mark.parametrize("code, id_", [(76, "snapshot_no_network"), (85, "snapshot_limit_reached"), (16, "snapshot_certificate_missing")])
def test_a_code_that_both_systems_have(code, id_):
    assert ids(patched({"extension/snapshot/code": code})) == [id_]


def test_a_rule_weighs_less_while_the_host_answers():
    assert evaluate(patched(rule()))[0]["severity"] == "risk"
    found = {f["id"]: f["severity"] for f in evaluate(patched(both(rule(), probe("hostgaplugin"))))}
    assert found["firewall_blocks_host"] == "blocker"


def test_overrides_reach_the_finding():
    found = evaluate(patched(GONE))[0]
    assert (found["remedy"], found["mode"], found["consent"]) == ("agent.install", "consent", "vmbackup_allow_agent_install")
    assert "windows" not in found


def test_a_shadow_storage_that_is_too_small():
    row = {"volume": "C:\\", "storage_volume": "C:\\", "used_bytes": 0, "allocated_bytes": 0, "maximum_bytes": 335544319}
    assert ids(patched({"vss/shadow_storage": [row]})) == ["shadow_storage_low"]
    assert ids(patched({"vss/shadow_storage": [dict(row, maximum_bytes=None)]})) == []


def test_tls_errors_of_long_ago_ask_for_nothing():
    logged = both({"agent/dotnet/strong_crypto/0/value": None}, verdict("extension", "no_secure_channel"))
    assert not fires("extension_strong_crypto_off", patched(both(logged, {"extension/snapshot/code": 1})), "windows")
    assert fires("extension_strong_crypto_off", patched(both(logged, {"extension/snapshot/code": 76})), "windows")


@pytest.mark.parametrize(("free", "fires"), [(21474836479, True), (21474836480, False), (322122547200, False), (None, True)])
def test_a_share_alone_does_not_fill_a_large_drive(free, fires):
    found = evaluate(patched(drive(used_percent=92, free_bytes=free)))
    assert ("filesystem_full" in [finding["id"] for finding in found]) is fires


@pytest.mark.parametrize(
    ("available", "sql", "fires"), [(2147483647, True, True), (2147483648, True, False), (2147483648, False, True), (None, True, True)]
)
def test_what_sql_server_gives_back_is_no_risk(available, sql, fires):
    memory = {"load/memory/used_percent": 97.0, "load/memory/available_bytes": available}
    found = evaluate(patched(both(SQL, memory) if sql else memory))
    assert ("load_memory_high" in [finding["id"] for finding in found]) is fires
