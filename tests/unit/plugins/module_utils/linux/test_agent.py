# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import time

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import agent, logs, service, system
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch, version_key

NOW = epoch("2026-01-31T12:00:00Z")
BEAT = "{0} INFO ExtHandler ExtHandler [HEARTBEAT] Agent WALinuxAgent-{1} is running as the goal state agent [DEBUG HeartbeatCounter: 0]"


@pytest.mark.parametrize(
    "command, role",
    [
        ("/usr/bin/python3 -u /usr/sbin/waagent -daemon", "daemon"),
        ("/usr/bin/python3 -u bin/WALinuxAgent-2.15.0.1-py3.12.egg -run-exthandlers", "handler"),
        ("/usr/bin/python3 -u /usr/sbin/waagent -run-exthandlers", "handler"),
        ("python /usr/sbin/waagent --daemon", "daemon"),
        ("/usr/bin/python3 -u /usr/sbin/waagent -collect-logs", None),
        ("vi /etc/waagent.conf", None),
        ("tail -f /var/log/waagent.log", None),
        ("/bin/sh -c echo waagent -daemon", None),
        ("sshd: operator", None),
    ],
)
def test_role_of(command, role):
    assert agent.role_of(command.split()) == role


def test_heartbeat_newest():
    lines = [BEAT.format("2026-01-31T11:00:00.1Z", "2.2.46"), BEAT.format("2026-01-31T11:30:00.1Z", "2.15.0.1"), "other"]
    assert agent.heartbeat(lines, NOW) == {"at": "2026-01-31T11:30:00Z", "age_s": 1800, "version": "2.15.0.1", "periodic": True}
    once = "2026-01-31T11:30:00.1Z INFO ExtHandler Agent WALinuxAgent-2.2.20 is running as the goal state agent"
    assert agent.heartbeat(lines + [once], NOW)["periodic"] is False
    assert agent.heartbeat(["other"], NOW) is None


def test_heartbeat_of_old_agents():
    assert agent.heartbeat([BEAT.format("2026/01/31 11:59:00.123456", "2.2.20")], NOW)["age_s"] == 60


def handler(version=None, started="2026-01-31T11:00:00Z"):
    return {"daemon": [], "handler": [{"pid": 2, "version": version, "started_at": started}]}


@pytest.mark.parametrize(
    "processes, beat, installed, expected",
    [
        (handler("2.15.0.1"), None, "2.2.46", ("2.15.0.1", "process")),
        (handler(), {"at": "2026-01-31T11:30:00Z", "version": "2.2.46"}, "2.7.3.0", ("2.2.46", "log")),
        (handler(), {"at": "2026-01-31T10:00:00Z", "version": "2.2.46"}, "2.7.3.0", ("2.7.3.0", "installed")),
        ({"daemon": [], "handler": []}, None, "2.7.3.0", ("2.7.3.0", "installed")),
        ({"daemon": [], "handler": []}, {"at": None, "version": "2.2.46"}, None, ("2.2.46", "log")),
        ({"daemon": [], "handler": []}, None, None, (None, None)),
    ],
)
def test_running_version(processes, beat, installed, expected):
    assert agent.running_version(processes, beat, installed) == expected


def tree(tmp_path, files):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Guest(str(tmp_path), NOW)


def process(pid, command):
    return {"pid": pid, "parent": 1, "command": command.split(), "started_at": NOW}


@pytest.mark.parametrize(
    "content, processes, stale",
    [
        ("77", [process(77, "/usr/bin/python3 -u /usr/sbin/waagent -daemon")], False),
        ("77\n", [process(77, "sleep 1000")], True),
        ("77", [], False),
        ("rubbish", [process(77, "sleep 1000")], None),
        (None, [process(77, "sleep 1000")], False),
    ],
)
def test_pid_file(tmp_path, content, processes, stale):
    host = tree(tmp_path, {"var/run/waagent.pid": content} if content is not None else {"etc/x": ""})
    assert agent.pid_file(host, "/var/run/waagent.pid", processes)["stale"] is stale


def test_update_directories(tmp_path):
    lib = "var/lib/waagent/"
    host = tree(
        tmp_path,
        {
            lib + "WALinuxAgent-2.9.1.1/error.json": '{"last_failure": 0.0, "failure_count": 2, "was_fatal": false, "reason": ""}',
            lib + "WALinuxAgent-2.15.0.1/error.json": '{"failure_count": 1, "was_fatal": true, "reason": "https://x/y?sig=S3cr3t"}',
            lib + "WALinuxAgent-2.10.0.8/error.json": '{"failure_count": 3',
            lib + "WALinuxAgent-9.9.9.9.zip": "",
        },
    )
    found = agent.update_directories(host, "/var/lib/waagent", host.names("agent", "/var/lib/waagent"))
    assert [(entry["version"], entry["rejected"]) for entry in found] == [("2.15.0.1", True), ("2.10.0.8", False), ("2.9.1.1", False)]
    assert "S3cr3t" not in found[0]["reason"]


