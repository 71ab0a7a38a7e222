# On a fresh machine: `make demo` and `make test` (`make test-all` for every test). Each sets up what it needs.
# `make report` measures the Doom models again and writes docs/doom.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-all test-ci check report mutations mutations-ci mutations-all

setup: .venv/.ready

# Ranges stay open in pyproject.toml; constraints.txt pins what this project is tried with.
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The documentation site, in build/site. A warning is an error. With RUNTIME=onnxruntime-web-….tgz the Doom world is in it, at play/.
RUNTIME ?=
.PHONY: docs
docs: .venv/.docs-ready
	NO_MKDOCS_2_WARNING=1 $(if $(RUNTIME),V2W_PLAY=1) $(BIN)/mkdocs build --strict --quiet
ifneq ($(RUNTIME),)
	$(BIN)/v2w export examples/doom/world --steps 2 --web build/site/play --runtime $(RUNTIME)
else
	@echo "build/site has no play/: make docs RUNTIME=onnxruntime-web-….tgz (docs/how-to/web.md)"
endif

.venv/.docs-ready: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

demo: setup
	$(BIN)/python examples/doom/demo.py --output demo

# A Doom world from nothing, hours on a CPU; goes on where it was stopped, and shows in build/world/world.html how far it is.
DEVICE ?= auto
WORLD ?= build/world
.PHONY: world
world: .venv/.record-ready
	$(BIN)/python -m examples.doom.pipeline --output $(WORLD) --device $(DEVICE)

.venv/.record-ready: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[record]'
	touch $@

# Every subsystem and every family of models, a few minutes on two cores; long sweeps are left out.
test: setup check
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

# All tests: the quick ones with the package's coverage, then the long sweeps, without it, which would slow them.
test-all: setup check
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" --cov --cov-report=term
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

# What CI has the time for: the quick tests, and every eighth of the slow ones.
test-ci: setup check
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" --cov --cov-report=term
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow --slow-share 8

# Models, each broken in one way, that `v2w verify` must catch: one of every kind, measured as small and as large models are.
mutations: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutations --each-kind-once --modes both --jobs 2

# The same in half the time: each is measured either as small or as large models are.
mutations-ci: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutations --each-kind-once --modes turns --jobs 2

# Every kind in every family, measured as small and as large models are, an hour on two cores; writes docs/mutations.md.
mutations-all: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutations --modes both --jobs 2 --docs

# What leans on other packages most, tested with the lowest and with the newest versions that pyproject.toml allows.
LEANS := tests/plan tests/surgery tests/data tests/noise tests/onnx_export tests/cli/test_help.py tests/cli/test_options.py tests/hostile/test_text.py
TESTERS := pytest hypothesis jsonschema scikit-image

.PHONY: lowest newest
lowest newest:
	mkdir -p build
	$(PYTHON) -m venv --clear build/$@
	$(PYTHON) .ci/floors.py $@ > build/$@.txt
	build/$@/bin/pip install --quiet --disable-pip-version-check --constraint build/$@.txt --editable '.[export,hdf5,text]' $(TESTERS)
	build/$@/bin/pip freeze --exclude-editable > build/$@-installed.txt
	OMP_NUM_THREADS=1 build/$@/bin/python -m pytest -q -W ignore::DeprecationWarning -m "not slow" $(LEANS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy v2w_convert examples
	$(BIN)/lint-imports

report: setup
	rm -rf build/doom
	$(BIN)/v2w convert examples/doom/base -o build/doom --action-dim 3
	$(BIN)/v2w verify build/doom --base examples/doom/base --clips examples/doom/data/test -o docs/doom
	$(BIN)/v2w verify examples/doom/world --base examples/doom/base --clips examples/doom/data/test -o docs/doom/world
