# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Proxies that agent and extension see: WinHTTP, those of the SYSTEM account, of the machine's policy, its environment and .NET."""

import re
import struct
from typing import Any

from ansible_collections.vmbackup.azure.plugins.module_utils._linux.proxy import HOST_ADDRESSES, from_environment
from ansible_collections.vmbackup.azure.plugins.module_utils._redact import MASK, clip, redact_proxy
from ansible_collections.vmbackup.azure.plugins.module_utils._values import as_text, wildcard

_SETTINGS = "Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings"
SYSTEM_ACCOUNT = "HKU\\S-1-5-18\\" + _SETTINGS
MACHINE = "HKLM\\" + _SETTINGS
POLICY = "HKLM\\SOFTWARE\\Policies\\Microsoft\\Windows\\CurrentVersion\\Internet Settings"
ENVIRONMENT = "HKLM\\SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Environment"
DIRECT, NAMED, SCRIPT, DETECT = 1, 2, 4, 8
# Of the entries of the facts: packed settings, and variables, whose exceptions stand in a variable of their own.
BLOBS = ("DefaultConnectionSettings", "WinHttpSettings")
VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
TYPES = {"REG_SZ": "string", "REG_EXPAND_SZ": "expandstring"}
LIMITS = {"value": 300, "bypass": 600}
_BOTH = " and ".join(HOST_ADDRESSES)
_LABEL_END = re.compile(r":\s+")


def parse_settings(data: bytes | None) -> dict[str, Any] | None:
    """Return flags, proxy, bypass, script and the rest of WinHttpSettings or DefaultConnectionSettings, None when they are cut short.

    Size, counter, flags, then texts each with its length in front: proxy, what goes round it, and the address of a script.
    """
    if data is None or len(data) < 12:
        return None
    found = {"flags": struct.unpack_from("<I", data, 8)[0], "proxy": None, "bypass": None, "script": None}
    at = 12
    for name in ("proxy", "bypass", "script"):
        if at + 4 > len(data):
            break
        length = struct.unpack_from("<I", data, at)[0]
        at += 4
        if length > len(data) - at:
            break
        found[name] = data[at : at + length].decode("latin-1").strip("\x00") or None
        at += length
    found["rest"] = data[at:]
    return found


def parse_netsh(text: str | None) -> tuple[Any, ...]:
    """Return (proxy, bypass) of ``netsh winhttp show proxy`` in any language: two indented lines of label and value; (None, None) when direct.

    A value in brackets means none, in whatever language.
    """
    values: list[str | None] = []
    for line in (text or "").replace("\r", "").split("\n"):
        label_end = _LABEL_END.search(line.strip()[:65536]) if line[:1].isspace() else None
        if label_end and label_end.start():
            values.append(line.strip()[label_end.end() :])
    values = [None if re.match(r"^\(.*\)$", value or "") else value for value in values]
    if not values or not values[0]:
        return None, None
    return values[0], values[1] if len(values) > 1 else None


def bypasses(text: str | None, address: str) -> bool:
    """Say whether a list of exceptions as Windows reads it names an address: itself, with asterisks, or ``<-loopback>`` and the like not."""
    for item in re.split(r"[;,\s]+", text or ""):
        item = re.sub(r"^https?://", "", item)
        # The asterisk is the only wildcard; brackets are plain characters.
        if item and not item.startswith("<") and wildcard(item[:255], address):
            return True
    return False


def with_bypass(data: bytes | None, bypass: str) -> bytes | None:
    """Return packed settings with another list of exceptions and all else as it was, None when they are not of the known form.

    Counter, flags, proxy, the script's address and what follows it stay.
    """
    if data is None or len(data) < 16:
        return None
    at = 16 + struct.unpack_from("<I", data, 12)[0]
    if at > len(data):
        return None
    start, rest = data[:at], data[at:]
    if rest:
        if len(rest) < 4:
            return None
        length = struct.unpack_from("<I", rest)[0]
        if length > len(rest) - 4:
            return None
        rest = rest[4 + length :]
    text = bypass.encode("latin-1", "replace")
    return start + struct.pack("<I", len(text)) + text + rest


