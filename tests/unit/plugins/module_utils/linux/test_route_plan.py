# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import iproute, persist, routes
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.route_plan import Plan, hop
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.undo import UndoError

# As iproute2 6.1 prints them, `ip -o -d route show table all`.
FOUR = """unicast 10.60.0.0/16 via 10.70.0.1 dev eth0 table 100 proto boot scope global onlink
unicast default via 10.9.0.1 dev eth0 table main proto dhcp scope global metric 100
unreachable 1.2.3.0/24 table main proto boot scope global metric 50
unicast 10.9.0.0/24 dev eth0 table main proto kernel scope link src 10.9.0.5
unicast 10.50.0.0/16 via 10.9.0.1 dev eth0 table main proto boot scope global metric 100 mtu 1400
unicast 10.51.0.0/16 table main proto boot scope global \\\tnexthop via 10.9.0.1 dev eth0 weight 1 \\\tnexthop via 10.9.0.2 dev eth0 weight 2
unicast 169.254.169.254 via 10.9.0.1 dev eth0 table main proto dhcp scope global src 10.9.0.5 metric 100
blackhole 168.63.129.16 table main proto boot scope global
local 10.9.0.5 dev eth0 table local proto kernel scope host src 10.9.0.5
"""
SIX = """unicast fd00:9::/64 dev eth0 table main proto kernel scope global metric 256 pref medium
blackhole fd01::/16 dev lo table main proto boot scope global metric 1024 error -22 pref medium
unicast default via fe80::1 dev eth0 table main proto ra scope global metric 100 expires 1790sec pref medium
"""
ADDRESSES = """1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0@if5    inet 10.9.0.5/24 brd 10.9.0.255 scope global eth0\\       valid_lft forever preferred_lft forever
2: eth0    inet6 fd00:9::5/64 scope global nodad \\       valid_lft forever preferred_lft forever
3: tun0    inet 10.8.0.2 peer 10.8.0.1/32 scope global tun0\\       valid_lft forever preferred_lft forever
"""
HOST = "168.63.129.16/32"
OWN = {"prefix": "20.0.0.0/8", "via": "10.9.0.1", "dev": "eth0", "metric": 0, "table": "main", "onlink": False}


def table():
    return iproute.parse(FOUR, 4) + iproute.parse(SIX, 6)


def plan(more="", owned=(), **options):
    base = {
        "routes": [],
        "next_hop": None,
        "interface": None,
        "metric": None,
        "table": "main",
        "state": "present",
        "purge": False,
        "expect": {},
    }
    return Plan(dict(base, **options), table() + iproute.parse(more, 4), iproute.parse_addresses(ADDRESSES), list(owned))


def test_routes_as_ip_shows_them():
    found = {(route["table"], route["prefix"]): route for route in table()}
    assert found["main", HOST]["type"] == "blackhole" and found["main", HOST]["metric"] == 0
    assert found["100", "10.60.0.0/16"]["spec"].endswith("onlink")
    assert found["main", "10.51.0.0/16"]["several"] and found["main", "10.51.0.0/16"]["via"] is None
    assert "dev" not in found["main", "fd01::/16"]["spec"] and "error" not in found["main", "fd01::/16"]["spec"]
    assert "expires" not in found["main", "::/0"]["spec"] and found["main", "::/0"]["metric"] == 100
    assert iproute.parse("nonsense\n\nunicast\nunicast x via y\n", 4) == []


def test_a_blackhole_that_was_seen_is_replaced_and_nothing_else():
    made = plan(routes=[HOST, "169.254.169.254/32"], expect={HOST: "blackhole"})
    assert made.batch() == ["route replace unicast {0} via 10.9.0.1 dev eth0 table main proto static".format(HOST)]
    assert made.back() == ["route replace blackhole {0} table main proto boot scope global".format(HOST)]
    assert [own["prefix"] for own in made.owned] == [HOST], "the route of the DHCP client is not ours"
    assert "instead of blackhole" in made.changes[0]


def test_what_is_as_wanted_is_left_alone():
    own = "unicast 20.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static scope global"
    made = plan(own, [OWN], routes=["20.0.0.0/8", "169.254.169.254/32"], expect={"20.0.0.0/8": None})
    assert made.items == {} and made.owned == [OWN] and made.changes == []


def test_purge_takes_only_what_is_ours():
    more = "unicast 20.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static scope global\nunicast 21.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static\n"
    made = plan(more, [OWN], routes=["22.0.0.0/8"], purge=True)
    assert made.batch() == [
        "route replace unicast 22.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static",
        "route delete unicast 20.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static scope global",
    ]
    assert [own["prefix"] for own in made.owned] == ["22.0.0.0/8"]


