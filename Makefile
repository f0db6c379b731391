# Every target sets up what it needs, on a fresh machine too. Only Python 3.11 or newer is required.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MANIFEST_TOOLS := $(VENV)/.manifest-tools
ARGS ?=

# Tests and the processes that they start compile a module once, not each time that it is imported.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast check docs faults mutants bench cluster lock clean
.PHONY: image compose-test supply-chain test-system

help: ## show this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)

demo: $(INSTALLED) ## run the product on this machine, check its numbers (ARGS=--json for programs)
	@$(BIN)/contactstream demo $(ARGS)

# Four workers for two cores: the tests spend much of their time waiting.
test: $(MANIFEST_TOOLS) ## run every test but the long ones (ARGS="-k word" for some)
	$(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# A whole deployment each: a secured Kafka, outages with the alerts, disasters and their recovery,
# pauses, limits, modes and erasures as an operator sees them, pages in a browser.
test-system: $(INSTALLED) ## run the tests that play minutes of a whole deployment
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m system \
		--ignore tests/deploy $(ARGS)

# Property tests try fewer examples than in `make test`; see tests/conftest.py. The manifests are
# left out: their tools are large.
# Three workers for two cores: the tests spend much of their time waiting.
test-fast: $(INSTALLED) ## run the tests that need no broker and are not slow, for the inner loop
	$(BIN)/pytest --numprocesses 3 --hypothesis-profile fast \
		-m "not kafka and not slow and not storm and not benchmark and not system \
		and not containers and not cluster" \
		--ignore tests/deploy $(ARGS)

check: $(INSTALLED) ## format, lint, types, and who may import whom; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED) ## write what is generated from the code: tables of documents, dashboards
	@$(BIN)/python -m tests.support.docs --write
	@$(BIN)/python -m deploy.monitoring.dashboard_source --write
	@$(BIN)/python -m deploy.kubernetes.generator --write

# The storms run even when a test has failed, and then the target fails at the end. They send about
# 550,000 distinct notifications.
STORM := $(BIN)/python -m tests.faults.harness.storm
faults: $(INSTALLED) ## the fault tests and the long storms, with their report
	@failed=0; \
	$(BIN)/pytest tests/faults -m "not benchmark" || failed=1; \
	$(STORM) --seed 1 2 3 4 5 --contacts 2100 --versions 50 --rate 500 --every 4 $(ARGS) \
		|| failed=1; \
	$(STORM) --seed 6 --nodes 3 --contacts 1000 --versions 25 --rate 150 --every 4 $(ARGS) \
		|| failed=1; \
	exit $$failed

# Without ARGS every module takes its turn; ARGS="merge packing" takes some, and ARGS="--sample 50"
# so many faults of each, chosen by chance.
mutants: $(INSTALLED) ## plant small faults in the modules that decide; tests must catch 90 %
	$(BIN)/python -m tests.mutants.report $(ARGS)

# Compares its ratios with the committed deploy/docs/performance.json. A path in ARGS, such as
# tests/benchmarks/bench_sink.py, measures that part alone. On a quiet machine ARGS=--record writes
# that file, performance.md and the plots, and ARGS="--growth --record" also the growth to a million
# contacts. Needs wrk (apt-get install wrk).
bench: $(INSTALLED) ## measure speed against baselines in the same run
	$(BIN)/pytest $(if $(filter tests/%,$(ARGS)),,tests/benchmarks) -m benchmark -s $(ARGS)

# ARGS="--image NAME:TAG --previous-image NAME:TAG" names images that the nodes have. It needs
# kubectl, helm, and the definitions of the kinds of Prometheus' operator and Strimzi.
cluster: $(INSTALLED) ## install on the Kubernetes of KUBECONFIG, disturb it, and prove no loss
	$(BIN)/pytest tests/cluster -m cluster -s $(ARGS)

image: ## build the image contactstream:VERSION, the same layers for the same commit
	deploy/image/build.sh $(ARGS)

compose-test: $(INSTALLED) ## start Compose with the simulators, and look whether contacts arrive
	$(BIN)/pytest tests/system/test_compose.py -m containers $(ARGS)

# Its tools have an environment of their own, so that the other targets install none of them.
supply-chain: $(INSTALLED) ## bill of materials, licences, and checks of code, image and workflows
	deploy/supply_chain/check.sh

# What runs in the image gets its versions from the lock of everything, so that the image has what
# was tested. What builds the package there has a lock of its own, and is not in the image.
# A version that is younger than a week is not taken: most malicious ones are found sooner.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	--exclude-newer "7 days" --quiet
lock: $(INSTALLED) ## resolve pyproject.toml's dependencies anew into the locks of deploy/
	$(COMPILE) --upgrade --group dev --output-file deploy/requirements.lock pyproject.toml
	$(COMPILE) --extra traces --constraint deploy/requirements.lock \
		--output-file deploy/runtime.lock pyproject.toml
	$(COMPILE) --group build --constraint deploy/requirements.lock \
		--output-file deploy/image/build.lock
	$(COMPILE) --upgrade --group manifests --constraint deploy/requirements.lock \
		--output-file deploy/kubernetes/tests.lock
	$(COMPILE) --upgrade --output-file deploy/supply_chain/tools.lock \
		deploy/supply_chain/tools.txt

clean: ## remove the virtual environment, the fetched broker and every cache
	rm -rf $(VENV) .local dist mutants
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock decides what is installed; pyproject.toml what the package and its command are.
$(INSTALLED): deploy/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "contactstream needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); \
		echo "no virtual environment; on Debian or Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; }
	@echo "installing what deploy/requirements.lock names ..." >&2
	@if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python --require-hashes \
			-r deploy/requirements.lock; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
			-r deploy/requirements.lock; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@touch $@

# What renders and checks the manifests of Kubernetes in tests/deploy.
$(MANIFEST_TOOLS): $(INSTALLED) deploy/kubernetes/tests.lock
	$(BIN)/uv pip install --quiet --require-hashes --requirement deploy/kubernetes/tests.lock
	@touch $@
