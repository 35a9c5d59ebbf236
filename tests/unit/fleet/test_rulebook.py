# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rulebook as ansible-rulebook runs it: an alert over loopback, the filter, a launch that the stand-in of AWX sees."""

import copy
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from alerts import ALERT, ID
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import hosts
from test_awx import CACHE, PLAYBOOKS, Awx

BIN = os.path.join(CACHE, "fleet", "bin")
LACKS = (
    "ansible-rulebook is not set up here (tests/tools/setup.sh fleet)"
    if not os.path.exists(os.path.join(BIN, "ansible-rulebook"))
    else "" if shutil.which("java") else "ansible-rulebook needs a Java runtime, and there is none"
)  # fmt: skip
pytestmark = pytest.mark.skipif(bool(LACKS), reason=LACKS)
TOKEN = "eda-token-5f1e"
WORKFLOW = "vmbackup: diagnose and remediate"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def send(port, alert, token=TOKEN):
    request = urllib.request.Request(
        "http://127.0.0.1:{0}/alerts".format(port), data=json.dumps(alert).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer " + token},
    )  # fmt: skip
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():
                return True
        except OSError:
            pass
        time.sleep(0.3)
    return False


def of(vm):
    alert = copy.deepcopy(ALERT)
    alert["data"]["alertContext"]["linkedResourceId"] = ID.replace("vm-web.01", vm)
    return alert


LIMITS = {"group": lambda vm: hosts.group_of_vm(ID.replace("vm-web.01", vm).lower()), "name": lambda vm: vm}


@pytest.mark.parametrize("limit_by", [None, *LIMITS])
def test_an_alert_starts_the_workflow_once(tmp_path, limit_by):
    awx = Awx(PLAYBOOKS)
    organization = next(iter(awx.store.objects["organizations"]))
    number = awx.store.add("workflow_job_templates", name=WORKFLOW, organization=organization, ask_limit_on_launch=True, survey_enabled=True,
                           allow_simultaneous=True)  # fmt: skip
    question = {"question_name": "Error code", "type": "text", "variable": "vmbackup_error_code", "required": False}
    awx.store.set_survey("workflow_job_templates", number, {"name": "", "description": "", "spec": [question]})
    threading.Thread(target=awx.serve_forever, daemon=True).start()
    port = free_port()
    variables = {"vmbackup_eda_token": TOKEN, "vmbackup_eda_port": port, "vmbackup_eda_host": "127.0.0.1"}
    (tmp_path / "vars.yml").write_text(json.dumps({**variables, **({"vmbackup_eda_limit_by": limit_by} if limit_by else {})}))
    env = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=os.path.join(CACHE, "tree"), PATH=BIN + ":" + os.environ["PATH"], HOME=str(tmp_path))
    log = open(tmp_path / "log", "w+")
    process = subprocess.Popen(
        [os.path.join(BIN, "ansible-rulebook"), "--rulebook", "vmbackup.azure.azure_backup", "--vars", str(tmp_path / "vars.yml"),
         "--controller-url", awx.url + "/", "--controller-token", awx.token, "--verbose"],
        env=env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    jobs = awx.store.objects["workflow_jobs"]

    def said():
        with open(tmp_path / "log") as stream:
            return stream.read()[-4000:]

    try:
        assert wait_for(lambda: send(port, {}) == 200), said()
        assert send(port, of("vm-web.01"), token="wrong") == 401
        for vm in ("vm-web.01", "vm-web.01", "all:!web", "vm-db", "vm-web.01"):
            assert send(port, of(vm)) == 200
        storage = copy.deepcopy(ALERT)
        storage["data"]["alertContext"]["linkedResourceId"] = ID.replace(
            "Microsoft.Compute/virtualMachines", "Microsoft.Storage/storageAccounts"
        )
        assert send(port, storage) == 200
        assert wait_for(lambda: len(jobs) >= 2), said()
        time.sleep(3)
        limits = sorted(LIMITS[limit_by or "group"](vm) for vm in ("vm-db", "vm-web.01"))
        assert sorted(job["limit"] for job in jobs.values()) == limits, said()
        assert {json.loads(job["extra_vars"])["vmbackup_error_code"] for job in jobs.values()} == {"ExtensionSnapshotFailedNoNetwork"}
        assert {job["status"] for job in jobs.values()} == {"running"}, "one waited for the other"
        assert TOKEN not in said() and awx.token not in said()
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()
        awx.shutdown()
        awx.server_close()
