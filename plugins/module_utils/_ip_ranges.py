# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Azure's lists of IP ranges: parse both formats, select by tag, region and family, merge to the fewest prefixes. Pure.

A prefix is (first, last) as two integers between the two ends of the module, since a whole file holds some 60,000 of them.
"""

import difflib
import ipaddress
import json
import re
import socket
from collections import namedtuple
from xml.parsers import expat

SERVICE_TAGS = "service_tags"
PUBLIC_IPS = "public_ips"
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "all": (4, 6)}
_BITS = {4: 32, 6: 128}
_WEB_PAGE = re.compile(r"(?i)<(?:!doctype\s+)?html\b")
_PREFIX = re.compile(r"([0-9A-Fa-f:.]{2,45})(?:/([0-9]{1,3}))?\Z")

# Names of regions in the files that are not the location that instance metadata gives, which is also the end of a tag's name.
# First properties.region and AzureCloud.* of the service tags of 2026-06-22, then PublicIPs as of 2020: the words turned round, or cut.
ALIASES = {
    "brazilne": "brazilnortheast",
    "brazilse": "brazilsoutheast",
    "centralfrance": "francecentral",
    "chilec": "chilecentral",
    "germanyn": "germanynorth",
    "germanywc": "germanywestcentral",
    "norwaye": "norwayeast",
    "norwayw": "norwaywest",
    "southfrance": "francesouth",
    "switzerlandn": "switzerlandnorth",
    "switzerlandw": "switzerlandwest",
    "usstagec": "southcentralusstg",
    "usstagee": "eastusstg",
    "asiaeast": "eastasia",
    "asiasoutheast": "southeastasia",
    "australiac": "australiacentral",
    "australiac2": "australiacentral2",
    "europenorth": "northeurope",
    "europenorth2": "northeurope2",
    "europewest": "westeurope",
    "francec": "francecentral",
    "frances": "francesouth",
    "indiacentral": "centralindia",
    "indiasouth": "southindia",
    "indiawest": "westindia",
    "southafrican": "southafricanorth",
    "southafricaw": "southafricawest",
    "uaec": "uaecentral",
    "uaen": "uaenorth",
    "uscentral": "centralus",
    "uscentraleuap": "centraluseuap",
    "useast": "eastus",
    "useast2": "eastus2",
    "useast2euap": "eastus2euap",
    "usnorth": "northcentralus",
    "ussouth": "southcentralus",
    "uswest": "westus",
    "uswest2": "westus2",
    "uswestcentral": "westcentralus",
}


class IpRangesError(Exception):
    """What is wrong with the file or with the question, as one sentence."""


# name: as the file spells it; service: the part before the region; region: location name, None when the tag has none.
Tag = namedtuple("Tag", "name service region prefixes")
# tags: by name in small letters. change_number and cloud are None when the file does not say.
Document = namedtuple("Document", "format cloud change_number tags")


def location(name):
    """Return the location name of a region, however it is spelt: ``West Europe``, ``europewest``, ``centralfrance``."""
    plain = re.sub(r"[\s_-]", "", name).lower()
    return ALIASES.get(plain, plain)


def parse(raw):
    """Return the Document of a file's bytes, which format it may have.

    :raises IpRangesError: when it is neither format, or broken. The prefixes themselves are read when they are selected.
    """
    text = _decode(raw)
    if _WEB_PAGE.match(text):
        raise IpRangesError("it is a web page: download the file that the page links")
    if text[:1] == "{":
        return _parse_service_tags(text)
    if text[:1] == "<":
        return _parse_public_ips(text)
    raise IpRangesError("it is {0}".format("neither JSON nor XML" if text else "empty"))


def _decode(raw):
    """Return the text of the file. What PowerShell has written again comes with a mark, and often as UTF-16."""
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").strip()
    except UnicodeDecodeError:
        raise IpRangesError("it is no text in UTF-8 or UTF-16")


def _parse_service_tags(text):
    try:
        top = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IpRangesError("it is broken JSON ({0}); perhaps the download was cut short".format(error))
    if not isinstance(top.get("values"), list):
        raise IpRangesError("it is JSON without the list 'values', so no file of service tags")
    tags = {}
    for number, entry in enumerate(top["values"], 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        properties = entry.get("properties") if isinstance(entry, dict) else None
        prefixes = (properties.get("addressPrefixes") or []) if isinstance(properties, dict) else None
        if not _is_name(name) or not isinstance(prefixes, list):
            raise IpRangesError("entry {0} of 'values' has no name or no list of prefixes".format(number))
        service, dot, end = name.rpartition(".")
        # AzureFrontDoor.Backend has no region; the region of Storage.EastUS2Stage is not the eastus2 that its properties name.
        if dot and properties.get("region"):
            tag = Tag(name, service, location(end), prefixes)
        else:
            tag = Tag(name, name, None, prefixes)
        _add(tags, tag)
    cloud, number = top.get("cloud"), top.get("changeNumber")
    if isinstance(number, str) and re.match(r"[0-9]{1,18}\Z", number):  # Azure's API gives text where the file gives a number
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        number = None
    return Document(SERVICE_TAGS, cloud if isinstance(cloud, str) and cloud else None, number, tags)


def _parse_public_ips(text):
    tags, stack = {}, []

    def start(name, attributes):
        if not stack and name != "AzurePublicIpAddresses":
            raise IpRangesError("it is XML of another kind, not PublicIPs")
        value = attributes.get({"Region": "Name", "IpRange": "Subnet"}.get(name))
        if name == "Region":
            if not _is_name(value):
                raise IpRangesError("a region in it has no name")
            stack.append(_add(tags, Tag(value, None, location(value), [])))
            return
        if name == "IpRange":
            if not value or not stack[-1]:
                raise IpRangesError("a range in it has no prefix or no region")
            stack[-1].prefixes.append(value)
        stack.append(None)

    def doctype(*_declaration):
        raise IpRangesError("it is XML with a document type, which Azure's has not")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: stack.pop()
    parser.StartDoctypeDeclHandler = doctype  # so no entity is ever expanded
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError) as error:
        raise IpRangesError("it is broken XML ({0}); perhaps the download was cut short".format(error))
    return Document(PUBLIC_IPS, None, None, tags)


def _is_name(value):
    return isinstance(value, str) and value != "" and value.isprintable()


def _add(tags, tag):
    """Add the tag; one that is there twice gets the prefixes of both."""
    there = tags.setdefault(tag.name.lower(), tag)
    if there is not tag:
        there.prefixes.extend(tag.prefixes)
    return there


def select(document, tags=(), regions=()):
    """Return the Tags that were asked for, by name.

    :param tags: names of services (``Storage``) or whole names (``Storage.WestEurope``), any case; none means all.
    :param regions: names of regions in any spelling; none means the worldwide tag of a service.
        A tag that the file does not split by region is taken whole.
    :raises IpRangesError: when something asked for is not in the file.
    """
    known = {tag.region for tag in document.tags.values()} - {None}
    wanted = []
    for name in regions:
        if location(name) not in known:
            raise IpRangesError("it has no region {0!r}{1}".format(name, _near(location(name), known)))
        wanted.append(location(name))
    if tags and document.format == PUBLIC_IPS:
        raise IpRangesError("it is the retired XML, which has regions but no tags: leave the tags out, or use the JSON of service tags")
    if tags:
        found = _named(document, tags, wanted)
    else:
        found = [tag for tag in document.tags.values() if not wanted or tag.region in wanted]
    return [tag for _name, tag in sorted({tag.name: tag for tag in found}.items())]


def _named(document, names, wanted):
    services = {}
    for tag in document.tags.values():
        if tag.region:
            services.setdefault(tag.service.lower(), {})[tag.region] = tag
    found = []
    for name in names:
        key = name.strip().lower()
        service, _dot, end = key.rpartition(".")
        tag = document.tags.get(key) or services.get(service, {}).get(location(end))
        split = services.get(key)
        if not tag and not split:
            every = {one.name.lower(): one.name for one in document.tags.values()}
            every.update((one.service.lower(), one.service) for one in document.tags.values())
            raise IpRangesError("it has no tag {0!r}{1}".format(name, _near(key, every)))
        if wanted and split:
            for region in wanted:
                if region not in split:
                    raise IpRangesError("it has {0} but not in region {1!r}{2}".format(name, region, _near(region, split)))
                found.append(split[region])
        elif not tag:
            raise IpRangesError("it has {0} by region only: name the regions".format(name))
        elif wanted and tag.region and tag.region not in wanted:
            raise IpRangesError("tag {0} is not of the regions asked for ({1})".format(tag.name, ", ".join(wanted)))
        else:
            found.append(tag)
    return found


def _near(key, names):
    """Return the end of the sentence: up to three names that may have been meant. names: a set, or spellings by name in small letters."""
    if not key:
        return ""
    close = difflib.get_close_matches(key, sorted(names), 3, 0.7)
    close += sorted((name for name in names if key in name and name not in close), key=lambda name: (len(name), name))
    spelt = [names[name] if isinstance(names, dict) and isinstance(names[name], str) else name for name in close[:3]]
    return "; near it: {0}".format(", ".join(spelt)) if spelt else ""


def networks(tags, family="ipv4"):
    """Return {4: set of (first, last), 6: ...} of the tags' prefixes, for the versions of the family.

    :raises IpRangesError: when something is no prefix. Bits beyond the mask are refused, since widening or narrowing would be a guess.
    """
    found = {version: set() for version in FAMILIES[family]}
    seen = set()
    for tag in tags:
        for prefix in tag.prefixes:
            try:
                if prefix in seen:
                    continue
                seen.add(prefix)
                version = 6 if ":" in prefix else 4
                if version in found:
                    found[version].add(_network(prefix, version))
            except (TypeError, ValueError, OSError):
                raise IpRangesError("tag {0} holds {1}, which is no prefix".format(tag.name, ascii(prefix)[:80]))
    return found


def _network(prefix, version):
    # Ten times as fast as ipaddress.ip_network, and the same on every Python: leading zeros are always refused.
    match = _PREFIX.match(prefix)
    if not match:
        raise ValueError(prefix)
    address, length = match.groups()
    first = int.from_bytes(socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, address), "big")
    bits = _BITS[version]
    host = bits - (bits if length is None else int(length))
    if not 0 <= host < bits:  # a prefix of length 0 would be everything there is
        raise ValueError(prefix)
    last = first | ((1 << host) - 1)
    if first != last >> host << host:
        raise ValueError(prefix)
    return first, last


def merge(ranges, version):
    """Return the fewest prefixes that hold exactly the addresses of these (first, last), in order."""
    merged = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1][1] = last
        else:
            merged.append([first, last])
    found = []
    for first, last in merged:
        while first <= last:
            # The largest block that starts here: as far as the address is aligned, and no further than the end.
            aligned = (first & -first).bit_length() - 1 if first else _BITS[version]
            host = min(aligned, (last - first + 1).bit_length() - 1)
            found.append((first, first + (1 << host) - 1))
            first += 1 << host
    return found


def spell(network, version):
    """Return (first, last) of one prefix as text."""
    first, last = network
    address = ipaddress.IPv6Address(first) if version == 6 else ipaddress.IPv4Address(first)
    return "{0}/{1}".format(address, _BITS[version] - (last - first).bit_length())


def answer(document, tags=(), regions=(), family="ipv4", merged=True):
    """Return what was asked for as plain values: prefixes in order (IPv4 first), their number before and after, tags and regions.

    :raises IpRangesError: when something asked for is not in the file, or a prefix in it is broken.
    """
    chosen = select(document, tags, regions)
    found = networks(chosen, family)
    counts = {"in_file": sum(len(ranges) for ranges in found.values()), "ipv4": 0, "ipv6": 0}
    prefixes = []
    for version in sorted(found):
        lines = [spell(one, version) for one in (merge(found[version], version) if merged else sorted(found[version]))]
        counts["ipv{0}".format(version)] = len(lines)
        prefixes += lines
    return {
        "prefixes": prefixes,
        "counts": counts,
        "tags": [tag.name for tag in chosen] if document.format == SERVICE_TAGS else [],
        "regions": sorted({tag.region for tag in chosen} - {None}),
        "format": document.format,
        "cloud": document.cloud,
        "change_number": document.change_number,
    }
