# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules as a filter, for facts that were saved."""

from ansible.errors import AnsibleFilterError
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate

DOCUMENTATION = r"""
name: findings
author: vmbackup.azure contributors (@vmbackup)
version_added: 0.1.0
short_description: Turn saved facts into findings
description:
  - Applies the rules of this collection to facts that M(vmbackup.azure.guest_facts) returned earlier, for example read from a JSON file.
options:
  _input:
    description: The content of C(ansible_facts.vmbackup).
    type: dict
    required: true
  error_code:
    description: Azure's code of the failed backup job; findings that explain it come first.
    type: str
  thresholds:
    description: Limits that replace the defaults, by name.
    type: dict
    default: {}
seealso:
  - module: vmbackup.azure.diagnose
"""

EXAMPLES = r"""
- name: Show the findings of facts that were saved
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', 'facts-web1.json') | from_json | vmbackup.azure.findings(thresholds={'heartbeat_age_s': 7200}) }}"
"""

RETURN = r"""
_value:
  description: Findings as M(vmbackup.azure.diagnose) returns them.
  type: list
  elements: dict
"""


def findings(facts, error_code=None, thresholds=None):
    try:
        return evaluate(facts, thresholds, error_code)
    except ValueError as error:
        raise AnsibleFilterError("vmbackup.azure.findings: {0}".format(error)) from error


class FilterModule:
    def filters(self):
        return {"findings": findings}
