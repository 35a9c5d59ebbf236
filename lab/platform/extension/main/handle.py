#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Stand-in for the snapshot extension VMSnapshotLinux: freezes nothing and snapshots nothing.

It leaves behind what the real one leaves: status files, the last sequence number, log lines, and a daemon while a "snapshot" runs.
What to report comes in the public settings under "standIn", where the platform stand-in puts it. Runs on Python 3.6 and newer.
"""

import calendar
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time

NAME = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)

# What the log says for a code, as far as the words are known.
PHRASES = {
    11: ["taking snapshot failed as blobs are empty or none"],
    15: ["Failed to call http with error"],
    16: ["unable to load certificate", "JSON exception decoding decrypted protected settings"],
    76: ["snapshot HttpCallGetResponse failed", "Enable failed with FailedRetryableSnapshotFailedNoNetwork error"],
    85: ["The snapshot count against this blob has been exceeded"],
    121: ["T:S freeze, timeout value 60", "Failed to FIFREEZE: /data", "freeze failed for some mount"],
    122: ["T:S freeze, timeout value 60", "freeze took longer than timeout", "freeze timed-out"],
    123: ["T:S freeze, timeout value 60", "Failed to open: /mnt/share", "file open failed for some mount"],
    124: ["safefreeze binary is missing"],
    173: ["The rate of snapshot blob calls is exceeded"],
    402: ["CRP timeout limit has reached, will not take snapshot."],
    761: ["snapshot HttpCallGetResponse failed"],
}
UNHEALTHY = {15: 256, 76: 256, 85: 256, 402: 256, 761: 256}
HEALTHY = (0, 1, 2, 3, 4, 12, 17, 173)


class Run:
    """One run of the handler: where its folders are, what was asked, what time it pretends to be."""

    def __init__(self):
        with open(os.path.join(ROOT, "HandlerEnvironment.json")) as source:
            environment = json.load(source)[0]["handlerEnvironment"]
        self.config, self.status, self.logs = (
            environment["configFolder"],
            environment["statusFolder"],
            environment["logFolder"],
        )
        numbers = [int(name[:-9]) for name in os.listdir(self.config) if re.match(r"\d+\.settings$", name)]
        asked = os.environ.get("ConfigSequenceNumber", "")  # noqa: SIM112  (the agent spells it so)
        self.sequence = int(asked) if asked.isdigit() else max(numbers or [-1])
        self.settings, self.wish = {}, {}
        if self.sequence >= 0:
            with open(os.path.join(self.config, "%d.settings" % self.sequence)) as source:
                self.settings = json.load(source)["runtimeSettings"][0]["handlerSettings"].get("publicSettings") or {}
            self.wish = self.settings.get("standIn") or {}
        self.shift = float(self.wish.get("started_ago_s") or 0)

    def now(self):
        return time.time() - self.shift

    def log(self, *lines):
        if not os.path.isdir(self.logs):
            os.makedirs(self.logs)
        with open(os.path.join(self.logs, "extension.log"), "a") as target:
            for line in lines:
                stamp = datetime.datetime.utcfromtimestamp(self.now()).strftime("%Y-%m-%d %H:%M:%S.%f")
                target.write("%s [%s-1.0]%s\n" % (stamp, NAME, line))

    def report(self, code, message):
        """Write the status file. The outer status is "success" whatever happened: the real one does that too."""
        now = self.now()
        ticks = str(621355968000000000 + int(now * 10000000))
        message = json.dumps({"messageStr": message, "snapshotConsistency": 0, "jobMessage": "", "isSizeComputationFailed": False})
        failed = code not in (0, 1, 3, 4, 14)
        inner = {
            "status": {
                "status": "error" if failed else "success",
                "code": str(code),
                "snapshotInfo": [
                    {
                        "snapshotUri": "https://md-invented.z01.blob.storage.azure.net/disk/abcd?sv=2023-01-03&sr=b&sp=r&sig=aW52ZW50ZWQ%3D",
                        "errorMessage": message if failed else "",
                        "isSuccessful": "false" if failed else "true",
                    }
                ],
                "name": NAME,
                "commandStartTimeUTCTicks": ticks,
                "taskId": self.settings.get("taskId"),
                "formattedMessage": {"lang": "en-US", "message": message},
                "uniqueMachineId": "9f2c9f86-0000-4000-8000-000000000000",
                "vmHealthInfo": {
                    "vmHealthStatusCode": code,
                    "vmHealthState": UNHEALTHY.get(code, 0 if code in HEALTHY else 128),
                },
                "storageDetails": {
                    "totalUsedSizeInBytes": 1234567168,
                    "partitionCount": 1,
                    "isSizeComputationFailed": False,
                    "isStoragespacePresent": False,
                },
                "telemetryData": [
                    {"Key": "kernelVersion", "Value": platform.release()},
                    {"Key": "extensionVersion", "Value": os.path.basename(ROOT).rpartition("-")[2]},
                    {"Key": "pythonVersion", "Value": platform.python_version()},
                    {"Key": "snapshotCreator", "Value": "backupHostService"},
                    {"Key": "hostStatusCodePreSnapshot", "Value": "555" if code == 76 else "200"},
                    {"Key": "hostStatusCodeDoSnapshot", "Value": "555" if code == 76 else "200"},
                ],
                "substatus": [],
                "operation": "Enable",
            },
            "version": "1.0",
            "timestampUTC": "@date@",
        }
        text = json.dumps([inner]).replace("@date@", "\\/Date(%d)\\/" % int(now * 1000))
        outer = dict(inner["status"])
        outer.update(
            status="success",
            code=str(code) if self.wish.get("code_as_text") else code,
            snapshotInfo=None,
            vmHealthInfo=None,
            telemetryData=None,
            substatus=[{"status": "success", "formattedMessage": None, "code": "0", "name": text}],
        )
        stamp = datetime.datetime.utcfromtimestamp(now).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = os.path.join(self.status, "%d.status" % self.sequence)
        if not os.path.isdir(self.status):
            os.makedirs(self.status)
        with open(path + ".new", "w") as target:
            json.dump([{"status": outer, "version": "1.0", "timestampUTC": stamp}], target)
        os.rename(path + ".new", path)
        os.utime(path, (now, now))

    def retire(self):
        """Rename the settings and results of earlier backups as the real one does."""
        for folder, suffix in ((self.config, "settings"), (self.status, "status")):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                found = re.match(r"(\d+)\.%s$" % suffix, name)
                if found and int(found.group(1)) < self.sequence:
                    os.rename(os.path.join(folder, name), os.path.join(folder, "%s_%s" % (found.group(1), suffix)))


def enable(run):
    last = os.path.join(ROOT, "mrseq")
    if os.path.exists(last):
        with open(last) as source:
            if source.read().strip() == str(run.sequence):
                run.log("the sequence number are same, so skip, current:%d" % run.sequence)
                return
    with open(last, "w") as target:
        target.write(str(run.sequence))
    run.log("Enable,transitioning,4,Transitioning state in extension")
    run.report(4, "Transitioning state in extension")
    run.retire()
    with open(os.devnull, "r+b") as nothing:
        subprocess.Popen(
            [os.path.join(HERE, "handle.sh"), "daemon"],
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
            close_fds=True,
            start_new_session=True,
            cwd=ROOT,
        )


# Codes that are in no table of the real one, so that it fails while it writes its status: that says "still running" for ever.
LOST = {556: "FailedHostSnapshotRemoteServerError"}


# Not of the real one: ends a snapshot that is held before its time.
ENOUGH = "/run/lab-snapshot-enough"


def hold(seconds):
    if os.path.exists(ENOUGH):
        os.unlink(ENOUGH)  # meant for an earlier snapshot
    end = time.time() + seconds
    while time.time() < end and not os.path.exists(ENOUGH):
        time.sleep(0.5)


def daemon(run):
    code = int(run.wish.get("code", 1))
    lock = "/etc/azure/MicrosoftRecoverySvcsSafeFreezeLock"
    if not os.path.isdir(lock):
        os.makedirs(lock)
    with open(os.path.join(lock, "SafeFreezeLockFile"), "a"):
        pass
    run.log("starting daemon for taskId %s" % run.settings.get("taskId"))
    if run.wish.get("stuck"):
        run.log("T:S freeze, timeout value 60")
        os._exit(1)  # dies on the way: nobody writes the result any more
    hold(float(run.wish.get("hold_s") or 0))
    if code in PHRASES:
        run.log(*PHRASES[code])
    else:
        run.log("Logs during Freeze Start", "T:S freeze, timeout value 60", "T:S thaw", "Logs during Freeze End")
    if code in LOST:
        run.log(
            "snapshot failed at the host, error %s" % LOST[code],
            "cannot get status report parameters , Exception %d, stack trace: none" % code,
        )
        return
    run.report(code, run.wish.get("message") or "code %d" % code)
    run.log("Enable ended with code %d at %d" % (code, calendar.timegm(time.gmtime())))


def main():
    operation = sys.argv[1].lstrip("-") if len(sys.argv) > 1 else ""
    if operation not in ("enable", "daemon"):
        return
    run = Run()
    (enable if operation == "enable" else daemon)(run)


if __name__ == "__main__":
    main()
