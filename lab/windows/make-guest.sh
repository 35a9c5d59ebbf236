#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# make-guest.sh ROOT: put the stand-ins and the layout of a healthy guest on Azure into a root file system of make-base.sh.
# Needs root and Debian's gcc-mingw-w64-x86-64, wixl. See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${1:?usage: make-guest.sh ROOT}
drive=$root/wine/drive_c
v1=$drive/windows/system32/WindowsPowerShell/v1.0
inside() { chroot "$root" env WINEPREFIX=/wine HOME=/root WINEDEBUG=-all XDG_RUNTIME_DIR=/run PATH=/usr/local/bin:/usr/lib/wine:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT
work=$(mktemp -d)

# The stand-ins: programs, with a version where one is looked at; PowerShell modules; what they print.
program() { # program SOURCE TARGET [VERSION]
    local more=()
    mkdir -p "$(dirname "$2")"
    if [ -n "${3:-}" ]; then
        x86_64-w64-mingw32-windres -D VERSION_COMMAS="${3//./,}" -D VERSION_DOTS="$3" "$here/stand-ins/program.rc" "$work/version.o"
        more=("$work/version.o")
    fi
    x86_64-w64-mingw32-gcc -O2 -s -Wall -o "$2" "$here/stand-ins/$1" "${more[@]}" -lshell32
}
lab=$drive/VmbackupLab
agent=2.7.41491.1176
rm -f "$drive/windows/system32/netsh.exe" "$drive/windows/system32/schtasks.exe"
program printer.c "$drive/windows/system32/vssadmin.exe"
program printer.c "$drive/windows/system32/netsh.exe"
program schtasks.c "$drive/windows/system32/schtasks.exe"
program system_hive.c "$drive/windows/system32/system_hive.exe"
program service.c "$drive/windows/system32/VmbackupLabService.exe"
program service.c "$drive/WindowsAzure/Packages/WaAppAgent.exe" $agent
program service.c "$drive/WindowsAzure/GuestAgent_${agent}_2026-01-12_101500/WindowsAzureGuestAgent.exe" $agent
program service.c "$lab/agent-2.7.1198.778/WindowsAzureGuestAgent.exe" 2.7.1198.778
program service.c "$lab/agent-2.7.1198.778/WaAppAgent.exe" 2.7.1198.778
plugin=$drive/Packages/Plugins/Microsoft.Azure.RecoveryServices.VMSnapshot/1.0.81.0
program service.c "$plugin/IaaSBcdrExtension.exe" 1.0.81.0
program service.c "$plugin/iaasvmprovider.dll" 1.0.81.0
program service.c "$drive/windows/system32/IaaSVmProvider.exe" 1.0.81.0
cp -r "$here/stand-ins/files/." "$drive/"
# The agent's installer, newer than what is installed.
for name in WaAppAgent WindowsAzureGuestAgent; do program service.c "$work/$name.exe" 2.7.41491.1210; done
(cd "$work" && wixl -a x64 -o "$lab/agent.msi" "$here/stand-ins/agent.wxs" 2>/dev/null)
for module in "$here"/stand-ins/powershell/*/; do
    [ -d "$module" ] && cp -r "$module" "$v1/Modules/"
done
rm -rf "$work"

cp "$here/seed.ps1" "$here/boot.ps1" "$lab/"
install -m 755 "$here/guest" "$root/usr/local/bin/guest"
install -m 755 "$here/winrm_listener.py" "$root/usr/local/bin/winrm_listener"
install -m 755 "$here/netkeeper.py" "$root/usr/local/bin/netkeeper"
install -m 755 "$here/fingerprint.py" "$root/usr/local/bin/fingerprint"
inside guest powershell -NoProfile -File 'C:\VmbackupLab\seed.ps1'
inside wineserver64 -k || true
