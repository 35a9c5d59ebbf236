# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let VMs reach what backup talks to: one rule of a security group for each service that it denies, for all VMs of the group; and take it back.

A rule takes one service tag, so that a rule for each service is needed. Rules of others are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Look, Run, Target, Write
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.network import rules_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings.azure_network import denying

NETWORK_VERSION = "2024-03-01"
PREFIX, SUFFIX = "vmbackup-allow-", "-outbound"
MARK = "Made by the Ansible collection vmbackup.azure, so that backups reach {0}. Its playbook undo removes it."
LOWEST = 100


def rule_name(service: str) -> str:
    return PREFIX + service + SUFFIX


def rule_body(service: str, priority: int) -> dict[str, Any]:
    """Return the rule that lets the VMs of a group reach a service at port 443."""
    return {
        "description": MARK.format(service),
        "protocol": "Tcp",
        "sourcePortRange": "*",
        "destinationPortRange": "443",
        "sourceAddressPrefix": "VirtualNetwork",
        "destinationAddressPrefix": service,
        "access": "Allow",
        "priority": priority,
        "direction": "Outbound",
    }


def free_priority(taken: set[Any], below: int) -> int | None:
    """Return the free number just below another: numbers are unique for a direction, and the lower one goes first."""
    return next((number for number in range(below - 1, LOWEST - 1, -1) if number not in taken), None)


class NsgRule:
    """A target of this step is a VM with one of its security groups (fix: group, services)."""

    remedy = "azure.nsg_rule"

    @staticmethod
    def expand(target: Target) -> list[Target]:
        """Return the target once for each security group that denies something."""
        groups: dict[str, dict[str, Any]] = {}
        for entry in values.entries(target.fix.get("denied")):
            one = groups.setdefault(values.key(entry.get("group")), {"group": entry.get("group"), "services": []})
            one["services"].append(entry.get("service"))
        return [Target(target.host, target.vm, fix) for fix in groups.values()]

    def resource(self, target: Target) -> str:
        return str(target.fix["group"])

    def look(self, client: Client, targets: Sequence[Target], run: Run) -> Look:
        id_ = str(targets[0].fix["group"])
        group = values.mapping(client.get(id_, NETWORK_VERSION))
        rules = rules_of(group)
        services = list(dict.fromkeys(str(service) for target in targets for service in target.fix["services"]))
        writes: list[Write] = []
        for service in services:
            found = [rule for rule in (_denied(target, rules, service) for target in targets) if rule is not None]
            if not found:
                continue
            below = min(int(rule["priority"] or LOWEST) for rule in found)
            name = rule_name(service)
            if any(str(rule["name"]).lower() == name.lower() for rule in rules):
                return Look("The group has a rule {0} already, and denies {1} all the same: look at it.".format(name, service), failed=True)
            taken = {rule["priority"] for rule in rules} | {write.new["priority"] for write in writes}
            priority = free_priority(taken, below)
            if priority is None:
                return Look("No number is free below rule {0} ({1}).".format(found[0]["name"], below), failed=True)
            new = {"service": service, "priority": priority}
            body = {"properties": rule_body(service, priority)}
            path = "{0}/securityRules/{1}".format(id_, name)
            writes.append(Write("PUT", path, NETWORK_VERSION, id_, "rule " + name, None, new, body))
        if not writes:
            return Look("The security group {0} lets the VM reach what backup talks to.".format(values.last(id_)), seen=True)
        text = "Allows {0} at port 443 by rules of the security group {1}.".format(
            ", ".join(write.new["service"] for write in writes), values.last(id_)
        )
        return Look(text, writes, undo="nsg_rule with state absent")


def _denied(target: Target, rules: Sequence[Mapping[str, Any]], service: str) -> Mapping[str, Any] | None:
    addresses = target.vm.get("private_addresses")
    return denying({"rules": rules}, service, str(target.vm.get("region") or "").lower(), addresses)


class NsgRuleAbsent:
    """Take back the rules that NsgRule made, as far as they still are what it wrote."""

    remedy = "azure.nsg_rule"

    @staticmethod
    def expand(target: Target) -> list[Target]:
        ids = {values.key(group["id"]): group["id"] for nic in target.vm.get("network") or [] for group in nic.get("nsgs") or []}
        return [Target(target.host, target.vm, {"group": id_}) for id_ in ids.values()]

    def resource(self, target: Target) -> str:
        return str(target.fix["group"])

    def look(self, client: Client, targets: Sequence[Target], run: Run) -> Look:
        id_ = str(targets[0].fix["group"])
        group = values.mapping(client.get(id_, NETWORK_VERSION))
        writes, others = [], []
        for rule in values.entries(values.mapping(group.get("properties")).get("securityRules")):
            properties = values.mapping(rule.get("properties"))
            name = str(rule.get("name"))
            service = str(properties.get("destinationAddressPrefix") or "")
            if not name.lower().startswith(PREFIX):
                continue
            wanted = rule_body(service, values.number(properties.get("priority")) or 0)
            if name != rule_name(service) or any(str(properties.get(key)).lower() != str(value).lower() for key, value in wanted.items()):
                others.append(name)
                continue
            etag = values.text(rule.get("etag"))
            old = {"service": service, "priority": properties.get("priority")}
            path = "{0}/securityRules/{1}".format(id_, name)
            headers = {"If-Match": etag} if etag else {}
            writes.append(Write("DELETE", path, NETWORK_VERSION, id_, "rule " + name, old, None, None, headers))
        left = " Left, since somebody changed them: {0}.".format(", ".join(others)) if others else ""
        if not writes:
            return Look("The security group {0} has no rule of this collection.{1}".format(values.last(id_), left), seen=True)
        names = ", ".join(write.name for write in writes)
        return Look("Removes {0} of the security group {1}.{2}".format(names, values.last(id_), left), writes)
