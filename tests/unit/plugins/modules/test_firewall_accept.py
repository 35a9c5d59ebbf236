# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import accept, change, firewall, undo
from ansible_collections.vmbackup.azure.plugins.modules import firewall_accept
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run

SAVED = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -d 168.63.129.16/32 -j DROP\nCOMMIT\n"
CONF = """#!/usr/sbin/nft -f
flush ruleset
table inet filter {
\tchain output {
\t\ttype filter hook output priority filter; policy accept;
\t\tip daddr 168.63.129.16 drop
\t}
}
"""
OURS = " ".join(accept.IPTABLES)
NFT_OUT = '{"nftables": [{"chain": {"family": "inet", "table": "filter", "name": "output", "hook": "output", "policy": "accept"}}, '
NFT_OUT += '{"rule": {"family": "inet", "table": "filter", "chain": "output", "expr": [{"match": {"op": "==", "left": {"payload": '
NFT_OUT += '{"protocol": "ip", "field": "daddr"}}, "right": "168.63.129.16"}}, {"drop": null}]}}]}'


class Guest(object):
    """iptables and nft as lists of the rules that are ours; firewalld as whether it runs."""

    def __init__(self, monkeypatch, tmp_path):
        self.monkeypatch, self.rules, self.firewalld, self.permanent, self.refuses = monkeypatch, set(), False, set(), ""
        self.old = False  # iptables 1.4.21 takes no number after -w
        self.saved, self.conf = tmp_path / "rules.v4", tmp_path / "nftables.conf"
        self.store = tmp_path / "base" / "undo"
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(undo, "TRUSTED_UID", os.getuid())
        monkeypatch.setattr(accept, "SAVED", (str(self.saved),))
        monkeypatch.setattr(accept, "NFTABLES", (str(self.conf),))
        monkeypatch.setattr(firewall_accept, "DIRECT", str(tmp_path / "direct.xml"))
        monkeypatch.setattr(change, "snapshot_runs", lambda module: False)

    def command(self, words):
        if words[0] == "firewall-cmd":
            if words[1] == "--state":
                return (0 if self.firewalld else 252), "", ""
            if "--query-rule" in words:
                return (0 if words[5] in self.permanent else 1), "", ""
            (self.permanent.discard if "--remove-rule" in words else self.permanent.add)(words[5])
            return 0, "success", ""
        if words[0] == "nft":
            place = "nft " + " ".join(words[-3:] if "list" in words else words[3:6])
            if "list" in words:
                return 0, 'ip daddr x accept comment "vmbackup.azure" # handle 7\n' if place in self.rules else "\n", ""
        else:
            if self.old and words[0] == "iptables":
                return 2, "", "Bad argument `5'"
            place = "iptables " + words[words.index("-t") + 1]
            if "OUTPUT_direct" in words:
                place += " OUTPUT_direct"
            if "-C" in words:
                if place in self.rules:
                    return 0, "", ""
                missing = (
                    "No chain/target/match by that name." if "direct" in place else "Bad rule (does a matching rule exist in that chain?)."
                )
                return 1, "", "iptables: " + missing
        if self.refuses == place:
            return 4, "", "Permission denied"
        (self.rules.discard if {"-D", "delete"} & set(words) else self.rules.add)(place)
        return 0, "", ""

    def run(self, places, check_mode=False, **params):
        params = dict({"places": places, "undo": "connectivity.firewall", "store": str(self.store)}, **params)
        return run(self.monkeypatch, firewall_accept, params, check_mode, self.command)


@pytest.fixture
def guest(monkeypatch, tmp_path):
    return Guest(monkeypatch, tmp_path)


def test_the_rule_is_put_first_and_kept_for_the_next_start(guest):
    guest.saved.write_text(SAVED)
    would = guest.run(["iptables filter"], check_mode=True)
    assert would["changed"] and guest.rules == set() and guest.saved.read_text() == SAVED
    done = guest.run(["iptables filter"])
    assert done["changed"] and done["undo_point"] and guest.rules == {"iptables filter"} and done["notes"] == []
    assert guest.saved.read_text() == SAVED.replace("-A OUTPUT -d", "-A OUTPUT " + OURS + "\n-A OUTPUT -d", 1)
    assert not guest.run(["iptables filter"])["changed"]
    point = undo.read_points(str(guest.store))[0]
    assert point["items"] == [{"key": "accept iptables filter", "state": None}] and point["written"]["items"][0]["state"] is True


