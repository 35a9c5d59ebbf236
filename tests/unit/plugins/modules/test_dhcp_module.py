# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, dhcp_text, probes, undo
from ansible_collections.vmbackup.azure.plugins.modules import dhcp
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run

IFUPDOWN = """auto eth0
iface eth0 inet static
    address 10.0.0.4/24
    gateway 10.0.0.1
    dns-nameservers 168.63.129.16
    up ip route add 10.9.0.0/16 via 10.0.0.2

iface eth0 inet static
    address 10.0.0.5/24
iface eth1 inet static
    address 10.1.0.4/24
    gateway 10.1.0.1
"""
PROFILE = "[connection]\nid=eth0\n\n[ipv4]\naddress1=10.0.0.4/24,10.0.0.1\naddress2=10.0.0.5/24\ndns=1.1.1.1;\nmethod=manual\n\n[ipv6]\nmethod=auto\n"
NETWORK = "[Match]\nName=eth0\n\n[Network]\nAddress=10.0.0.4/24\nAddress=10.0.0.5/24\nGateway=10.0.0.1\nDNS=1.1.1.1\n\n[Address]\nAddress=10.0.0.6/24\n"
IFCFG = 'DEVICE="eth0"\nBOOTPROTO=none\nIPADDR=10.0.0.4\nPREFIX=24\nGATEWAY=10.0.0.1\nONBOOT=yes\n'


def test_ifupdown():
    assert dhcp_text.interfaces(IFUPDOWN, "eth0", "10.0.0.4") == IFUPDOWN.replace(
        "iface eth0 inet static\n    address 10.0.0.4/24\n    gateway 10.0.0.1\n", "iface eth0 inet dhcp\n", 1
    )
    assert dhcp_text.interfaces(IFUPDOWN, "eth0", "10.0.0.9") is None and dhcp_text.interfaces(IFUPDOWN, "eth2", "10.0.0.4") is None


def test_the_others():
    assert dhcp_text.keyfile(PROFILE, "eth0", "10.0.0.4") == PROFILE.replace("address1=10.0.0.4/24,10.0.0.1\n", "").replace(
        "manual", "auto"
    )
    assert dhcp_text.network(NETWORK, "eth0", "10.0.0.4") == NETWORK.replace(
        "[Network]\nAddress=10.0.0.4/24\nAddress=10.0.0.5/24\nGateway=10.0.0.1\n", "[Network]\nDHCP=ipv4\nAddress=10.0.0.5/24\n"
    )
    own = NETWORK.replace("Address=10.0.0.4/24\n", "", 1)
    assert "[Address]" not in dhcp_text.network(own, "eth0", "10.0.0.6")
    assert dhcp_text.ifcfg(IFCFG, "eth0", "10.0.0.4") == 'DEVICE="eth0"\nBOOTPROTO=dhcp\nONBOOT=yes\n'
    assert dhcp_text.ifcfg("IPADDR='10.0.0.4'\n", "eth0", "10.0.0.4") == "BOOTPROTO=dhcp\n"
    for function, text in ((dhcp_text.keyfile, PROFILE), (dhcp_text.network, NETWORK), (dhcp_text.ifcfg, IFCFG)):
        assert function(text, "eth0", "10.0.0.99") is None
    assert dhcp_text.editor("/run/systemd/network/10-netplan-eth0.network") is None and dhcp_text.editor("/etc/netplan/50.yaml") is None


def test_what_a_network_file_does_for_ipv6_and_by_policy_stays():
    text = "[Match]\nMACAddress=00:0d:3a:00:00:01\n\n[Network]\nDHCP=ipv6\nAddress=10.0.0.4/24\nGateway=10.0.0.1\nGateway=fe80::1\n\n"
    text += "[Route]\nGateway=10.0.0.1\nTable=200\n\n[Route]\nGateway=10.0.0.1\n\n[Route]\nGateway=fe80::1\n"
    assert dhcp_text.network(text, "eth0", "10.0.0.4") == (
        "[Match]\nMACAddress=00:0d:3a:00:00:01\n\n[Network]\nDHCP=yes\nGateway=fe80::1\n\n"
        "[Route]\nGateway=10.0.0.1\nTable=200\n\n[Route]\nGateway=fe80::1\n"
    )


