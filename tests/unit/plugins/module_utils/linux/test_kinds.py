# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Routes in undo points: what undo takes back, and what it leaves."""

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import kinds, restore, undo

KEY = "route 4 main 203.0.113.0/24"
OURS = "unicast 203.0.113.0/24 via 10.9.0.1 dev eth0 table main proto static scope global"
KEPT = OURS.replace(" scope global", "") + " onlink metric 100"
OTHER = OURS.replace("10.9.0.1", "10.9.0.7")
BLACKHOLE = "blackhole 203.0.113.0/24 table main proto boot scope global"


def point(number, was, wrote):
    made = undo.plan_point(
        "/s",
        "connectivity.route",
        {"files": [], "units": [], "packages": [], "moves": [], "items": [{"key": KEY, "state": was}]},
        [],
        number,
    )[0]
    return dict(made, sequence=number, written={"items": [{"key": KEY, "state": wrote}]})


def planned(points, now, force=False):
    text = "".join(spec + "\n" for spec in now or [])
    return restore.plan(points, lambda arguments, data=None: (0, text, ""), force)


@pytest.mark.parametrize("now", [[OURS], [KEPT], None])
def test_what_the_repair_left_is_taken_back_also_after_a_restart(now):
    found = planned([point(1, [BLACKHOLE], [OURS])], now)
    assert found.left == [] and [(want["state"], present["state"]) for want, present in found.items] == [([BLACKHOLE], now)]


def test_two_repairs_with_a_restart_between_go_back_to_the_first():
    found = planned([point(1, None, [OURS]), point(2, [KEPT], None)], None)
    assert found.left == [] and found.items == [], "before the first repair there was no route"


def test_what_somebody_changed_is_left_unless_forced():
    found = planned([point(1, [BLACKHOLE], [OURS])], [OTHER])
    assert found.items == [] and "was changed after the repair" in found.left[0]
    assert planned([point(1, [BLACKHOLE], [OURS])], [OTHER], force=True).items[0][0]["state"] == [BLACKHOLE]


def test_a_guard_puts_back_without_a_look():
    steps = kinds.steps([({"key": KEY, "state": [BLACKHOLE]}, {"key": KEY, "state": [OURS + " metric 5"]})])
    assert [step["argv"] for step in steps] == [["ip", "-force", "-batch", "-"]] * 2
    assert [step["input"] for step in steps] == ["route replace {0}\n".format(BLACKHOLE), "route delete {0} metric 5\n".format(OURS)]
    assert [step["may_fail"] for step in steps] == [False, True], "what is not there need not be taken away"


def test_a_kind_of_a_later_version_is_refused():
    with pytest.raises(undo.UndoError, match="does not know"):
        kinds.capture(["tunnel a"], None)
