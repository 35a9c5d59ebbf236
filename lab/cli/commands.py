# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""The commands of `lab`."""

import contextlib
import hashlib
import json
import pathlib
import shutil
import sys
import time

from .common import CACHE, LAB, PREFIX, STATE, Trouble, alone, container, containers, podman, say, write
from .containers import clear_leftovers, compiled, make_network, remove, running
from .described import all_guests, described, expected_text, inventory_groups, inventory_text, is_windows
from .guests import EXTENSION, bring, chosen, up, wait_for_answers, wait_ready
from .images import digest, have_images, lacking, windows_root
from .platform import control, up_platform
from .setup import setup


def command_setup(options):
    began = time.monotonic()
    with alone():
        count = setup()
    say(f"set up: {count} images made, {time.monotonic() - began:.1f} s")


def command_up(options):
    began = time.monotonic()
    guests = chosen(options.guest)
    with alone():
        fresh = up(guests)
    say(f"up: {len(guests)} guests, {fresh} of them started now, {time.monotonic() - began:.1f} s")


def command_down(options):
    with alone():
        clear_leftovers()
        have = containers()
        remove(list(have))
        network = described()["network"]["name"]
        if podman("network", "exists", network, check=False).returncode == 0:
            podman("network", "rm", "--force", network)
        shutil.rmtree(CACHE / "run", ignore_errors=True)
    say(f"down: {len(have)} containers removed; images and keys are kept")


def command_status(options):
    have = containers()
    try:
        items = {item["name"]: item for item in control("guests", timeout=2)}
    except Trouble:
        items = {}
    say(f"{'guest':9} {'address':12} {'image':8} {'container':10} {'agent':9} {'version':10} {'extension':10} sequence result")
    for name, guest in {
        "platform": {"address": described()["network"]["platform"], "image": "platform"},
        **all_guests(),
    }.items():
        state = have[name]["State"] if name in have else "-"
        seen = items.get(name, {}).get("seen") or {}
        handler = (seen.get("handlers") or {}).get(EXTENSION) or {}
        age = time.time() - seen["status_at"] if "status_at" in seen else None
        agent = "-" if age is None else seen.get("agent") if age < 60 else f"{age:.0f} s ago"
        words = (
            name,
            guest["address"],
            guest["image"],
            state,
            agent,
            seen.get("agent_version", "-"),
            handler.get("status", "-"),
        )
        say(
            "{:9} {:12} {:8} {:10} {:9} {:10} {:10} {:8} {}".format(
                *[str(word) for word in words], str(handler.get("sequence", "-")), handler.get("result", "-")
            )
        )


def command_reset(options):
    began = time.monotonic()
    guests = chosen(options.guest)
    with alone():
        setup(list(dict.fromkeys(["platform"] + [guest["image"] for guest in guests])))
        make_network()
        clear_leftovers()
        have = containers()
        up_platform(have)
        bring(guests, have)
        wait_for_answers(guests)
    say(f"reset: {', '.join(guest['name'] for guest in guests)}, {time.monotonic() - began:.1f} s")


def command_clean(options):
    if shutil.which("podman"):
        with alone():
            clear_leftovers()
            remove(list(containers()))
            network = described()["network"]["name"]
            if podman("network", "exists", network, check=False).returncode == 0:
                podman("network", "rm", "--force", network)
            images = [image for image in have_images() if image.startswith(f"localhost/{PREFIX}/")]
            if images:
                podman("rmi", "--force", *images, check=False)
    shutil.rmtree(CACHE, ignore_errors=True)
    shutil.rmtree(STATE, ignore_errors=True)
    say("clean: containers, network, images, cache and keys of the lab are gone")


def command_exec(options):
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise Trouble("say what to run: lab exec GUEST -- COMMAND.")
    name = options.guest if options.guest == "platform" else chosen([options.guest])[0]["name"]
    return podman(
        "exec",
        *(["--interactive"] if not sys.stdin.isatty() else ["--interactive", "--tty"]),
        container(name),
        *command,
        quiet=False,
        check=False,
    ).returncode


def pairs(words):
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise Trouble(f"{word!r} is not of the form key=value.")
        if value == "":
            found[key] = None
            continue
        try:
            found[key] = int(value)
        except ValueError:
            found[key] = value
    return found


def command_platform(options):
    words = [word for word in options.words if "=" in word]
    names = [word for word in options.words if "=" not in word]
    for guest in chosen(names) if names else []:
        say(
            json.dumps(
                control(f"guests/{guest['name']}", pairs(words)) if words else control(f"guests/{guest['name']}"),
                indent=1,
            )
        )
    if not names:
        raise Trouble("name the guests: lab platform GUEST [GUEST...] [key=value...].")


