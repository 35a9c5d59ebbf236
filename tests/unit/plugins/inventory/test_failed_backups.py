# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inventory of failed backups as a user has it: ansible-inventory and ansible-playbook against the stand-in, on every core that is set up."""

import hashlib
import json
import os
import re

import pytest
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm import server, tls
from ansible_collections.vmbackup.azure.tests.unit.plugins.ansible_programs import CORES, SECRETS, Program, variables

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())


@pytest.fixture(params=sorted(CORES))
def core(request):
    """The directory of a core's programs; those that are not set up are skipped by name."""
    if not os.path.exists(os.path.join(CORES[request.param], "ansible-inventory")):
        pytest.skip("SKIPPED core {0}: it is not set up, see tests/tools/setup.sh cores".format(request.param))
    return CORES[request.param]


@pytest.fixture
def azure():
    with server.StandIn(fleet_.generate(8, 4, unprotected=1)) as stand_in:
        yield stand_in


@pytest.fixture
def program(azure, tmp_path):
    return Program(azure, tmp_path)


# What a user sees


def test_failed_backups_are_hosts_with_groups_and_variables(azure, tmp_path, core):
    listed, _warnings = Program(azure, tmp_path, core).options().listed()
    assert listed["backup_failed"]["hosts"] == ["vm0000", "vm0001", "vm0002", "vm0003"]
    assert listed["backup_error_GuestAgentSnapshotTaskStatusError"]["hosts"] == ["vm0001"]
    assert listed["backup_cause_connectivity"]["hosts"] == ["vm0002"]
    assert listed["backup_os_windows"]["hosts"] == ["vm0003"]
    assert {"backup_vault_Vault01", "backup_region_westeurope"} <= set(listed)
    assert "backup_unprotected" not in listed or not listed["backup_unprotected"].get("hosts")
    host = variables(listed)["vm0001"]
    own = "backup_vm_" + hashlib.sha256(host["vmbackup_vm_id"].lower().encode()).hexdigest()[:16]
    assert listed[own]["hosts"] == ["vm0001"]
    assert host["vmbackup_error_code"] == "GuestAgentSnapshotTaskStatusError"
    assert host["vmbackup_error_message"].startswith("Could not communicate") and host["vmbackup_error_cause"] == "agent"
    assert (host["vmbackup_failed_jobs_14d"], host["vmbackup_failed_in_a_row"], host["vmbackup_vault"]) == (2, 2, "Vault02")
    assert host["vmbackup_failed_since"] and host["vmbackup_last_recovery_point"] and host["vmbackup_item_id"].endswith(";vm0001")
    assert host["vmbackup_power_state"] == "running" and host["vmbackup_azure_agent"]["ready"] is True
    assert host["ansible_host"] == "10.0.0.5" and host["ansible_connection"] == "ssh"
    assert variables(listed)["vm0003"]["ansible_connection"] == "winrm"
    assert host["vmbackup_azure"]["network"][0]["private_addresses"] == ["10.0.0.5"]


def test_what_is_not_named_is_not_included(program, azure):
    item = next(iter(azure.fleet.items.values()))
    item["properties"].update(protectionState="ProtectionStopped")
    listed, _warnings = program.options().listed()
    assert "vm0000" not in variables(listed) and "vm0007" not in variables(listed)
    listed, _warnings = program.options(include=["stopped", "unprotected"]).listed()
    assert sorted(variables(listed)) == ["vm0000", "vm0007"]
    assert variables(listed)["vm0007"]["vmbackup_backup_states"] == ["unprotected"] and listed["backup_stopped"]["hosts"] == ["vm0000"]


def test_a_fleet_without_failures_is_an_empty_inventory(tmp_path):
    with server.StandIn(fleet_.generate(3, 0)) as azure:
        listed, warnings = Program(azure, tmp_path).options().listed()
    assert variables(listed) == {} and "Unable to parse" not in warnings


def test_names_by_expression_and_equal_names_apart(program, azure):
    machines = azure.fleet.of_type("Microsoft.Compute/virtualMachines")
    machines[0]["tags"]["fqdn"] = "web.example.com"
    machines[1]["tags"]["fqdn"] = machines[2]["tags"]["fqdn"] = "db.example.com"
    names = sorted(variables(program.options(hostnames=["tags.fqdn", "default"]).listed()[0]))
    assert names[2:] == ["vm0003", "web.example.com"]
    assert all(re.fullmatch(r"db\.example\.com_[0-9a-f]{6}", name) for name in names[:2]) and names[0] != names[1]
    assert sorted(variables(program.listed()[0])) == names, "the same names again"
    assert "vm0000" in variables(program.options(hostnames=["name + 1", "computer_name"]).listed()[0])


