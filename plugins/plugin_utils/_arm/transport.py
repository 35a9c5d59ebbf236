# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connections to Azure: TLS with the system's or an own CA, kept alive, straight or through a proxy."""

from __future__ import annotations

import base64
import gzip
import http.client
import os
import socket
import ssl
import threading
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.errors import ConfigurationError, TransportError, one_line

CONNECTIONS = 16
TIMEOUT_S = 60.0
# The largest page of Resource Graph is 16 MB; nothing legitimate is larger than this.
MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Proxy:
    host: str
    port: int
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)


def find_ca_file(option: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the file of CA certificates: the option, or what requests and curl read; None is the system's."""
    for source, path in (("ca_file", option), *((name, environ.get(name)) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))):
        if path:
            path = os.path.expanduser(path)
            if not os.access(path, os.R_OK):
                raise ConfigurationError("{0} names {1}, which cannot be read.".format(source, path))
            return path
    return None


def find_proxy(host: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that HTTPS_PROXY names for a host, unless NO_PROXY excludes the host."""
    value = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
    excluded = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if not value or urllib.request.proxy_bypass_environment(host, {"no": excluded}):  # type: ignore[attr-defined]
        return None
    parts = urlsplit(value if "://" in value else "http://" + value)
    try:
        port = parts.port or 8080
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise ConfigurationError("HTTPS_PROXY must be like http://proxy.example.com:8080; the value that is set is not.")
    headers = {}
    if parts.username is not None:
        pair = "{0}:{1}".format(unquote(parts.username), unquote(parts.password or ""))
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, port, headers)


class Transport:
    """A pool of connections that threads share: at most CONNECTIONS at once to one host."""

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        ca_option: str = "ca_file",
    ) -> None:
        """ca_option: what a user names the file of a CA in, for the sentence that recommends it."""
        self._environ = os.environ if environ is None else environ
        self._timeout_s, self._ca_option = timeout_s, ca_option
        self._ca_file = find_ca_file(ca_file, self._environ)
        try:
            self._context = ssl.create_default_context(cafile=self._ca_file)
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError("{0} holds no certificates that can be read: {1}.".format(self._ca_file, error)) from None
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._idle: dict[tuple[str, int], list[http.client.HTTPSConnection]] = {}
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, int], threading.BoundedSemaphore] = {}

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, *, fresh: bool = False) -> Answer:
        """Send one request and return the answer, whatever its status.

        fresh: on a new connection. A kept one may have been closed by the other side meanwhile, and then nobody knows whether a write arrived.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ConfigurationError("Azure is reached by https only, not by {0!r}.".format(parts.scheme))
        key = (parts.hostname, parts.port or 443)
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        with self._lock:
            slot = self._slots.setdefault(key, threading.BoundedSemaphore(CONNECTIONS))
        with slot:
            connection = None if fresh else self._take(key)
            if connection is not None:
                try:
                    return self._exchange(key, connection, method, target, headers, body)
                except TransportError as error:
                    # The other side closed an idle connection; what happens on the new one is real.
                    if error.kind != "reset":
                        raise
            return self._exchange(key, self._connect(key), method, target, headers, body)

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            kept = [connection for pool in self._idle.values() for connection in pool]
            self._idle.clear()
        for connection in kept:
            connection.close()

    def _take(self, key: tuple[str, int]) -> http.client.HTTPSConnection | None:
        with self._lock:
            pool = self._idle.get(key)
            return pool.pop() if pool else None

    def _connect(self, key: tuple[str, int]) -> http.client.HTTPSConnection:
        host, port = key
        proxy = find_proxy(host, self._environ)
        if proxy is None:
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._context)
        else:
            connection = http.client.HTTPSConnection(proxy.host, proxy.port, timeout=self._timeout_s, context=self._context)
            connection.set_tunnel(host, port, dict(proxy.headers))
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _explain(error, host, proxy, self._ca_option) from None
        return connection

    def _exchange(
        self,
        key: tuple[str, int],
        connection: http.client.HTTPSConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Answer:
        try:
            connection.request(method, target, body=body, headers={"Accept-Encoding": "gzip", **headers})
            response = connection.getresponse()
            content = response.read(MAX_BODY + 1)
            names = {name.lower(): value for name, value in response.getheaders()}
            if len(content) > MAX_BODY:
                raise TransportError("The answer of {0} is larger than {1} MB.".format(key[0], MAX_BODY >> 20), kind="protocol")
            if names.get("content-encoding", "").lower() == "gzip":
                content = gzip.decompress(content)
        except (OSError, http.client.HTTPException, EOFError, zlib.error) as error:
            connection.close()
            raise _explain(error, key[0], None, self._ca_option) from None
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.setdefault(key, []).append(connection)
        return Answer(response.status, names, content)


def _explain(error: Exception, host: str, proxy: Proxy | None, ca_option: str = "ca_file") -> TransportError:
    """Return what a failure below HTTP means, in one sentence."""
    way = "{0} through the proxy {1}:{2}".format(host, proxy.host, proxy.port) if proxy else host
    reason = one_line(getattr(error, "strerror", None) or error or type(error).__name__, 200)
    if proxy and "Tunnel connection failed" in str(error):
        answer = str(error).partition("failed:")[2].strip()
        return TransportError(
            "The proxy {0}:{1} refuses to connect to {2}: {3}.".format(proxy.host, proxy.port, host, one_line(answer, 100)), kind="proxy"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = getattr(error, "verify_message", "") or reason
        text = "The certificate of {0} is not trusted: {1}. If a proxy or an own CA signs it, name the CA's file in {2}."
        return TransportError(text.format(way, reason, ca_option), kind="tls")
    if isinstance(error, (ssl.SSLEOFError, ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead, EOFError)):
        if isinstance(error, ConnectionRefusedError):
            return TransportError(
                "{0} refuses connections.".format(way if not proxy else "The proxy {0}:{1}".format(proxy.host, proxy.port)), kind="refused"
            )
        return TransportError("The connection to {0} was reset.".format(way), kind="reset")
    if isinstance(error, ssl.SSLError):
        return TransportError("No TLS connection to {0}: {1}.".format(way, reason), kind="tls")
    if isinstance(error, socket.gaierror):
        return TransportError("The name {0} cannot be resolved: {1}.".format(proxy.host if proxy else host, reason), kind="dns")
    if isinstance(error, TimeoutError):
        return TransportError("{0} did not answer in time.".format(way), kind="timeout")
    if isinstance(error, OSError):
        return TransportError("{0} cannot be reached: {1}.".format(way, reason), kind="refused")
    return TransportError("{0} sent an answer that is not HTTP: {1}.".format(way, type(error).__name__), kind="protocol")
