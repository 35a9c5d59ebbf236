# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run as a whole promises: a report always, an all-clear only when earned, an end to a run that harms."""

import os
import threading

import pytest
from conftest import ROOT, host_of

BROKEN = "systemctl stop walinuxagent.service; printf '#!/bin/sh\\nexit 1\\n' >/usr/sbin/waagent; chmod 755 /usr/sbin/waagent"


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_a_report_under_every_strategy(lab, tmp_path, strategy):
    lab("wait-ready", "deb12", "deb13")
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["deb12", "deb13"], tmp_path, ANSIBLE_STRATEGY=strategy)
    assert code == 0, output
    assert report["counts"] == {"healthy": 2}


@pytest.mark.parametrize(
    "hosts, arguments, words",
    [
        (["nobody*"], [], "No host matches 'nobody*'"),
        (["deb12"], ["--limit", "deb13"], "No host matches both 'deb12' (vmbackup_hosts) and the limit 'deb13'"),
        (["deb12"], ["-e", '{"vmbackup_gather_subset": []}'], "names no area"),
    ],
)
@pytest.mark.parametrize("name", ["vmbackup.azure.diagnose", "vmbackup.azure.remediate"])
def test_nothing_looked_at_is_an_error(lab, tmp_path, name, hosts, arguments, words):
    code, output, _report = lab.playbook(name, hosts, tmp_path, *arguments)
    assert code != 0
    assert words in " ".join(output.split())


def test_an_empty_inventory_is_an_error(lab, tmp_path):
    (tmp_path / "empty.yml").write_text("all: {}\n")
    done = lab.ansible("ansible-playbook", "vmbackup.azure.remediate", inventory=str(tmp_path / "empty.yml"))
    assert done.returncode != 0 and "The inventory holds no host" in " ".join(done.stdout.split())


def test_an_area_left_out_is_no_all_clear(lab, tmp_path):
    lab("wait-ready", "deb12")
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["deb12"], tmp_path, "-e", '{"vmbackup_gather_subset": ["network"]}')
    assert code != 0
    assert host_of(report, "deb12")["status"] == "not_seen"
    assert "Not asked for: agent, extension, load." in output


def test_a_run_that_harms_stops_itself_and_reports(lab, tmp_path):
    lab("reset", "f01", "f02", "f03")
    lab("wait-ready", "f01", "f02", "f03")
    lab.shell("f01", BROKEN)
    lab.shell("f02", "systemctl stop walinuxagent.service")
    arguments = ["-e", "vmbackup_max_failures=0", "-e", "agent_start_wait_s=20"]
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01", "f02", "f03"], tmp_path, *arguments)
    assert code != 0
    assert {name: host_of(report, name)["status"] for name in ("f01", "f02", "f03")} == {
        "f01": "failed",
        "f02": "not_started",
        "f03": "healthy",
    }
    assert "The run stopped itself" in output and "vmbackup_max_failures is 0" in output
    assert lab("exec", "f02", "--", "systemctl", "is-active", "walinuxagent.service", check=False).strip().startswith("inactive")

    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01", "f02", "f03"], tmp_path, "-e", "agent_start_wait_s=20")
    assert host_of(report, "f02")["status"] == "repaired", output


@pytest.mark.parametrize("break_conf", ["rm /etc/waagent.conf", "mv /etc/waagent.conf /etc/kept; ln -s /etc/nowhere /etc/waagent.conf"])
def test_an_agent_that_could_not_read_its_configuration_is_not_restarted(lab, tmp_path, break_conf):
    lab("reset", "f10")
    lab("wait-ready", "f10")
    lab.shell("f10", "touch /var/lib/waagent/disable_agent; " + break_conf)
    before = lab("exec", "f10", "--", "systemctl", "show", "--property=MainPID", "walinuxagent.service")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f10"], tmp_path, "-e", "vmbackup_allow_disable_agent_removal=true")
    assert code != 0
    assert lab("exec", "f10", "--", "systemctl", "show", "--property=MainPID", "walinuxagent.service") == before != "MainPID=0\n", output
    texts = " ".join(entry["text"] for entry in host_of(report, "f10")["actions"])
    assert "was not restarted, since it could not read /etc/waagent.conf" in texts


