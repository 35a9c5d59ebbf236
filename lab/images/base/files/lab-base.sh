#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Runs once, while the base image is built.
set -eu

useradd --create-home --no-user-group --gid users --shell /bin/bash operator
install -d -m 0700 -o operator -g users /home/operator/.ssh
install -m 0600 -o operator -g users /run/lab-ssh/id_ed25519.pub /home/operator/.ssh/authorized_keys
echo 'operator ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/operator
chmod 0440 /etc/sudoers.d/operator
rm -f /etc/ssh/ssh_host_*
install -m 0600 /run/lab-ssh/host_ed25519 /etc/ssh/ssh_host_ed25519_key
install -m 0644 /run/lab-ssh/host_ed25519.pub /etc/ssh/ssh_host_ed25519_key.pub

# A privileged container shares the kernel: these units would change the host, or have nothing to do.
for unit in systemd-sysctl.service systemd-modules-load.service systemd-random-seed.service systemd-binfmt.service systemd-pstore.service \
    systemd-udevd.service systemd-udev-trigger.service systemd-remount-fs.service systemd-logind.service systemd-update-utmp.service \
    systemd-hwdb-update.service systemd-firstboot.service systemd-machine-id-commit.service systemd-journal-flush.service \
    systemd-time-wait-sync.service systemd-timesyncd.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount \
    proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount systemd-ask-password-wall.path systemd-ask-password-console.path \
    getty.target getty@tty1.service console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    systemd-tmpfiles-clean.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dm-event.socket ssh.socket; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
# The real time service, told by -x to leave the clock alone, which is the host's.
echo 'DAEMON_OPTS="-F 1 -x"' > /etc/default/chrony
systemctl enable ssh.service lab-nic.service lab-boot.service
systemctl set-default multi-user.target
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /var/cache/debconf/*-old
