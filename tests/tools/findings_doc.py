# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Write docs/findings.md from the catalogue: findings_doc.py [--check] FILE. The evidence shown is what the rules said in the unit tests."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "plugins", "module_utils", "rules"))

import test_rules
import test_windows_rules
from ansible_collections.vmbackup.azure.plugins.module_utils.catalogue import CATALOGUE, CAUSES, ORDER
from ansible_collections.vmbackup.azure.plugins.module_utils.findings import evaluate
from ansible_collections.vmbackup.azure.plugins.module_utils.snapshot_codes import CODES
from ansible_collections.vmbackup.azure.plugins.module_utils.thresholds import THRESHOLDS

HEAD = """# Findings

Everything that `vmbackup.azure.diagnose` can find, by cause, in the order of repair. Written from the catalogue by `make docs`; do not edit.

- **blocker**: backup cannot succeed. **risk**: it may fail. **notice**: worth knowing.
- **auto**: `vmbackup.azure.remediate` repairs it. **consent**: only when the variable named is `true`. **manual**: a person must.
- **Windows** says what is different on a Windows guest; a finding that names no system is the same on both.
- A finding fires on an observation, never on the lack of one: what could not be read is listed apart in the facts.
"""

TITLES = {
    "connectivity": "the guest cannot reach the Azure host or storage",
    "agent": "the guest agent is missing, old, stopped or misconfigured",
    "extension": "the backup extension does not load or update",
    "snapshot": "the snapshot cannot be taken, or its status cannot be had",
}


def evidence(id_):
    if CATALOGUE[id_]["only"] == "windows":
        facts = test_windows_rules.patched(test_windows_rules.CASES[id_][0])
    else:
        changes = test_rules.CASES[id_][0] if id_ in test_rules.CASES else {"extension/snapshot/code": test_rules.CODED[id_][0]}
        facts = test_rules.patched(changes)
    return next(f for f in evaluate(facts) if f["id"] == id_)["evidence"][0]


def answer(row):
    return {
        "auto": "`{remedy}`, done by `vmbackup.azure.remediate`",
        "consent": "`{remedy}`, only with `{consent}: true`",
        "manual": "a person ({side})",
    }[row["mode"]].format(**row)


def on_windows(row):
    """Return what is different on a Windows guest, as one line or none."""
    other = row.get("windows")
    if not other:
        return []
    parts = [other["severity"].capitalize()] if "severity" in other else []
    parts += [other["title"]] if "title" in other else []
    parts += [other["action"]] if "action" in other else []
    text = ". ".join(part.rstrip(".") for part in parts) + "." if parts else "Microsoft writes about it elsewhere."
    if "remedy" in other:
        text += " Answered by: {0}.".format(answer(dict(row, **other)))
    if other.get("doc"):
        text += " Microsoft: <{0}>".format(other["doc"])
    return ["- Windows: " + text]


def entry(id_):
    row = CATALOGUE[id_]
    codes = [str(code) for code, (_name, finding) in sorted(CODES.items()) if finding == id_]
    only = " Windows guests only." if row["only"] == "windows" else ""
    lines = [
        "### {0}".format(id_),
        "",
        "{0}. {1}, {2}.{3}".format(row["title"], row["severity"].capitalize(), row["mode"], only),
        "",
        "- Evidence, for example: `{0}`".format(evidence(id_).replace("`", "'")),
        "- What to do: {0}".format(row["action"]),
        "- Answered by: {0}".format(answer(row)),
    ]
    if row["undo"]:
        lines.append("- Undo: `{0}`".format(row["undo"]))
    if codes:
        lines.append("- Result codes of the extension: {0}".format(", ".join(codes)))
    if row["codes"]:
        lines.append("- Explains: {0}".format(", ".join("`{0}`".format(code) for code in row["codes"])))
    lines += ["- Microsoft: <{0}>".format(row["doc"])] + on_windows(row) + [""]
    return lines


def document():
    lines = [HEAD, "| cause | findings |", "| --- | --- |"]
    for number, cause in sorted(CAUSES.items()):
        ids = [id_ for id_ in ORDER if CATALOGUE[id_]["cause"] == number]
        links = ", ".join("[{0}](#{0})".format(id_) for id_ in ids)
        lines.append("| [{0}](#{1}) | {2} |".format(number, cause, links))
    for number, cause in sorted(CAUSES.items()):
        lines += ["", "## {0}".format(cause), "", "Cause {0} of the article: {1}.".format(number, TITLES[cause]), ""]
        for id_ in ORDER:
            if CATALOGUE[id_]["cause"] == number:
                lines += entry(id_)
        lines.pop()
    lines += ["", "## Limits", "", "Every limit can be set with `vmbackup_thresholds` (playbooks) or `thresholds` (module and filter).", ""]
    lines += ["| name | default | unit | why |", "| --- | --- | --- | --- |"]
    lines += ["| `{0}` | {1} | {2} | {3} |".format(*row) for row in THRESHOLDS]
    return "\n".join(lines) + "\n"


def main():
    path = sys.argv[-1]
    wanted = document()
    if "--check" in sys.argv:
        with open(path) as stream:
            if stream.read() != wanted:
                print("{0} is not what the catalogue says; run: make docs".format(path))
                return 1
        return 0
    with open(path, "w") as stream:
        stream.write(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
