# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The playbook diagnose on the inventory of failed backups, as a user runs it, against the stand-in."""

import json
import os

import pytest
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm import server, tls
from ansible_collections.vmbackup.azure.tests.unit.plugins.ansible_programs import CORES, Program

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())
PLAYBOOK = "vmbackup.azure.diagnose"
# Guests answer at nothing: TEST-NET-1 leads nowhere, and the port of this machine is closed.
CLOSED = {"ansible_host": "'127.0.0.1'", "ansible_port": "1", "ansible_connection": "'ssh'", "ansible_ssh_timeout": "2"}
LOCAL = {"ansible_connection": "'local'", "vmbackup_become": "false"}


@pytest.fixture
def azure():
    with server.StandIn(fleet_.generate(8, 4, unprotected=1)) as stand_in:
        yield stand_in


@pytest.fixture
def program(azure, tmp_path):
    return Program(azure, tmp_path)


@pytest.fixture(params=sorted(CORES))
def on_each_core(request, azure, tmp_path):
    if not os.path.exists(os.path.join(CORES[request.param], "ansible-playbook")):
        pytest.skip("SKIPPED core {0}: it is not set up, see tests/tools/setup.sh cores".format(request.param))
    return Program(azure, tmp_path, CORES[request.param])


def diagnose(program, *arguments, **options):
    """Run the playbook; return (hosts of the report by name, the report, what the program said)."""
    done = program.options(**options).run("ansible-playbook", PLAYBOOK, *arguments)
    path = program.directory / "vmbackup-report" / "vmbackup-report.json"
    assert path.exists(), done.stdout + done.stderr
    report = json.loads(path.read_text())
    return {host["host"]: host for host in report["hosts"]}, report, done


def ids(host):
    return [finding["id"] for finding in host["findings"]]


def vm(azure, number):
    return azure.fleet.of_type("Microsoft.Compute/virtualMachines")[number]


def test_without_guests_azure_alone_is_diagnosed_and_no_guest_is_touched(on_each_core, azure):
    hosts, report, done = diagnose(on_each_core, "-e", "vmbackup_guests=false", compose=CLOSED)
    assert sorted(hosts) == ["vm0000", "vm0001", "vm0002", "vm0003"]
    assert "azure_agent_not_ready" in ids(hosts["vm0000"])
    assert all(host["reason"] == "Its guest was not contacted, as vmbackup_guests says." for host in hosts.values())
    assert all(finding["side"] == "azure" for host in hosts.values() for finding in host["findings"])
    assert report["troubled"] == ["vm0000"] and done.returncode == 2, "a blocker is left, so the run ends with an error"
    assert "az lock delete --ids" in done.stdout and "By Azure at" in done.stdout
    page = (on_each_core.directory / "vmbackup-report" / "vmbackup-report.html").read_text()
    assert "az lock delete --ids" in page and "cause: azure" in page and "By Azure at" in page
    assert "unreachable=0" in done.stdout


def test_each_guest_has_its_own_code_and_azures_findings_beside_its_own(on_each_core, azure):
    """The guest is this machine, which has no agent: what counts is that both sides are judged together, by the host's own code."""
    hosts, _report, done = diagnose(on_each_core, "--limit", "vm0000,vm0001", compose=LOCAL)
    for name, code in (("vm0000", "UserErrorGuestAgentStatusUnavailable"), ("vm0001", "GuestAgentSnapshotTaskStatusError")):
        sides = {finding["id"].startswith("azure_") for finding in hosts[name]["findings"]}
        assert sides == {True, False}, (name, done.stdout + done.stderr)
        explaining = [finding for finding in hosts[name]["findings"] if finding["explains_error_code"]]
        assert explaining and all(code in finding["codes"] for finding in explaining)
    assert "azure_agent_not_ready" in ids(hosts["vm0000"]) and "azure_agent_not_ready" not in ids(hosts["vm0001"])


