#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: backup_info
short_description: Read what Azure knows of VMs and their backups
version_added: 0.1.0
description:
  - Reads backup items, jobs of 14 days, policies, VMs, their networks, locks and restore points of whole subscriptions, with lists and Resource
    Graph, and the state, agent and extensions of single VMs.
  - Runs on the controller and touches no guest. Use C(run_once) or a play on C(localhost).
  - What cannot be read is a sentence in RV(errors) and a warning; the rest is returned. The task fails only where nothing can be read.
  - All texts come from Azure and are untrusted. They are never evaluated as templates.
options:
  include:
    description:
      - Which VMs are returned, by the state of their backup; V(all) returns every VM.
      - The states are those of P(vmbackup.azure.failed_backups#inventory).
    type: list
    elements: str
    default: [failed]
    choices: [failed, unprotected, rpo_breached, stopped, soft_deleted, vm_gone, all]
  vms:
    description:
      - Names or ids of VMs. They are returned with their agent and extensions whatever their state, and O(include) does not count.
      - Without it, agent and extensions are read of VMs whose last backup failed.
    type: list
    elements: str
extends_documentation_fragment:
  - vmbackup.azure.azure
  - vmbackup.azure.attributes.reads
attributes:
  platform:
    description: Runs on the controller.
    support: full
    platforms: all
seealso:
  - plugin: vmbackup.azure.failed_backups
    plugin_type: inventory
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Say which VMs are not backed up
  hosts: localhost
  gather_facts: false
  module_defaults:
    group/vmbackup.azure.azure:
      auth_source: msi
  tasks:
    - name: Read the backups
      vmbackup.azure.backup_info:
        management_groups: [production]
        include: [failed, unprotected]
      register: backups

    - name: Show them
      ansible.builtin.debug:
        msg: "{{ backups.vms | map(attribute='name') | list }}"
"""

RETURN = r"""
vms:
  description:
    - The chosen VMs. The whole shape is described in C(plugins/plugin_utils/_azure/__init__.py) of the collection.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id of the VM.
      type: str
    name:
      description: Name of the VM.
      type: str
    states:
      description: States of its backup; none means that it is backed up.
      type: list
      elements: str
    power_state:
      description: State by Azure, such as V(running), V(stopped), V(deallocated).
      type: str
    agent:
      description: The agent as Azure sees it, V(null) where that was not read or is not known.
      type: dict
    snapshot_extension:
      description: The backup's extension.
      type: dict
    extensions:
      description: Extensions that Azure can remove.
      type: list
      elements: dict
    network:
      description: Network interfaces with addresses, outbound rules and routes.
      type: list
      elements: dict
    locks:
      description: Locks on the VM, above it, on its vault and its restore points.
      type: list
      elements: dict
    backup:
      description: Its backup item with error, history, policy and vault; V(null) when nothing backs it up.
      type: dict
counts:
  description: Number of VMs by state, of all that were read.
  returned: success
  type: dict
  sample: {"failed": 3, "unprotected": 1, "rpo_breached": 2, "stopped": 0, "soft_deleted": 0, "vm_gone": 0, "vms": 120}
moves:
  description: Which VMs should go to which policy and start time, where more than 100 of a vault start at one time.
  returned: success
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
    vm_id:
      description: Its id.
      type: str
    vault:
      description: Its vault.
      type: str
    item_id:
      description: Id of its backup item.
      type: str
    from_policy:
      description: Policy that it has.
      type: str
    from_start:
      description: When its backup starts.
      type: str
    policy:
      description: Policy of the same kind that has room, V(null) where a new one is needed.
      type: str
    start:
      description: When its backup would start then.
      type: str
vaults:
  description: Vaults by their id in lower case.
  returned: success
  type: dict
policies:
  description: Backup policies by their id in lower case.
  returned: success
  type: dict
restore_points:
  description: All collections of restore points.
  returned: success
  type: list
  elements: dict
subscriptions:
  description: The subscriptions that were read.
  returned: success
  type: dict
errors:
  description: What could not be read, and why.
  returned: success
  type: list
  elements: str
notes:
  description: Waits and clocks.
  returned: success
  type: list
  elements: str
requests:
  description: Number of requests, by method.
  returned: success
  type: dict
budget:
  description: Requests of the last hour that have a limit.
  returned: success
  type: dict
read_at:
  description: Azure's time when reading began.
  returned: success
  type: str
clock_skew_s:
  description: Seconds that the controller's clock is ahead of Azure's.
  returned: success
  type: float
code:
  description: Azure's code of the failure.
  returned: failure
  type: str
correlation_id:
  description: The id by which Microsoft's support finds the request that failed.
  returned: failure
  type: str
"""
