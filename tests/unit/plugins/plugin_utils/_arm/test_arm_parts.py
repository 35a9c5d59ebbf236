# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts of the client that need no server: what is repeated, what is allowed in an hour, what errors say, where credentials come from."""

import copy
import json
import pickle
import sys

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import budget, clouds, credentials, errors, retry, transport
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer

RM = "https://management.azure.com"
VAULT = RM + "/subscriptions/S1/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v1"
SIGNED = RM + "/subscriptions/s/providers/Microsoft.Compute/locations/we/operations/1?api-version=2024-07-01&t=638&c=MIIH&s=abc&h=def"
JOBS_429 = (
    "'Microsoft.RecoveryServices/vaults/backupJobs/read' exceeded the limit of '150' for time interval '01:00:00'."
    " Please try again after '324' seconds."
)


def answer(status, headers=None, body=None):
    return Answer(status, headers or {}, json.dumps(body or {}).encode())


def refused(**headers):
    return answer(429, headers, {"error": {"code": "TooManyRequests", "message": "slow down"}})


# What is sent again


@pytest.mark.parametrize(
    "status, read, again",
    [(429, True, True), (500, True, True), (503, True, True), (404, True, False), (500, False, False), (503, False, False)],
)
def test_reads_are_repeated_and_writes_are_not(status, read, again):
    assert (retry.Retry().after_answer(answer(status), 1, read) is not None) is again


def test_a_write_is_repeated_only_after_a_429_that_is_azures_own():
    rules = retry.Retry()
    assert rules.after_answer(refused(), 1, read=False) is not None
    assert rules.after_answer(Answer(429, {}, b"<html>too many</html>"), 1, read=False) is None
    assert rules.after_answer(answer(429), 1, read=False) is None
    # Retry-After on another failure proves nothing.
    assert rules.after_answer(answer(503, {"retry-after": "1"}, {"error": {"code": "Busy"}}), 1, read=False) is None


@pytest.mark.parametrize(
    "kind, read, again", [("reset", True, True), ("timeout", True, True), ("reset", False, False), ("tls", True, False)]
)
def test_a_lost_connection(kind, read, again):
    assert (retry.Retry().after_loss(errors.TransportError("x", kind=kind), 1, read) is not None) is again


def test_attempts_end():
    rules = retry.Retry(attempts=3)
    assert rules.after_answer(answer(500), 2, True) is not None
    assert rules.after_answer(answer(500), 3, True) is None
    assert rules.after_loss(errors.TransportError("x", kind="reset"), 3, True) is None


@pytest.mark.parametrize(
    "headers, body, seconds",
    [
        ({"retry-after": "7"}, {}, 7.0),
        ({"retry-after": "0.05"}, {}, 0.05),
        ({"retry-after-ms": "250"}, {}, 0.25),
        ({"retry-after": "Tue, 24 Nov 2026 10:00:30 GMT", "date": "Tue, 24 Nov 2026 10:00:00 GMT"}, {}, 30.0),
        ({"retry-after": "soon"}, {}, None),
        ({"x-ms-user-quota-resets-after": "00:01:05"}, {}, 65.0),
        ({}, {"error": {"code": "x", "message": JOBS_429}}, 324.0),
        ({}, {}, None),
    ],
)
def test_the_wait_that_azure_asks_for(headers, body, seconds):
    assert retry.asked_wait(answer(429, headers, body)) == seconds


def test_a_wait_beyond_the_cap_is_not_waited():
    rules = retry.Retry(longest_wait_s=60, jitter=lambda: 0.0)
    assert rules.after_answer(refused(**{"retry-after": "60"}), 1, True) == 60
    assert rules.after_answer(refused(**{"retry-after": "61"}), 1, True) is None


# The hour


def test_jobs_and_other_reads_have_budgets_of_their_own_and_polls_count():
    now = [0.0]
    hour = budget.Budget({"reads of backup jobs": 2, "other reads of Recovery Services": 1}, lambda: now[0])
    hour.spend("GET", VAULT + "/backupJobs?api-version=1")
    hour.spend("GET", VAULT + "/BackupJobs/1234?api-version=1")
    with pytest.raises(errors.BudgetExhausted, match="reads of backup jobs in subscription s1.*free again in 3600 s"):
        hour.spend("GET", VAULT.replace("/S1/", "/s1/") + "/backupJobs")
    hour.spend("GET", VAULT + "/backupOperations/77")
    with pytest.raises(errors.BudgetExhausted, match="other reads"):
        hour.spend("GET", VAULT + "/backupFabrics/Azure/operationResults/78")
    # Another subscription, another service and a write are not counted here.
    hour.spend("GET", VAULT.replace("/S1/", "/s2/") + "/backupJobs")
    hour.spend("GET", RM + "/subscriptions/s1/providers/Microsoft.Compute/virtualMachines")
    hour.spend("POST", VAULT + "/backupJobs/1/cancel")
    now[0] = 3600.0
    hour.spend("GET", VAULT + "/backupJobs")


