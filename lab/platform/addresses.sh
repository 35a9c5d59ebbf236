#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# The addresses of the Azure host that this machine answers on, and one for storage. /opt/lab/guests.json is not read here: the file
# platform.env of the state directory says which address is which.
set -eu
. /opt/lab/platform.env
for address in 168.63.129.16 169.254.169.254; do
    ip address replace "$address/32" dev lo
done
ip address replace "$STORAGE/24" dev eth0
