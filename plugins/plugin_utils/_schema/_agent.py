# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of the agent."""

from __future__ import annotations

from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import LINUX, WINDOWS, flag, group, number, scalar, text
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._shared import LOG

PROCESS = {
    "pid": number("process id"),
    "age_s": number("seconds since it started"),
    "started_at": text("when it started"),
    "version": text("the agent's version that its command line or program tells"),
    "command": text("its command line, without secrets"),
}


def _program(what: str) -> dict[str, Any]:
    return group(
        what,
        {"path": text("path that the agent uses"), "exists": flag("it is there"), "resolved": text("the file behind the links")},
        LINUX,
    )


SERVICE = group(
    "the agent's unit; null on Windows, and where there is no unit",
    {
        "manager": text("the service manager: systemd, upstart or sysv", LINUX),
        "unit": text("name of the unit", LINUX),
        "load_state": text("its LoadState", LINUX),
        "active_state": text("its ActiveState", LINUX),
        "sub_state": text("its SubState", LINUX),
        "unit_file_state": text("its UnitFileState, such as enabled or disabled", LINUX),
        "masked": flag("the unit is masked", LINUX),
        "restart": text("the unit's Restart=", LINUX),
        "result": text("why it ended last", LINUX),
        "exit_status": scalar("exit status of its main process", LINUX),
        "start_limit_hit": flag("systemd gave up starting it", LINUX),
        "restarts": number("how often systemd started it again", LINUX),
        "condition_result": flag("its conditions were met", LINUX),
        "conditions_failed": [text("conditions that were not met", LINUX)],
        "fragment_path": text("file of the unit", LINUX, informs=True),
        "drop_ins": [text("drop-ins of the unit", LINUX, informs=True)],
        "exec_start": text("its command", LINUX, informs=True),
        "main_pid": number("its main process", LINUX, informs=True),
        "active_since": text("when it became active", LINUX, informs=True),
        "candidates": [text("every name of an agent's unit that was found", LINUX, informs=True)],
    },
    LINUX,
)

SERVICES = [
    group(
        "the services that backup depends on: RdAgent, WindowsAzureGuestAgent, WindowsAzureTelemetryService, IaaSVmProvider, VSS, swprv, COMSysApp, "
        "EventSystem, MSDTC, SQLWriter, KeyIso, Winmgmt, CryptSvc, msiserver, W32Time, and every SQL Server instance",
        {
            "name": text("name of the service", WINDOWS),
            "exists": flag("there is such a service", WINDOWS),
            "start_type": text("how it starts: auto, delayed, manual, disabled, boot or system", WINDOWS),
            "state": text("its state: running, stopped, paused, or one of start, stop, continue and pause with _pending", WINDOWS),
            "pid": number("its process", WINDOWS),
            "account": text("the account that it runs as", WINDOWS),
            "image_path": text("its command", WINDOWS),
            "image_exists": flag("its program is there", WINDOWS),
            "failure_actions": group(
                "what Windows does when it fails; null when damaged",
                {
                    "restart": flag("it is started again", WINDOWS),
                    "reset_s": number("seconds after which failures are forgotten; null: never", WINDOWS, informs=True),
                    "actions": [
                        group(
                            "what is done in turn",
                            {
                                "type": text("the action: none, restart, reboot or run", WINDOWS),
                                "delay_ms": number("after how long", WINDOWS, informs=True),
                            },
                            WINDOWS,
                        )
                    ],
                },
                WINDOWS,
            ),
        },
        WINDOWS,
    )
]

PACKAGE = group(
    "the agent's package; null without one",
    {
        "manager": text("the package manager: apt, dnf, yum, zypper, tdnf or msi"),
        "name": text("name of the package, or the product's name"),
        "installed": flag("it is installed"),
        "version": text("installed version"),
        "candidate": text("version that the repositories offer", LINUX),
        "candidate_looked": flag("the repositories were asked", LINUX),
        "held": flag("it is held, locked or excluded", LINUX),
        "repositories_disabled": [text("repositories that have the package and are switched off", LINUX)],
        "product_code": text("product code of the MSI", WINDOWS, informs=True),
        "state": text(
            "its state: installed; half-installed, half-configured, unpacked or duplicate when an installation was interrupted", LINUX
        ),
        "older_versions": [text("other entries of a duplicate in rpm's database", LINUX)],
        "unfinished_others": [text("other packages whose installation dpkg did not finish", LINUX)],
    },
)

CONFIG = group(
    "waagent.conf",
    {
        "path": text("its path", LINUX),
        "exists": flag("it is there", LINUX),
        "readable": flag("it could be read", LINUX),
        "problem": text("why it cannot be used", LINUX),
        "empty": flag("it holds no setting", LINUX),
        "modified_at": text("when it was changed last", LINUX),
        "values": group(
            "by key: what is set, with the agent's defaults",
            {
                "*": group(
                    "one key",
                    {
                        "value": text("as it is written", LINUX),
                        "effective": scalar("as the agent takes it", LINUX),
                        "source": text("where it comes from: file or default", LINUX),
                        "line": number("the line that counts", LINUX),
                        "lines": [number("all lines with this key", LINUX)],
                        "valid": flag("the agent can use it", LINUX),
                    },
                    LINUX,
                )
            },
            LINUX,
        ),
        "duplicates": [
            group("keys that are set more than once", {"key": text("the key", LINUX), "lines": [number("its lines", LINUX)]}, LINUX)
        ],
        "loose": [
            group(
                "lines that the agent accepts and the backup extension does not",
                {"key": text("the key", LINUX), "line": number("its line", LINUX)},
                LINUX,
            )
        ],
        "unknown_backup_keys": [
            group(
                "keys of backup that nobody reads",
                {
                    "key": text("as it is written", LINUX),
                    "line": number("its line", LINUX),
                    "meant": text("the key that was probably meant", LINUX),
                },
                LINUX,
            )
        ],
    },
    LINUX,
)

