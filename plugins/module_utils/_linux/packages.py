# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The agent's package: what is installed, what the distribution's repository offers, what keeps it where it is."""

import re

from ansible_collections.vmbackup.azure.plugins.module_utils._values import version_key, wildcard

# Package names in the order in which they are looked for. Source: package lists of the distributions.
NAMES = {
    "debian": ("waagent", "walinuxagent"),
    "redhat": ("WALinuxAgent",),
    "azurelinux": ("WALinuxAgent",),
    "suse": ("python3-azure-agent", "python-azure-agent", "WALinuxAgent"),
}
# Exit codes that say "no such package", which is an answer.
NOTHING_FOUND_ZYPPER, NOTHING_FOUND_YUM = 104, 1
NOTHING_FOUND_TDNF = 243  # its error 1011, of which the exit code keeps eight bits
# Options that go past exclude= and versionlock, for one command. "all" is for dnf 4, "*" for dnf 5, which has no --disableexcludes.
DESPITE_HOLD = {
    "dnf": ["--setopt=disable_excludes=all,*", "--disableplugin=versionlock"],
    "yum": ["--disableexcludes=all", "--disableplugin=versionlock"],
}
MANAGERS = {
    "debian": ("apt-get",),
    "redhat": ("dnf", "yum"),
    "azurelinux": ("tdnf", "dnf"),
    "suse": ("zypper",),
}


# States of dpkg in which a package works, and the part of them in which it only waits for another one's trigger.
DPKG_WORKS = ("installed", "triggers-awaited", "triggers-pending")
DPKG_ABSENT = ("not-installed", "config-files")
_DPKG_STATUS = re.compile(r"(?m)^Package: (\S{1,200})\n(?:(?:Essential|Protected): \S{1,9}\n)*Status: (\S{1,20}) (\S{1,20}) (\S{1,20})$")


def parse_dpkg_status(text, name):
    """Return (version, held, state) of an installed package from dpkg's status file, None when it is not installed.

    The state is dpkg's word; a package that has to be reinstalled is ``half-installed`` whatever the word is.
    """
    start = text.find("\nPackage: {0}\n".format(name)) if not text.startswith("Package: {0}\n".format(name)) else 0
    if start < 0:
        return None
    end = text.find("\n\n", start + 1)
    stanza = text[start : end if end >= 0 else len(text)]
    fields = dict(line.split(": ", 1) for line in stanza.split("\n") if ": " in line and not line.startswith(" "))
    status = fields.get("Status", "").split()
    if len(status) < 3 or status[2] in DPKG_ABSENT:
        return None
    state = "installed" if status[2] in DPKG_WORKS else status[2]
    return fields.get("Version") or None, status[0] == "hold", "half-installed" if status[1] != "ok" else state


def parse_dpkg_unfinished(texts):
    """Return the names of packages whose installation or removal was interrupted, in order.

    :param texts: dpkg's status file, and after it the files of its journal (``/var/lib/dpkg/updates``), which go before it.
    """
    found = {}
    for text in texts:
        for name, _want, flag, state in _DPKG_STATUS.findall(text):
            found[name] = flag != "ok" or state not in DPKG_WORKS + DPKG_ABSENT
    return sorted(name for name, unfinished in found.items() if unfinished)


def parse_apt_policy(text):
    """Return the candidate version from ``apt-cache policy NAME``, None when the repositories offer none."""
    found = re.search(r"(?m)^[ \t]+Candidate:[ \t]*(\S+)", text or "")
    return found.group(1) if found and found.group(1) != "(none)" else None


def parse_zypper_search(text, name):
    """Return the newest version in the table of ``zypper search -s``; the table's third column names the type."""
    versions = []
    for line in (text or "").split("\n"):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 5 and cells[1] == name and cells[2] == "package" and cells[5] != "(System Packages)":
            versions.append(cells[3])
    return max(versions, key=version_key) if versions else None


def parse_versionlock(text, name):
    """Say whether a list of dnf's versionlock plugin names the package."""
    for line in (text or "").split("\n"):
        line = line.strip()
        if line.startswith(("#", "!")) or not line:
            continue
        if re.match(r"^(?:\d+:)?" + re.escape(name) + r"(?:-|$|\*)", line, re.I):
            return True
    return False


