# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is written for a proxy is what the collector reads, and the Azure host is always an exception."""

import base64
import json
import struct

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import MASK
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.proxy import (
    ENVIRONMENT,
    MACHINE,
    POLICY,
    SYSTEM_ACCOUNT,
    bypasses,
    collect,
    packed,
    parse_settings,
    registry_values,
    with_bypass,
    with_host,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import Raw

HOST = ("168.63.129.16", "169.254.169.254")
BOTH = ";".join(HOST)


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


@pytest.mark.parametrize("text", ["<local>;a b;c,d", "x\u00a0y;z", ";;a; "])
def test_exceptions_that_are_there_stay_as_they_are(text):
    assert with_host(text) == text.strip("; ") + ";" + BOTH


def names(values):
    return [(entry["key"].split("\\")[-1], entry["name"], entry["state"]) for entry in values]


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
    assert words in str(caught.value) and "\n" not in str(caught.value) and "secret" not in str(caught.value)


def settings(flags, *texts, **more):
    packed_texts = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack("<3I", more.get("head", 0x46), 9, flags) + packed_texts + more.get("rest", b"")


def binary(data):
    return ["Binary", base64.b64encode(data).decode("ascii")]


def found_in(netsh=None, files=None, **keys):
    """Return the facts of a guest whose registry holds values: of the SYSTEM account, the machine, the environment, their connections."""
    paths = {"system": SYSTEM_ACCOUNT, "machine": MACHINE, "policy": POLICY, "environment": ENVIRONMENT}
    paths.update(system_packed=SYSTEM_ACCOUNT + "\\Connections", machine_packed=MACHINE + "\\Connections")
    registry = {paths[name]: {"values": values, "subkeys": []} for name, values in keys.items()}
    return collect(Raw({"registry": registry, "machine_config": files or {}}), netsh)


def texts(server, bypass=None, kind="String"):
    found = {"ProxyEnable": ["DWord", 1], "ProxyServer": ["String", server]}
    return dict(found, ProxyOverride=[kind, bypass]) if bypass is not None else found


def written(proxies):
    """Return {(key, name): (type, data)} of what is written, each of them once, as win_registry asks for."""
    values = registry_values(proxies, "bypass")
    found = {(entry["key"], entry["name"]): (entry["type"], entry["data"]) for entry in values}
    assert len(found) == len(values) and all(entry["state"] == "present" for entry in values)
    return found


def test_a_proxy_that_is_kept_gets_its_exceptions_and_nothing_else():
    proxies = found_in(
        system=texts("http://p:1", "<local>"),
        machine_packed={"WinHttpSettings": binary(settings(3, b"p:1", BOTH.encode(), head=0x28))},
        environment={"HTTPS_PROXY": ["String", "http://p:1"], "http_proxy": ["String", "http://p:1"], "NO_PROXY": ["String", "localhost"]},
    )
    assert written(proxies) == {
        (SYSTEM_ACCOUNT, "ProxyOverride"): ("string", "<local>;" + BOTH),
        (ENVIRONMENT, "NO_PROXY"): ("string", "localhost," + ",".join(HOST)),
    }
    assert not any("by_hand" in proxy for proxy in proxies)
    assert registry_values([dict(proxy, bypasses_host=True) for proxy in proxies], "bypass") == []


def test_what_was_seen_is_expected_of_what_is_written():
    data = settings(3, b"p:1", b"a.example", head=0x28)
    proxies = found_in(
        system=texts("http://p:1", "<local>"),
        machine_packed={"WinHttpSettings": binary(data)},
        environment={"HTTPS_PROXY": ["String", "http://p:1"]},
    )
    found = {(entry["key"], entry["name"]): entry.get("expect", "not compared") for entry in registry_values(proxies, "bypass")}
    assert found == {
        (SYSTEM_ACCOUNT, "ProxyOverride"): {"type": "string", "data": "<local>"},
        (MACHINE + "\\Connections", "WinHttpSettings"): {"type": "binary", "data": data.hex()},
        (ENVIRONMENT, "NO_PROXY"): None,
    }
    # Its blanks are not in the facts, so it cannot be compared.
    assert "expect" not in registry_values(found_in(system=texts("p:1", "a;  b")), "bypass")[0]


def test_exceptions_keep_their_type():
    proxies = found_in(
        system=texts("p:1", "%HOST%", kind="ExpandString"),
        environment={"ALL_PROXY": ["String", "p:1"], "no_proxy": ["ExpandString", "%USERDNSDOMAIN%"]},
    )
    assert written(proxies) == {
        (SYSTEM_ACCOUNT, "ProxyOverride"): ("expandstring", "%HOST%;" + BOTH),
        (ENVIRONMENT, "NO_PROXY"): ("expandstring", "%USERDNSDOMAIN%," + ",".join(HOST)),
    }


def test_exceptions_are_written_where_they_were_read():
    proxies = found_in(
        policy={"ProxySettingsPerUser": ["DWord", 0]},
        machine=texts("machine:1", "<local>"),
        machine_packed={"DefaultConnectionSettings": binary(settings(3, b"machine:1", b"", b""))},
        system=texts("system:1", "a;b"),
    )
    found = written(proxies)
    assert found.pop((MACHINE + "\\Connections", "DefaultConnectionSettings"))[0] == "binary"
    assert found == {
        (MACHINE, "ProxyOverride"): ("string", "<local>;" + BOTH),
        (SYSTEM_ACCOUNT, "ProxyOverride"): ("string", "a;b;" + BOTH),
    }


@pytest.mark.parametrize(
    "place, name, head", [("system_packed", "DefaultConnectionSettings", 0x46), ("machine_packed", "WinHttpSettings", 0x28)]
)
def test_packed_settings_keep_flags_script_and_what_follows(place, name, head):
    rest = struct.pack("<II", 1, 2) + b"\x40\xff" * 12
    data = settings(15, b"p:1", b"<local>", b"http://h/x.pac", head=head, rest=rest)
    proxies = found_in(**{place: {name: binary(data)}})
    assert [proxy["name"] for proxy in proxies if proxy["bypasses_host"] is False] == [name]
    ((key, (kind, changed)),) = written(proxies).items()
    assert key[1] == name and kind == "binary"
    assert bytes.fromhex(changed) == settings(15, b"p:1", ("<local>;" + BOTH).encode(), b"http://h/x.pac", head=head, rest=rest)


@pytest.mark.parametrize(
    "data, expected",
    [
        (settings(3, b"p:1", b"a"), settings(3, b"p:1", b"new")),
        (settings(3, b"p:1"), settings(3, b"p:1", b"new")),
        (settings(3, b"p:1", b"a", b"s", rest=b"\0" * 32), settings(3, b"p:1", b"new", b"s", rest=b"\0" * 32)),
        (settings(3, b"p:1", b"abcdef")[:-1], None),
        (settings(3, b"p:1", rest=b"\1\0"), None),
        (settings(3, b"p:1")[:-1], None),
        (settings(3), None),
        (None, None),
    ],
)
def test_another_list_of_exceptions(data, expected):
    assert with_bypass(data, "new") == expected


CREDENTIALS = [
    {"system": texts("http://S3cr3t:S3cr3t@p:1", "<local>")},
    {"system": texts("S3cr3t:S3cr3t@p:1", "<local>")},
    {"system": texts("http=S3cr3t:S3cr3t@p:1;https=p:2")},
    {"system": texts("http://***@p:1")},
    {"system_packed": {"DefaultConnectionSettings": binary(settings(3, b"S3cr3t:S3cr3t@p:1", b"", b"", rest=b"\0" * 32))}},
    {"machine_packed": {"WinHttpSettings": binary(settings(3, b"http://S3cr3t:S3cr3t@p:1", b"", head=0x28))}},
]


@pytest.mark.parametrize("keys", CREDENTIALS)
def test_an_address_with_credentials_is_left_to_a_person(keys):
    proxies = found_in(**keys)
    assert [MASK in proxy["value"] for proxy in proxies] == [True] and registry_values(proxies, "bypass") == []
    assert "A person must add" in proxies[0]["by_hand"] and proxies[0]["by_hand"].endswith("since its address holds credentials.")
    shown = json.dumps(proxies)
    assert "S3cr3t" not in shown and b"S3cr3t".hex() not in shown


@pytest.mark.parametrize(
    "script, rest", [(b"http://S3cr3t:S3cr3t@h/x.pac", b"\0" * 32), (b"", b"\0\0http://S3cr3t@h/x.pac\0"), (b"http://h/x?sig=S3cr3t", b"")]
)
def test_packed_settings_with_a_secret_elsewhere_do_not_leave_the_parser(script, rest):
    proxies = found_in(system_packed={"DefaultConnectionSettings": binary(settings(7, b"p:1", b"", script, rest=rest))})
    shown = json.dumps(proxies)
    assert "S3cr3t" not in shown and b"S3cr3t".hex() not in shown
    assert registry_values(proxies, "bypass") == [] and "since it cannot be written back" in proxies[0]["by_hand"]


def test_credentials_of_a_variable_do_not_keep_its_exceptions_from_being_written():
    proxies = found_in(environment={"HTTP_PROXY": ["String", "http://u:S3cr3t@p:1"], "NO_PROXY": ["String", "localhost"]})
    assert written(proxies) == {(ENVIRONMENT, "NO_PROXY"): ("string", "localhost," + ",".join(HOST))}
    assert "S3cr3t" not in json.dumps(proxies) and "by_hand" not in proxies[0]


@pytest.mark.parametrize(
    "keys",
    [
        {"system": texts("p:1", "x" * 600)},
        {"system": texts("p:1", "a;b\x00c")},
        {"system": dict(texts("p:1"), ProxyOverride=["MultiString", ["a", "b"]])},
        {"system": texts("p:1", "u:S3cr3t@h;<local>")},
        {"environment": {"http_proxy": ["String", "p:1"], "NO_PROXY": ["String", "x," * 400]}},
    ],
)
def test_exceptions_that_were_cut_or_changed_are_left_to_a_person(keys):
    proxies = found_in(**keys)
    assert registry_values(proxies, "bypass") == [] and "since it cannot be written back" in proxies[0]["by_hand"]
    assert "S3cr3t" not in json.dumps(proxies)


def test_a_cut_or_masked_entry_of_other_facts_is_not_written_either():
    row = {"source": "s", "key": SYSTEM_ACCOUNT, "name": "ProxyServer", "value": "p:1", "bypass": "a", "bypasses_host": False}
    assert registry_values([row], "bypass")
    for change in ({"bypass": "a..."}, {"bypass": MASK}, {"value": "http://***@p:1"}, {"value": MASK + "@p:1"}, {"key": None}):
        assert registry_values([dict(row, **change)], "bypass") == [], change
    assert registry_values([dict(row, name="WinHttpSettings")], "bypass") == []


def test_winhttp_of_an_unknown_form_is_left_to_a_person():
    head = struct.pack("<4I", 0x28, 0, 3, 999)
    proxies = found_in("Head:\r\n\r\n    Server : p:1\r\n    Bypass : (none)\r\n", machine_packed={"WinHttpSettings": binary(head)})
    assert proxies[0]["value"] == "p:1" and "by_hand" in proxies[0] and registry_values(proxies, "bypass") == []


def test_a_file_is_named_and_not_written():
    path = "C:\\Windows\\Microsoft.NET\\Framework64\\v4.0.30319\\Config\\machine.config"
    proxies = found_in(files={path: '<defaultProxy><proxy proxyaddress="http://p:1"/></defaultProxy>'})
    assert registry_values(proxies, "bypass") == [] and path in proxies[0]["by_hand"]


def test_a_script_is_named():
    proxies = found_in(system={"AutoConfigURL": ["String", "http://h/x.pac"]})
    assert proxies[0]["bypasses_host"] is None and "A person must check" in proxies[0]["by_hand"]
    assert registry_values(proxies, "bypass") == []
