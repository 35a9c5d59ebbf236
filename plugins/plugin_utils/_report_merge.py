# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One report out of several, as JSON files of earlier runs hold them."""

from __future__ import annotations

from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._report import RANK, SCHEMA_VERSION, build_host, text, total

# Statuses of hosts whose guest was not looked at: they say nothing of what a guest's own report found.
IN_AZURE = ("azure_only", "in_azure")
# What a report says of a host.
KEYS = frozenset(build_host("", {}, {"mode": "undo", "check_mode": False, "inventory": []}))


def merged(reports: list[dict[str, Any]], generated_at: str) -> dict[str, Any]:
    """Return one report out of those that the slices of a job wrote, or a job on guests and one in Azure.

    A host that is in several is taken from the newest, with what was done on it in all of them and the worst of their statuses. Once
    something was repaired, previews and diagnoses of before are left out.

    :param reports: as :func:`build` returns them, read from JSON.
    :raises ValueError: when one is no report of this version.
    """
    hosts: dict[str, dict[str, Any]] = {}
    for report in reports:
        if report.get("schema_version") != SCHEMA_VERSION or not isinstance(report.get("hosts"), list):
            raise ValueError("it is no report of version {0}".format(SCHEMA_VERSION))
    ordered = sorted(reports, key=lambda report: str(report.get("generated_at")))
    # What was looked at or tried before says nothing any more once something was done.
    done = [report for report in ordered if report.get("mode") == "remediate" and not report.get("check_mode")]
    ordered = done or ordered
    for report in ordered:
        for host in report["hosts"]:
            if not isinstance(host, dict) or host.get("status") not in RANK:
                raise ValueError("one of its hosts has no status that is known")
            missing = sorted(KEYS - set(host))
            if missing:
                raise ValueError("one of its hosts has no {0}".format(", ".join(missing)))
            former = hosts.get(str(host.get("host")))
            if former:
                if host["status"] in IN_AZURE and former["status"] not in IN_AZURE:
                    seen = {finding.get("id") for finding in host["findings"]}
                    host = dict(
                        host, findings=[finding for finding in former["findings"] if finding.get("id") not in seen] + host["findings"]
                    )
                worst = min((former, host), key=lambda each: RANK[each["status"]])
                host = dict(host, actions=former["actions"] + host["actions"], status=worst["status"], reason=worst["reason"],
                            undo=host["undo"] or former["undo"], backup=host["backup"] or former["backup"])  # fmt: skip
            hosts[str(host.get("host"))] = host
    newest = ordered[-1]
    problems = [text(report.get("problem")) for report in ordered if report.get("problem")]
    run = {
        "mode": newest["mode"],
        "check_mode": all(report["check_mode"] for report in ordered),
        "problem": " ".join(map(str, problems)) or None,
    }
    return total(list(hosts.values()), run, generated_at)
