# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs as AWX makes them: an approved plan, a maintenance window, ansible-runner and ansible-navigator, reports of slices."""

import json
import os
import re
import subprocess

import pytest
from conftest import CACHE, INVENTORY, ROOT, host_of

FLEET = os.path.join(CACHE, "fleet", "bin")
NO_FLEET = pytest.mark.skipif(
    not os.path.exists(os.path.join(FLEET, "ansible-navigator")), reason="ansible-navigator is not set up here (tests/tools/setup.sh fleet)"
)


def stats_of(output):
    """Return what the run set by set_stats."""
    return json.loads(re.search(r"^\s*RUN: (\{.*\})\s*$", output, re.M).group(1))


def active(lab, guest):
    return lab.shell(guest, "systemctl is-active walinuxagent.service || true").strip()


def test_only_what_was_approved_is_done(lab, tmp_path):
    lab.plant({"f01": "agent_stopped", "f02": "agent_stopped"})
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01", "f02"], tmp_path, "--check", ANSIBLE_SHOW_CUSTOM_STATS="true")
    stats = stats_of(output)
    plan, seal = stats["vmbackup_previewed_plan"], stats["vmbackup_previewed_hash"]
    assert set(plan) == {"f01", "f02"} and "agent.service" in plan["f01"], output[-3000:]
    assert stats["vmbackup_result"]["counts"] == report["counts"]
    lab.shell("f02", "systemctl mask walinuxagent.service")  # since the preview
    given = {"vmbackup_approved_only": True, "vmbackup_previewed_plan": plan, "vmbackup_previewed_hash": seal}
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01", "f02"], tmp_path, "-e", json.dumps(given))
    assert code != 0 and host_of(report, "f01")["status"] == "repaired", output[-3000:]
    assert active(lab, "f01") == "active" and active(lab, "f02") == "inactive"
    left = [finding["next"] for finding in host_of(report, "f02")["findings"] if finding["severity"] == "blocker"]
    assert left and all("Not in the plan that was approved" in text for text in left), left
    code, output, report = lab.playbook(
        "vmbackup.azure.remediate", ["f02"], tmp_path, "-e", json.dumps(dict(given, vmbackup_previewed_plan={"f02": plan["f02"]}))
    )
    assert code != 0 and "The plan is not the one that was approved" in output and active(lab, "f02") == "inactive", output[-3000:]


def test_outside_of_the_maintenance_window_nothing_is_changed(lab, tmp_path):
    lab.plant({"f01": "agent_stopped"})
    now = lab.shell("f01", "date -u +%H").strip()
    hour = (int(now) + 12) % 24
    window = {
        "vmbackup_not_before": "{0:02d}:00".format(hour),
        "vmbackup_not_after": "{0:02d}:30".format(hour),
        "vmbackup_window_time_zone": "guest",
    }
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01"], tmp_path, "-e", json.dumps(window))
    assert code != 0 and host_of(report, "f01")["status"] == "deferred", output[-3000:]
    assert "outside of the maintenance window" in str(host_of(report, "f01")["actions"]) and active(lab, "f01") == "inactive"
    window.update(vmbackup_not_before="00:00", vmbackup_not_after="24:00")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01"], tmp_path, "-e", json.dumps(window))
    assert code == 0 and host_of(report, "f01")["status"] == "repaired" and active(lab, "f01") == "active", output[-3000:]


def run(*command, directory):
    env = dict(os.environ, PATH=FLEET + ":" + os.environ["PATH"], ANSIBLE_NAVIGATOR_CONFIG="", HOME=str(directory))
    env.pop("ANSIBLE_NAVIGATOR_CONFIG")
    done = subprocess.run(
        command,
        env=env,
        cwd=directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode, done.stdout


@NO_FLEET
def test_navigator_and_runner_run_the_playbook_and_slices_become_one_report(lab, tmp_path):
    lab("up", "deb12", "deb13")
    options = ["-e", "vmbackup_report_dir={0}".format(tmp_path)]
    code, output = run(
        "ansible-navigator", "run", "vmbackup.azure.remediate", "-i", INVENTORY, "--mode", "stdout", "--ee", "false", "--pas", str(tmp_path / "a.json"),
        "-e", "vmbackup_hosts=deb12", "-e", "vmbackup_report_name=slice-1", *options, directory=tmp_path,
    )  # fmt: skip
    assert code == 0 and (tmp_path / "slice-1.json").exists(), output[-3000:]
    data = tmp_path / "runner"
    for folder in ("project", "env"):
        (data / folder).mkdir(parents=True)
    (data / "project" / "site.yml").write_text("- import_playbook: vmbackup.azure.remediate\n")
    given = {"vmbackup_hosts": "deb13", "vmbackup_report_dir": str(tmp_path), "vmbackup_report_name": "slice-2"}
    (data / "env" / "extravars").write_text(json.dumps(given))
    code, output = run("ansible-runner", "run", str(data), "-p", "site.yml", "--inventory", INVENTORY, directory=tmp_path)
    assert code == 0 and (tmp_path / "slice-2.json").exists(), output[-3000:]
    done = lab.ansible(
        "ansible-playbook", "vmbackup.azure.report", "-e", json.dumps({"vmbackup_reports": [str(tmp_path / "slice-*.json")]}), *options
    )
    with open(tmp_path / "vmbackup-report.json") as stream:
        report = json.load(stream)
    assert done.returncode == 0 and {host["host"] for host in report["hosts"]} == {"deb12", "deb13"}, done.stdout[-3000:]
    assert "2 hosts looked at, nothing found" in done.stdout
    done = lab.ansible(
        "ansible-playbook", "vmbackup.azure.report", "-e", json.dumps({"vmbackup_reports": [str(tmp_path / "no-*.json")]}), *options
    )
    assert done.returncode != 0 and "No report is there to merge" in done.stdout and ROOT not in done.stdout.split("fatal")[-1]
