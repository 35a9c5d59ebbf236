# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a finding is made of: a row (its columns) and a rule, at one address.

A rule is a generator of facts and limits. It yields what it saw as data; the row's templates make sentences of it, and ``fix`` says what
the remedy has to write. What differs on Windows is a column or a rule of its own there.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import CONSENT_PREFIX, LINUX, WINDOWS

Facts = Mapping[str, Any]
Limits = Mapping[str, Any]
Fix = Mapping[str, Any]

GUEST = (LINUX, WINDOWS)
SEVERITIES = ("blocker", "risk", "notice")
CAUSES = {1: "connectivity", 2: "agent", 3: "extension", 4: "snapshot", 5: "azure"}
UNDO = "ansible-playbook vmbackup.azure.undo"
# A line of a log, which every finding may show.
QUOTE = "{path}: {line}"
MESSAGE = "message: {message}"


class Seen(NamedTuple):
    """One piece of evidence.

    :param template: which of the row's templates tells it; empty is the first.
    :param data: what the template names; None is shown as unknown.
    :param fix: what the remedy has to write, by the option of its writer: lists of entries, or dictionaries of values. ``expect`` in it
        is the value that was seen.
    :param severity: set where the same symptom weighs differently.
    """

    template: str
    data: Mapping[str, Any]
    fix: Fix | None = None
    severity: str | None = None


Rule = Callable[[Facts, Limits], Iterable[Seen]]


class Row(NamedTuple):
    """The columns of a finding on one system."""

    id: str
    cause: int
    on: str
    severity: str
    title: str
    evidence: Mapping[str, str]
    action: str
    rule: Rule
    module: str
    remedy: str | None = None
    consent: str | None = None
    codes: tuple[str, ...] = ()
    doc: str = ""
    undo: str | None = None
    side: str = "guest"
    explained_by: tuple[str, ...] = ()


# id: {system: row}, in the order of repair within a cause.
FINDINGS: dict[str, dict[str, Row]] = {}


def seen(template: str = "", fix: Fix | None = None, severity: str | None = None, **data: Any) -> Seen:
    """Return a piece of evidence."""
    return Seen(template, data, fix, severity)


def _row(id_: str, on: str, cause: Cause, rule: Rule, columns: Mapping[str, Any]) -> Row:
    values = dict(columns)
    evidence = values.pop("evidence")
    templates = {"": evidence} if isinstance(evidence, str) else dict(evidence)
    templates.setdefault("quote", QUOTE)
    templates.setdefault("message", MESSAGE)
    values["codes"] = tuple(values.get("codes", ()))
    values["consent"] = CONSENT_PREFIX + values["consent"] if values.get("consent") else None
    values["undo"] = UNDO if values.get("remedy") and values.pop("undoable", True) else None
    values.pop("undoable", None)
    return Row(id=id_, cause=cause.number, on=on, rule=rule, module=cause.module, evidence=templates, **values)


class Cause:
    """The findings of one cause: ``finding`` and ``on_windows`` decorate rules, ``add`` takes a rule that several share."""

    def __init__(self, number: int, doc: str, module: str) -> None:
        self.number = number
        self.doc = doc
        self.module = module
        self._columns: dict[str, dict[str, Any]] = {}

    def add(self, id_: str, rule: Rule, on: Sequence[str] = GUEST, windows: Mapping[str, Any] | None = None, **columns: Any) -> None:
        columns.setdefault("doc", self.doc)
        self._columns[id_] = columns
        systems = FINDINGS.setdefault(id_, {})
        for system in on:
            own = dict(columns, **(windows or {})) if system == WINDOWS else columns
            systems[system] = _row(id_, system, self, rule, own)

    def finding(self, on: Sequence[str] = GUEST, **columns: Any) -> Callable[[Rule], Rule]:
        """Register a rule under its own name. ``windows`` holds the columns that are different there."""

        def register(rule: Rule) -> Rule:
            self.add(rule.__name__, rule, on, **columns)
            return rule

        return register

    def on_windows(self, **columns: Any) -> Callable[[Rule], Rule]:
        """Register the rule that Windows has for a finding of Linux: its name with ``_windows``; columns not given are those of Linux."""

        def register(rule: Rule) -> Rule:
            id_ = rule.__name__[: -len("_windows")]
            merged = dict(self._columns[id_], **columns)
            FINDINGS[id_][WINDOWS] = _row(id_, WINDOWS, self, rule, merged)
            return rule

        return register


