# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import os
import re

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import (
    clip,
    public_line,
    redact,
    redact_proxy,
    redact_proxy_host,
    secret_name,
)
from redact_table import FINE, HIDDEN, LEFT, PLANT, SHAPES, planted

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "waagent")


@pytest.mark.parametrize("text", HIDDEN)
def test_redact_hides_the_secret(text):
    assert "S3cr3t" not in redact(text)


@pytest.mark.parametrize("text", LEFT)
def test_redact_leaves_the_rest(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "text, expected",
    [
        ("user:S3cr3t@host:8080", "[redacted]@host:8080"),
        ("S3cr3t@host:8080", "[redacted]@host:8080"),
        ("http=user:S3cr3t@host:80;https=other:443", "http=[redacted]@host:80;https=other:443"),
        ("http=other:80;https=http://user:S3cr3t@host", "http=other:80;https=http://[redacted]@host"),
        ("first:80 user:S3cr3t@host:80", "[redacted]@host:80"),
        ("DOMAIN\\user:S3cr3t@S3cr3t/S3cr3t@host:80", "[redacted]@host:80"),
        ("http://user:S3cr3t/S3cr3t@host:80", "http://[redacted]@host:80"),
        ("user:S3cr3t;S3cr3t, S3cr3t@host:80,", "[redacted]@host:80,"),
        ("user:12;S3cr3t@host:80;other:80", "[redacted]@host:80;other:80"),
        ("user:S3cr3t;http=x@host", "[redacted];http=[redacted]@host"),
        ("http://***@host:80", "http://[redacted]@host:80"),
        ("http://h/proxy.pac?sig=S3cr3t", "http://h/proxy.pac?[redacted]"),
    ],
)
def test_redact_proxy_hides_credentials_without_a_scheme(text, expected):
    assert redact_proxy(text) == expected and redact_proxy(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "host:8080",
        "http=a:80;https=b:443",
        "http://a:80, http://b",
        "[::1]:3128",
        "<local>;*.example.com",
        "proxy.example.com:",
        "//p",
    ],
)
def test_redact_proxy_leaves_addresses(text):
    assert redact_proxy(text) == text


@pytest.mark.parametrize("text", ["mail to admin@example.com", "user: someone@example.com", "git@host:path"])
def test_redact_leaves_addresses_of_mail(text):
    assert redact(text) == text


@pytest.mark.parametrize("name", ["ext_conf.xml", "vm_settings.json", "sample-status.json"])
def test_redact_of_real_files(name):
    with open(os.path.join(FIXTURES, name)) as stream:
        text = redact(stream.read())
    assert not re.search(r"(?i)sig=(?!\[redacted\])[^&\s\"]", text)
    assert not re.search(r"\"protectedSettings\": \"(?!\[)", text)
    if name == "sample-status.json":
        assert "snapshot=2019" not in text


def test_clip_removes_control_characters_and_length():
    assert clip("a\x1b[31m\nb\tc") == "a [31m b c"
    assert len(clip("x" * 1000)) == 300
    assert clip(None) is None


def test_public_line_masks_before_it_clips():
    line = "x" * 280 + " https://a/b?sig=" + "S3cr3t" * 20
    assert "S3cr3t" not in public_line(line)


@pytest.mark.parametrize("text", SHAPES)
def test_redact_hides_every_planted_shape(text):
    text = planted(text)
    shown = redact(text)
    assert PLANT not in shown and "S3cr3t" not in shown and MASKED in shown
    assert redact(shown) == shown
    assert PLANT not in public_line("a line of a log " + text + " and its rest", 10000)


MASKED = "[redacted]"


@pytest.mark.parametrize("text", FINE)
def test_redact_leaves_what_is_no_secret(text):
    assert redact(text) == text


def test_redact_leaves_every_stock_configuration():
    directory = os.path.join(FIXTURES, "..", "waagent.conf")
    names = [name for name in sorted(os.listdir(directory)) if name.endswith(".conf") and not name.startswith("test_")]
    assert len(names) > 10
    for name in names:
        with open(os.path.join(directory, name)) as stream:
            text = stream.read()
        assert redact(text) == text, name


@pytest.mark.parametrize(
    "name, secret",
    [
        ("DB_PASSWORD", True),
        ("clientSecret", True),
        ("bypass", False),
        ("Extensions.Enabled", False),
        ("UserPass", True),
        ("key", False),
        ("", False),
        ("sig", True),
        ("design", False),
    ],
)
def test_secret_name(name, secret):
    assert secret_name(name) is secret


@pytest.mark.parametrize(
    "text, expected",
    [
        ("user:S3cr3t", "[redacted]"),
        ("http://user:S3cr3t", "http://[redacted]"),
        ("user:S3cr3t@host", "[redacted]@host"),
        ("proxy.example.com", "proxy.example.com"),
        ("http://proxy.example.com:3128/", "http://proxy.example.com:3128/"),
        ("[::1]", "[::1]"),
        ("", ""),
        (None, None),
    ],
)
def test_redact_proxy_host_masks_what_a_cut_password_leaves(text, expected):
    assert redact_proxy_host(text) == expected


def test_a_line_is_cut_at_a_word_so_that_no_half_secret_is_left():
    line = "x " * 2040 + "http://user:" + "S3cr3t" * 1000 + "@host"
    assert "S3cr3t" not in redact(line) and len(redact(line)) < 4200
    assert "S3cr3t" not in redact("password" + "S3cr3t" * 1000)
    assert redact("a\n" + "b " * 5000 + "\nc").split("\n")[2] == "c"
    assert public_line("first " + "y " * 10000).startswith("first y y")
