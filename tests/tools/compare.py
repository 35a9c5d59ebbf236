# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Compare what the rules of another commit say with what they say now, on the facts of every unit case: compare.py COMMIT [FACTS.json ...].

For a change of structure: findings, evidence, consents and remedies must stay. Ends with 1 and a list when anything differs.
"""

import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
KEYS = ("id", "cause", "severity", "title", "evidence", "remedy", "consent", "side", "codes", "action", "doc")
# Runs in the other tree: facts in, findings out.
EVALUATE = """
import json, sys
try:
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate
except ImportError:
    from ansible_collections.vmbackup.azure.plugins.module_utils.findings import evaluate as before
    from ansible_collections.vmbackup.azure.plugins.module_utils.windows.vss import backup_type

    def evaluate(facts, wishes=None):
        if "vss_backup_type" in (wishes or {}):
            facts["vss"]["backup_type"] = backup_type(wishes["vss_backup_type"], wishes["vss_article"])
        return before(facts)
result = {}
for name, facts in json.load(sys.stdin).items():
    try:
        wishes = facts.pop("_wishes", None)
        result[name] = evaluate(facts, wishes=wishes)
    except ValueError as error:
        result[name] = str(error)
json.dump(result, sys.stdout)
"""


def cases():
    """Return {name: facts} of every case of the rules' unit tests."""
    sys.path.insert(0, os.path.join(ROOT, "tests", "unit", "plugins", "plugin_utils", "findings"))
    import linux_cases
    import test_windows_rules

    found = {}
    for system, module in (("linux", linux_cases), ("windows", test_windows_rules)):
        for id_, row in module.CASES.items():
            for number, part in enumerate(row):
                changes = part[0] if isinstance(part, tuple) else part
                if isinstance(changes, dict):
                    found["{0}/{1}/{2}".format(system, id_, number)] = module.patched(changes)
    return found


def evaluated(root, facts):
    """Return {name: findings} by the code below root."""
    with tempfile.TemporaryDirectory() as place:
        os.makedirs(os.path.join(place, "ansible_collections", "vmbackup"))
        os.symlink(root, os.path.join(place, "ansible_collections", "vmbackup", "azure"))
        environment = dict(os.environ, PYTHONPATH=place)
        command = [sys.executable, "-c", EVALUATE]
        done = subprocess.run(command, input=json.dumps(facts), stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def shown(findings):
    """Return what must stay of findings, by id."""
    if isinstance(findings, str):
        return {"error": findings}
    return {finding["id"]: {key: finding.get(key) for key in KEYS} for finding in findings}


def differences(before, after):
    for name in sorted(after):
        old, new = shown(before.get(name, [])), shown(after[name])
        for id_ in sorted(set(old) | set(new)):
            if old.get(id_) != new.get(id_):
                yield "{0}: {1}\n  before: {2}\n  now:    {3}".format(name, id_, json.dumps(old.get(id_)), json.dumps(new.get(id_)))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    facts = cases()
    for path in sys.argv[2:]:
        with open(path) as stream:
            facts[path] = json.load(stream)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", place, sys.argv[1]], check=True)
        try:
            before = evaluated(place, facts)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", place], check=True)
    found = list(differences(before, evaluated(ROOT, facts)))
    print("\n".join(found))
    print("{0} sets of facts, {1} differences.".format(len(facts), len(found)))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
