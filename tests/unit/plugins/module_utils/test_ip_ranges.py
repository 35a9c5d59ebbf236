# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import ipaddress
import json
import os
import random

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._ip_ranges import ALIASES, IpRangesError, answer, location, merge, parse, spell

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "azure-ip-ranges")


def fixture(name):
    with open(os.path.join(FIXTURES, name), "rb") as stream:
        return stream.read()


JSON = fixture("ServiceTags_Public_20260622-excerpt.json")
XML = fixture("PublicIPs_20160418-invented.xml")
TAGS = parse(JSON)
REGIONS = parse(XML)


def made(*prefixes):
    """Return a file of one tag."""
    return json.dumps({"values": [{"name": "T", "properties": {"region": "", "addressPrefixes": list(prefixes)}}]}).encode()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("westeurope", "westeurope"),
        ("West Europe", "westeurope"),
        ("europewest", "westeurope"),
        ("centralfrance", "francecentral"),
        ("francec", "francecentral"),
        ("ChileC", "chilecentral"),
        ("usnorth", "northcentralus"),
        ("uswest2", "westus2"),
        ("koreacentral", "koreacentral"),
        ("somewhere new", "somewherenew"),
    ],
)
def test_location(name, expected):
    assert location(name) == expected


def test_no_alias_is_a_location():
    assert not set(ALIASES) & set(ALIASES.values())


def test_regions_whose_properties_differ_from_the_name_of_the_tag():
    values = {entry["name"]: entry["properties"]["region"] for entry in json.loads(JSON.decode())["values"]}
    for tag in TAGS.tags.values():
        if tag.region and tag.name != "Storage.EastUS2Stage":
            assert tag.region == location(values[tag.name])
    assert TAGS.tags["storage.eastus2stage"].region == "eastus2stage"
    assert TAGS.tags["azurefrontdoor.microsoftsecurity"].region is None


@pytest.mark.parametrize(
    "tags, regions, expected",
    [
        (["Storage.FranceCentral"], [], ["Storage.FranceCentral"]),
        (["storage.centralfrance"], [], ["Storage.FranceCentral"]),
        (["Storage"], ["francecentral"], ["Storage.FranceCentral"]),
        (["STORAGE", "AzureBackup"], ["centralfrance", "Chile Central"],
         ["AzureBackup.ChileCentral", "AzureBackup.FranceCentral", "Storage.ChileCentral", "Storage.FranceCentral"]),
        (["AzureCloud"], ["chilecentral"], ["AzureCloud.chilec"]),
        (["AzureCloud.chilecentral"], [], ["AzureCloud.chilec"]),
        (["AzureCloud"], ["brazilnortheast"], ["AzureCloud.brazilne"]),
        (["Grafana", "AzureBackup"], ["westeurope"], ["AzureBackup.WestEurope", "Grafana"]),
        (["AzureFrontDoor.MicrosoftSecurity"], ["westeurope"], ["AzureFrontDoor.MicrosoftSecurity"]),
        (["Grafana", "Grafana", " grafana "], [], ["Grafana"]),
        ([], ["chilecentral"], ["AzureBackup.ChileCentral", "AzureCloud.chilec", "Storage.ChileCentral"]),
        ([], ["eastus2stage"], ["Storage.EastUS2Stage"]),
    ],
)  # fmt: skip
def test_select(tags, regions, expected):
    assert answer(TAGS, tags, regions)["tags"] == expected


def test_nothing_asked_is_everything():
    everything = answer(TAGS, family="all")
    assert len(everything["tags"]) == len(TAGS.tags) == 11
    assert everything["regions"] == ["brazilnortheast", "chilecentral", "eastus2stage", "francecentral", "westeurope"]
    assert (everything["cloud"], everything["change_number"], everything["format"]) == ("Public", 372, "service_tags")


