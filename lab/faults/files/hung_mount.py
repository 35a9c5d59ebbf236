#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Mount a file system and never answer a request for it, as a network file system whose server went away. usage: hung_mount.py DIRECTORY"""

import ctypes
import os
import signal
import sys

target = sys.argv[1]
os.makedirs(target, exist_ok=True)
device = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
if libc.mount(b"backup@files.example:/srv/share", target.encode(), b"fuse.sshfs", 0, options.encode()):
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
signal.pause()
