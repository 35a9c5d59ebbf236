# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What must never make a Windows guest worse: the undo store, the guard, and what is left alone. What Wine cannot show is in docs/windows-proof.md."""

import html
import json
import os
import re
import subprocess

import pytest
from conftest import LAB, ROOT, findings, host_of

LACKS = subprocess.run([LAB, "lacks", "windows"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)

HOME = "/wine/drive_c/ProgramData/vmbackup_azure"
NET = r"HKLM\SOFTWARE\VmbackupLab\NetTCPIP"
TEST = r"HKLM\SOFTWARE\VmbackupLab\Test"
DHCP = r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces"
REMEDY = "connectivity.azure_routes"


def call(lab, name, *arguments, **options):
    """Call a module on w04; return what it returned, and all that was printed. What waits for a confirmation waits for one of the test."""
    if "confirm_s" in options:
        options.setdefault("verify", False)
    given = ["-a", json.dumps(options)] if options else []
    done = lab.ansible("ansible", "w04", "-m", "vmbackup.azure." + name, *given, *arguments)
    said = done.stdout
    found = re.search(r"^w04 \| .*?=> (\{.*\})\s*\Z", said, re.S | re.M)
    assert found, said
    return dict(json.loads(found.group(1)), failed="FAILED!" in said), said


def engine(lab, tmp_path, script):
    """Run a script with parts of module_utils, but without a guest; return its last line."""
    path = os.path.join(ROOT, ".cache", tmp_path.name + ".ps1")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as stream:
        stream.write(script)
    said = lab("pwsh", "--share", ROOT, "--", "-NoProfile", "-File", ROOT + "/tests/lab/engine.ps1", "-Root", ROOT, "-Script", path)
    os.unlink(path)
    return said.replace("\r", "").strip().splitlines()[-1]


def role(lab, tmp_path, name, entry, *arguments, **variables):
    called = {"name": "vmbackup.azure." + name, "tasks_from": entry}
    tasks = [
        {"ansible.builtin.include_role": dict(called, public=True), "vars": variables},
        {"ansible.builtin.debug": {"msg": "{{ vmbackup_actions | default([]) | map(attribute='text') | join('; ') }}"}},
    ]
    book = tmp_path / (entry + ".yml")
    book.write_text(json.dumps([{"hosts": "w04", "gather_facts": False, "tasks": tasks}]))
    return lab.ansible("ansible-playbook", str(book), *arguments)


def powershell(lab, script):
    return lab("exec", "w04", "--", "guest", "powershell", "-NoProfile", "-Command", script).replace("\r", "")


def registry(lab, key, *more):
    """Return what reg.exe says, nothing for a key that does not exist."""
    return lab("exec", "w04", "--", "guest", "reg", "query", key, *more, check=False).replace("\r", "")


def routes(lab, store):
    """Return {prefix: metric} of one of Windows' stores."""
    lines = re.findall(r"^\s+(\S+)\|\d+\|\S+\s+REG_DWORD\s+0x([0-9a-f]+)", registry(lab, NET + "\\" + store), re.M)
    return {prefix: int(metric, 16) for prefix, metric in lines}


def restart(lab):
    """Do what a restart of the guest does: the guard is gone, and ActiveStore holds what PersistentStore and the DHCP client bring."""
    lab.shell("w04", "for p in $(pgrep -f 'guard.*[.]ps1'); do kill -9 $p; done; true")
    powershell(lab, "Initialize-VmbackupLabNetwork")


def start_type(lab, name):
    return re.search(
        r"Start\s+REG_DWORD\s+0x(\d)", registry(lab, r"HKLM\SYSTEM\CurrentControlSet\Services" + "\\" + name, "/v", "Start")
    ).group(1)


# ---- routes and DHCP


def test_the_routes_of_the_dhcp_client_stay_as_they_are(lab, tmp_path):
    lab("reset", "w04")
    own = {"168.63.129.16/32": 1, "169.254.169.254/32": 1}
    before = routes(lab, "Active")
    assert {prefix: before.get(prefix) for prefix in own} == own and not routes(lab, "Persistent")
    done = role(lab, tmp_path, "connectivity", "azure_routes", connectivity_prefixes=["203.0.113.0/24"], vmbackup_allow_routes=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert routes(lab, "Active") == dict(before, **{"203.0.113.0/24": 256})
    assert routes(lab, "Persistent") == {"203.0.113.0/24": 256}
    code, output, _report = lab.playbook("vmbackup.azure.undo", ["w04"], tmp_path)
    assert code == 0 and routes(lab, "Active") == before and not routes(lab, "Persistent"), output


def test_routes_outlast_a_restart_only_when_they_were_confirmed(lab):
    lab("reset", "w04")
    before = routes(lab, "Active")
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert result["token"], said
    assert routes(lab, "Active")["20.38.98.0/24"] == 256 and not routes(lab, "Persistent")
    restart(lab)
    assert routes(lab, "Active") == before
    # The guard was killed: the next run neither waits for it nor fails because of it.
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert result["token"] and result["changed"], said
    call(lab, "win_routes", confirm=result["token"])
    restart(lab)
    assert routes(lab, "Persistent") == {"20.38.98.0/24": 256} and routes(lab, "Active") == dict(before, **{"20.38.98.0/24": 256})
    # An own route is taken away for good only after a confirmation, too.
    result, said = call(lab, "win_routes", routes=[], purge=True, undo=REMEDY, confirm_s=300)
    assert "20.38.98.0/24" not in routes(lab, "Active") and "20.38.98.0/24" in routes(lab, "Persistent"), said
    call(lab, "win_routes", confirm=result["token"])
    assert not routes(lab, "Persistent")
    result, said = call(lab, "win_undo")
    assert result["left"] == [] and routes(lab, "Active") == before and not routes(lab, "Persistent"), said


def test_a_change_whose_guard_was_killed_is_confirmed_by_the_next_run(lab):
    lab("reset", "w04")
    first, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    other, said = call(lab, "win_routes", routes=["52.239.140.0/22"], undo=REMEDY, confirm_s=300)
    assert other.get("failed") and "still waits for its confirmation" in other["msg"] and "Nothing was changed." in other["msg"], said
    lab.shell("w04", "for p in $(pgrep -f 'guard.*[.]ps1'); do kill -9 $p; done; true")
    second, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert second["token"] == first["token"] and second["changed"], said
    call(lab, "win_routes", confirm=second["token"])
    assert routes(lab, "Persistent") == {"20.38.98.0/24": 256}
    assert call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)[0]["changed"] is False


def test_a_guard_does_not_wait_for_a_writer_that_was_killed(lab):
    """Without its word that it has finished, the guard used to wait 900 s more."""
    lab("reset", "w04")
    call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=15)
    lab.shell("w04", "rm -f {0}/guard/*.finished".format(HOME))
    lab.shell("w04", "for i in $(seq 60); do ip route | grep -q ^20.38.98.0/24 || exit 0; sleep 1; done; exit 1")
    assert "20.38.98.0/24" not in routes(lab, "Active")


