# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTPS, the CONNECT proxy in front of it, the log of requests and faults on demand."""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import pathlib
import re
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import background, documents, graph, rules, tls
from .backup import Backup
from .fleet import Fleet, generate
from .guests import Guests
from .resources import Resources
from .rules import Answer, Request, refuse

LOGIN_HOST, ARM_HOST = "login.microsoftonline.com", "management.azure.com"
CLIENT, SECRET, TENANT = "44444444-4444-4444-4444-444444444444", "stand-in-secret", "33333333-3333-3333-3333-333333333333"
S, G = r"/subscriptions/([^/]+)", r"/resourceGroups/([^/]+)"
IN_GROUP = r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/"
V = r"({0}Microsoft\.RecoveryServices/vaults/[^/]+)".format(IN_GROUP)
ITEM = V[:-1] + r"/backupFabrics/Azure/protectionContainers/[^/]+/protectedItems/[^/]+)"
VM = r"({0}Microsoft\.Compute/virtualMachines/[^/]+)".format(IN_GROUP)


@dataclass
class Fault:
    """What is done to the requests that match, so many times: another status, a wait, a reset."""

    match: str
    times: int = 1
    status: int | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    reset: bool = False
    # The request is carried out, and then the connection is reset (cut) or the status is given (late); the token of the request has just ended.
    cut: bool = False
    late: bool = False
    expire: bool = False


