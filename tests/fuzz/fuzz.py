# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Mutate what guests' files and commands may hold, and check that no parser ever raises: fuzz.py [CASES [SEED]]

Every parser gets the same share of cases. A parser that raises is printed with the seed, the case and the input, exit code 1.
Runs on every Python of the guests, with nothing but the standard library; there the controller's parsers are left out.
"""

import base64
import gzip
import json
import os
import random
import sys
import time
import traceback

from ansible_collections.vmbackup.azure.plugins.module_utils import _ip_ranges as ip_ranges
from ansible_collections.vmbackup.azure.plugins.module_utils import _redact as redact
from ansible_collections.vmbackup.azure.plugins.module_utils import _values as values
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import (
    accept,
    agent,
    conf,
    dhcp,
    dhcp_text,
    extension,
    firewall,
    iproute,
    load,
    logs,
    mounts,
    packages,
    persist,
    probes,
    proxy,
    routes,
    service,
    support,
    system,
)

# What the controller reads of Windows guests, and the rules, are for the controller's Python only.
CONTROLLER = sys.version_info >= (3, 10)
if CONTROLLER:
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import acl, registry, vss
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import dhcp as windows_dhcp
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import firewall as windows_firewall
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import logs as windows_logs
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import proxy as windows_proxy
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import routes as windows_routes
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.collect import facts_of
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import to_text, unpacked
else:

    def evaluate(_facts):
        """The rules are for the controller."""


FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "fixtures")
TOKENS = [
    b"=", b"#", b'"', b"'", b"{", b"}", b"[", b"]", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"null", b"NaN", b"1e999", b"-1", b"0",
    b"99999999999999999999", b"\\u0000", b"\\", b"%", b";", b",", b":", b"lease {", b"expire", b"never;", b"/Date(", b")/", b"sig=", b"http://u:p@h/",
    b"\t", b" ", b"\xc3\xa9", b"true", b"\x1b[2J", b"A" * 300, b"2026-13-45T99:99:99Z",
]  # fmt: skip


def fixture(*names):
    with open(os.path.join(FIXTURES, *names), "rb") as stream:
        return stream.read()


def confs():
    directory = os.path.join(FIXTURES, "waagent.conf")
    return [fixture("waagent.conf", name) for name in sorted(os.listdir(directory)) if name.endswith(".conf")]


def text(raw):
    return raw.decode("utf-8", "replace")


def read_conf(raw):
    entries = conf.parse(text(raw))
    conf.effective(text(raw))
    conf.duplicates(entries)
    conf.loose(entries)
    conf.unknown_backup_keys(entries)


def rewrite_conf(raw):
    wanted = {"Extensions.Enabled": "y", "Logs.Verbose": "n"}
    try:
        after = conf.rewrite(text(raw), wanted, canonical=len(raw) % 2 == 0)
    except conf.ConfError:
        return  # refused in one sentence, the file stays as it was
    values = conf.effective(after)
    assert values["Extensions.Enabled"]["effective"] is True, "the agent would not read what was written"
    assert len(values["Extensions.Enabled"]["lines"]) <= 1, "a duplicate is left"
    assert conf.rewrite(after, wanted, canonical=len(raw) % 2 == 0) == after, "a second run would change the file again"


def decide(raw):
    document = values.parse_json(raw)
    try:
        evaluate(document)
    except ValueError as refused:
        assert "\n" not in str(refused), "not one sentence"
        return


def known_shape(raw):
    """Change single values without leaving the shape: the rules must bear everything that the shape lets through."""
    rng = random.Random(raw)
    document = json.loads(rng.choice(HEALTHY))
    for _change in range(rng.choice((1, 2, 8))):
        place = document
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            key = rng.choice(keys)
            if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.15:
                break
            place = place[key]
        value = place[key]
        if isinstance(value, bool):
            choice = [None, not value]
        elif isinstance(value, (int, float)):
            choice = [None, 0, -1, min(value * 1000 + 1, 10**18), 0.5, 10**18, -(10**18)]
        elif isinstance(value, str):
            choice = [None, "", "\0", "x" * 5000, "0", value[:-1]]
        else:
            choice = [None, type(value)()]
        place[key] = rng.choice(choice[1:] if isinstance(place, list) else choice)
        if isinstance(place, dict) and rng.random() < 0.2 and place is not document:
            del place[key]
    try:
        evaluate(document)
    except ValueError as refused:
        assert "schema_version" in str(refused) or "beyond every limit" in str(refused), str(refused)
        return


def windows_guest(raw):
    """Any document at all becomes facts of the known shape, and the rules bear them."""
    facts = facts_of(values.parse_json(raw), ["all"])
    try:
        evaluate(facts)
    except ValueError as refused:
        assert "beyond every limit" in str(refused), str(refused)  # a code in a status
        return


RAW_GUEST = json.loads(fixture("windows", "healthy-raw.json").decode())
HEALTHY = (fixture("facts", "healthy-debian12.json").decode(),) + ((json.dumps(facts_of(RAW_GUEST, ["all"])),) if CONTROLLER else ())


def windows_value(raw):
    """Change single values of what a guest returned, files by their bytes, without breaking the document."""
    document = json.loads(json.dumps(RAW_GUEST))
    rng = random.Random(raw)
    for _change in range(rng.choice((1, 2, 8))):
        place = document
        while True:
            key = rng.choice(sorted(place) if isinstance(place, dict) else list(range(len(place))))
            if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.1:
                break
            place = place[key]
        value = place[key]
        choice = [None, 0, -1, 10**30, "", "x" * 500, [], {}, [None], {"x": None}, 0.5, True, base64.b64encode(gzip.compress(raw)).decode()]
        if isinstance(value, str):
            choice += [text(mutate(rng, value.encode())), value[:-1], base64.b64encode(raw).decode()]
        place[key] = rng.choice(choice)
    windows_guest(json.dumps(document).encode())


def secret(raw):
    for mark in (
        " https://h/p?sv=1&sig={0}",
        " DB_PASSWORD={0}",
        ' "clientSecret": "{0}"',
        " http://u:{0}@h",
        " Bearer {0}",
        " --password {0}",
    ):
        marked = text(raw) + mark.format("S3cr3tS3cr3t")
        assert "S3cr3tS3cr3t" not in redact.public_line(marked, 10**6), "a secret came through: " + mark


def ranges(raw):
    try:
        document = ip_ranges.parse(raw)
        every = ip_ranges.networks(document.tags.values(), "all")
        found = ip_ranges.answer(document, family="all")
    except ip_ranges.IpRangesError as refused:
        assert "\n" not in str(refused), "not one sentence"
        return
    for version, networks in every.items():
        merged = ip_ranges.merge(networks, version)
        assert all(any(one[0] <= first and last <= one[1] for one in merged) for first, last in networks), "an address is lost"
        assert ip_ranges.merge(merged, version) == merged, "not the fewest prefixes"
    for wanted in sorted(document.tags)[:3]:
        for regions in ((), ("westeurope",)):
            try:
                ip_ranges.select(document, [wanted[:-1]], regions)
            except ip_ranges.IpRangesError:
                pass  # no such tag or region, in one sentence
    assert found["counts"]["ipv4"] + found["counts"]["ipv6"] == len(found["prefixes"])


SHOW = b"Id=walinuxagent.service\nLoadState=loaded\nActiveState=active\nExecStart={ path=/usr/bin/python3 ; argv[]=/usr/bin/python3 -u /x -daemon ; }\n"
MOUNTS = b"/dev/sda1 / ext4 rw,relatime 0 0\n//s/a\\040b /mnt/a\\040b cifs rw 0 0\n"
INTERFACES = b"auto eth0\niface eth0 inet dhcp\nsource /etc/network/interfaces.d/*\n"
NETWORKD = b"[Match]\nName=eth*\n[Network]\nDHCP=ipv4\nAddress=10.0.0.4/24\n"
LOG = (
    b"2026-01-31T11:00:00.1Z INFO ExtHandler [HEARTBEAT] Agent WALinuxAgent-2.9 is running as the goal state agent\n"
    b"2017/06/22 05:52:33.690610 ERROR Error fetching the goal state: https://h/p?sig=x\n"
)
STATUS = fixture("waagent", "sample-status.json")
REPORT = json.dumps(
    {"timestampUTC": "2026-01-31T11:00:00Z", "aggregateStatus": {"guestAgentStatus": {"status": "Ready"}, "handlerAggregateStatus": [{}]}}
).encode()
ROUTE = b"Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t10813FA8\t0100000A\t0007\t0\t0\t100\tFFFFFFFF\t0\t0\t0\n"
IPTABLES = b"*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner ! --uid-owner 0 -j DROP\nCOMMIT\n"
NFT = b'{"nftables": [{"rule": {"table": "t", "chain": "c", "expr": [{"match": "168.63.129.16"}, {"drop": null}]}}]}'
DPKG = b"Package: waagent\nStatus: hold ok installed\nVersion: 2.7.3.0-1\n\nPackage: x\n"
ZYPPER = b"S | Name | Type | Version | Arch | Repository\nv | python3-azure-agent | package | 2.9-1 | noarch | lab\n"
PRESSURE = b"some avg10=1.50 avg60=2.00 avg300=0.00 total=1\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=1\n"

WINDOWS_LOG = (
    b"[00000011] [12/11/2018 06:27:55.66] [HEART] WindowsAzureGuestAgent Heartbeat.\r\n"
    b"[00000018] 2026-01-12T16:35:45Z [INFO]  GetVersions() failed https://h/p?sig=x\r\n"
)
RULE = (
    b"v2.31|Action=Block|Active=TRUE|Dir=Out|Protocol=6|RPort=80,32526|RPort2_10=1-9|RA4=168.63.0.0/255.255.0.0|RA4=1.2.3.4-1.2.3.9|Name=n|"
)
OPTIONS = bytes.fromhex(
    "060000000000000004000000000000003317b657c0a80101f50000000000000004000000 00000000ffffff7fa83f8110".replace(" ", "")
)
ACTIONS = bytes.fromhex("805101000000000000000000020000001400000001000000 60ea00000000000000000000".replace(" ", ""))
WINHTTP = bytes.fromhex("28000000000000000300000005000000") + b"p:312" + bytes.fromhex("07000000") + b"<local>"
ROUTES = (
    bytes.fromhex("0100000000000000")
    + bytes(12)
    + bytes.fromhex("02000000a83f8110")
    + bytes(20)
    + bytes.fromhex("20000000020000000a000001")
    + bytes(52)
)


def windows_texts(kind):
    directory = os.path.join(FIXTURES, "windows")
    return [fixture("windows", name) for name in sorted(os.listdir(directory)) if name.startswith(kind)]


# name: (parser of bytes, seeds)
IP_ROUTE = b"""unicast default via 10.9.0.1 dev eth0 table main proto dhcp scope global metric 100
unicast 10.51.0.0/16 table main proto boot scope global \\\tnexthop via 10.9.0.1 dev eth0 weight 1
blackhole fd01::/16 dev lo table main proto boot metric 1024 error -22 pref medium
"""
OWN = {"prefix": "20.0.0.0/8", "via": "10.9.0.1", "dev": "eth0", "metric": 0, "table": "main", "onlink": False}
PROFILE = b"[connection]\nid=x\n[ipv4]\nmethod=manual\naddress1=10.0.0.4/24,10.0.0.1\nroute1=20.0.0.0/8,10.9.0.1,0\nroute1_options=table=7\n[ipv6]\n"
STATIC = b"iface eth0 inet static\n  address 10.0.0.4\n[Network]\nAddress=10.0.0.4/24\n[Route]\nGateway=10.0.0.1\nIPADDR=10.0.0.4\n"
CARD = b'{"interface": [{"macAddress": "000D3A940001", "ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4"}]}}]}'
TARGETS = {
    "waagent.conf read": (read_conf, confs()),
    "waagent.conf rewrite": (rewrite_conf, confs()),
    "dhclient leases": (lambda raw: dhcp.parse_leases(text(raw), "eth0", 1769860740.0), [fixture("waagent", "dhcp.leases")]),
    "dhcp packet": (dhcp.parse_packet, [fixture("waagent", "dhcp-ack.bin")]),
    "networkd lease": (lambda raw: dhcp.parse_networkd_lease(text(raw)), [b"ADDRESS=10.0.0.4\nOPTION_245=a83f8110\n"]),
    "nmcli": (lambda raw: dhcp.parse_nmcli(text(raw)), [b"DHCP4.OPTION[1]:private_245 = a8:3f:81:10\n"]),
    "interfaces": (lambda raw: dhcp.parse_interfaces(text(raw), "eth0"), [INTERFACES]),
    "networkd and NetworkManager files": (lambda raw: dhcp.networkd_method(dhcp.parse_sections(text(raw)), "eth0", "00:0d"), [NETWORKD]),
    "ifcfg": (lambda raw: dhcp.ifcfg_method(text(raw)), [b"BOOTPROTO='dhcp'\nIPADDR=10.0.0.4\n"]),
    "snapshot status": (lambda raw: extension.parse_status(values.parse_json(raw)), [STATUS, fixture("waagent", "sample-status-invalid-json-format.json")]),
    "aggregate status": (lambda raw: extension.parse_aggregate(values.parse_json(raw), 1769860740.0), [REPORT]),
    "vmbackup.conf": (lambda raw: extension.parse_vmbackup_conf(text(raw)), [b"[SnapshotThread]\ntimeout = 60\nMountsToSkip: /data\n"]),
    "agent log": (lambda raw: (logs.verdicts(text(raw).split("\n"), logs.AGENT_PHRASES), agent.heartbeat(text(raw).split("\n"), 1769860740.0)), [LOG]),
    "systemctl show": (lambda raw: service.choose(service.parse_show(text(raw))), [SHOW]),
    "os-release": (lambda raw: system.parse_os_release(text(raw)), [b'ID="rhel"\nID_LIKE="fedora"\n']),
    "command line": (lambda raw: agent.role_of(text(raw).split("\0")), [b"/usr/bin/python3\0-u\0/usr/sbin/waagent\0-daemon"]),
    "routes": (lambda raw: routes.matching(routes.parse_routes(text(raw)), "168.63.129.16"), [ROUTE]),
    "proxy environment": (lambda raw: proxy.from_environment("u", proxy.parse_environment(text(raw))), [b"http_proxy=http://u:p@h:1 no_proxy=168.63.0.0/16\n"]),
    "http answer": (probes.parse_response, [b"HTTP/1.1 200 OK\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\n\r\n<Versions>"]),
    "http date": (lambda raw: probes.clock_offset(text(raw), 0), [b"Sat, 31 Jan 2026 12:00:00 GMT"]),
    "ip route": (lambda raw: iproute.by_key(iproute.parse(text(raw), 4) + iproute.parse(text(raw), 6)), [IP_ROUTE]),
    "ip address": (lambda raw: iproute.parse_addresses(text(raw)), [b"2: eth0    inet 10.9.0.5/24 brd 10.9.0.255 scope global eth0\\ x"]),
    "profile of NetworkManager": (lambda raw: persist.keyfile_text(text(raw), [], [OWN]), [PROFILE]),
    "static addresses": (lambda raw: [edit(text(raw), "eth0", "10.0.0.4") for edit in
                                      (dhcp_text.interfaces, dhcp_text.keyfile, dhcp_text.network, dhcp_text.ifcfg)], [PROFILE, STATIC]),
    "saved rules": (lambda raw: [accept.saved_text(text(raw), "filter"), accept.nftables_text(text(raw), "nft inet filter output")], [IPTABLES, NFT]),
    "places of rules": (lambda raw: firewall.places(firewall.parse_iptables(text(raw))[1] + firewall.parse_nft(text(raw))[1], None, text(raw)),
                        [IPTABLES, NFT]),
    "logs for support": (lambda raw: support.masked("/var/log/x", text(raw), True), [b"-----END PRIVATE KEY-----\nhttps_proxy=http://u:p@h\n"]),
    "imds network": (lambda raw: probes.parse_imds_network(raw, "00:0d:3a:94:00:01"), [fixture("waagent", "imds-valid.json"), CARD]),
    "imds": (probes.parse_imds, [fixture("waagent", "imds-valid.json")]),
    "iptables": (lambda raw: firewall.parse_iptables(text(raw)), [IPTABLES]),
    "nft": (lambda raw: firewall.parse_nft(text(raw)), [NFT]),
    "dpkg status": (lambda raw: packages.parse_dpkg_status(text(raw), "waagent"), [DPKG]),
    "zypper": (lambda raw: packages.parse_zypper_search(text(raw), "python3-azure-agent"), [ZYPPER]),
    "holds": (lambda raw: (packages.parse_versionlock(text(raw), "W"), packages.parse_excludes(text(raw), "W"), packages.parse_zypper_locks(text(raw), "W")),
              [b"exclude=kernel* WALinux*\nsolvable_name: W*\n"]),
    "mounts": (lambda raw: mounts.parse_mounts(text(raw)), [MOUNTS]),
    "memory and pressure": (lambda raw: (load.parse_meminfo(text(raw)), load.parse_pressure(text(raw)), load.parse_cpu(text(raw))),
                            [PRESSURE, b"MemTotal: 1 kB\n"]),
    "versions": (lambda raw: values.version_key(text(raw)), [b"2.2.45-0ubuntu1~18.04"]),
    "times": (lambda raw: (values.epoch(text(raw)), extension.parse_time(text(raw)), extension.parse_ticks(text(raw)), values.iso(values.as_int(text(raw)))),
              [b"2026-01-31T02:03:04.123456Z", b"/Date(1717171717000)/", b"636953997844977993"]),
    "secrets": (secret, [fixture("waagent", "vm_settings.json")[:4000], fixture("waagent", "ext_conf.xml")[:4000]]),
    "service tags": (ranges, [fixture("azure-ip-ranges", "ServiceTags_Public_20260622-excerpt.json")]),
    "public ip ranges": (ranges, [fixture("azure-ip-ranges", "PublicIPs_20160418-invented.xml")]),
    "decision": (decide, [fixture("facts", "healthy-debian12.json")]),
    "decision with a value missing": (known_shape, [b"x"]),
}  # fmt: skip
if CONTROLLER:
    TARGETS.update({
        "vssadmin writers": (lambda raw: vss.parse_writers(to_text(raw, 850)), windows_texts("vssadmin-writers")),
        "vssadmin shadow storage": (lambda raw: vss.parse_shadow_storage(to_text(raw, 850)), windows_texts("vssadmin-shadowstorage")),
        "vssadmin providers": (lambda raw: vss.parse_providers(to_text(raw, 437)),
                               [b"Provider name: 'x'\r\n Id: {b5946137-7b9f-4925-af80-51abd60b20d5}\r\n V: 1.0\r\n"]),
        "netsh winhttp": (lambda raw: windows_proxy.parse_netsh(to_text(raw, 737)), windows_texts("netsh-winhttp")),
        "DhcpInterfaceOptions": (lambda raw: windows_dhcp.host_address(windows_dhcp.parse_options(raw)), [OPTIONS]),
        "FailureActions": (registry.failure_actions, [ACTIONS]),
        "WinHttpSettings": (windows_proxy.parse_settings, [WINHTTP]),
        "machine.config": (lambda raw: windows_proxy.parse_default_proxy(text(raw)),
                           [b'<defaultProxy enabled="true"><proxy proxyaddress="http://p:1"/></defaultProxy>']),
        "windows bypass": (lambda raw: windows_proxy.bypasses(text(raw), "168.63.129.16"), [b"<local>;168.63.*;[a-z];http://169.254.169.254"]),
        "firewall rule": (lambda raw: windows_firewall.blocks_host(windows_firewall.parse_rule(text(raw))), [RULE]),
        "forward table": (lambda raw: windows_routes.matching(windows_routes.parse_table(raw), "168.63.129.16"), [ROUTES]),
        "persistent routes": (lambda raw: windows_routes.parse_persistent(text(raw).split(";")),
                              [b"168.63.129.16,255.255.255.255,10.0.0.1,1;0.0.0.0,0.0.0.0,1.1.1.1"]),
        "security descriptor": (lambda raw: acl.machine_keys("p", text(raw)), [acl.MACHINE_KEYS.encode(), b"O:BAD:AI(A;OICI;FRFW;;;WD)(D;;GA;;;S-1-5-18)"]),
        "windows log": (lambda raw: (windows_logs.verdicts(to_text(raw).split("\n"), windows_logs.EXTENSION_PHRASES),
                        windows_logs.heartbeat(text(raw).split("\n"), 0)),
                        [WINDOWS_LOG]),
        "windows times": (lambda raw: registry.when(text(raw)), [b"1/12/2026 4:35:45 PM", b"134127165450000000"]),
        "packed values": (lambda raw: (unpacked(base64.b64encode(raw).decode()), to_text(raw, 437)), [gzip.compress(WINDOWS_LOG), "x\u00e9".encode("utf-16")]),
        "windows guest": (windows_guest, [fixture("windows", "healthy-raw.json")]),
        "windows guest with values changed": (windows_value, [b"x"]),
    })  # fmt: skip


def mutate(rng, raw):
    """Return the bytes with a few pieces changed, cut, doubled or swapped."""
    data = bytearray(raw)
    for _change in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randint(0, len(data)) if data else 0
        kind = rng.randint(0, 6)
        if kind == 0:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 1 and data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.choice((1, 4, 40, 400))]
        elif kind == 3:
            piece = data[at : at + rng.choice((8, 80))]
            data[at:at] = piece * rng.choice((1, 2, 20))
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            other = rng.randint(0, len(data)) if data else 0
            data[other:other] = data[at : at + 30]
        else:
            data[at : at + 3] = rng.choice(TOKENS)
    return bytes(data)


def main():
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 100000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    started = time.time()
    done = 0
    share = -(-cases // len(TARGETS))
    for name in sorted(TARGETS):
        parser, seeds = TARGETS[name]
        rng = random.Random("{0} {1}".format(seed, name))
        for case in range(share):
            raw = mutate(rng, rng.choice(seeds)) if rng.random() < 0.98 else os.urandom(rng.randint(0, 200))
            try:
                parser(raw)
            except Exception:
                print("FAILED: {0}, seed {1}, case {2}, input {3!r}".format(name, seed, case, raw[:2000]))
                traceback.print_exc()
                return 1
            done += 1
    print(
        "{0} mutated inputs through {1} parsers on Python {2[0]}.{2[1]} in {3:.0f} s, seed {4}: none raised.".format(
            done, len(TARGETS), sys.version_info, time.time() - started, seed
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
