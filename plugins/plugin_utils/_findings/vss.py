# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 4 on Windows: services, writers, options and room of shadow copies (VSS)."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Limits,
    Rule,
    Seen,
    get,
    items,
    part,
    registry_fix,
    seen,
    seen_option,
    service_fix,
    size,
    sql_server,
    windows_service,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._coded import coded
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import ARTICLE, COM, ERRORS, RESOURCES, STATUS, VSS, WRITERS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import WINDOWS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.vss import WAITING

# Must not be disabled: service, what it does, what Windows starts it with; stopped and started on demand is healthy.
SHADOW_SERVICES = (
    ("VSS", "takes shadow copies", "manual"),
    ("swprv", "is Microsoft's provider of shadow copies", "manual"),
    ("COMSysApp", "runs the COM+ components of VSS", "manual"),
    ("EventSystem", "tells the writers of a shadow copy", "auto"),
    ("CryptSvc", "is the service of the System Writer", "auto"),
)
NETWORK_SERVICE = ("nt authority\\networkservice", "nt authority\\network service", "networkservice", "s-1-5-20")
COPY_KEY = "HKLM\\SOFTWARE\\Microsoft\\BcdrAgent"
OPTIONS_KEY = "HKLM\\SOFTWARE\\Microsoft\\BcdrAgentPersistentKeys"
COPY = "USEVSSCOPYBACKUP"
NUMBERS = {"1": "True", "0": "False"}
# What Microsoft's two articles say of UseVSSCopyBackup: the kind of backup without it, and with it.
ARTICLES = {"2025-11": ("copy_only", "full"), "2016-10": ("full", "copy_only")}

cause = Cause(4, doc=ERRORS, module=__name__)


def finding(**columns: Any) -> Callable[[Rule], Rule]:
    return cause.finding(on=(WINDOWS,), **columns)


