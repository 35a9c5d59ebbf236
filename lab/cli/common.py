# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""What every part of the lab needs: where things are, and how programs are run."""

import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import subprocess

LAB = pathlib.Path(__file__).resolve().parents[1]
STATE = LAB / ".state"
CACHE = pathlib.Path(os.environ.get("VMBACKUP_LAB_CACHE") or "~/.cache/vmbackup-lab").expanduser().resolve()
PREFIX = "vmbackup-lab"
MIRROR = os.environ.get("VMBACKUP_LAB_MIRROR") or "http://deb.debian.org/debian"


class Trouble(Exception):
    """Something that a person has to know, in one sentence."""


def say(*words):
    print(*words, flush=True)


def run(*command, check=True, quiet=True, **options):
    """Run a program; a failure becomes one sentence with the last lines of what it said."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if (CACHE / "containers.conf").exists():  # before the set-up podman is only asked what there is
        environment["CONTAINERS_CONF"] = str(CACHE / "containers.conf")
    if quiet:
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
    try:
        done = subprocess.run([str(word) for word in command], env=environment, text=True, check=False, **options)
    except FileNotFoundError:
        raise Trouble(f"{command[0]} is not installed; `lab setup` installs what the lab needs.") from None
    if check and done.returncode:
        lines = (done.stdout or "").splitlines()[-8:] + (done.stderr or "").splitlines()[-8:]
        told = "\n".join("  " + line for line in lines)
        raise Trouble(f"`{shlex.join(str(word) for word in command)[:300]}` ended with code {done.returncode}:\n{told}")
    return done


def podman(*command, **options):
    return run("podman", *command, **options)


def container(name):
    return f"{PREFIX}-{name}"


@contextlib.contextmanager
def alone():
    """One `lab` at a time changes something."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another lab command is at work; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(path, text, mode=0o644):
    """Write a file when it would differ; True if it did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text() == text:
        return False
    path.write_text(text)
    path.chmod(mode)
    return True


def tools(wanted, more=()):
    """Install the packages of programs that are not there."""
    places = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted({package for tool, package in wanted.items() if not shutil.which(tool, path=places)} | set(more))
    if missing:
        say(f"installing: {' '.join(missing)}")
        run("apt-get", "update")
        run("apt-get", "install", "--yes", "--no-install-recommends", *missing)


def containers():
    """Return the lab's containers: {name of the guest: (state, image)}."""
    listed = podman("ps", "--all", "--filter", f"label={PREFIX}", "--format", "json").stdout
    have = {item["Names"][0][len(PREFIX) + 1 :]: item for item in json.loads(listed or "[]")}
    for item in have.values():
        # podman believes its own state, which outlives the processes where the machine was stopped and restored.
        if item["State"] == "running" and item["Id"] not in cgroup_of(item["Pid"]):
            item["State"] = "gone"
    return have


def cgroup_of(pid):
    try:
        return pathlib.Path("/proc", str(pid), "cgroup").read_text()
    except OSError:
        return ""
