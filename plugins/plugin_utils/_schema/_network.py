# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of the network."""

from __future__ import annotations

from ansible_collections.vmbackup.azure.plugins.plugin_utils._schema._leaf import LINUX, WINDOWS, flag, group, number, scalar, text

FIREWALL = group(
    "what keeps the Azure host away",
    {
        "agent_rules": [text("the agent's own rules", LINUX, informs=True)],
        "drops_root": [text("rules that also drop root's traffic to the host", LINUX)],
        "places": [text("where a rule that lets root through has to stand: tool, and table or chain", LINUX)],
        "blocks_host": flag("a rule blocks the host", WINDOWS, informs=True),
        "outbound_blocked": [text("profiles that block all that no rule allows", WINDOWS, informs=True)],
        "rules": [
            group(
                "rules that block the host",
                {
                    "name": text("its name", WINDOWS),
                    "display_name": text("the name that is shown", WINDOWS),
                    "profile": text("its profiles", WINDOWS),
                    "direction": text("its direction", WINDOWS),
                    "action": text("what it does", WINDOWS),
                    "program": text("the program that it is for", WINDOWS),
                    "protocol": text("its protocol", WINDOWS, informs=True),
                    "remote": [text("remote addresses", WINDOWS)],
                    "ports": [text("remote ports", WINDOWS)],
                    "store": text("the store: local or policy", WINDOWS),
                },
                WINDOWS,
            )
        ],
    },
)

PROXY = [
    group(
        "proxies: of waagent.conf and the service's environment; on Windows of WinHTTP, the SYSTEM account, the machine (by policy), the machine's "
        "environment and .NET's machine.config",
        {
            "source": text("where it is set"),
            "key": text("key of the registry where it was read", WINDOWS),
            "name": text("name of the setting"),
            "value": text("the proxy, without secrets"),
            "bypass": scalar("its exceptions"),
            "bypass_type": text("type of the text that the exceptions are written back with", WINDOWS, informs=True),
            "bypass_exact": flag(
                "the exceptions are in the facts letter by letter, so that they can be compared before they are written",
                WINDOWS,
                informs=True,
            ),
            "bypasses_host": flag("the Azure host is excluded; null for a script"),
            "settings": text("packed settings in hexadecimal digits, which the exceptions are written back with", WINDOWS),
            "by_hand": text("why only a person can change it", WINDOWS),
        },
    )
]

NETWORK = group(
    "primary interface, DHCP, routes, probes, proxies, firewall",
    {
        "primary": group(
            "the primary interface",
            {
                "interface": text("its name; on Windows its alias"),
                "mac": text("its hardware address"),
                "address": text("its first IPv4 address"),
                "prefix_length": number("length of its prefix"),
                "gateway": text("its default gateway"),
                "state": text("its state, such as up"),
                "index": number("its index", WINDOWS),
                "guid": text("its GUID", WINDOWS, informs=True),
                "addresses": [text("all its IPv4 addresses", WINDOWS)],
            },
        ),
        "route_list": [
            group(
                "routes over a gateway, at most 500 of each store",
                {
                    "prefix": text("destination", WINDOWS),
                    "next_hop": text("gateway", WINDOWS),
                    "interface": text("alias of the interface", WINDOWS),
                    "interface_index": number("its index", WINDOWS, informs=True),
                    "metric": number("metric of the route", WINDOWS, informs=True),
                    "store": text("the store: active or persistent", WINDOWS),
                },
                WINDOWS,
            )
        ],
        "imds_addresses": [text("private addresses that IMDS gives to the primary interface; DHCP brings the first")],
        "dhcp": group(
            "how the primary interface gets its address",
            {
                "client": text("the DHCP client"),
                "method": text("the method: dhcp or static"),
                "method_source": text("where that was read"),
                "lease_file": text("file of the lease", LINUX),
                "lease_active": flag("there is a lease that counts", informs=True),
                "option_245": text("the address of option 245"),
                "option_245_looked": flag("the lease could be read"),
                "option_245_possible": flag("the client keeps that option", informs=True),
                "server": text("the DHCP server"),
            },
        ),
        "routes": group(
            "by address of the host, 168.63.129.16 and 169.254.169.254: how the system would send",
            {
                "*": group(
                    "one address",
                    {
                        "ok": flag("it goes via the primary interface; on Windows the system's own decision"),
                        "kind": text("the route that is taken: host, default, other, blackhole, unreachable or none"),
                        "prefix": text("destination of the main table's route, where that decides", LINUX),
                        "device": text("the interface"),
                        "gateway": text("the gateway"),
                        "source": text("the address that it would send from"),
                    },
                )
            },
        ),
        "probes": group(
            "what answered: wireserver, hostgaplugin, imds, storage, proxy",
            {
                "*": group(
                    "one probe",
                    {
                        "url": text("what was asked"),
                        "ok": flag("it answered as it should"),
                        "time_ms": number("after how long"),
                        "status": number("status of HTTP"),
                        "error": text("what went wrong"),
                    },
                )
            },
        ),
        "region": text("the VM's region, from IMDS"),
        "cloud": text("the cloud, from IMDS"),
        "foreign_macs": [
            group(
                "configured hardware addresses that no interface has",
                {"path": text("the file", LINUX), "mac": text("the address", LINUX)},
                LINUX,
            )
        ],
        "resolvers": [text("name servers", informs=True)],
        "proxy": PROXY,
        "firewall": FIREWALL,
    },
)
