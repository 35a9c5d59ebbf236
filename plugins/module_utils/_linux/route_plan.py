# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the routes that are there and those that are wanted to what has to be changed. Pure: reads and writes nothing."""

import ipaddress

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import iproute, persist
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.undo import UndoError

NOTHING = " Nothing was changed."
OWN = ("prefix", "via", "dev", "metric", "table", "onlink")


def refuse(text, *values):
    raise UndoError(text.format(*values) + NOTHING)


def prefixes(texts):
    """Return the wanted prefixes as networks, in order; refuses what is none."""
    found, known = [], set()
    for text in texts:
        if "/" not in text:
            refuse("The prefix {0!r} has no length, such as {0}/32.", text)
        network = iproute.network(text)
        if network is None:
            try:
                network = ipaddress.ip_interface(text).network
            except ValueError:
                refuse("{0!r} is no prefix.", text)
            refuse("The prefix {0} has bits set behind its length; {1} is meant, or another length.", text, network)
        if network.prefixlen == 0:
            refuse("{0} is the default route, which this module does not touch.", text)
        if network.is_multicast or network.is_loopback or network.is_unspecified:
            refuse("{0} is no network that can be routed via a gateway.", text)
        if network in known:
            refuse("The prefix {0} is in routes twice.", network)
        known.add(network)
        found.append(network)
    return found


def words_of(routes):
    """Return what was seen of the routes to a prefix, as ``expect`` says it: a word for one that discards, the gateway, link, or None."""
    if not routes:
        return None
    first = min(routes, key=lambda route: route["metric"])
    if first["type"] != "unicast":
        return first["type"]
    return "several" if first["several"] else first["via"] or "link"


class Hop(object):
    """A way: gateway, interface, and whether the gateway has to be taken for reachable."""

    def __init__(self, via, dev, onlink=False):
        self.via, self.dev, self.onlink = via, dev, onlink


def _default(family, table, interface):
    """Return the default route that packets take now, None without one."""
    found = [
        route
        for route in table
        if route["family"] == family
        and route["table"] == "main"
        and route["prefix"] in ("0.0.0.0/0", "::/0")
        and route["type"] == "unicast"
    ]
    found = [route for route in found if route["via"] and (interface is None or route["dev"] == interface)]
    return min(found, key=lambda route: route["metric"]) if found else None


def _nearest(family, gateway, near, table):
    """Return which of the interfaces that have the gateway's network leads to it: the one with the default route, where there are several."""
    names = sorted(set(near), key=near.index)
    default = _default(family, table, None)
    if len(names) == 1:
        return names[0]
    if default is None or default["dev"] not in names:
        refuse("next_hop {0} is in the network of several interfaces ({1}); give interface.", gateway, ", ".join(names))
    return default["dev"]


def hop(family, options, table, addresses):
    """Return the way that new routes of a family take."""
    interface, given = options["interface"], options["next_hop"]
    if interface is not None and interface not in {name for name, _address in addresses}:
        refuse("There is no interface {0} with an address on this guest.", interface)
    if given is None:
        route = _default(family, table, interface)
        if route is None:
            refuse("There is no default route {0}to take the gateway of; give next_hop.", "on {0} ".format(interface) if interface else "")
        return Hop(route["via"], route["dev"], " onlink" in route["spec"])
    gateway = iproute.address(given)
    if gateway is None:
        refuse("next_hop {0!r} is no address.", given)
    if gateway.version != family:
        refuse("next_hop {0} is of the other family than the prefixes.", given)
    if any(address.ip == gateway for _name, address in addresses):
        refuse("next_hop {0} is an address of this guest itself.", given)
    near = [
        name
        for name, address in addresses
        if gateway in address.network and (interface in (None, name)) and address.network.prefixlen < 128
    ]
    if near:
        return Hop(str(gateway), _nearest(family, gateway, near, table))
    for route in table:
        known = route["via"] == str(gateway) and interface in (None, route["dev"]) and route["dev"]
        if known and (family == 6 or " onlink" in route["spec"]):
            return Hop(str(gateway), route["dev"], " onlink" in route["spec"])
    return refuse("next_hop {0} is in no network of {1}, so it cannot be reached.", given, interface or "an interface of this guest")


def _place(own):
    """Return what a list of our own routes has once: the table and the prefix."""
    return own["table"], own["prefix"]


def is_own(own, route):
    """Say whether a route is one that this module added; NetworkManager gives it another metric after a restart."""
    return (
        route["type"] == "unicast"
        and not route["several"]
        and (own["prefix"], own["table"], own["via"], own["dev"]) == (route["prefix"], route["table"], route["via"], route["dev"])
        and (own["metric"] == route["metric"] or route["proto"] == "static")
    )


