# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import json
import time

import pytest

pytest.importorskip("jinja2")
from ansible_collections.vmbackup.azure.plugins.plugin_utils import _report as r  # noqa: E402
from ansible_collections.vmbackup.azure.plugins.plugin_utils._remedies import CAUSES, plan  # noqa: E402

NOW = "2026-11-21T09:00:00Z"
NAMES = {
    "agent_service_stopped": ("blocker", "agent.service", None),
    "agent_disable_marker": ("blocker", "agent.service", "vmbackup_allow_disable_agent_removal"),
    "agent_auto_update_off": ("notice", "agent.auto_update", "vmbackup_allow_auto_update"),
    "agent_version_old": ("risk", "agent.update", None),
    "route_missing": ("blocker", "connectivity.invented", None),
    "nsg_rule": ("blocker", None, None),
}


def finding(id_, **others):
    severity, remedy, consent = NAMES[id_]
    base = {
        "id": id_,
        "cause": 2,
        "severity": severity,
        "title": "Title of " + id_,
        "evidence": ["evidence of " + id_],
        "remedy": remedy,
        "mode": "manual" if remedy is None else "consent" if consent else "auto",
        "consent": consent,
        "side": "guest",
        "codes": ["UserErrorGuestAgentStatusUnavailable"],
        "action": "Do this by hand.",
        "undo": None,
        "doc": "https://example.com/doc",
    }
    return dict(base, **others)


def result(*ids, **others):
    causes, never = others.pop("causes", CAUSES), others.pop("never", ())
    found = [finding(id_) for id_ in ids]
    remedies = plan(found, never=never, causes=causes)
    areas = ["agent", "extension", "network", "load"]
    system = {"kind": "linux", "distribution": {"pretty_name": "Debian 12"}}
    facts = {"vmbackup": dict({area: {} for area in areas}, system=system, gather_subset=areas, errors=[], not_visible=[])}
    return dict({"findings": found, "remedies": remedies, "ansible_facts": facts}, **others)


def blind(area):
    after = result()
    after["ansible_facts"]["vmbackup"]["errors"] = [{"area": area, "what": "systemctl", "error": "no answer within 3 s"}]
    return after


def seen(*ids, **facts):
    before = result(*ids)
    before["ansible_facts"]["vmbackup"].update(facts)
    return before


def action(remedy, **others):
    return dict(
        {"remedy": remedy, "text": "did " + remedy, "changed": True, "deferred": False, "failed": False, "undo_point": "p-" + remedy},
        **others,
    )


def run(**others):
    return dict(
        {
            "mode": "remediate",
            "check_mode": False,
            "inventory": ["inventory dir"],
        },
        **others,
    )


