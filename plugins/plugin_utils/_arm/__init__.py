# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A client of Azure Resource Manager on Python's standard library, for the controller only.

transport   connections: TLS, proxy, keep-alive
credentials tokens, by client secret or by azure-identity
clouds      endpoints
retry       what is sent again, and when
budget      what the service allows in an hour
paging      lists and Resource Graph, page by page
operations  operations that take long
client      brings them together
errors      each failure as one sentence

Nothing here logs. Tokens, secrets and signed addresses are in no message, no repr and no exception.
"""