def tasks(lab):
    """Return the XML of the tasks that the guest has for this collection, which is UTF-16, without what is not ASCII."""
    place = "/wine/drive_c/windows/system32"
    return lab.shell("w04", "cat {0}/[Tt]asks/vmbackup_azure* 2>/dev/null | tr -cd '\\11\\12\\40-\\176'; true".format(place))


def run_task(lab, task):
    """Run what a task runs when the guest starts."""
    words = html.unescape(re.search(r"<Arguments>(.*?)</Arguments>", task).group(1))
    options, command = re.match(r'(.*) -Command "(.*)"\Z', words).groups()
    assert command.endswith(" -AfterRestart"), words
    lab("exec", "w04", "--", "guest", "powershell", *options.split(), "-Command", command)


def test_dhcp_that_nobody_confirmed_is_taken_back_when_the_guest_starts(lab):
    lab.plant({"w04": ["win_static_address"]})
    before = registry(lab, DHCP, "/s")
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=300)
    assert result["token"] and registry(lab, DHCP, "/s") != before, said
    task = tasks(lab)
    assert "<BootTrigger>" in task and "S-1-5-18" in task, task
    restart(lab)
    run_task(lab, task)
    assert registry(lab, DHCP, "/s") == before
    assert tasks(lab) == "" and "no guard" in lab.shell("w04", "ls {0}/guard/*.ps1 2>/dev/null || echo no guard".format(HOME))
    late, said = call(lab, "win_dhcp", confirm="snapshot.dhcp")
    assert late.get("failed") and "was not confirmed in time" in late["msg"], said
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=300)
    assert result["token"] and tasks(lab), said
    call(lab, "win_dhcp", confirm=result["token"])
    assert tasks(lab) == ""
    # Azure gives another address by now: the former one would cut the guest off.
    guid = re.search(r"Interfaces\\(\{[^}]+\})", registry(lab, DHCP, "/s")).group(1)
    lease = "$key = [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey('{0}', $true); $old = $key.GetValue('DhcpIPAddress');"
    lease += " $key.SetValue('DhcpIPAddress', '{1}'); $old"
    path = DHCP.replace("HKLM\\", "") + "\\" + guid
    former = powershell(lab, lease.format(path, "10.9.9.9")).split()[-1]
    result, said = call(lab, "win_undo")
    assert not result["changed"] and "10.9.9.9" in result["left"][0] and "DHCP stays on" in result["left"][0], said
    powershell(lab, lease.format(path, former))
    assert call(lab, "win_undo")[0]["changed"] and registry(lab, DHCP, "/s") == before


