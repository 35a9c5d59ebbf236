# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Routes, firewall, proxy and DHCP of Linux guests: repaired, a second run changes nothing, looked at by another way, undone."""

from conftest import findings, host_of
from test_lab_routes import restart, until

CONSENT = ["-e", "vmbackup_allow_routes=true", "-e", "vmbackup_allow_firewall=true", "-e", "vmbackup_allow_proxy=true"]
CONSENT += ["-e", "vmbackup_allow_dhcp=true", "-e", "connectivity_confirm_s=60", "-e", "vmbackup_serial=100%"]
PLAN = {
    "f09": "route_wireserver_blackhole",
    "f10": "wireserver_blocked",
    "f11": "proxy_no_bypass",
    "f13": "static_address",
    "f14": "firewall_root_accept_lost",
    "np1": "route_wireserver_blackhole",
}
# What the repairs may change on any of these guests.
STATE = "ip -4 route show 168.63.129.16; iptables-save | grep '^-A'; cat /etc/network/interfaces; ls /etc/network/if-up.d; "
STATE += "ls /etc/systemd/system/*.d /etc/systemd/system | grep -v '^$'; ls -R /etc/systemd/network; cat /etc/netplan/* 2>/dev/null || true"
KEPT = "ls -A /var/lib/vmbackup_azure 2>/dev/null || true"


def states(lab, plan, script=STATE):
    return {guest: lab.shell(guest, script) for guest in plan}


def environment(lab, guest):
    """Return the variables of the agent that runs."""
    text = lab.shell(guest, "tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value walinuxagent.service)/environ")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def look(lab):
    """Look at the repaired guests by another way than the repairs did."""
    for guest in ("f09", "np1"):
        assert lab.shell(guest, "ip -4 route show 168.63.129.16").startswith("168.63.129.16 via 10.94.0.2 dev eth0 proto static")
    for guest in ("f09", "f10", "f14", "np1"):
        lab.shell(guest, "bash -c 'exec 3<>/dev/tcp/168.63.129.16/80'")
    found = environment(lab, "f11")
    assert found["no_proxy"] == "168.63.129.16,169.254.169.254" == found["NO_PROXY"]
    assert found["http_proxy"].endswith(":3128"), "the proxy itself stays"
    assert "iface eth0 inet dhcp" in lab.shell("f13", "cat /etc/network/interfaces")
    assert "guard" not in lab.shell("f09", "ls /etc/systemd/system"), "the guard is gone after the confirmation"


def test_what_is_repaired_in_the_network_by_consent_is_kept_across_a_restart_and_undone(lab, tmp_path):
    guests = sorted(PLAN)
    lab.plant(PLAN)
    address = lab.shell("f13", "ip -4 -o address show eth0 | awk '{print $4}'")
    before = states(lab, PLAN)
    report = lab.playbook("vmbackup.azure.remediate", guests, tmp_path / "without")[2]
    for guest in guests:
        host = host_of(report, guest)
        assert host["actions"] == [] and "vmbackup_allow_" in str(host["findings"]), host
    output = lab.playbook("vmbackup.azure.remediate", guests, tmp_path / "check", "--check", "--diff", *CONSENT)[1]
    assert "-168.63.129.16/32: blackhole" in output, output[-4000:]
    assert states(lab, PLAN) == before and states(lab, PLAN, KEPT) == dict.fromkeys(PLAN, "")

    code, output, report = lab.playbook("vmbackup.azure.remediate", guests, tmp_path / "real", *CONSENT)
    assert {guest: host_of(report, guest)["status"] for guest in guests} == dict.fromkeys(guests, "repaired"), output[-6000:]
    assert code == 0 and all(host_of(report, guest)["actions"][0]["undo_point"] for guest in guests)
    assert "route_wireserver_missing" in findings(report, "f09") and "firewall_blocks_host" in findings(report, "f14")
    look(lab)
    code, output, report = lab.playbook("vmbackup.azure.remediate", guests, tmp_path / "again", *CONSENT)
    assert code == 0 and output.count("changed=0") == len(guests), output[-3000:]
    assert {guest: host_of(report, guest)["status"] for guest in guests} == dict.fromkeys(guests, "healthy")

    stay = [guest for guest in guests if guest not in ("f10", "f14")]  # what blocked them is gone with a restart, and so is the repair
    restart(lab, *stay)
    for guest in ("f09", "np1"):
        until(lambda: "proto static" in lab.shell(guest, "ip -4 route show 168.63.129.16"), 30)  # noqa: B023
    assert lab.shell("f13", "ip -4 -o address show eth0 | awk '{print $4}'") == address
    assert "unknown-245 a8:3f:81:10" in lab.shell("f13", "cat /var/lib/dhcp/dhclient.eth0.leases")
    lab("wait-ready", *stay)
    report = lab.playbook("vmbackup.azure.diagnose", guests, tmp_path / "restarted")[2]
    assert {guest: host_of(report, guest)["status"] for guest in guests} == dict.fromkeys(guests, "healthy"), report
    code, output, _report = lab.playbook("vmbackup.azure.undo", guests, tmp_path / "undo")
    assert code == 0, output[-3000:]
    after = states(lab, PLAN)
    # The guest whose network came up with DHCP keeps what DHCP gave it until its next start.
    after["f13"] = "".join(line for line in after["f13"].splitlines(True) if not line.startswith("168.63.129.16 via"))
    assert after == before
    assert "no_proxy" not in environment(lab, "f11") and "http_proxy" in environment(lab, "f11")


