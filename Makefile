# make demo / make test do their own set-up: a virtual environment in .venv, pinned by constraints.txt.
#   PYTHON=python3.13       the interpreter of that environment
#   TORCH_BACKEND=cpu       PyTorch's build: auto, cpu, cu130, ..., or index (see tools/install.sh)
export PYTHON ?= python3
export TORCH_BACKEND
BIN := .venv/bin
# A process for each core; a free one takes tests over from the others.
PARALLEL := -n logical --dist worksteal
DEMO := .venv/.demo
TEST := .venv/.test

.DEFAULT_GOAL := help
.PHONY: help setup demo lint check test slow docs fresh lowest constraints bench fuzz soak targets gpu clean

help:
	@echo "make demo   train, export, quantize and run on synthetic people (about 3 minutes)"
	@echo "make test   lint, types, import contracts and all tests"
	@echo "make check  the same without the slow tests"
	@echo "make docs   the documentation, into build/docs"
	@echo "make fresh  install, demo and quick tests from the package index alone, on the oldest and newest Python"
	@echo "make lowest  the quick tests on the lowest versions that are allowed"
	@echo "make constraints  pin the newest versions for every Python and system"
	@echo "make fuzz   read 10,000 broken and 2,000 extreme files of every kind"
	@echo "make soak   an hour of a run: memory, descriptors and threads stay flat"
	@echo "make bench  measure what surrounds the network's inference"
	@echo "make targets LSPET=PATH   the shipped INT8 files on emulated processors (root, Debian)"
	@echo "make gpu DATA=KIND:PATH@SPLIT  all that needs an NVIDIA GPU, in ten minutes"
	@echo "make clean  remove what can be remade"

$(DEMO): pyproject.toml constraints.txt tools/install.sh
	tools/install.sh all
	touch $@

$(TEST): pyproject.toml constraints.txt tools/install.sh
	tools/install.sh dev
	touch $@ $(DEMO)

setup: $(TEST)

demo: $(DEMO)
	$(BIN)/okdhp-edge demo

lint: setup
	$(BIN)/ruff format --check okdhp_edge tests benchmarks tools
	$(BIN)/ruff check okdhp_edge tests benchmarks tools
	$(BIN)/mypy
	# Scripts import one another by their names, as Python finds them.
	MYPYPATH=.:tools:$(subst $() ,:,$(wildcard benchmarks/*/)) $(BIN)/mypy --explicit-package-bases benchmarks tools
	$(BIN)/lint-imports
	$(BIN)/codespell --dictionary tools/words.txt --ignore-regex '`[^`]*`|\]\([^)]*\)' README.md CHANGELOG.md docs/*.md .github/*.md benchmarks/README.md models/*/README.md okdhp_edge/cli/*.py

check: lint
	$(BIN)/pytest $(PARALLEL) -m "not slow"

test: lint
	$(BIN)/pytest $(PARALLEL)

slow: setup
	$(BIN)/pytest $(PARALLEL) -m slow

docs: setup
	$(BIN)/zensical build --strict
	@echo "build/docs/index.html"

# PYTHONS=... names others; in each an empty folder and the package index as it is.
fresh: setup
	$(BIN)/python tools/fresh.py $(PYTHONS)

# The bounds in pyproject.toml are those with which the quick tests pass.
lowest: setup
	$(PYTHON) -m venv --clear .lowest
	$(BIN)/python -m uv pip install --quiet --no-config --python .lowest/bin/python --resolution lowest-direct ".[dev]"
	.lowest/bin/python -m pytest $(PARALLEL) -m "not slow"

constraints: setup
	printf '%s\n' '# The versions this project is tested with, for every supported Python and system.' '# Remade by `make constraints`.' > build.constraints
	$(BIN)/python -m uv pip compile --quiet --no-config --universal --python-version 3.11 --no-header --no-annotate --extra dev --extra screen pyproject.toml >> build.constraints
	mv build.constraints constraints.txt

bench: setup
	$(BIN)/python benchmarks/speed/overhead.py

fuzz: setup
	$(BIN)/python benchmarks/reliability/fuzz.py
	$(BIN)/python benchmarks/reliability/fuzz_grammar.py

soak: setup
	$(BIN)/python benchmarks/reliability/soak.py

targets: setup
	$(BIN)/python benchmarks/accuracy/targets.py --lspet $(LSPET)

gpu: setup
	$(BIN)/python benchmarks/speed/gpu.py --data $(DATA)

clean:
	rm -rf .venv .lowest dist build models/demo/fp32 models/demo/int8 models/demo/*.safetensors models/demo/*.json models/demo/*.mp4 models/demo/*.png models/demo/metrics.csv models/demo/events
