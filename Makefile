# Each target does all of its own set-up: it needs Python 3.11+ with venv, and nothing else.
#   make demo    a recommendation from a shipped sweep, and an HTML report
#   make test    the whole test-suite (LAWFIT_TEST_TRAIN=1 adds torch and the trainer's tests)
#   make check   lint, types and the quick tests: before each commit
#   make serve   the API and the page on http://127.0.0.1:8765
#   make soak    what takes long: logs damaged thousands of times; kills, crowds and cuts amid writes (tests/faults);
#                faults put into the code, of which the tests must notice most (DAMAGES=500, as CI asks: so many a format)
#   make mutants the same with SAMPLE faults of SEED (FOLDERS="lawfit/advise api" narrows it; PATIENCE=150 gives up on a
#                fault after so many seconds of tests; TOUCHED=FILE first sees which tests run which lines: for many faults)
#   make bench   every yardstick of docs/figures.md
# PYTHON=/path/to/python3 picks another interpreter for the environment in .venv.

MAKEFLAGS += --no-print-directory
BIN := .venv/bin
# The plain torch wheel is several GB of CUDA: the trainer's tests use this version, which test machines offer as a CPU build.
# Ray is for the tests of its backend.
TRAIN_REQUIREMENTS := torch==2.13.0 tokenizers ray
ifneq ($(strip $(CI)$(LAWFIT_TEST_TRAIN)),)
DEV_STAMP := .venv/.stamp-dev-train
else
DEV_STAMP := .venv/.stamp-dev
endif

# Two processes share the tests, file by file, each with one thread for its arithmetic. PYTEST_ARGS=-n0: one process.
# Bytecode is kept even where the environment says not to: each of some hundred processes would compile all again.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile

# Campaigns wait for clusters, walltimes and databases that are away: three of them keep two cores busy.
# Faults that `make soak` puts in: few, as each may take the tests of a whole folder. Where the tests notice six of ten, as
# they do with little patience, fewer than two of eight would be noticed once in a hundred campaigns: that fails one.
SAMPLE ?= 8
SEED ?= 1

# How often `make soak` damages a log of each format, and files that are uploaded.
DAMAGES ?= 2000

.PHONY: demo test check serve soak mutants bench clean
.DEFAULT_GOAL := demo

demo: .venv/.stamp-run
	@$(BIN)/lawfit demo

serve: .venv/.stamp-run
	@$(BIN)/lawfit serve

test: $(DEV_STAMP)
	@$(PYTEST) $(PYTEST_ARGS)

check: $(DEV_STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(PYTEST) -q -m "not slow" $(PYTEST_ARGS)

soak: $(DEV_STAMP)
	@$(PYTEST) -q -m soak -n 3 --timeout 900 --damages $(DAMAGES) $(PYTEST_ARGS) $$(grep -rlE --include='test_*.py' 'mark\.soak' tests)
	@$(MAKE) mutants PATIENCE=90 LEAST=0.25

mutants: $(DEV_STAMP)
	@$(BIN)/python -m tests.mutants --sample $(SAMPLE) --seed $(SEED) --workers 2 $(if $(PATIENCE),--patience $(PATIENCE)) \
	  $(if $(LEAST),--least $(LEAST)) $(if $(TOUCHED),--touched $(TOUCHED)) $(if $(FOLDERS),--only $(FOLDERS))

bench: $(DEV_STAMP)
	@set -e; for script in $$(ls tests/benchmarks/[a-z]*.py | grep -v -e shared.py -e train_cases.py -e replay_rules.py); do \
	  name=$$(basename $$script .py); echo "== $$name"; $(BIN)/python -m tests.benchmarks.$$name; done

clean:
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache

# The environment: made once; one that works is kept, one whose interpreter is gone is made again.
.venv/.stamp-venv:
	@set -e; if .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then touch $@; exit 0; fi; \
	python=; \
	for candidate in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  if [ -n "$$candidate" ] && command -v "$$candidate" >/dev/null 2>&1 \
	    && "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then echo "lawfit needs Python 3.11 or later, and none is on PATH; install one, or say PYTHON=/path/to/python3" >&2; exit 1; fi; \
	if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  echo "$$python lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; fi; \
	echo "setting up .venv with $$("$$python" --version)" >&2; \
	"$$python" -m venv --clear .venv; touch $@

.venv/.stamp-run: .venv/.stamp-venv pyproject.toml
	@$(call install,-e .)

.venv/.stamp-dev: .venv/.stamp-venv pyproject.toml
	@$(call install,-e .[dev])
	@touch .venv/.stamp-run

.venv/.stamp-dev-train: .venv/.stamp-dev
	@$(call install,$(TRAIN_REQUIREMENTS))

# pip's own words are shown only when it fails.
define install
echo "installing $(1) (the first time takes a minute)" >&2; \
if ! $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1) >.venv/pip.log 2>&1; then \
  cat .venv/pip.log >&2; echo "pip could not install $(1); see above" >&2; exit 1; fi; touch $@
endef
