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
    description:
      - Whether a package that is held or locked may be changed all the same. The hold is in place again afterwards.
      - With C(apt-get), the hold of a package that is removed goes with it, since it would keep the package from being installed again.
    type: bool
    default: false
  lock_timeout_s:
    description: Number of seconds to wait for another package manager that holds the lock.
    type: int
    default: 300
notes:
  - Needs root.
  - The package restarts the agent, so nothing is changed while a snapshot runs. RV(deferred) then tells that this has to run again later.
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
deferred:
  description:
    - Whether nothing was changed because a snapshot ran, though there was something to change.
    - Always V(false) in check mode, which does not look for a snapshot.
  returned: always
  type: bool
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
import stat
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils.linux import agent, extension, packages, system
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
    "-o",
    "DPkg::Lock::Timeout=0",  # waiting is done here, where every attempt is preceded by a look for a snapshot
]
_LOCKED = re.compile(
    r"(?i)could not get lock|unable to (?:lock|acquire)|is another process using it|system management is locked|holding the (?:yum|dnf) lock"
    r"|waiting for process with pid|exit_on_lock|already locked by|locked by another process"
)
ZYPPER_LOCKED = 7
ZYPPER_GOOD = (0, 100, 101, 102, 103, 106)  # 102 and 103 ask for a restart, 106 skipped a repository; see EXIT CODES in zypper(8)
ZYPPER_LOCKS = "/etc/zypp/locks"
DONE = {"install": "installed", "install_version": "installed", "upgrade": "updated", "version": "brought back", "remove": "removed"}


class PackageError(Exception):
    """The package cannot be brought to the wanted state; the text says why and what to do."""


class SnapshotRuns(Exception):
    """A snapshot runs, so the package is left alone for now."""


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
            command.extend(packages.DESPITE_HOLD[manager])
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

    def run(self, command, ready=None):
        """Return (success, output) of a command once the lock is free.

        :param ready: is called before each attempt, and raises when the command must not run.
        """
        deadline = time.time() + self.timeout_s
        while True:
            if ready:
                ready()
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


def asking_failed(error, outcome="Nothing was changed"):
    """Return the sentence for what the package manager could not be asked."""
    return "Asking the package manager failed ({0}): {1}. {2}; run it by hand on the guest to see why.".format(
        error["what"], error["error"], outcome
    )


def look(host, family, name, wants_candidate=lambda version: False, outcome="Nothing was changed"):
    """Return the package facts, and ``problem``: why the candidate could not be asked for, or None.

    The candidate is what the present lists offer.

    :param wants_candidate: function of the installed version (or None) that says whether to ask for the candidate.
    :param outcome: what to say of changes when it fails.
    :raises PackageError: when it could not be asked what is installed.
    """
    found = dict(packages.collect(host, family, lambda version: False, QUERY_TIMEOUT_S), problem=None)
    if host.errors:
        raise PackageError(asking_failed(host.errors[0], outcome))
    if name and found["name"] != name:
        found.update(name=name, version=None)
    if found["manager"] and wants_candidate(found["version"]):
        names = (found["name"],) if found["name"] else packages.NAMES.get(family, ())
        offered = packages.candidate(host, found["manager"], names, QUERY_TIMEOUT_S, bool(found["held"]))
        if offered:
            found.update(name=offered[0], candidate=offered[1])
        elif host.errors:
            found["problem"] = host.errors[0]
    found["repositories_disabled"] = packages.disabled_repositories(host, found["manager"])
    del host.errors[:]
    return found


def snapshot_runs(module):
    """Say whether a snapshot runs at this moment, told by what the collector tells it by."""
    host = Host(run_command=module.run_command)
    lib_dir = str(agent.setting(agent.config(host), "Lib.Dir", "/var/lib/waagent")).rstrip("/")
    versions = extension.handler_directories(host.names("extension", lib_dir)).get(extension.SNAPSHOT)
    current = extension.handler(host, lib_dir, extension.SNAPSHOT, versions) if versions else None
    return extension.snapshot(host, current, system.processes(host))["in_progress"]


def not_offered(found, family):
    """Return the sentence for a package that no enabled repository offers."""
    text = "No enabled repository offers the guest agent ({0}).".format(found["name"] or " or ".join(packages.NAMES.get(family, ())))
    if found["repositories_disabled"]:
        return text + " It may be in one of these, which are disabled: {0}. Enable the right one, then run this again.".format(
            ", ".join(found["repositories_disabled"])
        )
    return text + " Add the distribution's repository that holds it, then run this again."


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


class Hold(object):
    """What keeps a package where it is, while the package is changed all the same; put_back brings it back."""

    def __init__(self, runner, name):
        self.runner, self.name = runner, name
        self.locks = None
        self.attempted = False

    def lift(self, ready):
        """Take a lock of zypper away; the other package managers are told to go past it in the command that changes the package."""
        if self.runner.manager == "zypper" and os.path.exists(ZYPPER_LOCKS):
            ready()
            with open(ZYPPER_LOCKS, "rb") as stream:
                self.locks = (stream.read(), os.fstat(stream.fileno()))
            self.runner.run(["zypper", "--non-interactive", "removelock", self.name], ready)

    def put_back(self):
        """Return None, or the sentence that says what has to be done by hand."""
        command, why = None, None
        if self.locks is not None:
            command = "zypper addlock"
            try:
                write_back(ZYPPER_LOCKS, *self.locks)
            except OSError as error:
                why = "{0}: {1}".format(ZYPPER_LOCKS, error.strerror or error)
        elif self.runner.manager == "apt" and self.attempted:
            command = "apt-mark hold"
            try:
                good, output = self.runner.run(["apt-mark", "hold", self.name])  # dpkg drops it when it installs
                why = None if good else last_words(output)
            except PackageError:
                why = "another package manager held the lock for {0} s".format(self.runner.timeout_s)
        return why and "the hold of {0} could not be set again ({1}). Set it by hand on the guest: {2} {0}".format(
            self.name, why.rstrip("."), command
        )


