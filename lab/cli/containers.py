# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Guests as containers, and the network that they share."""

import json
import pathlib
import time

from .common import CACHE, PREFIX, Trouble, container, containers, podman, run, say
from .described import described
from .images import digest, tag, windows_root

WINRM_PORT = 5986


def make_network():
    network = described()["network"]
    found = podman("network", "inspect", network["name"], check=False)
    if found.returncode == 0:
        if network["subnet"] in found.stdout:
            return
        remove(containers())
        podman("network", "rm", "--force", network["name"])
    podman(
        "network",
        "create",
        "--internal",
        "--disable-dns",
        "--subnet",
        network["subnet"],
        "--gateway",
        network["gateway"],
        network["name"],
    )


def own_address():
    """Give the host its address on the lab's bridge. Nothing here connects without that address as its source, so that no packet for a guest can take
    the host's default route while the lab is down."""
    network = described()["network"]
    found = json.loads(podman("network", "inspect", network["name"]).stdout)[0]
    bridge = found.get("network_interface") or ""
    if not bridge or not pathlib.Path("/sys/class/net", bridge).exists():
        raise Trouble(f"the network {network['name']} has no bridge on this machine; try `lab down` and `lab up`.")
    run("ip", "address", "replace", f"{network['gateway']}/{network['subnet'].partition('/')[2]}", "dev", bridge)


def clear_leftovers():
    """End containers of the lab that podman lost sight of (its own state was reset), and give back the addresses of those that are no more."""
    known = {item["Id"] for item in containers().values() if item["State"] == "running"}
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].rpartition("/")[2] == "conmon" and "-n" in words and "-c" in words:
            name, number = words[words.index("-n") + 1], words[words.index("-c") + 1]
            if name.startswith(PREFIX + "-") and number not in known:
                say(f"ending {name}, which podman lost sight of")
                run("runc", "delete", "--force", number, check=False)
    for path in pathlib.Path("/var/lib/cni/networks", described()["network"]["name"]).glob("*.*.*.*"):
        if path.read_text().split()[0] not in known:
            path.unlink()


def start(name, image, address, mac, more=(), label=""):
    """Start a fresh container. systemd as process 1; the word after it lets newer systemd run where the kernel offers the old control groups."""
    network = described()["network"]["name"]
    podman(
        "run", "--detach", "--replace", "--name", container(name), "--hostname", name, "--runtime", "runc", "--systemd=always", "--privileged",
        "--network", network, "--ip", address, "--mac-address", mac, "--dns=none", "--no-hosts", "--log-driver=none", "--stop-timeout", "5",
        "--label", f"{PREFIX}={label or digest(image)}", *more, tag(image), "/sbin/init", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
    )  # fmt: skip


def compiled():
    """Return the volume in which all Windows guests keep what was compiled, of one image of PowerShell (see windows/compiler.cs)."""
    place = CACHE / "compiled" / digest("windows-base")
    place.mkdir(parents=True, exist_ok=True)
    return ["--volume", f"{place}:/wine/drive_c/windows/temp/vmbackup-lab-compiled"]


def start_windows(guest):
    """Start a fresh Windows guest on an overlay of its root file system."""
    network, name = described()["network"], guest["name"]
    settings = {
        "LAB_GATEWAY": network["platform"],
        "WINRM_PORT": WINRM_PORT,
        "WINRM_CERT": "/run/winrm/cert.pem",
        "WINRM_PASSWORD_FILE": "/run/winrm/password",
    }
    podman(
        "run", "--detach", "--replace", "--name", container(name), "--hostname", name, "--runtime", "runc", "--privileged",
        "--network", network["name"], "--ip", guest["address"], "--mac-address", guest["mac"], "--dns=none", "--no-hosts",
        "--log-driver=none", "--stop-timeout", "5", "--label", f"{PREFIX}={digest(guest['image'])}",
        *[word for key, value in settings.items() for word in ("--env", f"{key}={value}")],
        "--volume", f"{CACHE / 'winrm' / name}:/run/winrm:ro", *compiled(), "--rootfs", f"{windows_root(guest['image'])}:O", "/usr/local/bin/guest",
    )  # fmt: skip


def remove(names, pause_s=1):
    """Remove the containers of these guests. One that podman was stopping when the machine went down may resist the first time."""
    left = list(names)
    for attempt in range(3):
        if not left:
            return
        time.sleep(pause_s if attempt else 0)
        done = podman("rm", "--force", "--time", "0", *[container(name) for name in left], check=False)
        have = containers()
        left = [name for name in left if name in have]
    if left:
        raise Trouble(f"podman does not remove {', '.join(map(container, left))}:\n  {(done.stderr or '').strip()}")


def running(item, label):
    return bool(item) and item["State"] == "running" and item["Labels"].get(PREFIX) == label
