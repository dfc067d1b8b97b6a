PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ALL := $(VENV)/.ready-all
KERNEL := $(VENV)/.kernel
ARGS ?=
PARALLEL := -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo practice test check docs format bench fuzz fuzz-native faults sanitize soak clean distclean

help: ## Show this list of targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(KERNEL) ## Make .venv and install the package there, editable, with the tools that every contributor needs

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# Headers are installed if that needs no password. Without them, pip builds no kernel, and the package works without it.
$(KERNEL): $(READY) setup.py $(wildcard mps_shards/native/*.[ch] mps_shards/native/*.inc)
	sh tools/scripts/jpeg_headers.sh
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	$(BIN)/python -c 'from mps_shards import native; print(native.advice())'
	@touch $@

$(ALL): $(KERNEL)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev-all]'
	@touch $@

demo: $(READY) ## Pack real photographs, stream them to the best device, train on them (no download)
	$(BIN)/python -m tools.scripts.demo $(ARGS)

practice: $(READY) ## Make the data that a page of the documentation starts from: make practice PAGE=class-folders
	@$(BIN)/python -m tests.docs.practice $(PAGE)

test: $(ALL) ## Run all tests, or some of them: make test ARGS='tests/sampling -k order'
	$(BIN)/python -m pytest $(or $(ARGS),$(PARALLEL))

check: $(ALL) ## Check format, lint, imports and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(ALL) ## Build the documentation into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: $(READY) ## Format the code, and fix the findings that the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(ALL) ## Measure the speed beside other loaders and bare loops
	$(BIN)/python -m tools.bench.short $(ARGS)

fuzz: $(READY) ## Search for inputs that crash, hang or take too much memory (Linux): make fuzz ARGS='--minutes 60'
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet -e '.[fuzz]'
	$(BIN)/python -m tools.fuzz $(ARGS)

fuzz-native: $(KERNEL) ## Fuzz the native kernel with libFuzzer (clang): make fuzz-native ARGS='-max_total_time=600'
	sh tools/scripts/fuzz_native.sh $(ARGS)

# Some of these tests take minutes, and the dump of running threads after a time-out can crash the interpreter (3.11).
faults: $(ALL) ## Test every failure of every system call and store request, kills, and power cuts at any moment
	MPS_SHARDS_FAULTS_EVERY=1 $(BIN)/python -m pytest -q -o faulthandler_timeout=0 tests/journeys/test_every_call_fails.py \
		tests/journeys/test_every_request_fails.py tests/journeys/test_power_cut.py $(ARGS)

sanitize: $(ALL) ## Run the kernel's tests under AddressSanitizer and UndefinedBehaviorSanitizer (Linux)
	$(BIN)/python -m tools.scripts.sanitize $(ARGS)

soak: $(ALL) ## Search for leaks and hangs over many epochs with failures: make soak ARGS='--minutes 10'
	$(BIN)/python -m tools.scripts.soak $(ARGS)

clean: ## Remove builds, caches, and the output of the demo, benchmarks and fuzzing
	rm -rf build dist *.egg-info demo-out bench-out fuzz-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mps_shards tools tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the same files, and .venv
	rm -rf $(VENV)
