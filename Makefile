# Set-up needs Python 3.11-3.13, git and make. The first target you run makes .venv; the others reuse it.

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
PYTHON := $(or $(PYTHON),python3)
endif
DATA ?= grocery
demo_home = $${PRICING_HOME:-.pricing}/demo/$(DATA)
NAME ?= decision
# For MLflow's and Evidently's own programs what pricing/runtime says for ours: no word to their makers.
quiet = MLFLOW_DISABLE_TELEMETRY=$${MLFLOW_DISABLE_TELEMETRY:-true} DO_NOT_TRACK=$${DO_NOT_TRACK:-1}

installed = @command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Debian, Ubuntu: apt-get install python3 python3-venv; or name one: make $@ PYTHON=/path/to/python3"; exit 2; }; $(PYTHON) tools/environment.py
sales = $(if $(SALES),,$(error make $@: no sales are named: give SALES=path or URL, or SALES=simulated for the built-in simulated market))
options = $(if $(SALES),-P 'sales=$(SALES)') $(if $(CONFIG),-P 'config=$(CONFIG)') $(ARGS)
define job  # `make JOB` is `mlflow run . -e JOB --env-manager local`, in the experiment of all jobs
	$(installed) training demo
	@set -e; export $(quiet) MLFLOW_TRACKING_URI=$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}; \
	experiment=$$(.venv/bin/python -m pricing.runtime.mlflow_runs); set -x; \
	.venv/bin/mlflow run . -e $(@:train=main) --env-manager local "$$experiment" $(options)
endef
pricing = .venv/bin/python -m pricing.runtime.command
config = $(if $(CONFIG),--config '$(CONFIG)')
compile = .venv/bin/uv pip compile $(if $(UPGRADE),--upgrade) --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

# The command line of CDK, which comes from npm; the app itself is Python.
CDK ?= npx --yes aws-cdk@2.1148.1
environment = $(if $(ENV),,$(error make $@: which environment? give ENV=staging or ENV=production, see deploy/environments.yaml))
define cdk  # `cdk VERB` on the stacks of an environment, or on STACK alone
	$(installed) deploy
	ENV='$(ENV)' IMAGES='$(IMAGES)' REPOSITORY='$(REPOSITORY)' $(CDK) $@ --app '.venv/bin/python -m deploy.app' --output build/cdk \
		'pricing-$(ENV)-$(or $(STACK),*)' $(if $(filter-out pipeline,$(STACK)),--exclusively) $(ARGS)
endef

.PHONY: help install demo serve-demo notebook test test-fast lint train promote rollback nightly serve console image reports ui bench docs shipped \
	wheel lock synth diff deploy destroy smoke

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p; s/^# \(.*\):$$/\n\1/p' Makefile | expand -t 18

install:  ## .venv with what training needs
	$(installed) training demo

demo:  ## the whole loop on a year of grocery sales (DATA=market: on a simulated market; DATA=shop: from a shop's own tables)
	$(installed) training demo
	$(pricing) loop --data $(DATA) $(ARGS)

serve-demo:  ## the model of the last demo (DATA=market, DATA=shop: of that one), as `make serve` does yours
	$(installed) training demo
	@test -e "$(demo_home)/mlflow.db" || { echo "there is no demo in $(demo_home); make demo makes one"; exit 2; }
	PRICING_HOME="$(demo_home)" PRICING_CONFIG=$(DATA) $(pricing) serve

notebook:  ## from sales to a price, step by step, in JupyterLab (SALES=your own, CONFIG=file)
	$(installed) notebook demo
	$(quiet) PYTHONPATH=$(CURDIR) SALES='$(SALES)' CONFIG='$(CONFIG)' .venv/bin/jupyter lab notebooks/from_sales_to_a_price.ipynb

test:  ## every test (ARGS="tests/unit -k name": some of them)
	$(installed) development demo
	.venv/bin/pytest -n auto --dist loadfile $(ARGS)

test-fast:  ## the tests that take seconds
	$(installed) development demo
	.venv/bin/pytest -n auto --dist loadfile -m "not slow and not docker" $(ARGS)

lint:  ## ruff, its formatter and mypy
	$(installed) development demo
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

# Jobs, by `mlflow run` (SALES=path, URL or simulated; CONFIG=file; more as ARGS="-P version=3"); all: .venv/bin/pricing --help:

train:  ## a new challenger
	$(sales)$(job)

promote:  ## the challenger becomes champion, if it passes the gates
	$(job)

rollback:  ## the champion before becomes champion again
	$(job)

nightly:  ## monitors, refreshes or retrains, lets the gates decide, and prices
	$(sales)$(job)

# Service and reports:

