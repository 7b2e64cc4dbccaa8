"""Batch correction by several methods or settings on several data sets and seeds, scored together: mean and sd.

python scripts/compare_correction.py scripts/grids/correction.yaml --path pbmc=pbmc.h5ad --path panc8=panc8.h5ad \\
    [--only data=panc8 case=save seed=0] [--more trainer.limit_steps=5] [--out outputs/compare]
A grid (YAML) has `common` overrides, `data` (name: overrides), `cases` (name: overrides), `seeds` and `columns` (metrics).
scib-metrics takes a minute to import and compile: here all cases of a data set and seed are scored in one process.
What is fitted is kept as `<out>/<grid>/<data>/<case>/<seed>.h5ad` until it is scored, scores as `<seed>.json`; neither is
made again. `unintegrated` is a row of each.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import anndata
import pandas as pd
from omegaconf import OmegaConf

from compare_runs import config_of, fitted, markdown, over_runs, prepared, read_grid
from scsave.components import build
from scsave.files import write_h5ad, write_json
from scsave.metrics.integration import OF_CORRECTED, UNINTEGRATED
from scsave.runs.main import entry

COSTS = ("steps", "cells_seen", "seconds_fit", "seconds_integrate", "parameters")


class Problem:
    """One data set under one seed: the cells of `train.py task=batch_correction`, and their scorer."""

    def __init__(self, overrides: list[str]):
        from scsave.data.gene_selection import select_genes
        from scsave.metrics.integration import IntegrationScorer

        config = OmegaConf.to_container(config_of(overrides), resolve=True)
        self.source, self.task, self.seed = build(config["data"], "data"), build(config["task"], "task"), config["seed"]
        data = tuple(o for o in overrides if o.startswith(("data", "task")))
        self.cells = prepared(data, config["paths"]["cache"])  # all genes
        self.split = build(config["split"], "split")(self.cells, self.source, self.seed)
        self.data = select_genes(self.cells, self.split.train, self.source.n_top_genes, self.source.min_cells)
        self.scorer = IntegrationScorer(
            self.data,
            self.source.batch_key,
            self.source.cell_type_key,
            self.task.unlabelled_batches,
            n_components=self.task.n_components,
            seed=self.seed,
            max_cells=self.task.max_cells,
        )

    def integrated(self, overrides: list[str]) -> anndata.AnnData:
        """The cells after one method, its costs in `uns`."""
        cfg = config_of(overrides)
        task = build(OmegaConf.to_container(cfg.task, resolve=True), "task")
        method = fitted(cfg, self.source, self.data, self.split, self.seed)
        cells = task.integrated(method, self.data, self.seed)
        cells.uns["cost"] = {name: float(method.cost[name]) for name in COSTS if name in method.cost}
        return cells


def measure(grid: dict, folder: Path, paths: dict[str, str], more: list[str]) -> None:
    """Fit what has not been fitted, then score it in one go for each data set and seed."""
    for seed in grid["seeds"]:
        for name in grid["data"]:
            cases = {case: folder / name / case / f"{seed}.json" for case in grid["cases"]}
            cases = {case: path for case, path in cases.items() if not path.exists()}
            if not cases:
                continue
            given = [*grid["data"][name], *([f"data.path={paths[name]}"] if name in paths else []), f"seed={seed}"]
            base = ["task=batch_correction", *grid.get("common", []), *given, *more, "figures=false"]
            problem, cells = Problem(base), {}
            for case, path in cases.items():
                kept, started = path.with_suffix(".h5ad"), time.perf_counter()
                if not kept.exists():
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    write_h5ad(kept, problem.integrated([*base, *grid["cases"][case]]))
                    took = time.perf_counter() - started
                    print(f"{name} {case} seed {seed}: fitted in {took:.0f} s", file=sys.stderr, flush=True)
                cells[case] = anndata.read_h5ad(kept)
            score(problem, cells, cases, folder / name / UNINTEGRATED / f"{seed}.json")


def score(problem: Problem, cells: dict[str, anndata.AnnData], paths: dict[str, Path], floor: Path) -> None:
    from scsave import keys
    from scsave.tasks.correction import embedding_key

    started = time.perf_counter()
    embeddings = {case: found.obsm[embedding_key(found)] for case, found in cells.items()}
    corrected = {case: found for case, found in cells.items() if keys.COMPONENTS in found.obsm}
    scores = problem.scorer.score(embeddings, corrected)
    took = time.perf_counter() - started
    print(f"{len(cells)} embeddings scored in {took:.0f} s", file=sys.stderr, flush=True)
    write_json(floor, scores[UNINTEGRATED][keys.ALL])
    for case, path in paths.items():
        if case in corrected:
            for row in (case + part for part in OF_CORRECTED):
                write_json(floor.parents[1] / row / path.name, scores[row][keys.ALL])
        write_json(path, scores[case][keys.ALL] | dict(cells[case].uns["cost"]))
        path.with_suffix(".h5ad").unlink()


def table(grid: dict, folder: Path, name: str) -> pd.DataFrame:
    """Mean ± sd over seeds of each case."""
    rows = {}
    for case in (UNINTEGRATED, *(case + part for case in grid["cases"] for part in ("", *OF_CORRECTED))):
        found = [json.loads(path.read_text()) for path in sorted((folder / name / case).glob("*.json"))]
        if found:
            rows[case] = over_runs(found, grid["columns"])
    return pd.DataFrame(rows).T


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--path", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--more", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--only", nargs="*", default=[], metavar="data|case|seed=NAME")
    parser.add_argument("--out", type=Path, default=Path("outputs/compare"))
    args = parser.parse_args(arguments)
    grid, paths = read_grid(args.grid, args.path, args.only)
    folder = args.out / args.grid.stem
    measure(grid, folder, paths, args.more)
    for name in grid["data"]:
        if len(frame := table(grid, folder, name)):
            print(f"\n**{name}**\n\n{markdown(frame, 'method')}")


if __name__ == "__main__":
    entry(lambda: main(sys.argv[1:]))
