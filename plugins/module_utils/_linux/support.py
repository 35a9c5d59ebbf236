# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a support case needs of a Linux guest, in one archive: read within bounds, redacted here before it travels, listed in a manifest."""

import fnmatch
import hashlib
import io
import json
import os
import re
import stat
import tarfile

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import agent, collect, conf
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import open_regular
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import MASK, redact, redact_proxy
from ansible_collections.vmbackup.azure.plugins.module_utils._values import iso

SCHEMA_VERSION = 1
# Never read, whatever pattern names them: keys, certificates, identities, passwords of provisioning, settings that Azure protects.
NEVER = (
    "*.prv", "*.crt", "*.pem", "*.p7m", "*.pfx", "*.key", "Certificates*", "ManagedIdentity-*", "ovf-env*", "*.settings", "*_settings",
    "*.zip", "*.tar", "*.gz", "ExtensionsConfig*", "VmSettings*", "*.json.lock", "customdata*", "CustomData*",
)  # fmt: skip
# Patterns of files; {lib} and {log} are the agent's directories.
FILES = (
    "/var/log/waagent.log",
    "/var/log/waagent.log.[0-9]*",
    "/var/log/waagent.log-*",
    "{log}/*.log",
    "{log}/*/*.log",
    "{log}/*/*/*.log",
    "{lib}/*.xml",
    "{lib}/error.json",
    "{lib}/waagent_status.json",
    "{lib}/*/error.json",
    "{lib}/*/HandlerManifest.json",
    "{lib}/*/HandlerEnvironment.json",
    "{lib}/*/config/HandlerState",
    "{lib}/*/config/HandlerStatus",
    "{lib}/*/status/*.status",
    "/etc/waagent.conf",
    "/etc/azure/vmbackup.conf",
    "/etc/azure/VMSnapshotScriptPluginConfig.json",
    "/etc/os-release",
    "/etc/resolv.conf",
    "/etc/fstab",
    "/proc/self/mounts",
    "/proc/meminfo",
    "/proc/loadavg",
)
COMMANDS = (
    ("uname", ["uname", "-a"]),
    ("agent-version", ["waagent", "--version"]),
    ("agent-unit", ["systemctl", "status", "--no-pager", "--full", "--lines=50", "walinuxagent.service", "waagent.service"]),
    ("agent-journal", ["journalctl", "--no-pager", "--utc", "--output=short-iso", "--lines=2000", "--unit=walinuxagent", "--unit=waagent"]),
    ("ip-address", ["ip", "address", "show"]),
    ("ip-route", ["ip", "route", "show", "table", "all"]),
    ("ip-rule", ["ip", "rule", "show"]),
    ("iptables", ["iptables-save"]),
    ("nftables", ["nft", "list", "ruleset"]),
    ("processes", ["ps", "-eo", "pid,ppid,stat,etime,comm"]),
    ("disks", ["df", "-hT"]),
    ("block-devices", ["lsblk"]),
)
# Exit codes of commands that say something all the same.
ANSWERS = (0, 1, 3, 4)
_END_OF_KEY = re.compile(r"-----END [A-Z ]+-----")
_PROXIED = re.compile(r"(?i)^(\s*(?:HttpProxy\.Host|\w*proxy)\s*[=:]\s*)(.*)$")


def never(path):
    """Say whether a file is never read, by its name or that of a directory above it."""
    parts = [part for part in path.split("/") if part]
    return any(fnmatch.fnmatchcase(part, pattern) for part in parts for pattern in NEVER)


def masked(path, text, cut):
    """Return (text without secrets, how many were masked).

    :param cut: whether the beginning of the file is missing: a key that began there is known by its end only.
    """
    before = text.count(MASK)
    if cut:
        end = _END_OF_KEY.search(text)
        if end and "-----BEGIN" not in text[: end.start()]:
            text = MASK + text[end.end() :]
    if path == "/etc/waagent.conf":
        shown = conf.mask(text)
    else:
        shown = redact(text)
        lines = shown.split("\n")
        for number, line in enumerate(lines):
            found = _PROXIED.match(line)
            if found:
                lines[number] = found.group(1) + (redact_proxy(found.group(2)) or "")
        shown = "\n".join(lines)
    return shown, max(0, shown.count(MASK) - before)


