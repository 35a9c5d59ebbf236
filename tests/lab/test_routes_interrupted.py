# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""routes in a network namespace of this machine, without a guest: killed at random moments, and many routes in one call.

The kernel's routes and ip are real; there is no systemd, so no guard puts anything back here.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time

import pytest

SPACE = "vmbackup-routes"
CALL = """
import sys
from ansible.module_utils import basic
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change
from ansible_collections.vmbackup.azure.plugins.modules import routes
basic._ANSIBLE_PROFILE = "legacy"
change.snapshot_runs = lambda module: False  # guests of the lab run on this kernel
routes.main()
"""
STAYS = ["198.18.{0}.0/24".format(number) for number in range(100)]
GOES = ["198.19.{0}.0/24".format(number) for number in range(100)]
COMES = ["203.0.{0}.0/24".format(number) for number in range(100)]
KILLS = 60

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip, for a network namespace of its own")


@pytest.fixture
def space(tmp_path):
    subprocess.run(["ip", "netns", "delete", SPACE], capture_output=True, check=False)
    script = "ip link set lo up; ip link add eth0 type veth peer name p0; ip link set p0 up; ip address add 10.9.0.5/24 dev eth0; "
    script += "ip link set eth0 up; ip route add default via 10.9.0.1; ip route replace blackhole 168.63.129.16/32"
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    subprocess.run(["ip", "netns", "exec", SPACE, "sh", "-ec", script], check=True)
    os.chmod(str(tmp_path), 0o700)
    yield str(tmp_path / "undo")
    subprocess.run(["ip", "netns", "delete", SPACE], check=True)


def start(store, **options):
    process = subprocess.Popen(
        ["ip", "netns", "exec", SPACE, sys.executable, "-c", CALL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": dict(options, store=store)}).encode())
    process.stdin.close()
    return process


def call(store, **options):
    process = start(store, **options)
    out, err = process.stdout.read(), process.stderr.read()
    process.wait()
    assert out, err.decode()
    return json.loads(out.decode().strip().split("\n")[-1])


def there():
    text = subprocess.run(["ip", "netns", "exec", SPACE, "ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in text.splitlines() if "proto static" in line}


def test_killed_at_60_random_moments_no_route_is_lost_and_the_next_run_converges(space):
    chance = random.Random(13)
    began = time.monotonic()
    assert call(space, routes=STAYS + GOES, undo="connectivity.azure_routes")["changed"]
    whole = time.monotonic() - began
    sides, cut, calls = [STAYS + GOES, STAYS + COMES], 0, 0
    while cut < KILLS:
        calls += 1
        assert calls < 4 * KILLS, "most calls were over before they were killed"
        process = start(space, routes=sides[calls % 2], purge=True, undo="connectivity.azure_routes")
        time.sleep(chance.uniform(0.2, 1.1) * whole)
        if process.poll() is None:
            cut += 1
            os.killpg(process.pid, 9)
        else:
            whole *= 0.9  # the machine has become faster
        process.wait()
        now = there()
        assert set(STAYS) <= now, "a route that every call wants was lost at kill {0}".format(cut)
        assert now <= set(STAYS + GOES + COMES)
    done = call(space, routes=STAYS + COMES, purge=True, undo="connectivity.azure_routes")
    assert not done.get("failed"), done
    assert there() == set(STAYS + COMES), "what an ended call added is in no list"
    assert not call(space, routes=STAYS + COMES, purge=True, undo="connectivity.azure_routes")["changed"]


def test_a_thousand_routes_are_one_call_of_two_seconds(space):
    routes = ["100.{0}.{1}.0/24".format(64 + number // 256, number % 256) for number in range(1000)]
    began = time.monotonic()
    assert call(space, routes=routes, undo="connectivity.azure_routes")["changed"]
    seconds = time.monotonic() - began
    assert set(routes) <= there()
    assert not call(space, routes=routes, undo="connectivity.azure_routes")["changed"]
    assert seconds < 2 * (1 + os.getloadavg()[0] / os.cpu_count()), "1,000 routes took {0:.1f} s".format(seconds)


def test_half_of_a_batch_that_the_kernel_refuses_is_taken_back(space):
    subprocess.run(["ip", "netns", "exec", SPACE, "ip", "route", "add", "203.0.113.0/24", "via", "10.9.0.7"], check=True)
    failed = call(space, routes=["198.18.0.0/24"], table="7777777777", undo="connectivity.azure_routes")
    assert failed["failed"] and "ip refused" in failed["msg"] and there() == set(), failed
    assert not os.path.exists(os.path.join(os.path.dirname(space), "routes.json"))
