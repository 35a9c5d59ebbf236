# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""The stand-in for the Azure host: started with the guests, and asked."""

import hashlib
import http.client
import json
import pathlib
import shutil
import time
import urllib.error
import urllib.request

from .common import CACHE, LAB, Trouble
from .containers import own_address, remove, running, start
from .described import described
from .images import digest


class FromBridge(urllib.request.HTTPHandler):
    """HTTP from the host's address on the lab's bridge only."""

    def http_open(self, request):
        source = (described()["network"]["gateway"], 0)
        return self.do_open(lambda host, **more: http.client.HTTPConnection(host, source_address=source, **more), request)


def platform_files():
    """Copy what the platform container mounts, so that it does not hang on to a clone that may go away; return the hash of it."""
    total = hashlib.sha256()
    target = CACHE / "run"
    network = described()["network"]
    texts = {
        "lab/guests.json": (LAB / "guests.json").read_bytes(),
        "lab/platform.env": f"STORAGE={network['storage']}\n".encode(),
    }
    sources = {
        path.relative_to(LAB): path for path in sorted((LAB / "platform").rglob("*")) if path.is_file() and "__pycache__" not in path.parts
    }
    for name, path in sources.items():
        texts[str(name)] = path.read_bytes()
    for name, data in texts.items():
        total.update(name.encode() + data)
    mark = target / "hash"
    if not mark.exists() or mark.read_text() != total.hexdigest():
        for folder in ("lab", "platform"):
            shutil.rmtree(target / folder, ignore_errors=True)
        for name, data in texts.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            if pathlib.Path(name) in sources:
                path.chmod(sources[pathlib.Path(name)].stat().st_mode & 0o755 | 0o444)
        mark.write_text(total.hexdigest())
    (target / "state").mkdir(exist_ok=True)
    return f"{digest('platform')}-{total.hexdigest()[:12]}"


def control(path, data=None, timeout=40):
    """Ask the platform stand-in."""
    url = f"http://{described()['network']['platform']}:8099/{path}"
    request = urllib.request.Request(
        url, method="GET" if data is None else "POST", data=None if data is None else json.dumps(data).encode()
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), FromBridge())
    try:
        with opener.open(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            told = json.loads(error.read())["error"]
        except (ValueError, KeyError):
            told = f"status {error.code}"
        raise Trouble(f"the platform stand-in refused: {told}.") from None
    except OSError as error:
        raise Trouble(f"the platform stand-in does not answer ({error}); is the lab up (`lab up`)?") from None


def up_platform(have):
    label = platform_files()
    network = described()["network"]
    if running(have.get("platform"), label):
        own_address()
        return
    remove(["platform"] if "platform" in have else [])
    mounts = []
    for source, target in (("platform", "/opt/platform"), ("lab", "/opt/lab")):
        mounts += ["--volume", f"{CACHE / 'run' / source}:{target}:ro"]
    mounts += ["--volume", f"{CACHE / 'run/state'}:/var/lib/lab"]
    start("platform", "platform", network["platform"], network["platform_mac"], mounts, label)
    own_address()
    deadline = time.monotonic() + 30
    while True:
        try:
            control("guests", timeout=2)
            return
        except Trouble:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
