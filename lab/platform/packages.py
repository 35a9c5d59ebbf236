# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""The packages that the stand-in of the Azure host offers: its snapshot extension, and an update of the agent that cannot run."""

import io
import json
import pathlib
import zipfile

HERE = pathlib.Path(__file__).resolve().parent


def extension_package(broken):
    """Return the zip of the stand-in extension, made from the files beside this program."""
    out = io.BytesIO()
    commands = {key + "Command": "main/handle.sh " + key for key in ("install", "enable", "disable", "uninstall", "update")}
    manifest = [{"version": 1.0, "handlerManifest": {**commands, "rebootAfterInstall": False, "reportHeartbeat": False}}]
    root = HERE / "extension"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("HandlerManifest.json", json.dumps(manifest))
        if broken:
            archive.writestr("main/install-fails", "")
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(str(path.relative_to(root)))
                entry.external_attr = (path.stat().st_mode & 0o777) << 16
                archive.writestr(entry, path.read_bytes())
    return out.getvalue()


def agent_package(version):
    """Return the zip of an agent update that ends with an error as soon as it is started."""
    out = io.BytesIO()
    program = f"bin/WALinuxAgent-{version}-py3.egg"
    manifest = [{"name": "WALinuxAgent", "version": 1.0, "handlerManifest": {"enableCommand": f"python -u {program} -run-exthandlers",
                "installCommand": "", "uninstallCommand": "", "updateCommand": "", "disableCommand": "", "rebootAfterInstall": False,
                "reportHeartbeat": False}}]  # fmt: skip
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("HandlerManifest.json", json.dumps(manifest))
        archive.writestr("manifest.xml", f"<ProvisioningManifest><Version>{version}</Version></ProvisioningManifest>")
        archive.writestr(program, 'import sys\nprint("stand-in: an agent update that cannot run")\nsys.exit(1)\n')
    return out.getvalue()
