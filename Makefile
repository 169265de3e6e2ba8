# The two commands a newcomer needs are `make demo` and `make test`.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types mutants bench-quick bench-speed gpu-check api wheel clean

help:  ## Shows this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

# Plain `torch` can be a build of several gigabytes; a pinned one is tried first, any supported one second.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Brodmann needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet "$(TORCH)" || $(BIN)/pip install --quiet "torch>=2.10"
	@$(BIN)/pip install --quiet -e '.[test]'
	@touch $@

demo: $(READY)  ## Trains on handwritten digits alongside a backpropagation twin, draws figures into runs/demo
	$(BIN)/brodmann train digits --compare --overwrite --epochs 30 --out runs/demo

# Reordered, files of few but long tests would come last, and one worker would wait for the other.
test: $(READY)  ## Runs the default tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## Runs every test, the slow ones too
	$(BIN)/python -m pytest -m ''

lint: $(READY)  ## Checks style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Checks types, strictly
	$(BIN)/mypy
	$(BIN)/mypy --platform win32  # which lacks some of what Linux has

mutants: $(READY)  ## Plants faults and checks that the tests find them
	$(BIN)/python tests/mutants.py

bench-quick: $(READY)  ## Runs a small version of every benchmark, writes a report
	$(BIN)/brodmann bench all --quick --seeds 2 --jobs 2 --trials 6 --out runs/bench-quick

bench-speed: $(READY)  ## Measures speed and memory beside the machine's limits and PyTorch, renews docs/results.md
	$(BIN)/python benchmarks/refresh.py

gpu-check: $(READY)  ## Checks and times the Triton kernels on a CUDA device
	$(BIN)/pip install --quiet triton
	$(BIN)/python -m pytest tests/test_cuda.py
	$(BIN)/python benchmarks/gpu.py

MODULES := $(addprefix brodmann.,areas baselines bench builders conversion data estimator feedback figures layer layers losses mirror \
	routing runs streams telemetry training updates runs.assembly runs.extensions training.samples)
api: $(READY)  ## Writes the reference of all public classes and functions: build/api/index.html
	$(BIN)/pip install --quiet 'pdoc>=15'
	@PYTHONWARNINGS=ignore $(BIN)/pdoc --template-directory docs/reference --docformat google --no-show-source --output-directory build/api brodmann $(MODULES)
	@echo build/api/index.html

wheel: $(READY)  ## Builds dist/*.whl
	$(BIN)/pip wheel --quiet --no-deps -w dist .

clean:  ## Removes everything that was built
	rm -rf $(VENV) dist build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
