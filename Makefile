# `make train` and `make test` do everything on a fresh machine: environment, install, run.
PYTHON ?= python3
BIN := .venv/bin
# torch's threads wait for one another by spinning: with another program on the machine that is ten times slower
export GOMP_SPINCOUNT ?= 10000
# tests in two processes, each with whole files, in their order
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: train test test-all check gpu-report clean

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lensgen needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

train: .venv/installed   ## pretrain a masked autoencoder on streamed lenses, at a size that suits the machine
	$(BIN)/python -m trainers.mae --stream

test: .venv/installed    ## everything but the slow tests
	$(BIN)/python -m pytest -m 'not slow' $(TWO)

test-all: .venv/installed
	$(BIN)/python -m pytest $(TWO)

check: .venv/installed   ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu-report: .venv/installed   ## on a machine with a GPU: tests, speed against peers, checks, in at most eight minutes
	$(BIN)/pip install --quiet --editable '.[dev,gpu,peers]'
	$(BIN)/python -m profiles.gpu_report

clean:
	rm -rf .venv build *.egg-info
