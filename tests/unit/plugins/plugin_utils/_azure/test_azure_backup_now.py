# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups on demand against the stand-in: each sent once, awaited within what an hour allows. Time is the stand-in's own."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.vmbackup.azure.lab.arm import documents, tls
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.budget import LIMITS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import backup, starts, waiting
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.backup import Options
from azure_world import World

pytestmark = pytest.mark.skipif(bool(tls.lacks()), reason="SKIPPED: " + tls.lacks())


def back_up(world, *names, targets=None, most_failures=3, **options):
    run = world.run(most_failures=most_failures)
    return sorted(waiting.back_up(world.client, targets or world.targets(*names), Options(**options), run), key=lambda entry: entry["host"])


def one(world, name="vm0001", **options):
    (entry,) = back_up(world, name, **options)
    return entry


def posts(world):
    return [write for write in world.writes() if write[1] == "backup"]


def jobs_of(world, name="vm0001"):
    """Return the jobs that were made by a request, by another way than the client's."""
    return [run.job for run in world.azure.backup.runs.running if run.job["properties"]["entityFriendlyName"] == name]


def test_in_check_mode_nothing_but_reads_is_sent():
    with World(check=True) as world:
        entries = back_up(world)
        assert len(entries) == 4 and all(entry["changed"] and "Starts a backup" in entry["text"] for entry in entries)
        assert world.writes() == [] and world.kept == [] and not world.azure.backup.runs.running


def test_the_snapshot_is_awaited_and_is_no_backup():
    with World() as world:
        entry = one(world)
        assert (
            entry["changed"]
            and entry["proved"]
            and entry["backup"]["result"] == "snapshot taken"
            and "backed up" not in entry["text"].lower()
        )
        (job,) = jobs_of(world)
        assert job["properties"]["status"] == "InProgress" and job["id"] == entry["backup"]["job"]
        assert job["properties"]["activityId"] == entry["backup"]["request_id"] and posts(world) == [("POST", "backup", 202)]
        assert 480 <= world.elapsed < 600
        assert world.kept[0]["state"] == "begun" and world.kept[0]["new"] == entry["backup"]["request_id"]


def test_the_whole_job_is_awaited():
    with World() as world:
        entry = one(world, until="job")
        assert entry["backup"]["result"] == "backed up" and 3600 <= world.elapsed < 4200
        assert world.item("vm0001")["properties"]["lastBackupStatus"] == "Completed"


def test_nothing_is_awaited():
    with World() as world:
        entry = one(world, until="none")
        assert entry["changed"] and entry["backup"]["result"] == "started" and world.elapsed < 120


def test_a_second_run_finds_what_runs_and_starts_nothing():
    with World() as world:
        first = one(world)
        again = one(world)
        assert not again["changed"] and again["backup"]["job"] == first["backup"]["job"] and "Found again" in again["text"]
        assert posts(world) == []
        world.sleep(4000)
        later = back_up(world, targets=world.targets("vm0001"))[0]
        assert not later["changed"] and later["proved"] and "succeeded since" in later["text"] and posts(world) == []


def test_a_backup_that_a_schedule_began_is_not_disturbed():
    with World() as world:
        vault = next(iter(world.azure.fleet.of_type("Microsoft.RecoveryServices/vaults")))
        job = documents.job(
            vault, "11111111-0000-0000-0000-000000000000", world.machine("vm0001"), world.azure.fleet.now(), status="InProgress"
        )
        targets = world.targets("vm0001")
        world.azure.fleet.jobs[job["id"].lower()] = job
        entry = back_up(world, targets=targets)[0]
        assert entry["deferred"] and not entry["changed"] and "runs already" in entry["text"] and posts(world) == []


def test_no_more_than_four_a_day():
    with World() as world:
        world.live("vm0001")["backup_error"] = ("ExtensionSnapshotFailedNoNetwork", "No network.")
        for _number in range(4):
            entry = one(world)
            assert entry["failed"] and entry["changed"] and "ExtensionSnapshotFailedNoNetwork" in entry["text"]
        entry = one(world)
        assert entry["deferred"] and not entry["changed"] and "4 times" in entry["text"] and posts(world) == []
        world.sleep(86400)
        world.at(12)
        assert one(world)["changed"]


@pytest.mark.parametrize(
    "zone, hour, minute, waits",
    [
        ("UTC", 21, 29, False),
        ("UTC", 21, 31, True),
        ("UTC", 22, 31, False),
        ("India Standard Time", 16, 30, True),
        ("India Standard Time", 22, 0, False),
    ],
)
def test_none_is_started_within_an_hour_before_the_schedule(zone, hour, minute, waits):
    with World() as world:
        policy = next(entry for entry in world.azure.fleet.resources.values() if entry["name"] == "DefaultPolicy")
        policy["properties"]["timeZone"] = zone
        world.at(hour, minute)
        entry = one(world)
        assert entry["deferred"] is waits and (posts(world) == []) is waits, entry["text"]


