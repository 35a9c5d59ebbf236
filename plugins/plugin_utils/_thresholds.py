# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every limit that a rule compares with: name, default, unit, source."""

from collections.abc import Mapping
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._facts import MINIMUM_LINUX_AGENT, MINIMUM_WINDOWS_AGENT

THRESHOLDS = (
    ("minimum_linux_agent", MINIMUM_LINUX_AGENT, "version", "Microsoft's support policy for the agent, page of 2025-09"),
    ("minimum_windows_agent", MINIMUM_WINDOWS_AGENT, "version", "the same page"),
    ("dotnet_release", 378389, "Release", "lowest value of .NET Framework 4.5 in the registry, which the Windows agent needs"),
    ("minimum_snapshot_extension", "1.0.91.0", "version", "Microsoft's article of 2016-10, the version that it asks for"),
    ("heartbeat_age_s", 5400, "seconds", "the agent writes a heartbeat every 30 minutes; three in a row are missing"),
    ("handler_missing_s", 180, "seconds", "the daemon starts its handler at once; finding the host by DHCP may take 160 s before"),
    (
        "handler_failures_per_hour",
        3,
        "failures",
        "the agent itself rejects a version of it after three failures (MAX_FAILURE in its guestagent.py)",
    ),
    ("starts_per_hour", 10, "starts", "a daemon that lives starts once; systemd gives up after 5 in 10 s, slower loops go on for ever"),
    ("conf_margin_s", 2, "seconds", "the kernel tells when a process started to a second"),
    (
        "goal_state_error_age_s",
        25200,
        "seconds",
        "the agent repeats the error every 6 hours only, and says when it has recovered",
    ),
    ("report_age_s", 1800, "seconds", "the agent reports every few seconds to every 5 minutes"),
    ("snapshot_stuck_s", 600, "seconds", "a freeze ends after 66 s, the host's call after 40 s; ten minutes are far beyond both"),
    (
        "snapshot_no_status_s",
        300,
        "seconds",
        "the extension says that it runs within 5 s of its settings; the agent reports a missing status for ever",
    ),
    ("lib_dir_free_bytes", 67108864, "bytes", "room for one extension's package, unpacked, and its logs"),
    ("cpu_busy_percent", 90, "percent", "Microsoft's article: the snapshot task is delayed above 90 %"),
    ("cpu_load_per_processor", 0.9, "processes", "the same 90 %, over the last minute: tells a lasting load from the moment of looking"),
    ("memory_used_percent", 90, "percent", "Microsoft's article: the snapshot task is delayed above 90 %"),
    (
        "memory_available_bytes",
        2147483648,
        "bytes",
        "with SQL Server, which takes what there is and gives it back: room for agent and extension",
    ),
    ("io_pressure_percent", 40, "percent", "full_avg10 of /proc/pressure/io; all tasks waited for storage that long, so a freeze will too"),
    ("filesystem_used_percent", 90, "percent", "Microsoft's VM assist tool"),
    ("filesystem_free_bytes", 21474836480, "bytes", "room for logs, packages and shadow copies, whatever its share of a large disk is"),
    ("inodes_used_percent", 95, "percent", "the extension creates files for status, logs and its next version"),
    (
        "windows_heartbeat_age_s",
        1800,
        "seconds",
        "the Windows agent keeps its heartbeat in the registry; it reports every few seconds to 5 minutes",
    ),
    (
        "windows_first_heartbeat_s",
        900,
        "seconds",
        "time that an agent gets after its start; Microsoft's own example takes 620 s to the first one",
    ),
    ("shadow_storage_bytes", 335544320, "bytes", "VSS needs 320 MiB on every drive above 500 MiB for a shadow copy"),
    ("disk_gb", 32767, "GB", "Microsoft's support matrix for VM backup: disks up to 32 TB"),
    ("encrypted_disk_gb", 4095, "GB", "Microsoft's article on UserErrorUnsupportedDiskSize: 4 TB with Azure Disk Encryption"),
    ("data_disks", 32, "disks", "Microsoft's support matrix for VM backup"),
    (
        "vms_per_start_time",
        100,
        "VMs",
        "Microsoft's questions and answers on VM backup: at most 100 VMs at one policy, further ones at another time",
    ),
    ("clock_offset_s", 300, "seconds", "signatures for storage are refused when the clock is off by more"),
)

DEFAULTS = {name: default for name, default, _unit, _source in THRESHOLDS}


def merged(overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return all limits with the operator's own.

    :raises ValueError: one sentence, for a name that does not exist or a value of the wrong kind.
    """
    limits: dict[str, Any] = dict(DEFAULTS)
    for name, value in (overrides or {}).items():
        if name not in limits:
            raise ValueError("thresholds: Unknown threshold {0!r}; valid names: {1}.".format(name, ", ".join(sorted(limits))))
        default = limits[name]
        if isinstance(default, str):
            if not all(part.isdigit() for part in str(value).split(".")):
                raise ValueError("thresholds: {0} must be a version like {1}, not {2!r}.".format(name, default, value))
            limits[name] = str(value)
            continue
        try:
            limits[name] = float(value)
        except (TypeError, ValueError):
            raise ValueError("thresholds: {0} must be a number, not {1!r}.".format(name, value)) from None
        if limits[name] != limits[name] or limits[name] < 0:
            raise ValueError("thresholds: {0} must not be below 0, got {1!r}.".format(name, value))
    return limits
