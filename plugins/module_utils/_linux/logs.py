# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Phrases in the logs of agent and extension that say something about backup."""

import re
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch, iso

# phrase (part of a line), meaning. The meaning is the word that rules ask for.
# Source: azurelinuxagent/ga/update.py, exthandlers.py, daemon/main.py of WALinuxAgent 2.15.
AGENT_PHRASES = (
    ("is running as the goal state agent", "heartbeat"),
    ("ProcessExtensionsGoalState completed", "goal_state_done"),
    ("All extensions in the goal state have reached a terminal state", "goal_state_done"),
    ("Fetching the goal state recovered from previous errors", "goal_state_done"),
    ("Error fetching the goal state", "goal_state_error"),
    ("Fetching the goal state is still failing", "goal_state_error"),
    ("Protocol endpoint not found", "no_endpoint"),
    ("Retry detect protocol", "no_endpoint"),
    ("Waiting for network.", "no_endpoint"),
    ("/machine/?comp=goalstate -- IOError timed out", "wireserver_timeout"),
    ("Disabling the guest agent by sleeping forever", "disabled_by_marker"),
    ("will not be processed since extension processing is disabled", "extensions_disabled"),
    ("not specified as an allowed extension", "extension_forbidden"),
    ("Extension handling is on hold", "on_hold"),
    ("did not terminate cleanly", "unclean_exit"),
    ("no status file was reported by extension Microsoft.Azure.RecoveryServices.VMSnapshotLinux", "no_status"),
)

# Source: VMBackup/main/*.py of Azure/azure-linux-extensions, manifest 1.0.9184.
EXTENSION_PHRASES = (
    ("T:S freeze, timeout value", "freeze_begins"),
    ("freeze took longer than timeout", "freeze_timeout"),
    ("freeze timed-out", "freeze_timeout"),
    ("freeze failed for some mount", "freeze_failed"),
    ("Failed to FIFREEZE:", "freeze_failed"),
    ("Failed to FITHAW:", "thaw_failed"),
    ("file open failed for some mount", "mount_open_failed"),
    ("Failed to open:", "mount_open_failed"),
    ("Failed to receive timely Thaw from parent process", "thaw_late"),
    ("Mount Points already freezed by some other processor", "freeze_lock_held"),
    ("Enable failed with FailedRetryableSnapshotFailedNoNetwork error", "no_network"),
    ("snapshot HttpCallGetResponse failed", "no_network"),
    ("Failed to call http with error", "no_network"),
    ("Hitting wrong WireServer IP", "host_call_failed"),
    ("taking snapshot failed as blobs are empty or none", "parameter_missing"),
    ("CRP timeout limit has reached, will not take snapshot.", "command_late"),
    ("unable to load certificate", "certificate"),
    ("CMS decryption failed", "certificate"),
    ("JSON exception decoding decrypted protected settings", "certificate"),
    ("safefreeze binary is missing", "safefreeze_missing"),
    ("cannot write status to the status blob", "status_upload_failed"),
    ("The snapshot count against this blob has been exceeded", "snapshot_limit"),
    ("The rate of snapshot blob calls is exceeded", "snapshot_rate"),
    ("Failed to call the daemon", "daemon_failed"),
    # Codes that its own table lacks never come to its status, which stays at "still running".
    ("FailedHostSnapshotRemoteServerError", "host_code_lost"),
    ("cannot get status report parameters , Exception 556", "host_code_lost"),
    ("cannot get status report parameters , Exception 173", "rate_code_lost"),
    ("the sequence number are same, so skip", "same_sequence"),
)

_STAMP = re.compile(r"^\s*(\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d)")


def stamp(line):
    """Return the time at the start of a line in seconds since the epoch, None for a line that carries none.

    Agents that write their dates with slashes write the guest's local time, newer ones UTC.
    """
    found = _STAMP.match(line)
    if not found:
        return None
    if found.group(1)[4] == "-":
        return epoch(found.group(1))
    try:
        return time.mktime(time.strptime(found.group(1).replace("T", " "), "%Y/%m/%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def verdicts(lines, phrases):
    """Return what the lines say, newest line of each phrase: phrase, meaning, at, count, line (secrets masked)."""
    found = {}
    last = None
    for line in lines:
        if not line.strip():
            continue
        at = stamp(line)
        last = at if at is not None else last
        for phrase, meaning in phrases:
            if phrase in line:
                entry = found.setdefault(phrase, {"phrase": phrase, "meaning": meaning, "count": 0})
                entry["count"] += 1
                entry["at"] = iso(last)
                entry["line"] = line
    result = [found[phrase] for phrase, _meaning in phrases if phrase in found]
    for entry in result:
        entry["line"] = public_line(entry["line"])
    return result
