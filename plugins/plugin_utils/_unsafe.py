# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Texts that are not ours: never evaluated as templates."""

from __future__ import annotations

from typing import Any

try:
    from ansible.utils.unsafe_proxy import wrap_var
except ImportError:  # cores that have no such mark any more: there, what a plugin returns is not trusted unless it says so
    wrap_var = None


def untrusted(value: Any) -> Any:
    """Return data whose texts no core evaluates as templates: marked up to core 2.18, freed of any mark of trust from 2.19 on."""
    return value if wrap_var is None else wrap_var(value)
