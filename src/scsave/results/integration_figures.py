"""Pictures of batch correction: the same cells before and after, coloured by batch and by cell type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scsave.results.figures import loss_curves
from scsave.results.style import figure, level_colors, save, scatter_levels
from scsave.threads import own_threads

MAX_CELLS = 4000


def integration_figures(folder: Path, labels: pd.DataFrame, embeddings: dict[str, np.ndarray], run: Path) -> list[Path]:
    """`umap.png`: one row an embedding, one column a label; and the loss curves. Embeddings are (N, d) over `labels`."""
    import umap

    rows = np.random.default_rng(0).permutation(len(labels))[:MAX_CELLS]
    fig, axes = figure(len(embeddings), len(labels.columns), width=5.2, height=3.9)
    axes = np.asarray(axes).reshape(len(embeddings), len(labels.columns))
    for number, (line, (name, embedding)) in enumerate(zip(axes, embeddings.items(), strict=True)):
        with own_threads():
            placed = umap.UMAP(random_state=0, n_jobs=1).fit_transform(np.asarray(embedding)[rows])
        for ax, column in zip(line, labels.columns, strict=True):
            levels = sorted(labels[column].unique())
            codes = pd.Categorical(labels[column].iloc[rows], levels).codes
            scatter_levels(ax, placed, codes, levels, level_colors(len(levels)), np.clip(6000 / len(rows), 3, 12))
            ax.set_title(f"{name}, by {column}")
            if number == 0:
                ax.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return [save(fig, folder / "umap.png"), *loss_curves(folder, run)]
