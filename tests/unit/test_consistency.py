# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists that must agree."""

import glob
import os
import re

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils._snapshot_codes import CODES
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _engine
from ansible_collections.vmbackup.azure.plugins.plugin_utils._findings._base import CAUSES, FINDINGS
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import SYSTEMS

yaml = pytest.importorskip("yaml")
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def read(*names):
    with open(os.path.join(ROOT, *names)) as stream:
        return stream.read()


yaml.SafeLoader.add_constructor("!unsafe", lambda loader, node: node.value)


def load(*names):
    return yaml.safe_load(read(*names))


def answers():
    """Return every row of every system."""
    return [row for system in SYSTEMS for row in _engine.rows(system)]


def test_rows_are_whole():
    for row in answers():
        assert row.severity in ("blocker", "risk", "notice") and row.cause in CAUSES and row.side in ("guest", "azure"), row.id
        assert (
            (not row.title[0].islower() or row.title.startswith("vmbackup.conf"))
            and not row.title.endswith(".")
            and row.action.endswith(".")
        ), row.id
        assert row.doc.startswith("https://") and set(row.explained_by) <= set(FINDINGS) - {row.id}, row.id


def test_result_codes_name_findings():
    assert {finding for _name, finding in CODES.values() if finding} <= set(FINDINGS)


def remedies():
    return sorted({row.remedy for row in answers() if row.remedy})


@pytest.mark.parametrize("remedy", remedies())
def test_every_remedy_is_an_entry_point_with_its_own_specification(remedy):
    role, entry = remedy.split(".")
    if role == "azure":  # done once for the fleet, by a module of its name
        assert entry in module_files(".py") and os.path.isfile(os.path.join(ROOT, "plugins", "action", entry + ".py"))
        return
    assert os.path.isfile(os.path.join(ROOT, "roles", role, "tasks", entry + ".yml"))
    assert entry in load("roles", role, "meta", "argument_specs.yml")["argument_specs"]


def module_files(extension):
    names = (os.path.basename(path)[: -len(extension)] for path in glob.glob(os.path.join(ROOT, "plugins", "modules", "*" + extension)))
    return sorted(name for name in names if not name.startswith("_"))


def test_every_module_is_in_the_action_group_and_has_a_version():
    assert sorted(load("meta", "runtime.yml")["action_groups"]["all"]) == sorted(set(module_files(".py")) | set(module_files(".ps1")))
    for name in module_files(".py"):
        assert re.search(r"(?m)^version_added: \d", read("plugins", "modules", name + ".py")), name
    for name in set(module_files(".ps1")) - set(module_files(".py")):
        assert load("plugins", "modules", name + ".yml")["DOCUMENTATION"]["version_added"], name


def test_both_collectors_have_the_same_options():
    """But for those that mean something to one of them only; names, types, defaults and choices."""
    documented = load("plugins", "modules", "win_guest_facts.yml")["DOCUMENTATION"]["options"]
    module = read("plugins", "modules", "win_guest_facts.ps1")
    expected = {name: option for name, option in argument_spec().items() if name not in ("deadline_s", "candidate", "candidate_below")}
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
            if name.startswith(role + "_") or (role in ("awx", "repair", "undo") and not option.get("required")):
                described.setdefault(name, set()).add(repr(option.get("default")))
    assert {name: {repr(value)} for name, value in defaults.items()} == described


def test_no_role_uses_private_names_of_another():
    roles = sorted(os.path.basename(os.path.dirname(path)) for path in glob.glob(os.path.join(ROOT, "roles", "*", "")))
    for role in roles:
        for path in glob.glob(os.path.join(ROOT, "roles", role, "**", "*.yml"), recursive=True):
            with open(path) as stream:
                used = set(re.findall(r"__([a-z]+)_", stream.read()))
            assert used <= {role.partition("_")[0]}, (path, used)
    for path in glob.glob(os.path.join(ROOT, "playbooks", "*.yml")) + glob.glob(os.path.join(ROOT, "playbooks", "[ptv]*", "*.yml")):
        with open(path) as stream:
            used = set(re.findall(r"__([a-z]+)_", stream.read()))
        assert used <= {"vmbackup"}, (path, used)


