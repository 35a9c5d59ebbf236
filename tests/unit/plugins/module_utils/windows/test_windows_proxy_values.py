# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is written for a proxy is what the collector reads, and the Azure host is always an exception."""

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils.windows.proxy import (
    bypasses,
    packed,
    parse_settings,
    registry_values,
    with_host,
)

HOST = ("168.63.129.16", "169.254.169.254")


@pytest.mark.parametrize("head, flags", [(0x28, 2), (0x46, 3)])
def test_packed_settings_are_read_back(head, flags):
    found = parse_settings(bytes(bytearray.fromhex(packed(head, "proxy.example.com:3128", "<local>;168.63.129.16"))))
    assert (found["flags"], found["proxy"], found["bypass"]) == (flags, "proxy.example.com:3128", "<local>;168.63.129.16")


@pytest.mark.parametrize("head", [0x28, 0x46])
def test_no_proxy_is_direct(head):
    found = parse_settings(bytes(bytearray.fromhex(packed(head, None, "<local>"))))
    assert (found["flags"], found["proxy"], found["bypass"]) == (1, None, None)


@pytest.mark.parametrize("text", [None, "", "<local>", "10.*;168.63.129.16", "168.63.*"])
def test_the_host_is_an_exception_once(text):
    found = with_host(text)
    assert all(bypasses(found, address) for address in HOST)
    assert with_host(found) == found
    assert found.count("168.63.") == 1


def names(values):
    return [(entry["key"].split("\\")[-1], entry["name"], entry["state"]) for entry in values]


def test_a_proxy_that_is_kept_gets_its_exceptions():
    proxies = [
        {"source": "the SYSTEM account", "name": "ProxyServer", "value": "http://p:1", "bypass": "<local>", "bypasses_host": False},
        {"source": "WinHTTP", "name": "WinHttpSettings", "value": "p:1", "bypass": "168.63.129.16;169.254.169.254", "bypasses_host": True},
        {
            "source": "the machine's environment",
            "name": "https_proxy",
            "value": "http://p:1",
            "bypass": "localhost",
            "bypasses_host": False,
        },
    ]
    values = registry_values(proxies, "bypass")
    assert [entry["data"] for entry in values if entry["name"] == "ProxyOverride"] == ["<local>;168.63.129.16;169.254.169.254"]
    assert [entry["data"] for entry in values if entry["name"] == "NO_PROXY"] == ["localhost,168.63.129.16,169.254.169.254"]
    assert "WinHttpSettings" not in [entry["name"] for entry in values], "it leaves the host out already"
    assert registry_values([dict(proxy, bypasses_host=True) for proxy in proxies], "bypass") == []


def test_a_proxy_is_set_and_removed_for_both():
    present = names(registry_values([], "present", "proxy.example.com:3128"))
    assert ("Internet Settings", "ProxyServer", "present") in present and ("Connections", "WinHttpSettings", "present") in present
    absent = names(registry_values([], "absent"))
    assert ("Internet Settings", "ProxyServer", "absent") in absent and ("Connections", "WinHttpSettings", "present") in absent


@pytest.mark.parametrize(
    "state, server, words",
    [
        ("gone", None, "present, absent or bypass"),
        ("present", None, "host:port"),
        ("present", "proxy.example.com", "host:port"),
        ("present", "user:secret@proxy:1", "host:port"),
    ],
)
def test_what_cannot_be_is_one_sentence(state, server, words):
    with pytest.raises(ValueError) as caught:
        registry_values([], state, server)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_masked_proxy_is_not_written_back():
    masked = {"source": "WinHTTP", "name": "WinHttpSettings", "value": "http://***@p:1", "bypass": None, "bypasses_host": False}
    with pytest.raises(ValueError) as caught:
        registry_values([masked], "bypass")
    assert "by hand" in str(caught.value)
