#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: routes
short_description: Add and remove many routes on a Linux guest in one call
version_added: 0.1.0
description:
  - Adds routes to prefixes via one gateway, all of them in one batch of C(ip), and keeps them for the next start of the guest.
  - A route with the right prefix, gateway and interface that is there already and that this module did not add, such as those of the DHCP client,
    is left as it is, with its metric.
  - Next hop and interface are those of the default route, where they are not given.
  - What this module added is listed in C(/var/lib/vmbackup_azure/routes.json). O(purge) removes only that. A route to the same prefix that is not in
    the list is replaced only when O(expect) names it; otherwise the call is refused.
  - Nothing is restarted or applied anew. For the next start of the guest the routes are written into a drop-in of systemd-networkd (netplan's
    interfaces too), the profile of NetworkManager, or a script of ifupdown, whichever has the interface. With wicked, with network scripts and
    where none of them is at work, the routes hold until the next start only, and RV(notes) say so. systemd-networkd reads its drop-in when it
    starts; should the interface lose its link before that, these routes are gone until then.
options:
  routes:
    description:
      - Prefixes with their length, IPv4 and IPv6. Refused are those with bits behind their length, doubles, and the default route.
      - An empty list is only good with O(purge) and with O(confirm).
    type: list
    elements: str
    default: []
  next_hop:
    description: Gateway, of the family of the prefixes and in a network of an interface. Default is that of the default route.
    type: str
  interface:
    description: Name of the interface. Default is the one whose network has the next hop; of several, the one with the default route.
    type: str
  metric:
    description: Metric of the routes. It is set where a route of this module has another one. Default is that of the kernel, 0 for IPv4.
    type: int
  table:
    description: Routing table, by number, or by a name that the guest's C(rt_tables) has.
    type: str
    default: main
  state:
    description: Whether the routes are to be there.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Whether to remove routes that this module added earlier and that are not in O(routes).
    type: bool
    default: false
  persist:
    description: Whether the routes are kept for the next start of the guest.
    type: bool
    default: true
  expect:
    description:
      - What was seen of prefixes when they were looked at. By prefix, the address of the gateway, V(blackhole), V(unreachable), V(prohibit),
        V(link) for a network on the link, or V(null) for no route of its own.
      - Where a prefix now has a route that is neither that nor the one that is wanted, nothing is written and the module fails.
      - Prefixes that are not in it are not compared.
    type: dict
    default: {}
notes:
  - Needs root and C(ip) of iproute2.
  - Everything is checked before the first write. When a write fails, what this call changed before is put back.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.linux_writer
  - vmbackup.azure.attributes.guarded
  - vmbackup.azure.attributes.linux_guarded
seealso:
  - module: vmbackup.azure.undo
  - module: vmbackup.azure.azure_ip_ranges
  - module: vmbackup.azure.win_routes
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Route Azure's storage via the gateway, and have the guest go back when it is cut off
  vmbackup.azure.routes:
    routes:
      - 20.38.98.0/24
      - 52.239.140.0/22
    purge: true
    undo: connectivity.azure_routes
    confirm_s: 120
  become: true
"""

RETURN = r"""
changes:
  description: What was, or would be, changed, a few words each.
  returned: success
  type: list
  elements: str
  sample: ['route 20.38.98.0/24 via 10.0.0.1 dev eth0']
notes:
  description: What has to be known beside, one sentence each, such as that routes are not kept across a restart.
  returned: success
  type: list
  elements: str
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
kept_in:
  description: Files that keep the routes for the next start of the guest.
  returned: success
  type: list
  elements: str
undo_point:
  description: Name under which the state before is kept, V(null) when nothing was.
  returned: success
  type: str
token:
  description: What a second call takes as O(confirm), V(null) without a change and without O(confirm_s).
  returned: success
  type: str
  sample: 20261121T130944Z-connectivity.azure_routes
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
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, iproute, persist, route_plan, undo


def list_path(store):
    return os.path.join(os.path.dirname(store), "routes.json")


