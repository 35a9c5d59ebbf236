# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Write what restates the tables of remedies, findings and facts: tables.py [--check]. A part of a file is between two lines with ``generated:``."""

import os
import re
import sys

import facts_doc
import yaml
from ansible_collections.vmbackup.azure.plugins.action import diagnose
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _engine
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.act import phases
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import BY_NAME, CONSENT_PREFIX, CONSENTS, REMEDIES, SYSTEMS

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
# Those of Azure are modules, done once for the fleet; the others are entry points of roles.
OF_GUESTS = [remedy for remedy in REMEDIES if remedy.phase == "guest"]
PART = r"(?ms)^(?P<head>[^\n]*generated: {0}\b[^\n]*\n).*?(?=^[^\n]*generated: end)"


def consent_table():
    return "| variable | allows |\n| --- | --- |\n" + "".join(
        "| `{0}{1}` | {2} |\n".format(CONSENT_PREFIX, name, text) for name, text in CONSENTS.items()
    )


def remedy_table():
    lines = ["| remedy | what it does | Linux | Windows | Azure | consent |\n", "| --- | --- | --- | --- | --- | --- |\n"]
    for remedy in REMEDIES:
        on = ["yes" if system in remedy.on else "" for system in SYSTEMS]
        consents = ", ".join("`{0}{1}`".format(CONSENT_PREFIX, name) for name in remedy.consents)
        lines.append("| `{0}` | {1} | {2} | {3} | {4} | {5} |\n".format(remedy.name, remedy.title, *on, consents))
    return "".join(lines)


def consent_comments():
    width = max(map(len, CONSENTS)) + len(CONSENT_PREFIX)
    return "".join("#   {0}  {1}\n".format((CONSENT_PREFIX + name).ljust(width), text.replace("`", "")) for name, text in CONSENTS.items())


def allow():
    return "vmbackup_consents:\n" + "".join(
        '  {0}{1}: "{{{{ {0}{1} | default(false) | bool }}}}"\n'.format(CONSENT_PREFIX, name) for name in CONSENTS
    )


def order():
    return "__vmbackup_order:\n" + "".join("  - {0}\n".format(remedy.name) for remedy in OF_GUESTS)


def always_asked(remedy, system):
    """Return the consent that every finding of a system asks for before a remedy, None where one finding asks for none or another."""
    asked = {row.consent for row in _engine.rows(system) if row.remedy == remedy.name}
    return asked.pop() if len(asked) == 1 else None


def remedy_vars():
    rows = {}
    for remedy in OF_GUESTS:
        consents = {system: always_asked(remedy, system) for system in remedy.on}
        rows[remedy.name] = {
            "title": remedy.title,
            "on": list(remedy.on),
            "areas": list(remedy.areas),
            "restart": remedy.restart,
            "consent": {system: consent for system, consent in consents.items() if consent},
        }
    return yaml.dump({"vmbackup_remedies": rows}, Dumper=Indented, sort_keys=False, width=150)


