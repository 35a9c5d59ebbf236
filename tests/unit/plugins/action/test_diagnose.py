# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("action plugins run on the controller, which needs Python 3.10", allow_module_level=True)

from ansible_collections.vmbackup.azure.plugins.plugin_utils._collect import explain, unreachable


@pytest.mark.parametrize(
    "collected, words",
    [
        ({"rc": 127, "module_stderr": "/bin/sh: 1: /usr/bin/python9: not found"}, "has no Python that the collector can run on"),
        ({"msg": "Task failed: Premature end of stream", "module_stderr": "sudo: a password is required"}, "needs a password"),
        ({"module_stderr": 'File "x", line 3\n    def f(a, /):\nSyntaxError: invalid syntax'}, "too old for this ansible-core"),
        ({"module_stderr": "Traceback (most recent call last):\n  File x\nMemoryError: no room"}, "It said: MemoryError: no room"),
        ({"module_stderr": "boom https://h/p?sig=S3cr3t"}, "It said: boom"),
        ({}, "It said: nothing"),
        (
            {"module_stderr": "Cannot set property. Property setting is supported only on core types in this language mode."},
            "constrained language mode",
        ),
        ({"msg": "PowerShell runs in ConstrainedLanguage mode on this guest"}, "constrained language mode"),
        ({"module_stderr": "The term 'Get-Nothing' is not recognized as a name of a cmdlet, function"}, "lacks a command"),
    ],
)
def test_explain_is_one_sentence_without_a_traceback(collected, words):
    text = explain(collected)
    assert words in text
    assert "Traceback" not in text and "\n" not in text and "S3cr3t" not in text


@pytest.mark.parametrize(
    "text, words",
    [
        ("basic: the specified credentials were rejected by the server", "refused user and password"),
        (
            "basic: HTTPSConnectionPool(host='w', port=5986): Max retries exceeded (Caused by SSLError(SSLCertVerificationError(1, "
            "'[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate')))",
            "certificate is not trusted",
        ),
        ("basic: Failed to establish a new connection: [Errno 111] Connection refused", "WinRM does not answer"),
        ("basic: HTTPConnectionPool: Read timed out. (read timeout=30)", "did not answer in time"),
        ("winrm or requests is not installed: No module named 'winrm'", "Install pywinrm"),
        ("basic: SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)')", "does not speak HTTPS"),
        ("[Errno -2] Name or service not known", "cannot be resolved"),
        ("", "It said: nothing"),
    ],
)
def test_a_winrm_connection_that_failed_is_one_sentence_with_what_to_do(text, words):
    said = unreachable(text)
    assert words in said and "\n" not in said
