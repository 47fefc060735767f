# One command for each need, the same for people and for CI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo models test check bench acceptance capuchin clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.installed ## the virtual environment with everything in it

demo: install ## label an issue and watch a pull request appear; ISSUE=1..3 SEED=N KEEP=1 MODEL=NAME TRAJECTORIES=N
	$(BIN)/troop demo $(if $(ISSUE),--issue $(ISSUE)) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep) \
	  $(if $(MODEL),--model $(MODEL)) $(if $(TRAJECTORIES),--trajectories $(TRAJECTORIES))

models: install ## fetch published models into var/models; MODELS="NAME ..." for some of them
	$(BIN)/troop models $(MODELS)

test: install ## all tests; in CI a skip for a missing service fails
	$(BIN)/python -m pytest

check: install ## formatting, lint and types
	$(BIN)/ruff format --check bot engine kernels tests
	$(BIN)/ruff check bot engine kernels tests
	$(BIN)/mypy

$(VENV)/.bench: $(VENV)/.installed
	CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]' \
	  && touch $@ || echo "llama.cpp could not be built here; its comparison is left out"

bench: install $(VENV)/.bench ## speed figures, each with its baseline in the same run
	$(BIN)/python -m tests.bench

acceptance: install ## planted bugs in real packages, solved at 1, 4, 16 and 64 trajectories; MODEL=NAME BUGS=N TRAJECTORIES=N README=1
	$(BIN)/python -m tests.acceptance $(if $(MODEL),--model $(MODEL)) $(if $(BUGS),--bugs $(BUGS)) \
	  $(if $(TRAJECTORIES),--trajectories $(TRAJECTORIES)) $(if $(README),--readme)

capuchin: install ## train the bundled model again
	$(BIN)/python -m bot.capuchin

clean:
	rm -rf $(VENV) var