def test_nft_and_its_file(guest):
    guest.conf.write_text(CONF)
    assert guest.run(["nft inet filter output"])["changed"] and guest.rules == {"nft inet filter output"}
    assert (
        guest.conf.read_text() == CONF.replace("accept;\n", "accept;\n\t\t" + accept.NFT + "\n")
        and not guest.run(["nft inet filter output"])["changed"]
    )
    assert guest.run(["nft inet filter output"], state="absent")["changed"] and guest.rules == set()


def test_what_keeps_it_loses_it_with_the_rule(guest):
    guest.saved.write_text(SAVED)
    guest.conf.write_text(CONF)
    places = ["iptables filter", "nft inet filter output"]
    guest.run(places)
    assert guest.run(places, state="absent")["changed"] and guest.rules == set()
    assert guest.saved.read_text() == SAVED and guest.conf.read_text() == CONF
    assert not guest.run(places, state="absent")["changed"]
    guest.firewalld = True
    guest.run(places[:1])
    assert guest.run(places[:1], state="absent")["changed"] and guest.permanent == set() == guest.rules


def test_where_firewalld_works_by_iptables_the_rule_is_in_its_own_chain(guest):
    guest.firewalld, guest.rules, guest.permanent = True, {"iptables filter OUTPUT_direct"}, {"filter"}
    assert not guest.run(["iptables filter"])["changed"]
    assert guest.run(["iptables filter"], state="absent")["changed"] and guest.rules == set()


def test_an_old_iptables_waits_for_its_lock_in_another_way(guest):
    guest.saved.write_text(SAVED)
    guest.old = True
    assert guest.run(["iptables filter"])["changed"] and guest.rules == {"iptables filter"}


@pytest.mark.parametrize(
    ("place", "answer"),
    [
        ("nft inet site out", (1, "", "Error: No such file or directory\nlist chain inet site out")),
        ("nft inet site out", (127, "", "nft is not there")),
        ("iptables security", (3, "", "iptables v1.8.4: can't initialize iptables table `security': Table does not exist")),
        ("iptables filter", (127, "", "iptables is not there")),
    ],
)
def test_what_is_gone_holds_no_rule_and_keeps_nobody_from_undoing(place, answer):
    key = "accept " + place
    assert accept.Accept.read([key], lambda words: answer) == {key: None}
    assert accept.take(place, lambda words: answer) == ""


def test_what_cannot_be_read_is_not_taken_for_gone():
    with pytest.raises(undo.UndoError, match="cannot be read: Permission denied"):
        accept.Accept.read(["accept nft inet site out"], lambda words: (1, "", "Permission denied"))


QUOTED = "[12:720] -A OUTPUT " + OURS.replace("vmbackup.azure", '"vmbackup.azure"')


@pytest.mark.parametrize(
    ("former", "new"),
    [
        ("[0:0] -A OUTPUT -d 168.63.129.16/32 -j DROP", "-A OUTPUT " + OURS + "\n[0:0] -A OUTPUT -d 168.63.129.16/32 -j DROP"),
        (QUOTED, QUOTED),
    ],
)
def test_saved_rules_with_counters_and_quotes(former, new):
    text = "*filter\n:OUTPUT ACCEPT [0:0]\n{0}\nCOMMIT\n"
    assert accept.saved_text(text.format(former), "filter") == text.format(new)


def test_firewalld_keeps_it_and_where_nothing_does_it_is_said(guest):
    assert "holds until the next start" in guest.run(["iptables filter"], check_mode=True)["notes"][0]
    guest.firewalld = True
    assert guest.run(["iptables filter"])["notes"] == [] and guest.permanent == {"filter"} and guest.rules == {"iptables filter"}
    assert not guest.run(["iptables filter"])["changed"]


