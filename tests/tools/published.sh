#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# What Galaxy and a documentation site make of the archive: the importer that Galaxy itself runs, and the pages as HTML.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${VMBACKUP_CACHE:-$PWD/.cache}
place=$cache/published-run
export PATH=$cache/published/bin:$PATH
rm -rf "$place" && mkdir -p "$place/rst"

# ansible-test sanity runs on three cores elsewhere; the importer's own needs a container.
cat >"$place/importer.cfg" <<'END'
[galaxy-importer]
RUN_ANSIBLE_TEST = False
RUN_ANSIBLE_DOC = True
RUN_ANSIBLE_LINT = True
OFFLINE_ANSIBLE_LINT = True
CHECK_CHANGELOG = True
CHECK_REQUIRED_TAGS = True
REQUIRE_V1_OR_GREATER = False
END
archive=$(ls "$cache"/build/vmbackup-azure-*.tar.gz)
log=$place/importer.log
# The importer says what it refuses and what it only remarks on in its log; both are to be nothing here.
if ! (cd "$place" && GALAXY_IMPORTER_CONFIG=$place/importer.cfg python -m galaxy_importer.main "$archive") >"$log" 2>&1 ||
    ! grep -q 'Importer processing completed successfully' "$log" || grep -iqE '^(warning|error|critical)|traceback' "$log"; then
    tail -n 30 "$log"
    echo "Galaxy would refuse, or remark on, the archive."
    exit 1
fi
echo "galaxy-importer: takes the archive without a remark."

chmod 755 "$place/rst" # antsibull-docs refuses a directory that others can write to
export ANSIBLE_COLLECTIONS_PATH=$cache/collections:$cache/needed
antsibull-docs collection --cleanup everything --fail-on-error --use-current --squash-hierarchy --dest-dir "$place/rst" vmbackup.azure >"$place/rst.log" 2>&1 || { tail -n 20 "$place/rst.log"; exit 1; }
sphinx-build -b html -q -C -D extensions=sphinx_antsibull_ext -D html_theme=sphinx_ansible_theme -D pygments_style=ansible "$place/rst" "$place/site" >"$place/site.log" 2>&1 || { tail -n 20 "$place/site.log"; exit 1; }
# Labels of other sites cannot be followed from here; ours must lead somewhere.
if grep -E 'WARNING|ERROR' "$place/site.log" | grep -vE "undefined label: '(ansible_collections\.(ansible|azure)\.|common_return_values|action_plugins|ansible_configuration_settings)"; then
    echo "The documentation site has the warnings above."
    exit 1
fi
echo "documentation site: $(find "$place/site" -name '*.html' | wc -l) pages, no link of ours that leads nowhere."
