# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every remedy, one row each. The order of the rows is the order of repair within a phase; whatever restates this table is made from it."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, NamedTuple

LINUX, WINDOWS, AZURE = "linux", "windows", "azure"
SYSTEMS = (LINUX, WINDOWS, AZURE)
PHASES = ("before", "guest", "after")
CONSENT_PREFIX = "vmbackup_allow_"


class Remedy(NamedTuple):
    """A repair.

    :param name: ``role.entry_point``.
    :param cause: which of the four causes it answers; ``--tags`` choose by it.
    :param on: systems that have it.
    :param consents: what it may have to ask for, without the prefix; the finding says which one, per system.
    :param areas: areas of the facts that it is decided on.
    :param rollback: whether it may cut the connection, so that the guest goes back by itself unless it is confirmed.
    :param title: what it does, for people.
    :param last_resort: whether it is left alone where a finding of the guest explains what it answers.
    :param restart: whether the agent of a Linux guest has to be restarted for it to take effect.
    """

    name: str
    cause: str
    on: tuple[str, ...]
    title: str
    consents: tuple[str, ...] = ()
    areas: tuple[str, ...] = ("agent",)
    rollback: bool = False
    phase: str = "guest"
    restart: bool = False
    last_resort: bool = False

    @property
    def role(self) -> str:
        return self.name.partition(".")[0]

    @property
    def entry_point(self) -> str:
        return self.name.partition(".")[2]


# What a consent allows, for people: "{what} is done only when ... is true".
CONSENTS = {
    "package_unhold": "updating an agent package that is held or locked; the hold is put back",
    "disable_agent_removal": "moving the marker `disable_agent` away: somebody switched the agent off",
    "update_retry": "letting the agent try a self-update again that failed fatally; repair its reason first",
    "auto_update": "letting the agent update itself",
    "provisioning_agent": "`Provisioning.Agent=auto`",
    "verbose_logging_off": "switching verbose logging off",
    "agent_install": "Windows: installing or updating the agent from `agent_msi`, an MSI that you name, with its `agent_msi_sha256`",
    "routes": "adding routes to the Azure host and to Azure's prefixes",
    "proxy": "the proxy of the agent's service and configuration, on Windows of the SYSTEM account and of WinHTTP, or its exceptions",
    "firewall": "Linux: a rule that lets root reach the Azure host; Windows: disabling a rule that blocks it",
    "machine_keys_acl": "Windows: the rights on the folder of the machine keys",
    "vss_writer_restart": "Windows: restarting the services behind failed VSS writers",
    "time_sync": "starting the time service, and having it start with the system",
    "dhcp": "switching DHCP on, when instance metadata says that the address stays",
    "power_state": "Azure: deallocating a VM that was shut down from inside; it is not started, and its dynamic public address is lost",
    "static_ip": "Azure: keeping the private address that a network interface has",
    "nsg_rule": "Azure: rules in security groups that let their VMs reach AzureBackup, Storage and AzureActiveDirectory at port 443",
}

