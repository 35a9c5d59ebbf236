# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why nothing may be changed now, asked anew at each use."""

DOCUMENTATION = r"""
name: maintenance_window
author: vmbackup.azure contributors (@vmbackup)
version_added: 0.1.0
short_description: Why a guest may not be changed now
description:
  - Returns an empty text while the maintenance window is open, and otherwise why it is not.
  - It looks at the controller's clock each time it is used, so that a run that takes long ends with its window.
  - What cannot be told, such as the time in an unknown time zone, is outside of the window.
options:
  _terms:
    description: Not used.
  not_before:
    description: Time of day at which the window opens, such as V(22:00). Empty means at midnight.
    type: raw
  not_after:
    description: Time of day at which it closes. When it is not later than O(not_before), the window crosses midnight.
    type: raw
  weekdays:
    description: Days on which a window opens, by their English names or the first three letters. Empty means every day.
    type: raw
  time_zone:
    description: V(guest), or a name of the tz database such as V(Europe/Berlin).
    type: str
    default: UTC
  utc_offset_s:
    description: Seconds that the guest's local time is ahead of UTC, for the time zone V(guest).
    type: raw
"""

EXAMPLES = r"""
- name: Stop outside of the maintenance window
  ansible.builtin.assert:
    that: closed == ''
    fail_msg: "Nothing was changed: {{ closed }}."
  vars:
    closed: "{{ lookup('vmbackup.azure.maintenance_window', not_before='22:00', not_after='05:00', time_zone='Europe/Berlin') }}"
"""

RETURN = r"""
_raw:
  description: Why nothing may be changed now, empty when it may.
  type: list
  elements: str
"""

from datetime import datetime, timezone

from ansible.plugins.lookup import LookupBase
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _window


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        window = {name: self.get_option(name) for name in _window.OPTIONS}
        return [_window.closed(window, datetime.now(timezone.utc), self.get_option("utc_offset_s"))]
