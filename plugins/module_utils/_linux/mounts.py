# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mounted file systems: which would be frozen for a snapshot, which are full, which do not answer."""

import errno
import os
import re
import select
import signal
import stat
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.child import detach

# The backup extension freezes these, unless they lie on a loop device. Source: VMBackup/main/mounts.py and fsfreezer.py.
FREEZABLE = ("ext3", "ext4", "xfs", "btrfs")
# Asking one of these can wait for another machine or another process: each is asked by a process of its own.
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "9p", "afs", "autofs", "gfs2", "ocfs2")
PSEUDO = [
    "proc",
    "sysfs",
    "devpts",
    "devtmpfs",
    "mqueue",
    "hugetlbfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "pstore",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "fusectl",
    "binfmt_misc",
    "rpc_pipefs",
    "nsfs",
    "selinuxfs",
    "efivarfs",
    "ramfs",
    "squashfs",
    "iso9660",
    "udf",
    "autofs",
]
RESOURCE_DISK = ("/mnt/resource", "/mnt")
RESOURCE_DISK_MARKER = "DATALOSS_WARNING_README.txt"


def unescape(text):
    """Return a field of /proc/mounts with its octal escapes resolved."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match.group(1), 8)), text)


def parse_mounts(text):
    """Return the mounts in order: device, mount_point, fs_type, options (list)."""
    mounts = []
    for line in (text or "").split("\n"):
        fields = line.split(" ")
        if len(fields) >= 4:
            mounts.append(
                {
                    "device": unescape(fields[0]),
                    "mount_point": unescape(fields[1]),
                    "fs_type": fields[2],
                    "options": fields[3].split(","),
                }
            )
    return mounts


def is_remote(mount):
    return mount["fs_type"] in REMOTE or mount["fs_type"].startswith("fuse")


def measured(mount):
    """Say whether a mount is worth measuring; an automounter's trigger is not touched, since looking would mount it."""
    # A name that is not UTF-8 was not read as it is, so nothing would be found under it.
    return mount["fs_type"] not in PSEUDO and "\ufffd" not in mount["mount_point"]


def _ask(paths, out):
    """Write one line per path: number, is a directory, then the figures of statvfs or the error's number."""
    for number, path in paths:
        try:
            place = path.encode("utf-8")  # Python 3.6 in the locale C cannot do it itself
            directory = stat.S_ISDIR(os.stat(place).st_mode)
            space = os.statvfs(place)
            figures = (space.f_frsize, space.f_blocks, space.f_bfree, space.f_bavail, space.f_files, space.f_ffree)
            line = "{0} {1:d} {2}\n".format(number, directory, " ".join(str(figure) for figure in figures))
        except OSError as error:
            line = "{0} error {1}\n".format(number, error.errno)
        os.write(out, line.encode())


class Asking(object):
    """statvfs on every mount from child processes, because a hung mount blocks who asks and cannot always be interrupted."""

    def __init__(self, paths_by_group, timeout_s):
        self._deadline = time.monotonic() + timeout_s
        self._children = {}
        for paths in paths_by_group:
            if not paths:
                continue
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    writer = detach(writer)
                    _ask(paths, writer)
                finally:
                    os._exit(0)
            os.close(writer)
            self._children[reader] = [pid, b""]

    def answers(self):
        """Return {number: line's words} of those that answered before the deadline."""
        found = {}
        pending = dict(self._children)
        while pending:
            left = self._deadline - time.monotonic()
            ready = select.select(list(pending), [], [], max(0, left))[0]
            if not ready:
                break
            for fd in ready:
                chunk = os.read(fd, 65536)
                if chunk:
                    pending[fd][1] += chunk
                else:
                    del pending[fd]
        for fd, (pid, text) in self._children.items():
            for line in text.decode().split("\n"):
                words = line.split()
                if len(words) > 2:
                    found[int(words[0])] = words[1:]
            os.close(fd)
            try:
                if fd in pending:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
                else:
                    os.waitpid(pid, 0)
            except OSError:
                continue
        return found


def percent(part, whole):
    return None if not whole else int(100.0 * part / whole)


def filesystem(mount, words, host):
    """Return the facts of one mount; words as the asking child wrote them, None when no answer came in time."""
    loop = mount["device"].startswith("/dev/loop")
    result = {
        "mount_point": mount["mount_point"],
        "device": mount["device"],
        "fs_type": mount["fs_type"],
        "read_only": "ro" in mount["options"],
        "freezes": mount["fs_type"] in FREEZABLE and not loop and "ro" not in mount["options"],
        "responds": words is not None,
        "error": None,
        "size_bytes": None,
        "free_bytes": None,
        "used_percent": None,
        "inodes_used_percent": None,
        "duplicate": False,
        "directory": None,
    }
    if words and words[0] == "error":
        # A FUSE mount without allow_other shuts everybody else out, root too, and is never frozen.
        if not (int(words[1]) == errno.EACCES and mount["fs_type"].startswith("fuse")):
            result["error"] = os.strerror(int(words[1]))
    elif words:
        size, blocks, free, available, files, files_free = (int(word) for word in words[1:7])
        result.update(directory=words[0] == "1", size_bytes=size * blocks, free_bytes=size * available)
        # As df(1) counts: what root alone may use is not free to anybody else.
        result["used_percent"] = percent(blocks - free, blocks - free + available)
        result["inodes_used_percent"] = percent(files - files_free, files)
    # Only of what answered: this asks in the collector's own process.
    answered = bool(words) and words[0] != "error"
    if answered and mount["mount_point"] in RESOURCE_DISK and host.exists("load", mount["mount_point"] + "/" + RESOURCE_DISK_MARKER):
        result["freezes"] = False
    return result


def start(host, mounts, timeout_s):
    """Begin to ask all mounts; returns what ``finish`` takes."""
    numbered = [(number, mount) for number, mount in enumerate(mounts) if measured(mount)]
    local = [(number, host.path(mount["mount_point"])) for number, mount in numbered if not is_remote(mount)]
    remote = [[(number, host.path(mount["mount_point"]))] for number, mount in numbered if is_remote(mount)]
    return numbered, Asking([local] + remote, timeout_s)


def answered(begun):
    """Return ({number: answer}, mount points that gave none)."""
    numbered, asking = begun
    answers = asking.answers()
    return answers, [mount["mount_point"] for number, mount in numbered if number not in answers]


def finish(host, begun, answers):
    """Return the facts of every mount that was asked."""
    numbered, _asking = begun
    result = [filesystem(mount, answers.get(number), host) for number, mount in numbered]
    seen = set()
    for entry in result:
        if entry["freezes"] and entry["directory"]:
            entry["duplicate"] = entry["device"] in seen
            seen.add(entry["device"])
    # A file or a device bound over another (containers do that) is no file system of its own.
    return [entry for entry in result if entry["directory"] is not False]
