# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can go wrong on the way to Azure: each failure is one sentence that holds no token, secret or signed address."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

MASK = "********"
_ADDRESS = re.compile(r"https?://[^\s\"'<>\\]+")
_BEARER = re.compile(r"(?i)\bbearer\s+[^\s\"',]+")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){1,2}")
_PAIR = re.compile(r"(?i)\b(client_secret|client_assertion|access_token|refresh_token|password|secret|sig)(\"?\s*[=:]\s*\"?)[^\s\"'&,;}]+")
_SPACE = re.compile(r"\s+")
_LONGEST = 500

# What Entra ID's numbers mean to the person who wrote the options. Others are shown with Entra ID's own first sentence.
_SIGN_IN = {
    "AADSTS7000215": "the client secret is wrong. Use the secret's value, not its id",
    "AADSTS7000222": "the client secret has expired. Make a new one for the application",
    "AADSTS700016": "this tenant has no application with that client id",
    "AADSTS90002": "there is no tenant with that id or name",
    "AADSTS900023": "the tenant is neither an id nor a domain name",
    "AADSTS700027": "the certificate does not belong to the application",
    "AADSTS7000112": "the application is disabled",
    "AADSTS53003": "a conditional access policy refuses this sign-in",
}


def safe_url(url: str) -> str:
    """Return an address without its query, which may be signed; the api-version stays."""
    parts = urlsplit(url)
    version = re.search(r"(?:^|&)(api-version=[0-9A-Za-z.-]+)", parts.query)
    host = parts.hostname or ""
    if parts.port:
        host = "{0}:{1}".format(host, parts.port)
    return "{0}://{1}{2}{3}".format(parts.scheme, host, parts.path, "?" + version.group(1) if version else "")


def redacted(text: object) -> str:
    """Return a text without anything that opens a door: queries of addresses, tokens, secrets."""

    def address(match: re.Match[str]) -> str:
        try:
            return safe_url(match.group(0))
        except ValueError:
            return MASK

    result = _ADDRESS.sub(address, str(text))
    result = _BEARER.sub("Bearer " + MASK, result)
    result = _JWT.sub(MASK, result)
    return _PAIR.sub(lambda match: match.group(1) + match.group(2) + MASK, result)


def one_line(text: object, longest: int = _LONGEST) -> str:
    """Return a text of Azure as one short line that is safe to show."""
    line = _SPACE.sub(" ", redacted(text)).strip()
    return line if len(line) <= longest else line[: longest - 3] + "..."


class AzureError(Exception):
    """A failure. str() is the sentence for the user; the rest is for code."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        correlation_id: str | None = None,
        retry_after_s: float | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.correlation_id = correlation_id
        self.retry_after_s = retry_after_s
        # The codes of the inner errors: Resource Graph says the reason there, and BadRequest outside.
        self.details = tuple(details)


class ConfigurationError(AzureError):
    """An option is missing or makes no sense."""


class AuthenticationError(AzureError):
    """No token, or one that Azure does not take."""


class TransportError(AzureError):
    """No answer came back. kind: dns, refused, reset, timeout, tls, proxy, protocol."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class AnswerError(AzureError):
    """Azure answered with a failure."""


class AccessDenied(AnswerError):
    """403: the identity may not do this."""


class NotFound(AnswerError):
    """404: it is not there."""


class Throttled(AnswerError):
    """429 that was not over within the time that may be waited."""


class BudgetExhausted(AzureError):
    """The client's own limit, set below the service's: the request was not sent."""


class OperationFailed(AnswerError):
    """An operation that was started ended in another state than Succeeded."""


class ReadOnly(AzureError):
    """A write under check mode: a defect of the caller, and not sent."""


def correlation_of(headers: Mapping[str, str]) -> str | None:
    """Return the id by which Microsoft's support finds a request."""
    for name in ("x-ms-correlation-request-id", "x-ms-request-id", "x-ms-client-request-id"):
        value = headers.get(name)
        if value and re.fullmatch(r"[0-9A-Za-z-]{1,64}", value):
            return value
    return None


def error_of(body: bytes) -> tuple[str | None, str]:
    """Return (code, message) of an answer, whatever its shape; the innermost details complete the message."""
    try:
        data: Any = json.loads(body)
    except ValueError:
        return None, one_line(body[:2000].decode("utf-8", "replace"), 200) if body else ""
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, str):
        return (error, one_line(data.get("error_description", ""))) if isinstance(data, dict) else (None, one_line(error, 200))
    if not isinstance(error, dict):
        return None, one_line(error, 200)
    code = error.get("code") or error.get("Code")
    parts = [str(error.get("message") or error.get("Message") or "")]
    for detail in error.get("details") or []:
        if isinstance(detail, dict) and detail.get("message") and detail["message"] not in parts:
            parts.append(str(detail["message"]))
    return (str(code) if code else None), one_line(" ".join(part for part in parts if part))


def detail_codes(body: bytes) -> list[str]:
    """Return the codes of the inner errors of an answer."""
    try:
        data: Any = json.loads(body)
    except ValueError:
        return []
    error = data.get("error") if isinstance(data, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    return [str(entry["code"]) for entry in details if isinstance(entry, dict) and entry.get("code")] if isinstance(details, list) else []


def _ask(correlation: str | None) -> str:
    return " (correlation id {0})".format(correlation) if correlation else ""


def from_answer(
    method: str, url: str, status: int, headers: Mapping[str, str], body: bytes, retry_after_s: float | None = None
) -> AnswerError:
    """Return the error that an answer of Resource Manager stands for."""
    code, message = error_of(body)
    correlation = correlation_of(headers)
    text = "{0} {1} was answered with {2}{3}{4}{5}".format(
        method, safe_url(url), status, " " + one_line(code, 80) if code else "", ": " + message if message else "", _ask(correlation)
    )
    kind: type[AnswerError] = {403: AccessDenied, 404: NotFound, 429: Throttled}.get(status, AnswerError)
    if kind is Throttled and retry_after_s is not None:
        text += ". Azure asks to wait {0:.0f} s; run it again after that".format(retry_after_s)
    return kind(text, status=status, code=code, correlation_id=correlation, retry_after_s=retry_after_s, details=detail_codes(body))


def sign_in_failed(status: int, headers: Mapping[str, str], body: bytes, tenant: str, client_id: str) -> AuthenticationError:
    """Return the error that an answer of the login endpoint stands for."""
    code, message = error_of(body)
    number = re.match(r"(AADSTS\d+)", message)
    reason = _SIGN_IN.get(number.group(1)) if number else None
    if number and reason:
        reason = "{0} ({1})".format(reason, number.group(1))
    else:
        reason = one_line(re.split(r"(?i)\s*trace id:", message)[0] or code or "status {0}".format(status), 300)
    correlation = correlation_of(headers)
    try:
        correlation = correlation or json.loads(body).get("correlation_id")
    except (ValueError, AttributeError):
        pass
    text = "Could not sign in to tenant {0} as client {1}: {2}.{3}".format(tenant, client_id, reason.rstrip("."), _ask(correlation))
    return AuthenticationError(text, status=status, code=number.group(1) if number else code, correlation_id=correlation)
