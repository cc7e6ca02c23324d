# Everything runs in $(VENV), which the first target that needs it creates from constraints.txt.
PYTHON ?= $(shell for p in python3.11 python3; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# The build backend is pinned too; it runs in an environment of its own that -c does not reach.
export PIP_CONSTRAINT = constraints.txt
export PIP_BUILD_CONSTRAINT = constraints.txt

# One thread a worker: processes that each start a thread a core only wait for one another.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test format check-format lint types layers unit bench matrix clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14
	@echo 'ARGS="..." goes to demo, unit, test and bench;  VENV=... uses another environment'

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "torchjac needs Python 3.11 or newer, and none was found; write: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON) (once; PyTorch is large, this takes a few minutes)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq -c constraints.txt -e ".[dev,plot,cli]"
	@touch $@

demo: $(VENV)/.installed  ## show what torchjac does
	@$(BIN)/python -m torchjac demo $(ARGS)

test: check-format lint types layers unit  ## every check, as CI runs them

format: $(VENV)/.installed  ## format the code and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

check-format: $(VENV)/.installed  ## is the code formatted?
	$(BIN)/ruff format --check

lint: $(VENV)/.installed  ## ruff
	$(BIN)/ruff check

types: $(VENV)/.installed  ## mypy --strict over src
	$(BIN)/mypy

layers: $(VENV)/.installed  ## do imports point one way only?
	$(BIN)/lint-imports

unit: $(VENV)/.installed  ## the tests, with every snippet of README, docs and docstrings
	$(PYTEST)

bench: $(VENV)/.installed  ## the benchmarks
	$(BIN)/python benchmarks/run.py $(ARGS)

matrix:  ## the tests on every Python of 3.11, 3.12, 3.13 that is here
	@for v in 3.11 3.12 3.13; do \
	    python$$v -c '' 2>/dev/null || { echo "python$$v: not here, left out"; continue; }; \
	    $(MAKE) --no-print-directory unit PYTHON=python$$v VENV=.venv-$$v || exit 1; done

clean:  ## remove environments, caches and builds
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
