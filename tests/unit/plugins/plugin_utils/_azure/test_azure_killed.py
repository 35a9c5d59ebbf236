# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SIGKILL of the controller at random points, before and after the service has carried a request out: a run after it converges, nothing is done twice."""

import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, resources, tls
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm.server import StandIn

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())
PROGRAM = os.path.join(os.path.dirname(__file__), "killed_run.py")
# Requests of a run that is not killed, and how often one is.
REQUESTS, POINTS = 41, 30
FAILED = ("vm0001", "vm0002", "vm0003")


class Killer:
    """Kills a process at its request with a number, before or after that was carried out."""

    def __init__(self, azure):
        self.azure, self.inner, self.process, self.at, self.after, self.count = azure, azure.answer, None, 0, False, 0
        azure.answer = self.answer

    def answer(self, request):
        self.count += 1
        mine = self.process is not None and self.count == self.at
        if mine and not self.after:
            self.process.kill()
            return None
        answer = self.inner(request)
        if mine:
            self.process.kill()
        return answer

    def run(self, at=0, after=False):
        """Run to the end, or to a request; return whether it was killed."""
        self.count, self.at, self.after = 0, at, after
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with subprocess.Popen(
            [sys.executable, PROGRAM, json.dumps(self.azure.options())], env=environment, stderr=subprocess.PIPE, text=True
        ) as self.process:
            _out, said = self.process.communicate(timeout=120)
            code = self.process.returncode
        self.process = None
        assert code in (0, -9), said
        return code == -9


def made_fleet():
    """Three VMs whose backup failed: one whose provisioning failed, all behind a security group that denies."""
    fleet = fleet_.generate(6, 4, vaults=1)
    hour = (fleet.now().hour + 12) % 24
    for policy in fleet.of_type("Microsoft.RecoveryServices/vaults/backupPolicies"):
        policy["properties"]["schedulePolicy"]["scheduleRunTimes"] = ["2023-05-20T{0:02d}:00:00Z".format(hour)]
    for vm in fleet.of_type("Microsoft.Compute/virtualMachines"):
        if vm["name"] == "vm0001":
            vm["properties"]["provisioningState"] = "Failed"
    # vm0000 has a blocker, which stays.
    for group in fleet.of_type("Microsoft.Network/networkSecurityGroups"):
        plain = {"protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": "*", "direction": "Outbound"}
        deny = {**plain, "priority": 4000, "access": "Deny", "destinationAddressPrefix": "Internet"}
        group["properties"]["securityRules"] = [documents.rule(group["id"], "DenyOut", deny)]
    return fleet


def accepted(azure):
    """Return how often each write was carried out: accepted by the service, by what it is about."""
    return Counter(path.rpartition("/")[2] for method, path, status in azure.log if method in ("PUT", "DELETE") and status < 300) + Counter(
        path for method, path, status in azure.log if method == "POST" and path.endswith(("/backup", "/reapply")) and status < 300
    )


def converged(azure):
    states = {vm["name"]: vm["properties"]["provisioningState"] for vm in azure.fleet.of_type("Microsoft.Compute/virtualMachines")}
    jobs = Counter(one["properties"]["entityFriendlyName"] for one in azure.made)
    rules = sum(
        rule["name"].startswith("vmbackup-")
        for group in azure.fleet.of_type("Microsoft.Network/networkSecurityGroups")
        for rule in group["properties"]["securityRules"]
    )
    return states["vm0001"] == "Succeeded" and all(jobs[name] == 1 for name in FAILED) and rules == 3


def points():
    chance = random.Random(12)
    return [(chance.randrange(1, REQUESTS), chance.random() < 0.5) for _number in range(POINTS)]


@pytest.mark.parametrize("at, after", [pytest.param(*point, id="{0}-{1}-{2}".format(n, *point)) for n, point in enumerate(points())])
def test_a_run_after_a_killed_one_converges_and_does_nothing_twice(at, after, monkeypatch):
    monkeypatch.setattr(resources, "UNWATCHED_S", 0.2)
    with StandIn(made_fleet(), polls=0) as azure:
        azure.backup.set_pace(snapshot_s=0.3, done_s=60)
        azure.made, add = [], azure.backup.runs.add
        azure.backup.runs.add = lambda job, item: (azure.made.append(job), add(job, item))
        killer = Killer(azure)
        assert killer.run(at, after) or at > REQUESTS - 5, "nothing was killed"
        for _again in range(4):
            killer.run()
            if converged(azure):
                break
        assert converged(azure), [entry for entry in azure.log if entry[0] != "GET"]
        assert set(accepted(azure).values()) == {1}, accepted(azure)
