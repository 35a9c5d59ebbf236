# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import os
import re

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils.redact import clip, public_line, redact, redact_proxy

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "waagent")


@pytest.mark.parametrize(
    "text",
    [
        "https://a.blob.core.windows.net/c/b?sv=2018&sr=b&sig=S3cr3t%2Bx&se=9999",
        "https://a.blob.core.windows.net/c/b?sr=b&amp;sig=S3cr3t&amp;se=1",
        '{"u": "https://a.blob.core.windows.net/c?sv=1\\u0026sig=S3cr3t\\u0026se=1"}',
        "https%3A%2F%2Fa.blob.core.windows.net%2Fc%3Fsv%3D1%26sig%3DS3cr3t%26se%3D1",
        "HTTP://A/C?SV=1&SIG=S3cr3t",
        "http://host/status?sig=S3cr3t",
        "query sv=1&sig=S3cr3t&x=2",
        "http://user:S3cr3t@proxy:3128/",
        "http_proxy=//user:S3cr3t@proxy:3128",
        "http://S3cr3t@proxy",
        '"protectedSettings": "S3cr3t==",',
        '\\"protectedSettings\\": \\"S3cr3t\\"',
        "snapshotTaskToken:S3cr3t, next",
        "password = S3cr3t",
        "Authorization: Bearer S3cr3t",
        "Proxy-Authorization: Basic S3cr3t",
        "-----BEGIN PRIVATE KEY-----\nS3cr3t\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nS3cr3t",
    ],
)
def test_redact_hides_the_secret(text):
    assert "S3cr3t" not in redact(text)


@pytest.mark.parametrize(
    "text", [None, "", "Extensions.Enabled=n", "http://168.63.129.16/?comp=versions", "signal=9", "https://h/p?design=1"]
)
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
