#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: waagent_conf
short_description: Set keys in the configuration of the Linux guest agent
version_added: 0.1.0
description:
  - Sets and removes several keys of C(waagent.conf) in one call, with the exact grammar of the agent.
  - Writes C(Key=Value) where the line stands that decides, removes further lines of the same key, and touches no other line.
  - A key that is not there is added at the end, unless the value is the agent's default anyway.
  - A key that already has the value, once and in a form that the backup extension can read too, is left as it is.
  - Reads the new text the way the agent does before it replaces the file, and refuses if that is not what was asked.
options:
  path:
    description: The configuration file. A link is followed, and the file behind it replaced.
    type: path
    default: /etc/waagent.conf
  settings:
    description:
      - Keys and their values. Switches take V(y) and V(n), booleans work too. V(None), as text, unsets a key.
      - C(Extensions.Enable) is refused, since the agent has no such key. It is C(Extensions.Enabled).
    type: dict
    default: {}
  absent:
    description: Keys to remove, so that the agent's default applies.
    type: list
    elements: str
    default: []
  canonical:
    description:
      - Also write every other line that the agent can read and the backup extension cannot, such as one with blanks around C(=), in plain form.
      - Keeps only the deciding line of a key that stands there more than once. The agent reads the same values as before.
    type: bool
    default: false
  expect:
    description:
      - What keys were seen to say before, such as by M(vmbackup.azure.diagnose); V(null) for one that the file did not set.
      - Where the file says something else now, and not what is wanted either, somebody changed it meanwhile, and nothing is written.
    type: dict
    default: {}
notes:
  - Needs root. The agent reads the file only when it starts, so restart it afterwards, but never while a snapshot runs.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.linux_writer
seealso:
  - module: vmbackup.azure.undo
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Let extensions run and go through a proxy
  vmbackup.azure.waagent_conf:
    settings:
      Extensions.Enabled: "y"
      HttpProxy.Host: proxy.example.com
      HttpProxy.Port: 3128
  become: true

- name: Fall back to the default
  vmbackup.azure.waagent_conf:
    absent:
      - Lib.Dir
  become: true
"""

RETURN = r"""
path:
  description: The file that was, or would be, written.
  returned: always
  type: str
  sample: /etc/waagent.conf
changes:
  description: The keys whose text changes, each with RV(changes.before) and RV(changes.after). Credentials of a proxy are masked.
  returned: always
  type: dict
  sample: {"Extensions.Enabled": {"before": "n", "after": "y"}}
  contains:
    before:
      description: What the agent read for the key before, V(null) when unset or not there.
      returned: always
      type: str
    after:
      description: What the agent reads for the key afterwards, V(null) when unset or not there.
      returned: always
      type: str
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
restart_required:
  description: Whether the agent has to be restarted to take up the change.
  returned: always
  type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, conf, undo
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import NotAFile, read_regular


def values(text):
    return {entry["key"]: entry["value"] for entry in conf.parse(text)}


def changes(before, after):
    """Return the keys that the agent reads differently."""
    old, new = values(before), values(after)
    result = {}
    for key in sorted(set(old) | set(new)):
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            pair = {"before": old.get(key), "after": new.get(key)}
            for name, value in pair.items():
                if value is not None:
                    pair[name] = conf.mask_value(key, value)
            result[key] = pair
    return result


def read(path):
    """Return the text of the file; raises ConfError with what to do."""
    try:
        data = read_regular(path, conf.MAX_BYTES + 1)
    except NotAFile as error:
        raise conf.ConfError("{0} cannot be read: {1}. Bring the file back from a backup or from the package.".format(path, error.strerror))
    except OSError as error:
        if not os.path.lexists(path):
            raise conf.ConfError("{0} does not exist. The agent's package brings it: install or reinstall that first.".format(path))
        raise conf.ConfError("Could not read {0}: {1}. Run this task as root, with become.".format(path, error.strerror))
    return conf.decode(data, path)


def check_writable(path):
    """Refuse early where the file could not be replaced."""
    parent = os.path.dirname(path)
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        raise conf.ConfError(
            "{0} is on a read-only file system, so {1} cannot be changed there. Remount it, or change the image it comes from.".format(
                parent, path
            )
        )
    if not os.access(parent, os.W_OK):
        raise conf.ConfError("No permission to replace {0} in {1}. Run this task as root, with become.".format(path, parent))


def check_expected(path, present, expected, wanted):
    """Refuse where a key says neither what was seen before nor what is wanted."""
    for key in sorted(expected):
        now, seen = present.get(key), expected[key]
        if now in (None if seen is None else str(seen), wanted.get(key)):
            continue
        words = ["not set" if value is None else "set to " + conf.mask_value(key, value) for value in (now, seen)]
        text = "{0}: {1} is {2} now, the diagnosis saw it {3}. Nothing was changed; diagnose the guest again."
        raise conf.ConfError(text.format(path, key, *words))


def write(path, text):
    """Replace the file in one step, and read it back."""
    try:
        undo.replace(path, [text.encode("utf-8")])
    except OSError as error:
        raise conf.ConfError("Could not replace {0}: {1}. It was left as it is.".format(path, error.strerror or error))
    if read(path) != text:
        raise conf.ConfError("{0} does not hold what was written to it; look at it by hand, something else writes it too.".format(path))


def main():
    module = AnsibleModule(
        argument_spec=dict(
            change.options(),
            path={"type": "path", "default": "/etc/waagent.conf"},
            settings={"type": "dict", "default": {}},
            absent={"type": "list", "elements": "str", "default": []},
            canonical={"type": "bool", "default": False},
            expect={"type": "dict", "default": {}},
        ),
        supports_check_mode=True,
        no_log=True,  # a proxy's address may hold a password; what is returned is masked below
    )
    settings = module.params["settings"]
    shown = {key: conf.mask_value(key, value) for key, value in settings.items()}
    invocation = {"module_args": dict(module.params, settings=shown)}
    path = os.path.realpath(module.params["path"])
    absent = module.params["absent"]
    point, deferred = None, None
    try:
        both = sorted(set(settings) & set(absent))
        if both:
            raise conf.ConfError("{0}: named in settings and in absent; choose one.".format(", ".join(both)))
        wanted = {key: conf.setting(key, value) for key, value in settings.items()}
        wanted.update((key, None) for key in absent)
        before = read(path)
        check_expected(path, values(before), module.params["expect"], wanted)
        after = conf.rewrite(before, wanted, canonical=module.params["canonical"])
        changed = after != before
        if changed:
            check_writable(path)
        if changed and not module.check_mode:
            with change.Change(module, files=[module.params["path"]]) as frame:
                point = frame.point_id
                # Only now nobody else writes it.
                before = read(path)
                check_expected(path, values(before), module.params["expect"], wanted)
                after = conf.rewrite(before, wanted, canonical=module.params["canonical"])
                write(path, after)
    except change.Deferred as error:
        changed, deferred = False, str(error)
    except (conf.ConfError, undo.UndoError) as error:
        module.fail_json(msg=str(error), invocation=invocation)
    module.exit_json(
        changed=changed,
        deferred=bool(deferred),
        reason=deferred,
        undo_point=point,
        path=path,
        changes=changes(before, after),
        restart_required=changed,
        invocation=invocation,
        diff={"before": conf.shown(before), "after": conf.shown(after), "before_header": path, "after_header": path},
    )


if __name__ == "__main__":
    main()
