#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: azure_ip_ranges
short_description: Read prefixes out of Azure's list of IP ranges
version_added: 0.1.0
description:
  - Reads a file of Azure's IP ranges that you downloaded, and returns the prefixes of the tags and regions you name, merged to the fewest.
  - Takes the weekly JSON of service tags, of every cloud, the answer of Azure's C(serviceTags) API, which has the same shape,
    and the XML C(PublicIPs) of 2016, which was retired in 2020.
  - Only reads, and never downloads anything, since the lists have no stable address. Microsoft's download has the number 56519.
options:
  path:
    description: The file, on the host that the module runs on. That is the controller, normally.
    type: path
    required: true
  tags:
    description:
      - Service tags, such as V(Storage), or whole names, such as V(Storage.WestEurope), in any case.
      - With O(regions), V(Storage) stands for the tags of these regions. Without it, for the worldwide tag.
      - A tag that the file does not split by region, such as V(AzureActiveDirectory), is taken whole. RV(tags) says what was taken.
      - Without any, all tags are taken. The XML has no tags, so that none may be given.
    type: list
    elements: str
    default: []
  regions:
    description:
      - Regions by location name, such as V(francecentral), as instance metadata gives it. None stands for all.
      - The display name, such as V(West Europe), and the names of the files, such as V(centralfrance) and V(europewest), work too.
    type: list
    elements: str
    default: []
  family:
    description: Kind of addresses. The XML has IPv4 only.
    type: str
    choices: [ipv4, ipv6, all]
    default: ipv4
  merge:
    description:
      - Whether to merge the prefixes to the fewest that hold exactly the same addresses.
      - Otherwise only repeated ones are left out.
    type: bool
    default: true
notes:
  - The host's own addresses, 168.63.129.16 and 169.254.169.254, are in no tag.
extends_documentation_fragment:
  - vmbackup.azure.attributes.reads
attributes:
  platform:
    description: Runs where the file is, on the controller or on a host with Python.
    support: full
    platforms: posix
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Read what a guest in West Europe needs for its backups
  vmbackup.azure.azure_ip_ranges:
    path: files/ServiceTags_Public_20260622.json
    tags: [Storage, AzureBackup]
    regions: [westeurope]
  delegate_to: localhost
  run_once: true
  register: ranges

- name: Show the prefixes
  ansible.builtin.debug:
    var: ranges.prefixes

- name: Read a region out of the XML
  vmbackup.azure.azure_ip_ranges:
    path: files/PublicIPs_20160418.xml
    regions: [westeurope]
  delegate_to: localhost
"""

RETURN = r"""
prefixes:
  description: The prefixes in order of address, IPv4 before IPv6.
  returned: success
  type: list
  elements: str
  sample: ["13.69.0.0/17", "2603:1020:206::/48"]
counts:
  description: Numbers of prefixes.
  returned: success
  type: dict
  contains:
    in_file:
      description: Different prefixes of this family that the file has for what was asked.
      returned: success
      type: int
      sample: 11229
    ipv4:
      description: IPv4 prefixes in RV(prefixes).
      returned: success
      type: int
      sample: 2809
    ipv6:
      description: IPv6 prefixes in RV(prefixes).
      returned: success
      type: int
      sample: 0
tags:
  description: The tags that were taken, as the file spells them. Empty for the XML.
  returned: success
  type: list
  elements: str
  sample: [AzureBackup.WestEurope, Storage.WestEurope]
regions:
  description: The regions that were taken, by location name. Tags without a region do not count.
  returned: success
  type: list
  elements: str
  sample: [westeurope]
format:
  description: Format of the file, V(service_tags) for the JSON or V(public_ips) for the XML.
  returned: success
  type: str
  sample: service_tags
cloud:
  description: The cloud that the file names. V(null) for the XML, which names none.
  returned: success
  type: str
  sample: Public
change_number:
  description: Number of the file's edition. V(null) for the XML, which has none.
  returned: success
  type: int
  sample: 372
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._ip_ranges import IpRangesError, answer, parse

MAX_FILE_BYTES = 64 * 1024 * 1024  # the whole JSON of 2026 has 4 MB


def read(path):
    """Return the bytes of the file.

    :raises IpRangesError: when there are none to read.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise IpRangesError("it is no file")
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except (IOError, OSError) as error:
        raise IpRangesError("it cannot be read ({0})".format(error.strerror or error))
    if len(raw) > MAX_FILE_BYTES:
        raise IpRangesError("it has more than {0} MB, which no list of Azure has".format(MAX_FILE_BYTES >> 20))
    return raw


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "tags": {"type": "list", "elements": "str", "default": []},
            "regions": {"type": "list", "elements": "str", "default": []},
            "family": {"type": "str", "choices": ["ipv4", "ipv6", "all"], "default": "ipv4"},
            "merge": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        result = answer(parse(read(asked["path"])), asked["tags"], asked["regions"], asked["family"], asked["merge"])
    except IpRangesError as error:
        module.fail_json(msg="Nothing was taken from {0}: {1}.".format(asked["path"], error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
