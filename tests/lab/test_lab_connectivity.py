# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Firewall and proxy of Linux guests: repaired, a second run changes nothing, looked at by another way, undone."""

import pytest
from conftest import findings, host_of
from test_lab_routes import restart

RULES = "iptables -S OUTPUT"
CONSENT = ["-e", "vmbackup_allow_firewall=true", "-e", "vmbackup_allow_proxy=true"]


def repaired(lab, guest, directory, *arguments):
    """Repair a guest in check mode, for real and once more; return the report of the real run."""
    before = lab.shell(guest, RULES + "; ls -A /var/lib/vmbackup_azure 2>/dev/null || true")
    output = lab.playbook("vmbackup.azure.remediate", [guest], directory / "check", "--check", "--diff", *arguments)[1]
    assert lab.shell(guest, RULES + "; ls -A /var/lib/vmbackup_azure 2>/dev/null || true") == before, output[-3000:]
    code, output, report = lab.playbook("vmbackup.azure.remediate", [guest], directory / "real", *arguments)
    assert code == 0 and host_of(report, guest)["status"] == "repaired", output[-4000:]
    code, output, again = lab.playbook("vmbackup.azure.remediate", [guest], directory / "again", *arguments)
    assert code == 0 and "changed=0" in output and host_of(again, guest)["status"] == "healthy", output[-3000:]
    return report


def undone(lab, guest, directory):
    code, output, _report = lab.playbook("vmbackup.azure.undo", [guest], directory / "undo")
    assert code == 0, output[-3000:]


@pytest.mark.parametrize("fault", ["wireserver_blocked", "firewall_root_accept_lost"])
def test_root_reaches_the_azure_host_past_a_rule_that_blocks_it(lab, tmp_path, fault):
    lab.plant({"f10": fault})
    rules = lab.shell("f10", "iptables-save | grep '^-A'")
    report = repaired(lab, "f10", tmp_path, *CONSENT)
    assert "firewall_blocks_host" in findings(report, "f10")
    lab.shell("f10", "bash -c 'exec 3<>/dev/tcp/168.63.129.16/80'")
    undone(lab, "f10", tmp_path)
    now = lab.shell("f10", "iptables-save | grep '^-A'")
    assert now == rules


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


def environment(lab, guest):
    """Return the variables of the agent that runs."""
    text = lab.shell(guest, "tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value walinuxagent.service)/environ")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_the_azure_host_is_excluded_from_the_proxy_of_the_agents_service(lab, tmp_path):
    lab.plant({"f11": "proxy_no_bypass"})
    assert "no_proxy" not in environment(lab, "f11")
    report = repaired(lab, "f11", tmp_path, *CONSENT)
    assert list(findings(report, "f11")) == ["proxy_without_bypass"]
    assert environment(lab, "f11")["no_proxy"] == "168.63.129.16,169.254.169.254" == environment(lab, "f11")["NO_PROXY"]
    assert environment(lab, "f11")["http_proxy"].endswith(":3128"), "the proxy itself stays"
    undone(lab, "f11", tmp_path)
    assert "no_proxy" not in environment(lab, "f11") and "http_proxy" in environment(lab, "f11")


def test_a_proxy_that_does_not_answer_is_removed_by_the_operators_choice(lab, tmp_path):
    lab.plant({"f12": "proxy_conf"})
    before = lab.shell("f12", "cat /etc/waagent.conf")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f12"], tmp_path / "kept", *CONSENT)
    assert lab.shell("f12", "cat /etc/waagent.conf") == before and "connectivity_proxy_state" in str(host_of(report, "f12")), output[-3000:]
    repaired(lab, "f12", tmp_path, *CONSENT + ["-e", "connectivity_proxy_state=absent"])
    assert "HttpProxy.Host = None" in lab.shell("f12", "waagent --show-configuration")
    undone(lab, "f12", tmp_path)
    assert lab.shell("f12", "cat /etc/waagent.conf") == before


def test_dhcp_is_configured_and_asked_at_the_next_start(lab, tmp_path):
    lab.plant({"f13": "static_address"})
    address = lab.shell("f13", "ip -4 -o address show eth0 | awk '{print $4}'").strip()
    consent = ["-e", "vmbackup_allow_dhcp=true"]
    report = repaired(lab, "f13", tmp_path, *consent)
    assert list(findings(report, "f13")) == ["dhcp_static_address"]
    restart(lab, "f13")
    assert lab.shell("f13", "ip -4 -o address show eth0 | awk '{print $4}'").strip() == address
    assert "unknown-245 a8:3f:81:10" in lab.shell("f13", "cat /var/lib/dhcp/dhclient.eth0.leases")
    undone(lab, "f13", tmp_path)
    assert "iface eth0 inet static" in lab.shell("f13", "cat /etc/network/interfaces")


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


@pytest.mark.parametrize(
    "rule, words", [("deny all", "refuses to connect to"), ("allow known", "asks for user name and password"), ("allow all", None)]
)
def test_a_real_proxy_that_refuses_or_asks_for_a_password_is_found(lab, tmp_path, rule, words):
    lab("up", "nm1", "f12")
    lab.shell("nm1", SQUID.format(rule))
    lab.shell(
        "f12", "sed -i 's/^HttpProxy.Host=.*/HttpProxy.Host=10.94.0.19/; s/^HttpProxy.Port=.*/HttpProxy.Port=3128/' /etc/waagent.conf"
    )
    output, report = lab.playbook("vmbackup.azure.diagnose", ["f12"], tmp_path)[1:]
    found = findings(report, "f12")
    assert list(found) == (["proxy_unreachable"] if words else []), output
    assert words is None or words in found["proxy_unreachable"][0], found
