# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run of Azure's phases in a process of its own, which can be killed: killed_run.py OPTIONS. Its clock runs a hundred times as fast as others."""

import json
import sys
import time

from ansible_collections.vmbackup.azure.plugins.plugin_utils import _engine, _remedies
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import read
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import phases
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.backup import Options
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Run

FASTER = 100.0
CONSENTS = {"vmbackup_allow_nsg_rule": True}


def sleep(seconds):
    time.sleep(seconds / FASTER)


def main():
    options = json.loads(sys.argv[1])
    client = Client.from_options(options, environ={"HOME": "/nonexistent"}, sleep=sleep, read_only=False)
    run = Run(sleep=sleep, clock=lambda: time.monotonic() * FASTER)
    members = []
    for vm in read.fleet(client, read.Scope())["vms"].values():
        if "failed" in vm["states"]:
            findings = _engine.evaluate({"schema_version": 1, "azure": vm})
            plan = _remedies.plan(findings, CONSENTS)
            members.append(phases.Member(vm["name"], vm, {"findings": findings, "remedies": plan}))
    phases.repair(client, "before", members, run)
    phases.back_up(client, members, "all", Options(first_s=20.0, look_s=10.0), run)


if __name__ == "__main__":
    main()
