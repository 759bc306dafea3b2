# make run: the main job once. make test: the tests. make up: Prefect UI, workers, dashboard. See README.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Uncompiled: Python compiles the modules that are used at their first import, which is quicker than all of them now;
# but not where it may not write them, as in many containers: there each process would compile them anew.
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),-$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib,@:)

.PHONY: run up test audit upgrade install clean

run: $(VENV)/installed
	$(BIN)/coconut-attr run

up: $(VENV)/installed
	$(BIN)/coconut-attr up

# Three processes: on two cores one of them may wait, as tests of faults do for minutes.
test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive coconut_attr db flows dashboard
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal

# Known vulnerabilities of what is installed; asks a database on the internet, and fails if a package cannot be looked up.
audit: $(VENV)/installed
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip freeze --exclude-editable > $(VENV)/installed.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement $(VENV)/installed.txt

# Writes the newest versions that pyproject.toml allows to constraints.txt; `make clean test` tells whether they will do.
# The builds of torch differ by platform and CUDA, so torch and what it brings are left open.
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
	$(COMPILE)
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test]'
	sh tests/install-programs.sh $(BIN)
	$(COMPILE)
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) $(VENV)-upgrade build *.egg-info
