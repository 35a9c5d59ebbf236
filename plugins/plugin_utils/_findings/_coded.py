# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The result of the last snapshot: which finding its code belongs to, and the one rule that all findings of a result code share."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import RUNNING, finding_of, name_of
from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import (
    Facts,
    Limits,
    Rule,
    Seen,
    get,
    is_windows,
    log_match,
    part,
    quoted,
    seen,
)

CERTIFICATE_CODES = (2, 11, 76)  # settings that cannot be decrypted are an error, incomplete, or without addresses to take a snapshot of
# Templates of every finding of a result code.
CODED = {
    "code": "snapshot {sequence} of {at}: code {code}{name}{success}",
    "lost": "snapshot {sequence} of {at} says that it runs (code 4), no process of it is left, and its log tells the result",
}


def snapshot_of(facts: Facts) -> Mapping[str, Any]:
    return part(facts, "extension.snapshot")


def outdated(facts: Facts) -> bool:
    """Say whether Azure has asked for a snapshot after the one whose status is there; what that one came to is history."""
    asked, reported = snapshot_of(facts).get("settings_sequence"), snapshot_of(facts).get("sequence")
    return asked is not None and reported is not None and asked > reported


def since(facts: Facts, path: str, meaning: str, *times: str | None) -> Mapping[str, Any] | None:
    """Return the newest entry of a log with a meaning when it is not older than the first time that is known, else None."""
    entry = log_match(facts, path, meaning)
    begin = next((epoch(time) for time in times if time), None)
    at = epoch(entry.get("at")) if entry else None
    return None if entry is None or (begin is not None and (at is None or at < begin - 1)) else entry


def lost(facts: Facts, meaning: str) -> Iterator[Seen]:
    """Yield the log's line that tells a result which never came to the status: it says "still running", and no process is left."""
    snapshot = snapshot_of(facts)
    if snapshot.get("code") != RUNNING or snapshot.get("processes") != [] or outdated(facts):
        return
    entry = since(facts, "extension.log", meaning, snapshot.get("started_at"), snapshot.get("settings_at"), snapshot.get("at"))
    if entry:
        yield seen("lost", sequence=snapshot.get("sequence"), at=snapshot.get("at"))
        if entry.get("line"):
            yield seen("quote", path=get(facts, "extension.log.path"), line=entry["line"])


def explained(facts: Facts) -> str | None:
    """Return the finding of the result code. What a missing key leads to has several codes, and the log says that it was the key."""
    snapshot = snapshot_of(facts)
    code, begins = snapshot.get("code"), [snapshot.get("started_at"), snapshot.get("settings_at")]
    key_lost = not is_windows(facts) and code in CERTIFICATE_CODES and any(begins)
    if key_lost and since(facts, "extension.log", "certificate", *begins):
        return "snapshot_certificate_missing"
    finding: str | None = finding_of(code, get(facts, "system.kind"))
    return finding


def coded(facts: Facts, finding: str, *meanings: str) -> Iterator[Seen]:
    """Yield the evidence of a snapshot whose result code belongs to a finding, with the extension's own words."""
    snapshot = snapshot_of(facts)
    code = snapshot.get("code")
    if explained(facts) != finding or code == RUNNING or outdated(facts):
        return
    name = name_of(code, get(facts, "system.kind"))
    yield seen(
        "code",
        sequence=snapshot.get("sequence"),
        at=snapshot.get("at"),
        code=code,
        name=" ({0})".format(name) if name else "",
        success=", though its status says success" if snapshot.get("reported_status") == "success" else "",
    )
    if snapshot.get("message"):
        yield seen("message", message=snapshot["message"])
    begin = epoch(snapshot.get("started_at"))
    for meaning in meanings:
        entry = log_match(facts, "extension.log", meaning)
        at = epoch(entry.get("at")) if entry else None
        if entry and (begin is None or at is None or at >= begin - 1):  # what an earlier snapshot said is no evidence
            yield from quoted(facts, "extension.log", meaning)


def coded_rule(finding: str, *meanings: str) -> Rule:
    """Return the rule of a finding that is nothing but a result code."""

    def rule(facts: Facts, limits: Limits) -> Iterator[Seen]:
        return coded(facts, finding, *meanings)

    return rule
