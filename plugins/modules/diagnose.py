#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: diagnose
short_description: Say why Azure cannot back up this guest
version_added: 0.1.0
description:
  - Collects the facts of the guest in one execution, applies the rules of the collection to them on the controller, and returns findings.
  - Changes nothing. Each finding carries its evidence and names the remedy that answers it, or says what a person must do.
  - C(docs/findings.md) lists all findings.
options:
  error_code:
    description:
      - Azure's code of the failed backup job, for example V(GuestAgentSnapshotTaskStatusError).
      - Findings that explain it come first. When none does, RV(note) says so, and where the code is answered.
    type: str
  thresholds:
    description:
      - Limits that replace the defaults, by name. C(docs/findings.md) lists them with unit, default and source.
    type: dict
    default: {}
  allow:
    description:
      - Consents, by name (C(vmbackup_allow_...)), to remedies that wait for one. Only used to work out RV(remedies).
    type: dict
    default: {}
  vss_backup_type:
    description:
      - Kind of VSS backup that Azure should take on Windows guests. V(unset) leaves the extension's setting alone and finds nothing about it.
      - Microsoft's articles contradict each other on what C(USEVSSCOPYBACKUP) does, so O(vss_backup_text) says which one to believe.
    type: str
    default: unset
    choices: [copy_only, full, unset]
  vss_backup_text:
    description:
      - Date of the article that holds for O(vss_backup_type).
      - V(2025-11) says that backups are copy-only and C(TRUE) asks for full ones, V(2016-10) that they are full and C(TRUE) asks for copy-only ones.
    type: str
    default: "2025-11"
    choices: ["2025-11", "2016-10"]
extends_documentation_fragment:
  - vmbackup.azure.attributes.collector
  - vmbackup.azure.attributes.reads
attributes:
  platform:
    description: Linux and Windows guests.
    support: full
    platforms: linux, windows
seealso:
  - module: vmbackup.azure.guest_facts
  - plugin: vmbackup.azure.findings
    plugin_type: filter
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Diagnose
  vmbackup.azure.diagnose:
  become: true

- name: Diagnose with the code of the failed job, and with limits of your own
  vmbackup.azure.diagnose:
    error_code: GuestAgentSnapshotTaskStatusError
    thresholds:
      minimum_linux_agent: 2.9.1.1
      filesystem_used_percent: 95
  become: true
  register: diagnosis

- name: Show what was found
  ansible.builtin.debug:
    msg: "{{ diagnosis.findings | map(attribute='title') }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts, as M(vmbackup.azure.guest_facts) returns them.
  returned: success
  type: dict
  contains:
    vmbackup:
      description: All facts of this collection.
      returned: success
      type: dict
findings:
  description: What was found, worst first; those that explain O(error_code) before all others.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Name of the finding.
      returned: success
      type: str
      sample: agent_service_masked
    cause:
      description: Which of the article's four causes it belongs to.
      returned: success
      type: int
      sample: 2
    severity:
      description: V(blocker) (backup cannot succeed), V(risk) (it may fail) or V(notice).
      returned: success
      type: str
      sample: blocker
    title:
      description: The finding in a few words.
      returned: success
      type: str
      sample: The agent's service is masked
    evidence:
      description: The observations behind it.
      returned: success
      type: list
      elements: str
      sample: ["walinuxagent.service is masked, so nothing can start it"]
    remedy:
      description: Role and entry point that answer it, or V(null).
      returned: success
      type: str
      sample: agent.service
    mode:
      description: V(auto) (done by default), V(consent) (done when RV(findings[].consent) is true), V(manual) (a person must).
      returned: success
      type: str
      sample: auto
    consent:
      description: Variable that allows the remedy, or V(null).
      returned: success
      type: str
      sample: vmbackup_allow_auto_update
    side:
      description: Where it is answered, V(guest) or V(azure).
      returned: success
      type: str
      sample: guest
    codes:
      description: Error codes of Azure Backup that it explains.
      returned: success
      type: list
      elements: str
      sample: [GuestAgentSnapshotTaskStatusError]
    explains_error_code:
      description: Whether it explains O(error_code), V(null) without one.
      returned: success
      type: bool
    action:
      description: What a person would do.
      returned: success
      type: str
    undo:
      description: How to undo the remedy, or V(null).
      returned: success
      type: str
    doc:
      description: Where Microsoft writes about it.
      returned: success
      type: str
remedies:
  description: What answers the findings, in the order of repair.
  returned: success
  type: list
  elements: dict
  sample: [{"remedy": "agent.service", "findings": ["agent_service_masked"], "allowed": true, "consent": []}]
note:
  description: A sentence when no finding explains O(error_code), else V(null).
  returned: success
  type: str
"""
