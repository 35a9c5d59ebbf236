# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which diagnosis a remedy is decided by: the first one holds, unless an earlier remedy of the run changed the network."""

import os

import pytest

yaml = pytest.importorskip("yaml")
loader = pytest.importorskip("ansible.parsing.dataloader")
template = pytest.importorskip("ansible.template")
# ansible-core 2.19 and newer template only what is trusted.
trusted = getattr(template, "trust_as_template", str)
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
ROUTES, FIREWALL, SERVICE = "connectivity.azure_routes", "connectivity.firewall", "agent.service"


def diagnosis(at, *remedies):
    facts = {"collected_at": at, "system": {"kind": "windows"}}
    return {
        "ansible_facts": {"vmbackup": facts},
        "findings": [],
        "remedies": [{"remedy": name, "fix": {"from": at}, "allowed": True} for name in remedies],
    }


BEFORE = diagnosis("first", ROUTES, FIREWALL, SERVICE)


def frame(remedy, expression, **variables):
    known = {}
    for name in ("frame", "remedies"):
        with open(os.path.join(ROOT, "..", "roles", "repair", "vars", "main", name + ".yml")) as stream:
            known.update(yaml.safe_load(stream))
    known = {key: trusted(value) if isinstance(value, str) else value for key, value in known.items()}
    known.update(
        variables,
        vmbackup_remedy=remedy,
        vmbackup_before=BEFORE,
        ansible_check_mode=False,
        vmbackup_snapshot_wait_s=600,
        vmbackup_snapshot_poll_s=10,
    )
    return template.Templar(loader=loader.DataLoader(), variables=known).template(trusted("{{ " + expression + " }}"))


def item(remedy):
    return next(entry for entry in BEFORE["remedies"] if entry["remedy"] == remedy)


@pytest.mark.parametrize(
    "remedy, changed, again",
    [(FIREWALL, True, True), (FIREWALL, False, False), (SERVICE, True, False)],
)
def test_the_guest_is_diagnosed_again_only_for_what_the_network_decides(remedy, changed, again):
    found = frame(remedy, "__repair_again | bool", vmbackup_item=item(remedy), vmbackup_network_changed=changed)
    assert str(found) == str(again)


@pytest.mark.parametrize(
    "remedy, seen, at, fix",
    [
        (FIREWALL, {}, "first", {"from": "first"}),
        (FIREWALL, diagnosis("second", FIREWALL), "second", {"from": "second"}),
        # What the second diagnosis no longer asks for is not done.
        (FIREWALL, diagnosis("second"), "second", {}),
        (SERVICE, diagnosis("second"), "first", {"from": "first"}),
    ],
)
def test_a_remedy_is_decided_by_the_newest_diagnosis_of_what_it_needs(remedy, seen, at, fix):
    given = {"vmbackup_item": item(remedy), "vmbackup_network_seen": seen, "__repair_look": {"changed": False, "skipped": True}}
    assert frame(remedy, "__repair_facts['collected_at']", **given) == at
    assert frame(remedy, "__repair_entry['fix'] | default({})", **given) == fix
    assert str(frame(remedy, "__repair_busy | bool", **given)) == "False"
    assert int(frame(remedy, "__repair_looks", **given)) == 1


@pytest.mark.parametrize("busy", [True, False])
def test_a_remedy_alone_is_decided_by_its_own_diagnosis_and_waits(busy):
    own = diagnosis("own", SERVICE)
    own["ansible_facts"]["vmbackup"]["extension"] = {"snapshot": {"busy": busy}}
    given = {"__repair_look": own, "vmbackup_network_seen": diagnosis("second")}
    assert frame(SERVICE, "__repair_facts['collected_at']", **given) == "own"
    assert frame(SERVICE, "__repair_entry['fix']", **given) == {"from": "own"}
    assert str(frame(SERVICE, "__repair_busy | bool", **given)) == str(busy)
    assert int(frame(SERVICE, "__repair_looks", **given)) == 61


@pytest.mark.parametrize(
    "given, expected",
    [({}, 600), ({"vmbackup_snapshot_wait_s": 0}, 0), ({"vmbackup_snapshot_wait_s": ""}, 600), ({"vmbackup_snapshot_wait_s": "30"}, 30)],
)
def test_no_wait_is_no_wait_and_an_empty_answer_of_a_survey_is_the_default(given, expected):
    with open(os.path.join(ROOT, "..", "playbooks", "vars", "run.yml")) as stream:
        expression = yaml.safe_load(stream)["__vmbackup_wait_s"]
    assert int(template.Templar(loader=loader.DataLoader(), variables=given).template(trusted(expression))) == expected
