# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 4: the snapshot cannot be taken, or its status cannot be had. One function per finding, named after it."""

from ansible_collections.vmbackup.azure.plugins.module_utils.rules._common import (
    Evidence,
    duration,
    filled,
    get,
    is_windows,
    items,
    quoted,
    size,
    windows_service,
)
from ansible_collections.vmbackup.azure.plugins.module_utils.snapshot_codes import HOST_CODES, RUNNING, finding_of, name_of


def coded(facts, finding, *meanings):
    """Return the evidence of a snapshot whose result code belongs to a finding, with the extension's own words; None otherwise."""
    snapshot = get(facts, "extension.snapshot") or {}
    code, kind = snapshot.get("code"), get(facts, "system.kind")
    if finding_of(code, kind) != finding or code == RUNNING:
        return None
    text = "snapshot {0} of {1}: code {2}".format(snapshot.get("sequence"), snapshot.get("at"), code)
    text += " ({0})".format(name_of(code, kind)) if name_of(code, kind) else ""
    if snapshot.get("reported_status") == "success":
        text += ", though its status says success"
    found = [text]
    if snapshot.get("message"):
        found.append("message: {0}".format(snapshot["message"]))
    for meaning in meanings:
        found += quoted(facts, "extension.log", meaning)
    return found


def snapshot_failed(facts, limits):
    return coded(facts, "snapshot_failed")


def snapshot_stuck(facts, limits):
    snapshot = get(facts, "extension.snapshot") or {}
    age_s = snapshot.get("age_s")
    if snapshot.get("code") != RUNNING or snapshot.get("processes") or age_s is None or age_s <= limits["snapshot_stuck_s"]:
        return None
    text = "snapshot {0} says that it runs (code 4) since {1}, {2} ago, but no process of it is left"
    return text.format(snapshot.get("sequence"), snapshot.get("at"), duration(age_s))


def snapshot_wrong_time(facts, limits):
    return coded(facts, "snapshot_wrong_time")


def snapshot_no_network(facts, limits):
    return coded(facts, "snapshot_no_network", "no_network", "status_upload_failed")


def snapshot_disk_list_invalid(facts, limits):
    return coded(facts, "snapshot_disk_list_invalid")


def snapshot_limit_reached(facts, limits):
    return coded(facts, "snapshot_limit_reached", "snapshot_limit")


def snapshot_rate_exceeded(facts, limits):
    return coded(facts, "snapshot_rate_exceeded", "snapshot_rate")


def snapshot_command_late(facts, limits):
    return coded(facts, "snapshot_command_late", "command_late")


def snapshot_host_failed(facts, limits):
    found = coded(facts, "snapshot_host_failed", "host_call_failed") or []
    for name, code in sorted((get(facts, "extension.snapshot.host_codes") or {}).items()):
        unreachable = code == 555 and finding_of(get(facts, "extension.snapshot.code")) == "snapshot_no_network"
        if code in HOST_CODES and not unreachable:
            found.append("{0}={1}: {2}".format(name, code, HOST_CODES[code]))
    return found or None


def fs_freeze_failed(facts, limits):
    found = coded(facts, "fs_freeze_failed", "freeze_failed", "thaw_failed", "freeze_lock_held")
    if found:
        twice = [str(entry.get("mount_point")) for entry in items(facts, "load.filesystems") if entry.get("duplicate")]
        if twice:
            found.append("mounted a second time, which makes a freeze fail: {0}".format(", ".join(twice)))
    return found


def fs_freeze_timeout(facts, limits):
    return coded(facts, "fs_freeze_timeout", "freeze_timeout", "thaw_late")


def mount_open_failed(facts, limits):
    return coded(facts, "mount_open_failed", "mount_open_failed")


def script_failed(facts, limits):
    return coded(facts, "script_failed")


def script_not_found(facts, limits):
    return coded(facts, "script_not_found")


def script_config_invalid(facts, limits):
    return coded(facts, "script_config_invalid")


def script_permission(facts, limits):
    return coded(facts, "script_permission")


def script_timeout(facts, limits):
    return coded(facts, "script_timeout")


def script_checksum_mismatch(facts, limits):
    return coded(facts, "script_checksum_mismatch")


def script_hook_invalid(facts, limits):
    found = []
    for hook in items(facts, "extension.script_hooks"):
        found += ["{0}: {1}".format(hook.get("path"), problem) for problem in hook.get("problems") or []]
    return found or None


def workload_failed(facts, limits):
    return coded(facts, "workload_failed")


def mount_not_responding(facts, limits):
    found = []
    for entry in items(facts, "load.filesystems"):
        if entry.get("responds") is False:
            found.append(filled("{mount_point} ({fs_type}, {device}) gives no answer", entry))
    return found or None


def mount_unreadable(facts, limits):
    found = []
    for entry in items(facts, "load.filesystems"):
        if entry.get("error"):
            found.append(filled("{mount_point} ({fs_type}, {device}): {error}", entry))
    return found or None


