# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All areas of a Linux guest in one pass; what waits (endpoints, mounts, processor window) waits at the same time."""

import time

from ansible_collections.vmbackup.azure.plugins.module_utils.facts import AREAS, SCHEMA_VERSION, WINDOWS_AREAS, areas
from ansible_collections.vmbackup.azure.plugins.module_utils.linux import (
    agent,
    dhcp,
    extension,
    firewall,
    load,
    mounts,
    probes,
    proxy,
    routes,
    system,
)
from ansible_collections.vmbackup.azure.plugins.module_utils.linux.host import Host, iso


def guarded(host, area, what, function, *arguments):
    """Call a reader; what it did not foresee becomes an entry in errors, and the other readers go on."""
    try:
        return function(*arguments)
    except Exception as error:  # null plus a reason, never a failed run
        host.error(area, what, "{0}: {1}".format(type(error).__name__, error))
        return None


def resolvers(host):
    text = host.read("network", "/etc/resolv.conf") or ""
    return [line.split()[1] for line in text.split("\n") if line.startswith("nameserver") and len(line.split()) > 1]


def storage_name(options, agent_log):
    if options["storage_endpoint"]:
        return options["storage_endpoint"]
    names = probes.storage_names(agent_log)
    return names[0] if names else None


def network(host, context, options, started):
    """Return the facts of the network; started are the probes that have been running since the beginning."""
    primary, to_host = context["routes"]
    configuration = (context["agent"] or {}).get("config") or {}
    through, port = (agent.setting(configuration, "HttpProxy." + key, None) for key in ("Host", "Port"))
    started["proxy"] = None
    if through and port and "/" not in through and 0 < port < 65536:
        started["proxy"] = probes.connect(through.rpartition("@")[2], port, options["timeout_s"])
    results = {name: probe.wait() if probe else None for name, probe in started.items()}
    region, cloud = probes.parse_imds(started["imds"].body) if started["imds"].body else (None, None)
    facts_of_agent = context["agent"] or {}
    values = configuration.get("values")
    service = facts_of_agent.get("service") or {}
    daemons = (facts_of_agent.get("processes") or {}).get("daemon") or []
    failed = [name for name in ("wireserver", "hostgaplugin") if results[name]["ok"] is False]
    arguments = (host, primary["interface"], primary["mac"], primary["address"], context["processes"], options["timeout_s"])
    proxies = (host, values, service.get("unit"), context["environment"], daemons[0]["pid"] if daemons else None)
    return {
        "primary": primary,
        "dhcp": guarded(host, "network", "DHCP", dhcp.collect, *arguments),
        "routes": to_host,
        "probes": results,
        "region": region,
        "cloud": cloud,
        "foreign_macs": guarded(host, "network", "MAC addresses", routes.foreign_macs, host),
        "resolvers": resolvers(host),
        "proxy": guarded(host, "network", "proxies", proxy.collect, *proxies),
        "firewall": guarded(host, "network", "packet filter", firewall.collect, host, options["timeout_s"])
        if failed
        else {"agent_rules": None, "drops_root": None},
    }


def collect(options, run_command=None, root="", now=None):
    """Return ``ansible_facts.vmbackup`` of this guest.

    :param options: dictionary with the keys of ``facts.argument_spec()``.
    :param run_command: ``AnsibleModule.run_command``.
    :param root: prefix of every path that is read, for tests.
    :param now: present time in seconds since the epoch, for tests.
    """
    began = time.monotonic()
    host = Host(root, now, run_command)
    wanted = [area for area in areas(options["gather_subset"]) if area not in WINDOWS_AREAS]
    cpu_before = load.cpu_reading(host)
    context = {"system": system.collect(host), "processes": system.processes(host), "agent": None, "environment": []}
    context["agent_log"] = host.tail("agent", agent.LOG_PATH, options["log_bytes"])
    context["mounts"] = mounts.parse_mounts(host.read("load", "/proc/self/mounts"))
    # Children before threads: forking a process that has threads is not safe.
    asking = (
        guarded(host, "load", "ask the file systems", mounts.start, host, context["mounts"], options["timeout_s"])
        if "load" in wanted
        else None
    )
    started = {}
    if "network" in wanted:
        context["routes"] = routes.collect(host)
        name = storage_name(options, context["agent_log"][0])
        started = {
            "wireserver": probes.wireserver(options["timeout_s"]),
            "hostgaplugin": probes.hostgaplugin(options["timeout_s"]),
            "imds": probes.imds(options["timeout_s"]),
            "storage": probes.connect(name, 443, options["timeout_s"]) if name else None,
        }
    result = dict.fromkeys(AREAS)
    # Network needs the unit and the daemon for its proxies, the extension needs Lib.Dir: both come with the agent.
    found = guarded(host, "agent", "agent", agent.collect, host, context, options)
    if found:
        context["agent"], context["environment"] = found
    configuration = (context["agent"] or {}).get("config") or {}
    context["lib_dir"] = str(agent.setting(configuration, "Lib.Dir", "/var/lib/waagent")).rstrip("/")
    context["extension_log_dir"] = str(agent.setting(configuration, "Extension.LogDir", "/var/log/azure")).rstrip("/")
    if "agent" in wanted:
        result["agent"] = context["agent"]
    if "extension" in wanted:
        result["extension"] = guarded(host, "extension", "extension", extension.collect, host, context, options)
    if "network" in wanted:
        result["network"] = guarded(host, "network", "network", network, host, context, options, started)
    if "load" in wanted:
        left = options["cpu_window_ms"] / 1000.0 - (time.monotonic() - began)
        if left > 0:
            time.sleep(left)
        window_ms = int((time.monotonic() - began) * 1000)
        probe = started.get("wireserver")
        result["load"] = {
            "cpu": guarded(host, "load", "processors", load.cpu, host, cpu_before, window_ms),
            "memory": guarded(host, "load", "memory", load.memory, host),
            "pressure": guarded(host, "load", "pressure", load.pressure, host),
            "filesystems": guarded(host, "load", "file systems", mounts.finish, host, asking) if asking else None,
            "time": guarded(host, "load", "time", load.time_source, host, context["processes"]),
        }
        if probe and result["load"]["time"]:
            result["load"]["time"]["offset_s"] = probes.clock_offset(probe.date, probe.received)
    result.update(
        schema_version=SCHEMA_VERSION,
        collected_at=iso(host.now),
        duration_ms=int((time.monotonic() - began) * 1000),
        gather_subset=wanted,
        system=context["system"],
        errors=host.errors,
        not_visible=host.not_visible,
    )
    return result
