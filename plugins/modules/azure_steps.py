#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: azure_steps
short_description: What the playbook remediate does in Azure
version_added: 0.1.0
description:
  - Does one phase of a run in Azure, for all hosts in one process, in the order of the table of remedies. It is for the playbook
    C(vmbackup.azure.remediate); in a play of your own use M(vmbackup.azure.reapply), M(vmbackup.azure.backup_now) and their like.
  - What is to be done follows from the results of M(vmbackup.azure.diagnose), which the playbook keeps in the variables of each host. Hosts of which
    no VM is known are left out, and where there is nothing to do, nobody signs in.
  - When Azure cannot be reached the task does not fail. RV(problem) says why, and the guests' repairs and the report go on.
options:
  phase:
    description:
      - V(before) is what comes before the repair of guests. V(look) reads the VMs that were changed, and waits until their agents are ready.
        V(after) removes the backup extension and backs up. V(undo) takes back what can be taken back and still stands as it was written.
    type: str
    required: true
    choices: [before, look, after, undo]
  hosts:
    description: The hosts of the run.
    type: list
    elements: str
    required: true
  backup:
    description:
      - Which VMs are backed up at the end, of those whose last backup failed. V(repaired) are those on which this run changed something, V(all) are all of
        them. None is backed up while a blocker is left.
    type: str
    default: repaired
    choices: [repaired, all, none]
  causes:
    description: Causes that this run repairs. Backups are for C(azure) only.
    type: list
    elements: str
    default: [azure]
  directory:
    description: Directory for C(vmbackup-azure.jsonl), where each write is noted before it is sent. Without it nothing is noted.
    type: path
  max_failures:
    description: Nothing more is started when it failed on more resources than this.
    type: int
    default: 3
extends_documentation_fragment:
  - vmbackup.azure.azure
  - vmbackup.azure.azure.backup
attributes:
  check_mode:
    description: Can run in check mode. It sends nothing but reads and says what it would change.
    support: full
  diff_mode:
    description: Returns what was, or would be, changed.
    support: full
  platform:
    description: Runs on the controller.
    support: full
    platforms: all
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Repair in Azure
  vmbackup.azure.azure_steps:
    phase: before
    hosts: "{{ ansible_play_hosts_all }}"
  register: vmbackup_azure_before
"""

RETURN = r"""
hosts:
  description: What was done, by host; entries are those of M(vmbackup.azure.reapply) and its like.
  returned: success
  type: dict
vms:
  description: VMs that were read anew, by host.
  returned: success
  type: dict
again:
  description: Hosts on which something was changed.
  returned: success
  type: list
  elements: str
problem:
  description: Why nothing more was done in Azure, V(null) where all went on.
  returned: success
  type: str
requests:
  description: Number of requests, by method.
  returned: success
  type: dict
"""