def read_list(path):
    """Return the routes that this module added.

    :raises undo.UndoError: when the list cannot be read: purging on half of the knowledge would remove too much or too little.
    """
    try:
        undo.check_trusted(path, directory=False)
        with open(path, "rb") as stream:
            found = json.loads(stream.read().decode("utf-8"))
        return [{key: entry[key] for key in route_plan.OWN} for entry in found["routes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise undo.UndoError("{0} is no list of routes ({1}). Move it away; routes added before are then left alone.".format(path, error))
    except (IOError, OSError) as error:
        if not os.path.lexists(path):
            return []
        raise undo.UndoError("Could not read {0}: {1}.".format(path, error))


def write_list(path, routes):
    routes = sorted(routes, key=lambda own: (own["table"], own["prefix"], own["dev"]))
    undo.replace(path, [(json.dumps({"routes": routes}, indent=1, sort_keys=True) + "\n").encode("utf-8")], mode=0o600)


def index_of(interface):
    try:
        with open("/sys/class/net/{0}/ifindex".format(interface)) as stream:
            return int(stream.read())
    except (IOError, OSError, ValueError):
        return None


class Work(object):
    """One look at the guest and what follows from it; made once to decide, and again under the lock."""

    def __init__(self, module, runner):
        self.module, self.runner = module, runner
        self.path = list_path(module.params["store"])
        self.owned = read_list(self.path)
        self.plan = route_plan.Plan(module.params, iproute.read(runner), iproute.addresses(runner), self.owned)
        self.places, self.notes = [], []
        if module.params["persist"]:
            self._find_places()

    def _find_places(self):
        before, after = self._by_interface(self.owned), self._by_interface(self.plan.owned)
        for interface in sorted(set(before) | set(after)):
            place, note = persist.place(self.runner, interface, index_of(interface), before.get(interface, []), after.get(interface, []))
            self.notes += [note] if note else []
            if place and place.stale():
                self.places.append(place)

    @staticmethod
    def _by_interface(routes):
        found = {}
        for route in sorted(routes, key=lambda own: (own["table"], own["prefix"])):
            found.setdefault(route["dev"], []).append(route)
        return found

    def same(self, other):
        """Say whether another look comes to the same."""
        return (self.plan.items, self.plan.owned, self.owned) == (other.plan.items, other.plan.owned, other.owned)

    @property
    def list_stale(self):
        return sorted(map(str, self.plan.owned)) != sorted(map(str, self.owned))

    def changes(self):
        return self.plan.changes + ["{0} {1}".format(place.path, "written" if place.text else "removed") for place in self.places]

    def apply(self):
        """Write; an ended process leaves no route that is in no list, and takes none away that is still wanted."""
        known = {str(sorted(own.items())) for own in self.owned}
        write_list(self.path, self.owned + [own for own in self.plan.owned if str(sorted(own.items())) not in known])
        for place in self.places:
            place.write(self.runner)
        problem = iproute.batch(self.runner, self.plan.batch())
        if problem:
            left = iproute.batch(self.runner, self.plan.back(), force=True)
            raise undo.UndoError("The routes were not changed, since ip refused: {0}.{1}".format(problem, " " + left if left else ""))
        write_list(self.path, self.plan.owned)

    def check(self):
        """Refuse to report what did not come to be."""
        again = Work(self.module, self.runner)
        if again.plan.items or again.places:
            raise undo.UndoError(
                "The routes were written, but reading them back this is still to be done: {0}.".format(", ".join(again.changes()[:5]))
            )


def check_options(module):
    options = module.params
    options["routes"] = [text.strip() for text in options["routes"] if text.strip()]
    if options["confirm"] and options["routes"]:
        module.fail_json(msg="confirm is for a call of its own, without routes.")
    change.confirm(module)
    if options["purge"] and options["state"] == "absent":
        module.fail_json(msg="purge goes with state present only.")
    if not options["routes"] and not options["purge"]:
        module.fail_json(msg="routes is empty; give at least one prefix, or purge to remove all that were added.")
    if options["metric"] is not None and not 0 <= options["metric"] <= 4294967295:
        module.fail_json(msg="metric must be 0 to 4294967295, not {0}.".format(options["metric"]))
    options["table"] = iproute.TABLES.get(options["table"], iproute.named_tables().get(options["table"], options["table"]))
    if options["table"] in ("local", "default", "0", "all"):
        module.fail_json(msg="table {0} is the kernel's own; name another.".format(options["table"]))
    if options["table"] != "main" and not options["table"].isdigit():
        module.fail_json(msg="table {0} is no number, and no rt_tables of this guest has a number for it.".format(options["table"]))


def main():
    module = AnsibleModule(
        argument_spec=dict(
            change.guarded_options(),
            routes={"type": "list", "elements": "str", "default": []},
            next_hop={"type": "str"},
            interface={"type": "str"},
            metric={"type": "int"},
            table={"type": "str", "default": "main"},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            purge={"type": "bool", "default": False},
            persist={"type": "bool", "default": True},
            expect={"type": "dict", "default": {}},
        ),
        supports_check_mode=True,
    )
    check_options(module)
    if os.geteuid() != 0:
        module.fail_json(msg="Changing routes needs root; run this task with become.")
    runner = undo.runner_of(module)
    point, token, deferred = None, None, None
    try:
        work = Work(module, runner)
        changed = bool(work.plan.items or work.places)
        if (changed or work.list_stale) and not module.check_mode:
            items = {key: want for key, (want, _now) in work.plan.items.items()}
            files = [work.path] + [place.path for place in work.places]
            steps = [{"argv": place.load, "input": "", "may_fail": False} for place in work.places if place.load]
            with change.Change(module, files=files, items=items, steps=steps) as frame:
                if not Work(module, runner).same(work):
                    raise undo.UndoError("The routes changed while this was prepared. Run it again.")
                work.apply()
                work.check()
            point, token = frame.point_id, frame.token
        elif not module.check_mode:
            token, deferred = change.unconfirmed(module)
    except change.Deferred as error:
        changed, deferred = False, str(error)
    except undo.UndoError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="The routes could not be written at {0}: {1}.".format(error.filename or "the guest", error.strerror or error))
    module.exit_json(
        changed=changed,
        changes=[] if deferred else work.changes(),
        notes=[] if deferred else work.notes,
        next_hops=[{"next_hop": way.via, "interface": way.dev} for _family, way in sorted(work.plan.hops.items())],
        kept_in=[] if deferred else sorted(place.path for place in work.places if place.text),
        undo_point=point,
        token=token,
        deferred=bool(deferred),
        reason=deferred,
        diff=differences(work) if changed else [],
    )


def differences(work):
    """Return the diff of the routes, one prefix a line."""
    sides = ["", ""]
    for key, states in sorted(work.plan.items.items()):
        for number, state in enumerate(reversed(states)):
            sides[number] += "{0}: {1}\n".format(key.split()[3], iproute.words(state))
    return [{"before": sides[0], "after": sides[1], "before_header": "routes", "after_header": "routes"}]


if __name__ == "__main__":
    main()
