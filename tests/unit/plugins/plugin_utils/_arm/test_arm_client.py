# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The client against the stand-in: over TLS, as it goes over the wire."""

import base64
import json
import logging
import traceback

import pytest
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm import tls
from ansible_collections.vmbackup.azure.lab.arm.server import SECRET, StandIn
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors, paging
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.budget import Budget
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.retry import Retry
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())
COMPUTE, BACKUP = "2024-07-01", "2024-04-01"


@pytest.fixture
def azure():
    with StandIn(fleet_.generate(6, 3)) as stand_in:
        yield stand_in


@pytest.fixture
def make(azure):
    """Return a function that makes clients; waits are noted and not waited."""
    made = []

    def client(read_only=True, environ=None, budget=None, **options):
        waits = []
        one = Client.from_options(
            {**azure.options(), **options},
            environ=environ or {"HOME": "/nonexistent"},
            read_only=read_only,
            retry=Retry(jitter=lambda: 0.0),
            budget=budget or Budget(),
            sleep=waits.append,
        )
        one.waits = waits
        made.append(one)
        return one

    yield client
    for one in made:
        one.close()


def subscription(azure):
    return next(iter(azure.fleet.subscriptions))


def machines(azure):
    return "/subscriptions/{0}/providers/Microsoft.Compute/virtualMachines".format(subscription(azure))


def vault(azure):
    return azure.fleet.of_type("Microsoft.RecoveryServices/vaults")[0]["id"]


# Reads


def test_a_list_over_several_pages_on_few_connections(azure, make):
    azure.resources.page = 2
    client = make()
    names = [entry["name"] for entry in client.items(machines(azure), COMPUTE)]
    assert names == ["vm{0:04d}".format(number) for number in range(6)]
    assert len(azure.requests("GET .*virtualMachines")) == 3
    assert len(azure.requests("POST .*/token")) == 1 and client.counts.requests == {"GET": 3}


def test_a_list_that_leads_back_to_itself_ends(azure, make):
    own = {"value": [], "nextLink": "{0}/subscriptions?api-version=2022-12-01".format(azure.url)}
    azure.fault("GET /subscriptions$", status=200, body=own, times=50)
    with pytest.raises(errors.AnswerError, match="does not end"):
        list(make().items("/subscriptions", "2022-12-01"))


def test_an_empty_page_may_have_a_next_one(azure, make):
    following = {"value": [], "nextLink": "{0}/subscriptions?api-version=2022-12-01&x=2".format(azure.url)}
    azure.fault("GET /subscriptions$", status=200, body=following)
    assert len(list(make().items("/subscriptions", "2022-12-01"))) == 1


def test_a_next_link_that_echoes_a_filter_as_it_was_meant_is_followed(azure, make):
    path = vault(azure) + "/backupProtectedItems"
    filter_ = "backupManagementType eq 'AzureIaasVM' and itemType eq 'VM'"
    expected = list(make().items(path, BACKUP, **{"$filter": filter_}))
    following = {"value": [], "nextLink": "{0}{1}?api-version={2}&$filter={3}".format(azure.url, path, BACKUP, filter_)}
    azure.fault("GET .*/backupProtectedItems$", status=200, body=following)
    assert expected and list(make().items(path, BACKUP, **{"$filter": filter_})) == expected


def test_what_is_encoded_in_a_next_link_stays(azure, make, monkeypatch):
    asked = "{0}/subscriptions?api-version=2022-12-01&$skiptoken=a%2Fb%3D%3D&x='(1),*~;+'".format(azure.url)
    azure.fault("GET /subscriptions$", status=200, body={"value": [], "nextLink": asked})
    client, sent = make(), []
    send = client._transport.send
    monkeypatch.setattr(
        client._transport, "send", lambda method, url, *more, **options: (sent.append(url), send(method, url, *more, **options))[1]
    )
    assert list(client.items("/subscriptions", "2022-12-01")) and sent[-1] == asked


