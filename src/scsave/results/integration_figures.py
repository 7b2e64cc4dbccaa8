"""Pictures of batch correction: the same cells before and after, coloured by batch and by cell type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scsave.results.figures import loss_curves
from scsave.results.style import figure, save, tidy

MAX_CELLS = 4000


def integration_figures(folder: Path, labels: pd.DataFrame, embeddings: dict[str, np.ndarray], run: Path) -> list[Path]:
    """`umap.png`: one row an embedding, one column a label; and the loss curves. Embeddings are (N, d) over `labels`."""
    import matplotlib
    import umap

    rows = np.arange(len(labels))
    if len(rows) > MAX_CELLS:
        rows = np.random.default_rng(0).permutation(rows)[:MAX_CELLS]
    else:  # in random order, so that no batch hides another
        rows = np.random.default_rng(0).permutation(rows)
    fig, axes = figure(len(embeddings), len(labels.columns), width=5.2, height=3.9)
    axes = np.asarray(axes).reshape(len(embeddings), len(labels.columns))
    for number, (line, (name, embedding)) in enumerate(zip(axes, embeddings.items(), strict=True)):
        placed = umap.UMAP(random_state=0, n_jobs=1).fit_transform(np.asarray(embedding)[rows])
        for ax, column in zip(line, labels.columns, strict=True):
            levels = sorted(labels[column].unique())
            colors = matplotlib.colormaps["tab20"](np.linspace(0, 1, max(len(levels), 2)))
            codes = pd.Categorical(labels[column].iloc[rows], levels).codes
            ax.scatter(*placed.T, s=3, c=colors[codes], linewidths=0, alpha=0.8)
            for level, color in zip(levels, colors, strict=False):
                ax.scatter([], [], s=14, color=color, label=level)
            ax.set_title(f"{name}, by {column}")
            if number == 0:
                ax.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
            tidy(ax)
    return [save(fig, folder / "umap.png"), *loss_curves(folder, run)]
