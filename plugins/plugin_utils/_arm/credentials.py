# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tokens for Resource Manager. A client secret needs no package; everything else is azure-identity's, imported only when it is asked for."""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import json
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.clouds import Cloud
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Transport

# option: environment variables, the name of azure.azcollection first, then that of Azure's own libraries.
ENVIRONMENT = {
    "auth_source": ("ANSIBLE_AZURE_AUTH_SOURCE",),
    "profile": ("AZURE_PROFILE",),
    "subscription_id": ("AZURE_SUBSCRIPTION_ID",),
    "client_id": ("AZURE_CLIENT_ID",),
    "secret": ("AZURE_SECRET", "AZURE_CLIENT_SECRET"),
    "tenant": ("AZURE_TENANT", "AZURE_TENANT_ID"),
    "cloud_environment": ("AZURE_CLOUD_ENVIRONMENT",),
    "adfs_authority_url": ("AZURE_ADFS_AUTHORITY_URL",),
    "x509_certificate_path": ("AZURE_X509_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PATH"),
    "thumbprint": ("AZURE_THUMBPRINT",),
    "ad_user": ("AZURE_AD_USER",),
    "disable_instance_discovery": ("AZURE_DISABLE_INSTANCE_DISCOVERY",),
}
SOURCES = ("auto", "env", "credential_file", "msi", "workload_identity", "cli")
EARLY_S = 300.0
_NAME = re.compile(r"[0-9A-Za-z.-]{1,128}")


class Secret:
    """A text that shows itself to nobody by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return errors.MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return errors.MASK

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not written anywhere")


class Credential(Protocol):
    """What the client needs of a credential."""

    def token(self) -> Secret:
        """Return a token that is good for some minutes."""

    def renew(self, refused: Secret) -> None:
        """Forget a token that Azure refused."""


class _Cached:
    """Keeps one token for all threads and asks for the next one in time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Secret | None = None
        self._until = 0.0

    def _ask(self) -> tuple[Secret, float]:
        raise NotImplementedError

    def token(self) -> Secret:
        """Return a token that is good for some minutes; by the process's own clock, so a wrong wall clock does not matter."""
        with self._lock:
            if self._kept is None or self._clock() >= self._until:
                self._kept, lives_s = self._ask()
                self._until = self._clock() + max(lives_s - EARLY_S, lives_s / 2)
            return self._kept

    def renew(self, refused: Secret) -> None:
        """Forget a token that Azure refused, unless another thread has a newer one already."""
        with self._lock:
            if self._kept is refused:
                self._kept = None


class ClientSecret(_Cached):
    """A service principal with a secret: one form POST."""

    def __init__(self, tenant: str, client_id: str, secret: Secret, cloud: Cloud, transport: Transport, **options: Any) -> None:
        super().__init__(**options)
        self._tenant, self._client_id, self._secret = tenant, client_id, secret
        self._cloud, self._transport = cloud, transport

    def _ask(self) -> tuple[Secret, float]:
        url = "{0}/{1}/oauth2/v2.0/token".format(self._cloud.login, self._tenant)
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret.reveal(),
            "scope": self._cloud.scope,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        for attempt in (1, 2, 3):
            try:
                answer = self._transport.send("POST", url, headers, urlencode(form).encode())
            except errors.TransportError as error:
                if attempt == 3 or error.kind not in ("reset", "timeout"):
                    raise
                continue
            if answer.status < 500 or attempt == 3:
                break
            time.sleep(0.5 * attempt)
        if answer.status != 200:
            raise errors.sign_in_failed(answer.status, answer.headers, answer.body, self._tenant, self._client_id)
        try:
            data = json.loads(answer.body)
            return Secret(str(data["access_token"])), float(data.get("expires_in", 3599))
        except (ValueError, KeyError, TypeError):
            raise errors.AuthenticationError(
                "{0} did not answer with a token. Check adfs_authority_url.".format(errors.safe_url(url))
            ) from None


class Identity(_Cached):
    """A credential of the package azure-identity."""

    def __init__(self, what: str, make: Callable[[Any], Any], cloud: Cloud, **options: Any) -> None:
        super().__init__(**options)
        self._what, self._cloud = what, cloud
        try:
            import azure.identity as package
        except ImportError:
            raise errors.ConfigurationError(
                "{0} needs the Python package azure-identity on the controller, in the Python that runs Ansible: pip install azure-identity.".format(
                    what
                )
            ) from None
        try:
            self._credential = make(package)
        except Exception as error:
            raise errors.ConfigurationError("{0} cannot be used: {1}".format(what, _first_line(error))) from None

    def _ask(self) -> tuple[Secret, float]:
        try:
            token = self._credential.get_token(self._cloud.scope)
        except Exception as error:
            raise errors.AuthenticationError("{0} gave no token: {1}".format(self._what, _first_line(error))) from None
        return Secret(token.token), float(token.expires_on) - time.time()


def _first_line(error: Exception) -> str:
    return errors.one_line((str(error) or type(error).__name__).strip().splitlines()[0], 300)


@dataclass(frozen=True)
class Settings:
    """What the options, the environment and ~/.azure/credentials say together; the secret does not show."""

    values: Mapping[str, str]
    secret: Secret | None = None

    def get(self, name: str) -> str | None:
        return self.values.get(name) or None


