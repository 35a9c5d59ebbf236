# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-in of Azure is as strict as Azure's documentation."""

import http.client
import json
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm import server, tls

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def azure():
    with server.StandIn(fleet_.generate(6, 2, unprotected=1), page=4) as stand_in:
        yield stand_in


def send(azure, method, path, body=None, token=None, headers=None):
    """Send a request and return (status, body)."""
    connection = http.client.HTTPSConnection("127.0.0.1", azure.port, context=ssl.create_default_context(cafile=azure.ca_file))
    more = {"Authorization": "Bearer " + (token or azure.tokens.give()), "Content-Type": "application/json"}
    content = json.dumps(body) if isinstance(body, (dict, list)) else body
    connection.request(method, quote(path, safe="/?&=$;%'"), content, {**more, **(headers or {})})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text else None


def code(answer):
    return answer[0], answer[1]["error"]["code"]


def first(azure, kind):
    return azure.fleet.of_type(kind)[0]["id"]


def test_tokens_and_versions_are_demanded(azure):
    path = "/subscriptions"
    assert code(send(azure, "GET", path, headers={"Authorization": ""})) == (401, "AuthenticationFailed")
    assert code(send(azure, "GET", path, token="made-up")) == (401, "InvalidAuthenticationToken")
    assert code(send(azure, "GET", path)) == (400, "MissingApiVersionParameter")
    assert code(send(azure, "GET", path + "?api-version=2099-01-01")) == (400, "InvalidResourceType")
    assert send(azure, "GET", path + "?api-version=2022-12-01")[0] == 200


def test_tokens_expire(azure):
    token = azure.tokens.give(-1.0)
    assert code(send(azure, "GET", "/subscriptions?api-version=2022-12-01", token=token)) == (401, "ExpiredAuthenticationToken")


def test_sign_in_is_by_form_and_secret(azure):
    form = {"grant_type": "client_credentials", "client_id": server.CLIENT, "client_secret": server.SECRET, "scope": "https://x/.default"}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    def sign_in(tenant=server.TENANT, **changed):
        return send(azure, "POST", "/{0}/oauth2/v2.0/token".format(tenant), urlencode({**form, **changed}), headers=kind)

    status, body = sign_in()
    assert status == 200 and body["token_type"] == "Bearer" and isinstance(body["expires_in"], int)
    assert sign_in(client_secret="x")[1]["error"] == "invalid_client"
    assert sign_in(scope="")[0] == 400
    assert "AADSTS90002" in sign_in(tenant="other")[1]["error_description"]


def test_bodies_are_checked(azure):
    policy = first(azure, "Microsoft.RecoveryServices/vaults/backupPolicies") + "?api-version=2024-04-01"
    assert code(send(azure, "PUT", policy)) == (400, "MissingRequestBody")
    assert code(send(azure, "PUT", policy, "{nonsense")) == (400, "InvalidRequestContent")
    assert code(send(azure, "PUT", policy, "{}", headers={"Content-Type": "text/plain"})) == (415, "UnsupportedMediaType")
    assert code(send(azure, "PUT", policy, {"properties": {}})) == (400, "BMSUserErrorInvalidPolicyInput")
    backup = next(iter(azure.fleet.items.values()))["id"] + "/backup?api-version=2024-04-01"
    assert send(azure, "POST", backup)[0] == 400
    late = {"properties": {"objectType": "IaasVMBackupRequest", "recoveryPointExpiryTimeInUTC": "2020-01-01T00:00:00Z"}}
    assert code(send(azure, "POST", backup, late)) == (400, "UserErrorInvalidRecoveryPointExpiryTime")


def test_instance_views_are_for_single_vms_only(azure):
    subscription = next(iter(azure.fleet.subscriptions))
    base = "/subscriptions/{0}/providers/Microsoft.Compute/virtualMachines?api-version=2024-07-01".format(subscription)
    assert code(send(azure, "GET", base + "&$expand=instanceView")) == (400, "BadRequest")
    status, body = send(azure, "GET", base + "&statusOnly=true")
    assert status == 200 and len(body["value"]) == 4 and body["nextLink"].startswith("https://127.0.0.1:")
    assert "/RG-APP" in body["value"][0]["id"], "this list writes groups in capitals"
    assert set(body["value"][0]["properties"]["instanceView"]) == {"statuses"}


def test_paths_are_compared_without_case_and_with_either_semicolon(azure):
    item = next(iter(azure.fleet.items.values()))["id"]
    for path in (item, item.upper().replace("/SUBSCRIPTIONS", "//subscriptions"), item.replace(";", "%3B")):
        assert send(azure, "GET", path + "?api-version=2024-04-01")[0] == 200, path


