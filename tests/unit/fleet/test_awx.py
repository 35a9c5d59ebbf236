# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The playbook awx with the unchanged modules of awx.awx against the stand-in of AWX."""

import copy
import glob
import json
import os
import re
import subprocess
import sys
import threading

import pytest
import yaml

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
CACHE = os.environ.get("VMBACKUP_CACHE") or os.path.join(ROOT, ".cache")
sys.path.insert(0, os.path.join(ROOT, "lab"))
from awx.server import Awx  # noqa: E402

PLAYBOOKS = {os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, "playbooks", "*.yml"))}
GIVEN = {
    "vmbackup_awx_inventory": "Azure VMs",
    "vmbackup_awx_credentials": ["Guests"],
    "vmbackup_awx_consents": {"vmbackup_allow_routes": True},
    "vmbackup_awx_slices": 3,
    "vmbackup_awx_notifications": ["Mail"],
    "vmbackup_awx_inventory_source": "inventories/failed_backups.yml",
    "vmbackup_awx_azure_credential": "Azure reader",
    "vmbackup_awx_report_dir": "/reports",
}


def started(**options):
    server = Awx(PLAYBOOKS, **options)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def awx():
    server = started()
    yield server
    server.shutdown()
    server.server_close()


def play(server, *arguments, given=None, **environment):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CONTROLLER_", "TOWER_"))}
    env.update(
        ANSIBLE_COLLECTIONS_PATH=os.path.join(CACHE, "tree") + ":" + os.path.join(CACHE, "needed"), ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_NOCOLOR="1", CONTROLLER_HOST=server.url, CONTROLLER_OAUTH_TOKEN=server.token,
    )  # fmt: skip
    env.update(environment)
    command = [
        os.path.join(os.path.dirname(sys.executable), "ansible-playbook"),
        "vmbackup.azure.awx",
        "-i",
        "localhost,",
        "-e",
        json.dumps(given or GIVEN),
    ]
    done = subprocess.run(command + list(arguments), env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert server.token not in done.stdout, "the token showed"
    return done


def signed_in(server):
    return {"Authorization": "Bearer " + server.token}


def state(server):
    return copy.deepcopy(server.store.objects)


def changed(done):
    return int(re.search(r"changed=(\d+)", done.stdout).group(1))


def named(server, kind):
    return {item["name"]: item for item in server.store.objects[kind].values()}


def writes(server):
    return [request for request in server.requests if request[0] != "GET"]


def test_made_again_looked_at_and_removed(awx):
    before = state(awx)
    done = play(awx, "--check", "-vvvv")
    assert done.returncode == 0 and changed(done) > 0, done.stdout[-3000:]
    assert writes(awx) == [] and state(awx) == before

    done = play(awx)
    assert done.returncode == 0, done.stdout[-3000:]
    templates = named(awx, "job_templates")
    assert set(templates) == {"vmbackup: " + name for name in load("roles", "awx", "vars", "main", "objects.yml")["awx_templates"]}
    assert {template["use_fact_cache"] for template in templates.values()} == {False}
    assert templates["vmbackup: preview"]["job_type"] == "check" and templates["vmbackup: preview"]["diff_mode"] is True
    assert [templates["vmbackup: " + name]["job_slice_count"] for name in ("diagnose", "remediate guests", "remediate approved")] == [
        1,
        3,
        1,
    ]
    variables = {name: json.loads(template["extra_vars"]) for name, template in templates.items()}
    assert "vmbackup_allow_routes" not in variables["vmbackup: diagnose"]
    assert variables["vmbackup: undo"]["vmbackup_report_name"] == "vmbackup-{{ awx_workflow_job_id | default('alone') }}-{{ awx_job_id }}"
    assert variables["vmbackup: report"]["vmbackup_reports"] == ["/reports/vmbackup-{{ awx_workflow_job_id | default('alone') }}-*.json"]
    assert all(variables["vmbackup: " + name]["vmbackup_allow_routes"] for name in ("preview", "remediate", "remediate approved"))
    assert all(item["_joined"]["labels"] and item["_joined"]["credentials"] for item in templates.values())
    [workflow] = awx.store.objects["workflow_job_templates"].values()
    assert workflow["allow_simultaneous"] is True and workflow["ask_variables_on_launch"] is False
    nodes = {node["identifier"]: node for node in awx.store.objects["workflow_job_template_nodes"].values()}
    names = {node["id"]: name for name, node in nodes.items()}
    edges = {(name, kind, names[other]) for name, node in nodes.items() for kind, others in node["_joined"].items() for other in others}
    assert edges == {
        ("diagnose", "failure_nodes", "preview"), ("preview", "success_nodes", "approval"), ("approval", "success_nodes", "remediate approved"),
        ("remediate approved", "always_nodes", "report"),
    }  # fmt: skip
    [approval] = awx.store.objects["workflow_approval_templates"].values()
    assert nodes["approval"]["unified_job_template"] == approval["id"] and approval["timeout"] == 86400
    [schedule] = awx.store.objects["schedules"].values()
    assert schedule["enabled"] is False
    [source] = awx.store.objects["inventory_sources"].values()
    assert source["source"] == "scm" and source["update_on_launch"] is True

    status, job = awx.route(
        "POST", awx.api + "workflow_job_templates/{0}/launch/".format(workflow["id"]), {}, {"limit": "vm1"}, signed_in(awx)
    )
    assert (status, job["limit"], job["ignored_fields"]) == (201, "vm1", {})
    limits = awx.store.objects["workflow_jobs"].pop(job["id"])["_limits"]
    # The job of the report runs on localhost: with a limit it would match no host and be called successful.
    assert limits == {"diagnose": "vm1", "preview": "vm1", "remediate approved": "vm1", "report": ""}

    schedule["enabled"] = True  # an administrator did that
    after = state(awx)
    done = play(awx)
    assert done.returncode == 0 and changed(done) == 0 and state(awx) == after, done.stdout[-3000:]
    done = play(awx, "--check")
    assert done.returncode == 0 and changed(done) == 0 and state(awx) == after, done.stdout[-3000:]

    awx.requests.clear()
    done = play(awx, "--check", "-e", "vmbackup_awx_state=absent")
    assert done.returncode == 0 and changed(done) > 0 and writes(awx) == [], done.stdout[-3000:]
    done = play(awx, "-e", "vmbackup_awx_state=absent")
    assert done.returncode == 0, done.stdout[-3000:]
    gone = state(awx)
    gone["project_updates"] = before["project_updates"]  # what ran is history
    assert gone == before
    done = play(awx, "-e", "vmbackup_awx_state=absent")
    assert done.returncode == 0 and changed(done) == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    "given, environment, words",
    [
        ({}, {"CONTROLLER_OAUTH_TOKEN": ""}, "CONTROLLER_OAUTH_TOKEN is not set in the environment."),
        ({}, {"CONTROLLER_OAUTH_TOKEN": "wrong"}, "refused the token in CONTROLLER_OAUTH_TOKEN (status 401)"),
        ({}, {"CONTROLLER_HOST": "http://127.0.0.1:9"}, "http://127.0.0.1:9 did not answer"),
        ({"vmbackup_awx_inventory": ""}, {}, "Name the inventory of the guests: -e vmbackup_awx_inventory=NAME."),
        (
            {"vmbackup_awx_inventory": "nowhere", "vmbackup_awx_credentials": ["none"]},
            {},
            "does not have: inventories nowhere, credentials none.",
        ),
        ({"vmbackup_awx_consents": {"vmbackup_allow_all": True}}, {}, "no consent is named vmbackup_allow_all."),
        (
            {"vmbackup_awx_consents": {"vmbackup_allow_static_ip": True}, "vmbackup_awx_report_dir": "vmbackup-report"},
            {},
            "vmbackup_allow_static_ip needs vmbackup_awx_report_dir, with the absolute path",
        ),
        ({"vmbackup_awx_variables": {"vmbackup_allow_routes": True}}, {}, "vmbackup_awx_variables names consents"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_nothing_is_made(awx, given, environment, words):
    done = play(awx, given={**GIVEN, **given}, **environment)
    assert done.returncode != 0 and words in " ".join(done.stdout.split()), done.stdout[-3000:]
    assert "Nothing was changed." in " ".join(done.stdout.split()) and writes(awx) == [] and "Traceback" not in done.stdout


def test_an_api_of_another_version_is_refused():
    server = started(api="/api/controller/v3/")
    try:
        done = play(server)
        assert done.returncode != 0 and writes(server) == []
        assert "has another API than the /api/v2/ of AWX that awx.awx needs" in " ".join(done.stdout.split()), done.stdout[-3000:]
    finally:
        server.shutdown()
        server.server_close()


def load(*path):
    with open(os.path.join(ROOT, *path)) as stream:
        return yaml.safe_load(stream)


def known_variables():
    """Return every variable that a playbook of the collection reads."""
    found = set()
    for pattern in ("playbooks/*.yml", "playbooks/[!c]*/*.yml", "roles/*/tasks/**/*.yml", "roles/*/vars/**/*.yml"):
        for path in glob.glob(os.path.join(ROOT, pattern), recursive=True):
            if os.sep + "awx" + os.sep not in path:
                with open(path) as stream:
                    found |= set(re.findall(r"vmbackup_\w+", stream.read()))
    return found


def test_objects_name_only_what_is_there():
    objects, surveys = load("roles", "awx", "vars", "main", "objects.yml"), load("roles", "awx", "vars", "main", "surveys.yml")
    known = known_variables()
    for name, template in objects["awx_templates"].items():
        assert "playbooks/{0}.yml".format(template["playbook"]) in PLAYBOOKS, name
        assert set(template.get("variables", {})) <= known, name
        assert "vmbackup_never" not in template.get("variables", {}), "it would replace what hosts and groups say"
        assert template.get("survey") in (None, *surveys["awx_surveys"]), name
    nodes = [node["name"] for node in objects["awx_workflow"]["nodes"]]
    for node in objects["awx_workflow"]["nodes"]:
        assert "approval" in node or node["name"] in objects["awx_templates"], node
        assert all(other in nodes for others in node.get("edges", {}).values() for other in others), node


def test_surveys_ask_for_no_consent_and_need_no_answer():
    surveys = load("roles", "awx", "vars", "main", "surveys.yml")["awx_surveys"]
    known = known_variables()
    for survey in surveys.values():
        for question in survey["spec"]:
            assert question["required"] is False and "default" not in question and question["type"] != "multiselect", question
            assert question["variable"] in known and not question["variable"].startswith("vmbackup_allow_"), question