@pytest.mark.parametrize("address", ["https://evil.example/x?sig=abc", "http://127.0.0.1/x?sig=abc"])
def test_no_token_goes_where_a_next_link_leads_outside(azure, make, address):
    azure.fault("GET /subscriptions$", status=200, body={"value": [], "nextLink": address})
    with pytest.raises(errors.AnswerError, match="outside https://127.0.0.1.*Nothing was sent there") as caught:
        list(make().items("/subscriptions", "2022-12-01"))
    assert "abc" not in str(caught.value)


def test_graph_over_several_pages(azure, make):
    azure.graph_page = 4
    rows = list(make().graph("resources | where type =~ 'microsoft.compute/virtualmachines' | project id, name | order by id asc"))
    assert len(rows) == 6 and len(azure.requests("POST .*ResourceGraph")) == 2


def test_graph_that_cuts_an_answer_short_is_an_error_not_an_end(azure, make):
    """Without a column id the service gives one page and no token."""
    azure.graph_page = 4
    with pytest.raises(errors.AnswerError, match="gave 4 of 6 rows and no further page"):
        list(make().graph("resources | where type =~ 'microsoft.compute/virtualmachines' | project name | order by name asc"))


VMS = "resources | where type =~ 'microsoft.compute/virtualmachines' | project id, name, properties | order by id asc"


def test_graph_that_refuses_a_large_page_is_asked_for_smaller_ones(azure, make, monkeypatch):
    """The second page is refused after rows of the first were given: none is lost, none comes twice."""
    monkeypatch.setattr(paging, "GRAPH_PAGE", 4)
    monkeypatch.setattr(paging, "GRAPH_SMALLEST", 1)
    last = next(value for value in azure.fleet.resources.values() if value["name"] == "vm0005")
    last["properties"]["userData"] = "x" * 50000
    rows = list(make().graph(VMS))
    azure.graph_bytes = len(json.dumps(rows[-1:]))
    assert len(json.dumps(rows[:4])) < azure.graph_bytes
    azure.log.clear()
    assert list(make().graph(VMS)) == rows
    assert [status for _method, _path, status in azure.requests("POST .*ResourceGraph")] == [200, 400] + [200, 200, 400] + [200] * 6


def test_graph_that_refuses_the_smallest_page_is_an_error(azure, make):
    azure.graph_bytes = 10
    with pytest.raises(errors.AnswerError, match="Response payload size is") as caught:
        list(make().graph(VMS))
    assert caught.value.details == ("ResponsePayloadTooLarge",)
    assert len(azure.requests("POST .*ResourceGraph")) == 6, "1000, 500, 250, 125, 62 and 50 rows"


def test_graph_over_more_subscriptions_than_one_request_takes(azure, make):
    many = [subscription(azure)] + ["{0:08d}".format(number) for number in range(1000)]
    azure.fleet.subscriptions["00000999"] = {}
    rows = list(make().graph("resources | where type =~ 'microsoft.compute/virtualmachines' | project id", subscriptions=many))
    assert len(rows) == 6 and len(azure.requests("POST .*ResourceGraph")) == 2


def test_an_error_in_a_query_tells_the_inner_reason(make):
    with pytest.raises(errors.AnswerError, match="InvalidQuery|Query is invalid") as caught:
        list(make().graph("where where"))
    assert caught.value.correlation_id and "correlation id" in str(caught.value)


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"reset": True}])
def test_a_read_survives_a_failure_of_the_server(azure, make, fault):
    azure.fault("GET /subscriptions$", **fault)
    client = make()
    assert client.get("/subscriptions", "2022-12-01")["value"]
    assert client.counts.repeated <= 1


def test_a_read_gives_up_after_its_attempts(azure, make):
    azure.fault("GET /subscriptions$", status=500, times=99)
    client = make()
    with pytest.raises(errors.AnswerError, match="was answered with 500"):
        client.get("/subscriptions", "2022-12-01")
    assert len(azure.requests("GET /subscriptions$")) == 5 and client.waits == sorted(client.waits)


def test_an_idle_connection_that_was_closed_is_no_failure(azure, make):
    client = make()
    client.get("/subscriptions", "2022-12-01")
    azure.fault("GET /subscriptions$", reset=True)
    client.get("/subscriptions", "2022-12-01")
    assert client.counts.repeated == 0


