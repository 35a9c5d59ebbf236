#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: agent_environment
short_description: Set variables in the environment of the Linux guest agent's service
version_added: 0.1.0
description:
  - Sets and empties variables, such as those of a proxy, by a drop-in of the agent's unit of systemd. Drop-ins of others are not edited.
  - The agent sees the change after its next restart, which this module does not do.
options:
  unit:
    description: The agent's unit.
    type: str
    required: true
  variables:
    description: Variables and their values. An empty value counts as not set.
    type: dict
    required: true
  expect:
    description:
      - What variables were seen to say before, such as by M(vmbackup.azure.diagnose); V(null) for one that was not set. A name stands for its
        other spelling, in capitals, too.
      - Where one says something else now, and not what is wanted either, somebody changed it meanwhile, and nothing is written.
    type: dict
    default: {}
notes:
  - Needs root and systemd.
  - A variable that an environment file of the unit sets is refused, since what such a file sets wins over a drop-in.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.linux_writer
seealso:
  - module: vmbackup.azure.waagent_conf
  - module: vmbackup.azure.undo
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Exclude the Azure host from the proxy of the agent
  vmbackup.azure.agent_environment:
    unit: walinuxagent.service
    variables:
      no_proxy: 168.63.129.16,169.254.169.254
  become: true
"""

RETURN = r"""
path:
  description: The drop-in that was, or would be, written.
  returned: success
  type: str
changes:
  description: What was, or would be, changed, a few words each. Credentials of a proxy are masked.
  returned: success
  type: list
  elements: str
  sample: ["no_proxy=168.63.129.16,169.254.169.254"]
restart_required:
  description: Whether the agent has to be restarted to take up the change.
  returned: success
  type: bool
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
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, guard_program, persist, proxy, restore, undo
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import redact_proxy

DROP_IN = "/etc/systemd/system/{0}.d/zzz-vmbackup-environment.conf"
HEAD = "# Written by vmbackup.azure.\n[Service]\n"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VALUE = re.compile(r"[^\x00-\x1f\x7f\"\\]*\Z")


def wanted(variables):
    """Return the variables as text; refuses what a drop-in cannot say."""
    result = {}
    for name, value in variables.items():
        value = "" if value is None else "{0}".format(value)
        if not _NAME.match(name):
            raise undo.UndoError("{0!r} is not the name of a variable. Nothing was changed.".format(name))
        if not _VALUE.match(value):
            raise undo.UndoError("The value of {0} holds a quote, a backslash or a control character. Nothing was changed.".format(name))
        result[name] = value
    return result


def drop_in(variables):
    return HEAD + "".join('Environment="{0}={1}"\n'.format(name, variables[name].replace("%", "%%")) for name in sorted(variables))


def own(path):
    """Return the variables that our drop-in sets now."""
    found = {}
    for line in (persist.read(path) or "").split("\n"):
        match = re.match(r'Environment="([^=]+)=(.*)"$', line)
        if match:
            found[match.group(1)] = match.group(2).replace("%%", "%")
    return found


def present(unit, runner):
    """Return (variables of the unit, {variable that a file sets: the file})."""
    code, out, err = runner(["systemctl", "show", "--no-pager", "--property=LoadState,Environment,EnvironmentFiles", unit])
    values = dict(line.split("=", 1) for line in out.strip().split("\n") if "=" in line)
    if code != 0 or values.get("LoadState") != "loaded":
        raise undo.UndoError("systemd has no unit {0} that could be changed: {1}.".format(unit, err.strip() or values.get("LoadState")))
    of_files = {}
    # systemctl prints a line for each file, before systemd 231 under the name of the setting.
    for path in re.findall(r"(?m)^EnvironmentFiles?=(\S+) \(ignore_errors=", out):
        of_files.update((name, path) for name in proxy.parse_environment(persist.read(path)))
    return proxy.parse_environment(values.get("Environment", "")), of_files


def check_expected(unit, now, expected, new):
    for name in sorted(expected):
        value = now.get(name.lower()) or now.get(name.upper()) or None
        seen = expected[name] or None
        if value not in (seen, new.get(name) or None):
            text = "{0}: {1} is {2} now, the diagnosis saw {3}. Nothing was changed; diagnose the guest again."
            raise undo.UndoError(text.format(unit, name, redact_proxy(value) or "not set", redact_proxy(seen) or "none"))


class Plan(object):
    """What is to be set: ``new`` variables whose value differs, and the text of the drop-in."""

    def __init__(self, options, runner):
        unit, variables = options["unit"], wanted(options["variables"])
        now, of_files = present(unit, runner)
        check_expected(unit, now, options["expect"], variables)
        self.path = DROP_IN.format(unit)
        self.new = {name: value for name, value in variables.items() if now.get(name, "") != value}
        for name in sorted(self.new):
            if name in of_files:
                raise undo.UndoError(
                    "{0} is set in {1}, which wins over a drop-in; correct it there. Nothing was changed.".format(name, of_files[name])
                )
        self.text = drop_in(dict(own(self.path), **self.new))

    def changes(self):
        return ["{0}={1}".format(name, redact_proxy(self.new[name])) for name in sorted(self.new)]


def main():
    module = AnsibleModule(
        argument_spec=dict(
            change.options(),
            unit={"type": "str", "required": True},
            variables={"type": "dict", "required": True},
            expect={"type": "dict", "default": {}},
        ),
        supports_check_mode=True,
        no_log=True,  # a proxy's address may hold a password; what is returned is masked
    )
    options = module.params
    shown = {name: redact_proxy("{0}".format(value)) for name, value in options["variables"].items()}
    invocation = {"module_args": {"unit": options["unit"], "variables": shown, "undo": options["undo"]}}
    if os.geteuid() != 0:
        module.fail_json(msg="Changing a service needs root; run this task with become.", invocation=invocation)
    runner = undo.runner_of(module)
    point, deferred, path = None, None, None
    try:
        if not re.match(r"[A-Za-z0-9@_.:-]+\.service\Z", options["unit"]):
            raise undo.UndoError("{0!r} is not the name of a service. Nothing was changed.".format(options["unit"]))
        plan = Plan(options, runner)
        changes, path = plan.changes(), plan.path
        if changes and not module.check_mode:
            with change.Change(module, files=[path], units=[options["unit"]]) as frame:
                plan = Plan(options, runner)  # only now nobody else changes it
                guard_program.make_public(os.path.dirname(path))
                # Others may not read what may hold a password.
                undo.replace(path, [plan.text.encode("utf-8")], mode=0o600)
                restore.systemctl(runner, ["daemon-reload"])
                left = Plan(dict(options, expect={}), runner).changes()
                if left:
                    raise undo.UndoError("{0} was written, but the unit does not show it: {1}.".format(path, ", ".join(left)))
            point = frame.point_id
    except change.Deferred as error:
        changes, deferred = [], str(error)
    except undo.UndoError as error:
        module.fail_json(msg=str(error), invocation=invocation)
    except OSError as error:
        text = "{0} could not be written: {1}.".format(error.filename or path, error.strerror or error)
        module.fail_json(msg=text, invocation=invocation)
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        path=path,
        restart_required=bool(changes),
        undo_point=point,
        deferred=bool(deferred),
        reason=deferred,
        invocation=invocation,
        diff={"before": "", "after": "".join(words + "\n" for words in changes), "before_header": path, "after_header": path},
    )


if __name__ == "__main__":
    main()
