# make run: the main job once. make test: the tests. make up: Prefect UI, workers, dashboard. See README.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run up test audit install clean

run: $(VENV)/installed
	$(BIN)/coconut-attr run

up: $(VENV)/installed
	$(BIN)/coconut-attr up

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# Known vulnerabilities of what is installed; asks a database on the internet.
audit: $(VENV)/installed
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	sh tests/install-programs.sh $(BIN)
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
