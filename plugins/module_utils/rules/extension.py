# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 3: the backup extension does not load or update. One function per finding, named after it."""

from ansible_collections.vmbackup.azure.plugins.module_utils.linux.extension import SNAPSHOT
from ansible_collections.vmbackup.azure.plugins.module_utils.linux.host import version_key
from ansible_collections.vmbackup.azure.plugins.module_utils.rules._common import (
    filled,
    get,
    is_windows,
    items,
    quoted,
    verdict,
    windows_service,
)
from ansible_collections.vmbackup.azure.plugins.module_utils.rules.snapshot import coded
from ansible_collections.vmbackup.azure.plugins.module_utils.snapshot_codes import finding_of

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


def _name(facts):
    return WINDOWS_SNAPSHOT if is_windows(facts) else SNAPSHOT


def _broken(handler):
    """Return in words what is wrong with a handler, None when nothing is known to be."""
    code = handler.get("code")
    if handler.get("status") in (None, "Ready", "Installing") and code in (None, 0) and handler.get("state") != "FailedUpgrade":
        return None
    words = HANDLER_CODES.get(code)
    text = filled("{name} {version}: state {state}, status {status}, code {code}", handler)
    text += " ({0})".format(words) if words else ""
    return text + (": {0}".format(handler["message"]) if handler.get("message") else "")


def _handlers(facts):
    """Return the handlers on disk and those that the agent reports but could not even unpack."""
    found = list(items(facts, "extension.handlers"))
    names = {handler.get("name") for handler in found}
    report = get(facts, "extension.aggregate") or {}
    return found + [dict(handler, state=None) for handler in report.get("handlers") or [] if handler.get("name") not in names]


def snapshot_extension_failed(facts, limits):
    found = [_broken(handler) for handler in _handlers(facts) if handler.get("name") == _name(facts)]
    return [text for text in found if text] or None


def extension_failed(facts, limits):
    found = [_broken(handler) for handler in _handlers(facts) if handler.get("name") != _name(facts)]
    return [text for text in found if text] or None


def snapshot_extension_old(facts, limits):
    version = get(facts, "extension.snapshot.version")
    if get(facts, "system.kind") != "linux":
        return None  # no oldest version is known for Windows
    if version is None or version_key(version) >= version_key(limits["minimum_snapshot_extension"]):
        return None
    return "{0} is {1}, the oldest that is known to work is {2}".format(SNAPSHOT, version, limits["minimum_snapshot_extension"])


def goal_state_failed(facts, limits):
    report = get(facts, "extension.aggregate") or {}
    if report.get("goal_state_status") != "Failed" or (report.get("age_s") or 0) > limits["report_age_s"]:
        return None
    return "{0}: the agent could not process the goal state: {1}".format(report.get("path"), report.get("goal_state_message"))


def snapshot_certificate_missing(facts, limits):
    return coded(facts, "snapshot_certificate_missing", "certificate")


def safefreeze_missing(facts, limits):
    return coded(facts, "safefreeze_missing", "safefreeze_missing")


def snapshot_file_missing(facts, limits):
    return coded(facts, "snapshot_file_missing", "daemon_failed")


def snapshot_parameter_missing(facts, limits):
    return coded(facts, "snapshot_parameter_missing", "parameter_missing")


def vmbackup_conf_invalid(facts, limits):
    conf = get(facts, "extension.vmbackup_conf") or {}
    if conf.get("valid") is not False:
        return None
    return "{0} cannot be parsed, so the extension ignores all of it: {1}".format(conf.get("path"), conf.get("error"))


def _said(facts, *words):
    """Return the snapshot's or its handler's message when one of the words stands in it, else None."""
    for path in ("extension.snapshot.message", "extension.snapshot.handler_message"):
        text = get(facts, path)
        if text and any(word.lower() in text.lower() for word in words):
            return text
    return None


def _failing(facts):
    """Say whether the last snapshot or the extension itself is known to have failed."""
    code = get(facts, "extension.snapshot.code")
    return (code is not None and finding_of(code, get(facts, "system.kind")) is not None) or bool(snapshot_extension_failed(facts, {}))


def extension_provider_disabled(facts, limits):
    row = windows_service(facts, "IaaSVmProvider")
    if row.get("start_type") != "disabled":
        return None
    return "the service IaaSVmProvider, which Azure Backup takes its shadow copies with, is disabled ({0} now)".format(
        row.get("state") or "state unknown"
    )


def extension_installer_disabled(facts, limits):
    if windows_service(facts, "msiserver").get("start_type") != "disabled":
        return None
    return "the service msiserver (Windows Installer) is disabled, so the extension cannot install what it needs"


def extension_strong_crypto_off(facts, limits):
    """Switched off is a finding; not set is one only where TLS is what failed, since newer .NET has it on by itself."""
    logged = verdict(facts, "extension.log.verdicts", "no_secure_channel")
    if get(facts, "extension.snapshot.code") is not None and not _failing(facts):
        logged = None  # of long ago: snapshots work
    failed = _said(facts, "NoSecureNetwork", "SSL/TLS secure channel") or logged
    found = []
    for entry in items(facts, "agent.dotnet.strong_crypto"):
        if entry.get("value") == 0 or (failed and entry.get("value") is None):
            found.append("{0}: SchUseStrongCrypto is {1}".format(entry.get("key"), "0" if entry.get("value") == 0 else "not set"))
    return found + quoted(facts, "extension.log", "no_secure_channel") if found else None


def extension_machine_keys_acl(facts, limits):
    folder = get(facts, "extension.machine_keys") or {}
    if folder.get("ok") is not False:
        return None
    return ["{0}: {1}".format(folder.get("path"), text) for text in folder.get("missing") or ["not the default rights"]] + [
        "its descriptor is {0}".format(folder.get("sddl"))
    ]


def extension_certificate_missing(facts, limits):
    """That there is none is only evidence where something failed for want of it: a guest without protected settings has none."""
    certificate = get(facts, "extension.certificate") or {}
    if certificate.get("problem"):
        return "LocalMachine\\My: the certificate of the agent cannot be used: {0}".format(certificate["problem"])
    said = quoted(facts, "agent.log", "certificate") + quoted(facts, "extension.log", "certificate")
    message = _said(facts, "ExtensionConfigParsingFailure", "certificate")
    if certificate.get("found") is not False or not (said or message):
        return None
    return ["LocalMachine\\My holds no certificate of the agent"] + said + (["message: {0}".format(message)] if message else [])


def extension_vc_redist_missing(facts, limits):
    if get(facts, "extension.vc_redist") != []:
        return None
    said = quoted(facts, "extension.log", "vc_redist")
    message = _said(facts, "VCRedist", "vcredist", "Visual C++")
    if not (said or message) or not (message or _failing(facts)):
        return None
    return ["no Visual C++ redistributable (12.0 or 14.0) is installed"] + said + (["message: {0}".format(message)] if message else [])


def extension_blocked(facts, limits):
    found = quoted(facts, "extension.log", "blocked") + quoted(facts, "agent.log", "blocked")
    if found and get(facts, "extension.snapshot.code") is not None and not _failing(facts):
        return None  # a snapshot was taken since, or it was another program
    return found or None
