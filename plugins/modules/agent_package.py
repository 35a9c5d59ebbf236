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
  - Changes nothing while dpkg has other unfinished packages, since it would finish those too.
  - Uses the command-line programs, so that it needs neither Python bindings nor a second interpreter on the guest.
options:
  state:
    description:
      - V(present) installs it when it is missing. An installation of it that was interrupted is finished first, whatever the state.
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
  keep_files:
    description: Files to keep beside the package's version for O(undo), such as the agent's configuration.
    type: list
    elements: path
    default: []
  keep_units:
    description: Units of systemd whose state to keep for O(undo).
    type: list
    elements: str
    default: []
  command_timeout_s:
    description:
      - Number of seconds after which a command of the package manager that does not end is given up, and its processes ended.
      - What it left half-done is finished by the next run.
    type: int
    default: 1200
  expect:
    description:
      - What was seen of the package before, such as by M(vmbackup.azure.diagnose). Where there is something to do and the package is something
        else now, somebody changed it meanwhile, and nothing is done. What is not named is not compared.
    type: dict
    default: {}
    suboptions:
      version:
        description: The installed version, as the package manager writes it.
        type: str
      held:
        description: Whether it was held or locked. One that is held no more is as O(unhold) wants it.
        type: bool
notes:
  - Needs root.
  - On SUSE the package of the agent's configuration goes with the agent, since it asks for the same version.
extends_documentation_fragment:
  - vmbackup.azure.attributes.writes
  - vmbackup.azure.attributes.linux_writer
seealso:
  - module: vmbackup.azure.undo
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
    - Whether nothing was changed because a snapshot or another run was at work, though there was something to change. RV(reason) says which.
    - Always V(false) in check mode, which does not look for a snapshot.
  returned: always
  type: bool
reason:
  description: Why it was deferred, V(null) otherwise.
  returned: always
  type: str
finished:
  description: Whether an installation that was interrupted was, or would be, finished.
  returned: always
  type: bool
undo_point:
  description: Name under which the state before is kept, V(null) when nothing was.
  returned: always
  type: str
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
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change as frame
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import packages, system, undo
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_apt import Apt
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_manager import QUERY_TIMEOUT_S, PackageError, last_words
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_rpm import Dnf, Yum
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_tdnf import Tdnf
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_zypper import Zypper
from ansible_collections.vmbackup.azure.plugins.module_utils._values import version_key

MANAGERS = {manager.name: manager for manager in (Apt, Dnf, Yum, Tdnf, Zypper)}
# apt-get and dpkg finish all that is unfinished, whatever they are asked for, and so would start a database at night.
OTHERS_UNFINISHED = (
    "The installation of other packages was interrupted ({1}), so nothing was {0}. Run dpkg --configure -a by hand on the guest, see to what "
    "it says, then run this again."
)
DONE = {"install": "installed", "install_version": "installed", "upgrade": "updated", "version": "brought back", "remove": "removed"}


Deferred = frame.Deferred


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
        other = packages.named(host, found["manager"], name, QUERY_TIMEOUT_S) if found["manager"] else None
        if host.errors:
            raise PackageError(asking_failed(host.errors[0], outcome))
        found.update(other or {"version": None, "held": None, "state": None, "older_versions": []}, name=name)
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


def not_offered(found, family):
    """Return the sentence for a package that no enabled repository offers."""
    text = "No enabled repository offers the guest agent ({0}).".format(found["name"] or " or ".join(packages.NAMES.get(family, ())))
    if found["repositories_disabled"]:
        return text + " It may be in one of these, which are disabled: {0}. Enable the right one, then run this again.".format(
            ", ".join(found["repositories_disabled"])
        )
    return text + " Add the distribution's repository that holds it, then run this again."


def look_again(module):
    """Refuse to start a command of the package manager while a snapshot runs: waiting for its lock may have taken minutes."""
    if frame.snapshot_runs(module):
        raise Deferred("a snapshot is running")


def finish(manager, found):
    """Finish an installation of the agent's package that was interrupted.

    :raises PackageError: when other packages are unfinished too: what they need is for a person to say.
    """
    if found["unfinished_others"]:
        raise PackageError(OTHERS_UNFINISHED.format("finished", ", ".join(found["unfinished_others"][:10])))
    manager.finish(found)


