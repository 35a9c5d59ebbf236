# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# Set-up is kept in .cache and in the lab's own cache; each target sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export VMBACKUP_CACHE ?= $(CURDIR)/.cache
export LC_ALL ?= C.UTF-8
VENV := $(VMBACKUP_CACHE)/venv
BIN := $(VENV)/bin
TREE := $(VMBACKUP_CACHE)/tree
COLLECTIONS := $(VMBACKUP_CACHE)/collections
IN_TREE := PYTHONPATH=$(TREE) PYTHONDONTWRITEBYTECODE=1
SEARCHED := $(COLLECTIONS):$(VMBACKUP_CACHE)/needed
ANSIBLE := PATH=$(BIN):$$PATH ANSIBLE_COLLECTIONS_PATH=$(SEARCHED) ANSIBLE_CONFIG=$(CURDIR)/lab/ansible.cfg ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INJECT_FACT_VARS=false
INVENTORY := lab/inventory
FUZZ_CASES ?= 100000
# A seed of its own for each run; make test takes the same one always, so that it says the same of the same code.
FUZZ_SEED ?=
SOURCES := $(shell git ls-files -co --exclude-standard galaxy.yml README.md CHANGELOG.md meta plugins roles playbooks docs changelogs 2>/dev/null)

.PHONY: help setup check format format-check lint types licences changelog-lint tables-check unit unit-programs unit36 docs docs-lint sanity pslint published fuzz bench bench-azure compare build install demo test lab lab-test lanes lane-linux lane-windows lane-programs lane-check lane-sanity molecule scenario-windows clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## set up the tools for make check
	@tests/tools/setup.sh main

check: setup ## format, lint, types, documents, licences and unit tests: about two minutes
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target format-check lint types docs-lint changelog-lint licences unit

format-check: setup
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted; run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .

licences: setup ## each file has its licence (REUSE)
	@$(BIN)/reuse lint --quiet || { $(BIN)/reuse lint --lines; exit 1; }

changelog-lint: setup
	@PATH=$(BIN):$$PATH $(BIN)/antsibull-changelog lint

format: setup ## bring the Python code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

lint: setup install
	@PATH=$(BIN):$$PATH ANSIBLE_COLLECTIONS_PATH=$(SEARCHED) $(BIN)/ansible-lint --offline --strict --profile production -q

types: setup ## types of the controller's side
	@cd $(TREE) && $(BIN)/mypy --config-file $(CURDIR)/mypy.ini --cache-dir $(VMBACKUP_CACHE)/mypy ansible_collections/vmbackup/azure/plugins/plugin_utils >$(VMBACKUP_CACHE)/mypy.log || { cat $(VMBACKUP_CACHE)/mypy.log; exit 1; }

# Tests that start Ansible's programs on every core: minutes rather than seconds.
PROGRAMS := tests/unit/plugins/inventory/test_failed_backups.py tests/unit/plugins/action/test_backup_info.py \
  tests/unit/plugins/action/test_diagnose_azure.py tests/unit/plugins/action/test_remediate_azure.py \
  tests/unit/plugins/plugin_utils/_azure/test_azure_killed.py tests/unit/plugins/action/test_azcollection_reads.py \
  tests/unit/fleet/test_awx.py tests/unit/fleet/test_rulebook.py tests/unit/fleet/test_execution_environment.py \
  tests/unit/fleet/test_report_container.py

unit: setup ## unit tests
	@$(IN_TREE) $(BIN)/python -m pytest -q -n 2 -p no:cacheprovider $(addprefix --ignore=,$(PROGRAMS)) tests/unit

unit-programs: setup ## unit tests that start Ansible's programs, on cores 2.16, 2.19 and 2.21
	@tests/tools/setup.sh cores fleet azurite
	@$(IN_TREE) $(BIN)/python -m pytest -q -n 2 -p no:cacheprovider -rs $(PROGRAMS)

unit36: setup ## unit tests and fuzzing of the guest's side on Python 3.6
	@tests/tools/setup.sh python36
	@if [ -x $(VMBACKUP_CACHE)/python36/bin/python ]; then \
	  $(IN_TREE) $(VMBACKUP_CACHE)/python36/bin/python -m pytest -q -p no:cacheprovider tests/unit/plugins/module_utils tests/unit/plugins/modules; \
	  $(IN_TREE) $(VMBACKUP_CACHE)/python36/bin/python tests/fuzz/fuzz.py 5000 $(FUZZ_SEED); \
	else echo "SKIPPED unit tests on Python 3.6: there is none on this machine."; fi

docs: setup ## write docs/findings.md, what restates the remedies, and the lab's inventory
	@lab/lab inventory >/dev/null
	@$(IN_TREE) $(BIN)/python tests/tools/tables.py
	@$(IN_TREE) $(BIN)/python tests/tools/findings_doc.py docs/findings.md

tables-check: setup
	@$(IN_TREE) $(BIN)/python tests/tools/findings_doc.py --check docs/findings.md
	@$(IN_TREE) $(BIN)/python tests/tools/tables.py --check

docs-lint: setup install tables-check
	@cd $(COLLECTIONS)/ansible_collections/vmbackup/azure && PATH=$(BIN):$$PATH ANSIBLE_COLLECTIONS_PATH=$(SEARCHED) $(BIN)/antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck --validate-collection-refs=all --disallow-unknown-collection-refs .

