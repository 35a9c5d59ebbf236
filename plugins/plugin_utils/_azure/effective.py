# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Effective security rules and routes of network interfaces: what Azure makes of all that is written. Read only when asked, for it takes two
operations for each interface, and the VM must run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import network, values

NETWORK_VERSION = "2024-03-01"
DEADLINE_S = 120.0


def groups(answer: Any) -> list[dict[str, Any]] | None:
    """Return security groups with their effective outbound rules, in the shape of the written ones; None for an answer that is none."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("value"), list):
        return None
    found = []
    for entry in values.entries(answer["value"]):
        id_ = values.text(values.mapping(entry.get("networkSecurityGroup")).get("id"))
        rules = [{"name": rule.get("name"), "properties": rule} for rule in values.entries(entry.get("effectiveSecurityRules"))]
        made = network.rules_of({"properties": {"securityRules": rules}})
        for rule in made:
            rule["protocol"] = "*" if rule["protocol"] == "all" else rule["protocol"]
        place = "subnet" if values.mapping(entry.get("association")).get("subnet") else "nic"
        found.append({"id": id_, "name": values.last(id_), "on": place, "rules": made})
    return found


def routes(answer: Any, written: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Return effective routes in the shape of the written ones. Those for service tags are kept as written: Azure shows only their addresses."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("value"), list):
        return None
    found = [dict(route) for route in written if "/" not in str(route.get("prefix"))]
    for entry in values.entries(answer["value"]):
        if str(entry.get("state", "")).lower() != "active":
            continue
        hops = values.texts(entry.get("nextHopIpAddress"))
        for prefix in values.texts(entry.get("addressPrefix")):
            name = values.text(entry.get("name")) or values.text(entry.get("source"))
            hop = values.text(entry.get("nextHopType"))
            found.append({"name": name, "prefix": prefix, "next_hop": hop, "address": hops[0] if hops else None})
    return found


def read(client: Client, vms: Sequence[dict[str, Any]]) -> list[str]:
    """Put effective rules and routes in place of the written ones, for VMs that run. Returns sentences on what could not be read."""
    asked = [
        (interface, what)
        for vm in vms
        if vm["power_state"] == "running"
        for interface in vm["network"]
        if values.is_resource(interface["id"])
        for what in ("effectiveNetworkSecurityGroups", "effectiveRouteTable")
    ]

    def one(work: tuple[dict[str, Any], str]) -> Any:
        return client.read_by_operation("{0}/{1}".format(work[0]["id"], work[1]), NETWORK_VERSION, DEADLINE_S)

    sentences = []
    for (interface, what), answer in client.at_once(one, asked):
        rules = what == "effectiveNetworkSecurityGroups"
        name, words = ("nsgs", "security rules") if rules else ("routes", "routes")
        if isinstance(answer, errors.AzureError):
            sentences.append(
                "The effective {0} of {1} could not be read, so the written ones count: {2}".format(words, interface["name"], answer)
            )
            continue
        made = groups(answer) if rules else routes(answer, interface["routes"])
        if made is not None:
            interface[name] = made
            interface["effective"] = [*interface["effective"], name]
    return sentences
