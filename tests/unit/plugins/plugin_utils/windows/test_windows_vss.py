# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""vssadmin and netsh in six languages, by structure."""

import glob
import os
import re

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import proxy, vss
from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows.raw import Raw, to_text

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "windows")
LANGUAGES = ("de", "el", "en", "fr", "it", "pt")


def read(kind, language):
    path = glob.glob(os.path.join(FIXTURES, "{0}-{1}-cp*.bin".format(kind, language)))[0]
    with open(path, "rb") as stream:
        return to_text(stream.read(), int(re.search(r"cp(\d+)\.bin$", path).group(1)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_writers(language):
    found = vss.parse_writers(read("vssadmin-writers", language))
    assert [(w["name"], w["state_code"], w["service"]) for w in found] == [
        ("System Writer", 1, "CryptSvc"),
        ("SqlServerWriter", 8, "SQLWriter"),
        ("WMI Writer", 5, "Winmgmt"),
    ]
    assert [(w["failed"], w["waiting"]) for w in found] == [(False, False), (True, False), (False, True)]
    assert found[1]["state"] == "failed at prepare snapshot" and found[1]["last_error"]
    assert found[0]["id"] == "e8132975-6f93-4464-a53e-1050253ae220" and found[0]["instance_id"] == "77cc0bcb-9f7b-4ef7-9d79-51ef0ce8ab5d"


def listed(*writers):
    """Return the writers of a listing of (id, state, last error), judged."""
    rows = [
        {"id": id_, "state_code": code, "last_error": error, "service": vss.service_of("", id_), "name": "w"}
        for id_, code, error in writers
    ]
    return [(w["failed"], w["waiting"], w["by_hand"]) for w in vss.judged(rows)]


SQL, WMI, NTDS = "a65faa63-5ea8-4ebc-9dbd-a0c4db26912a", "a6ad56c2-b509-4e6c-bb19-49d8f43532f0", vss.DOMAIN_CONTROLLER
FAILED, WAITS, FINE = (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    "code, error, judgement",
    [(1, "No error", FINE), (1, "Timed out", FINE), (0, "No error", FINE)]
    + [(code, "No error", WAITS) for code in (2, 3, 4, 5)]
    + [(code, "Retryable error", FAILED) for code in (2, 3, 4, 5)]
    + [(code, "No error", FAILED) for code in (6, 9, 15)]
    + [(5, None, WAITS), (5, "Zeitlimit", WAITS)],
)
def test_a_writer_has_failed_in_states_6_to_15_or_with_an_error(code, error, judgement):
    assert listed((WMI, code, error)) == [judgement + (False,)]


def test_an_error_in_a_language_that_is_not_known_is_what_stable_writers_do_not_say():
    assert listed((SQL, 1, "Brak bledu"), (WMI, 5, "Brak bledu"))[1] == WAITS + (False,)
    assert listed((SQL, 1, "Brak bledu"), (WMI, 5, "Przekroczono limit"))[1] == FAILED + (False,)
    assert listed((SQL, 1, "Timed out"), (WMI, 5, "No error"))[1] == WAITS + (False,), (
        "an error is not the usual word, though it is the only one"
    )


def test_what_its_users_notice_at_once_is_restarted_by_hand_only():
    for service, id_ in (("vmms", "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de"), ("MSExchangeIS", "76fe1ac4-15f7-4bcd-987e-8e1acb462fb7")):
        assert vss.SERVICES[id_] == service and listed((id_, 9, "Timed out")) == [(True, False, True)]
    assert listed((WMI, 9, "Timed out"), (SQL, 1, "No error")) == [(True, False, False), (False, False, False)]
    assert listed((WMI, 9, "Timed out"), (NTDS, 1, "No error")) == [(True, False, True), (False, False, True)], "a domain controller"


@pytest.mark.parametrize("language", LANGUAGES)
def test_writers_in_the_wrong_code_page_keep_their_state(language):
    path = glob.glob(os.path.join(FIXTURES, "vssadmin-writers-{0}-cp*.bin".format(language)))[0]
    with open(path, "rb") as stream:
        found = vss.parse_writers(to_text(stream.read(), 1252))
    assert [w["state_code"] for w in found] == [1, 8, 5]


@pytest.mark.parametrize("language", LANGUAGES)
def test_shadow_storage(language):
    row = vss.parse_shadow_storage(read("vssadmin-shadowstorage", language))
    assert row == [
        {
            "volume": "C:\\",
            "storage_volume": "C:\\",
            "used_bytes": int(1.25 * 2**30),
            "allocated_bytes": int(1.5 * 2**30),
            "maximum_bytes": int(12.6 * 2**30),
        }
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_netsh(language):
    assert proxy.parse_netsh(read("netsh-winhttp-direct", language)) == (None, None)
    assert proxy.parse_netsh(read("netsh-winhttp-proxy", language)) == ("proxy.example:3128", "168.63.129.16;169.254.169.254;<local>")


def test_netsh_without_exceptions():
    assert proxy.parse_netsh("Head:\r\n\r\n    Proxy Server(s) :  p:1\r\n    Bypass List     :  (none)\r\n") == ("p:1", None)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("1.25 GB (1%)", int(1.25 * 2**30)),
        ("1,25 Go (1 %)", int(1.25 * 2**30)),
        ("320 MB (1%)", 320 * 2**20),
        ("1.024 MB (1%)", 1024 * 2**20),
        ("512 KB (0%)", 512 * 2**10),
        ("0 B (0%)", 0),
        ("0 bytes (0%)", 0),
        ("UNBOUNDED (100%)", None),
        ("UNBEGRENZT (100 %)", None),
        ("", None),
        (None, None),
    ],
)
def test_size(text, expected):
    assert vss.parse_size(text) == expected


def test_no_item_is_an_empty_list():
    assert vss.parse_shadow_storage("vssadmin 1.1\r\n\r\nNo items found that satisfy the query.\r\n") == []


def test_providers():
    text = "head\r\n\r\nProvider name: 'Microsoft Software Shadow Copy provider 1.0'\r\n   Provider type: System\r\n"
    text += "   Provider Id: {b5946137-7b9f-4925-af80-51abd60b20d5}\r\n   Version: 1.0.0.7\r\n"
    assert vss.parse_providers(text) == [
        {"name": "Microsoft Software Shadow Copy provider 1.0", "id": "b5946137-7b9f-4925-af80-51abd60b20d5", "version": "1.0.0.7"}
    ]


def test_names_with_quotes_and_a_writer_that_is_not_known():
    text = "Nom de l'auteur : 'L'auteur'\n   Id: {aaaaaaaa-0000-0000-0000-000000000001}\n   État : [12] x\n   Erreur : y\n"
    found = vss.parse_writers(text)
    assert [(w["name"], w["state_code"], w["service"], w["instance_id"], w["last_error"]) for w in found] == [
        ("L'auteur", 12, None, None, "y")
    ]


def test_writers_that_did_not_answer_are_an_error_and_no_list():
    raw = Raw({"vss_looked": True, "commands": {"vssadmin list writers": {"rc": 2, "data": ""}}, "registry": {}})
    facts = vss.collect(raw, [], 437)
    assert facts["writers"] is None and facts["writers_looked"] is False
    assert raw.errors[0]["what"] == "vssadmin list writers"


def test_what_is_restarted_by_hand_only_is_not_stopped_along_either():
    """The part of the guest has a list of its own."""
    with open(os.path.join(os.path.dirname(vss.__file__), "..", "..", "module_utils", "_KindService.psm1")) as stream:
        listed = re.search(r"^\$script:ByHand = @\((.*)\)$", stream.read(), re.M).group(1)
    assert tuple(name.strip(" '") for name in listed.split(",")) == vss.BY_HAND
