# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Routes on Linux guests: repaired, kept across a restart of the guest, taken back by the guest when nobody confirms, undone."""

import json
import os
import subprocess
import time

import ansible
import pytest
from conftest import CACHE, findings, host_of

HOST = "168.63.129.16"
CONSENT = ["-e", "vmbackup_allow_routes=true", "-e", "connectivity_confirm_s=60"]
# Towards the controller via an address that nobody has: no answer comes back.
CUT = "routes=10.94.0.1/32 next_hop=10.94.0.250 undo=connectivity.route"


def routes_of(lab, guest, prefix=HOST):
    return lab.shell(guest, "ip -4 route show {0}".format(prefix)).strip()


def module(lab, guest, arguments, *more):
    """Call routes alone; return (whether it succeeded, its output)."""
    done = lab.ansible("ansible", guest, "-m", "vmbackup.azure.routes", "-a", arguments, *more)
    return done.returncode == 0, done.stdout


def fresh(lab, guest):
    """Start a guest anew; its first backup is over then."""
    lab("reset", guest)
    lab("wait-ready", guest)


def restart(lab, *guests):
    """Restart guests, and wait until ssh answers."""
    subprocess.run(["podman", "restart", "--time", "5"] + ["vmbackup-lab-" + guest for guest in guests], check=True, capture_output=True)
    lab("up", *guests)


def until(look, seconds):
    """Wait until a look is true; return how long that took."""
    began = time.monotonic()
    while not look():
        assert time.monotonic() - began < seconds, "not within {0} s".format(seconds)
        time.sleep(1)
    return time.monotonic() - began


# A hardened guest gives what root makes to nobody else; systemd-networkd is a user of its own.
# systemd-networkd waits for udev where /sys can be written, as it can in a privileged container and where no udev runs.
NETWORKD = """
printf 'Defaults umask=0077, umask_override\\n' >/etc/sudoers.d/umask
mkdir -p /etc/systemd/network /etc/systemd/system/systemd-networkd.service.d
printf '[Match]\\nName=eth0\\n\\n[Network]\\nDHCP=ipv4\\n' >/etc/systemd/network/10-eth0.network
printf '[Service]\\nExecStartPre=+/bin/mount -o remount,ro /sys\\n' >/etc/systemd/system/systemd-networkd.service.d/lab.conf
ifdown --force eth0; systemctl disable --now networking.service
systemctl daemon-reload; systemctl enable --now systemd-networkd.service
for _try in $(seq 30); do ip -4 route show default | grep -q via && exit 0; sleep 1; done; exit 1
"""


def test_routes_are_kept_by_systemd_networkd(lab):
    fresh(lab, "f13")
    lab.shell("f13", NETWORKD)
    fine, output = module(lab, "f13", "routes=203.0.113.0/24,198.51.100.0/24 undo=connectivity.azure_routes confirm_s=60")
    kept = "/etc/systemd/network/10-eth0.network.d/vmbackup-azure.conf"
    assert fine and kept in output and '"confirmed": true' in output, output
    restart(lab, "f13")
    until(lambda: "proto static" in routes_of(lab, "f13", "203.0.113.0/24"), 30)
    fine, output = module(lab, "f13", "routes=203.0.113.0/24 purge=true undo=connectivity.azure_routes confirm_s=60")
    assert fine and routes_of(lab, "f13", "198.51.100.0/24") == "" and "198.51.100.0" not in lab.shell("f13", "cat " + kept), output
    fine, output = module(lab, "f13", "routes=203.0.113.0/24 purge=true")
    assert fine and '"changed": false' in output, output
    done = lab.ansible("ansible", "f13", "-m", "vmbackup.azure.undo")
    assert done.returncode == 0 and routes_of(lab, "f13", "203.0.113.0/24") == "", done.stdout
    assert "gone" in lab.shell("f13", "ls /etc/systemd/network/*.d 2>/dev/null || echo gone")


