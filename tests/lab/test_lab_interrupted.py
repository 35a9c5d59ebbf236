# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A package manager that is killed in the middle of the agent's update: seen, finished by the next run, and undone, in every phase."""

import json

import pytest
from conftest import findings, host_of

# Runs on the guest: kills the package manager and its children, once, and says so: when a process of the phase appears, or, without
# words, at once, called by a script of the package.
KILLER = """
import os, signal, sys, time
if os.path.exists("/root/killed") and open("/root/killed").read():
    sys.exit(0)
words, end = sys.argv[1].split(), time.time() + 240
def ancestors(pid):
    while pid > 1:
        with open("/proc/%d/stat" % pid) as stream:
            before, _end, after = stream.read().rpartition(")")
        if before.partition("(")[2] in ("dpkg", "apt-get", "dnf", "zypper", "rpm", "timeout"):
            yield pid
        pid = int(after.split()[1])
def kill(pid, line):
    targets = list(ancestors(pid)) + [pid]
    # With apt-get goes the terminal that it gave its scripts, and with that, by SIGHUP, this process: so it says first what it does.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with open("/root/killed", "w") as stream:
        stream.write(line)
    for target in targets:
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            pass
    sys.exit(0)
if not words:
    kill(os.getppid(), "script")
while time.time() < end:
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % name, "rb") as stream:
                line = stream.read().replace(b"\\0", b" ").decode("utf-8", "replace")
            if name.isdigit() and int(name) != os.getpid() and all(word in line for word in words):
                kill(int(name), line)
        except (OSError, ValueError):
            continue
    time.sleep(0.0005)
"""
# Phase of an update by dpkg: what runs in it. Scripts of a package last too short to be watched for, so the shell that runs them is asked.
UNPACK = "dpkg-deb --fsys-tarfile"
DPKG = {
    "f01": "*waagent.prerm upgrade*",
    "f02": "*preinst upgrade*",
    "f03": UNPACK,
    "f04": "*waagent.postrm upgrade*",
    "f05": "*waagent.postinst configure*",
}
# rpm runs the scripts of a package as a file of its own, with the number of versions that will be left.
# One phase on each generation of the RHEL family.
RPM = {"f07": "/var/tmp/rpm-tmp* 2", "f17": "/var/tmp/rpm-tmp* 1"}
SHELL = """#!/usr/bin/dash
case "$*" in {pattern}) python3 /root/killer.py "" ;; esac
exec /usr/bin/dash "$@"
"""


def watch(lab, guest, phase):
    lab("exec", guest, "--", "sh", "-c", "rm -f /root/killed; cat >/root/killer.py <<'END'\n" + KILLER + "\nEND")
    if phase == UNPACK:
        lab("exec", guest, "--", "systemd-run", "--unit=killer", "--collect", "python3", "/root/killer.py", phase)
        return
    shell = SHELL.format(pattern=phase.replace(" ", "\\ "))
    lab.shell(guest, "cat >/usr/bin/sh.new <<'END'\n" + shell + "END\nchmod 755 /usr/bin/sh.new && mv -f /usr/bin/sh.new /usr/bin/sh")


def killed(lab, guest):
    return lab.shell(guest, "cat /root/killed 2>/dev/null || true").strip()


def audit(lab, guest):
    return lab.shell(guest, "dpkg --audit; apt-get check 2>&1 >/dev/null; ls /var/lib/dpkg/updates").strip()


def version(lab, guest):
    return lab.shell(guest, "dpkg-query -W -f '${Version} ${Status}' waagent").strip()


