# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses of containers, and what is sent again. The rest is shown against Azurite, in tests/unit/fleet."""

import ssl

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _container
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.errors import TransportError
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer

URL = "https://reports.blob.core.windows.net/vm-backup?sv=2021-12-02&sr=c&sp=cw&sig=c2VjcmV0"


@pytest.fixture
def answered(monkeypatch):
    """Return a container whose transport gives these answers, and the requests that it was sent."""

    def make(*answers):
        left, sent, pauses = list(answers), [], []
        container = _container.Container(URL, environ={}, sleep=pauses.append)

        def send(method, url, headers, body=None, *, fresh=False):
            assert fresh is (method == "PUT"), "a write on a kept connection may go out twice"
            sent.append((method, url, body))
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(container._transport, "send", send)
        return container, sent, pauses

    return make


def answer(status, code="", body=b""):
    return Answer(status, {"x-ms-error-code": code} if code else {}, body)


LOST = TransportError("The connection to reports.blob.core.windows.net was reset.", kind="reset")


@pytest.mark.parametrize(
    "url",
    [
        "http://reports.blob.core.windows.net/backup?sig=c2VjcmV0",
        "https://reports.blob.core.windows.net/?sig=c2VjcmV0",
        "https://reports.blob.core.windows.net/backup/more/of-it?sig=c2VjcmV0",
        "https://reports.blob.core.windows.net/backup?sp=cw&secret=c2VjcmV0",
        "https://u:c2VjcmV0@reports.blob.core.windows.net/backup?sig=c2VjcmV0",
        "https://[c2VjcmV0/backup?sig=c2VjcmV0",
        "https://reports.blob.core.windows.net:c2VjcmV0/backup?sig=c2VjcmV0",
        "?sv=2021-12-02&sig=c2VjcmV0",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_shown(url):
    with pytest.raises(_container.ContainerError) as caught:
        _container.from_environment({_container.VARIABLE: url})
    assert "must be like https://ACCOUNT.blob.core.windows.net/CONTAINER?SAS" in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value) and "c2vjcmv0" not in str(caught.value)


@pytest.mark.parametrize("environ", [{}, {_container.VARIABLE: " "}])
def test_without_an_address_there_is_none(environ):
    assert _container.from_environment(environ) is None


def test_a_blob_goes_below_the_container_with_the_signature(answered):
    container, sent, _pauses = answered(answer(201))
    assert container.put("a b.json", b"{}", "application/json") == "https://reports.blob.core.windows.net/vm-backup/a%20b.json"
    assert sent == [("PUT", URL.replace("vm-backup?", "vm-backup/a%20b.json?"), b"{}")]


@pytest.mark.parametrize("first", [answer(503, "ServerBusy"), answer(500, "InternalError"), answer(429), LOST])
def test_it_is_sent_again_after_a_failure_of_the_service(answered, first):
    container, sent, pauses = answered(first, answer(201))
    container.put("a.json", b"{}", "application/json")
    assert len(sent) == 2 and pauses == [1.0]


THERE = answer(403, "UnauthorizedBlobOverwrite")


@pytest.mark.parametrize("first", [answer(500), answer(503), LOST])
def test_a_blob_that_is_there_after_a_lost_answer_is_read(answered, first):
    container, sent, _pauses = answered(first, THERE, answer(200, body=b"{}"))
    assert container.put("a.json", b"{}", "application/json").endswith("/a.json")
    assert [method for method, _url, _body in sent] == ["PUT", "PUT", "GET"]


@pytest.mark.parametrize("first", [answer(503), LOST])
def test_an_older_blob_that_is_there_after_a_lost_answer_is_not_called_stored(answered, first):
    container, _sent, _pauses = answered(first, THERE, answer(200, body=b"older"))
    with pytest.raises(_container.ContainerError, match="Could not store a.json in .*: HTTP 403 .* a report of that name is there"):
        container.put("a.json", b"{}", "application/json")


def test_a_blob_that_may_not_be_read_after_a_lost_answer_is_not_known_to_be_stored(answered):
    container, _sent, _pauses = answered(LOST, THERE, answer(403, "AuthorizationPermissionMismatch"))
    with pytest.raises(_container.ContainerError, match="Whether a.json was stored is not known: .* Could not read a.json"):
        container.put("a.json", b"{}", "application/json")


def test_a_certificate_of_another_ca_names_what_can_be_set_here(monkeypatch):
    container = _container.Container(URL, environ={}, sleep=lambda _seconds: None)

    def connect(_connection):
        raise ssl.SSLCertVerificationError(1, "self-signed certificate")

    monkeypatch.setattr("http.client.HTTPSConnection.connect", connect)
    with pytest.raises(_container.ContainerError, match="name the CA's file in REQUESTS_CA_BUNDLE.$"):
        container.put("a.json", b"{}", "application/json")


def test_a_blob_that_was_there_before_is_not(answered):
    container, sent, _pauses = answered(answer(403, "UnauthorizedBlobOverwrite"))
    with pytest.raises(_container.ContainerError, match="a report of that name is there"):
        container.put("a.json", b"{}", "application/json")
    assert len(sent) == 1


def test_it_ends_after_three_attempts(answered):
    container, sent, _pauses = answered(LOST, LOST, LOST)
    with pytest.raises(_container.ContainerError, match="was reset"):
        container.put("a.json", b"{}", "application/json")
    assert len(sent) == 3


def test_a_name_that_is_not_known_is_not_tried_again(answered):
    container, sent, _pauses = answered(TransportError("The name cannot be resolved.", kind="dns"))
    with pytest.raises(_container.ContainerError, match="cannot be resolved"):
        container.put("a.json", b"{}", "application/json")
    assert len(sent) == 1


def test_a_signature_that_expired_is_said_with_what_to_do(answered):
    container, _sent, _pauses = answered(answer(403, "AuthenticationFailed"))
    with pytest.raises(_container.ContainerError) as caught:
        container.put("a.json", b"{}", "application/json")
    assert str(caught.value) == (
        "Could not store a.json in https://reports.blob.core.windows.net/vm-backup: HTTP 403 AuthenticationFailed, the signature is not valid"
        " (any more); make a new one, and check that this machine's clock is right."
    )
