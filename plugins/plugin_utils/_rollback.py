# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Base of the actions for modules that may cut the connection.

Such a module changes the guest under a guard, which puts the former state back by itself. The action then tells the guard to keep the
change, over a new connection: what reaches the guest no more cannot confirm.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

PAUSE_S = 1
# What a call returns whose own answer never came.
LOST: dict[str, Any] = {"changed": True, "changes": [], "notes": [], "undo_point": None, "token": None, "deferred": False, "reason": None}


def seconds_of(value: Any) -> int:
    """Return confirm_s as a number; what is none is the module's to refuse."""
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def is_lost(error: Exception) -> bool:
    """Say whether an exception tells that the connection broke. WinRM's plugin lets those of its libraries through, too, when it tidies up."""
    return isinstance(error, AnsibleConnectionFailure) or not isinstance(error, AnsibleError)


class RollbackAction(ActionBase):
    """Run MODULE, then confirm what it changed. The module's options are the task's."""

    TRANSFERS_FILES = False
    MODULE = ""
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        seconds = seconds_of(arguments.get("confirm_s"))
        guarded = seconds > 0 and bool(arguments.get("undo")) and not arguments.get("confirm") and not self._task.check_mode
        guarded = guarded and boolean(arguments.get("verify", True), strict=False)
        result.update(confirmed=None, cut=False)
        try:
            result.update(self._execute_module(module_name=self.MODULE, task_vars=task_vars))
        except Exception as error:
            if not guarded or not is_lost(error):
                raise
            # Its token never came; the name of the repair stands for it.
            result.update(LOST, cut=True, notes=["The connection broke during the change: {0}".format(error)])
        token = arguments.get("undo") if result["cut"] else result.get("token")
        if guarded and token and not result.get("failed"):
            result.update(self._confirm(token, seconds, task_vars))
        return result

    def _confirm(self, token: str, seconds: int, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Tell the guest over a new connection to keep the change; return what that adds to the result.

        That the guest can be told is the proof that it can still be reached. It is tried again for half of the guard's time.
        """
        own = {"store": self._task.args["store"]} if self._task.args.get("store") else {}
        until = time.monotonic() + max(seconds // 2, 1)
        while True:
            told, missing = self._tell({"confirm": token, **own}, task_vars)
            if not missing:
                break
            if time.monotonic() + PAUSE_S >= until:
                how = "answered over a new connection, but could not be told to keep it" if told else "did not answer over a new connection"
                return {
                    "failed": True,
                    "confirmed": False,
                    "msg": "After the change the guest {0} ({1}). Unless it is confirmed in time, it puts the former state back by itself, "
                    "{2} s after the change.".format(how, missing.strip().rstrip("."), seconds),
                }
            time.sleep(PAUSE_S)
        if told.get("failed"):
            return {"failed": True, "msg": told.get("msg") or "The guest was not told to keep the change."}
        return {"confirmed": True}

    def _tell(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> tuple[dict[str, Any], str]:
        """Run the module once over a new connection; return (its answer, why that does not count)."""
        try:
            if hasattr(self._connection, "reset"):
                self._connection.reset()
            told = self._execute_module(module_name=self.MODULE, module_args=arguments, task_vars=task_vars)
        except Exception as error:  # connection plugins raise whatever they have while a guest finds its way back
            return {}, str(error) or "no connection"
        # "module_stdout" is Ansible's sign of an answer that is none, "again" the guest's that it is still at work.
        if told.get("failed") and "module_stdout" in told:
            return {}, told.get("msg") or "no answer"
        if told.get("failed") and told.get("again"):
            return told, told.get("msg") or "it is at work"
        return told, ""
