# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Facts of another shape are refused in one sentence; what a collector returns fits."""

import copy
import glob
import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils.findings import evaluate
from ansible_collections.vmbackup.azure.plugins.module_utils.shape import problem

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "facts")
FACTS = sorted(glob.glob(os.path.join(FIXTURES, "*.json")))


@pytest.mark.parametrize("path", FACTS, ids=[os.path.basename(path) for path in FACTS])
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
