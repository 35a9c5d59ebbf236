# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the findings about the agent share: its service, its package, its processes."""

from __future__ import annotations

import re
from typing import Any, Mapping

from ansible_collections.vmbackup.azure.plugins.module_utils._values import version_key
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Facts,
    Fix,
    get,
    items,
    part,
    windows_service,
)

# The services of the Windows agent, in the order in which they are started.
WINDOWS_SERVICES = ("RdAgent", "WindowsAzureGuestAgent")
NO_PATH = ("route_wireserver_missing", "firewall_blocks_host", "wireserver_unreachable", "proxy_without_bypass")
CANNOT_START = (
    "agent_package_half_installed",
    "agent_conf_missing",
    "agent_conf_unreadable",
    "agent_conf_empty",
    "agent_python_missing",
    "agent_lib_dir_read_only",
    "agent_lib_dir_full",
    "agent_dotnet_old",
    "agent_dotnet_64bit_off",
)


def service_of(facts: Facts) -> Mapping[str, Any]:
    return part(facts, "agent.service")


def unit_seen(facts: Facts, *names: str) -> Fix:
    """Return what agent_service is to expect of the unit of systemd, by its options; what is not known is not compared.

    Whether it runs changes by itself, so that is not expected.
    """
    service = service_of(facts)
    if service.get("manager") != "systemd":
        return {}
    names += ("masked",) if service.get("masked") else ("masked", "unit_file_state")
    known = {name: service[name] for name in names if service.get(name) is not None}
    return {"expect": known} if known else {}


def unit_fix(facts: Facts, **wanted: Any) -> Fix:
    """Return what agent_service has to do."""
    return {**wanted, **unit_seen(facts)}


def start_fix(facts: Facts, **more: Any) -> Fix:
    return unit_fix(facts, **more, start=True)


def package_fix(facts: Facts, **wanted: Any) -> Fix:
    """Return what agent_package has to change, with what was seen of it."""
    package = part(facts, "agent.package")
    expect = {name: package[name] for name in ("version", "held") if package.get(name) is not None}
    return {"package": {"name": package.get("name"), **wanted, **({"expect": expect} if expect else {})}}


def daemons(facts: Facts) -> list[Any]:
    return items(facts, "agent.processes.daemon")


def handlers_of(facts: Facts) -> list[Any]:
    return items(facts, "agent.processes.handler")


def older(version: str | None, minimum: str) -> bool:
    return version is not None and version_key(version) < version_key(minimum)


def agent_down(facts: Facts) -> bool:
    """Say whether the service is known not to run; activating and deactivating are on their way."""
    return service_of(facts).get("active_state") in ("inactive", "failed")


def upstream(version: str) -> str:
    """Return the upstream part of a package version: without epoch and release."""
    return re.split(r"[-+~]", version.partition(":")[2] or version)[0]


def newest_package(facts: Facts) -> str | None:
    """Return the candidate's version when it is newer than what is installed, else None."""
    candidate, installed = get(facts, "agent.package.candidate"), get(facts, "agent.package.version")
    if candidate and (installed is None or version_key(upstream(candidate)) > version_key(upstream(installed))):
        return str(candidate)
    return None


def agent_services(facts: Facts) -> list[Mapping[str, Any]]:
    return [row for row in (windows_service(facts, name) for name in WINDOWS_SERVICES) if row.get("exists")]


def services_gone(facts: Facts) -> list[str]:
    rows = [windows_service(facts, name) for name in WINDOWS_SERVICES]
    return [row["name"] for row in rows if row.get("exists") is False]


def missing(facts: Facts) -> bool:
    """Say whether no agent is on a Linux guest."""
    gone = get(facts, "agent.package.installed") is False and get(facts, "agent.binary") is None and not daemons(facts)
    return gone and get(facts, "agent.service.load_state") != "loaded"
