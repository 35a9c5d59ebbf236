# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of one Windows guest share."""

import json
import os
import re
import subprocess

from conftest import LAB, ROOT

LACKS = subprocess.run([LAB, "lacks", "windows"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


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


def said_of(lines):
    """Return {what: value} of the lines "what: value" that a script of the engine printed."""
    return dict(line.split(": ", 1) for line in lines if ": " in line)


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
