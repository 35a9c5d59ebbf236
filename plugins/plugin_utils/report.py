# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a run. Pure: what the hosts returned in, one dictionary out; that dictionary in, HTML and console lines out.

What comes from a guest is text that anybody with access to the guest may have written. Secrets are masked here once more, control
characters are taken out, and HTML is escaped by the template engine.
"""

from __future__ import annotations

import shlex

import jinja2
from ansible_collections.vmbackup.azure.plugins.module_utils.redact import clip, redact

SCHEMA_VERSION = 1
SEVERITIES = ("blocker", "risk", "notice")
# Worst first: key, word for people, class of colour.
STATUSES = (
    ("not_reached", "not reached", "bad"),
    ("lost", "lost", "bad"),
    ("failed", "failed", "bad"),
    ("left_over", "left over", "bad"),
    ("found", "in need of attention", "bad"),
    ("deferred", "deferred", "warn"),
    ("would_repair", "would be repaired", "warn"),
    ("would_undo", "would be undone", "warn"),
    ("repaired", "repaired", "good"),
    ("undone", "undone", "good"),
    ("remarks", "healthy, with remarks", "good"),
    ("healthy", "healthy", "good"),
)
WORDS = {key: word for key, word, _colour in STATUSES}
COLOURS = {key: colour for key, _word, colour in STATUSES}
RANK = {key: rank for rank, (key, _word, _colour) in enumerate(STATUSES)}
CAUSES = {1: "connectivity", 2: "agent", 3: "extension", 4: "snapshot"}
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


def text(value, limit=TEXT_LIMIT):
    """Return a guest's text as it may be shown: one line, no control characters, secrets masked."""
    return clip(redact(str(value)), limit) if value not in (None, "") else None


def command(playbook, host, inventory, variables=()):
    """Return the command line that a person can copy."""
    words = ["ansible-playbook", "vmbackup.azure." + playbook]
    for source in inventory:
        words += ["-i", source]
    words += ["--limit", host]
    for variable in variables:
        words += ["-e", variable]
    return " ".join(shlex.quote(word) for word in words)


def _list(value):
    return value if isinstance(value, list) else []


def _dict(value):
    return value if isinstance(value, dict) else {}


def _plan(before, run):
    """Return {finding id: remedy} of what this run was to repair."""
    planned = {}
    for entry in _list(before.get("remedies")):
        name = str(entry.get("remedy"))
        if entry.get("allowed") and name in run["remedies"] and name.partition(".")[0] in run["tags"]:
            planned.update((id_, name) for id_ in _list(entry.get("findings")))
    return planned


def _next(finding, remedy, actions, planned, host, run):
    """Return (state, what a person does next, command or None) of a finding that is still there."""
    action = text(finding.get("action")) or "See the link."
    if run["mode"] == "diagnose":
        if finding.get("remedy") is None:
            return "left", action, None
        consent = ["{0}=true".format(finding["consent"])] if finding.get("consent") else []
        return "left", action, command("remediate", host, run["inventory"], consent)
    if finding.get("remedy") is None:
        return "left", action, None
    if finding["id"] in planned:
        if run["check_mode"]:
            return "would_repair", "Would be repaired by {0}.".format(remedy), command("remediate", host, run["inventory"])
        failed = [entry for entry in actions if entry["remedy"] == remedy and entry["failed"]]
        if failed:
            return "left", "The repair {0} failed. {1}".format(remedy, action), None
        if any(entry["deferred"] for entry in actions if entry["remedy"] in (remedy, "agent.restart")):
            return "deferred", "Run this again when no snapshot runs.", command("remediate", host, run["inventory"])
        if not any(entry["remedy"] == remedy for entry in actions):
            return (
                "left",
                "The repair {0} was not reached in this run. {1}".format(remedy, action),
                command("remediate", host, run["inventory"]),
            )
        return "left", "The repair {0} was done, and the finding is still there. {1}".format(remedy, action), None
    if remedy not in run["remedies"]:
        return "left", "There is no automatic repair for this yet. {0}".format(action), None
    if remedy.partition(".")[0] not in run["tags"]:
        return "left", "The tags of this run left it out.", command("remediate", host, run["inventory"])
    if finding.get("consent"):
        variable = "{0}=true".format(finding["consent"])
        return (
            "left",
            "Repaired only with your consent ({0}). {1}".format(finding["consent"], action),
            command("remediate", host, run["inventory"], [variable]),
        )
    return "left", action, None