RESTART_FAILED = action("agent.restart", failed=True, undo_point=None, text="the handler did not come up")
CASES = [
    ("healthy", {"before": result()}, {}, "healthy", False),
    ("notice only", {"before": result("agent_auto_update_off")}, {}, "remarks", False),
    (
        "repaired",
        {"before": result("agent_service_stopped"), "after": result(), "actions": [action("agent.service")]},
        {},
        "repaired",
        False,
    ),
    (
        "still there",
        {"before": result("agent_service_stopped"), "after": result("agent_service_stopped"), "actions": [action("agent.service")]},
        {},
        "left_over",
        True,
    ),
    ("consent missing", {"before": result("agent_disable_marker")}, {}, "left_over", True),
    ("manual", {"before": result("nsg_rule")}, {}, "left_over", True),
    ("no remedy yet", {"before": result("route_missing")}, {}, "left_over", True),
    ("tag leaves it out", {"before": result("agent_service_stopped", causes=["snapshot"])}, {}, "left_over", True),
    ("never", {"before": result("agent_service_stopped", never=["agent.service"])}, {}, "left_over", True),
    (
        "risk left",
        {"before": result("agent_version_old"), "after": result("agent_version_old"), "actions": [action("agent.update")]},
        {},
        "left_over",
        False,
    ),
    (
        "check mode",
        {"before": result("agent_service_stopped"), "actions": [action("agent.service")]},
        {"check_mode": True},
        "would_repair",
        False,
    ),
    ("check mode, one left", {"before": result("agent_service_stopped", "nsg_rule")}, {"check_mode": True}, "left_over", True),
    ("not reached", {"before": {"unreachable": True, "msg": "no route"}}, {}, "not_reached", True),
    ("diagnosis failed", {"before": {"failed": True, "msg": "no python"}}, {}, "failed", True),
    ("nothing known", {}, {}, "failed", True),
    ("no facts", {"before": dict(result(), ansible_facts={})}, {}, "failed", True),
    ("permission denied", {"before": seen(not_visible=["/var/lib/waagent: permission denied"])}, {}, "not_seen", True),
    ("a probe that failed", {"before": blind("load")}, {"mode": "diagnose"}, "not_seen", True),
    ("an area that was not asked for", {"before": seen(gather_subset=["network"])}, {"mode": "diagnose"}, "not_seen", True),
    ("an area that could not be read", {"before": seen(load=None)}, {}, "not_seen", True),
    ("Windows without VSS", {"before": seen(system={"kind": "windows"})}, {}, "not_seen", True),
    ("unseen, with a finding", {"before": seen("agent_version_old", load=None)}, {"mode": "diagnose"}, "found", False),
    ("unseen, with a remark", {"before": seen("agent_auto_update_off", load=None)}, {"mode": "diagnose"}, "not_seen", True),
    ("stopped", {"before": result("agent_service_stopped"), "stopped": "repairs had failed on 4 hosts."}, {}, "not_started", True),
    ("lost", {"before": result("agent_service_stopped"), "lost": True, "lost_before": "agent.service"}, {}, "lost", True),
    ("lost at the second look", {"before": result("agent_service_stopped"), "after": {"unreachable": True}}, {}, "lost", True),
    ("second look failed", {"before": result("agent_service_stopped"), "after": {"failed": True, "msg": "x"}}, {}, "failed", True),
    ("restart failed", {"before": result("agent_service_stopped"), "after": result(), "actions": [RESTART_FAILED]}, {}, "failed", True),
    (
        "deferred",
        {
            "before": result("agent_service_stopped"),
            "after": result("agent_service_stopped"),
            "actions": [action("agent.service", changed=False, deferred=True, undo_point=None)],
        },
        {},
        "deferred",
        True,
    ),
    (
        "restart deferred, though the file says what it should",
        {
            "before": result("agent_service_stopped"),
            "after": result(),
            "actions": [action("agent.service", restart=True), action("agent.restart", changed=False, deferred=True, undo_point=None)],
        },
        {},
        "deferred",
        True,
    ),
    (
        "blind at the second look",
        {"before": result("agent_service_stopped"), "after": blind("agent"), "actions": [action("agent.service", restart=True)]},
        {},
        "left_over",
        True,
    ),
    (
        "blind elsewhere",
        {"before": result("agent_service_stopped"), "after": blind("load"), "actions": [action("agent.service", restart=True)]},
        {},
        "repaired",
        False,
    ),
    ("diagnose", {"before": result("agent_version_old")}, {"mode": "diagnose"}, "found", False),
    ("undone", {"before": {"ping": "pong"}, "actions": [action("undo", undo_point=None)]}, {"mode": "undo"}, "undone", False),
    ("nothing undone", {"before": {"ping": "pong"}, "actions": [action("undo", changed=False)]}, {"mode": "undo"}, "healthy", False),
    ("undo failed", {"before": {}, "failures": [action("undo", failed=True)]}, {"mode": "undo"}, "failed", True),
]


