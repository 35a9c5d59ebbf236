# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the private address that a VM has, so that its guest may go back to DHCP; and let Azure choose it again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.security import NETWORK_VERSION
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Look, Run, Target, Write

STATIC, DYNAMIC = "Static", "Dynamic"
METHOD = "privateIPAllocationMethod"


class StaticIp:
    """A target of this step is a VM with one configuration of a network interface (fix: interface, configuration, address)."""

    remedy = "azure.static_ip"

    def __init__(self, method: str = STATIC) -> None:
        self.method = method

    def resource(self, target: Target) -> str:
        return str(target.fix["interface"])

    def look(self, client: Client, targets: Sequence[Target], run: Run) -> Look:
        fix = targets[0].fix
        id_ = str(fix["interface"])
        interface = values.mapping(client.get(id_, NETWORK_VERSION))
        known = _configuration(interface, str(fix["configuration"]))
        properties = values.mapping((known or {}).get("properties"))
        address, present = values.text(properties.get("privateIPAddress")), values.text(properties.get(METHOD)) or DYNAMIC
        if known is None or not address:
            return Look("The network interface has no configuration {0} with an address.".format(fix["configuration"]), failed=True)
        if address != fix["address"]:
            text = "The network interface has the address {0} now, not {1}: nothing was changed."
            return Look(text.format(address, fix["address"]), failed=True)
        if present.lower() == self.method.lower():
            return Look("The address {0} is {1} in Azure.".format(address, present), seen=True)
        state = str(values.mapping(interface.get("properties")).get("provisioningState") or "")
        if state.lower() == "updating":
            return Look("An operation on the network interface is under way.", waits=True)
        body = _changed(interface, known, self.method)
        etag = values.text(interface.get("etag"))
        name = "{0} of {1}".format(METHOD, fix["configuration"])
        write = Write("PUT", id_, NETWORK_VERSION, id_, name, present, self.method, body, {"If-Match": etag} if etag else {})
        keeps = (
            "Keeps the private address {0} on {1}."
            if self.method == STATIC
            else "Lets Azure choose the private address again that is {0} on {1}."
        )
        undo = "static_ip with state dynamic" if self.method == STATIC else None
        return Look(keeps.format(address, values.last(id_)), [write], undo=undo)


def _configuration(interface: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    for entry in values.entries(values.mapping(interface.get("properties")).get("ipConfigurations")):
        if str(entry.get("name")).lower() == name.lower():
            return entry
    return None


def _changed(interface: Mapping[str, Any], known: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return the whole interface as it was read, with one property of a configuration changed: it can only be written whole."""
    body = copy.deepcopy({key: value for key, value in interface.items() if key != "etag"})
    for entry in body["properties"]["ipConfigurations"]:
        if values.mapping(entry).get("name") == known["name"]:
            entry["properties"][METHOD] = method
    return body


def primary(vm: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what StaticIp takes for the primary address of a VM, None where it has none."""
    for interface in vm.get("network") or []:
        for entry in interface.get("configurations") or []:
            if entry.get("address"):
                return {"interface": interface["id"], "configuration": entry["name"], "address": entry["address"]}
    return None


def _noted(kept: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Return (interface, property) of what was made static last, by what was noted in order.

    A run that was killed leaves a note that it began, which may have been done. What was refused was not done. What was taken back is over only
    when that is known: an operation that failed may be tried again.
    """
    notes: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in kept:
        if entry.get("remedy") != StaticIp.remedy or (entry.get("new") != STATIC and entry.get("state") != "done"):
            continue
        known = notes.setdefault((values.key(entry.get("resource")), str(entry.get("property")).lower()), [])
        if entry.get("state") in ("begun", "done", "unknown"):
            known.append(entry)
        elif entry.get("state") == "refused" and known and known[-1].get("state") == "begun":
            known.pop()
    return {place for place, known in notes.items() if known and known[-1].get("new") == STATIC}


def to_take_back(kept: Sequence[Mapping[str, Any]], vm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what of the interfaces of a VM was made static by this collection, by what it noted, and is still so."""
    noted = _noted(kept)
    found = []
    for interface in vm.get("network") or []:
        for entry in interface.get("configurations") or []:
            name = "{0} of {1}".format(METHOD, entry.get("name")).lower()
            if (values.key(interface["id"]), name) in noted and str(entry.get("allocation")).lower() == "static":
                found.append({"interface": interface["id"], "configuration": entry["name"], "address": entry["address"]})
    return found
