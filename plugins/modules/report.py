#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: report
short_description: Write the report of a run on the controller
version_added: 0.1.0
description:
  - Gathers what the playbooks of this collection kept about each host, and writes C(vmbackup-report.json) and C(vmbackup-report.html).
  - The HTML file needs nothing else, no network and no script. Hosts come worst first, with evidence, what was done, and what is left.
  - Says the same in short on the console. Runs once, whatever the number of hosts, and connects to none of them.
  - The files are written in check mode too, since they change no guest.
  - Where the environment variable E(VMBACKUP_REPORT_CONTAINER_URL) of the controller holds the address of a container in Azure's blob storage, with a
    shared access signature, both files are stored there as well, under their names and over older ones. Nothing shows the signature.
options:
  mode:
    description: What the run was for.
    type: str
    choices: [diagnose, remediate, undo]
    default: remediate
  hosts:
    description: Names of the hosts of the run.
    type: list
    elements: str
    default: []
  merge:
    description:
      - JSON reports of earlier runs on the controller, or patterns of their names, such as those that the slices of a job wrote. They become one
        report, and O(hosts) and O(mode) do not matter.
      - Reports of such names in the container are taken too.
      - A host that is in several is taken from the newest, with all that was done on it, and the worst of its statuses.
    type: list
    elements: path
    default: []
  name:
    description: Name of the two files without their suffix, for runs that write into one directory.
    type: str
    default: vmbackup-report
  directory:
    description: Directory on the controller for the two files. It is created when it is not there.
    type: path
    default: vmbackup-report
  fail_on_blocker:
    description:
      - Whether to fail when something is left that keeps backup from working, a host was lost, not reached or failed, or the report could not be
        stored in the container.
    type: bool
    default: true
extends_documentation_fragment:
  - vmbackup.azure.attributes.reads
attributes:
  platform:
    description: Runs on the controller.
    support: full
    platforms: all
seealso:
  - module: vmbackup.azure.diagnose
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Write the report
  vmbackup.azure.report:
    mode: diagnose
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true

- name: Make one report of what the slices of a job wrote
  vmbackup.azure.report:
    merge: [/reports/vmbackup-*.json]
    name: all
    directory: /reports
"""

RETURN = r"""
headline:
  description: The report in one sentence.
  returned: always
  type: str
  sample: "5 hosts: 1 unresolved, 1 repaired, 3 healthy."
plan:
  description: What is, or was, planned on each host, with a digest of all that would be written and of what was seen before.
  returned: always
  type: dict
  sample: {"web1": {"agent.service": "3f0c8b6a1d2e4f50"}}
plan_hash:
  description: Hash of RV(plan), so that an approval is of this plan and no other.
  returned: always
  type: str
  sample: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
counts:
  description: Number of hosts by status.
  returned: always
  type: dict
  sample: {"left_over": 1, "repaired": 1, "healthy": 3}
troubled:
  description: Hosts that still need a person, worst first.
  returned: always
  type: list
  elements: str
problem:
  description: RV(troubled) in one sentence. Without any, why nothing more was done in Azure, V(null) when all went on.
  returned: always
  type: str
reasons:
  description: One sentence for each host in RV(troubled).
  returned: always
  type: dict
  sample: {"web1": "Unresolved: The agent is switched off by a marker file."}
json:
  description: The report as data.
  returned: always
  type: str
html:
  description: The report for people.
  returned: always
  type: str
stored:
  description: Addresses of both in the container, without the signature. Empty where no container is named.
  returned: always
  type: list
  elements: str
  sample: ["https://reports.blob.core.windows.net/vmbackup/vmbackup-report.json"]
not_stored:
  description: Why they were not stored in the container, V(null) where they were, or where none is named.
  returned: always
  type: str
"""
