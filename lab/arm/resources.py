# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Answers of subscriptions, compute, network and locks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import documents, effective
from .documents import Document
from .fleet import Fleet, Operation
from .rules import Answer, Request, not_found, refuse

# Seconds after which an operation has ended, whether it was asked after or not.
UNWATCHED_S = 20.0
COMPUTE = "x-ms-ratelimit-remaining-resource"


class Resources:
    """Handlers; each gets the request and the parts of its path."""

    def __init__(self, fleet: Fleet, page: int, polls: int) -> None:
        self.fleet, self.page, self.polls = fleet, page, polls
        # What else happens when the backup's own extension of a VM was removed.
        self.uninstalled: Callable[[str], None] = lambda vm: None

    # Common

    def listed(self, request: Request, entries: list[Document], page: int | None = None, token: str = "$skiptoken") -> Answer:
        """Return a page of a list, with an absolute nextLink on the same host."""
        size = page or self.page
        start = request.query.get(token.lower(), "0").strip("+") or "0"
        if not start.isdigit():
            return refuse(400, "InvalidSkipToken", "The skip token is invalid.")
        first = int(start)
        body: Document = {"value": entries[first : first + size]}
        if first + size < len(entries):
            kept = "&".join(part for part in request.raw_query.split("&") if not part.lower().startswith(token.lower() + "="))
            body["nextLink"] = "{0}{1}?{2}&{3}={4}".format(request.base, request.path, kept, token, first + size)
        return Answer(200, body)

    def start(self, request: Request, where: str, body: Any = None, status: int = 202, **values: Any) -> Answer:
        """Start an operation of Compute or Network and return its addresses."""
        name = documents.guid("operation", str(len(self.fleet.operations)), request.path)
        self.fleet.operations[name] = Operation(name, self.fleet.now(), self.polls, **values)
        match = re.match(r"(?i)/subscriptions/([^/]+)/", request.path)
        subscription = match.group(1) if match else ""
        base = "{0}/subscriptions/{1}/providers/{2}/locations/westeurope/".format(request.base, subscription, where)
        version = "api-version=" + request.query["api-version"]
        if where == "Microsoft.Compute":
            signed = "?p=571046f6-b640-41c1-86f7-f9f044b5adf9&" + version
            signed += "&t=638&c=MIIHpTCCBo2gAwIBAgITfwTY&s=stand-in-signature&h=stand-in-hash"
            address, location = base + "operations/" + name + signed, base + "operations/" + name + signed + "&monitor=true"
        else:
            address, location = base + "operations/{0}?{1}".format(name, version), base + "operationResults/{0}?{1}".format(name, version)
        headers = {"azure-asyncoperation": address, "azure-asyncnotification": "Enabled"}
        if status == 202:
            headers["location"] = location
        return Answer(status, body, headers)

    def poll(self, request: Request, kind: str, name: str) -> Answer:
        """Answer a poll of an operation of Compute or Network."""
        operation = self.fleet.operations.get(name)
        if operation is None:
            return refuse(404, "NotFound", "The operation was not found.")
        compute = "/microsoft.compute/" in request.path.lower()
        quota = {COMPUTE: "Microsoft.Compute/GetOperation3Min;14993,Microsoft.Compute/GetOperation30Min;29862"} if compute else {}
        result = request.query.get("monitor") == "true" or kind.lower() == "operationresults"
        self.advance(operation, count=not result)
        if result:
            if operation.status == "InProgress":
                return Answer(202, None, {**quota, "location": request.base + request.path + "?" + request.raw_query})
            if operation.result is not None:
                return Answer(200, operation.result, quota)
            if compute:
                return Answer(200, None, quota)
            address = {"azure-asyncnotification": "Enabled", "location": request.base + request.path + "?" + request.raw_query}
            address["azure-asyncoperation"] = address["location"].replace("operationResults", "operations")
            return Answer(204, None, {**address, "content-type": "application/json; charset=utf-8"})
        if not compute:
            return Answer(200, {"status": operation.status, **({"error": operation.error} if operation.status == "Failed" else {})})
        body: Document = {"startTime": documents.offset_stamp(operation.started), "status": operation.status, "name": name}
        if operation.status != "InProgress":
            body["endTime"] = documents.offset_stamp(self.fleet.now())
        if operation.status == "Failed":
            body["error"] = operation.error
        return Answer(200, body, quota)

    def finish_old(self) -> None:
        """End the operations that nobody asks after, but for those that were made to take for ever."""
        for operation in self.fleet.operations.values():
            old = (self.fleet.now() - operation.started).total_seconds() > UNWATCHED_S
            if operation.status == "InProgress" and operation.polls < 100 and old:
                operation.polls = 0
                self.advance(operation)

    def advance(self, operation: Operation, count: bool = True) -> None:
        """Let an operation go on by one poll."""
        if operation.status != "InProgress":
            return
        if operation.polls > 0:
            operation.polls -= 1 if count else 0
            return
        operation.status = "Failed" if operation.error else "Succeeded"
        if operation.finish and not operation.error:
            operation.finish()

    # Subscriptions

    def subscriptions(self, request: Request) -> Answer:
        return Answer(
            200, {"value": list(self.fleet.subscriptions.values()), "count": {"type": "Total", "value": len(self.fleet.subscriptions)}}
        )

    def group(self, request: Request, subscription: str, group: str) -> Answer:
        prefix = "/subscriptions/{0}/resourcegroups/{1}/".format(subscription, group).lower()
        if not any(key.startswith(prefix) for key in self.fleet.resources):
            return refuse(404, "ResourceGroupNotFound", "Resource group '{0}' could not be found.".format(group))
        path = "/subscriptions/{0}/resourceGroups/{1}".format(subscription, group)
        body = {
            "id": path,
            "name": group,
            "type": "Microsoft.Resources/resourceGroups",
            "location": "westeurope",
            "properties": {"provisioningState": "Succeeded"},
        }
        return Answer(200, body)

    def effective(self, request: Request, path: str, what: str) -> Answer:
        """Start reading the effective rules or routes of an interface whose VM runs; only Location leads to them."""
        interface = self.fleet.resources.get(path.lower())
        if interface is None:
            return not_found(request.path)
        machine = (interface["properties"].get("virtualMachine") or {}).get("id", "").lower()
        if self.fleet.live.get(machine, {}).get("power", "running") != "running":
            return refuse(400, "NetworkInterfaceNotInRunningVm", "The virtual machine of the network interface is not running.")
        made = effective.rules if what.lower().startswith("effectivenetwork") else effective.routes
        answer = self.start(request, "Microsoft.Network", result=made(self.fleet, interface))
        # A poll of Location does not count polls down.
        self.fleet.operations[answer.headers["location"].rpartition("/")[2].partition("?")[0]].polls = 0
        del answer.headers["azure-asyncoperation"]
        return answer

    # Compute

    def machines(self, request: Request, subscription: str) -> Answer:
        """List the VMs of a subscription; statusOnly gives what runs, and the instance view is for single VMs only."""
        if "$expand" in request.query:
            return refuse(400, "BadRequest", "$expand=instanceView is not supported on a list without a filter for one scale set.")
        entries = self.fleet.of_type("Microsoft.Compute/virtualMachines", "/subscriptions/{0}/".format(subscription))
        entries = [entry for entry in entries if not self.fleet.is_denied(entry["id"])]
        if request.query.get("statusonly", "").lower() == "true":
            entries = [self._status_only(entry) for entry in entries]
        answer = self.listed(request, entries, token="$skipToken")
        answer.headers[COMPUTE] = "Microsoft.Compute/HighCostGet3Min;139,Microsoft.Compute/HighCostGet30Min;699"
        return answer

    def _status_only(self, machine: Document) -> Document:
        view = documents.instance_view(machine, self.fleet.live.get(machine["id"].lower(), {}), self.fleet.now())
        group = machine["id"].split("/")[4]
        shown = {key: machine[key] for key in ("name", "type", "location") if key in machine}
        # This list writes groups in capitals.
        shown["id"] = machine["id"].replace("/resourceGroups/" + group, "/resourceGroups/" + group.upper())
        properties = machine["properties"]
        shown["properties"] = {
            "vmId": properties["vmId"],
            "provisioningState": properties["provisioningState"],
            "instanceView": {"statuses": view["statuses"]},
        }
        return shown

    def machine(self, request: Request, path: str) -> Answer:
        """Return one VM, with its instance view when that is asked for."""
        machine = self.fleet.resources.get(path.lower())
        if machine is None:
            return not_found(path)
        quota = {COMPUTE: "Microsoft.Compute/LowCostGet3Min;3986,Microsoft.Compute/LowCostGet30Min;31986"}
        expand = request.query.get("$expand", "").lower()
        if expand not in ("", "instanceview"):
            return refuse(400, "InvalidParameter", "The value of parameter $expand is invalid.")
        if not expand:
            return Answer(200, machine, quota)
        view = documents.instance_view(machine, self.fleet.live.get(path.lower(), {}), self.fleet.now())
        body = {**machine, "properties": {**machine["properties"], "instanceView": view}}
        listed = self.fleet.of_type("Microsoft.Compute/virtualMachines/extensions", path + "/")
        if listed:
            body["resources"] = listed
        return Answer(200, body, quota)

    def view(self, request: Request, path: str) -> Answer:
        """Return the instance view alone."""
        machine = self.fleet.resources.get(path.lower())
        if machine is None:
            return not_found(path)
        return Answer(200, documents.instance_view(machine, self.fleet.live.get(path.lower(), {}), self.fleet.now()))

    def act(self, request: Request, path: str, action: str) -> Answer:
        """Start, stop, deallocate, reapply a VM; live: reapply_error, sees_agent (what reapplying brings)."""
        machine = self.fleet.resources.get(path.lower())
        if machine is None:
            return not_found(path)
        live = self.fleet.live.setdefault(path.lower(), {})
        if machine["properties"]["provisioningState"] in ("Updating", "Creating", "Deleting"):
            message = (
                "The request failed due to conflict with a concurrent request. To resolve it, please refer to the operation under way."
            )
            return refuse(409, "Conflict", message)
        if action.lower() == "reapply":
            return self._reapply(request, machine, live)
        state = {"start": "running", "restart": "running", "poweroff": "stopped", "deallocate": "deallocated"}.get(action.lower())

        def finish() -> None:
            live["power"] = state
            if state == "deallocated":
                live["agent"] = "none"

        return self.start(request, "Microsoft.Compute", finish=finish)

    def _reapply(self, request: Request, machine: Document, live: Document) -> Answer:
        """Bring a VM's model to its host once more; until that is done the VM is being updated."""
        before = machine["properties"]["provisioningState"]
        machine["properties"]["provisioningState"] = "Updating"

        def finish() -> None:
            machine["properties"]["provisioningState"] = "Succeeded"
            # Whether the time of the state is renewed is on no recording.
            if not live.get("keeps_time"):
                live["provisioned"] = documents.offset_stamp(self.fleet.now())
            if live.pop("sees_agent", False):
                live["agent"] = "ready"

        answer = self.start(request, "Microsoft.Compute", finish=finish, error=live.get("reapply_error"))
        if live.get("reapply_error"):
            machine["properties"]["provisioningState"] = before
        return answer

    def _delete_extension(self, request: Request, path: str, known: Document) -> Answer:
        """Have the agent remove an extension: a VM that does not run refuses, an agent that is not ready never does it."""
        machine_path = path.lower().partition("/extensions/")[0]
        live = self.fleet.live.get(machine_path, {})
        if live.get("power", "running") != "running":
            return refuse(409, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running.")
        error = None
        if live.get("agent", "ready") != "ready":
            message = "The VM has reported a failure when processing extension, since its guest agent is not responding."
            error = {"code": "VMAgentStatusCommunicationError", "message": message}

        def finish() -> None:
            self.fleet.resources.pop(path.lower(), None)
            self.uninstalled(machine_path)
            kind = "{0}.{1}".format(known["properties"]["publisher"], known["properties"]["type"]).lower()
            for name in ("handlers", "extensions"):
                live[name] = [entry for entry in live.get(name) or [] if str(entry.get("type", "")).lower() != kind]

        known["properties"]["provisioningState"] = "Deleting"
        answer = self.start(request, "Microsoft.Compute", finish=finish, error=error)
        answer.headers[COMPUTE] = "Microsoft.Compute/UpdateVM3Min;238,Microsoft.Compute/UpdateVM30Min;1193"
        return answer

    def one(self, request: Request, path: str) -> Answer:
        """Return, put or delete any other resource of Compute."""
        known = self.fleet.resources.get(path.lower())
        point = "/restorepoint" in path.lower()
        name = "LowCostGetRestorePoint" if point else "LowCostGet"
        quota = {COMPUTE: "Microsoft.Compute/{0}3Min;497,Microsoft.Compute/{0}30Min;2494".format(name)}
        if request.method == "GET":
            if known is None:
                return not_found(path)
            if "/extensions/" in path.lower() and request.query.get("$expand", "").lower() == "instanceview":
                properties = known["properties"]
                view = {
                    "name": known["name"],
                    "type": "{0}.{1}".format(properties["publisher"], properties["type"]),
                    "typeHandlerVersion": properties["typeHandlerVersion"] + ".15",
                    "statuses": [documents.status("ProvisioningState/succeeded", "Provisioning succeeded", message="Enable succeeded.")],
                }
                return Answer(200, {**known, "properties": {**properties, "instanceView": view}}, quota)
            # A restore point has no type.
            hidden = "type" if "/restorepoints/" in path.lower() else ""
            if point and request.query.get("$expand", "").lower() == "restorepoints":
                points = self.fleet.of_type("Microsoft.Compute/restorePointCollections/restorePoints", path + "/")
                shown = [{key: value for key, value in entry.items() if key != "type"} for entry in points]
                return Answer(200, {**known, "properties": {**known["properties"], "restorePoints": shown}}, quota)
            return Answer(200, {key: value for key, value in known.items() if key != hidden}, quota)
        if request.method == "DELETE":
            if known is None:
                return Answer(204)
            if "/extensions/" in path.lower():
                return self._delete_extension(request, path, known)
            answer = self.start(request, "Microsoft.Compute", finish=lambda: self.fleet.resources.pop(path.lower(), None))
            kind = "DeleteRestorePoints" if point else "UpdateVM"
            answer.headers[COMPUTE] = "Microsoft.Compute/{0}3Min;238,Microsoft.Compute/{0}30Min;1193".format(kind)
            return answer
        if not point:
            return refuse(405, "HttpMethodNotAllowed", "The HTTP method '{0}' is not supported.".format(request.method))
        return self._put_point(request, path)

    def _put_point(self, request: Request, path: str) -> Answer:
        """Create a restore point collection, or a point in one."""
        sent = request.json() or {}
        parts = path.split("/")
        quota = {COMPUTE: "Microsoft.Compute/CreateRestorePoints3Min;119,Microsoft.Compute/CreateRestorePoints30Min;597"}
        if len(parts) == 9:
            source = ((sent.get("properties") or {}).get("source") or {}).get("id")
            if not source or not sent.get("location"):
                return refuse(400, "InvalidParameter", "Required parameter 'source' is missing (null).")
            made = documents.restore_point_collection(parts[2], parts[4], parts[8], sent["location"], source)
            return Answer(201, self.fleet.put(made), quota)
        collection = self.fleet.resources.get("/".join(parts[:9]).lower())
        if collection is None:
            return not_found("/".join(parts[:9]))
        machine = self.fleet.resources.get(collection["properties"]["source"]["id"].lower())
        if machine is None:
            return not_found(collection["properties"]["source"]["id"])
        made = documents.restore_point(
            path, machine, (sent.get("properties") or {}).get("consistencyMode", "ApplicationConsistent"), self.fleet.now()
        )
        shown = {**made, "properties": {**made["properties"], "provisioningState": "Creating"}}
        shown["properties"]["sourceMetadata"] = documents.without_disk_points(made["properties"]["sourceMetadata"])
        self.fleet.resources[path.lower()] = {**made, "type": "Microsoft.Compute/restorePointCollections/restorePoints"}
        answer = self.start(request, "Microsoft.Compute", shown, 201)
        answer.headers.update(quota)
        return answer

    def collections(self, request: Request, subscription: str, group: str | None) -> Answer:
        """List restore point collections; the subscription's list writes groups in capitals and has no points."""
        below = "/subscriptions/{0}/{1}".format(subscription, "resourcegroups/{0}/".format(group) if group else "")
        entries = self.fleet.of_type("Microsoft.Compute/restorePointCollections", below)
        if not group:
            entries = [
                {**entry, "id": re.sub(r"(?<=/resourceGroups/)[^/]+", lambda match: match.group(0).upper(), entry["id"])}
                for entry in entries
            ]
        answer = self.listed(request, entries)
        answer.headers[COMPUTE] = "Microsoft.Compute/HighCostGetRestorePoint3Min;119,Microsoft.Compute/HighCostGetRestorePoint30Min;1199"
        return answer

    # Network

    def network(self, request: Request, path: str) -> Answer:
        known = self.fleet.resources.get(path.lower())
        return Answer(200, known, {"etag": known.get("etag", "")} if known.get("etag") else {}) if known else not_found(path)

    def put_interface(self, request: Request, path: str) -> Answer:
        """Write a network interface whole: what is left out is gone, as in Azure."""
        known = self.fleet.resources.get(path.lower())
        sent = request.json() or {}
        properties = sent.get("properties") or {}
        if known is None:
            return not_found(path)
        if request.headers.get("if-match") and request.headers["if-match"] != known.get("etag"):
            return refuse(412, "PreconditionFailed", "Precondition failed.")
        if not sent.get("location") or not properties.get("ipConfigurations"):
            return refuse(400, "InvalidRequestFormat", "Cannot parse the request.")
        for entry in properties["ipConfigurations"]:
            inner = entry.get("properties") or {}
            if not (inner.get("subnet") or {}).get("id"):
                return refuse(400, "SubnetNotFound", "The subnet of the IP configuration {0} was not found.".format(entry.get("name")))
            if inner.get("privateIPAllocationMethod") == "Static" and not inner.get("privateIPAddress"):
                return refuse(400, "PrivateIPAddressNotProvided", "A static allocation needs a private address.")
        kept = ("name", "id", "type", "location", "tags")
        made = {**{key: sent.get(key, known.get(key)) for key in kept if key in sent or key in known}, "properties": properties}
        made["etag"] = 'W/"{0}"'.format(documents.guid(path, str(len(self.fleet.operations)), "etag"))
        self.fleet.resources[path.lower()] = made
        shown = {**made, "properties": {**properties, "provisioningState": "Updating"}}
        return self.start(request, "Microsoft.Network", shown, 200)

    def security_rule(self, request: Request, group: str, name: str) -> Answer:
        """Read, put or delete one security rule."""
        parent = self.fleet.resources.get(group.lower())
        if parent is None:
            return not_found(group)
        rules = parent["properties"]["securityRules"]
        known = next((entry for entry in rules if entry["name"].lower() == name.lower()), None)
        if request.method == "GET":
            return Answer(200, known, {"etag": known["etag"]}) if known else not_found("{0}/securityRules/{1}".format(group, name))
        if request.method == "DELETE":
            if known is None:
                return Answer(204)
            return self.start(request, "Microsoft.Network", finish=lambda: rules.remove(known) if known in rules else None)
        sent = (request.json() or {}).get("properties") or {}
        if request.headers.get("if-match") and known and request.headers["if-match"] != known["etag"]:
            return refuse(412, "PreconditionFailed", "Precondition failed.")
        lacking = [key for key in ("protocol", "access", "priority", "direction") if key not in sent]
        if lacking or not isinstance(sent.get("priority"), int) or not 100 <= sent["priority"] <= 4096:
            return refuse(
                400,
                "InvalidRequestFormat",
                "Cannot parse the request. Required property '{0}'.".format(lacking[0] if lacking else "priority"),
            )
        refused = self._augmented(sent)
        if refused:
            return refused
        clash = next((entry for entry in rules if entry is not known and entry["properties"]["priority"] == sent["priority"]), None)
        if clash and clash["properties"]["direction"].lower() == str(sent["direction"]).lower():
            message = "Security rule {0} conflicts with rule {1}. Rules cannot have the same Priority and Direction."
            return refuse(400, "SecurityRuleConflict", message.format(name, clash["name"]))
        made = documents.rule(parent["id"], name, sent)
        rules[:] = [entry for entry in rules if entry is not known] + [made]
        shown = {**made, "properties": {**made["properties"], "provisioningState": "Updating"}}
        return self.start(request, "Microsoft.Network", shown, 200 if known else 201)

    @staticmethod
    def _augmented(sent: Document) -> Answer | None:
        """Refuse tags in lists: a rule takes several addresses, but one service tag only."""
        for key in ("sourceAddressPrefixes", "destinationAddressPrefixes"):
            for prefix in sent.get(key) or []:
                if not re.match(r"[0-9a-fA-F.:]+(/\d+)?$", str(prefix)):
                    message = "Security rule has invalid Address prefix. Value provided: {0}".format(prefix)
                    return refuse(400, "SecurityRuleInvalidAddressPrefix", message)
        return None

    # Locks

    def locks(self, request: Request, scope: str) -> Answer:
        """List locks: those of a subscription hold those of its groups and resources."""
        below = scope.lower() + "/"
        entries = [entry for entry in self.fleet.of_type("Microsoft.Authorization/locks") if entry["id"].lower().startswith(below)]
        return self.listed(request, entries)

    def lock(self, request: Request, scope: str, name: str) -> Answer:
        path = "{0}/providers/Microsoft.Authorization/locks/{1}".format(scope, name)
        known = self.fleet.resources.get(path.lower())
        if request.method == "GET":
            return Answer(200, known) if known else refuse(404, "LockNotFound", "The lock '{0}' could not be found.".format(name))
        if request.method == "DELETE":
            return Answer(200 if self.fleet.resources.pop(path.lower(), None) else 204)
        sent = (request.json() or {}).get("properties") or {}
        if sent.get("level") not in ("CanNotDelete", "ReadOnly"):
            return refuse(400, "InvalidLockLevel", "The lock level is invalid.")
        made = {**documents.lock(scope, name), "properties": sent}
        self.fleet.put(made)
        return Answer(200 if known else 201, made)
