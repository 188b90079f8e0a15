# make study   the main job: accuracy against SNR on the shipped weights and test split
# make test    everything that has to hold: format, lint, types, import direction, every test
# make quick   its part without the slow tests, for the inner loop
#
# Each builds .venv from constraints.txt when that is needed, and needs nothing but Python 3.11 or 3.12, git and make.
# Options for the study go into ARGS:   make study ARGS="--workers 4 -s link.num_rx_ant=4"

SHELL := /bin/bash
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Test files side by side, one process for each core; slow files first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: study test quick check clean

study: .venv/runtime
	$(BIN)/tokenlink run accuracy-vs-snr $(ARGS)

test: check
	$(PYTEST) -m "not gpu and not weights and not thousands" $(ARGS)

quick: .venv/dev
	$(BIN)/ruff check
	$(PYTEST) -x $(ARGS)

check: .venv/dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python

.venv/runtime: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/dev: .venv/runtime
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

# A name on the PATH may be a shim without an interpreter behind it, so each candidate is run, not only looked up.
.venv/bin/python:
	@for python in $(PYTHON) python3.11 python3.12 python3; do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
	        echo "building .venv with $$($$python --version)"; exec $$python -m venv .venv; \
	    fi; \
	done; \
	echo "no Python 3.11 or 3.12 found; install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build *.egg-info
