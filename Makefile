# Two commands do everything on a fresh machine:
#   make demo    profile the embedded model and write report/report.html
#   make test    ruff, mypy, import floors, pytest
# Set-up happens on the first call and again only when its inputs change.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format bench versions scatter browser \
	setup clean

PYTHON ?= python3
VENV ?= .venv
OUT ?= report
# Where a machine without a GPU finds torch's CPU build, if pip's own sources
# offer it the CUDA build only.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMPS := $(VENV)/.stamps
TORCH := $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' constraints.txt)
# One thread in each of two processes is faster on two cores than two in one.
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 MPLBACKEND=agg \
	$(BIN)/python -m pytest -n 2 --dist worksteal

help:
	@sed -n 's/^#   //p' Makefile

demo: $(STAMPS)/package
	$(BIN)/gnnbridge profile --out $(OUT)

test: lint $(STAMPS)/scatter $(STAMPS)/browser
	$(PYTEST) -m 'not slow'

test-slow: $(STAMPS)/dev $(STAMPS)/scatter $(STAMPS)/browser
	$(PYTEST) -m slow

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMPS)/dev
	@for script in benchmarks/*.py; do \
		echo "== $$script"; $(BIN)/python $$script; done

# What holds with every transformers that pyproject.toml allows: the oldest, 5.0
# and the newest, each put before the installed one.
VERSIONS ?= 4.56.2 5.0.0 5.23.0
versions: $(STAMPS)/dev
	@for version in $(VERSIONS); do \
		echo "== transformers $$version"; \
		folder=$(VENV)/versions/$$version; \
		test -d $$folder || $(PIP) install --quiet --target $$folder \
			"transformers==$$version" \
			"numpy==$$($(BIN)/python -c 'import numpy; print(numpy.__version__)')"; \
		PYTHONPATH=$$folder:. $(PYTEST) -q tests/models/test_contract.py; \
	done

setup: $(STAMPS)/package

# -- the environment ----------------------------------------------------------

$(STAMPS)/venv:
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

# A machine without a GPU has no use for the CUDA build: where pip would take
# it, its metadata lists the CUDA packages that it needs.
$(STAMPS)/torch: $(STAMPS)/venv constraints.txt
	@index=; \
	if ! command -v nvidia-smi >/dev/null 2>&1 && \
		$(PIP) install --quiet --dry-run --ignore-installed --no-deps \
			--report - $(TORCH) 2>/dev/null | grep -qE '"(nvidia|cuda)-'; \
	then index="--index-url $(TORCH_CPU_INDEX)"; fi; \
	echo "installing $(TORCH) $$index"; \
	$(PIP) install --quiet $$index -c constraints.txt $(TORCH)
	touch $@

$(STAMPS)/package: $(STAMPS)/torch pyproject.toml
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(STAMPS)/dev: $(STAMPS)/package
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# -- torch-scatter: built once against the installed torch, the wheel is kept --

scatter: $(STAMPS)/scatter

$(STAMPS)/scatter: $(STAMPS)/dev
	@$(PIP) install --quiet setuptools wheel; \
	tag=$$($(BIN)/python -c 'import sys, torch; \
		print(f"torch{torch.__version__}-py{sys.version_info[0]}{sys.version_info[1]}")'); \
	wheels=.wheels/$$tag; mkdir -p $$wheels; \
	if ! ls $$wheels/torch_scatter-*.whl >/dev/null 2>&1; then \
		echo "building torch-scatter against $$tag: some minutes, once"; \
		PATH="$$PWD/$(BIN):$$PATH" $(PIP) wheel --quiet \
			--no-build-isolation --no-deps --no-binary torch-scatter \
			-w $$wheels torch-scatter > $$wheels/build.log 2>&1 || true; \
	fi; \
	if ls $$wheels/torch_scatter-*.whl >/dev/null 2>&1; then \
		$(PIP) install --quiet --no-deps $$wheels/torch_scatter-*.whl; \
	else \
		echo "torch-scatter could not be built: the tests run without it."; \
		echo "The reason is in $$wheels/build.log:"; \
		tail -n 5 $$wheels/build.log; \
	fi
	touch $@

# -- a browser for the tests of the report -------------------------------------

browser: $(STAMPS)/browser

$(STAMPS)/browser: $(STAMPS)/venv
	@if ! command -v chromium >/dev/null 2>&1 && \
		command -v apt-get >/dev/null 2>&1; then \
		as=; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
		echo "installing chromium"; \
		$$as apt-get update -qq >/dev/null 2>&1 && \
		DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq \
			--no-install-recommends chromium >/dev/null 2>&1 || true; \
	fi; \
	command -v chromium >/dev/null 2>&1 || \
		echo "chromium could not be installed: the browser tests will not run."
	touch $@

clean:
	rm -rf $(VENV) $(OUT) build dist