def test_after_a_long_refusal_no_further_request_of_that_kind_is_sent():
    now = [0.0]
    hour = budget.Budget(clock=lambda: now[0])
    hour.block("GET", VAULT + "/backupJobs", 324)
    with pytest.raises(errors.BudgetExhausted, match="free again in 324 s") as caught:
        hour.spend("GET", VAULT + "/backupJobs/1")
    assert caught.value.retry_after_s == 324
    hour.spend("GET", VAULT + "/backupPolicies")
    now[0] = 324.0
    hour.spend("GET", VAULT + "/backupJobs/1")


def test_budgets_are_below_the_services_limits():
    assert budget.LIMITS["reads of backup jobs"] == 120
    assert budget.LIMITS["other reads of Recovery Services"] < 300


# What errors say


def test_no_signed_address_and_no_token_is_shown():
    text = errors.redacted(
        'GET {0} with Bearer abc.def-ghi and client_secret=hunter2&x=1, "access_token": "qqq" eyJhbGciOi.eyJzdWIi.sig'.format(SIGNED)
    )
    for secret in ("MIIH", "s=abc", "h=def", "abc.def-ghi", "hunter2", "qqq", "eyJhbGciOi"):
        assert secret not in text
    assert "operations/1?api-version=2024-07-01" in text


@pytest.mark.parametrize("url", ["https://[::1/x?sig=abc", "https://h:99999999/x?sig=abc"])
def test_an_address_that_is_none_shows_no_secret_either(url):
    assert "abc" not in errors.redacted(url)


def test_an_answer_becomes_one_sentence_with_its_correlation_id():
    body = {"error": {"code": "BadRequest", "message": "one\r\n two", "details": [{"code": "InvalidQuery", "message": "three"}]}}
    error = errors.from_answer("GET", SIGNED, 400, {"x-ms-correlation-request-id": "e7714760-0486"}, json.dumps(body).encode())
    assert str(error).endswith("was answered with 400 BadRequest: one two three (correlation id e7714760-0486)")
    assert "s=abc" not in str(error) and error.code == "BadRequest" and error.correlation_id == "e7714760-0486"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"text"', b'{"error": null}', b'{"error": {"code": null, "details": [1]}}', b"\xff\xfe"]
)
def test_any_answer_becomes_an_error(body):
    assert "503" in str(errors.from_answer("GET", RM + "/x", 503, {}, body))


def test_statuses_have_their_kinds():
    kinds = {403: errors.AccessDenied, 404: errors.NotFound, 429: errors.Throttled, 409: errors.AnswerError}
    for status, kind in kinds.items():
        assert errors.from_answer("GET", RM + "/x", status, {}, b"").__class__ is kind


@pytest.mark.parametrize(
    "description, says",
    [
        ("AADSTS7000215: Invalid client secret provided. Ensure\r\nTrace ID: x", "the client secret is wrong"),
        ("AADSTS90002: Tenant 'x' not found.", "no tenant with that id"),
        ("AADSTS999: Something new happened.\r\nTrace ID: abc\r\nCorrelation ID: d", "AADSTS999: Something new happened"),
    ],
)
def test_a_refused_sign_in_says_why(description, says):
    body = json.dumps({"error": "invalid_client", "error_description": description, "correlation_id": "c-1"}).encode()
    error = errors.sign_in_failed(401, {}, body, "t", "c")
    assert says in str(error) and "c-1" in str(error) and "Trace" not in str(error)


# Credentials


OPTIONS = {"client_id": "app", "secret": "hunter2", "tenant": "example.com"}


def test_a_secret_shows_itself_to_nobody():
    secret = credentials.Secret("hunter2")
    found = credentials.settings(OPTIONS, {})
    for shown in (repr(secret), str(secret), "{0}".format(secret), "%s" % secret, repr(found), repr(vars(found))):
        assert "hunter2" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(found)
    assert secret.reveal() == "hunter2"