def _gone(finding, actions, unseen, host, run):
    """Return (state, what a person does next, command or None) of a finding that the second look did not bring any more.

    :param unseen: what the second look could not see, though the first could.
    """
    again = command("remediate", host, run["inventory"])
    areas = AREAS_OF_CAUSE.get(finding.get("cause"), ())
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


def _finding(finding, state, next_, command_, remedy):
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
        "explains_error_code": finding.get("explains_error_code"),
    }


def _actions(record):
    """Return what was done, oldest first, in plain and masked form."""
    result = []
    for entry in _list(record.get("actions")) + _list(record.get("failures")):
        result.append(
            {
                "remedy": str(entry.get("remedy")),
                "text": text(entry.get("text"), 1200) or "",
                "changed": bool(entry.get("changed")),
                "deferred": bool(entry.get("deferred")),
                "failed": bool(entry.get("failed")),
                "restart": bool(entry.get("restart")),
                "undo_point": text(entry.get("undo_point")),
            }
        )
    return result


def _status(host, run):
    """Return (status, reason) of a host whose findings and actions are known."""
    failed = [entry["text"] for entry in host["actions"] if entry["failed"]]
    if failed:
        return "failed", " ".join(failed)
    if any(entry["deferred"] for entry in host["actions"]):
        return "deferred", "A snapshot was running; nothing is done to the agent meanwhile."
    if run["mode"] == "undo":
        if any(entry["changed"] for entry in host["actions"]):
            return ("would_undo" if run["check_mode"] else "undone"), None
        return "healthy", "There was nothing to undo."
    left = [finding for finding in host["findings"] if finding["state"] == "left" and finding["severity"] != "notice"]
    if run["mode"] == "diagnose":
        if left:
            return "found", None
        return ("remarks" if host["findings"] else "healthy"), None
    if left:
        return "left_over", None
    if any(finding["state"] == "would_repair" for finding in host["findings"]):
        return "would_repair", None
    if any(finding["state"] == "repaired" for finding in host["findings"]) or any(entry["changed"] for entry in host["actions"]):
        return "repaired", None
    return ("remarks" if host["findings"] else "healthy"), None


