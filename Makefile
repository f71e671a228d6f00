# DINOv2 in Practice. `make help` lists the commands; each one sets up what it needs.

PYTHON ?= python3
# Where pip gets torch on machines without an NVIDIA GPU. Empty: the registry pip is set up for.
# Elsewhere than on macOS that may be the CUDA build of several GB; the CPU build comes with
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Set to 1: what is newest now, in place of the versions of constraints.txt.
NEWEST ?=
PROFILE ?= small
# Set to 1: the workshop kit gets the wheels of all that is needed, for three systems.
WHEELS ?=
# How long the trainings are ("cpu", "gpu", or "trial": a few steps), how much they render, and the
# folder that the remade models come into. See training/README.md.
RECIPE ?= cpu
TOYS ?= 20000
SCENES ?= 8000
MODELS ?= runs/models

# Tests compute on one thread each, so as many run at once as there are cores.
AT_ONCE ?= -n logical --maxprocesses 4 --dist worksteal

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip
# The environment is made again when these files have other content, not another date.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml hatch_build.py constraints.txt tools/setup.py | cksum | tr ' ' '-')$(NEWEST)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run evidence test weekly test-oldest rerun lab notebooks publish prefetch rehearse rehearse-all colab bench site slides \
  workshop wheel clean \
  train-dinov2 train-clip train-lit train-diffusion
.DEFAULT_GOAL := help

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make .venv: torch first (a CPU build where there is no GPU), then the package

$(STAMP):
	$(PYTHON) -m tools.setup $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX)) $(if $(NEWEST),--newest)
	@rm -f $(VENV)/.installed-* && touch $@

run: $(STAMP)  ## execute the lessons without a network, write build/index.html
	$(PY) -m tools.notebooks run

evidence: $(STAMP)  ## execute the evidence of the lessons in the same way
	$(PY) -m tools.notebooks evidence

test: $(STAMP)  ## everything that must hold: style, types, units, data, lessons, evidence
	@date '+%T style and types'
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	@date '+%T data'
	$(PY) -m training.verify
	@date '+%T tests'
	$(PY) -m pytest $(AT_ONCE)
	@date '+%T tests that compute, as on a laptop without AVX-512'
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PY) -m pytest -m computes $(AT_ONCE)
	@date '+%T lessons and evidence'
	$(PY) -m tools.notebooks test
	@date '+%T done'

weekly: $(STAMP)  ## the tests that are slow or of other packages' engines, and rarely break
	$(PY) -m pytest -m weekly
	$(PY) -m tools.notebooks test --weekly

test-oldest:  ## the tests with the oldest packages that pyproject.toml allows, in build/oldest
	$(PYTHON) -m tools.oldest $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

rerun: $(STAMP)  ## run every cell of every notebook a second time, and name those that fail
	$(PY) -m tools.notebooks rerun

lab: $(STAMP)  ## open copies of the notebooks in JupyterLab, yours to change, in lab/
	$(PY) -m tools.lab

notebooks: $(STAMP)  ## bring the committed notebooks and README.md up to date with their sources
	$(PY) -m tools.notebooks execute
	$(PY) -m tools.readme

publish: $(STAMP)  ## write `repository` of pyproject.toml into buttons, set-up cells and links
	$(PY) -m tools.publish

prefetch: $(STAMP)  ## download the models of PROFILE=small once, for a room without a network
	$(PY) -m tools.prefetch $(PROFILE)

rehearse: $(STAMP)  ## run a lesson with each of five shapes of models, on random weights
	$(PY) -m tools.rehearse shapes

rehearse-all: $(STAMP)  ## run all notebooks of PROFILE=small on random weights of the real shapes
	$(PY) -m tools.rehearse $(PROFILE)

colab: $(STAMP)  ## run the set-up cell of every notebook in a stand-in for Colab
	$(PY) -m tools.colab

bench: $(STAMP)  ## measure speed on a quiet machine, beside other libraries; prints one table
	$(PIP) install --quiet --editable '.[bench]'
	$(PY) -m benchmarks.extraction
	$(PY) -m benchmarks.backends
	$(PY) -m benchmarks.large_pictures
	$(PY) -m benchmarks.anomaly
	$(PY) -m benchmarks.techniques
	$(PY) -m benchmarks.stores
	$(PY) -m benchmarks.passages
	$(PY) -m benchmarks.table

# Each command of a training goes on where it was stopped, and so does each of these targets.
CROSSED := $(PY) -m training.world.material --out runs/pairs --colours crossed --views 2 \
  --toys $(TOYS) --multi $(SCENES)
RELEASE = $(PY) -m training.release --models $(MODELS)

train-dinov2: $(STAMP)  ## make dinov2-tiny from nothing, in runs/
	$(PY) -m training.world.material --out runs/material --toys $(TOYS) --multi $(SCENES)
	$(PY) -m training.dinov2.train --material runs/material --recipe $(RECIPE) --monitor \
	  --out runs/dinov2
	$(RELEASE) dinov2-tiny --run runs/dinov2

train-clip: $(STAMP)  ## make clip-tiny from nothing, in runs/
	$(CROSSED)
	$(PY) -m training.clip.train --material runs/pairs --recipe $(RECIPE) --out runs/clip
	$(RELEASE) clip-tiny --run runs/clip

train-lit: $(STAMP)  ## make lit-tiny from nothing, on the embedded dinov2-tiny, in runs/
	$(CROSSED)
	$(PY) -m training.lit.material --material runs/pairs --out runs/lit/features
	$(PY) -m training.lit.train --material runs/pairs --features runs/lit/features \
	  --recipe $(RECIPE) --out runs/lit
	$(PY) -m training.lit.places --material runs/pairs --model runs/lit/model \
	  --recipe $(RECIPE) --out runs/lit/places
	$(RELEASE) lit-tiny --run runs/lit

train-diffusion: $(STAMP)  ## make diffusion-tiny from nothing, with the embedded clip-tiny, in runs/
	$(CROSSED)
	$(PY) -m training.diffusion.train --material runs/pairs --recipe $(RECIPE) --out runs/diffusion
	$(RELEASE) diffusion-tiny --run runs/diffusion

site: $(STAMP)  ## make the site from the committed notebooks: build/site/index.html
	$(PIP) install --quiet --editable '.[site]'
	$(PY) -m tools.site

slides: $(STAMP)  ## make slides of the lessons from the committed notebooks, in build/slides/
	$(PY) -m tools.slides

workshop: $(STAMP)  ## make a folder for a stick, in build/workshop/; WHEELS=1: with all it needs
	$(PY) -m tools.workshop build/workshop $(if $(WHEELS),--wheels) \
	  $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

wheel:  ## build dist/*.whl, which carries the sample data and the embedded models
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what was built, except .venv
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
