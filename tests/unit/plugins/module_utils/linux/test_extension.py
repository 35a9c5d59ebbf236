# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import json
import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import extension
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._values import epoch

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "fixtures", "waagent")
NOW = epoch("2026-01-31T12:00:00Z")
NAME = extension.SNAPSHOT


def fixture(name):
    with open(os.path.join(FIXTURES, name)) as stream:
        return json.load(stream)


def status(code, inner_code=None, at="2026-01-31T11:59:00Z"):
    inner = []
    if inner_code is not None:
        inner = [{"name": json.dumps([{"status": {"status": "success", "code": inner_code}, "timestampUTC": "\\/Date(1769860740000)\\/"}])}]
    return [{"status": {"status": "success", "code": code, "substatus": inner}, "version": "1.0", "timestampUTC": at}]


def test_parse_status_of_a_real_file():
    found = extension.parse_status(fixture("sample-status.json"))
    assert (found["code"], found["code_source"]) == (1, "inner")
    assert found["host_codes"] == {"hostStatusCodeDoSnapshot": 200}
    assert found["failed_disks"] == 0
    assert extension.iso(found["at"]) == "2019-06-06T23:52:59Z"
    assert extension.iso(found["started_at"]) == "2019-06-06T06:36:24Z"


def test_parse_status_prefers_the_inner_code():
    found = extension.parse_status(status(1, "121"))
    assert (found["code"], found["code_source"], found["reported_status"]) == (121, "inner", "success")


def test_parse_status_takes_the_outer_code_without_an_inner_one():
    assert extension.parse_status(status("76"))["code"] == 76


@pytest.mark.parametrize("document", [None, [], {}, [None], [{}], [{"status": None}], "text", 7, [{"status": []}]])
def test_parse_status_of_no_status(document):
    assert extension.parse_status(document) is None


@pytest.mark.parametrize("name", ["null", "[]", "[null]", "{", '[{"status": null}]', "[" * 5000])
def test_parse_status_with_a_damaged_inner_document(name):
    document = [{"status": {"status": "success", "code": 2, "substatus": [{"name": name}, None]}}]
    assert extension.parse_status(document)["code"] == 2


@pytest.mark.parametrize(
    "value, expected",
    [("\\/Date(1559865179380)\\/", 1559865179.38), ("/Date(0)/", 0.0), ("2019-06-06T23:52:59Z", 1559865179.0), ("/Date(99999999999999999)/", None),
     ("yesterday", None), (None, None), (5, None)],
)  # fmt: skip
def test_parse_time(value, expected):
    assert extension.parse_time(value) == expected


def test_message_in_json():
    assert extension.message_of({"message": '{"messageStr": "Success", "snapshotConsistency": 0}'}) == "Success"
    assert extension.message_of({"message": "plain"}) == "plain"
    assert extension.message_of(None) is None


def test_versions_are_compared_as_numbers():
    names = [NAME + "-1.0.999.0", NAME + "-1.0.9100.0", "WALinuxAgent-2.9.0.4", "history", "Microsoft.CPlat.Core.RunCommandLinux-1.0.5"]
    found = extension.handler_directories(names)
    assert found[NAME] == ["1.0.9100.0", "1.0.999.0"]
    assert sorted(found) == ["Microsoft.Azure.RecoveryServices.VMSnapshotLinux", "Microsoft.CPlat.Core.RunCommandLinux"]


def test_numbered_sorts_numerically_and_leaves_old_ones_out():
    names = ["9.status", "10.status", "11_status", "10.settings", "x.status"]
    assert extension.numbered(names, extension._STATUS) == [10, 9]
    assert extension.numbered(names, extension._OLD_STATUS) == [11]


@pytest.mark.parametrize(
    "text, valid",
    [
        ("[SnapshotThread]\ntimeout = 60\nMountsToSkip: /data\n", True),
        ("", True),
        ("[SnapshotThread]\ntimeout=60\ntimeout=61\n", False),
        ("[SnapshotThread]\n[SnapshotThread]\n", False),
        ("cat /etc/azure/vmbackup.conf[SnapshotThread]\n", False),
        ("[SnapshotThread]\ntimeout=50%\n", False),
        ("[SnapshotThread]\nx=50%\n", True),
        ("[SnapshotThread]\nMountsToSkip=%(b)s\nb=%(MountsToSkip)s\n", True),
        ("[SnapshotThread]\nMountsToSkip=%(c)s\n", False),
        ("[Monitor]\nStrace=50%\n", True),
    ],
)
def test_parse_vmbackup_conf(text, valid):
    values, error = extension.parse_vmbackup_conf(text)
    assert (error is None) is valid
    assert (values is not None) is valid


