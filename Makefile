# Everything a user or developer does, one word each. Needs Python 3.11 or newer, and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test check crash soak bench lock clean

run: .venv/ready  ## Start the platform on 127.0.0.1:8000; Ctrl-C stops it
	@$(BIN)/segment-do dev

test: check  ## Lint, types, and all the tests
	$(BIN)/python -m pytest

check: .venv/ready  ## Lint, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

crash: .venv/ready  ## kill -9 of everything under load, checked against a ledger; SEED=1 ROUNDS=5 SECONDS=60
	$(BIN)/python -m tests.load.crash --seed $(or $(SEED),1) --rounds $(or $(ROUNDS),5) --seconds $(or $(SECONDS),60)

soak: .venv/ready  ## The same for hours; HOURS=12
	$(BIN)/python -m tests.load.crash --seed $(or $(SEED),1) --minutes $$(( $(or $(HOURS),12) * 60 ))

bench: .venv/ready  ## Measure, and print each figure beside its limit
	$(BIN)/python -m tests.load.bench

lock: .venv/ready  ## Resolve the dependencies anew into requirements.lock
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --extra server --group dev --universal --generate-hashes \
	  --python-version 3.11 --no-header -q -o requirements.lock --upgrade

clean:  ## Remove the environment and caches; never the data directory
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("segment_do needs Python 3.11 or newer; this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Creating the environment in .venv from requirements.lock (about a minute, once)…"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
