# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every finding of Linux with its cases: fires, does not fire, at the limit, without the data it needs."""

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import CODES
from cases import evaluated as evaluate
from cases import fires, ids
from linux_cases import CASES, CODED, COMPANIONS, HEALTHY, LINUX, patched


def test_a_healthy_guest_has_no_finding():
    assert ids(HEALTHY) == []


def test_every_finding_has_its_cases():
    # test_windows_rules.py has those that only Windows guests can have.
    assert set(CASES) | set(CODED) == set(LINUX)


@pytest.mark.parametrize("id_", sorted(CASES))
def test_fires_and_brings_nothing_unrelated(id_):
    assert set(ids(patched(CASES[id_][0]))) == {id_} | COMPANIONS.get(id_, set())


@pytest.mark.parametrize("id_", sorted(CASES))
def test_does_not_fire(id_):
    assert not fires(id_, patched(CASES[id_][1]))


@pytest.mark.parametrize("id_", sorted(CASES))
def test_at_the_limit(id_):
    changes, expected = CASES[id_][2]
    assert fires(id_, patched(changes)) is expected


@pytest.mark.parametrize("id_", sorted(CASES))
def test_with_the_data_missing(id_):
    assert not fires(id_, patched(CASES[id_][3]))


@pytest.mark.parametrize("id_", LINUX)
@pytest.mark.parametrize("area", ["agent", "extension", "network", "load", "system"])
def test_an_area_that_was_not_looked_at_is_no_finding(id_, area):
    assert not fires(id_, patched({area: None}))
    assert not fires(id_, patched({area: {}}))


@pytest.mark.parametrize("id_", LINUX)
def test_no_facts_at_all_is_no_finding(id_):
    assert not fires(id_, {})


@pytest.mark.parametrize("code", [-1] + sorted(CODES) + [99999])
def test_every_result_code_has_its_finding_and_no_other(code):
    expected = CODES.get(code, (None, "snapshot_failed"))[1]
    facts = patched({"extension/snapshot/code": code, "extension/snapshot/age_s": 5, "extension/snapshot/reported_status": "success"})
    found = ids(facts)
    assert found == ([expected] if expected and code != 4 else [])
    if found:
        assert "code {0}".format(code) in evaluate(facts)[0]["evidence"][0]
        assert "says success" in evaluate(facts)[0]["evidence"][0]


def test_no_result_code_is_no_finding():
    assert ids(patched({"extension/snapshot/code": None})) == []