def test_a_policy_that_does_not_tell_is_reckoned_by_yesterdays_jobs():
    now = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)
    hour = timedelta(hours=1)
    for policy in ({}, {"frequency": "Daily", "start_times": ["22:30"], "time_zone": "Nowhere"}):
        with pytest.raises(ValueError):
            starts.next_start(policy, now, hour)
    assert starts.by_history([now - timedelta(hours=23, minutes=30)], now, hour) == now + timedelta(minutes=30)
    assert starts.by_history([now - timedelta(hours=22, minutes=30), now - timedelta(hours=25)], now, hour) is None


@pytest.mark.parametrize(
    "frequency, days, times, expected",
    [
        ("Daily", [], ["12:30"], "12:30"),
        ("Daily", [], ["13:01"], None),
        ("Weekly", ["Saturday"], ["12:30"], "12:30"),
        ("Weekly", ["Sunday"], ["12:30"], None),
        ("Hourly", [], ["08:30"], "12:30"),
        ("Hourly", [], ["09:30"], None),
    ],
)
def test_when_a_policy_starts(frequency, days, times, expected):
    policy = {"frequency": frequency, "days": days, "start_times": times, "time_zone": "UTC", "interval_h": 12.0, "every_h": 4.0}
    saturday = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)
    found = starts.next_start(policy, saturday, timedelta(hours=1))
    assert (found.strftime("%H:%M") if found else None) == expected


def test_times_of_filters_do_not_depend_on_the_locale():
    for hour, text in ((0, "12:05:09 AM"), (9, "09:05:09 AM"), (12, "12:05:09 PM"), (23, "11:05:09 PM")):
        assert backup._filter_time(datetime(2026, 11, 28, hour, 5, 9)) == "2026-11-28 " + text


def test_a_clock_that_is_wrong_is_set_right_by_azures():
    with World() as world:
        targets = world.targets("vm0001")
        # Three hours ahead, so that by this clock it would be time for the schedule, or long past it.
        world.at(21, 45)
        client = world.open()
        run = world.run()
        run.wall = lambda: world.azure.fleet.now().timestamp() - 3 * 3600
        client.clock_skew_s = -3 * 3600.0
        (entry,) = waiting.back_up(client, targets, Options(), run)
        assert entry["deferred"] and "22:30" in entry["text"]
        client.close()


# What goes wrong


def test_a_reset_before_the_request_arrives_is_not_repeated():
    with World() as world:
        targets = world.targets("vm0001")
        world.azure.fault("POST .*/backup$", reset=True)
        entry = back_up(world, targets=targets)[0]
        assert entry["failed"] and not entry["changed"] and "not sent again" in entry["text"]
        assert len(posts(world)) == 1 and not jobs_of(world)


@pytest.mark.parametrize("fault", [{"cut": True}, {"status": 500, "body": {}, "late": True}])
def test_an_answer_that_is_lost_is_found_by_the_jobs(fault):
    with World() as world:
        targets = world.targets("vm0001")
        world.azure.fault("POST .*/backup$", **fault)
        entry = back_up(world, targets=targets)[0]
        assert entry["changed"] and not entry["failed"] and entry["backup"]["result"] == "snapshot taken"
        assert len(posts(world)) == 1 and len(jobs_of(world)) == 1


def test_a_job_that_does_not_bear_the_id_of_the_request_is_found_by_its_vm():
    with World() as world:
        world.azure.backup.runs.own_activity = True
        entry = one(world)
        assert entry["backup"]["result"] == "snapshot taken" and entry["backup"]["job"] == jobs_of(world)[0]["id"]
        # Another run does not know it as its own, and leaves it alone.
        again = one(world)
        assert not again["changed"] and posts(world) == []


def test_a_job_that_the_list_does_not_show_is_found_by_the_operation():
    with World() as world:
        targets = world.targets("vm0001")
        world.azure.backup.runs.hidden = True
        entry = back_up(world, targets=targets)[0]
        assert entry["backup"]["result"] == "snapshot taken" and posts(world) == [("POST", "backup", 202)]


def test_a_second_backup_that_the_service_refuses_is_no_failure():
    with World() as world:
        targets = world.targets("vm0001")
        vaults = backup.read_vaults(world.client, [targets[0].vm["backup"]["vault_id"]], world.azure.fleet.now())
        other = world.open()
        backup.send(other, targets[0], "22222222-0000-0000-0000-000000000000", Options(), world.run())
        work = waiting.Work(world.client, Options(), world.run(), vaults)
        world.azure.backup.runs.hidden = True
        work.queue = {key: [(targets[0], "33333333-0000-0000-0000-000000000000")] for key in vaults}
        (entry,) = work.all()
        assert entry["deferred"] and not entry["failed"] and "runs already" in entry["text"] and len(jobs_of(world)) == 1
        other.close()


def test_a_backup_that_fails_again_is_told_with_its_error():
    with World() as world:
        world.live("vm0001")["backup_error"] = ("UserErrorFsFreezeFailed", "Failed to freeze one or more mount-points of the VM.")
        entry = one(world)
        assert entry["failed"] and entry["backup"] == {
            "result": "failed",
            "request_id": entry["backup"]["request_id"],
            "job": entry["backup"]["job"],
            "code": "UserErrorFsFreezeFailed",
            "message": "Failed to freeze one or more mount-points of the VM.",
        }


