# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in for Azure Resource Manager, Entra ID's login endpoint and Resource Graph.

server      HTTPS and the CONNECT proxy in front of it, the log of requests, faults on demand
tls         a CA of its own
documents   what Azure's documents look like
fleet       the state: subscriptions, VMs, vaults, items, jobs, and a generator of them
resources   answers of compute, network, locks and subscriptions
backup      answers of Recovery Services
graph       Resource Graph, as far as it is asked
rules       what every request must have, and what an hour allows

It is as strict as the documentation, and never kinder than the real service. What was recorded of the real service is replayed against it by
tests/unit/lab/test_arm_replay.py.
"""
