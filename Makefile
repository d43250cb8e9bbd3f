# Two environments: .venv runs the factory, .venv-serving runs vLLM (their pins cannot meet in one).
# Each is made once and made again when its pins change.

PYTHON ?= python3.11
METHOD ?= sealong
TEXT ?= generated
MODELS ?=
PIP = -m pip install --disable-pip-version-check --quiet --quiet
ARGS ?=
unexport PYTHONDONTWRITEBYTECODE # compiling every file anew at each start takes seconds

# A machine with a GPU may have no network and its own CUDA build of torch: then PYTHON is used, with carried wheels.
# The folder's name tells dill, with which datasets hashes functions, that these are installed packages.
GPU_PYTHON = $(if $(wildcard .venv/bin/python),.venv/bin/python,$(PYTHON))
GPU_PACKAGES = $(CURDIR)/.gpu-check/site-packages
WHEELS ?=

.PHONY: demo test check gpu-check setup clean

demo: setup
	@.venv/bin/longmill demo $(METHOD) --text $(TEXT) $(ARGS)

test: setup
	@.venv/bin/python -m pytest -q $(ARGS)

check: .venv/.made
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -q -m "not slow" --numprocesses 2 $(ARGS)

gpu-check:
	@$(if $(WHEELS),$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $(GPU_PACKAGES) $(WHEELS)/*.whl)
	@PYTHONPATH=$(CURDIR):$(GPU_PACKAGES):$$PYTHONPATH $(GPU_PYTHON) -m flows.bench.gpu_check $(ARGS)

setup: .venv/.made .venv-serving/.made
	@test -z "$(MODELS)" || .venv/bin/longmill models $(MODELS)

.venv/.made: constraints.txt pyproject.toml
	@$(PYTHON) infra/running/prerequisites.py
	@echo "making .venv, the factory's environment (some minutes)"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv-serving/.made: constraints-serving.txt
	@$(PYTHON) infra/running/prerequisites.py --serving
	@echo "making .venv-serving, vLLM's environment (some minutes)"
	@rm -rf .venv-serving
	@$(PYTHON) -m venv .venv-serving
	@.venv-serving/bin/python $(PIP) --requirement constraints-serving.txt
# pip brings builds of these for CUDA, which break transformers beside a CPU torch; nothing here uses them.
	@.venv-serving/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

clean:
	rm -rf .venv .venv-serving .gpu-check