def parse_excludes(text, name):
    """Say whether ``exclude=`` or ``excludepkgs=`` in dnf.conf or yum.conf names the package."""
    for found in re.findall(r"(?mi)^[ \t]*exclude(?:pkgs)?[ \t]*=(.*)$", text or ""):
        for pattern in found.replace(",", " ").split():
            if wildcard(pattern, name):
                return True
    return False


def parse_zypper_locks(text, name):
    """Say whether the file of zypper's locks names the package."""
    locked = re.findall(r"(?mi)^[ \t]*solvable_name[ \t]*:[ \t]*(\S+)", text or "")
    return any(wildcard(found, name) for found in locked)


def disabled_repositories(host, manager):
    """Return the ids of disabled repositories that may hold the agent: Oracle's add-ons, RHEL's update infrastructure."""
    found = []
    if manager not in ("dnf", "yum"):
        return found
    for path in host.glob("/etc/yum.repos.d/*.repo"):
        section = None
        for line in (host.read("agent", path) or "").split("\n"):
            line = line.strip()
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
            elif section and re.match(r"^enabled\s*=\s*(0|false|no)$", line, re.I) and re.search("addons|rhui", section, re.I):
                found.append(section)
    return found


def _dpkg(host, names):
    """Return the facts of the first of the names that is installed, and the names of all unfinished packages."""
    text = host.read("agent", "/var/lib/dpkg/status", 64 * 1024 * 1024)
    if not text:
        return None, []
    journal = [host.read("agent", path) or "" for path in host.glob("/var/lib/dpkg/updates/[0-9]*")]
    unfinished = parse_dpkg_unfinished([text] + journal)
    for name in names:
        # The newest word on a package is the last one in the journal.
        known = [part for part in [text] + journal if "\nPackage: {0}\n".format(name) in "\n" + part]
        found = parse_dpkg_status(known[-1], name) if known else None
        if found:
            return {"name": name, "version": found[0], "held": found[1], "state": found[2]}, unfinished
    return None, unfinished


def unfinished(host, name):
    """Say whether dpkg did not finish the installation of a package."""
    found = _dpkg(host, (name,))[0]
    return bool(found) and found["state"] != "installed"


