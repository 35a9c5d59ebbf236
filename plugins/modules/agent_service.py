#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: agent_service
short_description: Make the service of the Linux guest agent startable
version_added: 0.1.0
description:
  - Unmasks and enables the agent's unit of systemd, sets its restart policy, and takes away files that keep the agent from running.
  - Reads back what it set, and brings the former state back when a step fails.
  - Does not start or restart the agent, unless O(stopped_meanwhile) asks for a stop first.
options:
  unit:
    description: The agent's unit. Without it only O(take) and O(remove) are done, for guests without systemd.
    type: str
  unmasked:
    description: Whether to unmask the unit when it is masked.
    type: bool
    default: false
  enabled:
    description: Whether to have systemd start the unit at boot when it is disabled.
    type: bool
    default: false
  restart_policy:
    description: Whether to set C(Restart=always) by a drop-in when the unit has another policy. A masked unit is left alone.
    type: bool
    default: false
  take:
    description: Files or directories to move into the undo store. Those that are not there are left out. Needs O(undo).
    type: list
    elements: path
    default: []
  remove:
    description: Files to remove that the agent makes anew, such as a stale pid file. They are not kept.
    type: list
    elements: path
    default: []
  stopped_meanwhile:
    description: Whether to stop the unit while O(take) is done, and start it again afterwards when it ran.
    type: bool
    default: false
  restart_follows:
    description: Whether the caller restarts the unit afterwards. Its present state is kept for O(undo) then, even when nothing else changes.
    type: bool
    default: false
  expect:
    description:
      - What was seen of the unit before, such as by M(vmbackup.azure.diagnose). Where it is something else now, and not what is wanted either,
        somebody changed it meanwhile, and nothing is done. What is not named is not compared; nothing is without O(unit).
    type: dict
    default: {}
    suboptions:
      masked:
        description: Whether it was masked.
        type: bool
      unit_file_state:
        description: Whether systemd starts it at boot, in the words of C(systemctl is-enabled). Not compared while it is masked.
        type: str
      restart:
        description: Its restart policy.
        type: str
notes:
  - Needs root.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.linux_writer
seealso:
  - module: vmbackup.azure.undo
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Let systemd start the agent, and start it again whenever it ends
  vmbackup.azure.agent_service:
    unit: walinuxagent.service
    unmasked: true
    enabled: true
    restart_policy: true
    undo: agent.service
  become: true
"""

RETURN = r"""
changes:
  description: What was, or would be, done, a few words each.
  returned: always
  type: list
  elements: str
  sample: ["unmasked", "enabled"]
deferred:
  description: Whether nothing was changed because a snapshot or another run was at work. RV(reason) says which.
  returned: always
  type: bool
reason:
  description: Why it was deferred, V(null) otherwise.
  returned: always
  type: str
undo_point:
  description: Name under which the state before is kept, V(null) when nothing was.
  returned: always
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, guard_program, restore, undo

DROP_IN = "/etc/systemd/system/{0}.d/{1}"
DROP_IN_TEXT = "# Written by vmbackup.azure: the guest agent has to come back whenever it ends.\n[Service]\nRestart=always\nRestartSec=5\n"


def policy(unit, runner):
    """Return the unit's restart policy and the path of the drop-in that would decide it: of the names, the one that sorts last."""
    code, out, err = runner(["systemctl", "show", "--property=Restart,DropInPaths", unit])
    if code != 0:
        raise undo.UndoError("Could not ask systemd about {0}: {1}.".format(unit, (err or out).strip() or "exit code {0}".format(code)))
    values = dict(line.split("=", 1) for line in out.strip().split("\n") if "=" in line)
    later = [path for path in values.get("DropInPaths", "").split() if os.path.basename(path) > "99-vmbackup-restart.conf"]
    return values.get("Restart"), DROP_IN.format(unit, "zzz-vmbackup-restart.conf" if later else "99-vmbackup-restart.conf")


def check_expected(unit, present, options):
    """Refuse where the unit is neither as it was seen before nor as it is wanted."""
    wanted = {
        "masked": False if options["unmasked"] else None,
        "unit_file_state": "enabled" if options["enabled"] else None,
        "restart": "always" if options["restart_policy"] else None,
    }
    for key in sorted(present):
        now, seen = present[key], (options["expect"] or {}).get(key)
        if seen is None or now in (seen, wanted[key]):
            continue
        if key == "masked":
            words = ["masked" if value else "not masked" for value in (now, seen)]
        else:
            words = ["{0}={1}".format({"restart": "Restart"}.get(key, "UnitFileState"), value or "none") for value in (now, seen)]
        text = "{0} is {1} now, the diagnosis saw it {2}. Nothing was changed; diagnose the guest again."
        raise undo.UndoError(text.format(unit, *words))


