# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What ansible-builder makes of the collection, and what a project in AWX installs. No image is built: there is no registry here."""

import os
import subprocess

import pytest
from test_awx import CACHE, ROOT

BIN = os.path.join(CACHE, "fleet", "bin")
pytestmark = pytest.mark.skipif(
    not os.path.exists(os.path.join(BIN, "ansible-builder")), reason="ansible-builder is not set up here (tests/tools/setup.sh fleet)"
)


def run(*command, **options):
    env = dict(os.environ, PATH=BIN + ":" + os.environ["PATH"], ANSIBLE_NOCOLOR="1")
    env.pop("PYTHONPATH", None)  # the collection would count as installed
    done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def lines(name):
    with open(os.path.join(ROOT, "meta", name)) as stream:
        return [line.strip() for line in stream if line.strip() and not line.startswith("#")]


def test_the_builder_takes_what_the_collection_asks_for():
    said = run("ansible-builder", "introspect", os.path.join(CACHE, "tree"))
    for line in lines("ee-requirements.txt") + lines("ee-bindep.txt"):
        assert line in said, line


def test_the_context_of_the_image_is_rendered(tmp_path):
    run("ansible-builder", "create", "-f", "execution-environment.yml", "-c", str(tmp_path), "--output-filename", "Containerfile", cwd=ROOT)
    with open(tmp_path / "Containerfile") as stream:
        text = stream.read()
    assert "ansible-core>=2.16,<2.22" in text and "python3.11" in text
    assert (tmp_path / "_build" / "requirements.yml").exists()


def test_a_project_installs_playbooks_and_collection_of_one_commit(tmp_path):
    run(
        "ansible-galaxy",
        "collection",
        "install",
        "-r",
        "collections/requirements.yml",
        "-p",
        str(tmp_path),
        "--offline",
        "--no-deps",
        cwd=ROOT,
    )
    place = tmp_path / "ansible_collections" / "vmbackup" / "azure"
    assert (place / "playbooks" / "remediate.yml").exists() and (place / "roles" / "awx").is_dir()
    assert (place / "extensions" / "eda" / "rulebooks" / "azure_backup.yml").exists() and not (place / "lab").exists()