AGENT = group(
    "the guest agent, and on Windows the services that backup depends on",
    {
        "service": SERVICE,
        "services": SERVICES,
        "binary": text("path of the agent's program; on Windows RdAgent's when that is all there is"),
        "package": PACKAGE,
        "installed_by": text("what installed it: msi or platform", WINDOWS),
        "code": group(
            "the agent's own source file that tells its version",
            {"path": text("its path", LINUX), "local": flag("it lies below /usr/local, which Python takes before the package's", LINUX)},
            LINUX,
        ),
        "version": group(
            "the agent's versions",
            {
                "daemon": text("version of the daemon, on Windows of RdAgent"),
                "goal_state": text("version of the process that handles the goal state: the one that counts"),
                "goal_state_source": text("where it was read: process, log, status, installed; on Windows program or registry"),
            },
        ),
        "processes": group(
            "the agent's processes",
            {
                "daemon": [group("the daemon; on Windows WaAppAgent", PROCESS)],
                "handler": [group("what runs extensions; on Windows WindowsAzureGuestAgent", PROCESS)],
            },
        ),
        "handler_failures": group(
            "failures of the extension handler that the daemon saw in the last hour since its own last start",
            {"count": number("how many", LINUX), "last_at": text("when the newest was", LINUX), "line": text("the newest line", LINUX)},
            LINUX,
        ),
        "heartbeat": group(
            "the agent's newest heartbeat: of its log, on Windows of the registry first",
            {
                "at": text("when it was written"),
                "age_s": number("seconds since then"),
                "version": text("the version that wrote it"),
                "periodic": flag(
                    "heartbeats are written again and again; false for the line that old agents write only once, when they start", LINUX
                ),
            },
        ),
        "config": CONFIG,
        "markers": group(
            "files that change what the agent does",
            {
                "disable_agent": flag("the marker disable_agent is there", LINUX),
                "pid_file": group(
                    "the daemon's pid file",
                    {
                        "path": text("its path", LINUX),
                        "exists": flag("it is there", LINUX),
                        "pid": number("the process that it names", LINUX),
                        "alive": flag("that process runs", LINUX, informs=True),
                        "agent": flag("that process is the agent", LINUX),
                        "stale": flag("it names a process that is not the agent", LINUX),
                        "command": text("that process's command line", LINUX),
                    },
                    LINUX,
                ),
                "policy": group(
                    "the agent's policy on extensions",
                    {
                        "enabled": flag("the agent follows a policy", LINUX),
                        "path": text("its file", LINUX),
                        "exists": flag("the file is there", LINUX),
                    },
                    LINUX,
                ),
            },
            LINUX,
        ),
        "auto_update": group(
            "what the agent downloaded to update itself",
            {
                "directories": [
                    group(
                        "one version",
                        {
                            "version": text("the version", LINUX),
                            "path": text("its folder", LINUX),
                            "failure_count": number("how often it failed", LINUX),
                            "was_fatal": flag("the agent gave it up", LINUX),
                            "reason": text("the reason that was kept", LINUX),
                            "rejected": flag("the agent will not start it", LINUX),
                        },
                        LINUX,
                    )
                ]
            },
            LINUX,
        ),
        "lib_dir": group(
            "the agent's folder, /var/lib/waagent, and its file system",
            {
                "path": text("its path", LINUX),
                "exists": flag("it is there", LINUX),
                "mount_point": text("mount point of its file system", LINUX),
                "fs_type": text("type of the file system", LINUX),
                "options": [text("mount options", LINUX)],
                "noexec": flag("nothing can be executed there", LINUX),
                "read_only": flag("nothing can be written there", LINUX),
                "free_bytes": number("free space", LINUX),
                "size_bytes": number("its size", LINUX),
                "free_inodes": number("free inodes", LINUX),
                "inodes": number("all inodes", LINUX),
            },
            LINUX,
        ),
        "python": _program("the Python that runs the agent"),
        "openssl": _program("the openssl that the agent calls"),
        "log": LOG,
        "registry": group(
            "guest and agent: the values of Virtual Machine\\Guest and GuestAgent, by name",
            {
                "*": group(
                    "one key of the registry",
                    {
                        "*": group(
                            "one value", {"type": text("its type, such as REG_SZ", WINDOWS), "value": scalar("its data", WINDOWS)}, WINDOWS
                        )
                    },
                    WINDOWS,
                )
            },
            WINDOWS,
        ),
        "update_state": [
            group(
                "updates of the agent, newest first",
                {
                    "version": text("the version", WINDOWS),
                    "code": number("code of the outcome", WINDOWS),
                    "message": text("what was said", WINDOWS),
                    "state": text("the outcome", WINDOWS),
                },
                WINDOWS,
            )
        ],
        "dotnet": group(
            ".NET Framework, which the agent runs on",
            {
                "release": number("Release of the registry", WINDOWS),
                "version": text("its version", WINDOWS),
                "enable_64bit": scalar("Enable64Bit; null when it is not set", WINDOWS),
                "strong_crypto": [
                    group(
                        "SchUseStrongCrypto",
                        {
                            "key": text("key of the registry", WINDOWS),
                            "view": number("view of the registry: 64 or 32", WINDOWS, informs=True),
                            "value": scalar("its value", WINDOWS),
                        },
                        WINDOWS,
                    )
                ],
            },
            WINDOWS,
        ),
    },
)
