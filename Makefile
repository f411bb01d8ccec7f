# make demo | test | lint | docs | smoke | bench: each sets up a virtual environment of its own first.
# VENV= (empty) uses PYTHON's present environment as it is.

PYTHON ?= python3
VENV ?= .venv
PRESET ?= quick
OUT ?= demo

ifeq ($(VENV),)
python = PYTHONPATH=src $(PYTHON)
installed =
else
python = $(VENV)/bin/python
installed = $(VENV)/installed
endif
run = $(python) -m

.PHONY: demo smoke bench test lint docs
demo: $(installed)
	$(run) cover.cli demo --preset $(PRESET) --out $(OUT)

# The demo's stages with a handful of clips and steps.
smoke: $(installed)
	$(python) benchmarks/demo.py --preset smoke --out $(OUT)

# Every other benchmark at a small size.
bench: $(installed)
	OMP_NUM_THREADS=1 $(python) benchmarks/run_all.py

# A process a core, each with one thread; files are not divided, since their tests share what they set up.
test: $(installed)
	OMP_NUM_THREADS=1 $(run) pytest -n logical --maxprocesses 8 --dist loadfile

lint: $(installed)
	$(run) ruff check .
	$(run) ruff format --check .
	$(run) mypy

# The documentation, into site/.
docs: $(installed)
	NO_MKDOCS_2_WARNING=1 $(run) mkdocs build --strict

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,heif,leaks,onnx,search,serve,test,dev,docs]'
	touch $@