def test_a_job_that_never_ends_is_started_not_seen():
    with World() as world:
        world.live("vm0001")["never_ends"] = True
        entry = one(world)
        assert entry["changed"] and not entry["failed"] and not entry["proved"] and entry["backup"]["result"] == "started, not seen"
        assert 2000 < world.elapsed <= 2700
        assert len(world.azure.requests("GET .*/backupJobs/[^/]+$")) == 2


def test_a_vm_that_is_deleted_meanwhile_has_no_item_to_back_up():
    with World() as world:
        targets = world.targets("vm0001")
        del world.azure.fleet.items[world.item("vm0001")["id"].lower()]
        entry = back_up(world, targets=targets)[0]
        assert entry["failed"] and "not there any more" in entry["text"] and posts(world) == []


def test_protection_that_was_stopped_meanwhile_is_left_alone():
    with World() as world:
        targets = world.targets("vm0001")
        world.item("vm0001")["properties"]["protectionState"] = "ProtectionStopped"
        entry = back_up(world, targets=targets)[0]
        assert not entry["failed"] and not entry["changed"] and posts(world) == []


def test_a_vault_that_cannot_be_read_fails_alone():
    with World(count=12, failing=6, vaults=2) as world:
        targets = world.targets()
        world.azure.backup.deny(targets[0].vm["backup"]["vault_id"])
        entries = back_up(world, targets=targets)
        assert [entry["failed"] for entry in entries] == [True, False] * 3


def test_rights_that_are_missing_stop_the_rest():
    with World(count=12, failing=10) as world:
        targets = world.targets()
        world.azure.fleet.read_only.add(targets[0].vm["backup"]["vault_id"].lower())
        entries = back_up(world, targets=targets, parallel=5)
        assert sum(entry["failed"] for entry in entries) == 6 and sum(entry["deferred"] for entry in entries) == 4


def test_so_many_of_a_vault_at_a_time():
    with World(count=12, failing=10) as world:
        most = 0

        def counted(seconds):
            nonlocal most
            most = max(most, sum(run.phase == "snapshot" for run in world.azure.backup.runs.running))
            World.sleep(world, seconds)

        world.sleep = counted
        entries = back_up(world, parallel=4)
        assert all(entry["backup"]["result"] == "snapshot taken" for entry in entries) and len(entries) == 10 and most == 4


def test_without_awaiting_no_more_than_that_many_are_started():
    with World(count=12, failing=10) as world:
        entries = back_up(world, parallel=4, until="none")
        assert sum(entry["changed"] for entry in entries) == 4 and sum(entry["deferred"] for entry in entries) == 6


def test_200_vms_stay_within_what_an_hour_allows():
    """With a simulated clock: 200 failing VMs in two vaults, all awaited, by their restore points."""
    with World(count=260, failing=200, vaults=2) as world:
        targets = world.targets()
        entries = back_up(world, targets=targets)
        results = {entry["backup"]["result"] for entry in entries}
        assert len(entries) == 200 and results == {"snapshot taken"}, results
        assert len(posts(world)) == 200 and {status for _method, _name, status in posts(world)} == {202}
        allowed = {
            "reads of backup jobs": LIMITS["reads of backup jobs"],
            "other reads of Recovery Services": LIMITS["other reads of Recovery Services"],
        }
        for kind, count in world.client.spent().items():
            assert count <= allowed[kind.partition(": ")[2]], kind
        assert not [entry for entry in world.azure.log if entry[2] == 429]
        assert len(world.azure.requests("GET .*/backupJobs")) < 30 and world.elapsed < 3600


def test_60_vms_are_looked_at_by_their_jobs():
    with World(count=80, failing=60) as world:
        entries = back_up(world, parallel=60)
        assert {entry["backup"]["result"] for entry in entries} == {"snapshot taken"}
        assert len(world.azure.requests("GET .*/backupJobs/[^/]+$")) <= 120 and not [entry for entry in world.azure.log if entry[2] == 429]


def test_a_backup_that_azure_took_is_awaited_though_its_note_cannot_be_written():
    def keep(entry):
        if entry["state"] != "begun":
            raise errors.ConfigurationError(
                "What became of it could not be noted in /r (No space left on device), where it stands as begun."
            )

    with World() as world:
        (entry,) = waiting.back_up(world.client, world.targets("vm0001"), Options(), replace(world.run(), keep=keep))
        assert entry["changed"] and not entry["failed"] and entry["backup"]["result"] == "snapshot taken"
        assert entry["text"].endswith("No space left on device), where it stands as begun.") and len(posts(world)) == 1


def test_a_backup_that_cannot_be_noted_is_not_started():
    def keep(_entry):
        raise errors.ConfigurationError(
            "What is to be changed in Azure cannot be noted in /r (No space left on device), so it is not changed."
        )

    with World() as world:
        (entry,) = waiting.back_up(world.client, world.targets("vm0001"), Options(), replace(world.run(), keep=keep))
        assert entry["failed"] and not entry["changed"] and posts(world) == []
        assert entry["text"].startswith("The backup was not started, and nothing was changed: What is to be changed")
