#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Stand-in for the Azure host of the lab's guests. It is no part of the collection and imitates no more than the guests ask for.

WireServer (80), HostGAPlugin (32526) and instance metadata (169.254.169.254:80), each guest with a goal state of its own, told apart by its
address; a storage endpoint that accepts connections (443); the configuration of dnsmasq (DHCP with option 245, DNS). The control port (8099)
answers the lab's host only: GET /guests, GET /guests/NAME, POST /guests/NAME with a JSON object of settings, POST /guests/NAME/reset.
"""

import argparse
import base64
import copy
import http.server
import ipaddress
import json
import os
import pathlib
import re
import socket
import socketserver
import subprocess
import threading
import time
import urllib.parse
import uuid

from packages import agent_package, extension_package

HOST = "168.63.129.16"
METADATA = "169.254.169.254"
CONTROL_PORT = 8099
NAME = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"
XML = '<?xml version="1.0" encoding="utf-8"?>'
GUID = "{00000000-0000-0000-0000-000000000001}"
NAMESPACE = uuid.UUID("6f1d9a52-94c8-4a5e-8f0e-56acdc3e24a1")

# What can be set per guest. The first group makes a new goal state when it changes; the second is looked at with every request.
GOAL = {
    "seq": 1,  # sequence number of the settings: a new one is a new backup
    "extension": "enabled",  # enabled, uninstall (the agent is told to remove it), absent (no backup was ever asked for)
    "version": "1.0.9217.0",
    "code": 1,  # what the stand-in extension reports for the next backup
    "message": None,
    "code_as_text": 0,
    "hold_s": 0,  # seconds that the snapshot runs
    "stuck": 0,  # the snapshot begins and nobody ends it
    "started_ago_s": 0,  # the extension pretends to have begun so long ago
    "install_fails": 0,  # the package's install command exits non-zero
    "agent_update": None,  # version of a broken agent that is offered as an update
}
WAY = {
    "wireserver": "ok",  # ok, silent (accepts and never answers), error (503)
    "hostgaplugin": "ok",
    "imds": "ok",
    "storage": "ok",
    "dhcp": "azure",  # azure, no245 (neither option 245 nor the host routes), silent (no answer at all)
}
CHOICES = {
    "extension": ("enabled", "uninstall", "absent"),
    "dhcp": ("azure", "no245", "silent"),
    **dict.fromkeys(("wireserver", "hostgaplugin", "imds"), ("ok", "silent", "error")),
    "storage": ("ok", "silent"),
}
MESSAGES = {
    0: "Success",
    1: "Success",
    2: "Enable failed with an error",
    4: "Transitioning state in extension",
    76: "Enable failed with FailedRetryableSnapshotFailedNoNetwork error",
    121: "Enable failed with FsFreezeFailed error, freeze failed for some mount",
    122: "Enable failed with FsFreezeTimeout error",
    123: "Enable failed with UnableToOpenMount error, file open failed for some mount",
    124: "Enable failed with SafeFreezeBinaryNotFound error",
    402: "Enable failed with FailedGuestAgentInvokedCommandTooLate error",
}


class Wrong(Exception):
    """A request that makes no sense; the text says why."""


class Azure:
    """What is known of every guest, kept in one file so that a restart loses nothing."""

    def __init__(self, guests, state):
        described = json.loads(pathlib.Path(guests).read_text())
        self.network = described["network"]
        self.guests = {guest["name"]: guest for guest in described["guests"]}
        self.by_address = {guest["address"]: guest["name"] for guest in described["guests"]}
        self.path = pathlib.Path(state)
        self.lock = threading.RLock()
        self.seen = {}
        try:
            self.state = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self.state = {}
        for name in self.guests:
            kept = self.state.get(name, {})
            self.state[name] = {**self.fresh(name), **kept}
        self.save()
        self.write_dhcp()

    def fresh(self, name):
        first = self.guests[name].get("platform", {})
        return {"incarnation": 1, **GOAL, **WAY, **first}

    def save(self):
        text = json.dumps(self.state, indent=1)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text)
        os.replace(temporary, self.path)

    def name_of(self, address):
        return self.by_address.get(address)

    def of(self, address):
        name = self.name_of(address)
        with self.lock:
            return copy.deepcopy(self.state[name]) if name else None

    def change(self, name, wanted):
        if name not in self.guests:
            raise Wrong(f"no guest is named {name!r}; there are: {', '.join(self.guests)}")
        for key, value in wanted.items():
            known = {**GOAL, **WAY}
            if key not in known:
                raise Wrong(f"{key!r} cannot be set; these can: {', '.join(known)}")
            if key in CHOICES and value not in CHOICES[key]:
                raise Wrong(f"{key} is one of {', '.join(CHOICES[key])}, not {value!r}")
            if isinstance(known[key], int) and not isinstance(value, (int, float)):
                raise Wrong(f"{key} is a number, not {value!r}")
        with self.lock:
            state = self.state[name]
            before = dict(state)
            state.update(wanted)
            if any(state[key] != before[key] for key in GOAL):
                state["incarnation"] += 1
            self.save()
            if state["dhcp"] != before["dhcp"]:
                self.write_dhcp()
            return self.answer(name)

    def reset(self, name):
        if name not in self.guests:
            raise Wrong(f"no guest is named {name!r}; there are: {', '.join(self.guests)}")
        with self.lock:
            self.state[name] = self.fresh(name)
            self.seen.pop(name, None)
            self.save()
            self.write_dhcp()
            return self.answer(name)

    def answer(self, name):
        return {"name": name, **self.state[name], "seen": self.seen.get(name, {})}

    def note(self, address, **what):
        name = self.name_of(address)
        if name:
            with self.lock:
                self.seen.setdefault(name, {}).update(what, at=time.time())

    def write_dhcp(self):
        """Write the files of dnsmasq and tell it; every guest has its address by its network card, an endless lease, and its own set of options."""
        gateway = self.network["platform"]
        net = ipaddress.ip_network(self.network["subnet"])
        routes = f"0.0.0.0/0,{gateway},{HOST}/32,{gateway},{METADATA}/32,{gateway}"
        folder = self.path.parent
        main = [
            "port=53",
            "interface=eth0",
            "bind-dynamic",
            "listen-address=" + HOST,
            "no-resolv",
            "no-hosts",
            "no-ping",
            "dhcp-authoritative",
            f"dhcp-leasefile={folder}/dnsmasq.leases",
            f"dhcp-range={net.network_address},static,{net.netmask},infinite",
            f"dhcp-hostsfile={folder}/dnsmasq.hosts",
            f"pid-file={folder}/dnsmasq.pid",
            f"dhcp-option=option:router,{gateway}",
            f"dhcp-option=option:dns-server,{HOST}",
            "dhcp-option=option:domain-name,internal.cloudapp.net",
            f"dhcp-option=tag:azure,121,{routes}",
            "dhcp-option-force=tag:azure,245,a8:3f:81:10",
        ]
        for suffix in ("blob.core.windows.net", "blob.storage.azure.net"):
            main.append(f"address=/{suffix}/{self.network['storage']}")
        main.append("address=/#/")
        hosts = []
        for name, guest in self.guests.items():
            way = self.state[name]["dhcp"]
            hosts.append(f"{guest['mac']},ignore" if way == "silent" else f"{guest['mac']},set:{way},{guest['address']},{name},infinite")
        changed = False
        for path, lines in ((folder / "dnsmasq.conf", main), (folder / "dnsmasq.hosts", hosts)):
            text = "\n".join(lines) + "\n"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                changed = True
        if changed:  # a restart, as dnsmasq may fall over a reload; it keeps the leases
            subprocess.run(["systemctl", "--no-block", "restart", "lab-dnsmasq.service"], check=False, capture_output=True)


def xml_text(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def goal_state(name, state):
    number = state["incarnation"]
    machine = uuid.uuid5(NAMESPACE, name)
    configs = "".join(
        f"<{tag}>http://{HOST}:80/machine/{machine}?comp=config&amp;type={kind}&amp;incarnation={number}</{tag}>"
        for tag, kind in (
            ("HostingEnvironmentConfig", "hostingEnvironmentConfig"),
            ("SharedConfig", "sharedConfig"),
            ("ExtensionsConfig", "extensionsConfig"),
            ("FullConfig", "fullConfig"),
        )
    )
    return (
        f"{XML}<GoalState><Version>2012-11-30</Version><Incarnation>{number}</Incarnation><Machine><ExpectedState>Started</ExpectedState></Machine>"
        f"<Container><ContainerId>{machine}</ContainerId><RoleInstanceList><RoleInstance><InstanceId>{machine}._{name}</InstanceId>"
        f"<State>Started</State><Configuration>{configs}<ConfigName>{machine}.{number}.xml</ConfigName></Configuration></RoleInstance>"
        "</RoleInstanceList></Container></GoalState>"
    )


def hosting(name, state):
    number = state["incarnation"]
    return (
        f'{XML}<HostingEnvironmentConfig version="1.0.0.0" goalStateIncarnation="{number}"><StoredCertificates/>'
        f'<Deployment name="lab" guid="{GUID}" incarnation="0"><Service name="s" guid="{GUID}"/><ServiceInstance name="s" guid="{GUID}"/></Deployment>'
        f'<Incarnation number="1" instance="{name}" guid="{GUID}"/><Role guid="{GUID}" name="MachineRole" hostingEnvironmentVersion="1" software=""'
        ' softwareType="ApplicationPackage" entryPoint="" parameters="" settleTimeSeconds="10"/></HostingEnvironmentConfig>'
    )


def shared(name, state, address):
    return (
        f'{XML}<SharedConfig version="1.0.0.0" goalStateIncarnation="{state["incarnation"]}"><Deployment name="lab" guid="{GUID}" incarnation="0">'
        f'<Service name="s" guid="{GUID}"/><ServiceInstance name="s.1" guid="{GUID}"/></Deployment><Incarnation number="1" instance="{name}" guid="{GUID}"/>'
        f'<Role guid="{GUID}" name="MachineRole" settleTimeSeconds="0"/><Instances><Instance id="{name}" address="{address}"/></Instances></SharedConfig>'
    )


def extensions(name, state):
    """Return the ExtensionsConfig: which agent updates there are, the snapshot extension with its settings, where to put the status."""
    machine = uuid.uuid5(NAMESPACE, name)
    plugins = settings = ""
    if state["extension"] != "absent":
        wish = {key: state[key] for key in ("code", "code_as_text", "hold_s", "stuck", "started_ago_s")}
        wish["message"] = state["message"] or MESSAGES.get(state["code"], f"Enable failed with code {state['code']}")
        public = {
            "commandToExecute": "snapshot",
            "locale": "en-us",
            "taskId": str(uuid.uuid5(machine, str(state["seq"]))),
            "commandStartTimeUTCTicks": str(621355968000000000 + int(time.time()) * 10000000),
            "objectStr": "",
            "logsBlobUri": "",
            "statusBlobUri": "https://invented.blob.core.windows.net/status/1?sv=2023-01-03&sr=b&sp=rw&sig=aW52ZW50ZWQ%3D",
            "standIn": wish,
        }
        runtime = {"runtimeSettings": [{"handlerSettings": {"publicSettings": public}}]}
        manifest = f"http://{HOST}/{'broken' if state['install_fails'] else 'good'}/manifest.xml?version={state['version']}"
        plugins = (
            f'<Plugins><Plugin name="{NAME}" version="{state["version"]}" location="{manifest}" failoverlocation="{manifest}" config=""'
            f' state="{state["extension"]}" autoUpgrade="true" runAsStartupTask="false" isJson="true"/></Plugins>'
        )
        settings = (
            f'<PluginSettings><Plugin name="{NAME}" version="{state["version"]}"><RuntimeSettings seqNo="{state["seq"]}">'
            f"{xml_text(json.dumps(runtime))}</RuntimeSettings></Plugin></PluginSettings>"
        )
    agents = f"http://{HOST}/agents.xml" + (f"?version={state['agent_update']}" if state["agent_update"] else "")
    return (
        f'{XML}<Extensions version="1.0.0.0" goalStateIncarnation="{state["incarnation"]}">'
        '<GuestAgentExtension xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><GAFamilies><GAFamily>'
        f"<Name>Prod</Name><Uris><Uri>{agents}</Uri></Uris></GAFamily></GAFamilies></GuestAgentExtension>{plugins}{settings}"
        f'<StatusUploadBlob statusBlobType="BlockBlob">http://{HOST}/status/{name}?sv=2018-03-28&amp;sr=b&amp;sig=aW52ZW50ZWQ%3d</StatusUploadBlob></Extensions>'
    )


def version_manifest(version, package):
    entry = f"<Plugin><Version>{version}</Version><Uris><Uri>http://{HOST}/{package}</Uri></Uris></Plugin>" if version else ""
    return f"{XML}<PluginVersionManifest><Plugins>{entry}</Plugins></PluginVersionManifest>"


class Web(http.server.BaseHTTPRequestHandler):
    """The parts that all HTTP servers here share."""

    protocol_version = "HTTP/1.1"
    azure = None

    def log_message(self, form, *values):
        pass

    def answer(self, status, body=b"", kind="text/xml; charset=utf-8", **headers):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def put_off(self, way):
        """Carry out a disturbance; True when the request is dealt with."""
        if way == "silent":
            self.connection.settimeout(600)
            try:
                while self.connection.recv(4096):
                    pass
            except OSError:
                pass
            self.close_connection = True
            return True
        if way == "error":
            self.body()
            self.answer(503, "stand-in: service unavailable")
            return True
        return False


class Host(Web):
    """WireServer and instance metadata: one port, told apart by the address that was called."""

    def do_GET(self):
        client = self.client_address[0]
        called = self.connection.getsockname()[0]
        state = self.azure.of(client)
        if state is None:
            return self.answer(403, "stand-in: no guest of the lab has this address")
        if called == METADATA:
            return None if self.put_off(state["imds"]) else self.metadata(client)
        if self.put_off(state["wireserver"]):
            return None
        name = self.azure.name_of(client)
        path, _, query = self.path.partition("?")
        asked = {key.lower(): value[0] for key, value in urllib.parse.parse_qs(query).items()}
        kind = asked.get("type", "").lower()
        if asked.get("comp", "").lower() == "versions":
            return self.answer(200, XML + "<Versions><Preferred><Version>2015-04-05</Version></Preferred><Supported><Version>2015-04-05</Version>"
                               "<Version>2012-11-30</Version></Supported></Versions>")  # fmt: skip
        if asked.get("comp", "").lower() == "goalstate":
            self.azure.note(client, goal_state=state["incarnation"], goal_state_at=time.time())
            return self.answer(200, goal_state(name, state), ETag=f'"{state["incarnation"]}"')
        if kind == "hostingenvironmentconfig":
            return self.answer(200, hosting(name, state))
        if kind == "sharedconfig":
            return self.answer(200, shared(name, state, client))
        if kind == "extensionsconfig":
            return self.answer(200, extensions(name, state))
        if path.endswith("/manifest.xml"):
            return self.answer(200, version_manifest(state["version"], path.split("/")[1] + "/package.zip"))
        if path.endswith("/package.zip"):
            return self.answer(200, extension_package("/broken/" in path), "application/zip")
        if path == "/agents.xml":
            wanted = asked.get("version", "")
            return self.answer(200, version_manifest(wanted, f"agent/{wanted}.zip"))
        if re.match(r"/agent/[\d.]+\.zip$", path):
            return self.answer(200, agent_package(path[7:-4]), "application/zip")
        return self.answer(404)

    def take(self):
        client = self.client_address[0]
        state = self.azure.of(client)
        if state is None:
            return self.answer(403)
        if self.put_off(state["wireserver"]):
            return None
        body = self.body()
        if self.path.startswith("/status/"):
            remember_status(self.azure, client, body)
            return self.answer(201)
        if "comp=health" in self.path.lower():
            found = re.search(rb"<Health>.*?<State>(\w+)</State>", body, re.S)
            self.azure.note(client, health=found.group(1).decode() if found else None)
        return self.answer(200)

    do_PUT = do_POST = take

    def metadata(self, client):
        path, _, query = self.path.partition("?")
        if (self.headers.get("Metadata") or "").lower() != "true":
            return self.answer(400, json.dumps({"error": "Bad request. Required metadata header not specified"}), "application/json")
        if self.headers.get("X-Forwarded-For"):
            return self.answer(400, json.dumps({"error": "Bad request. X-Forwarded-For is not allowed"}), "application/json")
        found = self.instance(client)
        parts = [part for part in path.split("/") if part]
        if parts[:2] != ["metadata", "instance"]:
            return self.answer(404, json.dumps({"error": "Not found"}), "application/json")
        for part in parts[2:]:
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, ValueError, TypeError):
                return self.answer(404, json.dumps({"error": "Not found"}), "application/json")
        if isinstance(found, (dict, list)):
            return self.answer(200, json.dumps(found), "application/json; charset=utf-8")
        if "format=text" not in query:
            return self.answer(400, json.dumps({"error": "Bad request. format=text is needed for a leaf"}), "application/json")
        return self.answer(200, str(found), "text/plain")

    def instance(self, client):
        name = self.azure.name_of(client)
        guest = self.azure.guests[name]
        net = ipaddress.ip_network(self.azure.network["subnet"])
        group, subscription = "lab-rg", str(uuid.uuid5(NAMESPACE, "subscription"))
        return {
            "compute": {
                "azEnvironment": "AzurePublicCloud",
                "location": "westeurope",
                "name": name,
                "offer": "lab",
                "osType": "Windows" if guest["image"] == "windows" else "Linux",
                "placementGroupId": "",
                "platformFaultDomain": "0",
                "platformUpdateDomain": "0",
                "provider": "Microsoft.Compute",
                "publisher": "lab",
                "resourceGroupName": group,
                "resourceId": f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{name}",
                "sku": guest["image"],
                "subscriptionId": subscription,
                "tags": "purpose:lab",
                "version": "1.0.0",
                "vmId": str(uuid.uuid5(NAMESPACE, name)),
                "vmScaleSetName": "",
                "vmSize": "Standard_D2s_v5",
                "zone": "",
            },
            "network": {
                "interface": [
                    {
                        "ipv4": {
                            "ipAddress": [{"privateIpAddress": client, "publicIpAddress": ""}],
                            "subnet": [{"address": str(net.network_address), "prefix": str(net.prefixlen)}],
                        },
                        "ipv6": {"ipAddress": []},
                        "macAddress": guest["mac"].replace(":", "").upper(),
                    }
                ]
            },
        }


class Plugin(Web):
    """HostGAPlugin: the way on which the agent puts its status when storage is out of reach."""

    def do_GET(self):
        state = self.azure.of(self.client_address[0])
        if state is None:
            return self.answer(403)
        if self.put_off(state["hostgaplugin"]):
            return None
        path = self.path.partition("?")[0].lower()
        if path == "/versions":
            return self.answer(200, '["2015-09-01"]', "application/json")
        if path == "/health":
            return self.answer(200)
        if path == "/extensionartifact":
            return self.artifact(state)
        return self.answer(404)

    def artifact(self, state):
        """Fetch for the agent what it could not fetch itself: only what this program serves anyway."""
        path = urllib.parse.urlsplit(self.headers.get("x-ms-artifact-location") or "").path
        if path.endswith("/package.zip"):
            return self.answer(200, extension_package("/broken/" in path), "application/zip")
        if path.endswith("/manifest.xml"):
            return self.answer(200, version_manifest(state["version"], path.split("/")[1] + "/package.zip"))
        return self.answer(404)

    def take(self):
        client = self.client_address[0]
        state = self.azure.of(client)
        if state is None:
            return self.answer(403)
        if self.put_off(state["hostgaplugin"]):
            return None
        body = self.body()
        if self.path.partition("?")[0].lower() == "/status":
            try:
                remember_status(self.azure, client, base64.b64decode(json.loads(body)["content"]))
            except (ValueError, KeyError):
                return self.answer(400)
        return self.answer(200)

    do_PUT = do_POST = take


def remember_status(azure, client, body):
    """Keep what the agent reported last, short."""
    try:
        report = json.loads(body)["aggregateStatus"]
    except (ValueError, KeyError):
        return
    agent = report.get("guestAgentStatus") or {}
    handlers = {}
    for handler in report.get("handlerAggregateStatus") or []:
        settings = handler.get("runtimeSettingsStatus") or {}
        status = (settings.get("settingsStatus") or {}).get("status") or {}
        handlers[handler.get("handlerName")] = {
            "version": handler.get("handlerVersion"),
            "status": handler.get("status"),
            "code": handler.get("code"),
            "sequence": settings.get("sequenceNumber"),
            "result": status.get("code"),
        }
    azure.note(client, agent=agent.get("status"), agent_version=agent.get("version"), handlers=handlers, status_at=time.time())


class Control(Web):
    """The lab's own door."""

    def allowed(self):
        if self.client_address[0] in (self.azure.network["gateway"], self.azure.network["platform"], "127.0.0.1"):
            return True
        self.answer(403, json.dumps({"error": "only the lab's host may ask"}), "application/json")
        return False

    def do_GET(self):
        if not self.allowed():
            return None
        parts = [part for part in self.path.split("/") if part]
        with self.azure.lock:
            if parts == ["guests"]:
                found = [self.azure.answer(name) for name in self.azure.guests]
                return self.answer(200, json.dumps(found), "application/json")
            if len(parts) == 2 and parts[0] == "guests" and parts[1] in self.azure.guests:
                return self.answer(200, json.dumps(self.azure.answer(parts[1])), "application/json")
        return self.answer(404, json.dumps({"error": "no such guest"}), "application/json")

    def do_POST(self):
        body = self.body()
        if not self.allowed():
            return None
        parts = [part for part in self.path.split("/") if part]
        try:
            if len(parts) == 3 and parts[0] == "guests" and parts[2] == "reset":
                found = self.azure.reset(parts[1])
            elif len(parts) == 2 and parts[0] == "guests":
                found = self.azure.change(parts[1], json.loads(body or b"{}"))
            else:
                return self.answer(404, json.dumps({"error": "no such thing"}), "application/json")
        except (Wrong, ValueError) as error:
            return self.answer(400, json.dumps({"error": str(error)}), "application/json")
        return self.answer(200, json.dumps(found), "application/json")


class Storage(socketserver.BaseRequestHandler):
    """Accepts a connection and closes it, or keeps it without a word: a probe of port 443 learns that something is there."""

    def handle(self):
        state = Web.azure.of(self.client_address[0])
        self.request.settimeout(600 if state and state["storage"] == "silent" else 2)
        try:
            while self.request.recv(4096) and state and state["storage"] == "silent":
                pass
        except OSError:
            pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "lab", self.server_address[1]

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guests", required=True, help="the lab's list of guests")
    parser.add_argument("--state", required=True, help="file that keeps what was set")
    options = parser.parse_args()
    Web.azure = Azure(options.guests, options.state)
    for port, handler in ((80, Host), (32526, Plugin), (CONTROL_PORT, Control), (443, Storage)):
        server = Server(("0.0.0.0", port), handler)
        threading.Thread(target=server.serve_forever).start()
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(b"READY=1")


if __name__ == "__main__":
    main()
