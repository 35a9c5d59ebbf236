# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the installed collection over the lab's guests. `make lab-test` starts the lab and sets the environment."""

import json
import os
import subprocess
import time

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
LAB = os.path.join(ROOT, "lab", "lab")
INVENTORY = os.path.join(ROOT, "lab", "inventory")
CACHE = os.environ.get("VMBACKUP_CACHE") or os.path.join(ROOT, ".cache")


class Lab:
    """The lab's command and the playbooks of the collection."""

    def __call__(self, *arguments, check=True):
        done = subprocess.run([LAB] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert not check or done.returncode == 0, "lab {0}: {1}".format(" ".join(arguments), done.stdout[-3000:])
        return done.stdout

    def shell(self, guest, script):
        """Run a script in a guest by another way than Ansible's connection."""
        return self("exec", guest, "--", "sh", "-c", script)

    def processes(self, guest):
        """Return the command lines of a guest's processes. Sorted out here: in the guest, pgrep finds the shell that was told to look."""
        return self("exec", guest, "--", "ps", "-eo", "args").splitlines()

    def snapshot_runs(self, guest):
        return any("VMSnapshotLinux" in line and "handle.py -daemon" in line for line in self.processes(guest))

    def start_snapshot(self, guest, seconds):
        """Ask for a backup whose snapshot takes so long; return while it runs."""
        self("backup", guest, "hold_s={0}".format(seconds))
        for _look in range(50):
            if self.snapshot_runs(guest):
                return
            time.sleep(0.2)
        raise AssertionError("no snapshot runs on {0}: {1}".format(guest, self.processes(guest)))

    def end_snapshot(self, guest):
        """End a snapshot that start_snapshot began, before its time."""
        self.shell(guest, "touch /run/lab-snapshot-enough")

    def names(self, group):
        return self("names", "--group", group).split()

    def ansible(self, command, *arguments, inventory=INVENTORY, core=None, **environment):
        env = dict(os.environ, **environment)
        if core:
            env["PATH"] = os.path.join(CACHE, "core-" + core, "bin") + ":" + env["PATH"]
        done = subprocess.run(
            [command, "-i", inventory] + list(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            cwd=ROOT,
            check=False,
        )
        done.stdout = done.stdout.replace("\r", "")
        return done

    def playbook(self, name, hosts, directory, *arguments, **options):
        """Run a playbook of the collection; return (exit code, output, report as JSON)."""
        base = [name, "-e", "vmbackup_hosts=" + ",".join(hosts), "-e", "vmbackup_report_dir={0}".format(directory)]
        done = self.ansible("ansible-playbook", *(base + list(arguments)), **options)
        path = os.path.join(str(directory), "vmbackup-report.json")
        report = None
        if os.path.exists(path):
            with open(path) as stream:
                report = json.load(stream)
        return done.returncode, done.stdout, report

    def plant(self, plan):
        """Plant {guest: fault} on fresh guests."""
        self("reset", *sorted(plan))
        self("wait-ready", *sorted(plan))
        done = self.ansible("ansible-playbook", "lab/plant.yml", "-e", json.dumps({"lab_plan": plan}))
        assert done.returncode == 0, done.stdout[-5000:]


@pytest.fixture(scope="session")
def lab():
    result = Lab()
    result("up")
    return result


def host_of(report, name):
    """Return the report of one host."""
    return next(host for host in report["hosts"] if host["host"] == name)


def findings(report, name):
    """Return {id: evidence} of what was found first on a host."""
    return {entry["id"]: entry["evidence"] for entry in host_of(report, name)["findings"]}
