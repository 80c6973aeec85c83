# What a newcomer types. `make study` first: it installs everything into .venv, once, and ends with the report.
SCALE  ?=
PYTHON ?= python3
# Written out in recipes: a Mac's make, 3.81, looks for programs in the PATH that it was started with.
BIN    := .venv/bin
READY  := .venv/.installed
comma  := ,
# How many devices nvidia-smi lists, or CUDA_VISIBLE_DEVICES names where it is set and there are any (some containers show them in
# /dev alone) or Slurm gives them.
LISTED := $(filter-out 0,$(shell nvidia-smi -L 2>/dev/null | grep -c GPU))
NAMED  := $(words $(filter-out -1 NoDevFiles,$(subst $(comma), ,$(CUDA_VISIBLE_DEVICES))))
GPUS   := $(if $(filter undefined,$(origin CUDA_VISIBLE_DEVICES)),$(LISTED),$(if $(LISTED)$(SLURM_JOB_ID)$(wildcard /dev/nvidia[0-9]* /dev/dxg),$(NAMED)))
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
unexport PYTHONHOME PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help doctor study report ui test drills bench lint lock

help:                ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile
	@echo "  study, report and doctor take SCALE=tiny|miniature|paper|zoo|own-data, as in make study SCALE=paper. study and report"
	@echo "  write it into params.yaml, where it stays chosen; doctor only looks."

study: $(READY) scale   ## run what is stale of the study, in parallel, and build the report
	@$(BIN)/python -m stages.engine.dag; case $$? in \
	  0) ;; \
	  3) cache="$${XDG_CACHE_HOME:-$$HOME/.cache}/snakemake"; \
	     [ -z "$$HOME" ] || { mkdir -p "$$cache" && rmdir "$$(mktemp -d "$$cache/XXXXXX")"; } 2>/dev/null || export XDG_CACHE_HOME="$$PWD/.snakemake/cache"; \
	     exec snakemake --workflow-profile profiles/local $(if $(filter-out 0,$(GPUS)),--resources gpu=$(GPUS)) ;; \
	  *) exit 1 ;; \
	esac
	@$(BIN)/python -m stages.ui --restore || echo "MLflow does not show it all (see above); the report does"
	@echo "report: file://$$PWD/reports/index.html   (tables: reports/README.md; curves: make ui)" 2>/dev/null || true

doctor: $(READY)     ## what this machine lacks for the study, and how long it would take here
	@$(BIN)/python -m stages.doctor $(if $(SCALE),--scale $(SCALE))

report: $(READY) scale  ## tables and report of what has been measured; trains and evaluates nothing
	@$(BIN)/python -m stages.compile
	@$(BIN)/python -m stages.report

ui: $(READY)         ## MLflow at http://127.0.0.1:5000 until Ctrl-C; shows a running study as it goes
	@$(BIN)/python -m stages.ui

test: $(READY)       ## all tests, with a tiny study through DVC and Snakemake
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not drills" -n auto --dist loadfile

drills: $(READY)     ## the long failure drills
	@$(BIN)/python -m pytest -m drills

bench: $(READY)      ## measure the speed of training, evaluation and data, and the memory of a step
	@$(BIN)/python benchmarks/training.py
	@$(BIN)/python benchmarks/memory.py
	@$(BIN)/python benchmarks/evaluation.py
	@$(BIN)/python benchmarks/data.py

lint: $(READY)       ## check the style of the code
	@$(BIN)/ruff check .

lock: $(READY)       ## write requirements.txt: what pyproject.toml asks for, pinned and hashed
	@$(BIN)/uv pip compile pyproject.toml --group test --universal --python-version 3.11 --generate-hashes --quiet --no-header -o requirements.txt

.PHONY: scale
scale: $(READY)
	@$(if $(SCALE),$(BIN)/python -m stages.scale $(SCALE),true)

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@echo "installing into .venv (once; minutes; about 7 GB on disk)" 2>/dev/null || true
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) -m venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip install --quiet --require-hashes --compile-bytecode --python $(BIN)/python -r requirements.txt || \
	  { echo "error: the packages are not installed; see above why. With Python 3.14 one of them (immutables) has to be compiled: apt install gcc python3-dev, or take Python 3.13: make PYTHON=..."; exit 1; }
	@touch $(READY)
