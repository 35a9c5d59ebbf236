# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report as one HTML page: a template, which escapes what it shows."""

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
{% if report.problem %}<p><b>{{ report.problem }}</b></p>{% endif %}
{% if report.backups %}<p>Backups on demand: {% for key, number in report.backups.items() %}{{ number }} {{ key }}{{ ", " if not loop.last }}{% endfor %}.
A snapshot that is taken proves that the guest does its part; the transfer to the vault goes on.</p>
{% elif report.mode == "remediate" and not report.check_mode %}<p class="dim">Repaired means that the guest is ready for a backup. Only a backup
proves that it works: start one now for the repaired machines.</p>{% endif %}
{% for host in troubled %}<section class="{{ colours[host.status] }}">
<h2>{{ host.host }} <span class="word {{ colours[host.status] }}">{{ words[host.status] }}</span></h2>
{% if host.system %}<p class="dim">{{ host.system }}</p>{% endif %}
{% if host.azure %}<p class="dim">{{ host.azure }}</p>{% endif %}
{% if host.error %}<p>{{ host.error }}</p>{% endif %}
{% if host.backup %}<p>Outcome: <b>{{ host.backup.result }}</b></p>{% endif %}
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
{% for line in [finding.command] + finding.commands %}{% if line %}<code class="command">{{ line }}</code>{% endif %}{% endfor %}
</article>
{% endfor %}{% if host.actions %}<article><h3>{{ "What would be done" if report.check_mode else "What was done" }}</h3>
<ul>{% for entry in host.actions %}<li>{% if entry.failed %}<span class="word bad">failed</span>
{% elif entry.deferred %}<span class="word warn">deferred</span>
{% endif %}<b>{{ entry.remedy }}</b>{% if entry.side == "azure" %} in Azure{% endif %}: {{ entry.text }}{% for change in entry.changes %}
<br><code>{{ change.property }} of {{ change.resource }}: {{ change.old }} &rarr; {{ change.new }}</code>{% endfor %}</li>{% endfor %}</ul>
{% if host.undo %}<p>Undo all of it:</p><code class="command">{{ host.undo }}</code>{% endif %}</article>
{% endif %}{% if host.not_seen %}<p class="dim">Not seen: {{ host.not_seen[:10] | join("; ") }}</p>{% endif %}
</section>
{% endfor %}{% if healthy %}<section class="good"><h2>{{ healthy | length }}
<span class="word good">{{ "nothing to undo" if report.mode == "undo" else "healthy" }}</span></h2>
<p class="names">{{ healthy | join(", ") }}</p></section>{% endif %}
</body>
</html>
"""
