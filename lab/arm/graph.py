# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Resource Graph: the part of the query language that is used. What is not understood is refused, as the service does."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from .fleet import Fleet
from .rules import Answer, Request, refuse

TOKEN = re.compile(
    r"\s*(?:(?P<text>'[^']*'|\"[^\"]*\")|(?P<span>\d+[dhm]\b)|(?P<number>\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>=~|!~|==|!=|>=|<=|[<>|(),=.\[\]]))"
)
TABLES = {
    "recoveryservicesresources": (
        "microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems",
        "microsoft.recoveryservices/vaults/backupjobs",
        "microsoft.recoveryservices/vaults/backuppolicies",
    ),
    "resources": (),
}
# The service sends no more than this at a time.
LARGEST_PAGE = 16 * 1024 * 1024
STEPS = ("where", "project", "extend", "order", "summarize", "limit", "take")
Row = dict[str, Any]
Expression = Callable[[Row], Any]


class Invalid(Exception):
    def __init__(self, token: str, position: int) -> None:
        super().__init__(token)
        self.token, self.position = token, position


def _tokens(query: str) -> list[tuple[str, str, int]]:
    result, position = [], 0
    while query[position:].strip():
        match = TOKEN.match(query, position)
        if not match:
            raise Invalid(query[position : position + 1], position)
        kind = match.lastgroup or ""
        result.append((kind, match.group(kind), match.start(kind)))
        position = match.end()
    return result


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?", str(value or ""))
    return datetime.fromisoformat(match.group(1) + (match.group(2) or "") + "+00:00") if match else None


def _plain(value: Any) -> Any:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%f0Z") if isinstance(value, datetime) else value


