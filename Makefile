# `make demo` runs the main job on a small model; `make test` runs the tests. Either sets up what it needs.
PYTHON ?= python3
# The releases that the tests run with. Users may take any that pyproject.toml admits: TORCH=torch CONSTRAINTS= takes the newest.
TORCH ?= torch==2.13.0
CONSTRAINTS ?= constraints.txt
# Processes that run tests, each with one thread and up to 3 GB.
JOBS ?= 2
BIN := .venv/bin
# What a GPU computes otherwise than a CPU does: under 3 minutes. Without a GPU, the tests that need one are skipped.
GPU_TESTS := tests/engine tests/model/hooks tests/model/kernels tests/evaluation/heldout tests/end_to_end/test_gpu.py \
  tests/end_to_end/test_planted.py tests/end_to_end/test_static_decode.py

.PHONY: demo test test-gpu gpu lint site install model clean

demo: install
	$(BIN)/heretic demo $(DEMO)

test: install model
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

test-gpu: install
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile -m "not slow" $(GPU_TESTS)

# On a GPU: the tests that need one, then the table of benchmarks/gpu.py, which is also written to build/gpu.md.
gpu: install
	$(BIN)/python benchmarks/gpu.py --tests --output build/gpu.md $(GPU)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) site

# The documents as web pages, in build/site; a broken link or an unknown name in the reference is an error.
site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

install: .venv/installed

.venv/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS)) --editable ".[dev]"
	touch $@

# SmolLM2-135M-Instruct, for the demo and the end-to-end tests (98 MB, once, into the user's cache directory).
model: install
	$(BIN)/python -m heretic.model.loading.demo_model

clean:
	rm -rf .venv demo