def filesystem_full(facts, limits):
    found = []
    for entry in items(facts, "load.filesystems"):
        if entry.get("read_only") or not (entry.get("freezes") or entry.get("mount_point") in ("/", "/var", "/var/log", "/tmp")):
            continue
        used, inodes = entry.get("used_percent"), entry.get("inodes_used_percent")
        if used is not None and used >= limits["filesystem_used_percent"]:
            found.append("{0} is {1} % full, {2} left".format(entry.get("mount_point"), used, size(entry.get("free_bytes") or 0)))
        if inodes is not None and inodes >= limits["inodes_used_percent"]:
            found.append("{0} has used {1} % of its inodes".format(entry.get("mount_point"), inodes))
    return found or None


def _windows_cpu(limits, cpu):
    """Windows keeps no average of the load, so this is a moment's look, and the diagnosis' own share is taken out of it."""
    busy, others = cpu.get("busy_percent"), cpu.get("others_busy_percent")
    if busy is None or others is None or min(busy, others) < limits["cpu_busy_percent"]:
        return None
    text = "processors are busy to {0} % (over {1} ms), without this diagnosis to {2} %"
    return Evidence(text.format(busy, cpu.get("window_ms"), others), severity="notice")


def load_cpu_high(facts, limits):
    cpu = get(facts, "load.cpu") or {}
    if is_windows(facts):
        return _windows_cpu(limits, cpu)
    busy, count, load_1m = cpu.get("busy_percent"), cpu.get("count"), cpu.get("load_1m")
    if busy is None or load_1m is None or not count:
        return None
    # Busy at the moment of looking alone may be the looking.
    if busy < limits["cpu_busy_percent"] or load_1m / count < limits["cpu_load_per_processor"]:
        return None
    text = "processors are busy to {0} % (over {1} ms), and {2} processes wanted each of them in the last minute"
    found = [text.format(busy, cpu.get("window_ms"), round(load_1m / count, 1))]
    waited = get(facts, "load.pressure.cpu.some_avg60")
    if waited is not None:
        found.append("tasks waited for a processor {0} % of the last minute (/proc/pressure/cpu)".format(waited))
    return found


def load_memory_high(facts, limits):
    memory = get(facts, "load.memory") or {}
    used = memory.get("used_percent")
    if used is None or used < limits["memory_used_percent"]:
        return None
    return "{0} % of the memory is in use, {1} of {2} available".format(
        used, size(memory.get("available_bytes")), size(memory.get("total_bytes"))
    )


def load_io_pressure(facts, limits):
    waited = get(facts, "load.pressure.io.full_avg10")
    if waited is None or waited < limits["io_pressure_percent"]:
        return None
    return "all tasks waited for storage {0} % of the last 10 seconds (/proc/pressure/io)".format(waited)


def clock_wrong(facts, limits):
    offset = get(facts, "load.time.offset_s")
    if offset is None or abs(offset) <= limits["clock_offset_s"]:
        return None
    direction = "ahead of" if offset > 0 else "behind"
    keeper = get(facts, "load.time.source") or "no program that keeps the time runs"
    return "the clock is {0} {1} the Azure host's ({2})".format(duration(abs(offset)), direction, keeper)


def dhcp_option_245_missing(facts, limits):
    dhcp = get(facts, "network.dhcp") or {}
    if not dhcp.get("option_245_looked") or dhcp.get("option_245"):
        return None
    where = dhcp.get("lease_file") or dhcp.get("client")
    return "the lease of {0} holds no option 245 ({1})".format(get(facts, "network.primary.interface"), where)


def dhcp_static_address(facts, limits):
    dhcp = get(facts, "network.dhcp") or {}
    if dhcp.get("method") != "static":
        return None
    primary = get(facts, "network.primary") or {}
    if is_windows(facts) and len(primary.get("addresses") or []) > 1:
        return None  # several addresses need a static configuration on Windows, which Microsoft documents
    return "{0}: the primary interface {1} has the static address {2}".format(
        dhcp.get("method_source"), primary.get("interface"), primary.get("address")
    )


# Must not be disabled: service, what it does.
SHADOW_SERVICES = (
    ("VSS", "takes shadow copies"),
    ("swprv", "is Microsoft's provider of shadow copies"),
    ("COMSysApp", "runs the COM+ components of VSS"),
    ("EventSystem", "tells the writers of a shadow copy"),
    ("CryptSvc", "is the service of the System Writer"),
)
NETWORK_SERVICE = ("nt authority\\networkservice", "nt authority\\network service", "networkservice", "s-1-5-20")
WAITING = (2, 3, 4, 5)  # states of a writer while a backup runs


def vss_service_disabled(facts, limits):
    text = "the service {0}, which {1}, is disabled"
    found = []
    for name, what in SHADOW_SERVICES:
        if windows_service(facts, name).get("start_type") == "disabled":
            found.append(text.format(name, what))
    return found or None


