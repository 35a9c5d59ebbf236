# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What win_guest_facts returned, as the parsers ask for it. Nothing here trusts the guest: a value of the wrong kind is a missing value."""

import base64
import binascii
import zlib
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils import _values
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_dict, as_list, as_text, epoch

MAX_BYTES = 4 * 1024 * 1024
LARGEST = 10**17  # beyond every number of a real guest
KINDS = {
    "String": "REG_SZ",
    "ExpandString": "REG_EXPAND_SZ",
    "DWord": "REG_DWORD",
    "QWord": "REG_QWORD",
    "Binary": "REG_BINARY",
    "MultiString": "REG_MULTI_SZ",
}


def as_int(value: Any) -> int | None:
    """Return an int for an int or for text that spells one, None for anything else and for what no guest can have."""
    number = _values.as_int(value)
    return number if number is not None and abs(number) <= LARGEST else None


def decoded(text: int | str | None) -> bytes:
    """Return the bytes of base64, empty for what is none."""
    try:
        return base64.b64decode(as_text(text) or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


def unpacked(text: int | str | None) -> bytes:
    """Return the bytes that the guest compressed and wrote as base64, empty for what cannot be read; never more than MAX_BYTES."""
    packed = decoded(text)
    if not packed:
        return b""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, MAX_BYTES)
    except zlib.error:
        return b""


def to_text(data: bytes, code_page: int | None = None) -> str:
    """Return the text of bytes as Windows programs write them: UTF-16 and UTF-8 with a mark, UTF-8, else the code page."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").lstrip("\ufeff")
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:].decode("utf-8", "replace")
    if len(data) > 3 and data[1::2].count(0) > len(data) // 3:
        return data.decode("utf-16-le", "replace")  # the tail of a file whose mark is far in front
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp{0}".format(code_page) if code_page else "cp1252", "replace")
    except LookupError:
        return data.decode("latin-1")


def _lower(mapping: Any) -> dict[str, Any]:
    return {key.lower(): value for key, value in as_dict(mapping).items() if isinstance(key, str)}


class Raw(object):
    """The raw values of one guest. Paths of registry and files count in any case, as they do on Windows."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = as_dict(document)
        self.now = epoch(as_text(self.document.get("collected_at"))) or 0.0
        self._registry = _lower(self.document.get("registry"))
        self._files = _lower(self.document.get("files"))
        self._folders = _lower(self.document.get("folders"))
        self._versions = _lower(self.document.get("versions"))
        self._acls = _lower(self.document.get("acls"))
        self.errors: list[dict[str, Any]] = []
        for entry in map(as_dict, as_list(self.document.get("errors"))):
            self.error(*(as_text(entry.get(key)) or "unknown" for key in ("area", "what", "error")))
        self.not_visible = ["{0}: access denied, run as an administrator".format(path) for path in as_list(self.document.get("denied"))]

    def error(self, area: str, what: str, error: str) -> None:
        self.errors.append({"area": area, "what": what, "error": " ".join(str(error).split())[:300]})

    # --- registry ---
    def looked(self, key: str) -> bool:
        """Say whether a key was read, be it there or not."""
        return key.lower() in self._registry

    def key(self, key: str) -> dict[str, Any] | None:
        """Return {lower-case name: (name, type, data)} of a key, None when it is not there or was not read."""
        entry = self._registry.get(key.lower())
        if not isinstance(entry, dict):
            return None
        found = {}
        for name, pair in as_dict(entry.get("values")).items():
            pair = as_list(pair)
            if isinstance(name, str) and len(pair) == 2 and isinstance(pair[0], str):
                data = pair[1]
                if pair[0] == "DWord" and isinstance(data, int):
                    data &= 0xFFFFFFFF
                elif isinstance(data, (int, float)) and not -10 * LARGEST <= data <= 10 * LARGEST:
                    data = None
                found[name.lower()] = (name, KINDS.get(pair[0], pair[0]), data)
        return found

    def value(self, key: str, name: str, kind: Any = None) -> Any:
        """Return a value's data, None when it is not there or has another Python type than kind."""
        found = (self.key(key) or {}).get(name.lower())
        if found is None or (kind is not None and (not isinstance(found[2], kind) or isinstance(found[2], bool))):
            return None
        return found[2]

    def binary(self, key: str, name: str) -> bytes | None:
        """Return the bytes of a binary value, None when there is none."""
        found = (self.key(key) or {}).get(name.lower())
        return decoded(found[2]) if found and found[1] == "REG_BINARY" else None

    def keys_below(self, key: str) -> list[str]:
        """Return the keys directly below one that were read themselves, in the guest's spelling."""
        start = key.lower() + "\\"
        return sorted(
            path
            for path in as_dict(self.document.get("registry"))
            if isinstance(path, str) and path.lower().startswith(start) and "\\" not in path[len(start) :]
        )

    # --- files ---
    def file(self, path: str) -> tuple[Any, ...]:
        """Return (bytes, size, time of the last change), (None, None, None) for a file that was not there or not read."""
        entry = self._files.get(path.lower())
        if not isinstance(entry, dict):
            return None, None, None
        return (
            unpacked(entry.get("data")),
            as_int(entry.get("size")),
            epoch(as_text(entry.get("modified"))),
        )

    def lines(self, path: str) -> tuple[Any, ...]:
        """Return (lines, size) of a log's tail, ([], None) without one; a first line that was cut is left out."""
        data, size, _modified = self.file(path)
        if data is None:
            return [], None
        lines = [line.rstrip("\r") for line in to_text(data).replace("\x00", "").split("\n")]
        return (lines[1:] if size is not None and size > len(data) else lines), size

    def file_paths(self, start: str, end: str = "") -> list[str]:
        """Return the paths of the files that were read below a folder, in the guest's spelling."""
        return sorted(
            path
            for path in as_dict(self.document.get("files"))
            if isinstance(path, str) and path.lower().startswith(start.lower()) and path.lower().endswith(end.lower())
        )

    def folder(self, path: str) -> list[str] | None:
        """Return the names that a listing brought, None when the folder is not there or was not listed."""
        names = self._folders.get(path.lower())
        if isinstance(names, str):
            return [names]
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else None

    def folder_looked(self, path: str) -> bool:
        return path.lower() in self._folders

    def version(self, path: str | None) -> str | None:
        """Return the product version of a program, None without one."""
        entry = as_dict(self._versions.get((path or "").lower()))
        for text in (as_text(entry.get("product")), as_text(entry.get("file"))):
            text = (text or "").strip().split(" ")[0]
            if text[:1].isdigit() and text.strip("0.") and len(text) < 60:
                return text
        return None

    def acl(self, path: str) -> Any:
        return as_text(self._acls.get(path.lower()))

    def part(self, name: str) -> Any:
        """Return a part of the document as a dictionary."""
        return as_dict(self.document.get(name))

    def rows(self, name: str) -> list[dict[str, Any]] | None:
        """Return a part of the document as a list of dictionaries, None when it was not collected."""
        rows = self.document.get(name)
        if isinstance(rows, dict):
            rows = [rows]  # PowerShell's lists of one
        return [as_dict(row) for row in rows] if isinstance(rows, list) else None
