# Every target sets up what it needs; .venv is made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Two for each core of a small machine: many tests wait, for a server or for one another.
WORKERS ?= 4

.PHONY: demo stack test lint house bench simulate servers docs clean say-demo say-stack say-test

demo: say-demo $(VENV)/.app   ## make phantoms, run the application over them, show what was recorded, and a report
	$(BIN)/python scripts/demo

stack: say-stack $(VENV)/.stack servers ## servers on this machine with months of simulated history, alerts on the console
	$(BIN)/python scripts/stack

test: say-test $(VENV)/.dev servers ## the whole suite against real servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: $(VENV)/.dev            ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy run.py leglength_monitoring.py
	$(BIN)/lint-imports

house: $(VENV)/.dev           ## how the house is arranged: rooms, floors, sizes, the way of a call
	$(BIN)/python scripts/house

bench: $(VENV)/.bench $(VENV)-drift/.installed servers ## speed, side by side with the alternatives
	$(BIN)/python -m benchmarks

simulate: $(VENV)/.dev        ## what the charts do on data of which the truth is known: some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.run_lengths
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.sites

servers:                      ## Debian's servers that the tests run against
	@scripts/install-test-servers

docs: $(VENV)/.dev            ## write the generated pages again
	$(BIN)/python scripts/generate-docs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.app: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[app,cli,report]'
	@touch $@

$(VENV)/.stack: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[app,cli,dashboards,report]'
	@touch $@ $(VENV)/.app

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[app,cli,dashboards,report,onnx,gpu,dev]'
	@touch $@ $(VENV)/.app $(VENV)/.stack

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) -e '.[bench]'
	@touch $@

# Tools to compare with, whose dependencies don't go with the package's own. Without them the rest is measured.
$(VENV)-drift/.installed: benchmarks/drift-requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)-drift
	$(VENV)-drift/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@ || \
	  echo "make bench: Evidently and NannyML are not measured, since they can't be installed (see above)" >&2

# Said first, before anything is installed.
say-demo:
	@echo "make demo: a minute on two cores; the first time some minutes more, to set up $(VENV). Writes demo/ only."

say-stack:
	@echo "make stack: half a minute the first time, once $(VENV) and Debian's servers are there; then until Ctrl-C. Writes stack/ only."

say-test:
	@echo "make test: the whole suite, about 6 minutes on two cores; the first time some minutes more, to set up $(VENV)."
	@echo "It installs Debian's InfluxDB, VictoriaMetrics, Pushgateway and Prometheus with apt-get where they are missing"
	@echo "and it may; without them their tests are skipped. One room: $(BIN)/python -m pytest tests/store (then no server"
	@echo "is installed). More processes: make test WORKERS=8"

clean:
	rm -rf $(VENV) $(VENV)-drift demo stack build dist