@pytest.mark.parametrize(
    "document, tags, regions, sentence",
    [
        (TAGS, ["AzureBackups"], [], "it has no tag 'AzureBackups'; near it: AzureBackup, "),
        (TAGS, ["azurebackup.westeurop"], [], "it has no tag 'azurebackup.westeurop'; near it: AzureBackup.WestEurope"),
        (TAGS, ["desktop"], [], "it has no tag 'desktop'; near it: WindowsVirtualDesktop"),
        (TAGS, ["xyzzy"], [], "it has no tag 'xyzzy'"),
        (TAGS, [""], [], "it has no tag ''"),
        (TAGS, ["Storage"], [], "it has Storage by region only: name the regions"),
        (TAGS, [], ["westeurop"], "it has no region 'westeurop'; near it: westeurope"),
        (TAGS, [], ["eastus2"], "it has no region 'eastus2'; near it: eastus2stage"),
        (TAGS, [], [""], "it has no region ''"),
        (TAGS, ["Storage"], ["westeurope"], "it has Storage but not in region 'westeurope'"),
        (TAGS, ["Storage.FranceCentral"], ["westeurope"], "tag Storage.FranceCentral is not of the regions asked for (westeurope)"),
        (REGIONS, ["Storage"], [], "regions but no tags"),
        (REGIONS, [], ["asiaeast"], "it has no region 'asiaeast'; near it: eastus"),
    ],
)
def test_select_refused(document, tags, regions, sentence):
    with pytest.raises(IpRangesError) as caught:
        answer(document, tags, regions)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("family, expected", [("ipv4", (8, 0)), ("ipv6", (0, 4)), ("all", (8, 4))])
def test_family(family, expected):
    found = answer(TAGS, ["AzureBackup.WestEurope"], family=family)
    assert (found["counts"]["ipv4"], found["counts"]["ipv6"]) == expected
    assert found["counts"]["in_file"] == sum(expected) == len(found["prefixes"])
    assert found["prefixes"] == sorted(found["prefixes"], key=lambda one: (":" in one, ipaddress.ip_network(one)))


def test_merge_takes_in_and_joins():
    assert answer(TAGS, ["WindowsVirtualDesktop"], family="ipv6")["prefixes"] == ["2603:1061:2010::/47"]
    alone = answer(TAGS, ["AzureCloud.chilec"])
    assert answer(TAGS, [], ["chilecentral"])["prefixes"] == alone["prefixes"]
    apart = answer(TAGS, [], ["chilecentral"], merged=False)
    assert len(apart["prefixes"]) == apart["counts"]["in_file"] > len(alone["prefixes"])


