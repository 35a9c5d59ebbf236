# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""The lab: Linux guests in containers that run the real agent, Windows guests under Wine, and a stand-in for the Azure host. See lab/README.md."""

import argparse
import os
import sys

from . import commands
from .common import Trouble


def arguments():
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parsers = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name, function, text, *options):
        command = parsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        for words, settings in options:
            command.add_argument(*words, **settings)
        command.set_defaults(function=function)

    some = (("guest",), {"nargs": "*", "help": "guests, or faults for their guests (default: all)"})
    these = (("guest",), {"nargs": "+", "help": "guests, or faults for their guests"})
    add("setup", commands.command_setup, "install what is missing and make the images; quick when all is there")
    add("up", commands.command_up, "start the platform stand-in and the guests, and wait until ssh or WinRM answers", some)
    add("down", commands.command_down, "remove the containers and the network; images are kept")
    add("status", commands.command_status, "show what runs, and what each agent reported last")
    add("reset", commands.command_reset, "throw guests away and start fresh ones", these)
    add("clean", commands.command_clean, "remove everything, images and cache too")
    add("exec", commands.command_exec, "run a command in a guest by another way than ssh",
        (("guest",), {}), (("command",), {"nargs": argparse.REMAINDER, "metavar": "-- COMMAND"}))  # fmt: skip
    add("platform", commands.command_platform, "show or set what the platform stand-in does for guests",
        (("words",), {"nargs": "+", "metavar": "GUEST|key=value"}))  # fmt: skip
    add("backup", commands.command_backup, "ask for a backup and wait for its result in the guest", (("guest",), {}),
        (("words",), {"nargs": "*", "metavar": "key=value", "help": "such as code=121 hold_s=60 stuck=1 message=..."}),
        (("--timeout",), {"type": float, "default": 60, "help": "seconds (60)"}), (("--no-wait",), {"action": "store_true"}))  # fmt: skip
    add("wait-ready", commands.command_wait_ready, "wait until agents reported themselves and the snapshot extension as ready", some,
        (("--timeout",), {"type": float, "default": 120, "help": "seconds (120)"}))  # fmt: skip
    add(
        "lacks",
        commands.command_lacks,
        "say why the guests of a group cannot be had on this machine",
        (("group",), {"help": "a group of the inventory"}),
    )
    add("pwsh", commands.command_pwsh, "run the guests' PowerShell on files of this machine",
        (("--share",), {"action": "append", "default": [], "metavar": "DIR", "help": "a folder that it may read, at the same path"}),
        (("command",), {"nargs": argparse.REMAINDER, "metavar": "-- ARGUMENT"}))  # fmt: skip
    add("names", commands.command_names, "list the guests", (("--group",), {"help": "only those of this group of the inventory"}))
    add(
        "inventory",
        commands.command_inventory,
        "write the inventory and expected.yml from guests.json and the heads of the faults",
        (("--check",), {"action": "store_true", "help": "only compare"}),
    )
    return parser.parse_args()


def main():
    options = arguments()
    try:
        if os.geteuid() and options.name not in ("names", "inventory"):
            raise Trouble("the lab needs root: for systemd in containers and for a network of its own.")
        return options.function(options) or 0
    except Trouble as trouble:
        print(f"lab: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