def test_a_confirmation_after_a_restart_keeps_no_route(lab):
    """The guest answers again because the former routes are back, which says nothing about the new ones."""
    lab("reset", "w04")
    before = routes(lab, "Active")
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert result["token"], said
    restart(lab)
    late, said = call(lab, "win_routes", confirm=result["token"])
    assert late.get("failed") and "does not stand any more" in late["msg"], said
    assert routes(lab, "Active") == before and not routes(lab, "Persistent")


def test_a_guard_that_could_not_put_back_tries_again_when_the_guest_starts(lab):
    lab.plant({"w04": ["win_static_address"]})
    before = registry(lab, DHCP, "/s")
    cards = "'HKLM:\\SOFTWARE\\VmbackupLab\\NetTCPIP\\{0}'"
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=15)
    assert result["token"], said
    # For the time of the first attempt the adapter is another one.
    guid = re.search(r"\{[^}]+\}", registry(lab, NET + r"\Interfaces\2", "/v", "Guid")).group(0)
    powershell(lab, "Set-ItemProperty {0} Guid '{{00000000-0000-0000-0000-000000000000}}'".format(cards.format(r"Interfaces\2")))
    log = "{0}/guard/{1}.log".format(HOME, result["token"])
    lab.shell("w04", "for i in $(seq 60); do grep -q 'put back, except' {0} && exit 0; sleep 1; done; cat {0}; exit 1".format(log))
    powershell(lab, "Set-ItemProperty {0} Guid '{1}'".format(cards.format(r"Interfaces\2"), guid))
    run_task(lab, tasks(lab))
    assert registry(lab, DHCP, "/s") == before and tasks(lab) == ""


def test_what_was_confirmed_is_not_taken_back_when_the_guest_starts(lab):
    """The caller was cut off after its confirmation, before the task was removed."""
    lab.plant({"w04": ["win_static_address"]})
    result, said = call(lab, "win_dhcp", interface="2", undo="snapshot.dhcp", confirm_s=300)
    assert result["token"], said
    after = registry(lab, DHCP, "/s")
    task = tasks(lab)
    restart(lab)
    lab.shell("w04", "touch {0}/guard/{1}.confirmed".format(HOME, result["token"]))
    run_task(lab, task)
    assert registry(lab, DHCP, "/s") == after and tasks(lab) == ""


# ---- reading the network, with commands that fail

BROKEN = {
    "Get-NetRoute": "function Get-NetRoute { [CmdletBinding()] param($PolicyStore) Write-Error 'WMI is away.' }",
    "Get-NetAdapter": "function Get-NetAdapter { [CmdletBinding()] param() Write-Error 'WMI is away.' }",
    "neither": "function Get-NetRoute { [CmdletBinding()] param($PolicyStore) Write-Error 'None.' -Category ObjectNotFound }",
}


@pytest.mark.parametrize("which", list(BROKEN))
def test_routes_that_cannot_be_read_are_not_gone(lab, tmp_path, which):
    item = "@{ kind = 'route'; prefix = '20.38.98.0/24'; index = 2; guid = '{00000000-0000-0000-0000-000000000002}'; hop = '10.0.0.1' }"
    script = (
        "function Get-NetAdapter {{ [CmdletBinding()] param() }}; function Get-NetRoute {{ [CmdletBinding()] param($PolicyStore) }}; {0};"
        " Import-Part '_Change', '_KindRoute'; try {{ $state = Read-State {1}; '[absent ' + ($null -eq $state['active']) + ']' }}"
        " catch {{ '[' + $_.Exception.Message + ']' }}"
    ).format(BROKEN[which], item)
    said = engine(lab, tmp_path, script)
    assert (said == "[absent True]") if which == "neither" else ("WMI is away." in said), said


# ---- the trusted store

SY, BA, USER, EVERYONE = "S-1-5-18", "S-1-5-32-544", "S-1-5-21-1-2-3-1001", "S-1-1-0"
FULL, READ, WRITE, APPEND, DELETE, OWNER = 0x1F01FF, 0x1200A9, 0x2, 0x4, 0x10000, 0x80000


