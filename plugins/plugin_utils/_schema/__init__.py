# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The facts of a guest: every key with its kind and what it says. docs/facts.md and RETURN of the collectors are generated from here.

Every value may be null, though no entry of a list, and every key may be missing; keys that are not listed are let through. In SHAPE
``{"*": x}`` is a mapping with names of its own, ``[x]`` a list of x.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._agent import AGENT
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._extension import EXTENSION
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import FLAG, NUMBER, SCALAR, TEXT, group, number, plain, text
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._network import NETWORK
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._system import LOAD, SYSTEM, VSS

# Beyond every size, age and count of a real guest; what is larger would only break the arithmetic.
LARGEST = 10**18

FACTS = {
    "schema_version": number("version of the shape of these facts: 1"),
    "collected_at": text("when the collection began"),
    "duration_ms": number("how long it took on the guest", informs=True),
    "gather_subset": [text("the areas that were looked at: agent, extension, network, load, on Windows vss too")],
    "system": SYSTEM,
    "errors": [
        group(
            "probes that failed, each with its own reason",
            {"area": text("the area"), "what": text("what was tried"), "error": text("what came back")},
        )
    ],
    "not_visible": [text("what could not be seen, and why: most often no root, no administrator")],
    "agent": AGENT,
    "extension": EXTENSION,
    "network": NETWORK,
    "load": LOAD,
    "vss": VSS,
}
SHAPE = plain(FACTS)


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a text"
    # Not a number fails every comparison.
    return "a number" if -LARGEST <= value <= LARGEST else "a number beyond every limit"


def _expected(shape: dict[str, Any]) -> str:
    return shape if isinstance(shape, str) else _said(shape)


def _scalar_fits(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted in (FLAG, SCALAR)
    if isinstance(value, (int, float)):
        # not a number and the infinities fail every comparison or this one
        return wanted in (NUMBER, SCALAR) and -LARGEST <= value <= LARGEST
    return isinstance(value, str) and wanted in (TEXT, SCALAR)


def problem(facts: Any, shape: Any = None, path: str = "") -> str | None:
    """Return one sentence on the first value that has another kind than docs/facts.md says, None when all fit."""
    shape = SHAPE if shape is None else shape
    if facts is None:
        return None
    if isinstance(shape, dict):
        if not isinstance(facts, dict):
            return "{0} is {1}, a mapping is expected".format(path or "the whole", _said(facts))
        inside = [(str(key), facts[key], shape.get(key, shape.get("*"))) for key in facts]
    elif isinstance(shape, list):
        if not isinstance(facts, (list, tuple)):
            return "{0} is {1}, a list is expected".format(path, _said(facts))
        if any(value is None for value in facts):
            return "{0} holds null, where {1} is expected".format(path, _expected(shape[0]))
        inside = [(str(number), value, shape[0]) for number, value in enumerate(facts)]
    else:
        return None if _scalar_fits(facts, shape) else "{0} is {1}, {2} is expected".format(path, _said(facts), shape)
    for key, value, wanted in inside:
        if wanted is not None:
            found = problem(value, wanted, path + "." + key if path else key)
            if found:
                return found
    return None
