# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The agent's service, under whichever init runs."""

import re

from ansible_collections.vmbackup.azure.plugins.module_utils._redact import redact
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_int, epoch, iso

# In the order in which they are to be looked for; the last is the name of the oldest Debian packages.
UNITS = ("walinuxagent.service", "waagent.service", "azurelinuxagent.service")
PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,DropInPaths,Restart,RestartUSec,Result,NRestarts,ConditionResult,"
    "ConditionTimestamp,MainPID,ExecMainStatus,ExecStart,ActiveEnterTimestamp,InactiveEnterTimestamp,Environment,"
    "EnvironmentFiles,StartLimitBurst,StartLimitIntervalUSec,Type"
)
_CONDITION = re.compile(r"^\s*(Condition[A-Za-z]+)\s*=\s*(.*)$")
_PATH_OF_EXEC = re.compile(r"argv\[\]=([^;]*)")


def parse_show(text):
    """Return one dictionary of properties per unit from the output of ``systemctl show``."""
    units = []
    for block in re.split(r"\n\s*\n", (text or "").strip()):
        values = {}
        for line in block.split("\n"):
            key, separator, value = line.partition("=")
            if separator:
                key, value = key.strip(), value.strip()
                # A unit with several files has a line for each.
                key = "EnvironmentFiles" if key == "EnvironmentFile" else key  # as systemd before 231 prints it
                values[key] = values[key] + " " + value if key == "EnvironmentFiles" and key in values else value
        if values:
            units.append(values)
    return units


def choose(units):
    """Return the properties of the agent's unit: a loaded one first, a masked one next, else None."""
    for state in ("loaded", "masked", "bad-setting", "error"):
        for name in UNITS:
            for values in units:
                if values.get("Id") == name and values.get("LoadState") == state:
                    return values
    return None


def _yes(value):
    return {"yes": True, "no": False}.get(value)


def parse_date(text):
    """Return the seconds since the epoch of ``Sat 2026-11-21 09:08:50 UTC``; other zones are not known and give None."""
    found = re.match(r"^[A-Z][a-z]{2} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)$", text or "")
    return epoch(found.group(1)) if found else None


def start_limit_hit(values):
    """Say whether systemd gave up starting the unit again.

    The result stays that of the last failure, so a unit that systemd should have restarted, and did before, counts too.
    """
    if values.get("Result") == "start-limit-hit":
        return True
    failed = values.get("ActiveState") == "failed"
    return (
        failed
        and values.get("Restart") in ("always", "on-failure", "on-abnormal", "on-abort")
        and (as_int(values.get("NRestarts")) or 0) > 0
    )


def conditions(host, paths):
    """Return the conditions that the unit's files set, as (name, argument); an empty argument clears what stood before."""
    found = []
    for path in paths:
        for line in (host.read("agent", path) or "").split("\n"):
            match = _CONDITION.match(line)
            if match:
                name, argument = match.group(1), match.group(2).strip()
                if argument:
                    found.append((name, argument))
                else:
                    found = [pair for pair in found if pair[0] != name]
    return found


def failed_conditions(host, pairs):
    """Return those conditions that do not hold, in words, of the kinds that a file can answer."""
    failed = []
    for name, argument in pairs:
        negated = argument.startswith("!")
        path = argument.lstrip("!|")
        if name not in ("ConditionPathExists", "ConditionFileIsExecutable", "ConditionFileNotEmpty"):
            continue
        info = host.stat("agent", path)
        holds = info is not None
        if holds and name == "ConditionFileIsExecutable":
            holds = bool(info.st_mode & 0o111)
        if holds and name == "ConditionFileNotEmpty":
            holds = info.st_size > 0
        if holds == negated:
            failed.append("{0}={1}".format(name, argument))
    return failed


def from_systemd(host, timeout_s):
    """Return the service's facts and its environment from one call of systemctl, (None, []) without an agent unit."""
    text = host.run("agent", ["systemctl", "show", "--no-pager", "--property=" + PROPERTIES] + list(UNITS), timeout_s)
    if text is None:
        return None, []
    units = parse_show(text)
    values = choose(units)
    if values is None:
        return None, []
    fragment = values.get("FragmentPath") or None
    masked = values.get("LoadState") == "masked" or values.get("UnitFileState") in ("masked", "masked-runtime")
    drop_ins = values.get("DropInPaths", "").split()
    condition = _yes(values.get("ConditionResult"))
    if not values.get("ConditionTimestamp"):
        condition = None  # never tried since boot
    pairs = conditions(host, ([fragment] if fragment and not masked else []) + drop_ins)
    argv = _PATH_OF_EXEC.search(values.get("ExecStart", ""))
    service = {
        "manager": "systemd",
        "unit": values.get("Id"),
        "load_state": values.get("LoadState"),
        "active_state": values.get("ActiveState"),
        "sub_state": values.get("SubState"),
        "unit_file_state": values.get("UnitFileState") or None,
        "masked": masked,
        "restart": None if masked else (values.get("Restart") or None),
        "result": values.get("Result") or None,
        "start_limit_hit": start_limit_hit(values),
        "restarts": as_int(values.get("NRestarts")),
        "exit_status": as_int(values.get("ExecMainStatus")),
        "condition_result": condition,
        "conditions_failed": failed_conditions(host, pairs),
        "fragment_path": fragment,
        "drop_ins": drop_ins,
        "exec_start": redact(argv.group(1).strip()) if argv else None,
        "main_pid": as_int(values.get("MainPID")) or None,
        "active_since": iso(parse_date(values.get("ActiveEnterTimestamp"))),
        "candidates": sorted(v["Id"] for v in units if v.get("LoadState") not in (None, "not-found") and "Id" in v),
    }
    environment = [values.get("Environment", "")]
    for path in re.findall(r"(?<!\S)(\S+) \(ignore_errors=", values.get("EnvironmentFiles", "")):
        environment.append(host.read("network", path) or "")
    return service, environment


def from_scripts(host, init, running):
    """Return the service's facts where no systemd runs: what the start script's place and the process list tell."""
    for name in ("walinuxagent", "waagent", "azurelinuxagent"):
        path = {"upstart": "/etc/init/{0}.conf"}.get(init, "/etc/init.d/{0}").format(name)
        if not host.exists("agent", path):
            continue
        text = host.read("agent", path) or ""
        enabled = None
        if init == "sysv":
            enabled = bool(host.glob("/etc/rc[2345].d/S*" + name))
        elif init == "openrc":
            enabled = bool(host.exists("agent", "/etc/runlevels/default/" + name))
        respawns = bool(re.search(r"(?m)^[ \t]*respawn[ \t\r]*$", text)) if init == "upstart" else None
        return {
            "manager": init,
            "unit": name,
            "load_state": "loaded",
            "active_state": "active" if running else "inactive",
            "sub_state": "running" if running else "dead",
            "unit_file_state": None if enabled is None else ("enabled" if enabled else "disabled"),
            "masked": False,
            "restart": {True: "always", False: "no", None: None}[respawns],
            "result": None,
            "start_limit_hit": False,
            "restarts": None,
            "exit_status": None,
            "condition_result": None,
            "conditions_failed": [],
            "fragment_path": path,
            "drop_ins": [],
            "exec_start": None,
            "main_pid": None,
            "active_since": None,
            "candidates": [name],
        }
    return None