def ace(sid, mask, allow=True, known=True):
    return "@{{ sid = '{0}'; mask = [int64]{1}; allow = ${2}; known = ${3} }}".format(sid, mask, allow, known)


@pytest.mark.parametrize(
    "owner, entries, words",
    [
        (SY, [ace(SY, FULL), ace(BA, FULL)], ""),
        (BA, [ace(BA, FULL), ace(EVERYONE, READ)], ""),
        (BA, [ace(USER, FULL, allow=False), ace(BA, FULL)], ""),
        (BA, [], ""),
        (USER, [ace(BA, FULL)], "it belongs to " + USER),
        (EVERYONE, [ace(BA, FULL)], "it belongs to " + EVERYONE),
        (BA, None, "it has no access list"),
        (BA, [ace(BA, FULL), ace(USER, WRITE)], USER + " can write to it"),
        (BA, [ace(EVERYONE, APPEND)], EVERYONE + " can write to it"),
        (BA, [ace(USER, DELETE)], USER + " can write to it"),
        (BA, [ace(USER, OWNER)], USER + " can write to it"),
        (BA, [ace(USER, 0x40000)], USER + " can write to it"),
        (BA, [ace(USER, 0x10000000)], USER + " can write to it"),
        (BA, [ace(USER, 0x40000000)], USER + " can write to it"),
        (BA, [ace("S-1-3-0", FULL)], "S-1-3-0 can write to it"),
        (BA, [ace("", 0, known=False)], "a kind that is not known here"),
    ],
)
def test_who_is_trusted(lab, tmp_path, owner, entries, words):
    listed = "$null" if entries is None else "@({0})".format(", ".join(entries))
    script = "Import-Part '_UndoStore'; '[' + (Get-Distrust '{0}' {1} @('S-1-5-18', 'S-1-5-32-544')) + ']'".format(owner, listed)
    said = engine(lab, tmp_path, script)
    assert said.startswith("[") and (words in said if words else said == "[]"), said


# What a standard user may plant where the folder is not there yet: ProgramData lets users make folders.
POINT = {
    "id": "20200101T000000Z-agent.service",
    "sequence": 1,
    "remedy": "agent.service",
    "created_at": "2020-01-01T00:00:00Z",
    "undone_at": None,
    "items": [
        {
            "kind": "registry",
            "key": TEST,
            "name": "planted",
            "before": {"exists": True, "type": "string", "data": "=evil", "missing_keys": []},
            "written": [{"exists": False}],
        }
    ],
}


def plant(lab, script):
    place = HOME + "/undo/" + POINT["id"] + ".json"
    text = "rm -rf {0}; mkdir -p {0}/undo; chmod 700 {0} {0}/undo; printf %s '{1}' > {2}; chmod 600 {2}; {3}"
    lab.shell("w04", text.format(HOME, json.dumps(POINT), place, script.format(home=HOME, file=place)))


def test_the_store_itself_is_read(lab):
    """The same file, trusted: otherwise the tests below could not fail."""
    lab("reset", "w04")
    plant(lab, "true")
    result, said = call(lab, "win_undo")
    assert result["changed"] and "evil" in registry(lab, TEST), said


@pytest.mark.parametrize(
    "script, place",
    [
        ("chown 1000 {home}", "vmbackup_azure is not trusted"),
        ("chown 1000 {home}/undo", "undo is not trusted"),
        ("chown 1000 {file}", "agent.service.json is not trusted"),
        ("chmod 777 {home}", "vmbackup_azure is not trusted"),
        ("chmod 777 {home}/undo", "undo is not trusted"),
        ("chmod 666 {file}", "agent.service.json is not trusted"),
    ],
)
def test_a_store_that_others_can_write_to_is_refused(lab, script, place):
    lab("exec", "w04", "--", "guest", "reg", "delete", TEST, "/f", check=False)
    plant(lab, script)
    before = lab.shell("w04", "ls -lR {0}".format(HOME))
    for name, options in (
        ("win_undo", {}),
        ("win_undo", {"force": True}),
        ("win_undo_point", {"remedy": "agent.install", "services": ["RdAgent"]}),
        ("win_registry", {"values": [{"key": TEST, "name": "n", "data": "x"}], "undo": "connectivity.proxy"}),
    ):
        result, said = call(lab, name, **options)
        assert result.get("failed") and place in result["msg"] and "Look at it, and delete it" in result["msg"], said
        assert "evil" not in registry(lab, TEST) and "REG_SZ" not in registry(lab, TEST)
    assert lab.shell("w04", "ls -lR {0}".format(HOME)) == before, "it is refused, never repaired"
    lab.shell("w04", "rm -rf " + HOME)


