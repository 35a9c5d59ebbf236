#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# ansible-test sanity, without ignores, for one core: sanity.sh 2.16|2.19|2.21
# ansible-test wants a real directory .../ansible_collections/vmbackup/azure, so the tracked and new files are copied to one.
set -euo pipefail
cd "$(dirname "$0")/../.."
core=${1:?usage: sanity.sh CORE}
cache=${VMBACKUP_CACHE:-$PWD/.cache}
venv=$cache/core-$core
[ "$core" = 2.19 ] && venv=$cache/venv
if [ ! -x "$venv/bin/ansible-test" ]; then
    echo "SKIPPED sanity on core $core: it is not installed (see tests/tools/setup.sh)."
    exit 0
fi
tree=$cache/sanity-$core/ansible_collections/vmbackup/azure
mkdir -p "$tree"
find "$tree" -mindepth 1 -maxdepth 1 ! -name tests -exec rm -rf {} +
rm -rf "$tree/tests"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done |
    tar --null -T - -cf - | tar -xf - -C "$tree"
# Not part of what is installed, and with tools of their own in make check.
rm -rf "$tree/playbooks/collections" "$tree/lab" "$tree/.ci" "$tree/bench" "$tree/extensions" "$tree/docs/article.md"
cd "$tree"
git init -q . && git add -A
python=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# ansible-test fetches get-pip by address; ensurepip gives the same, offline.
mkdir -p ~/.ansible/test/cache
for version in 20_3_4 21_3_1 23_1_2 24_2 25_2; do
    stand_in=~/.ansible/test/cache/get_pip_$version.py
    [ -e "$stand_in" ] || printf 'import ensurepip\nensurepip.bootstrap(upgrade=True, default_pip=True)\n' >"$stand_in"
done
# validate-modules reads the options of .ps1 modules with a command called pwsh: the lab's Windows guests have one.
lab=$OLDPWD/lab/lab
skip=(--skip-test pslint)
echo "SKIPPED sanity test pslint on core $core: PSScriptAnalyzer is not on PyPI or in Debian; tests/tools/pslint has a check of its own."
mkdir -p "$cache/pwsh"
lacks=$("$lab" lacks windows)
if [ -n "$lacks" ]; then
    echo "SKIPPED sanity of .ps1 modules on core $core: $lacks"
    git ls-files 'plugins/modules/*.ps1' | while read -r file; do
        name=$(basename "${file%.ps1}")
        rm -f "$file" "${file%.ps1}.yml" "${file%.ps1}.py" "plugins/action/$name.py"
    done
else
    # ansible-test hands no environment on.
    {
        echo '#!/bin/sh'
        for name in VMBACKUP_POWERSHELL_GEM VMBACKUP_LAB_CACHE; do [ -z "${!name:-}" ] || printf "export %s='%s'\n" "$name" "${!name}"; done
        # On a busy machine Wine's PowerShell now and then ends without a word; what it was asked for is JSON, never nothing.
        printf 'for _try in 1 2 3; do\n  answer=$("%s" pwsh --share "%s" --share /tmp -- "$@") || exit $?\n' "$lab" "$cache"
        printf '  [ -z "$answer" ] || break\ndone\nprintf "%%s\\n" "$answer"\n'
    } >"$cache/pwsh/pwsh"
    chmod 755 "$cache/pwsh/pwsh"
fi
path=$venv/bin:$cache/pwsh:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
env PATH="$path" "$venv/bin/ansible-test" sanity --local --python "$python" --color no "${skip[@]}" ${SANITY_ARGS:-}
