# make demo    the tiny recipe on a CPU, from nothing      make test    every test, the same environment
# make check   ruff and mypy                               make docs    docs/recipe.md, from the code
#
# PYTHON chooses the interpreter (3.11 or 3.12); ARGS is passed on: make demo ARGS="--set seed=2"

PYTHON ?= python3
VENV := .venv

.PHONY: demo test check docs clean

demo: $(VENV)/cpu
	$(VENV)/bin/python run.py --recipe recipes/tiny_cpu.toml $(ARGS)

test: $(VENV)/dev
	$(VENV)/bin/python -m pytest $(ARGS)

check: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/cpu
	$(VENV)/bin/python docs/generate_recipe_md.py

$(VENV)/cpu: requirements-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -r requirements-cpu.txt
	touch $@

$(VENV)/dev: $(VENV)/cpu requirements-dev.txt
	$(VENV)/bin/pip install -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) .cache
