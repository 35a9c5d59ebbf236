# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""What the schema of the facts says, as docs/facts.md and as RETURN of the collectors. tables.py writes both."""

import re

import yaml
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema import FACTS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import FLAG, GROUP, LINUX, NUMBER, SCALAR, TEXT, WINDOWS, Leaf

HEAD = """# What the collector returns: `ansible_facts.vmbackup`

<!-- Written from plugins/plugin_utils/_schema by make docs. -->

One module execution returns one dictionary. Its shape is the same for every system. What a system does not have is `null` there; an area
that was not asked for (`gather_subset`) or could not be read is `null`. Nothing is guessed: *not known* is `null`, never `0`, `""` or
`false`. Times are ISO 8601 in UTC, durations seconds (`_s`) or milliseconds (`_ms`), sizes bytes (`_bytes`).

`[]` is any entry of a list, `*` any name. *Informs* marks what no finding, remedy or report needs: it is there for a person.

"""
KINDS = {TEXT: "text", NUMBER: "number", FLAG: "true or false", SCALAR: "any"}
TYPES = {TEXT: "str", NUMBER: "int", FLAG: "bool", SCALAR: "raw"}
# Numbers that are not whole.
FRACTION = re.compile(r"(percent|_avg\d+|_s|load_1m)$")
SYSTEMS = {LINUX: "Linux", WINDOWS: "Windows", "": ""}


def said(shape):
    """Return (words, system, kind) of a leaf, a mapping or a list."""
    if isinstance(shape, Leaf):
        return shape.words, shape.on, KINDS[shape.kind]
    if isinstance(shape, list):
        words, on, kind = said(shape[0])
        return words, on, "list" if isinstance(shape[0], dict) else "list of {0}s".format(kind)
    return shape[GROUP].words, shape[GROUP].on, "mapping"


def rows(shape, path=""):
    """Yield (dotted path, shape) of everything below a shape, depth first."""
    if isinstance(shape, list):
        yield from rows(shape[0], path + "[]")
    elif isinstance(shape, dict):
        for key, value in shape.items():
            if key != GROUP:
                place = "{0}.{1}".format(path, key) if path else key
                yield place, value
                yield from rows(value, place)


def table(found):
    lines = ["| key | kind | only on | content |\n", "| --- | --- | --- | --- |\n"]
    for path, shape in found:
        words, on, kind = said(shape)
        informs = " *Informs.*" if isinstance(shape, Leaf) and shape.informs else ""
        lines.append("| `{0}` | {1} | {2} | {3}{4} |\n".format(path, kind, SYSTEMS[on], words.replace("|", "\\|"), informs))
    return "".join(lines)


def page():
    areas = [name for name in FACTS if isinstance(FACTS[name], dict)]
    result = HEAD + table(row for row in rows({key: value for key, value in FACTS.items() if key not in areas}))
    for area in areas:
        words, on, _kind = said(FACTS[area])
        only = " {0} guests only.".format(SYSTEMS[on]) if on else ""
        result += "\n## `{0}`\n\n{1}{2}.{3}\n\n".format(area, words[0].upper(), words[1:], only) + table(rows(FACTS[area], area))
    return result


def returned(name, shape, system, depth):
    """Return a shape as RETURN describes it, down to a depth; keys that only another system has are left out."""
    words = said(shape)[0]
    result = {"description": words[0].upper() + words[1:] + ".", "returned": "always"}
    inner = shape[0] if isinstance(shape, list) else shape
    if isinstance(shape, list):
        result.update(type="list", elements="dict" if isinstance(inner, dict) else TYPES[inner.kind])
    else:
        result["type"] = (
            "dict" if isinstance(shape, dict) else "float" if shape.kind == NUMBER and FRACTION.search(name) else TYPES[shape.kind]
        )
    if isinstance(inner, dict) and "*" not in inner:
        keys = {key: value for key, value in inner.items() if key != GROUP and said(value)[1] in ("", system)}
        if depth:
            result["contains"] = {key: returned(key, value, system, depth - 1) for key, value in keys.items()}
        else:
            result["description"] += " Keys: {0}.".format(", ".join("C({0})".format(key) for key in keys))
    return result


def contains(system, indent):
    """Return what is below ``contains`` of the facts, as lines of YAML."""
    facts = {key: value for key, value in FACTS.items() if said(value)[1] in ("", system)}
    text = yaml.safe_dump(
        {key: returned(key, value, system, 1) for key, value in facts.items()}, sort_keys=False, width=140 - indent, allow_unicode=True
    )
    return "".join("{0}{1}\n".format(" " * indent, line) for line in text.splitlines())