def test_routes_of_both_families_are_kept_where_netplan_describes_the_network(lab):
    """The file of systemd-networkd lies below /run there; netplan writes it anew at each start."""
    fresh(lab, "np1")
    described = lab.shell("np1", "cat /etc/netplan/*")
    for arguments in ("routes=203.0.113.0/24", "routes=2001:db8:77::/48 next_hop=fd00:94::1"):
        fine, output = module(lab, "np1", arguments + " undo=connectivity.azure_routes confirm_s=60")
        assert fine and '"confirmed": true' in output and "10-netplan-eth0.network.d/vmbackup-azure.conf" in output, output
    assert "via fd00:94::1 dev eth0 proto static" in lab.shell("np1", "ip -6 route show 2001:db8:77::/48")
    fine, output = module(lab, "np1", "routes=2001:db8:78::/48 next_hop=2001:db8::1")
    assert not fine and "2001:db8::1 is in no network of" in output, output
    restart(lab, "np1")
    for look in ("ip -4 route show 203.0.113.0/24", "ip -6 route show 2001:db8:77::/48"):
        until(lambda: "proto static" in lab.shell("np1", look), 30)  # noqa: B023
    lab.shell("np1", "netplan generate && networkctl reload")
    until(lambda: "proto static" in lab.shell("np1", "ip -6 route show 2001:db8:77::/48"), 30)
    fine, output = module(lab, "np1", "routes=2001:db8:77::/48 next_hop=fd00:94::1")
    assert fine and '"changed": false' in output, output
    assert lab.ansible("ansible", "np1", "-m", "vmbackup.azure.undo").returncode == 0
    assert lab.shell("np1", "ip -4 route; ip -6 route; ls -R /etc/systemd/network").count("proto static") == 0
    assert "vmbackup" not in lab.shell("np1", "ls -R /etc/systemd/network") and lab.shell("np1", "cat /etc/netplan/*") == described


@pytest.mark.parametrize(
    "file_, words",
    [("/etc/sysconfig/network/ifcfg-eth0", "wicked has it"), ("/etc/sysconfig/network-scripts/ifcfg-eth0", "network scripts")],
)
def test_routes_that_cannot_be_kept_are_set_for_now_and_said(lab, file_, words):
    """As SUSE's wicked and the network scripts of older releases leave it, neither of which Debian has."""
    lab("up", "f12")
    lab.shell(
        "f12",
        "sed -i /eth0/d /run/network/ifstate; mkdir -p $(dirname {0}); echo BOOTPROTO=dhcp >{0}; echo keep >$(dirname {0})/route-eth0".format(
            file_
        ),
    )
    fine, output = module(lab, "f12", "routes=203.0.113.0/24 undo=connectivity.route confirm_s=60")
    assert fine and "not kept across a restart, since" in output and words in output and '"kept_in": []' in output, output
    assert "proto static" in routes_of(lab, "f12", "203.0.113.0/24")
    assert lab.shell("f12", "cat $(dirname {0})/*".format(file_)) == "BOOTPROTO=dhcp\nkeep\n"
    assert lab.ansible("ansible", "f12", "-m", "vmbackup.azure.undo").returncode == 0 and routes_of(lab, "f12", "203.0.113.0/24") == ""
    lab.shell("f12", "rm -r /etc/sysconfig; echo eth0=eth0 >>/run/network/ifstate")


PROFILE = "/etc/NetworkManager/system-connections/eth0.nmconnection"


