# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a run. Pure: what the hosts returned in, one dictionary out; that dictionary in, HTML and console lines out.

What comes from a guest is text that anybody with access to the guest may have written. Secrets are masked here once more, control
characters are taken out, and HTML is escaped by the template engine.
"""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

import jinja2
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import AREAS, WINDOWS_AREAS
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import clip, redact
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import CAUSES, SEVERITIES
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import BACKUP, BY_NAME
from ansible_collections.vmbackup.azure.plugins.plugin_utils._report_page import PAGE

SCHEMA_VERSION = 1
# Worst first: key, word for people, class of colour.
STATUSES = (
    ("not_reached", "not reached", "bad"),
    ("lost", "lost", "bad"),
    ("failed", "failed", "bad"),
    ("not_started", "not started", "bad"),
    ("left_over", "unresolved", "bad"),
    ("found", "in need of attention", "bad"),
    ("not_seen", "not fully seen", "bad"),
    ("deferred", "deferred", "warn"),
    ("would_repair", "would be repaired", "warn"),
    ("would_undo", "would be undone", "warn"),
    ("azure_only", "looked at in Azure only", "warn"),
    ("in_azure", "handled in Azure only", "warn"),
    ("repaired", "repaired", "good"),
    ("undone", "undone", "good"),
    ("remarks", "healthy, with remarks", "good"),
    ("healthy", "healthy", "good"),
)
WORDS = {key: word for key, word, _colour in STATUSES}
COLOURS = {key: colour for key, _word, colour in STATUSES}
RANK = {key: rank for rank, (key, _word, _colour) in enumerate(STATUSES)}
# What makes a host one that needs a person, whatever its findings are.
TROUBLES = ("not_reached", "lost", "failed", "not_started", "not_seen")
MODES = ("diagnose", "remediate", "undo")
CONSOLE_HOSTS = 20  # further ones are only counted on the console; the files hold all of them
EVIDENCE_LINES = 10
# Areas of the facts that the findings of a cause are decided on.
AREAS_OF_CAUSE = {
    1: ("network",),
    2: ("system", "agent"),
    3: ("system", "agent", "extension"),
    4: ("system", "agent", "extension", "network", "load", "vss"),
}
TEXT_LIMIT = 600
COMMAND_LIMIT = 1200
SKIPPED = "not asked for: "
# Findings that the next recovery point ends.
RENEWED = ("azure_rpo_breached",)
# What is told of a change in Azure.
CHANGE = ("resource", "property", "old", "new")


def text(value: str | None, limit: int = TEXT_LIMIT) -> str | None:
    """Return a guest's text as it may be shown: one line, no control characters, secrets masked."""
    return clip(redact(str(value)), limit) if value not in (None, "") else None


def command(playbook: str, host: str, inventory: list[str], variables: list[str] | tuple[Any, ...] = ()) -> str:
    """Return the command line that a person can copy."""
    words = ["ansible-playbook", "vmbackup.azure." + playbook]
    for source in inventory:
        words += ["-i", source]
    words += ["--limit", host]
    for variable in variables:
        words += ["-e", variable]
    return " ".join(shlex.quote(word) for word in words)


def _list(value: list[Any] | None) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: dict[str, Any] | list[Any] | None) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plan(before: dict[str, Any]) -> dict[str, Any]:
    """Return {finding id: remedy} of what this run was to repair."""
    planned: dict[str, Any] = {}
    for entry in map(_dict, _list(before.get("remedies"))):
        if entry.get("planned"):
            planned.update((id_, str(entry.get("remedy"))) for id_ in _list(entry.get("findings")))
    return planned


