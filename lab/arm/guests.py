# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lab's Linux guests as VMs: their agents are ready when they report to the platform stand-in, and a backup is their own extension's snapshot.

Guests are reached by the lab's command alone, as a person would: lab/lab platform, lab/lab backup.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from . import documents
from .fleet import ERRORS, Fleet

LAB = pathlib.Path(__file__).resolve().parent.parent / "lab"
SUBSCRIPTION = documents.guid("subscription", "lab")
# Seconds after which an agent that reports nothing is not ready any more. Azure waits longer.
STALE_S = 30.0
POLL_S = 3.0
BACKUP_S = 240.0
UNAVAILABLE = ("GuestAgentSnapshotTaskStatusError", "Could not communicate with the VM agent for snapshot status.")
# What Azure calls some of the extension's results.
CODES = {
    76: ("ExtensionSnapshotFailedNoNetwork", "Snapshot operation failed due to no network connectivity on the virtual machine."),
    121: ("UserErrorFsFreezeFailed", "Failed to freeze one or more mount-points of the VM."),
}
OWN = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"


def described() -> dict[str, dict[str, Any]]:
    return {guest["name"]: guest for guest in json.loads((LAB.parent / "guests.json").read_text())["guests"]}


def ask(*words: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(LAB), *words], capture_output=True, text=True, timeout=timeout, check=False)


class Guests:
    """Guests of the lab and the fleet that is made of them.

    failing: {guest: symbol of the error that its last backup failed with}. listed: guests whose backup extension failed and is listed by Azure, as for
    VMs with unmanaged disks. healthy: guests whose backups succeed.
    """

    def __init__(self, failing: dict[str, str], healthy: list[str], listed: list[str]) -> None:
        known = described()
        unknown = [name for name in (*failing, *healthy, *listed) if name not in known]
        if unknown:
            raise ValueError("the lab has no guest {0}".format(", ".join(unknown)))
        self.fleet = Fleet()
        self._names: dict[str, str] = {}
        self._stop = threading.Event()
        self.fleet.subscribe(SUBSCRIPTION, "Lab")
        # No policy is about to start, whatever the time is.
        start = "2023-05-20T{0:02d}:00:00Z".format((self.fleet.now().hour + 12) % 24)
        subnet = self.fleet.add_network(SUBSCRIPTION, "rg-network", "westeurope")
        self.vault = self.fleet.add_vault(SUBSCRIPTION, "rg-backup", "LabVault", "westeurope")
        for policy in self.fleet.of_type("Microsoft.RecoveryServices/vaults/backupPolicies"):
            schedule = policy["properties"]["schedulePolicy"]
            if "scheduleRunTimes" in schedule:
                schedule["scheduleRunTimes"] = [start]
        for name in dict.fromkeys((*failing, *healthy)):
            machine = self.fleet.add_vm(
                SUBSCRIPTION, "rg-lab", name, "westeurope", "linux", subnet, known[name]["address"], agent="not_ready"
            )
            self._names[machine["id"].lower()] = name
            error = next((entry for entry in ERRORS if entry[1] == failing.get(name)), None)
            if name in failing and error is None:
                raise ValueError("the stand-in knows no error {0}; it knows {1}".format(failing[name], ", ".join(e[1] for e in ERRORS)))
            self.fleet.protect(self.vault, machine, error)
            if name in listed:
                self._list_extension(machine)

    def _list_extension(self, machine: dict[str, Any]) -> None:
        """Give a VM unmanaged disks and the extension that Azure lists for those."""
        disk = machine["properties"]["storageProfile"]["osDisk"]
        del disk["managedDisk"]
        disk["vhd"] = {"uri": "https://invented.blob.core.windows.net/vhds/{0}.vhd".format(machine["name"])}
        publisher, _dot, kind = OWN.rpartition(".")
        properties = {"publisher": publisher, "type": kind, "typeHandlerVersion": "1.0", "provisioningState": "Failed"}
        path = machine["id"] + "/extensions/" + kind
        where = {"name": kind, "location": machine["location"], "type": "Microsoft.Compute/virtualMachines/extensions"}
        self.fleet.put({"id": path, **where, "properties": properties})

    # Agents

    def watch(self) -> None:
        """Keep the agents' state up to date in a thread; the first look is done at once."""
        self.refresh()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self.refresh()
            except (OSError, subprocess.SubprocessError, ValueError):
                continue

    def stop(self) -> None:
        self._stop.set()

    def refresh(self) -> None:
        done = ask("platform", *self._names.values())
        decoder, text, position = json.JSONDecoder(), done.stdout, 0
        found = {}
        while position < len(text.rstrip()):
            item, position = decoder.raw_decode(text, position)
            found[item["name"]] = item.get("seen") or {}
            position += len(text[position:]) - len(text[position:].lstrip())
        for id_, name in self._names.items():
            self.fleet.live[id_].update(self._state(found.get(name, {})))

    @staticmethod
    def _state(seen: dict[str, Any]) -> dict[str, Any]:
        if seen.get("agent") != "Ready" or time.time() - float(seen.get("status_at") or 0) > STALE_S:
            return {"agent": "not_ready", "handlers": []}
        handlers = []
        for name, handler in (seen.get("handlers") or {}).items():
            made = documents.handler("linux", handler.get("status") == "Ready", name)
            handlers.append({**made, "typeHandlerVersion": handler.get("version") or made["typeHandlerVersion"]})
        return {"agent": "ready", "handlers": handlers, "agent_version": seen.get("agent_version") or "2.9.1.1"}

    # Backups

    def snapshot(self, vm: str) -> Callable[[], tuple[int, str] | tuple[str, str] | None] | None:
        """Have a guest's extension take a snapshot; return what tells how it ended."""
        name = self._names.get(vm.lower())
        if name is None:
            return None
        results: list[tuple[int, str] | tuple[str, str]] = []

        def take() -> None:
            try:
                done = ask("backup", name, "--timeout", str(BACKUP_S), timeout=BACKUP_S + 30)
            except (OSError, subprocess.SubprocessError):
                results.append(UNAVAILABLE)
                return
            code = re.search(r": code (\d+)", done.stdout)
            number = int(code.group(1)) if done.returncode == 0 and code else None
            if number in (0, 1):
                results.append((1, ""))
            elif number is None:
                results.append(UNAVAILABLE)
            else:
                results.append(CODES.get(number, ("BackUpOperationFailed", "The extension reported code {0}.".format(number))))

        threading.Thread(target=take, daemon=True).start()
        return lambda: results[0] if results else None

    def uninstall(self, vm: str) -> None:
        """Have a guest's agent remove the extension, as Azure does when it is deleted."""
        name = self._names.get(vm.lower())
        if name is not None:
            ask("platform", name, "extension=uninstall")
