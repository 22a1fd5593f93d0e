# `make demo` and `make test` do everything from a fresh clone; PYTHON=python3.x chooses the Python, VENV=… the environment.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.motionops-setup
DEMO_STAMP := $(VENV)/.motionops-demo
TOOLS := $(VENV)/.motionops-tools
CXX_FILES = $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.inl')

.PHONY: lock release try-archive site attacks types run-notebooks notebooks help setup tools build build-emulated wheel test test-python test-slow test-cpp test-torch lint format demo bench performance reproduce reference gpu clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / \t/' | expand -t 18

setup: $(STAMP)  ## .venv with torch, the extras and the built extension

$(STAMP): pyproject.toml build_support/environment.py build_support/versions.txt | $(TOOLS)
	$(PYTHON) build_support/environment.py --venv $(VENV)
	@touch $@ $(DEMO_STAMP)

$(DEMO_STAMP): pyproject.toml build_support/environment.py build_support/versions.txt
	$(PYTHON) build_support/environment.py --venv $(VENV) --extra train
	@touch $@

# What builds C++ alone, without torch: the C++ tests need not wait for its download.
tools: $(TOOLS)

$(TOOLS): build_support/environment.py
	$(PYTHON) build_support/environment.py --venv $(VENV) --tools
	@touch $@

build: $(STAMP)  ## compile what changed
	@$(PY) -m build_support.ninja_build operators

build-emulated: $(STAMP)  ## compile the CUDA sources for the host, for the tests
	@$(PY) -m build_support.ninja_build emulated

wheel: $(STAMP)  ## dist/: a wheel of the CPU operators and one of CPU and CUDA
	$(PY) build_support/wheels.py

test: lint test-cpp test-python  ## everything: lint, C++ tests with sanitizers, pytest on all backends

test-python: build build-emulated
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -q

test-slow: build build-emulated  ## pytest with nothing left out: every size, thousands of random cases
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -q --slow

test-cpp: $(TOOLS)
	@for kind in address thread; do \
	  $(VENV)/bin/cmake -S . -B build/cpp-$$kind -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(VENV))/bin/ninja \
	    -DMOTIONOPS_SANITIZE=$$kind -DMOTIONOPS_CUDA=OFF --log-level=WARNING && \
	  $(VENV)/bin/cmake --build build/cpp-$$kind && \
	  $(VENV)/bin/ctest --test-dir build/cpp-$$kind --output-on-failure -j 2 || exit 1; \
	done

attacks: build  ## the slow mode of the attacks: kills, damaged files, hostile arguments of every operator and its backward
	$(PY) -m build_support.sanitized_tests
	OMP_NUM_THREADS=1 $(PY) -m pytest --slow -m slow -q tests/fuzz tests/test_backward_arguments.py \
	  tests/video/test_known_counts.py tests/motion/test_motion_file.py tests/training/test_checkpoint.py \
	  tests/runs/test_elastic_restart.py

test-torch: build  ## TORCH=2.11.0: the operators' tests on another torch, with the library that is built here
	$(PY) build_support/other_torch.py $(TORCH)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@$(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES)

format: $(STAMP)  ## rewrite the sources in the house style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	@$(VENV)/bin/clang-format -i $(CXX_FILES)

demo: $(DEMO_STAMP)  ## learn motion from generated videos, and measure it
	@$(PY) -m build_support.ninja_build operators
	$(PY) trainers/fima.py

# Memory that is freed stays with the process, for the operators and their peers alike: otherwise glibc maps every large
# result afresh, and its page faults, thousands a call, are what is measured.
bench: build  ## what the operators cost, beside their peers
	MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=2000000000 $(PY) -m pytest benchmarks/ --benchmark-only -q

performance: $(STAMP)  ## docs/performance.md from benchmarks/results
	$(PY) -m benchmarks.report

reference: build  ## docs/reference.md from the docstrings
	$(PY) -m build_support.reference_page

reproduce: build  ## docs/reproduce.md from the methods' tables.yaml
	$(PY) -m build_support.reproduce_page

# No set-up: the Python that has torch is used as it is, PYTHON=… chooses it.
gpu:  ## on a CUDA machine, without a network: build, tests, compute-sanitizer, a training step, benchmarks in MINUTES
	$(PYTHON) -m benchmarks.gpu --minutes $(or $(MINUTES),10) $(if $(PARTS),--parts $(PARTS))

clean:  ## remove what was built; the environment stays
	rm -rf build motionops/*.so tests/emulator/*.so

lock: $(STAMP)  ## build_support/versions.txt from what is installed
	$(PY) -m build_support.lock

release: $(STAMP)  ## dist/: the source archive, the wheels, their hashes; docs/releasing.md is the list
	$(PY) build_support/release.py

# The wheel is built from the archive: one compilation says that both hold what they must.
try-archive: $(STAMP)  ## source archive and CPU wheel, from a fresh environment to a trained and measured backbone
	rm -rf build/archive
	$(PY) build_support/release.py --only archive --output build/archive
	$(PY) build_support/wheels.py --only cpu --archive build/archive/*.tar.gz --output build/archive
	OMP_NUM_THREADS=1 $(PY) build_support/try_package.py build/archive/*.whl

site: $(STAMP)  ## build/site: the pages of docs/, without a warning
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

types: build  ## the hints, as mypy and pyright read them in a user's script
	$(PY) -m build_support.type_checks

# One thread: on few cores, which others use too, threads that wait for each other cost more than they do.
run-notebooks: build
	OMP_NUM_THREADS=1 $(PY) build_support/notebooks.py

notebooks: build  ## docs/notebooks: run, and written with what they print and draw
	$(PY) build_support/notebooks.py --write