class Plan(object):
    """What is to be done: steps in words, and what the steps need."""

    def __init__(self, options, runner):
        self.unit, self.unmask, self.enable, self.drop_in, self.runs = options["unit"], None, False, None, False
        self.take = [path for path in options["take"] if os.path.lexists(path)]
        self.remove = [path for path in options["remove"] if os.path.lexists(path)]
        if self.unit:
            self._look(options, undo.unit_state(self.unit, runner), runner)

    def _look(self, options, state, runner):
        if not state["exists"]:
            raise undo.UndoError(
                "systemd knows no unit {0}. Install the agent first (agent.install). Nothing was changed.".format(self.unit)
            )
        self.runs = state["active_state"] in ("active", "activating", "reloading")
        present = {"masked": bool(state["masked"])}
        if not state["masked"]:
            present["unit_file_state"] = state["unit_file_state"]
            if (options["expect"] or {}).get("restart") is not None:
                present["restart"] = policy(self.unit, runner)[0]
        check_expected(self.unit, present, options)
        if options["unmasked"]:
            self.unmask = state["masked"]
        if options["enabled"] and (not state["masked"] or self.unmask):
            self.enable = state["unit_file_state"] == "disabled" or bool(state["masked"]) and not state["links"]
        if options["restart_policy"] and not state["masked"]:
            present, path = policy(self.unit, runner)
            self.drop_in = path if present != "always" else None

    def changes(self):
        words = ["unmasked"] if self.unmask else []
        words += ["enabled"] if self.enable else []
        words += ["Restart=always in {0}".format(self.drop_in)] if self.drop_in else []
        words += ["{0} moved into the undo store".format(path) for path in self.take]
        return words + ["{0} removed".format(path) for path in self.remove]

    def apply(self, module, moves, runner):
        if self.unmask:
            restore.systemctl(runner, ["unmask"] + (["--runtime"] if self.unmask == "runtime" else []) + [self.unit])
        if self.enable:
            restore.systemctl(runner, ["enable", self.unit])
        if self.drop_in:
            write_drop_in(self.drop_in)
            restore.systemctl(runner, ["daemon-reload"])
        stop = module.params["stopped_meanwhile"] and self.runs and moves
        if stop:
            restore.systemctl(runner, ["stop", self.unit])
        try:
            for move in moves:
                restore.move(runner, move["path"], move["stored"])
        finally:
            if stop:
                restore.systemctl(runner, ["start", self.unit])
        for path in self.remove:
            if os.path.lexists(path):  # the agent may have removed it meanwhile
                os.unlink(path)


def write_drop_in(path):
    guard_program.make_public(os.path.dirname(path))
    undo.replace(path, [DROP_IN_TEXT.encode("ascii")], mode=0o644)


def check(module, plan, runner):
    """Refuse to report what did not come to be."""
    left = Plan(dict(module.params, expect={}), runner).changes()
    if left:
        raise undo.UndoError(
            "{0} was changed, but reading it back this is still to be done: {1}. Look at it with systemctl status.".format(
                plan.unit or "The guest", ", ".join(left)
            )
        )


def main():
    module = AnsibleModule(
        argument_spec=dict(
            change.options(),
            unit={"type": "str"},
            unmasked={"type": "bool", "default": False},
            enabled={"type": "bool", "default": False},
            restart_policy={"type": "bool", "default": False},
            take={"type": "list", "elements": "path", "default": []},
            remove={"type": "list", "elements": "path", "default": []},
            stopped_meanwhile={"type": "bool", "default": False},
            restart_follows={"type": "bool", "default": False},
            expect={
                "type": "dict",
                "default": {},
                "options": {"masked": {"type": "bool"}, "unit_file_state": {"type": "str"}, "restart": {"type": "str"}},
            },
        ),
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="Changing a service needs root; run this task with become.")
    if module.params["take"] and not module.params["undo"]:
        module.fail_json(msg="What is taken is moved into the undo store, so undo has to name a remedy.")
    runner = undo.runner_of(module)
    point, reason = None, None
    try:
        plan = Plan(module.params, runner)
        changes = plan.changes()
        if (changes or module.params["restart_follows"]) and not module.check_mode:
            units = [plan.unit] if plan.unit else []
            files = [plan.drop_in] if plan.drop_in else []
            with change.Change(module, files=files, units=units, moves=plan.take) as frame:
                Plan(module.params, runner)  # only now nobody else changes it
                plan.apply(module, frame.moves, runner)
                check(module, plan, runner)
            point = frame.point_id
    except change.Deferred as error:
        changes, reason = [], str(error)
    except undo.UndoError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg="The agent's service could not be changed at {0}: {1}. The state before was brought back; correct this, then run this "
            "again.".format(error.filename or plan.unit, error.strerror or error)
        )
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        deferred=bool(reason),
        reason=reason,
        undo_point=point,
        diff={"before": "", "after": "".join(words + "\n" for words in changes)},
    )


if __name__ == "__main__":
    main()
