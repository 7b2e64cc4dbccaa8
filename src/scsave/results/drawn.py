"""Figures as tasks still call them while they run; to go once runs call `draw_run` on the files that they wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave.keys import Columns
from scsave.protocol import Outcome
from scsave.results.cell_figures import marker_genes, violins
from scsave.results.change_figures import draw_genetic_run, draw_type, draw_types
from scsave.results.figures import GENERATED, REAL
from scsave.results.run_figures import draw_attention, draw_embeddings, gene_statistics, losses, umap_by_condition

__all__ = ["draw_attention", "draw_genetic", "draw_summary", "draw_type", "generation_figures", "integration_figures"]
draw_summary = draw_types


def generation_figures(folder: Path, real: AnnData, generated: AnnData, columns: Columns, run: Path) -> list[Path]:
    shown = [name for name in columns.conditions if real.obs[name].dtype == "category"]
    genes = marker_genes(real, columns.cell_type or (shown[0] if shown else None))
    parts = {"real": (real, REAL), "generated": (generated, GENERATED)}
    umap = umap_by_condition(folder / "umap.png", real, generated, shown)
    statistics = gene_statistics(folder / "genes.png", real, generated)
    return [umap, statistics, violins(folder / "violins.png", parts, genes, library=True), *losses(run, folder)]


def integration_figures(folder: Path, labels: pd.DataFrame, embeddings: dict[str, np.ndarray], run: Path) -> list[Path]:
    return [draw_embeddings(folder, {name: (labels, x) for name, x in embeddings.items()}), *losses(run, folder)]


def draw_genetic(folder: Path, outcome: Outcome) -> list[Path]:
    row = next(iter(outcome.scores))
    changes = outcome.arrays | {"change": outcome.arrays[f"change/{row}"]}
    return draw_genetic_run(folder, row, changes, outcome.info, outcome.scores)