def test_a_list_of_routes_that_others_can_write_to_is_refused(lab):
    lab.shell(
        "w04",
        "rm -rf {0}; mkdir -p {0}; chmod 700 {0}; echo '{{\"routes\": []}}' > {0}/routes.json; chown 1000 {0}/routes.json".format(HOME),
    )
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"])
    assert result.get("failed") and "routes.json is not trusted" in result["msg"], said
    assert "20.38.98.0/24" not in routes(lab, "Active")
    lab.shell("w04", "rm -rf " + HOME)


# ---- undo


def value(name, data="new", **more):
    return dict({"key": TEST, "name": name, "data": data}, **more)


def test_undo_leaves_what_was_changed_since(lab):
    lab("reset", "w04")
    for name in ("kept", "changed", "gone"):
        registry_add(lab, name, "old")
    call(lab, "win_registry", values=[value("kept"), value("changed"), value("gone")], undo="connectivity.proxy")
    call(lab, "win_services", services=[{"name": "VSS", "start_type": "auto", "recovery": "restart"}], undo="snapshot.vss_services")
    registry_add(lab, "changed", "of the administrator")
    lab("exec", "w04", "--", "guest", "reg", "delete", TEST, "/v", "gone", "/f")
    powershell(lab, "Set-Service -Name VSS -StartupType Disabled")
    looked, _said = call(lab, "win_undo", "--check")
    result, said = call(lab, "win_undo")
    assert looked["left"] == result["left"] and looked["steps"] == result["steps"], said
    assert sorted(line.split(":")[0] for line in result["left"]) == [TEST + "\\changed", TEST + "\\gone", "service VSS"], said
    assert "is string of the administrator, the repair had written string new" in str(result["left"])
    assert re.search(r"kept\s+REG_SZ\s+old", registry(lab, TEST)) and re.search(
        r"changed\s+REG_SZ\s+of the administrator", registry(lab, TEST)
    )
    assert "gone" not in registry(lab, TEST) and start_type(lab, "VSS") == "4"
    assert "FailureActions" not in registry(lab, r"HKLM\SYSTEM\CurrentControlSet\Services\VSS"), "the part that still stood went back"
    again, said = call(lab, "win_undo")
    assert again["changed"] is False and again["left"] == result["left"], said
    forced, said = call(lab, "win_undo", force=True)
    assert forced["left"] == [] and len(re.findall(r"REG_SZ\s+old", registry(lab, TEST))) == 3 and start_type(lab, "VSS") == "3", said
    assert call(lab, "win_undo")[0]["points"] == []


def registry_add(lab, name, data):
    lab("exec", "w04", "--", "guest", "reg", "add", TEST, "/v", name, "/t", "REG_SZ", "/d", data, "/f")


def test_undo_goes_back_over_two_repairs_only_where_both_still_stand(lab):
    lab("reset", "w04")
    for name in ("straight", "between"):
        registry_add(lab, name, "a")
    call(lab, "win_registry", values=[value("straight", "b"), value("between", "b")], undo="connectivity.proxy")
    registry_add(lab, "between", "of the administrator")
    call(lab, "win_registry", values=[value("straight", "c"), value("between", "c")], undo="connectivity.proxy")
    result, said = call(lab, "win_undo")
    assert re.search(r"straight\s+REG_SZ\s+a$", registry(lab, TEST), re.M), said
    assert re.search(r"between\s+REG_SZ\s+of the administrator$", registry(lab, TEST), re.M) and len(result["left"]) == 1, said


def test_an_older_point_without_what_was_written_is_left(lab):
    lab("reset", "w04")
    registry_add(lab, "n", "old")
    call(lab, "win_registry", values=[value("n")], undo="connectivity.proxy")
    lab.shell("w04", "sed -i 's/\"written\":[[][^]]*[]],\\?//; s/,}}/}}/g' {0}/undo/*.json; ! grep -q written {0}/undo/*.json".format(HOME))
    result, said = call(lab, "win_undo")
    assert len(result["left"]) == 1 and "was not kept (an older undo point)" in result["left"][0] and not result["changed"], said
    assert call(lab, "win_undo", force=True)[0]["changed"] and re.search(r"n\s+REG_SZ\s+old", registry(lab, TEST))