@pytest.mark.parametrize("record, options, status, troubled", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_status(record, options, status, troubled):
    report = r.build({"host": record}, run(**options), NOW)
    host = report["hosts"][0]
    assert host["status"] == status, host
    assert report["troubled"] == (["host"] if troubled else [])
    assert bool(r.failure(report)) == troubled and set(r.reasons(report)) == set(report["troubled"])
    json.dumps(report)
    assert r.headline(report) in r.html(report)
    assert all("\n" not in line for _colour, line in r.console(report))


AZURE = {"read_at": "2026-11-21T08:00:00Z", "power_state": "deallocated", "vault": "Vault01", "failed_since": "2026-11-19T22:30:00Z"}


def by_azure(*ids, **others):
    found = [finding(id_, side="azure", cause=5, commands=["az do --ids /vm/" + id_]) for id_ in ids]
    return {"before": dict({"findings": found, "remedies": [], "contacted": False, "reason": "Not contacted.", "azure": AZURE}, **others)}


@pytest.mark.parametrize(
    "record, status, troubled",
    [
        (by_azure(), "azure_only", False),
        (by_azure("agent_auto_update_off"), "azure_only", False),
        (by_azure("agent_version_old"), "found", False),
        (by_azure("nsg_rule"), "found", True),
        (by_azure("nsg_rule", contacted=True, unreachable=True, msg="timed out"), "not_reached", True),
        (by_azure("agent_version_old", contacted=True, failed=True, msg="no Python"), "failed", True),
    ],
)
def test_what_azure_alone_tells_of_a_host(record, status, troubled):
    report = r.build({"h": record}, run(mode="diagnose"), NOW)
    (host,) = report["hosts"]
    assert host["status"] == status and bool(report["troubled"]) is troubled and report["counts"] == {status: 1}
    assert [entry["id"] for entry in host["findings"]] == [entry["id"] for entry in record["before"]["findings"]]
    assert host["azure"] == ("By Azure at 2026-11-21T08:00:00Z: deallocated, vault Vault01, backup fails since 2026-11-19T22:30:00Z")
    lines = [line.strip() for _colour, line in r.console(report)]
    for entry in host["findings"]:
        assert "az do --ids /vm/" + entry["id"] in lines and "az do --ids /vm/" + entry["id"] in r.html(report)
    assert host["azure"] in lines and host["azure"] in r.html(report)


def test_a_secret_in_what_azure_tells_is_masked_everywhere():
    record = by_azure("nsg_rule", azure=dict(AZURE, vault="https://h/p?sig=S3cr3t"))
    record["before"]["findings"][0].update(commands=["az x --url https://h/p?sig=S3cr3t"], evidence=["https://h/p?sig=S3cr3t"])
    report = r.build({"h": record}, run(mode="diagnose"), NOW)
    assert "S3cr3t" not in json.dumps(report) + r.html(report) + str(r.console(report))


def left(record, **options):
    host = r.build_host("host", record, run(**options))
    return [(f["state"], f["next"], f["command"]) for f in host["findings"]][0]


def test_next_names_the_consent_and_the_command():
    state, next_, command = left({"before": result("agent_disable_marker")})
    assert state == "left" and "vmbackup_allow_disable_agent_removal" in next_ and "Do this by hand." in next_
    assert (
        command == "ansible-playbook vmbackup.azure.remediate -i 'inventory dir' --limit host -e vmbackup_allow_disable_agent_removal=true"
    )


def test_next_of_the_others():
    assert left({"before": result("nsg_rule")})[1:] == ("Do this by hand.", None)
    assert "no automatic repair" in left({"before": result("route_missing")})[1]
    assert "tags" in left({"before": result("agent_service_stopped", causes=["snapshot"])})[1]
    assert (
        "vmbackup_never or vmbackup_never_too names agent.service"
        in left({"before": result("agent_service_stopped", never=["agent.service"])})[1]
    )
    failed = {
        "before": result("agent_service_stopped"),
        "after": result("agent_service_stopped"),
        "failures": [action("agent.service", failed=True)],
    }
    assert "failed" in left(failed)[1]
    unreached = {"before": result("agent_service_stopped"), "after": result("agent_service_stopped")}
    assert "not reached" in left(unreached)[1]
    unseen = {"before": result("agent_service_stopped"), "after": blind("agent"), "actions": [action("agent.service")]}
    assert "systemctl: no answer within 3 s" in left(unseen)[1]
    lost = {"before": result("agent_service_stopped"), "lost": True, "actions": [action("agent.service")]}
    assert "not known" in left(lost)[1]


def test_undo_command_only_where_something_was_changed():
    done = r.build_host("h", {"before": result("agent_service_stopped"), "after": result(), "actions": [action("agent.service")]}, run())
    assert done["undo"] == "ansible-playbook vmbackup.azure.undo -i 'inventory dir' --limit h"
    assert r.build_host("h", {"before": result()}, run())["undo"] is None


def test_worst_first_and_counts():
    records = {
        "z-healthy": {"before": result()},
        "y-risk": {"before": result("agent_version_old")},
        "x-blocker": {"before": result("nsg_rule")},
        "w-gone": {"before": {"unreachable": True}},
    }
    report = r.build(records, run(), NOW)
    assert [host["host"] for host in report["hosts"]][0] == "w-gone"
    assert [host["host"] for host in report["hosts"]][-1] == "z-healthy"
    assert sum(report["counts"].values()) == report["hosts_total"] == 4
    assert [host["host"] for host in report["hosts"]].index("x-blocker") < [host["host"] for host in report["hosts"]].index("y-risk")


def test_nothing_found_is_one_line():
    report = r.build({"a": {"before": result()}, "b": {"before": result()}}, run(), NOW)
    assert r.console(report) == [(None, "2 hosts looked at, nothing found.")]
    nobody = r.build({}, run(), NOW)
    assert r.headline(nobody) == r.failure(nobody) == "No host was looked at."


def test_what_the_whole_run_could_not_do_ends_it_with_an_error():
    problem = "In Azure nothing more was done: the client secret is wrong."
    report = r.build({"a": {"before": result()}}, run(problem=problem), NOW)
    assert report["troubled"] == [] and r.failure(report) == problem
    assert r.headline(report) == "1 host looked at, nothing found. " + problem


def test_what_was_not_seen_is_named():
    records = {"part": {"before": seen(gather_subset=["network"])}, "all": {"before": result()}}
    report = r.build(records, run(mode="diagnose"), NOW)
    assert r.headline(report) == "2 hosts: 1 not fully seen, 1 healthy. Not asked for: agent, extension, load."
    assert "agent, extension, load" in r.reasons(report)["part"] and "not asked for" in r.html(report)
    record = {
        "before": result("agent_service_stopped"),
        "after": blind("load"),
        "actions": [action("agent.service")],
    }
    assert "no answer within 3 s" in r.build_host("host", record, run())["reason"]


def test_a_run_that_stopped_itself_says_so():
    stopped = "repairs had failed on 4 hosts, or lost them, and vmbackup_max_failures is 3."
    report = r.build({"late": {"before": result("agent_service_stopped"), "stopped": stopped}, "well": {"before": result()}}, run(), NOW)
    assert "1 not started" in r.headline(report) and stopped in r.headline(report)
    assert stopped in r.reasons(report)["late"] and "not reached in this run" in report["hosts"][0]["findings"][0]["next"]


HOSTILE = "<script>alert(1)</script> {{ 7*7 }} {% raw %} \x1b[31mred\r\n\u202eevil https://x.blob.core.windows.net/v?sv=1&sig=TOPSECRET"


def test_hostile_text():
    bad = finding("nsg_rule", title=HOSTILE, evidence=[HOSTILE], action=HOSTILE, doc="javascript:alert(1)", codes=[HOSTILE])
    before = result(note=HOSTILE)
    before["findings"] = [bad]
    before["ansible_facts"]["vmbackup"]["system"]["distribution"]["pretty_name"] = HOSTILE
    before["ansible_facts"]["vmbackup"]["not_visible"] = [HOSTILE]
    records = {
        "<b>host": {"before": before, "actions": [action("agent.service", text=HOSTILE, undo_point=HOSTILE)]},
        "gone": {"before": {"unreachable": True, "msg": HOSTILE}},
    }
    report = r.build(records, run(), NOW)
    page, lines, data = r.html(report), r.console(report), json.dumps(report, ensure_ascii=False)
    assert "<script" not in page and "javascript:" not in page.replace("javascript:alert(1)</", "") and "<b>host" not in page
    assert "{{ 7*7 }}" in page and 'href="javascript' not in page
    for text in [data, page] + [line for _colour, line in lines]:
        assert "TOPSECRET" not in text and "\x1b" not in text and "\u202e" not in text
    assert all(line.isprintable() for _colour, line in lines)


def test_page_needs_nothing_else():
    page = r.html(r.build({"a": {"before": result("nsg_rule")}}, run(), NOW))
    for words in ("<script", "<link", "<img", "@import", "url("):
        assert words not in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page and 'name="viewport"' in page


def test_malformed_results():
    for record in (
        {"before": None},
        {"before": []},
        {"before": {"findings": [{"id": "x"}], "remedies": [{}]}},
        {"before": {"findings": None}},
        {"before": {"findings": [{"id": "x", "severity": "odd", "evidence": None, "codes": None}]}, "actions": [{}]},
        {"before": result(), "actions": None, "failures": None, "after": None},
    ):
        report = r.build({"h": record}, run(), NOW)
        r.html(report)
        r.console(report)


def test_thousands_of_hosts():
    bad = {"before": result("agent_service_stopped", "nsg_rule"), "after": result("nsg_rule"), "actions": [action("agent.service")]}
    taken = []
    for number in (500, 2000):
        records = {"h%05d" % n: bad if n % 4 == 0 else {"before": result()} for n in range(number)}
        start = time.perf_counter()
        report = r.build(records, run(), NOW)
        lines = r.console(report)
        assert len(lines) < 200 and "more hosts" in lines[-1][1]
        r.html(report)
        taken.append(time.perf_counter() - start)
    assert taken[1] < taken[0] * 12 + 1