REMEDIES = (
    Remedy(
        "connectivity.route", "connectivity", (LINUX,), "Route the Azure host via the primary interface",
        consents=("routes",), areas=("network",), rollback=True,
    ),
    Remedy(
        "connectivity.azure_routes", "connectivity", (LINUX, WINDOWS), "Route Azure's addresses via the gateway",
        consents=("routes",), areas=("network",), rollback=True,
    ),
    Remedy(
        "connectivity.proxy", "connectivity", (LINUX, WINDOWS), "Exclude the Azure host from the proxy, or set or remove it",
        consents=("proxy",), areas=("network",), restart=True,
    ),
    Remedy(
        "connectivity.firewall", "connectivity", (LINUX, WINDOWS), "Let the guest's firewall pass the Azure host",
        consents=("firewall",), areas=("network",),
    ),
    Remedy("agent.install", "agent", (LINUX, WINDOWS), "Install the agent", consents=("agent_install",), restart=True),
    Remedy("agent.update", "agent", (LINUX, WINDOWS), "Update the agent", consents=("package_unhold", "agent_install"), restart=True),
    Remedy("agent.configuration", "agent", (LINUX,), "Correct the agent's configuration", consents=("provisioning_agent",), restart=True),
    Remedy("agent.auto_update", "agent", (LINUX,), "Let the agent update itself", consents=("auto_update",), restart=True),
    Remedy("agent.verbose_logging", "agent", (LINUX,), "Switch verbose logging of the agent off", consents=("verbose_logging_off",), restart=True),
    Remedy("agent.auto_restart", "agent", (LINUX, WINDOWS), "Have the system restart the agent"),
    Remedy("agent.retry_update", "agent", (LINUX,), "Let the agent try a rejected update again", consents=("update_retry",), restart=True),
    Remedy(
        "extension.provider_service", "extension", (WINDOWS,), "Enable the VSS provider of Azure Backup", areas=("agent", "extension", "vss"),
    ),
    Remedy(
        "extension.prerequisites", "extension", (WINDOWS,), "Set what the backup extension needs of Windows",
        consents=("machine_keys_acl",), areas=("agent", "extension"),
    ),
    Remedy("snapshot.vss_services", "snapshot", (WINDOWS,), "Enable the services behind VSS", areas=("agent", "vss")),
    Remedy(
        "snapshot.vss_writers", "snapshot", (WINDOWS,), "Restart the services behind failed VSS writers",
        consents=("vss_writer_restart",), areas=("agent", "extension", "vss"),
    ),
    Remedy("snapshot.bcdr_options", "snapshot", (WINDOWS,), "Write Azure Backup's options as REG_SZ", areas=("vss",)),
    Remedy("snapshot.vss_copy_backup", "snapshot", (WINDOWS,), "Choose between full and copy-only backups of VSS", areas=("vss",)),
    Remedy(
        "snapshot.time_sync", "snapshot", (LINUX, WINDOWS), "Have the time service run", consents=("time_sync",), areas=("agent", "load"),
    ),
    Remedy(
        "snapshot.dhcp", "snapshot", (LINUX, WINDOWS), "Switch DHCP on again", consents=("dhcp",), areas=("network",), rollback=True,
    ),
    Remedy("agent.service", "agent", (LINUX, WINDOWS), "Make the agent's service run", consents=("disable_agent_removal",), restart=True),
    # Last: whatever was changed before takes effect with it. It answers no finding of its own.
    Remedy("agent.restart", "agent", (LINUX,), "Restart the agent"),
    # In Azure, once for the fleet: before the guests are repaired, and after.
    Remedy(
        "azure.power_state", "azure", (AZURE,), "Deallocate a VM that was shut down from inside",
        consents=("power_state",), areas=(), phase="before",
    ),
    Remedy(
        "azure.nsg_rule", "azure", (AZURE,), "Let VMs reach what backup talks to by rules of their security groups",
        consents=("nsg_rule",), areas=(), phase="before",
    ),
    Remedy(
        "azure.static_ip", "azure", (AZURE,), "Keep the private address of a VM whose guest has it set by hand",
        consents=("static_ip",), areas=(), phase="before",
    ),
    Remedy("azure.reapply", "azure", (AZURE,), "Reapply the VM's model", areas=(), phase="before", last_resort=True),
    Remedy("azure.remove_extension", "azure", (AZURE,), "Remove the backup extension that failed", areas=(), phase="after"),
    # Ends the run; it answers no finding of its own.
    Remedy("azure.backup_now", "azure", (AZURE,), "Back up now, and await the snapshot", areas=(), phase="after"),
)  # fmt: skip
RESTART, BACKUP = "agent.restart", "azure.backup_now"

BY_NAME = {remedy.name: remedy for remedy in REMEDIES}
RANK = {remedy.name: number for number, remedy in enumerate(REMEDIES)}
CAUSES = tuple(dict.fromkeys(remedy.cause for remedy in REMEDIES))


def unknown(names: Iterable[str]) -> list[str]:
    """Return the names that no remedy has, in order."""
    return [name for name in names if name not in BY_NAME]