def test_old_points_expire_unless_a_younger_one_builds_on_them(lab):
    lab("reset", "w04")

    def points():
        return sorted(lab.shell("w04", "ls {0}/undo".format(HOME)).split())

    call(lab, "win_registry", values=[value("alone")], undo="connectivity.proxy")
    call(lab, "win_registry", values=[value("both", "b")], undo="agent.service")
    lab.shell("w04", 'sed -i \'s/"created_at":"[^"]*"/"created_at":"2020-01-01T00:00:00Z"/\' {0}/undo/*.json'.format(HOME))
    old = points()
    assert len(old) == 2
    call(lab, "win_registry", values=[value("both", "c")], undo="agent.service", keep_days=0)
    assert set(old) < set(points()) and len(points()) == 3, "0 keeps for ever"
    call(lab, "win_registry", values=[value("third")], undo="extension.prerequisites", keep_days=90)
    left = points()
    assert [name for name in old if name not in left] == [name for name in old if "connectivity.proxy" in name], left
    call(lab, "win_undo")
    assert "both" not in registry(lab, TEST) and "alone" in registry(lab, TEST)


def test_bytes_are_shown_by_their_digest_only(lab):
    secret = b"http://user:Pa55w0rd@proxy".hex()
    options = {"values": [value("bytes", secret, type="binary")], "undo": "connectivity.proxy"}
    looked, said = call(lab, "win_registry", "--check", "--diff", **options)
    assert "binary, 26 bytes, SHA-256 " in said and secret not in said.lower(), said
    said = lab.ansible("ansible", "w04", "-vvv", "-m", "vmbackup.azure.win_registry", "-a", json.dumps(options)).stdout
    assert "bytes, not shown" in said and secret not in said.lower(), said
    assert secret in registry(lab, TEST).lower(), "the bytes themselves are written"
    result, said = call(lab, "win_undo", "--check", "--diff")
    assert result["changed"] and secret not in said.lower() and "binary, 26 bytes, SHA-256 " in said, said
    registry_add(lab, "bytes", "of the administrator")
    result, said = call(lab, "win_undo")
    assert "the repair had written binary, 26 bytes" in result["left"][0] and secret not in said.lower(), said
    wrong, said = call(lab, "win_registry", values=[value("bytes", secret + "x", type="binary")])
    assert wrong["failed"] and secret not in wrong["msg"], said


# ---- the lock and what is expected


