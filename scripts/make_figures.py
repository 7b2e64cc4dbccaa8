"""Figures over results.json files, each as PNG and PDF: curves over many runs, and cells of single ones.

python scripts/make_figures.py outputs [--only guidance,block_size] [--data heart] [--out outputs/figures]
guidance, sampling_steps, block_size: runs that differ in that setting alone. training_time: quality against minutes.
cells: what generation runs left, as the run itself draws it. integrated: UMAPs of every method's embedding.
groups: what perturbation runs left. What has no runs is skipped, and named (docs/tables.md).
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from make_tables import parser, words
from scsave.errors import UserError
from scsave.files import slug
from scsave.results.comparable import question
from scsave.results.figures import draw_integrated, draw_run
from scsave.results.frame import read
from scsave.results.style import formats
from scsave.results.sweeps import SWEEPS, draw_sweep, draw_time
from scsave.runs.main import entry

FILTERS = ("task", "data", "method", "experiment")
NEEDS = {
    "training_time": "two methods that were trained on one data set",
    "cells": "a generation run with its generated.h5ad and its data",
    "integrated": "a batch-correction run with its integrated.h5ad",
    "groups": "a perturbation run with its predictions and its data",
}


def first_of(runs: pd.DataFrame, by: str, columns: list[str]) -> pd.DataFrame:
    """One run for each value of `columns`: the last by `by`, of those the lowest seed, the newest."""
    runs = runs.assign(trained=[cost.get("cells_seen") or 0 for cost in runs["cost"]], older=-runs["seed"].astype(int))
    return runs.sort_values([by, "older", "written"]).drop_duplicates(columns, keep="last").sort_index()


def name_of(run: pd.Series) -> str:
    return "_".join(filter(None, [slug(run["experiment"] or ""), slug(run["data"]), run["method"]]))


def attempts(each: Iterable[tuple[Callable, Path, object]]) -> list[Path]:
    """What could be drawn; what could not is said in a line, and the others go on."""
    found: list[Path] = []
    for draw, *arguments in each:
        try:
            drawn = draw(*arguments)
            found += drawn if isinstance(drawn, list) else [drawn]
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return found


def draw(name: str, out: Path, runs: pd.DataFrame) -> list[Path]:
    if name in SWEEPS:
        return draw_sweep(out, name, SWEEPS[name], runs)
    if name == "training_time":
        return draw_time(out, runs)
    task = {"cells": "generation", "integrated": "batch_correction", "groups": "perturbation"}[name]
    same = runs[runs["task"] == task]
    if name == "integrated" and len(same):
        same = first_of(same, "older", ["task", "data", "experiment", "method"])
        groups = same.groupby(question(same).map(repr).agg("\n".join, axis=1), sort=False)
        return attempts((draw_integrated, out / f"cells_{slug(g['data'].iloc[0])}_integrated", g) for _, g in groups)
    key = ["data", "split", "method"] if name == "cells" else ["data", "experiment", "method"]
    each = first_of(same, "trained" if name == "cells" else "older", key).iterrows() if len(same) else ()
    return attempts((draw_run, Path(run["path"]).parent, out / f"{name}_{name_of(run)}") for _, run in each)


def run(arguments: list[str]) -> None:
    found = parser(__doc__, FILTERS)
    found.add_argument("--only", type=words, help="names of figures (above); all without it")
    found.add_argument("--out", type=Path, default=Path("outputs/figures"), help="folder (default: outputs/figures)")
    options = found.parse_args(arguments)
    runs = read(options.folders, **{key: getattr(options, key) for key in FILTERS})
    if runs.empty:
        where = ", ".join(map(str, options.folders))
        raise UserError(f"{where}: no fitting results.json there; run python train.py first")
    known = {name: f"runs that differ in {one.key} alone" for name, one in SWEEPS.items()} | NEEDS
    if lost := [name for name in options.only or [] if name not in known]:
        raise UserError(f"--only {','.join(lost)}: no such figure; there are: {', '.join(known)}")
    with formats(".pdf"):
        for name in options.only or known:
            written = [f"{path} (and .pdf)" for path in draw(name, options.out, runs)]
            print("\n".join(written) or f"skipped: {name}: needs {known[name]}")


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