def test_vmbackup_conf_shows_only_values_that_the_extension_reads():
    values, _error = extension.parse_vmbackup_conf("[SnapshotThread]\ntimeout: 60\nShare = S3cr3t\nMountsToSkip=//u:S3cr3t@h/x\n")
    assert values == {"timeout": "60", "share": "[value]", "mountstoskip": "//[redacted]@h/x"}


def tree(tmp_path, files, mtime=NOW - 60):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(str(path), (mtime, mtime))
    return Guest(str(tmp_path), NOW)


def collected(tmp_path, files, processes=()):
    host = tree(tmp_path, files)
    context = {"lib_dir": "/var/lib/waagent", "extension_log_dir": "/var/log/azure", "processes": list(processes)}
    return extension.collect(host, context, {"log_bytes": 65536}), host


def base(version="1.0.9184.0"):
    return "var/lib/waagent/{0}-{1}/".format(NAME, version)


def test_collect_running_snapshot_is_in_progress(tmp_path):
    files = {base() + "config/HandlerState": "Enabled", base() + "status/2.status": json.dumps(status(4))}
    assert collected(tmp_path, files)[0]["snapshot"]["in_progress"] is True


def test_collect_old_running_code_is_not_in_progress(tmp_path):
    files = {base() + "config/HandlerState": "Enabled", base() + "status/2.status": json.dumps(status(4, at="2026-01-31T11:50:00Z"))}
    assert collected(tmp_path, files)[0]["snapshot"]["in_progress"] is False


def test_collect_process_means_in_progress(tmp_path):
    files = {base() + "config/HandlerState": "Enabled", base() + "status/2.status": json.dumps(status(1))}
    process = {"pid": 7, "command": ["python3", "/var/lib/waagent/{0}-1.0/main/handle.py".format(NAME), "-daemon"]}
    other = {"pid": 8, "command": ["vi", "handle.py"]}
    found = collected(tmp_path, files, [process, other])[0]["snapshot"]
    assert found["in_progress"] is True and [p["pid"] for p in found["processes"]] == [7]


def process(pid, *command):
    return {"pid": pid, "command": list(command)}


ENABLE = "/var/lib/waagent/{0}-1.0.9184.0/main/handle.".format(NAME)


@pytest.mark.parametrize(
    "command, runs",
    [
        ([ENABLE + "sh", "enable"], True),
        (["/bin/sh", "-c", ENABLE + "sh enable"], True),
        (["python3", ENABLE + "py", "-enable"], True),
        (["python3", "main/handle.py", "-seqNo:7", "-daemon"], True),  # by its working directory
        (["/x/bin/safefreeze", "60", "/"], True),
        (["python3", ENABLE + "py", "-disable"], False),
        (["vi", ENABLE + "py"], False),
        (["tail", "-f", "/var/log/azure/{0}/extension.log".format(NAME)], False),
        (["python3", "/opt/other/main/handle.py", "-daemon"], False),
    ],
)
def test_what_counts_as_a_running_snapshot(tmp_path, command, runs):
    (tmp_path / "proc/7").mkdir(parents=True)
    relative = not command[1].startswith("/") if len(command) > 1 else False
    (tmp_path / "proc/7/cwd").symlink_to("/var/lib/waagent/{0}-1.0.9184.0".format(NAME) if relative else "/")
    files = {base() + "config/HandlerState": "Enabled"}
    assert collected(tmp_path, files, [process(7, *command)])[0]["snapshot"]["in_progress"] is runs


@pytest.mark.parametrize(
    "at, file_age_s, privileged, runs",
    [
        ("2026-01-31T11:59:01Z", 59, True, True),
        ("2026-01-31T11:59:00Z", 60, True, False),  # at the limit: no process of it, so nothing runs
        ("2026-01-31T11:55:00Z", 300, False, True),  # processes of others may be hidden
        ("2026-01-31T11:50:00Z", 600, False, False),
        ("2026-01-31T13:00:00Z", 300, True, False),  # the clock was ahead: the file's time counts
        ("2026-01-31T13:00:00Z", 30, True, True),
        ("2026-03-02T12:00:00Z", -2592000, True, False),
        ("2026-01-31T12:00:02Z", -2, True, True),  # a clock that is being corrected
    ],
)
def test_still_running_without_a_process(tmp_path, at, file_age_s, privileged, runs):
    files = {base() + "config/HandlerState": "Enabled", base() + "status/2.status": json.dumps(status(4, at=at))}
    host = tree(tmp_path, files, NOW - file_age_s)
    host.privileged = privileged
    context = {"lib_dir": "/var/lib/waagent", "extension_log_dir": "/var/log/azure", "processes": [process(1, "/sbin/init")]}
    assert extension.collect(host, context, {"log_bytes": 65536})["snapshot"]["in_progress"] is runs


