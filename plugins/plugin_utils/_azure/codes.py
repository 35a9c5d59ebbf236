# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the symbol of an error is found in what Azure says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import values
from ansible_collections.vmbackup.azure.plugins.plugin_utils._error_codes import NUMBERS

NO_ERROR = ("success", "iaasvmhealthgreendefault")
_SYMBOL = re.compile(r"[A-Z][A-Za-z]*[a-z][A-Za-z0-9]*[A-Z][A-Za-z0-9]*")
_IN_TEXT = re.compile(
    r"\b(?:UserError|ExtensionSnapshot|ExtensionFailed|ExtensionOperation|GuestAgent|VMRestorePoint|BackUpOperation)[A-Za-z0-9]{3,}\b"
)


def symbol_of(number: int | None, title: str | None, message: str | None) -> str | None:
    """Return the symbol of an error: by its title where that is one, by its number, or as it stands in its text."""
    if title and _SYMBOL.fullmatch(title.strip()):
        return title.strip()
    if number in NUMBERS:
        return NUMBERS[number]
    for text in (title, message):
        match = _IN_TEXT.search(text or "")
        if match:
            return match.group(0)
    return None


def error_of(detail: Mapping[str, Any], source: str) -> dict[str, Any] | None:
    """Return an error from a healthDetails, a resourceHealthDetails or an errorDetails entry; None where it says that all is well."""
    number = values.number(detail.get("code", detail.get("errorCode")))
    title = values.text(detail.get("title", detail.get("errorTitle")))
    message = values.text(detail.get("message", detail.get("errorString")))
    if (title or "").lower() in NO_ERROR or number == 0 or not (title or message or number):
        return None
    return {
        "code": symbol_of(number, title, message),
        "number": number,
        "title": title,
        "message": message,
        "recommendations": values.texts(detail.get("recommendations")),
        "source": source,
    }
