# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a key of the facts is: its kind, what it says, on which system, and whether a decision needs it."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

TEXT, NUMBER, FLAG, SCALAR = "a text", "a number", "true or false", "a text, a number, true or false"
LINUX, WINDOWS = "linux", "windows"
GROUP = ""  # the key of a mapping's own description


class Leaf(NamedTuple):
    """A value: its kind, what it says, the system that alone has it (empty: both), and whether it only informs: no rule, remedy or report needs it."""

    kind: str
    words: str
    on: str = ""
    informs: bool = False


class Group(NamedTuple):
    """What a mapping or the entries of a list say."""

    words: str
    on: str = ""


text, number, flag, scalar = (partial(Leaf, kind) for kind in (TEXT, NUMBER, FLAG, SCALAR))


def group(words: str, keys: dict[str, Any], on: str = "") -> dict[str, Any]:
    """Return a mapping with what it says; ``*`` stands for names of its own."""
    return {GROUP: Group(words, on), **keys}


def plain(shape: Any) -> Any:
    """Return a shape without words: kinds, mappings and lists alone."""
    if isinstance(shape, Leaf):
        return shape.kind
    if isinstance(shape, list):
        return [plain(shape[0])]
    return {key: plain(value) for key, value in shape.items() if key != GROUP}
