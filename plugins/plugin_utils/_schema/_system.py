# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of VSS, of load, and of the system."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import LINUX, WINDOWS, flag, group, number, scalar, text

VSS = group(
    "writers, settings of the backup extension, SQL Server",
    {
        "bcdr": group(
            "UseVSSCopyBackup, SnapshotWithoutThreads, SnapshotMethod, CalculateSnapshotTimeFromHost; null when it is not set",
            {
                "*": group(
                    "one setting",
                    {"key": text("key of the registry", WINDOWS), "type": text("its type", WINDOWS), "value": scalar("its value", WINDOWS)},
                    WINDOWS,
                )
            },
            WINDOWS,
        ),
        "writers": [
            group(
                "VSS writers; null when vssadmin was not asked or did not answer",
                {
                    "name": text("its name", WINDOWS),
                    "id": text("its id", WINDOWS),
                    "instance_id": text("id of the instance", WINDOWS, informs=True),
                    "state_code": number("number of its state", WINDOWS),
                    "state": text("its state, in the guest's language", WINDOWS),
                    "last_error": text("its last error, in the guest's language", WINDOWS),
                    "service": text("the service whose restart brings it back", WINDOWS),
                    "failed": flag("it failed: states 6 to 15, or an error reported in one that waits", WINDOWS),
                    "waiting": flag("it waits: states 2 to 5 without an error, since a backup runs", WINDOWS),
                    "by_hand": flag(
                        "its service is restarted only when the operator names it: NTDS, vmms, MSExchangeIS, SharePoint, everything on a domain "
                        "controller",
                        WINDOWS,
                    ),
                },
                WINDOWS,
            )
        ],
        "writers_looked": flag("vssadmin was asked for the writers", WINDOWS, informs=True),
        "providers": [
            group(
                "VSS providers",
                {"name": text("its name", WINDOWS), "id": text("its id", WINDOWS), "version": text("its version", WINDOWS)},
                WINDOWS,
            )
        ],
        "shadow_storage": [
            group(
                "shadow storage",
                {
                    "volume": text("the volume", WINDOWS),
                    "storage_volume": text("where its shadow copies lie", WINDOWS),
                    "used_bytes": number("space in use", WINDOWS, informs=True),
                    "allocated_bytes": number("space that is allocated", WINDOWS, informs=True),
                    "maximum_bytes": number("its limit; null: none", WINDOWS),
                },
                WINDOWS,
            )
        ],
        "sql_server": group(
            "SQL Server",
            {"present": flag("an instance is installed", WINDOWS), "instances": [text("names of the services", WINDOWS)]},
            WINDOWS,
        ),
    },
    WINDOWS,
)

_PRESSURE = {
    "some_avg10": number("percent of 10 s in which some tasks waited", LINUX, informs=True),
    "some_avg60": number("percent of 60 s", LINUX),
    "full_avg10": number("percent of 10 s in which all tasks waited", LINUX),
}

LOAD = group(
    "processors, memory, pressure, file systems, time",
    {
        "cpu": group(
            "the processors, between two looks",
            {
                "busy_percent": number("how busy they were"),
                "steal_percent": number("time that the host gave to others", LINUX, informs=True),
                "window_ms": number("time between the two looks"),
                "count": number("how many there are"),
                "load_1m": number("load average of one minute", LINUX),
                "others_busy_percent": number("how busy they were without the diagnosis itself", WINDOWS),
            },
        ),
        "memory": group(
            "memory",
            {
                "total_bytes": number("all memory"),
                "available_bytes": number("memory that programs can have"),
                "used_percent": number("share in use"),
                "swap_total_bytes": number("all swap", informs=True),
                "swap_used_bytes": number("swap in use", informs=True),
            },
        ),
        "pressure": group(
            "pressure stall information; null where the kernel has none",
            {
                name: group("of " + words, _PRESSURE, LINUX)
                for name, words in (("cpu", "the processors"), ("memory", "memory"), ("io", "disks"))
            },
            LINUX,
        ),
        "filesystems": [
            group(
                "file systems; on Windows the fixed drives",
                {
                    "mount_point": text("where it is mounted"),
                    "device": text("its device"),
                    "fs_type": text("its type"),
                    "freezes": flag("a snapshot freezes it", LINUX),
                    "read_only": flag("it is read-only"),
                    "size_bytes": number("its size"),
                    "free_bytes": number("free space"),
                    "used_percent": number("share in use"),
                    "inodes_used_percent": number("share of inodes in use", LINUX),
                    "responds": flag("it answers in time"),
                    "directory": flag("the mount point is a folder", LINUX),
                    "duplicate": flag("its device is mounted more than once", LINUX),
                    "error": text("why it could not be read; BitLocker, for one"),
                },
            )
        ],
        "time": group(
            "the clock",
            {
                "synchronised": flag("a time service keeps it", informs=True),
                "source": text("which time service"),
                "offset_s": number("how far it is off, in seconds"),
                "unit": text(
                    "systemd's unit that is to keep it: one that runs, else one that is enabled, else any that is installed", LINUX
                ),
                "unit_state": text("its ActiveState", LINUX),
                "unit_file_state": text("whether it starts with the system: its UnitFileState", LINUX),
            },
        ),
    },
)

SYSTEM = group(
    "the guest's system, and what the collector may see",
    {
        "kind": text("the kind of system: linux or windows"),
        "kernel": text("version of the kernel"),
        "architecture": text("architecture of the processors, such as x86_64", informs=True),
        "init": text("what starts services: systemd, upstart, openrc, sysv, other", LINUX),
        "hostname": text("the guest's own name", informs=True),
        "python_version": text("version of the Python that ran the collector", LINUX, informs=True),
        "privileged": flag("the collector ran as root, or as an administrator"),
        "uptime_s": number("seconds since the guest started", informs=True),
        "utc_offset_s": number("seconds that the guest's local time is ahead of UTC at the moment"),
        "fips": flag("FIPS mode is on"),
        "image_based": flag("the system is an image that packages do not change"),
        "pending_reboot": flag("servicing or Windows Update wait for a restart", WINDOWS, informs=True),
        "powershell": group(
            "PowerShell",
            {
                "version": text("its version", WINDOWS),
                "language_mode": text("its language mode, such as FullLanguage", WINDOWS, informs=True),
                "is_64bit": flag("it runs with 64 bits", WINDOWS, informs=True),
            },
            WINDOWS,
        ),
        "distribution": group(
            "the distribution",
            {
                "id": text("its id, windows on Windows"),
                "version_id": text("its version; on Windows the build", informs=True),
                "id_like": [text("the distributions that it is like", LINUX, informs=True)],
                "pretty_name": text("its name as a person reads it"),
                "family": text("its family: debian, redhat, suse, azurelinux, flatcar, windows, other", informs=True),
            },
        ),
    },
)
