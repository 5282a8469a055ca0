# Two commands matter: `make demo` (the whole road on this machine) and `make test` (all checks).
# Both create .venv once; a later run installs nothing again unless pyproject.toml or constraints.txt changed.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_ARGS ?=

# The first interpreter of 3.10-3.12; PYTHON=... overrides.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3,10) <= sys.version_info[:2] <= (3,12))' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test lint unit install clean

demo: $(STAMP)
	$(BIN)/samkr-edge demo $(DEMO_ARGS)

test: lint unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# One process a core and one thread each: on a busy two-core machine a second torch thread made the same work 10 to 35
# times slower.
unit: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: samkr-edge needs Python 3.10, 3.11 or 3.12; none was found"; \
		echo "fix: install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
