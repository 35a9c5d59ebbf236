# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Packet filter rules that keep root from the Azure host. Asked only when a probe failed.

The agent's own rules (table security, or nft table walinuxagent) let root through and drop everybody else: that is by design.
"""

import json
import re
import socket
import struct

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict, as_list

WIRESERVER = "168.63.129.16"


def _covers(text, address):
    network, _separator, length = text.partition("/")
    if length.isdigit() and (len(length) > 3 or int(length) > 32):
        return False
    shift = 32 - (int(length) if length.isdigit() else 32)
    try:
        wanted, given = (struct.unpack("!I", socket.inet_aton(a))[0] >> shift for a in (address, network))
        return wanted == given
    except (OSError, ValueError, struct.error):
        return False


def _reached(jumps, starts):
    """Return the chains that packets from the starting chains come to, by the jumps {chain: chains}."""
    found, pending = set(), list(starts)
    while pending:
        chain = pending.pop()
        if chain not in found:
            found.add(chain)
            pending += jumps.get(chain, ())
    return found


_HARMLESS = r"-p tcp|-m tcp|-m comment|--comment (?:\"[^\"]*\"|\S+)|-m (?:conntrack|state)|--(?:ctstate|state) (?:\w+,)*NEW(?:,\w+)*|-m owner|--uid-owner 0"


def _accepts_all(line, interface):
    """Say whether a rule of the chain OUTPUT lets new connections of root through wherever they lead by an interface."""
    line = line.replace(" -o {0} ".format(interface), " ", 1)
    return re.match(r"-A OUTPUT(?: (?:{0}))* -j ACCEPT\Z".format(_HARMLESS), line) is not None


def parse_iptables(text, interface=None):
    """Return (agent's rules, rules that drop root's packets to the host) of ``iptables-save``, in its own words.

    :param interface: name of the interface that leads to the host, None where it is not known.
    Only chains that packets of the guest itself come to count; those of its containers are forwarded.
    """
    agent, drops, table = [], [], None
    policies, jumps, accepted = {}, {}, False
    lines = [line.strip() for line in (text or "").split("\n") if line and not line.isspace()]
    for line in lines:
        target = re.match(r"-A (\S+) .*?-[jg] (\S+)", line)
        if target:
            jumps.setdefault(target.group(1), []).append(target.group(2))
    own = _reached(jumps, ("OUTPUT", "POSTROUTING"))
    root_let_through = False
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":OUTPUT "):
            policies[table] = line.split()[1]
        elif line.startswith("-A "):
            destination = re.search(r"(?<!! )(?:-d|--destination) (\S+)", line)
            named = bool(destination and _covers(destination.group(1), WIRESERVER))
            shown = "iptables -t {0} {1}".format(table, line)
            if table == "security" and named:
                agent.append(public_line(shown, 200))
                root_let_through = root_let_through or bool(re.search(r"--uid-owner 0 .*-j ACCEPT\b", line))
                # The agent's own rule, after the one that lets root through: without that one it hits root too.
                if re.search(r"-j DROP\b", line) and not root_let_through:
                    drops.append(public_line(shown, 200))
                continue
            if line.split()[1] not in own:
                continue
            accepted = accepted or bool(named and re.search(r"-j ACCEPT\b", line)) or (table == "filter" and _accepts_all(line, interface))
            if not named or not re.search(r"-j (DROP|REJECT)\b", line):
                continue
            owner = re.search(r"(! )?--uid-owner (\d+)", line)
            if owner and (owner.group(2) == "0") == bool(owner.group(1)):
                continue  # "! --uid-owner 0": root passes
            if owner and not owner.group(1) and owner.group(2) != "0":
                continue
            drops.append(public_line(shown, 200))
    if policies.get("filter") in ("DROP", "REJECT") and not accepted:
        drops.append("iptables: policy of chain OUTPUT in table filter is {0}".format(policies["filter"]))
    return agent, drops


def _place(item, name):
    return "{0} {1} {2}".format(item.get("family"), item.get("table"), item.get(name))


def _names_host(words):
    """Say whether an expression of nft, as JSON text, names the host's address or a network that it lies in."""
    if WIRESERVER in words:
        return True
    networks = re.findall(r'"addr": "([\d.]+)", "len": (\d+)', words)
    return any(_covers("{0}/{1}".format(network, length), WIRESERVER) for network, length in networks if length != "0")


