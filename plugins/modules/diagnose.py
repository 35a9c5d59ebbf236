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
      - Where it is not given, or blank, it is the code that Azure has of the VM's failed backup, if O(azure) is true and the inventory knows it.
    type: str
  azure:
    description:
      - Whether Azure's findings are added to those of the guest, for hosts that have the variable C(vmbackup_azure), which the inventory plugin
        P(vmbackup.azure.failed_backups#inventory) sets. It is never templated.
      - A VM that Azure calls deallocated, or does not have any more, is not contacted.
    type: bool
    default: false
  guest:
    description: Whether the guest is contacted. With V(false) only Azure's findings are returned, and O(azure) is needed.
    type: bool
    default: true
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
  never:
    description: Remedies that are not to be done on this guest, whatever the consents are. Only used to work out RV(remedies).
    type: list
    elements: str
    default: []
  approved:
    description:
      - A plan that somebody approved, as M(vmbackup.azure.report) returned it, with its hash. Only what it says is planned then, and only where
        the guest is still as it was. Only used to work out RV(remedies).
    type: dict
    suboptions:
      plan:
        description: The plan, by host.
        type: dict
      hash:
        description: Its hash.
        type: str
  causes:
    description: Causes whose remedies are to be done. Only used to work out RV(remedies).
    type: list
    elements: str
    default: [connectivity, agent, extension, snapshot, azure]
    choices: [connectivity, agent, extension, snapshot, azure]
  vss_backup_type:
    description:
      - Kind of VSS backup that Azure should take on Windows guests. V(unset) leaves the extension's setting alone and finds nothing about it.
      - Microsoft's articles contradict each other on what C(USEVSSCOPYBACKUP) does, so O(vss_article) says which one to believe.
    type: str
    default: unset
    choices: [copy_only, full, unset]
  vss_article:
    description:
      - Date of the article that holds for O(vss_backup_type).
      - V(2025-11) says that backups are copy-only and C(TRUE) asks for full ones, V(2016-10) that they are full and C(TRUE) asks for copy-only ones.
    type: str
    default: "2025-11"
    choices: ["2025-11", "2016-10"]
  verbose_logging:
    description:
      - Whether the Linux agent should log verbosely. V(on) and V(off) plan the remedy C(agent.verbose_logging) where it does not.
      - With V(unset) verbose logging is only remarked on.
    type: str
    default: unset
    choices: ["on", "off", unset]
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
      description: Which of the article's four causes it belongs to; 5 is Azure.
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
    data:
      description: What the rule saw, one dictionary for each text of RV(findings[].evidence).
      returned: success
      type: list
      elements: dict
    fix:
      description: What the remedy has to write, by the option of its writer. C(expect) in it is the value that was seen.
      returned: success
      type: list
      elements: dict
    explained_by:
      description: Findings of this guest that may be its cause. They come before it.
      returned: success
      type: list
      elements: str
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
    commands:
      description: Commands that a person can copy, of the Azure CLI. Nothing runs them.
      returned: success
      type: list
      elements: str
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
  contains:
    remedy:
      description: Name of the remedy, its role and its entry point.
      returned: success
      type: str
      sample: agent.service
    role:
      description: Role that does it.
      returned: success
      type: str
      sample: agent
    entry_point:
      description: Entry point of the role.
      returned: success
      type: str
      sample: service
    cause:
      description: Cause that it answers.
      returned: success
      type: str
      sample: agent
    phase:
      description: When it is done, V(before) or V(after) the guests in Azure, or on the V(guest).
      returned: success
      type: str
      sample: guest
    title:
      description: What it does.
      returned: success
      type: str
      sample: Make the agent's service run
    findings:
      description: Findings that it answers; those that wait for a consent only when no other asks for it.
      returned: success
      type: list
      elements: str
      sample: [agent_service_masked]
    allowed:
      description: Whether it may be done.
      returned: success
      type: bool
    consent:
      description: Consents that are missing for some of the findings.
      returned: success
      type: list
      elements: str
    never:
      description: Whether O(never) names it.
      returned: success
      type: bool
    not_approved:
      description: Whether it would be planned, but is not in the plan of O(approved). Returned only with that.
      returned: when a plan was given
      type: bool
    planned:
      description: Whether it is allowed and answers one of O(causes).
      returned: success
      type: bool
    fix:
      description: What it has to write, joined from RV(findings[].fix) of the findings that are allowed.
      returned: success
      type: dict
contacted:
  description: Whether the guest was contacted.
  returned: always
  type: bool
reason:
  description: Why it was not.
  returned: when the guest was not contacted
  type: str
azure:
  description: What a report shows of the VM by Azure. The variable C(vmbackup_azure) of the host has all of it.
  returned: when O(azure) is true and the host has facts of Azure
  type: dict
  contains:
    read_at:
      description: When Azure was asked.
      returned: always
      type: str
    id:
      description: Id of the VM.
      returned: always
      type: str
    os_name:
      description: Its system, by the agent.
      returned: always
      type: str
    power_state:
      description: Whether it runs.
      returned: always
      type: str
    vault:
      description: Vault that backs it up.
      returned: always
      type: str
    policy:
      description: Policy that it is backed up by.
      returned: always
      type: str
    last_recovery_point:
      description: Time of the last recovery point.
      returned: always
      type: str
    failed_since:
      description: Since when its backup fails.
      returned: always
      type: str
    failed_in_a_row:
      description: How many backups have failed since then.
      returned: always
      type: int
note:
  description: A sentence when no finding explains O(error_code), else V(null).
  returned: success
  type: str
"""