serve:  ## the REST service on http://127.0.0.1:8080 (PORT=…; CONFIG=file), in the foreground
	$(installed) training demo
	$(pricing) publish --every 10 $(config) & loop=$$!; $(pricing) serve $(config) & server=$$!; \
	trap "kill $$loop $$server" EXIT INT TERM; wait $$server

console:  ## the pages where a manager looks, approves and changes, on http://127.0.0.1:8090 (PORT=…; CONFIG=file)
	$(installed) training demo
	$(pricing) console $(config)

image:  ## the serving image, with the champion baked in (CONFIG=file, which it then serves with)
	$(installed) training demo
	rm -rf build/image
	$(pricing) publish --to build/image/baked $(config)
	docker build --build-context champion=build/image --file Dockerfile.serve --tag pricing-serving .

reports:  ## every drift report, in Evidently's own pages on http://127.0.0.1:8000
	$(installed) training demo
	$(quiet) .venv/bin/evidently ui --workspace $${PRICING_HOME:-.pricing}/monitoring/evidently --host 127.0.0.1 --port 8000

ui:  ## runs, models and what each keeps, in MLflow's pages on http://127.0.0.1:5000
	$(installed) training demo
	$(quiet) .venv/bin/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db} --port 5000

bench:  ## one benchmark (NAME=demand, forecast, serving, …: the modules in benchmarks/; ARGS=its options)
	$(installed) development demo
	.venv/bin/python -m benchmarks.$(NAME) $(ARGS)

# The platform on AWS (docs/operator/operating.md; ENV=staging or production, STACK=foundation for one, IMAGES="serving=sha256:… jobs=sha256:…"):

synth:  ## its CloudFormation templates, in build/cdk (ENV=…: of one environment); needs no AWS account
	$(installed) deploy
	ENV='$(ENV)' IMAGES='$(IMAGES)' CDK_OUTDIR=build/cdk .venv/bin/python -m deploy.app

diff:  ## what a deployment would change
	$(environment)$(cdk)

deploy:  ## makes it so, asks before rights grow, and notes which IMAGES run from then on
	$(environment)$(cdk)
	@for image in $(if $(STACK),$(filter $(STACK:tracking=mlflow)=%,$(IMAGES)),$(IMAGES)); do aws ssm put-parameter --name "/pricing/$(ENV)/images/$${image%%=*}" --type String --overwrite \
		--value "$${image#*=}" > /dev/null || exit; done

destroy:  ## removes it, and asks before
	$(environment)$(cdk)

smoke:  ## asks a running service whether it prices as promised (URL=http://…; its key in PRICING_SMOKE_KEY)
	$(if $(URL),,$(error make smoke: of which service? give URL=http://…))
	$(PYTHON) -m deploy.smoke '$(URL)' $(ARGS)

# Upkeep:

shipped:  ## the shop of `pricing demo`, trained anew on the simulated market; after each change of a format
	$(installed) training demo
	PYTHONPATH=$(CURDIR) .venv/bin/python tools/shipped.py $(ARGS)

docs:  ## the documents as a site with search and a tour of the console, in build/site; a broken link or anchor fails (needs wget)
	$(installed) docs
	.venv/bin/python tools/pages.py stage
	bash tools/tour.sh build/docs/tour
	.venv/bin/zensical build --clean --strict
	.venv/bin/python tools/pages.py finish

wheel:  ## dist/retail_dynamic_pricing-VERSION-py3-none-any.whl, for pip install
	$(installed) training demo
	.venv/bin/uv build

lock:  ## new lock files from requirements/*.in (UPGRADE=yes: with the newest of everything)
	$(installed) development demo
	$(compile) requirements/development.in -o requirements/development.txt
	$(compile) requirements/training.in -c requirements/development.txt -o requirements/training.txt
	$(compile) requirements/scale.in -c requirements/development.txt -o requirements/scale.txt
	$(compile) requirements/notebook.in -c requirements/development.txt -o requirements/notebook.txt
	$(compile) requirements/serving.in -c requirements/development.txt -o requirements/serving.txt
	$(compile) requirements/tracking.in -c requirements/development.txt -o requirements/tracking.txt
	$(compile) requirements/bootstrap.in -c requirements/development.txt -o requirements/bootstrap.txt
	$(compile) requirements/deploy.in -c requirements/development.txt -o requirements/deploy.txt
	$(compile) requirements/docs.in -c requirements/development.txt -o requirements/docs.txt
	$(compile) requirements/demo.in -c requirements/development.txt -o requirements/demo.txt
	grep '^tensorflow==' requirements/training.in | sed 's/=/-cpu=/' | .venv/bin/uv pip compile --quiet --no-deps --python-version 3.11 --generate-hashes \
		--python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-annotate --no-header - -o requirements/tensorflow-cpu.txt
