# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""tdnf of Azure Linux. It has neither an option that ends it on a lock nor one that goes past a hold."""

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.package_rpm import Rpm


class Tdnf(Rpm):
    name = "tdnf"
    refresh = ["tdnf", "-q", "-y", "makecache"]
