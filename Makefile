# Every target makes what it needs first: `make run` and `make test` work in a fresh clone.
# Python is looked up (3.11 or newer); `make run PYTHON=/path/to/python` chooses one.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9
# Further arguments for the command behind a target: make bench ARGS='--events 500000'
ARGS ?=

# The first Python that starts, is new enough and can make virtual environments.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$p; break; }; done)

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

.PHONY: setup
setup: $(STAMP) ## Make .venv with locked dependencies (needs only Python 3.11+)
	@:

$(STAMP): requirements-dev.lock pyproject.toml
	@"$(or $(PYTHON),false)" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { \
		echo "make: Python 3.11 or newer with venv is needed (found: $$( $(or $(PYTHON),python3) --version 2>&1 | head -n 1)); install it, e.g. 'apt-get install python3.11 python3.11-venv', or name one: make $(or $(firstword $(MAKECMDGOALS)),setup) PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@echo "setup: $$($(PYTHON) --version), virtual environment in $(VENV)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@echo "setup: installing $$(grep -c '==' requirements-dev.lock) locked packages (about a minute the first time)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "setup: done" >&2

.PHONY: run
run: $(STAMP) ## Broker, topics, worker, simulated traffic and a live view; Ctrl-C ends it all
	@$(BIN)/stream-app demo $(ARGS)

.PHONY: check
check: $(STAMP) ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: check ## Everything in `check`, then all tests against a real broker, two at once, coverage shown
	$(BIN)/pytest -n 2 --cov --cov-report=term $(ARGS)

.PHONY: bench
bench: $(STAMP) ## Throughput, latency, memory and recovery as JSON
	@$(BIN)/stream-app bench $(ARGS)

.PHONY: soak
soak: $(STAMP) ## A long run of kills and rebalances, checked against an offline replay
	SEED=$${SEED:-random} $(BIN)/pytest -m soak -o timeout=0 -s tests/chaos $(ARGS)

.PHONY: broker
broker: $(STAMP) ## A broker of your own in the foreground; Ctrl-C ends it
	@$(BIN)/python -m stream_app.devtools.broker run $(ARGS)

.PHONY: lock
lock: ## Renew the lock files from pyproject.toml
	@test -x .cache/uv-$(UV_VERSION)/bin/uv || { $(PYTHON) -m venv .cache/uv-$(UV_VERSION) && .cache/uv-$(UV_VERSION)/bin/pip install --quiet uv==$(UV_VERSION); }
	@compile() { .cache/uv-$(UV_VERSION)/bin/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' "$$@"; }; \
	compile pyproject.toml $(ARGS) -o requirements.lock; \
	compile pyproject.toml --group dev -c requirements.lock $(ARGS) -o requirements-dev.lock; \
	compile --group build -c requirements-dev.lock $(ARGS) -o requirements-build.lock

.PHONY: clean
clean: ## Remove everything that was made, but not the downloaded broker
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .run
	find stream_app tests -name __pycache__ -type d -prune -exec rm -rf {} +
