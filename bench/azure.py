# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Reading Azure, against the stand-in with 150 ms for each answer: azure.py [ROUNDS].

BENCH_AZCOLLECTION=1 measures azure.azcollection in the same run: its inventory of 100 VMs, and for some VMs the two calls that say how their backup
and their agent are, scaled to 100. It is installed below .cache first, 1.5 GB, from PyPI.
"""

import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("VMBACKUP_CACHE") or os.path.join(HERE, "..", ".cache")
LATENCY_MS = 150
LOOPED = int(os.environ.get("BENCH_LOOPED") or 5)
RELEASE = "ansible==12.3.0"
TARGET_S, TARGET_RATIO = 3.0, 1 / 20
# What azure.azcollection needs to say how a VM's backup and agent are: two calls for each VM.
LOOP = {"loop": "{{ bench_vms }}", "loop_control": {"label": "{{ item.id }}"}}
ITEM = {"recovery_vault_name": "{{ item.vault }}", "resource_group": "rg-backup", "resource_id": "{{ item.id }}"}
VIEW = {"url": "{{ item.id }}?$expand=instanceView", "api_version": "2024-07-01"}
PLAY = {
    "hosts": "localhost",
    "connection": "local",
    "gather_facts": False,
    "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
    "tasks": [
        {"azure.azcollection.azure_rm_backupazurevm_info": ITEM, **LOOP},
        {"azure.azcollection.azure_rm_resource_info": VIEW, **LOOP},
    ],
}


class StandIn:
    """A stand-in as a process of its own."""

    def __init__(self, vms, failing):
        command = [
            sys.executable,
            os.path.join(HERE, "..", "lab", "arm"),
            "--latency-ms",
            str(LATENCY_MS),
            "--vms",
            str(vms),
            "--failing",
            str(failing),
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        self.told = json.loads(self.process.stdout.readline())
        return self

    def __exit__(self, *details):
        self.process.stdin.close()
        self.process.wait()

    def requests(self):
        """Return the log of requests and empty it."""
        context = ssl.create_default_context(cafile=self.told["options"]["ca_file"])
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.told["options"]["resource_manager_url"] + "/-/requests", method="DELETE")
        with opener.open(request) as answer:
            return json.load(answer)


def timed(command, env):
    started = time.monotonic()
    done = subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0 or "Unable to parse" in done.stderr:
        sys.exit("{0} ended with {1}:\n{2}".format(" ".join(command), done.returncode, (done.stdout + done.stderr)[-3000:]))
    return time.monotonic() - started, done.stdout


def ours(azure, directory, rounds):
    """Return (seconds, seconds of a processor, what the inventory says) of the failed backups."""
    path = os.path.join(directory, "failed_backups.yml")
    with open(path, "w") as stream:
        json.dump({"plugin": "vmbackup.azure.failed_backups", **azure.told["options"]}, stream)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    runs = [timed(["ansible-inventory", "-i", path, "--list"], {}) for _round in range(rounds)]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / rounds
    return statistics.median(seconds for seconds, _output in runs), processor_s, json.loads(runs[0][1])


def plain(value):
    """Return a text without the mark that ansible-inventory writes for untrusted ones."""
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


def installed():
    """Return (programs, collections) of azure.azcollection, made when they are missing."""
    home = os.path.join(CACHE, "azcollection")
    programs, collections = os.path.join(home, "venv", "bin"), os.path.join(home, "collections")
    if not os.path.exists(os.path.join(home, "done")):
        print("Installing azure.azcollection and what it needs into {0}".format(home), flush=True)
        pip = [os.path.join(programs, "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", os.path.join(home, "venv")], check=True)
        subprocess.run([*pip, "download", "--no-deps", "--only-binary=:all:", "-d", home, RELEASE], check=True, stderr=subprocess.DEVNULL)
        wheel = next(os.path.join(home, name) for name in os.listdir(home) if name.endswith(".whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(
                collections, [name for name in archive.namelist() if name.startswith("ansible_collections/azure/azcollection/")]
            )
        os.unlink(wheel)
        needs = os.path.join(collections, "ansible_collections", "azure", "azcollection", "requirements.txt")
        subprocess.run([*pip, "install", "--only-binary=:all:", "ansible-core==2.19.*", "-r", needs], check=True, stderr=subprocess.DEVNULL)
        with open(os.path.join(home, "done"), "w"):
            pass
    return programs, collections


def theirs(azure, directory, listed, count):
    """Return (seconds of the inventory, seconds of the modules for all VMs) of azure.azcollection, through the proxy."""
    programs, collections = installed()
    env = {**azure.told["environment"], "ANSIBLE_COLLECTIONS_PATH": collections, "NO_PROXY": "", "ANSIBLE_LOCALHOST_WARNING": "false"}
    path = os.path.join(directory, "all.azure_rm.yml")
    with open(path, "w") as stream:
        json.dump(
            {"plugin": "azure.azcollection.azure_rm", "auth_source": "env", "default_host_filters": [], "plain_host_names": True}, stream
        )
    inventory_s, _output = timed([os.path.join(programs, "ansible-inventory"), "-i", path, "--list"], env)
    hosts = list(listed["_meta"]["hostvars"].values())[:LOOPED]
    vms = [{"vault": plain(host["vmbackup_vault"]), "id": plain(host["vmbackup_vm_id"])} for host in hosts]
    play = os.path.join(directory, "play.yml")
    with open(play, "w") as stream:
        json.dump([PLAY], stream)
    book = [os.path.join(programs, "ansible-playbook"), "-i", "localhost,", play, "-e"]
    # The first call compiles what it imports.
    timed([*book, json.dumps({"bench_vms": vms[:1]})], env)
    empty_s, _output = timed([*book, json.dumps({"bench_vms": []})], env)
    looped_s, _output = timed([*book, json.dumps({"bench_vms": vms})], env)
    return inventory_s, (looped_s - empty_s) * count / len(vms)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    missed = False
    for vms, failing in ((100, 20), (1000, 200)):
        with StandIn(vms, failing) as azure, tempfile.TemporaryDirectory() as directory:
            seconds, processor_s, listed = ours(azure, directory, rounds)
            log = azure.requests()
            views = sum("/virtualMachines/" in path for _method, path, _status in log)
            print(
                "{0} VMs, {1} of them failed, {2} ms for each answer (median of {3}, Ansible's own start included)".format(
                    vms, failing, LATENCY_MS, rounds
                )
            )
            counted = "{0:.0f} requests and {1:.0f} instance views".format((len(log) - views) / rounds, views / rounds)
            print("  {0:.2f} s, of a processor {1:.2f} s; {2}".format(seconds, processor_s, counted))
            if vms != 100:
                continue
            print("  target at most {0} s: {1}".format(TARGET_S, "met" if seconds <= TARGET_S else "MISSED"))
            missed = missed or seconds > TARGET_S
            if not os.environ.get("BENCH_AZCOLLECTION"):
                print("SKIPPED azure.azcollection: BENCH_AZCOLLECTION=1 installs it (1.5 GB) and measures it")
                continue
            inventory_s, modules_s = theirs(azure, directory, listed, vms)
            ratio = seconds / (inventory_s + modules_s)
            print(
                "the same facts with azure.azcollection: its inventory, and two module calls for each VM ({0} VMs, scaled to {1})".format(
                    LOOPED, vms
                )
            )
            print("  inventory {0:.1f} s, modules {1:.1f} s".format(inventory_s, modules_s))
            print("  ratio {0:.3f}, target at most {1}: {2}".format(ratio, TARGET_RATIO, "met" if ratio <= TARGET_RATIO else "MISSED"))
            missed = missed or ratio > TARGET_RATIO
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