def _rpm(host, names, timeout_s):
    """Ask rpm for all names in one call; those that are not installed come back in words, counted in the exit code, and are skipped.

    An update that was interrupted leaves both versions in rpm's database: the state is ``duplicate`` then, and the newest counts.
    """
    command = ["rpm", "-q", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n"] + list(names)
    out = host.run("agent", command, timeout_s, accept=range(len(names) + 1))
    rows = [line.split("\t") for line in (out or "").split("\n")]
    rows = [row for row in rows if len(row) == 2 and row[0] in names]
    if not rows:
        return None
    versions = sorted((row[1] for row in rows if row[0] == rows[0][0]), key=version_key)
    state = "duplicate" if len(versions) > 1 else "installed"
    return {"name": rows[0][0], "version": versions[-1], "state": state, "older_versions": versions[:-1]}


def named(host, manager, name, timeout_s):
    """Return the facts of one package that is installed, whatever its name; None when it is not, or could not be asked for."""
    found = _dpkg(host, (name,))[0] if manager == "apt" else _rpm(host, (name,), timeout_s)
    if found and manager != "apt":
        found["held"] = _held_rpm(host, manager, name)
    return found


# SUSE's agent has its configuration in a package of its own, of which any provides this name. Source: SUSE's python-azure-agent.spec.
SUSE_CONFIGURATION = "waagent-config"
SUSE_CONFIGURATIONS = tuple("python-azure-agent-config-" + kind for kind in ("server", "default", "hpc", "micro"))


def configuration_package(host, timeout_s):
    """Return (name, version) of SUSE's package that holds the agent's configuration, None when none is installed."""
    command = ["rpm", "-q", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n", "--whatprovides", SUSE_CONFIGURATION]
    out = host.run("agent", command, timeout_s, accept=(0, 1))
    rows = [line.split("\t") for line in (out or "").split("\n")]
    return next((tuple(row) for row in rows if len(row) == 2), None)


def _held_rpm(host, manager, name):
    if manager == "zypper":
        return parse_zypper_locks(host.read("agent", "/etc/zypp/locks"), name)
    locks = ("/etc/dnf/plugins/versionlock.list", "/etc/yum/pluginconf.d/versionlock.list")
    if any(parse_versionlock(host.read("agent", path), name) for path in locks):
        return True
    return any(parse_excludes(host.read("agent", path), name) for path in ("/etc/dnf/dnf.conf", "/etc/yum.conf"))


def _newest(text):
    lines = [line.strip() for line in (text or "").split("\n") if re.match(r"^\s*\d[\w.+~:-]*-[\w.+~]+\s*$", line)]
    return max(lines, key=version_key) if lines else None


def candidate(host, manager, names, timeout_s, held=False):
    """Return (name, version) that the configured repositories offer, from the manager's cache, without fetching anything.

    :param held: whether the package is held back; what the hold hides counts as offered then, since it can be lifted.
    """
    past = DESPITE_HOLD.get(manager, []) if held else []
    for name in names:
        version = None
        if manager == "apt":
            version = parse_apt_policy(host.run("agent", ["apt-cache", "policy", name], timeout_s))
        elif manager == "zypper":
            command = ["zypper", "--non-interactive", "--quiet", "--no-refresh", "search", "-s", "--match-exact", "-t", "package", name]
            version = parse_zypper_search(host.run("agent", command, timeout_s, accept=(0, NOTHING_FOUND_ZYPPER)), name)
        elif manager == "dnf":
            command = ["dnf", "-q", "-C"] + past + ["repoquery", "--available", "--latest-limit=1", "--qf", "%{version}-%{release}", name]
            version = _newest(host.run("agent", command, timeout_s))
        elif manager in ("yum", "tdnf"):
            accept = (0, NOTHING_FOUND_YUM) + ((NOTHING_FOUND_TDNF,) if manager == "tdnf" else ())
            out = host.run("agent", [manager, "-q", "-C"] + past + ["list", "available", name], timeout_s, accept=accept) or ""
            rows = [line.split() for line in out.split("\n") if line.startswith(name)]
            version = _newest("\n".join(row[1] for row in rows if len(row) > 1))
        if version:
            return name, version
    return None


def collect(host, family, want_candidate, timeout_s):
    """Return the package facts.

    :param want_candidate: function of the installed version (or None) that says whether the repositories are worth asking.
    """
    names = NAMES.get(family, ())
    manager = None
    for binary in MANAGERS.get(family, ()):
        if host.which(binary):
            manager = "apt" if binary == "apt-get" else binary
            break
    result = {
        "manager": manager,
        "name": None,
        "installed": None,
        "version": None,
        "candidate": None,
        "candidate_looked": False,
        "held": None,
        "state": None,
        "older_versions": [],
        "unfinished_others": [],
        "repositories_disabled": [],
    }
    if manager is None:
        return result
    errors_before = len(host.errors)
    if manager == "apt":
        found, unfinished = _dpkg(host, names)
        result["installed"] = bool(found) if host.exists("agent", "/var/lib/dpkg/status") else None
        result.update(found or {}, unfinished_others=[name for name in unfinished if not found or name != found["name"]])
    else:
        found = _rpm(host, names, timeout_s)
        result["installed"] = bool(found) if found or len(host.errors) == errors_before else None
        if found:
            result.update(found, held=_held_rpm(host, manager, found["name"]))
    if want_candidate(result["version"]):
        result["candidate_looked"] = True
        errors_before = len(host.errors)
        offered = candidate(host, manager, (result["name"],) if result["name"] else names, timeout_s, bool(result["held"]))
        if offered:
            result["candidate"] = offered[1]
            result["name"] = result["name"] or offered[0]
        elif len(host.errors) > errors_before:
            result["candidate_looked"] = False  # could not look, which is not the same as "has none"
        result["repositories_disabled"] = disabled_repositories(host, manager)
    return result
