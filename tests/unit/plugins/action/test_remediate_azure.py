# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The playbook remediate on the inventory of failed backups, as a user runs it, against the stand-in. Guests are not contacted, or do not answer."""

import json
import os
import re

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, server, tls
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.tests.unit.plugins.ansible_programs import CORES, Program

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())
# Guests answer at nothing: the port of this machine is closed.
CLOSED = {"ansible_host": "'127.0.0.1'", "ansible_port": "1", "ansible_connection": "'ssh'", "ansible_ssh_timeout": "2"}
ONLY = ("-e", "vmbackup_guests=false")
# Backups of the stand-in take seconds here.
QUICK = ("-e", "vmbackup_await_first_s=4")
BROKEN = "vm0004"


@pytest.fixture
def azure():
    with server.StandIn(fleet_.generate(8, 5, unprotected=1, vaults=1)) as stand_in:
        stand_in.backup.set_pace(snapshot_s=2, done_s=6)
        # No policy is about to start, whatever the time is.
        hour = (stand_in.fleet.now().hour + 12) % 24
        for policy in stand_in.fleet.of_type("Microsoft.RecoveryServices/vaults/backupPolicies"):
            schedule = policy["properties"]["schedulePolicy"]
            if "scheduleRunTimes" in schedule:
                schedule["scheduleRunTimes"] = ["2023-05-20T{0:02d}:00:00Z".format(hour)]
        yield stand_in


@pytest.fixture
def program(azure, tmp_path):
    return Program(azure, tmp_path)


@pytest.fixture(params=sorted(CORES))
def on_each_core(request, azure, tmp_path):
    if not os.path.exists(os.path.join(CORES[request.param], "ansible-playbook")):
        pytest.skip("SKIPPED core {0}: it is not set up, see tests/tools/setup.sh cores".format(request.param))
    return Program(azure, tmp_path, CORES[request.param])


def sign_in(program, **options):
    """Give the credentials as a user does, in group_vars."""
    (program.directory / "group_vars").mkdir(exist_ok=True)
    (program.directory / "group_vars" / "all.yml").write_text(json.dumps({"vmbackup_azure_auth": options}))


def remediate(program, *arguments, **options):
    """Run the playbook; return (hosts of the report by name, the report, what the program said)."""
    sign_in(program, **program.azure.options())
    done = program.options(**options).run("ansible-playbook", "vmbackup.azure.remediate", *arguments)
    path = program.directory / "vmbackup-report" / "vmbackup-report.json"
    assert path.exists(), done.stdout + done.stderr
    report = json.loads(path.read_text())
    assert report["problem"] is None, report["problem"]
    return {host["host"]: host for host in report["hosts"]}, report, done


def writes(azure):
    return [
        (method, path.rpartition("/")[2])
        for method, path, _status in azure.log
        if method != "GET" and not path.endswith("/resources") and "/oauth2/" not in path
    ]


def did(host, remedy):
    return [entry for entry in host["actions"] if entry["remedy"] == remedy]


def changed_tasks(done):
    return sum(int(number) for number in re.findall(r"changed=(\d+)", done.stdout))


def test_check_mode_shows_the_plan_and_sends_nothing_but_reads(program, azure):
    hosts, report, _done = remediate(program, "--check", "--diff", *ONLY)
    assert writes(azure) == []
    (entry,) = did(hosts[BROKEN], "azure.reapply")
    assert entry["changed"] and entry["changes"][0]["new"] == "Succeeded" and entry["side"] == "azure"
    assert next(f for f in hosts[BROKEN]["findings"] if f["id"] == "azure_provisioning_failed")["state"] == "would_repair"
    assert (
        did(hosts[BROKEN], "azure.backup_now")[0]["changed"]
        and not (program.directory / "vmbackup-report" / "vmbackup-azure.jsonl").exists()
    )


def test_what_only_azure_can_do_is_done_and_backed_up(on_each_core, azure):
    program = on_each_core
    hosts, report, done = remediate(program, "-vvvv", *ONLY, *QUICK)
    assert sorted(writes(azure)) == [("POST", "backup"), ("POST", "reapply")]
    host = hosts[BROKEN]
    assert host["status"] == "in_azure" and host["backup"]["result"] == "snapshot taken" and report["backups"] == {"snapshot taken": 1}
    assert next(f for f in host["findings"] if f["id"] == "azure_provisioning_failed")["state"] == "repaired"
    assert "snapshot taken" in done.stdout and "UserErrorVmProvisioningStateFailed" in host["azure"]
    page = (program.directory / "vmbackup-report" / "vmbackup-report.html").read_text()
    assert "snapshot taken" in page and "provisioning state of" in page
    noted = [json.loads(line) for line in (program.directory / "vmbackup-report" / "vmbackup-azure.jsonl").read_text().splitlines()]
    assert [(entry["remedy"], entry["state"]) for entry in noted] == [
        ("azure.reapply", "begun"), ("azure.reapply", "done"), ("azure.backup_now", "begun"), ("azure.backup_now", "done"),
    ]  # fmt: skip