def change(module, runner, action, name, version, unhold):
    """Act: the only call that changes the guest's packages. A hold is lifted for its length.

    :raises SnapshotRuns: when a snapshot runs; nothing was changed then.
    """
    hold = Hold(runner, name) if unhold else None
    install_version = action == "install_version"
    command = change_command(runner.manager, "install" if install_version else action, name, version, unhold)
    if install_version and runner.manager != "apt":
        separator = "=" if runner.manager == "zypper" else "-"
        command[-1] = "{0}{1}{2}".format(name, separator, version)

    def ready():
        if snapshot_runs(module):
            raise SnapshotRuns()

    def attempt():
        ready()
        if hold:
            hold.attempted = True

    stopped, lost = None, None
    try:
        if hold:
            hold.lift(ready)
        if runner.manager == "apt":
            good, simulation = runner.run(command[:1] + ["-s"] + command[1:])
            removed = others_removed(simulation, name)
            if good and removed:
                raise PackageError(
                    "{0} would remove {1}, so it was not run. Decide by hand which of them the guest needs.".format(
                        " ".join(command), ", ".join(removed)
                    )
                )
        good, output = runner.run(command, attempt)
        if not good:
            raise PackageError(
                "{0} failed: {1}. Run it by hand on the guest to see all of it.".format(" ".join(command), last_words(output))
            )
        if hold and action == "remove":
            hold.attempted = False  # apt installs nothing that is held, so a hold on what is gone would keep it away
    except (PackageError, SnapshotRuns) as error:
        stopped = error
    finally:
        if hold:
            lost = hold.put_back()
    if lost:
        if isinstance(stopped, PackageError):
            raise PackageError("{0} Besides, {1}.".format(stopped, lost))
        done = "not changed, since a snapshot runs" if stopped else DONE[action]
        raise PackageError("The package {0} was {1}, but {2}.".format(name, done, lost))
    if stopped:
        raise stopped


def work(module):
    options = module.params
    host = Host(run_command=module.run_command)
    facts = system.collect(host)
    family = facts["distribution"]["family"]
    if facts["image_based"]:
        raise PackageError("This system is built from an image and takes no packages; update the image to get another agent.")
    state = options["state"]

    def wants_candidate(version):
        return (state == "present" and not version) or (state == "latest" and bool(version))

    found = look(host, family, options["name"], wants_candidate)
    if found["manager"] is None:
        raise PackageError(
            "No package manager of a known family was found ({0}); install the agent the way its vendor describes.".format(
                facts["distribution"]["pretty_name"] or "unknown distribution"
            )
        )
    if os.geteuid() != 0:
        raise PackageError("Changing packages needs root; run this task with become.")
    runner = Runner(module, found["manager"])
    before = found["version"]
    refreshed = False
    needs_candidate = wants_candidate(before)
    wants_lists = needs_candidate or (state == "version" and before != options["version"])
    if options["refresh"] and wants_lists and not module.check_mode:
        age = lists_age(time.time()) if found["manager"] == "apt" else None
        if age is None or age > options["refresh_after_s"] or (needs_candidate and not found["candidate"]):
            refreshed, output = runner.run(refresh_command(found["manager"]))
            if not refreshed:
                module.warn(
                    "The lists of the repositories could not be fetched: {0}. Going on with those there are.".format(last_words(output))
                )
            found = look(host, family, options["name"], wants_candidate)
    later = module.check_mode and options["refresh"]  # a real run fetches the lists, which may tell more
    if found["problem"] and not later:
        raise PackageError(asking_failed(found["problem"]))
    held = bool(found["held"])
    action, version = decide(state, found, options["version"])
    result = {
        "changed": action is not None,
        "manager": found["manager"],
        "name": found["name"],
        "before": before,
        "after": version,
        "deferred": False,
        "held": held,
        "refreshed": refreshed,
        "repositories_disabled": found["repositories_disabled"],
    }
    if state in ("present", "latest") and not before and action is None:
        raise PackageError("The agent's package is not installed, so there is nothing to update. Install it first (agent.install).")
    if needs_candidate and not found["candidate"]:
        if found["problem"]:
            text = "The lists of the repositories are missing or cannot be read ({0}: {1}).".format(
                found["problem"]["what"], found["problem"]["error"]
            )
        else:
            text = not_offered(found, family)
        if later:
            module.warn(text + " A real run fetches the lists of the repositories first; check mode does not.")
        elif state == "present":
            raise PackageError(text)
    if action and held and not options["unhold"]:
        raise PackageError(
            "The package {0} is held at {1}, so it was not changed. Allow it (unhold, or vmbackup_allow_package_unhold in the playbooks) "
            "or lift the hold by hand.".format(found["name"], before)
        )
    if action and not module.check_mode:
        try:
            change(module, runner, action, found["name"], version, held and options["unhold"])
        except SnapshotRuns:
            result.update(changed=False, after=before, deferred=True)
    if action and not module.check_mode and not result["deferred"]:
        outcome = "The package {0} was {1}".format(found["name"], DONE[action])
        after = look(host, family, found["name"], outcome=outcome)
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