def _from_file(profile: str, environ: Mapping[str, str]) -> dict[str, str]:
    path = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".azure", "credentials")
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as stream:
            parser.read_file(stream)
    except (OSError, UnicodeDecodeError):
        return {}
    except configparser.Error:
        raise errors.ConfigurationError("{0} is not an INI file.".format(path)) from None
    return dict(parser.items(profile)) if parser.has_section(profile) else {}


def settings(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings: an option goes before the environment, that before the file. auth_source restricts where is looked."""
    environ = os.environ if environ is None else environ
    given = {name: str(value) for name, value in options.items() if value is not None and not isinstance(value, (list, dict))}
    variables = {name: next((environ[key] for key in keys if environ.get(key)), "") for name, keys in ENVIRONMENT.items()}
    source = given.get("auth_source") or variables["auth_source"] or "auto"
    if source not in SOURCES:
        raise errors.ConfigurationError("auth_source {0!r} is not known; it is one of {1}.".format(source, ", ".join(SOURCES)))
    layers: list[Mapping[str, str]] = [given]
    if source != "credential_file":
        layers.append(variables)
    if source in ("auto", "credential_file"):
        profile = given.get("profile") or variables["profile"] or "default"
        stored = _from_file(profile, environ)
        if source == "credential_file" and not stored:
            raise errors.ConfigurationError("~/.azure/credentials has no section [{0}], or it cannot be read.".format(profile))
        layers.append(stored)
    names = (*ENVIRONMENT, "resource_manager_url", "ca_file")
    values = {name: next((layer[name] for layer in layers if layer.get(name)), "") for name in names if name != "secret"}
    secret = next((layer["secret"] for layer in layers if layer.get("secret")), None)
    values["auth_source"] = source
    for name in ("subscription_id", "client_id", "tenant"):
        if values[name] and not _NAME.fullmatch(values[name]):
            raise errors.ConfigurationError("{0} must be an id{1}.".format(name, " or a domain name" if name == "tenant" else ""))
    return Settings(values, Secret(secret) if secret else None)


def _check_thumbprint(file: str, thumbprint: str | None) -> None:
    """Refuse a certificate that is not the one that is meant. azure-identity reckons the thumbprint itself, so none is needed."""
    if not thumbprint:
        return
    try:
        with open(file, encoding="ascii", errors="replace") as stream:
            blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", stream.read(), re.S)
        have = {hashlib.sha1(ssl.PEM_cert_to_DER_cert(block), usedforsecurity=False).hexdigest() for block in blocks}
    except (OSError, ValueError) as error:
        raise errors.ConfigurationError(
            "x509_certificate_path names {0}, which cannot be read: {1}.".format(file, _first_line(error))
        ) from None
    if re.sub(r"[^0-9a-f]", "", thumbprint.lower()) not in have:
        raise errors.ConfigurationError("No certificate in {0} has the thumbprint {1}.".format(file, errors.one_line(thumbprint, 80)))


def find(found: Settings, cloud: Cloud, transport: Transport) -> Credential:
    """Return the credential that the settings lead to; nothing is sent yet."""
    source, tenant, client = found.get("auth_source"), found.get("tenant"), found.get("client_id")
    authority: dict[str, Any] = {"authority": cloud.login.partition("://")[2]}
    if (found.get("disable_instance_discovery") or "").lower() in ("1", "true", "yes", "on"):
        authority["disable_instance_discovery"] = True
    if source == "msi":
        return Identity(
            "auth_source msi", lambda package: package.ManagedIdentityCredential(**({"client_id": client} if client else {})), cloud
        )
    if source == "workload_identity":
        return Identity(
            "auth_source workload_identity", lambda package: package.WorkloadIdentityCredential(tenant_id=tenant, client_id=client), cloud
        )
    if source == "cli":
        return Identity("auth_source cli", lambda package: package.AzureCliCredential(tenant_id=tenant or ""), cloud)
    path = found.get("x509_certificate_path")
    if path and tenant and client:
        file = os.path.expanduser(path)
        _check_thumbprint(file, found.get("thumbprint"))
        return Identity(
            "x509_certificate_path",
            lambda package: package.CertificateCredential(tenant, client, certificate_path=file, **authority),
            cloud,
        )
    if found.secret and tenant and client:
        return ClientSecret(tenant, client, found.secret, cloud, transport)
    if found.get("ad_user"):
        raise errors.ConfigurationError(
            "Sign-in with ad_user and password is not supported: Azure asks people for a second factor. Use a service principal or auth_source cli."
        )
    have = {"client_id": client, "secret": found.secret, "tenant": tenant}
    lacking = [name for name, value in have.items() if not value]
    if source == "auto" and len(lacking) == 3 and importlib.util.find_spec("azure") and importlib.util.find_spec("azure.identity"):
        return Identity("az login", lambda package: package.AzureCliCredential(tenant_id=""), cloud)
    if len(lacking) < 3:
        raise errors.ConfigurationError("The credentials for Azure are incomplete: {0} is missing.".format(" and ".join(lacking)))
    raise errors.ConfigurationError(
        "There are no credentials for Azure. Set client_id, secret and tenant (or AZURE_CLIENT_ID, AZURE_SECRET and AZURE_TENANT),"
        " or set auth_source to msi, workload_identity or cli, which need the Python package azure-identity."
    )
