# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import dhcp
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "waagent")
NOW = epoch("2026-01-31T00:00:00Z")
LEASE = 'lease {{\n  interface "eth0";\n  fixed-address 10.0.1.4;\n  option {0};\n  expire {1};\n}}\n'


def fixture(name, mode="r"):
    with open(os.path.join(FIXTURES, name), mode) as stream:
        return stream.read()


def test_parse_leases_takes_the_newest_that_is_not_expired():
    lease = dhcp.parse_leases(fixture("dhcp.leases"), "eth0", NOW)
    assert lease == {"address": "10.0.1.4", "server": "168.63.129.16", "option_245": "168.63.129.16"}


def test_parse_leases_of_another_interface():
    assert dhcp.parse_leases(fixture("dhcp.leases"), "eth1", NOW) is None


@pytest.mark.parametrize(
    "expire, valid",
    [
        ("never", True),
        ("0 2152/07/23 23:27:10", True),
        ("4 2015/06/16 16:58:54", False),
        ("epoch 99999999999", True),
        ("epoch 1000", False),
        ("6 2026/01/31 00:00:00", True),  # the limit: it ends at this very second
        ("5 2026/01/30 23:59:59", False),
        ("6 2026/01/31 00:00:01 UTC", True),
        ("nonsense", False),
        ("6 2026/13/45 99:00:00", False),
    ],
)
def test_parse_leases_expiry(expire, valid):
    assert bool(dhcp.parse_leases(LEASE.format("routers 10.0.1.1", expire), "eth0", NOW)) is valid


@pytest.mark.parametrize(
    "option, address",
    [
        ("unknown-245 a8:3f:81:10", "168.63.129.16"),
        ("unknown-245 a8:3f:81:1", "168.63.129.1"),
        ('unknown-245 "AB\\"D"', "65.66.34.68"),
        ('unknown-245 "\\250?\\201\\020"', "168.63.129.16"),
        ("option-245 a8:3f:81:10", "168.63.129.16"),
        ("unknown-245 a8:3f", None),
        ("unknown-245 zz:3f:81:10", None),
        ("routers 10.0.1.1", None),
    ],
)
def test_parse_leases_option_245(option, address):
    assert dhcp.parse_leases(LEASE.format(option, "never"), "eth0", NOW)["option_245"] == address


def test_parse_packet_of_a_real_answer():
    assert dhcp.parse_packet(fixture("dhcp-ack.bin", "rb"))["option_245"] == "10.62.144.140"


@pytest.mark.parametrize("raw", [b"", b"x" * 500, None, b"\0" * 236 + b"\x63\x82\x53\x63" + b"\xf5\x04\xa8"])
def test_parse_packet_of_no_packet(raw):
    assert (dhcp.parse_packet(raw) or {}).get("option_245") is None


def test_parse_networkd_lease():
    text = "# private\nADDRESS=10.0.0.4\nSERVER_ADDRESS=168.63.129.16\nOPTION_245=a83f8110\n"
    assert dhcp.parse_networkd_lease(text) == {"address": "10.0.0.4", "server": "168.63.129.16", "option_245": "168.63.129.16"}
    assert dhcp.parse_networkd_lease(text.replace("a83f8110", "a83f8"))["option_245"] is None
    assert dhcp.parse_networkd_lease(None) is None


def test_parse_nmcli():
    text = "DHCP4.OPTION[1]:ip_address = 10.0.0.4\nDHCP4.OPTION[2]:private_245 = a8:3f:81:10\n"
    assert dhcp.parse_nmcli(text)["option_245"] == "168.63.129.16"
    assert dhcp.parse_nmcli("") is None


@pytest.mark.parametrize(
    "text, expected",
    [
        ("auto eth0\niface eth0 inet dhcp\n", "dhcp"),
        ("iface eth0 inet static\n  address 10.0.0.4/24\n", "static"),
        ("iface eth0 inet6 auto\n", None),
        ("iface eth0 \\\n inet dhcp\n", "dhcp"),
        ("", None),
    ],
)
def test_parse_interfaces(text, expected):
    assert dhcp.parse_interfaces(text, "eth0")[0] == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[Match]\nName=eth*\n[Network]\nDHCP=ipv4\n", (True, "dhcp")),
        ("[Match]\nMACAddress=00:0D:3A:33:82:E8\n[Network]\nDHCP=yes\n", (True, "dhcp")),
        ("[Match]\nName=eth0\n[Network]\nAddress=10.0.0.4/24\n", (True, "static")),
        ("[Match]\nName=eth0\n[Network]\nDHCP=no\n[Address]\nAddress=10.0.0.4/24\n", (True, "static")),
        ("[Match]\nName=en*\n[Network]\nDHCP=yes\n", (False, None)),
        ("[Network]\nDHCP=yes\n", (False, None)),
    ],
)
def test_networkd_method(text, expected):
    assert dhcp.networkd_method(dhcp.parse_sections(text), "eth0", "00:0d:3a:33:82:e8") == expected


@pytest.mark.parametrize(
    "text, expected",
    [("BOOTPROTO='dhcp'", "dhcp"), ('BOOTPROTO="DHCP"', "dhcp"), ("BOOTPROTO=dhcp4", "dhcp"), ("BOOTPROTO=none", "static"),
     ("IPADDR=10.0.0.4", "static"), ("#BOOTPROTO=dhcp", None), ("", None)],
)  # fmt: skip
def test_ifcfg_method(text, expected):
    assert dhcp.ifcfg_method(text) == expected


