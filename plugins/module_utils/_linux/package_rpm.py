# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs on rpm: dnf and yum here, tdnf and zypper in files of their own."""

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import packages
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_manager import PackageError, PackageManager, last_words


class Rpm(PackageManager):
    words = {"install": "install", "install_version": "install", "upgrade": "update", "version": "downgrade", "remove": "remove"}

    def options(self, action, unhold):
        """Return the options of the command that changes the package."""
        return []

    def command(self, action, name, version=None, unhold=False, companion=None):
        exact = version is not None and action in ("version", "install_version")
        command = [self.name, "-y"] + self.options(action, unhold)
        return command + [self.words[action], "{0}-{1}".format(name, version) if exact else name]

    def check(self, command, action, name, companion):
        # The others' programs remove what needs the package, too, without a question; rpm tells.
        if action != "remove":
            return
        good, output = self.run(["rpm", "-e", "--test", name] + ([companion] if companion else []))
        if not good:
            raise PackageError(
                "{0} was not run, since rpm would not remove {1} alone: {2}. Decide by hand what the guest needs.".format(
                    " ".join(command), name, last_words(output)
                )
            )

    def finish(self, found):
        for version in found["older_versions"]:
            command = ["rpm", "-e", "{0}-{1}".format(found["name"], version)]
            good, output = self.run(command, self.ready)
            if not good:
                raise PackageError(
                    "{0} failed: {1}. Two versions are in rpm's database; remove the older one by hand.".format(
                        " ".join(command), last_words(output)
                    )
                )


class Yum(Rpm):
    name = "yum"
    refresh = ["yum", "-q", "-y", "--setopt=exit_on_lock=True", "makecache", "fast"]

    def options(self, action, unhold):
        options = ["--setopt=exit_on_lock=True"]
        options += ["--setopt=clean_requirements_on_remove=False"] if action == "remove" else []
        return options + (packages.DESPITE_HOLD[self.name] if unhold else [])


class Dnf(Yum):
    name = "dnf"
    refresh = ["dnf", "-q", "-y", "--setopt=exit_on_lock=True", "makecache"]
    words = dict(Rpm.words, upgrade="upgrade")
