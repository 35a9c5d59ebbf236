# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The agent's package: what is installed, what the distribution's repository offers, what keeps it where it is."""

import re

from ansible_collections.vmbackup.azure.plugins.module_utils.linux.host import version_key

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


def parse_dpkg_status(text, name):
    """Return (version, held) of an installed package from dpkg's status file, None when it is not installed."""
    start = text.find("\nPackage: {0}\n".format(name)) if not text.startswith("Package: {0}\n".format(name)) else 0
    if start < 0:
        return None
    end = text.find("\n\n", start + 1)
    stanza = text[start : end if end >= 0 else len(text)]
    fields = dict(line.split(": ", 1) for line in stanza.split("\n") if ": " in line and not line.startswith(" "))
    status = fields.get("Status", "").split()
    if len(status) < 3 or status[2] in ("not-installed", "config-files"):
        return None
    return fields.get("Version") or None, status[0] == "hold"


def parse_apt_policy(text):
    """Return the candidate version from ``apt-cache policy NAME``, None when the repositories offer none."""
    found = re.search(r"(?m)^\s+Candidate:\s*(\S+)", text or "")
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
    for found in re.findall(r"(?mi)^\s*exclude(?:pkgs)?\s*=\s*(.*)$", text or ""):
        for pattern in found.replace(",", " ").split():
            if re.match("^" + re.escape(pattern).replace(r"\*", ".*") + "$", name):
                return True
    return False


def parse_zypper_locks(text, name):
    """Say whether the file of zypper's locks names the package."""
    locked = re.findall(r"(?mi)^\s*solvable_name\s*:\s*(\S+)", text or "")
    return any(re.match("^" + re.escape(found).replace(r"\*", ".*") + "$", name) for found in locked)


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
    text = host.read("agent", "/var/lib/dpkg/status", 64 * 1024 * 1024)
    for name in names if text else ():
        found = parse_dpkg_status(text, name)
        if found:
            return name, found[0], found[1]
    return None


def _rpm(host, names, timeout_s):
    """Ask rpm for all names in one call; those that are not installed come back in words, counted in the exit code, and are skipped."""
    command = ["rpm", "-q", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n"] + list(names)
    out = host.run("agent", command, timeout_s, accept=range(len(names) + 1))
    for line in (out or "").split("\n"):
        cells = line.split("\t")
        if len(cells) == 2 and cells[0] in names:
            return cells[0], cells[1]
    return None


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
        "repositories_disabled": [],
    }
    if manager is None:
        return result
    errors_before = len(host.errors)
    if manager == "apt":
        found = _dpkg(host, names)
        result["installed"] = bool(found) if host.exists("agent", "/var/lib/dpkg/status") else None
        if found:
            result.update(name=found[0], version=found[1], held=found[2])
    else:
        found = _rpm(host, names, timeout_s)
        result["installed"] = bool(found) if found or len(host.errors) == errors_before else None
        if found:
            result.update(name=found[0], version=found[1], held=_held_rpm(host, manager, found[0]))
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
