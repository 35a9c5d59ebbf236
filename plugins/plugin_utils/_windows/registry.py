# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Binary and textual values of the registry that several areas hold."""

import re
import struct
from datetime import datetime
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.extension import parse_ticks
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_text, epoch

START_TYPES = {0: "boot", 1: "system", 2: "auto", 3: "manual", 4: "disabled"}
# SERVICE_STATUS_PROCESS.dwCurrentState of winsvc.h.
STATES = {
    1: "stopped",
    2: "start_pending",
    3: "stop_pending",
    4: "running",
    5: "continue_pending",
    6: "pause_pending",
    7: "paused",
}
ACTIONS = {0: "none", 1: "restart", 2: "reboot", 3: "run_command"}
INFINITE = 0xFFFFFFFF
FILETIME_OF_1970 = 116444736000000000
_AMERICAN = re.compile(r"^(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d\d):(\d\d)(?:\.\d+)?(?: ([AaPp])[Mm])?$")


def failure_actions(data: bytes | None) -> dict[str, Any] | None:
    """Return restart, reset_s and actions of a service's FailureActions value, None when it is damaged.

    SERVICE_FAILURE_ACTIONS with the pointers written as 32-bit numbers: reset period, two pointers, number of actions, pointer, actions.
    """
    if data is None or len(data) < 20:
        return None
    reset, _message, _command, count, _actions = struct.unpack_from("<5I", data)
    if count > 64 or len(data) < 20 + 8 * count:
        return None
    actions = []
    for number in range(count):
        kind, delay = struct.unpack_from("<2I", data, 20 + 8 * number)
        actions.append({"type": ACTIONS.get(kind, str(kind)), "delay_ms": delay})
    return {
        "restart": any(action["type"] == "restart" for action in actions),
        "reset_s": None if reset == INFINITE else reset,
        "actions": actions,
    }


def when(value: Any) -> Any:
    """Return seconds since the epoch of a time as the agent writes it: ISO, American, FILETIME or .NET ticks; None for anything else. UTC."""
    if isinstance(value, bool) or value is None:
        return None
    written = str(value).strip()
    if isinstance(value, int) or re.match(r"^\d{17,19}$", written):
        number = int(written)
        if FILETIME_OF_1970 < number < 3 * FILETIME_OF_1970:
            return (number - FILETIME_OF_1970) / 10000000.0
        return parse_ticks(number)
    text = (as_text(value) or "").strip()
    found = _AMERICAN.match(text)
    if not found:
        return epoch(text)
    month, day, year, hour, minute, second = (int(found.group(n)) for n in range(1, 7))
    half = (found.group(7) or "").lower()
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        return (datetime(year, month, day, hour, minute, second) - datetime(1970, 1, 1)).total_seconds()
    except ValueError:
        return None