def test_routes_are_kept_by_networkmanager(lab, tmp_path):
    fresh(lab, "nm1")
    code, output, report = lab.playbook("vmbackup.azure.diagnose", ["nm1"], tmp_path)
    assert code == 0 and findings(report, "nm1") == {}, output
    before = lab.shell("nm1", "cat " + PROFILE)
    fine, output = module(lab, "nm1", "routes=203.0.113.0/24,198.51.100.0/24 undo=connectivity.azure_routes confirm_s=60")
    assert fine and PROFILE in output and '"confirmed": true' in output, output
    assert lab.shell("nm1", "stat -c %a " + PROFILE).strip() == "600"
    restart(lab, "nm1")
    until(lambda: "proto static" in routes_of(lab, "nm1", "203.0.113.0/24"), 30)
    fine, output = module(lab, "nm1", "routes=203.0.113.0/24 purge=true undo=connectivity.azure_routes confirm_s=60")
    assert fine and routes_of(lab, "nm1", "198.51.100.0/24") == "" and "198.51.100.0" not in lab.shell("nm1", "cat " + PROFILE), output
    fine, output = module(lab, "nm1", "routes=203.0.113.0/24 purge=true")
    assert fine and '"changed": false' in output, output
    done = lab.ansible("ansible", "nm1", "-m", "vmbackup.azure.undo")
    assert done.returncode == 0 and lab.shell("nm1", "cat " + PROFILE) == before and "203.0.113" not in lab.shell("nm1", "ip route"), (
        done.stdout
    )


def test_a_table_with_a_name_is_written_and_kept_by_its_number(lab):
    fresh(lab, "np1")
    lab.shell("np1", "mkdir -p /etc/iproute2/rt_tables.d; echo 200 eth0-rt >/etc/iproute2/rt_tables.d/lab.conf")
    for table, changed in (("eth0-rt", "true"), ("200", "false")):
        fine, output = module(lab, "np1", "routes=203.0.113.0/24 table={0} undo=connectivity.azure_routes confirm_s=60".format(table))
        assert fine and '"changed": {0}'.format(changed) in output, output
    assert lab.shell("np1", "ip -4 route show table 200") != "" and "Table=200" in lab.shell("np1", "cat /etc/systemd/network/*.d/*")
    restart(lab, "np1")
    until(lambda: "203.0.113.0/24" in lab.shell("np1", "ip -4 route show table 200"), 30)
    assert lab.ansible("ansible", "np1", "-m", "vmbackup.azure.undo").returncode == 0
    assert lab.shell("np1", "ip -4 route show table 200 2>/dev/null || true") == ""


def test_storage_is_routed_past_a_forced_tunnel(lab, tmp_path):
    lab.plant({"f12": "forced_tunnel"})
    wanted = CONSENT + ["-e", '{"connectivity_prefixes": ["10.94.0.3/32"]}']
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f12"], tmp_path / "real", *wanted)
    assert code == 0 and host_of(report, "f12")["status"] == "repaired", output[-4000:]
    assert list(findings(report, "f12")) == ["storage_unreachable"]
    lab.shell("f12", "bash -c 'exec 3<>/dev/tcp/10.94.0.3/443'")
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f12"], tmp_path / "again", *wanted)
    assert code == 0 and "changed=0" in output
    restart(lab, "f12")
    until(lambda: "proto static" in routes_of(lab, "f12", "10.94.0.3/32"), 30)
    code, output, report = lab.playbook("vmbackup.azure.undo", ["f12"], tmp_path / "undo")
    assert code == 0 and routes_of(lab, "f12", "10.94.0.3/32") == "", output[-3000:]


def test_a_change_that_cuts_the_guest_off_is_taken_back_by_it_and_reported(lab):
    fresh(lab, "f10")
    began = time.monotonic()
    fine, output = module(lab, "f10", CUT + " confirm_s=20", "-e", "ansible_timeout=5")
    assert not fine and ("did not answer over a new connection" in output or "put the former state back" in output), output
    until(lambda: routes_of(lab, "f10", "10.94.0.1") == "", 45)
    assert time.monotonic() - began < 90
    fine, output = module(lab, "f10", "confirm=connectivity.route")
    assert not fine and "nobody did within 20 s; the guest put the former state back" in output, output
    assert lab.shell("f10", "ls /etc/network/if-up.d | grep vmbackup || true").strip() == ""
    assert lab.ansible("ansible", "f10", "-m", "ping").returncode == 0


