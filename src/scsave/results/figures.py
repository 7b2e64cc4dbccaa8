"""Pictures of a generation run: do the generated cells look like cells?"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.keys import Columns
from scsave.results.style import GENERATED, REAL, figure, level_colors, save, scatter_levels, tidy
from scsave.threads import own_threads

MAX_LEVELS, MAX_CELLS = 20, 5000


def generation_figures(folder: Path, real: AnnData, generated: AnnData, columns: Columns, run: Path) -> list[Path]:
    """UMAPs by condition, gene statistics, violins, loss curves; returns what was written below `folder`."""
    shown = [name for name in columns.conditions if real.obs[name].dtype == "category"]
    written = [
        *umap_by_condition(folder, real, generated, shown),
        gene_statistics(folder, real, generated),
        violins(folder, real, generated, columns.cell_type or (shown[0] if shown else None)),
    ]
    return written + loss_curves(folder, run)


def joint_umap(*parts: AnnData, n_genes: int = 2000, n_components: int = 30, seed: int = 0) -> list[np.ndarray]:
    """One UMAP of all parts together, (N_i, 2) for each; PCA is fitted on all of them: for looking, not for measuring."""
    import umap
    from sklearn.decomposition import PCA

    x = sp.vstack([part.X for part in parts]).tocsc()
    mean, square = np.asarray(x.mean(0)).ravel(), np.asarray(x.multiply(x).mean(0)).ravel()
    top = np.argsort(mean**2 - square, kind="stable")[:n_genes]
    dense = x[:, np.sort(top)].toarray()
    scores = PCA(min(n_components, *dense.shape), random_state=seed).fit_transform(dense)
    with own_threads():
        placed = umap.UMAP(random_state=seed, n_jobs=1, n_neighbors=min(15, len(dense) - 1)).fit_transform(scores)
    return np.split(placed, np.cumsum([part.n_obs for part in parts])[:-1])


def sample_cells(data: AnnData, n: int = MAX_CELLS, seed: int = 0) -> AnnData:
    if data.n_obs <= n:
        return data
    return data[np.sort(np.random.default_rng(seed).choice(data.n_obs, n, replace=False))]


def umap_by_condition(folder: Path, real: AnnData, generated: AnnData, shown: list[str]) -> list[Path]:
    real, generated = sample_cells(real), sample_cells(generated)
    at_real, at_generated = joint_umap(real, generated)
    fig, axes = figure(1 + len(shown), 2, width=4.2, height=3.6)
    axes = np.atleast_2d(axes)
    for ax, title, first in zip(axes[0], ("real over generated", "generated over real"), (0, 1), strict=True):
        for k in (1 - first, first):
            at, color, name = ((at_real, REAL, "real"), (at_generated, GENERATED, "generated"))[k]
            ax.scatter(*at.T, s=6, c=color, label=name, linewidths=0, alpha=0.8)
        ax.set_title(title)
        tidy(ax)
    axes[0, 1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=2)
    for pair, column in zip(axes[1:], shown, strict=True):
        levels = real.obs[column].cat.categories
        palette = level_colors(len(levels))
        for ax, at, cells, name in zip(
            pair, (at_real, at_generated), (real, generated), ("real", "generated"), strict=True
        ):
            codes = pd.Categorical(cells.obs[column].astype(str), levels.astype(str)).codes
            scatter_levels(ax, at, codes, levels, palette)
            ax.set_title(f"{name}, by {column}")
        if len(levels) <= MAX_LEVELS:
            pair[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=7)
    for row in axes:  # one frame a row, so that places can be compared
        row[1].set_xlim(row[0].get_xlim())
        row[1].set_ylim(row[0].get_ylim())
    return [save(fig, folder / "umap.png")]


def _column_stats(data: AnnData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = data.X.tocsr()
    mean = np.asarray(x.mean(0)).ravel()
    variance = np.asarray(x.multiply(x).mean(0)).ravel() - mean**2
    return mean, variance, 1 - np.asarray((x > 0).mean(0)).ravel()


def gene_statistics(folder: Path, real: AnnData, generated: AnnData) -> Path:
    """Each gene's mean, variance and share of zeros, generated against real."""
    fig, axes = figure(1, 3, width=3.4, height=3.2)
    names = ("mean of log1p", "variance of log1p", "share of zeros")
    for ax, name, a, b in zip(axes, names, _column_stats(real), _column_stats(generated), strict=True):
        top = max(a.max(), b.max(), 1e-9)
        ax.plot([0, top], [0, top], color="0.7", lw=1, zorder=0)
        ax.scatter(a, b, s=5, c=GENERATED, alpha=0.6, linewidths=0)
        r = np.corrcoef(a, b)[0, 1] if a.std() and b.std() else float("nan")
        ax.set(xlabel="real", ylabel="generated", title=f"{name}\nr = {r:.3f}")
    return save(fig, folder / "genes.png")


