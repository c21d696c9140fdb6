# Everything a contributor runs. Needed beforehand: Python >= 3.11, git, make; the rest is brought in.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEVCLUSTER := $(BIN)/python -m devcluster
JOBS ?= 2
# Further arguments for pytest: make test-unit ARGS="-k lease"
ARGS ?=

REGISTRY ?= localhost
TAG ?= dev
IMAGES := operator trainer server monitor

# What a user's own settings must not change here.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PIP_TARGET PIP_PREFIX PIP_REQUIRE_HASHES PYTEST_ADDOPTS
export PIP_USER := 0
export PIP_REQUIRE_VIRTUALENV := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1
# Tests and the demo use the images of this name.
export REGISTRY TAG
export DEBIAN_FRONTEND := noninteractive
# ONNX Runtime reports usage to its maker unless told not to.
export ORT_DISABLE_TELEMETRY := 1

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | sort | awk -F ':.*?## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modelloop needs Python 3.11 or newer; found $$($(PYTHON) --version 2>&1): install it, or name another by PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing python3-venv and ca-certificates from Debian"; \
	    apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv ca-certificates >/dev/null; \
	  else echo "this Python has no ensurepip: install the package python3-venv"; exit 1; fi; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the development environment into $(VENV)"
	@$(BIN)/python -m pip install -q --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

# Code of the gRPC protocols. It isn't committed, and images and wheels take it from here.
GRPC := images/src/modelkit/serve/grpc
GENERATED := $(GRPC)/inference_pb2.py $(GRPC)/health_pb2.py
$(GENERATED): %_pb2.py: %.proto $(VENV)/.installed
	@$(BIN)/python -m grpc_tools.protoc -I images/src --python_out=images/src --pyi_out=images/src $<

setup: $(VENV)/.installed $(GENERATED) ## create the development environment
	@:

# The development lock is resolved first and bounds all others, so that every image has the versions that were tested.
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
lock: setup ## refresh the hash-checked locks (UPGRADE=1 for newer versions)
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev pyproject.toml -o requirements/dev.lock
	@for extra in $(IMAGES); do \
	  $(COMPILE) -c requirements/dev.lock --extra $$extra pyproject.toml -o requirements/$$extra.lock; done
	@for part in shared shared-arrow; do \
	  $(COMPILE) -c requirements/dev.lock requirements/$$part.in -o requirements/$$part.lock; done
	@for other in bare mlserver kserve bentoml clients evidently river; do \
	  $(COMPILE) requirements/others/$$other.in -o requirements/others/$$other.lock; done

MONITORING := manifests/monitoring
define RULE_HEAD
# Generated from rules.yaml by `make generate`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: modelloop
  namespace: modelloop-system
spec:
endef
export RULE_HEAD
generate: setup ## write crds/ and docs/reference.md from the API types, and the object of the monitoring rules
	@$(BIN)/python -m modelloop.crdgen crds
	@$(BIN)/python -m modelloop.refgen docs/reference.md
	@{ echo "$$RULE_HEAD"; sed -n 's/^[^#]/  &/p' $(MONITORING)/rules.yaml; } > $(MONITORING)/prometheusrule.yaml

GENERATED_HERE := crds docs/reference.md $(MONITORING)/prometheusrule.yaml
verify: generate ## fail when what is generated differs from what is committed
	@new="$$(git status --porcelain -- $(GENERATED_HERE))"; [ -z "$$new" ] || { \
	  git --no-pager diff -- $(GENERATED_HERE); echo "$$new"; \
	  echo "this differs from what is committed: commit what make generate wrote"; exit 1; }

check: setup ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check --quiet . || { echo "make format writes it as wanted"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## format, and mend what lint can mend
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

test-unit: setup ## milliseconds each: pure logic, real libraries
	@$(BIN)/python -m pytest tests/unit -n $(JOBS) $(ARGS)

test-cluster: setup ## against a real API server
	@$(BIN)/python -m pytest tests/cluster $(ARGS)

test-e2e: images ## on a real node with the real images; needs root or Docker
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

ROLLOUTS ?= 200
SEED ?= 0
test-rollouts: images ## 200 rollouts on a real node under load (ROLLOUTS, SEED); what came of them is in build/rollouts.json
	@MODELLOOP_ROLLOUTS=$(ROLLOUTS) MODELLOOP_ROLLOUTS_SEED=$(SEED) $(BIN)/python -m pytest -s tests/e2e/test_e2e_rollouts.py $(ARGS)

test: setup ## all three
	@$(MAKE) test-unit
	@$(MAKE) test-cluster
	@if [ "$$(id -u)" = 0 ] || timeout 20 docker info >/dev/null 2>&1; then $(MAKE) test-e2e; \
	else echo "e2e tests left out: a node needs root or a Docker engine, and there is neither"; [ -z "$${CI:-}" ]; fi

images: setup ## build the four images (REGISTRY, TAG)
	@base="$$($(DEVCLUSTER) base-image)"; for image in $(IMAGES); do \
	  $(DEVCLUSTER) build-image --base "$$base" -f images/$$image/Dockerfile -t $(REGISTRY)/modelloop-$$image:$(TAG) .; done

install-manifest: setup ## render manifests/install for REGISTRY and TAG into build/install.yaml
	@mkdir -p build/install
	@{ printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../manifests/install]\nimages:\n'; \
	  for image in $(IMAGES); do \
	    printf -- '- {name: modelloop-%s, newName: "%s/modelloop-%s", newTag: "%s"}\n' $$image $(REGISTRY) $$image $(TAG); done; \
	} > build/install/kustomization.yaml
	@kubectl="$$(command -v kubectl || $(DEVCLUSTER) binary kubectl)"; "$$kubectl" kustomize build/install > build/install.yaml.new
	@mv build/install.yaml.new build/install.yaml
	@echo "kubectl apply -f build/install.yaml"

demo: setup ## the whole story on a real cluster
	@$(BIN)/python -m demo up

demo-down: setup ## remove everything that the demo made
	@$(BIN)/python -m demo down

bench-operator: setup ## the operator's rates over thousands of objects
	@$(BIN)/python -m bench.operator_rate

bench-training: setup ## what a run costs above the bare scikit-learn script, and a search
	@$(BIN)/python -m bench.training $(ARGS)

bench-monitor: setup ## drift in Parquet files beside bare numpy and Evidently
	@$(BIN)/python -m bench.monitor $(ARGS)

bench-loop: setup ## the retrain decision on streams with known drift, beside retraining every window
	@$(BIN)/python -m bench.loop $(ARGS)

bench-serving: setup ## our server beside a bare handler and other model servers
	@$(BIN)/python -m bench.serving $(ARGS)

cluster-up: setup ## a cluster with a node, to try things on
	@$(DEVCLUSTER) up --name dev

cluster-down: setup ## remove it
	@$(DEVCLUSTER) down --name dev

clean: ## remove what was built here, the development environment too
	@rm -rf build dist $(VENV) $(GENERATED) $(GENERATED:.py=.pyi) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup lock generate verify check format test-unit test-cluster test-e2e test-rollouts test images install-manifest demo \
	demo-down bench-operator bench-training bench-monitor bench-loop bench-serving cluster-up cluster-down clean
