#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""What a repair might change on a Windows guest, one thing per line, read from outside Windows: the registry's files and the file tree.

The registry reaches its files within 30 seconds, so this waits for it. Left out is what the stand-in agent and Wine write all the time.
"""

import hashlib
import os
import re
import sys
import time

PREFIX = "/wine"
# Keys that change by themselves: signs of life, Wine's own devices and sessions.
RESTLESS_KEYS = re.compile(
    r"^(Software\\\\Microsoft\\\\GuestAgent$|Hardware\\\\|Software\\\\Wine\\\\|System\\\\ControlSet001\\\\Enum\\\\|Volatile Environment|"
    r"Software\\\\Microsoft\\\\Windows NT\\\\CurrentVersion\\\\(Perflib|Print)|System\\\\ControlSet001\\\\Control\\\\(Video|GraphicsDrivers|DeviceClasses))",
    re.I,
)
RESTLESS_VALUES = {"GuestAgentStartTime"}
RESTLESS_FILES = re.compile(
    r"^(WindowsAzure/Logs/(WaAppAgent\.log|AggregateStatus/)|VmbackupLab/network\.journal$|windows/temp/|users/[^/]+/(AppData/Local/(Temp|Microsoft/PowerShell)|Temp)/)",
    re.I,
)


def registry(name):
    key = None
    with open(os.path.join(PREFIX, name), errors="replace") as stream:
        for line in stream:
            line = line.rstrip("\n")
            if line.startswith("["):
                key = line[1 : line.rindex("]")]  # without the time after it
                if RESTLESS_KEYS.search(key):
                    key = None
            elif key is not None and line and not line.startswith("#") and line.partition("=")[0].strip('"') not in RESTLESS_VALUES:
                yield "{0} {1} {2}".format(name, key, line)


def tree():
    root = os.path.join(PREFIX, "drive_c")
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            short = os.path.relpath(path, root)
            if RESTLESS_FILES.search(short) or short.lower().startswith("windows/system32/windowspowershell"):
                continue
            found = os.lstat(path)
            content = ""
            if os.path.isfile(path) and not os.path.islink(path) and found.st_size < 2 << 20 and not short.startswith("windows/"):
                with open(path, "rb") as stream:
                    content = hashlib.sha256(stream.read()).hexdigest()
            yield "{0} {1:o} {2} {3}".format(short, found.st_mode, found.st_size if not os.path.isdir(path) else "-", content)


def main():
    if "--now" not in sys.argv:
        time.sleep(31)
    for name in ("system.reg", "user.reg", "userdef.reg"):
        for line in registry(name):
            print(line)
    for line in tree():
        print(line)


if __name__ == "__main__":
    main()
