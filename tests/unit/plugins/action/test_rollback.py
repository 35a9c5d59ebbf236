# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("action plugins run on the controller, which needs Python 3.10", allow_module_level=True)

from unittest import mock

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.vmbackup.azure.plugins.action import win_dhcp, win_routes
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _rollback

TOKEN = "20261121T130944Z-connectivity.azure_routes"
CHANGED = {"changed": True, "changes": ["a"], "token": TOKEN, "undo_point": TOKEN}
GUARDED = {"routes": ["20.38.98.0/24"], "undo": "connectivity.azure_routes", "confirm_s": 120}


class Guest:
    """What stands behind the action: the module's answers, one after the other; the last one stays. Time passes only in pauses."""

    def __init__(self, arguments, answers, check_mode=False, plugin=win_routes):
        self.calls, self.answers, self.resets, self.now = [], list(answers), 0, 1000.0
        task = mock.MagicMock(args=arguments, check_mode=check_mode, async_val=0, diff=False)
        connection = mock.MagicMock()
        connection.reset.side_effect = self.reset
        self.action = plugin.ActionModule(
            task=task, connection=connection, play_context=mock.MagicMock(), loader=None, templar=None, shared_loader_obj=mock.MagicMock()
        )
        self.action._execute_module = self.module

    def reset(self):
        self.resets += 1

    def sleep(self, seconds):
        self.now += seconds

    def module(self, module_name=None, module_args=None, task_vars=None):
        self.calls.append((module_name, module_args, self.resets))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def run(self):
        with mock.patch.object(_rollback.time, "monotonic", lambda: self.now), mock.patch.object(_rollback.time, "sleep", self.sleep):
            return self.action.run(task_vars={})


def test_a_change_is_confirmed_over_a_new_connection():
    guest = Guest(GUARDED, [CHANGED, {"changed": False}])
    result = guest.run()
    assert result["confirmed"] is True and not result.get("failed") and result["changes"] == ["a"] and result["cut"] is False
    assert guest.calls == [("vmbackup.azure.win_routes", None, 0), ("vmbackup.azure.win_routes", {"confirm": TOKEN}, 1)]


GONE = AnsibleConnectionFailure("timed out")
BROKEN = {"failed": True, "msg": "MODULE FAILURE", "module_stdout": "", "rc": 1}


BUSY = {"failed": True, "again": True, "msg": "Another run is changing this guest."}
# ansible-core 2.16 says it so where sudo waits for a name server, and WinRM where the network goes while it sends.
SLOW = AnsibleError("Timeout (12s) waiting for privilege escalation prompt")


@pytest.mark.parametrize("answer", [GONE, OSError("timed out"), BROKEN, BUSY, SLOW])
def test_a_guest_that_does_not_answer_is_asked_again_each_time_over_a_new_connection(answer):
    guest = Guest(GUARDED, [CHANGED, answer, answer, {"changed": False}])
    result = guest.run()
    assert result["confirmed"] is True and not result.get("failed")
    assert [resets for _name, _arguments, resets in guest.calls] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "answer, said",
    [
        (GONE, "did not answer over a new connection (timed out)"),
        (BROKEN, "did not answer over a new connection (MODULE FAILURE)"),
        (BUSY, "answered over a new connection, but could not be told to keep it (Another run is changing this guest)"),
    ],
)
def test_a_guest_that_never_answers_is_not_confirmed(answer, said):
    guest = Guest(GUARDED, [CHANGED, answer])
    result = guest.run()
    assert result["failed"] and result["confirmed"] is False and result["changed"]
    assert said in result["msg"] and "by itself" in result["msg"] and "120 s" in result["msg"]
    assert guest.now == 1059, "bounded by half of confirm_s, so that a confirmation is in time"


def test_a_connection_that_cannot_be_made_anew_is_no_confirmation():
    guest = Guest(GUARDED, [CHANGED, {"changed": False}])
    guest.action._connection.reset.side_effect = GONE
    result = guest.run()
    assert result["confirmed"] is False and "timed out" in result["msg"] and len(guest.calls) == 1


# WinRM's plugin hides its own exception behind one of its library when it cannot tidy up.
@pytest.mark.parametrize(
    "broken", [AnsibleConnectionFailure("read timed out"), OSError("Connection to w timed out"), RuntimeError("code 500")]
)
def test_a_connection_that_broke_during_the_change_is_confirmed_by_the_name_of_the_repair(broken):
    guest = Guest(GUARDED, [broken, {"changed": False}])
    result = guest.run()
    assert result["confirmed"] is True and result["cut"] is True and result["changed"] and result["changes"] == []
    assert str(broken) in result["notes"][0]
    assert guest.calls[1][1] == {"confirm": "connectivity.azure_routes"}


def test_what_has_nothing_to_do_with_the_connection_is_raised():
    with pytest.raises(AnsibleError, match="no module"):
        Guest(GUARDED, [AnsibleError("no module")]).run()


def test_a_confirmation_that_came_too_late_fails_with_what_the_guest_said():
    guest = Guest(GUARDED, [CHANGED, {"failed": True, "msg": "The change was not confirmed in time"}])
    result = guest.run()
    assert (
        len(guest.calls) == 2
        and result["failed"]
        and result["confirmed"] is None
        and result["msg"] == "The change was not confirmed in time"
    )


@pytest.mark.parametrize(
    "arguments, answer, check_mode",
    [
        (GUARDED, CHANGED, True),
        (dict(GUARDED, verify=False), CHANGED, False),
        (dict(GUARDED, verify="no"), CHANGED, False),
        (dict(GUARDED, confirm_s=0), dict(CHANGED, token=None), False),
        (GUARDED, {"changed": False, "token": None}, False),
        (GUARDED, {"changed": False, "token": None, "deferred": True, "reason": "another run is changing this guest"}, False),
        (GUARDED, {"failed": True, "msg": "no"}, False),
        ({"confirm": TOKEN}, {"changed": False, "token": None}, False),
        (dict(GUARDED, confirm_s="soon"), {"failed": True, "msg": "confirm_s is no number"}, False),
    ],
)
def test_nothing_is_confirmed_that_does_not_wait(arguments, answer, check_mode):
    guest = Guest(arguments, [answer], check_mode=check_mode)
    result = guest.run()
    assert len(guest.calls) == 1 and guest.resets == 0 and result["confirmed"] is None and result.get("failed") == answer.get("failed")


@pytest.mark.parametrize("arguments, check_mode", [({"routes": []}, False), (dict(GUARDED, verify=False), False), (GUARDED, True)])
def test_without_a_guard_a_lost_connection_is_what_it_always_is(arguments, check_mode):
    with pytest.raises(AnsibleConnectionFailure):
        Guest(arguments, [AnsibleConnectionFailure("gone")], check_mode=check_mode).run()


def test_both_actions_name_their_module():
    assert (win_routes.ActionModule.MODULE, win_dhcp.ActionModule.MODULE) == ("vmbackup.azure.win_routes", "vmbackup.azure.win_dhcp")
