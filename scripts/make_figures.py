"""Figures over results.json files, each as PNG and PDF: curves over many runs, and cells of single ones.

python scripts/make_figures.py outputs [--only guidance,block_size] [--data heart] [--out outputs/figures]
guidance, sampling_steps, block_size: runs that differ in that setting alone. training_time: quality against minutes.
cells: UMAPs and violins of generated.h5ad beside the real test cells. integrated: UMAPs of every method's embedding.
groups: scores by held-out type or group of perturbations. What has no runs is skipped, and named (docs/tables.md).
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scsave.errors import UserError
from scsave.results.collect import Result, collect
from scsave.runs.main import entry

Drawer = Callable[[Path, Sequence[Result]], list[Path]]


def drawers() -> dict[str, tuple[Drawer, str]]:
    """Name -> how it is drawn, and what it needs. The libraries are imported only here."""
    from scsave.results.curve_figures import SWEEPS, draw_sweep, draw_time
    from scsave.results.run_figures import draw_generated, draw_groups, draw_integrated, same_cells, shown, trained_most

    def sweep(name: str) -> tuple[Drawer, str]:
        one = SWEEPS[name]
        return lambda folder, results: draw_sweep(folder, name, one, results), f"runs that differ in {one.key} alone"

    def cells(folder: Path, results: Sequence[Result]) -> list[Path]:
        return attempts(draw_generated, folder, trained_most([r for r in results if r.task == "generation"]))

    def groups(folder: Path, results: Sequence[Result]) -> list[Path]:
        return attempts(draw_groups, folder, shown([r for r in results if r.task == "perturbation"]))

    def integrated(folder: Path, results: Sequence[Result]) -> list[Path]:
        return attempts(draw_integrated, folder, same_cells([r for r in results if r.task == "batch_correction"]))

    return {
        **{name: sweep(name) for name in SWEEPS},
        "training_time": (draw_time, "two methods that were trained on one data set"),
        "cells": (cells, "a generation run with its generated.h5ad and its data"),
        "integrated": (integrated, "a batch-correction run with its integrated.h5ad"),
        "groups": (groups, "a perturbation run with several groups"),
    }


def attempts(draw: Callable, folder: Path, each: Sequence) -> list[Path]:
    """What could be drawn; what could not is told in a line, and the others go on."""
    from scsave.runs.folds import time_left

    found: list[Path] = []
    started = time.perf_counter()
    for done, one in enumerate(each):
        print(f"drawing {done + 1} of {len(each)}{time_left(started, done, len(each))}", file=sys.stderr, flush=True)
        try:
            found += draw(folder, one)
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return found


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("outputs")], help="folders with runs (default: outputs)"
    )
    parser.add_argument("--only", type=words, help="names of figures (above); all without it")
    parser.add_argument("--task", type=words, help="tasks")
    parser.add_argument("--data", type=words, help="data sets; * and ? are wildcards here and below")
    parser.add_argument("--method", type=words, help="methods")
    parser.add_argument("--experiment", type=words, help="experiment_name of the runs")
    parser.add_argument("--out", type=Path, default=Path("outputs/figures"), help="folder (default: outputs/figures)")
    options = parser.parse_args(arguments)
    chosen = {"task": options.task, "data": options.data, "method": options.method, "experiment": options.experiment}
    results = collect(options.folders, **chosen)
    if not results:
        raise UserError(
            f"{', '.join(map(str, options.folders))}: no fitting results.json there; run python train.py first"
        )
    from scsave.results.style import formats

    known = drawers()
    if lost := [name for name in options.only or [] if name not in known]:
        raise UserError(f"--only {','.join(lost)}: no such figure; there are: {', '.join(known)}")
    with formats(".pdf"):
        for name in options.only or known:
            draw, needs = known[name]
            written = draw(options.out, results)
            for path in written:
                print(f"{path} (and .pdf)")
            if not written:
                print(f"skipped: {name}: needs {needs}")


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
