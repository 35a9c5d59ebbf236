#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Runs once, while the image of the SUSE guest is built: Debian's zypper and rpm, the family's os-release, the agent by zypper, then no more dpkg.
set -eu

apt-get update
apt-get install -y --no-install-recommends zypper rpm python3-rpm python3-distro python3-pkg-resources
cat > /etc/os-release <<'END'
NAME="SLES"
VERSION="15-SP5"
VERSION_ID="15.5"
PRETTY_NAME="SUSE Linux Enterprise Server 15 SP5"
ID="sles"
ID_LIKE="suse"
CPE_NAME="cpe:/o:suse:sles:15:sp5"
END
zypper --non-interactive refresh
zypper --non-interactive install python3-azure-agent python-azure-agent-config-server
systemctl enable waagent.service
: > /var/lib/waagent/provisioned
rm -f /var/log/waagent.log /etc/debian_version
rm -rf /var/cache/apt /var/lib/apt /etc/apt /var/lib/dpkg
rm -f /usr/bin/apt /usr/bin/apt-* /usr/bin/dpkg /usr/bin/dpkg-*
