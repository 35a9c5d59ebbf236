#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# make-base.sh ROOT GEM [MIRROR [CACHE]]: a root file system with Wine and PowerShell in it. make-guest.sh adds the stand-ins.
# Needs root and Debian's debootstrap, gcc-mingw-w64-x86-64, mono-mcs. See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${1:?usage: make-base.sh ROOT GEM [MIRROR [CACHE]]}
gem=${2:?usage: make-base.sh ROOT GEM [MIRROR [CACHE]]}
mirror=${3:-http://deb.debian.org/debian}
prefix=$root/wine
drive=$prefix/drive_c
v1=$drive/windows/system32/WindowsPowerShell/v1.0
inside() { chroot "$root" env WINEPREFIX=/wine HOME=/root WINEDEBUG=-all XDG_RUNTIME_DIR=/run PATH=/usr/local/bin:/usr/lib/wine:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

[ -e "$root/etc/debian_version" ] ||
    debootstrap --variant=minbase ${4:+--cache-dir="$4"} --include=wine64,python3,ca-certificates,iproute2,iptables,procps trixie "$root" "$mirror"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,man,locale}/*
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT

inside wine64 wineboot.exe -i
inside wine64 winecfg.exe -v win10
inside wineserver64 -w
rm -f "$prefix/dosdevices/z:" # nothing of the host's file system, and no hang on walking it

work=$(mktemp -d)
tar -xOf "$gem" data.tar.gz | tar -xz -C "$work"
bin=$work/bin/ruby_bin_folder/AMD64
rm -f "$v1/powershell.exe"
cp "$bin"/shared/Microsoft.NETCore.App/*/*.dll "$v1/"
cp "$bin"/vc*.dll "$bin"/msvcp*.dll "$bin"/concrt140.dll "$v1/"
x86_64-w64-mingw32-gcc -municode -O2 -s -Wall -o "$v1/powershell.exe" "$here/powershell.c"
x86_64-w64-mingw32-gcc -O2 -s -Wall -o "$drive/windows/launch.exe" "$here/launch.c"
mcs -target:exe -out:"$v1/powershell.entry.dll" "$here/powershell.cs"

mkdir -p "$v1/ref" # what Add-Type compiles against
for file in "$v1"/{System*,Microsoft.CSharp,Microsoft.Win32*,mscorlib,netstandard}.dll; do
    case ${file##*/} in System.IO.Compression.Native.dll | System.Management.Automation.dll) ;; *) ln -sf "../${file##*/}" "$v1/ref/" ;; esac
done

rm -rf "$work"
mkdir -p "$drive/VmbackupLab"
cp "$here/manifests.ps1" "$drive/VmbackupLab/"
install -m 755 "$here/guest" "$root/usr/local/bin/guest"
inside guest powershell -NoProfile -File 'C:\VmbackupLab\manifests.ps1'
cp "$here"/compiler.{cs,ps1} "$drive/VmbackupLab/"
inside guest powershell -NoProfile -File 'C:\VmbackupLab\compiler.ps1'
mkdir -p "$drive/windows/temp/vmbackup-lab-compiled"
inside wineserver64 -k || true
