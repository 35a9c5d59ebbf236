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


PLANT = "S3cr3tS3cr3t"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTM2NyM3QifQ.S3cr3tS3cr3t-x_y"


@pytest.mark.parametrize(
    "text",
    [
        # names in every spelling, with prefixes and suffixes
        "clientSecret=PLANT",
        "AZURE_CLIENT_SECRET=PLANT",
        "ARM_CLIENT_SECRET: PLANT",
        "DB_PASSWORD=PLANT",
        "db_password = PLANT",
        "export DB_PASSWORD='PLANT'",
        '"adminPassword": "PLANT"',
        '"storageAccountKey":"PLANT"',
        '"workspaceKey": "PLANT"',
        "AZURE_STORAGE_KEY=PLANT",
        "SharedAccessKey=PLANT",
        "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=PLANT",
        "AccountName=n;AccountKey=PLANT;EndpointSuffix=core.windows.net",
        '"sasToken": "PLANT"',
        "sas_token=PLANT",
        "SAS-TOKEN: PLANT",
        "private_key: PLANT",
        '"privateKey": "PLANT"',
        "token: PLANT",
        "x-auth-token: PLANT",
        "GITHUB_TOKEN=PLANT",
        "api_key=PLANT",
        "ApiKey: PLANT",
        "X-API-KEY: PLANT",
        "passphrase: PLANT",
        "signature=PLANT",
        '"sig":"PLANT"',
        "'sig': 'PLANT'",
        "Ocp-Apim-Subscription-Key: PLANT",
        "subscription-key=PLANT",
        "x-functions-key: PLANT",
        "ansible_password: PLANT",
        "MYSQL_PWD=PLANT",
        "DB_PASS=PLANT",
        "dbPass: PLANT",
        "Password: PLANT",
        "PASSWORD_OLD=PLANT",
        "secretValue: PLANT",
        "password1=PLANT",
        "db.password=PLANT",
        "spring.datasource.password=PLANT",
        '"protectedSettings": "PLANT"',
        '\\"commandToExecute\\": \\"PLANT\\"',
        '\\\\\\"password\\\\\\":\\\\\\"PLANT\\\\\\"',
        "&quot;password&quot;:&quot;PLANT&quot;",
        "%22password%22%3A%22PLANT%22",
        "a=1&password=PLANT&b=2",
        "a%3D1%26password%3DPLANT",
        "password => PLANT",
        '"connectionString": "Server=x;Pwd=PLANT"',
        "credentials: PLANT",
        "Set-Cookie: id=PLANT; Path=/",
        "secret access key: PLANT",
        "account key = PLANT",
        "password:\n  'PLANT'",
        "private_key: |\n  PLANT\n  PLANT\nnext: 1",
        '"password" : "a\\"PLANT"',
        "password='PLANT",
        "password=ab,PLANT",
        "password=ab;PLANT",
        "password=ab&PLANT",
        "password=a)PLANT",
        '{"name": "DB_PASSWORD", "value": "PLANT"}',
        '<add key="ClientSecret" value="PLANT"/>',
        "<Password>PLANT</Password>",
        "<x:adminPassword>PLANT</x:adminPassword>",
        "objectStr: {'a': 'PLANT'}",
        "'objectStr': {'a': {'b': 'PLANT'}, 'c': 'PLANT'}",
        '"secrets": ["PLANT", "PLANT"]',
        "nPASSWORD=PLANT",
        # shapes
        "Bearer PLANT",
        "bearer PLANT",
        "got Bearer PLANT, retry",
        "JWT",
        "token is JWT",
        "authorization: negotiate PLANT",
        "Authorization: Bearer PLANT",
        "Authorization: SharedKey account:PLANT",
        "curl -H 'Authorization: Basic PLANT' https://h",
        "Proxy-Authorization: PLANT",
        "WWW: Negotiate PLANT==",
        "http%3A%2F%2Fu%3APLANT%40h",
        "http://u:p/PLANT@h",
        "http://u:PLANT@h:3128/",
        "http://u:PLANT#x@h",
        "http://u:a@PLANT@h",
        "http:\\/\\/u:PLANT@h",
        "http://u:PLANT%40x@h",
        "(http://u:PLANT@h)",
        "https://h/a,http://u:PLANT@h",
        "https://user:PLANT@repo.example.com/x86_64/repodata",
        "ftp://PLANT@h",
        "--password PLANT",
        "--password=PLANT",
        "-Password PLANT",
        "--sas-token PLANT",
        "-u bob:PLANT",
        "--user bob:PLANT",
        "-U 'bob:PLANT'",
        "Using proxy bob:PLANT@proxy.example.com:3128",
        "connect to DOMAIN\\bob:PLANT@proxy:8080 failed",
        "HttpProxy.Host=bob:PLANT@proxy",
        "ProxyServer=http=bob:PLANT@proxy:80",
        "machine h/v1/ login bearer password PLANT",
        "usermod -p '$6$PLANT$PLANTPLANT' bob",
        "root:$y$j9T$PLANT$PLANT:18000:0:99999:7:::",
        "remote: ghp_PLANTPLANTPLANT",
        "sshpass -p PLANT ssh h",
        "pro attach PLANT",
        "SUSEConnect --regcode=PLANT",
        "registercloudguest --regcode PLANT",
        "--proxy-user=bob:PLANT",
        "http_proxy=user:PLANT@host:3128",
        "token: Bearer PLANT",
        "access_token = Bearer Bearer PLANT",
        "secret= --password PLANT",
        'sig= "clientSecret": "PLANT"',
        "https_proxy: 'user:PLANT/x@host'",
        "CREATE USER x IDENTIFIED BY 'PLANT'",
        "-----BEGIN RSA PRIVATE KEY-----\nPLANT\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nPLANT",
        "https://a.blob.core.windows.net/c?sv=2018&sr=b&sig=PLANT%2Bx&se=9",
        "sv=1&sig=PLANT",
        "?sv=1%26sig%3DPLANT",
        "A" * 74 + "PLANT==",
    ],
)
def test_redact_hides_every_planted_shape(text):
    text = text.replace("PLANT", PLANT).replace("JWT", JWT)
    shown = redact(text)
    assert PLANT not in shown and "S3cr3t" not in shown and MASKED in shown
    assert redact(shown) == shown
    assert PLANT not in public_line("a line of a log " + text + " and its rest", 10000)


