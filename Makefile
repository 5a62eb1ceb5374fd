# Vedette's verbs. Only Python >= 3.11 is needed; everything else is installed into .venv.
#
#   make run      install what is missing and serve on http://127.0.0.1:8009/ (ARGS='--config prometheus.yml')
#   make install  install only                      make check  linters, types, import contract
#   make test     run the tests (ARGS='-k wal')     make bench  measure against peers, write docs/benchmarks.md
#   make torture  kill the storage and fill its disk hundreds of times, lose power at hundreds of moments (ROUNDS=300)
#   make docs     check docs/ and render to site/   make lock   renew both lock files
#   make clean    remove .venv, caches and site/    make clean-data  remove $(DATA), after asking

VENV := .venv
BIN  := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8009
DATA ?= ./data
ARGS ?=
ROUNDS ?= 300

# The stamps say which lock files a venv holds: older than one of them, and the next verb brings it up to date.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help install run test torture check bench docs lock clean clean-data

help:
	@sed -n '3,8s/^# \{0,3\}//p' Makefile

$(RUN_STAMP): requirements.lock pyproject.toml .ci/install
	@sh .ci/install run
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUN_STAMP)
	@sh .ci/install dev
	@touch $@

install: $(RUN_STAMP)

run: $(RUN_STAMP)
	@exec $(BIN)/vedette serve --host $(HOST) --port $(PORT) --data $(DATA) $(ARGS)

test: $(DEV_STAMP)
	@$(BIN)/python -m pytest $(ARGS)

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src bench docs/build.py docs/bad_input.py .ci/lock.py
	$(BIN)/lint-imports

torture: $(DEV_STAMP)
	@VEDETTE_TORTURE=$(ROUNDS) $(BIN)/python -m pytest tests/storage/test_torture.py tests/storage/test_kill.py $(ARGS)

bench: $(DEV_STAMP)
	@$(BIN)/python -m bench $(ARGS)

docs: $(DEV_STAMP)
	@$(BIN)/python docs/build.py
	@$(BIN)/python -m pytest -q tests/docs

lock:
	@sh .ci/install lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist site bench/.cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

clean-data:
	@printf 'Delete all metrics, alerts and settings stored in %s? [y/N] ' '$(DATA)'; read answer; \
	if [ "$$answer" = y ]; then rm -rf -- '$(DATA)'; else echo 'Nothing deleted.'; fi
