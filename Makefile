# `make demo` and `make test` are the two commands of the README; both set up what they need.
VENV    ?= .venv
PYTHON  ?= python3
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.pointsman-installed
WORKERS ?= auto

# Where a shell asks for no bytecode, every process that a test starts would compile all that it imports, vLLM too.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check check-compiles compiled test-compiled format clean bench-dataplane bench-dataplane-memory bench-replay bench-simulator bench-live-vllm bench-vllm-overhead fuzz crds manifests lock cluster \
        bench-operator cluster-packages cluster-build test-cluster test-cluster-full vllm-environment test-vllm test-vllm-full test-parity

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

setup: $(STAMP) ## virtual environment with everything a developer needs

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Pointsman needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP) ## a cluster of simulated engines behind the router, under load, with a live table
	@$(BIN)/pointsman demo $(if $(KEEP),--keep)

test: $(STAMP) ## the whole suite
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(STAMP) ## import contracts, types, style
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check

check-compiles: $(STAMP) ## does mypyc still take the hot modules? (half a minute)
	$(BIN)/python tools/check_compiles.py

# Prints where they are. By the same Python, so that packages of the virtual environment are the ones compiled against.
COMPILED = BENCH_PYTHON=$(abspath $(BIN)/python) PYTHONPATH=bench $(BIN)/python -m dataplane.compiled

compiled: $(STAMP) ## the hot modules as the image has them, in build (four minutes, with a C compiler)
	@$(COMPILED)

# Compiled, integers are of 64 bits and types are held to: what decides and simulates is tested so, too. A generator that nobody reads to its end
# closes its file with the last reference to it there, of which Python warns.
test-compiled: $(STAMP) ## decisions and simulations once more, compiled
	@compiled=$$($(COMPILED)) && export PYTHONPATH=$$compiled && \
	$(BIN)/python -c 'import sys; from pointsman.core import cluster; sys.exit(not cluster.__file__.endswith(".so"))' && \
	$(BIN)/python -m pytest -n $(WORKERS) $(or $(TESTS),tests/core tests/core_perf tests/queueing tests/sim_engine tests/simulation tests/workload) -W ignore::ResourceWarning $(ARGS)

format: $(STAMP) ## rewrite the sources in the one style
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet

bench-dataplane: $(STAMP) ## our data plane and others' on this machine, side by side (ARGS=--quick)
	PYTHONPATH=bench $(BIN)/python -m dataplane $(ARGS)

bench-dataplane-memory: $(STAMP) ## is our memory flat over ten minutes at 1,000 streams?
	PYTHONPATH=bench $(BIN)/python -m dataplane.memory $(ARGS)

bench-replay: $(STAMP) ## a trace on 4 prefill + 4 decode and on 8 mixed instances, side by side (TRACE=FILE ARGS=...)
	PYTHONPATH=bench $(BIN)/python -m replay $(TRACE) $(ARGS)

bench-simulator: $(STAMP) ## the simulator's speed and memory from outside, and Dynamo's replay beside it (ARGS=--help)
	PYTHONPATH=bench $(BIN)/python -m simulator $(ARGS)

bench-live-vllm: $(STAMP) ## a real vLLM profiled, loaded, and simulated with its profile (ARGS=--help)
	-@$(MAKE) --no-print-directory vllm-environment
	PYTHONPATH=bench:e2e/vllm $(BIN)/python -m live_vllm $(ARGS)

bench-vllm-overhead: $(STAMP) ## vLLM's own load client directly at a real vLLM and through the router (ARGS=--rounds=5)
	-@$(MAKE) --no-print-directory vllm-environment
	PYTHONPATH=bench:e2e/vllm $(BIN)/python -m vllm_overhead $(ARGS)

# Compiled: four minutes that spare hours. Without a C compiler it runs as it is. What has run is remembered in build/decisions.
bench-decisions: $(STAMP) ## experiments on decisions: papers, capacity, peers, queue orders (DATA=DIR, EXPERIMENTS=...)
	@test -n "$(DATA)" || { echo 'Name the folder with traces/, lengths/ and profiles/: make bench-decisions DATA=DIR' >&2; exit 2; }
	compiled=$$($(COMPILED)) || echo 'not compiled: it takes hours' >&2; \
	for experiment in $(or $(EXPERIMENTS),splitwise distserve ranking agents capacity peers dynamo plots); do \
	    PYTHONPATH=bench:$$compiled $(BIN)/python -m decisions $$experiment --data $(DATA) $(ARGS) || exit 1; done

