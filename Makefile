# make demo    from a fresh clone to trained models and a report
# make test    everything that must hold before a change lands
# make lint    style, types and architecture alone
# make bench   speed, on demand
# make clean   remove what can be made again (runs/ stays)

VENV   ?= .venv
OUT    ?= runs/demo
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/calotype demo --out $(OUT) $(if $(MINUTES),--minutes $(MINUTES))

test: lint
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: installed anew only when the project's requirements change ---------------------------------------

$(VENV)/bin/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "error: Calotype needs Python 3.11 or newer (found: $(or $(PYTHON),none));" \
	"install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that a slow or failing download is seen for what it is.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing PyTorch and the other requirements into $(VENV); this is done once"
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.installed
	$(PIP) -e '.[dev]'
	touch $@
