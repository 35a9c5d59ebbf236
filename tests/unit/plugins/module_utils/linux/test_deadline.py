# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nothing on a guest may hold the collector: no named pipe, no device, no file system or process that does not answer."""

import os
import socket
import threading
import time

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import agent, collect, extension, load, mounts, probes, system
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.child import Child
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest

PIPES = ("/var/log/waagent.log", "/var/log/azure/" + extension.SNAPSHOT + "/extension.log", "/etc/waagent.conf", "/etc/azure/vmbackup.conf")


def options(**other):
    result = {name: option.get("default") for name, option in argument_spec().items()}
    return dict(result, cpu_window_ms=0, **other)


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """An empty guest whose probes and network are not asked."""
    for path in ("proc", "etc/azure", "var/log/azure/" + extension.SNAPSHOT, "var/lib/waagent"):
        (tmp_path / path).mkdir(parents=True)
    for name in ("wireserver", "hostgaplugin", "imds", "connect"):
        monkeypatch.setattr(probes, name, lambda *_arguments: None)
    monkeypatch.setattr(collect, "network", lambda *_arguments: {"primary": None})
    return tmp_path


def put_pipe(guest, path):
    os.mkfifo(str(guest) + path)


def named(facts):
    return {(row["area"], row["what"]): row["error"] for row in facts["errors"]}


@pytest.mark.parametrize("path", PIPES)
def test_a_named_pipe_is_never_opened(guest, path):
    put_pipe(guest, path)
    began = time.monotonic()
    facts = collect.collect_within(options(deadline_s=20.0), None, str(guest))
    assert time.monotonic() - began < 5
    assert facts["agent"] and facts["extension"] and facts["load"]
    if path == "/etc/waagent.conf":
        assert facts["agent"]["config"]["problem"] == "it is a named pipe" and facts["agent"]["config"]["values"] is None
    else:
        assert any(path in what and "named pipe" in error for (_area, what), error in named(facts).items())


def test_sockets_and_devices_are_no_files(guest):
    place = str(guest) + "/etc/azure/s"
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(place))
        host = Guest(str(guest))
        assert host.read("agent", "/etc/azure/s") is None and host.tail("agent", "/etc/azure/s", 10) == ([], None)
    host = Guest()
    assert host.read("agent", "/dev/zero") is None and host.tail("agent", "/dev/zero", 10) == ([], None)
    assert {row["error"] for row in host.errors} == {"it is a character device"}


def test_a_reader_that_never_returns_costs_its_own_part_only(guest, monkeypatch):
    monkeypatch.setattr(extension, "collect", lambda *_arguments: time.sleep(1000))
    began = time.monotonic()
    facts = collect.collect_within(options(deadline_s=3.0), None, str(guest))
    assert time.monotonic() - began < 4
    assert facts["extension"] is None and facts["agent"] and facts["load"] and facts["network"]
    assert "left out" in named(facts)[("extension", "extension")]


def test_a_reader_that_cannot_be_left_ends_the_collection_at_the_deadline(guest, monkeypatch):
    # Not even its own thread can be given up: everything after it is missing, everything before it is there.
    monkeypatch.setattr(load, "memory", lambda *_arguments: time.sleep(1000))
    began = time.monotonic()
    facts = collect.collect_within(options(deadline_s=2.0), None, str(guest))
    assert 1.5 < time.monotonic() - began < 4
    assert (
        facts["agent"]
        and facts["extension"]
        and facts["load"] is None
        and facts["gather_subset"] == ["agent", "extension", "network", "load"]
    )
    assert "not done within 2 s" in named(facts)[("load", "collect")]
    assert facts["schema_version"] == 1 and facts["collected_at"] and facts["system"]["kind"] == "linux"


def test_a_collector_that_is_killed_is_named(guest, monkeypatch):
    monkeypatch.setattr(agent, "collect", lambda *_arguments: os._exit(9))
    facts = collect.collect_within(options(), None, str(guest))
    assert facts["agent"] is None and "ended before it was done; it was at: agent" in named(facts)[("agent", "collect")]


def test_the_collection_is_the_same_with_and_without_a_process_of_its_own(guest):
    (guest / "etc/waagent.conf").write_text("Extensions.Enabled=y\n")
    now = time.time()
    alone, within = (function(options(), None, str(guest), now) for function in (collect.collect, collect.collect_within))
    for facts in (alone, within):
        facts.pop("duration_ms")
        facts["agent"].pop("lib_dir")  # free space, which others change meanwhile
        facts["load"] = sorted(facts["load"])
    assert alone == within


def test_what_lies_on_a_file_system_that_does_not_answer_is_not_touched(guest, monkeypatch):
    (guest / "var/lib/waagent/x").mkdir()
    (guest / "etc/waagent.conf").write_text("OS.OpensslPath=/usr/bin/openssl\n")
    monkeypatch.setattr(mounts, "answered", lambda _begun: ({}, ["/var/lib", "/usr"]))
    facts = collect.collect_within(options(deadline_s=10.0), None, str(guest))
    assert facts["agent"]["auto_update"]["directories"] is None and facts["extension"]["handlers"] is None
    assert facts["agent"]["markers"]["disable_agent"] is None and facts["extension"]["snapshot"]["installed"] is None
    assert facts["agent"]["openssl"] == {"path": "/usr/bin/openssl", "exists": None, "resolved": None}
    assert any("/var/lib does not answer" in error for error in named(facts).values())


def test_a_process_whose_memory_cannot_be_read_counts_with_its_short_name(guest, monkeypatch):
    for pid, name in ((7, "a"), (8, "safefreeze"), (9, "b")):
        directory = guest / "proc" / str(pid)
        directory.mkdir()
        (directory / "stat").write_text("{0} ({1}) S 1 {2}".format(pid, name, "0 " * 30))
        (directory / "cmdline").write_text("/bin/{0}\0-x\0".format(name))
    (guest / "proc" / "stat").write_text("btime 1000\n")
    real, gate = system._command, threading.Event()

    def command(directory):
        if directory.endswith("/8"):
            gate.wait(1000)
        return real(directory)

    monkeypatch.setattr(system, "_command", command)
    host = Guest(str(guest))
    found = system.processes(host, stall_s=0.2)
    gate.set()
    assert sorted((p["pid"], p["command"]) for p in found) == [(7, ["/bin/a", "-x"]), (8, ["safefreeze"]), (9, ["/bin/b", "-x"])]
    assert [row["what"] for row in host.errors] == ["read /proc/8/cmdline"]
    assert [p["pid"] for p in extension.snapshot_processes(found)] == [8]


def test_a_child_inherits_no_descriptor_and_no_session():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    def work(send):
        send({"fds": sorted(int(name) for name in os.listdir("/proc/self/fd")), "session": os.getsid(0), "pid": os.getpid()})

    values, ended = Child(work, 10).messages()
    assert ended and len(values[0]["fds"]) == 5  # three times nothing, the parent, and the listing itself
    assert values[0]["session"] == values[0]["pid"]
    os.close(writer)
    os.close(reader)


def test_a_child_is_left_at_its_deadline():
    began = time.monotonic()

    def work(send):
        send(1)
        time.sleep(1000)

    assert Child(work, 0.3).messages() == ([1], False)
    assert time.monotonic() - began < 2
