# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cause 3: the backup extension does not load or update. One function per finding, named after it."""

from ansible_collections.vmbackup.azure.plugins.module_utils.linux.extension import SNAPSHOT
from ansible_collections.vmbackup.azure.plugins.module_utils.linux.host import version_key
from ansible_collections.vmbackup.azure.plugins.module_utils.rules._common import get, items
from ansible_collections.vmbackup.azure.plugins.module_utils.rules.snapshot import coded

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


def _broken(handler):
    """Return in words what is wrong with a handler, None when nothing is known to be."""
    code = handler.get("code")
    if handler.get("status") in (None, "Ready", "Installing") and code in (None, 0) and handler.get("state") != "FailedUpgrade":
        return None
    words = HANDLER_CODES.get(code)
    text = "{0} {1}: state {2}, status {3}, code {4}".format(
        handler.get("name"), handler.get("version"), handler.get("state"), handler.get("status"), code
    )
    text += " ({0})".format(words) if words else ""
    return text + (": {0}".format(handler["message"]) if handler.get("message") else "")


def _handlers(facts):
    """Return the handlers on disk and those that the agent reports but could not even unpack."""
    found = list(items(facts, "extension.handlers"))
    names = {handler.get("name") for handler in found}
    report = get(facts, "extension.aggregate") or {}
    return found + [dict(handler, state=None) for handler in report.get("handlers") or [] if handler.get("name") not in names]


def snapshot_extension_failed(facts, limits):
    found = [_broken(handler) for handler in _handlers(facts) if handler.get("name") == SNAPSHOT]
    return [text for text in found if text] or None


def extension_failed(facts, limits):
    found = [_broken(handler) for handler in _handlers(facts) if handler.get("name") != SNAPSHOT]
    return [text for text in found if text] or None


def snapshot_extension_old(facts, limits):
    version = get(facts, "extension.snapshot.version")
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
