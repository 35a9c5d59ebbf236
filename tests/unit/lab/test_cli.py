# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lab's command, as far as it needs no container."""

import os
import subprocess
import sys

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "lab"))
from cli import commands, common, containers, described, guests, images  # noqa: E402

HEAD = "# SPDX\n# Copyright\n"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A lab with one fault, whose file each test writes."""
    (tmp_path / "faults").mkdir()
    (tmp_path / "guests.json").write_text(
        '{"network": {}, "guests": [{"name": "g1", "image": "deb12", "address": "10.0.0.1", "groups": []}, {"name": "w1", "image": "windows",'
        ' "address": "10.0.0.2", "groups": ["broken"]}]}'
    )
    monkeypatch.setattr(described, "LAB", tmp_path)
    monkeypatch.setattr(guests, "lacking", lambda image: None)
    return tmp_path


def test_what_restates_the_faults_is_up_to_date():
    done = subprocess.run([os.path.join(ROOT, "lab", "lab"), "inventory", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_fault_says_where_it_is_planted_and_what_it_brings(elsewhere):
    (elsewhere / "faults" / "dust.yml").write_text(HEAD + "# Guest: w1\n# Brings: one_finding, another\n# Dust.\n---\n[]\n")
    assert described.faults() == {"dust": {"guest": "w1", "brings": ["one_finding", "another"]}}
    assert described.inventory_groups() == {"linux": ["g1"], "windows": ["w1"], "broken": ["w1"], "dust": ["w1"]}
    assert described.expected_text().endswith("lab_expected:\n  dust: [one_finding, another]\n")
    assert "    dust:\n      hosts:\n        w1:\n" in described.inventory_text()
    assert [guest["name"] for guest in guests.chosen(["dust", "g1", "w1"])] == ["w1", "g1"]


@pytest.mark.parametrize("head", ["", "# Guest: w1\n", "# Brings: x\n", "# Guest: nobody\n# Brings: x\n"])
def test_a_fault_without_its_head_is_named(elsewhere, head):
    (elsewhere / "faults" / "dust.yml").write_text(HEAD + head + "---\n[]\n")
    with pytest.raises(common.Trouble, match="dust.yml does not say in its head"):
        described.faults()


def test_an_unknown_guest_is_answered_with_those_there_are(elsewhere):
    with pytest.raises(common.Trouble, match="no guest is named g9; there are: g1, w1"):
        guests.chosen(["g1", "g9"])


def test_an_image_is_another_one_when_its_recipe_changes(tmp_path, monkeypatch):
    recipe = tmp_path / "images" / "apt"
    recipe.mkdir(parents=True)
    (recipe / "Containerfile").write_text("FROM scratch\n")
    monkeypatch.setattr(images, "LAB", tmp_path)
    monkeypatch.setattr(images, "IMAGES", {"a": {"recipe": "apt"}, "b": {"recipe": "apt", "parent": "a"}})
    first = [images.digest(name, {}) for name in "ab"]
    images.digest.__defaults__[0].clear()
    (recipe / "Containerfile").write_text("FROM scratch\nRUN true\n")
    second = [images.digest(name, {}) for name in "ab"]
    images.digest.__defaults__[0].clear()
    assert first[0] != second[0] and first[1] != second[1], "what is built on it is another one too"


def test_settings_of_the_stand_in_are_numbers_texts_or_nothing():
    assert commands.pairs(["hold_s=60", "message=a=b", "code="]) == {"hold_s": 60, "message": "a=b", "code": None}
    with pytest.raises(common.Trouble, match="'hold' is not of the form key=value"):
        commands.pairs(["hold"])


def test_a_program_that_fails_is_one_sentence_with_what_it_said():
    with pytest.raises(common.Trouble, match=r"(?s)`sh -c 'echo why >&2; exit 3'` ended with code 3:.*why"):
        common.run("sh", "-c", "echo why >&2; exit 3")
    with pytest.raises(common.Trouble, match="no-such-program is not installed"):
        common.run("no-such-program")


@pytest.fixture
def podman_of_two(monkeypatch):
    """A podman that has two containers, of which `stubborn` resists `resists` removals."""
    state = {"have": {"f01", "stubborn"}, "resists": 0, "asked": []}

    def podman(*command, **_options):
        names = [word[len("vmbackup-lab-") :] for word in command if word.startswith("vmbackup-lab-")]
        state["asked"].append(names)
        refused = "stubborn" in names and state["resists"] > 0
        state["resists"] -= refused
        state["have"] -= set(names) - ({"stubborn"} if refused else set())
        return subprocess.CompletedProcess(command, int(refused), "", "Error: it is stopping" if refused else "")

    monkeypatch.setattr(containers, "podman", podman)
    monkeypatch.setattr(containers, "containers", lambda: dict.fromkeys(state["have"]))
    return state


def test_a_container_that_resists_is_removed_again(podman_of_two):
    podman_of_two["resists"] = 1
    containers.remove(["f01", "stubborn"], pause_s=0)
    assert podman_of_two["have"] == set()
    assert podman_of_two["asked"] == [["f01", "stubborn"], ["stubborn"]]


def test_a_container_that_stays_is_said_with_the_words_of_podman(podman_of_two):
    podman_of_two["resists"] = 9
    with pytest.raises(common.Trouble, match="does not remove vmbackup-lab-stubborn:\n  Error: it is stopping"):
        containers.remove(["f01", "stubborn"], pause_s=0)
    assert podman_of_two["have"] == {"stubborn"}
