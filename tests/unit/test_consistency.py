# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists that must agree."""

import glob
import inspect
import os
import re

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils.catalogue import CATALOGUE, CAUSES
from ansible_collections.vmbackup.azure.plugins.module_utils.facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils.findings import RULES, described
from ansible_collections.vmbackup.azure.plugins.module_utils.linux.packages import NAMES
from ansible_collections.vmbackup.azure.plugins.module_utils.snapshot_codes import CODES

yaml = pytest.importorskip("yaml")
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def read(*names):
    with open(os.path.join(ROOT, *names)) as stream:
        return stream.read()


def load(*names):
    return yaml.safe_load(read(*names))


def test_every_rule_has_an_entry_and_every_entry_a_rule():
    rules = {}
    for cause, module in RULES.items():
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if (
                function.__module__ == module.__name__
                and list(inspect.signature(function).parameters) == ["facts", "limits"]
                and name[0] != "_"
            ):
                rules[name] = cause
    assert rules == {id_: CAUSES[row["cause"]] for id_, row in CATALOGUE.items()}


def test_result_codes_name_findings():
    assert {finding for _name, finding in CODES.values() if finding} <= set(CATALOGUE)


def answers():
    """Return every entry of the catalogue as each system gets it."""
    return [described(id_, kind) for id_ in CATALOGUE for kind in ("linux", "windows")]


def remedies():
    return sorted({row["remedy"] for row in answers() if row["remedy"]})


@pytest.mark.parametrize("remedy", remedies())
def test_every_remedy_is_an_entry_point_with_its_own_specification(remedy):
    role, entry = remedy.split(".")
    assert os.path.isfile(os.path.join(ROOT, "roles", role, "tasks", entry + ".yml"))
    assert entry in load("roles", role, "meta", "argument_specs.yml")["argument_specs"]


def test_playbooks_know_the_remedies_and_the_consents():
    variables = load("playbooks", "vars", "remedies.yml")
    assert sorted(variables["__vmbackup_remedies"]) == remedies()
    consents = sorted({row["consent"] for row in answers() if row["consent"]})
    assert sorted(variables["__vmbackup_allow"]) == consents
    head = read("playbooks", "remediate.yml")
    readme = read("README.md")
    for consent in consents:
        assert consent in head and consent in readme, consent


def module_files(extension):
    names = (os.path.basename(path)[: -len(extension)] for path in glob.glob(os.path.join(ROOT, "plugins", "modules", "*" + extension)))
    return sorted(name for name in names if not name.startswith("_"))


def test_every_module_is_in_the_action_group_and_has_a_version():
    assert sorted(load("meta", "runtime.yml")["action_groups"]["all"]) == sorted(module_files(".py") + module_files(".ps1"))
    for name in module_files(".py"):
        assert re.search(r"(?m)^version_added: \d", read("plugins", "modules", name + ".py")), name
    for name in module_files(".ps1"):
        assert load("plugins", "modules", name + ".yml")["DOCUMENTATION"]["version_added"], name


def test_both_collectors_have_the_same_options():
    """But for those that mean something to one of them only; names, types, defaults and choices."""
    documented = load("plugins", "modules", "win_guest_facts.yml")["DOCUMENTATION"]["options"]
    module = read("plugins", "modules", "win_guest_facts.ps1")
    expected = {name: option for name, option in argument_spec().items() if name not in ("candidate", "candidate_below")}
    assert sorted(documented) == sorted(expected)
    for name, option in expected.items():
        assert {key: value for key, value in documented[name].items() if key != "description"} == option, name
        text = re.search(r"(?m)^        {0} = @\{{ (.*) \}}$".format(name), module).group(1)
        for choice in option.get("choices", []) + [option["type"], str(option.get("default", "")).strip("[]'")]:
            assert choice in text, (name, choice)


@pytest.mark.parametrize(
    "role", sorted(os.path.basename(os.path.dirname(path)) for path in glob.glob(os.path.join(ROOT, "roles", "*", "")))
)
def test_defaults_of_roles_are_those_of_their_specification(role):
    defaults = load("roles", role, "defaults", "main.yml") or {}
    described = {}
    for entry in load("roles", role, "meta", "argument_specs.yml")["argument_specs"].values():
        for name, option in (entry.get("options") or {}).items():
            if name.startswith(role + "_"):
                described.setdefault(name, set()).add(repr(option.get("default")))
    assert {name: {repr(value)} for name, value in defaults.items()} == described


def test_role_and_collector_look_for_the_same_packages():
    assert load("roles", "agent", "vars", "main.yml")["__agent_package_names"] == {family: list(names) for family, names in NAMES.items()}


def test_documents_name_only_findings_that_exist():
    for name in ("article.md",):
        for id_ in re.findall(r"findings\.md#(\w+)", read("docs", name)):
            assert id_ in CATALOGUE or id_ in CAUSES.values(), id_


def test_agent_findings_of_the_lab_are_expected_by_a_scenario():
    names = [os.path.basename(path)[:-4] for path in glob.glob(os.path.join(ROOT, "lab", "faults", "*.yml"))]
    expected = load("lab", "expected.yml")["lab_expected"]
    assert sorted(expected) == sorted(names)
    for fault, findings in expected.items():
        assert set(findings) <= set(CATALOGUE), fault


def test_no_file_is_without_its_licence():
    bare = []
    for pattern in (
        "plugins/**/*.py",
        "plugins/**/*.ps1",
        "plugins/**/*.psm1",
        "plugins/**/*.yml",
        "roles/**/*.yml",
        "playbooks/**/*.yml",
        "tests/**/*.py",
        "lab/**/*.yml",
        "bench/*",
        "extensions/**/*.yml",
    ):
        for path in glob.glob(os.path.join(ROOT, pattern), recursive=True):
            if os.path.isfile(path) and os.path.getsize(path):
                with open(path, errors="replace") as stream:
                    if "SPDX-License-Identifier" not in stream.read(400):
                        bare.append(os.path.relpath(path, ROOT))
    assert bare == []
