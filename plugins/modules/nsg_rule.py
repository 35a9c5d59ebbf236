#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: nsg_rule
short_description: Let VMs reach what backup talks to by rules of their security groups
version_added: 0.1.0
description:
  - Adds an outbound rule to the security groups of VMs for each of the service tags C(AzureBackup), C(Storage) and C(AzureActiveDirectory) that a group
    denies at port 443, with the free number just below the rule that denies it. One rule serves all VMs of the group.
  - Rules of others are never changed. Groups that let the VMs through are left as they are.
options:
  state:
    description:
      - V(present) adds the rules that are missing. V(absent) removes the rules that this module made, where they still are what it wrote.
    type: str
    default: present
    choices: [present, absent]
extends_documentation_fragment:
  - vmbackup.azure.azure
  - vmbackup.azure.azure.writes
seealso:
  - module: vmbackup.azure.backup_info
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Let VMs reach what backup talks to
  vmbackup.azure.nsg_rule:
    vms: [web01, db01]
  run_once: true
"""

RETURN = r"""
results:
  description: What became of each VM.
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: Name of the VM.
      type: str
    vm_id:
      description: Its id.
      type: str
    remedy:
      description: Name of the remedy.
      type: str
    text:
      description: What was done, or why not.
      type: str
    changed:
      description: Whether something was, or in check mode would be, changed.
      type: bool
    deferred:
      description: Whether something else is at work, so that another run may do it.
      type: bool
    failed:
      description: Whether it could not be done.
      type: bool
    proved:
      description: Whether Azure shows what was wanted.
      type: bool
    changes:
      description: C(resource), C(property), C(old) and C(new) of what was written.
      type: list
      elements: dict
    undo_point:
      description: How it can be taken back, V(null) where it cannot.
      type: str
requests:
  description: Number of requests, by method.
  returned: success
  type: dict
code:
  description: Azure's code of the failure.
  returned: failure
  type: str
correlation_id:
  description: The id by which Microsoft's support finds the request that failed.
  returned: failure
  type: str
"""
