# make demo    the tiny recipe on a CPU, from nothing      make test            every test, the same environment
# make check   ruff and mypy                               make test-unsloth    those of the Unsloth backend alone
# make docs    docs/recipe.md and the JSON schema, from the code
#
# PYTHON chooses the interpreter (3.11 or 3.12); ARGS is passed on: make demo ARGS="--set seed=2"

PYTHON ?= python3
VENV := .venv

# Unsloth for tests without a GPU, each version in a folder of its own, for their needs exclude each other: the one
# that requirements.txt pins, with a Triton whose interpreter knows NumPy 2.4, and one with a CPU backend.
pin = $(shell sed -n 's/^$(1)==\([0-9.]*\).*/\1/p' requirements.txt)
PINNED := $(CURDIR)/$(VENV)/unsloth-$(call pin,unsloth)
ON_CPU := $(CURDIR)/$(VENV)/unsloth-2026.10.9

.PHONY: demo test test-unsloth test-unsloth-pinned test-unsloth-on-cpu check docs clean

demo: $(VENV)/cpu
	$(VENV)/bin/python run.py --recipe recipes/tiny_cpu.toml $(ARGS)

test: $(VENV)/dev
	$(VENV)/bin/python -m pytest $(ARGS)
	$(MAKE) test-unsloth ARGS=

# Both versions at once, on one thread each.
test-unsloth: $(VENV)/dev $(PINNED)/complete $(ON_CPU)/complete
	$(MAKE) --jobs=2 --output-sync=target test-unsloth-pinned test-unsloth-on-cpu

test-unsloth-pinned:
	OMP_NUM_THREADS=1 UNSLOTH_ALLOW_CPU=1 PYTHONPATH=$(PINNED) $(VENV)/bin/python -m pytest -n 0 tests/unsloth $(ARGS)

test-unsloth-on-cpu:
	OMP_NUM_THREADS=1 UNSLOTH_FORCE_CPU=1 PYTHONPATH=$(ON_CPU) $(VENV)/bin/python -m pytest -n 0 tests/unsloth $(ARGS)

check: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/cpu
	$(VENV)/bin/python docs/generate_recipe_md.py
	$(VENV)/bin/python docs/generate_recipe_schema.py

$(VENV)/cpu: requirements-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -r requirements-cpu.txt
	touch $@

$(VENV)/dev: $(VENV)/cpu requirements-dev.txt
	$(VENV)/bin/pip install -r requirements-dev.txt
	touch $@

$(PINNED)/complete: PACKAGES = unsloth==$(call pin,unsloth) unsloth_zoo==$(call pin,unsloth_zoo) triton==3.9.0
$(ON_CPU)/complete: PACKAGES = unsloth==2026.10.9 unsloth_zoo==2026.10.9
$(PINNED)/complete $(ON_CPU)/complete: | $(VENV)/dev
	rm -rf $(@D)
	$(VENV)/bin/pip install --no-deps --target $(@D) $(PACKAGES)
	touch $@

clean:
	rm -rf $(VENV) .cache
