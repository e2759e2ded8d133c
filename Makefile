# make demo, make check and make test install everything they need, except make and Python. Python 3.10
# and 3.11 get the reference stack (TensorFlow 2.15); 3.12 and 3.13 get the modern one (2.21).
.DEFAULT_GOAL := help
.PHONY: help demo check test test-fast test-long demo-keras3 test-keras3 test-long-keras3 clean

# The first Python on this machine that supports the reference stack, otherwise the modern stack.
PYTHON := $(shell for p in python3.11 python3.10 python3 python python3.13 python3.12; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && \
	echo $$p && break; done)
# Test files run two at a time, because tracing keeps only one core busy.
PARALLEL := -n 2 --dist=loadfile --no-loadscope-reorder
# FIRST and THEN run one after the other, because TensorFlow does not return all of its memory.
FIRST := tests/data tests/training tests/checkpoints tests/devices
THEN := $(FIRST:%=--ignore=%)
# Unit tests that do not train and do not start TensorFlow in another process.
FAST := tests/config tests/cli tests/losses tests/models tests/optim tests/data/augment \
	tests/data/sources tests/test_*.py
# Extra arguments for the long tests, e.g. LONG=--share=1/2 for half of them.
LONG :=
# Extra arguments for the demo, e.g. DEMO='--gin_file=demo --train_steps=20' for a short one.
DEMO :=
VENV := .venv
VENV3 := .venv-keras3

help:
	@echo "make demo       pretrain, probe and export on generated images: 4 minutes on 2 cores"
	@echo "make check      format, lint and types: ruff format, ruff check, mypy"
	@echo "make test-fast  unit tests: under 90 seconds, no training"
	@echo "make test       make check, the tests of every package, one full run: 10 minutes"
	@echo "make test-long  all other tests: full runs, clusters, every preset, the table of settings"
	@echo "make clean      remove $(VENV) and $(VENV3)"
	@echo "make demo-keras3, test-keras3, test-long-keras3   the same on TensorFlow 2.21"

demo: $(VENV)/installed
	$(VENV)/bin/python run.py --mode=train_then_eval $(DEMO)

check: $(VENV)/installed
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m mypy

test-fast: $(VENV)/installed
	$(VENV)/bin/python -m pytest $(PARALLEL) $(FAST)

test: check
	$(VENV)/bin/python -m pytest $(PARALLEL) $(FIRST)
	$(VENV)/bin/python -m pytest $(PARALLEL) $(THEN)

test-long: $(VENV)/installed
	$(VENV)/bin/python -m pytest $(PARALLEL) -m long $(LONG)

demo-keras3: $(VENV3)/installed
	$(VENV3)/bin/python run.py --mode=train_then_eval --model_dir=runs/demo_keras3 $(DEMO)

test-keras3: $(VENV3)/installed
	$(VENV3)/bin/python -m pytest $(PARALLEL) $(FIRST)
	$(VENV3)/bin/python -m pytest $(PARALLEL) $(THEN)

test-long-keras3: $(VENV3)/installed
	$(VENV3)/bin/python -m pytest $(PARALLEL) -m long $(LONG)

$(VENV)/installed: requirements.txt requirements-test.txt setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.13 found: install one, or run make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[test,onnx]'
	@touch $@

$(VENV3)/installed: requirements-keras3.txt requirements-test.txt setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.13 found: install one, or run make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV3)
	$(VENV3)/bin/python -m pip install --quiet --upgrade pip
	$(VENV3)/bin/python -m pip install --quiet -r requirements-keras3.txt -r requirements-test.txt
	$(VENV3)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) $(VENV3)
