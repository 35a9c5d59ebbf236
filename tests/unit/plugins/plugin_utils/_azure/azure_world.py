# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-in of Azure with a clock of its own: sleeping lets its time pass, and waits for nothing."""

from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm.server import StandIn
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.budget import Budget
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import read
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Run, Target


class World:
    """A fleet, a client and a run. now is the clock of the run, of the stand-in and of what an hour allows."""

    def __init__(self, count=8, failing=4, vaults=1, polls=1, check=False, **options):
        self.azure = StandIn(fleet_.generate(count, failing, vaults=vaults), polls=polls, **options)
        self.elapsed, self.kept = 0.0, []
        self.check = check
        self.azure.limits.clock = lambda: self.elapsed
        # Policies start at 22:30 UTC: a run at another time of day, whatever the time is here.
        self.at(12)
        self.elapsed = 0.0

    def at(self, hour, minute=0):
        """Set the stand-in's time of day; what it generated is as old as before."""
        now = self.azure.fleet.now()
        self.sleep((now.replace(hour=hour, minute=minute, second=0, microsecond=0) - now).total_seconds() % 86400)

    def sleep(self, seconds):
        self.elapsed += seconds
        self.azure.backup.age(seconds=seconds)

    def run(self, **options):
        return Run(
            check=self.check,
            sleep=self.sleep,
            clock=lambda: self.elapsed,
            wall=lambda: self.azure.fleet.now().timestamp(),
            keep=self.kept.append,
            **options,
        )

    def __enter__(self):
        self.azure.start()
        self.budget = Budget(clock=lambda: self.elapsed)
        self.client = self.open()
        return self

    def open(self):
        return Client.from_options(
            self.azure.options(), environ={"HOME": "/nonexistent"}, budget=self.budget, sleep=self.sleep, read_only=self.check
        )

    def __exit__(self, *details):
        self.client.close()
        self.azure.stop()

    def targets(self, *names, fix=None):
        """Read the fleet as the inventory plugin does; return the VMs of these names, or those that failed."""
        vms = read.fleet(self.client, read.Scope())["vms"].values()
        chosen = [vm for vm in vms if (vm["name"] in names if names else "failed" in vm["states"])]
        self.azure.log.clear()
        return [Target(vm["name"], vm, fix or {}) for vm in sorted(chosen, key=lambda vm: vm["name"])]

    def live(self, name):
        return next(live for key, live in self.azure.fleet.live.items() if key.endswith("/" + name))

    def machine(self, name):
        return next(
            vm for vm in self.azure.fleet.resources.values() if vm["name"] == name and vm["type"].endswith("/virtualMachines")
        )  # fmt: skip

    def item(self, name):
        return next(item for item in self.azure.fleet.items.values() if item["properties"]["friendlyName"] == name)

    def writes(self):
        """Return the requests that change something, as (method, what stands last in the path, status)."""
        return [
            (method, path.rpartition("/")[2], status)
            for method, path, status in self.azure.log
            if method != "GET" and not path.endswith("/resources") and "/oauth2/" not in path
        ]