def test_retry_after_is_obeyed_and_a_long_wait_is_reported(azure, make):
    body = {"error": {"code": "TooMany", "message": "slow down"}}
    azure.fault("GET /subscriptions$", status=429, headers={"retry-after": "17"}, body=body)
    client = make()
    client.get("/subscriptions", "2022-12-01")
    assert client.waits == [17.0]
    assert client.counts.notes == ["Waited 17 s: GET {0}/subscriptions?api-version=2022-12-01 was answered with 429".format(azure.url)]


def test_a_429_storm_on_jobs_stops_at_once_for_all(azure, make):
    azure.limits.jobs_an_hour = 3
    client = make()
    path = vault(azure) + "/backupJobs"
    results = [result for _item, result in client.at_once(lambda number: client.get(path, BACKUP), range(20))]
    failed = [result for result in results if isinstance(result, Exception)]
    assert len(failed) == 17 and client.waits == []
    assert any(
        isinstance(error, errors.Throttled) and "exceeded the limit of '3'" in str(error) and "run it again" in str(error)
        for error in failed
    )
    sent = len(azure.requests("GET .*backupJobs"))
    for _number in range(20):
        with pytest.raises(errors.BudgetExhausted, match="Azure has refused them for now"):
            client.get(path, BACKUP)
    assert len(azure.requests("GET .*backupJobs")) == sent


def test_our_own_budget_is_below_azures(azure, make):
    client = make()
    path = vault(azure) + "/backupJobs"
    results = [result for _item, result in client.at_once(lambda number: client.get(path, BACKUP), range(130))]
    assert sum(isinstance(result, errors.BudgetExhausted) for result in results) == 10
    assert {status for _method, _path, status in azure.requests("backupJobs")} == {200}


def test_sixteen_at_once_and_no_more(azure, make):
    client = make()
    running, most = [], []

    def slow(number):
        running.append(number)
        most.append(len(running))
        client.get("/subscriptions", "2022-12-01")
        running.remove(number)

    azure.latency_s = 0.02
    client.at_once(slow, range(64))
    assert max(most) == 16


# Tokens and rights


def test_an_expired_token_is_renewed_once(azure, make):
    client = make()
    client.get("/subscriptions", "2022-12-01")
    azure.tokens.expire()
    client.get("/subscriptions", "2022-12-01")
    assert len(azure.requests("POST .*/token")) == 2


def test_a_token_that_azure_never_takes_is_one_sentence(azure, make):
    azure.fault(
        "GET /subscriptions$", status=401, body={"error": {"code": "InvalidAuthenticationTokenTenant", "message": "wrong issuer"}}, times=99
    )
    with pytest.raises(errors.AuthenticationError, match="does not accept the token, also not a new one.*wrong issuer"):
        make().get("/subscriptions", "2022-12-01")
    assert len(azure.requests("GET /subscriptions$")) == 2


@pytest.mark.parametrize(
    "options, says",
    [
        ({"secret": "hunter2"}, "the client secret is wrong"),
        ({"tenant": "other.example"}, "no tenant with that id or name"),
        ({"client_id": "nobody"}, "no application with that client id"),
    ],
)
def test_wrong_credentials_are_one_clear_sentence(azure, make, options, says, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(errors.AuthenticationError, match=says) as caught:
        make(**options).get("/subscriptions", "2022-12-01")
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value.__dict__)
    assert "hunter2" not in shown and SECRET not in shown
    assert len(azure.requests("POST .*/token")) == 1


def test_a_403_names_the_action_and_the_correlation_id(azure, make):
    azure.backup.deny(vault(azure))
    with pytest.raises(errors.AccessDenied, match="403 AuthorizationFailed.*correlation id"):
        make().get(vault(azure), BACKUP)
    assert len(azure.requests("GET .*/vaults/")) == 1


def test_a_wrong_clock_of_the_controller_is_said_and_does_no_harm(azure, make):
    azure.clock_skew_s = -7200
    client = make()
    client.get("/subscriptions", "2022-12-01")
    assert 7190 < client.clock_skew_s < 7210
    assert "clock is 72" in client.counts.notes[0] and "ahead of Azure's" in client.counts.notes[0]