# Runs in the guest: routes under a guard of three seconds that nobody confirms, killed at random moments, every other one after the guard began
# to wait. Prints what was seen.
KILLS = 10
KILLED = """
import glob, json, os, random, subprocess, sys, time
CALL = '''
import sys
from ansible.module_utils import basic
from ansible_collections.vmbackup.azure.plugins.modules import routes
basic._ANSIBLE_PROFILE = "legacy"
routes.main()
'''
KEPT = "/etc/network/if-up.d/vmbackup-azure-routes-eth0"
def look():
    shown = subprocess.run(["ip", "-4", "route"], stdout=subprocess.PIPE, universal_newlines=True).stdout.splitlines()
    return sorted(line.split()[0] for line in shown if "proto static" in line), open(KEPT).read()
def guards():
    shown = subprocess.run(["systemctl", "list-units", "--plain", "--no-legend", "vmbackup-guard-2*"], stdout=subprocess.PIPE)
    return shown.stdout.decode().split()
def call(kill_after, guarded=False):
    options = {"routes": sys.argv[2].split(","), "purge": True, "undo": "connectivity.route", "confirm_s": 3}
    environment = dict(os.environ, PYTHONPATH="/root/killed")
    process = subprocess.Popen([sys.executable, "-c", CALL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True)
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
    process.stdin.close()
    began = time.time()
    while guarded and process.poll() is None and not glob.glob("/run/systemd/transient/vmbackup-guard-2*.timer"):
        time.sleep(0.005)
    kill_at = time.time() + kill_after
    while process.poll() is None and time.time() < kill_at:
        time.sleep(0.005)
    killed = process.poll() is None
    if killed:
        os.killpg(process.pid, 9)
    process.wait()
    took, at_once, waits = time.time() - began, look(), bool(guards())
    while guards() and time.time() < began + 60:
        time.sleep(0.2)
    return {"killed": killed, "at_once": at_once, "waits": waits, "afterwards": look(), "took": took}
chance, kills, before, rounds = random.Random(13), int(sys.argv[1]), look(), 0
seen = [call(60)]
whole = seen[0]["took"]
def enough():
    cut = [one for one in seen if one["killed"]]
    return len(cut) >= kills and len({one["waits"] for one in cut}) == 2 and any(one["at_once"] != before for one in cut)
while not enough() and rounds < 4 * kills:
    rounds += 1
    guarded = bool(rounds % 2)
    seen.append(call(chance.uniform(0, 0.4 if guarded else 0.6) * whole, guarded))
    whole *= 1.0 if seen[-1]["killed"] else 0.8
print(json.dumps({"before": before, "seen": seen}))
"""


