# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All areas of a Linux guest in one pass; what waits (endpoints, mounts, processor window) waits at the same time."""

import time

from ansible_collections.vmbackup.azure.plugins.module_utils._facts import AREAS, SCHEMA_VERSION, WINDOWS_AREAS, areas
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import (
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
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.child import Child, patiently
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.guest import Guest
from ansible_collections.vmbackup.azure.plugins.module_utils._values import iso


class Steps(object):
    """The collection's larger steps. One that hangs is left behind, so that the others still say why.

    :param deadline: time.monotonic() at which all must be done, None when nobody waits for it.
    :param send: gets what is known so far, piece by piece.
    """

    def __init__(self, host, deadline=None, send=None):
        self.host, self._deadline, self._send = host, deadline, send

    def do(self, area, what, function, *arguments):
        """Return what a reader returns, None with an entry in errors when it fails or does not come back."""
        if self._deadline is None:
            return guarded(self.host, area, what, function, *arguments)
        self._send({"doing": [area, what]})
        # Half of what is left: whatever hangs, something stays for the next one.
        limit = max(0.2, (self._deadline - time.monotonic()) / 2)
        came, value = patiently(lambda: guarded(self.host, area, what, function, *arguments), limit)
        if not came:
            self.host.error(area, what, "no answer within {0:.0f} s; it was left out".format(limit))
        return value

    def keep(self, name, value):
        if self._send:
            # A copy: a step that was left behind may still add to the lists.
            self._send({"name": name, "value": value, "errors": list(self.host.errors), "not_visible": list(self.host.not_visible)})
        return value


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
        name = storage_name(options, context["agent_log"][0])
        started["proxy"] = probes.through(through.rpartition("@")[2], port, name, options["timeout_s"])
    asked = started.pop("imds_network")
    results = {name: probe.wait() if probe else None for name, probe in started.items()}
    asked.wait()
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
        "imds_addresses": probes.parse_imds_network(asked.body, primary["mac"]),
        "region": region,
        "cloud": cloud,
        "foreign_macs": guarded(host, "network", "MAC addresses", routes.foreign_macs, host),
        "resolvers": resolvers(host),
        "proxy": guarded(host, "network", "proxies", proxy.collect, *proxies),
        "firewall": guarded(host, "network", "packet filter", firewall.collect, host, primary["interface"], options["timeout_s"])
        if failed
        else {"agent_rules": None, "drops_root": None, "places": None},
    }


UNKNOWN_SYSTEM = {
    "kind": "linux",
    "distribution": {"id": None, "version_id": None, "id_like": [], "pretty_name": None, "family": None},
    "init": None,
}


