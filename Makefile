# Two environments: .venv runs the factory, .venv-serving runs vLLM (their pins cannot meet in one); .venv-docs is for docs.
# Each is made once and made again when its locks change; one that was left half made is made again too.

PYTHON ?= python3.11
METHOD ?= sealong
FROM ?=
TEXT ?= $(or $(FROM),generated)
ARGS ?=
# The build of torch in .venv: the CUDA build on a machine with NVIDIA's driver, else the much smaller CPU build.
TORCH ?= $(if $(wildcard /proc/driver/nvidia/version),cuda,cpu)
# Models in the box to fetch and convert at set-up, rather than at first use.
MODELS ?=
unexport PYTHONDONTWRITEBYTECODE # compiling every file anew at each start takes seconds

# A machine with a GPU may have no network and its own CUDA build of torch: then PYTHON is used, with carried wheels.
# The folder's name tells dill, with which datasets hashes functions, that these are installed packages.
GPU_PYTHON = $(if $(wildcard .venv/bin/python),.venv/bin/python,$(PYTHON))
GPU_PACKAGES = $(CURDIR)/.gpu-check/site-packages
WHEELS ?=

.PHONY: demo test check gpu-check docs setup lock clean

demo: setup
	@.venv/bin/longmill demo $(METHOD) --text $(TEXT) $(ARGS)

# The quick tests in two processes, then the slow ones in three, as they wait now and then; a file stays in one process.
test: setup
ifeq ($(ARGS),)
	@.venv/bin/python -m pytest -q -m "not slow" --numprocesses 2
	@.venv/bin/python -m pytest -q -m slow --numprocesses 3 --dist loadfile
else
	@.venv/bin/python -m pytest -q $(ARGS)
endif

check: .venv/.made
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -q -m "not slow and not medium" --numprocesses 2 $(ARGS)

gpu-check:
	@$(if $(WHEELS),$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $(GPU_PACKAGES) $(WHEELS)/*.whl)
	@PYTHONPATH=$(CURDIR):$(GPU_PACKAGES):$$PYTHONPATH $(GPU_PYTHON) -m flows.bench.gpu_check $(ARGS)

# The documentation as a site, in site/.
docs: .venv-docs/.made
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
	@echo "site: site/index.html"

setup: .venv/.made .venv-serving/.made
	@test -z "$(MODELS)" || .venv/bin/longmill models $(MODELS)

.venv/.made: locks/factory.txt locks/torch-$(TORCH).txt locks/development.txt pyproject.toml
	@$(PYTHON) infra/running/prerequisites.py
	@$(PYTHON) infra/running/environments.py .venv $(filter locks/%,$^) --project
	@touch $@

.venv-serving/.made: locks/serving.txt locks/torch-cpu.txt | .venv/.made
	@$(PYTHON) infra/running/prerequisites.py --serving
	@$(PYTHON) infra/running/environments.py .venv-serving $^
	@touch $@

.venv-docs/.made: locks/docs.txt
	@$(PYTHON) infra/running/environments.py .venv-docs $^
	@touch $@

# Versions that still fit stay; ARGS=--upgrade takes the newest.
lock: .venv/.made
	@.venv/bin/python -m infra.running.locks $(ARGS)

clean:
	rm -rf .venv .venv-serving .venv-docs .gpu-check site
