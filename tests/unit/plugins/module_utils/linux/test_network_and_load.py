# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
import types

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import firewall, load, mounts, packages, probes, proxy, routes
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t10813FA8\t0100000A\t0007\t0\t0\t100\tFFFFFFFF\t0\t0\t0
*\tFEA9FEA9\t00000000\t0205\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""


def test_parse_routes_little_endian():
    parsed = routes.parse_routes(ROUTES)
    assert [(r["destination"], r["prefix_length"], r["gateway"], r["reject"]) for r in parsed] == [
        ("0.0.0.0", 0, "10.0.0.1", False),
        ("10.0.0.0", 24, None, False),
        ("168.63.129.16", 32, "10.0.0.1", False),
        ("169.254.169.254", 32, None, True),
    ]


@pytest.mark.parametrize(
    "address, lookup, kind, ok",
    [
        ("168.63.129.16", ("10.0.0.4", None), "host", True),
        ("8.8.8.8", ("10.0.0.4", None), "default", True),
        ("10.0.0.9", ("10.0.0.4", None), "other", True),
        ("168.63.129.16", (None, errno.EINVAL), "blackhole", False),
        ("169.254.169.254", (None, errno.EHOSTUNREACH), "unreachable", False),
        ("8.8.8.8", (None, errno.ENETUNREACH), "unreachable", False),
        ("8.8.8.8", (None, errno.EACCES), "prohibit", False),
        ("8.8.8.8", ("10.0.0.5", None), "default", True),
        ("8.8.8.8", ("10.0.0.6", None), "default", True),
        ("8.8.8.8", ("10.8.0.2", None), "other", True),
    ],
)
def test_describe_route(address, lookup, kind, ok):
    holders = {"10.0.0.4": {"eth0"}, "10.0.0.5": {"eth0", "wg0"}, "10.0.0.6": {"lo"}, "10.8.0.2": {"tun0"}}
    found = routes.describe(routes.parse_routes(ROUTES), address, lookup, holders)
    assert (found["kind"], found["ok"]) == (kind, ok)
    assert (found["device"] is None) == (not ok or kind == "other" and address == "8.8.8.8"), "not the main table has decided"


def test_address_holders_of_this_machine():
    assert routes.address_holders()["127.0.0.1"] == {"lo"}


def test_without_a_way_in_the_main_table_there_is_none():
    assert routes.describe([], "8.8.8.8", (None, errno.ENETUNREACH), {})["kind"] == "none"


def test_matching_prefers_prefix_then_metric():
    parsed = routes.parse_routes(ROUTES + "eth1\t00000000\t0100000B\t0003\t0\t0\t50\t00000000\t0\t0\t0\n")
    assert routes.matching(parsed, "1.2.3.4")["interface"] == "eth1"
    assert routes.matching(parsed, "168.63.129.16")["interface"] == "eth0"


def test_parse_macs():
    text = "# match 00:0d:3a:00:00:09\n  macaddress: 00:0D:3A:00:00:01\nHWADDR=00-0d-3a-00-00-02\nuuid=00:0d:3a:00:00:03:04\n"
    assert routes.parse_macs(text) == ["00:0d:3a:00:00:01", "00:0d:3a:00:00:02"]