def command_wait_ready(options):
    began = time.monotonic()
    guests = chosen(options.guest)
    wait_ready(guests, options.timeout)
    say(f"ready: {len(guests)} guests, {time.monotonic() - began:.1f} s")


def command_backup(options):
    """Ask for a backup as the service does: a new sequence number; then wait for the result file in the guest."""
    guest = (chosen([options.guest]) or [None])[0]
    if guest is None or is_windows(guest):
        raise Trouble("only Linux guests run a real agent that takes backups.")
    name = guest["name"]
    now = control(f"guests/{name}")
    plain = {
        "code": 1,
        "message": None,
        "hold_s": 0,
        "stuck": 0,
        "started_ago_s": 0,
        "code_as_text": 0,
        "extension": "enabled",
    }
    seq = now["seq"] + 1
    control(f"guests/{name}", {**plain, **pairs(options.words), "seq": seq})
    deadline = time.monotonic() + options.timeout
    wanted = None if options.no_wait else f"/var/lib/waagent/{EXTENSION}-{now['version']}/status/{seq}.status"
    while wanted:
        done = podman("exec", container(name), "cat", wanted, check=False)
        if done.returncode == 0 and done.stdout.strip():
            status = json.loads(done.stdout)[0]["status"]
            asked = control(f"guests/{name}")
            if str(status["code"]) != "4" or asked["stuck"] or asked["hold_s"] or asked["code"] == 4:
                say(f"backup {seq} on {name}: code {status['code']}")
                return
        if time.monotonic() > deadline:
            raise Trouble(f"no result of backup {seq} on {name} after {options.timeout:.0f} s; its agent may not run.")
        time.sleep(0.3)
    say(f"backup {seq} on {name}: asked for")


def command_pwsh(options):
    """Run the guests' PowerShell on files of this machine: the folders given are at the same paths for it, since its current drive is C:."""
    image = "windows"
    if lacking(image):
        raise Trouble(f"there is no PowerShell: {lacking(image)}.")
    shares = sorted({str(pathlib.Path(path).resolve()) for path in options.share})
    label = hashlib.sha256(json.dumps([digest(image), shares]).encode()).hexdigest()[:12]
    name = "pwsh-" + label  # one for each set of folders, since several may be at work
    with contextlib.redirect_stdout(sys.stderr), alone():  # what is printed is the answer of PowerShell alone
        if not shutil.which("podman") or not running(containers().get(name), label):
            setup([image])
            remove([name])
            # The guest's own /tmp is in use by Wine; everything else is where links from elsewhere expect it.
            places = {path: "/share" + path if path == "/tmp" else path for path in shares}  # noqa: S108
            volumes = [word for path, place in places.items() for word in ("--volume", f"{path}:{place}:ro")]
            podman(
                "run", "--detach", "--name", container(name), "--runtime", "runc", "--privileged", "--network", "none", "--log-driver=none",
                "--stop-timeout", "1", "--label", f"{PREFIX}={label}", *volumes, *compiled(), "--rootfs", f"{windows_root(image)}:O",
                "/usr/local/bin/guest", "wait",
            )  # fmt: skip
            for path, place in places.items():
                if any(path.startswith(other + "/") for other in places):
                    continue  # reached through that one
                inside = pathlib.Path("/wine/drive_c", path.lstrip("/"))
                podman("exec", container(name), "sh", "-c", 'mkdir -p "$1" && ln -sfn "$3" "$2"', "sh", inside.parent, inside, place)
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    return podman("exec", container(name), "/usr/local/bin/guest", "powershell", *words, quiet=False, check=False).returncode


def command_lacks(options):
    """Print why guests of a group cannot be had on this machine, nothing when they can."""
    groups = inventory_groups()
    for image in dict.fromkeys(all_guests()[name]["image"] for name in groups.get(options.group, [])):
        if lacking(image):
            say(lacking(image))


def command_names(options):
    groups = inventory_groups()
    if options.group and options.group not in groups:
        raise Trouble(f"no group is named {options.group}; there are: {', '.join(sorted(groups))}.")
    for name in groups[options.group] if options.group else all_guests():
        say(name)


def command_inventory(options):
    """Write what restates lab/guests.json and the heads of lab/faults."""
    for name, text in (("inventory/hosts.yml", inventory_text()), ("expected.yml", expected_text())):
        path = LAB / name
        if not options.check:
            say(f"{'written' if write(path, text) else 'unchanged'}: lab/{name}")
        elif not path.exists() or path.read_text() != text:
            raise Trouble(f"lab/{name} does not say what lab/guests.json and the heads of lab/faults say; run `lab/lab inventory`.")
