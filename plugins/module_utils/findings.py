# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From facts to findings. Pure: no I/O, no clock."""

from ansible_collections.vmbackup.azure.plugins.module_utils.catalogue import CATALOGUE, CAUSES, ORDER
from ansible_collections.vmbackup.azure.plugins.module_utils.error_codes import ERROR_CODES, canonical
from ansible_collections.vmbackup.azure.plugins.module_utils.rules import agent, connectivity, extension, snapshot
from ansible_collections.vmbackup.azure.plugins.module_utils.shape import problem
from ansible_collections.vmbackup.azure.plugins.module_utils.thresholds import merged

RULES = {"connectivity": connectivity, "agent": agent, "extension": extension, "snapshot": snapshot}
SEVERITIES = ("blocker", "risk", "notice")


def rule_of(id_):
    """Return the function that decides a finding: the one of its name in the module of its cause."""
    return getattr(RULES[CAUSES[CATALOGUE[id_]["cause"]]], id_)


def described(id_, kind=None):
    """Return the catalogue's entry of a finding as a system of that kind gets it."""
    entry = dict(CATALOGUE[id_])
    other = entry.pop("windows", None)
    if kind == "windows" and other:
        entry.update(other)
    return entry


def evaluate(facts, thresholds=None, error_code=None):
    """Return the findings of one host, worst first.

    :param facts: ``ansible_facts.vmbackup`` (docs/facts.md).
    :param thresholds: dictionary of limits that replace the defaults.
    :param error_code: Azure's code of the failed job; findings that explain it come first.
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
    limits = merged(thresholds)
    wanted = canonical(error_code) if error_code else None
    found = []
    for number, id_ in enumerate(ORDER):
        evidence = rule_of(id_)(facts, limits)
        if not evidence:
            continue
        entry = described(id_, (facts.get("system") or {}).get("kind"))
        entry["evidence"] = [evidence] if isinstance(evidence, str) else list(evidence)
        entry["severity"] = getattr(evidence, "severity", None) or entry["severity"]
        entry["explains_error_code"] = None if wanted is None else wanted in entry["codes"]
        found.append((not entry["explains_error_code"], SEVERITIES.index(entry["severity"]), number, entry))
    return [row[3] for row in sorted(found, key=lambda row: row[:3])]


def remedies(findings, allow=None):
    """Return what answers the findings, in the order of repair: remedy, findings, allowed, consent.

    :param allow: dictionary of consent variables to booleans. A remedy is allowed when one finding that names it needs no consent,
        or has it; ``findings`` then names only those, and the others stay for a person.
    """
    allow = allow or {}
    rank = {id_: number for number, id_ in enumerate(ORDER)}
    grouped = {}
    for finding in sorted(findings, key=lambda f: rank[f["id"]]):
        if finding["remedy"]:
            permitted = finding["consent"] is None or bool(allow.get(finding["consent"]))
            entry = grouped.setdefault(finding["remedy"], {"allowed": [], "waiting": [], "consent": []})
            entry["allowed" if permitted else "waiting"].append(finding["id"])
            if not permitted:
                entry["consent"].append(finding["consent"])
    # A restart comes last: whatever was changed before takes effect with it.
    order = sorted(grouped, key=lambda name: (name == "agent.service", list(grouped).index(name)))
    return [
        {
            "remedy": name,
            "findings": grouped[name]["allowed"] or grouped[name]["waiting"],
            "allowed": bool(grouped[name]["allowed"]),
            "consent": sorted(set(grouped[name]["consent"])),
        }
        for name in order
    ]


def note_on_error_code(findings, error_code, kind=None):
    """Return a sentence when an error code was given that no finding explains, else None.

    :param kind: ``system.kind`` of the facts.
    """
    if not error_code:
        return None
    code = canonical(error_code)
    if any(code in finding["codes"] for finding in findings):
        return None
    if code not in ERROR_CODES:
        return "{0} is no error code of Azure VM backup that is known here; the findings are not ordered by it.".format(code)
    side, advice = ERROR_CODES[code]
    where = {
        "azure": "it is answered in Azure, not in the guest",
        "windows": "nothing in the guest explains it" if kind == "windows" else "only Windows guests have it",
        "guest": "nothing in the guest explains it",
        "both": "nothing in the guest explains it, so look at Azure",
    }[side]
    return "{0}: {1}. {2}".format(code, where, advice)
