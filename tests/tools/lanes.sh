#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Run several targets lane-NAME side by side: lanes.sh NAME... Each line says which lane it is of. Ends with 1 when any lane failed, and says again
# what failed there, since the lane that ends last has the last word otherwise.
set -uo pipefail
cd "$(dirname "$0")/../.."
logs=${VMBACKUP_CACHE:-.cache}/lanes
mkdir -p "$logs"
declare -A lanes=()
for name in "$@"; do
    [ ${#lanes[@]} -eq 0 ] || sleep "${LANE_PAUSE_S:-0}"
    ({ make --no-print-directory "lane-$name"; code=$?; echo "The lane took $SECONDS s."; exit $code; } 2>&1 | tee "$logs/$name.log" | sed -u "s/^/[$name] /") &
    lanes[$name]=$!
done
failed=()
for name in "$@"; do
    wait "${lanes[$name]}" || failed+=("$name")
done
[ ${#failed[@]} -gt 0 ] || exit 0
for name in "${failed[@]}"; do
    echo "Lane $name failed:"
    grep -E '^(FAILED|ERROR) |^E  |^fatal: |^CRITICAL|^make.*Error' "$logs/$name.log" | cut -c1-300 | tail -n 12
done
exit 1