def test_compose_groups_and_keyed_groups(azure, tmp_path, core):
    options = {
        "compose": {
            "ansible_user": "'azureadmin' if vmbackup_os == 'linux' else 'Administrator'",
            "ansible_host": "vmbackup_vm_name ~ '.corp'",
        },
        "groups": {"often": "vmbackup_failed_in_a_row > 2"},
        "keyed_groups": [
            {"prefix": "stage", "key": "vmbackup_tags.environment"},
            {"prefix": "", "separator": "", "key": "'my vault ' ~ vmbackup_vault"},
        ],
        "strict": True,
    }
    listed, _warnings = Program(azure, tmp_path, core).options(**options).listed()
    assert variables(listed)["vm0003"]["ansible_user"] == "Administrator" and variables(listed)["vm0001"]["ansible_host"] == "vm0001.corp"
    assert listed["often"]["hosts"] == ["vm0002", "vm0003"] and listed["stage_production"]["hosts"] == ["vm0001", "vm0003"]
    assert listed["my_vault_Vault01"]["hosts"] == ["vm0000", "vm0003"]


def test_strict_says_which_expression_fails(program):
    done = program.options(strict=True, keyed_groups=[{"key": "vmbackup_nothing_of_this_name"}]).run("ansible-inventory", "--list")
    assert "vmbackup_nothing_of_this_name" in done.stderr and "Unable to parse" in done.stderr
    assert "vm0001" in variables(program.options(keyed_groups=[{"key": "vmbackup_nothing_of_this_name"}]).listed()[0])


def test_the_users_group_variables_go_before_ours(program, tmp_path):
    program.options()
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "backup_os_windows.yml").write_text("ansible_connection: psrp\nansible_user: admin\n")
    host = variables(program.listed()[0])["vm0003"]
    assert (host["ansible_connection"], host["ansible_user"]) == ("psrp", "admin")


def test_other_files_are_left_to_other_plugins(program, tmp_path):
    program.file = tmp_path / "hosts.yml"
    assert "vm0001" not in program.options().run("ansible-inventory", "--list").stdout


def test_credentials_from_the_environment_and_by_lookup(program, azure):
    environment = {"AZURE_CLIENT_ID": server.CLIENT, "AZURE_TENANT": server.TENANT, "MY_SECRET": server.SECRET}
    program.environment = environment
    listed = program.options(client_id=None, tenant=None, secret="{{ lookup('ansible.builtin.env', 'MY_SECRET') }}").listed()[0]
    assert "vm0001" in variables(listed)


def test_through_the_proxy_with_the_environment_of_azcollection(program, azure):
    program.environment = azure.environment()
    program.options(**dict.fromkeys(azure.options()))
    assert "vm0001" in variables(program.listed()[0])


# Untrusted texts


@pytest.mark.parametrize("cached", [False, True])
def test_no_text_of_azure_is_ever_evaluated(azure, tmp_path, core, cached):
    marker = tmp_path / "executed"
    evil = "{{ lookup('pipe', 'touch " + str(marker) + "') }}"
    machine = azure.fleet.of_type("Microsoft.Compute/virtualMachines")[1]
    azure.fleet.resources.pop(machine["id"].lower())
    live = azure.fleet.live.pop(machine["id"].lower())
    identity = machine["id"].rpartition("/")[0] + "/" + evil.replace("/", "|")
    machine.update(name=evil.replace("/", "|"), id=identity, tags={"evil": evil, evil: "x"})
    azure.fleet.put(machine, live)
    item = next(item for item in azure.fleet.items.values() if item["properties"]["friendlyName"] == "vm0001")
    item["properties"].update(virtualMachineId=identity, sourceResourceId=identity, policyName=evil)
    item["properties"]["healthDetails"][0].update(message=evil, title=evil, recommendations=[evil])
    for job in azure.fleet.jobs.values():
        job["properties"]["errorDetails"] = []
    for vault in azure.fleet.of_type("Microsoft.RecoveryServices/vaults"):
        vault["name"] = evil
    options = {
        "hostnames": ["tags.evil", "default"],
        "compose": {
            "composed": "vmbackup_tags.evil | default('none')",
            "joined": "'x' ~ vmbackup_error_message",
            "listed": "[vmbackup_policy]",
        },
        "keyed_groups": [{"prefix": "tag", "key": "vmbackup_tags"}, {"key": "vmbackup_vault"}],
        "groups": {"evil": "vmbackup_tags.evil is defined"},
    }
    if cached:
        options.update(cache=True, cache_plugin="ansible.builtin.jsonfile", cache_connection=str(tmp_path / "cache"), cache_timeout=600)
    program = Program(azure, tmp_path, core).options(**options)
    names = (
        "composed",
        "joined",
        "listed",
        "vmbackup_error_message",
        "vmbackup_azure",
        "vmbackup_vault",
        "vmbackup_tags",
        "vmbackup_vm_name",
    )
    shown = "".join("<{{ " + name + " }}>" for name in names)
    tasks = [
        {
            "name": "x {{ hostvars[inventory_hostname] }}",
            "ansible.builtin.debug": {"msg": "{{ hostvars[inventory_hostname] }} {{ group_names }} " + shown},
        },
        {"ansible.builtin.set_fact": {"again_" + name: "{{ " + name + " }}" for name in names}},
        {"ansible.builtin.debug": {"msg": shown.replace("{{ ", "{{ again_")}},
    ]
    play = tmp_path / "play.yml"
    play.write_text(json.dumps([{"hosts": "evil", "gather_facts": False, "tasks": tasks}]))
    if cached:
        program.listed()
    done = program.run("ansible-playbook", str(play))
    assert done.returncode == 0, done.stdout + done.stderr
    listed, _warnings = program.listed()
    assert not marker.exists()
    assert "<{{ lookup(" in done.stdout and "<x{{ lookup(" in done.stdout, "the text is there, as a text"
    for name in list(variables(listed)) + list(listed):
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", name), name
    if cached:
        assert len(azure.requests("GET /subscriptions$")) == 1, "all but the first run were served from the cache"


