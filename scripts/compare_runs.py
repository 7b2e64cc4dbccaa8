"""Train a grid of settings on several data sets and seeds in one process, and print a table of mean and sd.

python scripts/compare_runs.py scripts/grids/schemes.yaml --path pbmc3k=pbmc3k.h5ad --path pbmc_ifn=kang.h5ad \\
    [--only data=pbmc68k case=zinb seed=0] [--more trainer.limit_steps=5] [--out outputs/compare]
A grid (YAML) has `common` overrides, `data` (name: overrides), `cases` (name: overrides), `seeds`, `columns` (metrics,
neutral protocol) and `group` (train, val or test: the cells that are scored against). Each run is kept as
`<out>/<grid>/<data>/<case>/<seed>.json` and not made again; the rows `real` (noise floor) and `train_resample` too.
A seed is a split, blocks and weights of its own. Without `--path`, a data set is downloaded as train.py would.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from describe_blocks import composed
from scsave.components import build
from scsave.errors import UserError
from scsave.files import write_json
from scsave.runs.main import entry, register_resolvers

if TYPE_CHECKING:
    from anndata import AnnData

    from scsave.data.source import DataSource
    from scsave.data.splits.strategies import Split
    from scsave.protocol import Method

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FLOORS = ("real", "train_resample")
PARTS = {"data": "data", "case": "cases", "seed": "seeds"}  # what --only can name, and where a grid has it
COSTS = ("steps", "seconds_fit", "seconds_sample", "parameters")


class Problem:
    """One data set under one seed: prepared cells, their split, and a scorer of its test (or validation) cells."""

    def __init__(self, overrides: list[str], group: str):
        from scsave.data.source import select_genes
        from scsave.metrics.generation import GenerationScorer

        config = composed(overrides)
        self.source, task = build(config["data"], "data"), build(config["task"], "task")
        cells = prepared(tuple(o for o in overrides if o.startswith("data")), config["paths"]["cache"])
        self.split = build(config["split"], "split")(cells, self.source, config["seed"])
        self.data = select_genes(cells, self.split.train, self.source.n_top_genes, self.source.min_cells)
        self.seed = config["seed"]
        self.scorer = GenerationScorer(
            self.data[self.split.train].copy(),
            self.data[self.split.groups[group]].copy(),
            self.source.conditions,
            self.source.cell_type_key,
            n_top_genes=task.n_top_genes,
            n_components=task.n_components,
            seed=self.seed,
        )

    def score(self, cells) -> dict[str, float]:
        """Headline metric -> value."""
        from scsave import keys

        return self.scorer.score(cells)["neutral"][keys.ALL]


@lru_cache(maxsize=1)
def prepared(overrides: tuple[str, ...], cache: str):
    return build(composed(list(overrides))["data"], "data").load(Path(cache))


def config_of(overrides: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=overrides)


def fitted(cfg: DictConfig, source: DataSource, data: AnnData, split: Split, seed: int) -> Method:
    """The method of a config, fitted without files and loggers, its seconds in `cost`."""
    from scsave.runs.build import make_method
    from scsave.runs.config import validated

    config = validated(cfg)
    method = make_method(cfg, config, build(config.task, "task"), source, data[split.train], Path("unused"))
    if hasattr(method, "workshop"):
        method.workshop.folder, method.workshop.loggers = None, lambda stage: []
    started = time.perf_counter()
    method.fit(data, split, source, seed)
    method.cost.setdefault("seconds_fit", time.perf_counter() - started)
    return method


def trained(problem: Problem, overrides: list[str]) -> dict[str, float]:
    """Fit one setting, generate the cells that are asked for, score them; the costs with the scores."""
    method = fitted(config_of(overrides), problem.source, problem.data, problem.split, problem.seed)
    started = time.perf_counter()
    cells = method.generate(problem.scorer.test.obs[problem.source.conditions], seed=problem.seed)
    method.cost["seconds_sample"] = time.perf_counter() - started
    blocks = {"blocks": method.model.blocks.n_blocks} if getattr(method, "model", None) is not None else {}
    return problem.score(cells) | {name: method.cost[name] for name in COSTS if name in method.cost} | blocks


def read_grid(path: Path, files: list[str], only: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The grid in a file, cut down to what `only` names ("case=zinb"), and `files` ("pbmc3k=<file>") by data set.

    UserError for a missing file and for names that the grid lacks.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such grid; those of the project are in scripts/grids")
    grid = OmegaConf.to_container(OmegaConf.load(path))
    paths = dict(file.split("=", 1) for file in files if "=" in file)
    if unknown := sorted({file.partition("=")[0] for file in files} - (set(paths) & set(grid["data"]))):
        raise UserError(f"--path {unknown[0]}: NAME=FILE is expected; data sets of {path}: {', '.join(grid['data'])}")
    asked: dict[str, set[str]] = {}
    for kind, _, name in (one.partition("=") for one in only):
        known = [str(name) for name in grid[PARTS[kind]]] if kind in PARTS else []
        if name not in known:
            there = f"{kind}s of {path}: {', '.join(known)}" if known else f"{', '.join(PARTS)} are what it can name"
            raise UserError(f"--only {kind}={name}: unknown; {there}")
        asked.setdefault(PARTS[kind], set()).add(name)
    for part, names in asked.items():
        whole = grid[part]
        kept = [name for name in whole if str(name) in names]
        grid[part] = {name: whole[name] for name in kept} if isinstance(whole, dict) else kept
    return grid, paths


def measure(grid: dict[str, Any], folder: Path, paths: dict[str, str], more: list[str]) -> None:
    """Every run of the grid that has no file yet; seeds outermost, so that a grid cut short has whole rows."""
    for seed in grid["seeds"]:
        for name in grid["data"]:
            given = [*grid["data"][name], *([f"data.path={paths[name]}"] if name in paths else []), f"seed={seed}"]
            base = [*grid.get("common", []), *given, *more, "figures=false"]
            problem = None
            for case in (*FLOORS, *grid["cases"]):
                path = folder / name / case / f"{seed}.json"
                if path.exists():
                    continue
                problem = problem or Problem(base, grid["group"])
                started = time.perf_counter()
                if case in FLOORS:
                    row = getattr(problem.scorer, {"real": "real_sample"}.get(case, case))
                    scores = problem.score(row())
                else:
                    scores = trained(problem, [*base, *grid["cases"][case]])
                write_json(path, scores | {"seconds": time.perf_counter() - started})
                print(f"{name} {case} seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def table(grid: dict, folder: Path, name: str) -> pd.DataFrame:
    """Mean ± sd over seeds of each case, floors first."""
    rows = {}
    for case in (*FLOORS, *grid["cases"]):
        found = [json.loads(path.read_text()) for path in sorted((folder / name / case).glob("*.json"))]
        if found:
            rows[case] = over_runs(found, grid["columns"])
    return pd.DataFrame(rows).T


def over_runs(found: list[dict[str, float]], columns: Sequence[str]) -> dict[str, str]:
    """A row of a table: how many runs, and mean ± sd of each column over them."""
    frame = pd.DataFrame(found).reindex(columns=columns).astype(float)
    return {"runs": str(len(frame))} | {c: shown(frame[c].dropna().to_numpy()) for c in frame}


def shown(values: np.ndarray) -> str:
    if not len(values):
        return ""
    digits = 0 if np.abs(values).max() >= 100 else 2 if np.abs(values).max() >= 2 else 3
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def markdown(frame: pd.DataFrame, first: str) -> str:
    lines = [[first, *frame.columns], ["---"] * (1 + len(frame.columns))]
    lines += [[str(index), *row] for index, row in zip(frame.index, frame.to_numpy().tolist(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--path", action="append", default=[], metavar="DATA=FILE", help="a local file of a data set")
    parser.add_argument("--only", nargs="+", default=[], metavar="data|case|seed=NAME", help="part of the grid")
    parser.add_argument("--more", nargs="+", default=[], help="overrides for every run")
    parser.add_argument("--out", type=Path, default=Path("outputs/compare"))
    parser.add_argument("--table", action="store_true", help="print what is there and train nothing")
    options = parser.parse_args(arguments)
    grid, paths = read_grid(options.grid, options.path, options.only)
    folder = options.out / options.grid.stem
    if not options.table:
        measure(grid, folder, paths, options.more)
    for name in grid["data"]:
        if len(frame := table(grid, folder, name)):
            print(f"\n**{name}**\n\n{markdown(frame, 'case')}")


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
