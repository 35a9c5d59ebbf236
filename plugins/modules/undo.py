#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: undo
short_description: Bring a guest back to the state before the repairs
version_added: 0.1.0
description:
  - Reads the undo points that the writers of this collection kept, and restores files, moved directories and the state of units.
  - Goes back to the state before the oldest point that was not undone yet, or to the state before the one named in O(point).
  - Takes back only what still stands as the repair left it. What somebody changed since is left, and listed in RV(left).
  - What it overwrites or removes is kept in the store as well.
  - Packages are not touched. RV(packages) names those whose version differs, for the package manager to bring back.
options:
  point:
    description: Name of one undo point. Without it all that were not undone yet are undone.
    type: str
  packages:
    description:
      - Whether differing packages may stay. With V(false) nothing is undone before the packages are back, and the module says which.
      - The states of units and files are only right once the packages are.
    type: bool
    default: true
  force:
    description:
      - Whether to take back what somebody changed after the repair, too. What is overwritten is kept.
      - A package that somebody updated since is not downgraded all the same, and what the repair kept but did not change stays as it is.
    type: bool
    default: false
  readers:
    description:
      - Units that read the files at their start. One that runs before and afterwards is named in RV(restart_units) when files were restored.
    type: list
    elements: str
    default: []
  store:
    description: Directory of all undo points. It is used only when root alone can write it.
    type: path
    default: /var/lib/vmbackup_azure/undo
notes:
  - Needs root. Since it starts and stops units, nothing is done while a snapshot or another run is at work; RV(deferred) says so.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
attributes:
  platform:
    description: Linux guests.
    support: full
    platforms: linux
seealso:
  - module: vmbackup.azure.win_undo
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Undo everything that was repaired
  vmbackup.azure.undo:
  become: true

- name: Undo one repair
  vmbackup.azure.undo:
    point: 20261121T092008Z-agent.configuration
  become: true
"""

RETURN = r"""
points:
  description: The undo points that were, or would be, undone, oldest first.
  returned: always
  type: list
  elements: str
steps:
  description: What was, or would be, done, one sentence each.
  returned: always
  type: list
  elements: str
left:
  description: What was left since somebody changed it after the repair, one sentence each.
  returned: always
  type: list
  elements: str
deferred:
  description: Whether nothing was done since a snapshot or another run was at work. RV(reason) says which.
  returned: always
  type: bool
reason:
  description: Why it was deferred, V(null) otherwise.
  returned: always
  type: str
packages:
  description: Packages whose installed version differs from the one before the repairs.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the package.
      returned: always
      type: str
    version:
      description: The version before the repairs, V(null) when it was not installed.
      returned: always
      type: str
    present:
      description: The version that is installed now, V(null) when it is not installed.
      returned: always
      type: str
restart_units:
  description: Units that run on, and whose files were restored, so that they should be restarted.
  returned: always
  type: list
  elements: str
kept:
  description: The point that keeps what was overwritten, V(null) when nothing was.
  returned: always
  type: str
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, restore, undo


def running(plan, runner, readers):
    """Return the units that run before undo and afterwards, while files that they read are restored."""
    if not plan.files and not plan.moves:
        return []
    units = {want["unit"]: (want, now) for want, now in plan.units}
    for unit in readers:
        if unit not in units:
            state = undo.unit_state(unit, runner)
            units[unit] = (state, state)
    return sorted(unit for unit, states in units.items() if all(state["active_state"] == "active" for state in states))


def look(module, runner):
    """Observe and decide: return (points, plan).

    :raises undo.UndoError: when the store cannot be used, or packages have to be brought back first.
    """
    points = undo.choose(undo.read_points(module.params["store"]), module.params["point"])
    plan = restore.plan(points, runner, module.params["force"])
    if plan.packages and not module.params["packages"] and not module.check_mode:
        raise undo.UndoError(
            "These packages are not back at the version they had before the repairs, so nothing was undone: {0}.".format(
                ", ".join(
                    "{0} (now {1}, was {2})".format(p["name"], p["present"] or "absent", p["version"] or "absent") for p in plan.packages
                )
            )
        )
    return points, plan


def main():
    module = AnsibleModule(
        argument_spec={
            "point": {"type": "str"},
            "packages": {"type": "bool", "default": True},
            "force": {"type": "bool", "default": False},
            "readers": {"type": "list", "elements": "str", "default": []},
            "store": {"type": "path", "default": undo.STORE},
        },
        supports_check_mode=True,
    )
    store = module.params["store"]
    if os.geteuid() != 0:
        module.fail_json(msg="Reading the undo points in {0} needs root; run this task with become.".format(store))
    runner = undo.runner_of(module)
    kept, deferred = None, None
    try:
        points, plan = look(module, runner)
        steps, diff = restore.describe(plan), restore.differences(plan)
        restart = running(plan, runner, module.params["readers"])
        if points and not module.check_mode:
            with change.Change(module, minds_guards=True):
                # Only now nobody else writes: another run may have changed the guest, or kept more, during the wait for the lock.
                points, plan = look(module, runner)
                steps, diff = restore.describe(plan), restore.differences(plan)
                restart = running(plan, runner, module.params["readers"])
                now_s = time.time()
                if plan.files or plan.moves:
                    undo.check_room(store, 0)
                    kept = restore.keep(runner, store, plan, now_s)
                restore.restore(runner, plan)
                # What was left can still be taken back, with force.
                for point in points if not plan.left else []:
                    undo.mark_undone(point, now_s)
    except change.Deferred as error:
        deferred, restart = str(error), []
    except undo.UndoError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg="Undo stopped at {0}: {1}. Nothing that was kept is lost; run this again once that is solved.".format(
                error.filename or store, error.strerror or error
            )
        )
    module.exit_json(
        changed=bool(steps) and not deferred,
        deferred=bool(deferred),
        reason=deferred,
        points=[point["id"] for point in points],
        steps=steps,
        left=plan.left,
        packages=plan.packages,
        restart_units=restart,
        kept=kept,
        diff=diff if steps else [],
    )


if __name__ == "__main__":
    main()