def test_filters_take_what_is_documented_only(azure):
    jobs = first(azure, "Microsoft.RecoveryServices/vaults") + "/backupJobs?api-version=2024-04-01&$filter="
    status, body = send(azure, "GET", jobs + "status eq 'Failed' and operation eq 'Backup'")
    assert status == 200 and {entry["properties"]["status"] for entry in body["value"]} == {"Failed"}
    assert "extendedInfo" not in body["value"][0]["properties"]
    assert send(azure, "GET", jobs + "status ne 'Failed'")[0] == 400
    assert send(azure, "GET", jobs + "vmName eq 'x'")[0] == 400
    assert send(azure, "GET", jobs + "startTime eq '2025-01-31T13:00'")[0] == 400
    assert send(azure, "GET", jobs + "startTime eq '2025-01-31 01:00:00 PM'")[0] == 200


def test_what_is_not_there(azure):
    vault = first(azure, "Microsoft.RecoveryServices/vaults")
    assert code(send(azure, "GET", vault + "x?api-version=2024-04-01")) == (404, "ResourceNotFound")
    assert code(send(azure, "GET", "/subscriptions/none/providers/Microsoft.Compute/virtualMachines?api-version=2024-07-01")) == (
        404,
        "SubscriptionNotFound",
    )
    assert code(send(azure, "PUT", vault + "/backupJobs?api-version=2024-04-01", {})) == (405, "HttpMethodNotAllowed")


def graph(azure, query, **more):
    return send(azure, "POST", "/providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01", {"query": query, **more})


@pytest.mark.parametrize(
    "query",
    ["resources | were x", "resources | where f(x) == 1", "nothing", "resources | where name =~ 'a' extra", "resources | order name"],
)
def test_a_query_that_is_not_understood_is_refused(azure, query):
    azure.limits._windows.clear()
    status, body = graph(azure, query)
    assert status == 400 and [detail["code"] for detail in body["error"]["details"]] == ["InvalidQuery", "ParserFailure"]


def test_the_query_language(azure):
    azure.limits._windows.clear()
    names = "resources | where type =~ 'Microsoft.Compute/virtualMachines' and (name in~ ('VM0001', 'vm0003') or name == 'vm0004')"
    names += " | project name | order by name desc"
    assert [row["name"] for row in graph(azure, names)[1]["data"]] == ["vm0004", "vm0003", "vm0001"]
    counted = "recoveryservicesresources | where type =~ 'microsoft.recoveryservices/vaults/backupjobs' | where todatetime(properties.startTime) > ago(3d)"
    counted += " | summarize jobs = count(), last = max(todatetime(properties.endTime)) by vm = tolower(tostring(properties.dataSourceId))"
    rows = graph(azure, counted)[1]["data"]
    assert len(rows) == 5 and {row["jobs"] for row in rows} == {3} and all(row["last"].endswith("Z") for row in rows)
    assert graph(azure, "resources", subscriptions=["nobody"])[1]["error"]["details"][0]["code"] == "NoValidSubscriptionsInQueryRequest"
    assert graph(azure, "resources", options={"$top": 5000})[0] == 400


def test_graph_allows_fifteen_queries_in_five_seconds(azure):
    azure.limits._windows.clear()
    assert [graph(azure, "resources | limit 1")[0] for _number in range(16)] == [200] * 15 + [429]
    azure.limits._windows.clear()


def test_a_denied_vault_is_403_and_silently_absent_from_graph():
    with server.StandIn(fleet_.generate(6, 0)) as azure:
        vault = first(azure, "Microsoft.RecoveryServices/vaults")
        azure.backup.deny(vault)
        assert code(send(azure, "GET", vault + "?api-version=2024-04-01")) == (403, "AuthorizationFailed")
        query = "recoveryservicesresources | where type =~ 'microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems'"
        status, body = graph(azure, query)
        assert status == 200 and body["count"] == 4


def test_a_deleted_item_stays_as_soft_deleted():
    with server.StandIn(fleet_.generate(3, 0), polls=0) as azure:
        item = next(item for item in azure.fleet.items.values() if "/Vault01/" not in item["id"])  # that vault is locked
        assert send(azure, "DELETE", item["id"] + "?api-version=2024-04-01")[0] == 202
        azure.fleet.settle()
        shown = send(azure, "GET", item["id"] + "?api-version=2024-04-01")[1]["properties"]
        assert (shown["protectionState"], shown["policyId"], shown["isScheduledForDeferredDelete"]) == ("ProtectionStopped", "", True)


def test_as_a_program_it_says_how_to_reach_it_and_ends_with_its_caller():
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "lab" / "arm"), "--vms", "3", "--failing", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        told = json.loads(process.stdout.readline())
        assert told["environment"]["HTTPS_PROXY"].startswith("http://127.0.0.1:")
        address = told["options"]["resource_manager_url"].rpartition(":")[2]
        connection = http.client.HTTPSConnection(
            "127.0.0.1", int(address), context=ssl.create_default_context(cafile=told["options"]["ca_file"])
        )
        connection.request("POST", "/-/fault", json.dumps({"match": "GET /subscriptions", "status": 503}), {"Authorization": "x"})
        assert connection.getresponse().read() == b'{"ready": true}'
        process.stdin.close()
        assert process.wait(timeout=10) == 0
