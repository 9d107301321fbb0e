# Each target sets up .venv by itself; the second run finds it ready.
# Needed from the system: python3 (3.11 or newer) with venv and its shared library, g++, make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.codesign-ready
export PYTHONHASHSEED := 0

.PHONY: setup demo docs kws league reset-bench test test-slow random-graphs fuzz lint clean kill-test
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo       accelerators and bits for a small CNN, found and run on their RTL; writes demo_out/report.html"
	@echo "make docs       the documentation as a site, build/site/index.html; a link that leads nowhere fails"
	@echo "make kws        MLPerf Tiny's keyword spotting, ten samples whole on the RTL (needs the data folder; minutes)"
	@echo "make league     all methods that choose bits, on two networks, every point on the RTL (needs the data folder; hours)"
	@echo "make reset-bench  resets at random moments of runs, in Verilator and Icarus (needs iverilog; tens of minutes)"
	@echo "make test       the tests"
	@echo "make test-slow  the tests that take longer than ten seconds each, too"
	@echo "make fuzz       6,000 changed files of every kind against their readers, and a table (minutes)"
	@echo "make random-graphs  3,000 random ONNX graphs beside ONNX Runtime, and a table of what became of them (minutes)"
	@echo "make kill-test  searches and a sweep, each killed at ten random moments and continued (minutes)"
	@echo "make lint       ruff and mypy"
	@echo "make setup      only the environment, .venv"
	@echo "make clean      removes the environment and what was generated"

setup: $(READY)

demo: $(READY)
	$(BIN)/codesign demo --out demo_out

# the package's own advertisement of a successor is no part of the build's output
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(BIN)/mkdocs build --strict

kws: DATA ?= $(or $(CODESIGN_DATA),../shared/data)
kws: $(READY)
	$(BIN)/codesign cosim xc7z020_w8a8 $(DATA)/mlperf_tiny_models/kws_ref_model.tflite --data kws01 --data-dir $(DATA) --images 10

league: DATA ?= $(or $(CODESIGN_DATA),../shared/data)
league: OUT ?= league
league: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/league.py --out $(OUT) --data-dir $(DATA)

reset-bench: $(READY)
	$(BIN)/python benchmarks/reset_bench.py

# two workers on two cores: threads of torch and numpy beside them would only get in each other's way
test test-slow: export OMP_NUM_THREADS := 1
test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2

fuzz: CASES ?= 6000
fuzz: SEED ?= 0
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz.campaign --cases $(CASES) --seed $(SEED) --out build/fuzz

random-graphs: GRAPHS ?= 1500
random-graphs: $(READY)
	$(BIN)/python -m tests.interchange.random_graphs --graphs $(GRAPHS)

kill-test: $(READY)
	PYTHONPATH=. $(BIN)/python tests/search/killing.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo_out results build

$(READY): pyproject.toml constraints.txt scripts/check_system.sh
	@PYTHON="$(PYTHON)" sh scripts/check_system.sh
	@rm -f $@
	@echo "setting up $(VENV), about a minute ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --editable '.[dev,docs,interchange,interchange-tests,parquet,pnr,postgresql,ray,search,train]'
	@touch $@
