# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What roles say of what their writers returned on a Windows guest."""

import os

import pytest

yaml = pytest.importorskip("yaml")
loader = pytest.importorskip("ansible.parsing.dataloader")
template = pytest.importorskip("ansible.template")
trusted = getattr(template, "trust_as_template", str)
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def said(path, **variables):
    """Return (text, failed) of the outcome that a file of tasks sets at its end."""
    with open(os.path.join(ROOT, "roles", path)) as stream:
        task = yaml.safe_load(stream)[-1]
    own = {name: trusted(text) for name, text in task.get("vars", {}).items()}
    templar = template.Templar(loader=loader.DataLoader(), variables=dict(own, **variables))
    outcome = task["ansible.builtin.set_fact"]["vmbackup_outcome"]
    failed = templar.template(trusted("{{ (" + outcome.get("failed", "{{ false }}").strip("{} ") + ") | bool }}"))
    return templar.template(trusted(outcome["text"])).strip(), str(failed) == "True"


LOST = "Two was stopped along with it and did not start again: The service Two could not be started: Access is denied."


@pytest.mark.parametrize("notes, failed", [([LOST], True), ([], False)])
def test_a_service_that_did_not_start_again_is_told_and_is_a_failure(notes, failed):
    restarted = {"changed": True, "changes": ["service VSS"], "notes": notes, "deferred": False}
    seen = {"ansible_check_mode": False, "__snapshot_failed": [], "__snapshot_by_hand": [], "__snapshot_waiting": []}
    text = "Restarted service VSS. " + "".join(note + " " for note in notes) + "All writers are stable or at work now."
    assert said("snapshot/tasks/windows/vss_writers.yml", __snapshot_restarted=restarted, **seen) == (text, failed)


@pytest.mark.parametrize("notes, failed", [([LOST, "Restarted before: service VSS."], True), (["Restarted before: service VSS."], False)])
def test_a_service_that_was_lost_before_the_rest_was_deferred_is_a_failure(notes, failed):
    deferred = {"changed": False, "changes": [], "notes": notes, "deferred": True, "reason": "a snapshot is running"}
    seen = {"ansible_check_mode": False, "__snapshot_failed": [], "__snapshot_by_hand": [], "__snapshot_waiting": []}
    assert said("snapshot/tasks/windows/vss_writers.yml", __snapshot_restarted=deferred, **seen)[1] is failed


def test_writers_that_were_not_restarted_are_no_failure():
    seen = {"ansible_check_mode": False, "__snapshot_failed": [], "__snapshot_by_hand": [], "__snapshot_waiting": []}
    skipped = {"changed": False, "skipped": True}
    assert said("snapshot/tasks/windows/vss_writers.yml", __snapshot_restarted=skipped, **seen) == ("No VSS writer has failed.", False)


@pytest.mark.parametrize("notes", [["One depends on VSS and was stopped along with it."], [], None])
def test_undo_tells_what_was_stopped_along(notes):
    undone = {"changed": True, "steps": ["service VSS: state=stopped"], "left": [], "packages": []}
    if notes is not None:
        undone["notes"] = notes
    text = "; ".join(["service VSS: state=stopped"] + (notes or []))
    assert said("undo/tasks/windows.yml", __undo_undone=undone, __undo_packages_back={"changed": False})[0] == text