def _next(
    finding: dict[str, Any], answers: dict[str, Any], actions: list[dict[str, Any]], planned: dict[str, Any], host: str, run: dict[str, Any]
) -> tuple[Any, ...]:
    """Return (state, what a person does next, command or None) of a finding that is still there.

    :param answers: entries of the plan, by remedy.
    """
    remedy = finding.get("remedy")
    action = text(finding.get("action")) or "See the link."
    if run["mode"] == "diagnose":
        if finding.get("remedy") is None:
            return "left", action, None
        consent = ["{0}=true".format(finding["consent"])] if finding.get("consent") else []
        return "left", action, command("remediate", host, run["inventory"], consent)
    if remedy and any(entry["proved"] for entry in actions if entry["remedy"] == remedy):
        return "repaired", None, None
    if finding["id"] in RENEWED and run["check_mode"] and any(entry["remedy"] == BACKUP and entry["changed"] for entry in actions):
        return "would_repair", "A backup would be started.", None
    if finding["id"] in RENEWED and any(entry["backup"] for entry in actions):
        made = any(entry["proved"] for entry in actions if entry["backup"])
        return ("repaired", None, None) if made else ("deferred", "A backup was started; look again when it has ended.", None)
    if finding.get("remedy") is None:
        return "left", action, None
    if finding["id"] in planned:
        if run["check_mode"]:
            return "would_repair", "Would be repaired by {0}.".format(remedy), command("remediate", host, run["inventory"])
        failed = [entry for entry in actions if entry["remedy"] == remedy and entry["failed"]]
        if failed:
            return "left", "The repair {0} failed. {1}".format(remedy, action), None
        if any(entry["outside"] for entry in actions if entry["remedy"] == remedy):
            return "deferred", "Run this again inside of the maintenance window.", command("remediate", host, run["inventory"])
        waits = [entry for entry in actions if entry["remedy"] in (remedy, "agent.restart") and entry["deferred"]]
        if any(entry["side"] == "azure" for entry in waits):
            return "deferred", "Run this again: {0}".format(waits[0]["text"]), command("remediate", host, run["inventory"])
        if waits:
            return "deferred", "Run this again when no snapshot runs.", command("remediate", host, run["inventory"])
        if not any(entry["remedy"] == remedy for entry in actions):
            return (
                "left",
                "The repair {0} was not reached in this run. {1}".format(remedy, action),
                command("remediate", host, run["inventory"]),
            )
        return "left", "The repair {0} was done, and the finding is still there. {1}".format(remedy, action), None
    if remedy not in BY_NAME:
        return "left", "There is no automatic repair for this yet. {0}".format(action), None
    if answers.get(remedy, {}).get("never"):
        return "left", "Not repaired, since vmbackup_never or vmbackup_never_too names {0}. {1}".format(remedy, action), None
    if answers.get(remedy, {}).get("not_approved"):
        return (
            "left",
            "Not in the plan that was approved, so it was not done. {0}".format(action),
            command("remediate", host, run["inventory"]),
        )
    if answers.get(remedy, {}).get("allowed") and finding["id"] in _list(answers[remedy].get("findings")):
        return "left", "The tags of this run left it out.", command("remediate", host, run["inventory"])
    if finding.get("consent"):
        variable = "{0}=true".format(finding["consent"])
        return (
            "left",
            "Repaired only with your consent ({0}). {1}".format(finding["consent"], action),
            command("remediate", host, run["inventory"], [variable]),
        )
    return "left", action, None


def _gone(
    finding: dict[str, Any], actions: list[dict[str, Any]], unseen: list[dict[str, Any]], host: str, run: dict[str, Any]
) -> tuple[Any, ...]:
    """Return (state, what a person does next, command or None) of a finding that the second look did not bring any more.

    :param unseen: what the second look could not see, though the first could.
    """
    again = command("remediate", host, run["inventory"])
    areas = AREAS_OF_CAUSE.get(finding.get("cause") or 0, ())
    blind = ["{0}: {1}".format(entry.get("what"), entry.get("error")) for entry in unseen if entry.get("area") in areas]
    if blind:
        return (
            "left",
            "Whether it is repaired is not known, since the second look could not see everything ({0}); run this again.".format(
                text("; ".join(blind), 300)
            ),
            again,
        )
    if any(entry["restart"] for entry in actions if entry["remedy"] == finding.get("remedy")):
        for entry in actions:
            if entry["remedy"] == "agent.restart" and entry["deferred"]:
                return "deferred", "Changed, but the agent still runs on what was before. Run this again when no snapshot runs.", again
            if entry["remedy"] == "agent.restart" and entry["failed"]:
                return "left", "Changed, but the agent did not come up on it: {0}".format(entry["text"]), None
    return "repaired", None, None


