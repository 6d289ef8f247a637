# What there is to do here. `make run` and `make test` each work alone on a machine with Python 3.11+ and make only.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PORT ?= 8080
SCENARIO ?= migrate
VENV := .venv
BIN := $(VENV)/bin
PIP = -m pip --quiet --disable-pip-version-check --no-input
INSTALL = $(BIN)/python $(PIP) install -c constraints.txt
CHECKED := src tests bench scripts docs/examples
FIND_PYTHON = for name in python3.13 python3.12 python3.11 python3; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then command -v $$name; exit; fi; done

.PHONY: help setup run demo test test-long check bench conformance docs format lock clean

help: ## Show what there is
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
		printf '  %-10s  %s\n' "$$name" "$$text"; done

setup: $(VENV)/.dev-ready ## Install everything for development into .venv

# A virtual environment that was made by half is removed, so that the next call does not take it for a whole one.
$(VENV)/bin/pip:
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer is needed and was not found (looked for python3.13, python3.12, python3.11, python3)." >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -m venv --clear $(VENV) >$(VENV).log 2>&1; then \
		cat $(VENV).log >&2; rm -rf $(VENV) $(VENV).log; \
		echo "$$python can't make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	fi; \
	rm -f $(VENV).log

$(VENV)/.run-ready: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing SimpleS3DMS into $(VENV) (first run only; a minute or two) ..." >&2
	@$(INSTALL) --upgrade pip
	@$(INSTALL) hatchling editables
	@$(INSTALL) --no-build-isolation -e '.[sandbox]'
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready
	@echo "Installing the tools for development into $(VENV) (first run only) ..." >&2
	@$(INSTALL) --group dev
	@touch $@

run: $(VENV)/.run-ready ## Serve on http://127.0.0.1:8080 (another port: make run PORT=8099)
	@exec $(BIN)/simples3dms serve --host 127.0.0.1 --port $(PORT)

demo: $(VENV)/.run-ready ## Watch a tenant move live from B2 to S3, back, and again (ONCE=1: then exit)
	@exec $(BIN)/simples3dms demo $(if $(filter-out 0,$(ONCE)),--once)

# In a few processes, each with servers of its own. Compiled code is kept: the tests start our program hundreds of times.
test: $(VENV)/.dev-ready ## Run the tests
	@PYTHONDONTWRITEBYTECODE= exec $(BIN)/python -m pytest -q -m "not long" -n auto --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.dev-ready ## Run the proofs that take minutes
	@exec $(BIN)/python -m pytest -q -m long --timeout 1800

check: $(VENV)/.dev-ready ## Lint, format, types, import contracts, generated pages, documentation
	@$(BIN)/ruff check --quiet $(CHECKED)
	@$(BIN)/ruff format --quiet --check $(CHECKED)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/mypy --no-error-summary scripts bench
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m scripts.generate_reference --check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev-ready ## Run a benchmark (SCENARIO=migrate, workers, catalogue, overhead, ...); the last line is JSON
	@exec $(BIN)/python -m bench $(SCENARIO)

conformance: $(VENV)/.dev-ready ## Run the conformance suite over every server here and write its page
	@exec $(BIN)/python -m scripts.conformance_matrix

docs: $(VENV)/.dev-ready ## Write the generated pages and build the documentation into site/
	@$(BIN)/python -m scripts.generate_reference
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Built: site/index.html"

format: $(VENV)/.dev-ready ## Format the code and mend what can be mended
	@$(BIN)/ruff check --quiet --fix $(CHECKED) || true
	@$(BIN)/ruff format --quiet $(CHECKED)

lock: ## Resolve all dependencies anew into constraints.txt
	@python=$$($(FIND_PYTHON)); rm -rf .venv-lock; "$$python" -m venv .venv-lock
	@.venv-lock/bin/python $(PIP) install --upgrade pip hatchling editables
	@.venv-lock/bin/python $(PIP) install --no-build-isolation -e '.[sandbox]' --group dev
	@{ echo "# Made by 'make lock': the versions that this tree was tested with."; \
		.venv-lock/bin/python -m pip freeze --all --exclude-editable --exclude setuptools; } > .venv-lock/constraints.txt
	@mv .venv-lock/constraints.txt constraints.txt; rm -rf .venv-lock

clean: ## Remove the virtual environment and what was built (the data in var/ stays)
	@rm -rf $(VENV) site dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
