#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Runs once, while the image of a Debian guest is built.
set -eu

rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/packages/apt/current ./' > /etc/apt/sources.list
apt-get update
apt-get install -y --no-install-recommends waagent
systemctl enable walinuxagent.service
sed -i 's/^Provisioning.Agent=.*/Provisioning.Agent=auto/; s/^ResourceDisk.Format=.*/ResourceDisk.Format=n/; s/^AutoUpdate.Enabled=.*/AutoUpdate.Enabled=y/' \
    /etc/waagent.conf
# Provisioned long ago: with this file the agent looks for no DVD and leaves the ssh keys alone.
install -d -m 0700 /var/lib/waagent
: > /var/lib/waagent/provisioned
rm -f /var/log/waagent.log
