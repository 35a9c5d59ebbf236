# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in for AnsibleModule, so that a module's main can be tested without a machine."""

import subprocess


class Exit(Exception):
    """Raised instead of leaving the process; holds what the module returned."""

    def __init__(self, result):
        super(Exit, self).__init__(result.get("msg"))
        self.result = result


def run(monkeypatch, module, params, check_mode=False, commands=None):
    """Call a module's main; returns what it returned.

    :param commands: function of the argument list that answers run_command with (exit code, output, error output); what the command reads, if
        anything, comes second.
    """

    class Fake(object):
        def __init__(self, argument_spec, supports_check_mode=False, **_others):
            unknown = set(params) - set(argument_spec)
            assert not unknown, unknown
            self.params = {key: params.get(key, spec.get("default")) for key, spec in argument_spec.items()}
            self.check_mode = check_mode
            self.warnings = []
            self.tmpdir = None

        def exit_json(self, **result):
            raise Exit(dict(result, warnings=self.warnings))

        def fail_json(self, **result):
            raise Exit(dict(result, failed=True))

        def warn(self, text):
            self.warnings.append(text)

        def get_bin_path(self, name):
            return name

        def run_command(self, arguments, data=None, **_options):
            if commands:
                return commands(arguments) if data is None else commands(arguments, data)
            assert arguments[0] == "mv", arguments
            return subprocess.call(arguments), "", ""

    monkeypatch.setattr(module, "AnsibleModule", Fake)
    try:
        module.main()
    except Exit as exit_:
        return exit_.result
    raise AssertionError("the module did not end")