def holds_secret(data: bytes) -> bool:
    """Say whether packed settings hold what must not be shown, in one of their texts or after them."""
    parsed = parse_settings(data) or {"rest": data}
    texts = [parsed.get(name) or "" for name in ("proxy", "bypass", "script")]
    texts += re.findall(r"[\x20-\x7e]{4,}", parsed["rest"].decode("latin-1"))
    return any(redact_proxy(text) != text for text in texts)


def obstacle(proxy: dict[str, Any]) -> str | None:
    """Return in words why no values are made out of an entry of the facts, None when they can be."""
    name, value, bypass = (proxy.get(part) or "" for part in ("name", "value", "bypass"))
    if name == "defaultProxy":
        return "that file is not changed here"
    variable = name.lower() in VARIABLES
    if not variable and (MASK in value or "***" in value):
        return "its address holds credentials"
    if name in BLOBS:
        known = proxy.get("settings")
    else:
        kept = MASK not in bypass and not bypass.endswith("...") and len(bypass) < LIMITS["bypass"]
        known = kept and proxy.get("bypass_type", "string") and (variable or name == "ProxyServer")
    return None if known and proxy.get("key") else "it cannot be written back as it is"


def entry(source: str, key: str | None, name: str, value: str, bypass: str | None) -> dict[str, Any]:
    return {
        "source": source,
        "key": key,
        "name": name,
        "value": clip(redact_proxy(value), LIMITS["value"]),
        "bypass": clip(redact_proxy(bypass), LIMITS["bypass"]),
        "bypasses_host": all(bypasses(bypass, address) for address in HOST_ADDRESSES),
    }


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """Return an entry; where the Azure host goes through the proxy and only a person can change that, with the sentence that says so."""
    why = obstacle(found) if found["bypasses_host"] is False else None
    if why:
        text = "A person must add {0} to the exceptions of the proxy of {1} ({2}), since {3}."
        found["by_hand"] = text.format(_BOTH, found["source"], found["name"], why)
    return found


def text_entry(raw: Any, found: dict[str, Any], name: str, bypass: str | None) -> dict[str, Any]:
    """Return an entry whose exceptions are a text of the registry, with the type that they are written back with."""
    kind = ((raw.key(found["key"]) or {}).get(name.lower()) or (None, "REG_SZ"))[1]
    if found["bypasses_host"] is False:
        intact = (found["bypass"] or "").split() == (bypass or "").split()
        found["bypass_type"] = TYPES.get(kind) if intact else None
        found["bypass_exact"] = found["bypass"] == bypass  # blanks of the text are not in the facts
    return judged(found)


def packed_entry(found: dict[str, Any], data: bytes | None) -> dict[str, Any]:
    """Return an entry that was read from packed settings, with these where they are written back."""
    if data is not None and found["bypasses_host"] is False and with_bypass(data, "") is not None and not holds_secret(data):
        found["settings"] = data.hex()
    return judged(found)


def account(raw: Any, key: str, source: str) -> list[dict[str, Any]]:
    """Return the proxies of one account's or the machine's Internet settings; the texts and the packed settings are two places."""
    found = []
    connections = key + "\\Connections"
    data = raw.binary(connections, "DefaultConnectionSettings")
    parsed = parse_settings(data) or {}
    server, bypass = raw.value(key, "ProxyServer", str), raw.value(key, "ProxyOverride", str)
    if raw.value(key, "ProxyEnable", int) and server:
        found.append(text_entry(raw, entry(source, key, "ProxyServer", server, bypass), "ProxyOverride", bypass))
    if parsed.get("flags", 0) & NAMED and parsed.get("proxy"):
        found.append(packed_entry(entry(source, connections, "DefaultConnectionSettings", parsed["proxy"], parsed["bypass"]), data))
    script = raw.value(key, "AutoConfigURL", str) or (parsed.get("script") if parsed.get("flags", 0) & SCRIPT else None)
    if script:
        # What a script answers for the host's addresses is not known.
        told = "A person must check that the script of {0} routes {1} past the proxy, since it is not run here.".format(source, _BOTH)
        found.append(dict(entry(source, key, "AutoConfigURL", script, None), bypasses_host=None, by_hand=told))
    return found


