# Every target sets up what it needs in .venv, once, and again when pyproject.toml or constraints.txt change.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is passed on to the command of the target, as in: make reproduce ARGS="--scale standard"
ARGS ?=

EXTRAS_run := [reproduce]
EXTRAS_test := [vision,cluster,frameworks,test]
EXTRAS_lint := [lint]
EXTRAS_docs := [docs]
EXTRAS_bench := [vision,bench]

.PHONY: help reproduce test test-processes test-kernels test-slow test-browser test-gpu test-wheel lint check bench bench-conformance bench-support bench-step-time bench-cifar bench-record bench-floor bench-laws bench-crossings bench-gap bench-sharpness bench-edge bench-zero bench-head-start bench-gpu bench-host docs constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

reproduce: $(VENV)/installed-run ## test every claim of the paper and write results/ (options: ARGS="--scale standard")
	@$(BIN)/nonsmooth reproduce $(ARGS)

test: $(VENV)/installed-test ## run the tests (one file: ARGS=tests/test_house.py)
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-processes: $(VENV)/installed-test ## run the tests that start programs, the documentation's examples among them
	@$(BIN)/python -m pytest -n auto --dist loadfile -m 'processes and not slow' $(ARGS)

test-kernels: $(VENV)/installed-test ## run the tests of Triton's programs, interpreted where there is no GPU
	@$(BIN)/python -m pytest -n auto --dist loadfile -m 'kernels and not slow and not processes' $(ARGS)

test-slow: $(VENV)/installed-test ## run the tests that take more than a few seconds each
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-wheel: ## build the wheel, and try it in an environment that holds PyTorch and NumPy alone
	@tools/try_wheel.sh $(PYTHON)

test-browser: $(VENV)/installed-test ## run the tests of the report in Chromium, where it is installed
	@$(BIN)/python -m pytest -m browser $(ARGS)

test-gpu: $(VENV)/installed-test ## run the tests that need a GPU, and those of the kernels there; skipped without one
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	$(BIN)/python -m pytest -n 8 -m 'not slow and not processes' tests/gpu tests/kernels $(ARGS); \
	else echo "No GPU: torch.cuda.is_available() is False, so nothing is tested."; fi

lint: $(VENV)/installed-lint ## check format, style, types and the direction of imports
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint test test-processes test-kernels docs ## lint, test and docs

bench: $(VENV)/installed-run ## time the ensemble recursion against loops, and write docs/benchmarks/ensemble.md
	@$(BIN)/python benchmarks/ensemble.py --output docs/benchmarks/ensemble.md $(ARGS)

bench-conformance: $(VENV)/installed-bench ## one λ under every optimiser: write docs/benchmarks/conformance.md
	@$(BIN)/python benchmarks/conformance.py --output docs/benchmarks/conformance.md $(ARGS)

bench-support: $(VENV)/installed-bench ## the support under minibatch noise: write docs/benchmarks/support-noise.md
	@$(BIN)/python benchmarks/support_noise.py --output docs/benchmarks/support-noise.md $(ARGS)

bench-step-time: $(VENV)/installed-bench ## time and memory of a step: write docs/benchmarks/step-time.md
	@$(BIN)/python benchmarks/step_time.py --output docs/benchmarks/step-time.md $(ARGS)

bench-cifar: $(VENV)/installed-bench ## accuracy against sparsity on CIFAR-10: write docs/benchmarks/cifar-sparsity.md
	@$(BIN)/python benchmarks/cifar_sparsity.py --output docs/benchmarks/cifar-sparsity.md $(ARGS)

bench-record: $(VENV)/installed-bench ## accuracy at 80 to 99 % zeros against other ways: write docs/benchmarks/sparsity-record.md
	@$(BIN)/python benchmarks/sparsity_record.py --output docs/benchmarks/sparsity-record.md $(ARGS)

bench-floor: $(VENV)/installed-run ## the predicted L1 norm against a network's: write docs/benchmarks/floor.md
	@$(BIN)/python benchmarks/floor_of_a_network.py --output docs/benchmarks/floor.md $(ARGS)

bench-laws: $(VENV)/installed-run ## the law of seven optimisers at a kink: fill in docs/concepts/stationary-law.md
	@$(BIN)/python benchmarks/stationary_laws.py --output docs/concepts/stationary-law.md $(ARGS)

bench-crossings: $(VENV)/installed-run ## kinks that a step crosses as it gets shorter: write docs/benchmarks/crossings.md
	@$(BIN)/python benchmarks/crossings.py --output docs/benchmarks/crossings.md $(ARGS)

bench-gap: $(VENV)/installed-run ## curvature that the Hessian does not see: write docs/benchmarks/kink-gap.md
	@$(BIN)/python benchmarks/kink_gap.py --output docs/benchmarks/kink-gap.md $(ARGS)

bench-sharpness: $(VENV)/installed-bench ## the largest eigenvalue against other packages: write docs/benchmarks/sharpness.md
	@$(BIN)/python benchmarks/sharpness.py --output docs/benchmarks/sharpness.md $(ARGS)

bench-edge: $(VENV)/installed-bench ## runs at their stability threshold: write docs/benchmarks/edge-of-stability.md
	@$(BIN)/python benchmarks/edge_of_stability.py --output docs/benchmarks/edge-of-stability.md $(ARGS)

bench-zero: $(VENV)/installed-run ## networks with parts that start at zero: write docs/benchmarks/zero-initialised.md
	@$(BIN)/python benchmarks/zero_initialised.py --output docs/benchmarks/zero-initialised.md $(ARGS)

bench-head-start: $(VENV)/installed-bench ## the LASSO's path and cross-validation against coordinate descent: write docs/benchmarks/head-start.md
	@$(BIN)/python benchmarks/head_start.py --output docs/benchmarks/head-start.md $(ARGS)

bench-gpu: $(VENV)/installed-bench ## steps on a GPU, which it needs: write docs/benchmarks/gpu.md and gpu.json
	@$(BIN)/python benchmarks/gpu_step.py --output docs/benchmarks/gpu.md $(ARGS)

bench-host: $(VENV)/installed-test ## what a step on a GPU keeps Python busy for: write docs/benchmarks/host-step.md
	@$(BIN)/python benchmarks/host_step.py --output docs/benchmarks/host-step.md $(ARGS)

docs: $(VENV)/installed-docs ## build the documentation into site/; every warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)
	@echo "Open site/index.html; its search needs a server: $(BIN)/python -m http.server --directory site"

constraints: ## resolve every extra anew, in an environment of its own, and pin what came out in constraints.txt
	@rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	@build/resolve/bin/pip install -qq --no-compile --disable-pip-version-check -e '.[dev]'
	@{ sed -n '/^#/p' constraints.txt; \
	   build/resolve/bin/pip freeze --exclude-editable --exclude setuptools --exclude wheel \
	   | sed 's/+.*//' | sort --ignore-case; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt

clean: ## delete what was built; results/ and .venv/ stay
	@rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	"constraints.txt pins versions that need Python 3.11 or later, and this is " + sys.version.split()[0] \
	+ ". Name another: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing nonsmooth$(EXTRAS_$*) into $(VENV) ..."
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt -e '.$(EXTRAS_$*)'
	@touch $@
