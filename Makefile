# Set-up, first run and tests. Each step leaves a stamp in .venv, so that a second `make` skips what is done; a changed
# pyproject.toml or constraints file is installed anew. Needs Python 3.11 or newer, make and a package index.
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DATASET := ml-100k

.PHONY: install run test test-full golden boards
.DELETE_ON_ERROR:

install: $(VENV)/.installed

run: install
	$(BIN)/harness run mostpop -d $(DATASET)
	$(BIN)/harness run markov -d $(DATASET)
	$(BIN)/harness run eager-llm -d $(DATASET)
	$(BIN)/harness leaderboard -d $(DATASET)

# One worker a core, one thread a worker: several threads a process only wait for each other here.
test: install $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist worksteal -m "not nightly"

# The tests that `make test` leaves out.
test-full: test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist worksteal -m nightly

# Before a change that moves code: `make golden FILE=before.json`; after it, on the same machine:
# `python -m tests.golden.predictions check before.json`, bit by bit.
golden: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.golden.predictions write $(FILE)

# The boards of results/leaderboards/ whose runs' records are in results/records/, in every format. Leads are tested where
# the lists of the runs are in results/runs/: `make boards RECORDS=results`.
RECORDS := results/records
BOARDS := beauty sports instruments office14 office-2016-2018 ml-100k
boards: install
	for name in $(BOARDS); do \
	    for form in table:txt markdown:md latex:tex csv:csv json:json html:html; do \
	        $(BIN)/harness leaderboard -d $$name --results $(RECORDS) --published \
	            --columns quality,integrity,cost,effort,command \
	            --format $${form%:*} -o results/leaderboards/$$name.$${form#*:} || exit 1; \
	    done; \
	done

# The pinned versions are tested with 3.11, so it comes first.
$(VENV)/.made:
	@for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	    if $$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "$$python -m venv $(VENV)"; \
	        $$python -m venv --clear $(VENV) && touch $@ && exit 0; exit 1; \
	    fi; \
	done; \
	echo "no Python 3.11 or newer with venv on the PATH" >&2; exit 1

# constraints.txt is a whole lock and goes in without a resolver, which also leaves out what its first lines name.
# The second line adds what this platform's build of torch asks for besides.
$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install --quiet --no-deps -r constraints.txt
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet --no-deps --editable .
	touch $@

$(VENV)/.tools: $(VENV)/.installed constraints-test.txt
	$(PIP) install --quiet --no-deps -r constraints-test.txt
	touch $@