MASKED = "[redacted]"


@pytest.mark.parametrize(
    "text",
    [
        "token_type=bearer-less",
        "keyboard: de",
        "KeyVaultName: contoso-vault",
        "public_key: AAAAB3Nza",
        "ssh-publicKey: AAAAB3Nza",
        "key: value",
        '{"Key": "kernelVersion", "Value": "5.10"}',
        "MonitorKey=true",
        "UseApiKey: false",
        "password: None",
        "secret=null",
        "hostkey:443",
        "tokens: 17",
        "bypass=*.example.com",
        "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY",
        "partitionKey: a",
        "RowKey=b",
        "monkey: see",
        "signal=9",
        "Provisioning.DeleteRootPassword=n",
        "Provisioning.PasswordCryptId=6",
        "Provisioning.RegenerateSshHostKeyPair=y",
        "KeyId=abc",
        "secretUrl: x",
        "bearer token expired",
        "Basic authentication failed",
        "user root with no password",
        "git@host:path",
        "scp file bob@host:/tmp",
        "2026-01-31 11:00:00 ssh bob@host:22",
        "pro attach --no-auto-enable",
        "cost $5 and $6",
        "https://host/a@b",
        "someone@example.com",
        "2026-01-31T11:00:00.1Z INFO ExtHandler ExtHandler [HEARTBEAT] Agent WALinuxAgent-2.9.1.1 is running as the goal state agent",
        "2026-01-31T11:00:00Z ERROR ExtHandler ExtHandler Error fetching the goal state: [ProtocolError] [Wireserver Exception] GET vmSettings "
        "[correlation ID: 4a7d eTag: 1]: Request failed: [Errno 111] Connection refused http://168.63.129.16:80/machine/?comp=goalstate",
        "ProcessExtensionsGoalState completed [incarnation_2 120 ms; Activity Id: 1-2; Correlation Id: 3-4; GS Creation Time: 2026-01-31T11:00:00Z]",
        "Event: name=Microsoft.Azure.RecoveryServices.VMSnapshotLinux, op=Enable, message=Launch command succeeded: main/handle.sh enable, duration=1400",
        "2026-01-31 11:00:00.1 [Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0.9184.0]T:S freeze, timeout value 60",
        "Failed to FIFREEZE: /data",
        "Finished processing ExtensionsGoalState. (incarnation: 1, etag: 2)",
        "Set block dev timeout: sda with timeout: 300",
        "iptables -t security -A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT",
        "/usr/bin/python3 -u /usr/sbin/waagent -daemon",
        "openssl cms -inform DER -decrypt -recip x.crt -inkey x.prv",
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 41 (apt)",
        "ExtensionsGoalState is empty",
        "Certificate with thumbprint 0123456789ABCDEF was not found",
    ],
)
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
