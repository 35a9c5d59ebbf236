# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Operations that take long: started by a write, then asked after until they end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.retry import asked_wait
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer

if TYPE_CHECKING:
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client

ENDED = ("succeeded", "failed", "canceled", "cancelled")
FIRST_POLL_S = 2.0
LONGEST_POLL_S = 30.0


@dataclass(frozen=True)
class Operation:
    """How it ended. properties: what the operation itself says, such as a backup's jobId; value: what Location gave."""

    status: str
    properties: dict[str, Any] = field(default_factory=dict)
    value: Any = None


def body_of(answer: Answer) -> Any:
    """Return the JSON of an answer, None when there is none."""
    if not answer.body.strip():
        return None
    try:
        return json.loads(answer.body)
    except ValueError:
        return None


def wait(
    client: Client,
    started: Answer,
    *,
    deadline_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Operation:
    """Wait for the end of an operation, or raise. The addresses are signed and long: used as they came, shown to nobody.

    The first Retry-After is not obeyed: Azure asks for 60 s where a backup is started within one or two.
    """
    address = started.headers.get("azure-asyncoperation")
    location = started.headers.get("location")
    if started.status in (200, 201, 204) and not address:
        return Operation("Succeeded", value=body_of(started))
    if not address and not location:
        raise errors.AnswerError(
            "Azure accepted the operation but named no address to ask after it.", correlation_id=errors.correlation_of(started.headers)
        )
    until, pause = clock() + deadline_s, FIRST_POLL_S
    while True:
        if clock() + pause > until:
            raise errors.OperationFailed(
                "The operation did not end within {0:.0f} s; it may still be running.".format(deadline_s),
                correlation_id=errors.correlation_of(started.headers),
            )
        sleep(pause)
        answer = client.get_answer(address or location or "")
        body = body_of(answer)
        if address:
            status = str((body or {}).get("status", "")) if isinstance(body, dict) else ""
            if status.lower() in ENDED:
                return _ended(client, status, body, location, answer)
        elif answer.status != 202:
            return Operation("Succeeded", value=body)
        else:
            location = answer.headers.get("location") or location
        asked = asked_wait(answer)
        pause = min(LONGEST_POLL_S, asked if asked is not None else pause * 1.5)


def _ended(client: Client, status: str, body: dict[str, Any], location: str | None, answer: Answer) -> Operation:
    """Return an operation that succeeded, with what Location gives; raise for any other end."""
    properties = body.get("properties") if isinstance(body.get("properties"), dict) else {}
    if status.lower() != "succeeded":
        code, message = errors.error_of(json.dumps({"error": body.get("error") or {}}).encode())
        correlation = errors.correlation_of(answer.headers)
        raise errors.OperationFailed(
            "The operation ended as {0}{1}{2}{3}".format(
                status,
                " with " + code if code else "",
                ": " + message if message else "",
                " (correlation id {0})".format(correlation) if correlation else "",
            ),
            code=code,
            correlation_id=correlation,
        )
    value = None
    if location:
        try:
            value = body_of(client.get_answer(location))
        except errors.NotFound:
            # The result of an operation without one is gone as soon as it ended.
            value = None
    return Operation("Succeeded", properties or {}, value)
