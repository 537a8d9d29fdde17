# Set-up needs Python 3.11-3.13, git and make. The first target you run makes .venv; the others reuse it.

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
PYTHON := $(or $(PYTHON),python3)
endif
DATA ?= grocery
SIZE ?= full
NAME ?= decision
export PORT ?= 8080
configurable = doctor train promote serve image
ifeq ($(origin CONFIG),command line)
ignoring = $(filter-out $(configurable),$(or $(MAKECMDGOALS),help))
$(if $(ignoring),$(error make $(firstword $(ignoring)) takes no CONFIG, and would ignore $(CONFIG); these take one: $(configurable)))
endif

installed = @command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Debian, Ubuntu: apt-get install python3 python3-venv; or name one: make $@ PYTHON=/path/to/python3"; exit 2; }; $(PYTHON) requirements/environment.py
mlflow = MLFLOW_TRACKING_URI=$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db} .venv/bin/mlflow
compile = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
named = $(if $(SALES),,$(error make $@: no sales are named: give SALES=path or URL, or SALES=simulated for the built-in simulated market))
options = $(if $(SALES),-P sales=$(SALES)) $(if $(CONFIG),-P config=$(CONFIG))

.PHONY: help install doctor demo test test-fast lint train promote serve image reports bench wheel lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 16

install:  ## .venv with what training needs
	$(installed) training demo

doctor:  ## what is missing on this machine, and what to do
	$(installed) training demo
	.venv/bin/python -m pricing.runtime.command doctor --needs training $(if $(CONFIG),--config '$(CONFIG)')

demo:  ## the whole loop on a year of grocery sales (DATA=market: on a simulated market whose truth is known)
	$(installed) training demo
	.venv/bin/python -m pipelines.demo --data $(DATA) --size $(SIZE)

test:  ## every test (ARGS="tests/unit -k name": some of them)
	$(installed) development demo
	.venv/bin/pytest -n auto --dist loadfile $(ARGS)

test-fast:  ## the tests that take seconds
	$(installed) development demo
	.venv/bin/pytest -n auto --dist loadfile -m "not slow and not docker" $(ARGS)

lint:  ## ruff, its formatter and mypy
	$(installed) development demo
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

train:  ## a new challenger (SALES=path or URL, or SALES=simulated; CONFIG=file)
	$(named)$(installed) training demo
	$(mlflow) run . --env-manager local $(options)

promote:  ## the challenger becomes champion, if it passes the gates (CONFIG=file)
	$(installed) training demo
	$(mlflow) run . -e promote --env-manager local $(options)

serve:  ## the REST service on http://127.0.0.1:8080 (PORT=…; CONFIG=file), in the foreground
	$(installed) training demo
	.venv/bin/python -m serving $(if $(CONFIG),--config '$(CONFIG)')

image:  ## the serving image, with the champion baked in (CONFIG=file, which it then serves with)
	$(installed) training demo
	rm -rf build/image
	PRICING_HOME=build/image/baked .venv/bin/python -m serving.follower --bake $(if $(CONFIG),--config '$(CONFIG)')
	docker build --build-context champion=build/image --file Dockerfile.serve --tag pricing-serving .

reports:  ## every drift report, in Evidently's own pages on http://127.0.0.1:8000
	$(installed) training demo
	.venv/bin/evidently ui --workspace $${PRICING_HOME:-.pricing}/monitoring/evidently --host 127.0.0.1 --port 8000

bench:  ## one benchmark (NAME=decision, market, serving, …: the modules in benchmarks/; ARGS=its options)
	$(installed) development demo
	.venv/bin/python -m benchmarks.$(NAME) $(ARGS)

wheel:  ## dist/pricing-VERSION-py3-none-any.whl, for pip install
	$(installed) training demo
	.venv/bin/uv build

lock:  ## new lock files from requirements/*.in
	$(installed) development demo
	$(compile) requirements/development.in -o requirements/development.txt
	$(compile) requirements/training.in -c requirements/development.txt -o requirements/training.txt
	$(compile) requirements/serving.in -c requirements/development.txt -o requirements/serving.txt
	$(compile) requirements/tracking.in -c requirements/development.txt -o requirements/tracking.txt
	$(compile) requirements/bootstrap.in -c requirements/development.txt -o requirements/bootstrap.txt
	$(compile) --no-deps requirements/demo.in -o requirements/demo.txt

clean:  ## removes .venv and caches; models and runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
