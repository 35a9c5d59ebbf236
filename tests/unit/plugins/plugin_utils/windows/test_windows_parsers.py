# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import struct

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import (
    acl,
    dhcp,
    extension,
    firewall,
    load,
    logs,
    proxy,
    registry,
    routes,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import agent as windows_agent
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import Raw, to_text, unpacked


def hexed(text):
    return bytes.fromhex(text.replace(" ", ""))


# Records as in real exports of the registry; the last one is made by the same rule.
DNS = hexed("06000000 00000000 04000000 00000000 3317b657 c0a80101")
TYPE = hexed("35000000 00000000 01000000 00000000 3317b657 05000000")
WPAD = hexed("fc000000 00000000 00000000 00000000 6c98b557")
HOST = hexed("f5000000 00000000 04000000 00000000 ffffff7f a83f8110")


@pytest.mark.parametrize(
    "data, expected",
    [
        (DNS + TYPE + WPAD + HOST, "168.63.129.16"),
        (HOST, "168.63.129.16"),
        (DNS + TYPE + WPAD, None),
        (HOST[:-1], None),  # cut short
        (HOST[:8] + b"\0\0\0\0" + HOST[12:20], None),  # asked for, not given
        (HOST[:8] + b"\5\0\0\0" + HOST[12:] + b"\0\0\0\0", None),  # not an address
        (DNS[:20] + hexed("f5000000"), None),  # 245 is data of another option
        (hexed("ffffffff 00000000 ffffffff 00000000 00000000") + HOST, None),  # a length beyond the end
        (b"", None),
        (None, None),
    ],
)
def test_option_245_by_a_walk_of_the_records(data, expected):
    assert dhcp.host_address(dhcp.parse_options(data)) == expected


def test_records():
    found = dhcp.parse_options(DNS + TYPE + WPAD + HOST)
    assert [(o["code"], o["data"]) for o in found] == [(6, b"\xc0\xa8\x01\x01"), (53, b"\x05"), (252, b""), (245, b"\xa8\x3f\x81\x10")]
    assert found[0]["expires"] == 0x57B61733


RESTART = struct.pack("<5I", 86400, 0, 0, 2, 20) + struct.pack("<4I", 1, 60000, 0, 0)


@pytest.mark.parametrize(
    "data, restart, reset_s",
    [
        (RESTART, True, 86400),
        (struct.pack("<5I", 0xFFFFFFFF, 0, 0, 1, 20) + struct.pack("<2I", 2, 0), False, None),
        (struct.pack("<5I", 0, 0, 0, 0, 20), False, 0),
    ],
)
def test_failure_actions(data, restart, reset_s):
    found = registry.failure_actions(data)
    assert (found["restart"], found["reset_s"]) == (restart, reset_s)


@pytest.mark.parametrize("data", [None, b"", RESTART[:19], RESTART[:-1], struct.pack("<5I", 0, 0, 0, 99999, 20)])
def test_failure_actions_that_are_damaged(data):
    assert registry.failure_actions(data) is None


@pytest.mark.parametrize(
    "value, expected",
    [
        ("2026-01-12T16:35:45Z", 1768235745),
        ("2026-01-12 16:35:45.1234567", 1768235745),
        ("1/12/2026 4:35:45 PM", 1768235745),
        ("01/12/2026 16:35:45.66", 1768235745),
        ("1/12/2026 12:00:00 AM", 1768176000),
        (134127093450000000, 1768235745),
        ("639038325450000000", 1768235745),
        ("13/45/2026 99:00:00", None),
        ("soon", None),
        (None, None),
        (True, None),
    ],
)
def test_when(value, expected):
    assert registry.when(value) == expected


def winhttp(flags, *texts):
    return struct.pack("<3I", 0x28, 0, flags) + b"".join(struct.pack("<I", len(t)) + t for t in texts)


@pytest.mark.parametrize(
    "data, expected",
    [
        (hexed("18000000 00000000 01000000 00000000 00000000"), (1, None, None)),
        (hexed("28000000 00000000 01000000") + b"\0" * 12, (1, None, None)),
        (winhttp(3, b"proxy:3128", b"<local>"), (3, "proxy:3128", "<local>")),
        (winhttp(3, b"proxy:3128"), (3, "proxy:3128", None)),
        (winhttp(3, b"proxy:3128")[:-2], (3, None, None)),
        (winhttp(3) + b"\xff\xff\xff\xff", (3, None, None)),
    ],
)
def test_connection_settings(data, expected):
    found = proxy.parse_settings(data)
    assert (found["flags"], found["proxy"], found["bypass"]) == expected


def test_what_follows_the_texts_of_connection_settings():
    found = proxy.parse_settings(winhttp(7, b"p:1", b"<local>", b"http://h/x.pac") + b"rest")
    assert (found["script"], found["rest"]) == ("http://h/x.pac", b"rest")


def test_connection_settings_that_are_none():
    assert proxy.parse_settings(None) is None and proxy.parse_settings(b"\x28") is None


@pytest.mark.parametrize(
    "text, expected",
    [
        ("168.63.129.16;169.254.169.254", True),
        ("<local>;168.63.*;169.254.*", True),
        ("*", True),
        ("http://168.63.129.16", True),
        ("<local>", False),
        ("10.*", False),
        ("", False),
        (None, False),
    ],
)
def test_bypass(text, expected):
    assert proxy.bypasses(text, "168.63.129.16") is expected


def test_default_proxy_of_machine_config():
    element = (
        '<defaultProxy><proxy proxyaddress="http://u:p@p:1"/><bypasslist><add address="168\\.63\\.129\\.16"/></bypasslist></defaultProxy>'
    )
    address, listed = proxy.parse_default_proxy(element)
    assert address == "http://u:p@p:1" and proxy.excepted(listed, "168.63.129.16") and not proxy.excepted(listed, "169.254.169.254")
    assert proxy.parse_default_proxy('<defaultProxy enabled="false"><proxy proxyaddress="http://p:1"/></defaultProxy>') == (None, None)


BLOCK = "v2.31|Action=Block|Active=TRUE|Dir=Out|Protocol=6|RPort=32526|RA4=168.63.129.16|Name=Block unknown ports|"


@pytest.mark.parametrize(
    "text, expected",
    [
        (BLOCK, True),
        (BLOCK.replace("RPort=32526|", ""), True),
        (BLOCK.replace("RPort=32526", "RPort=80,443"), True),
        (BLOCK.replace("RPort=32526", "RPort2_10=32000-33000"), True),
        (BLOCK.replace("RA4=168.63.129.16", "RA4=10.0.0.0/8|RA4=168.63.0.0/255.255.0.0"), True),
        (BLOCK.replace("168.63.129.16", "168.63.129.1-168.63.129.20"), True),
        (BLOCK.replace("Protocol=6|", ""), True),
        (BLOCK + "App=C:\\WindowsAzure\\Packages\\WaAppAgent.exe|", True),
        (BLOCK.replace("RPort=32526", "RPort=443"), False),
        (BLOCK.replace("Action=Block", "Action=Allow"), False),
        (BLOCK.replace("Active=TRUE", "Active=FALSE"), False),
        (BLOCK.replace("Dir=Out", "Dir=In"), False),
        (BLOCK.replace("Protocol=6", "Protocol=17"), False),
        (BLOCK.replace("168.63.129.16", "LocalSubnet"), False),
        (BLOCK.replace("RA4=168.63.129.16|", ""), False),
        (BLOCK + "LUAuth=O:LSD:(A;;CC;;;SY)|", True),
        (BLOCK + "LUAuth=D:(A;;CC;;;S-1-1-0)|", True),
        (BLOCK + "LUAuth=O:LSD:(D;;CC;;;BA)(A;;CC;;;WD)|", False),
        (BLOCK + "LUAuth=D:(A;;CC;;;S-1-5-21-1-2-3-1001)|", False),
        (BLOCK + "LUAuth=no descriptor|", False),
        (BLOCK + "LUOwn=S-1-5-18|", True),
        (BLOCK + "LUOwn=S-1-5-21-1-2-3-1001|", False),
        (BLOCK + "Svc=RdAgent|", True),
        (BLOCK + "Svc=*|", True),
        (BLOCK + "Svc=Dnscache|", False),
        (BLOCK + "AppPkgId=S-1-15-2-1-2-3|", False),
        (BLOCK + "IF={9D1B7D0F-6F4A-4E0B-8B35-5B6B1B1B0001}|", False),
        (BLOCK + "IFType=Wireless|", False),
        (BLOCK + "IFType=Lan|", True),
        (BLOCK.replace("168.63.129.16", "168.63.129.16/99"), False),
        (BLOCK + "App=C:\\games\\game.exe|", False),
        ("", False),
    ],
)
def test_firewall_rule(text, expected):
    assert firewall.blocks_host(firewall.parse_rule(text)) is expected


def row(destination, length, hop, index, metric):
    data = bytearray(104)
    struct.pack_into("<IH", data, 8, index, 2)
    data[16:20] = bytes(int(n) for n in destination.split("."))
    data[40] = length
    data[48:52] = bytes(int(n) for n in hop.split("."))
    struct.pack_into("<I", data, 84, metric)
    return bytes(data)


def test_forward_table():
    table = struct.pack("<2I", 2, 0) + row("0.0.0.0", 0, "10.0.0.1", 4, 10) + row("168.63.129.16", 32, "10.0.0.9", 7, 5)
    found = routes.parse_table(table)
    assert [(r["destination"], r["prefix_length"], r["gateway"], r["index"]) for r in found] == [
        ("0.0.0.0", 0, "10.0.0.1", 4),
        ("168.63.129.16", 32, "10.0.0.9", 7),
    ]
    assert routes.matching(found, "168.63.129.16")["index"] == 7 and routes.matching(found, "169.254.169.254")["index"] == 4
    assert routes.parse_table(table[:-1]) == found[:1] and routes.parse_table(b"\xff") == [] and routes.parse_table(None) == []


def test_the_systems_own_decision_counts():
    table = routes.parse_table(struct.pack("<2I", 1, 0) + row("0.0.0.0", 0, "10.0.0.1", 4, 10))
    cards = [{"index": 4, "name": "Ethernet", "addresses": [["10.0.0.4", 24]]}]
    assert routes.describe(table, cards, "168.63.129.16", {"source": "10.0.0.4"}) == {
        "ok": True, "kind": "default", "device": "Ethernet", "gateway": "10.0.0.1", "source": "10.0.0.4",
    }  # fmt: skip
    assert routes.describe(table, cards, "168.63.129.16", {"source": None, "code": "NetworkUnreachable"})["ok"] is False
    assert routes.describe(None, cards, "168.63.129.16", {}) is None


def test_persistent_routes():
    names = [
        "168.63.129.16,255.255.255.255,10.0.0.1,1",
        "10.0.0.0,255.0.255.0,10.0.0.1,1",
        "x",
        "1.2.3.4,255.255.255.0,999.0.0.1,1",
        "0.0.0.0,0.0.0.0,10.0.0.1",
    ]
    found = routes.parse_persistent(names)
    assert [(r["destination"], r["prefix_length"], r["gateway"], r["metric"]) for r in found] == [
        ("168.63.129.16", 32, "10.0.0.1", 1),
        ("0.0.0.0", 0, "10.0.0.1", None),
    ]


@pytest.mark.parametrize(
    "sddl, ok",
    [
        (acl.MACHINE_KEYS, True),
        ("O:SYG:SYD:PAI(A;;0x12019F;;;S-1-1-0)(A;;0x1f01ff;;;S-1-5-32-544)", True),
        ("O:SYG:SYD:(A;OICI;FA;;;WD)(A;OICI;FA;;;SY)", True),
        ("O:SYG:SYD:PAI(A;;FA;;;BA)", False),  # Everyone is gone
        ("O:SYG:SYD:PAI(A;;FR;;;WD)(A;;FA;;;BA)", False),  # may only read
        ("O:SYG:SYD:PAI(A;OICIIO;0x12019f;;;WD)(A;;FA;;;BA)", False),  # for what is below only
        ("O:SYG:SYD:PAI(A;;0x12019f;;;WD)(A;;FR;;;BA)", False),
        ("O:SYG:SYD:PAI(D;;0x2;;;WD)(A;;0x12019f;;;WD)(A;;FA;;;BA)", False),
        ("O:SYG:SYD:PAI", False),
        ("O:SYG:SY", None),
        (None, None),
    ],
)
def test_machine_keys(sddl, ok):
    assert acl.machine_keys("p", sddl)["ok"] is ok


def test_descriptors_compared_by_their_entries():
    assert acl.same(acl.MACHINE_KEYS, "O:BAD:PAI(A;;FA;;;S-1-5-32-544)(A;;0x12019f;;;S-1-1-0)") is True
    assert acl.same(acl.MACHINE_KEYS, "D:(A;;FA;;;BA)") is False and acl.same(None, "D:(A;;FA;;;BA)") is None


LOG = [
    "[00000011] [12/11/2018 06:27:55.66] [WARN]  GetVersions() failed with exception",
    "[00000018] 2026-01-12T16:35:45Z [INFO]  Empty DHCP option data returned",
    "[00000018] [01/12/2026 16:36:45.01] [HEART] WindowsAzureGuestAgent Heartbeat.",
    "no time, VCRedist is mentioned",
    "[00000018] 2026-01-12T16:37:45Z [ERROR] VCRedist installation failed: https://h/p?sig=S3cr3t",
]


def test_log_lines_of_both_shapes():
    found = {entry["meaning"]: entry for entry in logs.verdicts(LOG, logs.AGENT_PHRASES + logs.EXTENSION_PHRASES)}
    assert found["wireserver_timeout"]["at"] == "2018-12-11T06:27:55Z"
    assert found["no_option_245"]["at"] == "2026-01-12T16:35:45Z"
    assert found["vc_redist"]["count"] == 1 and "S3cr3t" not in found["vc_redist"]["line"]
    assert logs.heartbeat(LOG, 1768235865.0) == {"at": "2026-01-12T16:36:45Z", "age_s": 60, "version": None}
    assert logs.heartbeat([], 0) is None


@pytest.mark.parametrize(
    "data, expected",
    [
        ('{"a": "é"}'.encode(), {"a": "é"}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1}\0\0\0', {"a": 1}),
        ('\ufeff{"a": "é"}'.encode("utf-16-le"), {"a": "é"}),
        ('{"a": "e"}'.encode("utf-16-le"), {"a": "e"}),
        (b'{"a": ', None),
    ],
)
def test_json_as_windows_writes_it(data, expected):
    assert extension.parse_json(to_text(data)) == expected


def test_packed_values_that_are_damaged():
    assert unpacked(None) == b"" and unpacked("####") == b"" and unpacked("AAAA") == b""


def test_processors():
    assert load.cpu_between([0, 0, 0, 0], [50, 80, 20, 10]) == (50.0, 44.4)
    assert load.cpu_between([0, 0, 0, 0], [0, 0, 0, 0]) == (None, None)
    assert load.cpu_between(None, [1, 2, 3, 4]) == (None, None)


def test_registry_values_that_are_called_a_secret_are_masked():
    key = {"values": {"ProxyPassword": ["String", "S3cr3t"], "Version": ["String", "1.0"], "TokenCount": ["DWord", 3]}, "subkeys": []}
    found = windows_agent.values(Raw({"registry": {"HKLM\\X": key}}), "HKLM\\X")
    assert {name: row["value"] for name, row in found.items()} == {"ProxyPassword": "[redacted]", "Version": "1.0", "TokenCount": 3}


def test_registry_counts_in_any_case():
    raw = Raw({"registry": {"HKLM\\SOFTWARE\\X": {"values": {"Name": ["DWord", -1]}, "subkeys": []}, "HKLM\\Y": None}})
    assert raw.value("hklm\\software\\x", "NAME") == 0xFFFFFFFF
    assert raw.looked("HKLM\\y") and raw.key("HKLM\\y") is None and not raw.looked("HKLM\\z")


CARDS = [
    {"index": 4, "mac": "00-0D-3A-33-82-E8", "status": "Up", "addresses": [["10.0.0.4", 24]], "gateways": ["10.0.0.1"]},
    {"index": 7, "mac": "00-0D-3A-33-82-E9", "status": "Up", "addresses": [["10.0.1.4", 24]], "gateways": ["10.0.1.1"]},
    {"index": 9, "mac": "00-FF-AA-BB-CC-DD", "status": "Up", "addresses": [["172.16.0.9", 24]], "gateways": []},
]
AZURE = ["00:0d:3a:33:82:e8", "00:0d:3a:33:82:e9"]


@pytest.mark.parametrize(
    "defaults, of_azure, source, expected",
    [
        # A VPN whose default route has the lower metric.
        ([(4, "10.0.0.1", 256), (9, "172.16.0.1", 1)], AZURE, "172.16.0.9", (4, "10.0.0.1")),
        ([(4, "10.0.0.1", 256), (9, "172.16.0.1", 1)], [], None, (9, "172.16.0.1")),
        # Two of Azure's: the system adds the interface's metric, and says what came of it.
        ([(4, "10.0.0.1", 256), (7, "10.0.1.1", 1)], AZURE, "10.0.0.4", (4, "10.0.0.1")),
        ([(4, "10.0.0.1", 256), (7, "10.0.1.1", 1)], AZURE, None, (7, "10.0.1.1")),
        # All traffic goes through the VPN, and Azure's card has no default route any more.
        ([(9, "172.16.0.1", 1)], AZURE, "172.16.0.9", (4, "10.0.0.1")),
        ([], AZURE, None, (4, "10.0.0.1")),
    ],
)
def test_the_primary_interface(defaults, of_azure, source, expected):
    table = [
        {"destination": "0.0.0.0", "prefix_length": 0, "gateway": hop, "index": index, "metric": metric} for index, hop, metric in defaults
    ]
    card, gateway = routes.primary_card(CARDS, table, of_azure, source)
    assert (card["index"], gateway) == expected