def test_a_change_that_is_killed_at_random_moments_is_taken_back_by_its_guard(lab):
    fresh(lab, "f11")
    stays, comes = ["198.18.{0}.0/24".format(number) for number in range(20)], ["198.19.{0}.0/24".format(number) for number in range(20)]
    fine, output = module(lab, "f11", "routes={0} undo=connectivity.route confirm_s=60".format(",".join(stays + comes[:10])))
    assert fine and '"confirmed": true' in output, output
    copied = {
        os.path.dirname(ansible.__file__): "ansible",
        os.path.join(CACHE, "collections", "ansible_collections"): "ansible_collections",
    }
    lab.shell("f11", "mkdir -p /root/killed")
    for source, name in copied.items():
        subprocess.run(["podman", "cp", source, "vmbackup-lab-f11:/root/killed/" + name], check=True, capture_output=True)
    wanted = ",".join(stays + comes[10:])
    said = json.loads(lab("exec", "f11", "--", "python3", "-c", KILLED, str(KILLS), wanted).strip().split("\n")[-1])
    former, seen = said["before"], said["seen"]
    assert set(former[0]) == set(stays + comes[:10])
    assert sum(one["killed"] for one in seen) >= KILLS, seen
    assert {True, False} == {one["waits"] for one in seen if one["killed"]}, "no kill came while a guard waited, or none before"
    assert any(one["killed"] and one["at_once"] != former for one in seen), "no kill came after something was written"
    for one in seen:
        assert set(stays) <= set(one["at_once"][0]), "a route that every call wants was lost"
        assert one["afterwards"] == former, "what nobody confirmed was not taken back"
    fine, output = module(lab, "f11", "routes={0} purge=true undo=connectivity.route confirm_s=60".format(wanted))
    assert fine and '"confirmed": true' in output, output
    assert set(lab.shell("f11", "ip -4 route | grep 'proto static' | cut -d' ' -f1").split()) == set(wanted.split(","))
    fine, output = module(lab, "f11", "routes={0} purge=true undo=connectivity.route confirm_s=60".format(wanted))
    assert fine and '"changed": false' in output, output
    assert lab.ansible("ansible", "f11", "-m", "vmbackup.azure.undo").returncode == 0
    assert lab.shell("f11", "ip -4 route | grep 'proto static' || true") == ""


def test_a_change_that_waits_is_taken_back_by_a_restart_of_the_guest_and_holds_up_the_next(lab):
    fresh(lab, "f11")
    fine, output = module(lab, "f11", "routes=203.0.113.0/24 undo=connectivity.route confirm_s=300 verify=false")
    assert fine and '"token": "' in output, output
    assert "203.0.113.0/24" in lab.shell("f11", "cat /etc/network/if-up.d/vmbackup-azure-routes-eth0")
    for call in ("routes=203.0.113.128/25 undo=connectivity.route confirm_s=300", "routes=203.0.113.128/25"):
        fine, output = module(lab, "f11", call)
        assert fine and '"deferred": true' in output and "waits for its confirmation until" in output, output
    fine, output = module(lab, "f11", "routes=203.0.113.0/24")
    assert fine and '"deferred": true' in output, "what is there may be taken back at any moment: " + output
    fine, output = module(lab, "f11", "routes=203.0.113.0/24 undo=connectivity.route confirm_s=300 verify=false")
    assert fine and '"changed": false' in output and '"token": "' in output, "a call that was made twice can confirm: " + output
    restart(lab, "f11")
    assert routes_of(lab, "f11", "203.0.113.0/24") == ""
    assert lab.shell("f11", "ls /etc/network/if-up.d | grep vmbackup || true; ls /etc/systemd/system | grep guard || true").strip() == ""
    fine, output = module(lab, "f11", "confirm=connectivity.route")
    assert not fine and "the guest restarted before" in output, output
    fine, output = module(lab, "f11", "routes=203.0.113.128/25 undo=connectivity.route confirm_s=60")
    assert fine and '"confirmed": true' in output, output


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("routes=203.0.113.0/24,203.0.113.0/24", "is in routes twice"),
        ("routes=203.0.113.1/24", "203.0.113.0/24 is meant"),
        ("routes=203.0.113.0/24,198.51.100.0/24 next_hop=10.95.0.1", "is in no network of"),
        ("routes=203.0.113.0/24 confirm_s=60", "needs undo"),
        ("routes=203.0.113.0/24 table=eth0-rt", "table eth0-rt is no number, and no rt_tables of this guest"),
        ("routes=", "give at least one prefix"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_half_done(lab, arguments, words):
    lab("up", "f12")
    before = lab.shell("f12", "ip route; ls -A /var/lib/vmbackup_azure 2>/dev/null || true")
    fine, output = module(lab, "f12", arguments)
    assert not fine and words in output and "Traceback" not in output, output
    assert lab.shell("f12", "ip route; ls -A /var/lib/vmbackup_azure 2>/dev/null || true") == before
