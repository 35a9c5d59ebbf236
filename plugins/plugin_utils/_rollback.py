# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Base of the actions for modules that may cut the connection.

Such a module changes the guest under a guard, which puts the former state back by itself. The action then looks over a new connection that the
guest still answers, and only then tells the guard to keep the change.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

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
        """Look that the guest answers, then tell it to keep the change; return what that adds to the result."""
        own = {"store": self._task.args["store"]} if self._task.args.get("store") else {}
        missing = self._no_answer(seconds // 2, task_vars)
        if not missing:
            try:
                told = self._execute_module(module_name=self.MODULE, module_args={"confirm": token, **own}, task_vars=task_vars)
            except Exception as error:
                if not is_lost(error):
                    raise
                missing = str(error) or "no connection"
            else:
                if told.get("failed"):
                    return {"failed": True, "msg": told.get("msg") or "The guest was not told to keep the change."}
                return {"confirmed": True}
        return {
            "failed": True,
            "confirmed": False,
            "msg": "After the change the guest did not answer over a new connection ({0}). Unless it is confirmed in time, it puts the former "
            "state back by itself, {1} s after the change.".format(missing.strip().rstrip("."), seconds),
        }

    def _no_answer(self, timeout: int, task_vars: dict[str, Any] | None) -> str:
        """Wait for the guest, bounded; return why there was no answer, nothing when there was one."""
        task = self._task.copy()
        task.args = {"timeout": max(timeout, 1)}
        wait = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.wait_for_connection",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        try:
            waited = wait.run(task_vars=task_vars)
        except Exception as error:
            if not is_lost(error):
                raise
            return str(error) or "no connection"
        return (waited.get("msg") or "no answer") if waited.get("failed") else ""
