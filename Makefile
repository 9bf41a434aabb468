# `make` lists the targets: each is described after its `##`.

PY := .venv/bin/python
comma := ,
# The lab needs root; sudo is asked for where it is not there already. Root then leaves no
# caches of its own in the tree.
SUDO := $(if $(filter 0,$(shell id -u)),,$(if $(shell command -v sudo),\
	sudo --preserve-env=XDPCAP_REQUIRE_LAB$(comma)XDPCAP_CAPTURES env PYTHONDONTWRITEBYTECODE=1\
	HYPOTHESIS_STORAGE_DIRECTORY=$(dir $(shell mktemp -u))xdpcap-hypothesis))
PYTEST = $(PY) -m pytest $(if $(SUDO),-p no:cacheprovider) $(PYTEST_ARGS)

# A build with every check beside the ordinary one: build/debug/lib/xdpcap.
DEBUG_DIR := build/debug
DEBUG_ENV = PYTHONSAFEPATH=1 PYTHONPATH="$(CURDIR)/$(DEBUG_DIR)/lib" PYTHONMALLOC=malloc \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" \
	ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0

.DEFAULT_GOAL := help
.PHONY: help setup demo test vm vm-smoke unit bench bench-compare lint debug wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing, make .venv, build xdpcap into it
	@scripts/setup

demo: setup ## record real traffic in a private network and show it
	@$(SUDO) $(PY) scripts/demo

test: setup ## run all tests: unit, conformance and lab (root); PYTEST_ARGS="-k word"
	$(SUDO) $(PYTEST) tests/unit tests/conformance tests/lab benchmarks

vm-smoke: setup ## zero-copy on virtio_net and igb in a guest (Linux 7.2, downloaded once)
	@tests/vm/matrix --smoke

vm: setup ## every supported kernel and NIC in guests, 25 minutes; VM_ARGS=--record writes the table
	@tests/vm/matrix $(VM_ARGS)

unit: setup ## run the tests that need no privileges
	$(PY) -m pytest $(PYTEST_ARGS) tests/unit benchmarks

bench: setup ## measure speed beside limits and peers (root); BENCH_ARGS="replay --rounds 3"
	@$(SUDO) scripts/bench $(BENCH_ARGS)

bench-compare: setup ## fail when a part got 20% slower, next to memcpy(); BENCH_ARGS="--update"
	@scripts/bench compare $(BENCH_ARGS)

lint: setup ## check style, format and types
	$(PY) -m ruff check . scripts/demo
	$(PY) -m ruff format --check . scripts/demo
	$(PY) -m mypy

debug: setup ## build with Cython's checks, line tracing and AddressSanitizer; run the tests on it
	XDPCAP_DEBUG=1 $(PY) setup.py --quiet build --build-lib $(DEBUG_DIR)/lib \
		--build-temp $(DEBUG_DIR)/temp
	$(SUDO) env $(DEBUG_ENV) $(PYTEST) tests/unit tests/lab

wheel: setup ## build a wheel into dist/
	$(PY) -m pip --quiet wheel --no-build-isolation --no-deps --wheel-dir dist .
	@ls -1 dist/*.whl

clean: ## remove what was built; .venv and captures stay
	rm -rf build dist *.egg-info xdpcap/programs/objects .pytest_cache .mypy_cache \
		.ruff_cache .hypothesis .benchmarks .venv/xdpcap-built
	find xdpcap -name '*.so' -delete
	find xdpcap tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +
