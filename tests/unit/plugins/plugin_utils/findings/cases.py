# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the cases of both systems are made of: the facts of a healthy guest with single values changed."""

import copy

from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import WISHES, evaluate
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._thresholds import DEFAULTS

REMOVED = object()
# Not a fact but a choice of the run: "wish:" and its name.
WISH = "wish:"


def changed(base, changes):
    """Return facts with values changed or REMOVED, by path; lists are walked by number, or by the name of their rows."""
    facts = copy.deepcopy(base)
    for path, value in changes.items():
        if path.startswith(WISH):
            facts.setdefault("_wishes", {})[path[len(WISH) :]] = value
            continue
        place = facts
        keys = path.split("/")
        for key in keys[:-1]:
            if isinstance(place, list):
                place = place[int(key)] if key.isdigit() else next(row for row in place if row["name"] == key)
            else:
                place = place[key]
        if value is REMOVED:
            place.pop(keys[-1], None)
        else:
            place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = copy.deepcopy(value)
    return facts


def evaluated(facts, **options):
    """Return the findings of facts with the choices of the run that were changed beside them."""
    return evaluate({key: value for key, value in facts.items() if key != "_wishes"}, wishes=facts.get("_wishes"), **options)


def ids(facts, **options):
    return [finding["id"] for finding in evaluated(facts, **options)]


def both(*parts):
    result = {}
    for part in parts:
        result.update(part)
    return result


def fires(id_, facts, system="linux", **limits):
    """Say whether a finding's rule fires on a system; one that the system does not have never does."""
    row = FINDINGS[id_].get(system)
    return row is not None and bool(list(row.rule(facts, dict(DEFAULTS, **dict(WISHES, **facts.get("_wishes", {}), **limits)))))