class Query:
    """A query, parsed once and run over rows."""

    def __init__(self, text: str, now: datetime) -> None:
        self._all, self._at, self._now = _tokens(text), 0, now
        # Without a table it is the first one, and the query begins with its first step.
        first = self._peek()[1].lower() in STEPS
        self.table = "resources" if first else self._name().lower()
        if self.table not in TABLES:
            raise Invalid(self.table, 0)
        self.steps: list[Callable[[list[Row]], list[Row]]] = []
        self.limited = False
        while self._at < len(self._all):
            if not (first and not self.steps):
                self._sign("|")
            self.steps.append(self._step())

    def run(self, rows: list[Row]) -> list[Row]:
        for step in self.steps:
            rows = step(rows)
        return rows

    # Reading

    def _peek(self) -> tuple[str, str, int]:
        return self._all[self._at] if self._at < len(self._all) else ("end", "<EOF>", -1)

    def _next(self) -> tuple[str, str, int]:
        token = self._peek()
        self._at += 1
        return token

    def _name(self) -> str:
        kind, text, position = self._next()
        if kind != "name":
            raise Invalid(text, position)
        return text

    def _sign(self, wanted: str) -> None:
        _kind, text, position = self._next()
        if text != wanted:
            raise Invalid(text, position)

    def _is(self, wanted: str) -> bool:
        if self._peek()[1].lower() == wanted and self._peek()[0] != "text":
            self._at += 1
            return True
        return False

    # Steps

    def _step(self) -> Callable[[list[Row]], list[Row]]:
        position = self._peek()[2]
        name = self._name().lower()
        if name == "where":
            condition = self._either()
            return lambda rows: [row for row in rows if condition(row)]
        if name in ("project", "extend"):
            columns = list(self._columns())
            keep = name == "extend"
            return lambda rows: [{**(row if keep else {}), **{label: _plain(value(row)) for label, value in columns}} for row in rows]
        if name == "order":
            self._sign("by")
            value = self._value()
            descending = self._is("desc") or not self._is("asc")
            return lambda rows: sorted(rows, key=lambda row: str(value(row)), reverse=descending)
        if name == "summarize":
            return self._summarize()
        if name in ("limit", "take"):
            count = int(self._next()[1])
            self.limited = True
            return lambda rows: rows[:count]
        raise Invalid(name, position)

    def _columns(self) -> Iterator[tuple[str, Expression]]:
        while True:
            start = self._at
            label = self._name()
            if self._is("="):
                yield label, self._value()
            else:
                self._at = start
                yield label, self._value()
            if not self._is(","):
                return

    def _summarize(self) -> Callable[[list[Row]], list[Row]]:
        results: list[tuple[str, str, Expression]] = []
        while True:
            label = self._name()
            self._sign("=")
            function = self._name().lower()
            if function not in ("count", "countif", "max", "min"):
                raise Invalid(function, 0)
            self._sign("(")
            value = (lambda row: 1) if function == "count" else self._either()
            self._sign(")")
            results.append((label, function, value))
            if not self._is(","):
                break
        self._sign("by")
        keys = list(self._columns())

        def run(rows: list[Row]) -> list[Row]:
            groups: dict[tuple[str, ...], list[Row]] = {}
            for row in rows:
                groups.setdefault(tuple(str(value(row)) for _label, value in keys), []).append(row)
            made = []
            for key, members in groups.items():
                row: Row = {label: key[index] for index, (label, _value) in enumerate(keys)}
                for label, function, value in results:
                    values = [entry for entry in map(value, members) if entry not in (None, False)]
                    if function in ("count", "countif"):
                        row[label] = len(values)
                    else:
                        row[label] = _plain((max if function == "max" else min)(values)) if values else None
                made.append(row)
            return made

        return run

    # Conditions

    def _either(self) -> Expression:
        left = self._both()
        while self._is("or"):
            left = (lambda one, two: lambda row: one(row) or two(row))(left, self._both())
        return left

    def _both(self) -> Expression:
        left = self._comparison()
        while self._is("and"):
            left = (lambda one, two: lambda row: one(row) and two(row))(left, self._comparison())
        return left

    def _comparison(self) -> Expression:
        if self._is("("):
            inner = self._either()
            self._sign(")")
            return inner
        left = self._value()
        kind, sign, position = self._peek()
        if kind == "name" and sign in ("in", "has", "contains"):
            self._at += 1
            return self._in(left) if sign == "in" else self._contains(left)
        if kind != "sign" or sign not in ("=~", "!~", "==", "!=", ">", "<", ">=", "<="):
            return left
        self._at += 1
        right = self._value()

        def compare(row: Row) -> bool:
            one, two = left(row), right(row)
            if sign in ("=~", "!~"):
                return (str(one or "").lower() == str(two or "").lower()) is (sign == "=~")
            if sign in ("==", "!="):
                return (one == two) is (sign == "==")
            if isinstance(two, datetime):
                one = _time(one)
            if one is None or two is None or type(one) is not type(two):
                return False
            return {">": one > two, "<": one < two, ">=": one >= two, "<=": one <= two}[sign]

        return compare

    def _in(self, left: Expression) -> Expression:
        # in~ arrives as "in" and "~(", which is no sign of its own.
        self._sign("(")
        values = [self._value()]
        while self._is(","):
            values.append(self._value())
        self._sign(")")
        return lambda row: str(left(row) or "").lower() in [str(value(row)).lower() for value in values]

    def _contains(self, left: Expression) -> Expression:
        right = self._value()
        return lambda row: str(right(row)).lower() in str(left(row) or "").lower()

    # Values

    def _value(self) -> Expression:
        kind, text, position = self._next()
        if kind == "text":
            return lambda row: text[1:-1]
        if kind == "number":
            return lambda row: int(text)
        if kind != "name" or text.lower() in STEPS:
            raise Invalid(text, position)
        if self._is("("):
            return self._function(text.lower(), position)
        path: list[Any] = [text]
        while True:
            if self._is("."):
                path.append(self._name())
            elif self._is("["):
                path.append(int(self._next()[1]))
                self._sign("]")
            else:
                break

        def look(row: Row) -> Any:
            value: Any = row
            for part in path:
                if isinstance(value, dict) and isinstance(part, str):
                    value = value.get(part)
                elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                    value = value[part]
                else:
                    return None
            return value

        return look

    def _function(self, name: str, position: int) -> Expression:
        if name == "ago":
            kind, span, position = self._next()
            if kind != "span":
                raise Invalid(span, position)
            self._sign(")")
            unit = {"d": "days", "h": "hours", "m": "minutes"}[span[-1]]
            then = self._now - timedelta(**{unit: int(span[:-1])})
            return lambda row: then
        value = self._value()
        self._sign(")")
        functions: dict[str, Expression] = {
            "tostring": lambda row: "" if value(row) is None else value(row) if isinstance(value(row), str) else json.dumps(value(row)),
            "tolower": lambda row: str(value(row) or "").lower(),
            "toint": lambda row: int(value(row)) if str(value(row) or "").isdigit() else None,
            "todatetime": lambda row: _time(value(row)),
            "isnotempty": lambda row: value(row) not in (None, ""),
            "isempty": lambda row: value(row) in (None, ""),
        }
        if name not in functions:
            raise Invalid(name, position)
        return functions[name]