def sql_writer_disabled(facts, limits):
    """Shadow copies work without it, and somebody may keep backups of the machine away from those of SQL Server that way."""
    if not _sql_server(facts) or windows_service(facts, "SQLWriter").get("start_type") != "disabled":
        return None
    return "SQL Server is on this guest and its VSS writer SQLWriter is disabled, so its databases are backed up as after a crash"


def _sql_server(facts):
    return get(facts, "vss.sql_server.present") or any(
        row.get("exists") and str(row.get("name")).upper().startswith("MSSQL") for row in items(facts, "agent.services")
    )


def vss_msdtc_account(facts, limits):
    row = windows_service(facts, "MSDTC")
    account = row.get("account")
    if not account or account.lower() in NETWORK_SERVICE:
        return None
    return "the service MSDTC runs as {0}, Microsoft's article asks for NT AUTHORITY\\NetworkService".format(account)


def _failed_writers(facts):
    """Return the writers that are in a failed state; one that waits is no failure, unless no snapshot runs."""
    runs = get(facts, "extension.snapshot.in_progress") is not False
    found = []
    for writer in items(facts, "vss.writers"):
        code = writer.get("state_code")
        if code in (None, 1) or (code in WAITING and runs):
            continue
        found.append(writer)
    return found


def vss_writer_failed(facts, limits):
    found = []
    for writer in _failed_writers(facts):
        text = filled("writer {name} is in state [{state_code}] {state}, last error: {last_error}", writer)
        service = writer.get("service")
        found.append("{0}; {1}".format(text, "its service is " + service if service else "no service is known that brings it back"))
    return found or None


def bcdr_option_wrong_type(facts, limits):
    found = []
    options = get(facts, "vss.bcdr") or {}
    for name in ("SnapshotWithoutThreads", "SnapshotMethod", "CalculateSnapshotTimeFromHost"):
        option = options.get(name) or {}
        if option.get("type") not in (None, "REG_SZ"):
            found.append("{0}: {1}={2} is {3}, must be REG_SZ".format(option.get("key"), name, option.get("value"), option["type"]))
    return found or None


def _copy_value(option):
    """Say whether UseVSSCopyBackup asks for what is not the default: only text does."""
    return option.get("type") == "REG_SZ" and str(option.get("value")).strip().lower() == "true"


def vss_backup_type_differs(facts, limits):
    wanted = get(facts, "vss.backup_type") or {}
    options = get(facts, "vss.bcdr")
    if wanted.get("type") in (None, "unset") or options is None:
        return None
    option = options.get("UseVSSCopyBackup") or {}
    if _copy_value(option) == (wanted.get("value") is not None):
        return None
    now = "UseVSSCopyBackup={0} ({1})".format(option.get("value"), option.get("type")) if option else "UseVSSCopyBackup is not set"
    need = "must be set to TRUE (REG_SZ)" if wanted.get("value") else "must not be set"
    return "{0}; for vmbackup_vss_backup_type={1} it {2}, by Microsoft's text of {3} (the other one says the opposite)".format(
        now, wanted.get("type"), need, wanted.get("text")
    )


def vss_copy_backup_unset(facts, limits):
    """Asked only where it matters: SQL Server is there, and its writer or the snapshot failed, or a value is there that does nothing."""
    if (get(facts, "vss.backup_type") or {}).get("type") in ("copy_only", "full"):
        return None
    option = get(facts, "vss.bcdr.UseVSSCopyBackup") or {}
    if option.get("type") not in (None, "REG_SZ"):
        return "{0}: UseVSSCopyBackup={1} is {2}, so it is ignored; only text counts".format(
            option.get("key"), option.get("value"), option["type"]
        )
    if not _sql_server(facts) or option:
        return None
    writers = [str(writer.get("name")) for writer in _failed_writers(facts) if writer.get("service") == "SQLWriter"]
    failed = coded(facts, "snapshot_failed")
    if not writers and not failed:
        return None
    instances = ", ".join(items(facts, "vss.sql_server.instances")) or "SQL Server"
    return ["{0} runs on this guest, and UseVSSCopyBackup is not set".format(instances)] + [
        "its writer has failed" if writers else "the last snapshot failed"
    ]


def shadow_storage_low(facts, limits):
    found = []
    for row in items(facts, "load.filesystems"):
        free, total = row.get("free_bytes"), row.get("size_bytes")
        # Drives of 500 MiB and less need 50 MiB only, and reserved ones are small.
        if not is_windows(facts) or not row.get("freezes") or free is None or total is None or total <= 524288000:
            continue
        if free < limits["shadow_storage_bytes"]:
            found.append(
                "{0} has {1} left, a shadow copy needs {2}".format(row.get("mount_point"), size(free), size(limits["shadow_storage_bytes"]))
            )
    for row in items(facts, "vss.shadow_storage"):
        maximum = row.get("maximum_bytes")
        if maximum is not None and maximum < limits["shadow_storage_bytes"]:
            text = "shadow copies of {0} may use {1} on {2}, they need {3}"
            found.append(text.format(row.get("volume"), size(maximum), row.get("storage_volume"), size(limits["shadow_storage_bytes"])))
    return found or None