@pytest.mark.parametrize("given", ["", None])
def test_a_blank_code_does_not_hide_the_code_of_the_host(program, given):
    """AWX sends a question that was not answered, and the rulebook an alert without a code."""
    hosts, _report, done = diagnose(
        program, "-e", json.dumps({"vmbackup_error_code": given, "vmbackup_guests": False}), "--limit", "vm0000"
    )
    explaining = [finding["codes"] for finding in hosts["vm0000"]["findings"] if finding["explains_error_code"]]
    assert explaining and all("UserErrorGuestAgentStatusUnavailable" in codes for codes in explaining), done.stdout


def test_a_deallocated_vm_is_not_contacted_and_says_when_azure_was_asked(program, azure):
    azure.fleet.live[vm(azure, 1)["id"].lower()]["power"] = "deallocated"
    hosts, report, done = diagnose(program, "--limit", "vm0001", compose=CLOSED)
    assert hosts["vm0001"]["reason"].startswith("Azure called the VM deallocated at 20") and hosts["vm0001"]["status"] == "found"
    assert "azure_vm_not_running" in ids(hosts["vm0001"]) and report["troubled"] == [] and done.returncode == 0


def test_a_guest_that_does_not_answer_is_not_reached_and_azure_tells_what_it_knows(on_each_core):
    hosts, report, done = diagnose(on_each_core, "--limit", "vm0002", compose=CLOSED)
    host = hosts["vm0002"]
    assert host["status"] == "not_reached" and report["troubled"] == ["vm0002"] and done.returncode == 2
    assert "azure_vm_running_but_guest_silent" in ids(host)
    silent = next(finding for finding in host["findings"] if finding["id"] == "azure_vm_running_but_guest_silent")
    assert "127.0.0.1" in silent["evidence"][0] and silent["commands"][0].startswith("az vm boot-diagnostics")


def test_texts_of_azure_execute_nothing_and_stand_in_the_report_as_they_are(on_each_core, azure):
    marker = on_each_core.directory / "executed"
    evil = "{{ lookup('pipe', 'touch " + str(marker) + "') }}"
    item = next(item for item in azure.fleet.items.values() if item["properties"]["friendlyName"] == "vm0001")
    item["properties"]["healthDetails"] = [
        {"code": 1, "title": "UserErrorRequestDisallowedByPolicy", "message": evil, "recommendations": [evil]}
    ]
    for job in azure.fleet.jobs.values():
        job["properties"].pop("errorDetails", None)
    vm(azure, 1)["tags"]["evil"] = evil
    hosts, _report, done = diagnose(on_each_core, "-e", "vmbackup_guests=false", "--limit", "vm0001", "-vv")
    policy = next(finding for finding in hosts["vm0001"]["findings"] if finding["id"] == "azure_policy_denies")
    assert evil in policy["evidence"][0] and policy["explains_error_code"] is True, done.stdout
    assert not marker.exists()


def test_without_guests_a_hand_written_inventory_is_one_sentence(program):
    program.file.write_text("")
    program.file = program.directory / "hosts.yml"
    program.file.write_text(json.dumps({"all": {"hosts": {"plain": {"ansible_connection": "local"}}}}))
    done = program.run("ansible-playbook", PLAYBOOK, "-e", "vmbackup_guests=false")
    report = json.loads((program.directory / "vmbackup-report" / "vmbackup-report.json").read_text())
    assert done.returncode == 2 and report["hosts"][0]["reason"].startswith("There are no facts of Azure for this host (vmbackup_azure)")


def test_a_wish_that_is_neither_yes_nor_no_is_one_sentence(program):
    hosts, _report, done = diagnose(program, "-e", "vmbackup_guests=perhaps", "--limit", "vm0001", compose=CLOSED)
    assert done.returncode == 2 and "perhaps" in hosts["vm0001"]["reason"] and "guest" in hosts["vm0001"]["reason"]


def test_azure_is_read_once_and_only_read(program, azure):
    diagnose(program, "-e", "vmbackup_guests=false", "--check")
    assert len(azure.requests("GET .*/virtualMachines/[^/]+$")) == 4
    assert all(method == "GET" or "/token" in path or "ResourceGraph" in path for method, path, _status in azure.requests())