def _row(document: Row, **more: Any) -> Row:
    """Return a document as a row: type, group and location in lower case."""
    parts = document["id"].split("/")
    return {
        "id": document["id"],
        "name": document["name"],
        "type": document["type"].lower(),
        "tenantId": "33333333-3333-3333-3333-333333333333",
        "kind": "",
        "location": str(document.get("location", "")).lower(),
        "resourceGroup": parts[4].lower() if len(parts) > 4 else "",
        "subscriptionId": parts[2],
        "sku": document.get("sku"),
        "managedBy": document.get("managedBy", ""),
        "tags": document.get("tags"),
        "zones": document.get("zones"),
        "properties": {**document["properties"], **more},
    }


def rows_of(fleet: Fleet, table: str, scope: list[str]) -> list[Row]:
    """Return the rows of a table that the identity may see: what is denied is not there, without a word."""
    rows = []
    if table == "resources":
        for key, document in fleet.resources.items():
            if document["type"].lower() in TABLES["recoveryservicesresources"] or "/providers/microsoft.authorization/" in key:
                continue
            more = {}
            if key in fleet.live:
                power = fleet.live[key].get("power", "running")
                more["extended"] = {
                    "instanceView": {"powerState": {"code": "PowerState/" + power, "displayStatus": "VM " + power, "level": "Info"}}
                }
            rows.append(_row(document, **more))
    else:
        for document in fleet.items.values():
            properties = document["properties"]
            source = {
                "resourceID": properties["sourceResourceId"],
                "resourceLocation": properties.get("sourceLocation", ""),
                "datasourceType": "VM",
            }
            rows.append(_row(document, dataSourceInfo=source, currentProtectionState=properties["protectionState"]))
        for document in fleet.jobs.values():
            vm = re.sub(r"(?i)^iaasvmcontainerv2;", "", document["properties"].get("containerName", "")).split(";")
            source = "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Compute/virtualMachines/{2}".format(
                document["id"].split("/")[2], vm[0], vm[-1]
            )
            row = _row(document, dataSourceId=source, backupInstanceId=source)
            row["properties"].pop("extendedInfo", None)
            rows.append(row)
        rows.extend(_row(document) for document in fleet.of_type("Microsoft.RecoveryServices/vaults/backupPolicies"))
    visible = [subscription for subscription in fleet.subscriptions if not scope or subscription in scope]
    return [row for row in rows if row["subscriptionId"].lower() in visible and not fleet.is_denied(row["id"])]


SUPPORT = "Please provide below info when asking for support: timestamp = 2026-01-01T00:00:00.0000000Z."
INVALID = "Query is invalid. Please refer to the documentation for the Azure Resource Graph service and fix the error before retrying."


