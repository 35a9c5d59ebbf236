# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Write docs/findings.md from the rows of the findings: findings_doc.py [--check] FILE. The values of its examples are in examples.yml."""

import os
import re
import sys

import yaml
from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import CODES
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import FINDINGS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import CAUSES
from ansible_collections.vmbackup.azure.plugins.plugin_utils._thresholds import THRESHOLDS

HEAD = """# Findings

Everything that `vmbackup.azure.diagnose` can find, by cause. Written from the rows of the findings by `make docs`; do not edit.

- **blocker**: backup cannot succeed. **risk**: it may fail. **notice**: worth knowing.
- **auto**: `vmbackup.azure.remediate` repairs it. **consent**: only when the variable named is `true`. **manual**: a person must.
- Each finding names the systems that have it. Findings of Azure print commands of the Azure CLI; nothing runs them. **Windows** says what is different there.
- A finding fires on an observation, never on the lack of one: what could not be read is listed apart in the facts.
"""

TITLES = {
    "connectivity": "the guest cannot reach the Azure host or storage",
    "agent": "the guest agent is missing, old, stopped or misconfigured",
    "extension": "the backup extension does not load or update",
    "snapshot": "the snapshot cannot be taken, or its status cannot be had",
    "azure": "what Azure alone knows, from the facts of the inventory plugin failed_backups",
}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "examples.yml"), encoding="utf-8") as stream:
    EXAMPLES = yaml.safe_load(stream)


def codes_of(id_):
    return [(code, name) for code, (name, finding) in sorted(CODES.items()) if finding == id_]


def values(row):
    """Return the example values of a finding; what is missing for one is an error, not an "unknown" in the document."""
    found = dict(EXAMPLES["defaults"], **EXAMPLES["findings"].get(row.id, {}))
    if codes_of(row.id) and "code" not in found:
        found.update(code=codes_of(row.id)[0][0], name=" ({0})".format(codes_of(row.id)[0][1]))
    return dict(found, **EXAMPLES["findings"].get("{0} {1}".format(row.id, row.on), {}))


def evidence(row):
    template = next(iter(row.evidence.values()))
    known = values(row)
    return re.sub(r"\{(\w+)\}", lambda found: str(known[found.group(1)]), template).replace("`", "'")


def mode(row):
    return "manual" if row.remedy is None else "consent" if row.consent else "auto"


def answer(row):
    return {
        "auto": "`{0}`, done by `vmbackup.azure.remediate`".format(row.remedy),
        "consent": "`{0}`, only with `{1}: true`".format(row.remedy, row.consent),
        "manual": "a person ({0})".format(row.side),
    }[mode(row)]


def on_windows(row, other):
    """Return what is different on a Windows guest, as one line or none."""
    parts = [other.severity.capitalize()] if other.severity != row.severity else []
    parts += [other.title] if other.title != row.title else []
    parts += ["For example `{0}`".format(evidence(other))] if evidence(other) != evidence(row) else []
    parts += [other.action] if other.action != row.action else []
    parts += ["Answered by: {0}".format(answer(other))] if answer(other) != answer(row) else []
    parts += ["Microsoft: <{0}>".format(other.doc)] if other.doc != row.doc else []
    return ["- Windows: " + ". ".join(part.rstrip(".") for part in parts) + "."] if parts else []


def entry(id_):
    rows = FINDINGS[id_]
    row = next(iter(rows.values()))
    systems = " and ".join(system.capitalize() for system in rows) + (" only" if len(rows) == 1 else "")
    lines = [
        "### {0}".format(id_),
        "",
        "{0}. {1}, {2}. {3}.".format(row.title, row.severity.capitalize(), mode(row), systems),
        "",
        "- Evidence, for example: `{0}`".format(evidence(row)),
        "- What to do: {0}".format(row.action),
        "- Answered by: {0}".format(answer(row)),
    ]
    if row.undo:
        lines.append("- Undo: `{0}`".format(row.undo))
    if row.explained_by:
        lines.append("- May follow from: {0}".format(", ".join("[{0}](#{0})".format(other) for other in row.explained_by)))
    if codes_of(id_):
        lines.append("- Result codes of the extension: {0}".format(", ".join(str(code) for code, _name in codes_of(id_))))
    if row.codes:
        lines.append("- Explains: {0}".format(", ".join("`{0}`".format(code) for code in row.codes)))
    lines.append("- Microsoft: <{0}>".format(row.doc))
    return lines + (on_windows(row, rows["windows"]) if len(rows) == 2 else []) + [""]


def document():
    of_cause = {number: [id_ for id_, rows in FINDINGS.items() if next(iter(rows.values())).cause == number] for number in CAUSES}
    lines = [HEAD, "| cause | findings |", "| --- | --- |"]
    for number, cause in sorted(CAUSES.items()):
        links = ", ".join("[{0}](#{0})".format(id_) for id_ in of_cause[number])
        lines.append("| [{0}](#{1}) | {2} |".format(number, cause, links))
    for number, cause in sorted(CAUSES.items()):
        of_what = "Beside the causes of the article" if cause == "azure" else "Cause {0} of the article".format(number)
        lines += ["", "## {0}".format(cause), "", "{0}: {1}.".format(of_what, TITLES[cause]), ""]
        for id_ in of_cause[number]:
            lines += entry(id_)
        lines.pop()
    lines += ["", "## Thresholds", "", "Each can be set with `vmbackup_thresholds` (playbooks) or `thresholds` (module and filter).", ""]
    lines += ["| name | default | unit | why |", "| --- | --- | --- | --- |"]
    lines += ["| `{0}` | {1} | {2} | {3} |".format(*row) for row in THRESHOLDS]
    return "\n".join(lines) + "\n"


def main():
    path = sys.argv[-1]
    wanted = document()
    if "--check" in sys.argv:
        with open(path) as stream:
            if stream.read() != wanted:
                print("{0} is not what the rows say; run: make docs".format(path))
                return 1
        return 0
    with open(path, "w") as stream:
        stream.write(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
