# Everything from a bare checkout: python3 (3.11 or newer, with venv) and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
PACKAGES := chain miner wallet p2p node tests benchmarks docs tools
BENCHMARKS := hash_cpu hash_gpu arm_code job_switch asic_host connect_blocks verify_real_blocks reorg growth headers indexes mempool start page_checksums
ARGS ?=

.PHONY: help run install install-dev test check format lint types imports soak fuzz bench pictures lock clean

help:           ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: install    ## a chain of your own, mined and shown live (ARGS="--blocks 20" stops after 20 blocks)
	@$(BIN)/pickaxe up $(ARGS)

install: $(VENV)/.installed         ## .venv with the locked dependencies and the pickaxe command

install-dev: $(VENV)/.installed-dev ## the same with what tests and checks need

test: install-dev   ## the fast tests, real processes and real blocks included
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

check: format lint types imports test  ## what CI runs

format: install-dev  ## refuse files that ruff would format otherwise
	$(BIN)/ruff format --check $(PACKAGES)

lint: install-dev    ## ruff
	$(BIN)/ruff check $(PACKAGES)

types: install-dev   ## mypy --strict
	$(BIN)/mypy

imports: install-dev ## the import directions of docs/architecture.md
	$(BIN)/lint-imports

soak: install-dev    ## the long tests: nodes killed, folders damaged (CRASHES=300), boards in random faults (SOAK_S=600)
	PICKAXE_CRASHES=$(or $(CRASHES),300) PICKAXE_NODE_CRASHES=$(or $(CRASHES),300) PICKAXE_DAMAGES=$(or $(CRASHES),300) \
	    PICKAXE_INDEX_CRASHES=$(or $(CRASHES),300) \
	    $(BIN)/python -m pytest -s tests/unit/chain/test_crash.py tests/functional/test_node_crash.py \
	    tests/functional/test_index_crash.py tests/property/test_damage.py $(ARGS)
	PICKAXE_SOAK_S=$(or $(SOAK_S),600) $(BIN)/python -m pytest -s -m slow $(ARGS)

fuzz: install-dev    ## fuzz rules against libbitcoinkernel, and parsers, until a difference (SECONDS=600)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) $(ARGS)

bench: install-dev   ## every benchmark, one table each
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

pictures: install-dev ## make the documentation's pictures from the real thing
	$(BIN)/python -m docs.pictures

lock: install-dev    ## resolve the dependencies of pyproject.toml anew
	$(PIP) install uv
	echo 'setuptools>=75' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url pyproject.toml - -o requirements.lock
	echo 'setuptools>=75' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --extra dev pyproject.toml - -c requirements.lock -o requirements-dev.lock

clean:          ## remove what make made: the environment, caches and the demo chain
	rm -rf $(VENV) .pickaxe .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pickaxe needs Python 3.11 or newer, and \
	$(PYTHON) is %d.%d: name another with make PYTHON=python3.12" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
