# Everything a person does here, one word each. `make help` lists the words.
.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
ONCE ?=
DEMO_FOLDER ?= .demo
CLUSTER_FOLDER ?= .cluster
VENV := .venv
BIN := $(VENV)/bin

# Without bytecode every Airflow task compiles Airflow again: 4-7 s a task instead of 0.3-0.8 s.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED := 1
# Everything the demo and the tests talk to is on loopback, also where PyPI is reached through a proxy.
export no_proxy := 127.0.0.1,localhost,$(no_proxy),$(NO_PROXY)
export NO_PROXY := $(no_proxy)

.PHONY: help demo cluster cluster-test prove demo-clean test oracle check docs bench bench-features bench-model format requirements clean

help:  ## list these words
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed  ## see the whole job on this machine; ONCE=1 ends when it is done
	@$(BIN)/trailer-ml demo --folder $(DEMO_FOLDER) $(if $(ONCE),--once)

cluster: $(VENV)/.installed-cluster  ## the same with Celery, Postgres, Redis and three workers; ONCE=1 as above
	@$(BIN)/trailer-ml demo --cluster --folder $(CLUSTER_FOLDER) $(if $(ONCE),--once)

cluster-test: $(VENV)/.installed-cluster  ## break that cluster in every way and see that nothing is lost
	@$(BIN)/python -m pytest tests/faults

prove:  ## the steps of the Dockerfile without Docker, in a fresh Debian tree: needs root, debootstrap and ten minutes
	@docker/prove

demo-clean:  ## forget what the demo made
	@rm -rf $(DEMO_FOLDER) $(CLUSTER_FOLDER)

test: oracle  ## run every test but those of `cluster-test`
	@$(BIN)/python -m pytest --ignore tests/faults

oracle: .cache/oracle-jax/.installed  ## install what the triplet losses are compared with: tensorflow-addons, and JAX
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
		$(MAKE) --no-print-directory .cache/oracle/.installed; \
	else echo "tensorflow-addons, the oracle of the triplet losses, needs Python 3.11: its tests are skipped"; fi

check: $(VENV)/.installed  ## format, lint, types, layers, docs
	@$(BIN)/ruff format --check --quiet . || { echo "fix: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 4
	@$(BIN)/python docs/generate.py --check

docs: $(VENV)/.installed  ## write the generated pages of docs/ and the README's tree
	@$(BIN)/python docs/generate.py

bench: $(VENV)/.installed  ## repeat the figures of docs/benchmarks.md
	@$(BIN)/python -m benchmarks

bench-model: $(VENV)/.installed  ## the model's figures: reading, epochs, trailers a second
	@$(BIN)/python -m benchmarks model

bench-features: $(VENV)/.installed  ## ours beside the seed recipe and other libraries, on films made once in .cache; TORCH=1: torchcodec too
	@test -x .cache/peers/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .cache/peers
	@$(install) --python .cache/peers/bin/python opencv-python-headless decord2 'av<19' numpy
	@$(if $(TORCH),$(BIN)/python -m pip --python .cache/peers/bin/python install --quiet torch torchcodec==0.12.0)
	@$(BIN)/python -m benchmarks features

format: $(VENV)/.installed  ## format the code
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet . || true

requirements: $(VENV)/.installed  ## compile requirements*.txt from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --extra dev -c requirements.txt \
		pyproject.toml -o requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --extra cluster -c requirements.txt \
		pyproject.toml -o requirements-cluster.txt
	@$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --extra cluster --extra gpu \
		-c requirements-cluster.txt pyproject.toml -o requirements-gpu.txt

clean: demo-clean  ## forget the environment too
	@rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache

# uv does not read pip's configuration.
install = index=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}; \
	$(BIN)/uv pip install --quiet $${index:+--default-index "$$index"}

# Each in an environment of its own: neither agrees with our TensorFlow.
.cache/%/.installed: tests/model/oracle/%.txt $(VENV)/.installed
	@echo "installing into .cache/$* (once) ..."
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .cache/$*
	@$(install) --python .cache/$*/bin/python -r $<
	@touch $@

# The stamp is written last, so an installation that was interrupted is taken up again.
$(VENV)/.installed: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo "Trailer ML needs Python 3.11 to 3.13; fix: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { \
		echo "Annoy is compiled and no C++ compiler is here; fix: sudo apt-get install g++ (or your system's way)"; exit 1; }
	@$(PYTHON) -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || { \
		echo "Annoy is compiled and Python.h is not here; fix: sudo apt-get install python3-dev (or your system's way)"; exit 1; }
	@echo "installing into $(VENV) (once) ..."
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "Python's venv is not whole here; fix: sudo apt-get install python3-venv (or your system's way)"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(install) --compile-bytecode --python $(BIN)/python -r requirements-dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.installed-cluster: requirements-cluster.txt $(VENV)/.installed
	@$(install) --compile-bytecode --python $(BIN)/python -r requirements-cluster.txt
	@touch $@
