# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Security descriptors: compared by what they grant, with SIDs; names are localised."""

import re
from typing import Any

# Access rights of files and folders, as two letters stand for them in SDDL. Source: sddl.h.
RIGHTS = {
    "GA": 0x1F01FF, "GR": 0x120089, "GW": 0x120116, "GX": 0x1200A0, "FA": 0x1F01FF, "FR": 0x120089, "FW": 0x120116, "FX": 0x1200A0,
    "SD": 0x10000, "RC": 0x20000, "WD": 0x40000, "WO": 0x80000, "CC": 0x1, "DC": 0x2, "LC": 0x4, "SW": 0x8, "RP": 0x10, "WP": 0x20, "DT": 0x40,
    "LO": 0x80, "CR": 0x100,
}  # fmt: skip
SIDS = {
    "WD": "S-1-1-0", "SY": "S-1-5-18", "LS": "S-1-5-19", "NS": "S-1-5-20", "BA": "S-1-5-32-544", "BU": "S-1-5-32-545", "AU": "S-1-5-11",
    "CO": "S-1-3-0", "OW": "S-1-3-4",
}  # fmt: skip
EVERYONE, SYSTEM, ADMINISTRATORS = SIDS["WD"], SIDS["SY"], SIDS["BA"]
NAMES = {EVERYONE: "Everyone (S-1-1-0)", SYSTEM: "SYSTEM (S-1-5-18)", ADMINISTRATORS: "Administrators (S-1-5-32-544)"}
FULL = 0x1F01FF
_ACE = re.compile(r"\(([A-Z]{1,2});([A-Z]*);([^;()]*);([^;()]*);([^;()]*);([^;()]*)(?:;[^()]*)?\)")
# List, create files and folders, read and write attributes: what MachineKeys grants everybody. Reference of Microsoft's default.
MACHINE_KEYS = "O:SYG:SYD:PAI(A;;0x12019f;;;WD)(A;;FA;;;BA)"


def mask(text: str) -> int | None:
    """Return the access mask of the rights of an entry, None when they cannot be read."""
    if re.match(r"^0x[0-9a-fA-F]{1,8}$", text):
        number = int(text, 16)
        for generic, name in ((0x10000000, "GA"), (0x80000000, "GR"), (0x40000000, "GW"), (0x20000000, "GX")):
            if number & generic:
                number |= RIGHTS[name]
        return number
    pairs = [text[n : n + 2] for n in range(0, len(text), 2)]
    if not text or any(pair not in RIGHTS for pair in pairs):
        return None
    total = 0
    for pair in pairs:
        total |= RIGHTS[pair]
    return total


def entries(sddl: str | None) -> list[Any] | None:
    """Return (type, flags, mask, SID) of the entries of a descriptor's access list, None when it holds no such list."""
    found = re.search(r"D:(?:P|AR|AI|NO_ACCESS_CONTROL)*((?:\([^()]*\))*)", sddl or "")
    if not found:
        return None
    result = []
    for kind, flags, rights, _object, _inherit, sid in _ACE.findall(found.group(1)):
        result.append((kind, flags, mask(rights), SIDS.get(sid, sid.upper())))
    return result


def granted(sddl: str | None, sid: str) -> int:
    """Return the mask that a descriptor grants a SID on the folder itself; entries that are only inherited by what is below do not count."""
    total = 0
    for kind, flags, rights, who in entries(sddl) or []:
        if kind == "A" and who == sid and rights and "IO" not in flags:
            total |= rights
    return total


def same(left: str | None, right: str) -> bool | None:
    """Say whether two descriptors hold the same set of entries, whatever their order and spelling; None when one cannot be read."""
    both = [entries(left), entries(right)]
    if both[0] is None or both[1] is None:
        return None
    return set(both[0]) == set(both[1])


def missing(sddl: str | None) -> list[str] | None:
    """Return in words which rights the folder MachineKeys lacks, None when the descriptor cannot be read.

    What is granted beyond Microsoft's default keeps no backup from working, so it is not listed.
    """
    found = entries(sddl)
    if found is None:
        return None
    wanted = granted(MACHINE_KEYS, EVERYONE)
    result = []
    lacking = wanted & ~granted(sddl, EVERYONE)
    if lacking:
        result.append("{0} lacks 0x{1:x} of 0x{2:x}".format(NAMES[EVERYONE], lacking, wanted))
    if not any(granted(sddl, sid) & FULL == FULL for sid in (ADMINISTRATORS, SYSTEM)):
        result.append("neither {0} nor {1} has full control".format(NAMES[ADMINISTRATORS], NAMES[SYSTEM]))
    for kind, flags, rights, sid in found:
        if kind == "D" and rights and sid in NAMES and "IO" not in flags:
            result.append("{0} is denied 0x{1:x}".format(NAMES[sid], rights))
    return result


def machine_keys(path: str, sddl: str | None) -> dict[str, Any]:
    """Return the facts of the folder MachineKeys."""
    lacks = missing(sddl)
    return {
        "path": path,
        "sddl": sddl,
        "expected_sddl": MACHINE_KEYS,
        "same": same(sddl, MACHINE_KEYS),
        "ok": None if lacks is None else not lacks,
        "missing": lacks,
    }