def sentences(row: Row, evidence: Iterable[Seen]) -> list[str]:
    """Return what a rule saw, as a person reads it."""
    first = next(iter(row.evidence))
    return [filled(row.evidence[piece.template or first], piece.data) for piece in evidence]


def get(facts: Facts, path: str) -> Any:
    """Return the value at a dotted path, None where any part is missing or null."""
    value: Any = facts
    for key in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def part(facts: Facts, path: str) -> Mapping[str, Any]:
    """Return the dictionary at a dotted path, an empty one where there is none."""
    value = get(facts, path)
    return value if isinstance(value, Mapping) else {}


def items(facts: Facts, path: str) -> list[Any]:
    """Return the list at a dotted path, an empty one where there is none."""
    value = get(facts, path)
    return value if isinstance(value, list) else []


def is_windows(facts: Facts) -> bool:
    return bool(get(facts, "system.kind") == WINDOWS)


def host_answers(facts: Facts) -> bool:
    """Say whether both services of the Azure host answered."""
    return bool(get(facts, "network.probes.wireserver.ok") and get(facts, "network.probes.hostgaplugin.ok"))


def windows_service(facts: Facts, name: str) -> Mapping[str, Any]:
    """Return the facts of one Windows service, an empty dictionary where there are none."""
    return next((row for row in items(facts, "agent.services") if row.get("name") == name), {})


def sql_server(facts: Facts) -> bool:
    """Say whether SQL Server is on a Windows guest."""
    return bool(get(facts, "vss.sql_server.present")) or any(
        row.get("exists") and str(row.get("name")).upper().startswith("MSSQL") for row in items(facts, "agent.services")
    )


def service_fix(name: str, expect: Mapping[str, Any] | None = None, **wanted: Any) -> Fix:
    """Return what win_services has to write for one service.

    :param expect: what was seen of it, by the names of the options.
    """
    return {"services": [dict({"name": name}, **wanted, **({"expect": dict(expect)} if expect else {}))]}


# Types of the registry as facts and as win_registry name them; bytes are not compared.
REGISTRY_TYPES = {"REG_DWORD": "dword", "REG_QWORD": "qword", "REG_SZ": "string", "REG_EXPAND_SZ": "expandstring"}


def registry_fix(key: str, name: str, kind: str, data: Any, seen_value: Mapping[str, Any] | None, **more: Any) -> Fix:
    """Return what win_registry has to write for one value.

    :param seen_value: what was seen of it, ``type`` and ``data`` as win_registry takes them; None where it was not there, empty where it
        cannot be compared.
    """
    value = dict({"key": key, "name": name, "type": kind, "data": data}, **more)
    if seen_value is None or seen_value:
        value["expect"] = seen_value and dict(seen_value)
    return {"values": [value]}


def seen_option(option: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the value of a setting in the facts as registry_fix takes it."""
    if not option:
        return None
    kind, value = REGISTRY_TYPES.get(str(option.get("type"))), option.get("value")
    if kind in ("dword", "qword"):
        return {"type": kind, "data": int(str(value))} if str(value).isdigit() else {}
    return {"type": kind, "data": value} if kind else {}


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Return a text with values at its names; one that is missing or null is called unknown."""
    known = {name: "unknown" if value is None else value for name, value in values.items()}
    # One pass over the template alone: a value is never read as a template.
    return re.sub(r"\{(\w+)\}", lambda found: str(known.get(found.group(1), "unknown")), text)


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them."""
    if seconds is None:
        return "an unknown time"
    whole = int(seconds)
    for length, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if whole >= 2 * length:
            return "{0} {1}s".format(whole // length, name)
    return "{0} seconds".format(whole)


def size(count: float | None) -> str:
    """Return bytes as a person says them."""
    if count is None:
        return "an unknown number of bytes"
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return "{0:.1f} {1}".format(float(count) / unit, name)
    return "{0} bytes".format(int(count))


def log_match(facts: Facts, path: str, meaning: str) -> Mapping[str, Any] | None:
    """Return the newest entry of a log with a meaning, None without one."""
    found = [entry for entry in items(facts, path + ".verdicts") if entry.get("meaning") == meaning]
    return max(found, key=lambda entry: entry.get("at") or "") if found else None


def quoted(facts: Facts, path: str, meaning: str) -> Iterator[Seen]:
    """Yield the log's own line for a meaning, when there is one."""
    entry = log_match(facts, path, meaning)
    if entry and entry.get("line"):
        yield seen("quote", path=get(facts, path + ".path"), line=entry["line"])
