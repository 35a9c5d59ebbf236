# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Work in a process of its own that can be abandoned: what hangs in the kernel cannot be interrupted, not even killed."""

import fcntl
import json
import os
import select
import signal
import threading
import time

END = b"null\n"
LIMIT_BYTES = 64 * 1024 * 1024  # beyond all facts of any guest


def detach(writer):
    """Leave the caller's session and give up its descriptors but one, so that nobody waits for a process that hangs; returns that one."""
    os.setsid()
    kept = fcntl.fcntl(writer, fcntl.F_DUPFD, 3)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        opened = [int(name) for name in os.listdir("/proc/self/fd")]
    except (OSError, ValueError):
        opened = range(3, 1024)
    for fd in opened:
        if fd > 2 and fd != kept:
            try:
                os.close(fd)
            except OSError:
                continue  # the one of the listing itself, or none
    return kept


class Child(object):
    """A function in a process of its own, with a deadline.

    :param work: function that gets ``send``, which passes one JSON value at a time on to the parent.
    :param timeout_s: seconds after which :meth:`messages` gives the process up.
    :raises OSError: when no process can be started.
    """

    def __init__(self, work, timeout_s):
        self._deadline = time.monotonic() + timeout_s
        self._reader, writer = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._reader)
            os.close(writer)
            raise
        if self._pid == 0:
            try:
                writer = detach(writer)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(int(timeout_s) + 30)  # also when the parent is gone

                def send(value):
                    data = json.dumps(value).encode("ascii") + b"\n"
                    while data:
                        data = data[os.write(writer, data) :]

                work(send)
                os.write(writer, END)
            finally:
                os._exit(0)
        os.close(writer)

    def messages(self):
        """Return (values that came, whether all came) and leave the process to itself when it did not end in time."""
        chunks, size, tail = [], 0, b""
        while not tail.endswith(END):
            left = self._deadline - time.monotonic()
            if left <= 0 or size > LIMIT_BYTES or not select.select([self._reader], [], [], left)[0]:
                break
            chunk = os.read(self._reader, 1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
            tail = (tail + chunk)[-len(END) :]
        ended = tail.endswith(END)
        os.close(self._reader)
        data = b"".join(chunks)
        values = [json.loads(line.decode("ascii")) for line in data.split(b"\n")[:-1]]
        try:
            if not ended:
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0 if ended else os.WNOHANG)
        except OSError:
            pass  # reaped by somebody else
        return (values[:-1] if ended else values), ended


def patiently(work, timeout_s):
    """Call a function in a thread and give it up after a time; returns (whether it came back, what it returned).

    Only for what runs in a :class:`Child`: a thread that hangs ends with its process.
    """
    answer = []

    def run():
        try:
            answer.append((True, work()))
        except Exception as error:
            answer.append((False, error))

    thread = threading.Thread(target=run)
    thread.daemon = True
    thread.start()
    thread.join(timeout_s)
    if not answer:
        return False, None
    fine, value = answer[0]
    if not fine:
        raise value
    return True, value
