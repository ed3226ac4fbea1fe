# Everything a newcomer needs: `make up`, `make test`, `make demo`; for contributors `make check`, `make statistical`.
PYTHON ?= python3
VENV ?= .venv
BUILD ?= cpu
CONFIG ?= configs/local.yaml
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(BUILD)
TOOLS := $(VENV)/.installed-dev
CLIENTS := $(VENV)-clients
OLDER := $(VENV)-clients-older
SUPPLY := $(VENV)-supply
KUBERNETES := $(VENV)-kubernetes
# By another name: a line that says MAKE is run even by `make -n`.
SELF := $(MAKE)
PYTEST := -m pytest -q --durations=25
# Bytecode is kept, whatever the environment says: without, every process rewrites the asserts of 400 modules again.
export PYTHONDONTWRITEBYTECODE :=
# Unit tests in parallel, a worker a core (each takes about a gigabyte); tests that start a cluster or engines never are.
UNIT := $(BIN)/python $(PYTEST) -n logical --maxprocesses 8 --dist worksteal tests/unit tests/contract tests/statistical
# `full` tests too, and all of those of which a sample runs otherwise.
WHOLE := --whole -m ""

.PHONY: up demo test test-unit test-all clients clients-running package k8s faults attack attack-load story story-local nodes walk bench-overhead gateways bench-gateways bench-learning bench-scaling adapters soak check audit sbom statistical docs format env serving lock lock-js newest clean

up: serving        ## bring the graph up: environment, weights, first router version, engines; Ctrl-C stops it
	@$(BIN)/serve-graph up --config $(CONFIG)

demo: serving      ## up, 40 held-out questions, a table of what they cost and how many were right, down
	@$(BIN)/serve-graph demo --config $(CONFIG)

test: env          ## every test that needs no GPU, all stages whatever fails (engines and cluster tests last)
	@scripts/stages \
	  "unit" 'scripts/again $(UNIT)' \
	  "clients" '$(SELF) --no-print-directory clients' \
	  "cluster" 'scripts/again $(BIN)/python $(PYTEST) tests/cluster tests/attack' \
	  "engines" 'scripts/again $(BIN)/python $(PYTEST) tests/engines'

test-unit: env     ## what a change of code is held against: no cluster, no engine, no other client
	@$(UNIT)

test-all: env      ## every test at its whole size (hours)
	@scripts/stages \
	  "unit" 'scripts/again $(UNIT) $(WHOLE)' \
	  "clients" '$(SELF) --no-print-directory clients' \
	  "cluster" 'scripts/again $(BIN)/python $(PYTEST) $(WHOLE) tests/cluster tests/attack' \
	  "engines" 'scripts/again $(BIN)/python $(PYTEST) $(WHOLE) tests/engines'

clients: $(CLIENTS)/js/.installed $(OLDER)/.installed  ## other projects' clients against the endpoint, as they come
	@failed=0; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	  $(OLDER)/bin/python $(PYTEST) tests/clients/test_every_client.py tests/clients/test_openai_client.py >"$$log" 2>&1 & \
	  $(CLIENTS)/bin/python $(PYTEST) tests/clients || failed=1; wait $$! || failed=1; cat "$$log"; exit $$failed

clients-running: $(CLIENTS)/js/.installed $(OLDER)/.installed  ## the same clients against the graph at SERVE_GRAPH_URL
	@failed=0; for each in $(OLDER) $(CLIENTS); do \
	  $$each/bin/python $(PYTEST) -m full tests/clients/test_running_graph.py || failed=1; done; exit $$failed

package: env       ## wheel and sdist, built, installed outside the checkout and tried, with and without what serves
	@$(BIN)/python -m pytest -q -m full tests/contract/project/test_package.py

k8s: env $(KUBERNETES)/js/.installed  ## manifests by the real kustomize and Kubernetes' schemas, the Dockerfile by hadolint
	@KUBERNETES_TOOLS=$(KUBERNETES) $(BIN)/python -m pytest -q -m full tests/contract/project/kubernetes

faults: env        ## every fault, before and after the commit and without a stream, as a table
	@$(BIN)/python -m pytest -q --whole tests/cluster/test_fault_matrix.py

attack: env        ## every attack that can be made from outside, against a live echo graph of its own, as a table
	@$(BIN)/python -m tests.attack.table

attack-load: env   ## 10 minutes of attacks by one key beside honest load of another, and what that one noticed
	@$(BIN)/python -m tests.attack.load --out docs/results/attack-load.md

story: env         ## the life of router versions on a real graph over models of known quality, beside what its tests predict (20 minutes, on a busy machine an hour)
	@$(BIN)/python -m tests.story.life

story-local: serving ## the same once with the two packaged models as vLLM engines, on everyday and German tasks (half an hour, and ten minutes for its versions)
	@$(BIN)/python -m tests.story.local

nodes: env         ## three Ray nodes in network namespaces: links cut, nodes and head killed, what callers saw (root, redis-server, PostgreSQL; 15 minutes)
	@$(BIN)/python -m tests.nodes --out docs/results/nodes.md