def marker_genes(real: AnnData, key: str | None, n: int = 5) -> dict[str, str]:
    """Genes to look at, and the level of `key` that each marks: one for each of the levels that are told best, then more.

    A gene marks a level by how far its mean there is above the other cells', in units of its spread; a level of few cells
    counts less, as a violin of all cells would not show it. Without `key`, or with one level, the genes that vary most
    mark nothing.
    """
    from scsave.stats.moments import group_moments

    variance = _column_stats(real)[1]
    codes, levels = pd.factorize(real.obs[key].astype(str), sort=True) if key else (np.zeros(real.n_obs, int), [""])
    if len(levels) < 2:
        return dict.fromkeys(real.var_names[np.argsort(-variance, kind="stable")[:n]], "")
    means, size = group_moments(real.X.tocsr(), codes, len(levels)).mean, np.bincount(codes)[:, None]
    others = (size.T @ means - size * means) / (real.n_obs - size)
    share, found = size / real.n_obs, {}
    score = np.sqrt(share * (1 - share)) * (means - others) / np.sqrt(variance + 0.05)  # (levels, G)
    ranked = np.argsort(-score, axis=1, kind="stable")
    for place in range(min(n, real.n_vars)):
        for level in np.argsort(-score[np.arange(len(levels)), ranked[:, place]], kind="stable"):
            if len(found) < n:
                found.setdefault(str(real.var_names[ranked[level, place]]), str(levels[level]))
    return found


def violins(folder: Path, real: AnnData, generated: AnnData, key: str | None) -> Path:
    """Library size and marker genes of several levels of `key`, real beside generated."""
    import seaborn as sns

    genes = marker_genes(real, key)
    shown = {"log10 of library size": lambda d: np.log10(d.obs[keys.LIBRARY].to_numpy())}
    shown |= {gene: (lambda d, gene=gene: d[:, gene].X.toarray().ravel()) for gene in genes}
    fig, axes = figure(1, len(shown), width=1.9, height=3.0)
    for ax, (name, values) in zip(axes, shown.items(), strict=True):
        frame = pd.concat(
            [pd.DataFrame({"value": values(d), "cells": n}) for d, n in ((real, "real"), (generated, "generated"))]
        )
        sns.violinplot(
            frame,
            x="cells",
            y="value",
            hue="cells",
            palette=[REAL, GENERATED],
            cut=0,
            inner="quart",
            linewidth=0.8,
            ax=ax,
        )
        ax.set(xlabel="", ylabel="log1p of counts per 10,000" if name == next(iter(genes)) else "")
        ax.set_title(f"{name}\n{fill(genes.get(name, ''), 22)}", fontsize=8)
        ax.tick_params(axis="x", rotation=30)
    return save(fig, folder / "violins.png")


def loss_curves(folder: Path, run: Path) -> list[Path]:
    """Every loss of every stage against its step, from the csv log; nothing where no training was logged."""
    logs = sorted(run.glob("logs/*/metrics.csv"))
    if not logs:
        return []
    frame = pd.concat([pd.read_csv(log) for log in logs], ignore_index=True).sort_values("step", kind="stable")
    names = [c for c in frame if c.endswith("_loss") and frame[c].notna().any()]
    stages = sorted({name.split("/")[0] for name in names})
    if not stages:
        return []
    fig, axes = figure(1, len(stages), width=4.0, height=3.0)
    for ax, stage in zip(np.atleast_1d(axes), stages, strict=True):
        for name, color in ((f"{stage}/train_loss", REAL), (f"{stage}/val_loss", GENERATED)):
            if name in names:
                rows = frame[name].notna()
                ax.plot(frame["step"][rows], frame[name][rows], color=color, lw=1.2, label=name.split("/")[1])
        ax.set(xlabel="step", title=stage)
        ax.legend(frameon=False)
    return [save(fig, folder / "loss.png")]
