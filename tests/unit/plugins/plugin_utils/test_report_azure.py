# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the report says of repairs in Azure and of backups: error before, findings, what was done on which side, outcome."""

import json

import pytest

pytest.importorskip("jinja2")
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _report as r  # noqa: E402
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import plan  # noqa: E402

NOW = "2026-11-28T09:00:00Z"
KNOWN = {
    "read_at": NOW,
    "power_state": "running",
    "vault": "Vault01",
    "error_code": "UserErrorVmProvisioningStateFailed",
    "error_message": "The VM is in failed provisioning state.",
}
CHANGE = {"resource": "/subscriptions/s/vm1", "property": "provisioning state", "old": "Failed", "new": "Succeeded"}


def found(id_, remedy, severity="blocker", consent=None):
    title = "Title of " + id_
    plain = {"cause": 5, "evidence": ["seen"], "action": "Do it by hand.", "side": "azure", "codes": [], "doc": "https://x/", "fix": []}
    return {**plain, "id": id_, "severity": severity, "title": title, "remedy": remedy, "consent": consent}


def before(*findings, **others):
    findings = list(findings)
    base = {"findings": findings, "remedies": plan(findings), "contacted": False, "reason": "Not contacted.", "azure": KNOWN}
    return {"before": {**base, **others}}


def did(remedy="azure.reapply", **others):
    plain = {"remedy": remedy, "text": "Reapplies the model.", "changed": True, "failed": False, "deferred": False, "proved": True}
    return {**plain, "changes": [CHANGE], **others}


def backup(result, **others):
    shown = {"result": result, "job": "/jobs/1", "request_id": "1", "code": None, "message": None}
    return did(
        "azure.backup_now", text="Started a backup.", changes=[], proved=result in ("snapshot taken", "backed up"), backup=shown, **others
    )


def report(*entries, check=False, problem=None, record=None):
    record = {**(record or before(found("azure_provisioning_failed", "azure.reapply"))), "azure": list(entries)}
    made = r.build({"h": record}, {"mode": "remediate", "check_mode": check, "inventory": [], "problem": problem}, NOW)
    json.dumps(made)
    return made, made["hosts"][0], r.html(made), "\n".join(line for _colour, line in r.console(made))


def test_error_findings_what_was_done_and_the_outcome_stand_together():
    made, host, page, lines = report(did(), backup("snapshot taken"))
    assert host["status"] == "in_azure" and host["findings"][0]["state"] == "repaired" and made["troubled"] == []
    assert made["backups"] == {"snapshot taken": 1} and "Backups: 1 snapshot taken." in r.headline(made)
    for text in (page, lines):
        assert (
            "The VM is in failed provisioning state." in text and "UserErrorVmProvisioningStateFailed" in text and "snapshot taken" in text
        )
    assert "in Azure: Reapplies the model." in lines
    assert "provisioning state of /subscriptions/s/vm1: Failed &rarr; Succeeded" in page and "backed up" not in page


@pytest.mark.parametrize(
    "entries, status, state, troubled",
    [
        ([], "found", "left", True),
        ([did(proved=False, failed=True)], "failed", "left", True),
        ([did(proved=False, changed=False, deferred=True)], "found", "deferred", True),
        ([did(), backup("failed", failed=True)], "failed", "repaired", True),
        ([did(), backup("started, not seen")], "in_azure", "repaired", False),
    ],
)
def test_states_follow_what_azure_showed(entries, status, state, troubled):
    made, host, _page, _lines = report(*entries)
    assert (host["status"], host["findings"][0]["state"], bool(made["troubled"])) == (status, state, troubled)


def test_in_check_mode_it_would_be():
    made, host, page, lines = report(did(proved=False), check=True)
    assert host["findings"][0]["state"] == "would_repair" and "would do  in Azure" in lines and "What would be done" in page


def test_a_guest_that_did_not_answer_is_counted_as_handled_in_azure():
    record = before(found("azure_vm_shut_down_inside", "azure.power_state", "risk"), unreachable=True, msg="timed out", contacted=True)
    made, host, _page, lines = report(did("azure.power_state"), record=record)
    assert host["status"] == "in_azure" and "timed out" in host["reason"] and made["counts"] == {"in_azure": 1}
    made, host, _page, _lines = report(record=record)
    assert host["status"] == "not_reached" and made["troubled"] == ["h"]


@pytest.mark.parametrize("result, state", [("snapshot taken", "repaired"), ("backed up", "repaired"), ("started, not seen", "deferred")])
def test_the_next_recovery_point_ends_an_old_one(result, state):
    _made, host, _page, _lines = report(backup(result), record=before(found("azure_rpo_breached", None, "risk")))
    assert host["findings"][0]["state"] == state


def test_why_azure_was_not_repaired_stands_at_the_top():
    made, _host, page, lines = report(problem="In Azure nothing more was done: no sign-in, sig=S3cr3t.")
    assert "nothing more was done" in r.headline(made) and "nothing more was done" in page and "S3cr3t" not in page + lines


def test_a_secret_in_what_azure_answered_is_masked():
    change = {**CHANGE, "old": "https://h/p?sig=S3cr3t"}
    made, _host, page, lines = report(did(text="https://h/p?sig=S3cr3t", changes=[change]), backup("failed", failed=True))
    assert "S3cr3t" not in json.dumps(made) + page + lines


def test_what_was_done_is_told_in_its_order():
    record = {**before(found("azure_provisioning_failed", "azure.reapply")), "actions": [did("agent.service", changes=[])]}
    host = report(did(), backup("snapshot taken"), record=record)[1]
    assert [entry["remedy"] for entry in host["actions"]] == ["azure.reapply", "agent.service", "azure.backup_now"]