def test_names_of_azcollection_and_of_the_libraries_work_and_options_go_first():
    collection = {
        "AZURE_CLIENT_ID": "a",
        "AZURE_SECRET": "s",
        "AZURE_TENANT": "t",
        "AZURE_SUBSCRIPTION_ID": "i",
        "AZURE_CLOUD_ENVIRONMENT": "AzureChinaCloud",
    }
    found = credentials.settings({}, collection)
    assert [found.get(name) for name in ("client_id", "tenant", "subscription_id", "cloud_environment")] == [
        "a",
        "t",
        "i",
        "AzureChinaCloud",
    ]
    assert found.secret.reveal() == "s"
    library = credentials.settings({}, {"AZURE_CLIENT_SECRET": "s2", "AZURE_TENANT_ID": "t2"})
    assert (library.secret.reveal(), library.get("tenant")) == ("s2", "t2")
    assert credentials.settings({"client_id": "mine"}, collection).get("client_id") == "mine"


def test_the_credentials_file(tmp_path):
    (tmp_path / ".azure").mkdir()
    (tmp_path / ".azure" / "credentials").write_text("[default]\nclient_id=f\nsecret=5%up\ntenant=t\n[prod]\nclient_id=p\n")
    home = {"HOME": str(tmp_path)}
    found = credentials.settings({}, home)
    assert (found.get("client_id"), found.secret.reveal()) == ("f", "5%up")
    assert credentials.settings({"profile": "prod"}, home).get("client_id") == "p"
    assert credentials.settings({"auth_source": "env"}, home).get("client_id") is None
    with pytest.raises(errors.ConfigurationError, match=r"no section \[none\]"):
        credentials.settings({"auth_source": "credential_file", "profile": "none"}, home)


@pytest.mark.parametrize(
    "options, says",
    [
        ({}, "There are no credentials for Azure"),
        ({"client_id": "app"}, "secret and tenant is missing"),
        ({**OPTIONS, "auth_source": "magic"}, "auth_source 'magic' is not known"),
        ({**OPTIONS, "tenant": "../x"}, "tenant must be an id or a domain name"),
        ({**OPTIONS, "subscription_id": "a/b"}, "subscription_id must be an id"),
        ({**OPTIONS, "cloud_environment": "Moon"}, "cloud_environment 'Moon' is not known"),
        ({**OPTIONS, "resource_manager_url": "http://x"}, "resource_manager_url must be an address"),
        ({**OPTIONS, "ca_file": "/nonexistent/ca.pem"}, "ca_file names /nonexistent/ca.pem"),
        ({"ad_user": "me", "tenant": "t"}, "ad_user and password is not supported"),
    ],
)
def test_bad_options_are_one_clear_sentence(options, says, monkeypatch, tmp_path):
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client

    monkeypatch.setitem(sys.modules, "azure", None)
    monkeypatch.setattr(credentials.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.ConfigurationError, match=says):
        Client.from_options(options, environ={"HOME": str(tmp_path)})