class Indented(yaml.SafeDumper):
    """Lists are indented below their key, as the linter asks."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)


with open(os.path.join(ROOT, "tests", "tools", "roles.yml"), encoding="utf-8") as stream:
    ROLES = yaml.safe_load(stream)
HEAD = "# SPDX-License" + "-Identifier: GPL-3.0-or-later\n# Copyright: vmbackup.azure contributors\n---\n"
WRITTEN = "# Written from the table of remedies by make docs.\n"
# Options of every repair, and those that only some need.
RUN = {
    "vmbackup_restart_later": {
        "type": "bool", "default": False, "only": "restart",
        "description": "Whether the caller restarts the agent once at its end (C(restart)), when something that was changed asks for it.",
    },
    "vmbackup_snapshot_poll_s": {"type": "int", "default": 10, "description": "Seconds between two looks at a running snapshot."},
    "vmbackup_snapshot_wait_s": {
        "type": "int", "default": 600, "description": "Seconds to wait for a running snapshot before the repair is deferred.",
    },
    "vmbackup_undo_days": {
        "type": "int", "default": 90, "description": "Days after which what is kept for undo expires. 0 keeps it for ever.",
    },
    "vmbackup_verbose_logging": {
        "type": "str", "default": "unset", "only": "agent.verbose_logging",
        "description": 'What the agent should log, V("on") or V("off"); V(unset) only remarks on verbose logging.',
    },
    "vmbackup_vss_article": {
        "type": "str", "default": "2025-11", "choices": ["2025-11", "2016-10"], "only": "snapshot.vss_copy_backup",
        "description": "Which of Microsoft's two articles to follow, since they contradict each other.",
    },
    "vmbackup_vss_backup_type": {
        "type": "str", "default": "unset", "choices": ["unset", "copy_only", "full"], "only": "snapshot.vss_copy_backup",
        "description": "VSS backup type to enforce. V(unset) leaves it alone.",
    },
}  # fmt: skip


def remedies_of(role):
    return [remedy for remedy in REMEDIES if remedy.role == role]


def options_of(remedy):
    """Return the options of an entry point by name: those of the role, those of the run, its consents."""
    found = {name: option for name, option in ROLES["options"].items() if remedy.name in option["entries"]}
    for name, option in RUN.items():
        if option.get("only", remedy.name) in (remedy.name, "restart" if remedy.restart else remedy.name):
            found[name] = option
    for name in remedy.consents:
        text = "Consent to what it names: {0}.".format(CONSENTS[name].replace("`", ""))
        found[CONSENT_PREFIX + name] = {"type": "bool", "default": False, "description": text}
    return {name: found[name] for name in sorted(found)}


def specs(role):
    entries = {
        "main": {
            "short_description": "Refuses to run without an entry point",
            "description": "Names the entry points and stops. Nothing is changed.",
            "options": {},
        }
    }
    for remedy in remedies_of(role):
        options = {}
        for name, option in options_of(remedy).items():
            options[name] = {key: value for key, value in option.items() if key not in ("entries", "only")}
        entries[remedy.entry_point] = {
            "short_description": remedy.title,
            "description": ROLES["entries"][remedy.name],
            "options": options,
        }
    return HEAD + WRITTEN + yaml.dump({"argument_specs": entries}, Dumper=Indented, sort_keys=False, width=150)


def defaults(role):
    own = {name: option["default"] for name, option in sorted(ROLES["options"].items()) if name.startswith(role + "_")}
    return HEAD + WRITTEN + yaml.dump(own, Dumper=Indented, sort_keys=False, width=150)


def entry_point(remedy):
    return (
        HEAD
        + WRITTEN
        + (
            "- name: {title}\n  ansible.builtin.include_role:\n    name: vmbackup.azure.repair\n    tasks_from: apply\n"
            "  vars:\n    vmbackup_remedy: {name}\n"
        ).format(title=remedy.title, name=remedy.name)
    )


def refusal(role):
    names = [remedy.entry_point for remedy in remedies_of(role)]
    listed = ", ".join(names[:-1]) + " or " + names[-1]
    return (
        HEAD
        + WRITTEN
        + (
            "- name: Say that the role needs to be told what to do\n  ansible.builtin.fail:\n    msg: >-\n"
            "      Name what vmbackup.azure.{0} is to do: use ansible.builtin.include_role with tasks_from set to\n      {1}.\n      Nothing was changed.\n"
        ).format(role, listed)
    )


def entry_table(role):
    lines = ["| entry point | what it does | Linux | Windows | may ask for |\n", "| --- | --- | --- | --- | --- |\n"]
    for remedy in remedies_of(role):
        on = ["yes" if system in remedy.on else "" for system in ("linux", "windows")]
        consents = ", ".join("`{0}{1}`".format(CONSENT_PREFIX, name) for name in remedy.consents)
        lines.append("| `{0}` | {1} | {2} | {3} | {4} |\n".format(remedy.entry_point, ROLES["entries"][remedy.name], *on, consents))
    return "".join(lines)


def variable_table(role):
    found = {}
    for remedy in remedies_of(role):
        found.update(options_of(remedy))
    lines = ["| variable | default | meaning |\n", "| --- | --- | --- |\n"]
    for name in sorted(found):
        default = yaml.safe_dump(found[name]["default"], default_flow_style=True).replace("...", "").strip().replace("''", '""')
        text = re.sub(
            r'V\("?(\w+)"?\)|C\((\w+)\)', lambda match: "`{0}`".format(match.group(1) or match.group(2)), found[name]["description"]
        )
        lines.append("| `{0}` | `{1}` | {2} |\n".format(name, default, text))
    return "".join(lines)


# What a survey may ask: variable, question, type, choices. Consents are no questions: they are set by the administrator of a template.
def _choices(name):
    return list(diagnose.OPTIONS[name]["choices"])


QUESTIONS = {
    "vmbackup_error_code": ("Error code of the failed job, as Azure shows it", "text", None),
    "vmbackup_vss_backup_type": ("VSS backup type to enforce on Windows", "multiplechoice", _choices("vss_backup_type")),
    "vmbackup_verbose_logging": ("What the agent on Linux should log", "multiplechoice", _choices("verbose_logging")),
    "vmbackup_snapshot_wait_s": ("Seconds to come back to guests whose snapshot runs", "integer", None),
    "vmbackup_backup": ("Which VMs to back up at the end", "multiplechoice", list(phases.CHOICES)),
    "vmbackup_max_failures": ("Stop when repairs failed on more hosts than this", "integer", None),
    "vmbackup_undo_point": ("Name of one undo point; empty means all that were not undone yet", "text", None),
    "vmbackup_undo_force": ("Take back what somebody changed after the repair, too", "multiplechoice", ["true", "false"]),
}
SURVEYS = {
    "diagnose": ["vmbackup_error_code"],
    "remediate": [
        "vmbackup_error_code",
        "vmbackup_vss_backup_type",
        "vmbackup_verbose_logging",
        "vmbackup_snapshot_wait_s",
        "vmbackup_backup",
        "vmbackup_max_failures",
    ],
    "undo": ["vmbackup_undo_point", "vmbackup_undo_force"],
    "workflow": ["vmbackup_error_code"],
}


def survey(name):
    spec = []
    for variable in SURVEYS[name]:
        text, kind, choices = QUESTIONS[variable]
        question = {"question_name": text, "question_description": variable, "required": False, "type": kind, "variable": variable}
        spec.append(dict(question, choices=choices) if choices else question)
    return {"name": "", "description": "", "spec": spec}


def awx_vars():
    """Return surveys of AWX and the consents that its templates may have."""
    values = {"awx_surveys": {name: survey(name) for name in SURVEYS}, "awx_consents": [CONSENT_PREFIX + name for name in CONSENTS]}
    return HEAD + WRITTEN + yaml.dump(values, Dumper=Indented, sort_keys=False, width=150)


CAUSES = ("connectivity", "agent", "extension", "snapshot")
PARTS = [
    ("README.md", "consents", consent_table),
    ("README.md", "remedies", remedy_table),
    ("playbooks/remediate.yml", "consents", consent_comments),
    ("playbooks/vars/run.yml", "order", order),
    ("roles/repair/vars/main/remedies.yml", "consents", allow),
    ("roles/repair/vars/main/remedies.yml", "table", remedy_vars),
    ("plugins/modules/guest_facts.py", "facts", lambda: facts_doc.contains("linux", 8)),
    ("plugins/modules/win_guest_facts.yml", "facts", lambda: facts_doc.contains("windows", 10)),
]
for _role in CAUSES:
    PARTS.append(("roles/{0}/README.md".format(_role), "entries", lambda role=_role: entry_table(role)))
    PARTS.append(("roles/{0}/README.md".format(_role), "variables", lambda role=_role: variable_table(role)))


def files():
    """Return {path: text} of the files that are written as a whole."""
    result = {"docs/facts.md": facts_doc.page(), "roles/awx/vars/main/surveys.yml": awx_vars()}
    for role in CAUSES:
        result["roles/{0}/meta/argument_specs.yml".format(role)] = specs(role)
        result["roles/{0}/defaults/main.yml".format(role)] = defaults(role)
        result["roles/{0}/tasks/main.yml".format(role)] = refusal(role)
    for remedy in OF_GUESTS:
        result["roles/{0}/tasks/{1}.yml".format(remedy.role, remedy.entry_point)] = entry_point(remedy)
    return result


def put(path, wanted):
    """Write a file where it is not what is wanted; return whether it was not."""
    place = os.path.join(ROOT, path)
    present = None
    if os.path.exists(place):
        with open(place, encoding="utf-8") as stream:
            present = stream.read()
    if present == wanted:
        return False
    if "--check" not in sys.argv:
        with open(place, "w", encoding="utf-8") as stream:
            stream.write(wanted)
    return True


def main():
    stale = [path for path, wanted in files().items() if put(path, wanted)]
    for path, part, make in PARTS:
        with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
            text = stream.read()
        pattern = PART.format(part)
        if not re.search(pattern, text):
            sys.exit("{0} has no lines with generated: {1} and generated: end.".format(path, part))
        if put(path, re.sub(pattern, lambda found, make=make: found.group("head") + make(), text, count=1)):
            stale.append(path)
    unknown = sorted(set(ROLES["entries"]) - set(BY_NAME))
    if unknown:
        sys.exit("tests/tools/roles.yml names no remedies: {0}.".format(", ".join(unknown)))
    if stale and "--check" in sys.argv:
        sys.exit("Not what the tables say: {0}; run: make docs".format(", ".join(sorted(set(stale)))))


if __name__ == "__main__":
    main()
