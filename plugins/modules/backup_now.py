#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: backup_now
short_description: Back VMs up now, and await it
version_added: 0.1.0
description:
  - Starts a backup of VMs in the vaults that protect them and awaits the snapshot or the whole job.
  - Not done while a backup runs, where one succeeded since the last failed one, within an hour before a start of the policy, nor more than four times
    a day for a VM.
  - Each request is sent once, with an id of its own. A run that is started again after it was killed finds what was started.
  - Reads of jobs are limited to 150 an hour for a subscription. Up to 60 VMs are looked at by their jobs, more by their restore points and by lists.
extends_documentation_fragment:
  - vmbackup.azure.azure
  - vmbackup.azure.azure.writes
  - vmbackup.azure.azure.backup
seealso:
  - module: vmbackup.azure.backup_info
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Back VMs up now, and await it
  vmbackup.azure.backup_now:
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
    backup:
      description:
        - C(result) is C(snapshot taken), C(backed up), C(started), C(started, not seen) or C(failed), with C(request_id), C(job), C(code) and C(message).
        - V(null) where no backup was started.
      type: dict
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