class Plan(object):
    """What is to be done: ``items`` {key: (wanted specs, present specs)}, ``owned`` (our list afterwards), ``changes`` and ``hops``."""

    def __init__(self, options, table, addresses, owned):
        self.options, self.table, self.addresses = options, table, addresses
        self._owned = {_place(own): own for own in owned}
        self.items, self.changes, self.hops, self.wanted = {}, [], {}, []
        self._there = {}
        for route in table:
            self._there.setdefault((route["table"], route["prefix"]), []).append(route)
        self._of_prefix = {}
        for own in owned:
            self._of_prefix.setdefault(_place(own), []).append(own)
        self._expect = _expected(options["expect"])
        networks = prefixes(options["routes"])
        for network in networks:
            if options["state"] == "present":
                self._present(network)
            else:
                self._absent(network)
        if options["purge"]:
            named = {(options["table"], str(network)) for network in networks}
            for own in owned:
                if _place(own) not in named:
                    self._remove(own["table"], own["prefix"], self._own_routes(own["table"], own["prefix"]))

    @property
    def owned(self):
        return list(self._owned.values())

    def _own_routes(self, table, prefix):
        own = self._of_prefix.get((table, prefix), ())
        found = [route for route in self._there.get((table, prefix), ()) if any(is_own(entry, route) for entry in own)]
        # Beside ours there may be one that an administrator has written into the configuration since.
        exact = [route for route in found if any(entry["metric"] == route["metric"] for entry in own)]
        return exact or found

    def _check_expected(self, network, now, fine):
        if network not in self._expect or fine:
            return
        seen, present = self._expect[network], words_of(now)
        if seen != present:
            refuse(
                "The route to {0} is {1} now, the diagnosis saw {2}. Diagnose the guest again.",
                network,
                present or "not there",
                seen or "none",
            )

    def _forget(self, table, prefix):
        self._owned.pop((table, prefix), None)

    def _set(self, network, table, want, now):
        self.items[iproute.key(network.version, table, str(network))] = (want, [route["spec"] for route in now])

    def _present(self, network):
        options, table, prefix = self.options, self.options["table"], str(network)
        now, own = self._there.get((table, prefix), []), self._own_routes(table, prefix)
        if network.version not in self.hops:
            self.hops[network.version] = hop(network.version, options, self.table, self.addresses)
        way = self.hops[network.version]
        if ipaddress.ip_address(way.via) in network and way.via != prefix.partition("/")[0]:
            refuse("The prefix {0} holds its own next hop {1}.", prefix, way.via)
        metric = options["metric"]
        good = [route for route in now if (route["type"], route["via"], route["dev"]) == ("unicast", way.via, way.dev)]
        first = min(now, key=lambda route: route["metric"]) if now else None
        fine = bool(good) and first in good and (first not in own or metric in (None, first["metric"]))
        self._check_expected(network, now, fine)
        entry = {"prefix": prefix, "via": way.via, "dev": way.dev, "table": table, "onlink": way.onlink}
        entry["metric"] = iproute.DEFAULT_METRIC[network.version] if metric is None else metric
        self.wanted.append(prefix)
        if fine:
            if first not in own:
                self._forget(table, prefix)
            return
        others = [route for route in now if route not in own and route["metric"] <= entry["metric"]]
        for route in others:
            if route["type"] == "unicast" and not route["via"] and not route["several"]:
                refuse("{0} is on the link of {1}, so it is not routed via a gateway.", prefix, route["dev"])
            if network not in self._expect:
                refuse(
                    "{0} has a route already ({1}) that this module did not add; it is replaced only when expect names it.",
                    prefix, iproute.words([route["spec"]]),
                )  # fmt: skip
        stays = [route["spec"] for route in now if route not in own and route not in others]
        self._set(network, table, [persist.spec(entry)] + stays, now)
        self._forget(table, prefix)
        self._owned[_place(entry)] = entry
        replaced = " instead of {0}".format(iproute.words([route["spec"] for route in others + own])) if others + own else ""
        self.changes.append("route {0} via {1} dev {2}{3}".format(prefix, way.via, way.dev, replaced))

    def _absent(self, network):
        table, prefix = self.options["table"], str(network)
        now, own = self._there.get((table, prefix), []), self._own_routes(table, prefix)
        self._check_expected(network, now, not now)
        others = [route for route in now if route not in own]
        if others and network not in self._expect:
            refuse(
                "{0} has a route ({1}) that this module did not add; it is removed only when expect names it.",
                prefix, iproute.words([route["spec"] for route in others]),
            )  # fmt: skip
        if any(route["type"] == "unicast" and not route["via"] and not route["several"] for route in others):
            refuse("{0} is on the link of {1}; its route is not removed.", prefix, others[0]["dev"])
        self._remove(table, prefix, now)

    def _remove(self, table, prefix, routes):
        """Remove these routes to a prefix, and strike it off our list."""
        self._forget(table, prefix)
        if routes:
            now = self._there[(table, prefix)]
            self._set(iproute.network(prefix), table, [route["spec"] for route in now if route not in routes], now)
            self.changes.append("route {0} removed ({1})".format(prefix, iproute.words([route["spec"] for route in routes])))

    def batch(self):
        """Return the lines for ip: what is added before what goes."""
        lines = [line for key in sorted(self.items) for line in iproute.lines(*self.items[key])]
        return [line for line in lines if line.startswith("route replace ")] + [
            line for line in lines if not line.startswith("route replace ")
        ]

    def back(self):
        """Return the lines that undo :meth:`batch`."""
        return [line for key in sorted(self.items) for line in iproute.lines(self.items[key][1], self.items[key][0])]


def _expected(expect):
    found = {}
    for text, seen in (expect or {}).items():
        network = iproute.network(text)
        if network is None:
            refuse("expect names {0!r}, which is no prefix.", text)
        if seen is not None:
            given = iproute.address(seen)
            seen = str(given) if given else "{0}".format(seen)
        found[network] = seen
    return found
