# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 3: the backup extension does not load or update."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.extension import SNAPSHOT
from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import finding_of
from ansible_collections.vmbackup.azure.plugins.module_utils._values import version_key
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Cause,
    Facts,
    Limits,
    Seen,
    get,
    is_windows,
    items,
    log_match,
    part,
    quoted,
    registry_fix,
    seen,
    service_fix,
    windows_service,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._coded import CODED, coded_rule
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._columns import (
    ARTICLE,
    CRYPTO,
    ERRORS,
    FREEZE,
    REDIST,
    SECURE,
    STATE,
    STATUS,
    VSS,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import LINUX, WINDOWS

WINDOWS_SNAPSHOT = "Microsoft.Azure.RecoveryServices.VMSnapshot"
# Codes of HandlerStatus. Source: azurelinuxagent/common/exception.py.
HANDLER_CODES = {
    -1: "unknown error",
    1000: "processing failed",
    1001: "manifest not downloaded",
    1002: "HandlerManifest.json missing",
    1003: "HandlerManifest.json unreadable",
    1004: "package not downloaded",
    1005: "package cannot be unpacked",
    1007: "install failed",
    1008: "update failed",
    1009: "enable failed",
    1010: "disable failed",
    1011: "the handler's script timed out",
    1012: "status file invalid",
}
BROKEN = "{name} {version}: state {state}, status {status}, code {code}{words}"

cause = Cause(3, doc=ARTICLE, module=__name__)
finding = cause.finding


def _broken(handler: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is told of a handler that has failed, None when nothing is known to be wrong."""
    code = handler.get("code")
    if handler.get("status") in (None, "Ready", "Installing") and code in (None, 0) and handler.get("state") != "FailedUpgrade":
        return None
    words = HANDLER_CODES.get(code) if isinstance(code, int) else None
    text = (" ({0})".format(words) if words else "") + (": {0}".format(handler["message"]) if handler.get("message") else "")
    return dict({key: handler.get(key) for key in ("name", "version", "state", "status", "code")}, words=text)


def _handlers(facts: Facts) -> list[Mapping[str, Any]]:
    """Return the handlers on disk and those that the agent reports but could not even unpack."""
    found = list(items(facts, "extension.handlers"))
    names = {handler.get("name") for handler in found}
    reported = items(facts, "extension.aggregate.handlers")
    return found + [dict(handler, state=None) for handler in reported if handler.get("name") not in names]


def _broken_handlers(facts: Facts, own: bool) -> Iterator[Seen]:
    """Yield the broken handlers: that of the backup extension, or the others."""
    name = WINDOWS_SNAPSHOT if is_windows(facts) else SNAPSHOT
    for handler in _handlers(facts):
        broken = _broken(handler) if (handler.get("name") == name) == own else None
        if broken:
            yield seen(**broken)


@finding(
    severity="blocker",
    title="The backup extension failed to install, update or enable",
    evidence=BROKEN,
    action="Uninstall VMSnapshotLinux from the VM in Azure (not from the guest's disk) and start a backup: it is installed anew.",
    codes=STATE + STATUS + ("ExtensionStuckInDeletionState",),
    side="azure",
    explained_by=(
        "agent_lib_dir_noexec",
        "agent_lib_dir_read_only",
        "agent_lib_dir_full",
        "extension_installer_disabled",
        "extension_vc_redist_missing",
        "extension_machine_keys_acl",
        "extension_blocked",
    ),
    windows={"action": "Uninstall VMSnapshot from the VM in Azure (not from the guest's disk) and start a backup: it is installed anew."},
)
def snapshot_extension_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    yield from _broken_handlers(facts, own=True)


@finding(
    severity="risk",
    title="Another extension has failed",
    evidence=BROKEN,
    action="Repair or remove that extension in Azure: a failed one can keep the VM in provisioning state Failed.",
    codes=STATE,
    side="azure",
)
def extension_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    yield from _broken_handlers(facts, own=False)


@finding(
    on=(LINUX,),  # no oldest version is known for Windows
    severity="risk",
    title="The backup extension is old",
    evidence="{name} is {version}, the oldest that is known to work is {minimum}",
    action="Uninstall VMSnapshotLinux from the VM in Azure and start a backup: the newest version is installed.",
    codes=STATUS,
    side="azure",
)
def snapshot_extension_old(facts: Facts, limits: Limits) -> Iterator[Seen]:
    version, minimum = get(facts, "extension.snapshot.version"), limits["minimum_snapshot_extension"]
    if version is not None and version_key(version) < version_key(minimum):
        yield seen(name=SNAPSHOT, version=version, minimum=minimum)


@finding(
    on=(WINDOWS,),
    severity="blocker",
    title="The VSS provider of Azure Backup is disabled",
    evidence="the service IaaSVmProvider, which Azure Backup takes its shadow copies with, is disabled ({state} now)",
    action="Set the start type of the service IaaSVmProvider to automatic and start it.",
    remedy="extension.provider_service",
    codes=STATUS + VSS,
)
def extension_provider_disabled(facts: Facts, limits: Limits) -> Iterator[Seen]:
    row = windows_service(facts, "IaaSVmProvider")
    if row.get("start_type") == "disabled":
        fix = service_fix("IaaSVmProvider", start_type="auto", expect={"start_type": "disabled"})
        yield seen(fix=fix, state=row.get("state") or "state unknown")


@finding(
    on=(WINDOWS,),
    severity="risk",
    title="The Windows Installer is disabled",
    evidence="the service msiserver (Windows Installer) is disabled, so the extension cannot install what it needs",
    action="Set Start to 3 (DWORD) below HKLM\\SYSTEM\\CurrentControlSet\\Services\\msiserver.",
    remedy="extension.prerequisites",
    codes=REDIST,
    doc=ERRORS,
)
def extension_installer_disabled(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if windows_service(facts, "msiserver").get("start_type") == "disabled":
        yield seen(fix=service_fix("msiserver", start_type="manual", expect={"start_type": "disabled"}))


def _said(facts: Facts, *words: str) -> str | None:
    """Return the snapshot's or its handler's message when it contains one of the words, else None."""
    for path in ("extension.snapshot.message", "extension.snapshot.handler_message"):
        text = get(facts, path)
        if text and any(word.lower() in text.lower() for word in words):
            return str(text)
    return None


def _failing(facts: Facts) -> bool:
    """Say whether the last snapshot or the extension itself is known to have failed."""
    code = get(facts, "extension.snapshot.code")
    failed = code is not None and finding_of(code, get(facts, "system.kind")) is not None
    return failed or any(True for _handler in _broken_handlers(facts, own=True))


def _well_since(facts: Facts) -> bool:
    """Say whether a snapshot is known to have worked, so that what a log says is history."""
    return get(facts, "extension.snapshot.code") is not None and not _failing(facts)


@finding(
    on=(WINDOWS,),
    severity="risk",
    title=".NET Framework cannot use TLS 1.2",
    evidence={"value": "{key}: SchUseStrongCrypto is {value}"},
    action="Set SchUseStrongCrypto to 1 (DWORD) for every installed version of .NET, in both registry views.",
    remedy="extension.prerequisites",
    codes=SECURE,
    doc=ERRORS,
)
def extension_strong_crypto_off(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """Switched off is a finding; not set is one only where TLS is what failed, since newer .NET has it on by itself."""
    logged = None if _well_since(facts) else log_match(facts, "extension.log", "no_secure_channel")
    failed = _said(facts, "NoSecureNetwork", "SSL/TLS secure channel") or logged
    found = False
    for entry in items(facts, "agent.dotnet.strong_crypto"):
        value = entry.get("value")
        if value == 0 or (failed and value is None):
            found = True
            fix = registry_fix(entry.get("key"), "SchUseStrongCrypto", "dword", 1, None if value is None else {"type": "dword", "data": 0})
            yield seen("value", fix=fix, key=entry.get("key"), value="0" if value == 0 else "not set")
    if found:
        yield from quoted(facts, "extension.log", "no_secure_channel")


@finding(
    on=(WINDOWS,),
    severity="risk",
    title="The folder of machine keys lacks access rights",
    evidence={"missing": "{path}: {text}", "sddl": "its descriptor is {sddl}"},
    action="Give the folder (not what is in it) its default rights back: Everyone may create files, Administrators have full control.",
    remedy="extension.prerequisites",
    consent="machine_keys_acl",
    codes=CRYPTO,
    doc=ERRORS,
)
def extension_machine_keys_acl(facts: Facts, limits: Limits) -> Iterator[Seen]:
    folder = part(facts, "extension.machine_keys")
    if folder.get("ok") is False:
        for text in folder.get("missing") or ["not the default rights"]:
            yield seen("missing", fix={"folders": [folder.get("path")]}, path=folder.get("path"), text=text)
        yield seen("sddl", sddl=folder.get("sddl"))


@finding(
    on=(WINDOWS,),
    severity="risk",
    title="The certificate for the extension's settings is missing or unusable",
    evidence={
        "problem": "LocalMachine\\My: the certificate of the agent cannot be used: {problem}",
        "none": "LocalMachine\\My holds no certificate of the agent",
    },
    action="Check the access rights of the MachineKeys folder, delete the certificate TenantEncryptionCert if it is there, restart the agent: "
    "it fetches another one.",
    codes=CRYPTO,
    doc=ERRORS,
    explained_by=("extension_machine_keys_acl",),
)
def extension_certificate_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    """That there is none is only evidence where something failed for want of it: a guest without protected settings has none."""
    certificate = part(facts, "extension.certificate")
    if certificate.get("problem"):
        yield seen("problem", problem=certificate["problem"])
        return
    said = [*quoted(facts, "agent.log", "certificate"), *quoted(facts, "extension.log", "certificate")]
    message = _said(facts, "ExtensionConfigParsingFailure", "certificate")
    if certificate.get("found") is False and (said or message):
        yield seen("none")
        yield from said
        if message:
            yield seen("message", message=message)


@finding(
    on=(WINDOWS,),
    severity="risk",
    title="The Visual C++ redistributable that the extension brings is missing",
    evidence={"none": "no Visual C++ redistributable (12.0 or 14.0) is installed"},
    action="Run vcredist2013_x64 from the folder of VMSnapshot below C:\\Packages\\Plugins; do not uninstall other versions.",
    codes=REDIST,
    doc=ERRORS,
    explained_by=("extension_installer_disabled",),
)
def extension_vc_redist_missing(facts: Facts, limits: Limits) -> Iterator[Seen]:
    said = list(quoted(facts, "extension.log", "vc_redist"))
    message = _said(facts, "VCRedist", "vcredist", "Visual C++")
    if get(facts, "extension.vc_redist") == [] and (message or (said and _failing(facts))):
        yield seen("none")
        yield from said
        if message:
            yield seen("message", message=message)


@finding(
    on=(WINDOWS,),
    severity="blocker",
    title="Application control or an antivirus blocks the extension",
    evidence="{path}: {line}",
    action="Exclude C:\\Packages\\Plugins\\Microsoft.Azure.RecoveryServices.VMSnapshot and its folder below C:\\WindowsAzure\\Logs\\Plugins "
    "from AppLocker and antivirus.",
    codes=STATUS + ("VMRestorePointInternalError",),
    doc=ERRORS,
)
def extension_blocked(facts: Facts, limits: Limits) -> Iterator[Seen]:
    if not _well_since(facts):  # else a snapshot was taken since, or it was another program
        yield from quoted(facts, "extension.log", "blocked")
        yield from quoted(facts, "agent.log", "blocked")


@finding(
    severity="risk",
    title="The agent could not process what Azure asked for",
    evidence="{path}: the agent could not process the goal state: {message}",
    action="Read the message; repair what it names, and start a backup.",
    codes=STATE + STATUS,
    explained_by=("agent_lib_dir_full", "agent_lib_dir_read_only", "agent_lib_dir_noexec"),
)
def goal_state_failed(facts: Facts, limits: Limits) -> Iterator[Seen]:
    report = part(facts, "extension.aggregate")
    if report.get("goal_state_status") == "Failed" and (report.get("age_s") or 0) <= limits["report_age_s"]:
        yield seen(path=report.get("path"), message=report.get("goal_state_message"))


# Findings that are a result code of the last snapshot, with the extension's own words.
cause.add(
    "snapshot_certificate_missing", coded_rule("snapshot_certificate_missing", "certificate"), evidence=CODED,
    severity="risk", title="The backup extension cannot decrypt its settings", codes=STATUS, doc=ERRORS,
    explained_by=("agent_fips_not_set", "agent_openssl_missing", "extension_machine_keys_acl", "extension_certificate_missing"),
    action="Restart the agent, which fetches the certificate anew; on a FIPS system set OS.EnableFIPS=y; check that openssl is the distribution's.",
    windows={"action": "Restart the agent, which fetches the certificate anew; check the access rights of the MachineKeys folder."},
)  # fmt: skip
cause.add(
    "safefreeze_missing", coded_rule("safefreeze_missing", "safefreeze_missing"), on=(LINUX,), evidence=CODED,
    severity="risk", title="The backup extension lacks its freeze program", codes=STATUS + FREEZE, side="azure",
    explained_by=("agent_lib_dir_noexec",),
    action="Check that the agent's directory is not mounted noexec; uninstall VMSnapshotLinux in Azure and start a backup.",
)  # fmt: skip
cause.add(
    "snapshot_file_missing", coded_rule("snapshot_file_missing", "daemon_failed"), evidence=CODED,
    severity="risk", title="The backup extension did not find a file or program", codes=STATUS, doc=ERRORS,
    explained_by=("agent_python_missing", "agent_openssl_missing", "extension_blocked"),
    action="Check that python3 and openssl are installed, then uninstall VMSnapshotLinux in Azure and start a backup.",
    windows={"action": "Uninstall VMSnapshot in Azure and start a backup; exclude its folder from the antivirus."},
)  # fmt: skip
cause.add(
    "snapshot_parameter_missing", coded_rule("snapshot_parameter_missing", "parameter_missing"), evidence=CODED,
    severity="risk", title="The backup extension got incomplete settings", codes=STATUS, side="azure",
    action="Start a backup again; if the problem persists, stop and resume protection of the VM.",
)  # fmt: skip


@finding(
    on=(LINUX,),
    severity="risk",
    title="vmbackup.conf cannot be parsed and is ignored",
    evidence="{path} cannot be parsed, so the extension ignores all of it: {error}",
    action="Correct the file (one [SnapshotThread] section, no key twice, no stray %), or remove it to use the defaults.",
    codes=STATUS + FREEZE,
    doc=ERRORS,
)
def vmbackup_conf_invalid(facts: Facts, limits: Limits) -> Iterator[Seen]:
    conf = part(facts, "extension.vmbackup_conf")
    if conf.get("valid") is False:
        yield seen(path=conf.get("path"), error=conf.get("error"))
