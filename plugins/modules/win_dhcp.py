#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation only: what runs is win_dhcp.ps1. ansible-core 2.16 looks for the documentation of an action in a file like this.

DOCUMENTATION = r"""
module: win_dhcp
short_description: Switch DHCP on for an interface
version_added: 0.1.0
description:
  - Switches DHCP for IPv4 on. What was set by hand, addresses and gateway, is kept for undo.
  - It is not switched off but by undo, which knows the address that was set before.
options:
  interface:
    description: Name, index or GUID of the interface. Either this or O(confirm) is needed.
    type: str
  enabled:
    description: Whether DHCP is to be on. V(false) is accepted where it is off.
    type: bool
    default: true
  expect:
    description:
      - The static settings that were seen when the interface was looked at. Where DHCP is off with others, nothing is written and the module fails.
        What is not given is not compared.
    type: dict
    suboptions:
      addresses:
        description: Addresses with the length of their prefix, such as V(10.0.0.4/24), in the order of Windows.
        type: list
        elements: str
      gateways:
        description: Addresses of the gateways.
        type: list
        elements: str
notes:
  - A task of the task scheduler puts the former state back when the guest starts before the confirmation. It is registered before the change and
    removed after it. It stays where the former state could not be put back within ten minutes; a start of the guest within a day tries again,
    unless DHCP gives another address by then, and a later one only removes the task.
  - The guest may get another address. See before that Azure gives it the one that it has.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.windows_writer
  - vmbackup.azure.attributes.guarded
  - vmbackup.azure.attributes.windows_guarded
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Switch DHCP on, and have the guest go back when it is cut off
  vmbackup.azure.win_dhcp:
    interface: Ethernet
    undo: snapshot.dhcp
    confirm_s: 120
"""

RETURN = r"""
changes:
  description: What was, or would be, changed.
  returned: success
  type: list
  elements: str
  sample: ['DHCP of interface 6 (enabled=true)']
undo_point:
  description: Name of the undo point, V(null) without O(undo), without a change and in check mode.
  returned: success
  type: str
  sample: 20261121T130944Z-snapshot.dhcp
notes:
  description: What was done beside, one sentence each.
  returned: success
  type: list
  elements: str
token:
  description: What a second call takes as O(confirm), V(null) without a change and without O(confirm_s).
  returned: success
  type: str
  sample: 20261121T130944Z-snapshot.dhcp
confirmed:
  description:
    - Whether the guest answered after the change and was told to keep it. With V(false) it did not answer in time, the module has failed, and the
      guest puts the former state back by itself.
    - V(null) where nothing was to be confirmed, with O(verify=false), and where the confirmation came too late, which fails the module.
  returned: success
  type: bool
cut:
  description: Whether the connection broke during the change, so that its own answer never came.
  returned: success
  type: bool
deferred:
  description: Whether nothing was done because a snapshot, another run or an unconfirmed change was at work. RV(reason) says which.
  returned: success
  type: bool
reason:
  description: Why it was deferred, V(null) otherwise.
  returned: success
  type: str
  sample: another run is changing this guest
"""
