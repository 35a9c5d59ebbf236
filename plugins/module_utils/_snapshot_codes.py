# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Result codes of VMSnapshotLinux: code to name and to the finding that explains it (None: nothing is wrong).

Source: VMBackup/main/common.py and ExtensionErrorCodeHelper.py of Azure/azure-linux-extensions (manifest 1.0.9184).
"""

RUNNING = 4

CODES = {
    0: ("SuccessAppConsistent", None),
    1: ("Success", None),
    2: ("Error", "snapshot_failed"),
    3: ("SuccessAlreadyProcessedInput", None),
    4: ("ExtensionTempTerminalState", "snapshot_stuck"),
    11: ("ErrorParameter", "snapshot_parameter_missing"),
    12: ("ErrorNoSuchFile", "snapshot_file_missing"),
    13: ("ErrorWrongTime", "snapshot_wrong_time"),
    14: ("ErrorSameTaskId", None),
    15: ("ErrorHttpFailure", "snapshot_no_network"),
    16: ("FailedHandlerGuestAgentCertificateNotFound", "snapshot_certificate_missing"),
    17: ("FailedInvalidDataDiskLunList", "snapshot_disk_list_invalid"),
    76: ("FailedRetryableSnapshotFailedNoNetwork", "snapshot_no_network"),
    85: ("FailedSnapshotLimitReached", "snapshot_limit_reached"),
    121: ("FsFreezeFailed", "fs_freeze_failed"),
    122: ("FsFreezeTimeout", "fs_freeze_timeout"),
    123: ("UnableToOpenMount", "mount_open_failed"),
    124: ("SafeFreezeBinaryNotFound", "safefreeze_missing"),
    173: ("FailedRetryableSnapshotRateExceeded", "snapshot_rate_exceeded"),
    300: ("PreScriptFailed", "script_failed"),
    301: ("PostScriptFailed", "script_failed"),
    302: ("PreScriptNotFound", "script_not_found"),
    303: ("PostScriptNotFound", "script_not_found"),
    304: ("PluginHostConfigParsing", "script_config_invalid"),
    305: ("PluginConfigParsing", "script_config_invalid"),
    306: ("PreScriptPermission", "script_permission"),
    307: ("PostScriptPermission", "script_permission"),
    308: ("PreScriptTimeout", "script_timeout"),
    309: ("PostScriptTimeout", "script_timeout"),
    310: ("PluginHostPreTimeout", "script_timeout"),
    311: ("PluginHostPostTimeout", "script_timeout"),
    312: ("CheckSumMismatch", "script_checksum_mismatch"),
    313: ("PluginHostConfigNotFound", "script_not_found"),
    314: ("PluginHostConfigPermission", "script_permission"),
    315: ("PluginHostConfigOwner", "script_permission"),
    316: ("PluginConfigNotFound", "script_not_found"),
    317: ("PluginConfigPermission", "script_permission"),
    318: ("PluginConfigOwner", "script_permission"),
    402: ("FailedGuestAgentInvokedCommandTooLate", "snapshot_command_late"),
    500: ("WorkloadPreError", "workload_failed"),
    501: ("WorkloadConfParsing", "workload_failed"),
    502: ("WorkloadInvalidRole", "workload_failed"),
    503: ("WorkloadInvalidWorkloadName", "workload_failed"),
    504: ("WorkloadPostError", "workload_failed"),
    505: ("WorkloadAuthorizationMissing", "workload_failed"),
    506: ("WorkloadConnectionError", "workload_failed"),
    507: ("WorkloadIpcDirectoryMissing", "workload_failed"),
    508: ("WorkloadDatabaseStatusChanged", "workload_failed"),
    509: ("WorkloadQuiescingError", "workload_failed"),
    510: ("WorkloadQuiescingTimeout", "workload_failed"),
    511: ("WorkloadNoArchiveLog", "workload_failed"),
    512: ("WorkloadLogModeChanged", "workload_failed"),
    556: ("FailedHostSnapshotRemoteServerError", "snapshot_host_failed"),
    761: ("FailedRetryableSnapshotFailedRestrictedNetwork", "snapshot_no_network"),
}

# Answers of the host to the extension's snapshot calls, from the telemetry in its status; 200 and 201 are good.
HOST_CODES = {
    555: "the call failed: the host address could not be reached",
    556: "the backup service of the host does not run",
    557: "the host answered with an empty body",
    558: "the call ended in an exception",
}


# Findings that name what only Linux guests have. Windows shares the numbers of the others; of these it is not known what they mean there.
LINUX_ONLY = (
    "fs_freeze_failed",
    "fs_freeze_timeout",
    "mount_open_failed",
    "safefreeze_missing",
    "script_checksum_mismatch",
    "script_config_invalid",
    "script_failed",
    "script_not_found",
    "script_permission",
    "script_timeout",
    "workload_failed",
)


def _known(code, kind):
    return code in CODES and not (kind == "windows" and CODES[code][1] in LINUX_ONLY)


def name_of(code, kind="linux"):
    """Return the name of a result code, None for None or for a code that is not known on that kind of system."""
    return CODES[code][0] if _known(code, kind) else None


def finding_of(code, kind="linux"):
    """Return the id of the finding that explains a result code; an unknown code is a plain failure, None is no finding."""
    if code is None:
        return None
    return CODES[code][1] if _known(code, kind) else "snapshot_failed"
