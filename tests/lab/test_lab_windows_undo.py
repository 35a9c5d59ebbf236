# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The undo store of a Windows guest, undo itself, the lock, and what is expected before it is written."""

import json
import re
import subprocess

import pytest
from conftest import LAB, host_of
from windows_guest import DHCP, HOME, LACKS, REMEDY, TEST, call, engine, powershell, registry, routes, start_type

pytestmark = pytest.mark.skipif(bool(LACKS), reason="Windows guests: " + LACKS)
SY, BA, USER, EVERYONE = "S-1-5-18", "S-1-5-32-544", "S-1-5-21-1-2-3-1001", "S-1-1-0"
FULL, READ, WRITE, APPEND, DELETE, OWNER = 0x1F01FF, 0x1200A9, 0x2, 0x4, 0x10000, 0x80000


def ace(sid, mask, allow=True, known=True):
    return "@{{ sid = '{0}'; mask = [int64]{1}; allow = ${2}; known = ${3} }}".format(sid, mask, allow, known)


# Owner of the folder, its entries, and why it is not trusted.
TRUSTED = [
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
]


def test_who_is_trusted(lab, tmp_path):
    """All in one call: each start of PowerShell takes seconds."""
    call = "'[' + (Get-Distrust '{0}' {1} @('S-1-5-18', 'S-1-5-32-544')) + ']'"
    calls = [call.format(owner, "$null" if entries is None else "@({0})".format(", ".join(entries))) for owner, entries, _words in TRUSTED]
    said = engine(
        lab, tmp_path, "Import-Part '_UndoStore'; (@({0}) -join '~')".format(", ".join("({0})".format(call) for call in calls))
    ).split("~")
    assert len(said) == len(TRUSTED), said
    for (owner, entries, words), answer in zip(TRUSTED, said):
        assert words in answer if words else answer == "[]", (owner, entries, words, answer)


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


def test_undo_waits_for_a_guard_and_ends_one_that_was_killed(lab, tmp_path):
    lab("reset", "w04")
    before = routes(lab, "Active")
    result, said = call(lab, "win_routes", routes=["20.38.98.0/24"], undo=REMEDY, confirm_s=300)
    assert result["token"], said
    for more in ([], ["--check"]):
        result, said = call(lab, "win_undo", *more)
        assert (result["deferred"], result["changed"], result["steps"]) == (True, False, []), said
        assert result["reason"] == "the change of {0} waits for its confirmation".format(REMEDY), said
    output, report = lab.playbook("vmbackup.azure.undo", ["w04"], tmp_path)[1:]
    assert host_of(report, "w04")["status"] == "deferred", output[-3000:]
    assert "20.38.98.0/24" in routes(lab, "Active")
    lab.shell("w04", "for p in $(pgrep -f 'guard.*[.]ps1'); do kill -9 $p; done; true")
    result, said = call(lab, "win_undo")
    assert result["changed"] and not result["deferred"] and routes(lab, "Active") == before, said
    assert lab.shell("w04", "ls {0}/guard 2>/dev/null || true".format(HOME)).strip() == "", "nothing is left that could be put back"
