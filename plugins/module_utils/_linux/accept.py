# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A rule of the guest's packet filter that lets root reach the Azure host: looked for, put first, removed, and kept for the next start.

A place is ``iptables TABLE`` or ``nft FAMILY TABLE CHAIN``; the chain of iptables is OUTPUT, or the one that firewalld has for it.
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


# The chain that firewalld keeps direct rules in where it works by iptables.
CHAINS = ("OUTPUT", "OUTPUT_direct")
# What there is not holds no rule: a table or chain that is gone, a program that is not installed.
_GONE = re.compile(r"No such file or directory|Table does not exist|No chain/target/match|does not exist")


def _iptables(runner, place, action, chain="OUTPUT", more=()):
    """Run iptables, which waits a few seconds for its lock; versions before 1.6 take no number there."""
    rest = ["-t", place.split()[1], action, chain] + list(more) + IPTABLES
    for begin in (["iptables", "-w", "5"], ["timeout", "10", "iptables", "-w"]):
        code, out, err = runner(begin + rest)
        if code != 2 or "Bad argument" not in err:
            break
    return code, out, err


def _chains(place, runner):
    """Return the chains of iptables in which our rule stands."""
    found = []
    for chain in CHAINS:
        code, out, err = _iptables(runner, place, "-C", chain)
        if code == 0:
            found.append(chain)
        elif code not in (1, 127) and not _GONE.search(err) and not (code == 2 and "does a matching rule exist" in err):
            raise undo.UndoError("{0} cannot be read: {1}.".format(place, (err or out).strip() or "exit code {0}".format(code)))
    return found


def _handles(place, runner):
    """Return the handles of our rules in a chain of nft."""
    code, out, err = runner(["nft", "-a", "list", "chain"] + place.split()[1:])
    if code == 127 or code != 0 and _GONE.search(err):
        return []
    if code != 0:
        raise undo.UndoError("{0} cannot be read: {1}.".format(place, (err or out).strip() or "exit code {0}".format(code)))
    return re.findall(r'comment "{0}".* # handle (\d+)'.format(re.escape(NOTE)), out)


def stands(place, runner):
    """Say whether our rule is there."""
    return bool((_handles if place.startswith("nft ") else _chains)(place, runner))


def put(place, runner):
    """Put our rule first; returns why it failed, empty when it did not."""
    if place.startswith("nft "):
        code, out, err = runner(["nft", "insert", "rule"] + place.split()[1:] + NFT.split())
    else:
        code, out, err = _iptables(runner, place, "-I", more=["1"])
    return "" if code == 0 else (err or out).strip() or "exit code {0}".format(code)


def take(place, runner):
    """Remove our rule wherever it stands; returns why it failed, empty when it did not."""
    if place.startswith("nft "):
        done = [runner(["nft", "delete", "rule"] + place.split()[1:] + ["handle", handle]) for handle in _handles(place, runner)]
    else:
        done = []
        for _attempt in range(4):  # a firewall that was loaded anew may have it twice
            chains = _chains(place, runner)
            done += [_iptables(runner, place, "-D", chain) for chain in chains]
            if not chains or done[-1][0] != 0:
                break
    return next(((err or out).strip() or "exit code {0}".format(code) for code, out, err in done if code != 0), "")


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


_COUNTERS = re.compile(r"\[\d+:\d+\] ")


def _bare(row):
    """Return a row of ``iptables-save`` without counters, and without the quotes that it puts around some comments."""
    return _COUNTERS.sub("", row.strip(), count=1).replace('"', "")


def saved_text(text, table, wanted=True):
    """Return the text of ``iptables-save`` with our rule first in the chain OUTPUT of a table, or without it; None where that table is not in it."""
    line = "-A OUTPUT " + " ".join(IPTABLES)
    result, inside, done = [], False, False
    for row in text.split("\n"):
        bare = _bare(row)
        if row.startswith("*"):
            inside = bare == "*" + table
        if inside and bare == line:
            if wanted:
                return text
            continue
        if inside and not done and (bare.startswith("-A ") or bare == "COMMIT"):
            result += [line] if wanted else []
            done = True
        result.append(row)
    return "\n".join(result) if done else None


def nftables_text(text, place, wanted=True):
    """Return a file of nft with our rule first in a base chain that it defines in the plain form, or without it; None where it has no such chain."""
    family, table, chain = place.split()[1:]
    block = re.search(r"(?m)^[ \t]*table[ \t]+{0}[ \t]+{1}[ \t]*\{{".format(re.escape(family), re.escape(table)), text)
    start = block and re.compile(r"(?m)^([ \t]*)chain[ \t]+{0}[ \t]*\{{[ \t]*\n".format(re.escape(chain))).search(text, block.end())
    hook = start and re.compile(r"[ \t]*type filter hook (?:output|postrouting)[^\n]*\n").match(text, start.end())
    if not hook:
        return None
    rule = re.compile(r"[ \t]*{0}[ \t]*\n".format(re.escape(NFT))).match(text, hook.end())
    if rule or not wanted:
        return text if wanted or not rule else text[: rule.start()] + text[rule.end() :]
    return text[: hook.end()] + start.group(1) + "\t" + NFT + "\n" + text[hook.end() :]
