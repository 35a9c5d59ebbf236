# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A CA and a certificate for the two names that Azure answers under, made by the openssl command."""

from __future__ import annotations

import functools
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

NAMES = ("management.azure.com", "login.microsoftonline.com", "localhost")
_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {alternatives}
"""


def lacks() -> str:
    """Say what is missing on this machine, nothing when all is there."""
    return "" if shutil.which("openssl") else "there is no openssl command"


@functools.lru_cache(maxsize=None)
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="stand-in-")


@functools.lru_cache(maxsize=None)
def directory() -> Path:
    """Return the directory with CA and certificate: made once, gone with the process."""
    made = Path(_kept().name)
    make(made)
    return made


def make(directory: Path) -> Path:
    """Make CA and certificate in a directory, and return the CA's file for clients."""
    names = ["DNS:" + name for name in NAMES] + ["DNS:*.management.azure.com", "IP:127.0.0.1"]

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    for name, common in (("ca", "Stand-in of Azure, CA"), ("server", NAMES[0])):
        (directory / (name + ".cnf")).write_text(_CONFIG.format(name=common, alternatives=",".join(names)))
        run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name + ".key")
        (directory / (name + ".key")).chmod(0o600)
    run("req", "-x509", "-new", "-key", "ca.key", "-out", "ca.pem", "-days", "30", "-config", "ca.cnf", "-extensions", "ca")
    run("req", "-new", "-key", "server.key", "-out", "server.csr", "-config", "server.cnf")
    run(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2", "-days", "30"),
        *("-extfile", "server.cnf", "-extensions", "server", "-out", "server.pem"),
    )
    return directory / "ca.pem"


def context(directory: Path) -> ssl.SSLContext:
    """Return the context of the server."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    result.load_cert_chain(directory / "server.pem", directory / "server.key")
    return result
