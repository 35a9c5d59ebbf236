# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What AWX keeps: kinds of objects, their fields, and what it refuses."""

import json
import re

# Fields of each kind with their defaults; REQUIRED without one. The names are those of the API.
REQUIRED = object()
TEMPLATE = {
    "name": REQUIRED, "description": "", "organization": None, "inventory": None, "limit": "", "scm_branch": "", "extra_vars": "", "job_tags": "",
    "skip_tags": "", "survey_enabled": False, "allow_simultaneous": False, "ask_variables_on_launch": False, "ask_limit_on_launch": False,
    "ask_inventory_on_launch": False, "ask_tags_on_launch": False, "ask_skip_tags_on_launch": False, "ask_labels_on_launch": False,
    "ask_scm_branch_on_launch": False, "webhook_service": "",
}  # fmt: skip
FIELDS = {
    "organizations": {"name": REQUIRED, "description": ""},
    "inventories": {"name": REQUIRED, "description": "", "organization": REQUIRED},
    "credentials": {"name": REQUIRED, "description": "", "organization": None, "credential_type": 1},
    "labels": {"name": REQUIRED, "organization": REQUIRED},
    "teams": {"name": REQUIRED, "organization": REQUIRED},
    "instance_groups": {"name": REQUIRED},
    "execution_environments": {"name": REQUIRED, "organization": None, "image": ""},
    "notification_templates": {"name": REQUIRED, "organization": REQUIRED},
    "projects": {
        "name": REQUIRED, "description": "", "organization": None, "scm_type": "", "scm_url": "", "scm_branch": "", "scm_refspec": "",
        "scm_clean": False, "scm_delete_on_update": False, "scm_update_on_launch": False, "scm_update_cache_timeout": 0, "credential": None,
        "allow_override": False, "timeout": 0, "default_environment": None,
    },
    "job_templates": {
        **TEMPLATE, "job_type": "run", "project": REQUIRED, "playbook": REQUIRED, "forks": 0, "verbosity": 0, "force_handlers": False,
        "start_at_task": "", "timeout": 0, "use_fact_cache": False, "execution_environment": None, "host_config_key": "",
        "ask_diff_mode_on_launch": False, "ask_job_type_on_launch": False, "ask_verbosity_on_launch": False, "ask_credential_on_launch": False,
        "ask_execution_environment_on_launch": False, "ask_forks_on_launch": False, "ask_instance_groups_on_launch": False,
        "ask_job_slice_count_on_launch": False, "ask_timeout_on_launch": False, "become_enabled": False, "diff_mode": False,
        "job_slice_count": 1, "prevent_instance_group_fallback": False,
    },
    "workflow_job_templates": TEMPLATE,
    "workflow_job_template_nodes": {
        "workflow_job_template": REQUIRED, "identifier": "", "unified_job_template": None, "extra_data": {}, "inventory": None, "limit": None,
        "job_type": None, "job_tags": None, "skip_tags": None, "diff_mode": None, "verbosity": None, "all_parents_must_converge": False,
        "forks": None, "job_slice_count": None, "timeout": None, "scm_branch": None,
    },
    "workflow_approval_templates": {"name": REQUIRED, "description": "", "timeout": 0},
    "schedules": {
        "name": REQUIRED, "description": "", "rrule": REQUIRED, "unified_job_template": REQUIRED, "extra_data": {}, "enabled": True,
        "inventory": None, "limit": None, "job_type": None,
    },
    "inventory_sources": {
        "name": REQUIRED, "description": "", "inventory": REQUIRED, "source": "", "source_path": "", "source_project": None, "source_vars": "",
        "credential": None, "execution_environment": None, "overwrite": False, "overwrite_vars": False, "update_on_launch": False,
        "update_cache_timeout": 0, "timeout": 0, "verbosity": 1, "enabled_var": "", "enabled_value": "", "host_filter": "", "limit": "",
        "scm_branch": "",
    },
    "project_updates": {"name": REQUIRED, "project": REQUIRED, "status": "successful", "finished": None},
    "workflow_jobs": {"name": REQUIRED, "workflow_job_template": REQUIRED, "extra_vars": "", "limit": "", "status": "pending"},
}  # fmt: skip
TYPES = {kind: kind[:-1] if not kind.endswith("ies") else kind[:-3] + "y" for kind in FIELDS}
UNIFIED = ("job_templates", "workflow_job_templates", "projects", "inventory_sources", "workflow_approval_templates")
# What an object may be joined with.
JOINED = {
    "job_templates": ("credentials", "labels", "instance_groups", "notification_templates_started", "notification_templates_success",
                      "notification_templates_error"),
    "workflow_job_templates": ("labels", "notification_templates_started", "notification_templates_success", "notification_templates_error",
                               "notification_templates_approvals"),
    "workflow_job_template_nodes": ("success_nodes", "failure_nodes", "always_nodes", "credentials", "labels", "instance_groups"),
    "projects": ("notification_templates_started", "notification_templates_success", "notification_templates_error"),
    "inventory_sources": ("notification_templates_started", "notification_templates_success", "notification_templates_error"),
    "schedules": ("credentials", "labels", "instance_groups"),
}  # fmt: skip
EDGES = ("success_nodes", "failure_nodes", "always_nodes")
QUESTION_TYPES = {"text": str, "textarea": str, "password": str, "multiplechoice": str, "multiselect": str, "integer": int, "float": float}


