# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists by nextLink, and Resource Graph by $skipToken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.errors import AnswerError, safe_url

if TYPE_CHECKING:
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client

GRAPH_PATH = "/providers/Microsoft.ResourceGraph/resources"
GRAPH_VERSION = "2022-10-01"
GRAPH_PAGE = 1000
# A page of more than 16 MiB is refused; pages become smaller until they fit, down to so many rows.
GRAPH_TOO_LARGE, GRAPH_SMALLEST = "ResponsePayloadTooLarge", 50
# More subscriptions than this in one request are refused.
GRAPH_SUBSCRIPTIONS = 1000
MOST_PAGES = 2000


def items(client: Client, path: str, api_version: str, **parameters: str) -> Iterator[dict[str, Any]]:
    """Yield what a list holds. nextLink is used as it comes, encoded where it is not; a page may be empty and still have one."""
    url = client.address(path, api_version, parameters)
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) >= MOST_PAGES:
            raise AnswerError("The list {0} does not end: its pages lead back to one another.".format(safe_url(url)))
        seen.add(url)
        page = client.get_url(url)
        value = page.get("value") if isinstance(page, dict) else None
        if not isinstance(value, list):
            raise AnswerError("The answer to GET {0} is no list.".format(safe_url(url)))
        yield from (entry for entry in value if isinstance(entry, dict))
        following = page.get("nextLink")
        url = following if isinstance(following, str) else ""


def graph(
    client: Client, query: str, *, subscriptions: Sequence[str] = (), management_groups: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a query over management groups, over subscriptions, or over all that the identity sees."""
    if management_groups:
        yield from _rows(client, query, {"managementGroups": list(management_groups)})
        return
    for start in range(0, len(subscriptions), GRAPH_SUBSCRIPTIONS):
        yield from _rows(client, query, {"subscriptions": list(subscriptions[start : start + GRAPH_SUBSCRIPTIONS])})
    if not subscriptions:
        yield from _rows(client, query, {})


def _rows(client: Client, query: str, scope: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one scope. Where a page would be larger than the service sends, the query begins anew with smaller ones: a token keeps
    the size of its pages. Rows that were given already are left out then."""
    given: set[str] = set()
    top = GRAPH_PAGE
    while True:
        try:
            for row in _pages(client, query, scope, top):
                key = _identity(row)
                if key not in given:
                    yield row
                given.add(key)
            return
        except AnswerError as error:
            if error.status != 400 or GRAPH_TOO_LARGE not in error.details or top <= GRAPH_SMALLEST:
                raise
            top = max(GRAPH_SMALLEST, top // 2)


def _identity(row: Mapping[str, Any]) -> str:
    id_ = row.get("id")
    return id_.lower() if isinstance(id_, str) and id_ else json.dumps(row, sort_keys=True)


def _pages(client: Client, query: str, scope: dict[str, Any], top: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of all pages. $skipToken alone leads to more; where there is none and rows are missing, that is an error, not an end."""
    token, pages, seen = None, 0, 0
    while True:
        options: dict[str, Any] = {"resultFormat": "objectArray", "$top": top}
        if token:
            options["$skipToken"] = token
        answer = client.read_by_post(GRAPH_PATH, GRAPH_VERSION, {**scope, "query": query, "options": options})
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise AnswerError("Resource Graph did not answer with rows.")
        yield from (row for row in rows if isinstance(row, dict))
        following = answer.get("$skipToken")
        pages += 1
        seen += len(rows)
        if not following:
            total = answer.get("totalRecords")
            # Later pages may differ by what came meanwhile.
            if pages == 1 and isinstance(total, int) and total > seen:
                raise AnswerError("Resource Graph gave {0} of {1} rows and no further page.".format(seen, total))
            return
        if following == token or pages >= MOST_PAGES:
            raise AnswerError("The pages of a Resource Graph query do not end.")
        token = following
