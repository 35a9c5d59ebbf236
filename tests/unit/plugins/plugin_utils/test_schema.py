# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Facts of another shape are refused in one sentence; what a collector returns fits."""

import copy
import glob
import json
import os
import re

import pytest
from ansible_collections.vmbackup.azure.plugins.plugin_utils._engine import evaluate
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema import FACTS, problem
from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import GROUP, Leaf

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "facts")
FACTS_FILES = sorted(glob.glob(os.path.join(FIXTURES, "*.json")))
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "..", ".."))


@pytest.mark.parametrize("path", FACTS_FILES, ids=[os.path.basename(path) for path in FACTS_FILES])
def test_recorded_facts_fit(path):
    with open(path) as stream:
        assert problem(json.load(stream)) is None


@pytest.mark.parametrize(
    "path, value, words",
    [
        (("agent",), [], "agent is a list, a mapping is expected"),
        (("agent", "config", "values", "Logs.Verbose"), 3600, "agent.config.values.Logs.Verbose is a number, a mapping is expected"),
        (("agent", "service", "masked"), "yes", "agent.service.masked is a text, true or false is expected"),
        (("agent", "heartbeat", "age_s"), True, "agent.heartbeat.age_s is true or false, a number is expected"),
        (("agent", "heartbeat", "age_s"), float("inf"), "agent.heartbeat.age_s is a number beyond every limit, a number is expected"),
        (("load", "filesystems"), [None], "load.filesystems holds null, where a mapping is expected"),
        (("load", "filesystems"), {"/": {}}, "load.filesystems is a mapping, a list is expected"),
        (("extension", "snapshot", "message"), {"lang": "en"}, "extension.snapshot.message is a mapping, a text is expected"),
    ],
)
def test_the_first_misfit_is_named(path, value, words):
    with open(os.path.join(FIXTURES, "healthy-debian12.json")) as stream:
        facts = json.load(stream)
    place = facts
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    before = copy.deepcopy(facts)
    with pytest.raises(ValueError) as caught:
        evaluate(facts)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert repr(facts) == repr(before)


def test_null_missing_and_unknown_keys_fit():
    assert problem({"agent": None, "load": {}, "invented": {"later": object}}) is None


def decisions():
    """Return every word of what decides, acts and reports."""
    words = set()
    for pattern in ("plugins/plugin_utils/_findings/*.py", "plugins/plugin_utils/_engine.py", "plugins/plugin_utils/_report*", "plugins/action/*.py",
                    "roles/*/tasks/**/*.yml", "roles/*/vars/**/*.yml", "playbooks/*.yml", "playbooks/[!c]*/*.yml"):  # fmt: skip
        for path in glob.glob(os.path.join(ROOT, pattern), recursive=True):
            if "azure_" in os.path.basename(path):  # facts of Azure are not a guest's
                continue
            with open(path, encoding="utf-8") as stream:
                words.update(re.findall(r"\w+", stream.read()))
    return words


def leaves(shape, path=""):
    if isinstance(shape, Leaf):
        yield path, shape
    elif isinstance(shape, list):
        yield from leaves(shape[0], path)
    else:
        for key, value in shape.items():
            if key not in ("*", GROUP):
                yield from leaves(value, path + "." + key if path else key)


def test_every_fact_serves_a_decision_or_is_marked_as_informing():
    words, known = decisions(), dict(leaves(FACTS))
    assert sorted(path for path, leaf in known.items() if leaf.informs == (path.split(".")[-1] in words)) == []


@pytest.mark.parametrize("path", FACTS_FILES, ids=[os.path.basename(path) for path in FACTS_FILES])
def test_what_a_system_does_not_have_is_marked_so(path):
    """A key that the schema gives to one system alone has no value on the other."""
    with open(path) as stream:
        facts = json.load(stream)
    system = facts["system"]["kind"]

    def held(value, shape, place=""):
        if isinstance(shape, Leaf):
            if shape.on not in ("", system) and value is not None:
                yield place
        elif isinstance(shape, list):
            for entry in value or []:
                yield from held(entry, shape[0], place)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key in shape or "*" in shape:
                    yield from held(inner, shape.get(key, shape.get("*")), place + "." + key)

    assert sorted(set(held(facts, FACTS))) == []