def test_a_writer_that_another_run_keeps_from_writing_is_deferred(lab):
    lab("reset", "w04")
    hold = "$m = New-Object Threading.Mutex($false, 'Global\\vmbackup.azure'); [void]$m.WaitOne(); Set-Content -Encoding ASCII C:\\held.txt x; Start-Sleep 300"
    with subprocess.Popen(
        [LAB, "exec", "w04", "--", "guest", "powershell", "-NoProfile", "-Command", hold],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as other:
        lab.shell("w04", "for i in $(seq 60); do test -s /wine/drive_c/held.txt && exit 0; sleep 1; done; exit 1")
        for name, options in (
            ("win_registry", {"values": [value("n")], "undo": "connectivity.proxy"}),
            ("win_routes", {"routes": ["20.38.98.0/24"], "undo": REMEDY, "confirm_s": 60}),
            ("win_undo", {}),
        ):
            result, said = call(lab, name, **options)
            assert result["deferred"] is True and result["reason"] == "another run is changing this guest" and not result["changed"], said
        assert "REG_SZ" not in registry(lab, TEST) and "20.38.98.0/24" not in routes(lab, "Active")
        # It is killed, and leaves its lock behind.
        lab.shell("w04", "for p in $(pgrep -f 'Threading[.]Mutex'); do kill -9 $p; done; true")
        other.wait(60)
    result, said = call(lab, "win_registry", values=[value("n")])
    assert result["changed"] and result["deferred"] is False and result["reason"] is None, said


def test_null_is_what_was_not_there_and_nothing_is_not_compared(lab):
    lab("reset", "w04")
    registry_add(lab, "there", "old")
    result, said = call(lab, "win_registry", values=[value("new", expect=None), value("there", expect=None)])
    assert result["failed"] and "\\there is string old, but absent was expected" in result["msg"], said
    assert "new" not in registry(lab, TEST) and "old" in registry(lab, TEST)
    result, said = call(lab, "win_registry", values=[value("new", expect=None), value("there", expect={"data": "old"})])
    assert result["changed"] and not result["failed"], said
    registry_add(lab, "there", "old")
    assert call(lab, "win_registry", values=[value("there")])[0]["changed"]
    result, said = call(lab, "win_services", services=[{"name": "VSS", "start_type": "auto", "expect": None}])
    assert result["failed"] and "The service VSS is there, but was expected to be absent" in result["msg"], said
    result, said = call(lab, "win_services", services=[{"name": "VSS", "start_type": "auto", "expect": {"start_type": "disabled"}}])
    assert result["failed"] and "service VSS is start_type=manual, but start_type=disabled was expected" in result["msg"], said
    assert call(lab, "win_services", services=[{"name": "VSS", "start_type": "auto", "expect": {"start_type": "manual"}}])[0]["changed"]


def test_routes_that_changed_since_they_were_looked_at_are_left(lab):
    lab("reset", "w04")
    prefix = "20.38.98.0/24"
    result, said = call(lab, "win_routes", routes=[prefix], expect={prefix: "10.94.0.99"})
    assert result["failed"] and prefix + " has no route of its own, but one over 10.94.0.99 was expected" in result["msg"], said
    assert prefix not in routes(lab, "Active")
    result, said = call(lab, "win_routes", routes=[prefix], expect={prefix: None})
    assert result["changed"] and prefix in routes(lab, "Active"), said
    result, said = call(lab, "win_routes", routes=[prefix], expect={prefix: None})
    assert not result["failed"] and result["changed"] is False, "it is as it is wanted: " + said
    result, said = call(lab, "win_routes", routes=[prefix], state="absent", expect={prefix: "10.94.0.99"})
    assert result["failed"] and prefix + " has a route over 10.94.0.2, but one over 10.94.0.99 was expected" in result["msg"], said
    assert prefix in routes(lab, "Active")


def test_static_settings_that_changed_since_they_were_looked_at_are_left(lab):
    lab.plant({"w04": ["win_static_address"]})
    before = registry(lab, DHCP, "/s")
    result, said = call(lab, "win_dhcp", interface="2", expect={"addresses": ["10.9.9.9/24"]})
    assert result["failed"] and "but addresses=10.9.9.9/24" in result["msg"] and registry(lab, DHCP, "/s") == before, said


def test_the_action_confirms_by_itself_and_tells_when_nobody_answered(lab):
    lab("reset", "w04")
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=60, verify=True)
    assert result["confirmed"] is True and not result["failed"] and routes(lab, "Persistent") == {"20.38.98.0/24": 256}, said
    before = routes(lab, "Active")
    limits = ["-e", "ansible_winrm_operation_timeout_sec=4", "-e", "ansible_winrm_read_timeout_sec=6"]
    cut = {
        "routes": ["10.94.0.1/32"],
        "next_hop": "10.94.0.99",
        "skip_gateway_check": True,
        "undo": REMEDY,
        "confirm_s": 20,
        "verify": True,
    }
    result, said = call(lab, "win_routes", *limits, **cut)
    # WinRM's attempts take long: the guest may be back before the last of them, and says then that it is too late.
    assert result["failed"] and result["confirmed"] is not True and result["cut"] is True, said
    assert "puts the former state back by itself" in result["msg"] or "was not confirmed in time" in result["msg"], said
    lab.shell("w04", "for i in $(seq 60); do ip route | grep -q ^10.94.0.1 || exit 0; sleep 1; done; exit 1")
    assert routes(lab, "Active") == before


# ---- services, writers, rules


def test_no_service_is_restarted_in_the_middle_of_another_backup(lab, tmp_path):
    lab.plant({"w04": ["win_writer_failed"]})
    change = (
        "$path = 'C:\\VmbackupLab\\vssadmin\\list writers.txt'; $text = [IO.File]::ReadAllText($path); $at = $text.IndexOf(\"'WMI Writer'\");"
        " [IO.File]::WriteAllText($path, $text.Substring(0, $at) + ([regex]'\\[1\\] Stable').Replace($text.Substring($at), '[5] Waiting for completion', 1))"
    )
    powershell(lab, change)
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w04"], tmp_path, "-e", "vmbackup_allow_vss_writer_restart=true")
    assert "vss_writer_failed" in findings(report, "w04") and "vss_writer_waiting" in findings(report, "w04"), output
    assert "WMI Writer" not in str(findings(report, "w04")["vss_writer_failed"])
    assert "Nothing was restarted, since another backup seems to run" in str(host_of(report, "w04")["actions"]), output


def test_a_rule_stays_where_the_azure_host_answers(lab, tmp_path):
    lab("reset", "w04")
    name = "{0C1A3D1C-7F0B-4C39-9E56-3B2B5B6E2F11}"
    key = r"HKLM:\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules"
    rule = "v2.31|Action=Block|Active=TRUE|Dir=Out|Protocol=6|RPort=32526|RA4=168.63.129.16|Name=Block unknown ports|"
    powershell(lab, "Set-ItemProperty -Path '{0}' -Name '{1}' -Value '{2}'".format(key, name, rule))
    done = role(lab, tmp_path, "connectivity", "firewall", vmbackup_allow_firewall=True)
    assert done.returncode == 0 and "The Azure host answers, so no rule was disabled." in done.stdout, done.stdout[-3000:]
    assert "Active=TRUE" in registry(lab, key.replace("HKLM:", "HKLM"), "/v", name)


