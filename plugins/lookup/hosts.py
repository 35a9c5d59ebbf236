# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hosts of a run, refused where there are none: ansible-core skips such a play and ends with 0, which reads like an all-clear."""

DOCUMENTATION = r"""
name: hosts
author: vmbackup.azure contributors (@vmbackup)
version_added: 0.1.0
short_description: A pattern of hosts, refused when it matches none
description:
  - Returns the pattern as it is when it matches at least one host of the inventory that C(--limit) allows, and fails otherwise.
  - For the keyword C(hosts) of a play, since a play without hosts is skipped and the run ends as if all were well.
options:
  _terms:
    description: The pattern, as the keyword C(hosts) takes it.
    required: true
"""

EXAMPLES = r"""
- name: Diagnose
  hosts: "{{ lookup('vmbackup.azure.hosts', vmbackup_hosts | default('all')) }}"
  gather_facts: false
  tasks:
    - name: Diagnose the guest
      vmbackup.azure.diagnose:
"""

RETURN = r"""
_raw:
  description: The pattern.
  type: list
  elements: str
"""

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    def matched(self, patterns, variables):
        """Return the names that patterns match, whatever the limit says."""
        names = lookup_loader.get("ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar)
        return set(names.run([":".join(patterns)], variables=variables))

    def run(self, terms, variables=None, **kwargs):
        patterns = [str(part) for term in terms for part in (term if isinstance(term, list) else [term])]
        if any(context.CLIARGS.get(option) for option in ("syntax", "listhosts", "listtasks", "listtags")):
            return [":".join(patterns)]  # nothing runs
        known = {host for members in variables["groups"].values() for host in members}
        if not known:
            raise AnsibleError("The inventory holds no host, so nothing was looked at. Name one with -i, for example: -i inventory.yml")
        found = self.matched(patterns, variables)
        limit = variables.get("ansible_limit")
        shown = ",".join(patterns)
        if not found:
            raise AnsibleError(
                "No host matches {0!r} (vmbackup_hosts), so nothing was looked at. The inventory holds {1} hosts; list them with "
                "ansible-inventory --graph.".format(shown, len(known))
            )
        # A limit in a file was resolved by ansible-core, which refuses one that matches nothing at all.
        if limit and "@" not in limit and not found & self.matched(limit.replace(",", ":").split(":"), variables):
            raise AnsibleError(
                "No host matches both {0!r} (vmbackup_hosts) and the limit {1!r}, so nothing was looked at.".format(shown, limit)
            )
        return [":".join(patterns)]
