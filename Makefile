# make train: a fresh machine with Python 3.11+, git and make trains a GRU on generated reviews.
# make check: lint, types, the layers of the package and the unit tests but those that start processes.
# make unit:  make check without lint and types, for other versions:
#             VENV=/tmp/oldest CONSTRAINTS=constraints-oldest.txt, or with CONSTRAINTS= the newest ones.
# make test:  lint, types and every test that needs no GPU.
# make notebooks: runs the notebooks again and keeps what they show.
# make docs: builds the documentation site, docs/_build/html/index.html; a warning is an error.
# make bench: measures, without peers, and puts the figures into docs/; ARGS="--peers" for all of them.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
ARGS ?=

.PHONY: train check unit test docs bench notebooks lint clean

train: $(VENV)/.package
	$(BIN)/python train.py experiment=first_run $(ARGS)

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: lint unit

unit: $(VENV)/.installed
	$(PYTEST) tests/unit tests/repository/test_layers.py -m "not slow and not gpu"

# Half of these tests' time is waiting for servers, agents and clusters, so a small machine takes two workers a core.
test: $(VENV)/.installed lint
	$(PYTEST) -n $$($(BIN)/python -c 'import os; print(max(4, os.cpu_count()))') -m "not gpu"

docs: $(VENV)/.installed
	$(BIN)/python -m sphinx -W --keep-going -n -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py all $(ARGS)
	$(BIN)/python benchmarks/pages.py

notebooks: $(VENV)/.installed
	$(BIN)/python notebooks/execute.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# uv takes a tenth of pip's time, but doesn't read pip's configuration, such as another index: where there is one, pip
# installs.
UV = $(shell command -v uv > /dev/null && [ -z "$$($(PYTHON) -m pip config list)" ] && echo uv)
PIP := $(BIN)/python -m pip install --disable-pip-version-check
INSTALL = $(if $(UV),uv pip install --python $(BIN)/python,$(PIP)) -q $(CONSTRAINTS:%=-c %)

# Stamps are made last, so an interrupted installation is taken up again. Training needs no tools of the tests.
$(VENV)/.package: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; type make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed: $(VENV)/.package
	$(INSTALL) -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV)