class StandIn:
    """The program: with StandIn(fleet) as azure: ... in a test, or python3 lab/arm as a program."""

    def __init__(
        self,
        fleet: Fleet | None = None,
        *,
        page: int = 200,
        graph_page: int = 1000,
        graph_bytes: int = graph.LARGEST_PAGE,
        polls: int = 1,
        latency_s: float = 0.0,
        proxy_password: str | None = None,
        list_errors: bool = True,
    ) -> None:
        self.fleet = fleet or generate()
        self.graph_page, self.graph_bytes = graph_page, graph_bytes
        self.latency_s, self.proxy_password = latency_s, proxy_password
        self.resources = Resources(self.fleet, page, polls)
        self.backup = Backup(self.fleet, self.resources, list_errors)
        self.tokens, self.limits = rules.Tokens(), rules.Limits()
        self.token_s: float = rules.TOKEN_S
        self.log: list[tuple[str, str, int]] = []
        self.faults: list[Fault] = []
        self.clock_skew_s = 0.0
        self._lock = threading.RLock()
        self.ca_file = str(tls.directory() / "ca.pem")
        self.context = tls.context(tls.directory())
        self._routes = [(method, re.compile("(?i)" + pattern + "/?$"), handler) for method, pattern, handler in self._table()]
        self._servers: list[ThreadingHTTPServer] = []

    # Starting and stopping

    def start(self, port: int = 0, proxy_port: int = 0) -> StandIn:
        for number, handler in ((port, _Handler), (proxy_port, _Proxy)):
            server = _Server(("127.0.0.1", number), handler)
            server.stand_in = self  # type: ignore[attr-defined]
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            self._servers.append(server)
        self.port, self.proxy_port = (server.server_address[1] for server in self._servers)
        return self

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, *details: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return "https://127.0.0.1:{0}".format(self.port)

    def options(self) -> dict[str, str]:
        """Return what a plugin needs to talk to this straight."""
        return {
            "client_id": CLIENT,
            "secret": SECRET,
            "tenant": TENANT,
            "resource_manager_url": self.url,
            "adfs_authority_url": self.url,
            "ca_file": self.ca_file,
        }

    def environment(self) -> dict[str, str]:
        """Return what unchanged modules of azure.azcollection need to reach this through the proxy."""
        user = "user:{0}@".format(self.proxy_password) if self.proxy_password else ""
        return {
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_SECRET": SECRET,
            "AZURE_TENANT": TENANT,
            "AZURE_SUBSCRIPTION_ID": next(iter(self.fleet.subscriptions), ""),
            "HTTPS_PROXY": "http://{0}127.0.0.1:{1}".format(user, self.proxy_port),
            "REQUESTS_CA_BUNDLE": self.ca_file,
        }

    # What tests do

    def fault(self, match: str, **values: Any) -> None:
        """Do something to the next requests whose "METHOD /path" matches."""
        with self._lock:
            self.faults.append(Fault(match, **values))

    def requests(self, match: str = "") -> list[tuple[str, str, int]]:
        """Return (method, path, status) of the requests that match."""
        with self._lock:
            return [entry for entry in self.log if re.search(match, "{0} {1}".format(*entry), re.IGNORECASE)]

    # Answering

    def answer(self, request: Request) -> Answer | None:
        """Return the answer to a request, None to reset the connection."""
        with self._lock:
            fault = next(
                (entry for entry in self.faults if re.search(entry.match, request.method + " " + request.path, re.IGNORECASE)), None
            )
            if fault:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
        if self.latency_s or (fault and fault.delay_s):
            time.sleep(self.latency_s + (fault.delay_s if fault else 0.0))
        if fault and fault.reset:
            self._note(request, 0)
            return None
        if fault and fault.expire:
            self.tokens.expire()
        if fault and fault.status and not fault.late:
            answer = Answer(fault.status, fault.body, dict(fault.headers))
        else:
            with self._lock:
                try:
                    answer = self._answer(request)
                except Exception:
                    answer = refuse(500, "StandInDefect", traceback.format_exc())
        answer.headers.setdefault("x-ms-request-id", documents.guid("request", str(len(self.log)), request.path))
        answer.headers.setdefault("x-ms-correlation-request-id", answer.headers["x-ms-request-id"])
        answer.headers.setdefault("x-ms-routing-request-id", "WESTEUROPE:20261124T120000Z:" + answer.headers["x-ms-request-id"])
        if request.headers.get("x-ms-client-request-id"):
            answer.headers.setdefault("x-ms-client-request-id", request.headers["x-ms-client-request-id"])
        if fault and fault.status and fault.late:
            answer = Answer(fault.status, fault.body, dict(fault.headers))
        self._note(request, answer.status)
        return None if fault and fault.cut else answer

    def _note(self, request: Request, status: int) -> None:
        with self._lock:
            self.log.append((request.method, request.path, status))

    def _answer(self, request: Request) -> Answer:
        token = re.fullmatch(r"/([^/]+)/oauth2/v2\.0/token", request.path)
        if token and request.host.split(":")[0] != ARM_HOST:
            return self._token(request, token.group(1)) if request.method == "POST" else Answer(405)
        discovery = re.fullmatch(r"/([^/]+)/v2\.0/\.well-known/openid-configuration", request.path)
        if discovery and request.host.split(":")[0] != ARM_HOST:
            return self._discovery(request, discovery.group(1))
        if request.host.split(":")[0] == LOGIN_HOST:
            return Answer(404)
        if request.path.startswith("/-/"):
            return self._admin(request)
        refused = self.tokens.check(request) or rules.check_version(request) or rules.check_body(request)
        return refused or self._resource(request)

    def _resource(self, request: Request) -> Answer:
        """Answer what goes to Resource Manager, within its limits."""
        if request.path.lower() == "/batch" and request.method == "POST":
            return self._batch(request)
        if re.fullmatch(r"(?i)/providers/Microsoft\.ResourceGraph/resources", request.path) and request.method == "POST":
            self.backup.advance()
            refused, headers = self.limits.graph()
            answer = refused or graph.answer(self.fleet, request, self.graph_page, self.graph_bytes)
            answer.headers.update(headers)
            return answer
        match = re.match("(?i)" + S + "(/|$)", request.path)
        headers = {}
        if match:
            subscription = match.group(1).lower()
            if subscription not in self.fleet.subscriptions:
                return refuse(404, "SubscriptionNotFound", "The subscription '{0}' could not be found.".format(match.group(1)))
            kind = {"GET": "reads", "DELETE": "deletes"}.get(request.method, "writes")
            refused = self.limits.subscription(subscription, kind)
            if not refused and request.method == "GET" and "/microsoft.recoveryservices/vaults/" in request.path.lower():
                refused, headers = self.limits.recovery_services(request, subscription)
            if refused:
                return refused
            if request.method != "GET":
                headers["x-ms-ratelimit-remaining-subscription-" + kind] = "1199" if kind == "writes" else "14999"
        if self.fleet.is_denied(request.path):
            return rules.denied(request.path)
        if request.method != "GET" and any(request.path.lower().startswith(scope) for scope in self.fleet.read_only):
            return rules.write_denied(request.path)
        locked = rules.locked(request, self.fleet.of_type("Microsoft.Authorization/locks"))
        if locked:
            return locked
        self.resources.finish_old()
        self.backup.advance()
        for method, pattern, handler in self._routes:
            found = pattern.match(request.path)
            if found and request.method in method.split("|"):
                answer = handler(request, *found.groups())
                answer.headers.update({**headers, **answer.headers})
                return answer
        if any(pattern.match(request.path) for _method, pattern, _handler in self._routes):
            return refuse(
                405, "HttpMethodNotAllowed", "The HTTP method '{0}' is not supported at scope '{1}'.".format(request.method, request.path)
            )
        return rules.not_found(request.path)

    def _batch(self, request: Request) -> Answer:
        """Answer several requests in one, as the inventory plugin azure_rm sends them; nobody has documented this."""
        answers = []
        for part in (request.json() or {}).get("requests", [])[:500]:
            parts = urlsplit(part["url"])
            query = {name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
            path = re.sub("/{2,}", "/", unquote(parts.path)).rstrip("/")
            inner = Request(part["httpMethod"], request.host, path, query, parts.query, request.headers, b"")
            answer = rules.check_version(inner) or self._resource(inner)
            answers.append({"name": part["name"], "httpStatusCode": answer.status, "headers": {}, "content": answer.body})
        return Answer(200, {"responses": answers})

    def _table(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        """Return the routes. A longer path stands before the shorter one that it begins with."""
        backup, other = self.backup, self.resources
        compute, network = "(" + IN_GROUP + r"Microsoft\.Compute/", "(" + IN_GROUP + r"Microsoft\.Network/"
        return [
            ("GET", "/subscriptions", other.subscriptions),
            ("GET", S + G, other.group),
            ("GET", S + r"/providers/Microsoft\.RecoveryServices/vaults()", lambda request, s, _g: backup.vaults(request, s, None)),
            ("GET", S + G + r"/providers/Microsoft\.RecoveryServices/vaults", backup.vaults),
            ("POST", S + r"/providers/Microsoft\.RecoveryServices/locations/[^/]+/backupStatus", backup.backup_status),
            ("GET", V, backup.one_vault),
            ("GET", V + "/backupProtectedItems", backup.items),
            ("GET", V + "/backupJobs", backup.jobs),
            ("GET", r"({0}/backupJobs/[^/]+)".format(V[1:-1]), backup.job),
            ("POST", r"({0}/backupJobs/[^/]+)/cancel".format(V[1:-1]), backup.cancel),
            ("GET", V + "/backupPolicies", backup.policies),
            ("GET|PUT|DELETE", V + "/backupPolicies/([^/]+)", backup.policy),
            ("GET", V[1:-1] + "/backupOperations/([^/]+)", backup.status),
            ("GET", V[1:-1] + "/.*/operationsStatus/([^/]+)", backup.status),
            ("GET", V[1:-1] + "/.*/operationResults/([^/]+)", backup.result),
            ("POST", V + "/backupFabrics/Azure/refreshContainers", backup.refresh),
            ("GET|PUT|DELETE", ITEM, backup.item),
            ("POST", ITEM + "/backup", backup.backup_now),
            ("GET", ITEM + "/recoveryPoints()", lambda request, path, _name: backup.recovery_points(request, path, None)),
            ("GET", ITEM + "/recoveryPoints/([^/]+)", backup.recovery_points),
            ("GET", S + r"/providers/Microsoft\.Compute/virtualMachines", other.machines),
            ("GET", VM, other.machine),
            ("GET", VM + "/instanceView", other.view),
            ("POST", VM + "/(start|restart|powerOff|deallocate|reapply)", other.act),
            (
                "GET",
                S + r"/providers/Microsoft\.Compute/restorePointCollections()",
                lambda request, s, _g: other.collections(request, s, None),
            ),
            ("GET", S + G + r"/providers/Microsoft\.Compute/restorePointCollections", other.collections),
            ("GET|PUT|DELETE", compute + r"restorePointCollections/[^/]+(?:/restorePoints/[^/]+)?)", other.one),
            ("GET|DELETE", compute + r"virtualMachines/[^/]+/extensions/[^/]+)", other.one),
            (
                "GET",
                S[:-7] + r"[^/]+/providers/Microsoft\.(?:Compute|Network)/locations/[^/]+/(operations|operationResults)/([^/]+)",
                other.poll,
            ),
            ("PUT", network + r"networkInterfaces/[^/]+)", other.put_interface),
            ("GET", network + r"[^/]+/[^/]+)", other.network),
            ("POST", network + r"networkInterfaces/[^/]+)/(effectiveNetworkSecurityGroups|effectiveRouteTable)", other.effective),
            ("GET|PUT|DELETE", network + r"networkSecurityGroups/[^/]+)/securityRules/([^/]+)", other.security_rule),
            ("GET", r"(/subscriptions/.+)/providers/Microsoft\.Authorization/locks", other.locks),
            ("GET|PUT|DELETE", r"(/subscriptions/.+)/providers/Microsoft\.Authorization/locks/([^/]+)", other.lock),
        ]

    # Signing in, and the stand-in's own requests

    def _token(self, request: Request, tenant: str) -> Answer:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))

        def refuse_(status: int, code: str, text: str) -> Answer:
            body = {
                "error": code,
                "error_description": text + "\r\nTrace ID: x\r\nCorrelation ID: y",
                "correlation_id": documents.guid("login", text),
            }
            return Answer(status, body)

        if tenant.lower() != TENANT:
            return refuse_(400, "invalid_request", "AADSTS90002: Tenant '{0}' not found.".format(tenant))
        if form.get("grant_type") != "client_credentials" or not form.get("scope", "").endswith("/.default"):
            return refuse_(400, "invalid_request", "AADSTS900144: The request body must contain the following parameter: 'scope'.")
        if form.get("client_id") != CLIENT:
            return refuse_(400, "unauthorized_client", "AADSTS700016: Application with identifier was not found in the directory.")
        if form.get("client_secret") != SECRET:
            return refuse_(
                401, "invalid_client", "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value."
            )
        lives = int(self.token_s)
        return Answer(
            200, {"token_type": "Bearer", "expires_in": lives, "ext_expires_in": lives, "access_token": self.tokens.give(self.token_s)}
        )

    @staticmethod
    def _discovery(request: Request, tenant: str) -> Answer:
        base = "{0}/{1}".format(request.base, tenant)
        body = {
            "token_endpoint": base + "/oauth2/v2.0/token",
            "authorization_endpoint": base + "/oauth2/v2.0/authorize",
            "issuer": base + "/v2.0",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }
        return Answer(200, body)

    def _admin(self, request: Request) -> Answer:
        """Answer the lab: faults, the log, tokens, rights, states of VMs."""
        sent = request.json() or {}
        if request.path == "/-/requests":
            shown = list(self.log)
            if request.method == "DELETE":
                self.log.clear()
            return Answer(200, shown)
        if request.path == "/-/fault" and request.method == "POST":
            self.fault(**sent)
        elif request.path == "/-/expire-tokens" and request.method == "POST":
            self.tokens.expire()
        elif request.path == "/-/deny" and request.method == "POST":
            self.backup.deny(sent["scope"])
        elif request.path == "/-/read-only" and request.method == "POST":
            self.fleet.read_only.add(sent["scope"].lower())
        elif request.path == "/-/vm" and request.method == "POST":
            self.fleet.live[sent.pop("id").lower()].update(sent)
        elif request.path == "/-/backups" and request.method == "POST":
            self.backup.set_pace(**sent)
        elif request.path != "/-/ready":
            return Answer(404)
        return Answer(200, {"ready": True})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    """Speaks HTTP within TLS."""

    protocol_version = "HTTP/1.1"
    server_version = "stand-in"
    timeout = 60
    disable_nagle_algorithm = True

    def setup(self) -> None:
        if not isinstance(self.request, ssl.SSLSocket):
            self.request = self.server.stand_in.context.wrap_socket(self.request, server_side=True)  # type: ignore[attr-defined]
        super().setup()

    def log_message(self, format: str, *arguments: Any) -> None:
        """The log is kept by the stand-in."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.server.stand_in.clock_skew_s, usegmt=True)  # type: ignore[attr-defined]

    def _any(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        query = {name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
        request = Request(
            self.command,
            self.headers.get("Host", ""),
            re.sub("/{2,}", "/", unquote(parts.path)).rstrip("/") or "/",
            query,
            parts.query,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length) if length else b"",
        )
        answer = self.server.stand_in.answer(request)  # type: ignore[attr-defined]
        if answer is None:
            # A reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        content = b"" if answer.body is None else json.dumps(answer.body).encode()
        headers = dict(answer.headers)
        if answer.body is not None:
            headers.setdefault("content-type", "application/json; charset=utf-8")
        if len(content) > 4096 and "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content, 1)
            headers["content-encoding"] = "gzip"
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _any


class _Proxy(BaseHTTPRequestHandler):
    """Accepts CONNECT to the two names only, so that nothing can leave the machine, and ends TLS itself."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""

    def do_CONNECT(self) -> None:
        stand_in = self.server.stand_in  # type: ignore[attr-defined]
        self.close_connection = True
        password = stand_in.proxy_password
        if password:
            expected = "Basic " + base64.b64encode("user:{0}".format(password).encode()).decode()
            if self.headers.get("Proxy-Authorization") != expected:
                self.send_response(407, "Proxy Authentication Required")
                self.send_header("Proxy-Authenticate", 'Basic realm="stand-in"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        if self.path not in (ARM_HOST + ":443", LOGIN_HOST + ":443"):
            self.send_response(403, "Forbidden")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        _Handler(self.connection, self.client_address, self.server)


def on_the_lab(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Start a stand-in whose VMs are the lab's guests; return what a client needs."""
    failing = dict(entry.split("=", 1) for entry in options.failing_guests.split(",") if entry)
    healthy, listed = ([name for name in text.split(",") if name] for text in (options.healthy_guests, options.listed_extension))
    guests = Guests(failing, healthy, listed)
    azure = StandIn(guests.fleet)
    azure.backup.runs.snapshots = guests.snapshot
    azure.backup.set_pace(done_s=options.done_s)
    azure.resources.uninstalled = guests.uninstall
    guests.watch()
    azure.start(options.port, options.proxy_port)
    return {"options": azure.options(), "environment": azure.environment()}


def main(arguments: list[str] | None = None) -> int:
    """Run the stand-in as a program; what a client needs is printed as one line of JSON."""
    parser = argparse.ArgumentParser(prog="lab/arm", description="A stand-in for Azure Resource Manager on loopback.")
    parser.add_argument("--vms", type=int, default=100)
    parser.add_argument("--failing", type=int, default=20)
    parser.add_argument("--unprotected", type=int, default=0)
    parser.add_argument("--vaults", type=int, default=3)
    parser.add_argument("--subscriptions", type=int, default=1)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every answer; Azure takes about 150")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--proxy-port", type=int, default=0)
    lab = parser.add_argument_group("on the lab", "VMs are the lab's Linux guests, and backups are taken by them")
    lab.add_argument("--failing-guests", default="", metavar="GUEST=ERROR,...", help="guests whose last backup failed, and with what")
    lab.add_argument("--healthy-guests", default="", metavar="GUEST,...", help="guests whose backups succeed")
    lab.add_argument(
        "--listed-extension", default="", metavar="GUEST,...", help="guests whose backup extension failed and is listed by Azure"
    )
    lab.add_argument("--folder", type=pathlib.Path, help="run in the background; options and inventory are written into this folder")
    lab.add_argument("--stop", type=pathlib.Path, metavar="FOLDER", help="end the stand-in that runs in the background")
    lab.add_argument("--done-s", type=float, default=3600.0, help="seconds that a whole backup takes")
    options = parser.parse_args(arguments)
    if options.stop:
        background.stop(options.stop)
        return 0
    lacks = tls.lacks()
    if lacks:
        print("The stand-in cannot run: {0}.".format(lacks), file=sys.stderr)
        return 1
    if options.folder:
        return background.start(options.folder, lambda: on_the_lab(options))
    fleet = generate(
        options.vms, options.failing, vaults=options.vaults, subscriptions=options.subscriptions, unprotected=options.unprotected
    )
    azure = StandIn(fleet, latency_s=options.latency_ms / 1000).start(options.port, options.proxy_port)
    print(json.dumps({"options": azure.options(), "environment": azure.environment()}), flush=True)
    try:
        # It ends with the program that started it, or by a key at a terminal.
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    finally:
        azure.stop()
    return 0