def test_a_refused_rule_leaves_all_as_it_was(guest):
    guest.saved.write_text(SAVED)
    guest.refuses = "nft inet filter output"
    failed = guest.run(["iptables filter", "nft inet filter output"])
    assert "nft inet filter output was not changed: Permission denied" in failed["msg"]
    assert guest.rules == set() and guest.saved.read_text() == SAVED


@pytest.mark.parametrize("place", ["iptables filter; reboot", "nft inet filter", "nft ip6 a b", "", "iptables OUTPUT"])
def test_what_is_no_place_is_refused(guest, place):
    assert guest.run([place])["msg"].endswith("Nothing was changed.") and guest.rules == set()


def test_where_the_rule_has_to_stand():
    drops = firewall.parse_iptables(SAVED)[1] + firewall.parse_nft(NFT_OUT)[1]
    assert firewall.places(drops, SAVED, NFT_OUT) == ["iptables filter", "nft inet filter output"]
    own = NFT_OUT.replace('"family": "inet"', '"family": "ip"')
    mirrored = own.replace('"output", "hook"', '"OUTPUT", "hook"').replace('"chain": "output"', '"chain": "OUTPUT"')
    assert firewall.places(drops[:1], SAVED, mirrored) == ["iptables filter"], "what iptables made is changed by iptables"
    assert firewall.places(drops[1:], None, own) == ["nft ip filter output"]
    # A table of that name that somebody wrote by hand: iptables cannot show it.
    assert firewall.places(drops[1:], "# Table `filter' contains incompatible base-chains, use 'nft' tool.\n", own) == [
        "nft ip filter output"
    ]


def test_what_iptables_matches_by_is_told_by_iptables_alone():
    """nft shows the rule of iptables-nft that spares root without the values of its match."""
    saved = "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -d 168.63.129.16/32 -m owner ! --uid-owner 0 -j DROP\nCOMMIT\n"
    chain = {"family": "ip", "table": "filter", "name": "OUTPUT", "type": "filter", "hook": "output", "prio": 0, "policy": "accept"}
    address = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "168.63.129.16"}}
    expression = [address, {"xt": {"type": "match", "name": "owner"}}, {"drop": None}]
    rules = {"nftables": [{"chain": chain}, {"rule": {"family": "ip", "table": "filter", "chain": "OUTPUT", "expr": expression}}]}
    assert firewall.parse_iptables(saved)[1] == firewall.parse_nft(json.dumps(rules))[1] == []
    assert firewall.places([], saved, json.dumps(rules)) == []
    del expression[1]
    assert len(firewall.parse_nft(json.dumps(rules))[1]) == 1


AGENT = """*security
:OUTPUT ACCEPT [0:0]
-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 53 -j ACCEPT
%s-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP
COMMIT
"""


def test_the_agents_own_rules_hit_root_only_without_the_one_that_lets_it_through():
    whole = AGENT % "-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT\n"
    assert firewall.parse_iptables(whole)[1] == []
    drops = firewall.parse_iptables(AGENT % "")[1]
    assert len(drops) == 1 and firewall.places(drops, AGENT % "", None) == ["iptables security"]


STRICT = "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT {0}-j ACCEPT\nCOMMIT\n"


@pytest.mark.parametrize(
    ("match", "drops"),
    [
        ("", 0),
        ("-p tcp -m conntrack --ctstate NEW,ESTABLISHED ", 0),
        ('-o eth0 -m comment --comment "out" ', 0),
        ("-m conntrack --ctstate RELATED,ESTABLISHED ", 1),
        ("-o lo ", 1),
        ("-o tun0 ", 1),
        ("-o eth0.5 ", 1),
        ("-d 10.0.0.0/8 ", 1),
        ("! -d 168.63.129.16/32 ", 1),
        ("-p udp ", 1),
        ("-p tcp -m tcp --dport 443 ", 1),
    ],
)
def test_a_strict_policy_lets_through_what_a_rule_accepts(match, drops):
    assert len(firewall.parse_iptables(STRICT.format(match), "eth0")[1]) == drops
