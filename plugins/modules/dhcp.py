#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: dhcp
short_description: Configure an interface of a Linux guest for DHCP instead of an address that was set by hand
version_added: 0.1.0
description:
  - Takes address and gateway out of the file that sets them, and has the interface use DHCP. It knows C(/etc/network/interfaces), profiles of
    NetworkManager, C(.network) files below C(/etc/systemd/network), and C(ifcfg-) files.
  - Nothing is restarted or applied anew. The interface keeps its address, and asks for it by DHCP when the guest starts the next time.
  - Addresses beside O(address) stay as they are.
options:
  interface:
    description: Name of the interface.
    type: str
    required: true
  path:
    description: File that sets the address, as the diagnosis names it.
    type: path
    required: true
  address:
    description: The address that is set there. Where the file says something else, nothing is written and the module fails.
    type: str
    required: true
notes:
  - Needs root.
  - See before that Azure gives the interface this same address, by the instance metadata service.
  - A file below C(/run), which netplan makes, is refused. Set C(dhcp4) in C(/etc/netplan) instead.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.linux_writer
seealso:
  - module: vmbackup.azure.undo
  - module: vmbackup.azure.win_dhcp
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Use DHCP from the next start on
  vmbackup.azure.dhcp:
    interface: eth0
    path: /etc/network/interfaces
    address: 10.0.0.4
    undo: snapshot.dhcp
  become: true
"""

RETURN = r"""
changes:
  description: What was, or would be, changed, a few words each.
  returned: success
  type: list
  elements: str
  sample: ["/etc/network/interfaces: DHCP for eth0 instead of 10.0.0.4"]
notes:
  description: What has to be known besides, such as name servers that the DHCP client will replace.
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
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, dhcp, dhcp_text, persist, undo

NOTHING = " Nothing was changed."
RESOLV = "/etc/resolv.conf"
AZURE_DNS = "168.63.129.16"
# What ifupdown and network scripts call for DHCP.
CLIENTS = ("dhclient", "dhcpcd", "udhcpc")
PLACES = ("/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/local/sbin")


def planned(options, runner):
    """Return (present text, wanted text) of the file; equal where DHCP is configured there already."""
    path, interface = options["path"], options["interface"]
    edit = dhcp_text.editor(path)
    if edit is None:
        raise undo.UndoError(
            "{0} is not a file that this module changes; where netplan makes it, set dhcp4: true in /etc/netplan.".format(path) + NOTHING
        )
    needs_client = path.startswith(("/etc/network/interfaces", persist.IFCFG))
    if needs_client and not any(os.access(os.path.join(place, name), os.X_OK) for place in PLACES for name in CLIENTS):
        raise undo.UndoError(
            "No DHCP client is installed ({0}), so {1} would be without an address after the next start. Install one first.".format(
                " or ".join(CLIENTS), interface
            )
            + NOTHING
        )
    text = persist.read(path)
    if text is None:
        raise undo.UndoError("{0} cannot be read.".format(path) + NOTHING)
    wanted = edit(text, interface, options["address"])
    if wanted is not None:
        return text, wanted
    if uses_dhcp(path, text, interface):
        return text, text
    raise undo.UndoError(
        "{0} does not give {1} the address {2} by hand; diagnose the guest again.".format(path, interface, options["address"]) + NOTHING
    )


def notes_of(path):
    """Return what has to be said of name servers: a client of ifupdown or network scripts writes the file that names them."""
    text = persist.read(RESOLV) if path.startswith(("/etc/network/interfaces", persist.IFCFG)) and not os.path.islink(RESOLV) else None
    servers = [name for name in re.findall(r"(?m)^nameserver[ \t]+(\S+)", text or "") if name != AZURE_DNS]
    if not servers:
        return []
    return [
        "{0} names {1}; when the guest starts the next time, the DHCP client writes it anew with the name servers of the virtual network. "
        "Check that these are right.".format(RESOLV, ", ".join(servers[:3]))
    ]


def uses_dhcp(path, text, interface):
    if path.startswith("/etc/network/interfaces"):
        return dhcp.parse_interfaces(text, interface)[0] == "dhcp"
    if path.startswith(persist.PROFILES):
        return dict(dhcp.parse_sections(text)).get("ipv4", {}).get("method", [""])[-1] == "auto"
    if path.startswith(persist.NETWORK):
        # The file is chosen already, whatever it matches the interface by.
        own = [section for section in dhcp.parse_sections(text) if section[0] != "Match"]
        return dhcp.networkd_method([("Match", {})] + own, interface, None)[1] == "dhcp"
    return dhcp.ifcfg_method(text) == "dhcp"


def main():
    module = AnsibleModule(
        argument_spec=dict(
            change.options(),
            interface={"type": "str", "required": True},
            path={"type": "path", "required": True},
            address={"type": "str", "required": True},
        ),
        supports_check_mode=True,
    )
    options = module.params
    if os.geteuid() != 0:
        module.fail_json(msg="Changing the network's configuration needs root; run this task with become.")
    runner = undo.runner_of(module)
    point, deferred = None, None
    path = options["path"]
    try:
        text, wanted = planned(options, runner)
        changed = text != wanted
        if changed and not module.check_mode:
            with change.Change(module, files=[path], minds_guards=True) as frame:
                text, wanted = planned(options, runner)  # only now nobody else changes it
                undo.replace(path, [wanted.encode("utf-8")])
                if path.startswith(persist.PROFILES):
                    runner(["nmcli", "connection", "load", path])  # reads it, and changes no connection that is up
                if not uses_dhcp(path, persist.read(path) or "", options["interface"]):
                    raise undo.UndoError("{0} was written, but does not say DHCP when it is read back.".format(path))
            point = frame.point_id
    except change.Deferred as error:
        changed, deferred = False, str(error)
    except undo.UndoError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="{0} could not be written: {1}.".format(error.filename or path, error.strerror or error))
    words = "{0}: DHCP for {1} instead of {2}".format(path, options["interface"], options["address"])
    module.exit_json(
        changed=changed,
        changes=[words] if changed else [],
        notes=notes_of(path) if changed else [],
        undo_point=point,
        deferred=bool(deferred),
        reason=deferred,
        # Of the file no more than this is shown: a profile may hold secrets of other kinds.
        diff={"before": "", "after": words + "\n" if changed else "", "before_header": path, "after_header": path},
    )


if __name__ == "__main__":
    main()
