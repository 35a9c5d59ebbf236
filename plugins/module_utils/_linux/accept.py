# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A rule of the guest's packet filter that lets root reach the Azure host: looked for, put first, removed, and kept for the next start.

A place is ``iptables TABLE`` or ``nft FAMILY TABLE CHAIN``; the chain of iptables is OUTPUT.
"""

import re

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import undo

NOTE = "vmbackup.azure"
HOST = "168.63.129.16"
IPTABLES = ["-d", HOST + "/32", "-p", "tcp", "-m", "owner", "--uid-owner", "0", "-m", "comment", "--comment", NOTE, "-j", "ACCEPT"]
NFT = 'ip daddr {0} meta l4proto tcp meta skuid 0 accept comment "{1}"'.format(HOST, NOTE)
PLACE = re.compile(r"(?:iptables (?:filter|mangle|raw|nat|security)|nft (?:ip|inet) [A-Za-z_][\w./-]{0,63} [A-Za-z_][\w./-]{0,63})\Z")
SAVED = ("/etc/iptables/rules.v4", "/etc/sysconfig/iptables")
NFTABLES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")


def _iptables(place, action, *more):
    # The lock of iptables is waited for, a few seconds.
    return ["iptables", "-w", "5", "-t", place.split()[1], action, "OUTPUT"] + list(more) + IPTABLES


def _handles(place, runner):
    """Return the handles of our rules in a chain of nft."""
    code, out, err = runner(["nft", "-a", "list", "chain"] + place.split()[1:])
    if code != 0:
        raise undo.UndoError("{0} cannot be read: {1}.".format(place, (err or out).strip() or "exit code {0}".format(code)))
    return re.findall(r'comment "{0}".* # handle (\d+)'.format(re.escape(NOTE)), out)


def stands(place, runner):
    """Say whether our rule is there."""
    if place.startswith("nft "):
        return bool(_handles(place, runner))
    code, out, err = runner(_iptables(place, "-C"))
    if code not in (0, 1, 2) or code == 2 and "does a matching rule exist" not in err and "Bad rule" not in err:
        raise undo.UndoError("{0} cannot be read: {1}.".format(place, (err or out).strip() or "exit code {0}".format(code)))
    return code == 0


def put(place, runner):
    """Put our rule first; returns why it failed, empty when it did not."""
    if place.startswith("nft "):
        code, out, err = runner(["nft", "insert", "rule"] + place.split()[1:] + NFT.split())
    else:
        code, out, err = runner(_iptables(place, "-I", "1"))
    return "" if code == 0 else (err or out).strip() or "exit code {0}".format(code)


def take(place, runner):
    """Remove our rule; returns why it failed, empty when it did not."""
    if place.startswith("nft "):
        calls = [["nft", "delete", "rule"] + place.split()[1:] + ["handle", handle] for handle in _handles(place, runner)]
    else:
        calls = [_iptables(place, "-D")]
    for call in calls:
        code, out, err = runner(call)
        if code != 0:
            return (err or out).strip() or "exit code {0}".format(code)
    return ""


class Accept(object):
    """The kind of an undo point (kinds.py): ``accept PLACE``; the state is True where our rule stands, else None."""

    @staticmethod
    def essence(state):
        return state

    @staticmethod
    def read(keys, runner):
        return {key: True if stands(key.split(" ", 1)[1], runner) else None for key in keys}

    @staticmethod
    def restore(pairs, runner):
        for key, want, now in pairs:
            problem = "" if want == now else (put if want else take)(key.split(" ", 1)[1], runner)
            if problem:
                return "{0}: {1}".format(key, problem)
        return ""

    @staticmethod
    def steps(pairs):
        return []  # it cuts no connection, so no guard stands behind it

    @staticmethod
    def words(key, state):
        return "{0}: {1} that lets root reach {2}".format(key.split(" ", 1)[1], "the rule" if state else "no rule", HOST)


def saved_text(text, table):
    """Return the text of ``iptables-save`` with our rule first in the chain OUTPUT of a table; None where that table is not in it."""
    line = "-A OUTPUT " + " ".join(IPTABLES)
    result, inside, done = [], False, False
    for row in text.split("\n"):
        if row.startswith("*"):
            inside = row.strip() == "*" + table
        if inside and row.strip() == line:
            return text
        if inside and not done and (row.startswith("-A ") or row.strip() == "COMMIT"):
            result.append(line)
            done = True
        result.append(row)
    return "\n".join(result) if done else None


def nftables_text(text, place):
    """Return a file of nft with our rule first in a base chain that it defines in the plain form; None where it does not."""
    family, table, chain = place.split()[1:]
    block = re.search(r"(?m)^[ \t]*table[ \t]+{0}[ \t]+{1}[ \t]*\{{".format(re.escape(family), re.escape(table)), text)
    start = block and re.compile(r"(?m)^([ \t]*)chain[ \t]+{0}[ \t]*\{{[ \t]*\n".format(re.escape(chain))).search(text, block.end())
    hook = start and re.compile(r"[ \t]*type filter hook (?:output|postrouting)[^\n]*\n").match(text, start.end())
    if not hook:
        return None
    if NFT in text[hook.end() : hook.end() + 400]:
        return text
    return text[: hook.end()] + start.group(1) + "\t" + NFT + "\n" + text[hook.end() :]
