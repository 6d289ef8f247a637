# SimpleS3DMS: what there is to do here. `make run` and `make test` each work alone on a fresh machine.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PORT ?= 8080
SCENARIO ?= migrate
VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CHECKED := src tests bench scripts

.PHONY: help setup run demo test test-long check bench docs reference format lock clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  %-11s %s\n", $$1, $$2}'

setup: $(VENV)/.dev-ready ## Install everything for development into .venv

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make .venv. On Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.run-ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing what running needs (first time only; a minute or two) ..." >&2
	@$(INSTALL) pip hatchling editables
	@$(INSTALL) --no-build-isolation -e '.[sandbox]'
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready
	@echo "Installing the tools for development (first time only) ..." >&2
	@$(INSTALL) --group dev
	@touch $@

run: $(VENV)/.run-ready ## Serve on http://127.0.0.1:8080 (PORT=8099 for another port)
	@exec $(BIN)/simples3dms serve --port $(PORT)

demo: $(VENV)/.run-ready ## Watch a tenant move live from B2 to S3 and back (ONCE=1: then exit)
	@exec $(BIN)/simples3dms demo $(if $(filter-out 0,$(ONCE)),--once)

test: $(VENV)/.dev-ready ## Run the tests (under 15 minutes on 2 cores)
	@$(BIN)/python -m pytest -q -m "not long"

test-long: $(VENV)/.dev-ready ## Run the longer proofs
	@$(BIN)/python -m pytest -q -m long --timeout 1800

check: $(VENV)/.dev-ready ## Lint, types, import contracts, docs and generated pages
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generate_reference.py --check
	@$(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev-ready ## Run a benchmark (SCENARIO=migrate); the last line is JSON
	@exec $(BIN)/python -m bench $(SCENARIO)

docs: $(VENV)/.dev-ready reference ## Build the documentation into site/
	@$(BIN)/mkdocs build --strict --quiet && echo "Built: site/index.html"

reference: $(VENV)/.dev-ready ## Write the generated pages of the documentation
	@$(BIN)/python scripts/generate_reference.py

format: $(VENV)/.dev-ready ## Format the code
	@$(BIN)/ruff check --fix --quiet $(CHECKED); $(BIN)/ruff format --quiet $(CHECKED)

lock: ## Resolve all dependencies anew into constraints.txt
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --upgrade pip hatchling editables
	@.venv-lock/bin/python -m pip install --quiet --no-build-isolation -e '.[sandbox]' --group dev
	@{ echo "# Made by 'make lock': the versions that this tree was tested with."; \
	   .venv-lock/bin/python -m pip freeze --all --exclude-editable; } > constraints.txt
	@rm -rf .venv-lock

clean: ## Remove the environment and what was built
	@rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