def parse_nft(text):
    """Return (agent's rules, rules that drop root's packets to the host) of ``nft -j list ruleset``."""
    agent, drops = [], []
    try:
        items = as_list(as_dict(json.loads(text or "{}")).get("nftables"))
    except (ValueError, RecursionError):
        return agent, drops
    hooks, jumps = {}, {}
    for item in map(as_dict, items):
        chain, rule = as_dict(item.get("chain")), as_dict(item.get("rule"))
        if chain.get("hook"):
            hooks[_place(chain, "name")] = chain["hook"]
        for expression in map(as_dict, as_list(rule.get("expr"))):
            target = as_dict(expression.get("jump") or expression.get("goto")).get("target")
            if target:
                jumps.setdefault(_place(rule, "chain"), []).append(_place(dict(rule, chain=target), "chain"))
    own = _reached(jumps, [place for place, hook in hooks.items() if hook in ("output", "postrouting")])
    for rule in (as_dict(as_dict(item).get("rule")) for item in items):
        words = json.dumps(rule.get("expr", []))
        if '"xt"' in words:
            continue  # what iptables matches by, nft names without its values: that is told by iptables-save
        if not _names_host(words) or (hooks and _place(rule, "chain") not in own):
            continue
        shown = public_line("nft table {0} chain {1}: {2}".format(rule.get("table"), rule.get("chain"), words), 240)
        if rule.get("table") in ("walinuxagent", "security"):  # the latter is what iptables-nft makes of iptables -t security
            agent.append(shown)
            # The agent's one rule drops what is of anybody but root; without that word it hits root too.
            if '"drop"' in words and rule.get("table") == "walinuxagent" and "skuid" not in words:
                drops.append(shown)
        elif ('"drop"' in words or '"reject"' in words) and "skuid" not in words:
            drops.append(shown)
    return agent, drops


def places(drops, saved, ruleset):
    """Return where a rule has to stand that lets root through: ``iptables TABLE``, ``nft FAMILY TABLE CHAIN``.

    :param drops: what :func:`parse_iptables` and :func:`parse_nft` found.
    :param saved: text of ``iptables-save``, None where there is none.
    :param ruleset: text of ``nft -j list ruleset``, None where there is none.
    """
    found = []
    for drop in drops:
        table = re.match(r"iptables -t (\w+) |iptables: policy of chain OUTPUT in table (\w+) ", drop)
        if table:
            found.append("iptables {0}".format(table.group(1) or table.group(2)))
    return list(dict.fromkeys(found + _nft_places(found if saved is not None else [], ruleset)))


def _nft_places(by_iptables, ruleset):
    """Return the base chains whose packets a rule of nft drops. What iptables shows as its own is changed by iptables.

    :param by_iptables: places in which iptables showed such a rule.
    """
    try:
        items = [as_dict(item) for item in as_list(as_dict(json.loads(ruleset or "{}")).get("nftables"))]
    except (ValueError, RecursionError):
        return []
    found, bases = [], {}
    for chain in (as_dict(item.get("chain")) for item in items):
        if chain.get("hook") in ("output", "postrouting"):
            bases[_place(chain, "name")] = chain
    for place, base in bases.items():
        if base.get("table") == "firewalld":
            continue  # firewalld owns it: what is added is refused, or gone with the next reload
        mirrored = base.get("family") == "ip" and base.get("name") in ("OUTPUT", "POSTROUTING")
        if mirrored and "iptables {0}".format(base.get("table")) in by_iptables:
            continue
        # The rules of one base chain and of what it jumps to, as if there were no other.
        alone = [
            item for item in items if not as_dict(item.get("chain")).get("hook") or _place(as_dict(item.get("chain")), "name") == place
        ]
        if parse_nft(json.dumps({"nftables": alone}))[1]:
            found.append("nft " + place)
    return found


def collect(host, interface, timeout_s):
    """Return {"agent_rules": [...], "drops_root": [...], "places": [...]}, null where no tool could tell."""
    if not host.privileged:
        host.hidden("packet filter rules", "permission denied, run with become")
        return {"agent_rules": None, "drops_root": None, "places": None}
    agent, drops, texts = [], [], {}
    for binary, command, parse in (
        ("iptables-save", ["iptables-save"], lambda text: parse_iptables(text, interface)),
        ("nft", ["nft", "-j", "list", "ruleset"], parse_nft),
    ):
        if host.which(binary):
            text = host.run("network", command, timeout_s)
            if text is not None:
                texts[binary] = text
                found = parse(text)
                agent, drops = agent + found[0], drops + found[1]
    if not texts:
        return {"agent_rules": None, "drops_root": None, "places": None}
    return {"agent_rules": agent, "drops_root": drops, "places": places(drops, texts.get("iptables-save"), texts.get("nft"))}
