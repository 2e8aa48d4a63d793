# Everything runs in .venv, which the first command that needs it makes; it takes Python 3.11 or newer, git and make.
.DEFAULT_GOAL := help

# The tests start many Python processes, and each would compile the same modules anew (an image for containers sets it).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-clients check bench clean

BIN := .venv/bin
NPM := tests/clients/npm
# Clients that give up after seconds of real time: they need the machine for themselves (5: nothing was asked for there).
ALONE := tests/clients/matrix/test_matrix.py
ARGS ?=
PYTEST_ARGS ?=

help:
	@echo 'make demo          the whole story on this machine; ARGS="--auto approve" passes arguments on'
	@echo 'make test          format, lint, types and tests; PYTEST_ARGS="-k clock" passes arguments on'
	@echo 'make test-clients  the tests with programs from npm, which CI runs too; needs Node 20, or pip to bring one'
	@echo 'make check         make test without the tests: format, lint, types'
	@echo 'make bench         what the broker costs a call, in a few minutes; ARGS="--quick" for a first impression'
	@echo 'make clean         removes what these commands made'

# Ctrl-C is how a demo ends (130), not an error for make to report.
demo: .venv/demo
	@trap : INT; $(BIN)/broker demo $(ARGS) || test $$? -eq 130

test: check
	$(BIN)/python -m tests.browser.chromium
	$(BIN)/python -m tests.clients.old_sdk
	$(BIN)/python -m pytest $(ALONE) $(PYTEST_ARGS) || test $$? -eq 5
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --ignore $(ALONE) $(PYTEST_ARGS)

test-clients: .venv/dev $(NPM)/node_modules/.package-lock.json
	$(BIN)/python -m pytest tests/clients/node $(PYTEST_ARGS)

check: .venv/dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: .venv/dev
	@$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache $(NPM)/node_modules

.venv/demo .venv/dev: .venv/%: pyproject.toml | $(BIN)/pip
	@echo 'Installing what "make $*" needs into .venv: a minute or two, once …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(NPM)/node_modules/.package-lock.json: $(NPM)/package-lock.json | .venv/dev
	$(BIN)/python -m tests.clients.nodejs
	@touch $@

# A python3.x on the PATH may be a shim for a version that is not installed, or lack venv: only one that works counts.
$(BIN)/pip:
	@for python in python3.11 python3.12 python3.13 python3; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then echo "Making .venv with $$($$python --version)"; exec $$python -m venv .venv; fi; \
	done; \
	echo 'There is no Python 3.11 or newer with venv on the PATH: install one (Debian, Ubuntu: python3 and python3-venv).' >&2; \
	exit 1