@pytest.mark.parametrize(
    "prefixes, expected",
    [
        ([], []),
        (["10.0.0.0/25", "10.0.0.128/25"], ["10.0.0.0/24"]),
        (["10.0.0.128/25", "10.0.1.0/25"], ["10.0.0.128/25", "10.0.1.0/25"]),
        (["10.0.0.0/8", "10.1.2.3/32"], ["10.0.0.0/8"]),
        (["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4"], ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/0"]),
        (["255.255.255.255/32", "255.255.255.254/32"], ["255.255.255.254/31"]),
        (["::/1", "8000::/1"], ["::/0"]),
        (["2001:DB8:0::/48", "2001:db8:1::/48"], ["2001:db8::/47"]),
    ],
)
def test_merge(prefixes, expected):
    assert answer(parse(made(*prefixes)), family="all")["prefixes"] == expected


@pytest.mark.parametrize("version", [4, 6])
def test_merge_is_what_the_standard_library_says(version):
    rng = random.Random(version)
    kind, bits = (ipaddress.IPv4Network, 32) if version == 4 else (ipaddress.IPv6Network, 128)
    for _case in range(300):
        given = set()
        for _prefix in range(rng.randint(0, 30)):
            host = rng.randint(0, 5)
            first = (rng.randint(0, 63) >> host << host) + rng.choice((0, 2**bits - 64))
            given.add((first, first + (1 << host) - 1))
        whole = [kind((first, bits - (last - first).bit_length())) for first, last in given]
        assert [spell(one, version) for one in merge(given, version)] == [str(one) for one in ipaddress.collapse_addresses(whole)]


@pytest.mark.parametrize("document", [TAGS, REGIONS])
def test_fixture_keeps_exactly_its_addresses(document):
    given = [prefix for tag in document.tags.values() for prefix in tag.prefixes]
    expected = []
    for version in (4, 6):
        nets = [net for net in map(ipaddress.ip_network, given) if net.version == version]
        expected += [str(net) for net in ipaddress.collapse_addresses(nets)]
    assert answer(document, family="all")["prefixes"] == expected


@pytest.mark.parametrize(
    "prefix",
    ["10.0.0.1/24", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0/24", "010.0.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/\u0662",
     "fe80::1%eth0/128", "2001:db8::1/64", "::/129", "any", "", " 10.0.0.0/8", "10.0.0.0/8\n", None, 10, ["10.0.0.0/8"], {}],
)  # fmt: skip
def test_what_is_no_prefix_is_named(prefix):
    with pytest.raises(IpRangesError) as caught:
        answer(parse(made("10.0.0.0/8", prefix)), family="all")
    assert str(caught.value) == "tag T holds {0}, which is no prefix".format(ascii(prefix))


def test_xml():
    assert sorted(tag.region for tag in REGIONS.tags.values()) == ["eastus", "francecentral", "westeurope"]
    assert answer(REGIONS, [], ["francecentral"])["prefixes"] == ["203.0.113.7/32"]
    assert answer(REGIONS, [], ["useast", "westeurope"]) == {
        "prefixes": ["13.69.0.0/17", "192.0.2.0/24", "198.51.100.0/24"],
        "counts": {"in_file": 5, "ipv4": 3, "ipv6": 0},
        "tags": [],
        "regions": ["eastus", "westeurope"],
        "format": "public_ips",
        "cloud": None,
        "change_number": None,
    }
    assert answer(REGIONS, family="ipv6")["prefixes"] == []


@pytest.mark.parametrize("raw", [JSON, XML])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_another_program_has_saved(raw, encoding):
    assert parse(raw.decode().replace("\n", "\r\n").encode(encoding)) == parse(raw)


def test_answer_of_the_api_and_fields_that_are_null():
    entry = {
        "name": "Storage.WestUS",
        "properties": {"changeNumber": "7", "region": "westus", "addressPrefixes": None, "networkFeatures": None},
    }
    document = parse(json.dumps({"changeNumber": "63", "cloud": "", "values": [entry, entry]}).encode())
    assert (document.change_number, document.cloud) == (63, None)
    assert answer(document, ["Storage"], ["westus"])["prefixes"] == []


def test_a_name_that_is_there_twice_has_the_prefixes_of_both():
    twice = XML.replace(b"useast", b"EuropeWest")
    assert answer(parse(twice), [], ["westeurope"])["prefixes"] == ["13.69.0.0/17", "192.0.2.0/24", "198.51.100.0/24"]


@pytest.mark.parametrize(
    "raw, sentence",
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xfe\x00", "no text in UTF-8 or UTF-16"),
        (b"\x89PNG", "no text in UTF-8 or UTF-16"),
        (b"name,prefix", "neither JSON nor XML"),
        (JSON[:-40], "broken JSON"),
        (b'{"a":' * 100000, "broken JSON"),
        (b"{}", "without the list 'values'"),
        (b'{"values": [null]}', "entry 1 of 'values' has no name or no list of prefixes"),
        (b'{"values": [{"name": "", "properties": {}}]}', "entry 1 of 'values'"),
        (b'{"values": [{"name": "a\\nb", "properties": {}}]}', "entry 1 of 'values'"),
        (b'{"values": [{"name": "A", "properties": {"addressPrefixes": "10.0.0.0/8"}}]}', "entry 1 of 'values'"),
        (b"<!DOCTYPE html><html></html>", "it is a web page: download the file that the page links"),
        (b'<html lang="en">', "it is a web page"),
        (b"<Other/>", "XML of another kind"),
        (XML[:-40], "broken XML"),
        (XML.replace(b"?>", b'?><!DOCTYPE a [<!ENTITY b "10.0.0.0/8">]>'), "XML with a document type"),
        (XML.replace(b' Name="useast"', b""), "a region in it has no name"),
        (XML.replace(b'Subnet="13.69.0.0/17"', b""), "a range in it has no prefix or no region"),
        (b'<AzurePublicIpAddresses><IpRange Subnet="10.0.0.0/8"/></AzurePublicIpAddresses>', "a range in it has no prefix or no region"),
    ],
)
def test_parse_refused(raw, sentence):
    with pytest.raises(IpRangesError) as caught:
        parse(raw)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_prefixes_of_other_tags_are_not_looked_at():
    raw = JSON.replace(b'"40.81.96.212/32"', b'"rubbish"')
    assert answer(parse(raw), ["WindowsVirtualDesktop"])["counts"]["ipv4"] == 5
    with pytest.raises(IpRangesError):
        answer(parse(raw), ["Grafana"])
