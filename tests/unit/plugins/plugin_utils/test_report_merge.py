# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reports of slices become one."""

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._report import SCHEMA_VERSION, headline
from ansible_collections.vmbackup.azure.plugins.plugin_utils._report_merge import KEYS, merged


def one(name, status, at, actions=(), **more):
    host = dict(dict.fromkeys(KEYS), host=name, status=status, reason=status, findings=[], not_seen=[], actions=list(actions))
    return {"schema_version": SCHEMA_VERSION, "generated_at": at, "mode": "remediate", "check_mode": False, "problem": None,
            "hosts": [dict(host, **more)]}  # fmt: skip


def test_slices_become_one_report():
    whole = merged([one("b", "repaired", "2026-01-01T00:00:00Z"), one("a", "failed", "2026-01-01T00:01:00Z")], "2026-01-02T00:00:00Z")
    assert [host["host"] for host in whole["hosts"]] == ["a", "b"] and whole["hosts_total"] == 2
    assert whole["troubled"] == ["a"] and whole["counts"] == {"failed": 1, "repaired": 1}
    assert "2 hosts" in headline(whole)


def test_a_host_of_several_reports_is_the_newest_with_all_that_was_done_and_its_worst_status():
    parts = [one("a", "azure_only", "2026-01-01T00:05:00Z", [2], backup={"result": "snapshot taken"}),
             one("a", "failed", "2026-01-01T00:00:00Z", [1], undo="undo it")]  # fmt: skip
    [host] = merged(parts, "now")["hosts"]
    assert (
        host["actions"] == [1, 2]
        and host["status"] == "failed"
        and host["undo"] == "undo it"
        and host["backup"]["result"] == "snapshot taken"
    )


@pytest.mark.parametrize("bad", [{"schema_version": 0, "hosts": []}, {"hosts": [{"host": "a", "status": "fine"}]}, {"hosts": [7]}])
def test_what_is_no_report_is_not_merged(bad):
    with pytest.raises(ValueError):
        merged([{**one("a", "failed", ""), **bad}], "now")


def test_what_was_tried_before_is_left_out_once_something_was_done():
    preview = dict(one("a", "would_repair", "2026-01-01T00:00:00Z"), check_mode=True)
    diagnosis = dict(one("a", "found", "2026-01-01T00:00:00Z"), mode="diagnose")
    whole = merged([diagnosis, preview, one("a", "repaired", "2026-01-01T00:05:00Z")], "now")
    assert whole["counts"] == {"repaired": 1} and whole["check_mode"] is False
    assert merged([diagnosis, preview], "now")["counts"] == {"found": 1}


def test_a_look_at_azure_alone_does_not_clear_what_a_guest_has():
    blocker = {"id": "x", "severity": "blocker", "state": "left", "title": "X"}
    whole = merged(
        [one("a", "left_over", "2026-01-01T00:00:00Z", findings=[blocker]), one("a", "azure_only", "2026-01-01T00:05:00Z")], "now"
    )
    assert whole["troubled"] == ["a"] and whole["hosts"][0]["findings"] == [blocker]
