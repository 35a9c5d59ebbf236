# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""zypper of SUSE, whose agent has its configuration in a package of its own."""

import os
import stat
import tempfile

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import packages
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_manager import QUERY_TIMEOUT_S, Hold
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_rpm import Rpm

LOCKED = 7
GOOD = (0, 100, 101, 102, 103, 106)  # 102 and 103 ask for a restart, 106 skipped a repository; see EXIT CODES in zypper(8)
LOCKS = "/etc/zypp/locks"


def write_back(path, content, info):
    """Replace a file in one step; owner and mode are those of info."""
    path = os.path.realpath(path)
    handle, temporary = tempfile.mkstemp(prefix=".vmbackup-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(temporary, info.st_uid, info.st_gid)
        os.chmod(temporary, stat.S_IMODE(info.st_mode))
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class ZypperHold(Hold):
    """A lock of zypper, in a file."""

    by_hand = "zypper addlock"
    locks = None

    def lift(self, ready):
        if not os.path.exists(LOCKS):
            return
        ready()
        with open(LOCKS, "rb") as stream:
            self.locks = (stream.read(), os.fstat(stream.fileno()))
        self.manager.run(["zypper", "--non-interactive", "removelock", self.name], ready)

    def set_again(self):
        if self.locks is None:
            return None
        try:
            write_back(LOCKS, *self.locks)
        except OSError as error:
            return "{0}: {1}".format(LOCKS, error.strerror or error)
        return None


class Zypper(Rpm):
    name = "zypper"
    refresh = ["zypper", "--non-interactive", "--quiet", "refresh"]
    hold = ZypperHold

    def command(self, action, name, version=None, unhold=False, companion=None):
        words = {"remove": ["remove"], "upgrade": ["update"], "version": ["install", "--oldpackage"]}.get(action, ["install"])
        names = [name] + ([companion] if companion else [])
        if action in ("version", "install_version"):
            names = ["{0}={1}".format(each, version) for each in names]
        return ["zypper", "--non-interactive"] + words + names

    def locked(self, code, output):
        return code == LOCKED

    def good(self, code):
        return code in GOOD

    def companion_of(self, host, found, action):
        """Return the package of the agent's configuration when it has to go with the agent, else None.

        It is installed where nothing provides a configuration and no file is in its place, since it replaces ``/etc/waagent.conf``.
        """
        if action is None:
            return None
        present = packages.configuration_package(host, QUERY_TIMEOUT_S)
        if present:
            if present[0] == found["name"]:
                return None
            return present[0] if action in ("version", "install_version", "remove") else None
        if action in ("remove", "version") or os.path.lexists("/etc/waagent.conf"):
            return None
        name = packages.SUSE_CONFIGURATIONS[0]
        return name if packages.candidate(host, "zypper", (name,), QUERY_TIMEOUT_S) else None
