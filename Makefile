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
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --compile-bytecode --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

setup: $(STAMP)  ## make .venv with every pinned dependency (EXTRAS=dev,baselines,text,sweep adds more)

setup-conda:  ## install into the active conda environment (conda env create -f environment.yml; conda activate scsave)
	python -m uv pip install --quiet --compile-bytecode --system --constraint constraints.txt --editable '.[$(EXTRAS)]'

demo: $(STAMP)  ## train SAVE on 700 packaged PBMCs, generate cells, score and draw them: python train.py
	$(BIN)/python train.py

test: $(STAMP)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-fast: $(STAMP)  ## run the tests that take less than ten seconds each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow'

lint: $(STAMP)  ## ruff, imports that go downwards and never in a circle, and how long files are
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check_sizes.py

format: $(STAMP)  ## ruff: fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# DATA=<folder with local files>  LAUNCHER=joblib|submitit_slurm|ray  WORKERS=2  SEEDS=0,1  ONLY='small/pbmc*'
# TRAINER=gpu  DRY=1 lists what would run  RETRY=1 runs the failed ones again  (docs/reproducing.md)
OUTPUTS ?= outputs
REPRODUCE = $(BIN)/python scripts/reproduce_paper.py $(1) --outputs $(OUTPUTS) $(if $(DATA),--data $(DATA)) \
	$(if $(LAUNCHER),--launcher $(LAUNCHER)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(SEEDS),--seeds $(SEEDS)) \
	$(if $(ONLY),--only '$(ONLY)') $(if $(DRY),--dry) $(if $(RETRY),--retry) $(if $(TRAINER),--more trainer=$(TRAINER))
# Pages of what is there, unless they are newer than the state or runs were stopped; 1 where a job failed.
PAGES = code=$$?; [ $$code -gt 1 ] || [ -n '$(DRY)' ] || [ $(OUTPUTS)/report.html -nt $(OUTPUTS)/reproduce/$(1)/state.json ] || \
	$(MAKE) --no-print-directory tables figures report || exit 1; exit $$code

reproduce-paper: $(STAMP)  ## every experiment of the paper and its ablations: resumable; DRY=1 lists them and the time
	@$(call REPRODUCE,paper ablation correction); $(call PAGES,paper)

reproduce-ablations: $(STAMP)  ## the ablations alone, three seeds each, trained as long as a default run: DRY=1 lists them
	@$(call REPRODUCE,ablation); $(call PAGES,ablation)

reproduce-small: $(STAMP)  ## every family of experiments, capped for two cores; DATA=<folder> adds the real sets there
	@$(call REPRODUCE,small); $(call PAGES,small)

tables: $(STAMP)  ## tables of all results below OUTPUTS, as Markdown, LaTeX and CSV
	$(BIN)/python scripts/make_tables.py $(OUTPUTS) --out $(OUTPUTS)/tables

figures: $(STAMP)  ## figures of all results below OUTPUTS, PNG and PDF
	$(BIN)/python scripts/make_figures.py $(OUTPUTS) --out $(OUTPUTS)/figures

report: $(STAMP)  ## one self-contained HTML page of all results below OUTPUTS
	$(BIN)/python scripts/make_report.py $(OUTPUTS) --out $(OUTPUTS)/report.html

# RUNS=<folders with finished runs>: what docs/results/tables.yaml asks of them, as small files that are committed
record: $(STAMP)  ## record the results in RUNS=<folders> that tables of the documents need, and render them
	$(BIN)/python scripts/make_docs.py --record $(or $(RUNS),$(OUTPUTS))

docs: $(STAMP)  ## render every table of README.md and docs/*.md from the records in docs/results
	$(BIN)/python scripts/make_docs.py

api: $(STAMP)  ## docs/api.md from the docstrings of the public interface
	$(BIN)/python scripts/make_docs.py --api

BIN_ABOVE = $(CURDIR)/$(BIN)
tutorials: $(STAMP)  ## run docs/tutorials and keep the outputs in the notebooks; ONLY=augment runs one
	cd docs/tutorials && for page in $(or $(ONLY),augment integrate response screen); do \
		$(BIN_ABOVE)/jupytext --quiet --to ipynb --update $$page.py && \
		OMP_NUM_THREADS=1 $(BIN_ABOVE)/jupyter-execute --inplace $$page.ipynb || exit 1; done

bench: $(STAMP)  ## what steps, sampling, the demo and growing data cost, in ratios: outputs/bench.json (docs/scaling.md)
	$(BIN)/python scripts/bench.py --out $(OUTPUTS)/bench.json

bench-demo bench-attention: bench-%: $(STAMP)
	$(BIN)/python scripts/bench.py --only $* --out $(OUTPUTS)/bench-$*.json

constraints: | $(BIN)/uv  ## resolve every dependency anew into constraints.txt
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
		--no-header --no-annotate pyproject.toml --output-file constraints.txt

clean:  ## remove .venv, caches and outputs
	rm -rf .venv .pytest_cache .ruff_cache data/cache outputs/*

.PHONY: help setup setup-conda demo test test-fast lint format reproduce-paper reproduce-ablations reproduce-small tables figures report record docs \
	api tutorials bench bench-demo bench-attention constraints clean
