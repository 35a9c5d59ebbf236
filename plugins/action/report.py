# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gather what the hosts of a run returned, write the report on the controller, say it in short on the console."""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import tempfile
from datetime import datetime, timezone

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _approval, _container, _report_merge
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _report as report_

display = Display()

SPEC = {
    "mode": {"type": "str", "choices": list(report_.MODES), "default": "remediate"},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "merge": {"type": "list", "elements": "path", "default": []},
    "name": {"type": "str", "default": "vmbackup-report"},
    "directory": {"type": "path", "default": "vmbackup-report"},
    "fail_on_blocker": {"type": "bool", "default": True},
}
# What the playbooks keep per host, and the name that the report knows it by.
VARIABLES = {
    "vmbackup_before": "before",
    "vmbackup_after": "after",
    "vmbackup_lost": "lost",
    "vmbackup_lost_before": "lost_before",
    "vmbackup_failures": "failures",
    "vmbackup_stopped": "stopped",
}


def plain(value):
    """Return data without the containers and tags that Ansible wraps around it."""
    return json.loads(json.dumps(value, default=str))


CONTENT_TYPES = {"json": "application/json", "html": "text/html; charset=utf-8"}

# Results of azure_steps, once for all hosts.
PHASES = ("vmbackup_azure_before", "vmbackup_azure_after")


def record_of(variables, host):
    """Return what the run knows of one host."""
    record = {name: plain(variables[key]) for key, name in VARIABLES.items() if variables.get(key) is not None}
    record["actions"] = plain(variables.get("vmbackup_actions") or [])
    record["azure"] = [entry for name in PHASES for entry in plain(((variables.get(name) or {}).get("hosts") or {}).get(host) or [])]
    return record


def problem_of(variables):
    """Return why a phase in Azure was not done, None where all were."""
    return next((variables[name]["problem"] for name in PHASES if (variables.get(name) or {}).get("problem")), None)


def write(path, content):
    """Replace a file on the controller in one step."""
    handle, temporary = tempfile.mkstemp(prefix=".vmbackup-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
        os.chmod(temporary, 0o640)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def found(patterns, container):
    """Return the reports that patterns name, {where: a function that returns its bytes}: files, and those of that name in the container."""
    paths = sorted({os.path.abspath(path) for pattern in patterns for path in glob.glob(os.path.expanduser(pattern))})
    reports = {path: functools.partial(read_file, path) for path in paths}
    have = {os.path.basename(path) for path in paths}
    names = {name for pattern in patterns for name in container.names(os.path.basename(pattern))} if container else set()
    reports.update({container.address + "/" + name: functools.partial(container.get, name) for name in sorted(names - have)})
    return reports


def read_file(path):
    with open(path, "rb") as stream:
        return stream.read()


def read(patterns):
    """Return the reports of earlier runs, which files or patterns of files name."""
    try:
        container = _container.from_environment(os.environ)
        reports_found = found(patterns, container)
    except _container.ContainerError as error:
        raise AnsibleActionFail(str(error)) from error
    if not reports_found:
        where = " and {0} holds none of that name".format(container.address) if container else ""
        raise AnsibleActionFail("No report is there to merge: {0} names no file{1}.".format(", ".join(patterns), where))
    reports = []
    for path, content in reports_found.items():
        try:
            reports.append(json.loads(content()))
            _report_merge.merged(reports[-1:], "")
        except _container.ContainerError as error:
            raise AnsibleActionFail(str(error)) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise AnsibleActionFail("{0} cannot be merged: {1}. Name reports of this collection as JSON.".format(path, reason)) from error
    return reports


def store(paths):
    """Store the files in the container, if one is named, and return their addresses there and what went wrong, None where nothing did."""
    stored = []
    try:
        container = _container.from_environment(os.environ)
        for kind, path in paths.items() if container else ():
            stored.append(container.put(os.path.basename(path), read_file(path), CONTENT_TYPES[kind]))
    except _container.ContainerError as error:
        return stored, str(error)
    return stored, None


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(SPEC)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", options["name"]):
            raise AnsibleActionFail(
                "name: {0!r} is no name of a file; letters, digits, ., - and _ are taken.".format(options["name"][:100])
            )
        hostvars = task_vars["hostvars"]
        # The raw form leaves out templating: these variables are results, not templates.
        get = getattr(hostvars, "raw_get", hostvars.__getitem__)
        records = {host: record_of(get(host), host) for host in options["hosts"] if host in hostvars}
        inventory = task_vars.get("ansible_inventory_sources") or []
        run = {
            "mode": options["mode"],
            "check_mode": bool(self._task.check_mode),
            "inventory": [str(source) for source in inventory],
            "problem": next(filter(None, (problem_of(get(host)) for host in options["hosts"][:1] if host in hostvars)), None),
        }
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        report = _report_merge.merged(read(options["merge"]), now) if options["merge"] else report_.build(records, run, now)
        directory = os.path.abspath(os.path.expanduser(options["directory"]))
        paths = {kind: os.path.join(directory, options["name"] + "." + kind) for kind in CONTENT_TYPES}
        try:
            os.makedirs(directory, exist_ok=True)
            write(paths["json"], json.dumps(report, indent=1, ensure_ascii=False) + "\n")
            write(paths["html"], report_.html(report))
        except OSError as error:
            raise AnsibleActionFail(
                "Could not write the report to {0}: {1}. Set vmbackup_report_dir to a directory that can be written.".format(
                    directory, error.strerror or error
                )
            ) from error
        stored, not_stored = store(paths)
        self.show(report, [paths["html"], *stored[-1:]], not_stored)
        problem = report_.failure(report)
        plan = {host: _approval.of_host((record.get("before") or {}).get("remedies")) for host, record in sorted(records.items())}
        plan = {host: entries for host, entries in plan.items() if entries}
        result.update(
            changed=False,
            plan=plan,
            plan_hash=_approval.seal(plan),
            headline=report_.headline(report),
            counts=report["counts"],
            troubled=report["troubled"],
            problem=problem,
            reasons=report_.reasons(report),
            json=paths["json"],
            html=paths["html"],
            stored=stored,
            not_stored=not_stored,
        )
        if (problem or not_stored) and options["fail_on_blocker"]:
            result.update(failed=True, msg="{0} Report: {1}".format(" ".join(filter(None, (problem, not_stored))), paths["html"]))
        return result

    @staticmethod
    def show(report, places, not_stored):
        colours = {"bad": C.COLOR_ERROR, "warn": C.COLOR_CHANGED, "good": C.COLOR_OK, None: None}
        for colour, line in report_.console(report):
            display.display(line, color=colours[colour])
        display.display("Report: {0}".format(" and ".join(places)))
        if not_stored:
            display.display(not_stored, color=C.COLOR_ERROR)
