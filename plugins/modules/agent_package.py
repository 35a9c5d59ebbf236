#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: agent_package
short_description: Install or update the package of the Linux guest agent
version_added: 0.1.0
description:
  - Installs or updates the agent from the repositories that the guest already has, with C(apt-get), C(dnf), C(yum), C(tdnf) or C(zypper).
  - Names this one package only, keeps configuration files, asks no questions, waits for another package manager to finish.
  - Never downgrades, never removes another package, enables no repository, and never installs from source.
  - Uses the command-line programs, so that it needs neither Python bindings nor a second interpreter on the guest.
options:
  state:
    description:
      - V(present) installs it when it is missing.
      - V(latest) brings an installed one to the newest version that the repositories offer. It installs nothing that is missing.
      - V(version) brings back the version in O(version), older ones too. It is meant for undo.
      - V(absent) removes the package and leaves its configuration. It is meant for undo.
    type: str
    choices: [present, latest, version, absent]
    default: present
  name:
    description: Name of the package. Without it the one that is installed, else the first known one that the repositories offer.
    type: str
  version:
    description: The version for O(state=version), as the package manager writes it.
    type: str
  refresh:
    description:
      - Whether to fetch the lists of the repositories first when they are older than O(refresh_after_s).
      - Nothing is fetched in check mode, so what it says there rests on the lists that the guest has.
    type: bool
    default: true
  refresh_after_s:
    description: Age in seconds up to which the lists of C(apt-get) count as fresh.
    type: int
    default: 3600
  unhold:
    description: Whether a package that is held or locked may be changed all the same. The hold is in place again afterwards.
    type: bool
    default: false
  lock_timeout_s:
    description: Number of seconds to wait for another package manager that holds the lock.
    type: int
    default: 300
notes:
  - Needs root. The package restarts the agent, so call this only while no snapshot runs.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
attributes:
  platform:
    description: Linux guests of the Debian, Red Hat, SUSE and Azure Linux families.
    support: full
    platforms: linux
seealso:
  - module: vmbackup.azure.undo_point
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Install the guest agent
  vmbackup.azure.agent_package:
  become: true

- name: Update the guest agent
  vmbackup.azure.agent_package:
    state: latest
  become: true
"""

RETURN = r"""
manager:
  description: The package manager that was used.
  returned: always
  type: str
  sample: apt
name:
  description: Name of the package.
  returned: always
  type: str
  sample: walinuxagent
before:
  description: The installed version before, V(null) when there was none.
  returned: always
  type: str
  sample: 2.2.45-1
after:
  description: The installed version afterwards, or the one that it would have.
  returned: always
  type: str
  sample: 2.9.1.1-1
held:
  description: Whether the package is held or locked.
  returned: always
  type: bool
refreshed:
  description: Whether the lists of the repositories were fetched.
  returned: always
  type: bool
repositories_disabled:
  description: Disabled repositories that may hold the agent.
  returned: always
  type: list
  elements: str
