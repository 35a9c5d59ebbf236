# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the guest without ever changing it: files with a bound, processes with a deadline, errors kept instead of raised."""

import errno
import glob
import os
import stat
import threading
import time

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import clip, public_line, redact
from ansible_collections.vmbackup.azure.plugins.module_utils._values import parse_json

MAX_FILE_BYTES = 4 * 1024 * 1024
PROGRAMS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
KILLED = (-9, 137)  # how a command ends that timeout(1) killed
KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


class NotAFile(OSError):
    """What is to be read is something else than a regular file."""

    def __init__(self, path, mode):
        kind = next((words for is_kind, words in KINDS if is_kind(mode)), "no regular file")
        super(NotAFile, self).__init__(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "it is {0}".format(kind), path)


def open_regular(path):
    """Return a descriptor to read a regular file with.

    A named pipe waits for its writer for ever, and opening a device may do something, so neither is opened.

    :raises OSError: :class:`NotAFile` for anything else than a regular file.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise NotAFile(path, mode)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | getattr(os, "O_CLOEXEC", 0))
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):  # exchanged meanwhile
        os.close(fd)
        raise NotAFile(path, mode)
    return fd


def read_regular(path, limit):
    """Return at most limit bytes from the start of a regular file."""
    fd = open_regular(path)
    try:
        return _read(fd, limit)
    finally:
        os.close(fd)


def _read(fd, limit):
    chunks = []
    while limit > 0:
        chunk = os.read(fd, min(limit, 1 << 20))
        if not chunk:
            break
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


class Guest(object):
    """The guest as the collectors see it.

    :param root: prefix of every path, for tests on a tree of their own.
    :param now: present time in seconds since the epoch.
    :param run_command: ``AnsibleModule.run_command``; without it no command can be asked.
    """

    def __init__(self, root="", now=None, run_command=None):
        self._run_command = run_command
        self.root = root.rstrip("/")
        self.now = time.time() if now is None else now
        self.errors = []
        self.not_visible = []
        self.hung = []  # mount points that do not answer: whoever touches them hangs as well
        self.privileged = os.geteuid() == 0

    def path(self, path):
        """Return the path as it is to be opened.

        :raises OSError: when it lies on a file system that does not answer.
        """
        for mount_point in self.hung:
            if path == mount_point or path.startswith(mount_point.rstrip("/") + "/"):
                raise OSError(errno.ETIMEDOUT, "{0} does not answer".format(mount_point), path)
        return self.root + path

    def plain(self, path):
        return path[len(self.root) :] if self.root and path.startswith(self.root) else path

    def error(self, area, what, error):
        """Keep a failed probe: area, what was tried, what came back; secrets masked, since programs say what they were called with."""
        self.errors.append({"area": area, "what": clip(redact(what), 300), "error": public_line(str(error))})

    def hidden(self, what, reason):
        """Keep what could not be seen, once."""
        sentence = "{0}: {1}".format(what, reason)
        if sentence not in self.not_visible:
            self.not_visible.append(sentence)

    def failed(self, area, path, error):
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        if error.errno in (errno.EACCES, errno.EPERM):
            self.hidden(path, "permission denied, run with become")
        else:
            self.error(area, "read " + path, error.strerror or error)

    def read_bytes(self, area, path, limit=MAX_FILE_BYTES):
        """Return at most limit bytes from the start of a regular file, or None when it is not there or cannot be read."""
        try:
            return read_regular(self.path(path), limit)
        except OSError as error:
            self.failed(area, path, error)
            return None

    def read(self, area, path, limit=MAX_FILE_BYTES):
        """Return the text of a file (undecodable bytes replaced), or None."""
        raw = self.read_bytes(area, path, limit)
        return None if raw is None else raw.decode("utf-8", "replace")

    def read_json(self, area, path):
        raw = self.read_bytes(area, path, 1 << 20)
        return None if raw is None else parse_json(raw)

    def tail(self, area, path, limit):
        """Return the last lines of a file within limit bytes, and its size; ([], None) when there is none."""
        try:
            fd = open_regular(self.path(path))
            try:
                size = os.fstat(fd).st_size
                os.lseek(fd, max(0, size - limit), os.SEEK_SET)
                raw = _read(fd, limit)
            finally:
                os.close(fd)
        except OSError as error:
            self.failed(area, path, error)
            return [], None
        lines = raw.decode("utf-8", "replace").split("\n")
        return (lines[1:] if size > limit else lines), size

    def stat(self, area, path):
        try:
            return os.stat(self.path(path))
        except OSError as error:
            self.failed(area, path, error)
            return None

    def exists(self, area, path):
        """Return True or False, None when a directory above may not be entered."""
        try:
            os.lstat(self.path(path))
            return True
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.ETIMEDOUT):
                self.failed(area, path, error)
                return None
            return False

    def working_directory(self, pid):
        """Return the working directory of a process, None when it may not be seen or is gone."""
        try:
            return os.readlink(self.path("/proc/{0}/cwd".format(pid)))
        except OSError:
            return None

    def names(self, area, path):
        """Return the names in a directory, None when it is not there or may not be read."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError as error:
            self.failed(area, path, error)
            return None

    def glob(self, pattern):
        try:
            return sorted(self.plain(p) for p in glob.glob(self.path(pattern)))
        except OSError as error:
            self.error("system", "list " + pattern, error.strerror or error)
            return []

    def run(self, area, command, timeout_s, accept=(0,)):
        """Run a command that only reads; return its standard output, or None and an entry in errors. accept: exit codes that are answers.

        ``run_command`` has no deadline and waits for a process that hangs in the kernel, so it works in a thread that can be given up,
        and timeout(1) ends the process.
        """
        shown = " ".join(command)
        if self._run_command is None:
            self.error(area, shown, "commands cannot be run here")
            return None
        env = {"LC_ALL": "C", "LANGUAGE": "C", "TZ": "UTC", "PATH": ":".join(PROGRAMS), "DEBIAN_FRONTEND": "noninteractive"}
        limited = (["timeout", "-s", "KILL", "{0:g}".format(timeout_s)] if self.which("timeout") else []) + command
        answer = []

        def work():
            try:
                answer.extend(self._run_command(limited, environ_update=env, handle_exceptions=False, expand_user_and_vars=False))
            except Exception as error:  # what went wrong is the answer
                answer.append(error)

        thread = threading.Thread(target=work)
        thread.daemon = True
        thread.start()
        thread.join(timeout_s + 0.5)
        if not answer or answer[0] in KILLED:
            self.error(area, shown, "no answer within {0:g} s".format(timeout_s))
            return None
        if isinstance(answer[0], Exception):
            self.error(area, shown, getattr(answer[0], "strerror", None) or answer[0])
            return None
        code, out, err = answer
        if code not in accept:
            self.error(area, shown, "exit code {0}: {1}".format(code, (err or out).strip().rpartition("\n")[2][:200]))
            return None
        return out

    def which(self, name):
        for directory in PROGRAMS:
            path = directory + "/" + name
            try:
                if os.access(self.path(path), os.X_OK):
                    return path
            except OSError:
                continue  # on a file system that does not answer
        return None
