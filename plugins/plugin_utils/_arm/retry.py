# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is sent again, and after how long.

A read is sent again after 429, a failure of the server and a lost connection. A write is sent again only after a 429 that the service itself gave:
that alone proves that nothing was done.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.errors import TransportError
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer

_SECONDS = re.compile(r"try again after '?(\d+)'? seconds", re.IGNORECASE)
_SPAN = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})")


def asked_wait(answer: Answer) -> float | None:
    """Return the seconds that an answer asks to wait: by header, or as Recovery Services and Resource Graph say it."""
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = answer.headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) / unit
        if value and name == "retry-after":
            try:
                when = parsedate_to_datetime(value)
            except ValueError:
                continue
            now = parsedate_to_datetime(answer.headers["date"]) if "date" in answer.headers else datetime.now(timezone.utc)
            return max(0.0, (when - now).total_seconds())
    if answer.status != 429:
        return None
    span = _SPAN.fullmatch(answer.headers.get("x-ms-user-quota-resets-after", ""))
    if span:
        return float(int(span.group(1)) * 3600 + int(span.group(2)) * 60 + int(span.group(3)))
    text = _SECONDS.search(answer.body[:4000].decode("utf-8", "replace"))
    return float(text.group(1)) if text else None


def proves_refusal(answer: Answer) -> bool:
    """Say whether a 429 is the service's own, so that nothing was done: a gateway on the way gives no error in Azure's shape."""
    if answer.status != 429:
        return False
    try:
        error = json.loads(answer.body).get("error")
    except (ValueError, AttributeError):
        return False
    return isinstance(error, dict) and bool(error.get("code"))


@dataclass(frozen=True)
class Retry:
    """Limits of repetition. A wait that Azure asks for and that is longer than longest_wait_s is not waited: the failure names it."""

    attempts: int = 5
    longest_wait_s: float = 60.0
    first_wait_s: float = 0.5
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    def _pause(self, attempt: int) -> float:
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** (attempt - 1) * (0.75 + 0.5 * self.jitter()))

    def after_answer(self, answer: Answer, attempt: int, read: bool) -> float | None:
        """Return the seconds to wait before the next attempt, None when there is none."""
        if attempt >= self.attempts:
            return None
        if read:
            if answer.status not in (408, 429) and answer.status < 500:
                return None
        elif not proves_refusal(answer):
            return None
        asked = asked_wait(answer)
        if asked is None:
            return self._pause(attempt)
        return None if asked > self.longest_wait_s else asked + 0.1 * self.jitter()

    def after_loss(self, error: TransportError, attempt: int, read: bool) -> float | None:
        """Return the seconds to wait after a connection was lost, None when the request is not sent again."""
        if not read or attempt >= self.attempts or error.kind not in ("reset", "timeout", "refused"):
            return None
        return self._pause(attempt)
