# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every request must have, what an hour allows, and how Azure says no."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# The versions that are accepted: those of the recordings, those that azure.azcollection sends, and ours.
VERSIONS = {
    "microsoft.recoveryservices": "2016-12-01 2017-07-01 2019-05-13 2019-06-15 2020-02-02 2023-01-01 2023-02-01 2024-04-01 2025-08-01 2026-10-01 2026-11-01",
    "microsoft.compute": "2022-08-01 2022-11-01 2024-07-01 2026-04-01",
    "microsoft.network": "2022-01-01 2024-01-01 2024-03-01 2026-03-01",
    "microsoft.authorization": "2016-09-01",
    "microsoft.resourcegraph": "2021-03-01 2022-10-01",
    "microsoft.resources": "2015-11-01 2019-11-01 2022-09-01 2022-12-01",
}
JOBS_AN_HOUR = 150
READS_AN_HOUR = 300
GRAPH_IN_5_S = 15
BUCKET, REFILL_A_SECOND = 250, 25
TOKEN_S = 3599


@dataclass
class Request:
    """A request; path is decoded, names of headers and of query parameters are in lower case."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    raw_query: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def base(self) -> str:
        return "https://" + self.host


@dataclass
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def refuse(status: int, code: str, message: str, **more: Any) -> Answer:
    headers = more.pop("headers", {})
    return Answer(status, {"error": {"code": code, "message": message, **more}}, headers)


def not_found(path: str) -> Answer:
    """Return what Resource Manager says of a resource that is not there."""
    match = re.match(r"(?i)/subscriptions/[^/]+/resourceGroups/([^/]+)/providers/([^/]+)/(.+)", path)
    if not match:
        return refuse(404, "NotFound", "The resource was not found.")
    parts = match.group(3).split("/")
    kind, name = "/".join(parts[::2]), "/".join(parts[1::2])
    message = "The Resource '{0}/{1}/{2}' under resource group '{3}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    return refuse(404, "ResourceNotFound", message.format(match.group(2), kind, name, match.group(1)))


def denied(path: str) -> Answer:
    message = (
        "The client '{0}' with object id '{0}' does not have authorization to perform action 'read' over scope '{1}' or the scope is invalid."
        " If access was recently granted, please refresh your credentials."
    )
    return refuse(403, "AuthorizationFailed", message.format("22222222-2222-2222-2222-222222222222", path))


def write_denied(path: str) -> Answer:
    message = "The client '{0}' with object id '{0}' does not have authorization to perform action 'write' over scope '{1}'."
    return refuse(403, "AuthorizationFailed", message.format("22222222-2222-2222-2222-222222222222", path))


def locked(request: Request, locks: list[dict[str, Any]]) -> Answer | None:
    """Refuse what a lock forbids: every write and action below a read-only one, every deletion below the other."""
    if request.method == "GET" or "/providers/microsoft.authorization/locks" in request.path.lower():
        return None
    for lock in locks:
        scope = lock["id"].lower().partition("/providers/microsoft.authorization/locks/")[0]
        strict = lock["properties"]["level"] == "ReadOnly"
        if (strict or request.method == "DELETE") and (request.path.lower() + "/").startswith(scope + "/"):
            message = "The scope '{0}' cannot perform {1} operation because following scope(s) are locked: '{2}'. Please remove the lock and try again."
            return refuse(409, "ScopeLocked", message.format(request.path, "delete" if request.method == "DELETE" else "write", scope))
    return None


def namespace_of(path: str) -> str:
    found = re.findall(r"(?i)/providers/([^/]+)", path)
    return found[-1].lower() if found else "microsoft.resources"


def check_version(request: Request) -> Answer | None:
    """Refuse a request without a known api-version."""
    version = request.query.get("api-version")
    if not version:
        return refuse(400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
    namespace = namespace_of(request.path)
    known = VERSIONS.get(namespace)
    if known is None:
        return refuse(404, "InvalidResourceNamespace", "The resource namespace '{0}' is invalid.".format(namespace))
    if version not in known.split():
        message = "The resource type could not be found in the namespace '{0}' for api version '{1}'. The supported api-versions are '{2}'."
        return refuse(400, "InvalidResourceType", message.format(namespace, version, known.replace(" ", ",")))
    return None


def check_body(request: Request) -> Answer | None:
    """Refuse a body that is no JSON object, and a PUT without one."""
    if request.method in ("PUT", "PATCH") and not request.body:
        return refuse(400, "MissingRequestBody", "The request body is missing.")
    if request.body and request.method in ("PUT", "PATCH", "POST"):
        if not request.headers.get("content-type", "").startswith("application/json"):
            return refuse(415, "UnsupportedMediaType", "The content media type is not supported. Only 'application/json' is supported.")
        try:
            if not isinstance(request.json(), (dict, type(None))):
                raise ValueError
        except ValueError:
            return refuse(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
    return None


class Tokens:
    """Tokens that were given out, and when they end."""

    def __init__(self) -> None:
        self._given: dict[str, float] = {}
        self._lock = threading.Lock()

    def give(self, lives_s: float = TOKEN_S) -> str:
        token = "stand-in." + uuid.uuid4().hex
        with self._lock:
            self._given[token] = time.monotonic() + lives_s
        return token

    def expire(self) -> None:
        with self._lock:
            self._given = dict.fromkeys(self._given, 0.0)

    def check(self, request: Request) -> Answer | None:
        challenge = {"www-authenticate": 'Bearer authorization_uri="https://login.microsoftonline.com/common", error="invalid_token"'}
        header = request.headers.get("authorization", "")
        if not header.startswith("Bearer "):
            return refuse(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.", headers=challenge)
        with self._lock:
            until = self._given.get(header[7:])
        if until is None:
            return refuse(401, "InvalidAuthenticationToken", "The access token is invalid.", headers=challenge)
        if until < time.monotonic():
            return refuse(
                401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time.", headers=challenge
            )
        return None


class Limits:
    """What the service allows; windows are sliding, buckets are filled again."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, ...], deque[float]] = {}
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()
        self.jobs_an_hour = JOBS_AN_HOUR
        # A test may have a clock of its own.
        self.clock: Callable[[], float] = time.monotonic

    def _window(self, key: tuple[str, ...], limit: int, seconds: float) -> tuple[int, float]:
        """Count one; return what is left (negative: too many) and the seconds until one is free."""
        now = self.clock()
        times = self._windows.setdefault(key, deque())
        while times and times[0] <= now - seconds:
            times.popleft()
        if len(times) >= limit:
            return -1, times[0] + seconds - now if times else seconds
        times.append(now)
        return limit - len(times), 0.0

    def subscription(self, subscription: str, kind: str) -> Answer | None:
        """Take one from the bucket of a subscription, for all providers together."""
        with self._lock:
            now = self.clock()
            left, then = self._buckets.get((subscription, kind), (float(BUCKET), now))
            left = min(float(BUCKET), left + (now - then) * REFILL_A_SECOND)
            self._buckets[subscription, kind] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if left >= 1:
            return None
        message = "Number of requests for subscription '{0}' exceeded the limit. Please try again after some time.".format(subscription)
        return refuse(429, "SubscriptionRequestsThrottled", message, headers={"retry-after": "1"})

    def recovery_services(self, request: Request, subscription: str) -> tuple[Answer | None, dict[str, str]]:
        """Count a read of Recovery Services; return the refusal, or the header that says what is left."""
        jobs = re.search(r"(?i)/vaults/[^/]+/backupJobs(/|$)", request.path)
        limit, what = (self.jobs_an_hour, "vaults/backupJobs/read") if jobs else (READS_AN_HOUR, "vaults/read")
        with self._lock:
            left, wait = self._window((subscription, what), limit, 3600.0)
        if left >= 0:
            return None, {"x-ms-ratelimit-remaining-subscription-resource-requests": str(left)}
        message = "Operation 'Microsoft.RecoveryServices/{0}' exceeded the limit of '{1}' for time interval '01:00:00'."
        message = (message + " Please try again after '{2:.0f}' seconds.").format(what, limit, wait)
        headers = {"retry-after": "{0:.0f}".format(wait)}
        return refuse(429, "ResourceCollectionRequestsThrottled", message, headers=headers), {}

    def graph(self) -> tuple[Answer | None, dict[str, str]]:
        with self._lock:
            left, wait = self._window(("graph",), GRAPH_IN_5_S, 5.0)
        headers = {
            "x-ms-user-quota-remaining": str(max(left, 0)),
            "x-ms-user-quota-resets-after": "00:00:05" if left >= 0 else "00:00:{0:02.0f}".format(max(1, wait)),
            "x-ms-ratelimit-remaining-tenant-resource-requests": str(max(left, 0)),
        }
        if left >= 0:
            return None, headers
        return refuse(
            429, "RateLimiting", "Client application has been throttled and should not attempt to repeat the request.", headers=headers
        ), {}
