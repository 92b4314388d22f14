# make help    lists the targets. Everything lives in this folder: .venv (packages), .foldline (server, checkpoints).

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PYTEST_FLAGS ?=
WORKERS ?= auto

# Nothing phones home.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 120
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport VIRTUAL_ENV CONDA_PREFIX GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE

# uv does not read pip's settings: hand it the index and the certificates that pip is told to use, where it has none.
define AS_PIP_DOES
setting() { $(BIN)/python -m pip config get "global.$$1" 2>/dev/null || true; }; \
index=$${PIP_INDEX_URL:-$$(setting index-url)}; extra=$${PIP_EXTRA_INDEX_URL:-$$(setting extra-index-url)}; \
if [ "$$index" ] && [ -z "$$UV_DEFAULT_INDEX$$UV_INDEX_URL" ]; then \
    export UV_DEFAULT_INDEX="$$index" UV_INDEX="$${UV_INDEX:-$$extra}" UV_INDEX_STRATEGY=unsafe-best-match; fi; \
cert=$${PIP_CERT:-$$(setting cert)}; \
if [ "$$cert" ] && [ -z "$$SSL_CERT_FILE" ]; then export SSL_CERT_FILE="$$cert"; fi;
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup lock demo run test check lint coverage docs deps params server worker deploy prune push pull remote accept tensorrt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.synced .foldline ## install what requirements.lock lists, into .venv

# The stamp is as new as the lock file that was installed: done once, and again when the lock changes.
# UV_COMPILE_BYTECODE: compiling once here saves ten seconds of each import of Great Expectations later.
$(VENV)/.synced: requirements.lock containers/uv.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r containers/uv.txt
	@$(AS_PIP_DOES) UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --require-hashes requirements.lock
	@touch $@

.foldline: # of the server's database, which cannot be opened where this is missing
	@mkdir -p $@

# For the oldest 3.11, so that every 3.11 finds what it needs. The file's own pins are kept: delete it to renew them.
lock: ## write requirements.lock from pyproject.toml
	@$(AS_PIP_DOES) $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header -o requirements.lock pyproject.toml \
	    --extra data --extra torch --extra engine --extra flows --extra dev --extra docs

demo: run ## set up, run the whole line, print the verdict

run: setup ## the flow, here and now, with a temporary Prefect server
	@$(BIN)/python -m flows

docs: setup ## the pages of docs/ as a site in .foldline/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

deps: setup ## write the code that each stage imports into dvc.yaml
	$(BIN)/python -m tools.deps

params: setup ## write docs/params.md from the classes in steps/params
	$(BIN)/python -m tools.params_page

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile

test: lint ## set up, check the code, run the tests (FOLDLINE_TESTS=all: the slow ones too)
	$(PYTEST) $(PYTEST_FLAGS)

# In two minutes: lint, then the tests of what changed until CHECK_SECONDS are over. --maxfail=1: a test that fails
# ends the run at once, so a run that time has ended (exit code 124) had no failure.
CHECK_SECONDS ?= 75
check: lint ## lint, and the tests of the rooms that changed; at most two minutes
	@timeout --foreground --signal=INT --kill-after=10 $(CHECK_SECONDS) \
	    env $(PYTEST) --maxfail=1 --no-loadscope-reorder $$($(BIN)/python -m tools.changed_tests) || \
	    { code=$$?; test $$code -eq 124 || exit $$code; \
	      echo "check: $(CHECK_SECONDS) s are over; the tests that ran have passed. \`make test\` runs all."; }

coverage: setup ## measure which lines the tests run, and write the share into docs/figures.md
	rm -rf .foldline/coverage
	$(PYTEST) --cov --cov-report=json:.foldline/coverage.json $(PYTEST_FLAGS) || test $$? -eq 1
	$(BIN)/python -m tools.coverage_figure

# Five commands, side by side. Each prints its output as a whole, and one that fails does not hide the others.
LINTS := lint-format lint-style lint-types lint-contracts lint-deps
.PHONY: $(LINTS)
$(LINTS): setup
lint: setup ## format, style, types, import contracts, the code deps in dvc.yaml
	@$(MAKE) --no-print-directory --keep-going --jobs=$(words $(LINTS)) --output-sync=target $(LINTS)

lint-format:
	$(BIN)/ruff format --check .
lint-style:
	$(BIN)/ruff check .
lint-types:
	$(BIN)/mypy
lint-contracts:
	$(BIN)/lint-imports
lint-deps:
	$(BIN)/python -m tools.deps --check

server: setup ## a Prefect server, http://127.0.0.1:4200
	$(BIN)/prefect server start

worker: deploy ## a worker that serves the deployments (start the server first)
	$(BIN)/prefect worker start --pool local --type process

deploy: setup ## register the deployments of prefect.yaml
	$(BIN)/python -m flows.deployments

prune: setup ## remove what an engine that was dropped from params.yaml left behind
	$(BIN)/python -m tools.prune

remote: setup ## print where `push` sends to; `dvc remote modify local url ...` names another place
	$(BIN)/dvc remote list

push: setup ## data and artifacts to remote storage, with what DVC remembers of runs
	$(BIN)/dvc push --run-cache

pull: setup ## data and artifacts of this commit from remote storage
	$(BIN)/dvc pull --run-cache --allow-missing

accept: setup ## make data/release the champion that later models are compared with
	$(BIN)/python -m tools.accept

tensorrt: setup ## add NVIDIA's full TensorRT, on a machine with a GPU (its own index must be in reach)
	@$(AS_PIP_DOES) VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --constraint requirements.lock -r pyproject.toml --extra tensorrt

clean: ## remove outputs of the steps and caches of tools; keeps .venv, DVC's cache, checkpoints, your images
	rm -rf data/ingest data/validate data/split data/train data/fuse data/export data/build data/evaluate data/gate data/release
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find networks steps flows tools consumers tests containers benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
