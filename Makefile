# Everything starts here: `make help` lists the targets.  Each makes .venv from requirements.lock once and reuses it.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
TESTS ?= tests

.DEFAULT_GOAL := help
.PHONY: help run test bench audit faults kills soak searches golden lint format lock clean

help:  ## Explain each target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY)  ## Compare FP32, FP16 and BF16 on the embedded handwritten digits until one can be recommended (two minutes on 2 cores)
	$(PY) -m runner sweep=precision comparison.margin=1 comparison.max_seeds=10 comparison.max_hours=0.04 hardware.threads=1

bench: $(READY)  ## Time the runner beside loops by hand and other libraries (PARTS="loops" for a part, which takes minutes)
	$(PY) -m runner bench $(PARTS) --results docs/results

audit: $(READY)  ## Attack the private trainer with canaries, or a run of yours (OVERRIDES="run=DIR"; a minute)
	$(PY) -m runner audit $(OVERRIDES)

test: $(READY)  ## Run the tests (TESTS=tests/data for a part), those on numbers with the kernels of other processors too
	@$(PY) -m tests.search.postgres
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses=2 --dist=worksteal $(TESTS)
	$(PY) -m tests.other_kernels $(TESTS)

faults: $(READY)  ## Kill runs, fuzz requests, fill disks, take memory away, block trackers, interrupt (an hour; KILLS=2 for few)
	OMP_NUM_THREADS=1 $(PY) -m tests.faults.campaign --kills=$(or $(KILLS),20)
	OMP_NUM_THREADS=1 $(PY) -W ignore -m tests.faults.fuzz
	OMP_NUM_THREADS=1 $(PY) -W ignore -m tests.faults.full_disk
	OMP_NUM_THREADS=1 $(PY) -m tests.faults.little_memory
	OMP_NUM_THREADS=1 $(PY) -W ignore -m tests.faults.tracker_cost
	OMP_NUM_THREADS=1 $(PY) -m tests.faults.ctrl_c
	OMP_NUM_THREADS=1 $(PY) -m tests.faults.ctrl_c --twice

kills: $(READY)  ## Kill the driver of a 24-cell grid twice and start it again (a minute)
	OMP_NUM_THREADS=1 $(PY) -m tests.sweeping.campaign

soak: $(READY)  ## Run 200 cells in a row and measure the driver (CELLS=20 for few)
	OMP_NUM_THREADS=1 $(PY) -m tests.sweeping.soak --cells=$(or $(CELLS),200)

golden: $(READY)  ## Renew tests/golden, for a change that is meant to change numbers
	OMP_NUM_THREADS=1 $(PY) -m tests.golden.golden_losses

searches: $(READY)  ## Kill workers of searches, and measure what pruning saves (several minutes)
	OMP_NUM_THREADS=1 $(PY) -m tests.search.campaign

lint: $(READY)  ## Check format, style and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(READY)  ## Format the code
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lock:  ## Renew requirements.lock with the newest versions that pyproject.toml allows
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet ".[dev]"
	( sed -n '/^#/p' requirements.lock; .venv-lock/bin/python -m pip freeze --exclude recipe-runner ) > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

clean:  ## Remove .venv and what tools left behind; outputs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
