#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: undo_point
short_description: Keep on the guest what a repair is about to change
version_added: 0.1.0
description:
  - Copies files and notes the state of units and packages below O(store), so that M(vmbackup.azure.undo_restore) can bring them back.
  - Reports no change, since keeping books is not a change to the guest. In check mode it writes nothing.
  - Writes nothing either when the newest point of the same repair, not undone yet, keeps the same state.
options:
  remedy:
    description: Name of the repair, such as V(agent.service).
    type: str
    required: true
  files:
    description: Files and links to keep. One that does not exist is noted as absent, and undo removes it.
    type: list
    elements: path
    default: []
  units:
    description: systemd units whose state is noted, whether enabled, masked and active.
    type: list
    elements: str
    default: []
  packages:
    description: Packages whose installed version is noted.
    type: list
    elements: str
    default: []
  moves:
    description:
      - Files and directories that the caller moves into the point's directory afterwards, to the places that RV(moves) names.
      - Those that do not exist are left out.
    type: list
    elements: path
    default: []
  store:
    description: Directory of all undo points, readable by root only.
    type: path
    default: /var/lib/vmbackup_azure/undo
notes:
  - Needs root. Secrets in a kept file stay on the guest, in a directory that only root can read.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
attributes:
  check_mode:
    description: Can run in check mode, looks at everything and writes nothing.
    support: full
  diff_mode:
    description: Returns no diff, since it changes nothing that it keeps.
    support: none
  platform:
    description: Linux guests.
    support: full
    platforms: linux
seealso:
  - module: vmbackup.azure.undo_restore
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Keep the agent's configuration and service state
  vmbackup.azure.undo_point:
    remedy: agent.configuration
    files:
      - /etc/waagent.conf
    units:
      - walinuxagent.service
  become: true
"""

RETURN = r"""
id:
  description: Name of the undo point. In check mode the name that it would have had.
  returned: always
  type: str
  sample: 20261121T092008Z-agent.configuration
directory:
  description: Where the point is kept.
  returned: always
  type: str
  sample: /var/lib/vmbackup_azure/undo/20261121T092008Z-agent.configuration
existing:
  description: Whether an earlier point already kept the same state.
  returned: always
  type: bool
moves:
  description: Where the caller is to move what it takes away.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: Where it is now.
      returned: always
      type: str
    stored:
      description: Where it is to go.
      returned: always
      type: str
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils.linux import undo


def main():
    module = AnsibleModule(
        argument_spec={
            "remedy": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "moves": {"type": "list", "elements": "path", "default": []},
            "store": {"type": "path", "default": undo.STORE},
        },
        supports_check_mode=True,
    )
    options = module.params
    relative = [path for path in options["files"] + options["moves"] + [options["store"]] if not os.path.isabs(path)]
    if relative:
        module.fail_json(msg="Undo points need absolute paths; not so: {0}.".format(", ".join(relative)))
    if os.geteuid() != 0:
        module.fail_json(msg="Keeping an undo point in {0} needs root; run this task with become.".format(options["store"]))
    try:
        captured = undo.capture(options["files"], options["units"], options["packages"], options["moves"], undo.runner_of(module))
        points = undo.read_points(options["store"])
        point, existing = undo.plan_point(options["store"], options["remedy"], captured, points, time.time())
        if not existing and not module.check_mode:
            undo.write_point(options["store"], point)
    except undo.UndoError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, id=point["id"], directory=point["directory"], existing=existing, moves=point["moves"])


if __name__ == "__main__":
    main()
