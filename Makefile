# make demo / make test do their own set-up: a virtual environment in .venv, pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# A process for each core; a free one takes tests over from the others.
PARALLEL := -n logical --dist worksteal
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo lint check test slow docs bench fuzz soak targets gpu clean

help:
	@echo "make demo   train, export, quantize and run on synthetic people (under 10 minutes)"
	@echo "make test   lint, types, import contracts and all tests"
	@echo "make check  the same without the slow tests"
	@echo "make docs   the documentation, into build/docs"
	@echo "make fuzz   read 10,000 broken files of every kind"
	@echo "make soak   an hour of a run: memory, descriptors and threads stay flat"
	@echo "make bench  measure what surrounds the network's inference"
	@echo "make targets LSPET=PATH   the shipped INT8 files on emulated processors (root, Debian)"
	@echo "make gpu DATA=KIND:PATH@SPLIT  all that needs an NVIDIA GPU, in ten minutes"
	@echo "make clean  remove what can be remade"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

setup: $(STAMP)

demo: setup
	$(BIN)/okdhp-edge demo

lint: setup
	$(BIN)/ruff format --check okdhp_edge tests benchmarks
	$(BIN)/ruff check okdhp_edge tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/pytest $(PARALLEL) -m "not slow"

test: lint
	$(BIN)/pytest $(PARALLEL)

slow: setup
	$(BIN)/pytest $(PARALLEL) -m slow

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/docs/index.html"

bench: setup
	$(BIN)/python benchmarks/overhead.py

fuzz: setup
	$(BIN)/python benchmarks/fuzz.py

soak: setup
	$(BIN)/python benchmarks/soak.py

targets: setup
	$(BIN)/python benchmarks/targets.py --lspet $(LSPET)

gpu: setup
	$(BIN)/python benchmarks/gpu.py --data $(DATA)

clean:
	rm -rf .venv dist build models/demo/fp32 models/demo/int8 models/demo/*.safetensors models/demo/*.json models/demo/*.mp4 models/demo/*.png models/demo/metrics.csv models/demo/events
