#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# The main job on the lab, as `make demo` runs it: demo.sh INVENTORY
set -euo pipefail
inventory=$1
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
faults=(agent_masked agent_failed agent_missing agent_old agent_old_rpm agent_old_suse agent_stale_pid agent_extensions_disabled
    agent_restart_policy agent_disable_marker)

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

hosts=$(lab/lab names --group healthy | paste -sd, -)
plan=
for fault in "${faults[@]}"; do
    guest=$(lab/lab names --group "$fault" | head -n 1)
    plan+="${plan:+, }\"$guest\": \"$fault\""
    hosts+=,$guest
done

# A Windows guest carries several faults at once. Without what its PowerShell comes in, the demo goes on without Windows.
windows=(win_agent_stopped win_agent_disabled win_strong_crypto_off win_vss_disabled)
lacks=$(lab/lab lacks windows)
reset=()
if [ -n "$lacks" ]; then
    say "Windows guests are left out: $lacks"
else
    guest=$(lab/lab names --group win_agent_stopped)
    plan+=", \"$guest\": [\"$(sed 's/ /", "/g' <<<"${windows[*]}")\"]"
    hosts+=,$(lab/lab names --group healthy_windows),$guest
    reset+=("$guest" "$(lab/lab names --group healthy_windows)")
    faults+=("${windows[@]}")
fi

say "Breaking guests: ${faults[*]}"
# shellcheck disable=SC2046
lab/lab reset "${reset[@]}" $(for fault in "${faults[@]}"; do lab/lab names --group "$fault" | head -n 1; done | sort -u) >/dev/null
# shellcheck disable=SC2046
lab/lab wait-ready $(tr , ' ' <<<"$hosts") >/dev/null
ANSIBLE_DISPLAY_OK_HOSTS=false ANSIBLE_DISPLAY_SKIPPED_HOSTS=false ansible-playbook -i "$inventory" lab/plant.yml -e "{\"lab_plan\": {$plan}}" >"${VMBACKUP_CACHE:-.cache}/plant.log" 2>&1 ||
    { tail -n 40 "${VMBACKUP_CACHE:-.cache}/plant.log"; exit 1; }

say "Resource Manager, a stand-in: the guests are its VMs, their last backups failed, and their own extensions take the next snapshots"
azure=${VMBACKUP_CACHE:-.cache}/demo-azure
errors=
for fault in "${faults[@]}"; do
    case $fault in win_*) continue ;; esac
    errors+=${errors:+,}$(lab/lab names --group "$fault" | head -n 1)=GuestAgentSnapshotTaskStatusError
done
python3 lab/arm --folder "$azure" --failing-guests "$errors" --listed-extension "$(lab/lab names --group agent_restart_policy)"
trap 'python3 lab/arm --stop "$azure"' EXIT
ansible-inventory -i "$azure/failed_backups.yml" --graph backup_failed

say "ansible-playbook vmbackup.azure.remediate -i lab/inventory -i failed_backups.yml"
status=0
# Without the lines of tasks that changed nothing, for the reader of the demo.
ANSIBLE_DISPLAY_OK_HOSTS=false ANSIBLE_DISPLAY_SKIPPED_HOSTS=false \
    ansible-playbook -i "$inventory" -i "$azure/failed_backups.yml" vmbackup.azure.remediate -e "vmbackup_hosts=$hosts" \
    -e "@$azure/sign_in.json" -e vmbackup_await_first_s=15 || status=$?

say "Exit code $status: agent_disable_marker needs consent, since somebody switched that agent off. It is given with
   -e vmbackup_allow_disable_agent_removal=true"
say "The report: $root/vmbackup-report/vmbackup-report.html (and .json)"
# The demo fails when anything but the guest that needs consent is left.
[ "$status" -eq 2 ] && python3 - <<'END'
import json

with open("vmbackup-report/vmbackup-report.json") as stream:
    report = json.load(stream)
hosts = report["hosts"]
if report["problem"] or set(report["backups"]) != {"snapshot taken"}:
    raise SystemExit("The demo went wrong in Azure: {0} {1}".format(report["problem"], report["backups"]))
unexpected = [host["host"] for host in hosts if host["status"] not in ("healthy", "repaired", "left_over")]
left = [host["host"] for host in hosts if host["status"] == "left_over"]
if unexpected or len(left) != 1:
    raise SystemExit("The demo went wrong: {0}".format(", ".join(unexpected + left)))
END