def test_an_update_by_dpkg_that_is_killed_in_each_phase(lab, tmp_path):
    guests = sorted(DPKG)
    lab.plant(dict.fromkeys(guests, "agent_old"))
    before = {guest: version(lab, guest) for guest in guests}
    for guest in guests:
        watch(lab, guest, DPKG[guest])
    arguments = ["-e", "vmbackup_serial=100%"]
    code, output, report = lab.playbook("vmbackup.azure.remediate", guests, tmp_path / "killed", *arguments)
    assert {guest: bool(killed(lab, guest)) for guest in guests} == dict.fromkeys(guests, True), output[-3000:]
    broken = {guest: audit(lab, guest) for guest in guests}
    assert any(broken.values()), "no kill left anything half done"
    for guest in guests:
        host = host_of(report, guest)
        assert host["status"] not in ("repaired", "healthy"), (guest, broken[guest], host)
        ids = [finding["id"] for finding in host["findings"]]
        assert ("agent_package_half_installed" in ids) == ("waagent" in broken[guest]), (guest, broken[guest], ids)

    code, output, report = lab.playbook("vmbackup.azure.remediate", guests, tmp_path / "again", *arguments)
    assert {guest: host_of(report, guest)["status"] for guest in guests} == dict.fromkeys(guests, "repaired"), output[-5000:]
    assert {guest: audit(lab, guest) for guest in guests} == dict.fromkeys(guests, "")
    assert all("install ok installed" in version(lab, guest) and version(lab, guest) != before[guest] for guest in guests)

    code, output, report = lab.playbook("vmbackup.azure.undo", guests, tmp_path / "undo", *arguments)
    assert code == 0, output
    assert {guest: version(lab, guest) for guest in guests} == before
    assert {guest: audit(lab, guest) for guest in guests} == dict.fromkeys(guests, "")


def test_an_update_that_was_killed_is_undone_without_being_finished(lab, tmp_path):
    lab.plant({"f04": "agent_old", "f05": "agent_old"})
    before = version(lab, "f05")
    for guest in ("f04", "f05"):
        watch(lab, guest, DPKG[guest])
    output = lab.playbook("vmbackup.azure.remediate", ["f04", "f05"], tmp_path / "killed", "-e", "vmbackup_serial=100%")[1]
    assert {guest: bool(killed(lab, guest)) for guest in ("f04", "f05")} == {"f04": True, "f05": True}, output[-5000:]
    assert audit(lab, "f05"), output[-5000:]
    code, output, report = lab.playbook("vmbackup.azure.undo", ["f04", "f05"], tmp_path / "undo", "-e", "vmbackup_serial=100%")
    assert code == 0, output
    for guest in ("f04", "f05"):
        assert (version(lab, guest), audit(lab, guest)) == (before, ""), output[-3000:]


def test_two_versions_in_rpms_database(lab, tmp_path):
    """What rpm leaves behind when it is killed between the new version's installation and the old one's removal."""
    lab.plant({"f07": "agent_old_rpm"})
    newest = lab.shell("f07", "ls /srv/packages/rpm/el/WALinuxAgent-*.rpm | sort -V | tail -n 1").strip()
    lab.shell("f07", "rpm --force --nodeps -i " + newest)
    assert len(lab.shell("f07", "rpm -q WALinuxAgent").split()) == 2
    code, output, report = lab.playbook("vmbackup.azure.remediate", ["f07"], tmp_path)
    assert code == 0, output
    assert "agent_package_half_installed" in findings(report, "f07") and host_of(report, "f07")["status"] == "repaired"
    assert len(lab.shell("f07", "rpm -q WALinuxAgent").split()) == 1


@pytest.mark.parametrize("guest", sorted(RPM))
def test_an_update_by_rpm_that_is_killed(lab, tmp_path, guest):
    lab.plant({guest: "agent_old_rpm"})
    newest = lab.shell(guest, "ls /srv/packages/rpm/el/WALinuxAgent-*.rpm | sort -V | tail -n 1").strip()
    watch(lab, guest, RPM[guest])
    lab.playbook("vmbackup.azure.remediate", [guest], tmp_path / "killed")
    assert killed(lab, guest)
    code, output, report = lab.playbook("vmbackup.azure.remediate", [guest], tmp_path / "again")
    assert code == 0, output + json.dumps(host_of(report, guest))
    assert lab.shell(guest, "rpm -q WALinuxAgent").split() == [newest.rpartition("/")[2][: -len(".rpm")]]
    assert lab.shell(guest, "rpm -V WALinuxAgent | grep -v ' c ' || true").strip() == ""
