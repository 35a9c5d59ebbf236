# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 4: the snapshot cannot be taken, or its status cannot be had: what it came to, mounts, load, clock and DHCP. VSS is in vss.py."""

from __future__ import annotations

from typing import Iterator

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.dhcp_text import editor
from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import HOST_CODES, RUNNING, finding_of, name_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Fix,
    Limits,
    Seen,
    duration,
    get,
    is_windows,
    items,
    part,
    seen,
    service_fix,
    size,
    sql_server,
    windows_service,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._coded import (
    CODED,
    coded,
    coded_rule,
    lost,
    outdated,
    since,
    snapshot_of,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import (
    ARTICLE,
    ERRORS,
    FREEZE,
    MOUNT,
    NETWORK,
    RESOURCES,
    SCRIPTS,
    STATUS,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import LINUX, WINDOWS

YELLOW = 128  # vmHealthState: the snapshot was taken, with a failure beside it
NO_PATH = (
    "route_wireserver_missing",
    "route_wireserver_not_primary",
    "firewall_blocks_host",
    "wireserver_unreachable",
    "hostgaplugin_unreachable",
    "storage_unreachable",
    "proxy_unreachable",
    "proxy_without_bypass",
)
LOAD = ("load_cpu_high", "load_memory_high", "load_io_pressure")
AGAIN = "; then start a backup again."
OWNERSHIP = "Give the files to root: VMSnapshotScriptPluginConfig.json mode 0600, scripts mode 0700"

cause = Cause(4, doc=ARTICLE, module=__name__)
finding, on_windows = cause.finding, cause.on_windows


@finding(
    severity="risk",
    title="A snapshot never ended",
    evidence="snapshot {sequence} says that it runs (code 4) since {at}, {age} ago, but no process of it is left",
    action="Start a backup again when the other findings are repaired.",
    codes=STATUS,
)
def snapshot_stuck(facts: Facts, limits: Limits) -> Iterator[Seen]:
    snapshot = snapshot_of(facts)
    age_s = snapshot.get("age_s")
    if outdated(facts) or any(True for meaning in ("host_code_lost", "rate_code_lost") for _seen in lost(facts, meaning)):
        return  # another finding says why
    if snapshot.get("code") == RUNNING and not snapshot.get("processes") and age_s is not None and age_s > limits["snapshot_stuck_s"]:
        yield seen(sequence=snapshot.get("sequence"), at=snapshot.get("at"), age=duration(age_s))


@finding(
    on=(LINUX,),
    severity="notice",
    title="The last snapshot is not application-consistent",
    evidence={"health": "snapshot {sequence} of {at} was taken (code {code}), but the extension reports health {health}{for_code}"},
    action="Read the message: a script or a database failed, and the configuration lets the backup go on. Repair it, then start a backup again.",
    doc=SCRIPTS,
)
def snapshot_not_consistent(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """A snapshot was taken, and the extension reports that it is not what was asked for, as where a failed script may be ignored."""
    snapshot = snapshot_of(facts)
    code, health = snapshot.get("code"), snapshot.get("vm_health_code")
    if code not in (0, 1) or snapshot.get("vm_health") != YELLOW or outdated(facts):
        return
    name = name_of(health)
    for_code = " for code {0}{1}".format(health, " ({0})".format(name) if name else "") if health not in (None, code) else ""
    yield seen("health", sequence=snapshot.get("sequence"), at=snapshot.get("at"), code=code, health=YELLOW, for_code=for_code)
    if snapshot.get("message"):
        yield seen("message", message=snapshot["message"])


@finding(
    severity="risk",
    title="The backup extension was asked for a snapshot and wrote no result",
    evidence={"asked": "Azure asked for snapshot {sequence} at {at}, {age} ago; there is no status of it, and no process"},
    action="Read the end of the extension's log, below /var/log/azure; check that Python runs its main/handle.py. If the problem persists, uninstall "
    "VMSnapshotLinux in Azure and start a backup.",
    codes=STATUS,
    explained_by=("agent_python_missing", "agent_lib_dir_noexec", "agent_lib_dir_full", "extension_blocked"),
)
def snapshot_no_status(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Azure asked, the handler was called, and nothing came of it: no status, no process."""
    snapshot = snapshot_of(facts)
    asked, age_s, at = (snapshot.get(key) for key in ("settings_sequence", "settings_age_s", "settings_at"))
    reported = snapshot.get("sequence")
    if asked is None or age_s is None or snapshot.get("processes") != [] or (reported is not None and reported >= asked):
        return
    if age_s <= limits["snapshot_no_status_s"] or snapshot.get("state") not in (None, "Enabled"):
        return
    if since(facts, "extension.log", "same_sequence", at):
        return  # an update of the extension is enabled with the settings of the last backup, and skips them
    yield seen("asked", sequence=asked, at=at, age=duration(age_s))
    for path, meaning in (("extension.log", "daemon_failed"), ("extension.log", "certificate"), ("agent.log", "no_status")):
        entry = since(facts, path, meaning, at)
        if entry and entry.get("line"):
            yield seen("quote", path=get(facts, path + ".path"), line=entry["line"])


@finding(
    severity="blocker",
    title="A mounted file system does not answer",
    evidence="{mount_point} ({fs_type}, {device}) gives no answer",
    action="Bring its server back or unmount it (umount -l); until then every program that touches it hangs, a snapshot too.",
    codes=MOUNT,
    doc=ERRORS,
)
def mount_not_responding(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for entry in items(facts, "load.filesystems"):
        if entry.get("responds") is False:
            yield seen(**{key: entry.get(key) for key in ("mount_point", "fs_type", "device")})


@finding(
    severity="risk",
    title="A mounted file system cannot be opened",
    evidence="{mount_point} ({fs_type}, {device}): {error}",
    action="Repair or unmount it; the snapshot opens every mount point.",
    codes=MOUNT,
    doc=ERRORS,
    windows={
        "title": "A drive cannot be opened",
        "codes": MOUNT + ("ExtensionSnapshotBitlockerError",),
        "action": "Unlock the drive (BitLocker) or repair it; the snapshot takes every drive.",
    },
)
def mount_unreadable(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for entry in items(facts, "load.filesystems"):
        if entry.get("error"):
            yield seen(**{key: entry.get(key) for key in ("mount_point", "fs_type", "device", "error")})


cause.add(
    "mount_open_failed", coded_rule("mount_open_failed", "mount_open_failed"), on=(LINUX,), evidence=CODED,
    severity="risk", title="The last snapshot could not open a mount point", codes=MOUNT, doc=ERRORS,
    explained_by=("mount_not_responding", "mount_unreadable"),
    action="Make every mount point readable for root (stale NFS, autofs, a removed disk)" + AGAIN,
)  # fmt: skip


@finding(
    on=(LINUX,),
    severity="risk",
    title="The last snapshot could not freeze a file system",
    evidence=dict(CODED, twice="mounted a second time, which makes a freeze fail: {names}"),
    action="Unmount the file system named, check it with fsck, mount it again, once; or name it in MountsToSkip of vmbackup.conf.",
    codes=FREEZE,
    doc=ERRORS,
    explained_by=("mount_not_responding",),
)
def fs_freeze_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    found = list(coded(facts, "fs_freeze_failed", "freeze_failed", "thaw_failed", "freeze_lock_held"))
    yield from found
    twice = [str(entry.get("mount_point")) for entry in items(facts, "load.filesystems") if entry.get("duplicate")]
    if found and twice:
        yield seen("twice", names=", ".join(twice))


cause.add(
    "fs_freeze_timeout", coded_rule("fs_freeze_timeout", "freeze_timeout", "thaw_late"), on=(LINUX,), evidence=CODED,
    severity="risk", title="Freezing the file systems took too long", codes=FREEZE, doc=ERRORS, explained_by=LOAD,
    action="Back up at a quieter time, or set SafeFreezeWaitInSeconds=600 in /etc/azure/vmbackup.conf.",
)  # fmt: skip
cause.add(
    "snapshot_no_network", coded_rule("snapshot_no_network", "no_network", "status_upload_failed"), evidence=CODED,
    severity="risk", title="The last snapshot failed because the network was unavailable", codes=NETWORK, doc=ERRORS, explained_by=NO_PATH,
    action="Look at the findings of connectivity" + AGAIN,
)  # fmt: skip


@finding(
    severity="risk",
    title="The Azure host did not take the snapshot",
    evidence=dict(CODED, host="{name}={code}: {words}"),
    action="Start a backup again; if the problem persists, redeploy the VM to another host or open a support case.",
    codes=STATUS + RESOURCES,
    side="azure",
)
def snapshot_host_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if outdated(facts):
        return
    yield from list(coded(facts, "snapshot_host_failed", "host_call_failed")) or lost(facts, "host_code_lost")
    for name, code in sorted(part(facts, "extension.snapshot.host_codes").items()):
        unreachable = code == 555 and finding_of(get(facts, "extension.snapshot.code")) == "snapshot_no_network"
        if code in HOST_CODES and not unreachable:
            yield seen("host", name=name, code=code, words=HOST_CODES[code])


cause.add(
    "snapshot_command_late", coded_rule("snapshot_command_late", "command_late"), evidence=CODED,
    severity="risk", title="The snapshot's command reached the guest too late", codes=STATUS, explained_by=LOAD + ("clock_wrong",),
    action="Look for an agent that hangs, a wrong clock, or another extension that takes long" + AGAIN,
)  # fmt: skip
cause.add(
    "snapshot_limit_reached", coded_rule("snapshot_limit_reached", "snapshot_limit"), evidence=CODED,
    severity="risk", title="A disk has too many snapshots", codes=("ExtensionFailedSnapshotLimitReachedError",), side="azure", doc=ERRORS,
    action="Delete snapshots of that blob that nothing needs (never the blob), and give Site Recovery another schedule.",
)  # fmt: skip


@finding(
    severity="notice",
    title="Snapshots of a disk exceeded the rate limit",
    evidence=CODED,
    action="Start a backup again later; the extension takes them one after the other from then on.",
    codes=("ExtensionFailedSnapshotLimitReachedError",),
    doc=ERRORS,
    side="azure",
)
def snapshot_rate_exceeded(facts: Facts, limits: Limits) -> Iterator[Seen]:
    yield from list(coded(facts, "snapshot_rate_exceeded", "snapshot_rate")) or lost(facts, "rate_code_lost")


cause.add(
    "snapshot_disk_list_invalid", coded_rule("snapshot_disk_list_invalid"), evidence=CODED,
    severity="risk", title="Azure asked for disks that the VM does not have", codes=STATUS, side="azure",
    action="Wait for disk changes to end and start a backup again.",
)  # fmt: skip
cause.add(
    "snapshot_wrong_time", coded_rule("snapshot_wrong_time"), evidence=CODED,
    severity="risk", title="The last snapshot failed because of the clock", codes=STATUS, explained_by=("clock_wrong",),
    action="Correct the clock and check that chronyd or systemd-timesyncd runs" + AGAIN,
    windows={"action": "Correct the clock and check that the Windows Time service runs" + AGAIN},
)  # fmt: skip
cause.add(
    "snapshot_failed", coded_rule("snapshot_failed"), evidence=CODED,
    severity="risk", title="The last snapshot failed", codes=STATUS + ("ExtensionOperationFailedForManagedDisks",), doc=ERRORS,
    explained_by=("vss_service_disabled", "extension_provider_disabled", "vss_writer_failed", "shadow_storage_low", "mount_not_responding",
                  "mount_unreadable", "filesystem_full"),
    action="Read the end of the extension's log, below /var/log/azure" + AGAIN,
    windows={"action": "Read the end of the logs below C:\\WindowsAzure\\Logs\\Plugins\\Microsoft.Azure.RecoveryServices.VMSnapshot" + AGAIN},
)  # fmt: skip


@finding(
    on=(LINUX,),
    severity="risk",
    title="A pre or post script's file would be refused",
    evidence="{path}: {problem}",
    action=OWNERSHIP + ".",
    doc=SCRIPTS,
)
def script_hook_invalid(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for hook in items(facts, "extension.script_hooks"):
        for problem in hook.get("problems") or []:
            yield seen(path=hook.get("path"), problem=problem)


for _id, _title, _action in (
    ("script_permission", "A pre or post script was refused for its owner or mode", OWNERSHIP + AGAIN),
    (
        "script_not_found",
        "A pre or post script was not found",
        "Correct the paths in VMSnapshotScriptPluginConfig.json, or remove the hook" + AGAIN,
    ),
    (
        "script_config_invalid",
        "The configuration of pre and post scripts cannot be parsed",
        "Correct the JSON of VMSnapshotScriptPluginConfig.json or the INI of VMSnapshotPluginHost.conf" + AGAIN,
    ),
    ("script_failed", "A pre or post script failed", "Run the script by hand as root, make it return 0, and start a backup again."),
    (
        "script_timeout",
        "A pre or post script took too long",
        "Make the script faster or raise timeoutInSeconds in VMSnapshotScriptPluginConfig.json" + AGAIN,
    ),
):
    cause.add(
        _id, coded_rule(_id), on=(LINUX,), evidence=CODED, severity="risk", title=_title, action=_action, doc=SCRIPTS,
        explained_by=("script_hook_invalid",) if _id in ("script_permission", "script_not_found") else (),
    )  # fmt: skip
cause.add(
    "script_checksum_mismatch", coded_rule("script_checksum_mismatch"), on=(LINUX,), evidence=CODED,
    severity="risk", title="The plug-in for pre and post scripts was altered", doc=SCRIPTS, side="azure",
    action="Uninstall VMSnapshotLinux in Azure and start a backup: its files come anew.",
)  # fmt: skip
cause.add(
    "workload_failed", coded_rule("workload_failed"), on=(LINUX,), evidence=CODED,
    severity="risk", title="The workload plug-in of the backup extension failed", doc=ERRORS,
    action="Read the message, correct /etc/azure/workload.conf or the database's state, and start a backup again.",
)  # fmt: skip


@finding(
    severity="risk",
    title="A file system is nearly full",
    evidence={"bytes": "{mount_point} is {used} % full, {free} left", "inodes": "{mount_point} has used {used} % of its inodes"},
    action="Free space; logs and status of agent and extension go there.",
    codes=STATUS,
    windows={
        "title": "A drive is nearly full",
        "action": "Free space; logs and status of agent and extension go there, and shadow copies need room.",
    },
)
def filesystem_full(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for entry in items(facts, "load.filesystems"):
        place = entry.get("mount_point")
        if entry.get("read_only") or not (entry.get("freezes") or place in ("/", "/var", "/var/log", "/tmp")):
            continue
        used, free, inodes = entry.get("used_percent"), entry.get("free_bytes") or 0, entry.get("inodes_used_percent")
        # A share alone says little of a large disk.
        if used is not None and used >= limits["filesystem_used_percent"] and free < limits["filesystem_free_bytes"]:
            yield seen("bytes", mount_point=place, used=used, free=size(free))
        if inodes is not None and inodes >= limits["inodes_used_percent"]:
            yield seen("inodes", mount_point=place, used=inodes)


@finding(
    on=(LINUX,),
    severity="risk",
    title="The processors are overloaded",
    evidence={
        "busy": "processors are busy to {busy} % (over {window_ms} ms), and the load average of the last minute is {load} per processor",
        "waited": "tasks waited for a processor {waited} % of the last minute (/proc/pressure/cpu)",
    },
    action="Back up at a quieter time, start a backup by hand, or give the VM more processors.",
    codes=STATUS + RESOURCES,
)
def load_cpu_high(facts: Facts, limits: Limits) -> Iterator[Seen]:
    cpu = part(facts, "load.cpu")
    busy, count, load_1m = cpu.get("busy_percent"), cpu.get("count"), cpu.get("load_1m")
    if busy is None or load_1m is None or not count:
        return
    # Busy at the moment of looking alone may be the looking.
    if busy < limits["cpu_busy_percent"] or load_1m / count < limits["cpu_load_per_processor"]:
        return
    yield seen("busy", busy=busy, window_ms=cpu.get("window_ms"), load=round(load_1m / count, 1))
    waited = get(facts, "load.pressure.cpu.some_avg60")
    if waited is not None:
        yield seen("waited", waited=waited)


@on_windows(
    severity="notice",
    evidence="processors are busy to {busy} % (over {window_ms} ms), without this diagnosis to {others} %",
)
def load_cpu_high_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Windows keeps no average of the load, so this is a moment's look, and the diagnosis' own share is taken out of it."""
    cpu = part(facts, "load.cpu")
    busy, others = cpu.get("busy_percent"), cpu.get("others_busy_percent")
    if busy is not None and others is not None and min(busy, others) >= limits["cpu_busy_percent"]:
        yield seen(busy=busy, window_ms=cpu.get("window_ms"), others=others)


@finding(
    severity="risk",
    title="Memory is nearly used up",
    evidence="{used} % of the memory is in use, {available} of {total} available",
    action="Back up at a quieter time, start a backup by hand, or give the VM more memory.",
    codes=STATUS + RESOURCES,
)
def load_memory_high(facts: Facts, limits: Limits) -> Iterator[Seen]:
    memory = part(facts, "load.memory")
    used = memory.get("used_percent")
    if used is not None and used >= limits["memory_used_percent"]:
        yield seen(used=used, available=size(memory.get("available_bytes")), total=size(memory.get("total_bytes")))


@on_windows()
def load_memory_high_windows(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """SQL Server takes what memory there is, and gives it back when others need it: there, what is available counts."""
    available = part(facts, "load.memory").get("available_bytes")
    if not sql_server(facts) or available is None or available < limits["memory_available_bytes"]:
        yield from load_memory_high(facts, limits)


@finding(
    on=(LINUX,),
    severity="risk",
    title="Storage is overloaded",
    evidence="all tasks waited for storage {waited} % of the last 10 seconds (/proc/pressure/io)",
    action="Back up at a quieter time, or give the disks more throughput: a freeze waits for all writes.",
    codes=STATUS + RESOURCES + FREEZE,
)
def load_io_pressure(facts: Facts, limits: Limits) -> Iterator[Seen]:
    waited = get(facts, "load.pressure.io.full_avg10")
    if waited is not None and waited >= limits["io_pressure_percent"]:
        yield seen(waited=waited)


@finding(
    severity="risk",
    title="The guest's clock is wrong",
    evidence="the clock is {offset} {direction} the Azure host's ({keeper})",
    action="Correct the clock and check that chronyd or systemd-timesyncd runs; signatures for storage are refused otherwise.",
    codes=STATUS + ("ExtensionSnapshotFailedNoNetwork",),
    explained_by=("time_service_off",),
    windows={"action": "Correct the clock and check that the Windows Time service runs; signatures for storage are refused otherwise."},
)
def clock_wrong(facts: Facts, limits: Limits) -> Iterator[Seen]:
    offset = get(facts, "load.time.offset_s")
    if offset is not None and abs(offset) > limits["clock_offset_s"]:
        direction = "ahead of" if offset > 0 else "behind"
        keeper = get(facts, "load.time.source") or "no program that keeps the time runs"
        yield seen(offset=duration(abs(offset)), direction=direction, keeper=keeper)


@finding(
    severity="risk",
    title="The time service does not run",
    evidence={
        LINUX: "{service} is {state} and {start}, and no other program keeps the time",
        WINDOWS: "{service} is {state}, its start type is {start}",
    },
    action="Start the time service and have it start with the system, unless something else keeps the time.",
    remedy="snapshot.time_sync",
    consent="time_sync",
    codes=STATUS + ("ExtensionSnapshotFailedNoNetwork",),
)
def time_service_off(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Windows starts W32Time by a trigger where it is "manual", so only a disabled one, and an automatic one that does not run, are off."""
    if is_windows(facts):
        row = windows_service(facts, "W32Time")
        state, start = row.get("state"), row.get("start_type")
        if state == "stopped" and start in ("auto", "delayed", "disabled"):
            fix = service_fix("W32Time", start_type="auto", state="started", expect={"start_type": start, "state": state})
            yield seen(WINDOWS, fix=fix, service="W32Time", state=state, start=start)
        return
    time = part(facts, "load.time")
    unit, state, start = time.get("unit"), time.get("unit_state"), time.get("unit_file_state")
    if state in ("inactive", "failed") and not time.get("source"):
        expect = {"masked": start == "masked", "unit_file_state": None if start == "masked" else start}
        yield seen(LINUX, fix={"unit": unit, "expect": expect}, service=unit, state=state, start=start or "static")


STATIC = "Switch DHCP on in the guest; give the VM a static private address in Azure instead, on its network interface."


@finding(
    severity="risk",
    title="The primary interface has a static address inside the guest",
    evidence="{source}: the primary interface {interface} has the static address {address}",
    action=STATIC,
    codes=NETWORK,
    remedy="snapshot.dhcp",
    consent="dhcp",
)
def dhcp_static_address(facts: Facts, limits: Limits) -> Iterator[Seen]:
    dhcp, primary = part(facts, "network.dhcp"), part(facts, "network.primary")
    if dhcp.get("method") != "static":
        return
    if is_windows(facts) and len(primary.get("addresses") or []) > 1:
        return  # several addresses need a static configuration on Windows, which Microsoft documents
    interface, address = primary.get("interface"), primary.get("address")
    source = dhcp.get("method_source")
    # DHCP gives the first of the addresses that Azure knows, and no other.
    known = interface and address and [address] == items(facts, "network.imds_addresses")[:1]
    fix: Fix | None = {"interface": interface} if known else None
    if not is_windows(facts):
        fix = {"interface": interface, "path": source, "address": address} if known and editor(str(source)) is not None else None
    yield seen(fix=fix, source=dhcp.get("method_source"), interface=interface, address=address)


@finding(
    severity="notice",
    title="DHCP gave the guest no address of the Azure host (option 245)",
    evidence="the lease of {interface} holds no option 245 ({where})",
    action="Check that DHCP comes from Azure and not from a server in the network; harmless while 168.63.129.16 answers.",
    codes=NETWORK,
)
def dhcp_option_245_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    dhcp = part(facts, "network.dhcp")
    if dhcp.get("option_245_looked") and not dhcp.get("option_245"):
        yield seen(interface=get(facts, "network.primary.interface"), where=dhcp.get("lease_file") or dhcp.get("client"))
