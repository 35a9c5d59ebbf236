#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Makes /srv/packages: apt/current (old and new agent), apt/old (old one only), rpm/el, rpm/el-old, rpm/suse, rpm/suse-old.
# The argument is the major version of the RHEL family that the packages are for.
# An "old" agent is Debian's agent whose own version constant says so: what it does is the newer code.
set -eu

OLD_DEB=2.2.45
OLD_RPM=2.2.46

work=$(mktemp -d)
cd "$work"
apt-get download -o APT::Sandbox::User=root waagent
new=$(ls waagent_*.deb)
version=$(dpkg-deb --field "$new" Version)
upstream=${version%-*}

# say_version DIRECTORY VERSION: the agent unpacked there says VERSION from now on.
say_version() {
    modules=$1/usr/lib/python3/dist-packages
    sed -i "s/^AGENT_VERSION = .*/AGENT_VERSION = '$2'/" "$modules/azurelinuxagent/common/version.py"
    for egg in "$modules"/*.egg-info "$modules"/*.dist-info; do
        [ -e "$egg" ] || continue
        find "$egg" -type f -exec sed -i "s/^Version: .*/Version: $2/" {} +
        mv "$egg" "$(echo "$egg" | sed "s/$upstream/$2/")"
    done
    sed -i "s/$upstream/$2/g" "$1/usr/sbin/waagent"
    grep -q "^AGENT_VERSION = '$2'" "$modules/azurelinuxagent/common/version.py"
}

# Old Debian package. Its configuration file has a key that the newer one lost, as between real releases: an upgrade meets a changed file.
dpkg-deb --raw-extract "$new" old
say_version old "$OLD_DEB"
sed -i "s/^Version: .*/Version: $OLD_DEB-1/" old/DEBIAN/control
sed -i 's/^Provisioning.Agent=.*/Provisioning.Enabled=n\n&/' old/etc/waagent.conf
(cd old && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | xargs -0 md5sum > DEBIAN/md5sums)
dpkg-deb --root-owner-group --build old "waagent_$OLD_DEB-1_all.deb"

rm -rf /srv/packages/*
mkdir -p /srv/packages/apt/old /srv/packages/apt/current
cp "waagent_$OLD_DEB-1_all.deb" /srv/packages/apt/old/
cp "waagent_$OLD_DEB-1_all.deb" "$new" /srv/packages/apt/current/
for repository in old current; do
    (cd "/srv/packages/apt/$repository" && apt-ftparchive packages . > Packages && apt-ftparchive release . > Release)
done

# rpm_package FAMILY NAME VERSION RELEASE SOURCE [SPLIT]: RPM packages of the agent that lies unpacked in SOURCE; SPLIT is 1 where the family has the
# configuration in a package of its own.
rpm_package() {
    rpmbuild -bb --quiet --define "_topdir $work/rpmbuild" --define "agent_name $2" --define "agent_version $3" --define "agent_release $4" \
        --define "agent_source $5" --define "agent_split ${6:-0}" --define "_build_id_links none" /waagent.spec
    mkdir -p "/srv/packages/rpm/$1"
    cp "$work"/rpmbuild/RPMS/noarch/"$2-$3"-*.rpm "/srv/packages/rpm/$1/"
    [ "${6:-0}" = 0 ] || cp "$work"/rpmbuild/RPMS/noarch/python-azure-agent-config-server-"$3"-*.rpm "/srv/packages/rpm/$1/"
}

dpkg-deb --raw-extract "$new" new
rm -rf old
dpkg-deb --raw-extract "$new" old
say_version old "$OLD_RPM"
for repository in el el-old; do
    rpm_package "$repository" WALinuxAgent "$OLD_RPM" "1.el$1" "$work/old"
done
rpm_package el WALinuxAgent "$upstream" "1.el$1" "$work/new"
for repository in suse suse-old; do
    rpm_package "$repository" python3-azure-agent "$OLD_RPM" 1.1 "$work/old" 1
done
rpm_package suse python3-azure-agent "$upstream" 1.1 "$work/new" 1
rpmbuild -bb --quiet --define "_topdir $work/rpmbuild" /lab-base.spec
for repository in /srv/packages/rpm/*; do
    cp "$work"/rpmbuild/RPMS/noarch/lab-base-*.rpm "$repository/"
    createrepo_c --quiet "$repository"
done