@pytest.mark.parametrize("order", [("dhcp", "static"), ("static", "dhcp")])
def test_secondary_addresses_beside_dhcp_are_no_static_setup(order):
    text = "auto eth0\n" + "".join("iface eth0 inet {0}\n".format(method) for method in order)
    assert dhcp.parse_interfaces(text, "eth0")[0] == "dhcp"


MAC = "00:0d:3a:33:82:e8"


@pytest.mark.parametrize(
    "match, expected",
    [
        ("PermanentMACAddress=00:0d:3a:33:82:e8", True),
        ("PermanentMACAddress=00:0d:3a:00:00:01", False),
        ("MACAddress=00-0d-3a-33-82-e8 00:0d:3a:00:00:01", True),
        ("MACAddress=!00:0d:3a:33:82:e8", False),
        ("Driver=hv_netvsc\nName=eth*", True),
        ("Driver=mlx5_core", False),
        ("Driver=!mlx5_core mlx4_core", True),
        ("Name=!lo docker*", True),
        ("Name=en*\nName=eth*", True),
        ("Name=en*\nName=", True),
        ("Name=eth[0-9]", None),
        ("Type=ether\nName=eth0", True),
        ("Type=wlan", False),
        ("Type=ether\nKind=!*", None),
        ("Virtualization=container", None),
        ("Virtualization=container\nName=en*", False),
    ],
)
def test_what_a_network_file_matches_an_interface_by(match, expected):
    sections = dhcp.parse_sections("[Match]\n" + match + "\n[Network]\nAddress=10.0.0.4/24\n")
    assert dhcp.networkd_method(sections, "eth0", MAC, "hv_netvsc") == (expected, "static" if expected else None)


STATIC, DYNAMIC = "[Match]\nName=eth0\n[Network]\nAddress=10.0.0.4/24\n", "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\n"
OTHER = "[Match]\nPermanentMACAddress=00:0d:3a:00:00:01\n[Network]\nAddress=10.0.1.4/24\n"
UNKNOWN = "[Match]\nKernelVersion=>5\n[Network]\nAddress=10.0.0.4/24\n"


def guest_with(tmp_path, files):
    for path, text in files.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return Guest(root=str(tmp_path))


@pytest.mark.parametrize(
    "files, expected",
    [
        # netplan names its file for the second card first, and matches it by its permanent address.
        ({"run/systemd/network/10-netplan-a.network": OTHER, "run/systemd/network/10-netplan-eth0.network": DYNAMIC},
         ("dhcp", "/run/systemd/network/10-netplan-eth0.network")),
        ({"run/systemd/network/10-netplan-eth0.network": DYNAMIC, "etc/systemd/network/05-own.network": STATIC},
         ("static", "/etc/systemd/network/05-own.network")),
        ({"run/systemd/network/10-a.network": STATIC, "etc/systemd/network/10-a.network": DYNAMIC}, ("dhcp", "/etc/systemd/network/10-a.network")),
        ({"etc/systemd/network/10-a.network": STATIC, "etc/systemd/network/10-a.network.d/dhcp.conf": "[Network]\nDHCP=yes\n"},
         ("dhcp", "/etc/systemd/network/10-a.network")),
        ({"etc/systemd/network/10-a.network": UNKNOWN, "etc/systemd/network/20-b.network": STATIC}, (None, "/etc/systemd/network/10-a.network")),
        ({"etc/systemd/network/10-a.network": STATIC.replace("eth0", "en*")}, (None, None)),
    ],
)  # fmt: skip
def test_the_file_that_networkd_takes(tmp_path, files, expected):
    assert dhcp.method(guest_with(tmp_path, files), "eth0", MAC, {"systemd-networkd"}) == expected


def test_the_driver_is_the_one_that_the_kernel_names(tmp_path):
    file = {"etc/systemd/network/10-a.network": "[Match]\nDriver=hv_netvsc\n[Network]\nDHCP=yes\n"}
    assert dhcp.method(guest_with(tmp_path, file), "eth0", MAC, {"systemd-networkd"})[0] is None
    file["sys/class/net/eth0/device/uevent"] = "DRIVER=hv_netvsc\nMODALIAS=vmbus:f8615163\n"
    assert dhcp.method(guest_with(tmp_path, file), "eth0", MAC, {"systemd-networkd"})[0] == "dhcp"


PROFILE = "[connection]\n{0}\n[ipv4]\nmethod=manual\naddress1=10.0.0.4/24\n"


@pytest.mark.parametrize(
    "connection, more, running, expected",
    [
        ("type=ethernet\ninterface-name=eth0", "", {"NetworkManager"}, "static"),
        ("type=ethernet", "[ethernet]\nmac-address=00:0D:3A:33:82:E8\n", {"NetworkManager"}, "static"),
        ("type=ethernet", "[ethernet]\nmac-address=00:0D:3A:00:00:01\n", {"NetworkManager"}, None),
        ("type=ethernet\ninterface-name=eth0\nautoconnect=false", "", {"NetworkManager"}, None),
        ("type=vpn", "", {"NetworkManager"}, None),
        ("type=ethernet\ninterface-name=eth0", "", {"systemd-networkd"}, None),
    ],
)
def test_the_profile_that_network_manager_takes(tmp_path, connection, more, running, expected):
    files = {"etc/NetworkManager/system-connections/a.nmconnection": PROFILE.format(connection) + more}
    assert dhcp.method(guest_with(tmp_path, files), "eth0", MAC, running)[0] == expected
