# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Alerts of Azure Backup: what is taken, and what passes by."""

import copy
import importlib.util
import json
import os

import pytest
from alerts import ALERT, ID
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import hosts, values

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
PATH = os.path.join(ROOT, "extensions", "eda", "plugins", "event_filter", "azure_backup.py")


def loaded():
    spec = importlib.util.spec_from_file_location("event_filter", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILTER = loaded()


def changed(path, value):
    alert = copy.deepcopy(ALERT)
    at = alert
    *way, last = path.split("/")
    for name in way:
        at = at[name]
    at[last] = value
    return alert


@pytest.mark.parametrize("name", ["payload", "body"])
@pytest.mark.parametrize("form", [dict, json.dumps])
def test_an_alert_is_read(name, form):
    event = FILTER.main({name: form(ALERT), "meta": {}})
    assert event["vmbackup"]["vm"] == "vm-web.01" and event["vmbackup"]["key"] == ID.lower()
    assert event["vmbackup"]["error_code"] == "ExtensionSnapshotFailedNoNetwork"


def test_the_limit_is_the_group_that_the_inventory_gives_to_this_vm_alone():
    vm = {"name": "vm-web.01", "key": values.key(ID), "states": [], "backup": None, "os": None, "region": None}
    assert hosts.groups_of(vm) == [FILTER.read(ALERT)["limit"]]
    # Azure writes ids in any letter case, and a VM of another subscription may have the same name.
    assert FILTER.read(changed("data/alertContext/linkedResourceId", ID.upper()))["limit"] == FILTER.read(ALERT)["limit"]
    other = changed("data/alertContext/linkedResourceId", ID.replace("1111", "2222"))
    assert FILTER.read(other)["vm"] == "vm-web.01" and FILTER.read(other)["limit"] != FILTER.read(ALERT)["limit"]


def test_the_limit_for_other_inventories_is_the_name():
    assert FILTER.read(ALERT)["limit_by_name"] == hosts.name_of({"name": "vm-web.01", "key": values.key(ID)}, False) == "vm-web.01"


@pytest.mark.parametrize(
    "path, value",
    [
        ("schemaId", "other"),
        ("data/essentials/monitoringService", "Platform"),
        ("data/essentials/monitorCondition", "Resolved"),
        ("data/essentials/alertRule", "Restore Failure"),
        ("data/essentials/alertRule", "Workload extension unhealthy"),
        ("data/essentials/alertRule", None),
        ("data/alertContext/category", "Security"),
        (
            "data/alertContext/protectedItemId",
            "/x/protectionContainers/VMAppContainer;Compute;rg;vm/protectedItems/SQLDataBase;MSSQLSERVER;db",
        ),
        ("data/alertContext/linkedResourceId", None),
        ("data/alertContext/linkedResourceId", ["x"]),
        ("data/alertContext/linkedResourceId", "/subscriptions/x/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/a"),
        ("data/alertContext/linkedResourceId", ID + ",all"),
        ("data/alertContext/linkedResourceId", ID + "\n"),
        ("data/alertContext/linkedResourceId", ID.replace("vm-web.01", "all:!web")),
        ("data/alertContext/linkedResourceId", ID.replace("vm-web.01", "{{ lookup('pipe','id') }}")),
        ("data/alertContext/linkedResourceId", ID.replace("vm-web.01", "@hosts.txt")),
        ("data/alertContext/linkedResourceId", ID.replace("vm-web.01", "-e")),
        ("data/alertContext/linkedResourceId", ID.replace("vm-web.01", "v" * 65)),
        ("data/alertContext/linkedResourceId", ID.replace("vm-web.01", "vmé")),
        ("data/alertContext", []),
        ("data", "no JSON"),
    ],
)
def test_everything_else_passes_by(path, value):
    assert "vmbackup" not in FILTER.main({"payload": changed(path, value)})


@pytest.mark.parametrize("payload", [None, 7, [], "", "[" * 100000, b"\xff", {"data": None}])
def test_what_is_no_alert_raises_nothing(payload):
    assert FILTER.main({"payload": payload}) == {"payload": payload}


def test_a_sender_cannot_bring_the_answer():
    assert "vmbackup" not in FILTER.main({"payload": {}, "vmbackup": {"key": "x", "limit": "all"}})


@pytest.mark.parametrize(
    "text, code",
    [
        ("see https://aka.ms/AB-usererrorguestagentstatusunavailable", "usererrorguestagentstatusunavailable"),
        ("see https://aka.ms/AB-{{1}}", ""),
        ("no link", ""),
        (None, ""),
    ],
)
def test_the_error_code(text, code):
    assert FILTER.read(changed("data/alertContext/extendedInfo", {"recommendedActions": text}))["error_code"] == code
