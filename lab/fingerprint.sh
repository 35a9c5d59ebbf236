#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# What a repair might change, one thing per line, so that two states of a guest can be compared: run in the guest, not through Ansible.
set -u
# Files with owner, mode and content; what the agent itself writes all the time is left out.
find /etc /usr /opt /root /home /srv /var/spool/cron /boot \( -name __pycache__ -o -path /etc/resolv.conf -o -path /etc/hosts -o -path /etc/hostname \
    -o -path /etc/apt/apt.conf.d -o -path /root/.ansible -o -path /home/operator/.ansible \) -prune -o -printf '%p %y %m %U:%G %l\n' 2>/dev/null | sort
find /etc /usr/lib/systemd /lib/systemd /usr/sbin/waagent /usr/lib/python3* -name __pycache__ -prune -o -type f -size -2M \
    ! -path /etc/resolv.conf ! -path /etc/hosts ! -path /etc/hostname ! -path '*/dist-packages/*.pyc' -print0 2>/dev/null | sort -z | xargs -0 sha256sum 2>/dev/null
# The agent's markers and updates.
find /var/lib/waagent -maxdepth 1 \( -name disable_agent -o -name 'WALinuxAgent-*' \) -printf '%f %y\n' 2>/dev/null | sort
# Packages with their holds.
if [ -e /var/lib/dpkg/status ]; then dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'; fi
if command -v rpm >/dev/null; then rpm -qa | sort; fi
# Units.
for unit in walinuxagent.service waagent.service; do
    systemctl show -p Id,LoadState,UnitFileState,Restart "$unit"
    # A unit that is on its way up or down shows another state every moment.
    state=$(systemctl show -p ActiveState --value "$unit")
    case $state in activating | deactivating) state=active ;; esac
    echo "$unit $state"
done
systemctl list-unit-files --no-legend --no-pager | awk '{print $1, $2}' | grep -v -e '\.scope' -e '\.slice' | sort