"""

import os
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils.linux import packages, system
from ansible_collections.vmbackup.azure.plugins.module_utils.linux.host import Host, version_key
from ansible_collections.vmbackup.azure.plugins.module_utils.redact import public_line

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
APT = [
    "apt-get",
    "-q",
    "-y",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
]
_LOCKED = re.compile(
    r"(?i)could not get lock|unable to (?:lock|acquire)|is another process using it|system management is locked|holding the (?:yum|dnf) lock"
    r"|waiting for process with pid|exit_on_lock|already locked by"
)
ZYPPER_LOCKED = 7
ZYPPER_GOOD = (0, 100, 101, 102, 103, 106)  # 102 and 103 ask for a restart, 106 skipped a repository; see EXIT CODES in zypper(8)
ZYPPER_LOCKS = "/etc/zypp/locks"


class PackageError(Exception):
    """The package cannot be brought to the wanted state; the text says why and what to do."""


def refresh_command(manager):
    return {
        "apt": ["apt-get", "-q", "update"],
        "dnf": ["dnf", "-q", "-y", "--setopt=exit_on_lock=True", "makecache"],
        "yum": ["yum", "-q", "-y", "--setopt=exit_on_lock=True", "makecache", "fast"],
        "tdnf": ["tdnf", "-q", "-y", "makecache"],
        "zypper": ["zypper", "--non-interactive", "--quiet", "refresh"],
    }[manager]


def change_command(manager, action, name, version=None, unhold=False):
    """Return the command that changes the package.

    :param action: install, upgrade, version or remove.
    """
    if manager == "apt":
        command = list(APT) + (["--allow-change-held-packages"] if unhold else [])
        if action == "remove":
            return command + ["remove", name]
        if action == "upgrade":
            command.append("--only-upgrade")
        if action == "version":
            command.append("--allow-downgrades")
        return command + ["install", name if version is None else "{0}={1}".format(name, version)]
    if manager == "zypper":
        command = ["zypper", "--non-interactive"]
        if action == "remove":
            return command + ["remove", name]
        if action == "version":
            return command + ["install", "--oldpackage", "{0}={1}".format(name, version)]
        return command + (["update", name] if action == "upgrade" else ["install", name])
    command = [manager, "-y"]
    if manager in ("dnf", "yum"):
        command.append("--setopt=exit_on_lock=True")
        if unhold:
            command.extend(["--disableexcludes=all", "--disableplugin=versionlock"])
    words = {"install": "install", "upgrade": "update" if manager != "dnf" else "upgrade", "version": "downgrade", "remove": "remove"}
    return command + [words[action], name if version is None or action != "version" else "{0}-{1}".format(name, version)]


def decide(state, found, wanted_version):
    """Return (action or None, version afterwards or None).

    :param found: facts of the package: name, version (None when not installed), candidate.
    """
    present, candidate = found["version"], found["candidate"]
    if state == "absent":
        return ("remove", None) if present else (None, None)
    if state == "version":
        if present == wanted_version:
            return None, present
        if present is None or version_key(wanted_version) > version_key(present):
            return "install_version", wanted_version
        return "version", wanted_version
    if state == "present":
        return (None, present) if present else ("install", candidate)
    if present and candidate and version_key(candidate) > version_key(present):
        return "upgrade", candidate
    return None, present


def others_removed(simulation, name):
    """Return the packages that ``apt-get -s`` would remove besides the named one."""
    return [found for found in re.findall(r"(?m)^Remv (\S+)", simulation) if found != name]


class Runner(object):
    """Runs a package manager and waits while another one holds the lock."""

    def __init__(self, module, manager):
        self.module, self.manager = module, manager
        self.timeout_s = module.params["lock_timeout_s"]

    def locked(self, code, output):
        if self.manager == "zypper":
            return code == ZYPPER_LOCKED
        return code != 0 and bool(_LOCKED.search(output))

    def good(self, code):
        return code in ZYPPER_GOOD if self.manager == "zypper" else code == 0

    def run(self, command):
        """Return (success, output) of a command once the lock is free."""
        deadline = time.time() + self.timeout_s
        while True:
            code, out, err = self.module.run_command(command, environ_update=ENVIRONMENT)
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


def last_words(output):
    lines = [line for line in output.split("\n") if line.strip()]
    return public_line(" / ".join(lines[-3:]), 400) or "no output"


def lists_age(now, path="/var/lib/apt/lists"):
    """Return the age in seconds of apt's lists, None when there are none."""
    for candidate in ("/var/lib/apt/periodic/update-success-stamp", path):
        try:
            return now - os.stat(candidate).st_mtime
        except OSError:
            continue
    return None


def look(host, family, name):
    """Return the package facts, with the candidate that the present lists offer."""
    found = packages.collect(host, family, lambda version: True, QUERY_TIMEOUT_S)
    if name and found["name"] != name:
        found = dict(found, name=name, version=None, candidate=None)
        offered = packages.candidate(host, found["manager"], (name,), QUERY_TIMEOUT_S)
        found["candidate"] = offered[1] if offered else None
    return found


def not_offered(found, family):
    """Return the sentence for a package that no enabled repository offers."""
    text = "No enabled repository offers the guest agent ({0}).".format(found["name"] or " or ".join(packages.NAMES.get(family, ())))
    if found["repositories_disabled"]:
        return text + " It may be in one of these, which are disabled: {0}. Enable the right one, then run this again.".format(
            ", ".join(found["repositories_disabled"])
        )
    return text + " Add the distribution's repository that holds it, then run this again."