def _bad(code: str, message: str, *more: dict[str, Any]) -> Answer:
    return refuse(400, "BadRequest", SUPPORT, details=[{"code": code, "message": message}, *more])


def _scope(fleet: Fleet, body: dict[str, Any]) -> list[str] | Answer:
    """Return the subscriptions that are asked for; none is all."""
    scope = [str(entry).lower() for entry in body.get("subscriptions") or []]
    if len(scope) > 1000:
        return _bad("TooManySubscriptions", "At most 1000 are allowed.")
    for group in body.get("managementGroups") or []:
        if group not in fleet.management_groups:
            return refuse(
                403, "AuthorizationFailed", "The client does not have authorization over the management group '{0}'.".format(group)
            )
        scope += fleet.management_groups[group]
    if scope and not any(entry in fleet.subscriptions for entry in scope):
        text = "There must be at least one subscription that is eligible to contain resources. Given: '{0}'."
        return _bad("NoValidSubscriptionsInQueryRequest", text.format(", ".join(scope)))
    return scope


def _page(options: dict[str, Any], page: int) -> tuple[int, int] | Answer:
    """Return (rows to skip, rows to show); a token keeps the size of its pages."""
    top = options.get("$top", page)
    if not isinstance(top, int) or not 1 <= top <= 1000:
        return _bad("InvalidTop", "$top must be from 1 to 1000.")
    if not options.get("$skipToken"):
        return 0, min(top, page)
    try:
        token = json.loads(base64.b64decode(options["$skipToken"]))
        return int(token["RowsToSkip"]), min(top, int(token["MaxRows"]))
    except (ValueError, KeyError, TypeError):
        return _bad("InvalidSkipToken", "The skip token is invalid.")


def _too_large(shown: list[Row], most: int) -> Answer | None:
    """Refuse a page that is larger than the service sends."""
    size = len(json.dumps(shown))
    text = "Response payload size is {0}, and has exceeded the limit of {1}. Please consider querying less data at a time and make paginated call if needed."
    return _bad("ResponsePayloadTooLarge", text.format(size, most)) if size > most else None


def answer(fleet: Fleet, request: Request, page: int, most_bytes: int = LARGEST_PAGE) -> Answer:
    """Answer a query, page by page."""
    body = request.json()
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        return _bad("InvalidQuery", "Query is missing.")
    scope = _scope(fleet, body)
    if isinstance(scope, Answer):
        return scope
    place = _page(body.get("options") or {}, page)
    if isinstance(place, Answer):
        return place
    skip, size = place
    try:
        query = Query(re.sub(r"\bin~", "in", body["query"]), fleet.now())
    except Invalid as error:
        where = {"line": 1, "characterPositionInLine": max(error.position, 0), "token": error.token, "expectedToken": "Ǐ"}
        return _bad("InvalidQuery", INVALID, {"code": "ParserFailure", "message": "ParserFailure", **where})
    # Later pages show what the first one was cut from.
    asked = body["query"] + json.dumps(scope)
    if not skip or asked not in fleet.pages:
        fleet.pages[asked] = query.run(rows_of(fleet, query.table, scope))
    rows = fleet.pages[asked]
    shown = rows[skip : skip + size]
    refused = _too_large(shown, most_bytes)
    if refused:
        return refused
    result: dict[str, Any] = {"totalRecords": len(rows), "count": len(shown), "data": shown, "facets": [], "resultTruncated": "false"}
    more = skip + len(shown) < len(rows)
    # Microsoft's page on paging: without a column id there is no token.
    if more and not query.limited and all("id" in row for row in shown):
        token = {"$id": "1", "MaxRows": size, "RowsToSkip": skip + len(shown), "KustoClusterUrl": "https://graph.example"}
        result["$skipToken"] = base64.b64encode(json.dumps(token).encode()).decode()
    elif more:
        result["resultTruncated"] = "true"
    return Answer(200, result)
