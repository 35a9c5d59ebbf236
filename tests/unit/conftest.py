# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No unit test touches the store, the lock or the snapshots of the machine that it runs on."""

import os

import pytest
from ansible_collections.vmbackup.azure.plugins.module_utils._linux import change, undo


@pytest.fixture(autouse=True)
def _own_store(monkeypatch, tmp_path_factory):
    store = tmp_path_factory.mktemp("vmbackup") / "undo"
    monkeypatch.setattr(undo, "STORE", str(store))
    monkeypatch.setattr(undo, "TRUSTED_UID", os.getuid())
    monkeypatch.setattr(change, "snapshot_runs", lambda module: False)