def parse_default_proxy(element: str) -> tuple[Any, ...]:
    """Return (address, list of exceptions) of a defaultProxy element of machine.config, (None, None) when it names none."""
    if re.search(r"<defaultProxy\b[^<>]*\benabled\s*=\s*[\"']false", element or "", re.I):
        return None, None
    address = re.search(r"\bproxyaddress\s*=\s*[\"']([^\"']+)", element or "", re.I)
    listed = re.findall(r"<add\b[^<>]*\baddress\s*=\s*[\"']([^\"']+)", element or "", re.I)
    return (address.group(1) if address else None), listed


def excepted(patterns: list[str], address: str) -> bool:
    """Say whether .NET's list of exceptions, which are regular expressions, names an address; they are compared as text."""
    return any(len(pattern) < 200 and address in pattern.replace("\\", "") for pattern in patterns)


def collect(raw: Any, netsh: str | None) -> list[dict[str, Any]]:
    """Return every proxy that programs of the SYSTEM account see, masked.

    :param netsh: text of ``netsh winhttp show proxy``, None when it was not asked.
    """
    found = []
    connections = MACHINE + "\\Connections"
    data = raw.binary(connections, "WinHttpSettings")
    winhttp = parse_settings(data)
    if winhttp and winhttp["flags"] & NAMED:
        told = parse_netsh(netsh)
        value, bypass = (winhttp["proxy"], winhttp["bypass"]) if winhttp["proxy"] else told
        if value:
            found.append(packed_entry(entry("WinHTTP", connections, "WinHttpSettings", value, bypass), data if winhttp["proxy"] else None))
    found += account(raw, SYSTEM_ACCOUNT, "the SYSTEM account (HKU\\S-1-5-18)")
    if raw.value(POLICY, "ProxySettingsPerUser", int) == 0:
        found += account(raw, MACHINE, "the machine (policy ProxySettingsPerUser=0)")
    variables = {pair[0]: pair[2] for pair in (raw.key(ENVIRONMENT) or {}).values() if isinstance(pair[2], str)}
    lower = {name.lower(): value for name, value in variables.items()}
    for row in from_environment("the machine's environment", lower):
        row.update({part: clip(row[part], limit) for part, limit in LIMITS.items()}, key=ENVIRONMENT)
        found.append(text_entry(raw, row, "no_proxy", lower.get("no_proxy")))
    for path, element in sorted(raw.part("machine_config").items()):
        address, listed = parse_default_proxy(as_text(element))
        if address:
            row = entry(path, None, "defaultProxy", address, " ".join(listed))
            row["bypasses_host"] = all(excepted(listed, one) for one in HOST_ADDRESSES)
            found.append(judged(row))
    return found


def packed(head: int, server: str | None, bypass: str | None) -> str:
    """Return WinHttpSettings (head 0x28) or DefaultConnectionSettings (head 0x46) as hexadecimal text; without a server: direct.

    The counter stays 0, so that the same settings are the same bytes.
    """
    flags = DIRECT if not server else (NAMED if head == 0x28 else DIRECT | NAMED)
    data = struct.pack("<III", head, 0, flags)
    for text in (server or "", bypass or "") if server else ("", ""):
        data += struct.pack("<I", len(text)) + text.encode("latin-1", "replace")
    if head == 0x46:
        data += struct.pack("<I", 0) + b"\0" * 32
    return data.hex()


def with_host(bypass: str | None) -> str:
    """Return a list of exceptions with the Azure host's addresses in it."""
    kept = (bypass or "").strip("; \t\r\n")
    return ";".join(([kept] if kept else []) + [address for address in HOST_ADDRESSES if not bypasses(bypass, address)])


