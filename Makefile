# What to do with this checkout. `make` lists the targets.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
STATE ?= .portico
VENV := .venv
BIN := $(VENV)/bin
# Debian packages that the tests drive: a browser, a database server, promtool, a load generator.
PACKAGES := chromium fonts-dejavu-core postgresql prometheus wrk

.DEFAULT_GOAL := help
.PHONY: help serve test check bench loadtest format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(VENV)/serve.stamp ## Set up, train the demo models once, and serve them (HOST, PORT, STATE)
	@$(BIN)/portico demos --state $(STATE)
	@exec $(BIN)/portico serve $(STATE)/demos --state $(STATE) --host $(HOST) --port $(PORT)

test: $(VENV)/dev.stamp ## Set up and run every test
	@sh tests/packages.sh $(PACKAGES)
	@$(BIN)/pytest -q

check: $(VENV)/dev.stamp ## Lint, types, import contracts and the fast tests, in under two minutes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 2 -m "not live and not browser"

bench: $(VENV)/dev.stamp ## Measure throughput, start-up, memory and scrapes, and print ratios
	@sh tests/packages.sh $(PACKAGES)
	@$(BIN)/python -m loadtests.bench

loadtest: $(VENV)/dev.stamp ## Run the locust scenarios against a fresh server
	@$(BIN)/python -m loadtests.run

format: $(VENV)/dev.stamp ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(VENV)/dev.stamp ## Resolve the dependencies anew, with hashes and without hosts
	@sh requirements/lock.sh $(BIN)/uv

clean: ## Remove what set-up and tests have made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# One environment; the development lock holds everything that the serving one does.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Portico needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 2; }

$(VENV)/serve.stamp: requirements/serve.txt | $(VENV)/pyvenv.cfg
	@echo "Installing the locked dependencies (about a minute the first time) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/serve.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt | $(VENV)/pyvenv.cfg
	@echo "Installing the locked dependencies for development (about a minute the first time) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/serve.stamp
