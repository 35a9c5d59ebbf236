# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What system this is: distribution, init, privileges; and its processes."""

import os
import platform
import threading
import time

FAMILIES = (
    ("flatcar", ("flatcar", "coreos")),
    ("azurelinux", ("azurelinux", "mariner")),
    ("suse", ("suse", "sles", "sle_hpc", "opensuse", "opensuse-leap", "opensuse-tumbleweed")),
    ("redhat", ("rhel", "centos", "fedora", "rocky", "almalinux", "ol", "redhat")),
    ("debian", ("debian", "ubuntu", "devuan", "kali")),
)


def parse_os_release(text):
    """Return the dictionary of an os-release file; quotes as in shell, last line of a name wins."""
    values = {}
    for line in (text or "").split("\n"):
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            values[key.strip()] = value
    return values


def family(identifier, id_like):
    """Return the package family of a distribution: its own id first, then what it says it is like."""
    for name in [identifier] + list(id_like):
        for result, members in FAMILIES:
            if name in members:
                return result
    return "other"


def distribution(host):
    text = host.read("system", "/etc/os-release") or host.read("system", "/usr/lib/os-release")
    values = parse_os_release(text)
    identifier = values.get("ID", "").lower() or None
    id_like = values.get("ID_LIKE", "").lower().split()
    return {
        "id": identifier,
        "version_id": values.get("VERSION_ID") or None,
        "id_like": id_like,
        "pretty_name": values.get("PRETTY_NAME") or values.get("NAME") or None,
        "family": family(identifier, id_like) if identifier else None,
    }


def init_system(host):
    """Return which init runs, told by what it leaves in the file system."""
    for path, name in (("/run/systemd/system", "systemd"), ("/run/openrc", "openrc")):
        if host.exists("system", path):
            return name
    if host.exists("system", "/etc/init") and host.which("initctl"):
        return "upstart"
    return "sysv" if host.exists("system", "/etc/init.d") else "other"


def uptime(host):
    text = host.read("system", "/proc/uptime") or ""
    try:
        return int(float(text.split()[0]))
    except (IndexError, ValueError):
        return None


def collect(host):
    uname = os.uname()
    return {
        "kind": "linux",
        "distribution": distribution(host),
        "kernel": uname.release,
        "architecture": uname.machine,
        "init": init_system(host),
        "hostname": uname.nodename,
        "python_version": platform.python_version(),
        "privileged": host.privileged,
        "uptime_s": uptime(host),
        "utc_offset_s": time.localtime().tm_gmtoff,
        "fips": {"0": False, "1": True}.get((host.read("system", "/proc/sys/crypto/fips_enabled", 8) or "").strip()),
        "image_based": bool(host.exists("system", "/run/ostree-booted") or host.exists("system", "/usr/share/oem/waagent.conf")),
    }


STALL_S = 1.0
MOST_STALLS = 8


def _process(directory, pid, boot, tick):
    """Return one process as far as it can be told without its memory, which is asked for last: that may wait for a frozen disk."""
    with open(directory + "/stat") as stream:
        before, _bracket, after = stream.read().rpartition(")")
    fields = after.split()
    return {
        "pid": pid,
        "parent": int(fields[1]),
        "command": [before.partition("(")[2]],
        "started_at": boot + int(fields[19]) / tick if boot else None,
    }


def _command(directory):
    with open(directory + "/cmdline", "rb") as stream:
        return stream.read(4096).decode("utf-8", "replace").rstrip("\x00").split("\x00")


class _Reading(object):
    """The processes, read one after the other in a thread that can be given up at the one that it hangs at."""

    def __init__(self, root, names, boot, tick):
        self.found, self.present = [], None
        self._root, self._names, self._boot, self._tick = root, list(names), boot, tick
        self._turn = 0

    def work(self, turn):
        while self._names and turn == self._turn:
            name = self._names.pop(0)
            directory = self._root + "/" + name
            try:
                process = _process(directory, int(name), self._boot, self._tick)
                self.present = process
                command = _command(directory)
            except (OSError, ValueError, IndexError):
                continue  # gone meanwhile, or another user's under hidepid
            if turn != self._turn:
                return
            if command != [""]:
                self.found.append(dict(process, command=command))

    def give_up(self):
        """Leave the thread at its process, which counts with its short name; returns that process."""
        self._turn += 1
        if self.present:
            self.found.append(self.present)
        return self.present, self._turn


def processes(host, stall_s=STALL_S):
    """Return every process that has a command line: pid, parent, command (list), started_at (seconds since the epoch).

    A start time is the boot time plus the ticks of field 22 of ``/proc/<pid>/stat`` (proc(5)).
    """
    boot = None
    for line in (host.read("system", "/proc/stat") or "").split("\n"):
        if line.startswith("btime "):
            boot = float(line.split()[1])
    try:
        tick = float(os.sysconf("SC_CLK_TCK"))
        names = [name for name in os.listdir(host.path("/proc")) if name.isdigit()]
    except (OSError, ValueError) as error:
        host.error("system", "list /proc", error)
        return []
    reading = _Reading(host.path("/proc"), names, boot, tick)
    turn, stalls = 0, 0
    while True:
        thread = threading.Thread(target=reading.work, args=(turn,))
        thread.daemon = True
        thread.start()
        while thread.is_alive():
            before = reading.present
            thread.join(stall_s)
            if thread.is_alive() and reading.present is before:
                break
        if not thread.is_alive():
            return reading.found
        stuck, turn = reading.give_up()
        stalls += 1
        host.error("system", "read /proc/{0}/cmdline".format(stuck["pid"] if stuck else "?"), "no answer within {0:g} s".format(stall_s))
        if stalls >= MOST_STALLS:
            host.error("system", "read the processes", "too many give no answer; the rest was left out")
            return reading.found
