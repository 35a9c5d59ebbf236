# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

import os

import pytest
from ansible_collections.vmbackup.azure.plugins.modules import azure_ip_ranges
from ansible_collections.vmbackup.azure.tests.unit.plugins.modules.fake_module import run

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "azure-ip-ranges")
TAGS = os.path.join(FIXTURES, "ServiceTags_Public_20260622-excerpt.json")
XML = os.path.join(FIXTURES, "PublicIPs_20160418-invented.xml")


@pytest.mark.parametrize("check_mode", [False, True])
def test_service_tags(monkeypatch, check_mode):
    result = run(
        monkeypatch,
        azure_ip_ranges,
        {"path": TAGS, "tags": ["AzureBackup"], "regions": ["chilecentral"], "family": "all"},
        check_mode=check_mode,
    )
    assert result == {
        "changed": False,
        "prefixes": ["68.211.4.128/26", "68.211.20.208/28", "2603:1050:301::600/121"],
        "counts": {"in_file": 3, "ipv4": 2, "ipv6": 1},
        "tags": ["AzureBackup.ChileCentral"],
        "regions": ["chilecentral"],
        "format": "service_tags",
        "cloud": "Public",
        "change_number": 372,
        "warnings": [],
    }


def test_xml_and_merge(monkeypatch):
    asked = {"path": XML, "regions": ["westeurope"]}
    result = run(monkeypatch, azure_ip_ranges, asked)
    assert result["prefixes"] == ["13.69.0.0/17", "192.0.2.0/24"]
    assert (result["format"], result["cloud"], result["change_number"]) == ("public_ips", None, None)
    result = run(monkeypatch, azure_ip_ranges, dict(asked, merge=False))
    assert result["prefixes"] == ["13.69.0.0/17", "192.0.2.0/25", "192.0.2.128/25"]


def test_refusals_are_one_sentence(monkeypatch, tmp_path):
    def message(**asked):
        result = run(monkeypatch, azure_ip_ranges, dict({"path": TAGS}, **asked))
        assert result["failed"] and "\n" not in result["msg"]
        return result["msg"]

    assert message(tags=["Grafan"]) == "Nothing was taken from {0}: it has no tag 'Grafan'; near it: Grafana.".format(TAGS)
    assert "cannot be read (No such file or directory)" in message(path=str(tmp_path / "missing"))
    assert message(path=str(tmp_path)).endswith(": it is no file.")
    monkeypatch.setattr(azure_ip_ranges, "MAX_FILE_BYTES", 1 << 10)
    assert "it has more than 0 MB" in message()
