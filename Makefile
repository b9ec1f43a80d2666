# Two commands are the whole set-up: `make demo` and `make test`. Both create .venv on first use.

PYTHON ?= python3
# Where else torch may come from: on Linux without an NVIDIA GPU, https://download.pytorch.org/whl/cpu saves
# gigabytes of CUDA libraries.
TORCH_INDEX ?=
BIN := .venv/bin

.PHONY: help install demo test test-slow lint format clean

help:
	@echo "make demo       learn masks for four tasks, serve them, query them, print the memory report"
	@echo "make test       the tests (no GPU, no network, under five minutes on two cores)"
	@echo "make test-slow  the slow tier: real weights; real data where MASKSERVE_DATA names a folder of it"
	@echo "make lint       ruff, mypy --strict, import-linter"
	@echo "make format     ruff format and safe fixes"
	@echo "make install    .venv with the versions of constraints.txt"
	@echo "make clean      remove .venv, caches and demo-output"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[train,tensorboard,serve,tracing,kernels,demo,bench,dev]'
	touch $@

demo: install
	$(BIN)/python -m demo

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache demo-output runs