def test_a_second_run_changes_nothing(program, azure):
    remediate(program, *ONLY, *QUICK)
    azure.log.clear()
    _hosts, report, done = remediate(program, *ONLY, *QUICK)
    assert writes(azure) == [] and changed_tasks(done) == 0 and report["backups"] == {}


def test_all_are_backed_up_but_those_with_a_blocker(program, azure):
    hosts, _report, _done = remediate(program, *ONLY, *QUICK, "-e", "vmbackup_backup=all", "-e", "vmbackup_await=job")
    assert sum(write == ("POST", "backup") for write in writes(azure)) == 4
    # Its agent is not ready, which is a blocker.
    assert "still stands against it" in did(hosts["vm0000"], "azure.backup_now")[0]["text"]
    assert {hosts["vm000{0}".format(number)]["backup"]["result"] for number in (1, 2, 3, 4)} == {"backed up"}


def test_never_and_the_switches(program, azure):
    never = json.dumps({"vmbackup_never": ["azure.reapply", "azure.backup_now"]})
    hosts, _report, _done = remediate(program, *ONLY, "-e", never, "-e", "vmbackup_backup=all")
    assert writes(azure) == [] and "vmbackup_never" in did(hosts[BROKEN], "azure.backup_now")[0]["text"]
    # The template "back up now" of AWX: what a group says stands, whatever the extra variables are.
    for own, too in (("azure.backup_now", "azure.reapply"), ("azure.reapply", "azure.backup_now")):
        (program.directory / "group_vars" / "backup_failed.yml").write_text(json.dumps({"vmbackup_never": [own]}))
        more = json.dumps({"vmbackup_never_too": [too]})
        hosts, _report, _done = remediate(program, *ONLY, "-e", more, "-e", "vmbackup_backup=all")
        assert writes(azure) == [] and "vmbackup_never" in did(hosts[BROKEN], "azure.backup_now")[0]["text"]
        assert next(f for f in hosts[BROKEN]["findings"] if f["id"] == "azure_provisioning_failed")["state"] == "left"
    remediate(program, *ONLY, "-e", "vmbackup_azure_steps=false")
    remediate(program, *ONLY, "--tags", "agent")
    assert writes(azure) == []


def test_a_vm_that_was_shut_down_is_deallocated_by_consent_and_backed_up(program, azure):
    for key, live in azure.fleet.live.items():
        if key.endswith("/vm0001"):
            live.update(power="stopped", agent="none")
    only = ("--limit", "vm0001")
    hosts, _report, _done = remediate(program, *only, compose=CLOSED)
    finding = next(entry for entry in hosts["vm0001"]["findings"] if entry["id"] == "azure_vm_shut_down_inside")
    assert writes(azure) == [] and "vmbackup_allow_power_state" in finding["next"]
    hosts, _report, _done = remediate(program, *only, *QUICK, "-e", "vmbackup_allow_power_state=true", compose=CLOSED)
    assert writes(azure) == [("POST", "deallocate"), ("POST", "backup")]
    host = hosts["vm0001"]
    assert host["status"] == "in_azure" and host["backup"]["result"] == "snapshot taken" and "not looked at" in host["reason"]


