#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Runs once, while the image of a RHEL-family guest is built, with its major version: Debian's dnf and rpm, the family's os-release, the agent by dnf, then no more dpkg.
set -eu

apt-get update
apt-get install -y --no-install-recommends dnf rpm python3-distro python3-pkg-resources
case $1 in
9) name="9.4 (Blue Onyx)" ;;
10) name="10.0 (Red Quartz)" ;;
esac
cat > /etc/os-release <<END
NAME="Rocky Linux"
VERSION="$name"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="${name%% *}"
PLATFORM_ID="platform:el$1"
PRETTY_NAME="Rocky Linux $name"
CPE_NAME="cpe:/o:rocky:rocky:$1::baseos"
END
echo "Rocky Linux release $name" > /etc/redhat-release
ln -sf redhat-release /etc/system-release
mkdir -p /etc/dnf/vars && echo "$1" > /etc/dnf/vars/releasever
dnf install -y WALinuxAgent
dnf makecache
systemctl enable waagent.service
: > /var/lib/waagent/provisioned
rm -f /var/log/waagent.log /etc/debian_version
rm -rf /var/cache/apt /var/lib/apt /etc/apt /var/lib/dpkg
rm -f /usr/bin/apt /usr/bin/apt-* /usr/bin/dpkg /usr/bin/dpkg-*
