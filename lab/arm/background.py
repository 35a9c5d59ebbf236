# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-in in the background: what a run on the lab needs is in a folder, and another call ends it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable

LIVES_S = 3 * 3600.0


def start(folder: pathlib.Path, serve: Callable[[], dict[str, dict[str, str]]], seconds: float = 60.0) -> int:
    """Run serve in a process of its own, which stays; return when what it answers is in the folder."""
    stop(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "options.json"
    ready.unlink(missing_ok=True)
    child = os.fork()
    if child:
        until = time.monotonic() + seconds
        while not ready.exists():
            ended, _status = os.waitpid(child, os.WNOHANG)
            if ended or time.monotonic() > until:
                print("The stand-in did not start; see {0}.".format(folder / "log"), file=sys.stderr)
                return 1
            time.sleep(0.1)
        return 0
    os.setsid()
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, handle in ((0, nothing), (1, log), (2, log)):
        os.dup2(handle, number)
    try:
        told = serve()
        plugin = {"plugin": "vmbackup.azure.failed_backups", **told["options"]}
        sign_in = {"vmbackup_azure_auth": told["options"]}
        for name, content in (("failed_backups.yml", plugin), ("sign_in.json", sign_in), ("options.json", told)):
            (folder / (name + ".new")).write_text(json.dumps(content, indent=1))
            os.replace(folder / (name + ".new"), folder / name)
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(LIVES_S)
    finally:
        os._exit(0)


def stop(folder: pathlib.Path) -> None:
    """End the stand-in of a folder, if it is that."""
    try:
        pid = int((folder / "pid").read_text())
        if b"arm" in pathlib.Path("/proc/{0}/cmdline".format(pid)).read_bytes():
            os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        pass
    for name in ("pid", "failed_backups.yml"):
        (folder / name).unlink(missing_ok=True)
