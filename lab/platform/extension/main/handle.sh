#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Stand-in for the start script of the snapshot extension: finds a Python, hands the operation to handle.py, and always exits 0, as the real one does.
# An "install" whose package has the file main/install-fails exits 51: that is how an installation fails in life, with a word from the handler.
here=$(cd "$(dirname "$0")" && pwd)
log=/var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux
mkdir -p "$log"

python=
for candidate in /usr/bin/python3 /usr/local/bin/python3 /usr/bin/python2.7 /usr/bin/python; do
    if [ -x "$candidate" ]; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "$(date -u)- python version unknown" >> "$log/shell.log"
    exit 1
fi

if [ "$1" = install ] && [ -e "$here/install-fails" ]; then
    echo "$(date -u)- installation of the handler failed" >> "$log/shell.log"
    echo "stand-in: a file that the handler needs could not be created" >&2
    exit 51
fi
if [ "$1" = daemon ]; then
    exec "$python" "$here/handle.py" -daemon
fi
"$python" "$here/handle.py" "-$1"
echo "$(date -u)- $? returned from handle.py" >> "$log/shell.log"
exit 0