def change(manager, action, name, version, unhold, companion=None):
    """Act: the only call that changes the guest's packages. A hold is lifted for its length.

    :param companion: a package that goes with the agent.
    :raises Deferred: when a snapshot runs; nothing was changed then.
    """
    hold = manager.hold(manager, name) if unhold else None
    command = manager.command(action, name, version, unhold, companion)

    def attempt():
        manager.ready()
        if hold:
            hold.attempted = True

    stopped, lost = None, None
    try:
        if hold:
            hold.lift(manager.ready)
        manager.check(command, action, name, companion)
        good, output = manager.run(command, attempt)
        if not good:
            raise PackageError(
                "{0} failed: {1}. Run it by hand on the guest to see all of it.".format(" ".join(command), last_words(output))
            )
        if hold and action == "remove":
            hold.attempted = False  # apt installs nothing that is held, so a hold on what is gone would keep it away
    except (PackageError, Deferred) as error:
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


def check_expected(found, expected, unhold):
    """Refuse where the package that is to be changed is not as it was seen before."""
    name, expected = found["name"] or "the agent's package", expected or {}
    held = {True: "held", False: "not held", None: "not held"}
    words = None
    if expected.get("version") is not None and found["version"] != expected["version"]:
        words = (found["version"] or "not installed", "at " + expected["version"])
    elif expected.get("held") is not None and bool(found["held"]) != expected["held"] and not (unhold and not found["held"]):
        words = (held[found["held"]], held[expected["held"]])
    if words:
        text = "{0} is {1} now, the diagnosis saw it {2}. Nothing was changed; diagnose the guest again."
        raise PackageError(text.format(name, *words))


def names_to_keep(found, family):
    """Return the packages whose versions an undo point keeps."""
    names = [found["name"]] if found["name"] else list(packages.NAMES.get(family, ()))
    return names + (list(packages.SUSE_CONFIGURATIONS) if found["manager"] == "zypper" else [])


