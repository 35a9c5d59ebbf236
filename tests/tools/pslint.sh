#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# pslint.sh [FILE...]: check .ps1 and .psm1 files (without names: those of plugins) by the parser of the lab's PowerShell, and first check itself.
# PSLINT_PWSH: another command that takes PowerShell's arguments and sees the files at their paths.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -n "${PSLINT_PWSH:-}" ]; then
    read -ra run <<<"$PSLINT_PWSH"
else
    lacks=$("$root/lab/lab" lacks windows)
    [ -z "$lacks" ] || { echo "SKIPPED pslint: $lacks"; exit 0; }
    run=("$root/lab/lab" pwsh --share "$root" --)
fi
check() { "${run[@]}" -NoProfile -File "$root/tests/tools/pslint.ps1" "$@" | tr -d '\r'; }

bad=$root/tests/unit/fixtures/pslint/bad.ps1
said=$(check "$bad") && { echo "pslint does not refuse $bad"; exit 1; }
wrong=0
while IFS=: read -r line text; do
    words=${text##*#! }
    grep -qF -- "$words" <<<"$(grep -E "bad\.ps1:$line: " <<<"$said")" || { echo "pslint does not say \"$words\" of line $line of $bad"; wrong=1; }
done < <(grep -n '#! ' "$bad")
[ $wrong = 0 ] || { echo "$said"; exit 1; }

if [ $# -eq 0 ]; then
    mapfile -t files < <(cd "$root" && git ls-files -co --exclude-standard 'plugins/*.ps1' 'plugins/*.psm1' | sed "s|^|$root/|")
else
    mapfile -t files < <(realpath -- "$@")
fi
check "${files[@]}" && echo "pslint: ${#files[@]} files hold nothing that Windows PowerShell 5.1 lacks."
