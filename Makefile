# Two commands matter: `make demo` (the whole road on this machine) and `make test` (all checks).
# Both create .venv once; a later run installs nothing again unless what is to be installed has changed.
# PYTHON=/path/to/python3.12 and INSTALLER=uv|pip: see install.sh.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_ARGS ?=
export PYTHON INSTALLER

# An environment whose Python was removed is looked at again, whatever the stamp says.
ifeq ($(wildcard $(BIN)/python),)
.PHONY: $(STAMP)
endif
.PHONY: demo test lint unit install clean

demo: $(STAMP)
	$(BIN)/samkr-edge demo $(DEMO_ARGS)

test: lint unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# NumPy 2.2, the last for Python 3.10, has types too coarse for this code; its syntax is checked as 3.10 everywhere.
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then echo mypy; $(BIN)/mypy; \
		else echo "mypy: left out on Python 3.10"; fi
	$(BIN)/lint-imports --no-logo

# One process a core and one thread each: on a busy two-core machine a second torch thread made the same work 10 to 35
# times slower.
unit: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt install.sh
	sh install.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
