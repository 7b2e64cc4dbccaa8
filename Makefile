.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
EXTRAS ?= dev
# uv does not read pip's own variable; honouring it lets a machine offer a CPU build of torch.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

help:  ## print this help
	@grep -hE '^[a-zA-Z_-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

# One stamp a set of extras: `make setup EXTRAS=dev,baselines` adds to what is there.
STAMP = .venv/.installed-$(subst $(comma),-,$(EXTRAS))
comma := ,

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "scsave needs Python 3.11 to 3.13, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/uv
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

setup: $(STAMP)  ## make .venv with every pinned dependency (EXTRAS=dev,baselines,text,sweep adds more)
