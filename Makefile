# make run: the main job once. make up: Prefect UI, workers, dashboard. make test: all tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip does not compile: Python compiles the modules that are used, at their first import, which takes
# less time. It needs to write them for that: else every process would compile torch and us again.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable

.PHONY: run up check test-fast test all-tests audit upgrade install clean

run: $(VENV)/installed
	$(BIN)/coconut-attr run

up: $(VENV)/installed
	$(BIN)/coconut-attr up

# Lint, format, types, declared dependencies, security: seconds, and a minute where mypy has no cache.
check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry .
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive coconut_attr db flows dashboard

# The tests without a server, browser, database server or many processes: a minute.
test-fast: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m 'not server'

# All checks and tests, side by side: mypy uses the core that tests leave idle while they wait.
test: $(VENV)/installed-test
	$(MAKE) --jobs 2 check all-tests

# Three processes: on two cores one of them may wait, as tests of faults do for minutes.
all-tests: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal

# Look up known vulnerabilities of the installed packages in a database on the internet.
audit: $(VENV)/installed
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip freeze --exclude-editable > $(VENV)/installed.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement $(VENV)/installed.txt

# Write the newest versions that pyproject.toml allows to constraints.txt; then run `make clean test`.
# torch and its CUDA packages stay unpinned: their builds differ by platform.
upgrade:
	rm -rf $(VENV)-upgrade && $(PYTHON) -m venv $(VENV)-upgrade
	$(VENV)-upgrade/bin/pip install --quiet --no-compile --editable '.[test]'
	{ echo '# Versions that the tests pass with; written by `make upgrade`.'; \
	  $(VENV)-upgrade/bin/pip freeze --exclude-editable | grep -vE '^(torch|torchvision|triton|nvidia-.*|cuda-.*)=='; \
	} > constraints.txt
	rm -rf $(VENV)-upgrade

install: $(VENV)/installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) .
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test]'
	sh tests/install-programs.sh $(BIN)
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) $(VENV)-upgrade build *.egg-info