def undone(lab, guest, directory):
    code, output, _report = lab.playbook("vmbackup.azure.undo", [guest], directory / "undo")
    assert code == 0, output[-3000:]


def test_a_proxy_that_does_not_answer_is_removed_by_the_operators_choice(lab, tmp_path):
    lab.plant({"f12": "proxy_conf"})
    before = lab.shell("f12", "cat /etc/waagent.conf")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f12"], tmp_path / "kept", *CONSENT)
    assert lab.shell("f12", "cat /etc/waagent.conf") == before and "connectivity_proxy_state" in str(host_of(report, "f12")), output[-3000:]
    code, output, report = lab.playbook(
        "vmbackup.azure.remediate", ["f12"], tmp_path / "real", *CONSENT + ["-e", "connectivity_proxy_state=absent"]
    )
    assert code == 0 and host_of(report, "f12")["status"] == "repaired", output[-4000:]
    assert "HttpProxy.Host = None" in lab.shell("f12", "waagent --show-configuration")
    undone(lab, "f12", tmp_path)
    assert lab.shell("f12", "cat /etc/waagent.conf") == before


RULE = "ip rule add pref 50 to 168.63.129.16 {0}"
TUNNEL = "ip link add tun0 type veth peer name tun1; ip link set tun1 up; ip link set tun0 up; ip address add 10.8.0.2/32 dev tun0; "
TUNNEL += "ip route add default dev tun0 table 100; "


def test_a_policy_rule_is_named_and_no_route_is_added_that_would_not_help(lab, tmp_path):
    lab("reset", "f09")
    lab("wait-ready", "f09")
    before = lab.shell("f09", "ip route")
    for script, id_, words in (
        (RULE.format("prohibit"), "route_wireserver_missing", "a policy rule or the table that it names says prohibit"),
        (
            "ip rule del pref 50; " + TUNNEL + RULE.format("lookup 100"),
            "route_wireserver_not_primary",
            "routed by a policy rule from 10.8.0.2",
        ),
    ):
        lab.shell("f09", script)
        report = lab.playbook("vmbackup.azure.remediate", ["f09"], tmp_path, *CONSENT)[2]
        assert words in str(findings(report, "f09").get(id_)), findings(report, "f09")
        assert host_of(report, "f09")["status"] not in ("repaired", "healthy") and lab.shell("f09", "ip route") == before


NFT = """
nft -f - <<'END'
table inet site {
    chain out {
        type filter hook output priority 0; policy accept;
        ip daddr 168.63.129.16 tcp dport { 80, 32526 } drop
    }
}
END
"""


