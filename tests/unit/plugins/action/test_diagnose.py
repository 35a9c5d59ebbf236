# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("action plugins run on the controller, which needs Python 3.10", allow_module_level=True)

from ansible_collections.vmbackup.azure.plugins.action.diagnose import explain


@pytest.mark.parametrize(
    "collected, words",
    [
        ({"rc": 127, "module_stderr": "/bin/sh: 1: /usr/bin/python9: not found"}, "has no Python that the collector can run on"),
        ({"msg": "Task failed: Premature end of stream", "module_stderr": "sudo: a password is required"}, "needs a password"),
        ({"module_stderr": 'File "x", line 3\n    def f(a, /):\nSyntaxError: invalid syntax'}, "too old for this ansible-core"),
        ({"module_stderr": "Traceback (most recent call last):\n  File x\nMemoryError: no room"}, "It said: MemoryError: no room"),
        ({"module_stderr": "boom https://h/p?sig=S3cr3t"}, "It said: boom"),
        ({}, "It said: nothing"),
    ],
)
def test_explain_is_one_sentence_without_a_traceback(collected, words):
    text = explain(collected)
    assert words in text
    assert "Traceback" not in text and "\n" not in text and "S3cr3t" not in text
