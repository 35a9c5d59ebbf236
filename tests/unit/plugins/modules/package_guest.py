# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Guests of which the package manager is played."""

import os
import types

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, extension
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.change import snapshot_runs
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest as RealGuest
from ansible_collections.vmbackup.azure.plugins.modules import agent_package
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run

SNAPSHOT = "/var/lib/waagent/" + extension.SNAPSHOT + "-1.0.9200.0"


class Guest(object):
    """A guest whose package manager is a dictionary."""

    def __init__(self, monkeypatch, manager="apt", version=None, candidate="2.0-1", held=False, image_based=False):
        self.monkeypatch, self.calls = monkeypatch, []
        self.found = {
            "manager": manager,
            "name": "waagent",
            "version": version,
            "candidate": candidate,
            "held": held,
            "repositories_disabled": [],
            "installed": version is not None,
            "problem": None,
            "state": version and "installed",
            "older_versions": [],
            "unfinished_others": [],
        }
        self.answers = {}
        self.snapshots = []  # what each look for a snapshot finds; none any more when it is empty
        facts = {"distribution": {"family": "debian", "pretty_name": "Debian"}, "image_based": image_based}
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(agent_package.system, "collect", lambda host: facts)
        monkeypatch.setattr(agent_package, "look", lambda *arguments, **options: dict(self.found))
        monkeypatch.setattr(agent_package.frame, "snapshot_runs", lambda module: self.snapshots.pop(0) if self.snapshots else False)
        monkeypatch.setattr(agent_package.Apt, "lists_age", lambda manager, now: 10**6)
        monkeypatch.setattr(agent_package.time, "sleep", lambda seconds: None)

    def command(self, arguments):
        line = " ".join(arguments[4:] if arguments[0] == "timeout" else arguments)
        self.calls.append(line)
        for words, answer in self.answers.items():
            if words in line and answer != []:
                return answer.pop(0) if isinstance(answer, list) else answer
        if " install waagent" in line and " -s " not in line:
            self.found["version"] = self.found["candidate"]
        if " remove waagent" in line and " -s " not in line:
            self.found["version"] = None
        return 0, "", ""

    def run(self, check_mode=False, **params):
        return run(self.monkeypatch, agent_package, params, check_mode, self.command)


def manager_of(name):
    return agent_package.MANAGERS[name](types.SimpleNamespace(params={"lock_timeout_s": 0, "command_timeout_s": 0}), None)


def changing(calls):
    return [call for call in calls if " -s " not in call and " update" not in call.replace("--only-upgrade", "")]


BUSY = (100, "", "dpkg: error: dpkg frontend lock was locked by another process with pid 123\nNote: removing the lock file is always wrong")


CHANGE = "apt-get -q -y"  # the simulation says apt-get -s


TRACES = ("changed", "deferred", "before", "after")


class Disk(object):
    """A guest of files below a directory, with a package manager that is asked for real."""

    def __init__(self, monkeypatch, root, manager="dnf", version=None, candidate="2.7.3.0-1.el9"):
        self.monkeypatch, self.root = monkeypatch, str(root)
        self.version, self.offered, self.calls = version, candidate, []
        self.lists, self.fetched, self.rpm = True, True, None
        self.write("/usr/bin/" + manager, "")
        os.chmod(self.root + "/usr/bin/" + manager, 0o755)
        self.write("/etc/os-release", "ID={0}\n".format("azurelinux" if manager == "tdnf" else "rhel"))
        self.write("/proc/stat", "btime 1\n")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        for module in (agent_package, change):
            monkeypatch.setattr(module, "Guest", lambda run_command: RealGuest(self.root, run_command=run_command))
        monkeypatch.setattr(change, "snapshot_runs", snapshot_runs)
        monkeypatch.setattr(agent_package.time, "sleep", lambda seconds: None)

    def write(self, path, text):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as stream:
            stream.write(text)

    def command(self, arguments):
        line = " ".join(arguments[4:] if arguments[0] == "timeout" else arguments)
        self.calls.append(line)
        if arguments[0] == "rpm":
            if self.rpm:
                return self.rpm
            return (0, "WALinuxAgent\t{0}\n".format(self.version), "") if self.version else (1, "package is not installed\n", "")
        if "makecache" in line:
            self.lists = self.lists or self.fetched
            return (0, "", "") if self.fetched else (1, "", "Error: Failed to download metadata")
        if "repoquery" in line:
            if not self.lists:
                return 1, "", "Error: Cache-only enabled but no cache for 'baseos'"
            hidden = os.path.exists(self.root + "/etc/dnf/dnf.conf") and "disable_excludes" not in line
            return 0, "" if hidden or not self.offered else self.offered + "\n", ""
        if "list available" in line:
            return (0, "WALinuxAgent.noarch 2.7.3.0-1 base\n", "") if self.offered else (243, "", "Error(1011) : No matching packages")
        if " install WALinuxAgent" in line or " upgrade WALinuxAgent" in line:
            self.version = self.offered
        if " downgrade WALinuxAgent-" in line:
            self.version = line.rpartition("WALinuxAgent-")[2]
        if " remove WALinuxAgent" in line:
            self.version = None
        return 0, "", ""

    def run(self, check_mode=False, **params):
        return run(self.monkeypatch, agent_package, params, check_mode, self.command)
