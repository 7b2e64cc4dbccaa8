"""Pictures of predicted responses: one set a cell type, and one over all types."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scsave.files import slug
from scsave.metrics.registry import rows
from scsave.protocol import Scores
from scsave.results.figures import joint_umap, sample_cells
from scsave.results.style import GENERATED, OTHER, REAL, figure, save, scatter_levels

SHOWN_CELLS = 600
MARKERS = ("ISG15", "TNFSF10")  # of an interferon response, shown where they are among the genes that respond


def draw_type(
    folder: Path, name: str, control: AnnData, real: AnnData, predicted: dict[str, AnnData], de_genes: list[str]
) -> list[Path]:
    """Means with DE genes named, violins of responding genes, UMAP; `predicted` by row, the headline first."""
    stem = slug(name)
    headline, cells = next(iter(predicted.items()))
    return [
        means(folder / f"{stem}_means.png", name, control, real, predicted, de_genes),
        violins(folder / f"{stem}_violins.png", name, control, real, cells, headline, de_genes),
        umap(folder / f"{stem}_umap.png", name, control, real, cells, headline),
    ]


def gene_mean(cells: AnnData) -> np.ndarray:
    return np.asarray(cells.X.mean(axis=0)).ravel()


def means(path, name, control, real, predicted, de_genes):
    """Real against predicted mean, and the same of the change, for every row."""
    fig, axes = figure(2, len(predicted), width=3.4, height=3.2)
    axes = np.asarray(axes).reshape(2, len(predicted))
    start, truth = gene_mean(control), gene_mean(real)
    place = [list(control.var_names).index(gene) for gene in de_genes[:10]]
    for column, (row, cells) in zip(axes.T, predicted.items(), strict=True):
        found = gene_mean(cells)
        for ax, x, y, what in ((column[0], truth, found, "mean"), (column[1], truth - start, found - start, "change")):
            ax.scatter(x, y, s=4, c=OTHER, linewidths=0, alpha=0.6)
            ax.scatter(x[place], y[place], s=10, c=GENERATED, linewidths=0)
            ends = [min(x.min(), y.min()), max(x.max(), y.max())]
            heights = apart(y[place], (ends[1] - ends[0]) / 22)
            for gene, at, height in zip(de_genes[:10], place, heights, strict=True):
                where = (x[at] + (ends[1] - ends[0]) / 25, height)
                line = {"arrowstyle": "-", "lw": 0.3, "color": OTHER}
                ax.annotate(gene, (x[at], y[at]), fontsize=6, xytext=where, va="center", arrowprops=line)
            ax.plot(ends, ends, color="black", lw=0.5)
            ax.set(xlabel=f"real {what}", ylabel=f"predicted {what}")
        column[0].set_title(f"{name}: {row}")
    return save(fig, path)


def apart(y: np.ndarray, gap: float) -> np.ndarray:
    """Heights of labels of points at `y`: in the points' order, at least `gap` from one another."""
    order, out = np.argsort(y), np.array(y, dtype=float)
    for below, above in itertools.pairwise(order):
        out[above] = max(out[above], out[below] + gap)
    return out


def violins(path, name, control, real, predicted, headline, de_genes):
    """log1p expression of responding genes in control, real and predicted cells."""
    marked = [gene for gene in MARKERS if gene in de_genes]
    genes = [*marked, *(gene for gene in de_genes if gene not in marked)][:4]
    if not genes:
        genes = list(control.var_names[:1])
    fig, axes = figure(1, len(genes), width=2.6, height=2.8)
    groups = (("control", control, OTHER), ("real", real, REAL), (headline, predicted, GENERATED))
    for ax, gene in zip(np.atleast_1d(axes), genes, strict=True):
        for at, (_, cells, color) in enumerate(groups):
            x = cells[:, gene].X
            x = (x.toarray() if sp.issparse(x) else np.asarray(x)).ravel()
            body = ax.violinplot(x, positions=[at], showmeans=True, widths=0.8)
            for part in (*body["bodies"], body["cmeans"], body["cmins"], body["cmaxes"], body["cbars"]):
                part.set_color(color)
        ax.set(title=gene, xticks=range(len(groups)))
        ax.set_xticklabels([label for label, *_ in groups], rotation=20)
    np.atleast_1d(axes)[0].set_ylabel(f"{name}, log1p")
    return save(fig, path)


def umap(path, name, control, real, predicted, headline):
    parts = [sample_cells(cells, SHOWN_CELLS) for cells in (control, real, predicted)]
    fig, ax = figure(1, 1, width=4.4, height=3.8)
    placed = joint_umap(*parts)
    codes = np.repeat(np.arange(3), [len(at) for at in placed])
    scatter_levels(ax, np.concatenate(placed), codes, ("control", "real", headline), (OTHER, REAL, GENERATED))
    ax.set_title(name)
    ax.legend(frameon=False)
    return save(fig, path)


def draw_summary(folder: Path, scores: Scores, metrics: tuple[str, ...] = ("pcc_delta", "r2", "w1", "energy")) -> Path:
    """Every type, every row: where each method stands between the no-skill rows and the ceiling."""
    types, registry = [group for group in next(iter(scores.values())) if group != "all"], rows("response")
    fig, axes = figure(1, len(metrics), width=3.0, height=0.9 + 0.28 * max(len(types), 6))
    at = np.arange(len(types))
    for ax, metric in zip(axes, metrics, strict=True):
        for number, (row, groups) in enumerate(scores.items()):
            values = np.array([groups[t].get(metric, np.nan) for t in types], dtype=float)
            style = (
                {"color": "black", "marker": "|", "s": 60}
                if row == "ceiling"
                else {"s": 16, "marker": "osD^vPX*"[number % 8]}
            )
            ax.scatter(values, at, label=row, alpha=0.85, **style)
        ax.set(title=f"{registry[metric].label} {registry[metric].arrow}", yticks=at)
        ax.set_yticklabels(types if ax is axes[0] else [])
        ax.invert_yaxis()
        ax.grid(axis="y", lw=0.3)
    axes[-1].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return save(fig, folder / "types.png")
