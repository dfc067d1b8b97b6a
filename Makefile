PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench clean distclean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) ## Make .venv and install the package there, with all that the targets below need

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,demo]'
	@touch $@

demo: $(READY) ## Pack real photographs, stream them to the best device, train on them (no download)
	$(BIN)/python tools/demo.py $(ARGS)

test: $(READY) ## Run the tests, or some: make test ARGS='tests/read -k order'
	$(BIN)/python -m pytest $(ARGS)

check: $(READY) ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## Format, and mend what lint can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Measure against rivals and ceilings
	$(BIN)/python tools/bench.py $(ARGS)

clean: ## Remove what was built, cached or made by the demo
	rm -rf build dist *.egg-info demo-out bench-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mps_shards tools tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## The same, and .venv
	rm -rf $(VENV)