def build_host(name, record, run):
    """Return the report of one host.

    :param record: ``before`` and ``after`` (results of diagnose), ``actions``, ``failures``, ``lost``, ``lost_before``; any may be missing.
    """
    before, after = _dict(record.get("before")), _dict(record.get("after"))
    facts = _dict(_dict(before.get("ansible_facts")).get("vmbackup"))
    system = _dict(facts.get("system"))
    host = {
        "host": name,
        "status": None,
        "reason": None,
        "system": text(_dict(system.get("distribution")).get("pretty_name")),
        "note": text(before.get("note")),
        "not_visible": [text(line) for line in _list(facts.get("not_visible"))[:EVIDENCE_LINES]],
        "findings": [],
        "actions": _actions(record),
        "undo": None,
    }
    if any(entry["undo_point"] for entry in host["actions"]):
        host["undo"] = command("undo", name, run["inventory"])
    if before.get("unreachable"):
        host["status"], host["reason"] = "not_reached", text(before.get("msg")) or "No connection."
        return host
    if run["mode"] != "undo":
        if before.get("failed") or not isinstance(before.get("findings"), list):
            host["status"], host["reason"] = "failed", text(before.get("msg")) or "The diagnosis did not run on this host."
            return host
        again = isinstance(after.get("findings"), list)
        planned = _plan(before, run)
        present = _list(after.get("findings")) if again else _list(before.get("findings"))
        for finding in present:
            state, next_, command_ = _next(finding, finding.get("remedy"), host["actions"], planned, name, run)
            host["findings"].append(_finding(finding, state, next_, command_, finding.get("remedy")))
        if again:
            seen_before = [(entry.get("area"), entry.get("what")) for entry in map(_dict, _list(facts.get("errors")))]
            errors = map(_dict, _list(_dict(_dict(after.get("ansible_facts")).get("vmbackup")).get("errors")))
            unseen = [entry for entry in errors if (entry.get("area"), entry.get("what")) not in seen_before]
            ids = {finding.get("id") for finding in present}
            for finding in _list(before.get("findings")):
                if finding.get("id") not in ids:
                    state, next_, command_ = _gone(finding, host["actions"], unseen, name, run)
                    host["findings"].append(_finding(finding, state, next_, command_, finding.get("remedy")))
        elif planned and not run["check_mode"] and run["mode"] == "remediate":
            for finding in host["findings"]:
                if finding["id"] in planned:  # nobody could look again
                    finding.update(
                        state="left",
                        next="Whether the repair helped is not known; run this again.",
                        command=command("remediate", name, run["inventory"]),
                    )
    if record.get("lost") or after.get("unreachable"):
        where = text(record.get("lost_before"))
        host["status"] = "lost"
        host["reason"] = "The host stopped answering {0}. {1}".format(
            "before " + where if where else "during the run", text(after.get("msg")) or "See whether it is up, then run this again."
        )
        return host
    if after.get("failed"):
        host["status"], host["reason"] = (
            "failed",
            "The diagnosis after the repair failed: {0}".format(text(after.get("msg")) or "no message"),
        )
        return host
    host["status"], host["reason"] = _status(host, run)
    return host


def build(records, run, generated_at):
    """Return the whole report.

    :param records: {host: record}, see :func:`build_host`.
    :param run: ``mode``, ``check_mode``, ``remedies`` (those that exist), ``tags`` (causes that were to be repaired), ``inventory``.
    :param generated_at: time as ISO 8601 text.
    """
    hosts = [build_host(name, _dict(records[name]), run) for name in records]
    hosts.sort(key=lambda host: (RANK[host["status"]], -_weight(host), host["host"]))
    counts = {}
    for host in hosts:
        counts[host["status"]] = counts.get(host["status"], 0) + 1
    troubled = [host["host"] for host in hosts if host["status"] in ("not_reached", "lost", "failed") or blockers(host)]
    return {
        "schema_version": SCHEMA_VERSION,
        "mode": run["mode"],
        "check_mode": run["check_mode"],
        "generated_at": generated_at,
        "hosts_total": len(hosts),
        "counts": {key: counts[key] for key in sorted(counts, key=RANK.get)},
        "troubled": troubled,
        "hosts": hosts,
    }


def blockers(host):
    """Return the findings of a host that still keep backup from working and that this run did not, or would not, repair."""
    return [f for f in host["findings"] if f["severity"] == "blocker" and f["state"] in ("left", "deferred")]


def _weight(host):
    worth = {"blocker": 10000, "risk": 100, "notice": 1}
    return sum(worth[finding["severity"]] for finding in host["findings"] if finding["state"] != "repaired")


def headline(report):
    """Return the report in one sentence."""
    total = report["hosts_total"]
    noun = "host" if total == 1 else "hosts"
    if not total:
        return "No host was looked at."
    if set(report["counts"]) == {"healthy"}:
        done = "nothing to undo" if report["mode"] == "undo" else "nothing found"
        return "{0} {1} looked at, {2}.".format(total, noun, done)
    parts = ["{0} {1}".format(number, WORDS[key]) for key, number in report["counts"].items()]
    return "{0} {1}: {2}.{3}".format(total, noun, ", ".join(parts), " Check mode: nothing was changed." if report["check_mode"] else "")