def test_lib_dir_takes_the_innermost_mount(tmp_path):
    host = tree(tmp_path, {"var/lib/waagent/x": ""})
    mounts = [
        {"device": "a", "mount_point": "/", "fs_type": "ext4", "options": ["rw"]},
        {"device": "b", "mount_point": "/var/lib", "fs_type": "xfs", "options": ["rw", "noexec"]},
        {"device": "c", "mount_point": "/var/lib/waag", "fs_type": "xfs", "options": ["ro"]},
    ]
    found = agent.lib_dir(host, "/var/lib/waagent", mounts)
    assert (found["mount_point"], found["noexec"], found["read_only"]) == ("/var/lib", True, False)
    assert found["free_bytes"] > 0


def test_python_of_the_unit_and_of_a_script(tmp_path):
    host = tree(tmp_path, {"usr/sbin/waagent": "#!/usr/bin/env python3\n", "usr/bin/python3": ""})
    (tmp_path / "usr/bin/python3").chmod(0o755)
    assert agent.python_of(host, "/usr/bin/python3 -u /usr/sbin/waagent -daemon")["exists"] is True
    assert agent.python_of(host, "/usr/sbin/waagent -daemon")["path"] == "/usr/bin/python3"
    assert agent.python_of(host, "/usr/bin/python9 -u x")["exists"] is False
    assert agent.python_of(host, None)["exists"] is None


SHOW = """Id=walinuxagent.service
LoadState={0}
ActiveState=inactive
UnitFileState={1}
Restart=always

Id=waagent.service
LoadState={2}
ActiveState=active
"""


@pytest.mark.parametrize(
    "states, chosen",
    [
        (("loaded", "enabled", "not-found"), "walinuxagent.service"),
        (("not-found", "", "loaded"), "waagent.service"),
        (("masked", "masked", "not-found"), "walinuxagent.service"),
        (("masked", "masked", "loaded"), "waagent.service"),
        (("not-found", "", "not-found"), None),
    ],
)
def test_choose_unit(states, chosen):
    found = service.choose(service.parse_show(SHOW.format(*states)))
    assert (found or {}).get("Id") == chosen


@pytest.mark.parametrize("name", ["EnvironmentFiles", "EnvironmentFile"])  # since systemd 231, and before
def test_environment_files_have_one_name(name):
    text = "Id=a.service\n{0}=/etc/a (ignore_errors=no)\n{0}=/etc/b (ignore_errors=yes)\n".format(name)
    assert service.parse_show(text)[0]["EnvironmentFiles"] == "/etc/a (ignore_errors=no) /etc/b (ignore_errors=yes)"


@pytest.mark.parametrize(
    "values, hit",
    [
        ({"Result": "start-limit-hit"}, True),
        ({"Result": "signal", "ActiveState": "failed", "Restart": "always", "NRestarts": "5"}, True),
        ({"Result": "signal", "ActiveState": "failed", "Restart": "always", "NRestarts": "0"}, False),
        ({"Result": "signal", "ActiveState": "failed", "Restart": "no", "NRestarts": "5"}, False),
        ({"Result": "success", "ActiveState": "active", "Restart": "always", "NRestarts": "5"}, False),
        ({}, False),
    ],
)
def test_start_limit_hit(values, hit):
    assert service.start_limit_hit(values) is hit


def test_conditions_cleared_by_a_drop_in(tmp_path):
    host = tree(
        tmp_path,
        {
            "lib/u.service": "[Unit]\nConditionVirtualization=|microsoft\nConditionPathExists=/etc/waagent.conf\nConditionPathExists=!/nope\n",
            "etc/d.conf": "[Unit]\nConditionVirtualization=\n",
        },
    )
    pairs = service.conditions(host, ["/lib/u.service", "/etc/d.conf"])
    assert pairs == [("ConditionPathExists", "/etc/waagent.conf"), ("ConditionPathExists", "!/nope")]
    assert service.failed_conditions(host, pairs) == ["ConditionPathExists=/etc/waagent.conf"]


