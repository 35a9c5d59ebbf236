# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Guests brought up, thrown away and waited for."""

import concurrent.futures
import socket
import time

from .common import Trouble, containers, say
from .containers import WINRM_PORT, clear_leftovers, make_network, remove, running, start, start_windows
from .described import all_guests, described, faults, is_windows
from .images import digest, lacking
from .platform import control, up_platform
from .setup import setup

EXTENSION = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"


def chosen(names):
    """Return the guests named, or all; a fault's name stands for the guest that it is planted on."""
    guests, planted = all_guests(), {fault: head["guest"] for fault, head in faults().items()}
    unknown = [name for name in names if name not in guests and name not in planted]
    if unknown:
        raise Trouble(f"no guest is named {', '.join(unknown)}; there are: {', '.join(guests)}.")
    wanted = list(dict.fromkeys(planted.get(name, name) for name in names)) or list(guests)
    found = []
    for name in wanted:
        why = lacking(guests[name]["image"])
        if why:
            say(f"{name}: left out, {why}")
        else:
            found.append(guests[name])
    return found


def answers(guest):
    """Say whether ssh, or WinRM on Windows, answers."""
    port = WINRM_PORT if is_windows(guest) else 22
    try:
        with socket.create_connection(
            (guest["address"], port), timeout=2, source_address=(described()["network"]["gateway"], 0)
        ) as connection:
            connection.settimeout(2)
            return is_windows(guest) or connection.recv(8).startswith(b"SSH-")
    except OSError:
        return False


def wait_for_answers(guests, seconds=90):
    deadline = time.monotonic() + seconds
    left = {guest["name"]: guest for guest in guests}
    while left:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for name, answered in zip(list(left), pool.map(answers, list(left.values()))):
                if answered:
                    left.pop(name)
        if left and time.monotonic() > deadline:
            raise Trouble(
                f"no answer to ssh or WinRM after {seconds} s: {', '.join(left)}; look with `lab exec {next(iter(left))} -- ps ax`."
            )
        time.sleep(0.2 if left else 0)


def up(guests):
    images = list(dict.fromkeys(["platform"] + [guest["image"] for guest in guests]))
    setup(images)
    make_network()
    clear_leftovers()
    have = containers()
    up_platform(have)
    fresh = [guest for guest in guests if not running(have.get(guest["name"]), digest(guest["image"]))]
    bring(fresh, have)
    wait_for_answers(guests)
    return len(fresh)


def bring(guests, have):
    """Throw away what there is of these guests and start them as new."""
    remove([guest["name"] for guest in guests if guest["name"] in have])
    known = {item["name"] for item in control("guests")}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for guest in guests:
            if guest["name"] in known:
                control(f"guests/{guest['name']}/reset", {})
        jobs = [
            pool.submit(start_windows, guest)
            if is_windows(guest)
            else pool.submit(start, guest["name"], guest["image"], guest["address"], guest["mac"])
            for guest in guests
        ]
        for job in jobs:
            job.result()


def ready(item):
    """True when the agent of the guest reported itself and the snapshot extension as ready, since the guest was started."""
    seen = item.get("seen") or {}
    handler = (seen.get("handlers") or {}).get(EXTENSION) or {}
    return (
        seen.get("agent") == "Ready"
        and handler.get("status") == "Ready"
        and handler.get("sequence") == item["seq"]
        and str(handler.get("result")) != "4"
    )


def wait_ready(guests, seconds):
    deadline = time.monotonic() + seconds
    left = [guest["name"] for guest in guests if not is_windows(guest)]
    while True:
        items = {item["name"]: item for item in control("guests")}
        left = [name for name in left if not ready(items[name])]
        if not left:
            return
        if time.monotonic() > deadline:
            raise Trouble(
                f"not ready after {seconds:.0f} s: {', '.join(left)}; look with `lab exec {left[0]} -- tail /var/log/waagent.log`."
            )
        time.sleep(0.5)
