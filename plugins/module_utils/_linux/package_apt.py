# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""apt-get and dpkg."""

import os
import re

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import packages
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_manager import Hold, PackageError, PackageManager, last_words

APT = [
    "apt-get",
    "-q",
    "-y",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "DPkg::Lock::Timeout=0",  # waiting is done here, where every attempt is preceded by a look for a snapshot
]
FINISH = ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]


def others_removed(simulation, name):
    """Return the packages that ``apt-get -s`` would remove besides the named one."""
    return [found for found in re.findall(r"(?m)^Remv (\S+)", simulation) if found != name]


class AptHold(Hold):
    by_hand = "apt-mark hold"

    def set_again(self):
        if not self.attempted:
            return None
        try:
            good, output = self.manager.run(["apt-mark", "hold", self.name])  # dpkg drops it when it installs
            return None if good else last_words(output)
        except PackageError:
            return "another package manager held the lock for {0} s".format(self.manager.timeout_s)


class Apt(PackageManager):
    name = "apt"
    refresh = ["apt-get", "-q", "update"]
    hold = AptHold

    def command(self, action, name, version=None, unhold=False, companion=None):
        command = list(APT) + (["--allow-change-held-packages"] if unhold else [])
        if action == "remove":
            return command + ["remove", name]
        if action == "upgrade":
            command.append("--only-upgrade")
        if action == "version":
            command.append("--allow-downgrades")
        return command + ["install", name if version is None else "{0}={1}".format(name, version)]

    def check(self, command, action, name, companion):
        good, simulation = self.run(command[:1] + ["-s"] + command[1:])
        removed = others_removed(simulation, name)
        if good and removed:
            raise PackageError(
                "{0} would remove {1}, so it was not run. Decide by hand which of them the guest needs.".format(
                    " ".join(command), ", ".join(removed)
                )
            )

    def finish(self, found):
        self.run(FINISH, self.ready)
        # A package that has to be reinstalled, or that dpkg would not configure, is installed over what is there.
        if packages.unfinished(Guest(run_command=self.module.run_command), found["name"]):
            good, output = self.run(list(APT) + ["install", found["name"]], self.ready)
            if not good:
                raise PackageError(
                    "The interrupted installation of {0} could not be finished: {1}.".format(found["name"], last_words(output))
                )

    def lists_age(self, now):
        for candidate in ("/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/lists"):
            try:
                return now - os.stat(candidate).st_mtime
            except OSError:
                continue
        return None