@pytest.mark.parametrize("source", ["msi", "workload_identity", "cli"])
def test_azure_identity_is_needed_only_when_asked_for(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    found = credentials.settings({"auth_source": source}, {})
    with pytest.raises(
        errors.ConfigurationError, match=r"auth_source {0} needs the Python package azure-identity .*pip install".format(source)
    ):
        credentials.find(found, clouds.CLOUDS["AzureCloud"], None)
    credentials.find(credentials.settings(OPTIONS, {}), clouds.CLOUDS["AzureCloud"], None)


class Package:
    """Stands for azure.identity."""

    def __init__(self, fails=False):
        self.fails, self.asked = fails, []

    def __getattr__(self, name):
        if not name.endswith("Credential"):
            raise AttributeError(name)

        def make(*positional, **named):
            self.asked.append((name, named))
            return self

        return make

    def get_token(self, scope):
        import time

        if self.fails:
            raise RuntimeError("Please run 'az login'\nmore with Bearer abcdefgh")
        self.asked.append(scope)
        return type("Token", (), {"token": "tok", "expires_on": time.time() + 3600})()


@pytest.mark.parametrize(
    "options, name",
    [
        ({"auth_source": "msi", "client_id": "u"}, "ManagedIdentityCredential"),
        ({"auth_source": "workload_identity"}, "WorkloadIdentityCredential"),
        ({"auth_source": "cli"}, "AzureCliCredential"),
        ({"x509_certificate_path": "/c.pem", "tenant": "t", "client_id": "c"}, "CertificateCredential"),
    ],
)
def test_azure_identity_gives_the_token(options, name, monkeypatch):
    package = Package()
    monkeypatch.setitem(sys.modules, "azure", type(sys)("azure"))
    monkeypatch.setitem(sys.modules, "azure.identity", package)
    sys.modules["azure"].identity = package
    credential = credentials.find(credentials.settings(options, {}), clouds.CLOUDS["AzureCloud"], None)
    assert credential.token().reveal() == "tok"
    assert package.asked[0][0] == name and package.asked[1] == "https://management.azure.com/.default"
    package.fails = True
    credential.renew(credential.token())
    with pytest.raises(errors.AuthenticationError) as caught:
        credential.token()
    assert "Please run 'az login'" in str(caught.value) and "abcdefgh" not in str(caught.value)


@pytest.mark.parametrize(
    "content, thumbprint, says",
    [
        (b"der", None, None),
        (b"der", "other", "has the thumbprint other"),
        (b"der", "OWN", None),
        (None, "OWN", "cannot be read"),
        (b"", "OWN", "No certificate in .* has the thumbprint"),
    ],
)
def test_a_thumbprint_must_be_that_of_the_certificate(content, thumbprint, says, monkeypatch, tmp_path):
    import hashlib
    import ssl

    own = hashlib.sha1(b"der").hexdigest().upper()
    package = Package()
    monkeypatch.setitem(sys.modules, "azure", type(sys)("azure"))
    monkeypatch.setitem(sys.modules, "azure.identity", package)
    sys.modules["azure"].identity = package
    file = tmp_path / "c.pem"
    if content is not None:
        file.write_text("key first\n" + (ssl.DER_cert_to_PEM_cert(content) if content else "no certificate"))
    options = {
        "x509_certificate_path": str(file),
        "tenant": "t",
        "client_id": "c",
        "thumbprint": own if thumbprint == "OWN" else thumbprint,
    }
    found = credentials.settings(options, {})
    if says is None:
        credentials.find(found, clouds.CLOUDS["AzureCloud"], None)
    else:
        with pytest.raises(errors.ConfigurationError, match=says):
            credentials.find(found, clouds.CLOUDS["AzureCloud"], None)


# Tokens


class Tokens(credentials._Cached):
    def __init__(self, lives_s, **options):
        super().__init__(**options)
        self.lives_s, self.given = lives_s, 0

    def _ask(self):
        self.given += 1
        return credentials.Secret("token{0}".format(self.given)), self.lives_s


def test_a_token_is_renewed_before_it_expires_and_once_for_all_threads():
    now = [0.0]
    tokens = Tokens(3600, clock=lambda: now[0])
    first = tokens.token()
    now[0] = 3299
    assert tokens.token() is first
    now[0] = 3300
    second = tokens.token()
    assert second is not first and tokens.given == 2
    tokens.renew(first)
    assert tokens.token() is second, "a late complaint about an old token must not throw the new one away"
    tokens.renew(second)
    assert tokens.token() is not second


def test_a_token_of_short_life_is_not_asked_for_each_time():
    now = [0.0]
    tokens = Tokens(120, clock=lambda: now[0])
    tokens.token()
    now[0] = 59
    tokens.token()
    assert tokens.given == 1


# Where tokens may go


@pytest.mark.parametrize(
    "url, own",
    [
        (SIGNED, True),
        ("https://westeurope.management.azure.com/x", True),
        ("https://management.azure.com.evil.example/x", False),
        ("https://evilmanagement.azure.com/x", False),
        ("http://management.azure.com/x", False),
        ("https://management.azure.com:444/x", False),
        ("https://management.azure.com@evil.example/x", False),
        ("https://user@management.azure.com/x", False),
    ],
)
def test_a_token_goes_to_the_resource_manager_only(url, own):
    assert clouds.CLOUDS["AzureCloud"].owns(url) is own


def test_clouds_by_name_and_by_endpoint():
    assert clouds.find("azureusgovernment").scope == "https://management.usgovcloudapi.net/.default"
    own = clouds.find("Mine", "https://arm.example:8443/", "https://login.example")
    assert (own.resource_manager, own.login) == ("https://arm.example:8443", "https://login.example")


# The proxy


@pytest.mark.parametrize(
    "environ, found",
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:3128"}, ("p", 3128)),
        ({"https_proxy": "p:3128"}, ("p", 3128)),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "localhost,.azure.com"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "no_proxy": "*"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "other.example"}, ("p", 3128)),
    ],
)
def test_the_proxy_of_the_environment(environ, found):
    proxy = transport.find_proxy("management.azure.com", environ)
    assert (proxy and (proxy.host, proxy.port)) == found


def test_the_proxys_password_is_sent_and_not_shown():
    proxy = transport.find_proxy("h", {"HTTPS_PROXY": "http://us%40er:hun%3Ater2@p:1"})
    assert proxy.headers["Proxy-Authorization"] == "Basic dXNAZXI6aHVuOnRlcjI="
    assert "dXN" not in repr(proxy)
    with pytest.raises(errors.ConfigurationError) as caught:
        transport.find_proxy("h", {"HTTPS_PROXY": "socks5://us:hunter2@p:1"})
    assert "hunter2" not in str(caught.value)
