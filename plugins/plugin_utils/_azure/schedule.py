# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""VMs of a vault that start at one time, and where those that are too many should go. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Fewer than these are no crowd by any limit that makes sense.
SMALLEST = 20
# Between two start times; Azure offers half hours.
STEP_MINUTES = 30


def mark(vms: Mapping[str, dict[str, Any]], policies: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each backup its crowd: the VMs of its vault that start at the same time, and the vault's other policies of that kind."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for key, vm in sorted(vms.items()):
        policy = _policy(vm, policies)
        if policy:
            groups.setdefault(_time_of(policy), []).append(key)
    for (vault, start, zone), keys in groups.items():
        if len(keys) <= SMALLEST:
            continue
        for rank, key in enumerate(keys):
            slots: dict[str, Any] = {}
            for policy in sorted(policies.values(), key=lambda policy: str(policy["name"])):
                if policy["vault_id"] == vault and policy["start_times"] and _alike(policy, _policy(vms[key], policies) or {}):
                    slots.setdefault(policy["start_times"][0], {"policy": policy["name"], "vms": len(groups.get(_time_of(policy), []))})
            vms[key]["backup"]["crowd"] = {
                "start": start,
                "time_zone": zone or None,
                "vms": len(keys),
                "rank": rank,
                "slots": [{"start": time, **slot} for time, slot in sorted(slots.items()) if time != start],
            }


def _time_of(policy: Mapping[str, Any]) -> tuple[str, str, str]:
    return policy["vault_id"], policy["start_times"][0], policy["time_zone"] or ""


def _alike(policy: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether a VM may change from one policy to another without losing what the first promises, as far as is read."""
    names = ("type", "frequency", "time_zone", "days", "interval_h", "every_h", "instant_days")
    return all(policy[name] == other.get(name) for name in names)


def _policy(vm: Mapping[str, Any], policies: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the policy that a VM is backed up by, None where it is not, or where nobody knows when it starts."""
    backup = vm.get("backup") or {}
    if not backup.get("policy_id") or set(vm.get("states") or []) & {"stopped", "soft_deleted", "vm_gone"}:
        return None
    policy = policies.get(str(backup["policy_id"]).lower())
    return policy if policy and policy["start_times"] else None


def move(crowd: Mapping[str, Any], limit: int) -> dict[str, Any] | None:
    """Return {policy, start} that a VM of a crowd should move to; policy is None where a new one is needed. None: it stays.

    The first VMs, by their ids, stay. The others fill the policies that have room, then new start times, each half an hour after the last.
    """
    limit = max(1, limit)
    over = int(crowd.get("rank") or 0) - limit
    if over < 0:
        return None
    for slot in crowd.get("slots") or []:
        room = max(0, limit - int(slot.get("vms") or 0))
        if over < room:
            return {"policy": slot["policy"], "start": slot["start"]}
        over -= room
    taken = {crowd.get("start"), *(slot.get("start") for slot in crowd.get("slots") or [])}
    return {"policy": None, "start": _free(str(crowd.get("start")), taken, over // limit)}


def _free(start: str, taken: set[Any], number: int) -> str:
    """Return the start time with that number among those after another one that no policy has."""
    hours, minutes = (int(part) for part in start.split(":"))
    for step in range(1, 24 * 60 // STEP_MINUTES):
        moment = (hours * 60 + minutes + step * STEP_MINUTES) % (24 * 60)
        text = "{0:02d}:{1:02d}".format(*divmod(moment, 60))
        if text not in taken:
            if number == 0:
                return text
            number -= 1
    return start


def plan(vms: Mapping[str, Mapping[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Return the moves of the whole fleet: [{vm, vm_id, vault, item_id, from_policy, from_start, policy, start}]."""
    moves = []
    for _key, vm in sorted(vms.items()):
        backup = vm.get("backup") or {}
        crowd = backup.get("crowd")
        target = move(crowd, limit) if crowd and crowd["vms"] > limit else None
        if crowd and target:
            moves.append(
                {
                    "vm": vm["name"],
                    "vm_id": vm["id"],
                    "vault": backup["vault"],
                    "item_id": backup["item_id"],
                    "from_policy": backup["policy"],
                    "from_start": crowd["start"],
                    **target,
                }
            )
    return moves
