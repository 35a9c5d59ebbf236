# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""backup_info as a user has it: in a play, against the stand-in."""

import json
import os

import pytest
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm import server, tls
from ansible_collections.vmbackup.azure.plugins.action import backup_info
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import credentials, options
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import REMEDIES
from ansible_collections.vmbackup.azure.tests.unit.plugins.ansible_programs import CORES, ROOT, Program

yaml = pytest.importorskip("yaml")
pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())


@pytest.fixture
def azure():
    with server.StandIn(fleet_.generate(8, 4, unprotected=1)) as stand_in:
        yield stand_in


@pytest.fixture
def program(azure, tmp_path):
    made = Program(azure, tmp_path)
    made.file = "localhost,"
    return made


@pytest.fixture(params=sorted(CORES))
def on_each_core(request, azure, tmp_path):
    if not os.path.exists(os.path.join(CORES[request.param], "ansible-playbook")):
        pytest.skip("SKIPPED core {0}: it is not set up, see tests/tools/setup.sh cores".format(request.param))
    made = Program(azure, tmp_path, CORES[request.param])
    made.file = "localhost,"
    return made


def play(program, asked, *arguments, group=None, fails=False):
    """Run one task with the credentials as defaults of the group, and return what it returned."""
    out = program.directory / "out.json"
    tasks = [
        {"vmbackup.azure.backup_info": asked, "register": "told", "ignore_errors": fails},
        {"ansible.builtin.copy": {"dest": str(out), "content": "{{ told | to_json }}"}, "check_mode": False, "diff": False},
    ]
    defaults = {"group/vmbackup.azure.azure": group if group is not None else program.azure.options()}
    (program.directory / "play.yml").write_text(
        json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "module_defaults": defaults, "tasks": tasks}])
    )
    done = program.run("ansible-playbook", str(program.directory / "play.yml"), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text()), done


def test_credentials_of_the_group_are_enough_and_check_mode_reads_the_same(on_each_core, azure):
    told, _done = play(on_each_core, {}, "--check", "-vvvv")
    assert [vm["name"] for vm in told["vms"]] == ["vm0000", "vm0001", "vm0002", "vm0003"]
    assert told["counts"]["vms"] == 8 and told["counts"]["failed"] == 4 and told["counts"]["unprotected"] == 1
    assert told["changed"] is False and told["vms"][1]["agent"]["ready"] is True
    assert all(method == "GET" or "/token" in path or "ResourceGraph" in path for method, path, _status in azure.requests())


def test_vms_that_are_named_are_read_whatever_their_state(program, azure):
    told, _done = play(program, {"vms": ["VM0006"]})
    assert [(vm["name"], vm["view"], vm["states"]) for vm in told["vms"]] == [("vm0006", "read", [])]
    assert len(azure.requests("GET .*/virtualMachines/")) == 1


def test_a_text_of_azure_is_returned_as_a_text(on_each_core, azure):
    marker = on_each_core.directory / "executed"
    evil = "{{ lookup('pipe', 'touch " + str(marker) + "') }}"
    azure.fleet.of_type("Microsoft.Compute/virtualMachines")[0]["tags"]["evil"] = evil
    told, _done = play(on_each_core, {"vms": ["vm0000"]})
    assert told["vms"][0]["tags"]["evil"] == evil and not marker.exists()


@pytest.mark.parametrize(
    "changed, sentence",
    [({"secret": "hunter2hunter2"}, "the client secret is wrong"), ({"subscriptions": ["none"]}, "There is no subscription to read: none")],
)
def test_a_failure_is_one_sentence_without_the_secret(program, azure, changed, sentence):
    told, done = play(program, {}, "-vvvv", group={**azure.options(), **changed}, fails=True)
    assert told["failed"] and sentence in told["msg"]
    assert "hunter2hunter2" not in done.stdout + done.stderr


def test_a_vault_without_access_is_a_warning(program, azure):
    vaults = [vault["id"] for vault in azure.fleet.of_type("Microsoft.RecoveryServices/vaults")]
    azure.backup.deny(vaults[0])
    told, done = play(program, {"vaults": vaults})
    assert "Vault Vault01 was not read" in told["errors"][0] and "Vault Vault01 was not read" in " ".join(done.stderr.split())
    assert [vm["name"] for vm in told["vms"]] == ["vm0001", "vm0002"]


# What is documented and what is there


def load(*names):
    with open(os.path.join(ROOT, *names), encoding="utf-8") as stream:
        return stream.read()


def test_the_documented_options_are_those_that_are_there():
    from ansible_collections.vmbackup.azure.plugins.doc_fragments.azure import ModuleDocFragment
    from ansible_collections.vmbackup.azure.plugins.inventory import failed_backups
    from ansible_collections.vmbackup.azure.plugins.modules import backup_info as module

    shared = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    own = yaml.safe_load(module.DOCUMENTATION)["options"]
    for documented, there in ((shared, options.ARGUMENTS), ({**shared, **own}, backup_info.SPEC)):
        assert sorted(documented) == sorted(there)
        for name, option in there.items():
            for key in ("type", "elements", "default", "choices"):
                assert documented[name].get(key) == option.get(key), (name, key)
    inventory = yaml.safe_load(failed_backups.DOCUMENTATION)["options"]
    assert inventory["include"]["choices"] == own["include"]["choices"][:-1] == list(backup_info.STATES)
    for name, variables in credentials.ENVIRONMENT.items():
        for variable in variables if name in shared else ():
            assert "E({0})".format(variable) in str(shared[name]["description"]) or variable == "AZURE_CLIENT_CERTIFICATE_PATH", variable


def test_every_returned_key_is_documented():
    from ansible_collections.vmbackup.azure.plugins.modules import backup_info as module

    documented = set(yaml.safe_load(module.RETURN))
    with server.StandIn(fleet_.generate(2, 1)) as azure:
        fleet = backup_info.ActionModule._read({**azure.options(), "vms": None})
    assert set(fleet) | {"counts", "moves"} | {"code", "correlation_id"} == documented


def test_the_least_role_and_the_variables_are_documented():
    """docs/azure.md against what is read and set."""
    import re

    from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import hosts, machine

    text = load("docs", "azure.md")
    actions = set(json.loads(re.search(r"```json\n(.*?)```", text, re.S).group(1))["Actions"])
    with server.StandIn(fleet_.generate(4, 2)) as azure:
        backup_info.ActionModule._read({**azure.options(), "vms": None})
        kinds = {
            re.sub(r".*/providers/([^/]+/[^/]+).*", r"\1", path).lower() for _method, path, _status in azure.requests("GET .*/providers/")
        }
    granted = {action.rpartition("/")[0].lower() for action in actions}
    assert kinds <= granted and all(action.endswith("/read") for action in actions)
    vm = {**machine.empty("/subscriptions/s/x"), "private_addresses": ["10.0.0.4"]}
    for name in hosts.variables_of(vm):
        assert "`{0}`".format(name) in text or name == "vmbackup_error_number", name
    for remedy in REMEDIES:
        if remedy.phase != "guest":
            assert "| `{0}` | `Microsoft.".format(remedy.name) in text, "the right that {0} needs".format(remedy.name)