def test_rules_are_added_by_consent_and_taken_back_by_undo(program, azure):
    (group,) = [entry for entry in azure.fleet.of_type("Microsoft.Network/networkSecurityGroups") if "westeurope" in entry["name"]]
    plain = {"protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": "*", "direction": "Outbound"}
    deny = {**plain, "priority": 4000, "access": "Deny", "destinationAddressPrefix": "Internet"}
    group["properties"]["securityRules"] = [documents.rule(group["id"], "DenyOut", deny)]
    only = (*ONLY, "--limit", "vm0001,vm0002", "-e", "vmbackup_backup=none")
    hosts, _report, _done = remediate(program, *only)
    assert writes(azure) == [] and "vmbackup_allow_nsg_rule" in str(hosts["vm0001"]["findings"])
    hosts, _report, _done = remediate(program, *only, "-e", "vmbackup_allow_nsg_rule=true")
    assert len(writes(azure)) == 3 and len(group["properties"]["securityRules"]) == 4
    for name in ("vm0001", "vm0002"):
        states = {finding["id"]: finding["state"] for finding in hosts[name]["findings"]}
        assert states["azure_security_rule_denies"] == "repaired" and "undo" in hosts[name]["undo"]
    azure.log.clear()
    done = program.run("ansible-playbook", "vmbackup.azure.undo", *ONLY, "--limit", "vm0001,vm0002")
    report = json.loads((program.directory / "vmbackup-report" / "vmbackup-report.json").read_text())
    assert [method for method, _name in writes(azure)] == ["DELETE"] * 3, done.stdout
    assert [rule["name"] for rule in group["properties"]["securityRules"]] == ["DenyOut"]
    assert report["counts"] == {"undone": 2}


def test_the_modules_in_a_play_of_ones_own(program, azure):
    for key, live in azure.fleet.live.items():
        if key.endswith("/vm0001"):
            live.update(power="stopped", agent="none")
    own = {"reapply": {}, "nsg_rule": {}, "static_ip": {}, "remove_extension": {}, "backup_now": {"await": "none", "await_first_s": 4}}
    calls = {"power_state": {"vms": ["vm0001"]}, **{name: {"vms": [BROKEN], **more} for name, more in own.items()}}
    tasks = [{"vmbackup.azure." + name: options, "register": "a_" + name} for name, options in calls.items()]
    # A VM that is not there is one sentence.
    tasks.append({"vmbackup.azure.reapply": {"vms": ["nobody"]}, "register": "a_nobody", "ignore_errors": True})
    told = " ".join("{0}={{{{ a_{0} is changed }}}}".format(name) for name in calls)
    tasks.append({"ansible.builtin.debug": {"msg": told + " {{ a_nobody.msg }}"}})
    defaults = {"group/vmbackup.azure.azure": azure.options()}
    play = program.directory / "play.yml"
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "module_defaults": defaults, "tasks": tasks}]))
    program.file = "localhost,"
    for check, sent in ((["--check"], 0), ([], 4)):
        azure.log.clear()
        done = program.run("ansible-playbook", str(play), "--diff", "-vvv", *check)
        assert done.returncode == 0 and "Azure shows no VM nobody. Nothing was changed." in done.stdout, done.stdout
        for name, changed in {"power_state": True, "reapply": True, "static_ip": True, "backup_now": True, "nsg_rule": False}.items():
            assert "{0}={1}".format(name, changed) in done.stdout, (name, done.stdout)
        assert len(writes(azure)) == sent, writes(azure)


def test_without_a_sign_in_the_report_is_written_all_the_same(program, azure):
    sign_in(program, **{**azure.options(), "secret": "wrong"})
    done = program.options().run("ansible-playbook", "vmbackup.azure.remediate", *ONLY)
    report = json.loads((program.directory / "vmbackup-report" / "vmbackup-report.json").read_text())
    assert "In Azure nothing more was done" in report["problem"] and "client secret is wrong" in report["problem"]
    assert "client secret is wrong" in done.stdout and writes(azure) == []


def undo(program, *arguments):
    """Run the playbook undo with a secret that is wrong; return (whether it tried to sign in, what the program said)."""
    sign_in(program, **{**program.azure.options(), "secret": "wrong"})
    done = program.options().run("ansible-playbook", "vmbackup.azure.undo", *ONLY, *arguments)
    report = json.loads((program.directory / "vmbackup-report" / "vmbackup-report.json").read_text())
    assert report["troubled"] == []
    return "In Azure nothing more was done" in (report["problem"] or ""), done


def test_what_the_whole_run_could_not_do_in_azure_ends_it_with_an_error(program):
    tried, done = undo(program)
    assert tried and done.returncode == 2 and done.stdout.count("client secret is wrong") > 1, done.stdout
    tried, done = undo(program, "-e", "vmbackup_fail_on_blocker=false")
    assert tried and done.returncode == 0, done.stdout


@pytest.mark.parametrize("point, in_azure", [("", True), (None, True), ("20261121T092008Z-agent.service", False)])
def test_a_blank_undo_point_means_azure_too(program, point, in_azure):
    tried, done = undo(program, "-e", json.dumps({"vmbackup_undo_point": point}))
    assert tried is in_azure, done.stdout
