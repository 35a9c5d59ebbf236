# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The client: one identity, one cloud, one process."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import budget as budget_
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import clouds, credentials, errors, operations, paging
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.retry import Retry, asked_wait, proves_refusal
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import CONNECTIONS, Answer, Transport

USER_AGENT = "vmbackup.azure"
SKEW_S = 300.0
# What stands in an address as it is: what separates its parts, and what is encoded already.
ADDRESS = "%/:?#[]@!$&'()*+,;=~"
Item = TypeVar("Item")
Result = TypeVar("Result")

# One for the process: two clients for one subscription share its hour.
_BUDGET = budget_.Budget()


@dataclass
class Counts:
    """What a client did, for the report."""

    requests: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    waited_s: float = 0.0
    notes: list[str] = field(default_factory=list)


class Client:
    """Sends requests with a token, repeats what may be repeated, and keeps within the hour's budget.

    read_only refuses every write: so check mode is a property of the client, not a promise of each caller.
    on_request is told (method, address without its query, status, seconds) of each answer.
    """

    def __init__(
        self,
        cloud: clouds.Cloud,
        credential: credentials.Credential,
        transport: Transport,
        *,
        read_only: bool = True,
        retry: Retry | None = None,
        budget: budget_.Budget | None = None,
        on_request: Callable[[str, str, int, float], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cloud = cloud
        self.read_only = read_only
        self.counts = Counts()
        self.clock_skew_s: float | None = None
        self._credential = credential
        self._transport = transport
        self._retry = retry or Retry()
        self._budget = budget or _BUDGET
        self._on_request = on_request
        self._sleep = sleep
        self._lock = threading.Lock()

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, **more: Any) -> Client:
        """Return a client for the options of a plugin, completed by the environment."""
        found = credentials.settings(options, environ)
        cloud = clouds.find(found.get("cloud_environment"), found.get("resource_manager_url"), found.get("adfs_authority_url"))
        transport = Transport(ca_file=found.get("ca_file"), environ=environ)
        return cls(cloud, credentials.find(found, cloud, transport), transport, **more)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    # Addresses

    def address(self, path: str, api_version: str, parameters: Mapping[str, str] | None = None) -> str:
        """Return the address of a resource; semicolons of backup items travel as they are."""
        query = urlencode({**(parameters or {}), "api-version": api_version}, quote_via=quote, safe="$")
        return "{0}{1}?{2}".format(self.cloud.resource_manager, quote(path, safe="/;()-_.~%"), query)

    # Reads

    def get(self, path: str, api_version: str, **parameters: str) -> Any:
        return self.get_url(self.address(path, api_version, parameters))

    def get_url(self, url: str) -> Any:
        answer = self.get_answer(url)
        body = operations.body_of(answer)
        if body is None:
            raise errors.AnswerError("The answer to GET {0} is no JSON.".format(errors.safe_url(url)), status=answer.status)
        return body

    def get_answer(self, url: str) -> Answer:
        """Read an address that Azure gave: nextLink echoes a filter as it was sent or as it was meant, with spaces and all; what is encoded stays."""
        return self._send("GET", quote(url, safe=ADDRESS), None, read=True)

    def items(self, path: str, api_version: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list, over all its pages."""
        return paging.items(self, path, api_version, **parameters)

    def graph(self, query: str, **scope: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a Resource Graph query, over all its pages."""
        return paging.graph(self, query, **scope)

    def read_by_post(self, path: str, api_version: str, body: Any) -> Any:
        """Send a POST that changes nothing: Resource Graph, backupStatus."""
        answer = self._send("POST", self.address(path, api_version), body, read=True)
        return operations.body_of(answer)

    def read_by_operation(self, path: str, api_version: str, deadline_s: float) -> Any:
        """Send a POST that changes nothing and whose answer comes by an operation: effective rules and routes."""
        return self.wait(self._send("POST", self.address(path, api_version), None, read=True), deadline_s).value

    def at_once(self, function: Callable[[Item], Result], work: Iterable[Item]) -> list[tuple[Item, Result | errors.AzureError]]:
        """Call a function for each item, CONNECTIONS at once; a failure is a result, so that one item fails alone."""

        def one(item: Item) -> tuple[Item, Result | errors.AzureError]:
            try:
                return item, function(item)
            except errors.AzureError as error:
                return item, error

        work = list(work)
        if not work:
            return []
        with ThreadPoolExecutor(max_workers=min(CONNECTIONS, len(work))) as pool:
            return list(pool.map(one, work))

    def spent(self) -> dict[str, int]:
        """Return the requests of the last hour that have a budget."""
        return self._budget.spent()

    # Writes

    def write(self, method: str, path: str, api_version: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a write: once, and again only after an answer that proves that it was refused."""
        if self.read_only:
            raise errors.ReadOnly("{0} {1} was not sent: nothing is changed in this mode.".format(method, path))
        return self._send(method, self.address(path, api_version), body, read=False, more=headers)

    def wait(self, started: Answer, deadline_s: float) -> operations.Operation:
        """Wait for the end of what a write started."""
        return operations.wait(self, started, deadline_s=deadline_s, sleep=self._sleep)

    # The way

    def _send(self, method: str, url: str, body: Any, *, read: bool, more: Mapping[str, str] | None = None) -> Answer:
        if not self.cloud.owns(url):
            raise errors.AnswerError(
                "Azure named an address outside {0}: {1}. Nothing was sent there.".format(self.cloud.resource_manager, errors.safe_url(url))
            )
        content = None if body is None else json.dumps(body).encode()
        attempt, renewed = 0, False
        while True:
            attempt += 1
            self._budget.spend(method, url)
            token = self._credential.token()
            try:
                answer = self._once(method, url, token, content, more, fresh=not read)
            except errors.TransportError as error:
                pause = self._retry.after_loss(error, attempt, read)
                if pause is None:
                    raise
                self._pause(pause, "{0} ({1} {2})".format(error, method, errors.safe_url(url)))
                continue
            if answer.status < 400:
                return answer
            if answer.status == 401:
                if not renewed:
                    renewed = True
                    self._credential.renew(token)
                    continue
                raise self._refused(method, url, answer)
            pause = self._retry.after_answer(answer, attempt, read)
            if pause is None:
                asked = asked_wait(answer)
                if answer.status == 429 and asked and proves_refusal(answer):
                    self._budget.block(method, url, asked)
                raise errors.from_answer(method, url, answer.status, answer.headers, answer.body, asked)
            self._pause(pause, "{0} {1} was answered with {2}".format(method, errors.safe_url(url), answer.status))

    def _once(
        self, method: str, url: str, token: credentials.Secret, content: bytes | None, more: Mapping[str, str] | None, fresh: bool
    ) -> Answer:
        headers = {
            "Authorization": "Bearer " + token.reveal(),
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
            "x-ms-client-request-id": str(uuid.uuid4()),
            **(more or {}),
        }
        if content is not None:
            headers["Content-Type"] = "application/json"
        elif method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"
        began = time.monotonic()
        answer = self._transport.send(method, url, headers, content, fresh=fresh)
        with self._lock:
            self.counts.requests[method] = self.counts.requests.get(method, 0) + 1
            if self.clock_skew_s is None:
                self._compare_clocks(answer)
        if self._on_request:
            self._on_request(method, errors.safe_url(url), answer.status, time.monotonic() - began)
        return answer

    def _compare_clocks(self, answer: Answer) -> None:
        try:
            self.clock_skew_s = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return
        if abs(self.clock_skew_s) > SKEW_S:
            self.counts.notes.append(
                "The controller's clock is {0:.0f} s {1} Azure's; ages are reckoned by Azure's clock.".format(
                    abs(self.clock_skew_s), "ahead of" if self.clock_skew_s > 0 else "behind"
                )
            )

    def _refused(self, method: str, url: str, answer: Answer) -> errors.AuthenticationError:
        error = errors.from_answer(method, url, answer.status, answer.headers, answer.body)
        return errors.AuthenticationError(
            "Azure does not accept the token, also not a new one: {0}".format(error),
            status=401,
            code=error.code,
            correlation_id=error.correlation_id,
        )

    def _pause(self, seconds: float, why: str) -> None:
        with self._lock:
            self.counts.repeated += 1
            self.counts.waited_s += seconds
            if seconds >= 5:
                self.counts.notes.append("Waited {0:.0f} s: {1}".format(seconds, why))
        self._sleep(seconds)