def test_the_cache_holds_no_secret_and_is_used(azure, program, tmp_path):
    options = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache"), "cache_timeout": 600}
    first = variables(program.options(**options).listed()[0])
    assert variables(program.listed()[0]) == first
    assert len(azure.requests("POST .*/token")) == 1
    kept = "".join(path.read_text() for path in (tmp_path / "cache").iterdir())
    assert "vm0001" in kept and not any(secret in kept for secret in SECRETS)
    assert sorted(variables(program.options(**options, include=["unprotected"]).listed()[0])) == ["vm0007"], "one cache serves every choice"
    program.run("ansible-inventory", "--list", "--flush-cache")
    assert len(azure.requests("POST .*/token")) == 2


def test_no_secret_at_the_highest_verbosity(program, core):
    program.programs = core
    done = program.options().run("ansible-inventory", "--list", "-vvvv")
    assert "virtualMachines/vm0001?api-version=" in done.stdout + done.stderr
    done = program.options(secret="hunter2hunter2").run("ansible-inventory", "--list", "-vvvv")
    assert "hunter2hunter2" not in done.stdout + done.stderr.replace(str(program.file), "")


# Faults and bad input: one clear sentence each


BAD = (
    ({"secret": None}, "The credentials for Azure are incomplete: secret is missing."),
    ({"secret": "wrong"}, "the client secret is wrong"),
    ({"tenant": "elsewhere.example"}, "there is no tenant with that id or name"),
    ({"subscriptions": ["no-such"]}, "There is no subscription to read: no-such unknown or without access"),
    ({"include": ["everything"]}, "everything"),
    ({"auth_source": "magic"}, "magic"),
    ({"subscriptions": {"a": 1}}, "subscriptions"),
    ({"ca_file": "/nonexistent"}, "ca_file names /nonexistent, which cannot be read."),
    ({"ca_file": None}, "certificate of 127.0.0.1 is not trusted"),
    ({"resource_manager_url": "https://127.0.0.1:1"}, "127.0.0.1 refuses connections."),
    ({"cloud_environment": "Moon", "resource_manager_url": None}, "cloud_environment 'Moon' is not known"),
)


def test_bad_input_is_one_clear_sentence_each_and_the_good_file_is_there(program, tmp_path):
    """One run, one file for each mistake."""
    program.options()
    good, arguments = program.file, []
    for number, (options, _sentence) in enumerate(BAD):
        program.file = tmp_path / "{0}.failed_backups.yml".format(number)
        program.options(**options)
        arguments += ["-i", str(program.file)]
    program.file = good
    done = program.run("ansible-inventory", *arguments, "--list")
    text = " ".join(done.stderr.split())
    for number, (_options, sentence) in enumerate(BAD):
        assert sentence in text, sentence
        assert "Unable to parse {0} as an inventory source".format(tmp_path / "{0}.failed_backups.yml".format(number)) in text
    assert "vm0001" in done.stdout


def test_no_credentials_at_all(program, azure):
    done = program.options(client_id=None, secret=None, tenant=None).run("ansible-inventory", "--list")
    assert "There are no credentials for Azure. Set client_id, secret and tenant" in " ".join(done.stderr.split())
    assert azure.requests() == []


def test_one_of_two_files_fails_and_the_other_is_there(program, tmp_path):
    program.options()
    (tmp_path / "bad.failed_backups.yml").write_text(program.file.read_text().replace(server.SECRET, "wrong"))
    done = program.run("ansible-inventory", "-i", str(tmp_path / "bad.failed_backups.yml"), "--list")
    assert "vm0001" in done.stdout and "the client secret is wrong" in " ".join(done.stderr.split())


def test_what_could_not_be_read_is_a_warning_and_the_rest_is_there(program, azure):
    vaults = [vault["id"] for vault in azure.fleet.of_type("Microsoft.RecoveryServices/vaults")]
    azure.backup.deny(vaults[0])
    listed, warnings = program.options(vaults=vaults).listed()
    assert "Vault Vault01 was not read" in " ".join(warnings.split())
    assert sorted(variables(listed)) == ["vm0001", "vm0002"]