def merged(fixes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what one remedy has to write, out of what several findings ask for.

    Entries of a list that name the same thing become one, the later values win; so do the values of dictionaries.
    """
    result: dict[str, Any] = {}
    for fix in fixes:
        for option, value in fix.items():
            if isinstance(value, Mapping):
                result[option] = {**result.get(option, {}), **value}
            elif isinstance(value, list):
                result[option] = _joined(result.get(option, []), value)
            else:
                result[option] = value
    return result


def _joined(entries: list[Any], more: Iterable[Any]) -> list[Any]:
    result = list(entries)
    for entry in more:
        same = next((number for number, other in enumerate(result) if _names(other) == _names(entry)), None)
        if same is None:
            result.append(entry)
        elif isinstance(entry, Mapping):
            result[same] = {**result[same], **entry}
    return result


def _names(entry: Any) -> Any:
    return (entry.get("key"), entry.get("name")) if isinstance(entry, Mapping) else entry


def plan(
    findings: Iterable[dict[str, Any]],
    allow: dict[str, bool] | None = None,
    never: Iterable[str] = (),
    causes: Iterable[str] = CAUSES,
    kind: str = LINUX,
) -> list[dict[str, Any]]:
    """Return what answers the findings of one guest, in the order of repair.

    A remedy is allowed when one finding that names it needs no consent, or has it; ``findings`` then names only those, and the others
    stay for a person. What never names is not allowed, whatever the consents are.

    :param findings: as :func:`evaluate` returns them.
    :param allow: consent variables to booleans.
    :param never: remedies that are not to be done.
    :param causes: causes whose remedies this run does.
    :param kind: ``system.kind`` of the guest. On Linux the restart comes last, when a planned remedy needs it.
    :returns: dictionaries with ``remedy``, ``role``, ``entry_point``, ``cause``, ``title``, ``findings`` (ids), ``allowed``, ``consent``
        (variables that are missing), ``never``, ``planned`` (allowed, of a cause of this run) and ``fix`` (what to write, by the option of
        the writer, as the rules of the allowed findings say).
    """
    allow, never, causes = allow or {}, set(never), set(causes)
    grouped: dict[str, dict[str, list[Any]]] = {}
    for finding in findings:
        if finding["remedy"] not in BY_NAME:
            continue
        explained = [root for root in finding.get("explained_by") or [] if not root.startswith("azure_")]
        if explained and BY_NAME[finding["remedy"]].last_resort:
            continue
        permitted = finding["consent"] is None or bool(allow.get(finding["consent"]))
        entry = grouped.setdefault(finding["remedy"], {"allowed": [], "waiting": [], "consent": [], "fix": []})
        entry["allowed" if permitted else "waiting"].append(finding["id"])
        if permitted:
            entry["fix"] += finding.get("fix") or []
        else:
            entry["consent"].append(finding["consent"])
    result = []
    for name in sorted(grouped, key=RANK.__getitem__):
        entry = grouped[name]
        allowed = bool(entry["allowed"]) and name not in never
        own = _entry(name, entry["allowed"] or entry["waiting"], allowed, entry["consent"], name in never, causes)
        own["fix"] = merged(entry["fix"]) if allowed else {}
        result.append(own)
    if kind == LINUX and any(entry["planned"] and BY_NAME[entry["remedy"]].restart for entry in result):
        result.append(_entry(RESTART, [], RESTART not in never, [], RESTART in never, CAUSES))
    return result


def _entry(name: str, findings: list[str], allowed: bool, consent: list[str], never: bool, causes: Iterable[str]) -> dict[str, Any]:
    remedy = BY_NAME[name]
    return {
        "remedy": name,
        "role": remedy.role,
        "entry_point": remedy.entry_point,
        "cause": remedy.cause,
        "phase": remedy.phase,
        "title": remedy.title,
        "findings": sorted(findings),
        "allowed": allowed,
        "consent": sorted(set(consent)),
        "never": never,
        "planned": allowed and remedy.cause in causes,
        "fix": {},
    }
