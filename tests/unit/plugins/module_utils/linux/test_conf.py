# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import glob
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import conf

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "waagent.conf")
FILES = sorted(glob.glob(os.path.join(FIXTURES, "*.conf")))


def read(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return stream.read()


def fixture(name):
    return read(os.path.join(FIXTURES, name + ".conf"))


def value_of(text, key):
    """What the agent reads: last line of the key, or "absent"."""
    found = [entry["value"] for entry in conf.parse(text) if entry["key"] == key]
    return found[-1] if found else "absent"


@pytest.mark.parametrize(
    "line, value, switch, valid",
    [
        ("Extensions.Enabled=n", "n", False, True),
        ("  Extensions.Enabled = N  # text", "N", False, True),
        ('Extensions.Enabled="n"', "n", False, True),
        ("Extensions.Enabled='n'", "'n'", True, False),
        ("Extensions.Enabled=n\r", "n", False, True),
        ('Extensions.Enabled="n"\r', 'n"', True, False),
        ("Extensions.Enabled=yes", "yes", True, False),
        ("Extensions.Enabled=", "", True, False),
        ("Extensions.Enabled=None", None, True, True),
        ("Extensions.Enabled=Y", "Y", True, True),
        ("Extensions.Enabled=n#x", "n", False, True),
    ],
)
def test_effective_switch(line, value, switch, valid):
    got = conf.effective("# first\n" + line + "\n")["Extensions.Enabled"]
    assert (got["value"], got["effective"], got["valid"], got["line"], got["lines"]) == (value, switch, valid, 2, [2])


@pytest.mark.parametrize(
    "line",
    [
        "# Extensions.Enabled=n",
        " # Extensions.Enabled=n",
        "extensions.enabled=n",
        conf.BOM + "Extensions.Enabled=n",
        "Extensions.Enable=n",
        "",
    ],
)
def test_effective_not_seen(line):
    got = conf.effective(line)["Extensions.Enabled"]
    assert got == {"value": None, "effective": True, "source": "default", "line": None, "lines": [], "valid": True}


def test_effective_last_line_decides():
    got = conf.effective("Extensions.Enabled=n\nA=b\nExtensions.Enabled=y\n")["Extensions.Enabled"]
    assert (got["effective"], got["line"], got["lines"], got["source"]) == (True, 3, [1, 3], "file")


def test_effective_integers_and_followers():
    values = conf.effective("HttpProxy.Port=80 80\nHttpProxy.Host=none\nExtensions.GoalStatePeriod=10\nAutoUpdate.Enabled=n\n")
    assert (values["HttpProxy.Port"]["effective"], values["HttpProxy.Port"]["valid"], values["HttpProxy.Port"]["source"]) == (
        None,
        False,
        "default",
    )
    assert values["HttpProxy.Host"]["effective"] == "none"
    assert values["Extensions.InitialGoalStatePeriod"]["effective"] == 10
    assert values["AutoUpdate.UpdateToLatestVersion"]["effective"] is False
    assert (
        conf.effective("AutoUpdate.Enabled=n\nAutoUpdate.UpdateToLatestVersion=y")["AutoUpdate.UpdateToLatestVersion"]["effective"] is True
    )


def test_effective_word_not_known():
    got = conf.effective("Provisioning.Agent=Auto\n")["Provisioning.Agent"]
    assert (got["effective"], got["valid"]) == ("Auto", False)


def test_value_is_cut_at_hash():
    assert value_of("HttpProxy.Host=http://u:p#x@h", "HttpProxy.Host") == "http://u:p"


@pytest.mark.parametrize(
    "line, loose",
    [
        ("A=b", False),
        ("A=b # text", False),
        ("  A=b", False),
        ('A="b"', False),
        ("A = b", True),
        ("A= b", True),
        ("A =b", True),
        ("A=b#text", True),
        ("# A = b", False),
        (" # A = b", True),
        (" #A=b", False),
        ("some words = b", True),
        ("A=b c", False),
        ("A=b=c", False),
        ("A=", False),
        ("=b", False),
        ("no setting", False),
    ],
)
def test_parse_loose(line, loose):
    assert [e["loose"] for e in conf.parse(line)] == ([loose] if "=" in line and not line.startswith("#") else [])
    healed = conf.rewrite(line + "\n", {}, canonical=True)
    assert not any(e["loose"] for e in conf.parse(healed))
    assert (healed != line + "\n") == loose


def test_duplicates_and_unknown():
    entries = conf.parse(
        "A=1\nB=2\nA=3\n # A=4\n # A=5\nExtensions.Enable=y\nautoupdate.enabled=y\nAutoUpdate.Frequency=5\n" + "Logs.Verbose=n\n"
    )
    assert conf.duplicates(entries) == [{"key": "A", "lines": [1, 3]}]
    assert [(e["key"], e["meant"], e["line"]) for e in conf.unknown_backup_keys(entries)] == [
        ("Extensions.Enable", "Extensions.Enabled", 6),
        ("autoupdate.enabled", "AutoUpdate.Enabled", 7),
        ("AutoUpdate.Frequency", "Autoupdate.Frequency", 8),
    ]
    hidden = conf.unknown_backup_keys(conf.parse(conf.BOM + "Extensions.Enabled=n"))
    assert [(e["meant"], e["line"]) for e in hidden] == [("Extensions.Enabled", 1)]


def test_decode_refuses_what_is_not_utf8():
    with pytest.raises(conf.ConfError, match="not UTF-8 text .byte 0xe9 in line 2"):
        conf.decode(b"A=b\nB=\xe9\n", "/etc/waagent.conf")
    assert conf.decode(b"\xef\xbb\xbfA=b").startswith(conf.BOM)


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_fixture_has_no_fault_of_form(path):
    entries = conf.parse(read(path))
    assert entries
    if "test_waagent" not in path:
        assert not conf.duplicates(entries)
        assert not conf.unknown_backup_keys(entries)
        assert not conf.loose(entries)


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_rewrite_fixture(path):
    before = read(path)
    wanted = {"Extensions.Enabled": "n", "HttpProxy.Host": "proxy.example", "HttpProxy.Port": "3128", "Logs.Verbose": None}
    after = conf.rewrite(before, wanted, canonical=True)
    assert conf.rewrite(after, wanted, canonical=True) == after
    assert (value_of(after, "Extensions.Enabled"), value_of(after, "HttpProxy.Port"), value_of(after, "Logs.Verbose")) == (
        "n",
        "3128",
        "absent",
    )
    kept = [line for line in before.split("\n") if line.split("=")[0] not in wanted]
    if "test_waagent" not in path:
        assert [line for line in after.split("\n") if line.split("=")[0] not in wanted] == kept
    assert conf.rewrite(before, {}) == before


DOCUMENTED = [
    ("debian", {"OS.EnableFirewall": False, "Extensions.Enabled": True, "OS.OpensslPath": "/usr/bin/openssl"}),
    ("ubuntu", {"Extensions.Enabled": True, "Logs.Verbose": False}),
    ("default", {"Extensions.Enabled": True, "OS.EnableFirewall": True, "Provisioning.Agent": "auto"}),
    ("chainguard", {"Extensions.Enabled": False, "AutoUpdate.UpdateToLatestVersion": False}),
    ("gaia", {"AutoUpdate.Enabled": False, "AutoUpdate.UpdateToLatestVersion": False}),
    ("bigip", {"Lib.Dir": "/shared/vadc/azure/waagent/"}),
    ("coreos", {"OS.AllowHTTP": True}),
    ("arch", {"Extensions.Enabled": True}),
    ("iosxe", {"Extensions.Enabled": True}),
    ("openbsd", {"Extensions.Enabled": True}),
    ("photonos", {"Extensions.Enabled": True, "Provisioning.Agent": "auto"}),
    ("clearlinux", {"Extensions.Enabled": True}),
]


@pytest.mark.parametrize("name, expected", DOCUMENTED, ids=[name for name, _values in DOCUMENTED])
def test_effective_fixture(name, expected):
    values = conf.effective(fixture(name))
    assert {key: values[key]["effective"] for key in expected} == expected
    assert all(entry["valid"] for entry in values.values())


def test_key_absent_is_not_a_fault():
    for name in ("arch", "clearlinux", "iosxe", "openbsd", "photonos"):
        got = conf.effective(fixture(name))["Extensions.Enabled"]
        assert (got["source"], got["line"], got["effective"]) == ("default", None, True)


REWRITES = [
    ("in place", "A=1\nExtensions.Enabled=n\nB=2\n", {"Extensions.Enabled": "y"}, "A=1\nExtensions.Enabled=y\nB=2\n"),
    ("duplicates", "Logs.Verbose=y\nA=1\nLogs.Verbose=n\nB=2\n", {"Logs.Verbose": "n"}, "A=1\nLogs.Verbose=n\nB=2\n"),
    ("last decides", "A=y\nB=1\nA=n\n", {"A": "y"}, "B=1\nA=y\n"),
    ("appended", "A=1", {"B": "2"}, "A=1\nB=2\n"),
    ("appended to nothing", "", {"B": "2"}, "B=2\n"),
    ("appended with CR LF", "A=1\r\n", {"B": "2"}, "A=1\r\nB=2\r\n"),
    ("CR LF kept", "A=1\r\nB=1\r\n", {"A": "2"}, "A=2\r\nB=1\r\n"),
    ("no final newline", "A=1", {"A": "2"}, "A=2"),
    ("comment kept", "A=1 # why\n", {"A": "2"}, "A=2 # why\n"),
    ("comment set off", "A=1# why\n", {"A": "1"}, "A=1 # why\n"),
    ("commented default stays", "#A=1\n", {"A": "2"}, "#A=1\nA=2\n"),
    ("loose", " A = 1\n", {"A": "1"}, "A=1\n"),
    ("quotes", 'A="1"\n', {"A": "1"}, "A=1\n"),
    ("same for the agent", "Extensions.Enabled=Y\nHttpProxy.Port=080\n", {"Extensions.Enabled": "y", "HttpProxy.Port": "80"}, None),
    ("default not repeated", "A=1\n", {"Extensions.Enabled": "y", "Logs.Verbose": "n", "HttpProxy.Host": "None"}, None),
    ("follower is written", "A=1\n", {"AutoUpdate.UpdateToLatestVersion": "y"}, "A=1\nAutoUpdate.UpdateToLatestVersion=y\n"),
    ("removed", "A=1\nB=2\nA=3\n", {"A": None}, "B=2\n"),
    ("removed, not there", "B=2\n", {"A": None}, None),
    ("unset", "HttpProxy.Host=h\n", {"HttpProxy.Host": "None"}, "HttpProxy.Host=None\n"),
    ("unset already", "HttpProxy.Host=None\n", {"HttpProxy.Host": "None"}, None),
    ("byte order mark", conf.BOM + "Extensions.Enabled=n\nA=1\n", {"Extensions.Enabled": "y"}, "Extensions.Enabled=y\nA=1\n"),
    ("byte order mark elsewhere", conf.BOM + "# c\nA=1\n", {"A": "2"}, conf.BOM + "# c\nA=2\n"),
    ("byte order mark and a second line", conf.BOM + "A=n\nA=y\n", {"A": "y"}, "A=y\n"),
    ("quoted CR LF", 'Extensions.Enabled="n"\r\n', {"Extensions.Enabled": "n"}, "Extensions.Enabled=n\r\n"),
    ("invalid spelled like valid", "Extensions.Enabled=yes\n", {"Extensions.Enabled": "y"}, "Extensions.Enabled=y\n"),
]


@pytest.mark.parametrize("text, wanted, expected", [case[1:] for case in REWRITES], ids=[case[0] for case in REWRITES])
def test_rewrite(text, wanted, expected):
    after = conf.rewrite(text, wanted)
    assert after == (text if expected is None else expected)
    assert conf.rewrite(after, wanted) == after


def test_rewrite_canonical_keeps_what_the_agent_reads():
    text = "A = 1\nB=1\n # note = x\nB=2\nC='3'\nD=4 4\nprose here = 1\n"
    after = conf.rewrite(text, {"E": "5"}, canonical=True)
    assert after == "A=1\n# note = x\nB=2\nC='3'\nD=4 4\n# prose here = 1\nE=5\n"


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("Extensions.Enable", "y", "use 'Extensions.Enabled'"),
        ("extensions.enabled", "y", "use 'Extensions.Enabled'"),
        ("AutoUpdate.Frequency", "60", "use 'Autoupdate.Frequency'"),
        ("Extensions.Enabled", "yes", "only y or n"),
        ("HttpProxy.Port", "80 80", "whole number"),
        ("HttpProxy.Host", "http://u:p#x@h", "contains '#'"),
        ("A", "a\nb", "line break"),
        ("A", " a", "not read"),
        ("A", '"a"', "not read"),
        ("A b", "1", "not a key"),
        ("A#", "1", "not a key"),
        ("", "1", "not a key"),
        ("A", None, "absent"),
        ("Provisioning.Agent", "Auto", "one of auto"),
    ],
)
def test_setting_refused(key, value, words):
    with pytest.raises(conf.ConfError) as caught:
        conf.setting(key, value)
    assert words in str(caught.value)