def test_the_playbook_of_a_clone_runs_as_it_is(lab, tmp_path):
    """Without an installed collection, by the path that the README names, from any directory."""
    lab("wait-ready", "deb12")
    playbook = os.path.join(ROOT, "playbooks", "remediate.yml")
    code, output, report = lab.playbook(playbook, ["deb12"], tmp_path, ANSIBLE_COLLECTIONS_PATH=str(tmp_path))
    assert code == 0, output
    assert host_of(report, "deb12")["status"] == "healthy"


def test_guests_that_wait_hold_up_no_other(lab, tmp_path):
    """Six guests wait for their snapshots and there are five forks: the others are repaired meanwhile, and those that waited afterwards."""
    waiting, free = ["f03", "f04", "f05", "f06", "f09", "f10"], ["f01", "f02"]
    lab.plant(dict.fromkeys(waiting, "agent_verbose"))
    lab("reset", *free)
    lab("wait-ready", *free)
    for guest in free:
        lab.shell(guest, "systemctl stop walinuxagent.service")
    for guest in waiting:
        lab.start_snapshot(guest, seconds=300)  # ended as soon as the others are repaired
    repaired = {}

    def look():
        while len(repaired) < len(free) and not over.is_set():
            for guest in free:
                if (
                    guest not in repaired
                    and lab("exec", guest, "--", "systemctl", "is-active", "walinuxagent.service", check=False).strip() == "active"
                ):
                    repaired[guest] = [lab.snapshot_runs(other) for other in waiting]
            over.wait(1)
        for guest in waiting:
            lab.end_snapshot(guest)

    over = threading.Event()
    watcher = threading.Thread(target=look)
    watcher.start()
    arguments = ["--forks", "5", "-e", "vmbackup_serial=100%", "-e", "vmbackup_allow_verbose_logging_off=true"]
    try:
        code, output, report = lab.playbook("vmbackup.azure.remediate", waiting + free, tmp_path, *arguments)
    finally:
        over.set()
        watcher.join()
    assert report, output[-5000:]
    assert {name: host_of(report, name)["status"] for name in waiting + free} == dict.fromkeys(waiting + free, "repaired"), output[-5000:]
    assert repaired == {guest: [True] * 6 for guest in free}, repaired
    for guest in waiting:
        assert "Logs.Verbose = False" in lab.shell(guest, "waagent --show-configuration")


def test_each_guest_is_repaired_in_the_order_of_the_table(lab, tmp_path):
    """Four guests with plans of their own, side by side."""
    lab.plant(
        {
            "f01": ["agent_stopped", "agent_restart_policy"],
            "f02": ["agent_extensions_disabled", "agent_verbose", "agent_auto_update_off"],
            "f03": ["agent_old", "agent_restart_policy"],
            "f04": ["agent_old", "agent_extensions_disabled", "agent_verbose"],
        }
    )
    consents = ["-e", "vmbackup_allow_verbose_logging_off=true", "-e", "vmbackup_allow_auto_update=true", "-e", "vmbackup_serial=100%"]
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f01", "f02", "f03", "f04"], tmp_path, *consents)
    done = {name: [entry["remedy"] for entry in host_of(report, name)["actions"]] for name in ("f01", "f02", "f03", "f04")}
    assert done == {
        "f01": ["agent.auto_restart", "agent.service", "agent.restart"],
        "f02": ["agent.configuration", "agent.auto_update", "agent.verbose_logging", "agent.restart"],
        "f03": ["agent.update", "agent.auto_restart", "agent.restart"],
        "f04": ["agent.update", "agent.configuration", "agent.verbose_logging", "agent.restart"],
    }, output[-5000:]
    assert code == 0, output[-5000:]