def registry_values(proxies: list[dict[str, Any]], state: str, server: str | None = None) -> list[dict[str, Any]] | None:
    """Return the values for M(vmbackup.azure.win_registry) that bring the SYSTEM account and WinHTTP to a state.

    :param proxies: ``network.proxy`` of the facts.
    :param state: ``present`` (server is set), ``absent`` (no proxy), ``bypass`` (what there is, where it was read, with the Azure host's
        addresses left out of it; what only a person can change is passed over).
    :raises ValueError: one sentence.
    """
    if state not in ("present", "absent", "bypass"):
        raise ValueError("the state of a proxy is present, absent or bypass, not {0!r}.".format(state))
    if state == "present" and not re.match(r"^[A-Za-z0-9._=;:/\[\]-]+:\d+$", server or ""):
        raise ValueError("a proxy is given as host:port, not {0!r}.".format(redact_proxy(server)))

    def text(key: str, name: str, data: str | None, kind: str | None = None) -> dict[str, Any]:
        return {"key": key, "name": name, "type": kind or "string", "data": data, "state": "present"}

    def blob(key: str, name: str, head: int, proxy: str | None, bypass: str | None) -> dict[str, Any]:
        return {"key": key + "\\Connections", "name": name, "type": "binary", "data": packed(head, proxy, bypass), "state": "present"}

    def system(proxy: str | None, bypass: str | None) -> list[dict[str, Any]]:
        enabled = {"key": SYSTEM_ACCOUNT, "name": "ProxyEnable", "type": "dword", "data": 1 if proxy else 0, "state": "present"}
        texts = [text(SYSTEM_ACCOUNT, "ProxyServer", proxy), text(SYSTEM_ACCOUNT, "ProxyOverride", bypass)]
        if not proxy:
            texts = [{"key": SYSTEM_ACCOUNT, "name": name, "state": "absent"} for name in ("ProxyServer", "ProxyOverride")]
        return [enabled] + texts + [blob(SYSTEM_ACCOUNT, "DefaultConnectionSettings", 0x46, proxy, bypass)]

    def winhttp(proxy: str | None, bypass: str | None) -> list[dict[str, Any]]:
        return [blob(MACHINE, "WinHttpSettings", 0x28, proxy, bypass)]

    def seen(proxy: dict[str, Any]) -> dict[str, Any]:
        """Return ``expect`` of a text, nothing where the facts do not hold it letter by letter."""
        if not proxy.get("bypass_exact"):
            return {}
        bypass = proxy.get("bypass")
        return {"expect": None if bypass is None else {"type": proxy.get("bypass_type") or "string", "data": bypass}}

    if state == "present":
        return system(server, with_host("<local>")) + winhttp(server, with_host("<local>"))
    if state == "absent":
        return system(None, None) + winhttp(None, None)
    found = []
    for proxy in proxies:
        if proxy.get("bypasses_host") is not False or obstacle(proxy):
            continue
        key, bypass = proxy["key"], proxy.get("bypass")
        if proxy["name"] in BLOBS:
            data = bytes.fromhex(proxy["settings"])
            settings = parse_settings(data)
            changed = settings and with_bypass(data, with_host(settings["bypass"]))
            if changed:
                value = {"key": key, "name": proxy["name"], "type": "binary", "data": changed.hex(), "state": "present"}
                found.append(dict(value, expect={"type": "binary", "data": proxy["settings"]}))
        elif proxy["name"] == "ProxyServer":
            found.append(dict(text(key, "ProxyOverride", with_host(bypass), proxy.get("bypass_type")), **seen(proxy)))
        else:
            kept = [item for item in re.split(r"[,\s]+", bypass or "") if item]
            kept += [address for address in HOST_ADDRESSES if address not in kept]
            found.append(dict(text(key, "NO_PROXY", ",".join(kept), proxy.get("bypass_type")), **seen(proxy)))
    return [entry for number, entry in enumerate(found) if entry not in found[:number]]
