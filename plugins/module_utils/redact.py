# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take secrets out of text before it leaves the machine that it was read on."""

import re

MASK = "[redacted]"

# A signature in any spelling that was seen in Azure's files: plain, XML-escaped, JSON-escaped, percent-encoded once or twice.
_SIGNATURE = re.compile(r"(?i)(?:^|[?&;]|%3f|%26|%253f|%2526|u0026|amp;|\s)sig(?:=|%3d|%253d|\\?u003d)")
_URL = re.compile(r"(?i)\bhttps?(?::|%3a|%253a)(?:[\\]?/[\\]?/|%2f%2f|%252f%252f)[^\s\"'<>]+")
_QUERY = re.compile(r"(?i)\?|%3f|%253f")
_BARE_SIGNATURE = re.compile(r"(?i)\bsig(=|%3d|%253d|\\?u003d)[^&\s\"'<>;,\\]+")
_CREDENTIALS = re.compile(r"(?i)((?:[a-z][a-z0-9+.-]*:)?//)[^/\s\"'@<>]+(?::[^/\s\"'<>]*)?@")
_NAMES = (
    "protectedSettings|protectedSettingsCertThumbprint|snapshotTaskToken|snapshotUri|statusBlobUri|logsBlobUri|objectStr"
    "|statusUploadBlob|commandToExecute|accountKey|sharedAccessSignature|accessToken|access_token|refresh_token|client_secret"
    "|password|passwd|pwd|secret|privateKey|encodedSignature"
)
_NAMED = re.compile(r"(?i)(\\*[\"']?\b(?:" + _NAMES + r")\\*[\"']?\s*[:=]\s*)(\\*\"(?:[^\"\\]|\\(?!\"))*\\*\"|'[^']*'|[^\s,;}\]\"']+)")
_AUTHORIZATION = re.compile(r"(?i)(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|sharedkey)?\s*)[^\s\"',}]+")
# What begins an address in a list of proxies, and an address without credentials.
_SCHEME = r"(?:[a-z][a-z0-9+.-]*:)?//"
_START = re.compile(r"(?i)(?:^|(?<=[;,\s]))(?:(?:https?|ftp|gopher|socks\w?)=(?:" + _SCHEME + ")?|" + _SCHEME + ")")
_PLAIN = re.compile(r"(?i)(?:[\w.*-]*|\[[0-9a-f:.%*]+\])(?::\d*)?/?$")
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.S)


def _mask_url(match):
    url = match.group(0)
    if not _SIGNATURE.search(url):
        return url
    query = _QUERY.search(url)
    return url[: query.start()] + "?" + MASK if query else MASK


def redact(text):
    """Return text without credentials, shared access signatures and settings that Azure protects.

    :param text: str or None.
    :returns: the same text with every secret replaced by ``[redacted]``; None stays None.
    Source: the list of what must never be collected in Microsoft's agent and extension layout.
    """
    if not text:
        return text
    text = _PEM.sub(MASK, text)
    text = _CREDENTIALS.sub(r"\1" + MASK + "@", text)
    text = _URL.sub(_mask_url, text)
    text = _BARE_SIGNATURE.sub(r"sig\1" + MASK, text)
    text = _AUTHORIZATION.sub(r"\1" + MASK, text)
    return _NAMED.sub(r"\1" + MASK, text)


def redact_proxy(text):
    """Return a proxy's address, or a list of them, without credentials, whether or not a scheme stands in front of them.

    For addresses of proxies only: elsewhere an at sign without a scheme belongs to an e-mail address more often than to a password.
    A password may hold every separator, so rather an address too many is masked.
    """
    if not text or "@" not in text:
        return redact(text)
    starts = [(found.start(), found.end()) for found in _START.finditer(text)]
    if not starts or starts[0][0] > 0:
        starts.insert(0, (0, 0))
    ends = [start for start, _address in starts[1:]] + [len(text)]
    shown = ""
    for (start, address), end in zip(starts, ends):
        _credentials, at_sign, rest = text[address:end].rpartition("@")
        if at_sign:
            rest = MASK + "@" + rest
        elif not all(map(_PLAIN.match, re.split(r"[;,\s]+", rest))):
            rest = MASK + ";"
        shown += text[start:address] + rest
    return redact(shown)


def clip(text, limit=300):
    """Return text on one line, without control characters, at most limit characters long."""
    if text is None:
        return None
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def public_line(text, limit=300):
    """Return a line of a log as it may be shown: secrets masked, control characters out, clipped."""
    return clip(redact(text), limit)
