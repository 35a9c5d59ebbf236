# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The registry values behind the proxy of a Windows guest."""

from ansible.errors import AnsibleFilterError
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.proxy import registry_values

DOCUMENTATION = r"""
name: proxy_values
author: vmbackup.azure contributors (@vmbackup)
version_added: 0.1.0
short_description: Turn the wanted proxy of a Windows guest into registry values
description:
  - Returns what M(vmbackup.azure.win_registry) has to write for the SYSTEM account and for WinHTTP, in the texts and in the binary settings.
  - The Azure host's addresses 168.63.129.16 and 169.254.169.254 are always exceptions.
  - With V(bypass) a value is returned only for what can be written back as it was read. A proxy whose address holds credentials, and that
    of a file, is passed over; C(by_hand) of the facts says so.
positional: state, server
options:
  _input:
    description: The content of C(ansible_facts.vmbackup.network.proxy).
    type: list
    elements: dict
    required: true
  state:
    description: V(present) sets O(server), V(absent) removes the proxy, V(bypass) keeps it and adds the exceptions where it was read.
    type: str
    choices: [present, absent, bypass]
    required: true
  server:
    description: The proxy as host and port.
    type: str
"""

EXAMPLES = r"""
- name: Lead the SYSTEM account and WinHTTP through a proxy
  vmbackup.azure.win_registry:
    values: "{{ [] | vmbackup.azure.proxy_values('present', 'proxy.example.com:3128') }}"
    undo: connectivity.proxy
"""

RETURN = r"""
_value:
  description: Values as O(vmbackup.azure.win_registry#module:values) takes them.
  type: list
  elements: dict
"""


def proxy_values(proxies, state, server=None):
    try:
        return registry_values(proxies, state, server)
    except ValueError as error:
        raise AnsibleFilterError("vmbackup.azure.proxy_values: {0}".format(error)) from error


class FilterModule:
    def filters(self):
        return {"proxy_values": proxy_values}
