# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shape of the facts and the options of the collectors, the same for every system."""

SCHEMA_VERSION = 1
AREAS = ("agent", "extension", "network", "vss", "load")
# Areas that only Windows guests have; null on the others.
WINDOWS_AREAS = ("vss",)
# Platform support policy for extensions, page of 2025-09: oldest Linux agent that backup supports.
MINIMUM_LINUX_AGENT = "2.2.53.1"
# The same page: oldest Windows agent.
MINIMUM_WINDOWS_AGENT = "2.7.41491.1010"


def argument_spec():
    """Return the options of a collector; every call makes a new dictionary."""
    return {
        "gather_subset": {"type": "list", "elements": "str", "default": ["all"], "choices": ["all"] + list(AREAS)},
        "timeout_s": {"type": "float", "default": 3.0},
        "deadline_s": {"type": "float", "default": 60.0},
        "cpu_window_ms": {"type": "int", "default": 200},
        "log_bytes": {"type": "int", "default": 524288},
        "candidate": {"type": "str", "default": "auto", "choices": ["auto", "always", "never"]},
        "candidate_below": {"type": "str", "default": MINIMUM_LINUX_AGENT},
        "storage_endpoint": {"type": "str"},
        "vss_writers": {"type": "str", "default": "auto", "choices": ["auto", "always", "never"]},
    }


def areas(gather_subset):
    """Return the areas that gather_subset names, in order."""
    return [area for area in AREAS if "all" in gather_subset or area in gather_subset]