class Archive(object):
    """A compressed archive in memory with a manifest of what is in it; full when the limit of read bytes is reached."""

    def __init__(self, limits):
        self.limits, self.left = limits, limits["max_bytes"]
        self.files, self.left_out = [], []
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w:gz", compresslevel=6)

    def leave(self, path, reason):
        self.left_out.append({"path": redact(path), "reason": reason})

    def _put(self, name, data, mtime):
        info = tarfile.TarInfo("vmbackup/" + name)
        info.size, info.mtime, info.mode = len(data), int(mtime), 0o600
        self._tar.addfile(info, io.BytesIO(data))

    def add(self, name, source, text, now, size=None, mtime=None, cut=False):
        """Redact a text and put it in."""
        shown, count = masked(source, text, cut)
        data = shown.encode("utf-8", "replace")
        self.left -= len(data)
        self._put(name, data, mtime or now)
        self.files.append(
            {
                "name": name,
                "source": redact(source),
                "bytes": len(data),
                "source_bytes": size,
                "modified": iso(mtime),
                "cut": cut,
                "redactions": count,
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )

    def close(self, now):
        """Return (bytes of the archive, manifest)."""
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "collected_at": iso(now),
            "limits": dict(self.limits),
            "redactions": sum(entry["redactions"] for entry in self.files),
            "files": self.files,
            "left_out": self.left_out,
        }
        self._put("manifest.json", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode("ascii"), now)
        self._tar.close()
        return self._buffer.getvalue(), manifest


def read_end(path, limit):
    """Return (bytes of the end of a regular file, its size, when it was written, whether the beginning is missing). Links are not followed."""
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        raise OSError(0, "it is a link", path)
    fd = open_regular(path)
    try:
        info = os.fstat(fd)
        cut = info.st_size > limit
        os.lseek(fd, max(0, info.st_size - limit), os.SEEK_SET)
        chunks, wanted = [], limit
        while wanted > 0:
            chunk = os.read(fd, min(wanted, 1 << 20))
            if not chunk:
                break
            chunks.append(chunk)
            wanted -= len(chunk)
    finally:
        os.close(fd)
    data = b"".join(chunks)
    return (data.partition(b"\n")[2] if cut else data), info.st_size, info.st_mtime, cut


def _add_file(archive, host, path):
    if never(path):
        return archive.leave(path, "never collected")
    limit = min(archive.limits["max_file_bytes"], archive.left)
    if limit <= 0 or len(archive.files) >= archive.limits["max_files"]:
        return archive.leave(path, "the archive is full")
    try:
        info = os.lstat(host.path(path))
        if not path.startswith("/proc/") and host.now - info.st_mtime > archive.limits["max_age_days"] * 86400 and path.startswith("/var/"):
            return archive.leave(path, "older than {0} days".format(archive.limits["max_age_days"]))
        data, size, mtime, cut = read_end(host.path(path), limit)
    except OSError as error:
        return archive.leave(path, error.strerror or str(error))
    if b"\0" in data[:8192]:
        return archive.leave(path, "no text")
    return archive.add(
        "files" + path, path, data.decode("utf-8", "replace"), host.now, size, None if path.startswith("/proc/") else mtime, cut
    )


def collect_all(host, limits, run_command):
    """Return (archive as bytes, manifest).

    :param host: Guest.
    :param limits: max_bytes (of what is read), max_file_bytes, max_files, max_age_days, timeout_s.
    """
    archive, seen = Archive(limits), set()
    values = agent.config(host)
    places = {
        "lib": str(agent.setting(values, "Lib.Dir", "/var/lib/waagent")).rstrip("/"),
        "log": str(agent.setting(values, "Extension.LogDir", "/var/log/azure")).rstrip("/"),
    }
    facts = collect.collect_within(dict(DEFAULTS), run_command, host.root)
    archive.add("facts.json", "facts", json.dumps(facts, indent=1, sort_keys=True), host.now)
    for name, command in COMMANDS:
        if host.which(command[0]):
            text = host.run("system", command, limits["timeout_s"], ANSWERS)
            if text is None:
                archive.leave(" ".join(command), host.errors[-1]["error"] if host.errors else "it failed")
            else:
                archive.add("commands/{0}.txt".format(name), " ".join(command), text[-limits["max_file_bytes"] :], host.now)
    for pattern in FILES:
        paths = host.glob(pattern.format(**places))
        for path in sorted(paths, key=lambda path: (-_modified(host, path), path)):  # the newest first, where not all have room
            if path not in seen:
                seen.add(path)
                _add_file(archive, host, path)
    return archive.close(host.now)


def _modified(host, path):
    try:
        return os.lstat(host.path(path)).st_mtime
    except OSError:
        return 0


DEFAULTS = {
    "gather_subset": ["all"],
    "timeout_s": 3.0,
    "deadline_s": 60.0,
    "cpu_window_ms": 200,
    "log_bytes": 524288,
    "candidate": "never",
    "candidate_below": "0",
    "storage_endpoint": None,
    "vss_writers": "never",
}
