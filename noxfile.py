# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
"""The checks one by one: nox -s NAME. Each is a target of the Makefile, which sets up its own tools in .cache/venv."""

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["format", "lint", "types", "unit", "docs", "changelog", "licences"]
TARGETS = {
    "format": "format-check",
    "lint": "lint",
    "types": "types",
    "unit": "unit",
    "sanity": "sanity",
    "published": "published",
    "docs": "docs-lint",
    "changelog": "changelog-lint",
    "licences": "licences",
}


def session(name, target):
    @nox.session(name=name, python=False)
    def run(session):
        session.run("make", "--no-print-directory", target, external=True)


for _name, _target in TARGETS.items():
    session(_name, _target)
