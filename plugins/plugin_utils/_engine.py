# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From facts to findings. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import ERROR_CODES, canonical
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings import (
    agent,
    agent_config,
    agent_service,
    azure_backup,
    azure_codes,
    azure_network,
    azure_vm,
    connectivity,
    extension,
    snapshot,
    vss,
)
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import FINDINGS, SEVERITIES, Row, Seen, sentences
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import AZURE, LINUX
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema import problem
from ansible_collections.vmbackup.azure.plugins.plugin_utils._thresholds import merged

# Their order is that of the causes, and with it of the findings.
MODULES = (connectivity, agent, agent_service, agent_config, extension, snapshot, vss, azure_vm, azure_network, azure_backup, azure_codes)
# The wishes of a run, and what they are when nobody has any.
WISHES = {"vss_backup_type": "unset", "vss_article": "2025-11", "verbose_logging": "unset"}


def rows(system: str | None) -> list[Row]:
    """Return the findings of a system, in order."""
    found = [by_system[system or LINUX] for by_system in FINDINGS.values() if (system or LINUX) in by_system]
    places = [module.__name__ for module in MODULES]
    return sorted(found, key=lambda row: (row.cause, places.index(row.module)))


def _rows_for(facts: Mapping[str, Any]) -> list[Row]:
    """Return the findings that facts can answer: the guest's, Azure's where there are facts of it, Azure's alone where nobody looked at the guest."""
    azure = facts.get("azure") is not None
    return ([] if azure and "system" not in facts else rows((facts.get("system") or {}).get("kind"))) + (rows(AZURE) if azure else [])


def _finding(row: Row, evidence: Sequence[Seen], wanted: str | None) -> dict[str, Any]:
    severities = [piece.severity for piece in evidence if piece.severity]
    return {
        "id": row.id,
        "cause": row.cause,
        "severity": severities[0] if severities else row.severity,
        "title": row.title,
        "action": row.action,
        "remedy": row.remedy,
        "mode": "manual" if row.remedy is None else ("consent" if row.consent else "auto"),
        "consent": row.consent,
        "side": row.side,
        "codes": list(row.codes),
        "doc": row.doc,
        "undo": row.undo,
        "evidence": sentences(row, evidence),
        "data": [dict(piece.data) for piece in evidence],
        "fix": [dict(piece.fix) for piece in evidence if piece.fix],
        # What a person can copy; nothing runs them.
        "commands": list(dict.fromkeys(str(piece.data["command"]) for piece in evidence if piece.data.get("command"))),
        "explained_by": [],
        "explains_error_code": None if wanted is None else wanted in row.codes,
    }


def evaluate(
    facts: Any,
    thresholds: Mapping[str, Any] | None = None,
    error_code: str | None = None,
    wishes: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the findings of one guest: those that explain the error code first, then the worst, root causes before what follows from them.

    :param facts: ``ansible_facts.vmbackup`` (docs/facts.md). Beside the guest's, ``azure`` holds the VM by Azure (_azure/__init__.py), and
        ``contact`` whether the guest answered (``reached``, ``message``); without ``system`` only Azure's findings are looked for.
    :param thresholds: dictionary of limits that replace the defaults.
    :param error_code: Azure's code of the failed job.
    :param wishes: what the operator chose for this run, see WISHES.
    :raises ValueError: one sentence, for facts or thresholds that cannot be used.
    """
    if not isinstance(facts, dict):
        raise ValueError(
            "facts must be the dictionary that guest_facts returns as ansible_facts.vmbackup, not {0}.".format(type(facts).__name__)
        )
    if "schema_version" not in facts:
        raise ValueError("these facts have no schema_version: pass what guest_facts returns as ansible_facts.vmbackup.")
    misfit = problem(facts)
    if misfit:
        raise ValueError("these facts do not have the shape of docs/facts.md: {0}. Collect them again with guest_facts.".format(misfit))
    limits = dict(merged(thresholds), **dict(WISHES, **(wishes or {})))
    wanted = canonical(error_code) if error_code else None
    found: dict[str, dict[str, Any]] = {}
    for row in _rows_for(facts):
        evidence = list(row.rule(facts, limits))
        if evidence:
            found[row.id] = _finding(row, evidence, wanted)
            found[row.id]["explained_by"] = list(row.explained_by)
    for finding in found.values():
        finding["explained_by"] = [id_ for id_ in finding["explained_by"] if id_ in found]
    return ordered(found)


def ordered(found: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return findings in the order in which a person reads them. A root cause weighs as much as the worst that follows from it."""
    weight = {id_: (not finding["explains_error_code"], SEVERITIES.index(finding["severity"])) for id_, finding in found.items()}
    for _round in found:  # a chain of causes is no longer than the findings are many
        for id_, finding in found.items():
            for root in finding["explained_by"]:
                weight[root] = min(weight[root], weight[id_])
    numbers = {id_: number for number, id_ in enumerate(found)}
    return sorted(found.values(), key=lambda finding: weight[finding["id"]] + (bool(finding["explained_by"]), numbers[finding["id"]]))


def note_on_error_code(
    findings: Sequence[Mapping[str, Any]], error_code: str | None, kind: str | None = None, guest: bool = True, azure: bool = False
) -> str | None:
    """Return a sentence when an error code was given that no finding explains, else None.

    :param kind: ``system.kind`` of the facts.
    :param guest: whether the guest was looked at.
    :param azure: whether Azure was.
    """
    if not error_code:
        return None
    code = canonical(error_code)
    if any(code in finding["codes"] for finding in findings):
        return None
    if code not in ERROR_CODES:
        return "Unknown Azure Backup error code {0}; the findings are not ordered by it.".format(code)
    side, advice = ERROR_CODES[code]
    nothing = "nothing in the guest explains it" if guest else "the guest answers it, and was not looked at"
    where = {
        "azure": "nothing that was read in Azure explains it" if azure else "it is answered in Azure, not in the guest",
        "windows": nothing if kind == "windows" or not guest else "only Windows guests have it",
        "guest": nothing,
        "both": nothing + (", nor does what was read in Azure" if azure and guest else ", so look at Azure" if guest else ""),
    }[side]
    return "{0}: {1}. {2}".format(code, where, advice)
