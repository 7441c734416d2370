# make demo    the tiny recipe on a CPU, from scratch      make test            every test, same environment
# make check   ruff and mypy                               make test-unsloth    only the tests of the Unsloth backend
# make docs    the generated parts of docs/, and the recipes' JSON schema
# make resolve whether there are versions of all that the requirements files for GPUs ask for
#
# PYTHON chooses the interpreter, VENV the folder of the environment; ARGS is passed on: make demo ARGS="--set seed=2"

PYTHON ?=
VENV ?= .venv

# Where PyTorch's CPU build comes from on Linux without a GPU: a URL or a folder. Empty: from the package index, which
# serves a CUDA build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
export TORCH_INDEX

# Any Python that runs; which one the environment is made with is decided in environment/interpreter.py.
ANY = python3 python3.14 python3.13 python3.12 python3.11 python
ENVIRONMENT = @for any in $(ANY); do $$any -c "" 2>/dev/null && break; done; \
	$$any -m environment --folder "$(VENV)" --python "$(PYTHON)"
IN_VENV = "$(VENV)/bin/python"

.PHONY: resolve demo environment test test-versions check docs clean
.PHONY: test-unsloth test-unsloth-updates test-unsloth-pinned test-unsloth-on-cpu

# The tiny model gains nothing from a second thread; on a busy machine, threads that wait for each other take far longer.
demo: export OMP_NUM_THREADS ?= 1
demo:
	$(ENVIRONMENT) cpu
	$(IN_VENV) run.py --recipe recipes/tiny_cpu.toml --solve-one $(ARGS)

test:
	$(ENVIRONMENT) dev
	$(IN_VENV) -m pytest $(ARGS)
	$(MAKE) test-unsloth ARGS=

# What depends on the versions of Python and PyTorch: PYTHON=python3.13 VENV=.venv-3.13
test-versions:
	$(ENVIRONMENT) dev
	$(IN_VENV) -m pytest -m versions $(ARGS)

environment:
	$(ENVIRONMENT) dev

# Both versions in parallel, one thread each; the pinned one, whose kernels are interpreted, in two parts.
test-unsloth:
	$(ENVIRONMENT) unsloth
	$(MAKE) --jobs=2 --output-sync=target test-unsloth-updates test-unsloth-pinned test-unsloth-on-cpu

PINNED = OMP_NUM_THREADS=1 UNSLOTH_ALLOW_CPU=1 PYTHONPATH="$$(cd "$(VENV)" && pwd)/unsloth-pinned" \
	$(IN_VENV) -m pytest -n 0
UPDATES = tests/unsloth/test_credit.py

# 5 is pytest's code where ARGS leaves nothing of a part. The tests leave this folder, so the path is whole.
test-unsloth-updates:
	$(PINNED) $(UPDATES) $(ARGS) || [ $$? = 5 ]

test-unsloth-pinned:
	$(PINNED) tests/unsloth --ignore="$(CURDIR)/$(UPDATES)" $(ARGS) || [ $$? = 5 ]

test-unsloth-on-cpu:
	OMP_NUM_THREADS=1 UNSLOTH_FORCE_CPU=1 PYTHONPATH="$$(cd "$(VENV)" && pwd)/unsloth-on-cpu" \
		$(IN_VENV) -m pytest -n 0 tests/unsloth $(ARGS)

check:
	$(ENVIRONMENT) dev
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	$(IN_VENV) -m mypy

# For each Python that both files are for, none of which need be here. uv's resolver takes a second of processor time where
# pip's takes half a minute; its version is pinned so that an answer can be had again. Of pip's settings it is told the index.
resolve:
	new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && export TMPDIR="$$new" UV_CACHE_DIR="$$new/uv" UV_NATIVE_TLS=1 && \
	$(or $(PYTHON),python3) -m venv "$$new/venv" && "$$new/venv/bin/pip" install --quiet uv==0.13.9 && \
	index=$$("$$new/venv/bin/pip" config get global.index-url 2>/dev/null || true) && \
	index=$${PIP_INDEX_URL:-$$index} && if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi && \
	for version in 3.11 3.12; do for file in requirements.txt requirements-vllm.txt; do \
		echo "resolving $$file for $$version"; \
		"$$new/venv/bin/uv" pip compile --quiet --python-version $$version \
			--python-platform x86_64-manylinux_2_28 $$file > /dev/null || exit 1; \
	done; done

docs:
	$(ENVIRONMENT) cpu
	$(IN_VENV) docs/generate_recipe_md.py
	$(IN_VENV) docs/generate_recipe_schema.py
	$(IN_VENV) docs/generate_module_map.py

clean:
	rm -rf "$(VENV)" .cache
