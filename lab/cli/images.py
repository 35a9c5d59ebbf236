# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""The images that guests are made of, each known by the hash of everything that it is made from."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import time

from .common import CACHE, LAB, MIRROR, PREFIX, Trouble, containers, podman, run, say, tools
from .described import IMAGES, all_guests, described

# Microsoft's PowerShell for Windows, inside a package of RubyGems (Apache-2.0; PowerShell and .NET in it: MIT).
GEM = "chef-powershell-18.6.6.gem"
GEM_SHA256 = "f25767322eeac14882bdd6745c366e99f588005065f02208f98066374679e290"
BASE_FILES = ("make-base.sh", "launch.c", "powershell.c", "powershell.cs", "manifests.ps1", "compiler.cs", "compiler.ps1")
WINDOWS_TOOLS = {"x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64", "mcs": "mono-mcs", "openssl": "openssl", "wixl": "wixl"}
COMMON = (
    "systemd,systemd-sysv,dbus,iproute2,iptables,python3,python3-apt,python3-distro,python3-pkg-resources,openssh-server,sudo,procps,"
    "isc-dhcp-client,ifupdown,openssl,ca-certificates,logrotate,chrony"
)


def pyenv_prefix(version):
    """Return the directory of the newest Python VERSION that pyenv has here, or None."""
    root = os.environ.get("PYENV_ROOT")
    if not root and shutil.which("pyenv"):
        root = run("pyenv", "root").stdout.strip()
    root = pathlib.Path(root or "~/.pyenv").expanduser() / "versions"
    found = [
        path for path in root.glob(version + ".*") if path.name.split(".")[2].isdigit() and (path / "bin" / f"python{version}").exists()
    ]
    return max(found, key=lambda path: int(path.name.split(".")[2]), default=None)


def lacking(image, known={}):  # noqa: B006  (a cache for one run of this program)
    """Return why an image cannot be made on this machine, None when it can."""
    if image not in known:
        version = IMAGES[image].get("python")
        known[image] = None
        if version and not pyenv_prefix(version):
            known[image] = f"pyenv has no Python {version} on this machine"
        if IMAGES[image].get("windows") and not windows_root("windows-base").exists() and not find_gem():
            known[image] = (
                f"{GEM} is not to be had: not in VMBACKUP_POWERSHELL_GEM, not in shared/windows-lab beside this project, and `gem fetch` did not bring it"
            )
    return known[image]


def windows_root(image):
    """Return the directory of a Windows guest's root file system."""
    return CACHE / "windows" / digest(image)


def find_gem():
    """Return the path of the package that PowerShell comes in, fetched when it has to be; None when it is not to be had."""
    places = [os.environ.get("VMBACKUP_POWERSHELL_GEM"), LAB.parents[1] / "shared/windows-lab" / GEM, CACHE / GEM]
    for place in places:
        if place and pathlib.Path(place).is_file():
            return pathlib.Path(place)
    if shutil.which("gem"):
        name, version = GEM[: -len(".gem")].rsplit("-", 1)
        CACHE.mkdir(parents=True, exist_ok=True)
        fetched = subprocess.run(["gem", "fetch", name, "-v", version], cwd=CACHE, capture_output=True, check=False, timeout=300)
        if fetched.returncode == 0 and (CACHE / GEM).is_file():
            return CACHE / GEM
    return None


