# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the package managers share: running them, waiting for their lock, and what each of them has to say."""

import re
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import public_line

QUERY_TIMEOUT_S = 60
ENVIRONMENT = {
    "LC_ALL": "C",
    "LANG": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_MODE": "l",
    "UCF_FORCE_CONFFOLD": "1",
}
TIMED_OUT = (124, 137)  # how timeout(1) ends
_LOCKED = re.compile(
    r"(?i)could not get lock|unable to (?:lock|acquire)|is another process using it|system management is locked|holding the (?:yum|dnf) lock"
    r"|waiting for process with pid|exit_on_lock|already locked by|locked by another process"
)


class PackageError(Exception):
    """The package cannot be brought to the wanted state; the text says why and what to do."""


def last_words(output):
    lines = [line for line in output.split("\n") if line.strip()]
    return public_line(" / ".join(lines[-3:]), 400) or "no output"


class Hold(object):
    """What keeps a package where it is, while the package is changed all the same; put_back brings it back.

    Most package managers are told to go past it in the command that changes the package.
    """

    by_hand = None  # the command that sets it

    def __init__(self, manager, name):
        self.manager, self.name = manager, name
        self.attempted = False

    def lift(self, ready):
        """Take it away where no option goes past it."""

    def set_again(self):
        """Return None, or why it could not be."""

    def put_back(self):
        """Return None, or the sentence that says what has to be done by hand."""
        why = self.set_again()
        return why and "the hold of {0} could not be set again ({1}). Set it by hand on the guest: {2} {0}".format(
            self.name, why.rstrip("."), self.by_hand
        )


class PackageManager(object):
    """One package manager. What it does not change of this is as with most of them.

    :param module: the AnsibleModule, with the options lock_timeout_s and command_timeout_s.
    :param ready: is called before each attempt of what changes the guest, and raises when it must not begin.
    """

    name = None
    refresh = None  # the command that fetches the lists of the repositories
    hold = Hold

    def __init__(self, module, ready):
        self.module, self.ready = module, ready
        self.timeout_s = module.params["lock_timeout_s"]

    def command(self, action, name, version=None, unhold=False, companion=None):
        """Return the command that changes the package.

        :param action: install, upgrade, version (an older one), install_version (exactly that one) or remove.
        :param companion: a package that goes with it.
        """
        raise NotImplementedError

    def check(self, command, action, name, companion):
        """Refuse a command that would remove more than it names.

        :raises PackageError: with what it would remove.
        """

    def finish(self, found):
        """Finish an installation of the agent's package that was interrupted."""

    def lists_age(self, now):
        """Return the age in seconds of the lists of the repositories, None where it is not known."""

    def companion_of(self, host, found, action):
        """Return the package that has to go with the agent, None for none."""

    def locked(self, code, output):
        return code != 0 and bool(_LOCKED.search(output))

    def good(self, code):
        return code == 0

    def run(self, command, ready=None):
        """Return (success, output) of a command once the lock is free.

        :param ready: is called before each attempt, and raises when the command must not run.
        """
        deadline = time.time() + self.timeout_s
        while True:
            if ready:
                ready()
            limited = ["timeout", "-k", "30", str(self.module.params["command_timeout_s"])] + command
            code, out, err = self.module.run_command(limited, environ_update=ENVIRONMENT)
            if code in TIMED_OUT:
                raise PackageError(
                    "{0} did not end within {1} s and was ended. What it left half-done is finished by the next run; look at what it waits "
                    "for first: {2}.".format(" ".join(command), self.module.params["command_timeout_s"], last_words(out + "\n" + err))
                )
            output = "{0}\n{1}".format(out, err)
            if not self.locked(code, output):
                return self.good(code), output
            if time.time() >= deadline:
                raise PackageError(
                    "Another package manager held the lock for {0} s while {1} was to run: {2}. Wait for it, then run this again.".format(
                        self.timeout_s, " ".join(command), last_words(output)
                    )
                )
            time.sleep(5)
