# Every target sets up what it needs in .venv; a second call installs nothing. Needs Python >= 3.11 and make.
PYTHON ?= python3
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint bench fuzz soak mutate crash clean

help:
	@echo 'make run     start the service on 127.0.0.1:$(PORT) (PORT=... to change)'
	@echo 'make test    run the tests, then the cases of all plans'
	@echo 'make lint    check style, types and content'
	@echo 'make bench   measure the service against a bare Flask application (Linux, about 90 s)'
	@echo 'make fuzz    send the server what no client should send (Linux, about 3 min)'
	@echo 'make soak    keep half of its capacity on the server for ten minutes (Linux)'
	@echo 'make mutate  check that the cases notice changes of the content (about 6 min)'
	@echo 'make crash   kill the service 50 times under a load of feedback and count what is lost (about 5 min)'
	@echo 'make clean   remove .venv and all caches'

run: $(RUNTIME)
	@echo 'CDS Hooks on http://127.0.0.1:$(PORT)/cds-services (stop with Ctrl-C). Try, from a second terminal:'
	@echo "  python3 examples/request.py seed-patient-view | curl -s -H 'Content-Type: application/json' --data @- \\"
	@echo '    http://127.0.0.1:$(PORT)/cds-services/hemifacial-spasm-patient-view'
	@exec $(BIN)/cds-hooks serve --host 127.0.0.1 --port $(PORT)

test: $(DEV)
	$(BIN)/python -m pytest
	$(BIN)/cds-hooks test

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/cds-hooks lint

bench: $(DEV)
	$(BIN)/python -m bench

fuzz: $(DEV)
	$(BIN)/python -m bench.fuzz

soak: $(DEV)
	$(BIN)/python -m bench.endurance

mutate: $(DEV)
	$(BIN)/python -m mutation

crash: $(DEV)
	CDS_CRASH_ROUNDS=50 $(BIN)/python -m pytest -q -s tests/store/test_crash.py

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or later is needed; name one with PYTHON=..., such as: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

# pyproject.toml: the command and the version come from it.
$(RUNTIME): requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo 'Installing what the service needs into $(VENV) ...'
	@$(PIP) install --require-hashes -r requirements/runtime.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	@echo 'Installing what tests and lint need into $(VENV) ...'
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
