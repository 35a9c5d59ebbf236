# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a Linux guest keeps routes for its next start. Files are written; nothing that is up is restarted or applied anew.

A route is a dictionary: prefix, via, dev, metric, table, onlink.
"""

import grp
import os
import re
import shlex

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import guard_program, undo

LINKS = "/run/systemd/netif/links"
NETWORK = "/etc/systemd/network"
DROP_IN = "vmbackup-azure.conf"
PROFILES = "/etc/NetworkManager/system-connections"
HOOKS = "/etc/network/if-up.d"
HOOK = "vmbackup-azure-routes"
IFSTATE = ("/run/network/ifstate", "/etc/network/run/ifstate")
WICKED = "/etc/sysconfig/network"
IFCFG = "/etc/sysconfig/network-scripts"
MARK = "# Written by vmbackup.azure, which writes it anew with its next change of the routes.\n"


def read(path):
    try:
        with open(path, "rb") as stream:
            return stream.read().decode("utf-8", "replace")
    except (IOError, OSError):
        return None


def _group(name):
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


class Place(object):
    """One file that keeps routes: ``text`` is its content, None when it is not to be there; ``load`` is run after it was written."""

    def __init__(self, path, text, mode=0o644, load=None):
        self.path, self.text, self.mode, self.load = path, text, mode, load

    def stale(self):
        return read(self.path) != self.text or (self.text is not None and self._hidden())

    def _hidden(self):
        """Say whether systemd-networkd, which runs as a user of its own, may not look into the directory of its drop-ins."""
        parent = os.path.dirname(self.path)
        if not parent.endswith(".network.d") or not os.path.isdir(parent):
            return False
        state = os.stat(parent)
        return state.st_mode & 0o005 != 0o005 and not (state.st_mode & 0o050 == 0o050 and state.st_gid == _group("systemd-network"))

    def write(self, runner):
        if self.text is None:
            if os.path.lexists(self.path):
                os.unlink(self.path)
            parent = os.path.dirname(self.path)
            if parent.endswith(".network.d") and not os.listdir(parent):
                os.rmdir(parent)
        else:
            parent = os.path.dirname(self.path)
            guard_program.make_public(parent)
            if self._hidden():
                os.chmod(parent, os.stat(parent).st_mode & 0o7777 | 0o005)
            undo.replace(self.path, [self.text.encode("utf-8")], mode=None if os.path.exists(self.path) else self.mode)
        if self.load:
            code, out, err = runner(self.load)
            if code != 0:
                raise undo.UndoError("{0} failed: {1}.".format(" ".join(self.load), (err or out).strip()))


def networkd_text(routes):
    """Return the drop-in of a ``.network`` file; None without routes."""
    if not routes:
        return None
    lines = [MARK]
    for route in routes:
        lines.append("[Route]\nDestination={0}\nGateway={1}\n".format(route["prefix"], route["via"]))
        if route["metric"]:
            lines.append("Metric={0}\n".format(route["metric"]))
        if route["table"] != "main":
            lines.append("Table={0}\n".format(route["table"]))
        if route.get("onlink") or ":" not in route["prefix"]:
            # The route may be set before the lease is there. Both spellings, since old versions know the first one only.
            lines.append("GatewayOnlink=yes\nGatewayOnLink=yes\n")
    return "".join(lines)


def network_file(index):
    """Return the name of the ``.network`` file that systemd-networkd has an interface by, None where it has none."""
    text = read(os.path.join(LINKS, str(index))) or ""
    values = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
    if values.get("ADMIN_STATE") not in ("configured", "configuring", "degraded") or not values.get("NETWORK_FILE"):
        return None
    return os.path.basename(values["NETWORK_FILE"])


def sharing(index, name):
    """Return the numbers of other interfaces that systemd-networkd has by the same ``.network`` file: a drop-in would give them the routes too."""
    found = []
    for other in sorted(os.listdir(LINKS)) if os.path.isdir(LINKS) else []:
        if other != str(index) and re.search(
            r"(?m)^NETWORK_FILE=(?:.*/)?{0}$".format(re.escape(name)), read(os.path.join(LINKS, other)) or ""
        ):
            found.append(other)
    return found


def hook_text(interface, routes):
    """Return the script that ifupdown runs when the interface comes up; None without routes."""
    if not routes:
        return None
    lines = ["#!/bin/sh\n", MARK, '[ "$IFACE" = {0} ] || exit 0\n'.format(shlex.quote(interface)), "ip -force -batch - <<'END' || true\n"]
    for route in routes:
        lines.append("route replace {0}\n".format(spec(route)))
    return "".join(lines + ["END\n"])


def spec(route):
    """Return the words with which ip adds a route."""
    text = "unicast {prefix} via {via} dev {dev} table {table} proto static".format(**route)
    if route["metric"]:
        text += " metric {0}".format(route["metric"])
    return text + (" onlink" if route.get("onlink") else "")


def sections(text):
    """Return [[name of the section or None, lines]] of a keyfile."""
    found = [[None, []]]
    for line in text.split("\n"):
        if line.strip().startswith("[") and line.strip().endswith("]"):
            found.append([line.strip()[1:-1], []])
        found[-1][1].append(line)
    return found


_ROUTE = re.compile(r"^(route(\d+))(_options)?\s*=\s*(.*)$")


def _value(route):
    return "{0},{1},{2}".format(route["prefix"], route["via"], route["metric"])


def _own_numbers(lines, ours):
    """Return the numbers of a section's routes that are ours: their value is one that we wrote."""
    return {match.group(2) for match in map(_ROUTE.match, lines) if match and not match.group(3) and match.group(4).strip() in ours}


