# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reports in a container of Azure's blob storage, by the address with a shared access signature (SAS) that the environment holds.

The signature is a secret: it is sent to the storage account and shown nowhere. Shapes of the requests: Put Blob, Get Blob and List Blobs of
Azure Storage's REST API.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree

from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.errors import AzureError, ConfigurationError, TransportError, one_line
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.transport import Answer, Transport

VARIABLE = "VMBACKUP_REPORT_CONTAINER_URL"
PAUSES_S = (1.0, 4.0)
_CONTAINER = re.compile(r"/(?:[a-z0-9]{3,24}/)?(?:\$?[a-z0-9](?:-?[a-z0-9]){2,62})/?")
_CODE = re.compile(rb"<Code>([A-Za-z]{1,80})</Code>")

# What Azure Storage's codes mean to the person who made the signature.
_REFUSED = {
    "AuthenticationFailed": "the signature is not valid (any more); make a new one, and check that this machine's clock is right",
    "AuthorizationPermissionMismatch": "the signature does not allow it; it needs the permissions create and write, and read and list to merge reports",
    "UnauthorizedBlobOverwrite": "a report of that name is there, and the signature does not allow overwriting; let it write, or set vmbackup_report_name",
    "AuthorizationFailure": "the network rules of the account do not let this machine in, or the signature is not valid (any more)",
    "AuthorizationSourceIPMismatch": "the signature is for other addresses than this machine's",
    "AuthorizationProtocolMismatch": "the signature is for another protocol",
    "AuthorizationResourceTypeMismatch": "the signature is not for what a container holds; make it for the container",
    "AuthorizationServiceMismatch": "the signature is not for blobs",
    "ContainerNotFound": "there is no such container; it is not made",
    "ContainerBeingDeleted": "the container is being deleted",
    "AccountIsDisabled": "the storage account is disabled",
    "BlobImmutableDueToPolicy": "a report of that name is there, and the container's policy forbids overwriting it; set vmbackup_report_name",
    "LeaseIdMissing": "somebody holds a lease on it",
}


class ContainerError(Exception):
    """One sentence that holds no signature."""


def from_environment(environ: Mapping[str, str]) -> Container | None:
    """Return the container that the environment names, None where it names none.

    :raises ContainerError: when the address is not that of a container with a signature.
    """
    url = environ.get(VARIABLE, "").strip()
    return Container(url, environ=environ) if url else None


class Container:
    def __init__(self, url: str, *, environ: Mapping[str, str] | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        try:
            parts = urlsplit(url)
            signed = dict(parse_qsl(parts.query))
            sound = parts.scheme == "https" and parts.hostname and not parts.username and (parts.port or 443) > 0
        except ValueError:
            sound = False
        if not sound or not _CONTAINER.fullmatch(parts.path) or not signed.get("sig"):
            raise ContainerError(
                "{0} must be like https://ACCOUNT.blob.core.windows.net/CONTAINER?SAS, with the signature of a shared access; the value that"
                " is set is not, and is not shown here.".format(VARIABLE)
            )
        self.address = "https://{0}{1}".format(parts.netloc, parts.path.rstrip("/"))
        self._query = parts.query
        self._sleep = sleep
        try:
            self._transport = Transport(environ=environ, ca_option="REQUESTS_CA_BUNDLE")
        except AzureError as error:
            raise ContainerError(str(error)) from None

    def put(self, name: str, content: bytes, content_type: str) -> str:
        """Store a blob, over one of the same name, and return its address without the signature.

        It is sent again after a failure of the service or a lost answer, since the same content under the same name does no harm. What is there after
        that may be this blob or an older one, so it is read.

        :raises ContainerError: when it is not stored, or not known to be.
        """
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": content_type, "Content-Length": str(len(content))}
        answer, repeated = self._send("PUT", quote(name), {}, headers, content)
        if answer.status != 201 and not (repeated and _code(answer) == "UnauthorizedBlobOverwrite" and self._holds(name, content)):
            raise self._refused("store {0}".format(name), answer)
        return "{0}/{1}".format(self.address, quote(name))

    def _holds(self, name: str, content: bytes) -> bool:
        """Say whether a blob is the one that was sent before the answer was lost."""
        try:
            return self.get(name) == content
        except ContainerError as error:
            raise ContainerError(
                "Whether {0} was stored is not known: the service failed, and then a report of that name was there. {1}".format(name, error)
            ) from None

    def names(self, pattern: str) -> list[str]:
        """Return the names of blobs that a pattern such as ``vmbackup-12-*.json`` matches.

        :raises ContainerError: when they cannot be listed.
        """
        found: list[str] = []
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        marker = ""
        while True:
            question = {"restype": "container", "comp": "list", "prefix": prefix, **({"marker": marker} if marker else {})}
            answer, _repeated = self._send("GET", "", question, {}, None)
            if answer.status != 200:
                raise self._refused("list the reports", answer)
            try:
                listed = ElementTree.fromstring(answer.body)
            except ElementTree.ParseError:
                raise ContainerError("{0} answered with a list that is not XML.".format(self.address)) from None
            found += [name.text or "" for name in listed.iterfind("./Blobs/Blob/Name")]
            further = listed.findtext("./NextMarker") or ""
            if not further or further == marker:
                return sorted(name for name in found if fnmatch.fnmatchcase(name, pattern))
            marker = further

    def get(self, name: str) -> bytes:
        """Return what a blob holds.

        :raises ContainerError: when it cannot be read.
        """
        answer, _repeated = self._send("GET", quote(name), {}, {}, None)
        if answer.status != 200:
            raise self._refused("read {0}".format(one_line(name, 100)), answer)
        return answer.body

    def _send(
        self, method: str, name: str, question: Mapping[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> tuple[Answer, bool]:
        """Return the answer, and whether an earlier one was lost."""
        query = "&".join(filter(None, (urlencode(question), self._query)))
        url = "{0}{1}?{2}".format(self.address, "/" + name if name else "", query)
        lost = False
        for pause in (*PAUSES_S, None):
            try:
                # On a new connection: a kept one that was closed meanwhile is sent on again without a word, and the first may have arrived.
                answer = self._transport.send(method, url, headers, body, fresh=body is not None)
                if pause is None or (answer.status != 429 and answer.status < 500):
                    return answer, lost
                lost = lost or answer.status >= 500
            except ConfigurationError as error:
                raise ContainerError(str(error)) from None
            except TransportError as error:
                if pause is None or error.kind not in ("reset", "timeout"):
                    raise ContainerError(str(error)) from None
                lost = True
            self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _refused(self, what: str, answer: Answer) -> ContainerError:
        code = _code(answer)
        meant = _REFUSED.get(code, "")
        request = one_line(answer.headers.get("x-ms-request-id", ""), 60)
        return ContainerError(
            "Could not {0} in {1}: HTTP {2}{3}{4}.{5}".format(
                what,
                unquote(self.address),
                answer.status,
                " " + code if code else "",
                ", " + meant if meant else "",
                " Request id: {0}.".format(request) if request else "",
            )
        )


def _code(answer: Answer) -> str:
    """Return the error code of Azure Storage, which the header holds, or else the body."""
    code = answer.headers.get("x-ms-error-code", "")
    if not re.fullmatch(r"[A-Za-z]{1,80}", code):
        found = _CODE.search(answer.body[:4000])
        code = found.group(1).decode() if found else ""
    return code
