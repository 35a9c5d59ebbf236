# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""What has to be on this machine: programs, keys, certificates and images."""

import pathlib
import secrets
import shutil

from .common import CACHE, STATE, run, tools, write
from .described import IMAGES, all_guests, is_windows
from .images import lacking, make_images

TOOLS = {
    "podman": "podman",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def install_tools():
    missing = []
    if not pathlib.Path("/usr/lib/cni/bridge").exists() and not shutil.which("netavark", path="/usr/lib/podman:/usr/libexec/podman"):
        missing.append("containernetworking-plugins")
    tools(TOOLS, missing)


def make_keys():
    for name, comment in (("id_ed25519", "lab operator"), ("host_ed25519", "lab guests")):
        path = CACHE / "ssh" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o700)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)
    STATE.mkdir(exist_ok=True)
    write(STATE / "id_ed25519", (CACHE / "ssh/id_ed25519").read_text(), 0o600)
    (STATE / "id_ed25519").chmod(0o600)
    write(STATE / "id_ed25519.pub", (CACHE / "ssh/id_ed25519.pub").read_text())
    host_key = " ".join((CACHE / "ssh/host_ed25519.pub").read_text().split()[:2])
    write(
        STATE / "known_hosts",
        "".join(f"{guest['address']},{guest['name']} {host_key}\n" for guest in all_guests().values()),
    )


def make_certificates():
    """Make the lab's certificate authority, a certificate for each Windows guest, and the password of their administrator."""
    folder = CACHE / "winrm"
    authority, key = folder / "ca.pem", folder / "ca.key"
    if not authority.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        run(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            "/CN=vmbackup lab",
            "-keyout",
            key,
            "-out",
            authority,
        )
    password = folder / "password"
    if not password.exists():
        write(password, secrets.token_urlsafe(24) + "\n", 0o600)
    for guest in all_guests().values():
        place = folder / guest["name"]
        if not is_windows(guest) or (place / "cert.pem").exists() and (place / "address").read_text() == guest["address"]:
            continue
        place.mkdir(exist_ok=True)
        names = f"subjectAltName=IP:{guest['address']},DNS:{guest['name']}"
        run(
            "openssl",
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={guest['name']}",
            "-keyout",
            place / "key.pem",
            "-out",
            place / "csr.pem",
        )
        (place / "names").write_text(names + "\n")
        run("openssl", "x509", "-req", "-in", place / "csr.pem", "-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", "3650",
            "-extfile", place / "names", "-out", place / "only.pem")  # fmt: skip
        shutil.copy(password, place / "password")
        write(place / "cert.pem", (place / "key.pem").read_text() + (place / "only.pem").read_text(), 0o600)
        (place / "address").write_text(guest["address"])
    write(STATE / "winrm_ca.pem", authority.read_text())
    write(STATE / "winrm_password", password.read_text(), 0o600)


def write_containers_conf():
    write(
        CACHE / "containers.conf",
        '# Written by lab/lab.\n[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n',
    )


def setup(images=None):
    install_tools()
    write_containers_conf()
    make_keys()
    if any(is_windows(guest) and not lacking(guest["image"]) for guest in all_guests().values()):
        tools({"openssl": "openssl"})
        make_certificates()
    wanted = images or [
        image for image in IMAGES if not lacking(image) and "packages" not in image and "debian" not in image and "base" not in image
    ]
    return make_images(wanted)
