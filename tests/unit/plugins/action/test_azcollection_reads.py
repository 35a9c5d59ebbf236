# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unchanged modules of azure.azcollection read the state that ours wrote, through the stand-in's proxy."""

import json
import os
import subprocess
import time

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, tls
from ansible_collections.vmbackup.azure.lab.arm import fleet as fleet_
from ansible_collections.vmbackup.azure.lab.arm.server import StandIn
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import read
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import machine, security, waiting
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.backup import Options
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Run, Target, carry_out
from ansible_collections.vmbackup.azure.tests.unit.plugins.ansible_programs import CACHE

HOME = os.path.join(CACHE, "azcollection")
REASON = "SKIPPED: azure.azcollection is not there; BENCH_AZCOLLECTION=1 make bench-azure installs it (1.5 GB)"
pytestmark = [
    pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks()),
    pytest.mark.skipif(not os.path.exists(os.path.join(HOME, "done")), reason=REASON),
]
GROUP, BACKUP_GROUP = "rg-app01", "rg-backup"


def written(azure):
    """Write with ours: deallocate vm0002, reapply vm0001, a rule for each service, and back vm0001 up."""
    with Client.from_options(azure.options(), environ={"HOME": "/nonexistent"}, read_only=False) as client:
        vms = {vm["name"]: vm for vm in read.fleet(client, read.Scope())["vms"].values()}
        run = Run()
        nsg = vms["vm0001"]["network"][0]["nsgs"][0]["id"]
        fix = {"group": nsg, "services": ["Storage", "AzureBackup"]}
        done = carry_out(client, machine.PowerState(), [Target("vm0002", vms["vm0002"])], run)
        done += carry_out(client, machine.Reapply(), [Target("vm0001", vms["vm0001"])], run)
        done += carry_out(client, security.NsgRule(), [Target("vm0001", vms["vm0001"], fix)], run)
        done += waiting.back_up(client, [Target("vm0001", vms["vm0001"])], Options(until="job", first_s=2, look_s=1), run)
    assert all(entry["changed"] and not entry["failed"] for entry in done), done
    return nsg


def asked(azure, directory, tasks):
    """Run modules of azure.azcollection; return what each returned."""
    tasks = [{**task, "register": "answer_{0}".format(number)} for number, task in enumerate(tasks)]
    names = "{{ {" + ", ".join("'{0}': answer_{0}".format(number) for number in range(len(tasks))) + "} }}"
    tasks.append(
        {"ansible.builtin.copy": {"content": names.replace("{{ {", "{{ ({").replace("} }}", "}) | to_json }}"), "dest": "out.json"}}
    )
    python = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    play = directory / "play.yml"
    play.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": python, "tasks": tasks}]))
    environment = {
        "PATH": os.path.join(HOME, "venv", "bin") + ":/usr/bin:/bin",
        "HOME": str(directory),
        "ANSIBLE_COLLECTIONS_PATH": os.path.join(HOME, "collections"),
        "LC_ALL": "C.UTF-8",
        **azure.environment(),
    }
    command = [os.path.join(HOME, "venv", "bin", "ansible-playbook"), "-i", "localhost,", str(play)]
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return json.loads((directory / "out.json").read_text())


def test_they_read_what_ours_wrote(tmp_path):
    fleet = fleet_.generate(4, 3, vaults=1)
    hour = (fleet.now().hour + 12) % 24
    for policy in fleet.of_type("Microsoft.RecoveryServices/vaults/backupPolicies"):
        policy["properties"]["schedulePolicy"]["scheduleRunTimes"] = ["2023-05-20T{0:02d}:00:00Z".format(hour)]
    vms = {vm["name"]: vm for vm in fleet.of_type("Microsoft.Compute/virtualMachines")}
    vms["vm0001"]["properties"]["provisioningState"] = "Failed"
    fleet.live[vms["vm0002"]["id"].lower()]["power"] = "stopped"
    for group in fleet.of_type("Microsoft.Network/networkSecurityGroups"):
        deny = {"protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": "*", "direction": "Outbound"}
        deny.update(priority=4000, access="Deny", destinationAddressPrefix="Internet")
        group["properties"]["securityRules"] = [documents.rule(group["id"], "DenyOut", deny)]
    with StandIn(fleet) as azure:
        azure.backup.set_pace(snapshot_s=1, done_s=2)
        nsg = written(azure)
        time.sleep(1)
        prefix = "azure.azcollection.azure_rm_"
        answers = asked(
            azure,
            tmp_path,
            [
                {prefix + "virtualmachine_info": {"resource_group": "rg-app02", "name": "vm0002"}},
                {prefix + "virtualmachine_info": {"resource_group": GROUP, "name": "vm0001"}},
                {prefix + "securitygroup_info": {"resource_group": "rg-network", "name": nsg.rpartition("/")[2]}},
                {
                    prefix + "backupazurevm_info": {
                        "recovery_vault_name": "Vault01",
                        "resource_group": BACKUP_GROUP,
                        "resource_id": vms["vm0001"]["id"],
                    }
                },
            ],
        )
    assert answers["0"]["vms"][0]["power_state"] == "deallocated"
    assert answers["1"]["vms"][0]["provisioning_state"] == "Succeeded"
    rules = {rule["name"]: rule for rule in answers["2"]["securitygroups"][0]["rules"]}
    made = rules["vmbackup-allow-Storage-outbound"]
    assert (made["access"], made["destination_address_prefix"], made["priority"]) == ("Allow", "Storage", 3999)
    assert rules["vmbackup-allow-AzureBackup-outbound"]["priority"] == 3998 and "DenyOut" in rules
    item = answers["3"]["response"]["properties"]
    assert item["lastBackupStatus"] == "Completed"