def collect(options, run_command=None, root="", now=None, deadline=None, send=None):
    """Return ``ansible_facts.vmbackup`` of this guest.

    :param options: dictionary with the keys of ``facts.argument_spec()``.
    :param run_command: ``AnsibleModule.run_command``.
    :param root: prefix of every path that is read, for tests.
    :param now: present time in seconds since the epoch, for tests.
    :param deadline: time.monotonic() at which the collection must be done; only in a process that may be abandoned.
    :param send: gets what is known so far, in that process.
    """
    began = time.monotonic()
    host = Guest(root, now, run_command)
    steps = Steps(host, deadline, send)
    wanted = [area for area in areas(options["gather_subset"]) if area not in WINDOWS_AREAS]
    cpu_before = load.cpu_reading(host)
    result = dict.fromkeys(AREAS)
    steps.keep("collected_at", iso(host.now))
    steps.keep("gather_subset", wanted)
    mounted = mounts.parse_mounts(host.read("load", "/proc/self/mounts"))
    # Children before threads: forking a process that has threads is not safe.
    asking = guarded(host, "load", "ask the file systems", mounts.start, host, mounted, options["timeout_s"])
    context = {"agent": None, "environment": [], "mounts": mounted}
    # What hangs is known before anything is read that may lie on it.
    answers, host.hung = (guarded(host, "load", "ask the file systems", mounts.answered, asking) if asking else None) or ({}, [])
    context["system"] = steps.keep(
        "system", steps.do("system", "system", system.collect, host) or dict(UNKNOWN_SYSTEM, privileged=host.privileged)
    )
    context["processes"] = steps.do("system", "processes", system.processes, host) or []
    context["agent_log"] = steps.do("agent", "read " + agent.LOG_PATH, host.tail, "agent", agent.LOG_PATH, options["log_bytes"]) or (
        [],
        None,
    )
    started = {}
    if "network" in wanted:
        context["routes"] = steps.do("network", "routes", routes.collect, host) or (routes.unknown(), {})
        name = storage_name(options, context["agent_log"][0])
        started = {
            "wireserver": probes.wireserver(options["timeout_s"]),
            "hostgaplugin": probes.hostgaplugin(options["timeout_s"]),
            "imds": probes.imds(options["timeout_s"]),
            "imds_network": probes.imds_network(options["timeout_s"]),
            "storage": probes.connect(name, 443, options["timeout_s"]) if name else None,
        }
    # Network needs the unit and the daemon for its proxies, the extension needs Lib.Dir: both come with the agent.
    found = steps.do("agent", "agent", agent.collect, host, context, options)
    if found:
        context["agent"], context["environment"] = found
    configuration = (context["agent"] or {}).get("config") or {}
    context["lib_dir"] = str(agent.setting(configuration, "Lib.Dir", "/var/lib/waagent")).rstrip("/")
    context["extension_log_dir"] = str(agent.setting(configuration, "Extension.LogDir", "/var/log/azure")).rstrip("/")
    if "agent" in wanted:
        result["agent"] = steps.keep("agent", context["agent"])
    if "extension" in wanted:
        result["extension"] = steps.keep("extension", steps.do("extension", "extension", extension.collect, host, context, options))
    if "network" in wanted:
        result["network"] = steps.keep("network", steps.do("network", "network", network, host, context, options, started))
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
            "filesystems": steps.do("load", "file systems", mounts.finish, host, asking, answers) if asking else None,
            "time": guarded(host, "load", "time", load.time_source, host, context["processes"], options["timeout_s"]),
        }
        if probe and result["load"]["time"]:
            result["load"]["time"]["offset_s"] = probes.clock_offset(probe.date, probe.received)
        steps.keep("load", result["load"])
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


def collect_within(options, run_command=None, root="", now=None):
    """Return what :func:`collect` returns, after ``deadline_s`` at the latest; what was not done by then is null and named in errors.

    The collector works in a process of its own that is abandoned then: what hangs in the kernel cannot be ended.
    """
    began = time.monotonic()
    limit = options["deadline_s"]

    def work(send):
        facts = collect(options, run_command, root, now, began + limit - min(1.0, limit / 10.0), send)
        send({"facts": facts})

    try:
        values, _ended = Child(work, limit).messages()
    except OSError:
        return collect(options, run_command, root, now)  # no process could be started; a full system is to be diagnosed too
    pieces = {value["name"]: value["value"] for value in values if "name" in value}
    for value in values:
        if "facts" in value:
            return value["facts"]
    wanted = [area for area in areas(options["gather_subset"]) if area not in WINDOWS_AREAS]
    known = [value for value in values if "name" in value]
    errors = list(known[-1]["errors"]) if known else []
    doing = [value["doing"] for value in values if "doing" in value]
    late = "not done within {0:g} s{1}".format(limit, "; it hung at: {0}".format(doing[-1][1]) if doing else "")
    if time.monotonic() - began < limit:
        late = "the collector's process ended before it was done{0}".format("; it was at: {0}".format(doing[-1][1]) if doing else "")
    errors += [{"area": area, "what": "collect", "error": late} for area in wanted if area not in pieces]
    result = dict.fromkeys(AREAS)
    result.update({area: pieces.get(area) for area in wanted})
    result.update(
        schema_version=SCHEMA_VERSION,
        collected_at=pieces.get("collected_at"),
        duration_ms=int((time.monotonic() - began) * 1000),
        gather_subset=wanted,
        system=pieces.get("system") or dict(UNKNOWN_SYSTEM),
        errors=errors,
        not_visible=list(known[-1]["not_visible"]) if known else [],
    )
    return result
