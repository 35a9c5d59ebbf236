# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the guest without ever changing it: files with a bound, processes with a deadline, errors kept instead of raised."""

import errno
import glob
import json
import os
import threading
import time
from datetime import datetime, timedelta, timezone

MAX_FILE_BYTES = 4 * 1024 * 1024
PROGRAMS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
KILLED = (-9, 137)  # how a command ends that timeout(1) killed


def iso(epoch):
    """Return seconds since the epoch as ISO 8601 in UTC, None for None or for a time that no calendar holds."""
    if epoch is None:
        return None
    try:
        return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=int(epoch))).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return None


def epoch(text):
    """Return the seconds since the epoch of a time as agent and extension write it, or None.

    Taken: ``2026-01-31T02:03:04.123456Z``, ``2026-01-31 02:03:04.12``, ``2017/06/22 05:52:33.690610`` (all UTC).
    """
    text = (text or "").strip().replace("/", "-").replace("T", " ").rstrip("Z")
    head = text[:19]
    try:
        parsed = datetime.strptime(head, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    return (parsed - datetime(1970, 1, 1)).total_seconds()


def age(then, now):
    """Return whole seconds from then to now, None when then is not known."""
    return None if then is None else int(now - then)


def parse_json(raw):
    """Return the value of JSON as it is found on guests: bytes or text, with BOM, NUL padding or cut short. None when it is no JSON."""
    if isinstance(raw, bytes):
        raw = raw.decode("utf-8", "replace")
    if raw is None:
        return None
    try:
        return json.loads(raw.lstrip("\ufeff").replace("\x00", "").strip())
    except (ValueError, RecursionError):
        return None


def as_dict(value):
    """Return value if it is a dictionary, else an empty one: JSON of guests holds null where an object is expected."""
    return value if isinstance(value, dict) else {}


def as_list(value):
    """Return value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_int(value):
    """Return an int for an int or for text that spells one, else None. Codes come as numbers and as strings."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return int(value) if abs(value) < 1e15 else None  # not for NaN either
    try:
        return int(str(value).strip())
    except ValueError:
        return None


def as_text(value):
    """Return value if it is text, else None."""
    return value if isinstance(value, str) else None


def version_key(text):
    """Return a sort key for dotted versions that compares numbers as numbers: 1.0.9100 is above 1.0.999."""
    key = []
    for part in (text or "").replace("-", ".").replace("~", ".").split("."):
        digits = "".join(c for c in part if c in "0123456789")[:18]
        key.append(int(digits) if digits else -1)
    return tuple(key)


class Host(object):
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
        self.privileged = os.geteuid() == 0

    def path(self, path):
        return self.root + path

    def plain(self, path):
        return path[len(self.root) :] if self.root and path.startswith(self.root) else path

    def error(self, area, what, error):
        """Keep a failed probe: area, what was tried, what came back."""
        self.errors.append({"area": area, "what": what, "error": str(error)})

    def hidden(self, what, reason):
        """Keep what could not be seen, once."""
        sentence = "{0}: {1}".format(what, reason)
        if sentence not in self.not_visible:
            self.not_visible.append(sentence)

    def _failed(self, area, path, error):
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        if error.errno in (errno.EACCES, errno.EPERM):
            self.hidden(path, "permission denied, run with become")
        else:
            self.error(area, "read " + path, error.strerror or error)

    def read_bytes(self, area, path, limit=MAX_FILE_BYTES):
        """Return at most limit bytes from the start of a regular file, or None when it is not there or cannot be read."""
        try:
            # O_NONBLOCK: a named pipe in the file's place must not stop the run.
            fd = os.open(self.path(path), os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            self._failed(area, path, error)
            return None
        try:
            chunks, left = [], limit
            while left > 0:
                chunk = os.read(fd, min(left, 1 << 20))
                if not chunk:
                    break
                chunks.append(chunk)
                left -= len(chunk)
            return b"".join(chunks)
        except OSError as error:
            self._failed(area, path, error)
            return None
        finally:
            os.close(fd)

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
            with open(self.path(path), "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                stream.seek(max(0, size - limit))
                raw = stream.read(limit)
        except OSError as error:
            self._failed(area, path, error)
            return [], None
        lines = raw.decode("utf-8", "replace").split("\n")
        return (lines[1:] if size > limit else lines), size

    def stat(self, area, path):
        try:
            return os.stat(self.path(path))
        except OSError as error:
            self._failed(area, path, error)
            return None

    def exists(self, area, path):
        """Return True or False, None when a directory above may not be entered."""
        try:
            os.lstat(self.path(path))
            return True
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                self._failed(area, path, error)
                return None
            return False

    def names(self, area, path):
        """Return the names in a directory, None when it is not there or may not be read."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError as error:
            self._failed(area, path, error)
            return None

    def glob(self, pattern):
        return sorted(self.plain(p) for p in glob.glob(self.path(pattern)))

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
            if os.access(self.path(path), os.X_OK):
                return path
        return None
