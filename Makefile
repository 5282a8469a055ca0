# Two commands matter: `make demo` (the whole pipeline on this machine) and `make test` (all checks).
# Both create .venv once; a later run installs nothing again unless what is to be installed has changed.
# `make test-gpu` is for a machine with an NVIDIA GPU; STAGE=0-3 and MINUTES=10 take a part of it, OUT= a folder.
# `make docs` builds the site of docs/ into site/; a broken link or a docstring without shapes fails.
# PYTHON=/path/to/python3.12 and INSTALLER=uv|pip: see install.sh.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_ARGS ?=
export PYTHON INSTALLER

# make takes a name with a space for two, and `clean` would remove both.
$(foreach name,VENV BIN,$(if $(word 2,$($(name))),$(error $(name)=$($(name)) has a space, which make cannot take: choose another folder)))

# An environment whose Python was removed is looked at again, whatever the stamp says.
ifeq ($(wildcard $(BIN)/python),)
.PHONY: $(STAMP)
endif
.PHONY: demo test lint unit test-gpu docs install clean

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
# times slower. In the order of the folders, since otherwise files of few tests, the slow ones, begin last.
unit: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile \
		--no-loadscope-reorder

# BIN=/path/to/venv/bin tests another environment, a Jetson's with its system's TensorRT for example, and installs
# nothing there: the stages need no pytest, which only shows them as tests. What else wants a GPU needs all of .venv.
test-gpu: $(if $(filter $(VENV)/bin,$(BIN)),$(STAMP))
	@if $(BIN)/python -c 'import pytest' 2>/dev/null; then \
		STAGE="$(STAGE)" MINUTES="$(MINUTES)" OUT="$(OUT)" $(BIN)/python -m pytest tests/gpu -vv -x -m "gpu or jetson" \
			-o timeout=0 -o faulthandler_timeout=0 -p no:cacheprovider --no-header; \
	else \
		$(BIN)/python -m samkr_edge selftest $(if $(STAGE),--stage "$(STAGE)") $(if $(MINUTES),--minutes $(MINUTES)) \
			$(if $(OUT),--out "$(OUT)"); \
	fi
	@if [ "$(BIN)$(STAGE)$(MINUTES)" = $(VENV)/bin ]; then \
		$(BIN)/python -m pytest -x -m "gpu or jetson" -o timeout=0 -o faulthandler_timeout=0 --ignore tests/gpu; fi

docs: $(VENV)/.docs
	$(BIN)/python -m pytest tests/contracts/test_docstrings.py tests/contracts/test_documents.py tests/contracts/test_generated_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt install.sh
	sh install.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache
