# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What undo points keep beside files, units and packages: the state of the running system, read and put back in bulk.

An item is ``key``, whose first word names its kind, and ``state``, which is None where there is nothing.
"""

from ansible_collections.vmbackup.azure.plugins.module_utils._linux import accept, iproute, undo


class Routes(object):
    """The routes to one prefix in one table: ``route FAMILY TABLE PREFIX``; the state is a list of routes as ip takes them."""

    essence = staticmethod(iproute.essence)

    @staticmethod
    def read(keys, runner):
        known = iproute.by_key(iproute.read(runner, sorted({int(key.split()[1]) for key in keys})))
        return {key: known.get(key) for key in keys}

    @staticmethod
    def restore(pairs, runner):
        """Put states back; pairs are (key, wanted, present). Returns why it failed, empty when it did not."""
        commands = []
        for _key, want, now in pairs:
            commands += iproute.lines(want or [], now or [])
        return iproute.batch(runner, commands, force=True)

    @staticmethod
    def steps(pairs):
        """Return the commands, with what they read, that put states back without a look; pairs are (key, wanted, what was written)."""
        puts, deletes = [], []
        for _key, want, wrote in pairs:
            # Whether the write came to be is not known then, so the wanted ones are written in any case.
            puts += ["route replace " + spec for spec in want or []]
            deletes += [line for line in iproute.lines(want or [], wrote or []) if line.startswith("route delete ")]
        return [
            {"argv": ["ip", "-force", "-batch", "-"], "input": "".join(line + "\n" for line in lines), "may_fail": lines is deletes}
            for lines in (puts, deletes)
            if lines
        ]

    @staticmethod
    def words(key, state):
        return "{0}: {1}".format(key.split()[3], iproute.words(state or []))


KINDS = {"route": Routes, "accept": accept.Accept}


def grouped(keys):
    """Return {kind: keys}; names of kinds that are not known here are refused."""
    found = {}
    for key in keys:
        kind = key.split(" ", 1)[0]
        if kind not in KINDS:
            raise undo.UndoError("The kept state names {0!r}, which this version of the collection does not know.".format(key))
        found.setdefault(kind, []).append(key)
    return found


def capture(keys, runner):
    """Return the items of these keys as they are now, in order."""
    states = {}
    for kind, own in grouped(keys).items():
        states.update(KINDS[kind].read(own, runner))
    return [{"key": key, "state": states[key]} for key in keys]


def same(one, other):
    """Say whether two states of an item are the same in every word."""
    return one["state"] == other["state"]


def alike(one, other):
    """Say whether two states of an item are the same to whoever uses it."""
    kind = KINDS[one["key"].split(" ", 1)[0]]
    return kind.essence(one["state"]) == kind.essence(other["state"])


def words(item):
    return KINDS[item["key"].split(" ", 1)[0]].words(item["key"], item["state"])


def restore(pairs, runner):
    """Put items back.

    :param pairs: (wanted item, present item).
    :raises undo.UndoError: when something could not be put back.
    """
    for kind, keys in grouped([want["key"] for want, _now in pairs]).items():
        own = [(want["key"], want["state"], now["state"]) for want, now in pairs if want["key"] in set(keys)]
        problem = KINDS[kind].restore(own, runner)
        if problem:
            raise undo.UndoError("Not all could be put back: {0}.".format(problem))


def steps(pairs):
    """Return what a guard runs to put items back; pairs are (item as it was, item as it is to be written)."""
    result = []
    for kind, keys in sorted(grouped([before["key"] for before, _after in pairs]).items()):
        own = [(before["key"], before["state"], after["state"]) for before, after in pairs if before["key"] in set(keys)]
        result += KINDS[kind].steps(own)
    return result