def test_parse_date_of_systemd():
    assert service.parse_date("Sat 2026-01-31 12:00:00 UTC") == NOW
    assert service.parse_date("Sat 2026-01-31 12:00:00 CET") is None
    assert service.parse_date("") is None


def test_service_without_systemd(tmp_path):
    host = tree(tmp_path, {"etc/init.d/waagent": "#!/bin/sh\n", "etc/rc3.d/S99waagent": ""})
    found = service.from_scripts(host, "sysv", True)
    assert (found["unit"], found["active_state"], found["unit_file_state"], found["restart"]) == ("waagent", "active", "enabled", None)
    host = tree(tmp_path / "u", {"etc/init/walinuxagent.conf": "respawn\nexec waagent -daemon\n"})
    assert service.from_scripts(host, "upstart", False)["restart"] == "always"


def test_verdicts_newest_line_and_count():
    lines = [
        "2026-01-31T10:00:00.1Z INFO ExtHandler [HEARTBEAT] Agent WALinuxAgent-2.9 is running as the goal state agent",
        "2026-01-31T11:00:00.1Z INFO ExtHandler [HEARTBEAT] Agent WALinuxAgent-2.9 is running as the goal state agent",
        "2026-01-31T11:01:00.1Z ERROR ExtHandler Error fetching the goal state: https://h/p?sig=S3cr3t",
    ]
    found = {entry["meaning"]: entry for entry in logs.verdicts(lines, logs.AGENT_PHRASES)}
    assert (found["heartbeat"]["count"], found["heartbeat"]["at"]) == (2, "2026-01-31T11:00:00Z")
    assert "S3cr3t" not in found["goal_state_error"]["line"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ('ID="rhel"\nID_LIKE="fedora"', "redhat"),
        ("ID=ubuntu\nID_LIKE=debian", "debian"),
        ("ID=rocky\nID_LIKE='rhel centos fedora'", "redhat"),
        ("ID=sles\nID_LIKE=suse", "suse"),
        ("ID=mariner", "azurelinux"),
        ("ID=flatcar\nID_LIKE=coreos", "flatcar"),
        ("ID=arch", "other"),
    ],
)
def test_family(text, expected):
    values = system.parse_os_release(text)
    assert system.family(values["ID"], values.get("ID_LIKE", "").split()) == expected


def test_versions_compare_as_numbers():
    assert version_key("1.0.9100") > version_key("1.0.999")
    assert version_key("2.2.53.1") == version_key("2.2.53.1")
    assert version_key("2.2.53.1") > version_key("2.2.53")
    assert version_key(None) < version_key("0")


def test_processes_of_this_machine():
    found = system.processes(Guest())
    assert any("python" in p["command"][0] or "pytest" in " ".join(p["command"]) for p in found)


def test_host_never_blocks_on_a_pipe(tmp_path):
    import os

    os.mkfifo(str(tmp_path / "etc"))
    assert Guest(str(tmp_path)).read("agent", "/etc") in (None, "")


def test_a_command_that_hangs_costs_its_deadline():
    import time

    def hangs(command, **_options):
        time.sleep(5)
        return 0, "late", ""

    host = Guest(run_command=hangs)
    started = time.monotonic()
    assert host.run("agent", ["systemctl", "show"], 0.2) is None
    assert time.monotonic() - started < 2
    assert host.errors == [{"area": "agent", "what": "systemctl show", "error": "no answer within 0.2 s"}]


@pytest.mark.parametrize(
    "answer, accept, out, error",
    [
        ((0, "text\n", ""), (0,), "text\n", None),
        ((1, "text\n", ""), (0, 1), "text\n", None),
        ((1, "", "first\nlast\n"), (0,), None, "exit code 1: last"),
        ((137, "", ""), (0,), None, "no answer within 1 s"),
        (OSError(2, "No such file or directory"), (0,), None, "No such file or directory"),
    ],
)
def test_the_answer_of_a_command(answer, accept, out, error):
    def run_command(command, **_options):
        if isinstance(answer, Exception):
            raise answer
        return answer

    host = Guest(run_command=run_command)
    assert host.run("agent", ["x"], 1, accept) == out
    assert [entry["error"] for entry in host.errors] == ([error] if error else [])


@pytest.mark.parametrize("zone", ["UTC", "EST5", "JST-9"])
def test_old_agents_write_local_time(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        now = 1768235745  # 2026-01-12T16:35:45Z
        local = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now))
        assert logs.stamp(local + ".123 INFO text") == now
        assert logs.stamp("2026-01-12T16:35:45.123Z INFO text") == now
        assert logs.stamp("2026/13/45 10:00:00 INFO text") is None
    finally:
        monkeypatch.undo()
        time.tzset()


