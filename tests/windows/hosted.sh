#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Collector and writers on a real Windows Server with Windows PowerShell 5.1: from WSL on that server, over WinRM to itself.
# Needs VMBACKUP_PASSWORD, the password of the administrator `backup`. The job windows.yml runs it; it cannot run on the lab.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${VMBACKUP_PASSWORD:?the password of the administrator backup}"
make --no-print-directory install
address=$(ip route show default | awk '{print $3; exit}')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/hosts.yml" <<EOF
all:
  hosts:
    server:
      ansible_host: $address
      ansible_connection: winrm
      ansible_port: 5986
      ansible_user: backup
      ansible_password: "{{ lookup('ansible.builtin.env', 'VMBACKUP_PASSWORD') }}"
      ansible_winrm_transport: ntlm
      ansible_winrm_server_cert_validation: ignore
EOF
export ANSIBLE_COLLECTIONS_PATH=$PWD/.cache/collections:$PWD/.cache/needed PATH=$PWD/.cache/venv/bin:$PATH
ansible-playbook -i "$work/hosts.yml" tests/windows/hosted.yml
