# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""Ratios from one run over the same guests: bench.py INVENTORY [ROUNDS]. The commands of a pair take turns, since machines are noisy."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = "healthy"
WINDOWS = "healthy_windows"
LAB = os.path.join(HERE, "..", "lab", "lab")
ROUTES, LOOPED = 1000, int(os.environ.get("BENCH_LOOPED") or 100)


def timed(command, env):
    started = time.monotonic()
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit("{0} ended with {1}:\n{2}".format(" ".join(command), done.returncode, done.stdout[-3000:]))
    return time.monotonic() - started


def compare(title, ours, theirs, rounds, target, env):
    for command in (ours, theirs):  # connections open, caches warm
        timed(command, env)
    pairs = [(timed(ours, env), timed(theirs, env)) for _round in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    middle = statistics.median(ratios)
    print(title)
    print("  ours {0:.2f} s, theirs {1:.2f} s (medians of {2})".format(*(statistics.median(p[i] for p in pairs) for i in (0, 1)), rounds))
    print(
        "  ratio {0:.2f} ({1:.2f} to {2:.2f}), target at most {3}: {4}".format(
            middle, ratios[0], ratios[-1], target, "met" if middle <= target else "MISSED"
        )
    )
    return middle


def said(title, ours, theirs, ratio, target):
    print(title)
    print("  ours {0:.2f} s, theirs {1:.2f} s".format(ours, theirs))
    print("  ratio {0:.3f}, target at most {1}: {2}".format(ratio, target, "met" if ratio <= target else "MISSED"))


def routes_book(inventory, book, directory, way, count):
    """Return the command that adds routes; they come from a file, since computing them in Jinja would be what is measured."""
    path = os.path.join(directory, "routes-{0}.json".format(count))
    with open(path, "w") as stream:
        json.dump({"bench_routes": ["100.{0}.{1}.0/24".format(64 + n // 250, n % 250) for n in range(count)]}, stream)
    return ["ansible-playbook", "-i", inventory, os.path.join(HERE, book), "-e", "@" + path, "-e", "bench_way=" + way]


def linux_routes(inventory, directory, env):
    """1,000 routes in one call, under a guard and confirmed, to a loop of tasks that call ip."""

    def book(way, count=ROUTES):
        return routes_book(inventory, "routes_linux.yml", directory, way, count) + ["-e", "bench_guest=f09"]

    subprocess.run([LAB, "reset", "f09"], stdout=subprocess.DEVNULL, check=True)
    subprocess.run([LAB, "wait-ready", "f09"], stdout=subprocess.DEVNULL, check=True)
    timed(book("none"), env)
    empty = timed(book("none"), env)
    ours = timed(book("call"), env)
    own = ours - empty
    print("{0} routes in one call on Linux, with guard and confirmation".format(ROUTES))
    print("  {0:.2f} s beyond a playbook that pings ({1:.2f} s), target at most 2: {2}".format(own, empty, "met" if own <= 2 else "MISSED"))
    subprocess.run([LAB, "reset", "f09"], stdout=subprocess.DEVNULL, check=True)
    looped = timed(book("loop", LOOPED), env)
    title = "{0} routes in one call to ip in a loop of tasks ({1} routes took {2:.0f} s, scaled to {0})".format(ROUTES, LOOPED, looped)
    said(title, ours, looped * ROUTES / LOOPED, ours * LOOPED / (looped * ROUTES), 0.02)


def windows(inventory, directory, rounds, env):
    lacks = subprocess.run([LAB, "lacks", "windows"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if lacks:
        print("SKIPPED Windows: " + lacks)
        return
    adhoc = ["ansible", "-i", inventory, WINDOWS, "-m"]
    compare(
        "diagnose to win_ping on Windows (ad hoc)",
        adhoc + ["vmbackup.azure.diagnose"],
        adhoc + ["ansible.windows.win_ping"],
        rounds,
        1.5,
        env,
    )
    subprocess.run([LAB, "reset", "w01"], stdout=subprocess.DEVNULL, check=True)
    ours = timed(routes_book(inventory, "routes.yml", directory, "call", ROUTES), env)
    subprocess.run([LAB, "reset", "w01"], stdout=subprocess.DEVNULL, check=True)
    looped = timed(routes_book(inventory, "routes.yml", directory, "loop", LOOPED), env)
    theirs = looped * ROUTES / LOOPED
    title = "{0} routes in one call to ansible.windows.win_route in a loop ({1} routes took {2:.0f} s, scaled to {0})".format(
        ROUTES, LOOPED, looped
    )
    said(title, ours, theirs, ours / theirs, 0.02)


def main():
    inventory = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    env = dict(os.environ, ANSIBLE_HOST_KEY_CHECKING="true")
    names = subprocess.run(
        ["ansible", "-i", inventory, HOSTS, "--list-hosts"], env=env, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    print("Guests: {0}".format(" ".join(names.split("\n")[1:]).strip()))
    adhoc = ["ansible", "-i", inventory, HOSTS, "-m"]
    compare("diagnose to ping (ad hoc)", adhoc + ["vmbackup.azure.diagnose"], adhoc + ["ansible.builtin.ping"], rounds, 1.5, env)
    with tempfile.TemporaryDirectory() as directory:
        remediate = ["ansible-playbook", "-i", inventory, "vmbackup.azure.remediate", "-e", "vmbackup_hosts=" + HOSTS,
                     "-e", "vmbackup_report_dir=" + directory]  # fmt: skip
        stock = ["ansible-playbook", "-i", inventory, os.path.join(HERE, "stock.yml"), "-e", "bench_hosts=" + HOSTS]
        title = "remediate on healthy guests to a playbook of stock modules with the same checks"
        compare(title, remediate, stock, max(2, rounds // 2), 0.15, env)
        linux_routes(inventory, directory, env)
        windows(inventory, directory, rounds, env)


if __name__ == "__main__":
    main()
