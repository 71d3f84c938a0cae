# demo      make pictures, train a small cascade, evaluate it, write a report (about 7 minutes)
# lab       open the first notebook in JupyterLab
# docs      build the course, the equations and the reference as a site of files
# test      the quick tests        test-all  every test, slow and browser ones too
# check     formatting, lint and types
# gpu-day   on a machine with an NVIDIA GPU: all that needs one, in half an hour, and a report
# clean     remove build leftovers (keeps .venv, data and runs)

PYTHON ?= python3
DEMO_RUN ?= runs/demo
DEMO_ARGS ?=
GPU_REPORT ?= runs/gpu_day.html
SITE ?= site

BIN := .venv/bin
# One thread: torch would otherwise fight over the cores with the tests' own processes.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -ra
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: demo lab docs test test-all check gpu-day clean

# Called again after an interruption, the demo goes on from the last checkpoint. One thread: on an idle machine
# two are little faster (docs/log.md), on a busy one they wait for each other and are many times slower.
demo: .venv/.ready
	$(BIN)/cascade-lab shapes
	@resume=; if ls $(DEMO_RUN)/checkpoints/step_*.pt >/dev/null 2>&1; then resume=--resume; fi; set -x; \
	$(BIN)/cascade-lab train nano --threads 1 --output $(DEMO_RUN) $$resume $(DEMO_ARGS)
	$(BIN)/cascade-lab evaluate $(DEMO_RUN)
	$(BIN)/cascade-lab report $(DEMO_RUN)
	@echo "Open $(CURDIR)/$(DEMO_RUN)/report.html in a browser."

lab: .venv/.ready
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb --ip=127.0.0.1 $(ROOT_FLAG)

docs: .venv/.ready
	$(BIN)/python -m cascade_lab.commands.docs --output $(SITE)

test: .venv/.ready
	$(PYTEST) -m "not browser and not slow"

test-all: .venv/.ready
	$(PYTEST)

check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright cascade_lab

# The driver says which CuPy it can run: cuda13 where it knows CUDA 13, else cuda12. Without a driver there is
# none to install, and the last line says what is missing and ends with 2.
gpu-day: .venv/.ready
	@extra=$$($(BIN)/cascade-lab doctor --extra 2>/dev/null) && \
	$(BIN)/pip install --quiet -e ".[lab,dev,$$extra]"; \
	$(BIN)/cascade-lab gpu-day --output $(GPU_REPORT)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find cascade_lab tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is asked for, not python: an environment that broke half-way has the one without the other.
.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "cascade_lab needs Python 3.11 or newer: call make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv (the first time this downloads PyTorch: minutes, several GB) ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install $(if $(CI),--quiet) -e ".[lab,dev]"
	@touch $@
