# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No text of a guest may hold a run up: one megabyte of anything through every mask and parser, each within a second."""

import random
import sys
import time

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils import _redact as redact
from ansible_collections.vmbackup.azure.plugins.module_utils import _values as values
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import (
    agent,
    conf,
    dhcp,
    extension,
    firewall,
    load,
    logs,
    mounts,
    packages,
    probes,
    proxy,
    routes,
    service,
    system,
)

SIZE = 1 << 20
LIMIT_S = 1.0


def _mixed(alphabet, seed=1):
    rng = random.Random(seed)
    return "".join(rng.choice(alphabet) for _each in range(SIZE))


def _filled(piece):
    return (piece * (SIZE // len(piece) + 1))[:SIZE]


TEXTS = {
    name: _filled(piece)
    for name, piece in {
        "hex": "0123456789abcdef",
        "backslashes": "\\",
        "slashes": "/",
        "letters": "abcdefghij",
        "digits": "0123456789",
        "spaces": " ",
        "quotes": '"',
        "single": "'",
        "equals": "=",
        "at": "@",
        "colons": ":",
        "angles": "<",
        "braces": "{",
        "brackets": "[",
        "dashes": "-",
        "dots": ".",
        "percent": "%2F",
        "commas": ",",
        "hex pairs": "0f:",
        "mac": "00-",
        "addresses": "//a:",
        "urls": "http://a:b/",
        "encoded": "%2f%2fa%3a",
        "names": "a=",
        "keys": 'key="',
        "passwords": "password=,",
        "escaped": '\\"password\\":\\"',
        "pem": "-----BEGIN A-----",
        "tokens": "eyJ-",
        "blobs": "https://a.blob.",
        "bearer": "bearer ",
        "cookies": "Cookie: a=b; cdefg\n",
        "options": "--password ",
        "elements": "<password>",
        "leases": "lease {",
        "expire": "\n expire ",
        "proxies": "HttpProxy.Host",
        "blank lines": "\n",
        "indented": "\n ",
        "returns": "\r\n",
        "aces": "(A;",
        "agents": "WALinuxAgent-1.",
        "versions": "1.",
        "rules": "-A x ",
        "guids": "{0",
        "sizes": "1 ",
        "nul": "\x00",
        "wide": "\u00e9",
    }.items()
}
TEXTS["mixed"] = _mixed("abcdef0123456789\\/ xyzKEYpassword=token\"'=@:<>{}[]%;,.-\n")
TEXTS["mixed in one line"] = _mixed("ab01\\/ =@:<\"'%")
TEXTS["lines of 4 kB"] = "\n".join(["//a:" * 1000] * 256)
TEXTS["lines of hosts"] = "\n".join([",a:b@h:" * 500] * 256)
TEXTS["lines of names"] = "\n".join(["secret='" + "a=" * 2000] * 256)


def lines(function):
    return lambda text: function(text.split("\n"))


def leases(text):
    return dhcp.parse_leases("lease {\n" + text + "\n}\n", "eth0", 0)


PARSERS = {
    "redact": redact.redact,
    "redact_proxy": redact.redact_proxy,
    "redact_proxy_host": redact.redact_proxy_host,
    "public_line": redact.public_line,
    "clip": redact.clip,
    "secret_name": redact.secret_name,
    "conf.mask": conf.mask,
    "conf.shown": conf.shown,
    "conf.read": lambda text: (conf.loose(conf.parse(text)), conf.duplicates(conf.parse(text)), conf.unknown_backup_keys(conf.parse(text))),
    "conf.effective": lambda text: conf.public(conf.effective("HttpProxy.Host=" + text), "HttpProxy.Host=" + text),
    "agent log": lines(lambda rows: logs.verdicts(rows, logs.AGENT_PHRASES)),
    "extension log": lines(lambda rows: logs.verdicts(rows, logs.EXTENSION_PHRASES)),
    "a phrase in it": lambda text: logs.verdicts([text + " Failed to FITHAW: " + text], logs.EXTENSION_PHRASES),
    "heartbeat": lines(lambda rows: agent.heartbeat(rows, 0)),
    "starts": lines(agent.daemon_starts),
    "handler failures": lines(lambda rows: agent.handler_failures(rows, 0)),
    "storage names": lines(probes.storage_names),
    "command line": lambda text: agent.role_of(text.split(" ")),
    "http": lambda text: probes.parse_response(text.encode()),
    "http date": lambda text: probes.clock_offset(text, 0),
    "imds": lambda text: probes.parse_imds(text.encode()),
    "leases": leases,
    "leases without an end": lambda text: dhcp.parse_leases(text, "eth0", 0),
    "networkd lease": dhcp.parse_networkd_lease,
    "nmcli": dhcp.parse_nmcli,
    "option": dhcp.option_bytes,
    "quoted option": lambda text: dhcp.option_bytes('"' + text + '"'),
    "interfaces": lambda text: dhcp.parse_interfaces(text, "eth0"),
    "sections": lambda text: dhcp.networkd_method(dhcp.parse_sections("[Match]\nName=" + text), "eth0", "0"),
    "ifcfg": dhcp.ifcfg_method,
    "macs": routes.parse_macs,
    "routes": routes.parse_routes,
    "iptables": firewall.parse_iptables,
    "nft": firewall.parse_nft,
    "mounts": mounts.parse_mounts,
    "unescape": mounts.unescape,
    "dpkg": lambda text: packages.parse_dpkg_status(text, "waagent"),
    "apt policy": packages.parse_apt_policy,
    "zypper": lambda text: packages.parse_zypper_search(text, "x"),
    "versionlock": lambda text: packages.parse_versionlock(text, "W"),
    "excludes": lambda text: packages.parse_excludes("exclude=" + text, "WALinuxAgent"),
    "locks": lambda text: packages.parse_zypper_locks("solvable_name: " + text, "WALinuxAgent"),
    "show": service.parse_show,
    "date": service.parse_date,
    "os-release": system.parse_os_release,
    "environment": proxy.parse_environment,
    "environ": lambda text: proxy.parse_environ(text.encode()),
    "no_proxy": lambda text: proxy.bypasses(text, "168.63.129.16"),
    "cpu": load.parse_cpu,
    "memory": load.parse_meminfo,
    "pressure": load.parse_pressure,
    "epoch": values.epoch,
    "version": values.version_key,
    "json": values.parse_json,
    "status": lambda text: extension.parse_status(values.parse_json(text)),
    "time": extension.parse_time,
    "vmbackup.conf": extension.parse_vmbackup_conf,
    "directories": lambda text: extension.handler_directories([text]),
    "snapshot processes": lambda text: extension.snapshot_processes([{"pid": 1, "command": ["python3", "VMSnapshotLinux" + text]}]),
}

if sys.version_info >= (3, 10):  # what the controller reads of Windows guests
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import acl, registry, vss
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import firewall as windows_firewall
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import logs as windows_logs
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import probes as windows_probes
    from ansible_collections.vmbackup.azure.plugins.plugin_utils._windows import proxy as windows_proxy

    PARSERS.update(
        {
            "vss writers": vss.parse_writers,
            "vss providers": vss.parse_providers,
            "vss storage": vss.parse_shadow_storage,
            "acl": lambda text: acl.machine_keys("p", "D:" + text),
            "american date": registry.when,
            "firewall rule": lambda text: windows_firewall.blocks_host(windows_firewall.parse_rule(text)),
            "windows log": lines(lambda rows: windows_logs.verdicts(rows, windows_logs.EXTENSION_PHRASES)),
            "windows beat": lines(lambda rows: windows_logs.heartbeat(rows, 0)),
            "windows bypass": lambda text: windows_proxy.bypasses(text, "168.63.129.16"),
            "netsh": windows_proxy.parse_netsh,
            "machine.config": lambda text: windows_proxy.parse_default_proxy("<defaultProxy " + text),
            "windows probe": lambda text: windows_probes.offset({"head": text}),
        }
    )


def slowness():
    """Return how much slower than a quiet core of today this one is at the moment, 1 at least: what two million additions take, against 0.1 s."""
    began, total = time.process_time(), 0
    for number in range(2000000):
        total += number
    return max(1.0, (time.process_time() - began) / 0.1)


def processor_time(parser, text):
    """Return the processor's time that a parser takes on a quiet core; up to eight tries, since a shared core is slower at times."""
    took = []
    while not took or (took[-1] > LIMIT_S and len(took) < 8):
        began = time.process_time()  # what other programs take meanwhile does not count
        parser(text)
        took.append(time.process_time() - began)
        if took[-1] > LIMIT_S:
            took[-1] /= slowness()
    return min(took)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_megabyte_of_anything_takes_no_second(name):
    taken = {kind: round(processor_time(PARSERS[name], TEXTS[kind]), 2) for kind in sorted(TEXTS)}
    assert {kind: took for kind, took in taken.items() if took > LIMIT_S} == {}