def contents(folder, only=""):
    """Return names, executable bits and contents of the files below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and (not only or path.name in only)]
    return b"".join(f"{path.relative_to(LAB)} {path.stat().st_mode & 0o100} ".encode() + path.read_bytes() for path in paths)


def digest(image, known={}):  # noqa: B006  (a cache for one run of this program)
    """Return the hash of everything that an image is made from."""
    if image in known:
        return known[image]
    made = IMAGES[image]
    total = hashlib.sha256(json.dumps([made, COMMON if "rootfs" in made else ""], sort_keys=True).encode())
    for key in ("parent", "packages"):
        if key in made:
            total.update(digest(made[key]).encode())
    if "recipe" in made:
        total.update(contents(LAB / "images" / made["recipe"]))
    if "windows" in made:
        total.update(GEM_SHA256.encode() + contents(LAB / "windows", "" if "parent" in made else BASE_FILES))
    if made.get("keys"):
        for name in ("id_ed25519.pub", "host_ed25519.pub"):
            total.update((CACHE / "ssh" / name).read_bytes())
    if "guest" in made:
        total.update(json.dumps([all_guests()[made["guest"]]["address"], described()["network"]]).encode())
    if "python" in made:
        total.update(str(pyenv_prefix(made["python"])).encode())
    known[image] = total.hexdigest()[:12]
    return known[image]


def tag(image):
    return f"localhost/{PREFIX}/{image}:{digest(image)}"


def packages_of(image):
    return CACHE / "packages" / f"{image}-{digest(image)}"


def have_images():
    """Return the tags of what is there; the image that repositories were made in counts only with them."""
    found = set(podman("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split())
    for image, made in IMAGES.items():
        if made.get("recipe") == "packages" and not packages_of(image).exists():
            found.discard(tag(image))
        if made.get("windows") and windows_root(image).exists():
            found.add(tag(image))
    return found


def make_rootfs(image):
    suite = IMAGES[image]["rootfs"]
    root = CACHE / "build" / image
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    debs = CACHE / "debs" / suite
    debs.mkdir(parents=True, exist_ok=True)
    run(
        "debootstrap",
        "--variant=minbase",
        f"--cache-dir={debs}",
        f"--include={COMMON},{IMAGES[image].get('more', '')}".rstrip(","),
        suite,
        root,
        MIRROR,
    )
    keep = root / "etc/dpkg/dpkg.cfg.d/lab"
    keep.write_text("force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n")
    for name in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    for path in (root / "var/cache/apt/archives/partial",):
        path.mkdir(parents=True)
    archive = CACHE / "build" / f"{image}.tar"
    run(
        "tar",
        "--create",
        "--file",
        archive,
        "--directory",
        root,
        "--one-file-system",
        "--numeric-owner",
        "--xattrs",
        "--exclude=./dev/*",
        ".",
    )
    podman("import", "--quiet", archive, tag(image))
    archive.unlink()
    shutil.rmtree(root)


def make_windows(image):
    """Make the root file system beside its place, so that one that was interrupted is not taken for whole."""
    tools(WINDOWS_TOOLS)
    made, place = IMAGES[image], windows_root(image)
    building = place.with_suffix(".new")
    run("rm", "-rf", building)
    building.parent.mkdir(parents=True, exist_ok=True)
    program = LAB / "windows" / made["windows"]
    if "parent" in made:
        run("cp", "--archive", "--reflink=auto", windows_root(made["parent"]), building)
        run(program, building)
    else:
        gem = find_gem()
        if hashlib.sha256(gem.read_bytes()).hexdigest() != GEM_SHA256:
            raise Trouble(f"{gem} is not the file that the lab was made for (its SHA-256 is not {GEM_SHA256}).")
        debs = CACHE / "debs" / "trixie"
        debs.mkdir(parents=True, exist_ok=True)
        run(program, building, gem, MIRROR, debs)
    building.rename(place)


def make_image(image):
    made = IMAGES[image]
    if "windows" in made:
        return make_windows(image)
    if "rootfs" in made:
        return make_rootfs(image)
    arguments = {"PARENT": tag(made["parent"]), **made.get("args", {})}
    more = []
    if "packages" in made:
        more += ["--volume", f"{packages_of(made['packages'])}:/run/packages:ro"]
    if made["recipe"] == "packages":
        packages_of(image).mkdir(parents=True, exist_ok=True)
        more += ["--volume", f"{packages_of(image)}:/srv/packages"]
    if made.get("keys"):
        more += ["--volume", f"{CACHE / 'ssh'}:/run/lab-ssh:ro"]
    if "guest" in made:
        arguments.update(ADDRESS=all_guests()[made["guest"]]["address"], GATEWAY=described()["network"]["platform"])
    if "python" in made:
        arguments["VERSION"] = made["python"]
        more += ["--volume", f"{pyenv_prefix(made['python'])}:/run/python:ro"]
    for key, value in arguments.items():
        more += ["--build-arg", f"{key}={value}"]
    folder = LAB / "images" / made["recipe"]
    podman(
        "build",
        "--isolation=chroot",
        "--network=host",
        "--layers=false",
        "--tag",
        tag(image),
        *more,
        "--file",
        folder / "Containerfile",
        folder,
    )
    return None


def make_images(wanted):
    """Build what is missing, three at a time, each as soon as what it needs is there. What only the build needs is not made again for its own sake."""
    have = have_images()
    targets = [image for image in wanted if tag(image) not in have]
    if not targets:
        return 0
    order, ready = [], {image for image in IMAGES if not lacking(image) and tag(image) in have}

    def visit(image):
        if image in ready or image in order:
            return
        for key in ("parent", "packages"):
            if key in IMAGES[image]:
                visit(IMAGES[image][key])
        order.append(image)

    for image in targets:
        visit(image)
    say(f"images to make: {', '.join(order)}")
    waiting, count = list(order), len(order)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = {}
        while waiting or running:
            for image in list(waiting):
                parts = [IMAGES[image][key] for key in ("parent", "packages") if key in IMAGES[image]]
                if all(part in ready for part in parts):
                    waiting.remove(image)
                    running[pool.submit(make_image, image)] = (image, time.monotonic())
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                image, began = running.pop(future)
                future.result()
                ready.add(image)
                say(f"  {image}: {time.monotonic() - began:.0f} s")
    for image in IMAGES:  # images of earlier recipes
        if lacking(image):
            continue
        for old in have:
            if old.startswith(f"localhost/{PREFIX}/{image}:") and old != tag(image):
                podman("rmi", old, check=False)
    kept = {windows_root(image) for image in IMAGES if IMAGES[image].get("windows") and not lacking(image)}
    for old in (CACHE / "windows").glob("*"):
        # An overlay of a guest that runs may lie on it.
        if old not in kept and not any(item["Labels"].get(PREFIX) == old.name for item in containers().values()):
            run("rm", "-rf", old)
    return count
