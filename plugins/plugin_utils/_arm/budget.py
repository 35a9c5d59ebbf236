# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one subscription allows in an hour, kept below the service's own limits so that the portal and others can still read."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.errors import BudgetExhausted

HOUR_S = 3600.0
# The service's limits, seen in its 429 answers and in x-ms-ratelimit-remaining-subscription-resource-requests: 150 reads of jobs, 300 other reads.
LIMITS = {"reads of backup jobs": 120, "other reads of Recovery Services": 240}

_PATH = re.compile(r"(?i)/subscriptions/([^/?]+)/.*?providers/microsoft\.recoveryservices(/[^?]*)?")
_JOBS = re.compile(r"(?i)/vaults/[^/]+/backupJobs(/|$)")


def bucket_of(method: str, url: str) -> tuple[str, str] | None:
    """Return (subscription, kind) that a request counts for; None when nothing is counted. Polls of operations are reads like all others."""
    match = _PATH.search(url) if method == "GET" else None
    if match is None:
        return None
    kind = "reads of backup jobs" if _JOBS.search(match.group(2) or "") else "other reads of Recovery Services"
    return match.group(1).lower(), kind


class Budget:
    """Counts requests over the last hour; several threads share it. It lives as long as the process."""

    def __init__(self, limits: dict[str, int] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = LIMITS if limits is None else limits
        self._clock = clock
        self._spent: dict[tuple[str, str], deque[float]] = {}
        self._blocked: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def spend(self, method: str, url: str) -> None:
        """Count a request, or raise BudgetExhausted instead of sending it."""
        bucket = bucket_of(method, url)
        if bucket is None:
            return
        now = self._clock()
        limit = self._limits[bucket[1]]
        with self._lock:
            spent = self._spent.setdefault(bucket, deque())
            while spent and spent[0] <= now - HOUR_S:
                spent.popleft()
            wait = self._blocked.get(bucket, now) - now
            if wait <= 0 and len(spent) >= limit:
                wait = spent[0] + HOUR_S - now
                why = "the {0} that this collection allows itself in an hour are used up".format(limit)
            else:
                why = "Azure has refused them for now"
            if wait <= 0:
                spent.append(now)
                return
        raise BudgetExhausted(
            "No more {0} in subscription {1}: {2}. They are free again in {3:.0f} s.".format(bucket[1], bucket[0], why, wait),
            retry_after_s=wait,
        )

    def block(self, method: str, url: str, seconds: float) -> None:
        """Keep further requests of a kind back, after Azure refused one and asked for a long wait."""
        bucket = bucket_of(method, url)
        if bucket is not None:
            with self._lock:
                self._blocked[bucket] = max(self._blocked.get(bucket, 0.0), self._clock() + seconds)

    def spent(self) -> dict[str, int]:
        """Return the requests of the last hour, by subscription and kind."""
        with self._lock:
            return {"{0}: {1}".format(*bucket): len(times) for bucket, times in sorted(self._spent.items())}
