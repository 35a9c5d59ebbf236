# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the action plugins share that change something in Azure: one process for the fleet, nothing but reads in check mode."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.options import ARGUMENTS, scope_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import read, values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import backup
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act.step import Run, Target, kept
from ansible_collections.vmbackup.azure.plugins.plugin_utils._unsafe import untrusted

display = Display()
JOURNAL = "vmbackup-azure.jsonl"
SPEC: dict[str, Any] = {
    **ARGUMENTS,
    "vms": {"type": "list", "elements": "str", "required": True},
    "wait_s": {"type": "float", "default": 900.0},
    "max_failures": {"type": "int", "default": 3},
}
BACKUP_SPEC: dict[str, Any] = {
    "await": {"type": "str", "default": "snapshot", "choices": ["snapshot", "job", "none"]},
    "await_s": {"type": "float", "default": 0.0},
    "await_first_s": {"type": "float", "default": 480.0},
    "parallel": {"type": "int", "default": 50},
    "retention_days": {"type": "int", "default": 30},
}


def named(vm: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Say whether a VM is meant by one of the names: its id or its name, in any letter case."""
    return any(values.key(name) in (vm["key"], str(vm["name"]).lower()) for name in names)


def backup_options(options: Mapping[str, Any]) -> backup.Options:
    """Return how backups are started and awaited; raise one sentence for a number that makes no sense."""
    for name, least in (("parallel", 1), ("retention_days", 1), ("await_first_s", 1)):
        if options[name] < least:
            raise errors.ConfigurationError("{0} must be at least {1}, not {2}.".format(name, least, options[name]))
    if options["retention_days"] > 9999:
        raise errors.ConfigurationError("retention_days must be at most 9999, not {0}.".format(options["retention_days"]))
    return backup.Options(
        parallel=options["parallel"],
        retention_days=options["retention_days"],
        until=options["await"],
        await_s=max(0.0, options["await_s"]),
        first_s=options["await_first_s"],
        look_s=min(backup.Options.look_s, options["await_first_s"] / 2),
    )


class Journal:
    """What was written in Azure, line by line, each before it is sent: for people, for undo, and for a run that was killed."""

    def __init__(self, directory: str | None) -> None:
        self._path = os.path.join(os.path.abspath(os.path.expanduser(directory)), JOURNAL) if directory else None

    def __call__(self, entry: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                _append(handle, (kept(entry) + "\n").encode())
            finally:
                os.close(handle)
        except OSError as error:
            text = "What is to be changed in Azure cannot be noted in {0} ({1}), so it is not changed."
            if entry.get("state") != "begun":
                text = "What became of it could not be noted in {0} ({1}), where it stands as begun."
            raise errors.ConfigurationError(text.format(self._path, error.strerror or error)) from None


def _append(handle: int, line: bytes) -> None:
    """Append a line as a whole, or not at all: a disk that is nearly full takes the first part of it."""
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        line = b"\n" + line
    if os.write(handle, line) != len(line):
        os.ftruncate(handle, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(handle)


def noted(directory: str | None) -> list[dict[str, Any]]:
    """Return what earlier runs noted in a directory; lines that are no entries are left out."""
    entries = []
    try:
        with open(os.path.join(os.path.abspath(os.path.expanduser(directory or "")), JOURNAL), encoding="utf-8") as stream:
            for line in stream:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict):
                    entries.append(entry)
    except OSError:
        pass
    return entries


def plain(value: Any) -> Any:
    """Return data without the containers and tags that Ansible wraps around it."""
    return json.loads(json.dumps(value, default=str))


class AzureAction(ActionBase):
    """An action that runs once for all hosts of its play, on the controller."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def check(self) -> bool:
        return bool(self._task.check_mode)

    def open(self, options: Mapping[str, Any]) -> Client:
        """Return a client that writes only outside check mode."""

        def told(method: str, url: str, status: int, seconds: float) -> None:
            display.vvvv("{0} {1} -> {2}, {3:.2f} s".format(method, url, status, seconds))

        return Client.from_options({name: options[name] for name in ARGUMENTS}, read_only=self.check(), on_request=told)

    def as_run(self, options: Mapping[str, Any], directory: str | None = None) -> Run:
        return Run(
            check=self.check(), wait_s=options.get("wait_s") or 900.0, most_failures=options["max_failures"], keep=Journal(directory)
        )


class RemedyAction(AzureAction):
    """One remedy on VMs that are named."""

    spec: Mapping[str, Any] = {}

    def fix(self, vm: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a finding would say of what is to be done."""
        return {"agent": True}

    def act(self, client: Client, targets: Sequence[Target], options: Mapping[str, Any], run: Run) -> list[dict[str, Any]]:
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec({**SPEC, **self.spec})
        try:
            with self.open(options) as client:
                fleet = read.fleet(client, scope_of(options), lambda vm: named(vm, options["vms"]))
                found = [vm for _key, vm in sorted(fleet["vms"].items()) if named(vm, options["vms"])]
                missing = [name for name in options["vms"] if not any(named(vm, [name]) for vm in found)]
                if missing:
                    raise errors.ConfigurationError("Azure shows no VM {0}. Nothing was changed.".format(", ".join(missing)))
                targets = [Target(str(vm["name"]), vm, self.fix(vm)) for vm in found]
                results = self.act(client, targets, options, self.as_run(options))
                result["requests"] = dict(client.counts.requests)
        except errors.AzureError as error:
            result.update(failed=True, msg=str(error), code=error.code, correlation_id=error.correlation_id)
            return result
        for sentence in fleet["errors"]:
            display.warning(sentence)
        result.update(untrusted({"results": results}))
        result["changed"] = any(entry["changed"] for entry in results)
        failed = [entry for entry in results if entry["failed"]]
        if failed:
            more = " and {0} more".format(len(failed) - 1) if len(failed) > 1 else ""
            result.update(failed=True, msg=untrusted("{0}: {1}{2}".format(failed[0]["host"], failed[0]["text"], more)))
        if self._task.diff:
            result["diff"] = untrusted([diff for entry in results for diff in entry_diff(entry)])
        return result


def entry_diff(entry: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the changes of one result as Ansible shows a diff."""
    return [
        {
            "before_header": "{0} of {1}".format(change["property"], change["resource"]),
            "after_header": "{0} of {1}".format(change["property"], change["resource"]),
            "before": "{0}\n".format(change["old"]),
            "after": "{0}\n".format(change["new"]),
        }
        for change in entry["changes"]
    ]