def test_setting_accepts():
    assert conf.setting("Extensions.Enabled", True) == "y"
    assert conf.setting("HttpProxy.Port", 3128) == "3128"
    assert conf.setting("HttpProxy.Host", "None") == "None"


def test_mask_proxy_credentials():
    text = "A=1\nHttpProxy.Host=user:hunter2@proxy\nHttpProxy.Host=http://u:hunter2@proxy\n"
    assert "hunter2" not in conf.mask(text)
    values = conf.public(conf.effective(text))
    assert "hunter2" not in repr(values) and values["HttpProxy.Host"]["effective"].endswith("@proxy")
    assert "hunter2" not in repr(conf.loose(conf.parse("HttpProxy.Host = u:hunter2@proxy")))
    for line in ("#HttpProxy.Host=u:hunter2@proxy", " # HttpProxy.Host = u:hunter2@proxy", "HttpProxy.Host=u:hunt#hunter2@proxy"):
        assert "hunter2" not in conf.mask("A=1\n" + line + "\nB=2") and "B=2" in conf.mask(line + "\nB=2")
    entries = conf.parse("HttpProxy.Host=u:hunter2@proxy\nHttpProxy.Host=u:hunter2@other")
    assert "hunter2" not in repr(conf.duplicates(entries))
    with pytest.raises(conf.ConfError) as error:
        conf.setting("HttpProxy.Host", "u:hunter2@proxy ")
    assert "hunter2" not in str(error.value) and "HttpProxy.Host" in str(error.value)


