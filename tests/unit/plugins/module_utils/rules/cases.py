# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the cases of both systems are made of: the facts of a healthy guest with single values changed."""

import copy

from ansible_collections.vmbackup.azure.plugins.module_utils.findings import evaluate, rule_of
from ansible_collections.vmbackup.azure.plugins.module_utils.thresholds import DEFAULTS

REMOVED = object()


def changed(base, changes):
    """Return facts with values changed or REMOVED, by path; lists are walked by number, or by the name of their rows."""
    facts = copy.deepcopy(base)
    for path, value in changes.items():
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


def ids(facts, **options):
    return [finding["id"] for finding in evaluate(facts, **options)]


def both(*parts):
    result = {}
    for part in parts:
        result.update(part)
    return result


def fires(id_, facts, **limits):
    return bool(rule_of(id_)(facts, dict(DEFAULTS, **limits)))
