# Every target works from a fresh clone and may be run again. PYTHON picks the interpreter that makes the environment,
# VENV its folder, OUT where `make demo` writes.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs
TORCH := torch==2.13.0

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)
CODE := $(wildcard splatdistill csrc tests benchmarks configs viewer setup.py)
BENCHES := $(wildcard benchmarks/bm_*.py)
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: venv demo test test-slow lint lint-style lint-types lint-imports lint-native lint-sizes format bench clean

venv: $(STAMP)

# torch comes first and alone: the extension is compiled against the very torch it will run with. PATH: for ninja.
$(STAMP): requirements-dev.lock pyproject.toml $(wildcard setup.py) $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -r requirements-dev.lock
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@

# A run is never overwritten, so each demo takes the next free name. The command prints where the splats, the turntable
# and the contact sheet are.
demo: venv
	@number=1; while [ -e "$(OUT)/purple-lamp-$$number" ]; do number=$$((number + 1)); done; set -x; \
		HF_HUB_OFFLINE=1 $(BIN)/splatdistill train --method sds --prompt "a purple lamp" --out $(OUT) \
		--name "purple-lamp-$$number"

test: venv
	$(PYTEST) -m "not slow"

test-slow: venv
	$(PYTEST) -m slow

lint: lint-style lint-types lint-imports lint-native lint-sizes

lint-style: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: venv
	$(BIN)/pyright --pythonpath $(BIN)/python

lint-imports: venv
	$(BIN)/lint-imports

lint-native: venv
	$(if $(NATIVE),$(BIN)/clang-format --dry-run -Werror $(NATIVE))

lint-sizes:
	@find $(CODE) \( -name node_modules -o -name static \) -prune -o -type f \
		\( -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.ts' \) -print \
		| xargs wc -l | awk '$$2 != "total" && $$1 > 500 {print $$2 ": " $$1 " lines, 500 at most"; bad = 1} END {exit bad}'

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(NATIVE),$(BIN)/clang-format -i $(NATIVE))

bench: venv
	@$(if $(BENCHES),,echo "There are no benchmarks yet: benchmarks/bm_*.py")
	$(foreach bench,$(BENCHES),$(BIN)/python $(bench) &&) true

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f splatdistill/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