sanity: setup ## ansible-test sanity on cores 2.16, 2.19 and 2.21
	@tests/tools/setup.sh cores
	@for core in 2.16 2.19 2.21; do \
	  if tests/tools/sanity.sh $$core >$(VMBACKUP_CACHE)/sanity-$$core.log 2>&1; then grep -h '^SKIPPED' $(VMBACKUP_CACHE)/sanity-$$core.log || true; \
	    grep -q '^SKIPPED sanity on core' $(VMBACKUP_CACHE)/sanity-$$core.log || echo "sanity on core $$core: passed, no ignores"; \
	  else grep -hE '^(ERROR|FATAL)' $(VMBACKUP_CACHE)/sanity-$$core.log | head -50; echo "sanity on core $$core FAILED, see $(VMBACKUP_CACHE)/sanity-$$core.log"; exit 1; fi; done

published: setup install ## what Galaxy's importer and a documentation site make of the archive
	@tests/tools/setup.sh published
	@tests/tools/published.sh

pslint: setup ## what Windows PowerShell 5.1 does not have must not be in the PowerShell files; by the guest's own parser
	@tests/tools/pslint.sh

fuzz: setup ## at least 100,000 mutated inputs through every parser
	@$(IN_TREE) $(BIN)/python tests/fuzz/fuzz.py $(FUZZ_CASES) $(FUZZ_SEED)

bench-azure: setup ## reading Azure, 100 and 1,000 VMs of the stand-in; BENCH_AZCOLLECTION=1 measures azure.azcollection too
	@PATH=$(BIN):$$PATH ANSIBLE_COLLECTIONS_PATH=$(TREE) $(BIN)/python bench/azure.py

compare: setup ## what the rules said at COMMIT against what they say now, for changes of structure
	@$(IN_TREE) $(BIN)/python tests/tools/compare.py $(COMMIT) $(FACTS)

build: setup ## build the archive that ansible-galaxy installs
	@mkdir -p $(VMBACKUP_CACHE)/build
	@$(BIN)/ansible-galaxy collection build --force --output-path $(VMBACKUP_CACHE)/build . >$(VMBACKUP_CACHE)/build/log 2>&1 || { cat $(VMBACKUP_CACHE)/build/log; exit 1; }

install: $(COLLECTIONS)/.installed

$(COLLECTIONS)/.installed: $(SOURCES)
	@$(MAKE) --no-print-directory build
	@rm -rf $(COLLECTIONS) && mkdir -p $(COLLECTIONS)
	@$(BIN)/ansible-galaxy collection install --offline --no-deps -p $(COLLECTIONS) $(VMBACKUP_CACHE)/build/vmbackup-azure-*.tar.gz >$(VMBACKUP_CACHE)/build/log 2>&1 || { cat $(VMBACKUP_CACHE)/build/log; exit 1; }
	@touch $@

lab: setup install ## start the lab: guests and the platform stand-in
	@lab/lab setup
	@lab/lab up

demo: lab ## break guests in the lab, diagnose and repair them, leave a report
	@$(ANSIBLE) bash lab/demo.sh $(INVENTORY)

bench: lab ## ratios: diagnose to ping, remediate to a playbook of stock modules
	@$(ANSIBLE) $(BIN)/python bench/bench.py $(INVENTORY)
	@$(MAKE) --no-print-directory bench-azure

PYTEST_LAB := $(ANSIBLE) $(IN_TREE) $(BIN)/python -m pytest -v -p no:cacheprovider --durations=10

molecule: lab ## the scenarios of extensions/molecule on the lab
	@tests/tools/setup.sh cores
	@for name in default agent azure windows; do $(MAKE) --no-print-directory scenario-$$name; done

scenario-windows:
	@lacks=$$(lab/lab lacks windows); if [ -n "$$lacks" ]; then echo "SKIPPED scenario windows: $$lacks"; \
	else $(ANSIBLE) $(BIN)/molecule test --scenario-name windows; fi

scenario-%:
	@$(ANSIBLE) $(BIN)/molecule test --scenario-name $*

lab-test: lab ## everything that is shown on real guests beside the scenarios
	@tests/tools/setup.sh cores
	@$(PYTEST_LAB) tests/lab

# Linux and Windows guests side by side, and beside them what needs no guest: the lab waits more than it works.
ON_WINDOWS := $(addprefix tests/lab/test_lab_windows,.py _snapshot.py _safety.py _undo.py _logs.py)

lane-linux:
	@$(MAKE) --no-print-directory scenario-default scenario-agent scenario-azure
	@$(PYTEST_LAB) $(addprefix --ignore=,$(ON_WINDOWS)) tests/lab

lane-windows:
	@$(MAKE) --no-print-directory scenario-windows
	@$(PYTEST_LAB) $(ON_WINDOWS)

lane-programs: # takes the processor only where the tests on guests leave it, since many of those have deadlines
	@tests/tools/setup.sh azurite # here, since the registry of npm keeps one waiting at times
	@nice -n 19 $(MAKE) --no-print-directory unit-programs unit36 FUZZ_SEED=1
	@nice -n 19 $(MAKE) --no-print-directory fuzz FUZZ_CASES=20000 FUZZ_SEED=1
	@nice -n 19 $(MAKE) --no-print-directory --assume-old=$(COLLECTIONS)/.installed published # the guests' tests use what is installed

lanes: lab ## everything beyond make check: the scenarios and what else is shown on guests, and the tests that take minutes, side by side
	@tests/tools/setup.sh cores fleet python36 published
	@LANE_PAUSE_S=30 tests/tools/lanes.sh linux windows programs # each begins with the same set-up of molecule, which is not made for two at once

lane-check: check

lane-sanity:
	@tests/tools/setup.sh cores fleet python36 published
	@lab/lab setup
	@$(MAKE) --no-print-directory sanity pslint

test: setup ## the full test suite, from lint to the lab
	@tests/tools/lanes.sh check sanity
	@$(MAKE) --no-print-directory lanes

clean: ## remove the lab, its images and all that was set up
	@[ ! -x lab/lab ] || lab/lab clean
	@rm -rf $(VMBACKUP_CACHE) vmbackup-report .ansible