def test_variables_that_roles_set_are_their_own_or_those_of_a_run():
    for path in glob.glob(os.path.join(ROOT, "roles", "*", "**", "*.yml"), recursive=True):
        role = os.path.relpath(path, os.path.join(ROOT, "roles")).split(os.sep)[0]
        document = load(path)
        names = list(document) if isinstance(document, dict) and "meta" not in path.split(os.sep) else []
        for task in tasks_in(document if isinstance(document, list) else []):
            names += list(task.get("ansible.builtin.set_fact") or {}) + [task.get("register") or "vmbackup_"]
        for name in names:
            assert name.startswith((role + "_", "__{0}_".format(role), "vmbackup_")), (path, name)


def test_the_playbook_has_one_include_of_a_remedy():
    tasks = [task for book in ("remediate.yml", "tasks/remedy.yml") for task in tasks_in(load("playbooks", *book.split("/")))]
    assert [task["ansible.builtin.include_role"]["name"] for task in tasks if "ansible.builtin.include_role" in task] == [
        "vmbackup.azure.repair"
    ]


def test_documents_name_only_findings_that_exist():
    for name in ("article.md",):
        for id_ in re.findall(r"findings\.md#(\w+)", read("docs", name)):
            assert id_ in FINDINGS or id_ in CAUSES.values(), id_


def test_faults_of_the_lab_bring_findings_that_exist():
    for fault, findings in load("lab", "expected.yml")["lab_expected"].items():
        assert set(findings) <= set(FINDINGS), fault


def test_no_file_is_without_its_licence():
    bare = []
    for pattern in (
        "plugins/**/*.py",
        "plugins/**/*.ps1",
        "plugins/**/*.psm1",
        "plugins/**/*.yml",
        "roles/**/*.yml",
        "playbooks/*.yml",  # playbooks/collections leads back here
        "playbooks/[!c]*/*.yml",
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


def test_every_play_names_its_strategy():
    """Without one ANSIBLE_STRATEGY decides, and the report is lost under free and host_pinned."""
    paths = glob.glob(os.path.join(ROOT, "playbooks", "*.yml")) + glob.glob(os.path.join(ROOT, "playbooks", "plays", "*.yml"))
    plays = [play for path in paths for play in load(path) if "hosts" in play]
    assert len(plays) > 5 and all(play.get("strategy", "").startswith("ansible.builtin.") for play in plays)


def test_galaxy_takes_the_authors():
    """galaxy-importer refuses an author of more than 64 characters."""
    assert all(len(author) <= 64 for author in load("galaxy.yml")["authors"])


def tasks_in(document):
    for entry in document or []:
        yield entry
        for part in ("tasks", "block", "rescue", "always"):
            yield from tasks_in(entry.get(part))


def test_no_task_shows_the_environment_of_a_unit():
    """Builtin modules return all properties of a unit; its Environment may hold a proxy's password, and at -v it is printed."""
    shown = []
    for path in sorted(glob.glob(os.path.join(ROOT, "roles", "*", "tasks", "**", "*.yml"), recursive=True)):
        with open(path) as stream:
            for task in tasks_in(yaml.safe_load(stream)):
                for module in ("service", "systemd", "systemd_service"):
                    options = task.get("ansible.builtin." + module)
                    if options and options.get("name") and task.get("no_log") is not True:
                        shown.append("{0}: {1}".format(os.path.relpath(path, ROOT), task.get("name")))
    assert not shown


def test_the_scenarios_playbooks_are_there():
    """molecule passes over a playbook that is not there, with a warning; without one of its own for side_effect, over all of them."""
    for path in glob.glob(os.path.join(ROOT, "extensions", "molecule", "*", "verify.yml")):
        folder = os.path.dirname(path)
        config = load("extensions", "molecule", "config.yml")
        named = [step.split()[1] for step in config["scenario"]["test_sequence"] if " " in step] + list(
            config["ansible"]["playbooks"].values()
        )
        assert len(named) > 4
        for name in named + ["vars/main.yml", "tasks/fingerprint.yml"]:
            assert os.path.isfile(os.path.join(folder, name)), (folder, name)