def test_a_route_that_an_administrator_has_written_since_is_not_taken_for_ours():
    ours = "unicast 20.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static scope global"
    made = plan(ours + "\n" + ours + " metric 100", [OWN], purge=True)
    assert made.batch() == ["route delete " + ours]
    made = plan(ours + " metric 100", [OWN], purge=True)
    assert made.batch() == ["route delete " + ours + " metric 100"], "NetworkManager gives it this metric at its next start"


def test_a_table_with_a_name_is_known_by_its_number():
    tables = iproute.table_numbers(["# reserved\n255\tlocal\n254 main\n0 unspec\n", "200 eth0-rt # second card\n0xc9 other\nbad\n"])
    assert tables == {"eth0-rt": "200", "other": "201"}
    line = "unicast 10.60.0.0/16 via 10.70.0.1 dev eth0 table eth0-rt proto static scope global"
    route = iproute.parse_route(line, 4, tables)
    assert route["table"] == "200" and " table 200 proto static" in route["spec"]


def test_a_gateway_that_several_interfaces_have_near_is_taken_by_that_of_the_default_route():
    docker = (
        "9: docker0    inet6 fe80::42/64 scope link \\ valid_lft forever\n2: eth0    inet6 fe80::5/64 scope link \\ valid_lft forever\n"
    )
    near = iproute.parse_addresses(docker + ADDRESSES)
    options = {"interface": None, "next_hop": "fe80::1234"}
    assert hop(6, options, table(), near).dev == "eth0"
    with pytest.raises(UndoError, match=r"several interfaces \(docker0, eth0\); give interface"):
        hop(6, options, iproute.parse(FOUR, 4), near)
    assert hop(6, dict(options, interface="docker0"), table(), near).dev == "docker0"


def test_another_metric_replaces_our_own_route():
    own = "unicast 20.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static scope global"
    made = plan(own, [OWN], routes=["20.0.0.0/8"], metric=77)
    assert made.batch() == [
        "route replace unicast 20.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static metric 77",
        "route delete " + own,
    ]


def test_both_families_and_another_table():
    made = plan(routes=["20.0.0.0/8", "fd05::/32"], table="66")
    assert sorted(made.hops) == [4, 6] and made.hops[6].via == "fe80::1"
    assert made.batch()[1] == "route replace unicast fd05::/32 via fe80::1 dev eth0 table 66 proto static metric 1024"


@pytest.mark.parametrize(
    "options, words",
    [
        ({"routes": ["10.0.0.1/8"]}, "10.0.0.1/8 has bits set behind its length; 10.0.0.0/8 is meant"),
        ({"routes": ["10.0.0.0/8", "10.0.0.0/8"]}, "10.0.0.0/8 is in routes twice"),
        ({"routes": ["10.0.0.0/40"]}, "'10.0.0.0/40' is no prefix"),
        ({"routes": ["storage"]}, "'storage' has no length"),
        ({"routes": ["0.0.0.0/0"]}, "is the default route"),
        ({"routes": ["127.0.0.0/8"]}, "can be routed"),
        ({"routes": ["20.0.0.0/8"], "next_hop": "10.200.0.1"}, "next_hop 10.200.0.1 is in no network of an interface of this guest"),
        ({"routes": ["20.0.0.0/8"], "next_hop": "10.9.0.1", "interface": "tun0"}, "is in no network of tun0"),
        ({"routes": ["20.0.0.0/8"], "next_hop": "10.9.0.5"}, "an address of this guest itself"),
        ({"routes": ["20.0.0.0/8"], "next_hop": "fd00:9::1"}, "of the other family"),
        ({"routes": ["20.0.0.0/8"], "next_hop": "gateway"}, "'gateway' is no address"),
        ({"routes": ["20.0.0.0/8"], "interface": "eth7"}, "no interface eth7"),
        ({"routes": ["20.0.0.0/8"], "interface": "tun0"}, "no default route on tun0"),
        ({"routes": ["10.9.0.0/25"]}, "holds its own next hop"),
        ({"routes": [HOST]}, "is replaced only when expect names it"),
        ({"routes": [HOST], "expect": {HOST: "10.8.0.1"}}, "is blackhole now, the diagnosis saw 10.8.0.1"),
        ({"routes": [HOST], "expect": {HOST: None}}, "is blackhole now, the diagnosis saw none"),
        ({"routes": ["20.0.0.0/8"], "expect": {"nowhere": None}}, "expect names 'nowhere'"),
        ({"routes": ["10.50.0.0/16"], "state": "absent"}, "is removed only when expect names it"),
        ({"routes": ["10.9.0.0/24"], "state": "absent", "expect": {"10.9.0.0/24": "link"}}, "on the link of eth0"),
    ],
)
def test_bad_input_gets_one_sentence_and_changes_nothing(options, words):
    with pytest.raises(UndoError) as caught:
        plan(**options)
    text = str(caught.value)
    assert words in text and text.endswith("Nothing was changed.") or text.endswith("again. Nothing was changed."), text
    assert "\n" not in text