@pytest.mark.parametrize(
    "line, shown",
    [
        ("HttpProxy.Host=user:S3cr3t#x@host", "HttpProxy.Host=[redacted]@host"),
        ("HttpProxy.Host=user:S3cr3t", "HttpProxy.Host=[redacted]"),
        ("#HttpProxy.Host = http://user:S3cr3t@host:3128", "#HttpProxy.Host =[redacted]@host:3128"),
        ("HttpProxy.Host=proxy.example.com", "HttpProxy.Host=proxy.example.com"),
        ("DB_PASSWORD=S3cr3t", "DB_PASSWORD=[redacted]"),
        ("Lib.Dir=/var/lib/waagent", "Lib.Dir=/var/lib/waagent"),
    ],
)
def test_mask_hides_what_an_at_sign_does_not_tell(line, shown):
    assert conf.mask(line) == shown and conf.mask("a\n" + line + "\nb") == "a\n" + shown + "\nb"


def test_public_hides_a_password_that_the_agent_cuts_at_a_hash():
    for line in ("HttpProxy.Host=user:S3cr3t#x@host\n", "HttpProxy.Host=user:1234#x@host\n"):
        values = conf.public(conf.effective(line), line)["HttpProxy.Host"]
        assert values["value"] == values["effective"] == "[redacted]"


def test_a_diff_shows_known_settings_only():
    text = "# root has S3cr3t\nExtensions.Enabled=n # was S3cr3t\nFoo.Bar = S3cr3t\nS3cr3t for all\nHttpProxy.Host=u:S3cr3t@h\n\n  Logs.Verbose = y\n"
    shown = "# [comment]\nExtensions.Enabled=n # [comment]\nFoo.Bar = [value]\n[text]\nHttpProxy.Host=[redacted]@h\n\n  Logs.Verbose = y\n"
    assert conf.shown(text) == shown


def test_a_configuration_above_a_megabyte_is_refused():
    line = b"# 1234567890\n"
    data = line * (conf.MAX_BYTES // len(line))
    assert conf.decode(data) and len(data) <= conf.MAX_BYTES
    with pytest.raises(conf.ConfError, match="larger than 1024 kB"):
        conf.decode(data + line)
