# Plain `make` lists the targets. Everything they install lies in .venv and .venv-pygeoapi of this checkout.

PYTHON ?= python3
PORT ?= 8080
SERVE_HOME ?= graticule-home
SHARED ?= ../shared
ARGS ?=
BENCH ?= processes submissions latency stored memory start many

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-pygeoapi
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet
SERVER := $(VENV)/server.stamp
DEV := $(VENV)/dev.stamp
LOCK := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run test unit test-all lint format types docs bench ets wheel lock changes clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(SERVER)  ## put the package into .venv of this checkout

run: $(SERVER)  ## serve the built-in processes, home in graticule-home (PORT=8080, ARGS='my_processes.py')
	@exec $(BIN)/graticule serve --home $(SERVE_HOME) --port $(PORT) $(ARGS)

# Judged by the clock, with two dozen job processes: they want the machine for themselves.
TRIALS = $(addprefix tests/faults/test_,kills.py races.py turns.py)

test: $(DEV)  ## run all tests, after installing what they need (ARGS='-k buffer')
	@scripts/debian-packages chromium=chromium curl=curl '/usr/lib/postgresql/*/bin/initdb=postgresql'
	@scripts/install-versitygw $(BIN) $(BIN)/python
	@# Tests mostly wait, hence three at once on two cores; in the order of the files, for the quick ones come last.
	$(BIN)/python -m pytest tests --numprocesses 3 --dist loadfile --no-loadscope-reorder $(TRIALS:%=--ignore=%) $(ARGS)
	$(BIN)/python -m pytest $(TRIALS) $(ARGS) || test $$? -eq 5  # 5: ARGS select none of them

unit: $(DEV)  ## run the tests that need neither server nor browser
	$(BIN)/python -m pytest tests/unit $(ARGS)

test-all: export GRATICULE_TEST_ALL = 1
test-all: lint types docs wheel test  ## all checks and all tests, long ones too

lint: $(DEV)  ## check style, formatting, the import contracts and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

format: $(DEV)  ## format the code and mend what can be mended alone
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(DEV)  ## check the types of src, strictly
	$(BIN)/mypy

docs: $(SERVER)  ## check the links of the documentation
	$(BIN)/python scripts/check_links.py README.md $(wildcard docs)

bench: $(DEV) $(PEERS)/stamp  ## measure speed and size beside pygeoapi and the bound (BENCH='start many')
	@scripts/debian-packages wrk=wrk '/usr/lib/postgresql/*/bin/initdb=postgresql'
	@for part in $(BENCH); do echo "== $$part"; \
		BENCH_PEERS=$(SHARED)/tools/perf $(BIN)/python bench/$$part.py --peers-python $(PEERS)/bin/python $(ARGS) || exit 1; \
	done

ets: $(DEV)  ## run the OGC's own suite against a fresh server: make ets ETS_JAR=file
	@test -n "$(ETS_JAR)" || { echo "name the suite's jar: make ets ETS_JAR=file" >&2; exit 2; }
	@scripts/debian-packages java=openjdk-17-jre-headless keytool=openjdk-17-jre-headless openssl=openssl
	$(BIN)/python scripts/run_ets.py $(SHARED)/tools/ets/run-ets $(ETS_JAR) $(ARGS)

wheel: $(SERVER)  ## build the wheel into dist
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

lock: $(DEV)  ## pin the newest versions that pyproject.toml and requirements/*.in allow
	$(LOCK) --upgrade pyproject.toml requirements/build.in --output-file requirements/server.txt
	$(LOCK) --upgrade pyproject.toml requirements/build.in requirements/dev.in \
		--constraint requirements/server.txt --output-file requirements/dev.txt
	$(LOCK) --upgrade requirements/pygeoapi.in --output-file requirements/pygeoapi.txt

changes: $(DEV)  ## show what the fragments in changes/ become
	$(BIN)/towncrier build --draft

clean:  ## remove the environments, what was built and all caches; homes of servers stay
	rm -rf $(VENV) $(PEERS) build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench scripts examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Graticule needs Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(SERVER): requirements/server.txt pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement requirements/server.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.txt $(SERVER)
	$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement requirements/dev.txt
	@touch $@

$(PEERS)/stamp: requirements/pygeoapi.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python $(PIP_INSTALL) --require-hashes --requirement requirements/pygeoapi.txt
	@touch $@