@finding(
    severity="blocker",
    title="A service required by VSS is disabled",
    evidence="the service {name}, which {what}, is disabled",
    action="Give the service its default start type back: manual for VSS, swprv and COMSysApp, automatic for EventSystem and CryptSvc.",
    remedy="snapshot.vss_services",
    codes=STATUS + VSS + COM,
)
def vss_service_disabled(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for name, what, start_type in SHADOW_SERVICES:
        if windows_service(facts, name).get("start_type") == "disabled":
            yield seen(fix=service_fix(name, start_type=start_type, expect={"start_type": "disabled"}), name=name, what=what)


@finding(
    severity="notice",
    title="The VSS writer of SQL Server is disabled",
    evidence="SQL Server is on this guest and its VSS writer SQLWriter is disabled, so its databases are backed up as after a crash",
    action="Ask who looks after SQL Server. When backups of the machine shall hold its databases as they are: set SQLWriter to automatic, start it.",
)
def sql_writer_disabled(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Shadow copies work without it, and somebody may keep backups of the machine away from those of SQL Server that way."""
    if sql_server(facts) and windows_service(facts, "SQLWriter").get("start_type") == "disabled":
        yield seen()


@finding(
    severity="risk",
    title="The transaction coordinator runs under an unusual account",
    evidence="the service MSDTC runs as {account}, Microsoft's article asks for NT AUTHORITY\\NetworkService",
    action="Let MSDTC run as NT AUTHORITY\\NetworkService; reinstalling it (msdtc -uninstall, -install) discards its settings.",
    codes=("ExtensionInstallationFailedMDTC",) + COM,
)
def vss_msdtc_account(facts: Facts, limits: Limits) -> Iterator[Seen]:
    account = windows_service(facts, "MSDTC").get("account")
    if account and account.lower() not in NETWORK_SERVICE:
        yield seen(account=account)


@finding(
    severity="risk",
    title="An Azure Backup option is not REG_SZ and is ignored",
    evidence="{key}: {name}={value} is {type}, must be REG_SZ",
    action="Write the value as REG_SZ.",
    remedy="snapshot.bcdr_options",
    codes=WRITERS + RESOURCES,
)
def bcdr_option_wrong_type(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for name in ("SnapshotWithoutThreads", "SnapshotMethod", "CalculateSnapshotTimeFromHost"):
        option = part(facts, "vss.bcdr").get(name) or {}
        if option.get("type") not in (None, "REG_SZ"):
            value = option.get("value")
            text = NUMBERS.get(str(value), str(value))
            fix = registry_fix(OPTIONS_KEY, name, "string", text, seen_option(option))
            yield seen(fix=fix, key=option.get("key"), name=name, value=value, type=option["type"])


def _asks_for_copy_value(option: Mapping[str, Any]) -> bool:
    """Say whether UseVSSCopyBackup asks for what is not the default: only text does."""
    return option.get("type") == "REG_SZ" and str(option.get("value")).strip().lower() == "true"


@finding(
    severity="risk",
    title="Azure Backup takes another kind of VSS backup than was asked for",
    evidence="{now}; for vmbackup_vss_backup_type={type} it {need}, by Microsoft's text of {article} (the other one says the opposite)",
    action="Set or remove UseVSSCopyBackup (REG_SZ) below HKLM\\SOFTWARE\\Microsoft\\BcdrAgent. Microsoft's texts of 2016-10 and 2025-11 "
    "contradict each other on what it does: say by vmbackup_vss_article which one holds.",
    remedy="snapshot.vss_copy_backup",
    codes=WRITERS,
    doc=ARTICLE,
)
def vss_backup_type_differs(facts: Facts, limits: Limits) -> Iterator[Seen]:
    wanted, article = limits.get("vss_backup_type"), limits.get("vss_article")
    options = get(facts, "vss.bcdr")
    if wanted not in ("copy_only", "full") or article not in ARTICLES or options is None:
        return
    needed = wanted == ARTICLES[article][1]
    option = options.get("UseVSSCopyBackup") or {}
    if _asks_for_copy_value(option) == needed:
        return
    now = "UseVSSCopyBackup={0} ({1})".format(option.get("value"), option.get("type")) if option else "UseVSSCopyBackup is not set"
    yield seen(
        fix=registry_fix(COPY_KEY, COPY, "string", "TRUE", seen_option(option), state="present" if needed else "absent"),
        now=now,
        type=wanted,
        need="must be set to TRUE (REG_SZ)" if needed else "must not be set",
        article=article,
    )


@finding(
    severity="notice",
    title="SQL Server is on this guest, and no VSS backup type is configured",
    evidence={
        "ignored": "{key}: UseVSSCopyBackup={value} is {type}, so it is ignored; only text counts",
        "unset": "{instances} runs on this guest, and UseVSSCopyBackup is not set",
        "writer": "its writer has failed",
        "snapshot": "the last snapshot failed",
    },
    action="Say by vmbackup_vss_backup_type whether Azure Backup should take copy-only backups (SQL Server has backups of its own) or full ones. "
    "Microsoft's texts contradict each other on the value: full is the default in the one of 2016-10, copy-only in the one of 2025-11.",
    codes=WRITERS,
    doc=ARTICLE,
)
def vss_copy_backup_unset(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Asked only where it matters: SQL Server is there, and its writer or the snapshot failed, or a value is there that does nothing."""
    if limits.get("vss_backup_type") in ("copy_only", "full"):
        return
    option = part(facts, "vss.bcdr.UseVSSCopyBackup")
    if option.get("type") not in (None, "REG_SZ"):
        yield seen("ignored", **{key: option.get(key) for key in ("key", "value", "type")})
        return
    if not sql_server(facts) or option:
        return
    writer = any(row.get("service") == "SQLWriter" for row in _failed_writers(facts))
    if writer or any(True for _seen in coded(facts, "snapshot_failed")):
        yield seen("unset", instances=", ".join(items(facts, "vss.sql_server.instances")) or "SQL Server")
        yield seen("writer" if writer else "snapshot")


def _failed_writers(facts: Facts) -> list[Mapping[str, Any]]:
    """Return the writers that have failed, as the collector judged them. An error in the middle of a snapshot of Azure Backup may be its last one's."""
    runs = get(facts, "extension.snapshot.in_progress") is not False
    return [
        writer
        for writer in items(facts, "vss.writers")
        if writer.get("failed") and not (runs and (writer.get("state_code") or 0) in WAITING)
    ]


@finding(
    severity="blocker",
    title="A VSS writer is in a failed state",
    evidence="writer {name} is in state [{state_code}] {state}, last error: {last_error}; {owner}",
    action="Restart the service behind the writer when its users can bear it; a writer without one comes back with a restart of the system.",
    remedy="snapshot.vss_writers",
    consent="vss_writer_restart",
    undoable=False,
    codes=STATUS + WRITERS,
    explained_by=("vss_service_disabled",),
)
def vss_writer_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    for writer in _failed_writers(facts):
        service = writer.get("service")
        owner = "its service is {0}".format(service) if service else "no service is known that brings it back"
        if writer.get("by_hand"):
            owner += ", which is restarted by hand only, or by naming it in snapshot_restart_services"
        data: dict[str, Any] = {key: writer.get(key) for key in ("name", "state_code", "state", "last_error")}
        yield seen(
            fix={"writers": [{"name": writer.get("name"), "service": service, "by_hand": bool(writer.get("by_hand"))}]}, owner=owner, **data
        )


@finding(
    severity="notice",
    title="A VSS writer waits for another backup to end",
    evidence="writer {name} is in state [{state_code}] {state} without an error, and no snapshot of Azure Backup runs",
    action="Let the other product's backup end, and give the two backups different times. If no backup runs, restart the service behind the writer by hand.",
    codes=WRITERS,
)
def vss_writer_waiting(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """States of a backup that is under way, though none of Azure Backup is: another product's, or one that never ended."""
    if get(facts, "extension.snapshot.in_progress") is False:
        for writer in items(facts, "vss.writers"):
            if writer.get("waiting"):
                yield seen(**{key: writer.get(key) for key in ("name", "state_code", "state")})


@finding(
    severity="risk",
    title="There is no room for shadow copies",
    evidence={
        "free": "{place} has {free} left, a shadow copy needs {needed}",
        "limit": "shadow copies of {place} may use {maximum} on {storage}, they need {needed}",
    },
    action="Free space on the drive, or raise the limit with vssadmin resize shadowstorage.",
    codes=WRITERS + VSS,
)
def shadow_storage_low(facts: Facts, limits: Limits) -> Iterator[Seen]:
    needed = limits["shadow_storage_bytes"]
    for row in items(facts, "load.filesystems"):
        free, total = row.get("free_bytes"), row.get("size_bytes")
        # Drives of 500 MiB and less need 50 MiB only, and reserved ones are small.
        if row.get("freezes") and free is not None and total is not None and total > 524288000 and free < needed:
            yield seen("free", place=row.get("mount_point"), free=size(free), needed=size(needed))
    for row in items(facts, "vss.shadow_storage"):
        maximum = row.get("maximum_bytes")
        if maximum is not None and maximum < needed:
            yield seen("limit", place=row.get("volume"), maximum=size(maximum), storage=row.get("storage_volume"), needed=size(needed))
