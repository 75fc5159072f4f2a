# `make help` lists the targets. Every one of them works as the first command on a fresh machine.

# The first Python from 3.11 on that this machine has; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
BENCH := $(BIN)/bench
STAMP := $(VENV)/.installed

# What may be given: `make leaderboard PROTOCOL=quick_mnist`, `make test ARGS="-k ssim"`, ...
ARGS ?=
# Two test processes: more would only wait for each other on small machines.
PARALLEL ?= -n 2
PROTOCOL ?= quick
DATASET ?=
MODEL ?= cnn_ae
TRIALS ?= 30
TORCH_INDEX ?=
WHAT = --protocol $(PROTOCOL) $(if $(DATASET),--dataset $(DATASET))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup test test-all test-slow faults check format leaderboard calibration sweep speed ui clean

help: ## list the targets
	@echo "make TARGET [PYTHON=python3.12] [PROTOCOL=quick] [ARGS=...]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with the locked dependencies (done by every other target too)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python from 3.11 on was found; install one or give PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is no Python from 3.11 on; give PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) -c constraints.txt torch torchvision
endif
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	@touch $@

# Hundreds of commands in the tests import the same modules, which are compiled once.
test test-all test-slow faults: export PYTHONDONTWRITEBYTECODE :=

test: $(STAMP) ## run the test suite (minutes)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(ARGS)

test-all: $(STAMP) ## run the test suite with the long tests
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(STAMP) # the long tests alone, the quickest of them first
	$(BIN)/python -m pytest -m slow $(ARGS)

faults: $(STAMP) ## kill, damage and race the commands and count what is lost (an hour on two cores)
	$(BIN)/python -m tests.faults $(ARGS)

check: $(STAMP) ## ruff format, ruff lint, mypy --strict, and the committed tables
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict bench
	$(BENCH) leaderboard --check

format: $(STAMP) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

leaderboard: $(STAMP) ## run what has no record yet, promote the champions, write tables and page
	$(BENCH) run $(WHAT) $(ARGS)
	$(BENCH) leaderboard $(WHAT) --write
	$(BENCH) promote $(WHAT)
	$(BENCH) report

calibration: $(STAMP) ## simulate tables with known truths: how often is a rank wrong?
	$(BENCH) simulate-ranks $(WHAT) --write $(ARGS)

sweep: $(STAMP) ## tune a variant with Optuna: make sweep MODEL=cnn_ae TRIALS=30
	$(BENCH) sweep --model $(MODEL) --trials $(TRIALS) $(WHAT) $(ARGS)

speed: $(STAMP) ## measure speed as ratios within one run
	$(BENCH) speed $(ARGS)

ui: $(STAMP) ## open the MLflow UI on this store
	$(BENCH) ui $(ARGS)

clean: ## remove .venv and caches; results in mlruns/ and registry/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find bench tests -name __pycache__ -type d -prune -exec rm -rf {} +