# ---- the agent


def installer(lab):
    checksum = lab("exec", "w04", "--", "sha256sum", "/wine/drive_c/VmbackupLab/agent.msi").split()[0]
    return {"vmbackup_allow_agent_install": True, "agent_msi": r"C:\VmbackupLab\agent.msi", "agent_msi_sha256": checksum}


def test_a_failed_installation_skips_the_agents_repairs_only(lab, tmp_path):
    lab.plant({"w04": ["win_agent_missing", "win_vss_disabled"]})
    lab(
        "exec",
        "w04",
        "--",
        "guest",
        "reg",
        "add",
        r"HKLM\SOFTWARE\VmbackupLab\Services\RdAgent",
        "/v",
        "NeverInstalls",
        "/t",
        "REG_DWORD",
        "/d",
        "1",
        "/f",
    )
    given = dict(installer(lab), agent_install_wait_s=12)
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w04"], tmp_path, "-e", json.dumps(given))
    actions = {action["remedy"]: action for action in host_of(report, "w04")["actions"]}
    assert code != 0 and actions["agent.install"]["failed"], output
    assert "WindowsAzureGuestAgent was not there 12 s later" in actions["agent.install"]["text"], actions
    assert actions["snapshot.vss_services"]["changed"] and start_type(lab, "VSS") == "3", output
    assert "agent.service" not in actions


def test_the_installers_log_is_written_and_a_product_that_came_since_stays(lab, tmp_path):
    lab.plant({"w04": ["win_agent_missing"]})
    lab.shell("w04", "! test -e /wine/drive_c/WindowsAzure")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["w04"], tmp_path, "-e", json.dumps(installer(lab)))
    assert code == 0 and host_of(report, "w04")["status"] == "repaired", output
    lab.shell("w04", "test -s /wine/drive_c/windows/logs/vmbackup-agent-install.log")
    # Somebody installs another agent afterwards: another product.
    product = r"HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\{11111111-94C8-4A5E-8F0E-56ACDC3E24A1}"
    more = (
        "New-Item -Path '{0}' -Force | Out-Null; Set-ItemProperty -Path '{0}' -Name DisplayName -Value 'Windows Azure VM Agent - 2.7.5'; "
    )
    more += "Set-ItemProperty -Path '{0}' -Name DisplayVersion -Value '2.7.5'"
    powershell(lab, more.format(product))
    result, said = call(lab, "win_undo", "--check")
    assert [entry["uninstall"] for entry in result["packages"]] and "11111111" not in str(
        [entry["uninstall"] for entry in result["packages"]]
    ), said
    assert any("Windows Azure VM Agent - 2.7.5: version 2.7.5 is not known to come from a repair" in line for line in result["left"]), said
    code, output, report = lab.playbook("vmbackup.azure.undo", ["w04"], tmp_path)
    assert "Left: package Windows Azure VM Agent - 2.7.5" in str(host_of(report, "w04")["actions"]), output
    assert "11111111" in registry(lab, product.replace("HKLM:", "HKLM")), output


def test_an_agent_without_a_heartbeat_yet_has_not_failed(lab, tmp_path):
    lab.plant({"w04": ["win_agent_stopped"]})
    for name in ("RdAgent", "WindowsAzureGuestAgent"):
        lab(
            "exec",
            "w04",
            "--",
            "guest",
            "reg",
            "add",
            r"HKLM\SOFTWARE\VmbackupLab\Services" + "\\" + name,
            "/v",
            "Silent",
            "/t",
            "REG_DWORD",
            "/d",
            "1",
            "/f",
        )
    done = role(lab, tmp_path, "agent", "service", agent_first_heartbeat_wait_s=8)
    assert done.returncode == 0 and "has not written a heartbeat" in done.stdout.replace("a new heartbeat", "a heartbeat"), done.stdout[
        -3000:
    ]
    lab("exec", "w04", "--", "guest", "sc", "stop", "WindowsAzureGuestAgent")
    limits = {"agent_first_heartbeat_wait_s": 8, "vmbackup_thresholds": {"windows_first_heartbeat_s": 8}}
    done = role(lab, tmp_path, "agent", "service", **limits)
    assert done.returncode != 0 and "wrote no new heartbeat within 8 s" in done.stdout, done.stdout[-3000:]
