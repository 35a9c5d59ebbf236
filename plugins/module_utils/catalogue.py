# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every finding: what it is called, how much it weighs, what answers it. Data only; the rules are in rules/<cause>.py, named after the id.

``remedy`` is a role and one of its entry points. A finding without one is for a person: ``action`` says what to do.
The order within a cause is the order of repair. ``windows`` holds what is different on a Windows guest, ``only`` the system that alone has it.
"""

CAUSES = {1: "connectivity", 2: "agent", 3: "extension", 4: "snapshot"}

_LEARN = "https://learn.microsoft.com/"
ARTICLE = _LEARN + "azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout"
ERRORS = _LEARN + "azure/backup/backup-azure-vms-troubleshoot"
HOST_ADDRESS = _LEARN + "azure/virtual-network/what-is-ip-address-168-63-129-16"
LINUX_AGENT = _LEARN + "azure/virtual-machines/extensions/agent-linux"
UPDATE_AGENT = _LEARN + "azure/virtual-machines/extensions/update-linux-agent"
AGENT_SUPPORT = _LEARN + "troubleshoot/azure/virtual-machines/windows/support-extensions-agent-version"
WINDOWS_AGENT = _LEARN + "azure/virtual-machines/extensions/agent-windows"
WINDOWS_TROUBLE = _LEARN + "troubleshoot/azure/virtual-machines/windows/windows-azure-guest-agent"
SCRIPTS = _LEARN + "azure/backup/backup-azure-linux-app-consistent"

STATUS = ("GuestAgentSnapshotTaskStatusError",)
AGENT = STATUS + (
    "UserErrorGuestAgentStatusUnavailable",
    "ExtensionOperationFailedForManagedDisks",
    "BackUpOperationFailed",
    "BackUpOperationFailedV2",
)
NETWORK = STATUS + (
    "ExtensionSnapshotFailedNoNetwork",
    "ExtensionOperationFailedForManagedDisks",
    "BackUpOperationFailed",
    "BackUpOperationFailedV2",
)
NO_AGENT = AGENT + ("UserErrorVmNotInDesirableState", "VmNotInDesirableState", "AzureVmOffline")
STATE = ("UserErrorVmProvisioningStateFailed", "UserErrorGuestAgentStatusUnavailable")
FREEZE = ("UserErrorFsFreezeFailed",)
MOUNT = ("UserErrorUnableToOpenMount", "UserErrorFsFreezeFailed")
COM = ("ExtensionSnapshotFailedCOM", "ExtensionInstallationFailedCOM")
WRITERS = ("ExtensionFailedVssWriterInBadState",)
VSS = ("ExtensionFailedVssServiceInBadState",)
SECURE = ("ExtensionSnapshotFailedNoSecureNetwork",)
REDIST = ("ExtensionVCRedistInstallationFailure",)
CRYPTO = ("ExtensionConfigParsingFailure",)
RESOURCES = ("ExtensionFailedTimeoutVMNetworkUnresponsive",)

_ROWS = []
_UNDO = "ansible-playbook vmbackup.azure.undo"


def _answer(remedy, consent):
    mode = "manual" if remedy is None else ("consent" if consent else "auto")
    return {"remedy": remedy, "mode": mode, "consent": "vmbackup_allow_" + consent if consent else None}


def _add(
    cause, id_, severity, title, action, remedy=None, consent=None, codes=(), doc=ARTICLE, undo=None, side="guest", windows=None, only=None
):
    row = {"id": id_, "cause": cause, "severity": severity, "title": title, "action": action}
    row.update(_answer(remedy, consent))
    row.update(side=side, codes=list(codes), doc=doc, undo=undo, only=only)
    if windows:
        row["windows"] = dict(windows)
        if "remedy" in windows:
            row["windows"].update(_answer(windows["remedy"], windows.get("consent")))
            row["windows"].setdefault("undo", _UNDO if windows["remedy"] else None)
    _ROWS.append(row)


# Cause 1: connectivity.
_add(
    1, "route_wireserver_missing", "blocker", "No route to the Azure host", codes=NETWORK, doc=HOST_ADDRESS,
    action="Remove the route or rule that takes 168.63.129.16 away, and see that the primary interface has its default route.",
    windows={
        "remedy": "connectivity.azure_routes",
        "consent": "routes",
        "action": "Remove the route that takes 168.63.129.16 away, or add one over the gateway of the primary interface.",
    },
)  # fmt: skip
_add(
    1, "route_wireserver_not_primary", "risk", "The route to the Azure host leaves by the wrong interface", codes=NETWORK, doc=HOST_ADDRESS,
    action="Lead 168.63.129.16 to the gateway of the primary interface; look for a VPN or a second interface that took the default route.",
    windows={
        "remedy": "connectivity.azure_routes",
        "consent": "routes",
        "action": "Lead 168.63.129.16 to the gateway of the primary interface; look for a VPN or a second interface that took the default route.",
    },
)  # fmt: skip
_add(
    1, "mac_address_foreign", "notice", "The network configuration names a MAC address of another machine", codes=NETWORK, doc=HOST_ADDRESS,
    action="Correct or remove the address; a machine that was copied or got a new network interface loses its network at the next boot.",
)  # fmt: skip
_add(
    1, "firewall_blocks_host", "blocker", "The guest's own packet filter blocks the Azure host", codes=NETWORK, doc=HOST_ADDRESS,
    action="Remove the rule shown, or put before it one that lets root reach 168.63.129.16 on TCP ports 80 and 32526.",
    windows={
        "remedy": "connectivity.firewall",
        "consent": "firewall",
        "action": "Disable the rule shown, or let it leave out 168.63.129.16 on TCP ports 80 and 32526; a rule of a group policy must be changed there.",
    },
)  # fmt: skip
_add(
    1, "wireserver_unreachable", "blocker", "The Azure host does not answer on port 80 (WireServer)", codes=NETWORK, doc=HOST_ADDRESS,
    action="Let the guest reach 168.63.129.16 on TCP port 80: routes, packet filter and third-party security software in the guest.",
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Let the guest reach 168.63.129.16 on TCP port 80: routes, Windows Firewall and third-party security software in the guest.",
    },
)  # fmt: skip
_add(
    1, "hostgaplugin_unreachable", "blocker", "The Azure host does not answer on port 32526 (HostGAPlugin)", codes=NETWORK, doc=HOST_ADDRESS,
    action="Let the guest reach 168.63.129.16 on TCP port 32526: routes, packet filter and third-party security software in the guest.",
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Let the guest reach 168.63.129.16 on TCP port 32526: routes, Windows Firewall and third-party security software in the guest.",
    },
)  # fmt: skip
_add(
    1, "storage_unreachable", "risk", "A storage endpoint of the region cannot be reached", codes=NETWORK,
    action="Allow TCP port 443 to storage in firewall and network security group. Not needed while the Azure host relays for the guest.",
    windows={
        "remedy": "connectivity.azure_routes",
        "consent": "routes",
        "action": "Allow TCP port 443 to storage in firewall and network security group, or route it past a forced tunnel. Not needed while the "
        "Azure host relays for the guest.",
    },
)  # fmt: skip
_add(
    1, "proxy_unreachable", "risk", "The agent's proxy does not answer", codes=NETWORK, doc=LINUX_AGENT,
    action="Start the proxy, allow the guest to reach it, or remove HttpProxy.Host and HttpProxy.Port and restart the agent.",
    windows={
        "remedy": "connectivity.proxy",
        "consent": "proxy",
        "action": "Start the proxy, allow the guest to reach it, or remove it for the SYSTEM account and WinHTTP.",
    },
)  # fmt: skip
_add(
    1, "proxy_incomplete", "risk", "The agent's proxy is half configured", codes=NETWORK, doc=LINUX_AGENT,
    action="Set both HttpProxy.Host and HttpProxy.Port in the agent's configuration, or neither, and restart the agent.",
)  # fmt: skip
_add(
    1, "proxy_without_bypass", "notice", "A proxy is set without an exception for the Azure host", codes=NETWORK, doc=LINUX_AGENT,
    action="Add 168.63.129.16,169.254.169.254 to no_proxy wherever the proxy is set.",
    windows={
        "remedy": "connectivity.proxy",
        "consent": "proxy",
        "doc": WINDOWS_AGENT,
        "action": "Add 168.63.129.16;169.254.169.254 to the exceptions wherever the proxy is set.",
    },
)  # fmt: skip
_add(
    1, "imds_unreachable", "notice", "The instance metadata service does not answer",
    action="Let the guest reach 169.254.169.254 on TCP port 80 without a proxy. Backup itself does not need it.", doc=HOST_ADDRESS,
)  # fmt: skip

# Cause 2: the agent.
_add(
    2, "agent_missing", "blocker", "The guest agent is not installed", codes=NO_AGENT, doc=LINUX_AGENT, remedy="agent.install", undo=_UNDO,
    action="Install the agent from the distribution's repository.",
    windows={
        "remedy": "agent.install",
        "consent": "agent_install",
        "doc": WINDOWS_AGENT,
        "action": "Install the agent from the MSI that Microsoft publishes; name it with its checksum in agent_msi and allow it.",
    },
)  # fmt: skip
_add(
    2, "agent_not_from_package", "notice", "The guest agent was not installed from a package", codes=AGENT, doc=UPDATE_AGENT,
    action="Replace it by the distribution's package; Microsoft advises against code from the agent's source site.",
)  # fmt: skip
_add(
    2, "agent_version_old", "risk", "The guest agent is older than Azure supports", codes=AGENT, doc=AGENT_SUPPORT, remedy="agent.update",
    undo=_UNDO, action="Update the agent from the distribution's repository.",
    windows={
        "remedy": "agent.update",
        "consent": "agent_install",
        "action": "Update the agent from the MSI that Microsoft publishes; name it with its checksum in agent_msi and allow it. Not while a backup runs.",
    },
)  # fmt: skip
_add(
    2, "agent_package_held", "risk", "The guest agent is old, and its package is held back", codes=AGENT, doc=AGENT_SUPPORT,
    remedy="agent.update", consent="package_unhold", undo=_UNDO,
    action="Find out who held it and why; then allow the update. The hold is put back afterwards.",
)  # fmt: skip
_add(
    2, "agent_version_old_no_package", "risk", "The guest agent is old, and the repositories have no newer one", codes=AGENT, doc=UPDATE_AGENT,
    action="Ask the distribution's support for a newer package; on Oracle Linux enable the add-ons repository, on RHEL check the "
    "subscription or update infrastructure. Do not install from source.",
)  # fmt: skip
_add(
    2, "agent_restart_pending", "risk", "A newer agent is installed, but the old one still runs", codes=AGENT, doc=UPDATE_AGENT,
    remedy="agent.service", action="Restart the agent's service when no backup runs.",
)  # fmt: skip
_add(
    2, "agent_conf_missing", "blocker", "The agent's configuration is missing", codes=AGENT, doc=LINUX_AGENT,
    action="Bring /etc/waagent.conf back from a backup or from the package (apt: reinstall with --force-confmiss; dnf, zypper: reinstall).",
)  # fmt: skip
_add(
    2, "agent_conf_unreadable", "blocker", "The agent cannot read its configuration", codes=AGENT, doc=LINUX_AGENT,
    action="Correct the file by hand, or bring /etc/waagent.conf back from a backup or from the package. Do not restart the agent before.",
)  # fmt: skip
_add(
    2, "agent_conf_empty", "blocker", "The agent's configuration is empty", codes=AGENT, doc=LINUX_AGENT,
    action="Bring /etc/waagent.conf back from a backup or from the package.",
)  # fmt: skip
_add(
    2, "agent_extensions_disabled", "blocker", "Extensions are switched off in the agent's configuration", codes=AGENT, doc=ARTICLE,
    remedy="agent.configuration", undo=_UNDO, action="Set Extensions.Enabled=y in the agent's configuration and restart the agent.",
)  # fmt: skip
_add(
    2, "agent_conf_duplicate_keys", "notice", "A key stands twice in the agent's configuration", codes=STATUS, doc=LINUX_AGENT,
    remedy="agent.configuration", undo=_UNDO, action="Keep the last line, the one that counts, and remove the others.",
)  # fmt: skip
_add(
    2, "agent_conf_loose_syntax", "notice", "The agent's configuration is written in a way that the backup extension cannot read", codes=STATUS,
    doc=LINUX_AGENT, remedy="agent.configuration", undo=_UNDO, action="Write Key=Value without blanks and quotes.",
)  # fmt: skip
_add(
    2, "agent_conf_unknown_key", "notice", "A key in the agent's configuration is misspelled", codes=STATUS, doc=LINUX_AGENT,
    action="Correct or remove the line; the agent ignores keys that it does not know, and case matters.",
)  # fmt: skip
_add(
    2, "agent_conf_invalid_value", "risk", "A value in the agent's configuration is not understood", codes=STATUS, doc=LINUX_AGENT,
    action="Write y or n for switches and whole numbers for numbers, then restart the agent; until then its default counts.",
)  # fmt: skip
_add(
    2, "agent_conf_not_loaded", "risk", "The agent has not read its present configuration", codes=STATUS, doc=LINUX_AGENT,
    remedy="agent.service", action="Restart the agent; it reads its configuration at its start only.",
)  # fmt: skip
_add(
    2, "agent_provisioning_agent", "notice", "Provisioning.Agent is not auto", codes=STATUS, doc=ARTICLE, remedy="agent.configuration",
    consent="provisioning_agent", undo=_UNDO, action="Set Provisioning.Agent=auto, as Microsoft's article asks, if nothing speaks against it.",
)  # fmt: skip
_add(
    2, "agent_auto_update_off", "notice", "The agent does not update itself", codes=STATUS, doc=UPDATE_AGENT, remedy="agent.auto_update",
    consent="auto_update", undo=_UNDO, action="Set AutoUpdate.UpdateToLatestVersion=y (AutoUpdate.Enabled=y for agents before 2.10.0.8).",
)  # fmt: skip
_add(
    2, "agent_verbose_logging", "notice", "Verbose logging of the agent is on", doc=LINUX_AGENT, remedy="agent.verbose_logging",
    consent="verbose_logging_off", undo=_UNDO, action="Set Logs.Verbose=n when the diagnosis is over; the log grows fast.",
)  # fmt: skip
_add(
    2, "agent_update_rejected", "risk", "A self-update of the agent failed and was rejected", codes=AGENT, doc=UPDATE_AGENT,
    remedy="agent.rollback_broken_update", consent="update_rollback", undo=_UNDO,
    action="Stop the agent, move the rejected directory away, start the agent: it falls back to the version before.",
)  # fmt: skip
_add(
    2, "agent_restart_policy", "risk", "The agent is not restarted when it ends", codes=AGENT, doc=ARTICLE, remedy="agent.auto_restart",
    undo=_UNDO, action="Set Restart=always for the unit by a drop-in.",
    windows={
        "severity": "notice",
        "doc": WINDOWS_AGENT,
        "action": "Let the service manager restart the services RdAgent and WindowsAzureGuestAgent after a failure.",
    },
)  # fmt: skip
_add(
    2, "agent_disable_marker", "blocker", "The agent is switched off by a marker file", codes=AGENT, doc=LINUX_AGENT, remedy="agent.service",
    consent="disable_agent_removal", undo=_UNDO, action="Find out who created disable_agent and why; then allow its removal.",
)  # fmt: skip
_add(
    2, "agent_pid_file_stale", "blocker", "A stale pid file keeps the agent from starting", codes=AGENT, doc=LINUX_AGENT,
    remedy="agent.service", undo=_UNDO, action="Remove the pid file and start the agent.",
)  # fmt: skip
_add(
    2, "agent_service_stop_pending", "blocker", "The agent's service hangs while it stops", codes=AGENT, doc=WINDOWS_TROUBLE, only="windows",
    remedy="agent.service", undo=_UNDO,
    action="Restart RdAgent, wait five minutes, then end the process of the service that hangs and start it.",
)  # fmt: skip
_add(
    2, "agent_service_path_missing", "blocker", "The agent is registered as a service, but its program is gone", codes=NO_AGENT,
    doc=WINDOWS_TROUBLE, only="windows", remedy="agent.install", consent="agent_install", undo=_UNDO,
    action="Install the agent anew from the MSI that Microsoft publishes; name it with its checksum in agent_msi and allow it.",
)  # fmt: skip
_add(
    2, "agent_dotnet_old", "blocker", "The .NET Framework is older than the agent needs", codes=AGENT, doc=WINDOWS_AGENT, only="windows",
    action="Install .NET Framework 4.5 or newer (4.8 is the last one), restart the system, and restart the agent.",
)  # fmt: skip
_add(
    2, "agent_dotnet_64bit_off", "blocker", "64-bit programs of the .NET Framework are switched off", codes=AGENT, doc=WINDOWS_TROUBLE,
    only="windows", remedy="extension.prerequisites", undo=_UNDO,
    action="Set Enable64Bit to 1 (DWORD) below HKLM\\SOFTWARE\\Microsoft\\.NETFramework and restart the agent.",
)  # fmt: skip
_add(
    2, "agent_update_failed", "risk", "The agent's own update failed", codes=AGENT, doc=WINDOWS_TROUBLE, only="windows",
    action="Read the message and the end of TransparentInstaller.log below C:\\WindowsAzure\\Logs; install the agent from its MSI when it stays.",
)  # fmt: skip
_add(
    2, "agent_service_masked", "blocker", "The agent's service is masked", codes=AGENT, doc=LINUX_AGENT, remedy="agent.service", undo=_UNDO,
    action="Unmask, enable and start the service.",
)  # fmt: skip
_add(
    2, "agent_start_limit_hit", "blocker", "The agent's service failed too often and is not started any more", codes=AGENT, doc=LINUX_AGENT,
    remedy="agent.service", undo=_UNDO, action="Reset the failed state and start the service; read the agent's log when it fails again.",
)  # fmt: skip
_add(
    2, "agent_service_failed", "blocker", "The agent's service has failed", codes=AGENT, doc=LINUX_AGENT, remedy="agent.service", undo=_UNDO,
    action="Start the service; read the agent's log when it fails again.",
)  # fmt: skip
_add(
    2, "agent_service_stopped", "blocker", "The agent's service does not run", codes=AGENT, doc=LINUX_AGENT, remedy="agent.service", undo=_UNDO,
    action="Start the service.",
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Start RdAgent, then WindowsAzureGuestAgent.",
    },
)  # fmt: skip
_add(
    2, "agent_service_disabled", "risk", "The agent's service will not start with the system", codes=AGENT, doc=LINUX_AGENT,
    remedy="agent.service", undo=_UNDO, action="Enable the service.",
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Set the start type of RdAgent and WindowsAzureGuestAgent to automatic.",
    },
)  # fmt: skip
_add(
    2, "agent_handler_dead", "blocker", "The agent's extension handler does not run", codes=AGENT, doc=LINUX_AGENT, remedy="agent.service",
    action="Restart the agent; when the handler stays away, read the end of the agent's log.",
)  # fmt: skip
_add(
    2, "agent_restarting", "blocker", "The agent ends and starts again and again", codes=AGENT, doc=LINUX_AGENT,
    action="Read the end of the agent's log and of journalctl -u for its unit: the reason stands there.",
)  # fmt: skip
_add(
    2, "agent_condition_failed", "blocker", "A condition of the agent's unit does not hold", codes=AGENT, doc=LINUX_AGENT,
    action="Bring back what the condition asks for; starting again does not help.",
)  # fmt: skip
_add(
    2, "agent_python_missing", "blocker", "The agent's Python interpreter is missing", codes=AGENT, doc=LINUX_AGENT,
    action="Reinstall the distribution's Python package, or put the alternatives link back.",
)  # fmt: skip
_add(
    2, "agent_python_unusual", "notice", "The agent runs on a Python that the distribution did not install", codes=AGENT, doc=LINUX_AGENT,
    action="Point the system's python3 back to the distribution's interpreter.",
)  # fmt: skip
_add(
    2, "agent_openssl_missing", "risk", "The agent's openssl is missing", codes=AGENT, doc=LINUX_AGENT,
    action="Install openssl from the distribution, or correct OS.OpensslPath in the agent's configuration and restart the agent.",
)  # fmt: skip
_add(
    2, "agent_openssl_unusual", "notice", "The agent uses an openssl that the distribution did not install", codes=AGENT, doc=LINUX_AGENT,
    action="Let OS.OpensslPath name the distribution's openssl; certificates of the extensions depend on it.",
)  # fmt: skip
_add(
    2, "agent_fips_not_set", "risk", "The system is in FIPS mode, and the agent does not know", codes=STATUS, doc=LINUX_AGENT,
    action="Set OS.EnableFIPS=y in the agent's configuration and restart the agent; certificates cannot be read otherwise.",
)  # fmt: skip
_add(
    2, "agent_lib_dir_noexec", "blocker", "The agent's directory is mounted noexec", codes=AGENT, doc=LINUX_AGENT,
    action="Mount the file system without noexec, in /etc/fstab too.",
)  # fmt: skip
_add(
    2, "agent_lib_dir_read_only", "blocker", "The agent's directory is read-only", codes=AGENT, doc=LINUX_AGENT,
    action="Look in dmesg for why the file system became read-only, repair it, mount it writable.",
)  # fmt: skip
_add(
    2, "agent_lib_dir_full", "blocker", "The agent's directory has no space left", codes=AGENT, doc=LINUX_AGENT,
    action="Free space on that file system; the agent cannot unpack extensions or write their status.",
)  # fmt: skip
_add(
    2, "agent_policy_active", "notice", "A policy file decides which extensions may run", codes=AGENT, doc=LINUX_AGENT,
    action="See that the policy allows Microsoft.Azure.RecoveryServices.VMSnapshotLinux.",
)  # fmt: skip
_add(
    2, "agent_on_hold", "notice", "The platform holds the handling of extensions", codes=AGENT, doc=LINUX_AGENT, side="azure",
    action="Wait until the scale set's over-provisioning is done; when it stays, stop (deallocate) and start the VM.",
)  # fmt: skip
_add(
    2, "agent_goal_state_errors", "risk", "The agent cannot fetch its goal state", codes=NETWORK, doc=LINUX_AGENT,
    action="Look at the findings of connectivity first; without one of those, redeploy the VM to another host.",
    windows={
        "doc": WINDOWS_TROUBLE,
    },
)  # fmt: skip
_add(
    2, "agent_not_ready", "risk", "The agent reports that it is not ready", codes=AGENT, doc=LINUX_AGENT,
    action="Read the end of the agent's log: the reason stands there.",
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Read the end of C:\\WindowsAzure\\Logs\\WaAppAgent.log: the reason stands there.",
    },
)  # fmt: skip
_add(
    2, "agent_heartbeat_stale", "risk", "The agent runs but has gone quiet", codes=AGENT, doc=LINUX_AGENT, remedy="agent.service",
    action="Restart the agent.",
    windows={
        "doc": WINDOWS_TROUBLE,
        "action": "Restart RdAgent, then WindowsAzureGuestAgent, when no backup runs.",
    },
)  # fmt: skip

# Cause 3: the extension.
_add(
    3, "snapshot_extension_failed", "blocker", "The backup extension failed to install, update or enable",
    codes=STATE + STATUS + ("ExtensionStuckInDeletionState",), side="azure",
    action="Uninstall VMSnapshotLinux from the VM in Azure (not from the guest's disk) and start a backup: it is installed anew.",
    windows={
        "action": "Uninstall VMSnapshot from the VM in Azure (not from the guest's disk) and start a backup: it is installed anew.",
    },
)  # fmt: skip
_add(
    3, "extension_failed", "risk", "Another extension has failed", codes=STATE, side="azure",
    action="Repair or remove that extension in Azure: a failed one can keep the VM in provisioning state Failed.",
)  # fmt: skip
_add(
    3, "snapshot_extension_old", "risk", "The backup extension is old", codes=STATUS, side="azure",
    action="Uninstall VMSnapshotLinux from the VM in Azure and start a backup: the newest version is installed.",
)  # fmt: skip
_add(
    3, "extension_provider_disabled", "blocker", "The VSS provider of Azure Backup is disabled", codes=STATUS + VSS, only="windows",
    remedy="extension.provider_service", undo=_UNDO, doc=ARTICLE,
    action="Set the start type of the service IaaSVmProvider to automatic and start it.",
)  # fmt: skip
_add(
    3, "extension_installer_disabled", "risk", "The Windows Installer is disabled", codes=REDIST, doc=ERRORS, only="windows",
    remedy="extension.prerequisites", undo=_UNDO,
    action="Set Start to 3 (DWORD) below HKLM\\SYSTEM\\CurrentControlSet\\Services\\msiserver.",
)  # fmt: skip
_add(
    3, "extension_strong_crypto_off", "risk", "Programs of the .NET Framework may not use present TLS", codes=SECURE, doc=ERRORS, only="windows",
    remedy="extension.prerequisites", undo=_UNDO,
    action="Set SchUseStrongCrypto to 1 (DWORD) for every installed version of .NET, in both registry views.",
)  # fmt: skip
_add(
    3, "extension_machine_keys_acl", "risk", "The folder of machine keys lacks access rights", codes=CRYPTO, doc=ERRORS, only="windows",
    remedy="extension.prerequisites", consent="machine_keys_acl", undo=_UNDO,
    action="Give the folder (not what is in it) its default rights back: Everyone may create files, Administrators have full control.",
)  # fmt: skip
_add(
    3, "extension_certificate_missing", "risk", "The certificate for the extension's settings is missing or unusable", codes=CRYPTO, doc=ERRORS,
    only="windows",
    action="Check the access rights of the MachineKeys folder, delete the certificate TenantEncryptionCert if it is there, restart the agent: "
    "it fetches another one.",
)  # fmt: skip
_add(
    3, "extension_vc_redist_missing", "risk", "The Visual C++ redistributable that the extension brings is missing", codes=REDIST, doc=ERRORS,
    only="windows",
    action="Run vcredist2013_x64 from the folder of VMSnapshot below C:\\Packages\\Plugins; do not uninstall other versions.",
)  # fmt: skip
_add(
    3, "extension_blocked", "blocker", "Application control or an antivirus blocks the extension", only="windows", doc=ERRORS,
    codes=STATUS + ("VMRestorePointInternalError",),
    action="Except C:\\Packages\\Plugins\\Microsoft.Azure.RecoveryServices.VMSnapshot and its folder below C:\\WindowsAzure\\Logs\\Plugins "
    "from AppLocker and antivirus.",
)  # fmt: skip
_add(
    3, "goal_state_failed", "risk", "The agent could not process what Azure asked for", codes=STATE + STATUS,
    action="Read the message; repair what it names, and start a backup.",
)  # fmt: skip
_add(
    3, "snapshot_certificate_missing", "risk", "The backup extension cannot decrypt its settings", codes=STATUS, doc=ERRORS,
    action="Restart the agent, which fetches the certificate anew; on a FIPS system set OS.EnableFIPS=y; check that openssl is the distribution's.",
    windows={
        "action": "Restart the agent, which fetches the certificate anew; check the access rights of the MachineKeys folder.",
    },
)  # fmt: skip
_add(
    3, "safefreeze_missing", "risk", "The backup extension lacks its freeze program", codes=STATUS + FREEZE, side="azure",
    action="Check that the agent's directory is not mounted noexec; uninstall VMSnapshotLinux in Azure and start a backup.",
)  # fmt: skip
_add(
    3, "snapshot_file_missing", "risk", "The backup extension did not find a file or program", codes=STATUS, doc=ERRORS,
    action="See that python3 and openssl are installed, then uninstall VMSnapshotLinux in Azure and start a backup.",
    windows={
        "action": "Uninstall VMSnapshot in Azure and start a backup; except its folder from the antivirus.",
    },
)  # fmt: skip
_add(
    3, "snapshot_parameter_missing", "risk", "The backup extension got incomplete settings", codes=STATUS, side="azure",
    action="Start a backup again; when it stays, stop and resume protection of the VM.",
)  # fmt: skip
_add(
    3, "vmbackup_conf_invalid", "risk", "vmbackup.conf cannot be parsed and is ignored", codes=STATUS + FREEZE, doc=ERRORS,
    action="Correct the file (one [SnapshotThread] section, no key twice, no stray %), or remove it to use the defaults.",
)  # fmt: skip

# Cause 4: the snapshot.
_add(
    4, "snapshot_stuck", "risk", "A snapshot never ended", codes=STATUS, action="Start a backup again when the other findings are repaired.",
)  # fmt: skip
_add(
    4, "vss_service_disabled", "blocker", "A service that shadow copies need is disabled", codes=STATUS + VSS + COM, doc=ERRORS, only="windows",
    remedy="snapshot.vss_services", undo=_UNDO,
    action="Give the service its default start type back: manual for VSS, swprv and COMSysApp, automatic for EventSystem and CryptSvc.",
)  # fmt: skip
_add(
    4, "sql_writer_disabled", "notice", "The VSS writer of SQL Server is disabled", doc=ERRORS, only="windows",
    action="Ask who looks after SQL Server. When backups of the machine shall hold its databases as they are: set SQLWriter to automatic, start it.",
)  # fmt: skip
_add(
    4, "vss_msdtc_account", "risk", "The transaction coordinator runs under an unusual account", doc=ERRORS, only="windows",
    codes=("ExtensionInstallationFailedMDTC",) + COM,
    action="Let MSDTC run as NT AUTHORITY\\NetworkService; its installation anew (msdtc -uninstall, -install) loses its settings.",
)  # fmt: skip
_add(
    4, "bcdr_option_wrong_type", "risk", "An option of Azure Backup is no text, so it is ignored", codes=WRITERS + RESOURCES, doc=ERRORS,
    only="windows", remedy="snapshot.bcdr_options", undo=_UNDO, action="Write the value as text (REG_SZ).",
)  # fmt: skip
_add(
    4, "vss_backup_type_differs", "risk", "Azure Backup takes another kind of VSS backup than was asked for", codes=WRITERS, only="windows",
    remedy="snapshot.vss_copy_backup", undo=_UNDO,
    action="Set or remove UseVSSCopyBackup (REG_SZ) below HKLM\\SOFTWARE\\Microsoft\\BcdrAgent. Microsoft's texts of 2016-10 and 2025-11 "
    "contradict each other on what it does: say by vmbackup_vss_backup_text which one holds.",
)  # fmt: skip
_add(
    4, "vss_copy_backup_unset", "notice", "SQL Server is on this guest, and nobody said which kind of VSS backup is wanted", codes=WRITERS,
    only="windows",
    action="Say by vmbackup_vss_backup_type whether Azure Backup should take copy-only backups (SQL Server has backups of its own) or full ones. "
    "Microsoft's texts contradict each other on the value: full is the default in the one of 2016-10, copy-only in the one of 2025-11.",
)  # fmt: skip
_add(
    4, "vss_writer_failed", "blocker", "A VSS writer is in a failed state", codes=STATUS + WRITERS, doc=ERRORS, only="windows",
    remedy="snapshot.vss_writers", consent="vss_writer_restart",
    action="Restart the service behind the writer when its users can bear it; a writer without one comes back with a restart of the system.",
)  # fmt: skip
_add(
    4, "shadow_storage_low", "risk", "There is no room for shadow copies", codes=WRITERS + VSS, doc=ERRORS, only="windows",
    action="Free space on the drive, or raise the limit with vssadmin resize shadowstorage.",
)  # fmt: skip
_add(
    4, "mount_not_responding", "blocker", "A mounted file system does not answer", codes=MOUNT, doc=ERRORS,
    action="Bring its server back or unmount it (umount -l); until then every program that touches it hangs, a snapshot too.",
)  # fmt: skip
_add(
    4, "mount_unreadable", "risk", "A mounted file system cannot be opened", codes=MOUNT, doc=ERRORS,
    action="Repair or unmount it; the snapshot opens every mount point.",
    windows={
        "title": "A drive cannot be opened",
        "codes": list(MOUNT) + ["ExtensionSnapshotBitlockerError"],
        "action": "Unlock the drive (BitLocker) or repair it; the snapshot takes every drive.",
    },
)  # fmt: skip
_add(
    4, "mount_open_failed", "risk", "The last snapshot could not open a mount point", codes=MOUNT, doc=ERRORS,
    action="Make every mount point readable for root (stale NFS, autofs, a removed disk), then start a backup again.",
)  # fmt: skip
_add(
    4, "fs_freeze_failed", "risk", "The last snapshot could not freeze a file system", codes=FREEZE, doc=ERRORS,
    action="Unmount the file system named, check it with fsck, mount it again, once; or name it in MountsToSkip of vmbackup.conf.",
)  # fmt: skip
_add(
    4, "fs_freeze_timeout", "risk", "Freezing the file systems took too long", codes=FREEZE, doc=ERRORS,
    action="Back up at a quieter time, or set SafeFreezeWaitInSeconds=600 in /etc/azure/vmbackup.conf.",
)  # fmt: skip
_add(
    4, "snapshot_no_network", "risk", "The last snapshot failed for want of a network", codes=NETWORK, doc=ERRORS,
    action="Look at the findings of connectivity; then start a backup again.",
)  # fmt: skip
_add(
    4, "snapshot_host_failed", "risk", "The Azure host did not take the snapshot", codes=STATUS + RESOURCES, side="azure",
    action="Start a backup again; when it stays, redeploy the VM to another host or open a support case.",
)  # fmt: skip
_add(
    4, "snapshot_command_late", "risk", "The snapshot's command reached the guest too late", codes=STATUS,
    action="Look for an agent that hangs, a wrong clock, or another extension that takes long; then start a backup again.",
)  # fmt: skip
_add(
    4, "snapshot_limit_reached", "risk", "A disk has too many snapshots", codes=("ExtensionFailedSnapshotLimitReachedError",), side="azure",
    action="Delete snapshots of that blob that nothing needs (never the blob), and give Site Recovery another schedule.", doc=ERRORS,
)  # fmt: skip
_add(
    4, "snapshot_rate_exceeded", "notice", "Snapshots of a disk were asked for too fast", codes=("ExtensionFailedSnapshotLimitReachedError",),
    side="azure", action="Start a backup again later; the extension takes them one after the other from then on.", doc=ERRORS,
)  # fmt: skip
_add(
    4, "snapshot_disk_list_invalid", "risk", "Azure asked for disks that the VM does not have", codes=STATUS, side="azure",
    action="Wait for disk changes to end and start a backup again.",
)  # fmt: skip
_add(
    4, "snapshot_wrong_time", "risk", "The last snapshot failed because of the clock", codes=STATUS,
    action="Correct the clock and see that chronyd or systemd-timesyncd runs; then start a backup again.",
    windows={
        "action": "Correct the clock and see that the Windows Time service runs; then start a backup again.",
    },
)  # fmt: skip
_add(
    4, "snapshot_failed", "risk", "The last snapshot failed", codes=STATUS + ("ExtensionOperationFailedForManagedDisks",), doc=ERRORS,
    action="Read the end of the extension's log, below /var/log/azure; then start a backup again.",
    windows={
        "action": "Read the end of the logs below C:\\WindowsAzure\\Logs\\Plugins\\Microsoft.Azure.RecoveryServices.VMSnapshot; then start a backup again.",
    },
)  # fmt: skip
_add(
    4, "script_hook_invalid", "risk", "A pre or post script's file would be refused", doc=SCRIPTS,
    action="Give the files to root: VMSnapshotScriptPluginConfig.json mode 0600, scripts mode 0700.",
)  # fmt: skip
_add(
    4, "script_permission", "risk", "A pre or post script was refused for its owner or mode", doc=SCRIPTS,
    action="Give the files to root: VMSnapshotScriptPluginConfig.json mode 0600, scripts mode 0700; then start a backup again.",
)  # fmt: skip
_add(
    4, "script_not_found", "risk", "A pre or post script was not found", doc=SCRIPTS,
    action="Correct the paths in VMSnapshotScriptPluginConfig.json, or remove the hook; then start a backup again.",
)  # fmt: skip
_add(
    4, "script_config_invalid", "risk", "The configuration of pre and post scripts cannot be parsed", doc=SCRIPTS,
    action="Correct the JSON of VMSnapshotScriptPluginConfig.json or the INI of VMSnapshotPluginHost.conf; then start a backup again.",
)  # fmt: skip
_add(
    4, "script_failed", "risk", "A pre or post script failed", doc=SCRIPTS,
    action="Run the script by hand as root, make it return 0, and start a backup again.",
)  # fmt: skip
_add(
    4, "script_timeout", "risk", "A pre or post script took too long", doc=SCRIPTS,
    action="Make the script faster or raise timeoutInSeconds in VMSnapshotScriptPluginConfig.json; then start a backup again.",
)  # fmt: skip
_add(
    4, "script_checksum_mismatch", "risk", "The plug-in for pre and post scripts was altered", doc=SCRIPTS, side="azure",
    action="Uninstall VMSnapshotLinux in Azure and start a backup: its files come anew.",
)  # fmt: skip
_add(
    4, "workload_failed", "risk", "The workload plug-in of the backup extension failed", doc=ERRORS,
    action="Read the message, correct /etc/azure/workload.conf or the database's state, and start a backup again.",
)  # fmt: skip
_add(
    4, "filesystem_full", "risk", "A file system is nearly full", codes=STATUS,
    action="Free space; logs and status of agent and extension go there.",
    windows={
        "title": "A drive is nearly full",
        "action": "Free space; logs and status of agent and extension go there, and shadow copies need room.",
    },
)  # fmt: skip
_add(
    4, "load_cpu_high", "risk", "The processors are overloaded", codes=STATUS + RESOURCES,
    action="Back up at a quieter time, start a backup by hand, or give the VM more processors.",
)  # fmt: skip
_add(
    4, "load_memory_high", "risk", "Memory is nearly used up", codes=STATUS + RESOURCES,
    action="Back up at a quieter time, start a backup by hand, or give the VM more memory.",
)  # fmt: skip
_add(
    4, "load_io_pressure", "risk", "Storage is overloaded", codes=STATUS + RESOURCES + FREEZE,
    action="Back up at a quieter time, or give the disks more throughput: a freeze waits for all writes.",
)  # fmt: skip
_add(
    4, "clock_wrong", "risk", "The guest's clock is wrong", codes=STATUS + ("ExtensionSnapshotFailedNoNetwork",),
    action="Correct the clock and see that chronyd or systemd-timesyncd runs; signatures for storage are refused otherwise.",
    windows={
        "action": "Correct the clock and see that the Windows Time service runs; signatures for storage are refused otherwise.",
    },
)  # fmt: skip
_add(
    4, "dhcp_static_address", "risk", "The primary interface has a static address inside the guest", codes=NETWORK, doc=ARTICLE,
    action="Switch DHCP on in the guest; give the VM a static private address in Azure instead, on its network interface.",
    windows={
        "remedy": "snapshot.dhcp",
        "consent": "dhcp",
        "action": "Switch DHCP on in the guest; give the VM a static private address in Azure instead, on its network interface.",
    },
)  # fmt: skip
_add(
    4, "dhcp_option_245_missing", "notice", "DHCP gave the guest no address of the Azure host (option 245)", codes=NETWORK, doc=ARTICLE,
    action="See that DHCP comes from Azure and not from a server in the network; harmless while 168.63.129.16 answers.",
)  # fmt: skip

CATALOGUE = {row["id"]: row for row in _ROWS}
ORDER = [row["id"] for row in _ROWS]