def test_foreign_macs(tmp_path):
    for name, text in (
        ("sys/class/net/eth0/address", "00:0d:3a:00:00:01\n"),
        ("etc/netplan/50-x.yaml", "mac: 00:0d:3a:00:00:01\nmac: 00:0d:3a:00:00:02\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert routes.foreign_macs(Guest(str(tmp_path))) == [{"path": "/etc/netplan/50-x.yaml", "mac": "00:0d:3a:00:00:02"}]


def test_kernel_lookup_of_this_machine():
    assert routes.kernel_lookup("127.0.0.1") == ("127.0.0.1", None)


@pytest.mark.parametrize(
    "no_proxy, expected",
    [("168.63.129.16,169.254.169.254", True), ("localhost, 168.63.0.0/16 169.254.0.0/16", True), ("*", True), ("168.63.129.16", False),
     ("", False), (None, False), ("168.63.129.0/99,x/y", False)],
)  # fmt: skip
def test_proxy_bypass(no_proxy, expected):
    values = {"http_proxy": "http://u:S3cr3t@p:1"}
    if no_proxy is not None:
        values["no_proxy"] = no_proxy
    found = proxy.from_environment("unit", values)
    assert [entry["bypasses_host"] for entry in found] == [expected]
    assert "S3cr3t" not in str(found)


@pytest.mark.parametrize("value", ["u:S3cr3t@p:1", "http://u:S3cr3t/S3cr3t@p:1", "S3cr3t@p:1"])
def test_credentials_of_a_proxy_without_a_scheme_are_masked(value):
    found = proxy.from_environment("unit", {"https_proxy": value, "no_proxy": "localhost"})
    assert found[0]["value"].endswith("[redacted]@p:1") and "S3cr3t" not in str(found)
    values = {"HttpProxy.Host": {"effective": value.rpartition(":")[0]}, "HttpProxy.Port": {"effective": 1}}
    assert "S3cr3t" not in str(proxy.collect(None, values, None, [], None))


def test_parse_environment():
    assert proxy.parse_environment('http_proxy=http://p:1 "NO_PROXY=a b"\n# x=y\nbad') == {"http_proxy": "http://p:1", "NO_PROXY": "a b"}
    assert proxy.parse_environ(b"A=1\0B=2\0\0rest") == {"A": "1", "B": "2"}


def serve(answer, delay=0):
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(1)

    def work():
        connection = server.accept()[0]
        connection.recv(1000)
        time.sleep(delay)
        try:
            connection.sendall(answer)
        except OSError:
            pass
        connection.close()

    thread = threading.Thread(target=work)
    thread.daemon = True
    thread.start()
    return server.getsockname()[1]


def ask(port):
    def question(deadline):
        status, headers, body = probes.http_get("127.0.0.1", port, "/", (), deadline)
        return status, headers, body, status == 200

    return question


def test_probe_of_an_answer():
    probe = probes.Probe("u", 2, ask(serve(b"HTTP/1.1 200 OK\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\nContent-Length: 2\r\n\r\nhi")))
    result = probe.wait()
    assert (result["ok"], result["status"], result["error"], probe.body) == (True, 200, None, b"hi")
    assert probes.clock_offset(probe.date, epoch("2026-01-31T12:05:00Z")) == 300


@pytest.mark.parametrize("answer, words", [(b"HTTP/1.1 403 No\r\n\r\n", "HTTP 403"), (b"SSH-2.0", "not HTTP"), (b"", "not HTTP")])
def test_probe_of_another_answer(answer, words):
    result = probes.Probe("u", 2, ask(serve(answer))).wait()
    assert result["ok"] is False and words in result["error"]


def test_probe_of_silence_ends_at_its_deadline():
    started = time.monotonic()
    result = probes.Probe("u", 0.3, ask(serve(b"", delay=5))).wait()
    assert result["ok"] is False and "no answer within 0.3 s" in result["error"]
    assert time.monotonic() - started < 1.5


def test_probe_of_a_closed_port():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    port = server.getsockname()[1]
    server.close()
    assert probes.Probe("u", 2, ask(port)).wait()["error"] == "connection refused"


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sat, 31 Xxx 2026 12:00:00 GMT", "Sat, 31 Jan 2026 12:00:00 CET"])
def test_clock_offset_unknown(date):
    assert probes.clock_offset(date, 0) is None


def test_storage_names_without_the_query():
    lines = ["GET https://a1.blob.core.windows.net/x?sig=S3cr3t", "PUT https://b2.z01.blob.storage.azure.net:443/y", "https://example.org/"]
    assert probes.storage_names(lines) == ["b2.z01.blob.storage.azure.net", "a1.blob.core.windows.net"]


def test_parse_imds():
    assert probes.parse_imds(b'{"location": "westeurope", "azEnvironment": "AzurePublicCloud"}') == ("westeurope", "AzurePublicCloud")
    assert probes.parse_imds(b'{"compute": {"location": "westus"}}') == ("westus", None)
    assert probes.parse_imds(b"<html>") == (None, None)


RULES = """*security
:OUTPUT ACCEPT [0:0]
-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT
-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP
COMMIT
*filter
:OUTPUT {0} [0:0]
{1}
COMMIT
"""


@pytest.mark.parametrize(
    "policy, rule, blocked",
    [
        ("ACCEPT", "", False),
        ("ACCEPT", "-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 80 -j DROP", True),
        ("ACCEPT", "-A OUTPUT -d 168.63.0.0/16 -j REJECT --reject-with icmp-port-unreachable", True),
        ("ACCEPT", "-A OUTPUT -d 168.63.129.16/32 -m owner ! --uid-owner 0 -j DROP", False),
        ("ACCEPT", "-A OUTPUT -d 168.63.129.16/32 -m owner --uid-owner 33 -j DROP", False),
        ("ACCEPT", "-A OUTPUT -d 168.63.129.16/32 -m owner --uid-owner 0 -j DROP", True),
        ("ACCEPT", "-A OUTPUT ! -d 168.63.129.16/32 -j DROP", False),
        ("ACCEPT", "-A OUTPUT -d 10.0.0.0/8 -j DROP", False),
        ("DROP", "", True),
    ],
)
def test_parse_iptables(policy, rule, blocked):
    agent_rules, drops = firewall.parse_iptables(RULES.format(policy, rule))
    assert len(agent_rules) == 2
    assert bool(drops) is blocked


@pytest.mark.parametrize(
    "answer, fine, words",
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", True, None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", True, None),
        (b"SSH-2.0-x\r\n", True, None),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", False, "refuses to connect to s.blob.core.windows.net (HTTP 403)"),
        (b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n", False, "asks for user name and password"),
    ],
)
def test_a_proxy_that_answers_may_refuse(answer, fine, words):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        probe = probes.through("127.0.0.1", listener.getsockname()[1], "s.blob.core.windows.net", 5)
        connection, _peer = listener.accept()
        with connection:
            assert connection.recv(4096).startswith(b"CONNECT s.blob.core.windows.net:443 HTTP/1.1\r\n")
            connection.sendall(answer)
        result = probe.wait()
    assert result["ok"] is fine and (words is None or words in result["error"]), result


def test_parse_nft():
    text = '{"nftables": [{"rule": {"table": "walinuxagent", "chain": "output", "expr": ["168.63.129.16", "skuid", {"drop": null}]}}, {"rule": %s}]}'
    own = '{"table": "mine", "chain": "out", "expr": [{"match": {"right": "168.63.129.16"}}, {"drop": null}]}'
    agent_rules, drops = firewall.parse_nft(text % own)
    assert (len(agent_rules), len(drops)) == (1, 1)
    assert firewall.parse_nft("nonsense") == ([], [])


STATUS = "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: waagent\nStatus: {0}\nVersion: 2.7.3.0-1\n\n"
STATUS += "Package: z\nStatus: install ok installed\n"


@pytest.mark.parametrize(
    "status, expected",
    [
        ("install ok installed", ("2.7.3.0-1", False, "installed")),
        ("hold ok installed", ("2.7.3.0-1", True, "installed")),
        ("deinstall ok config-files", None),
        ("install ok half-configured", ("2.7.3.0-1", False, "half-configured")),
        ("install reinstreq installed", ("2.7.3.0-1", False, "half-installed")),
        ("install ok triggers-awaited", ("2.7.3.0-1", False, "installed")),
    ],
)
def test_parse_dpkg_status(status, expected):
    assert packages.parse_dpkg_status(STATUS.format(status), "waagent") == expected
    assert packages.parse_dpkg_status(STATUS.format(status), "walinuxagent") is None


def test_parse_apt_policy():
    assert packages.parse_apt_policy("waagent:\n  Installed: 2.2.45-1\n  Candidate: 2.7.3.0-4\n  Version table:\n") == "2.7.3.0-4"
    assert packages.parse_apt_policy("waagent:\n  Installed: (none)\n  Candidate: (none)\n") is None
    assert packages.parse_apt_policy(None) is None


def test_parse_zypper_search():
    table = """S  | Name                | Type    | Version    | Arch   | Repository
---+---------------------+---------+------------+--------+-----------
i+ | python3-azure-agent | package | 2.2.46-1   | noarch | (System Packages)
v  | python3-azure-agent | package | 2.9.1.1-2  | noarch | lab
v  | python3-azure-agent | package | 2.10.0.8-1 | noarch | lab
"""
    assert packages.parse_zypper_search(table, "python3-azure-agent") == "2.10.0.8-1"
    assert packages.parse_zypper_search(table, "other") is None


def test_held_lists():
    assert packages.parse_versionlock("# c\nWALinuxAgent-0:2.2.46-1.*\n", "WALinuxAgent") is True
    assert packages.parse_versionlock("!WALinuxAgent-2.2\n", "WALinuxAgent") is False
    assert packages.parse_excludes("[main]\nexclude=kernel* WALinux*\n", "WALinuxAgent") is True
    assert packages.parse_excludes("[main]\nexclude=kernel*\n", "WALinuxAgent") is False
    assert packages.parse_zypper_locks("\ntype: package\nmatch_type: glob\nsolvable_name: python3-azure-*\n", "python3-azure-agent") is True


def test_cpu_between():
    assert load.cpu_between([0, 0, 0, 0, 0, 0, 0, 0], [90, 0, 0, 5, 5, 0, 0, 0]) == (90.0, 0.0)
    assert load.cpu_between([1] * 8, [1] * 8) == (None, None)
    assert load.cpu_between(None, [1] * 8) == (None, None)
    assert load.parse_cpu("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n") == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_parse_meminfo_of_old_kernels():
    assert load.parse_meminfo("MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 5 kB\n") == (102400, 20480, None, None)
    assert load.parse_meminfo("") == (None, None, None, None)


def test_parse_pressure():
    text = "some avg10=1.50 avg60=2.00 avg300=0.00 total=1\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=1\n"
    assert load.parse_pressure(text) == {"some_avg10": 1.5, "some_avg60": 2.0, "full_avg10": 0.1}
    assert load.parse_pressure("") is None


UNIT = "Id={0}.service\nLoadState={1}\nActiveState={2}\nUnitFileState={3}\n"


@pytest.mark.parametrize(
    "rows, expected",
    [
        (
            [("chrony", "not-found", "inactive", ""), ("systemd-timesyncd", "loaded", "inactive", "disabled")],
            "systemd-timesyncd inactive disabled",
        ),
        ([("systemd-timesyncd", "loaded", "inactive", "enabled"), ("chrony", "loaded", "active", "enabled")], "chrony active enabled"),
        ([("ntp", "loaded", "inactive", "disabled"), ("chrony", "masked", "inactive", "masked")], "ntp inactive disabled"),
        ([("chronyd", "masked", "inactive", "masked")], "chronyd inactive masked"),
        ([("chronyd", "not-found", "inactive", "")], None),
        ([], None),
    ],
)
def test_the_unit_that_keeps_the_time(rows, expected):
    host = types.SimpleNamespace(
        exists=lambda area, path: path == "/run/systemd/system", run=lambda *given: "\n".join(UNIT.format(*row) for row in rows)
    )
    found = load.time_source(host, [], 3)
    assert found["source"] is None
    told = [found["unit"], found["unit_state"], found["unit_file_state"]]
    assert told == ([None] * 3 if expected is None else [expected.split()[0] + ".service"] + expected.split()[1:])


def test_parse_mounts_unescapes():
    assert mounts.parse_mounts("//s/a\\040b /mnt/a\\040b cifs rw,noexec 0 0\nshort\n")[0]["mount_point"] == "/mnt/a b"


def test_filesystem_freezes():
    host = Guest()
    mount = {"device": "/dev/sda1", "mount_point": "/", "fs_type": "ext4", "options": ["rw"]}
    words = ["1", "4096", "100", "20", "10", "50", "25"]
    found = mounts.filesystem(mount, words, host)
    assert (found["freezes"], found["used_percent"], found["inodes_used_percent"], found["responds"]) == (True, 88, 50, True)
    assert mounts.filesystem(dict(mount, device="/dev/loop3"), words, host)["freezes"] is False
    assert mounts.filesystem(dict(mount, fs_type="nfs4"), None, host)["responds"] is False
    assert mounts.filesystem(mount, ["error", str(errno.EACCES)], host)["error"] == "Permission denied"


def test_hung_mount_costs_its_deadline(monkeypatch):
    real = mounts._ask

    def slow(paths, out):
        if paths[0][1] == "/slow":
            time.sleep(30)
        real(paths, out)

    monkeypatch.setattr(mounts, "_ask", slow)
    started = time.monotonic()
    answers = mounts.Asking([[(0, "/")], [(1, "/slow")]], 0.4).answers()
    assert list(answers) == [0]
    assert time.monotonic() - started < 2


def test_forwarded_packets_and_accepted_ones_are_not_kept_from_the_host():
    forwarded = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -d 168.63.129.16/32 -j DROP\nCOMMIT\n"
    assert firewall.parse_iptables(forwarded)[1] == []
    own = forwarded.replace("-A FORWARD -j", "-A OUTPUT -o eth0 -j")
    assert len(firewall.parse_iptables(own)[1]) == 1
    strict = "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -d 168.63.129.16/32 -p tcp -j ACCEPT\nCOMMIT\n"
    assert firewall.parse_iptables(strict)[1] == []
    assert len(firewall.parse_iptables(strict.replace("129.16/32", "129.17/32"))[1]) == 1


def nft(table, hook, right):
    place = {"family": "ip", "table": table}
    daddr = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": right}}
    chains = [{"chain": dict(place, name="own", type="filter", hook=hook, prio=0, policy="accept")}, {"chain": dict(place, name="more")}]
    root = {"match": {"op": "!=", "left": {"meta": {"key": "skuid"}}, "right": 0}}
    own = [daddr, root, {"drop": None}] if table == "walinuxagent" else [daddr, {"drop": None}]
    rules = [dict(place, chain="own", expr=[{"jump": {"target": "more"}}]), dict(place, chain="more", expr=own)]
    return json.dumps({"nftables": chains + [{"rule": rule} for rule in rules]})


@pytest.mark.parametrize(
    "table, hook, right, drops, agent",
    [
        ("filter", "output", "168.63.129.16", 1, 0),
        ("filter", "output", {"prefix": {"addr": "168.63.0.0", "len": 16}}, 1, 0),
        ("filter", "output", {"prefix": {"addr": "10.0.0.0", "len": 8}}, 0, 0),
        ("filter", "forward", "168.63.129.16", 0, 0),
        ("security", "output", "168.63.129.16", 0, 1),
        ("walinuxagent", "output", "168.63.129.16", 0, 1),
    ],
)
def test_nft_rules_that_count(table, hook, right, drops, agent):
    found = firewall.parse_nft(nft(table, hook, right))
    assert (len(found[1]), len(found[0])) == (drops, agent)


def test_a_hung_mount_is_not_touched_by_the_collector_itself(tmp_path):
    class Watched(Guest):
        def exists(self, area, path):
            raise AssertionError("looked at " + path)

    mount = {"device": "server:/x", "mount_point": "/mnt", "fs_type": "nfs4", "options": ["rw"]}
    assert mounts.filesystem(mount, None, Watched(str(tmp_path)))["responds"] is False


def test_a_private_fuse_mount_is_no_trouble(tmp_path):
    mount = {"device": "gvfsd-fuse", "mount_point": "/run/user/1000/gvfs", "fs_type": "fuse.gvfsd-fuse", "options": ["rw"]}
    denied = ["error", str(errno.EACCES)]
    assert mounts.filesystem(mount, denied, Guest(str(tmp_path)))["error"] is None
    assert mounts.filesystem(dict(mount, fs_type="nfs"), denied, Guest(str(tmp_path)))["error"] == "Permission denied"


def test_mount_points_beyond_ascii_are_asked(tmp_path):
    place = tmp_path / "donn\u00e9es"
    place.mkdir()
    script = (
        "from ansible_collections.vmbackup.azure.plugins.module_utils._linux import mounts; import sys; mounts._ask([(7, %a)], 1)"
        % str(place)
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=dict(os.environ, LC_ALL="C", PYTHONUTF8="0"), check=True
    )
    assert done.stdout.startswith(b"7 1 ")
    assert not mounts.measured({"mount_point": "/mnt/donn\ufffdes", "fs_type": "ext4"})
