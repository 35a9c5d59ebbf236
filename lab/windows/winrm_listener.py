#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""WinRM stand-in: the part of WS-Management that pywinrm speaks, running each command in a Wine prefix.

Shells, commands, input, output, signal (MS-WSMV: winrs shell), HTTP or HTTPS, Basic authentication. Only for test guests.
usage: winrm_listener.py --address A --port P --user U --password-file F [--cert PEM] -- PROGRAM [ARG...]
PROGRAM is put before the command line that the client asks for (for example: wine64 C:\\windows\\launch.exe).
"""

import argparse
import base64
import hmac
import http.server
import os
import queue
import select
import signal
import ssl
import subprocess
import threading
import uuid
from xml.etree import ElementTree as ET

ENV = "http://www.w3.org/2003/05/soap-envelope"
ADDR = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
TIMED_OUT, NOT_FOUND, ACCESS_DENIED = 2150858793, 2150858843, 5
CHUNK = 96 * 1024  # bytes of output in one answer; pywinrm's envelope limit is 150 KiB


class Fault(Exception):
    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


class Command:
    """One process in the guest, its output kept until the client has fetched it."""

    def __init__(self, argv, env):
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True
        )
        self.ready = threading.Condition()
        self.output = {"stdout": b"", "stderr": b""}
        self.code = None
        self.input = queue.SimpleQueue()
        threading.Thread(target=self.feed, daemon=True).start()
        threading.Thread(target=self.drain, daemon=True).start()

    def feed(self):
        """Write what was sent, in order. A program that is slow to start reads late, which must not hold up the answer to Send."""
        try:
            for data in iter(self.input.get, None):
                self.process.stdin.write(data)
                self.process.stdin.flush()
            self.process.stdin.close()
        except (BrokenPipeError, ValueError):
            pass

    def drain(self):
        """Collect output until the process has ended; its console host keeps the pipes open for a second more, so their end says nothing."""
        pipes = {getattr(self.process, name): name for name in self.output}
        for pipe in pipes:
            os.set_blocking(pipe.fileno(), False)
        while True:
            ended = self.process.poll() is not None
            for pipe in select.select(list(pipes), [], [], 0 if ended else 0.02)[0]:
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    pipes.pop(pipe)
                    continue
                with self.ready:
                    self.output[pipes[pipe]] += data
                    self.ready.notify_all()
                ended = False
            if ended:
                break
            if not pipes:
                self.process.wait()
        with self.ready:
            self.code = self.process.returncode & 0xFFFFFFFF
            self.ready.notify_all()

    def send(self, data, end):
        self.input.put(data)
        if end:
            self.input.put(None)

    def receive(self, timeout):
        """Return ({stream: bytes}, exit code or None); raise Fault when nothing came in time."""
        with self.ready:
            if not self.ready.wait_for(lambda: any(self.output.values()) or self.code is not None, timeout):
                raise Fault(TIMED_OUT, "The operation timed out")
            taken = {}
            for name, data in self.output.items():
                taken[name], self.output[name] = data[:CHUNK], data[CHUNK:]
            left = any(self.output.values())
        return taken, None if left else self.code

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.input.put(None)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: header and body apart cost 40 ms each (delayed ACK)

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = self.headers.get("Authorization", "")
        if not any(hmac.compare_digest(given, known) for known in self.server.authorizations):
            self.answer(401, b"", {"WWW-Authenticate": 'Basic realm="WSMAN"'})
            return
        root = ET.fromstring(body)
        action = root.findtext(f".//{{{ADDR}}}Action")
        relates = root.findtext(f".//{{{ADDR}}}MessageID")
        try:
            if given != self.server.authorizations[0]:
                raise Fault(ACCESS_DENIED, "Access is denied.")
            content, status = getattr(self, "on_" + action.rsplit("/", 1)[1].lower())(root), 200
        except Fault as fault:
            status = 500
            content = (
                f'<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang="en-US">{fault}</s:Text></s:Reason>'
                f'<s:Detail><f:WSManFault xmlns:f="{FAULT}" Code="{fault.code}"/></s:Detail></s:Fault>'
            )
        self.answer(
            status,
            (
                f'<s:Envelope xmlns:s="{ENV}" xmlns:a="{ADDR}" xmlns:w="{WSMAN}" xmlns:rsp="{SHELL}" xmlns:x="{TRANSFER}"><s:Header>'
                f"<a:Action>{action}Response</a:Action><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID><a:RelatesTo>{relates}</a:RelatesTo>"
                f"</s:Header><s:Body>{content}</s:Body></s:Envelope>"
            ).encode(),
            {"Content-Type": "application/soap+xml;charset=UTF-8"},
        )

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def shell(self, root):
        key = root.findtext(f".//{{{WSMAN}}}Selector")
        if key not in self.server.shells:
            raise Fault(NOT_FOUND, "The shell was not found on the server")
        return key, self.server.shells[key]

    def running(self, root, tag, key="CommandId"):
        _, shell = self.shell(root)
        name = root.find(f".//{{{SHELL}}}{tag}").get(key)
        if name not in shell["commands"]:
            raise Fault(NOT_FOUND, "The command was not found in the shell")
        return name, shell["commands"][name]

    def on_create(self, root):
        key = str(uuid.uuid4()).upper()
        env = {v.get("Name"): v.text or "" for v in root.iter(f"{{{SHELL}}}Variable")}
        self.server.shells[key] = {"env": env, "commands": {}}
        return (
            f"<x:ResourceCreated><a:Address>http://localhost/wsman</a:Address><a:ReferenceParameters><w:ResourceURI>{SHELL}/cmd</w:ResourceURI>"
            f'<w:SelectorSet><w:Selector Name="ShellId">{key}</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>'
        )

    def on_command(self, root):
        _, shell = self.shell(root)
        line = root.findtext(f".//{{{SHELL}}}Command")
        line = " ".join([line] + [a.text or "" for a in root.iter(f"{{{SHELL}}}Arguments")])
        key = str(uuid.uuid4()).upper()
        shell["commands"][key] = Command(self.server.program + line.split(" "), {**os.environ, **shell["env"]})
        return f"<rsp:CommandResponse><rsp:CommandId>{key}</rsp:CommandId></rsp:CommandResponse>"

    def on_send(self, root):
        _, command = self.running(root, "Stream")
        stream = root.find(f".//{{{SHELL}}}Stream")
        command.send(base64.b64decode(stream.text or ""), stream.get("End") == "true")
        return "<rsp:SendResponse/>"

    def on_receive(self, root):
        key, command = self.running(root, "DesiredStream")
        limit = float((root.findtext(f".//{{{WSMAN}}}OperationTimeout") or "PT20S").strip("PTS"))
        taken, code = command.receive(limit)
        streams = "".join(
            f'<rsp:Stream Name="{n}" CommandId="{key}">{base64.b64encode(d).decode()}</rsp:Stream>' for n, d in taken.items() if d
        )
        state = (
            f'<rsp:CommandState CommandId="{key}" State="{SHELL}/CommandState/Running"/>'
            if code is None
            else f'<rsp:CommandState CommandId="{key}" State="{SHELL}/CommandState/Done"><rsp:ExitCode>{code}</rsp:ExitCode></rsp:CommandState>'
        )
        return f"<rsp:ReceiveResponse>{streams}{state}</rsp:ReceiveResponse>"

    def on_signal(self, root):
        key, command = self.running(root, "Signal")
        command.stop()
        _, shell = self.shell(root)
        shell["commands"].pop(key, None)
        return "<rsp:SignalResponse/>"

    def on_delete(self, root):
        key, shell = self.shell(root)
        for command in shell["commands"].values():
            command.stop()
        del self.server.shells[key]
        return ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5985)
    parser.add_argument("--user", required=True)
    parser.add_argument("--reader", help="a user who is no administrator")
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--cert")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    with open(options.password_file) as f:
        password = f.read().strip()
    server = http.server.ThreadingHTTPServer((options.address, options.port), Handler)
    server.daemon_threads = True
    server.program, server.shells = options.program, {}
    # The second user has the same password and no right to manage the guest.
    server.authorizations = [
        "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() for user in (options.user, options.reader) if user
    ]
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as process 1 of a container it would ignore the signal
    server.serve_forever()


if __name__ == "__main__":
    main()