def test_settings_without_a_result_are_told_with_their_age(tmp_path):
    files = {
        base() + "config/HandlerState": "Enabled",
        base() + "config/3.settings": "{}",
        base() + "status/2_status": json.dumps(status(1)),
    }
    found = collected(tmp_path, files)[0]["snapshot"]
    assert (found["settings_sequence"], found["settings_at"], found["settings_age_s"], found["recent_s"]) == (
        3,
        "2026-01-31T11:59:00Z",
        60,
        60,
    )
    assert found["sequence"] is None and found["in_progress"] is False and found["busy"] is False
    found = collected(tmp_path, {base() + "status/3.status": json.dumps(status(1))})[0]["snapshot"]
    assert (found["settings_sequence"], found["sequence"], found["recent_s"]) == (3, 3, None)


def test_collect_takes_the_highest_installed_version_and_the_history(tmp_path):
    files = {
        base("1.0.999.0") + "config/HandlerState": "Enabled",
        base("1.0.9100.0") + "config/HandlerState": "Installed",
        base("1.0.9200.0") + "config/HandlerState": "NotInstalled",
        base("1.0.9100.0") + "status/10.status": json.dumps(status(1, 76)),
        base("1.0.9100.0") + "status/9.status": json.dumps(status(1)),
        base("1.0.9100.0") + "status/8_status": json.dumps(status(1, 121)),
    }
    found = collected(tmp_path, files)[0]["snapshot"]
    assert (found["version"], found["sequence"], found["code"]) == ("1.0.9100.0", 10, 76)
    assert found["history"] == [{"sequence": 8, "code": 121, "at": "2026-01-31T11:59:00Z"}]


def test_collect_half_written_status_is_an_error_not_a_verdict(tmp_path):
    files = {base() + "config/HandlerState": "Enabled", base() + "status/2.status": json.dumps(status(1))[:40]}
    found, host = collected(tmp_path, files)
    assert found["snapshot"]["code"] is None
    assert "half written" in host.errors[0]["error"]


def test_collect_without_the_directory_says_not_known(tmp_path):
    found = collected(tmp_path, {"etc/hostname": "x"})[0]
    assert found["handlers"] is None and found["snapshot"]["installed"] is None


def test_collect_aggregate_from_the_newest_place(tmp_path):
    def report(state, at):
        return json.dumps({"timestampUTC": at, "aggregateStatus": {"guestAgentStatus": {"status": state, "version": "2.15.0.1"}}})

    host = tree(tmp_path, {"var/lib/waagent/waagent_status.json": report("NotReady", "2026-01-30T00:00:00Z")}, NOW - 86400)
    host = tree(
        tmp_path, {"var/lib/waagent/history/2026-01-31T11-00-00__1/waagent_status.json": "\ufeff" + report("Ready", "2026-01-31T11:59:50Z")}
    )
    found = extension.aggregate(host, "/var/lib/waagent", host.names("extension", "/var/lib/waagent"))
    assert (found["agent_status"], found["age_s"], found["handlers"]) == ("Ready", 10, [])


def test_script_hooks_permissions(tmp_path):
    path = "etc/azure/VMSnapshotScriptPluginConfig.json"
    host = tree(
        tmp_path,
        {
            path: json.dumps({"preScriptLocation": "/etc/azure/pre.sh", "postScriptLocation": "/etc/azure/gone.sh"}),
            "etc/azure/pre.sh": "#!/bin/sh",
        },
    )
    os.chmod(str(tmp_path / path), 0o644)
    os.chmod(str(tmp_path / "etc/azure/pre.sh"), 0o700)
    found = {hook["path"]: hook for hook in extension.script_hooks(host)}
    assert "0644" in " ".join(found["/etc/azure/VMSnapshotScriptPluginConfig.json"]["problems"])
    assert "does not exist" in found["/etc/azure/gone.sh"]["problems"][0]
    assert not [problem for problem in found["/etc/azure/pre.sh"]["problems"] if "mode" in problem]


@pytest.mark.parametrize("age_s, busy", [(0, True), (9, True), (10, False)])
def test_settings_that_have_just_come_may_be_a_snapshot_that_begins(tmp_path, age_s, busy):
    host = tree(tmp_path, {base() + "config/HandlerState": "Enabled", base() + "config/3.settings": "{}"})
    os.utime(str(tmp_path / base() / "config/3.settings"), (NOW - age_s, NOW - age_s))
    context = {"lib_dir": "/var/lib/waagent", "extension_log_dir": "/var/log/azure", "processes": []}
    assert extension.collect(host, context, {"log_bytes": 65536})["snapshot"]["busy"] is busy
