# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The requests that the stand-in answers: lists with filters, objects, what is joined with them, surveys, approvals, launches."""

import argparse
import http.server
import json
import pathlib
import secrets
import sys
import threading
import urllib.parse

from .store import FIELDS, JOINED, TYPES, UNIFIED, Refused, Store, invalid

PAGE = 25
NAMED = {"workflow_job_template_nodes": "identifier"}


def made(store):
    """What an administrator made before: names that the collection takes and never makes."""
    organization = store.add("organizations", name="Default")
    store.add("inventories", name="Azure VMs", organization=organization)
    for name in ("Guests", "Azure reader"):
        store.add("credentials", name=name, organization=organization)
    store.add("teams", name="Night shift", organization=organization)
    store.add("instance_groups", name="default")
    store.add("execution_environments", name="vmbackup", image="localhost/vmbackup:latest")
    store.add("notification_templates", name="Mail", organization=organization)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-API-Product-Name", self.server.product)
        self.send_header("X-API-Product-Version", self.server.version)
        self.end_headers()
        self.wfile.write(data)

    def handle_request(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            try:
                given = json.loads(body) if body.strip() else {}
                self.server.requests.append([self.command, path, given if self.command != "GET" else query])
                self.answer(
                    *self.server.route(self.command, path, urllib.parse.parse_qs(query, keep_blank_values=True), given, self.headers)
                )
            except Refused as refusal:
                self.answer(refusal.status, refusal.body)
            except ValueError:
                self.answer(400, {"detail": "JSON parse error"})

    do_GET = do_POST = do_PATCH = do_DELETE = handle_request


class Awx(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, playbooks, token=None, version="24.6.1", product="AWX", api="/api/v2/", address=("127.0.0.1", 0)):
        super().__init__(address, Handler)
        self.lock, self.requests = threading.Lock(), []
        self.token, self.version, self.product, self.api = token or secrets.token_hex(16), version, product, api
        self.store = Store(playbooks)
        made(self.store)

    @property
    def url(self):
        return "http://127.0.0.1:{0}".format(self.server_address[1])

    def route(self, method, path, query, given, headers):
        """Return status and body."""
        if path == "/api/" and method == "GET":
            return 200, {"description": "AWX REST API", "current_version": self.api, "available_versions": {"v2": self.api}}
        if headers.get("Authorization") != "Bearer " + self.token:
            return 401, {"detail": "Authentication credentials were not provided. To establish a login session, visit /api/login/."}
        parts = [part for part in path[len(self.api) :].split("/") if part] if path.startswith(self.api) else []
        if not parts:
            raise Refused(404, {"detail": "The requested resource could not be found."})
        if parts[0] == "me":
            return 200, {"count": 1, "next": None, "results": [{"id": 1, "username": "admin", "is_superuser": True}]}
        if parts[0] == "config":
            return 200, {"version": self.version, "license_info": {"license_type": "open"}}
        kind = parts[0]
        if kind == "unified_job_templates":
            return self.listed([(k, item) for k in UNIFIED for item in self.store.objects[k].values()], query)
        if kind not in FIELDS:
            raise Refused(404, {"detail": "The requested resource could not be found."})
        if len(parts) == 1:
            if method == "POST":
                number = self.store.create(kind, given)
                self.made(kind, number)
                return 201, self.shown(kind, self.store.get(kind, number))
            return self.listed([(kind, item) for item in self.store.objects[kind].values()], query)
        if not parts[1].isdigit():
            raise Refused(404, {"detail": "Not found."})
        number = int(parts[1])
        return self.one(method, kind, number, given) if len(parts) == 2 else self.below(method, kind, number, parts[2], given, query)

    def made(self, kind, number):
        """A project is updated as soon as it is made."""
        if kind == "projects":
            self.update_project(number)

    def update_project(self, number):
        project = self.store.get("projects", number)
        project["scm_revision"] = "0" * 40
        project["_update"] = self.store.add("project_updates", name=project["name"], project=number, finished="2026-01-01T00:00:00Z")

    def one(self, method, kind, number, given):
        if method == "DELETE":
            self.store.delete(kind, number)
            return 204, None
        if method == "PATCH":
            self.store.change(kind, number, given)
        return 200, self.shown(kind, self.store.get(kind, number))

    def below(self, method, kind, number, name, given, query):
        item = self.store.get(kind, number)
        if name == "survey_spec" and kind in ("job_templates", "workflow_job_templates"):
            if method == "POST":
                self.store.set_survey(kind, number, given)
                return 200, {}
            if method == "DELETE":
                item["_survey"] = {}
                return 200, {}
            return 200, item["_survey"]
        if name == "create_approval_template" and kind == "workflow_job_template_nodes" and method == "POST":
            if item["unified_job_template"] is not None:
                raise Refused(400, {"detail": "Node already has a template."})
            template = self.store.create("workflow_approval_templates", given)
            item["unified_job_template"] = template
            return 201, self.shown("workflow_approval_templates", self.store.get("workflow_approval_templates", template))
        if name == "update" and kind == "projects" and method == "POST":
            self.update_project(number)
            return 202, self.shown("project_updates", self.store.get("project_updates", item["_update"]))
        if name == "launch" and kind == "workflow_job_templates" and method == "POST":
            return self.launch(item, given)
        if name == "workflow_nodes" and kind == "workflow_job_templates":
            nodes = self.store.objects["workflow_job_template_nodes"].values()
            return self.listed([("workflow_job_template_nodes", node) for node in nodes if node["workflow_job_template"] == number], query)
        if name in JOINED.get(kind, ()):
            if method == "POST":
                self.store.join(kind, number, name, given)
                return 204, None
            other = (
                "workflow_job_template_nodes" if name.endswith("_nodes") else "notification_templates" if name.startswith("notif") else name
            )
            return self.listed([(other, self.store.get(other, key)) for key in item["_joined"].get(name, [])], {})
        raise Refused(404, {"detail": "Not found."})

    def launch(self, item, given):
        """Start a workflow: what it does not ask for is passed over, as AWX does, and named."""
        ignored = {}
        asked = {question["variable"] for question in item["_survey"].get("spec", [])} if item["survey_enabled"] else set()
        variables = given.get("extra_vars") or {}
        variables = json.loads(variables) if isinstance(variables, str) else variables
        if not item["ask_variables_on_launch"]:
            ignored.update({name: value for name, value in variables.items() if name not in asked})
            variables = {name: value for name, value in variables.items() if name in asked}
        missing = [
            q["variable"]
            for q in item["_survey"].get("spec", [])
            if q["required"] and item["survey_enabled"] and q["variable"] not in variables
        ]
        if missing:
            raise Refused(400, {"variables_needed_to_start": ["'{0}' value missing".format(name) for name in missing]})
        if given.get("limit") and not item["ask_limit_on_launch"]:
            ignored["limit"] = given["limit"]
        busy = [job for job in self.store.objects["workflow_jobs"].values() if job["workflow_job_template"] == item["id"]]
        status = "pending" if busy and not item["allow_simultaneous"] else "running"
        limit = given.get("limit", "") if item["ask_limit_on_launch"] else ""
        number = self.store.add("workflow_jobs", name=item["name"], workflow_job_template=item["id"], extra_vars=json.dumps(variables), limit=limit,
                                status=status, _limits=self.limits(item["id"], limit))  # fmt: skip
        return 201, {
            **self.shown("workflow_jobs", self.store.get("workflow_jobs", number)),
            "workflow_job": number,
            "ignored_fields": ignored,
        }

    def limits(self, workflow, limit):
        """Return the limit of each job that a workflow would start: its own only where the template of the node asks for one, else the template's."""
        nodes = [node for node in self.store.objects["workflow_job_template_nodes"].values() if node["workflow_job_template"] == workflow]
        templates = {node["identifier"]: self.store.unified(node["unified_job_template"]) for node in nodes}
        return {
            name: limit or template["limit"] if template["ask_limit_on_launch"] else template["limit"]
            for name, (kind, template) in templates.items()
            if kind == "job_templates"
        }

    def listed(self, items, query):
        """Return a page of a list, by exact values of fields, or__ variants and type."""
        query = {name: values[-1] for name, values in query.items()}
        page, size = int(query.pop("page", 1)), int(query.pop("page_size", PAGE))
        query.pop("order_by", None)
        kinds = query.pop("type", None)
        anyone = {name[4:]: value for name, value in query.items() if name.startswith("or__")}
        exact = {name: value for name, value in query.items() if not name.startswith("or__")}
        for name in exact:
            bare = name.split("__")[0]
            if (
                bare != "id"
                and items
                and not all(bare in FIELDS[kind] for kind, _item in items)
                and not any(bare in FIELDS[kind] for kind, _ in items)
            ):
                raise invalid(**{name: "has no field named '{0}'".format(bare)})
        found = []
        for kind, item in items:
            if kinds and TYPES[kind] not in kinds.split(","):
                continue
            if any(str(item.get(name)) != value for name, value in exact.items()):
                continue
            if anyone and not any(str(item.get(name)) == value for name, value in anyone.items()):
                continue
            found.append(self.shown(kind, item))
        rest = found[(page - 1) * size :]
        return 200, {
            "count": len(found),
            "next": "{0}?page={1}".format(self.api, page + 1) if len(rest) > size else None,
            "results": rest[:size],
        }

    def shown(self, kind, item):
        """Return an object as the API shows it."""
        url = "{0}{1}/{2}/".format(self.api, kind, item["id"])
        related, summary = {}, {}
        if kind in ("job_templates", "workflow_job_templates"):
            related.update(survey_spec=url + "survey_spec/", launch=url + "launch/")
        if kind == "projects":
            related["update"] = url + "update/"
            if item.get("_update"):
                summary["current_update"] = {"id": item["_update"]}
        if item.get("organization") is not None:
            summary["organization"] = {"id": item["organization"], "name": self.store.get("organizations", item["organization"])["name"]}
        if kind == "workflow_job_template_nodes" and item["unified_job_template"] is not None:
            other, _template = self.store.unified(item["unified_job_template"])
            related["unified_job_template"] = "{0}{1}/{2}/".format(self.api, other, item["unified_job_template"])
        body = {name: value for name, value in item.items() if not name.startswith("_")}
        if kind == "project_updates":
            body.update(event_processing_finished=True, failed=False, scm_revision="0" * 40)
        return {**body, "type": TYPES[kind], "url": url, "related": related, "summary_fields": summary}


def main():
    parser = argparse.ArgumentParser(prog="lab/awx", description=__doc__)
    parser.add_argument("--token", help="the only token that is taken (default: a random one)")
    parser.add_argument("--version", default="24.6.1", help="what it says of itself")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parents[2]
    playbooks = {path.relative_to(root).as_posix() for path in (root / "playbooks").glob("*.yml")}
    server = Awx(playbooks, options.token, options.version, address=("127.0.0.1", options.port))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"CONTROLLER_HOST": server.url, "CONTROLLER_OAUTH_TOKEN": server.token}), flush=True)
    sys.stdin.read()  # ends when its standard input is closed
    return 0
