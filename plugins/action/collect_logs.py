# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have the guest collect and redact its logs, and write the archive on the controller."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import os
import re
import tempfile
import time
import zipfile
import zlib
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import MASK, redact
from ansible_collections.vmbackup.azure.plugins.plugin_utils._collect import is_windows
from ansible_collections.vmbackup.azure.plugins.plugin_utils._unsafe import untrusted

LINUX, WINDOWS = "vmbackup.azure.collect_logs", "vmbackup.azure.win_collect_logs"
MANIFEST = "vmbackup/manifest.json"
MAX_BYTES = 1 << 30  # of what an archive holds; the guest could send one that unfolds without end


def file_name(host: str, now: float, kind: str = "tar.gz") -> str:
    """Return the name of a host's archive. Two hosts never share one, however odd their names are."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", host).lstrip(".")[:80] or "host"
    if plain != host:
        plain += "-" + hashlib.sha256(host.encode("utf-8")).hexdigest()[:8]
    return "{0}-{1}.{2}".format(plain, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)), kind)


def store(directory: str, name: str, data: bytes) -> str:
    """Write an archive in one step, for its owner only; return its path."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".vmbackup-", dir=directory)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        path = os.path.join(directory, name)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def masked_again(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Look through an archive of a Windows guest once more; return it, and its manifest with what was masked here counted in.

    The guest masks by its own program. Both know the same secrets; what one of them misses is not to be kept here.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError("it is too large")
        texts = {name: archive.read(name) for name in archive.namelist()}
    manifest: dict[str, Any] = json.loads(texts.pop(MANIFEST).decode("utf-8-sig"))
    entries = {"vmbackup/" + str(entry["name"]): entry for entry in manifest["files"]}
    found = False
    for name, raw in texts.items():
        text = raw.decode("utf-8", "replace")
        shown = redact(text) or ""
        if shown == text:
            continue
        found = True
        count = max(0, shown.count(MASK) - text.count(MASK))
        texts[name] = raw = shown.encode("utf-8")
        entry = entries.get(name)
        if entry is not None:
            entry.update(redactions=int(entry["redactions"]) + count, bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
            manifest["redactions"] = int(manifest["redactions"]) + count
    if not found:
        return data, manifest
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in texts.items():
            archive.writestr(name, raw)
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return buffer.getvalue(), manifest


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        directory = self._task.args.get("directory")
        if not isinstance(directory, str) or not directory:
            raise AnsibleActionFail("directory has to name a directory on the controller.")
        windows = is_windows(self._connection)
        collected = self._execute_module(module_name=WINDOWS if windows else LINUX, task_vars=task_vars)
        content = collected.pop("content", None)
        collected.pop("invocation", None)
        result.update(untrusted(collected))
        if result.get("failed") or result.get("unreachable"):
            return result
        try:
            data = base64.b64decode(content or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise AnsibleActionFail("What the guest sent is no archive: {0}.".format(error)) from error
        if not data or hashlib.sha256(data).hexdigest() != collected.get("sha256"):
            raise AnsibleActionFail("What the guest sent is not what it collected (its SHA-256 differs). Run this again.")
        if windows:
            try:
                data, manifest = masked_again(data)
            except (zipfile.BadZipFile, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, zlib.error) as error:
                raise AnsibleActionFail("What the guest sent is no archive: {0}.".format(error)) from error
            more = {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "redactions": manifest["redactions"],
                "manifest": manifest,
            }
            result.update(untrusted(more))
        result["path"] = None
        if not self._task.check_mode:
            host = str((task_vars or {}).get("inventory_hostname", "host"))
            place = os.path.expanduser(directory)
            try:
                result["path"] = store(place, file_name(host, time.time(), "zip" if windows else "tar.gz"), data)
            except OSError as error:
                raise AnsibleActionFail("The archive could not be written to {0}: {1}.".format(place, error.strerror or error)) from error
        result["changed"] = False
        return result
