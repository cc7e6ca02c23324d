# Everything runs in $(VENV), which the first target that needs it creates from constraints.txt.
PYTHON ?= $(shell for p in python3.11 python3; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=
# Of PyTorch: the oldest version that is supported, and the one that constraints.txt names.
TORCHES ?= 2.11.0 $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# The build backend is pinned too; it runs in an environment of its own that -c does not reach.
export PIP_CONSTRAINT = constraints.txt
export PIP_BUILD_CONSTRAINT = constraints.txt

# One thread a worker: processes that each start a thread a core only wait for one another. The 20 slowest tests are printed.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=20 --durations-min=1 $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test format check-format lint types layers unit fuzz docs newcomer package bench bench-page matrix clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14
	@echo 'ARGS="..." goes to demo, unit, test and bench;  VENV=... uses another environment'

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "torchjac needs Python 3.11 or newer, and none was found; write: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON) (once; PyTorch is large, this takes a few minutes)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@sed $(if $(TORCH),'s/^torch==.*/torch==$(TORCH)/; /^setuptools==/d',-n p) constraints.txt >$(VENV)/constraints.txt
	@PIP_CONSTRAINT=$(VENV)/constraints.txt $(BIN)/python -m pip install -qq -c $(VENV)/constraints.txt -e ".[dev,docs,plot,cli]"
	@touch $@

demo: $(VENV)/.installed  ## show what torchjac does
	@$(BIN)/python -m torchjac demo $(ARGS)

test: check-format lint types layers docs unit  ## every check, as CI runs them

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

fuzz: $(VENV)/.installed  ## random programs by the thousand: COUNT=10000 SEED=... (today's)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m programs.fuzz $(or $(COUNT),10000) $(SEED) $(ARGS)

docs: $(VENV)/.installed  ## the site, built strictly: into a folder that goes away, or into SITE=...
	@site=$(or $(SITE),$$(mktemp -d)); NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir "$$site" \
	    && echo "the site builds" $(if $(SITE),"in $(SITE)"); status=$$?; $(if $(SITE),,rm -rf "$$site";) exit $$status

newcomer:  ## follow README and tutorial to the letter, in a fresh clone with an empty home
	$(if $(PYTHON),$(PYTHON),python3) tools/newcomer.py $(ARGS)

package: $(VENV)/.installed  ## build sdist and wheel, install the wheel into an empty environment, use it there
	rm -rf dist build/bare
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv build/bare
	build/bare/bin/pip install -qq -c constraints.txt dist/*.whl
	cd build && env -u PYTHONPATH bare/bin/python -I ../tools/bare_install.py

bench: $(VENV)/.installed  ## the benchmarks
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-page: $(VENV)/.installed  ## docs/benchmarks.md from benchmarks/results.json
	$(BIN)/python tools/benchmark_page.py

matrix:  ## the tests on every Python of 3.11, 3.12, 3.13 that is here, with the oldest and the newest torch
	@for v in 3.11 3.12 3.13; do for t in $(TORCHES); do \
	    python$$v -c '' 2>/dev/null || { echo "python$$v: not here, left out"; continue; }; \
	    echo "--- Python $$v, torch $$t"; \
	    $(MAKE) --no-print-directory unit PYTHON=python$$v VENV=.venv-$$v-$$t TORCH=$$t || exit 1; done; done

clean:  ## remove environments, caches and builds
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