PROFILE = """[connection]
id=eth0
uuid=4c0e0e0c-0000-4000-8000-000000000001

[ipv4]
method=auto
route1=172.16.0.0/12,10.9.0.9
route1_options=table=7

[ipv6]
method=auto
"""


def test_routes_in_a_profile_of_networkmanager():
    more = dict(OWN, prefix="fd05::/32", via="fe80::1", metric=1024, table="66")
    text = persist.keyfile_text(PROFILE, [], [OWN, more])
    assert "route1=172.16.0.0/12,10.9.0.9\nroute1_options=table=7\nroute2=20.0.0.0/8,10.9.0.1,0\n\n[ipv6]" in text
    assert "route1=fd05::/32,fe80::1,1024\nroute1_options=table=66\n" in text
    assert persist.keyfile_text(text, [OWN, more], [OWN, more]) == text
    assert persist.keyfile_text(text, [OWN, more], []) == PROFILE
    bare = "[connection]\nid=x\n"
    assert persist.keyfile_text(bare, [], []) == bare
    assert persist.keyfile_text(bare, [], [OWN]) == "[connection]\nid=x\n\n[ipv4]\nmethod=auto\nroute1=20.0.0.0/8,10.9.0.1,0\n"


def test_routes_of_systemd_networkd_and_ifupdown():
    assert persist.networkd_text([]) is None and persist.hook_text("eth0", []) is None
    assert persist.networkd_text([dict(OWN, metric=7, onlink=True)]).endswith(
        "[Route]\nDestination=20.0.0.0/8\nGateway=10.9.0.1\nMetric=7\nGatewayOnlink=yes\nGatewayOnLink=yes\n"
    )
    text = persist.hook_text("eth0", [OWN])
    assert (
        '[ "$IFACE" = eth0 ] || exit 0\n' in text
        and "\nroute replace unicast 20.0.0.0/8 via 10.9.0.1 dev eth0 table main proto static\nEND\n" in text
    )


def test_a_network_card_is_primary_before_a_tunnel_that_took_the_default_route(tmp_path):
    text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    text += "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\neth0\t00000000\t0100090A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    table = routes.parse_routes(text)
    assert routes.primary(Guest(root=str(tmp_path)), table)["interface"] == "tun0"
    (tmp_path / "sys/class/net/eth0/device").mkdir(parents=True)
    found = routes.primary(Guest(root=str(tmp_path)), table)
    assert (found["interface"], found["gateway"]) == ("eth0", "10.9.0.1")


@pytest.fixture
def links(tmp_path, monkeypatch):
    """Interfaces that systemd-networkd has."""
    monkeypatch.setattr(persist, "LINKS", str(tmp_path / "links"))
    monkeypatch.setattr(persist, "NETWORK", str(tmp_path / "network"))
    (tmp_path / "links").mkdir()

    def write(**files):
        for number, name in files.items():
            (tmp_path / "links" / number[1:]).write_text("ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/{0}\n".format(name))

    return write


KEPT = {"prefix": "168.63.129.16/32", "via": "10.0.0.1", "dev": "eth0", "metric": None, "table": "main"}


def test_a_network_file_of_several_interfaces_gets_no_drop_in(links):
    links(_2="99-dhcp-en.network", _3="99-dhcp-en.network")
    place, note = persist.place(None, "eth0", 2, [], [KEPT])
    assert place is None and "other interfaces have the same 99-dhcp-en.network" in note
    links(_3="10-other.network")
    place, note = persist.place(None, "eth0", 2, [], [KEPT])
    assert place.path.endswith("network/99-dhcp-en.network.d/vmbackup-azure.conf") and "reads {0} when it starts".format(place.path) in note


def test_a_profile_that_cloud_init_writes_anew_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(persist, "LINKS", str(tmp_path / "none"))
    monkeypatch.setattr(persist, "PROFILES", str(tmp_path))
    text = "{0}[connection]\nid=x\nuuid=11-22\n\n[ipv4]\nmethod=auto\n"
    (tmp_path / "a.nmconnection").write_text(text.format("# Generated by cloud-init. Changes will be lost.\n"))

    def runner(arguments):
        return 0, "GENERAL.STATE:100 (connected)\nGENERAL.CON-UUID:11-22\n", ""

    place, note = persist.place(runner, "eth0", 2, [], [KEPT])
    assert place is None and "cloud-init writes" in note
    (tmp_path / "a.nmconnection").write_text(text.format(""))
    place, note = persist.place(runner, "eth0", 2, [], [KEPT])
    assert place.path.endswith("a.nmconnection") and note is None