CRASH = [
    "{0} WARNING Daemon Daemon Agent WALinuxAgent-2.9.1.1 launched with command 'python3 -u bin/x.egg -run-exthandlers' failed with return code: 1",
    "{0} ERROR Daemon Daemon Event: name=WALinuxAgent, op=Enable, message=Agent WALinuxAgent-2.9.1.1 launched with command 'python3 -u bin/x.egg "
    "-run-exthandlers' failed with return code: 1, duration=0",
    "{0} WARNING Daemon Daemon Agent WALinuxAgent-2.9.1.1 launched with command 'python3 -u bin/x.egg -run-exthandlers' returned code: 1",
]
START = "{0} INFO Daemon Daemon Azure Linux Agent Version: 2.9.1.1"


def crashes(*times):
    return [line.format(time) for time in times for line in CRASH]


def test_handler_failures_count_each_end_once_since_the_daemon_started():
    lines = crashes("2026-01-31T11:30:00.5Z", "2026-01-31T11:31:00Z") + [START.format("2026-01-31T11:40:00Z")]
    assert agent.handler_failures(lines, NOW)["count"] == 0
    lines += crashes("2026-01-31T11:40:01.2Z", "2026-01-31T11:40:02.3Z", "2026-01-31T11:40:03.4Z")
    found = agent.handler_failures(lines, NOW)
    assert (found["count"], found["last_at"]) == (3, "2026-01-31T11:40:03Z") and "returned code: 1" in found["line"]
    assert agent.handler_failures(lines, NOW + 3600)["count"] == 0


def test_a_handler_that_ended_without_an_error_is_no_failure():
    line = "2026-01-31T11:40:01Z WARNING Daemon Daemon Agent WALinuxAgent-2.9.1.1 launched with command 'python3 -u x -run-exthandlers' returned code: 0"
    assert agent.handler_failures([line], NOW) == {"count": 0, "last_at": None, "line": None}
    old = "2026/01/31 11:40:01.1 WARNING Agent WALinuxAgent-2.2.6 launched with command 'x' failed with exception: unknown encoding: string-escape"
    assert agent.handler_failures([old], logs.stamp(old) + 5)["count"] == 1


def test_code_below_usr_local_comes_first(tmp_path):
    def put(directory, version):
        path = tmp_path / directory / "azurelinuxagent/common/version.py"
        path.parent.mkdir(parents=True)
        path.write_text("AGENT_VERSION = '{0}'\n".format(version))
        return "/" + str(path.relative_to(tmp_path))

    assert agent.installed_code(Guest(str(tmp_path), NOW)) == (None, None)
    packaged = put("usr/lib/python3/dist-packages", "2.9.1.1")
    assert agent.installed_code(Guest(str(tmp_path), NOW)) == ("2.9.1.1", packaged)
    local = put("usr/local/lib/python3.11/dist-packages", "2.2.45")
    assert agent.installed_code(Guest(str(tmp_path), NOW)) == ("2.2.45", local)


def configured(tmp_path):
    return agent.config(Guest(str(tmp_path), NOW))


def test_a_link_that_leads_nowhere_is_a_problem_of_the_configuration(tmp_path):
    (tmp_path / "etc").mkdir()
    link = tmp_path / "etc" / "waagent.conf"
    assert configured(tmp_path)["exists"] is False
    for target in ("waagent.conf.gone", "waagent.conf"):  # to nothing, and to itself
        link.symlink_to(target)
        found = configured(tmp_path)
        assert (
            found["exists"] is True
            and found["readable"] is False
            and found["problem"] == "it is a link that leads nowhere ({0})".format(target)
        )
        link.unlink()
    (tmp_path / "etc" / "there.conf").write_text("Logs.Verbose=n\n")
    link.symlink_to("there.conf")
    assert configured(tmp_path)["problem"] is None and configured(tmp_path)["readable"] is True


def test_a_configuration_that_is_too_large_or_no_file_is_a_problem(tmp_path):
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "waagent.conf"
    path.write_bytes(b"#" * (agent.conf.MAX_BYTES + 1))
    assert "larger than 1024 kB" in configured(tmp_path)["problem"]
    path.unlink()
    path.mkdir()
    assert configured(tmp_path)["problem"] == "it is a directory"


def test_errors_hold_no_secrets():
    host = Guest()
    host.error("agent", "dnf --password S3cr3t", "Cannot reach https://user:S3cr3t@repo.example.com/x")
    assert "S3cr3t" not in str(host.errors) and "repo.example.com" in str(host.errors)
