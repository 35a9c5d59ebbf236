# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The routes of a Linux guest as ip(8) shows and takes them: the table in one call, changes in one batch.

A route is a dictionary: family, table, prefix, type, via, dev, metric, and ``spec``, the words that add it again.
"""

import glob
import ipaddress
import re

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import undo

TYPES = ("unicast", "local", "broadcast", "multicast", "throw", "unreachable", "prohibit", "blackhole", "nat", "anycast")
REFUSALS = ("blackhole", "unreachable", "prohibit", "throw")
TABLES = {"254": "main", "255": "local", "253": "default"}
# Where names for tables are given; ip shows them instead of the numbers, and what sets up the network knows none of them.
TABLE_NAMES = (
    "/usr/lib/iproute2/rt_tables",
    "/usr/share/iproute2/rt_tables",
    "/etc/iproute2/rt_tables",
    "/etc/iproute2/rt_tables.d/*.conf",
)
_STATES = ("dead", "linkdown", "offload", "trap", "rt_offload", "rt_trap", "notify")  # what the kernel says of a route and does not take
_WITH_VALUE = ("error", "expires")
DEFAULT_METRIC = {4: 0, 6: 1024}


def network(text):
    """Return the prefix in one spelling, with its length; None for what is none."""
    try:
        return ipaddress.ip_network("{0}".format(text))
    except ValueError:
        return None


def address(text):
    try:
        return ipaddress.ip_address("{0}".format(text))
    except ValueError:
        return None


def table_numbers(texts):
    """Return {name: number} of the lines of rt_tables, the kernel's own three left out."""
    found = {}
    for line in "\n".join(texts).split("\n"):
        words = line.partition("#")[0].split()
        try:
            number = str(int(words[0], 0))
        except (IndexError, ValueError):
            continue
        if len(words) > 1 and number not in TABLES and number != "0":
            found[words[1]] = number
    return found


def named_tables():
    """Return {name: number} of the tables that this guest has names for."""
    texts = []
    for path in [path for pattern in TABLE_NAMES for path in sorted(glob.glob(pattern))]:
        try:
            with open(path, "rb") as stream:
                texts.append(stream.read().decode("utf-8", "replace"))
        except (IOError, OSError):
            continue
    return table_numbers(texts)


def parse_route(line, family, tables=None):
    """Return one line of ``ip -o -d route show table all`` as a route, None for what is none.

    :param tables: {name: number} of tables, which are known by their numbers.
    """
    words = line.replace("\\", " ").split()
    kind = words.pop(0) if words and words[0] in TYPES else "unicast"
    if not words:
        return None
    target = network({4: "0.0.0.0/0", 6: "::/0"}[family] if words[0] == "default" else words[0])
    if target is None or target.version != family:
        return None
    values, spec, rest = {}, [kind, str(target)], words[1:]
    while rest:
        word = rest.pop(0)
        if word in _STATES:
            continue
        if word in _WITH_VALUE:
            del rest[:1]
            continue
        if word == "dev" and kind != "unicast":
            del rest[:1]  # IPv6 shows lo for a route that discards
            continue
        spec.append(word)
        if word == "table" and rest:
            rest[0] = (tables or {}).get(rest[0], rest[0])
        if word in ("via", "dev", "table", "metric", "proto", "nexthop") and rest and word not in values:
            values[word] = rest[0] if word != "nexthop" else True
    if values.get("via") in ("inet", "inet6"):
        values["via"] = None  # a next hop of the other family
    table = values.get("table", "main")
    if "table" not in values:
        spec += ["table", table]
    metric = values.get("metric", "")
    several = bool(values.get("nexthop"))
    return {
        "family": family,
        "table": table,
        "prefix": str(target),
        "type": kind,
        "via": None if several else values.get("via"),
        "dev": None if several else values.get("dev"),
        "metric": int(metric) if metric.isdigit() else DEFAULT_METRIC[family] if family == 4 else 0,
        "proto": values.get("proto"),
        "several": several,
        "spec": " ".join(spec),
    }


