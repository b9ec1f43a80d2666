# Two commands are the whole set-up: `make demo` and `make test`. Both create .venv on first use.

PYTHON ?= python3
# Where else torch may come from: on Linux without an NVIDIA GPU, https://download.pytorch.org/whl/cpu saves
# gigabytes of CUDA libraries.
TORCH_INDEX ?=
# More processes than cores make the tests slower: each has a torch of its own. The tests of a file stay in one
# process, so that a server which they share starts once. A process that dies ends the run: the rest would wait for it.
PYTEST_PROCESSES ?= auto
BIN := .venv/bin

.PHONY: help install demo test test-slow lint check-constraints format docs image clean

help:
	@echo "make demo       learn masks for four tasks, serve them, query them, print the memory report"
	@echo "make test       the tests (no GPU, no network, six to twelve minutes on two cores)"
	@echo "make test-slow  the slow tier: real weights; real data where REAL_DATA names a folder of it"
	@echo "make lint       ruff, mypy --strict, import-linter"
	@echo "make check-constraints  constraints.txt can be installed on Linux (asks PyPI, downloads no packages)"
	@echo "make format     ruff format and safe fixes"
	@echo "make docs       the site of the documentation, in site/: open site/index.html"
	@echo "make image      build the images for serving and training, and try them (buildah, podman)"
	@echo "make install    .venv with the versions of constraints.txt"
	@echo "make clean      remove .venv, caches and demo-output"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[train,tensorboard,mlflow,wandb,serve,grpc,tracing,demo,bench,browser,docs,dev]'
	touch $@

demo: install
	$(BIN)/python -m demo

test: install
	$(BIN)/python -m pytest -n $(PYTEST_PROCESSES) --dist loadfile --max-worker-restart 0

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Resolves for every Linux and Python that is supported, from PyPI whatever pip is set up to use here. What
# users install must exist as wheels; of the development tools psutil is compiled on aarch64.
RESOLVE := $(BIN)/uv pip compile pyproject.toml -c constraints.txt -o /dev/null --quiet --no-config \
    --default-index https://pypi.org/simple --python $(BIN)/python
USER_EXTRAS := train tensorboard mlflow wandb serve tracing s3 ray demo bench browser docs

check-constraints: install
	@set -e; for machine in x86_64 aarch64; do for python in 3.11 3.12; do \
	    echo "constraints.txt on $$machine, Python $$python"; \
	    for extras in "$(USER_EXTRAS:%=--extra %) --only-binary :all:" "--all-extras"; do \
	        $(RESOLVE) --python-platform $$machine-unknown-linux-gnu --python-version $$python $$extras; \
	    done; done; done

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python -m mkdocs build --strict

image:
	deploy/image/build_and_try.sh

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache demo-output runs site
