# `make demo` and `make test` need Python 3.10+, make and a package registry; they make .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
DEMO ?= outputs/demo

.PHONY: all install demo test test-torch test-viewers lint benchmark clean

all: test

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 10) else 0'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	@echo '--- train on built-in sounds'
	$(RUN) train.py experiment=demo output=$(DEMO)/model
	@echo '--- write sounds the model has not heard (other objects, rooms and gestures)'
	$(BIN)/coala-latent sounds $(DEMO)/sounds --takes 6 --seed 1000
	@echo '--- encode the folder'
	$(RUN) encode.py $(DEMO)/sounds --output $(DEMO)/sounds.h5 --model $(DEMO)/model/coala-demo.safetensors
	@echo '--- score the embeddings beside MFCC, takes held out'
	$(BIN)/coala-latent probe $(DEMO)/sounds --model $(DEMO)/model/coala-demo.safetensors --group '^(\d+)-' --runs 1 --output $(DEMO)/scores.json
	@echo '--- a map of them that can be heard'
	$(BIN)/coala-latent map $(DEMO)/sounds.h5 --output $(DEMO)/sounds.html --clusters 6
	@echo 'model      $(DEMO)/model/coala-demo.safetensors'
	@echo 'sounds     $(DEMO)/sounds'
	@echo 'embeddings $(DEMO)/sounds.h5'
	@echo 'map        $(DEMO)/sounds.html'
	@echo 'scores     $(DEMO)/scores.json'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n 2 --dist worksteal

# The newest torch alone, without torchaudio: by hand, before a release.
TORCH ?= 2.13.0
test-torch:
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet torch==$(TORCH) numpy scikit-learn scipy h5py lightning hydra-core soundfile soxr safetensors rich click filelock tensorboard PyYAML pytest pytest-timeout hypothesis librosa hatchling editables
	.venv-torch/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	.venv-torch/bin/python -m pytest tests/contract tests/parity tests/unit/test_original_api.py tests/unit/test_alignment.py

# Embedding Atlas and Renumics Spotlight read exported tables: by hand, because they are large.
test-viewers:
	$(PYTHON) -m venv .venv-viewers
	.venv-viewers/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,viewers]'
	.venv-viewers/bin/python -m pytest tests/unit/test_export_tables.py

benchmark: install
	$(RUN) benchmarks/encode.py

clean:
	rm -rf $(VENV) .venv-torch .venv-viewers outputs dist build .pytest_cache .mypy_cache .ruff_cache