walk: env          ## a reviewer's walk in headless Chromium: MLflow's page, comparison, approval, a canary in the console, labels (pictures in walk/; 10 minutes)
	@$(BIN)/python -m tests.story.walk --out walk

bench-overhead: env ## what routing costs a request beside its models: routed and forced by turns (5 minutes, quiet machine)
	@$(BIN)/python -m benchmarks.overhead --out docs/results/overhead.md

gateways: env      ## the other gateways that ours is measured beside, each in an environment of its own
	@benchmarks/gateways/install $(BIN)/uv $(PYTHON) $(VENV)-gateways

bench-gateways: gateways ## our graph beside LiteLLM, Portkey, vllm-router and ray.serve.llm over the same upstream (half an hour, quiet machine)
	@$(BIN)/python -m benchmarks.gateways --out docs/results/serving/gateways.md

bench-scaling: env ## replicas over time where escalations are made room for before they arrive, beside Ray Serve's rule (10 minutes)
	@$(BIN)/python -m benchmarks.scaling --out docs/results/serving/scaling.md

bench-learning: env ## what learning from live traffic costs a request: everything on beside everything off (10 minutes)
	@$(BIN)/python -m benchmarks.learning --out docs/results/serving/learning-cost.md

adapters: env      ## real engines: a LoRA adapter, an embedder, cached tokens, held against transformers (4 minutes)
	@$(BIN)/python -m pytest -q -m full tests/engines/test_adapter_and_embedder.py

soak: env          ## 15 minutes of load with faults on a real cluster, and what came back
	@$(BIN)/python -m pytest -q -m full tests/cluster/load/test_soak.py

statistical: env   ## the statistical experiments and model comparisons at full size
	@$(BIN)/python -m pytest -q -m full tests

docs: env          ## the documentation site, into build/site; any broken link or reference fails it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet -f docs/site/mkdocs.yml

check: env         ## format, lint, types, floors, what is locked
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/supply/audit.py

format: env
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

audit: env         ## what is locked: hashes, licences, refused releases, known vulnerabilities; and secrets in the repository
	@scripts/supply/advise $(BIN) $(SUPPLY)

sbom: $(SUPPLY)/.installed  ## bills of materials of both builds (CycloneDX), into build/sbom
	@$(BIN)/python scripts/supply/sbom.py $(SUPPLY)/bin/cyclonedx-py --out build/sbom \
	  cpu=scripts/locks/cpu.txt,scripts/locks/torch.txt gpu=scripts/locks/gpu.txt

env: $(TOOLS)      ## the environment of contributors: what serves, and the tools of development

serving: $(STAMP)  ## what serves alone: all that `make up` installs

# What is locked, by uv, because pip knows no overrides (docs/decisions/project/0001 and 0018).
$(STAMP): pyproject.toml $(filter-out %/dev.txt,$(wildcard scripts/locks/*.txt))
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "Python 3.11 or 3.12 is needed; $$($(PYTHON) --version) found. Say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV) \
	  || { echo "python's venv module is incomplete; on Debian: apt-get install python3-venv"; exit 2; }; }
	@echo "installing packages (about 2 GB the first time)"
	@scripts/install $(VENV) $(BUILD)
	@touch $@

$(TOOLS): $(STAMP) scripts/locks/dev.txt
	@scripts/install $(VENV) dev
	@touch $@

# Beside the environment, not in it: they pin other versions. What is not here is found there.
$(VENV)-%/.installed: $(STAMP)
	@scripts/clients-venv $(VENV) $(VENV)-$*
	@$(BIN)/uv pip install -q --no-deps --require-hashes --python $(VENV)-$*/bin/python -r scripts/locks/$*.txt
	@touch $@

# Clients in JavaScript; where they cannot be installed, their tests are skipped and say why.
$(CLIENTS)/js/.installed: tests/clients/js/package-lock.json $(CLIENTS)/.installed
	@scripts/clients-js $(CLIENTS)

$(KUBERNETES)/js/.installed: tests/contract/project/kubernetes/js/package-lock.json $(KUBERNETES)/.installed
	@JS=tests/contract/project/kubernetes/js scripts/clients-js $(KUBERNETES)

lock: env          ## remake scripts/locks/ from the ranges of pyproject.toml; make lock UPGRADE=--upgrade takes the newest
	@scripts/lock $(BIN)/uv $(UPGRADE)

lock-js: $(CLIENTS)/.installed $(KUBERNETES)/.installed  ## remake each package-lock.json from the ranges of its package.json
	@scripts/clients-js $(CLIENTS) --lock
	@JS=tests/contract/project/kubernetes/js scripts/clients-js $(KUBERNETES) --lock

newest:            ## the newest of everything that the ranges allow, in an environment of its own, and what it breaks
	@scripts/newest $(PYTHON)

clean:             ## remove what tests and builds left; never models or records
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
