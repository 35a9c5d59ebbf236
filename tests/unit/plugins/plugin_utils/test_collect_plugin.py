# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which collector runs, with which options, and what comes of its result."""

import json
import os
import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("action plugins run on the controller, which needs Python 3.10", allow_module_level=True)

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.plugin_utils._collect import collect

RAW = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "windows", "healthy-raw.json")
OPTIONS = {name: option.get("default") for name, option in argument_spec().items()}


class Action:
    """An action plugin whose module returns what it is told to."""

    def __init__(self, windows, answer):
        shell = type("Shell", (), {"_IS_WINDOWS": windows})
        self._connection = type("Connection", (), {"_shell": shell})
        self.answer, self.ran, self.given = answer, None, None

    def _execute_module(self, module_name, module_args, task_vars):
        self.ran, self.given = module_name, module_args
        if isinstance(self.answer, Exception):
            raise self.answer
        return dict(self.answer)


def test_linux_facts_come_as_they_are():
    action = Action(False, {"ansible_facts": {"vmbackup": {"schema_version": 1}}, "invocation": {}})
    assert collect(action, OPTIONS, {}) == {"ansible_facts": {"vmbackup": {"schema_version": 1}}}
    assert action.ran == "vmbackup.azure.guest_facts" and "candidate" in action.given and "vss_writers" not in action.given


def test_windows_facts_are_parsed_here():
    with open(RAW) as stream:
        action = Action(True, {"raw": json.load(stream), "changed": False})
    result = collect(action, OPTIONS, {})
    assert action.ran == "vmbackup.azure.win_guest_facts" and "vss_writers" in action.given and "candidate" not in action.given
    assert result["ansible_facts"]["vmbackup"]["system"]["kind"] == "windows" and "raw" not in result


@pytest.mark.parametrize(
    "answer, words",
    [
        ({"failed": True, "module_stderr": "only core types are supported in this language mode"}, "constrained language mode"),
        ({"failed": True, "msg": "MODULE FAILURE", "module_stdout": "boom"}, "It said: boom"),
        ({"changed": False}, "did not come back with facts"),
        ({"raw": "text"}, "did not come back with facts"),
    ],
)
def test_no_facts_is_one_sentence(answer, words):
    result = collect(Action(True, answer), OPTIONS, {})
    assert result["failed"] is True and words in result["msg"] and "\n" not in result["msg"]
    assert "module_stdout" not in result and "raw" not in result


def test_a_connection_that_fails_is_an_unreachable_host():
    result = collect(Action(True, AnsibleConnectionFailure("basic: the specified credentials were rejected by the server")), OPTIONS, {})
    assert result["unreachable"] is True and "refused user and password" in result["msg"]
    with pytest.raises(AnsibleConnectionFailure):
        collect(Action(False, AnsibleConnectionFailure("ssh")), OPTIONS, {})