class Work(object):
    """One call of the module: look, decide, change, look again."""

    def __init__(self, module):
        self.module, self.options = module, module.params
        self.host = Guest(run_command=module.run_command)
        facts = system.collect(self.host)
        self.family = facts["distribution"]["family"]
        self.distribution = facts["distribution"]["pretty_name"] or "unknown distribution"
        if facts["image_based"]:
            raise PackageError("This system is built from an image and takes no packages; update the image to get another agent.")
        self.asked = self.refreshed = False
        self.point = None

    def wants_candidate(self, version):
        return (self.options["state"] == "present" and not version) or (self.options["state"] == "latest" and bool(version))

    def look(self, outcome="Nothing was changed"):
        return look(self.host, self.family, self.options["name"], self.wants_candidate, outcome)

    def refresh(self, manager, found):
        """Fetch the lists of the repositories where they are old and something depends on them; return the facts of the package."""
        options = self.options
        needs_candidate = self.wants_candidate(found["version"])
        wants_lists = needs_candidate or (options["state"] == "version" and found["version"] != options["version"])
        if not options["refresh"] or not wants_lists or self.module.check_mode or self.asked:
            return found
        age = manager.lists_age(time.time())
        if age is not None and age <= options["refresh_after_s"] and not (needs_candidate and not found["candidate"]):
            return found
        self.asked = True
        self.refreshed, output = manager.run(manager.refresh)
        if not self.refreshed:
            self.module.warn(
                "The lists of the repositories could not be fetched: {0}. Going on with those there are.".format(last_words(output))
            )
        return self.look()

    def missing_candidate(self, found, later):
        """Say, or fail with, why the repositories offer nothing."""
        if found["problem"]:
            text = "The lists of the repositories are missing or cannot be read ({0}: {1}).".format(
                found["problem"]["what"], found["problem"]["error"]
            )
        else:
            text = not_offered(found, self.family)
        if later:
            self.module.warn(text + " A real run fetches the lists of the repositories first; check mode does not.")
        elif self.options["state"] == "present":
            raise PackageError(text)

    def decide(self, found):
        """Return (action or None, version afterwards).

        :raises PackageError: when what is asked for cannot be had.
        """
        state, before = self.options["state"], found["version"]
        later = self.module.check_mode and self.options["refresh"]  # a real run fetches the lists, which may tell more
        if found["problem"] and not later:
            raise PackageError(asking_failed(found["problem"]))
        action, version = decide(state, found, self.options["version"])
        if state == "latest" and not before and action is None:
            raise PackageError("The agent's package is not installed, so there is nothing to update. Install it first (agent.install).")
        if self.wants_candidate(before) and not found["candidate"]:
            self.missing_candidate(found, later)
        if action and found["unfinished_others"]:
            raise PackageError(OTHERS_UNFINISHED.format("changed", ", ".join(found["unfinished_others"][:10])))
        if action and found["held"] and not self.options["unhold"]:
            raise PackageError(
                "The package {0} is held at {1}, so it was not changed. Allow it (unhold, or vmbackup_allow_package_unhold in the playbooks) "
                "or lift the hold by hand.".format(found["name"], before)
            )
        return action, version

    def check(self, found, action):
        """Look again, and return the version that is installed now.

        :raises PackageError: when the package manager reported success and the package is not what it should be.
        """
        done = DONE[action] if action else "finished"
        after = self.look(outcome="The package {0} was {1}".format(found["name"], done))
        gone = after["version"] is None
        same = action and self.options["state"] != "absent" and after["version"] == found["version"]
        if gone != (self.options["state"] == "absent") or same or after["state"] not in (None, "installed"):
            now = "{0} {1}".format(after["state"] or "at", after["version"]) if after["version"] else "not installed"
            raise PackageError(
                "{0} reported success, but {1} is {2}. Look at the package manager's log on the guest.".format(
                    found["manager"], found["name"], now
                )
            )
        return after["version"]

    def apply(self, manager):
        """Finish what was interrupted, then do what is wanted; return (facts before, whether it was interrupted, action, version afterwards).

        Looks again first: only now no other run changes it.
        """
        found = self.look()
        unfinished = found["state"] not in (None, "installed")
        if unfinished or self.decide(found)[0]:
            check_expected(found, self.options["expect"], self.options["unhold"])
        if unfinished:
            finish(manager, found)
            found = self.look("An interrupted installation was finished")
        found = self.refresh(manager, found)
        action, version = self.decide(found)
        if action:
            companion = manager.companion_of(self.host, found, action)
            change(manager, action, found["name"], version, bool(found["held"]) and self.options["unhold"], companion)
        if action or unfinished:
            version = self.check(found, action)
        return found, unfinished, action, version

    def run(self):
        module = self.module
        found = self.look()
        if found["manager"] is None:
            raise PackageError(
                "No package manager of a known family was found ({0}); install the agent the way its vendor describes.".format(
                    self.distribution
                )
            )
        if os.geteuid() != 0:
            raise PackageError("Changing packages needs root; run this task with become.")
        manager = MANAGERS[found["manager"]](module, lambda: look_again(module))
        before, unfinished = found["version"], found["state"] not in (None, "installed")
        result = {"deferred": False, "reason": None, "undo_point": None, "finished": unfinished}
        found = found if unfinished else self.refresh(manager, found)
        action, version = self.decide(found)
        result["held"] = bool(found["held"])
        if action or unfinished:
            check_expected(found, self.options["expect"], self.options["unhold"])
        if (action or unfinished) and not module.check_mode:
            keep = (module.params["keep_files"], module.params["keep_units"], names_to_keep(found, self.family))
            try:
                # Half-done work of a package manager is finished by the next run, not taken back.
                with frame.Change(module, *keep, roll_back=False) as held:
                    result["undo_point"] = self.point = held.point_id
                    found, unfinished, action, version = self.apply(manager)
            except Deferred as error:
                result.update(deferred=True, reason=str(error))
                action, version, unfinished = None, before, False
        result.update(
            changed=bool(action or unfinished),
            manager=found["manager"],
            name=found["name"],
            before=before,
            after=version,
            refreshed=self.refreshed,
            repositories_disabled=found["repositories_disabled"],
        )
        pair = ["{0} {1}\n".format(found["name"] or "agent", shown or "not installed") for shown in (before, version)]
        result["diff"] = {"before": pair[0], "after": pair[1]}
        return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            frame.options(),
            state={"type": "str", "choices": ["present", "latest", "version", "absent"], "default": "present"},
            name={"type": "str"},
            version={"type": "str"},
            refresh={"type": "bool", "default": True},
            refresh_after_s={"type": "int", "default": 3600},
            unhold={"type": "bool", "default": False},
            lock_timeout_s={"type": "int", "default": 300},
            command_timeout_s={"type": "int", "default": 1200},
            keep_files={"type": "list", "elements": "path", "default": []},
            keep_units={"type": "list", "elements": "str", "default": []},
            expect={"type": "dict", "default": {}, "options": {"version": {"type": "str"}, "held": {"type": "bool"}}},
        ),
        required_if=[("state", "version", ["version"])],
        supports_check_mode=True,
    )
    work = None
    try:
        work = Work(module)
        result = work.run()
    except (PackageError, undo.UndoError) as error:
        module.fail_json(msg=str(error), undo_point=work.point if work else None)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
