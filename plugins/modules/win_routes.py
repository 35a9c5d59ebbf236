#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation only: what runs is win_routes.ps1. ansible-core 2.16 looks for the documentation of an action in a file like this.

DOCUMENTATION = r"""
module: win_routes
short_description: Add and remove many routes in one call
version_added: 0.1.0
description:
  - Adds routes to prefixes over one gateway, to C(ActiveStore) and C(PersistentStore), so that they hold at once and after a restart.
  - A route with the right prefix, gateway and interface that is there already and that this module did not add, such as those of the DHCP client,
    is left as it is, with its metric.
  - Next hop and interface are those of the default route of the primary interface, where they are not given.
  - A gateway that answers neither ARP nor an echo request (for IPv6, a neighbor solicitation) is refused, since routes over it would cut the guest off.
  - What this module added is listed in C(C:\ProgramData\vmbackup_azure\routes.json). O(purge) removes only that. A route that leads to the same
    prefix another way and is not in the list is not touched, and the call is refused.
  - The table is read once, whatever the number of routes.
options:
  routes:
    description:
      - Prefixes with their length, IPv4 and IPv6. Refused are those with bits behind their length, doubles, and the default route.
      - An empty list is only good with O(purge) and with O(confirm).
    type: list
    elements: str
    default: []
  next_hop:
    description: Gateway, of the family of the prefixes and in a network on the link of an interface. Default is that of the default route.
    type: str
  interface:
    description: Name or index of the interface. Default is that of the next hop.
    type: str
  metric:
    description: Metric of the routes, 1 to 9999. It is set where a route of this module has another one.
    type: int
    default: 256
  state:
    description:
      - Whether the routes are to be there. With V(absent) those to the prefixes go, over O(next_hop) and O(interface) when given.
      - A network on the link of an interface is never removed.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Whether to remove routes that this module added earlier and that are not in O(routes).
    type: bool
    default: false
  skip_gateway_check:
    description: Whether to take a gateway that does not answer.
    type: bool
    default: false
  expect:
    description:
      - What was seen of prefixes when they were looked at. The address of the gateway, or V(null) for no route of its own, by prefix. Where a prefix
        now has a route that is neither that nor the one that is wanted, or has lost it, nothing is written and the module fails.
      - Prefixes that are not in it are not compared.
    type: dict
notes:
  - Until the confirmation nothing is written to C(PersistentStore), so that a restart of the guest brings the former routes back.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.windows_writer
  - vmbackup.azure.attributes.guarded
  - vmbackup.azure.attributes.windows_guarded
seealso:
  - module: vmbackup.azure.azure_ip_ranges
  - module: ansible.windows.win_route
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Lead Azure's storage over the gateway, and have the guest go back when it is cut off
  vmbackup.azure.win_routes:
    routes:
      - 20.38.98.0/24
      - 52.239.140.0/22
    purge: true
    undo: connectivity.azure_routes
    confirm_s: 120
"""

RETURN = r"""
changes:
  description: What was, or would be, changed.
  returned: success
  type: list
  elements: str
  sample: ['route 20.38.98.0/24 via 10.0.0.1 on interface 6']
undo_point:
  description: Name of the undo point, V(null) without O(undo), without a change and in check mode.
  returned: success
  type: str
  sample: 20261121T130944Z-connectivity.azure_routes
notes:
  description: What was done beside, one sentence each.
  returned: success
  type: list
  elements: str
token:
  description: What a second call takes as O(confirm), V(null) without a change and without O(confirm_s).
  returned: success
  type: str
  sample: 20261121T130944Z-connectivity.azure_routes
next_hops:
  description: Ways that the routes take, one for each family; empty when none was needed.
  returned: success
  type: list
  elements: dict
  contains:
    next_hop:
      description: Address of the gateway.
      returned: always
      type: str
    interface:
      description: Name of the interface.
      returned: always
      type: str
    interface_index:
      description: Index of the interface.
      returned: always
      type: int
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
