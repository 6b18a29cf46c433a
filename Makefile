# One-word commands. Each makes the virtual environment by itself: Python 3.11 or newer (with venv), make and git will do.
#
#   make demo [ARGS=--check]     two nodes that replicate over WebRTC   (python -m demo_project --help lists the ARGS)
#   make test [ARGS=tests/pool]  all tests; what this machine lacks is skipped, and listed at the end
#   make histories [SEEDS=4]     random histories of databases: so many times those that make test plays
#   make simulate [ARGS=...]     whole pools in virtual time, 2,000 seeds, and real schemas; ARGS="--seed 1234 --trace" replays one
#   make sabotage                break each guarantee on purpose: a test must notice
#   make sabotage ARGS=--simulation   the same, but the simulation must notice
#   make bench [ARGS=first_sync] what replication costs here, on a machine at rest (benchmarks/RESULTS.md has the last)
#   make lint types layers migrations docs wheel wheel-test
#
#   PYTHON=...  the interpreter to make the environment with (default: the first fit one of python3.11, python3.12, ...)
#   VENV=...    where the environment lies (default: .venv)

VENV ?= .venv
PYTHON ?=
ARGS ?=
SEEDS ?= 4
BIN = $(VENV)/bin

# Stamps: an environment is brought up to date when the files that say what goes into it change.
DEPENDENCIES = setup.cfg pyproject.toml .ci/venv
DEMO = $(VENV)/.installed-demo
DEV = $(VENV)/.installed-dev
DOCS = $(VENV)/.installed-docs
BENCH = $(VENV)/.installed-bench

.PHONY: help demo test bench histories simulate sabotage lint format types layers migrations docs wheel wheel-test clean

help:
	@sed -n 's/^#   make/make/p' Makefile

demo: $(DEMO)
	@$(BIN)/python -m demo_project $(ARGS)

# In two processes, and then what needs the machine for itself (exit code 5: there is nothing of the kind in ARGS).
test: $(DEV)
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal -m "not alone" $(ARGS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

histories: $(DEV)
	P2P_SEEDS=$(SEEDS) $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m seeded $(ARGS)

simulate: $(DEV)
	$(BIN)/python -m tests.simulation $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m tests.simulation --schemas)

sabotage: $(DEV)
	$(BIN)/python -m tests.sabotage $(ARGS)

bench: $(BENCH)
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)
	$(BIN)/python -m mypy

layers: $(DEV)
	$(BIN)/lint-imports

# The second run: a project's own DEFAULT_AUTO_FIELD must not ask for a migration in our package.
migrations: $(DEV)
	$(BIN)/python -m django makemigrations --check --dry-run --settings tests.settings p2p_replication
	$(BIN)/python -m django makemigrations --check --dry-run --settings tests.packaging.other_keys_settings p2p_replication
	P2P_DEMO_FOLDER=build/migrations $(BIN)/python manage.py makemigrations --check --dry-run

docs: $(DOCS)
	$(BIN)/python -m mkdocs build --quiet --strict
	@echo "The documentation is in build/site/."

# Without build/lib: setuptools would pack files that the tree no longer has.
wheel: $(DEV)
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build --wheel --quiet

wheel-test: wheel
	$(BIN)/python -m tests.packaging.wheel dist/*.whl

# The demo's databases stay: make demo ARGS=--reset makes those anew.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEMO): $(DEPENDENCIES)
	@sh .ci/venv $(VENV) demo "$(PYTHON)"
	@touch $@

$(DEV): $(DEPENDENCIES)
	@sh .ci/venv $(VENV) dev,demo "$(PYTHON)"
	@touch $(DEMO) $@

$(DOCS): $(DEPENDENCIES)
	@sh .ci/venv $(VENV) docs "$(PYTHON)"
	@touch $@

$(BENCH): $(DEPENDENCIES)
	@sh .ci/venv $(VENV) bench "$(PYTHON)"
	@touch $@