def test_a_chain_of_nft_is_passed_by_a_rule_of_nft(lab, tmp_path):
    lab("reset", "nm1")
    lab("wait-ready", "nm1")
    lab.shell("nm1", NFT)
    before = lab.shell("nm1", "nft list table inet site")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["nm1"], tmp_path / "real", *CONSENT)
    assert code == 0 and host_of(report, "nm1")["status"] == "repaired", output[-4000:]
    assert "firewall_blocks_host" in findings(report, "nm1")
    assert "skuid 0 accept" in lab.shell("nm1", "nft list chain inet site out").replace('"root"', "0")
    lab.shell("nm1", "bash -c 'exec 3<>/dev/tcp/168.63.129.16/80'")
    undone(lab, "nm1", tmp_path)
    assert lab.shell("nm1", "nft list table inet site") == before


FIREWALLD = """
systemctl enable --now firewalld
firewall-cmd --permanent --direct --add-rule ipv4 filter OUTPUT 0 -d 168.63.129.16 -p tcp -j DROP
firewall-cmd --reload
"""
PASSES = "timeout 5 bash -c 'exec 3<>/dev/tcp/168.63.129.16/80'"


def test_a_direct_rule_of_firewalld_is_passed_by_one_that_a_reload_keeps(lab, tmp_path):
    lab("reset", "nm1")
    lab("wait-ready", "nm1")
    lab.shell("nm1", FIREWALLD)
    before = lab.shell("nm1", "cat /etc/firewalld/direct.xml")
    assert "blocked" in lab.shell("nm1", PASSES + " || echo blocked")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["nm1"], tmp_path / "real", *CONSENT)
    assert code == 0 and host_of(report, "nm1")["status"] == "repaired", output[-4000:]
    assert "firewall_blocks_host" in findings(report, "nm1")
    for command in ("true", "firewall-cmd --reload", "systemctl restart firewalld"):
        lab.shell("nm1", command)
        lab.shell("nm1", PASSES)
    restart(lab, "nm1")
    until(lambda: lab.shell("nm1", "firewall-cmd --state 2>/dev/null || true").strip() == "running", 30)
    assert "DROP" in lab.shell("nm1", "firewall-cmd --direct --get-all-rules")
    lab.shell("nm1", PASSES)
    output = lab.playbook("vmbackup.azure.remediate", ["nm1"], tmp_path / "again", *CONSENT)[1]
    assert "changed=0" in output, output[-3000:]
    undone(lab, "nm1", tmp_path)
    assert lab.shell("nm1", "cat /etc/firewalld/direct.xml") == before
    lab.shell("nm1", "firewall-cmd --reload")
    assert "blocked" in lab.shell("nm1", PASSES + " || echo blocked")


# Debian's squid, by what it does with everybody: a real proxy on the guest nm1.
SQUID = """
cat >/run/squid.conf <<'END'
http_port 3128
cache_mem 8 MB
pid_filename /run/squid-lab.pid
cache_log /dev/null
access_log none
auth_param basic program /usr/lib/squid/basic_fake_auth
acl known proxy_auth REQUIRED
http_access {0}
http_access deny all
END
[ ! -e /run/squid-lab.pid ] || kill $(cat /run/squid-lab.pid); sleep 1; rm -f /run/squid-lab.pid
squid -f /run/squid.conf
for _try in $(seq 20); do bash -c 'exec 3<>/dev/tcp/127.0.0.1/3128' 2>/dev/null && exit 0; sleep 0.5; done; exit 1
"""


def test_a_real_proxy_that_refuses_or_asks_for_a_password_is_found(lab, tmp_path):
    for guest in ("nm1", "f12"):
        lab("reset", guest)
        lab("wait-ready", guest)
    lab.shell("nm1", SQUID.format("allow all"))
    proxy = "sed -i '/^HttpProxy/d' /etc/waagent.conf; printf 'HttpProxy.Host=10.94.0.19\\nHttpProxy.Port=3128\\n' >>/etc/waagent.conf"
    lab.shell("f12", proxy + "; systemctl restart walinuxagent")
    for rule, words in (("allow all", None), ("deny all", "refuses to connect to"), ("allow known", "asks for user name and password")):
        lab.shell("nm1", SQUID.format(rule))
        output, report = lab.playbook("vmbackup.azure.diagnose", ["f12"], tmp_path)[1:]
        found = findings(report, "f12")
        assert list(found) == (["proxy_unreachable"] if words else []), (rule, output)
        assert words is None or words in found["proxy_unreachable"][0], found
