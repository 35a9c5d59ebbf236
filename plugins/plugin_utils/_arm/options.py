# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that all plugins of Azure have: how they sign in, and what they look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import credentials

if TYPE_CHECKING:
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.read import Scope

# Described in the doc fragment azure.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "auth_source": {"type": "str", "choices": list(credentials.SOURCES)},
    "profile": {"type": "str"},
    "subscription_id": {"type": "str"},
    "client_id": {"type": "str"},
    "secret": {"type": "str", "no_log": True},
    "tenant": {"type": "str"},
    "x509_certificate_path": {"type": "path"},
    "thumbprint": {"type": "str"},
    "cloud_environment": {"type": "str"},
    "adfs_authority_url": {"type": "str"},
    "resource_manager_url": {"type": "str"},
    "disable_instance_discovery": {"type": "bool"},
    "ca_file": {"type": "path"},
    "subscriptions": {"type": "list", "elements": "str"},
    "management_groups": {"type": "list", "elements": "str"},
    "vaults": {"type": "list", "elements": "str"},
    "effective_network": {"type": "bool", "default": False},
}


def scope_of(options: Mapping[str, Any]) -> Scope:
    """Return what is to be read: subscription_id, also from the environment, counts where nothing wider is named."""
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.read import Scope

    one = credentials.settings(options).get("subscription_id")
    return Scope(
        subscriptions=options.get("subscriptions") or ([one] if one else []),
        management_groups=options.get("management_groups") or [],
        vaults=options.get("vaults") or [],
        effective_network=bool(options.get("effective_network")),
    )
