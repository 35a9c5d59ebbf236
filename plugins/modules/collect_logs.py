#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: collect_logs
short_description: Collect what a support case needs of a guest, without secrets
version_added: 0.1.0
description:
  - Reads the logs of agent and extensions, their status files, the agent's configuration, the facts of this collection, and what a few commands
    say of network, disks and processes. Writes one compressed archive below O(directory) on the controller.
  - Secrets are masked on the guest, before anything travels; what a Windows guest sends is looked through once more on the controller. Keys,
    certificates, C(ovf-env.xml), the settings of extensions, protected or not, and Azure's extension configuration are never read.
  - C(manifest.json) in the archive lists every file with its SHA-256 and the number of what was masked, and what was left out and why.
  - On Windows guests it runs M(vmbackup.azure.win_collect_logs), which reads the logs of agent and extensions and the status files only.
  - Nothing is written on the guest.
options:
  directory:
    description: Directory on the controller. It is made where it is missing, for its owner only.
    type: path
    required: true
  max_bytes:
    description: Bytes that the files of one archive may have before they are compressed. Of what has no more room the manifest tells.
    type: int
    default: 20971520
  max_file_bytes:
    description: Bytes of one file; of a longer one the end is taken.
    type: int
    default: 4194304
  max_files:
    description: Number of files.
    type: int
    default: 500
  max_age_days:
    description: Logs and status files that were not written for so many days are left out.
    type: int
    default: 30
  timeout_s:
    description: Seconds that one command may take on Linux guests. On Windows guests see M(vmbackup.azure.win_collect_logs).
    type: float
    default: 10.0
notes:
  - Needs root on the guest, since the logs are root's; on Windows an administrator.
extends_documentation_fragment:
  - vmbackup.azure.attributes.reads
attributes:
  platform:
    description: Linux and Windows guests.
    support: full
    platforms: linux, windows
seealso:
  - module: vmbackup.azure.diagnose
  - module: vmbackup.azure.win_collect_logs
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Collect the logs of the guest
  vmbackup.azure.collect_logs:
    directory: vmbackup-logs
  become: true
"""

RETURN = r"""
path:
  description: The archive on the controller, C(tar.gz) of a Linux guest, C(zip) of a Windows guest; V(null) in check mode.
  returned: success
  type: str
  sample: vmbackup-logs/web01-20261121T094500Z.tar.gz
bytes:
  description: Its size.
  returned: success
  type: int
sha256:
  description: Its SHA-256.
  returned: success
  type: str
redactions:
  description: How many secrets were masked in it.
  returned: success
  type: int
manifest:
  description: What C(manifest.json) in the archive says.
  returned: success
  type: dict
"""

import base64
import hashlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import support
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest

LIMITS = ("max_bytes", "max_file_bytes", "max_files", "max_age_days", "timeout_s")


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "max_bytes": {"type": "int", "default": 20971520},
            "max_file_bytes": {"type": "int", "default": 4194304},
            "max_files": {"type": "int", "default": 500},
            "max_age_days": {"type": "int", "default": 30},
            "timeout_s": {"type": "float", "default": 10.0},
        },
        supports_check_mode=True,
    )
    limits = {name: module.params[name] for name in LIMITS}
    wrong = [name for name in LIMITS if limits[name] <= 0]
    if wrong:
        module.fail_json(msg="{0} must be more than 0.".format(", ".join(wrong)))
    if os.geteuid() != 0:
        module.fail_json(msg="Reading the logs needs root; run this task with become.")
    try:
        data, manifest = support.collect_all(Guest(run_command=module.run_command), limits, module.run_command)
    except (OSError, MemoryError) as error:
        module.fail_json(msg="The logs could not be collected: {0}.".format(error))
    module.exit_json(
        changed=False,
        content=base64.b64encode(data).decode("ascii"),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        redactions=manifest["redactions"],
        manifest=manifest,
    )


if __name__ == "__main__":
    main()
