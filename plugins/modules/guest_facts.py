#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: guest_facts
short_description: Collect what decides whether Azure can back up this guest
version_added: 0.1.0
description:
  - Reads the state of the guest agent, the backup extension, the network towards the Azure host and the load, in one execution.
  - Only reads. Starts few processes, sends no secret, follows no proxy, and returns nothing that Azure protects.
  - On Windows guests it runs M(vmbackup.azure.win_guest_facts) and returns facts of the same shape.
  - What cannot be read is V(null) with an entry in RV(ansible_facts.vmbackup.errors) or RV(ansible_facts.vmbackup.not_visible).
notes:
  - Needs root (Windows, an administrator) for a full picture. Without it, it returns what it could see and names what it could not.
  - Needs Python 3.6 or newer on a Linux guest and no other package, Windows PowerShell 5.1 or newer on a Windows guest.
extends_documentation_fragment:
  - vmbackup.azure.attributes.collector
  - vmbackup.azure.attributes.reads
attributes:
  platform:
    description: Linux and Windows guests.
    support: full
    platforms: linux, windows
seealso:
  - module: vmbackup.azure.diagnose
  - module: vmbackup.azure.win_guest_facts
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Collect everything
  vmbackup.azure.guest_facts:
  become: true

- name: See whether a snapshot runs
  vmbackup.azure.guest_facts:
    gather_subset: [extension]
  become: true

- name: Collect facts and keep them for a later diagnosis
  vmbackup.azure.guest_facts:
  become: true
  register: collected

- name: Write the facts to the controller
  ansible.builtin.copy:
    content: "{{ collected.ansible_facts.vmbackup | to_nice_json }}"
    dest: "facts-{{ inventory_hostname }}.json"
    mode: "0600"
  delegate_to: localhost
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to the host. C(docs/facts.md) lists every key.
  returned: always
  type: dict
  contains:
    vmbackup:
      description: All facts of this collection.
      returned: always
      type: dict
      contains:
        schema_version:
          description: Version of the shape of these facts.
          returned: always
          type: int
          sample: 1
        collected_at:
          description: When the collection began, in UTC.
          returned: always
          type: str
          sample: "2026-11-21T09:00:00Z"
        duration_ms:
          description: How long the collection took on the guest, in milliseconds.
          returned: always
          type: int
          sample: 240
        gather_subset:
          description: The areas that were looked at.
          returned: always
          type: list
          elements: str
          sample: [agent, extension, network, load]
        system:
          description: Distribution, kernel, init, Python, whether the module ran as root.
          returned: always
          type: dict
        agent:
          description: The guest agent. V(null) when not asked for.
          returned: always
          type: dict
        extension:
          description: The extensions, and what the last snapshot came to. V(null) when not asked for.
          returned: always
          type: dict
        network:
          description: Primary interface, DHCP, routes, probes, proxies. V(null) when not asked for.
          returned: always
          type: dict
        vss:
          description: Writers, settings of the backup extension, SQL Server. V(null) when not asked for, and on Linux guests.
          returned: always
          type: dict
        load:
          description: Processors, memory, pressure, file systems, time. V(null) when not asked for.
          returned: always
          type: dict
        errors:
          description: Probes that failed.
          returned: always
          type: list
          elements: dict
          sample: [{"area": "network", "what": "nmcli device show", "error": "no answer within 3 s"}]
        not_visible:
          description: What could not be seen, and why.
          returned: always
          type: list
          elements: str
          sample: ["/etc/waagent.conf: permission denied, run with become"]
"""

import platform

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils.facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils.linux.collect import collect


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if platform.system() != "Linux":
        module.fail_json(msg="guest_facts reads Linux guests; this one says that it is {0}.".format(platform.system()))
    if module.params["timeout_s"] <= 0 or module.params["log_bytes"] <= 0 or module.params["cpu_window_ms"] < 0:
        module.fail_json(msg="timeout_s and log_bytes must be above 0, cpu_window_ms must not be negative.")
    module.exit_json(changed=False, ansible_facts={"vmbackup": collect(module.params, module.run_command)})


if __name__ == "__main__":
    main()
