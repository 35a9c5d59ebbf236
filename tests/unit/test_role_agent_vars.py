# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the agent role makes of the facts: whether a snapshot runs, whether the agent lives after a restart."""

import os

import pytest

yaml = pytest.importorskip("yaml")
loader = pytest.importorskip("ansible.parsing.dataloader")
template = pytest.importorskip("ansible.template")
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
RESTARTED = "2026-01-31T12:00:00Z"


def value(name, facts, **others):
    """Return a variable of the role as a boolean."""
    with open(os.path.join(ROOT, "roles", "agent", "vars", "main.yml")) as stream:
        variables = yaml.safe_load(stream)
    try:
        from ansible.template import trust_as_template as trusted  # ansible-core 2.19 and newer
    except ImportError:
        trusted = str
    variables = {key: trusted(text) if isinstance(text, str) else text for key, text in variables.items()}
    variables.update(others, __agent_look={"ansible_facts": {"vmbackup": facts}})
    templar = template.Templar(loader=loader.DataLoader(), variables=variables)
    result = templar.template(trusted("{{ (" + name + ") | bool }}"))
    return result if isinstance(result, bool) else result == "True"


def handler(age_s, pid=9, beat=None, failed=None):
    return {
        "agent": {
            "processes": {"daemon": [{"pid": 8}], "handler": [{"pid": pid, "age_s": age_s}]},
            "heartbeat": {"at": beat},
            "handler_failures": {"count": 0, "last_at": failed},
            "markers": {"disable_agent": False},
        }
    }


@pytest.mark.parametrize(
    "facts, lives",
    [
        (handler(1), False),  # as one of a crash loop looks at any moment
        (handler(14), False),
        (handler(15), True),
        (handler(15, pid=2), False),  # of before the restart
        (handler(5, beat="2026-01-31T12:00:03Z"), True),
        (handler(4, beat="2026-01-31T12:00:03Z"), False),
        (handler(5, beat="2026-01-31T11:59:59Z"), False),  # its line is of before the restart
        (handler(5, beat="2026-01-31T12:00:03Z", failed="2026-01-31T12:00:04Z"), False),
        (handler(5, beat="2026-01-31T12:00:06Z", failed="2026-01-31T12:00:04Z"), True),
        ({"agent": {"processes": {"daemon": [{"pid": 8}], "handler": []}, "handler_failures": None}}, False),
        ({"agent": {"processes": {"daemon": [{"pid": 8}], "handler": []}, "markers": {"disable_agent": True}}}, True),
        ({"agent": None}, False),
    ],
)
def test_what_proves_that_the_handler_lives(facts, lives):
    assert value("__agent_new_handler", facts, __agent_old_pids=[1, 2], __agent_restarted_at=RESTARTED) is lives


@pytest.mark.parametrize(
    "snapshot, runs",
    [
        ({"busy": True}, True),
        ({"busy": False}, False),
        ({"busy": None}, False),
        ({}, False),
    ],
)
def test_what_counts_as_a_running_snapshot(snapshot, runs):
    assert value("__agent_snapshot_runs", {"extension": {"snapshot": snapshot}}) is runs


def test_a_look_of_an_earlier_remedy_is_not_believed():
    old = {"collected_at": "2026-01-31T12:00:00Z", "agent": {"config": {"problem": None}}}
    new = {"collected_at": "2026-01-31T13:00:00Z", "agent": {"config": {"problem": "it is damaged"}}}
    assert value("__agent_conf_problem != ''", old, vmbackup_facts=new) is True
    assert value("__agent_conf_problem != ''", new, vmbackup_facts=old) is True
    assert value("__agent_conf_problem != ''", old, vmbackup_facts={}) is False


@pytest.mark.parametrize(
    "remedy, failed, waiting, turn",
    [
        ("agent.service", ["agent.install"], False, False),
        ("snapshot.vss_services", ["agent.install"], False, True),
        ("agent.service", ["agent.update"], False, True),
        ("agent.service", [], False, True),
        ("snapshot.vss_services", [], True, False),
    ],
)
def test_whose_turn_it_is(remedy, failed, waiting, turn):
    with open(os.path.join(ROOT, "playbooks", "tasks", "remedy.yml")) as stream:
        facts = [task.get("ansible.builtin.set_fact", {}) for task in yaml.safe_load(stream)]
    expression = next(fact["vmbackup_turn"] for fact in facts if "vmbackup_turn" in fact)
    try:
        from ansible.template import trust_as_template as trusted  # ansible-core 2.19 and newer
    except ImportError:
        trusted = str
    variables = {"vmbackup_remedy": remedy, "vmbackup_failed_remedies": failed, "vmbackup_waiting": waiting}
    result = template.Templar(loader=loader.DataLoader(), variables=variables).template(trusted(expression))
    assert str(result).strip() == str(turn)
