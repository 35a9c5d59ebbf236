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
  confirm_s:
    description:
      - Seconds within which the change has to be confirmed, by O(verify) or by a second call with O(confirm). Otherwise a process of the guest
        puts the former state back by itself, which brings back a guest that was cut off. It writes to a file below C(C:\ProgramData\vmbackup_azure\guard).
      - The process is started before the change. When it does not start, nothing is changed.
      - A restart of the guest ends that process. So a task of the task scheduler puts the former state back when the guest starts before the
        confirmation. It is registered before the change and removed after it.
      - V(0) is without such a net. Needs O(undo).
    type: int
    default: 0
  confirm:
    description:
      - What an earlier call returned as RV(token). Tells the guest to keep that change, and does nothing else.
      - Where the answer of that call was lost, the name given in its O(undo) stands for the newest change of that name.
    type: str
  verify:
    description:
      - Whether to look over a new connection that the guest still answers, and to confirm the change then. It is done from the controller,
        within half of O(confirm_s), and only where something waits for a confirmation.
      - With V(false) the change waits for a call with O(confirm).
    type: bool
    default: true
  undo:
    description:
      - Name of the repair, such as V(agent.service). The former state is then kept before anything is changed, in a file below
        C(C:\ProgramData\vmbackup_azure\undo), which only SYSTEM and administrators can read, for M(vmbackup.azure.win_undo).
      - Without it nothing is kept.
    type: str
  keep_days:
    description:
      - Days after which undo points are removed when a new one is kept. V(0) keeps them for ever. One that a younger point builds on stays.
    type: int
    default: 90
notes:
  - Needs an administrator.
  - Takes the lock of the guest, a mutex of Windows, before it reads and writes. When another run holds it for more than ten seconds, nothing
    is changed and C(deferred) is returned.
  - Looks for a snapshot immediately before the first write. When one runs or starts, nothing is changed and C(deferred) is returned.
    The confirmation of a change (O(confirm)) looks for none.
  - Everything is checked before the first write. When a write fails, what this call changed before is put back.
  - The guest may get another address. See before that Azure gives it the one that it has.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
attributes:
  platform:
    description: Windows guests, Windows PowerShell 5.1 and newer.
    support: full
    platforms: windows
seealso:
  - module: vmbackup.azure.win_undo
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
  description: Whether nothing was done because a snapshot or another run was at work. RV(reason) says which.
  returned: success
  type: bool
reason:
  description: Why it was deferred, V(null) otherwise.
  returned: success
  type: str
  sample: another run is changing this guest
"""
