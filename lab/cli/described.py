# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""What there is: networks, guests, faults and images, and the inventory that follows from them."""

import json
import re

from .common import LAB, Trouble

# name: how it is made. "rootfs" by debootstrap; "windows" by a program of lab/windows, kept as a directory that each guest gets an overlay of;
# everything else from lab/images/<recipe>/Containerfile on top of its parent.
IMAGES = {
    "debian12": {"rootfs": "bookworm"},
    "debian13": {"rootfs": "trixie", "more": "python3-legacycrypt,python3-crypt-r"},
    "packages12": {"recipe": "packages", "parent": "debian12", "args": {"EL": "9"}},
    "packages13": {"recipe": "packages", "parent": "debian13", "args": {"EL": "10"}},
    "base12": {"recipe": "base", "parent": "debian12", "keys": True},
    "base13": {"recipe": "base", "parent": "debian13", "keys": True},
    "platform": {"recipe": "platform", "parent": "base12"},
    "deb12": {"recipe": "apt", "parent": "base12", "packages": "packages12"},
    "deb13": {"recipe": "apt", "parent": "base13", "packages": "packages13"},
    "nmbase12": {"recipe": "nm", "parent": "base12"},
    "nm12": {"recipe": "el", "parent": "nmbase12", "packages": "packages12", "args": {"EL": "9"}},
    "npbase13": {"recipe": "netplan", "parent": "base13"},
    "np13": {"recipe": "apt", "parent": "npbase13", "packages": "packages13"},
    "el9": {"recipe": "el", "parent": "base12", "packages": "packages12", "args": {"EL": "9"}},
    "el10": {"recipe": "el", "parent": "base13", "packages": "packages13", "args": {"EL": "10"}},
    "suse15": {"recipe": "suse15", "parent": "base12", "packages": "packages12"},
    "static1": {"recipe": "static", "parent": "deb12", "guest": "static1"},
    "no245": {"recipe": "no245", "parent": "deb12", "guest": "no245"},
    "py36": {"recipe": "python", "parent": "deb12", "python": "3.6"},
    "py313": {"recipe": "python", "parent": "deb12", "python": "3.13"},
    "windows-base": {"windows": "make-base.sh"},
    "windows": {"windows": "make-guest.sh", "parent": "windows-base"},
}


def described():
    try:
        return json.loads((LAB / "guests.json").read_text())
    except (OSError, ValueError) as error:
        raise Trouble(f"lab/guests.json cannot be read: {error}.") from None


def all_guests():
    return {guest["name"]: guest for guest in described()["guests"]}


def is_windows(guest):
    return bool(IMAGES[guest["image"]].get("windows"))


def faults():
    """Return what each fault says in its head: {name: {guest, brings}}. The fault's file is the only place that says it."""
    found = {}
    for path in sorted((LAB / "faults").glob("*.yml")):
        head = dict(re.findall(r"^# (Guest|Brings): (.+)$", path.read_text(), re.M))
        if len(head) != 2 or head["Guest"] not in all_guests():
            raise Trouble(
                f"lab/faults/{path.name} does not say in its head which `Guest:` of lab/guests.json it is planted on and what it `Brings:`."
            )
        found[path.stem] = {"guest": head["Guest"], "brings": head["Brings"].split(", ")}
    return found


def inventory_groups():
    groups = {"linux": [], "windows": []}
    for guest in all_guests().values():
        groups["windows" if is_windows(guest) else "linux"].append(guest["name"])
    for guest in all_guests().values():
        for group in guest["groups"]:
            groups.setdefault(group, []).append(guest["name"])
    for fault, head in faults().items():
        groups[fault] = [head["guest"]]
    return groups


HEAD = [
    "# SPDX-License" + "-Identifier: GPL-3.0-or-later",
    "# Copyright: vmbackup.azure contributors",
]  # two words, since this file has its own


def inventory_text():
    """Return Ansible's inventory of the lab."""
    groups, guests = inventory_groups(), all_guests()
    lines = HEAD + [
        "# Written by `lab/lab inventory` from lab/guests.json and the heads of lab/faults. One group for each fault: the guest that it is",
        "# planted on by default.",
        "---",
        "all:",
        "  children:",
    ]
    for system in ("linux", "windows"):
        lines += [f"    {system}:", "      hosts:"]
        for name in groups[system]:
            lines += [f"        {name}:", f"          ansible_host: {guests[name]['address']}"]
            version = IMAGES[guests[name]["image"]].get("python")
            if version:
                lines += [f"          ansible_python_interpreter: /opt/python{version}/bin/python{version}"]
    for group, names in groups.items():
        if group not in ("linux", "windows"):
            lines += [f"    {group}:", "      hosts:"] + [f"        {name}:" for name in names]
    return "\n".join(lines) + "\n"


def expected_text():
    """Return which findings each fault must bring, as variables of a playbook."""
    lines = HEAD + [
        "# Written by `lab/lab inventory` from the heads of lab/faults: all findings that each fault must bring, and no other.",
        "---",
        "lab_expected:",
    ]
    return "\n".join(lines + [f"  {fault}: [{', '.join(head['brings'])}]" for fault, head in faults().items()]) + "\n"