def _finding(finding: dict[str, Any], state: str, next_: str | None, command_: str | None, remedy: str | None) -> dict[str, Any]:
    return {
        "id": str(finding.get("id")),
        "cause": finding.get("cause"),
        "severity": finding.get("severity") if finding.get("severity") in SEVERITIES else "notice",
        "title": text(finding.get("title")) or str(finding.get("id")),
        "evidence": [text(line) for line in _list(finding.get("evidence"))[:EVIDENCE_LINES]],
        "side": finding.get("side"),
        "codes": [text(code) for code in _list(finding.get("codes"))],
        "doc": text(finding.get("doc")),
        "remedy": remedy,
        "state": state,
        "next": next_,
        "command": command_,
        "commands": [text(line, COMMAND_LIMIT) for line in _list(finding.get("commands"))[:EVIDENCE_LINES]],
        "explains_error_code": finding.get("explains_error_code"),
    }


def _actions(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was done, oldest first, in plain and masked form."""
    result = []
    for entry in _list(record.get("actions")) + _list(record.get("failures")) + _list(record.get("azure")):
        changes = [{key: text(change.get(key)) for key in CHANGE} for change in map(_dict, _list(entry.get("changes")))]
        result.append(
            {
                "remedy": str(entry.get("remedy")),
                "side": "azure" if _is_azure(entry.get("remedy")) else "guest",
                "proved": bool(entry.get("proved")),
                "changes": changes,
                "backup": {key: text(value) for key, value in _dict(entry.get("backup")).items()} or None,
                "text": text(entry.get("text"), 1200) or "",
                "changed": bool(entry.get("changed")),
                "deferred": bool(entry.get("deferred")),
                "outside": bool(entry.get("outside")),
                "failed": bool(entry.get("failed")),
                "restart": bool(entry.get("restart")),
                "undo_point": text(entry.get("undo_point")),
            }
        )
    return result


def _is_azure(remedy: Any) -> bool:
    return remedy in BY_NAME and BY_NAME[remedy].phase != "guest"


def unseen(facts: dict[str, Any]) -> list[str]:
    """Return sentences that say which parts of a guest nobody looked at, none when all was seen. Only that earns an all-clear."""
    system, asked = _dict(facts.get("system")).get("kind"), _list(facts.get("gather_subset"))
    areas = [area for area in AREAS if system == "windows" or area not in WINDOWS_AREAS]
    skipped = [area for area in areas if area not in asked]
    sentences = [SKIPPED + ", ".join(skipped)] if skipped else []
    failed = [area for area in areas if area in asked and not isinstance(facts.get(area), dict)]
    sentences += ["could not be read: " + ", ".join(failed)] if failed else []
    sentences += ["{0}: {1}".format(entry.get("what"), entry.get("error")) for entry in map(_dict, _list(facts.get("errors")))]
    sentences += _list(facts.get("not_visible"))
    return [text(sentence, 300) or "" for sentence in sentences]


def _unseen_reason(sentences: list[str]) -> str:
    shown = "; ".join(sentences[:3]) + (" and {0} more".format(len(sentences) - 3) if len(sentences) > 3 else "")
    return "Nothing was found in what was seen, but not everything was: {0}.".format(shown.rstrip("."))


def _status(host: dict[str, Any], run: dict[str, Any]) -> tuple[Any, ...]:
    """Return (status, reason) of a host whose findings and actions are known."""
    failed = [entry["text"] for entry in host["actions"] if entry["failed"]]
    if failed:
        return "failed", " ".join(failed)
    if any(entry["outside"] for entry in host["actions"]):
        return "deferred", "It was outside of the maintenance window, so nothing was changed then."
    # A backup that is not started now changes nothing of what was repaired.
    waits = [entry for entry in host["actions"] if entry["deferred"] and entry["remedy"] != BACKUP]
    if waits:
        own = [entry["text"] for entry in waits if entry["side"] == "azure"]
        return "deferred", own[0] if own else "A snapshot was running; nothing is done to the agent meanwhile."
    if run["mode"] == "undo":
        if any(entry["changed"] for entry in host["actions"]):
            return ("would_undo" if run["check_mode"] else "undone"), None
        return "healthy", "There was nothing to undo."
    left = [finding for finding in host["findings"] if finding["state"] == "left" and finding["severity"] != "notice"]
    if run["mode"] == "diagnose":
        if left:
            return "found", None
        return _well(host)
    if left and host["stopped"]:
        return "not_started", "The run stopped itself before this host: {0}".format(host["stopped"])
    if left:
        return "left_over", None
    if any(finding["state"] == "would_repair" for finding in host["findings"]):
        return "would_repair", None
    if any(finding["state"] == "repaired" for finding in host["findings"]) or any(entry["changed"] for entry in host["actions"]):
        return "repaired", "Not all of the guest was seen: {0}.".format("; ".join(host["not_seen"][:3]).rstrip(".")) if host[
            "not_seen"
        ] else None
    return _well(host)


def _well(host: dict[str, Any]) -> tuple[Any, ...]:
    """Return (status, reason) of a host without a finding that matters: well only when all of it was seen."""
    if host["not_seen"]:
        return "not_seen", _unseen_reason(host["not_seen"])
    return ("remarks" if host["findings"] else "healthy"), None


def _azure(known: Any) -> str | None:
    """Return what Azure knows of a VM as one line, None where it was not asked."""
    known = _dict(known)
    parts = [
        known.get("power_state"),
        known.get("vault") and "vault {0}".format(known["vault"]),
        known.get("policy") and "policy {0}".format(known["policy"]),
        known.get("failed_since") and "backup fails since {0}".format(known["failed_since"]),
        known.get("error_code") and "with {0}".format(known["error_code"]),
        known.get("last_recovery_point") and "last recovery point {0}".format(known["last_recovery_point"]),
    ]
    said = ", ".join(str(part) for part in parts if part)
    return text("By Azure at {0}: {1}".format(known.get("read_at") or "a time unknown", said)) if said else None


def _without_guest(before: dict[str, Any], actions: list[dict[str, Any]], name: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the findings of a host whose guest brought no facts: those of Azure, where it was asked."""
    answers = {str(entry.get("remedy")): entry for entry in map(_dict, _list(before.get("remedies")))}
    found = []
    for finding in map(_dict, _list(before.get("findings"))):
        state, next_, command_ = _next(finding, answers, actions, _plan(before), name, run)
        found.append(_finding(finding, state, next_, command_, finding.get("remedy")))
    return found


def _in_azure_only(host: dict[str, Any]) -> tuple[str, str | None]:
    """Return (status, reason) of a host whose guest brought no facts, and on which something was done in Azure."""
    failed = [entry["text"] for entry in host["actions"] if entry["failed"]]
    if failed:
        return "failed", " ".join(failed)
    return "in_azure", "The guest itself was not looked at: {0}".format(host["reason"]) if host["reason"] else None


def build_host(name: str, record: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Return the report of one host.

    :param record: ``before`` and ``after`` (results of diagnose), ``actions``, ``failures``, ``lost``, ``lost_before``, ``stopped`` (why the run did
        not start on it); any may be missing.
    """
    before, after = _dict(record.get("before")), _dict(record.get("after"))
    facts = _dict(_dict(before.get("ansible_facts")).get("vmbackup"))
    system = _dict(facts.get("system"))
    host: dict[str, Any] = {
        "host": name,
        "status": None,
        "reason": None,
        "system": text(_dict(system.get("distribution")).get("pretty_name")),
        "azure": _azure(before.get("azure")),
        "error": text(_dict(before.get("azure")).get("error_message")),
        "backup": None,
        "note": text(before.get("note")),
        "not_seen": [],
        "stopped": text(record.get("stopped")),
        "findings": [],
        "actions": _actions(record),
        "undo": None,
    }
    host["backup"] = next((entry["backup"] for entry in reversed(host["actions"]) if entry["backup"]), None)
    if any(entry["undo_point"] for entry in host["actions"]):
        host["undo"] = command("undo", name, run["inventory"])
    ended = _ended_early(before, facts, run)
    if ended:
        host["status"], host["reason"] = ended
        host["findings"] = _without_guest(before, host["actions"], name, run)
        if any(entry["side"] == "azure" and (entry["changed"] or entry["failed"]) for entry in host["actions"]):
            host["status"], host["reason"] = _in_azure_only(host)
            return host
        if ended[0] == "azure_only" and any(finding["severity"] != "notice" for finding in host["findings"]):
            host["status"] = "found"
        return host
    if run["mode"] != "undo":
        again = isinstance(after.get("findings"), list)
        host["not_seen"] = unseen(_dict(_dict(after.get("ansible_facts")).get("vmbackup")) if again else facts)
        planned = _plan(before)
        answers = {str(entry.get("remedy")): entry for entry in map(_dict, _list(before.get("remedies")))}
        present = _list(after.get("findings")) if again else _list(before.get("findings"))
        for finding in present:
            state, next_, command_ = _next(finding, answers, host["actions"], planned, name, run)
            host["findings"].append(_finding(finding, state, next_, command_, finding.get("remedy")))
        if again:
            seen_before = [(entry.get("area"), entry.get("what")) for entry in map(_dict, _list(facts.get("errors")))]
            errors = map(_dict, _list(_dict(_dict(after.get("ansible_facts")).get("vmbackup")).get("errors")))
            blind = [entry for entry in errors if (entry.get("area"), entry.get("what")) not in seen_before]
            ids = {finding.get("id") for finding in present}
            for finding in _list(before.get("findings")):
                if finding.get("id") not in ids:
                    state, next_, command_ = _gone(finding, host["actions"], blind, name, run)
                    host["findings"].append(_finding(finding, state, next_, command_, finding.get("remedy")))
        elif planned and not run["check_mode"] and run["mode"] == "remediate" and not host["stopped"]:
            for finding in host["findings"]:
                if finding["id"] in planned:  # nobody could look again
                    finding.update(
                        state="left",
                        next="Whether the repair helped is not known; run this again.",
                        command=command("remediate", name, run["inventory"]),
                    )
    host["status"], host["reason"] = _lost(record, after) or _status(host, run)
    return host


def _ended_early(before: dict[str, Any], facts: dict[str, Any], run: dict[str, Any]) -> tuple[str, str | None] | None:
    """Return (status, reason) of a host whose guest brought no facts, None where it did."""
    if before.get("unreachable"):
        return "not_reached", text(before.get("msg")) or "No connection."
    if run["mode"] == "undo":
        return None
    if before.get("contacted") is False:
        return "azure_only", text(before.get("reason"))
    if before.get("failed") or not isinstance(before.get("findings"), list):
        return "failed", text(before.get("msg")) or "The diagnosis did not run on this host."
    return None if facts else ("failed", "The diagnosis came back without facts of the guest. Run this again.")


def _lost(record: dict[str, Any], after: dict[str, Any]) -> tuple[str, str | None] | None:
    """Return (status, reason) of a host that stopped answering or could not be looked at again, None where all went on."""
    if record.get("lost") or after.get("unreachable"):
        where = text(record.get("lost_before"))
        return "lost", "The host stopped answering {0}. {1}".format(
            "before " + where if where else "during the run", text(after.get("msg")) or "See whether it is up, then run this again."
        )
    if after.get("failed"):
        return "failed", "The diagnosis after the repair failed: {0}".format(text(after.get("msg")) or "no message")
    return None


def build(records: dict[str, Any], run: dict[str, Any], generated_at: str) -> dict[str, Any]:
    """Return the whole report.

    :param records: {host: record}, see :func:`build_host`.
    :param run: ``mode``, ``check_mode``, ``inventory``.
    :param generated_at: time as ISO 8601 text.
    """
    return total([build_host(name, _dict(records[name]), run) for name in records], run, generated_at)


def total(hosts: list[dict[str, Any]], run: dict[str, Any], generated_at: str) -> dict[str, Any]:
    """Return the whole report of hosts, the worst first."""
    hosts.sort(key=lambda host: (RANK[host["status"]], -_weight(host), host["host"]))
    counts: dict[str, int] = {}
    for host in hosts:
        counts[host["status"]] = counts.get(host["status"], 0) + 1
    troubled = [host["host"] for host in hosts if host["status"] in TROUBLES or blockers(host)]
    return {
        "schema_version": SCHEMA_VERSION,
        "mode": run["mode"],
        "check_mode": run["check_mode"],
        "generated_at": generated_at,
        "hosts_total": len(hosts),
        "counts": {key: counts[key] for key in sorted(counts, key=RANK.__getitem__)},
        "troubled": troubled,
        "stopped": next((host["stopped"] for host in hosts if host["stopped"]), None),
        "problem": text(run.get("problem")),
        "backups": dict(sorted(Counter(host["backup"]["result"] for host in hosts if host["backup"]).items())),
        "hosts": hosts,
    }


def blockers(host: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the findings of a host that still keep backup from working and that this run did not, or would not, repair."""
    return [f for f in host["findings"] if f["severity"] == "blocker" and f["state"] in ("left", "deferred")]


def _weight(host: dict[str, Any]) -> int:
    worth = {"blocker": 10000, "risk": 100, "notice": 1}
    return sum(worth[finding["severity"]] for finding in host["findings"] if finding["state"] != "repaired")


def headline(report: dict[str, Any]) -> str:
    """Return the report in one sentence."""
    total = report["hosts_total"]
    noun = "host" if total == 1 else "hosts"
    if not total:
        return "No host was looked at."
    if set(report["counts"]) == {"healthy"}:
        done = "nothing to undo" if report["mode"] == "undo" else "nothing found"
        return "{0} {1} looked at, {2}.{3}".format(total, noun, done, " " + report["problem"] if report["problem"] else "")
    parts = ["{0} {1}".format(number, WORDS[key]) for key, number in report["counts"].items()]
    stopped = " The run stopped itself: {0}".format(report["stopped"]) if report["stopped"] else ""
    check = " Check mode: nothing was changed." if report["check_mode"] else ""
    if report["backups"]:
        check += " Backups: {0}.".format(", ".join("{0} {1}".format(number, key) for key, number in report["backups"].items()))
    check += " {0}".format(report["problem"]) if report["problem"] else ""
    skipped = sorted({line for host in report["hosts"] for line in host["not_seen"] if line.startswith(SKIPPED)})
    stopped += "".join(" {0}.".format(line[0].upper() + line[1:]) for line in skipped)
    return "{0} {1}: {2}.{3}{4}".format(total, noun, ", ".join(parts), stopped, check)


def reasons(report: dict[str, Any]) -> dict[str, Any]:
    """Return {host: one sentence} for the hosts that still need a person."""
    result = {}
    troubled = set(report["troubled"])
    for host in report["hosts"]:
        if host["host"] in troubled:
            left = [finding["title"] for finding in blockers(host)]
            sentence = host["reason"] or "{0}: {1}.".format(WORDS[host["status"]].capitalize(), "; ".join(left))
            result[host["host"]] = sentence
    return result


def failure(report: dict[str, Any]) -> str | None:
    """Return the sentence that ends a run with an error, None when all is well."""
    troubled = report["troubled"]
    if not report["hosts_total"]:
        return "No host was looked at."
    if not troubled:  # what the whole run could not do is no trouble of a host
        problem: str | None = report["problem"]
        return problem
    names = ", ".join(troubled[:10]) + (" and {0} more".format(len(troubled) - 10) if len(troubled) > 10 else "")
    return "{0} of {1} hosts still need a person: {2}.".format(len(troubled), report["hosts_total"], names)


def console(report: dict[str, Any]) -> list[Any]:
    """Return the report as (colour, line) pairs: colour is bad, warn, good or None."""
    lines: list[tuple[str | None, str]] = [(None, headline(report))]
    shown = [host for host in report["hosts"] if host["status"] not in ("healthy",)]
    for host in shown[:CONSOLE_HOSTS]:
        lines.append(
            (
                COLOURS[host["status"]],
                "{0}: {1}{2}".format(text(host["host"]), WORDS[host["status"]], ". " + host["reason"] if host["reason"] else ""),
            )
        )
        if host["azure"]:
            lines.append((None, "  {0}".format(host["azure"])))
        if host["error"]:
            lines.append((None, "  {0}".format(host["error"])))
        for finding in host["findings"]:
            if finding["state"] == "repaired":
                lines.append((None, "  repaired  {0}".format(finding["title"])))
                continue
            colour = "bad" if finding["severity"] == "blocker" and finding["state"] == "left" else None
            lines.append((colour, "  {0:<9} {1} [{2}]".format(finding["severity"], finding["title"], finding["id"])))
            for evidence in finding["evidence"][:2]:
                lines.append((None, "            {0}".format(evidence)))
            if finding["next"]:
                lines.append((None, "            next: {0}".format(finding["next"])))
            if finding["state"] == "left":
                lines += [(None, "            {0}".format(line)) for line in [finding["command"], *finding["commands"]] if line]
        for entry in host["actions"]:
            if entry["changed"] and not entry["failed"]:
                place = "in Azure: " if entry["side"] == "azure" else ""
                lines.append((None, "  {0} {1}{2}".format("would do " if report["check_mode"] else "done     ", place, entry["text"])))
            elif entry["remedy"] == BACKUP and not entry["failed"]:
                lines.append((None, "  backup    {0}".format(entry["text"])))
        if host["backup"]:
            colour = {"snapshot taken": "good", "backed up": "good", "failed": "bad"}.get(host["backup"]["result"], "warn")
            lines.append((colour, "  outcome   {0}".format(host["backup"]["result"])))
        if host["undo"]:
            lines.append((None, "  undo      {0}".format(host["undo"])))
    if len(shown) > CONSOLE_HOSTS:
        lines.append((None, "... and {0} more hosts, all of them in the report.".format(len(shown) - CONSOLE_HOSTS)))
    return lines


def _tone(finding: dict[str, Any]) -> str:
    if finding["state"] == "repaired":
        return "good"
    if finding["state"] in ("would_repair", "deferred"):
        return "warn"
    return {"blocker": "bad", "risk": "warn"}.get(finding["severity"], "good")


def html(report: dict[str, Any]) -> str:
    """Return the report as one HTML file without external resources or scripts."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page: str = environment.from_string(PAGE).render(
        report=report,
        headline=headline(report),
        troubled=[host for host in report["hosts"] if host["status"] != "healthy"],
        healthy=[text(host["host"]) for host in report["hosts"] if host["status"] == "healthy"],
        words=WORDS,
        colours=COLOURS,
        causes=dict(CAUSES),
        state_words={"left": "left", "repaired": "repaired", "would_repair": "would be repaired", "deferred": "deferred"},
        tone=_tone,
    )
    return page
