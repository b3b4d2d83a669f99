# make serve | make test | make install | make docs | make bench | make bench-quick. Needs Python 3.11 or 3.12, make and a C compiler; everything else is installed into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
PORT ?= 8000
EXTRA ?= cpu
# Where PyTorch has builds without CUDA, which are a tenth as large; empty, or not to be reached: what pip finds elsewhere.
TORCH_INDEX ?= $(if $(filter cpu,$(EXTRA)),https://download.pytorch.org/whl/cpu)
BIN := .venv/bin
comma := ,
export NUMBA_CACHE_DIR ?= $(CURDIR)/.revenue-engine/numba

.PHONY: install serve test lint docs bench bench-quick clean
.DEFAULT_GOAL := serve

# Two steps, each with its own mark: what the server needs, and what its developers need besides. `make serve` takes the first alone.
SERVER := .venv/installed-$(EXTRA)-server
DEVELOPMENT := .venv/installed-$(EXTRA)

# What $(1) takes, said before it is installed. pip prints what it downloads, and how large it is.
define pip_install
	@index=$$($(PYTHON) -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=5); print("--extra-index-url", sys.argv[1])' '$(TORCH_INDEX)' 2>/dev/null); \
	[ -n "$$index" ] || [ '$(EXTRA)' != cpu ] || echo "'$(TORCH_INDEX)' cannot be reached: unless another index of pip has PyTorch without CUDA, .venv takes 6.5 GB; TORCH_INDEX=URL names a mirror"; \
	echo "installing the packages $(1) into .venv: $(2)"; \
	$(BIN)/python -m pip install --disable-pip-version-check $$index --constraint constraints.txt --editable '.[$(1)]'
endef

install: $(DEVELOPMENT)

$(SERVER): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "Python 3.11 or 3.12 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	@echo "creating the environment .venv with $(PYTHON)"
	@$(PYTHON) -m venv --clear .venv
	$(call pip_install,$(EXTRA),$(if $(filter cpu,$(EXTRA)),2.5 GB on disk and some minutes,some 9 GB on disk and some minutes))
	@touch $@

$(DEVELOPMENT): $(SERVER)
	$(call pip_install,$(EXTRA)$(comma)dev,linters$(comma) tests and the documentation besides$(comma) 0.4 GB)
	@touch $@

serve: $(SERVER)
	@exec $(BIN)/revenue-engine serve --port $(PORT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

# Warnings are errors, among them a link to a page, section or term that is not there. What is built loads nothing from elsewhere.
docs: install
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: install
	$(BIN)/python -m benchmarks.run

bench-quick: install
	$(BIN)/python -m benchmarks.run --quick

# What can be made anew. The registry, the stores and the logs stay.
clean:
	rm -rf .venv .revenue-engine/numba docs/_build