bench-operator: $(STAMP) cluster-build ## the operator with 500 ModelServices and 2,000 pools (ARGS=--help)
	PYTHONPATH=bench $(BIN)/python -m controller $(ARGS)

# It dies with make, so that the cluster does too.
WITH_MAKE = exec setpriv --pdeathsig TERM

cluster: $(STAMP) cluster-build ## a Kubernetes cluster on this machine, until Ctrl-C (ARGS=--help, KUBE=1.34)
	@$(WITH_MAKE) $(BIN)/python -m e2e.cluster $(ARGS)

cluster-packages: ## Debian packages that the cluster's nodes are made of (as root)
	@dpkg --status $$(cat e2e/cluster/packages.txt) > /dev/null 2>&1 || { apt-get update --quiet && \
	    apt-get install --quiet --yes --no-install-recommends $$(cat e2e/cluster/packages.txt); }

cluster-build: $(STAMP) ## everything the cluster runs, built once per user
	@$(BIN)/python -m e2e.cluster.build

test-cluster: $(STAMP) cluster-build ## tests on a cluster of this machine's own making (KUBE=1.34, TESTS=FILES, ARGS=--cluster=kind)
	@$(WITH_MAKE) $(BIN)/python -m pytest $(or $(TESTS),e2e/cluster) -m 'not long' $(ARGS)

test-cluster-full: $(STAMP) cluster-build ## the same and the long ones: twenty starts and ends, kills half way up
	@$(WITH_MAKE) $(BIN)/python -m pytest $(or $(TESTS),e2e/cluster) $(ARGS)

.PHONY: walkthrough
walkthrough: $(STAMP) cluster-build ## play docs/quickstart-kubernetes.md on a cluster, and write it again
	@$(WITH_MAKE) env POINTSMAN_WRITE_WALKTHROUGH=1 $(BIN)/python -m pytest e2e/cluster/tests/test_walkthrough.py $(ARGS)

# The corpus is replayed by `make test`, without the fuzzer.
TARGET  ?= response request body events metrics
SECONDS ?= 60
fuzz: $(STAMP) ## feed what the router reads from strangers with anything (TARGET=body SECONDS=60)
	@$(BIN)/python -c 'import atheris' 2> /dev/null || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@set -e; for target in $(TARGET); do PYTHONPATH=fuzz $(BIN)/python -m pointsman_fuzz $$target $(SECONDS); done

crds: $(STAMP) ## write manifests/crds, manifests/profiles and the schema of the chart's values from the models
	$(BIN)/python tools/write_crds.py
	$(BIN)/python tools/write_values_schema.py

manifests: $(STAMP) ## write manifests/base from the chart, by the Helm of `make cluster-build`
	$(BIN)/python -m e2e.cluster.manifests

lock: ## pin what the image is made of, by hash
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet uv
	{ echo '# What the image is made of, by hash. Written by `make lock`; a test holds it against pyproject.toml.'; \
	  build/lock/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes --no-header \
	      --python-version 3.11; } > requirements.lock

clean: ## remove what was built here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

vllm-environment: $(STAMP) ## vLLM for the CPU and NIXL, in the user's cache (5 GB, once)
	@PYTHONPATH=e2e/vllm $(BIN)/python -m realengine.environment

test-parity: $(STAMP) ## latencies of the same trace live and simulated agree (four minutes)
	@$(BIN)/python -m pytest e2e/parity -s $(ARGS)

test-vllm: $(STAMP) ## two real vLLM engines on the CPU: contract, router in front
	-@$(MAKE) --no-print-directory vllm-environment
	@$(BIN)/python -m pytest $(or $(TESTS),e2e/vllm) -m 'not long' --timeout=600 --durations=12 $(ARGS)

test-vllm-full: $(STAMP) ## the same and the long ones: real traces through vLLM's own scheduler
	-@$(MAKE) --no-print-directory vllm-environment
	@$(BIN)/python -m pytest $(or $(TESTS),e2e/vllm) --timeout=1800 $(ARGS)
