# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Maintenance windows, to the minute. 2026-11-28 is a Saturday."""

from datetime import datetime, timezone

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._window import closed


def at(text):
    return datetime.strptime("2026-11-" + text, "%Y-%m-%d %H:%M").replace(tzinfo=timezone.utc)


NIGHT = {"not_before": "22:00", "not_after": "05:00"}
BERLIN = dict(NIGHT, time_zone="Europe/Berlin")


@pytest.mark.parametrize(
    "window, now, is_open",
    [
        ({}, "28 12:00", True),
        ({"not_before": "", "not_after": None, "weekdays": []}, "28 12:00", True),
        ({"not_before": "08:00", "not_after": "12:00"}, "28 08:00", True),
        ({"not_before": "08:00", "not_after": "12:00"}, "28 07:59", False),
        ({"not_before": "08:00", "not_after": "12:00"}, "28 12:00", False),
        (NIGHT, "28 21:59", False),
        (NIGHT, "28 22:00", True),
        (NIGHT, "29 00:00", True),
        (NIGHT, "29 04:59", True),
        (NIGHT, "29 05:00", False),
        (dict(NIGHT, weekdays=["sat"]), "28 23:00", True),
        (dict(NIGHT, weekdays=["sat"]), "29 04:00", True),  # it began on Saturday
        (dict(NIGHT, weekdays=["Sunday"]), "29 04:00", False),
        (dict(NIGHT, weekdays="fri, sun"), "28 04:00", True),
        ({"weekdays": ["sat", "sun"]}, "28 12:00", True),
        ({"weekdays": ["mon"]}, "28 12:00", False),
        ({"not_before": "22:00"}, "28 23:59", True),
        ({"not_before": "22:00"}, "29 00:00", False),
        ({"not_after": "05:00"}, "29 00:00", True),
        ({"not_before": "06:00", "not_after": "06:00"}, "28 12:00", True),  # a whole day
        ({"not_before": 1320, "not_after": "24:00"}, "28 22:00", True),  # YAML 1.1 reads 22:00 so
        (BERLIN, "28 21:00", True),
        (BERLIN, "28 20:59", False),
        (BERLIN, "29 04:00", False),
    ],
)
def test_open_and_closed(window, now, is_open):
    assert (closed(window, at(now)) == "") is is_open, closed(window, at(now))


def test_daylight_saving_moves_with_the_zone():
    assert closed(BERLIN, datetime(2026, 7, 28, 20, 0, tzinfo=timezone.utc)) == ""


def test_the_guests_own_time():
    window = dict(NIGHT, time_zone="guest", weekdays=["sat"])
    assert closed(window, at("28 13:00"), 9 * 3600) == ""
    assert "Saturday 22:00" not in closed(window, at("28 12:59"), 9 * 3600) and closed(window, at("28 12:59"), 9 * 3600) != ""
    for unknown in (None, True, "3600", 10**9):
        assert "the guest's time zone is not known" in closed(window, at("28 13:00"), unknown)


@pytest.mark.parametrize(
    "window, words",
    [
        ({"not_before": "25:00"}, "vmbackup_not_before is no time of day such as 22:00: '25:00'"),
        ({"not_after": "ten"}, "vmbackup_not_after is no time of day"),
        ({"not_after": "{{ lookup('pipe', 'id') }}"}, "vmbackup_not_after is no time of day"),
        ({"not_after": True}, "vmbackup_not_after is no time of day"),
        ({"weekdays": ["someday"]}, "there is no day called 'someday'"),
        ({"weekdays": ["s"]}, "there is no day called 's'"),
        ({"not_before": "01:00", "time_zone": "Mars/Olympus"}, "there is no time zone called 'Mars/Olympus' on the controller"),
        ({"not_before": "01:00", "time_zone": "../../etc/passwd"}, "there is no time zone called"),
    ],
)
def test_what_cannot_be_told_is_closed_and_says_why(window, words):
    assert words in closed(window, at("28 12:00"))


def test_the_reason_reads_well():
    assert closed(dict(NIGHT, weekdays=["sun", "sat"]), at("28 12:00")) == (
        "outside of the maintenance window (from 22:00 to 05:00 on Saturday, Sunday, UTC; it is Saturday 12:00)"
    )