# The way


def through_proxy(azure, **more):
    return {"HOME": "/nonexistent", **azure.environment(), **more}


def proxied(azure, environ, **options):
    return Client.from_options(options, environ=environ, budget=Budget(), sleep=lambda seconds: None)


def test_through_the_connect_proxy_with_the_environment_of_azcollection(azure):
    with proxied(azure, through_proxy(azure)) as client:
        assert client.cloud.resource_manager == "https://management.azure.com"
        assert client.get("/subscriptions", "2022-12-01")["value"]


def test_a_proxy_with_a_password(azure):
    azure.proxy_password = "hun:ter2"
    with proxied(azure, through_proxy(azure, HTTPS_PROXY="http://user:hun%3Ater2@127.0.0.1:{0}".format(azure.proxy_port))) as client:
        assert client.get("/subscriptions", "2022-12-01")["value"]
    with proxied(azure, through_proxy(azure, HTTPS_PROXY="http://user:nope@127.0.0.1:{0}".format(azure.proxy_port))) as client:
        with pytest.raises(errors.TransportError, match="The proxy 127.0.0.1:.* refuses to connect to login.*407") as caught:
            client.get("/subscriptions", "2022-12-01")
    assert "nope" not in str(caught.value)


def test_a_proxy_that_refuses_the_host(azure):
    with proxied(azure, through_proxy(azure), cloud_environment="AzureChinaCloud") as client:
        with pytest.raises(errors.TransportError, match=r"refuses to connect to login.chinacloudapi.cn: 403 Forbidden\."):
            client.get("/subscriptions", "2022-12-01")


def test_a_proxy_that_is_not_there(azure):
    with proxied(azure, through_proxy(azure, HTTPS_PROXY="http://127.0.0.1:1")) as client:
        with pytest.raises(errors.TransportError, match="The proxy 127.0.0.1:1 refuses connections"):
            client.get("/subscriptions", "2022-12-01")


def test_no_proxy_is_obeyed(azure, make):
    client = make(environ={"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1", "HOME": "/nonexistent"})
    assert client.get("/subscriptions", "2022-12-01")["value"]


def test_an_unknown_ca_is_one_clear_sentence(azure, make):
    with pytest.raises(errors.TransportError, match="certificate of 127.0.0.1 is not trusted.*ca_file"):
        make(ca_file=None).get("/subscriptions", "2022-12-01")


def test_the_ca_of_requests_is_used(azure, make):
    assert make(ca_file=None, environ={"REQUESTS_CA_BUNDLE": azure.ca_file, "HOME": "/x"}).get("/subscriptions", "2022-12-01")["value"]


# Writes


def backup_path(azure):
    return next(iter(azure.fleet.items.values()))["id"] + "/backup"


REQUEST = {"properties": {"objectType": "IaasVMBackupRequest"}}


def test_check_mode_sends_no_write(azure, make):
    with pytest.raises(errors.ReadOnly):
        make().write("POST", backup_path(azure), BACKUP, REQUEST)
    assert azure.requests("POST .*/backup") == []


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503, "headers": {"retry-after": "1"}}, {"reset": True}])
def test_a_write_is_sent_once_when_nobody_knows_what_became_of_it(azure, make, fault):
    azure.fault("POST .*/backup$", **fault)
    with pytest.raises(errors.AzureError):
        make(read_only=False).write("POST", backup_path(azure), BACKUP, REQUEST)
    assert len(azure.requests("POST .*/backup$")) == 1


def test_a_write_on_a_kept_connection_that_was_closed_is_not_sent_twice(azure, make):
    client = make(read_only=False)
    client.get("/subscriptions", "2022-12-01")
    azure.fault("POST .*/backup$", reset=True)
    with pytest.raises(errors.TransportError):
        client.write("POST", backup_path(azure), BACKUP, REQUEST)
    assert len(azure.requests("POST .*/backup$")) == 1