def keyfile_text(text, before, after):
    """Return a profile of NetworkManager with our routes exchanged; nothing else in it changes.

    :param before: routes that we wrote earlier, and that go unless they are in after.
    """
    parts = sections(text)
    for family, name in ((4, "ipv4"), (6, "ipv6")):
        own = [route for route in after if (":" in route["prefix"]) == (family == 6)]
        ours = {_value(route) for route in list(before) + own}
        part = next((part for part in parts if part[0] == name), None)
        if part is None:
            if not own:
                continue
            parts[-1][1] = parts[-1][1][:-1] if parts[-1][1][-1:] == [""] else parts[-1][1]
            part = [name, ["", "[{0}]".format(name), "method=auto"]]
            parts.append(part)
            parts[-1][1].append("")
        gone = _own_numbers(part[1], ours)
        kept = [line for line in part[1] if not (_ROUTE.match(line) and _ROUTE.match(line).group(2) in gone)]
        used = {int(_ROUTE.match(line).group(2)) for line in kept if _ROUTE.match(line)}
        number, added = 0, []
        for route in own:
            number = next(n for n in range(number + 1, number + len(used) + 2) if n not in used)
            added.append("route{0}={1}".format(number, _value(route)))
            options = ["table={0}".format(route["table"])] if route["table"] != "main" else []
            options += ["onlink=true"] if route.get("onlink") else []
            if options:
                added.append("route{0}_options={1}".format(number, ",".join(options)))
        end = len(kept)
        while end > 1 and not kept[end - 1].strip():
            end -= 1
        part[1] = kept[:end] + added + kept[end:]
    return "\n".join(line for part in parts for line in part[1])


def profile(runner, interface):
    """Return (whether NetworkManager has the interface, path of its profile or None)."""
    code, out, _err = runner(["nmcli", "-t", "-f", "GENERAL.STATE,GENERAL.CON-UUID", "device", "show", interface])
    values = dict(line.split(":", 1) for line in out.split("\n") if ":" in line) if code == 0 else {}
    uuid = values.get("GENERAL.CON-UUID", "").strip()
    if not uuid or not values.get("GENERAL.STATE", "").startswith("100"):
        return False, None
    for name in sorted(os.listdir(PROFILES)) if os.path.isdir(PROFILES) else []:
        path = os.path.join(PROFILES, name)
        if re.search(r"(?m)^uuid\s*=\s*{0}\s*$".format(re.escape(uuid)), read(path) or ""):
            return True, path
    return True, None


def place(runner, interface, index, before, after):
    """Return (Place or None, sentence or None) of an interface's routes.

    :param before: our routes of the interface until now.
    :param after: our routes of the interface from now on.
    """
    name = network_file(index)
    if name:
        path = os.path.join(NETWORK, name + ".d", DROP_IN)
        if not sharing(index, name):
            kept = Place(path, networkd_text(after))
            return kept, _read_later(interface, path) if after and kept.stale() else None
        note = _not_kept(interface, "other interfaces have the same {0}".format(name)) if after else None
        return (Place(path, None) if os.path.lexists(path) else None), note
    managed, path = profile(runner, interface)
    if path:
        text = read(path) or ""
        if after and (
            text.startswith("# Generated by cloud-init")
            or re.search(r"(?m)^org\.freedesktop\.NetworkManager\.origin\s*=\s*cloud-init", text)
        ):
            return None, _not_kept(interface, "cloud-init writes {0} anew at every start".format(path))
        return Place(path, keyfile_text(text, before, after), 0o600, ["nmcli", "connection", "load", path]), None
    if not managed and any("{0}={0}".format(interface) in (read(file_) or "").split("\n") for file_ in IFSTATE) and os.path.isdir(HOOKS):
        return Place(
            os.path.join(HOOKS, "{0}-{1}".format(HOOK, re.sub(r"[^A-Za-z0-9_-]", "_", interface))), hook_text(interface, after), 0o755
        ), None
    if not after:
        return None, None
    if managed:
        what = "its profile of NetworkManager is in no file below {0}".format(PROFILES)
    elif os.path.exists(os.path.join(WICKED, "ifcfg-" + interface)):
        what = "wicked has it"
    elif os.path.exists(os.path.join(IFCFG, "ifcfg-" + interface)):
        what = "it is set up by network scripts"
    else:
        what = "nothing that this module knows sets it up"
    return None, _not_kept(interface, what)


def _read_later(interface, path):
    return "systemd-networkd reads {0} when it starts; should {1} lose its link before that, these routes are gone until then.".format(
        path, interface
    )


def _not_kept(interface, why):
    return "The routes of {0} are not kept across a restart, since {1}; write them into its configuration.".format(interface, why)
