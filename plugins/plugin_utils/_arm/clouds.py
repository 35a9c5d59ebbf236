# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Endpoints of the clouds, by the names that azure.azcollection uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.errors import ConfigurationError


@dataclass(frozen=True)
class Cloud:
    """Where requests and sign-ins go; tokens are asked for and sent to the resource manager only."""

    name: str
    resource_manager: str
    login: str

    @property
    def scope(self) -> str:
        return self.resource_manager + "/.default"

    def owns(self, url: str) -> bool:
        """Say whether an address that Azure named may be given a token: the resource manager itself or a region of it."""
        own, other = urlsplit(self.resource_manager), urlsplit(url)
        if other.scheme != "https" or (own.port or 443) != (other.port or 443) or not own.hostname or not other.hostname:
            return False
        if other.username is not None or other.password is not None:
            return False
        return other.hostname == own.hostname or other.hostname.endswith("." + own.hostname)


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud("AzureCloud", "https://management.azure.com", "https://login.microsoftonline.com"),
        Cloud("AzureUSGovernment", "https://management.usgovcloudapi.net", "https://login.microsoftonline.us"),
        Cloud("AzureChinaCloud", "https://management.chinacloudapi.cn", "https://login.chinacloudapi.cn"),
    )
}


def _endpoint(option: str, value: str) -> str:
    """Return an endpoint without its trailing slash."""
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or not re.fullmatch(r"[0-9A-Za-z.:\[\]-]+", parts.netloc):
        raise ConfigurationError("{0} must be an address like https://management.azure.com, not {1!r}.".format(option, value))
    return "https://" + parts.netloc + parts.path.rstrip("/")


def find(name: str | None, resource_manager: str | None = None, login: str | None = None) -> Cloud:
    """Return the cloud of that name, with other endpoints where they are given."""
    lower = (name or "AzureCloud").lower()
    known = next((cloud for cloud in CLOUDS.values() if cloud.name.lower() == lower), None)
    if known is None and not (resource_manager and login):
        raise ConfigurationError(
            "cloud_environment {0!r} is not known; it is one of {1}. For another cloud, set resource_manager_url and adfs_authority_url.".format(
                name, ", ".join(CLOUDS)
            )
        )
    base = known or CLOUDS["AzureCloud"]
    return Cloud(
        base.name if known else str(name),
        _endpoint("resource_manager_url", resource_manager) if resource_manager else base.resource_manager,
        _endpoint("adfs_authority_url", login) if login else base.login,
    )