def test_a_network_file_that_is_matched_by_its_hardware_address_is_read_back():
    text = dhcp_text.network("[Match]\nMACAddress=00:0d:3a:00:00:01\n[Network]\nAddress=10.0.0.4/24\n", "eth0", "10.0.0.4")
    assert dhcp.uses_dhcp("/etc/systemd/network/10-eth0.network", text, "eth0")


def test_name_servers_that_the_client_will_replace_are_named(monkeypatch, tmp_path):
    resolv = tmp_path / "resolv.conf"
    monkeypatch.setattr(dhcp, "RESOLV", str(resolv))
    assert dhcp.notes_of("/etc/network/interfaces") == []
    resolv.write_text("nameserver 168.63.129.16\n")
    assert dhcp.notes_of("/etc/network/interfaces") == [], "what Azure's DHCP gives where the virtual network names none"
    resolv.write_text("# ours\nnameserver 168.63.129.16\nnameserver 10.9.9.9\nnameserver 10.9.9.8\n")
    assert "names 10.9.9.9, 10.9.9.8; when the guest starts the next time" in dhcp.notes_of("/etc/network/interfaces")[0]
    assert dhcp.notes_of("/etc/NetworkManager/system-connections/a") == []
    resolv.rename(tmp_path / "managed")
    resolv.symlink_to(tmp_path / "managed")
    assert dhcp.notes_of("/etc/network/interfaces") == [], "another program writes it"


@pytest.fixture
def guest(monkeypatch, tmp_path):
    path = tmp_path / "interfaces"
    path.write_text(IFUPDOWN)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(undo, "TRUSTED_UID", os.getuid())
    monkeypatch.setattr(change, "snapshot_runs", lambda module: False)
    monkeypatch.setattr(dhcp_text, "editor", lambda path: dhcp_text.interfaces)
    monkeypatch.setattr(dhcp, "uses_dhcp", lambda path, text, interface: "inet dhcp" in text)

    def call(check_mode=False, **params):
        base = {
            "interface": "eth0",
            "path": str(path),
            "address": "10.0.0.4",
            "undo": "snapshot.dhcp",
            "store": str(tmp_path / "base" / "undo"),
        }
        return run(monkeypatch, dhcp, dict(base, **params), check_mode, lambda words: (0, "", ""))

    call.path = path
    return call


def test_the_file_is_changed_once_and_kept_for_undo(guest):
    assert guest(check_mode=True)["changed"] and guest.path.read_text() == IFUPDOWN
    done = guest()
    assert done["changed"] and done["undo_point"] and "iface eth0 inet dhcp" in guest.path.read_text()
    assert not guest()["changed"]


def test_another_address_than_was_seen_is_refused(guest):
    assert "does not give eth0 the address 10.0.0.9 by hand" in guest(address="10.0.0.9")["msg"] and guest.path.read_text() == IFUPDOWN


def test_the_addresses_that_azure_gives_a_card():
    body = b'{"interface": [{"macAddress": "000D3A940001", "ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4"}, {"privateIpAddress": "10.0.0.5"}]}}]}'
    assert probes.parse_imds_network(body, "00:0d:3a:94:00:01") == ["10.0.0.4", "10.0.0.5"]
    assert probes.parse_imds_network(body, "00:0d:3a:94:00:02") is None and probes.parse_imds_network(body, None) is None
    assert probes.parse_imds_network(b"x", "00:0d:3a:94:00:01") is None and probes.parse_imds_network(None, "a") is None


@pytest.mark.parametrize(
    "former, written",
    [
        ("ipv4", "ipv4"),
        ("no", "ipv4"),
        ("No", "ipv4"),
        ("false", "ipv4"),
        ("off", "ipv4"),
        ("0", "ipv4"),
        ("ipv6", "yes"),
        ("Yes", "yes"),
        ("1", "yes"),
    ],
)
def test_what_dhcp_does_for_ipv6_stays(former, written):
    text = "[Match]\nName=eth0\n[Network]\nDHCP={0}\nAddress=10.0.0.4/24\n[Route]\nGateway=_ipv6ra\nMetric=5\n"
    changed = dhcp_text.network(text.format(former), "eth0", "10.0.0.4")
    assert "DHCP={0}\n".format(written) in changed and "Gateway=_ipv6ra" in changed and "10.0.0.4" not in changed