def test_a_write_that_was_refused_is_sent_again(azure, make):
    azure.fault("POST .*/backup$", status=429, headers={"retry-after": "3"}, body={"error": {"code": "TooManyRequests", "message": "x"}})
    client = make(read_only=False)
    assert client.write("POST", backup_path(azure), BACKUP, REQUEST).status == 202
    assert client.waits == [3.0]


def test_a_backup_is_started_and_its_job_is_named_within_seconds(azure, make):
    client = make(read_only=False)
    started = client.write("POST", backup_path(azure), BACKUP, REQUEST, {"x-ms-client-request-id": "11111111-2222-3333-4444-555555555555"})
    assert started.headers["retry-after"] == "60"
    ended = client.wait(started, deadline_s=60)
    assert client.waits[0] == 2.0 and sum(client.waits) < 10
    job = client.get("{0}/backupJobs/{1}".format(backup_path(azure).split("/backupFabrics/")[0], ended.properties["jobId"]), BACKUP)
    assert job["properties"]["activityId"] == "11111111-2222-3333-4444-555555555555"


def test_one_500_on_a_poll_ends_nothing(azure, make):
    client = make(read_only=False)
    started = client.write("POST", machine_path(azure) + "/start", COMPUTE)
    azure.fault("GET .*/operations/", status=500)
    assert client.wait(started, deadline_s=60).status == "Succeeded"


def machine_path(azure):
    return azure.fleet.of_type("Microsoft.Compute/virtualMachines")[0]["id"]


def test_signed_addresses_are_used_verbatim_and_shown_nowhere(azure, make):
    client = make(read_only=False)
    shown = []
    client._on_request = lambda *details: shown.append(details)
    started = client.write("POST", machine_path(azure) + "/deallocate", COMPUTE)
    assert "s=stand-in-signature" in started.headers["azure-asyncoperation"]
    azure.fault("GET .*/operations/", status=403, body={"error": {"code": "No", "message": "see " + started.headers["location"]}})
    with pytest.raises(errors.AccessDenied) as caught:
        client.wait(started, deadline_s=60)
    assert "stand-in-signature" not in str(caught.value) + repr(caught.value) + repr(shown) + repr(client.counts) + repr(started)


def test_an_operation_that_fails_says_why(azure, make):
    client = make(read_only=False)
    started = client.write("POST", machine_path(azure) + "/start", COMPUTE)
    next(iter(azure.fleet.operations.values())).error = {"code": "AllocationFailed", "message": "no room"}
    with pytest.raises(errors.OperationFailed, match="ended as Failed with AllocationFailed: no room"):
        client.wait(started, deadline_s=60)


def test_an_operation_without_end_is_left_after_its_time(azure, make):
    azure.resources.polls = 10**6
    now = [0.0]
    client = make(read_only=False)
    started = client.write("POST", machine_path(azure) + "/start", COMPUTE)
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import operations

    def sleep(seconds):
        now[0] += seconds

    with pytest.raises(errors.OperationFailed, match="did not end within 120 s; it may still be running"):
        operations.wait(client, started, deadline_s=120, sleep=sleep, clock=lambda: now[0])
    assert len(azure.requests("GET .*/operations/")) < 20


def test_only_location_and_no_address_at_all(azure, make):
    client = make(read_only=False)
    location = "{0}{1}/backupFabrics/Azure/refreshContainers".format(azure.url, vault(azure))
    started = client.write("POST", location[len(azure.url) :], BACKUP)
    started.headers.pop("azure-asyncoperation")
    assert client.wait(started, deadline_s=60).status == "Succeeded"
    with pytest.raises(errors.AnswerError, match="named no address"):
        client.wait(Answer(202, {}, b""), deadline_s=60)
    assert client.wait(Answer(204, {}, b""), deadline_s=60).value is None


def test_no_token_is_logged_or_shown(azure, make, caplog):
    caplog.set_level(logging.DEBUG)
    client = make()
    client.get("/subscriptions", "2022-12-01")
    given = next(iter(azure.tokens._given))
    encoded = base64.b64encode(given.encode()).decode()
    shown = caplog.text + repr(client) + repr(vars(client)) + repr(client._credential.__dict__) + repr(client.counts)
    assert given not in shown and encoded not in shown and SECRET not in shown
