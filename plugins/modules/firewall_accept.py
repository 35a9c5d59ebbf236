#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: firewall_accept
short_description: Let root reach the Azure host through the packet filter of a Linux guest
version_added: 0.1.0
description:
  - Puts a rule first that accepts TCP from root to 168.63.129.16, by C(iptables) or C(nft). Rules of others are neither changed nor removed.
  - Where the rules for the next start of the guest are in C(/etc/iptables/rules.v4), C(/etc/sysconfig/iptables), C(/etc/nftables.conf) or
    C(/etc/sysconfig/nftables.conf), it is written there too. Where firewalld runs, it becomes a permanent direct rule. RV(notes) say where
    nothing keeps it.
options:
  places:
    description:
      - Where the rule has to stand, as the facts name it. C(iptables TABLE) for the chain OUTPUT of that table, or C(nft FAMILY TABLE CHAIN) for
        a base chain.
    type: list
    elements: str
    required: true
  state:
    description: Whether the rule is to be there.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Needs root.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.linux_writer
seealso:
  - module: vmbackup.azure.undo
  - module: vmbackup.azure.win_firewall_rules
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Let root reach the Azure host
  vmbackup.azure.firewall_accept:
    places:
      - iptables filter
    undo: connectivity.firewall
  become: true
"""

RETURN = r"""
changes:
  description: What was, or would be, changed, a few words each.
  returned: success
  type: list
  elements: str
  sample: ["iptables filter: accept root's TCP to 168.63.129.16"]
notes:
  description: What has to be known beside, one sentence each.
  returned: success
  type: list
  elements: str
undo_point:
  description: Name under which the state before is kept, V(null) when nothing was.
  returned: success
  type: str
deferred:
  description: Whether nothing was changed because a snapshot or another run was at work. RV(reason) says which.
  returned: success
  type: bool
reason:
  description: Why it was deferred, V(null) otherwise.
  returned: success
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import accept, change, persist, undo

DIRECT = "/etc/firewalld/direct.xml"


class Plan(object):
    """What is to be done: places whose rule is missing (or there), files that keep rules, and what has to be said."""

    def __init__(self, module, runner):
        self.wanted = module.params["state"] == "present"
        self.runner = runner
        self.places = [place for place in module.params["places"] if accept.stands(place, runner) != self.wanted]
        self.files, self.firewalld, self.notes = {}, [], []
        running = runner(["firewall-cmd", "--state"])[0] == 0
        for place in module.params["places"]:
            self._keep(place, running)

    def _keep(self, place, firewalld):
        table = place.split()[1]
        if firewalld and place.startswith("iptables "):
            if (self.runner(self.direct("--query-rule", table))[0] == 0) != self.wanted:
                self.firewalld.append(table)
            return
        kept = False
        for path in accept.NFTABLES if place.startswith("nft ") else accept.SAVED:
            text = self.files.get(path, persist.read(path))
            new = None
            if text is not None:
                edit = accept.nftables_text if place.startswith("nft ") else accept.saved_text
                new = edit(text, place if place.startswith("nft ") else table, self.wanted)
            if new is not None:
                kept = True
                if new != text:
                    self.files[path] = new
        if not kept and self.wanted:
            self.notes.append(
                "No file of this guest is known to keep the rules of {0}, so the rule holds until the next start.".format(place)
            )

    @staticmethod
    def direct(action, table):
        return ["firewall-cmd", "--permanent", "--direct", action, "ipv4", table, "OUTPUT", "-1000"] + accept.IPTABLES

    def changes(self):
        words = "accept root's TCP to {0}".format(accept.HOST) if self.wanted else "the rule for {0} removed".format(accept.HOST)
        found = ["{0}: {1}".format(place, words) for place in self.places]
        found += ["{0} written".format(path) for path in sorted(self.files)]
        return found + ["{0} written by firewall-cmd".format(DIRECT) for _table in self.firewalld[:1]]

    def apply(self):
        for path, text in sorted(self.files.items()):
            undo.replace(path, [text.encode("utf-8")])
        for table in self.firewalld:
            code, out, err = self.runner(self.direct("--add-rule" if self.wanted else "--remove-rule", table))
            if code != 0:
                raise undo.UndoError("firewall-cmd did not keep the rule: {0}.".format((err or out).strip()))
        for place in self.places:
            problem = (accept.put if self.wanted else accept.take)(place, self.runner)
            if problem:
                raise undo.UndoError("{0} was not changed: {1}.".format(place, problem))


def main():
    module = AnsibleModule(
        argument_spec=dict(
            change.options(),
            places={"type": "list", "elements": "str", "required": True},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        ),
        supports_check_mode=True,
    )
    bad = [place for place in module.params["places"] if not accept.PLACE.match(place)]
    if bad or not module.params["places"]:
        module.fail_json(msg="{0!r} is no place of a rule, such as 'iptables filter'. Nothing was changed.".format((bad or [""])[0]))
    if os.geteuid() != 0:
        module.fail_json(msg="Changing the packet filter needs root; run this task with become.")
    runner = undo.runner_of(module)
    point, deferred = None, None
    try:
        plan = Plan(module, runner)
        changes = plan.changes()
        if changes and not module.check_mode:
            items = {"accept " + place: plan.wanted or None for place in plan.places}
            files = sorted(plan.files) + ([DIRECT] if plan.firewalld else [])
            with change.Change(module, files=files, items=items) as frame:
                plan = Plan(module, runner)  # only now nobody else changes it
                plan.apply()
                left = Plan(module, runner).changes()
                if left:
                    raise undo.UndoError("The rule was written, but reading it back this is still to be done: {0}.".format(", ".join(left)))
            point = frame.point_id
    except change.Deferred as error:
        changes, deferred = [], str(error)
    except undo.UndoError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="The rule could not be kept at {0}: {1}.".format(error.filename or "the guest", error.strerror or error))
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        notes=plan.notes,
        undo_point=point,
        deferred=bool(deferred),
        reason=deferred,
        diff={"before": "", "after": "".join(words + "\n" for words in changes), "before_header": "rules", "after_header": "rules"},
    )


if __name__ == "__main__":
    main()