def change(module, runner, action, name, version, unhold):
    """Act: the only call that changes the guest's packages. A lock of zypper is lifted for its length."""
    locks = None
    if unhold and runner.manager == "zypper" and os.path.exists(ZYPPER_LOCKS):
        with open(ZYPPER_LOCKS, "rb") as stream:
            locks = stream.read()
    held = unhold and runner.manager == "apt"
    install_version = action == "install_version"
    command = change_command(runner.manager, "install" if install_version else action, name, version, unhold)
    if install_version and runner.manager != "apt":
        separator = "=" if runner.manager == "zypper" else "-"
        command[-1] = "{0}{1}{2}".format(name, separator, version)
    try:
        if locks is not None:
            runner.run(["zypper", "--non-interactive", "removelock", name])
        if runner.manager == "apt":
            good, simulation = runner.run(command[:1] + ["-s"] + command[1:])
            removed = others_removed(simulation, name)
            if good and removed:
                raise PackageError(
                    "{0} would remove {1}, so it was not run. Decide by hand which of them the guest needs.".format(
                        " ".join(command), ", ".join(removed)
                    )
                )
        good, output = runner.run(command)
    finally:
        if locks is not None:
            with open(ZYPPER_LOCKS, "wb") as stream:
                stream.write(locks)
        if held:
            runner.run(["apt-mark", "hold", name])
    if not good:
        raise PackageError("{0} failed: {1}. Run it by hand on the guest to see all of it.".format(" ".join(command), last_words(output)))


def work(module):
    options = module.params
    host = Host(run_command=module.run_command)
    facts = system.collect(host)
    family = facts["distribution"]["family"]
    if facts["image_based"]:
        raise PackageError("This system is built from an image and takes no packages; update the image to get another agent.")
    found = look(host, family, options["name"])
    if host.errors:
        error = host.errors[0]
        raise PackageError(
            "Asking the package manager failed ({0}): {1}. Nothing was changed; run it by hand on the guest to see why.".format(
                error["what"], error["error"]
            )
        )
    if found["manager"] is None:
        raise PackageError(
            "No package manager of a known family was found ({0}); install the agent the way its vendor describes.".format(
                facts["distribution"]["pretty_name"] or "unknown distribution"
            )
        )
    if os.geteuid() != 0:
        raise PackageError("Changing packages needs root; run this task with become.")
    runner = Runner(module, found["manager"])
    before, state = found["version"], options["state"]
    refreshed = False
    wants_lists = (
        (state == "present" and not before) or (state == "latest" and before) or (state == "version" and before != options["version"])
    )
    if options["refresh"] and wants_lists and not module.check_mode:
        age = lists_age(time.time()) if found["manager"] == "apt" else None
        if age is None or age > options["refresh_after_s"] or not found["candidate"]:
            refreshed, output = runner.run(refresh_command(found["manager"]))
            if not refreshed:
                module.warn(
                    "The lists of the repositories could not be fetched: {0}. Going on with those there are.".format(last_words(output))
                )
            found = look(host, family, options["name"])
    held = bool(found["held"])
    action, version = decide(state, found, options["version"])
    result = {
        "changed": action is not None,
        "manager": found["manager"],
        "name": found["name"],
        "before": before,
        "after": version,
        "held": held,
        "refreshed": refreshed,
        "repositories_disabled": found["repositories_disabled"],
    }
    if state in ("present", "latest") and not before and action is None:
        raise PackageError("The agent's package is not installed, so there is nothing to update. Install it first (agent.install).")
    if action == "install" and not found["candidate"]:
        if not module.check_mode or not options["refresh"]:
            raise PackageError(not_offered(found, family))
        module.warn(not_offered(found, family) + " A real run fetches the lists of the repositories first; check mode does not.")
    if action and held and not options["unhold"]:
        raise PackageError(
            "The package {0} is held at {1}, so it was not changed. Allow it (unhold, or vmbackup_allow_package_unhold in the playbooks) "
            "or lift the hold by hand.".format(found["name"], before)
        )
    if action and not module.check_mode:
        change(module, runner, action, found["name"], version, held and options["unhold"])
        after = look(host, family, found["name"])
        result["after"] = after["version"]
        if (after["version"] is None) != (state == "absent") or (state != "absent" and after["version"] == before):
            raise PackageError(
                "{0} reported success, but {1} is {2}. Look at the package manager's log on the guest.".format(
                    found["manager"], found["name"], "at " + after["version"] if after["version"] else "not installed"
                )
            )
    pair = ["{0} {1}\n".format(found["name"] or "agent", shown or "not installed") for shown in (before, result["after"])]
    result["diff"] = {"before": pair[0], "after": pair[1]}
    return result


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "latest", "version", "absent"], "default": "present"},
            "name": {"type": "str"},
            "version": {"type": "str"},
            "refresh": {"type": "bool", "default": True},
            "refresh_after_s": {"type": "int", "default": 3600},
            "unhold": {"type": "bool", "default": False},
            "lock_timeout_s": {"type": "int", "default": 300},
        },
        required_if=[("state", "version", ["version"])],
        supports_check_mode=True,
    )
    try:
        result = work(module)
    except PackageError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
