"""Pictures of single runs, drawn again from what they left: cells of generated.h5ad, embeddings, scores by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scsave import keys
from scsave.errors import UserError
from scsave.files import slug
from scsave.protocol import Outcome
from scsave.results.collect import Result
from scsave.results.settings import question
from scsave.results.table import ORDER, role


def shown(results: Sequence[Result]) -> list[Result]:
    """One run for each data set, experiment and method: the lowest seed, the newest of it."""
    found: dict[tuple, Result] = {}
    for result in sorted(results, key=lambda r: (-r.seed, r.precedence)):
        found[result.task, result.data, result.experiment_name, result.method] = result
    return sorted(found.values(), key=lambda r: r.path)


def trained_most(results: Sequence[Result]) -> list[Result]:
    """One run for each data set, split and method, for pictures that cost: the one that saw most cells in training."""
    found: dict[tuple, Result] = {}
    for result in sorted(results, key=lambda r: (r.cost.get("cells_seen") or 0, -r.seed, r.precedence)):
        found[result.data, result.split, result.method] = result
    return sorted(found.values(), key=lambda r: r.path)


def name_of(result: Result) -> str:
    return "_".join(filter(None, [slug(result.experiment_name or ""), slug(result.data), result.method]))


def test_cells(result: Result):
    """The real test cells of a run, prepared as it had them, and its data source; UserError where they can't be had."""
    from scsave.components import build
    from scsave.data.gene_selection import select_genes
    from scsave.data.splits.split import Split

    cache = Path(result.config["paths"]["cache"])
    source = build(result.config["data"], "data").fitted(cache)
    cells = source.load(cache)
    split = Split.load(result.folder / "split.csv", cells.obs_names)
    return select_genes(cells, split.train, source.n_top_genes, source.min_cells)[split.test].copy(), source


def draw_generated(folder: Path, result: Result) -> list[Path]:
    """`<run>/umap.png` by condition and `<run>/violins.png`, generated beside real test cells."""
    import anndata

    from scsave.results.figures import umap_by_condition, violins

    path = result.folder / "generated.h5ad"
    if not path.is_file():
        raise UserError(f"{path}: not there; run it again: {result.command or 'python train.py'}")
    real, source = test_cells(result)
    generated, where = anndata.read_h5ad(path), folder / f"cells_{name_of(result)}"
    columns = [name for name in source.conditions if real.obs[name].dtype == "category"]
    key = source.cell_type_key or (columns[0] if columns else None)
    return [*umap_by_condition(where, real, generated, columns), violins(where, real, generated, key)]


def draw_integrated(folder: Path, results: Sequence[Result]) -> list[Path]:
    """`umap.png`: every method's embedding of one data set by batch and type."""
    import anndata
    import numpy as np
    import pandas as pd

    from scsave.results.integration_figures import integration_figures
    from scsave.tasks.correction import embedding_key

    data = results[0].config["data"]
    labels, embeddings = None, {}
    for result in results:
        path = result.folder / "integrated.h5ad"
        if not path.is_file():
            raise UserError(f"{path}: not there; run it again: {result.command or 'python train.py'}")
        cells = anndata.read_h5ad(path)
        if labels is None:
            columns = {"batch": data["batch_key"], "cell type": data["cell_type_key"]}
            labels = pd.DataFrame({name: cells.obs[key].astype(str) for name, key in columns.items() if key})
        embeddings[result.method] = np.asarray(cells[labels.index].obsm[embedding_key(cells)])
    where = folder / f"cells_{slug(results[0].data)}_integrated"  # has no logs, so no loss curves are drawn
    return integration_figures(where, labels, embeddings, where)


def draw_groups(folder: Path, result: Result) -> list[Path]:
    """Scores by held-out type or by group of perturbations, every row, from results.json alone."""
    from scsave.results.genetic_figures import groups
    from scsave.results.response_figures import draw_summary

    where = folder / f"groups_{name_of(result)}"
    if "intervals" in result.info:
        return [groups(where / "groups.png", Outcome(scores=_first(result), info=_plain(result.info)))]
    if [group for group in result.metrics[result.method] if group != keys.ALL]:
        return [draw_summary(where, _first(result))]
    raise UserError(f"{result.path}: has one group only")


def _first(result: Result) -> dict:
    """The run's own rows before those that they are read against, the ceiling last."""
    references = sorted(result.reference_rows, key=lambda row: ORDER.index(role(row)))
    return {row: result.metrics[row] for row in [*result.own_rows, *references]}


def _plain(info: dict) -> dict:
    """Intervals with NaN where results.json has null."""
    from scsave.files import numbers

    def pairs(node):
        return {k: pairs(v) if isinstance(v, dict) else [numbers(x) for x in v] for k, v in node.items()}

    return info | {"intervals": pairs(info["intervals"])}


def same_cells(results: Sequence[Result]) -> list[list[Result]]:
    """Runs by question, one a method."""
    found: dict[str, dict[str, Result]] = {}
    for result in shown(results):
        found.setdefault(repr(question(result)), {})[result.method] = result
    return [list(group.values()) for group in found.values()]
