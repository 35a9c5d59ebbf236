# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs Ansible's programs against the stand-in of Azure, on every core that is set up."""

import json
import os
import subprocess
import sys

from ansible_collections.vmbackup.azure.lab.arm import server

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
CACHE = os.environ.get("VMBACKUP_CACHE") or os.path.join(ROOT, ".cache")
OWN = os.path.dirname(sys.executable)
CORES = {"2.16": os.path.join(CACHE, "core-2.16", "bin"), "2.19": OWN, "2.21": os.path.join(CACHE, "core-2.21", "bin")}
SECRETS = (server.SECRET, "stand-in.")


class Program:
    """Runs ansible programs on an inventory file."""

    def __init__(self, azure, directory, programs=OWN):
        self.azure, self.directory, self.programs = azure, directory, programs
        self.file = directory / "failed_backups.yml"
        self.environment = {}

    def options(self, **options):
        own = {"plugin": "vmbackup.azure.failed_backups", **self.azure.options(), **options}
        self.file.write_text(json.dumps({name: value for name, value in own.items() if value is not None}))
        return self

    def run(self, program, *arguments):
        environment = {
            "PATH": self.programs + ":/usr/bin:/bin",
            "HOME": str(self.directory),
            "ANSIBLE_COLLECTIONS_PATH": os.path.join(CACHE, "tree"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "10000",
            **self.environment,
        }
        done = subprocess.run(
            [os.path.join(self.programs, program), "-i", str(self.file), *arguments],
            env=environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for secret in SECRETS:
            assert secret not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def listed(self):
        done = self.run("ansible-inventory", "--list")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr


def plain(value):
    """Return data without the marks that ansible-inventory writes for untrusted texts."""
    if isinstance(value, dict):
        return (
            plain(value["__ansible_unsafe"]) if set(value) == {"__ansible_unsafe"} else {key: plain(entry) for key, entry in value.items()}
        )
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def variables(listed):
    return plain(listed["_meta"]["hostvars"])
