# `make demo` and `make test` are the two commands of the README; both set up what they need.
VENV    ?= .venv
PYTHON  ?= python3
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.pointsman-installed
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format clean bench-dataplane

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

setup: $(STAMP) ## virtual environment with everything a developer needs

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Pointsman needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP) ## a cluster of simulated engines behind the router, under load, with a live table
	@$(BIN)/pointsman demo $(if $(KEEP),--keep)

test: $(STAMP) ## the whole suite
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(STAMP) ## import contracts, types, style
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## rewrite the sources in the one style
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet

bench-dataplane: $(STAMP) ## our data plane and others' on this machine, side by side (ARGS=--quick)
	PYTHONPATH=bench $(BIN)/python -m dataplane $(ARGS)

clean: ## remove what was built here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