def reasons(report):
    """Return {host: one sentence} for the hosts that still need a person."""
    result = {}
    troubled = set(report["troubled"])
    for host in report["hosts"]:
        if host["host"] in troubled:
            left = [finding["title"] for finding in blockers(host)]
            sentence = host["reason"] or "{0}: {1}.".format(WORDS[host["status"]].capitalize(), "; ".join(left))
            result[host["host"]] = sentence
    return result


def failure(report):
    """Return the sentence that ends a run with an error, None when all is well."""
    troubled = report["troubled"]
    if not troubled:
        return None
    names = ", ".join(troubled[:10]) + (" and {0} more".format(len(troubled) - 10) if len(troubled) > 10 else "")
    return "{0} of {1} hosts still need a person: {2}.".format(len(troubled), report["hosts_total"], names)


def console(report):
    """Return the report as (colour, line) pairs: colour is bad, warn, good or None."""
    lines = [(None, headline(report))]
    shown = [host for host in report["hosts"] if host["status"] not in ("healthy",)]
    for host in shown[:CONSOLE_HOSTS]:
        lines.append(
            (
                COLOURS[host["status"]],
                "{0}: {1}{2}".format(text(host["host"]), WORDS[host["status"]], ". " + host["reason"] if host["reason"] else ""),
            )
        )
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
            if finding["command"] and finding["state"] == "left":
                lines.append((None, "            {0}".format(finding["command"])))
        for entry in host["actions"]:
            if entry["changed"] and not entry["failed"]:
                lines.append((None, "  {0} {1}".format("would do " if report["check_mode"] else "done     ", entry["text"])))
        if host["undo"]:
            lines.append((None, "  undo      {0}".format(host["undo"])))
    if len(shown) > CONSOLE_HOSTS:
        lines.append((None, "... and {0} more hosts, all of them in the report.".format(len(shown) - CONSOLE_HOSTS)))
    return lines


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Azure VM backup: {{ headline }}</title>
<style>
:root { color-scheme: light dark; --fg: #1b1f24; --bg: #fff; --soft: #f3f4f6; --line: #d5d9de; --dim: #57606a;
  --bad: #b3261e; --warn: #8a5a00; --good: #1a7f37; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --fg: #e6e8eb; --bg: #14171a; --soft: #1e2227; --line: #363c44; --dim: #9aa4af;
  --bad: #ff8a80; --warn: #f0b849; --good: #6fdd8b; --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.25rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg); }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; } h3 { font-size: 1rem; margin: 0; }
p { margin: .35rem 0; } a { color: var(--link); }
.dim { color: var(--dim); font-size: .9rem; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: 1rem 0; list-style: none; }
.counts li { border: 1px solid var(--line); border-left: .35rem solid; border-radius: .3rem; padding: .3rem .75rem; background: var(--soft); }
.counts b { font-size: 1.4rem; margin-right: .35rem; }
.bad { border-color: var(--bad) !important; } .warn { border-color: var(--warn) !important; } .good { border-color: var(--good) !important; }
.word { font-weight: 600; } .word.bad { color: var(--bad); } .word.warn { color: var(--warn); } .word.good { color: var(--good); }
section { border: 1px solid var(--line); border-left: .35rem solid; border-radius: .3rem; padding: .75rem 1rem; margin: .9rem 0; break-inside: avoid-page; }
article { border-top: 1px solid var(--line); margin-top: .75rem; padding-top: .6rem; break-inside: avoid; }
article.repaired h3 { color: var(--dim); }
ul { margin: .25rem 0; padding-left: 1.2rem; }
code { font: .88rem/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
.command { display: block; background: var(--soft); border: 1px solid var(--line); border-radius: .3rem; padding: .4rem .6rem;
  white-space: pre-wrap; user-select: all; }
.names { overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } section { border-left-width: 2px; } a { color: inherit; } }
</style>
</head>
<body>
<h1>{{ headline }}</h1>
<p class="dim">{{ {"diagnose": "Diagnosis", "remediate": "Diagnosis and repair", "undo": "Undo"}[report.mode] }} of {{ report.generated_at }}.
{% if report.check_mode %}Check mode: nothing was changed anywhere.{% endif %}</p>
<ul class="counts">
{% for key, number in report.counts.items() %}<li class="{{ colours[key] }}"><b>{{ number }}</b>{{ words[key] }}</li>
{% endfor %}</ul>
{% if report.mode == "remediate" and not report.check_mode %}<p class="dim">Repaired means that the guest is ready for a backup. Only a backup
proves that it works: start one now for the repaired machines.</p>{% endif %}
{% for host in troubled %}<section class="{{ colours[host.status] }}">
<h2>{{ host.host }} <span class="word {{ colours[host.status] }}">{{ words[host.status] }}</span></h2>
{% if host.system %}<p class="dim">{{ host.system }}</p>{% endif %}
{% if host.reason %}<p>{{ host.reason }}</p>{% endif %}
{% if host.note %}<p>{{ host.note }}</p>{% endif %}
{% for finding in host.findings %}<article class="{{ finding.state }}">
<h3>{{ finding.title }}</h3>
<p class="dim"><span class="word {{ tone(finding) }}">{{ state_words[finding.state] if finding.state != "left" else finding.severity }}</span>
&middot; {{ finding.id }}{% if causes.get(finding.cause) %} &middot; cause: {{ causes[finding.cause] }}{% endif %}
{% if finding.side == "azure" %}&middot; to be solved in Azure{% endif %}
{% if finding.explains_error_code %}&middot; explains the error code of the job{% endif %}{% if finding.doc and finding.doc.startswith("https://") %}
&middot; <a href="{{ finding.doc }}" rel="noreferrer">documentation</a>{% endif %}</p>
{% if finding.evidence %}<ul>{% for line in finding.evidence %}<li><code>{{ line }}</code></li>{% endfor %}</ul>{% endif %}
{% if finding.next %}<p><b>Next:</b> {{ finding.next }}</p>{% endif %}
{% if finding.command %}<code class="command">{{ finding.command }}</code>{% endif %}
</article>
{% endfor %}{% if host.actions %}<article><h3>{{ "What would be done" if report.check_mode else "What was done" }}</h3>
<ul>{% for entry in host.actions %}<li>{% if entry.failed %}<span class="word bad">failed</span> {% elif entry.deferred %}<span class="word warn">put off</span>
{% endif %}<b>{{ entry.remedy }}</b>: {{ entry.text }}</li>{% endfor %}</ul>
{% if host.undo %}<p>Undo all of it:</p><code class="command">{{ host.undo }}</code>{% endif %}</article>
{% endif %}{% if host.not_visible %}<p class="dim">Could not be seen: {{ host.not_visible | join("; ") }}</p>{% endif %}
</section>
{% endfor %}{% if healthy %}<section class="good"><h2>{{ healthy | length }}
<span class="word good">{{ "nothing to undo" if report.mode == "undo" else "healthy" }}</span></h2>
<p class="names">{{ healthy | join(", ") }}</p></section>{% endif %}
</body>
</html>
"""


def _tone(finding):
    if finding["state"] == "repaired":
        return "good"
    if finding["state"] in ("would_repair", "deferred"):
        return "warn"
    return {"blocker": "bad", "risk": "warn"}.get(finding["severity"], "good")


def html(report):
    """Return the report as one HTML file without external resources or scripts."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(PAGE).render(
        report=report,
        headline=headline(report),
        troubled=[host for host in report["hosts"] if host["status"] != "healthy"],
        healthy=[text(host["host"]) for host in report["hosts"] if host["status"] == "healthy"],
        words=WORDS,
        colours=COLOURS,
        causes={**CAUSES, None: None},
        state_words={"left": "left", "repaired": "repaired", "would_repair": "would be repaired", "deferred": "put off"},
        tone=_tone,
    )