class Refused(Exception):
    """A request that AWX answers with an error: its status and its body."""

    def __init__(self, status, body):
        super().__init__(status, body)
        self.status, self.body = status, body


def invalid(**fields):
    return Refused(400, {name: [text] for name, text in fields.items()})


class Store:
    """Everything that is kept, by kind and id."""

    def __init__(self, playbooks):
        self.playbooks, self.number = playbooks, 100
        self.objects = {kind: {} for kind in FIELDS}

    def add(self, kind, **values):
        """Keep an object as it was found, without looking at it."""
        self.number += 1
        defaults = {name: None if value is REQUIRED else value for name, value in FIELDS[kind].items()}
        self.objects[kind][self.number] = {"id": self.number, **defaults, **values, "_joined": {}, "_survey": {}}
        return self.number

    def get(self, kind, number):
        if number not in self.objects.get(kind, {}):
            raise Refused(404, {"detail": "Not found."})
        return self.objects[kind][number]

    def unified(self, number):
        """Return kind and object of something that can be launched."""
        for kind in UNIFIED:
            if number in self.objects[kind]:
                return kind, self.objects[kind][number]
        return None, None

    def create(self, kind, given):
        given = {name: value for name, value in given.items() if name != "type"}
        unknown = [name for name in given if name not in FIELDS[kind]]
        if unknown:  # AWX passes over these without a word; what the collection sends must not be lost
            raise invalid(**dict.fromkeys(unknown, "no such field of " + kind))
        for name, default in FIELDS[kind].items():
            if default is REQUIRED and given.get(name) in (None, ""):
                raise invalid(**{name: "This field is required."})
        self._check(kind, {**{n: v for n, v in FIELDS[kind].items() if v is not REQUIRED}, **given}, None)
        return self.add(kind, **given)

    def change(self, kind, number, given):
        item = self.get(kind, number)
        given = {name: value for name, value in given.items() if name in FIELDS[kind]}
        self._check(kind, {**item, **given}, number)
        item.update(given)

    def delete(self, kind, number):
        self.get(kind, number)
        del self.objects[kind][number]
        if kind == "workflow_job_templates":
            nodes = [key for key, node in self.objects["workflow_job_template_nodes"].items() if node["workflow_job_template"] == number]
            for key in nodes:
                template = self.objects["workflow_job_template_nodes"].pop(key)["unified_job_template"]
                self.objects["workflow_approval_templates"].pop(template, None)
        for schedule in [key for key, value in self.objects["schedules"].items() if value["unified_job_template"] == number]:
            del self.objects["schedules"][schedule]
        for items in self.objects.values():
            for item in items.values():
                for ids in item["_joined"].values():
                    if number in ids:
                        ids.remove(number)
        if kind in JOINED:  # labels that nothing has any more go by themselves
            used = {key for items in self.objects.values() for item in items.values() for key in item["_joined"].get("labels", [])}
            self.objects["labels"] = {key: value for key, value in self.objects["labels"].items() if key in used}

    def _check(self, kind, item, number):
        for field, other in (("organization", "organizations"), ("inventory", "inventories"), ("project", "projects"),
                             ("credential", "credentials"), ("execution_environment", "execution_environments"),
                             ("workflow_job_template", "workflow_job_templates"), ("source_project", "projects")):  # fmt: skip
            if field in FIELDS[kind] and item.get(field) is not None and item[field] not in self.objects[other]:
                raise invalid(**{field: 'Invalid pk "{0}" - object does not exist.'.format(item[field])})
        if "name" in FIELDS[kind] and kind not in ("workflow_approval_templates", "project_updates", "workflow_jobs"):
            places = [field for field in ("organization", "inventory", "unified_job_template") if field in FIELDS[kind]][:1]
            for key, other in self.objects[kind].items():
                if key != number and all(other[field] == item.get(field) for field in ["name"] + places):
                    raise Refused(400, {"__all__": ["{0} with this name already exists.".format(TYPES[kind])]})
        if "extra_vars" in FIELDS[kind] and item["extra_vars"]:
            try:
                json.loads(item["extra_vars"])
            except ValueError:
                raise invalid(extra_vars="Cannot parse as JSON or YAML.") from None
        special = getattr(self, "_check_" + TYPES[kind], None)
        if special:
            special(item)

    def _check_job_template(self, item):
        project = self.objects["projects"][item["project"]]
        if item["inventory"] is None and not item["ask_inventory_on_launch"]:
            raise invalid(inventory="Job Template must provide 'inventory' or allow prompting for it.")
        if not project.get("scm_revision"):
            raise invalid(playbook="Playbook not found for project.")
        if item["playbook"] not in self.playbooks:
            raise invalid(playbook="Playbook not found for project.")

    def _check_workflow_job_template_node(self, item):
        if item["unified_job_template"] is None:
            return
        kind, template = self.unified(item["unified_job_template"])
        if template is None:
            raise invalid(unified_job_template="Invalid pk.")
        prompts = {"extra_data": "ask_variables_on_launch", "limit": "ask_limit_on_launch", "job_tags": "ask_tags_on_launch",
                   "inventory": "ask_inventory_on_launch"}  # fmt: skip
        for field, asked in prompts.items():
            names = (
                {question["variable"] for question in template.get("_survey", {}).get("spec", [])}
                if template.get("survey_enabled")
                else set()
            )
            if item.get(field) and not template.get(asked) and not (field == "extra_data" and set(item[field]) <= names):
                raise invalid(**{field: "Field is not configured to prompt on launch."})

    def _check_schedule(self, item):
        if not re.match(r"DTSTART(;TZID=[\w/+-]+)?:\d{8}T\d{6}Z? RRULE:.*INTERVAL=\d+", item["rrule"]):
            raise invalid(rrule="Valid DTSTART required in rrule. Value should start with: DTSTART:YYYYMMDDTHHMMSSZ")
        if self.unified(item["unified_job_template"])[1] is None:
            raise invalid(unified_job_template="Invalid pk.")

    def _check_inventory_source(self, item):
        if item["source"] == "scm" and not item["source_project"]:
            raise invalid(source_project="Project required for scm type sources.")

    def join(self, kind, number, name, given):
        """Join two objects, or part them."""
        item = self.get(kind, number)
        other = given.get("id")
        ids = item["_joined"].setdefault(name, [])
        if given.get("disassociate"):
            if other in ids:
                ids.remove(other)
            return
        target = "workflow_job_template_nodes" if name in EDGES else "notification_templates" if name.startswith("notification") else name
        self.get(target, other)
        if name in EDGES:
            if any(other in item["_joined"].get(edge, []) for edge in EDGES if edge != name):
                raise Refused(400, {"Error": "Relationship not allowed."})
            if self._reaches(other, number):
                raise Refused(400, {"Error": "Cycle detected."})
        if other not in ids:
            ids.append(other)

    def _reaches(self, start, goal):
        seen, left = set(), [start]
        while left:
            at = left.pop()
            if at == goal:
                return True
            if at not in seen:
                seen.add(at)
                joined = self.objects["workflow_job_template_nodes"][at]["_joined"]
                left += [other for edge in EDGES for other in joined.get(edge, [])]
        return False

    def set_survey(self, kind, number, spec):
        """Keep a survey, or say what is wrong with it, in the words of AWX."""
        item = self.get(kind, number)
        for field in ("name", "description", "spec"):
            if field not in spec:
                raise Refused(400, {"error": "'{0}' missing from survey spec.".format(field)})
        if not spec["spec"]:
            raise Refused(400, {"error": "'spec' doesn't contain any items."})
        seen = set()
        for place, question in enumerate(spec["spec"]):
            for field in ("type", "question_name", "variable", "required"):
                if field not in question:
                    raise Refused(400, {"error": "'{0}' missing from survey question {1}.".format(field, place)})
            kind_ = question["type"]
            if kind_ not in QUESTION_TYPES:
                raise Refused(400, {"error": "'{0}' in survey question {1} is not one of the allowed question types.".format(kind_, place)})
            if question["variable"] in seen:
                raise Refused(400, {"error": "'variable' '{0}' duplicated in survey question {1}.".format(question["variable"], place)})
            seen.add(question["variable"])
            default = question.get("default")
            if "default" in question and default != "" and not isinstance(default, QUESTION_TYPES[kind_]):
                raise Refused(
                    400, {"error": "Default value {0!r} in survey question {1} expected to be {2}.".format(default, place, kind_)}
                )
            if kind_ in ("multiplechoice", "multiselect"):
                choices = question.get("choices")
                choices = choices.split("\n") if isinstance(choices, str) else choices
                if not choices:
                    raise Refused(400, {"error": "Survey question {0} of type {1} must specify choices.".format(place, kind_)})
                if default and default not in choices:
                    raise Refused(400, {"error": "Default choice must be answered from the choices listed."})
        item["_survey"] = spec
