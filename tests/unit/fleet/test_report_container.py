# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report in a container of Azurite, Microsoft's own emulator of Azure Storage: it checks signatures and permissions by itself."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, urlencode, urlsplit

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _container, _report_merge

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
CACHE = os.environ.get("VMBACKUP_CACHE") or os.path.join(ROOT, ".cache")
AZURITE = os.path.join(CACHE, "azurite", "node_modules", ".bin", "azurite-blob")
sys.path.insert(0, os.path.join(ROOT, "lab"))
from arm import tls  # noqa: E402

ACCOUNT, KEY = "vmbackupreports", base64.b64encode(b"a key of the test, and of nothing else").decode()

pytestmark = pytest.mark.skipif(not os.path.exists(AZURITE), reason="Azurite is not there: tests/tools/setup.sh azurite installs it by npm")


def signature(container, permissions, expires_in_s=600, key=KEY):
    """Return the query of a service SAS for a container, as Azure's documentation says to sign it (version 2020-12-06 and newer)."""
    expiry = (datetime.now(timezone.utc) + timedelta(seconds=expires_in_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    version, resource = "2021-12-02", "/blob/{0}/{1}".format(ACCOUNT, container)
    signed = [permissions, "", expiry, resource, "", "", "https", version, "c", "", "", "", "", "", "", ""]
    digest = hmac.new(base64.b64decode(key), "\n".join(signed).encode(), hashlib.sha256).digest()
    fields = {"sp": permissions, "se": expiry, "spr": "https", "sv": version, "sr": "c", "sig": base64.b64encode(digest).decode()}
    return urlencode(fields)


class Storage:
    """An account in Azurite, looked at with the account's key and not with what is tested."""

    def __init__(self, port, ca_file):
        self.port, self.ca_file, self.name = port, ca_file, "https://localhost:{0}/{1}".format(port, ACCOUNT)

    def url(self, permissions, container="reports", **more):
        return "{0}/{1}?{2}".format(self.name, container, signature(container, permissions, **more))

    def asked(self, method, path, query=(), content=b"", headers=()):
        """Ask with the account's key (Shared Key), and return (status, body)."""
        headers = {
            "x-ms-date": datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "x-ms-version": "2021-12-02",
            **dict(headers),
        }
        own = "".join("{0}:{1}\n".format(name, headers[name]) for name in sorted(headers) if name.startswith("x-ms-"))
        resource = "/{0}/{0}{1}".format(ACCOUNT, path) + "".join("\n{0}:{1}".format(name, value) for name, value in sorted(query))
        length = str(len(content)) if content else ""
        text = "\n".join([method, "", "", length, "", "", "", "", "", "", "", "", own + resource])
        made = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        connection = http.client.HTTPSConnection(
            "localhost", self.port, context=ssl.create_default_context(cafile=self.ca_file), timeout=10
        )
        target = "/{0}{1}{2}".format(ACCOUNT, quote(path), "?" + urlencode(query) if query else "")
        connection.request(method, target, content or None, {**headers, "Authorization": "SharedKey {0}:{1}".format(ACCOUNT, made)})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def stored(self, name):
        status, body = self.asked("GET", "/reports/" + name)
        return body if status == 200 else None


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    directory = tmp_path_factory.mktemp("azurite")
    ca_file = tls.make(directory)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen(
            [AZURITE, "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port),
             "--cert", str(directory / "server.pem"), "--key", str(directory / "server.key")],
            stdout=log, stderr=log, env={**os.environ, "AZURITE_ACCOUNTS": "{0}:{1}".format(ACCOUNT, KEY)},
        )  # fmt: skip
    account = Storage(port, str(ca_file))
    deadline = time.monotonic() + 60
    while True:
        try:
            status, body = account.asked("PUT", "/reports", [("restype", "container")])
            assert status == 201, body
            break
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.2)
    yield account
    server.terminate()
    server.wait(20)


@pytest.fixture
def named(storage, request):
    """Return a function that opens the container with the permissions of a signature."""
    return lambda permissions, **more: _container.Container(
        storage.url(permissions, **more), environ={"REQUESTS_CA_BUNDLE": storage.ca_file}, sleep=lambda _seconds: None
    )


def test_what_is_stored_is_there_and_is_read_back(storage, named):
    content = '{"host": "wéb"}'.encode()
    address = named("cw").put("one.json", content, "application/json")
    assert address == storage.name + "/reports/one.json"
    assert storage.stored("one.json") == content
    assert named("r").get("one.json") == content


def test_it_is_stored_over_an_older_one(storage, named):
    for content in (b"old", b"new"):
        named("cw").put("two.json", content, "application/json")
    assert storage.stored("two.json") == b"new"


def test_names_of_a_pattern_are_listed(named):
    for name in ("slice-1.json", "slice-1.html", "slice-2.json", "other.json"):
        named("cw").put(name, b"{}", "application/json")
    assert named("rl").names("slice-*.json") == ["slice-1.json", "slice-2.json"]


@pytest.mark.parametrize(
    ("permissions", "more", "said"),
    [
        ("r", {}, "Could not store three.json in {0}/reports: HTTP 403 AuthorizationPermissionMismatch, the signature does not allow it"),
        # Azure Storage says AuthenticationFailed here, which Azurite does not know.
        ("cw", {"expires_in_s": -60}, "HTTP 403 AuthorizationFailure, "),
        ("cw", {"key": base64.b64encode(b"another").decode()}, "the signature is not valid (any more)"),
        (
            "cw",
            {"container": "nowhere"},
            "Could not store three.json in {0}/nowhere: HTTP 404 ContainerNotFound, there is no such container",
        ),
    ],
)
def test_a_refusal_is_said_and_shows_no_signature(storage, named, permissions, more, said):
    with pytest.raises(_container.ContainerError) as caught:
        named(permissions, **more).put("three.json", b"{}", "application/json")
    assert said.format(storage.name) in str(caught.value)
    assert "sig" not in str(caught.value).replace("signature", "") and storage.stored("three.json") is None


def test_a_signature_that_only_creates_does_not_overwrite(storage, named):
    named("c").put("four.json", b"first", "application/json")
    # Azure Storage says UnauthorizedBlobOverwrite here, which Azurite does not know.
    with pytest.raises(_container.ContainerError, match="HTTP 403 AuthorizationPermissionMismatch, the signature does not allow it"):
        named("c").put("four.json", b"second", "application/json")
    assert storage.stored("four.json") == b"first"


def host(name, status):
    return dict(dict.fromkeys(_report_merge.KEYS), host=name, status=status, findings=[], not_seen=[], actions=[])


def merged(storage, directory, url, *arguments):
    """Run the playbook that merges reports, with the address of the container in the environment."""
    env = {name: value for name, value in os.environ.items() if name != _container.VARIABLE}
    env.update(
        ANSIBLE_COLLECTIONS_PATH=os.path.join(CACHE, "tree") + ":" + os.path.join(CACHE, "needed"), ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_NOCOLOR="1", REQUESTS_CA_BUNDLE=storage.ca_file, VMBACKUP_REPORT_CONTAINER_URL=url,
    )  # fmt: skip
    command = [os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), "vmbackup.azure.report", "-vvvv", *arguments]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_the_playbook_merges_reports_of_the_container_and_stores_the_whole(storage, named, tmp_path):
    for name in ("a", "b"):
        part = {"schema_version": 1, "generated_at": "2026-01-01T00:00:00Z", "mode": "remediate", "check_mode": False, "problem": None,
                "hosts": [host(name, "repaired")]}  # fmt: skip
        named("cw").put("job7-{0}.json".format(name), json.dumps(part).encode(), "application/json")
    url = storage.url("rcwl")
    done = merged(storage, tmp_path, url, "-e", json.dumps({"vmbackup_reports": ["job7-*.json"]}), "-e", "vmbackup_report_name=whole")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "whole.html and {0}/reports/whole.html".format(storage.name) in done.stdout
    assert [each["host"] for each in json.loads(storage.stored("whole.json"))["hosts"]] == ["a", "b"]
    assert storage.stored("whole.html") == (tmp_path / "vmbackup-report" / "whole.html").read_bytes()
    signed = dict(re.findall(r"(\w+)=([^&]+)", urlsplit(url).query))["sig"]
    assert signed not in done.stdout + done.stderr


def test_the_playbook_keeps_the_report_and_fails_where_it_is_not_stored(storage, tmp_path):
    part = {"schema_version": 1, "generated_at": "2026-01-01T00:00:00Z", "mode": "remediate", "check_mode": False, "problem": None,
            "hosts": [host("a", "repaired")]}  # fmt: skip
    (tmp_path / "part.json").write_text(json.dumps(part))
    url = storage.url("rl")
    done = merged(storage, tmp_path, url, "-e", json.dumps({"vmbackup_reports": ["part.json"]}))
    assert done.returncode == 2, done.stdout + done.stderr
    assert (
        "Could not store vmbackup-report.json in {0}/reports: HTTP 403 AuthorizationPermissionMismatch".format(storage.name) in done.stdout
    )
    assert json.loads((tmp_path / "vmbackup-report" / "vmbackup-report.json").read_text())["hosts_total"] == 1
    assert "sig=" not in done.stdout + done.stderr
