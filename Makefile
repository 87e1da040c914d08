# Two commands do everything: `make demo` and `make test`. Both go through `make setup`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The stamp carries a checksum of what is installed, so a second run reinstalls nothing and an edited pin reinstalls once.
STAMP  := $(VENV)/.installed-$(shell cat requirements.txt requirements-dev.txt pyproject.toml | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-min lint build clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(STAMP)  ## create .venv and install everything into it
$(STAMP): | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*
	@touch $@
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; name it with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

demo: setup  ## grade a small class, train a detector, and show both on one page
	$(BIN)/kit demo

# Two files of tests at a time; hostile submissions by themselves, as what they leave on the machine is looked for.
test: setup  ## run the kit's own tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(filter-out tests/hostile/,$(sort $(wildcard tests/*/)))
	$(BIN)/python -m pytest tests/hostile

# The oldest versions have an environment of their own; `make test-min PYTHON=python3.10`.
MIN_STAMP := .venv-min/.installed-$(shell cat requirements-min.txt pyproject.toml | cksum | cut -d' ' -f1)
test-min: $(MIN_STAMP)  ## run the graded tests on the oldest supported torch and torchvision
	.venv-min/bin/python -m pytest tests/kit/test_grade.py tests/grader
$(MIN_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { echo "The oldest torch needs Python 3.10 to 3.12; name it with: make test-min PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear .venv-min
	.venv-min/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-min.txt
	.venv-min/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

lint: setup  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

build: setup  ## write assignment/ and notebooks/ from solutions/
	$(BIN)/kit build

clean:  ## remove what the other targets made, but for .venv
	rm -rf build dist .pytest_cache .ruff_cache
