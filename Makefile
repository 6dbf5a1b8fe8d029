# tapchanger. `make demo` shows the main job, `make test` runs everything; each sets up all that it needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
export TAPCHANGER_HOME ?= $(HOME)/.cache/tapchanger
VENV := .venv
PY := $(VENV)/bin/python
UV := $(TAPCHANGER_HOME)/tools/bin/uv
export PATH := $(TAPCHANGER_HOME)/bin:$(PATH)
# Libraries that tests load report nothing.
export ORT_DISABLE_TELEMETRY := 1
export HF_HUB_DISABLE_TELEMETRY := 1
SOURCES := operator serving dev examples tests
PATIENT := tests/integration/build tests/integration/capture

.PHONY: help demo test check unit integration integration-clocked integration-patient e2e bench-decisions bench-rollbacks bench-promotions bench-build bench-choice bench-drift bench-decay bench-observer bench-capture fuzz generate golden cluster-up cluster-down cluster-status images models venv lock clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: venv ## The main job, from nothing to a canary that is rolled back
	@$(PY) -m dev.demo

# End-to-end tests often wait for the cluster: what takes long and asks nothing of the clock runs meanwhile, with what they
# leave of the processors. What goes by the clock doesn't: on such time a second of work can take a minute.
test: check ## Every test, the end-to-end ones on a real cluster included
	@status=0
	$(MAKE) --no-print-directory --keep-going unit integration-clocked || status=$$?
	beside=$$(mktemp)
	chrt --idle 0 $(MAKE) --no-print-directory integration-patient >$$beside 2>&1 & others=$$!
	$(MAKE) --no-print-directory e2e || status=$$?
	echo "== integration tests that ran beside"
	wait $$others || status=$$?
	cat $$beside
	rm $$beside
	exit $$status

venv: $(VENV)/.done ## The development environment, from locked requirements
$(VENV)/.done: requirements/dev.txt pyproject.toml
	@echo "== development environment (a few minutes the first time: PyTorch is large)"
	[ -x $(UV) ] || { python3 -m venv $(TAPCHANGER_HOME)/tools && $(TAPCHANGER_HOME)/tools/bin/pip install --quiet --require-hashes -r requirements/tools.txt; }
	[ -x $(PY) ] || $(UV) venv --quiet --python 3.11 $(VENV)
	$(UV) pip sync --quiet --python $(VENV) --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --python $(VENV) --no-deps --editable .
	touch $@

check: venv ## Format, lint, types, import layers, generated files
	@$(VENV)/bin/ruff format --check --quiet $(SOURCES)
	$(VENV)/bin/ruff check --quiet $(SOURCES)
	$(VENV)/bin/mypy --no-error-summary
	$(VENV)/bin/lint-imports --no-logo 2>&1 | tail -n 4
	$(PY) -m tapchanger_operator.api.crd --check
	$(PY) -m tapchanger_operator.api.reference --check
	$(PY) -m dev.telemetry --check
	echo "check: ok"

unit: venv $(TAPCHANGER_HOME)/bin/helm ## Unit and golden tests
	@$(PY) -m pytest tests/unit -n auto --dist worksteal

$(TAPCHANGER_HOME)/bin/helm:
	@python3 -m dev.cluster tools

integration: venv ## Real Envoy, real builds, real stores, without a cluster
	@$(MAKE) --no-print-directory --keep-going integration-clocked integration-patient

integration-clocked: venv
	@$(PY) -m pytest tests/integration $(PATIENT:%=--ignore %) -n auto --dist loadfile

integration-patient: venv
	@$(PY) -m pytest $(PATIENT) -n auto --dist worksteal

e2e: venv ## The whole thing on a real cluster
	@$(PY) -m pytest tests/e2e --durations=40 --durations-min=5

bench-decisions: venv ## Decisions on simulated canaries, beside Flagger's and Argo Rollouts'; SEED= and ROLLOUTS= set it
	@$(PY) -m tests.bench.decisions

bench-rollbacks: venv ## How long a bad canary keeps traffic, on the real cluster
	@$(PY) -m tests.bench.bench_rollbacks

bench-promotions: venv ## A hundred promotions under load by every kind of client, on the real cluster
	@$(PY) -m tests.bench.bench_promotions

bench-build: venv ## The engine that is chosen, beside PyTorch, ONNX Runtime and OpenVINO at their defaults
	@$(PY) -m tests.bench.bench_build

bench-choice: venv ## Ten builds of a model, and their choices beside a long measurement
	@$(PY) -m tests.bench.bench_choice

bench-drift: venv ## How soon drift is noticed in real texts, beside evidently, frouros and river; REPEATS= sets how often
	@$(PY) -m tests.bench.drift

bench-decay: venv ## Accuracy estimated without labels beside the true one, on real texts; REPEATS= sets how often
	@$(PY) -m tests.bench.drift.decay

bench-observer: venv ## Spans per second of the observer beside the OpenTelemetry Collector, and the error of its percentiles
	@$(PY) -m tests.bench.bench_observer

bench-capture: venv ## Personal data that capture takes out of made-up sentences, by kind; SIZE= sets how many
	@$(PY) -m tests.bench.bench_capture

fuzz: venv ## A million broken payloads for the observer, or 20 minutes of them
	@$(PY) -m tests.fuzz.fuzz_observer

generate: venv ## Writes the CRDs and the reference of reasons from the API types, the dashboards and the alerts
	@$(PY) -m tapchanger_operator.api.crd
	$(PY) -m tapchanger_operator.api.reference
	$(PY) -m dev.telemetry

golden: venv ## Rewrites the golden files; read the diff before you commit it
	@UPDATE_GOLDEN=1 $(PY) -m pytest tests/unit

cluster-up: ## A real single-node Kubernetes on this machine (needs root)
	@python3 -m dev.cluster up

cluster-down: ## Stops it and removes its state
	@python3 -m dev.cluster down

cluster-status: ## How it is
	@python3 -m dev.cluster status

images: cluster-up ## Builds the container images and pushes them to the cluster's registry
	@python3 -m dev.images build

models: venv ## The example checkpoints and the ones that tests use
	@$(PY) -m dev.fixtures $(TAPCHANGER_HOME)/models

lock: ## Locks the requirements of each image
	@requirements/compile.sh

clean: ## Removes what was made in the checkout
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