def parse(text, family, tables=None):
    return [route for route in (parse_route(line, family, tables) for line in (text or "").split("\n")) if route]


def ask(runner, arguments):
    code, out, err = runner(["ip"] + arguments)
    if code == 127:
        raise undo.UndoError("The command ip is not there; install the package iproute2 (iproute). Nothing was changed.")
    if code != 0:
        raise undo.UndoError("ip {0} failed: {1}.".format(" ".join(arguments), (err or out).strip() or "exit code {0}".format(code)))
    return out


def read(runner, families=(4, 6)):
    """Return all routes of all tables, of the families that the guest has."""
    routes, tables = [], named_tables()
    for family in families:
        routes += parse(ask(runner, ["-{0}".format(family), "-o", "-d", "route", "show", "table", "all"]), family, tables)
    return routes


_ADDRESS = re.compile(r"^\d+:\s+(\S+)\s+inet6?\s+(\S+)(?:\s+peer\s+(\S+))?")


def parse_addresses(text):
    """Return (interface, address with the length of its network) of ``ip -o address show``."""
    found = []
    for line in (text or "").split("\n"):
        match = _ADDRESS.match(line)
        if match:
            try:
                found.append((match.group(1).partition("@")[0], ipaddress.ip_interface(match.group(2))))
            except ValueError:
                continue
    return found


def addresses(runner):
    return parse_addresses(ask(runner, ["-o", "address", "show"]))


def key(family, table, prefix):
    """Return the name under which the routes to a prefix are kept."""
    return "route {0} {1} {2}".format(family, table, prefix)


def by_key(routes):
    """Return {name: specs of the routes to a prefix}, in the order of the kernel."""
    found = {}
    for route in routes:
        found.setdefault(key(route["family"], route["table"], route["prefix"]), []).append(route["spec"])
    return found


def _metric(spec):
    words = spec.split()
    return words[words.index("metric") + 1] if "metric" in words[:-1] else ""


def lines(want, now):
    """Return the lines of a batch that turn the routes to one prefix from now into want, both lists of specs. New ones come before old ones go.

    A route replaces the one with its metric, so there is no moment without any.
    """
    added = [spec for spec in want if spec not in now]
    replaced = {_metric(spec) for spec in added}
    gone = [spec for spec in now if spec not in want and _metric(spec) not in replaced]
    return ["route replace " + spec for spec in added] + ["route delete " + spec for spec in gone]


def essence(specs):
    """Return what matters of the routes to a prefix. After a restart the program that keeps them sets other flags and metrics."""
    found = []
    for spec in specs or []:
        items = spec.split()
        ways = [(items[n], items[n + 1]) for n in range(2, len(items) - 1) if items[n] in ("via", "dev")]
        found.append((items[0], items[1], tuple(ways)))
    return sorted(found)


def batch(runner, commands, force=False):
    """Run many lines in one call of ip.

    :returns: why it failed, empty when all is done. Without force it stops at the first line that fails.
    """
    if not commands:
        return ""
    text = "".join(line + "\n" for line in commands)
    code, out, err = runner(["ip"] + (["-force"] if force else []) + ["-batch", "-"], text)
    if code == 0:
        return ""
    said = (err or out).strip()
    place = re.search(r"Command failed -:(\d+)", said)
    line = commands[int(place.group(1)) - 1] if place and 0 < int(place.group(1)) <= len(commands) else "ip -batch"
    reason = " ".join(re.sub(r"Command failed -:\d+", "", said).split()) or "exit code {0}".format(code)
    return "{0}: {1}".format(line, reason.rstrip("."))


def words(specs):
    """Return the routes to a prefix as a person reads them."""
    return "; ".join(re.sub(r" (table|proto|scope|pref) \S+", "", spec).replace("unicast ", "") for spec in specs) or "no route"
