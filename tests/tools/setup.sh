#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Set up what a target needs: setup.sh [main|cores|fleet|azurite|published|python36]... Kept in .cache until its recipe changes.
set -euo pipefail
export LC_ALL=C.UTF-8 # Python 3.6 cannot unpack names beyond ASCII in the locale C
cd "$(dirname "$0")/../.."
cache=${VMBACKUP_CACHE:-$PWD/.cache}
mkdir -p "$cache"
azurite=azurite@3.35.0

say() { printf '%s\n' "$*" >&2; }

# Print the path of a Python of that version: the system's, or one that pyenv keeps; nothing when there is none.
find_python() {
    local version=$1 path root
    root=${PYENV_ROOT:-$(command -v pyenv >/dev/null 2>&1 && pyenv root || true)}
    for path in /usr/bin/python"$version" ${root:+"$root"/versions/"$version".*/bin/python} /usr/local/bin/python"$version"; do
        if [ -x "$path" ] && "$path" -c 'import venv, ensurepip' 2>/dev/null; then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 1
}

# make_venv NAME PYTHON REQUIREMENT...: a virtual environment that is made anew when its recipe changes.
make_venv() {
    local name=$1 python=$2 recipe
    shift 2
    recipe="$python $* $(cat tests/requirements.txt)"
    [ "$(cat "$cache/$name/recipe" 2>/dev/null)" = "$recipe" ] && return 0
    say "Setting up $name ($("$python" --version))"
    rm -rf "${cache:?}/$name"
    "$python" -m venv "$cache/$name"
    # The pip that comes with Python 3.6 does not ask which Python a package needs.
    case $name in python36) "$cache/$name/bin/python" -m pip install --quiet --disable-pip-version-check 'pip==21.3.1' 2>/dev/null ;; esac
    "$cache/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$cache/$name.log" 2>&1 || { cat "$cache/$name.log" >&2; say "Could not install $* into $name."; exit 1; }
    printf '%s' "$recipe" >"$cache/$name/recipe"
}

link_tree() {
    mkdir -p "$cache/tree/ansible_collections/vmbackup"
    ln -sfn "$PWD" "$cache/tree/ansible_collections/vmbackup/azure"
}

main() {
    local python
    python=$(find_python 3.11) || {
        say "Installing Debian's Python (python3 python3-venv)"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
        python=$(find_python 3.11) || { say "There is no Python 3.11 with venv. On Debian 12: apt-get install python3-venv"; exit 1; }
    }
    make_venv venv "$python" -r tests/requirements.txt
    link_tree
    needed
}

# The collections that ours needs, taken out of the package `ansible` of PyPI, so that no Galaxy server is needed.
needed() {
    local recipe='ansible==12.3.0 ansible.windows awx.awx' wheel
    [ "$(cat "$cache/needed/recipe" 2>/dev/null)" = "$recipe" ] && return 0
    say "Fetching ansible.windows and awx.awx"
    rm -rf "$cache/needed" "$cache/wheel"
    "$cache/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: -d "$cache/wheel" "${recipe%% *}"
    for wheel in "$cache"/wheel/ansible-*.whl; do
        "$cache/venv/bin/python" - "$wheel" "$cache/needed" <<'END'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith(("ansible_collections/ansible/windows/", "ansible_collections/awx/awx/"))])
END
    done
    rm -rf "$cache/wheel"
    printf '%s' "$recipe" >"$cache/needed/recipe"
}

for part in "${@:-main}"; do
    case $part in
        main) main ;;
        cores)
            make_venv core-2.16 "$(find_python 3.11)" 'ansible-core==2.16.*' 'pywinrm==0.5.*'
            if python=$(find_python 3.12); then
                make_venv core-2.21 "$python" 'ansible-core==2.21.*' 'pywinrm==0.5.*'
            else
                say "SKIPPED core-2.21: ansible-core 2.21 needs Python 3.12, and neither the system nor pyenv has it."
            fi
            ;;
        # What runs the collection elsewhere: event-driven, in an execution environment, by ansible-runner.
        fleet)
            command -v java >/dev/null || { say "Installing Debian's Java runtime"; apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless >/dev/null; } ||
                say "SKIPPED ansible-rulebook: there is no Java runtime, and it cannot be installed here."
            make_venv fleet "$(find_python 3.11)" 'ansible-core==2.19.*' 'pywinrm==0.5.*' 'ansible-rulebook==1.3.*' 'ansible-builder==3.*' 'ansible-navigator>=25'
            ;;
        published)
            make_venv published "$(find_python 3.11)" 'ansible-core==2.19.*' 'galaxy-importer==0.4.*' 'antsibull-docs==2.*' 'sphinx==8.*' 'sphinx-ansible-theme==0.10.*'
            ;;
        # Microsoft's own emulator of Azure Storage.
        azurite)
            if ! command -v npm >/dev/null; then
                say "SKIPPED azurite: there is no npm."
            elif [ ! -x "$cache/azurite/node_modules/.bin/azurite-blob" ] || [ "$(cat "$cache/azurite/recipe" 2>/dev/null)" != "$azurite" ]; then
                say "Setting up $azurite"
                rm -rf "$cache/azurite" && mkdir -p "$cache/azurite"
                # A registry that does not answer is waited for by npm for many minutes.
                if timeout 300 npm install --silent --no-audit --no-fund --fetch-retries=2 --fetch-retry-maxtimeout=10000 --fetch-timeout=30000 \
                    --prefix "$cache/azurite" "$azurite" >"$cache/azurite.log" 2>&1; then
                    printf '%s' "$azurite" >"$cache/azurite/recipe"
                else
                    say "SKIPPED azurite: npm could not install it: $(tail -1 "$cache/azurite.log")"
                    rm -rf "$cache/azurite"
                fi
            fi
            ;;
        python36)
            if python=$(find_python 3.6); then
                make_venv python36 "$python" 'pytest==7.0.*' 'ansible-core==2.11.*' 'jinja2<3.1'
            else
                say "SKIPPED python36: neither the system nor pyenv has Python 3.6."
            fi
            ;;
        *) say "setup.sh: there is no part called $part; the parts are main, cores, fleet, azurite, published, python36."; exit 2 ;;
    esac
done
