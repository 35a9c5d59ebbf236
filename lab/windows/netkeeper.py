#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Stand-in for the part of Windows' network stack that Wine lacks: carries routes and firewall rules over to the container's own.

The stand-ins of the cmdlets append one line for each change to C:\\VmbackupLab\\network.journal; this program, in the container, follows it:
  route add PREFIX NEXTHOP | route del PREFIX NEXTHOP
  block NAME ADDRESS [PROTOCOL PORTS] | unblock NAME
A route with the next hop 0.0.0.0 or :: is one on the link.
"""

import subprocess
import sys
import time

JOURNAL = sys.argv[1]
RULES = {}


def route(verb, prefix, hop):
    family = ["-6"] if ":" in prefix else []
    way = [] if hop in ("0.0.0.0", "::") else ["via", hop]
    return ["ip", *family, "route", "replace" if verb == "add" else "del", prefix, *way, "dev", "eth0"]


def block(name, address="", protocol="", ports=""):
    ports = ports.split(",") if ports else [""]
    return [
        ["iptables", "-A", "OUTPUT", *(["-d", address] if address else []), *(["-p", protocol] if protocol else []),
         *(["--dport", port] if port else []), "-j", "DROP"]
        for port in ports
    ]  # fmt: skip


def apply(words):
    if words[:1] == ["route"] and len(words) == 4:
        commands = [route(*words[1:])]
    elif words[:1] == ["block"] and len(words) > 1:
        commands = RULES[words[1]] = block(*words[1:5])
    elif words[:1] == ["unblock"] and len(words) == 2:
        commands = [[word if word != "-A" else "-D" for word in command] for command in RULES.pop(words[1], [])]
    else:
        return
    for command in commands:
        subprocess.run(command, check=False, capture_output=True)


def main():
    open(JOURNAL, "a").close()
    with open(JOURNAL, errors="replace") as journal:
        kept = ""
        while True:
            kept += journal.read()
            lines = kept.split("\n")
            kept = lines.pop()
            for line in lines:
                apply(line.split())
            time.sleep(0.05)


if __name__ == "__main__":
    main()
