"""Pictures of one run, drawn from the files that it left: `draw_run(folder)`. Real cells come again from the prepared cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.results.cell_figures import (
    joint_umap,
    marker_genes,
    place,
    read_cells,
    real_cells,
    sample_cells,
    scatter,
    test_rows,
    violins,
)
from scsave.results.change_figures import genetic, response
from scsave.results.figures import GENERATED, REAL, figure, legend_below, level_colors, panels, save
from scsave.results.frame import FILE, read

EMBEDDINGS = {
    "X_pca": "unintegrated",
    keys.COMPONENTS: "softened components",
}  # of integrated.h5ad; others by their method
SHOWN_CELLS = 4000  # of an embedding
HALVES = ("half 1", "half 2")  # of the reference level's cells, in attention.csv


def draw_run(folder: Path, out: Path | None = None) -> list[Path]:
    """Everything that there is to draw of a finished run, below `out` (by default `<folder>/figures`): what was written.

    UserError where a file of the run, or the data that it was made of, is missing (docs/results.md lists the files).
    """
    run, out = read([folder / FILE]).iloc[0], out or folder / "figures"
    return [
        *DRAWERS.get(run["registry"], lambda *_: [])(run, folder, out),
        *losses(folder, out),
        *attention(run, folder, out),
    ]


def generation(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """`umap.png`, `genes.png`, `violins.png`: generated beside real test cells, from generated.h5ad and split.csv."""
    generated = read_cells(run, folder / "generated.h5ad")
    cells, columns = real_cells(run)
    real = cells[test_rows(folder, cells), generated.var_names].copy()
    shown = [name for name in columns.conditions if real.obs[name].dtype == "category"]
    return [
        umap_by_condition(out / "umap.png", real, generated, shown),
        gene_statistics(out / "genes.png", real, generated),
        violins(
            out / "violins.png",
            {"real": (real, REAL), "generated": (generated, GENERATED)},
            marker_genes(real, columns.cell_type or (shown[0] if shown else None)),
            library=True,
        ),
    ]


def umap_by_condition(path: Path, real: AnnData, generated: AnnData, shown: Sequence[str]) -> Path:
    """Real cells on the left, generated ones before the real in grey on the right; one row each condition column."""
    joint = joint_umap({"real": sample_cells(real), "generated": sample_cells(generated)}, shown)
    fig, axes = figure(1 + len(shown), 2, width=3.5, height=2.9)
    colors: dict[str, Mapping[str, Any]] = {"cells": {"real": REAL, "generated": GENERATED}}
    for column in shown:
        levels = list(real.obs[column].cat.categories.astype(str))
        colors[column] = dict(zip(levels, level_colors(len(levels)), strict=True))
    for line, (column, found) in zip(axes, colors.items(), strict=True):
        for ax, part in zip(line, ("real", "generated"), strict=True):
            behind = joint if part == "generated" else joint[joint.obs["cells"] == "real"]
            title = f"{part} cells" if column == "cells" else f"{part}, by {column}"
            scatter(ax, behind, column, (behind.obs["cells"] == part).to_numpy(), found, title, part == "generated")
        line[0].set(xlim=line[1].get_xlim(), ylim=line[1].get_ylim())
    return save(fig, path)


def _column_stats(data: AnnData) -> dict[str, np.ndarray]:
    x = data.X.tocsr()
    mean = np.asarray(x.mean(0)).ravel()
    variance = np.asarray(x.multiply(x).mean(0)).ravel() - mean**2
    return {
        "mean of log1p": mean,
        "variance of log1p": variance,
        "share of zeros": 1 - np.asarray((x > 0).mean(0)).ravel(),
    }


def gene_statistics(path: Path, real: AnnData, generated: AnnData) -> Path:
    """Each gene's mean, variance and share of zeros, generated against real."""
    fig, axes = panels(3, width=2.4, height=2.6, wrap=3)
    ours = _column_stats(generated)
    for ax, (name, a) in zip(axes, _column_stats(real).items(), strict=True):
        b = ours[name]
        top = max(a.max(), b.max(), 1e-9)
        ax.plot([0, top], [0, top], color="0.7", lw=1, zorder=0)
        ax.scatter(a, b, s=5, c=GENERATED, alpha=0.6, linewidths=0)
        r = np.corrcoef(a, b)[0, 1] if a.std() and b.std() else float("nan")
        ax.set(xlabel="real", ylabel="generated", title=f"{name}\nr = {r:.3f}")
    return save(fig, path)


def correction(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """`umap.png`: the embeddings of integrated.h5ad by batch and by cell type."""
    return [draw_integrated(out, pd.DataFrame([run]))]


def draw_integrated(out: Path, runs: pd.DataFrame) -> Path:
    """`umap.png`: the same cells in the embedding of each run, one row an embedding, by batch and by cell type.

    The uncorrected cells (`X_pca`) are shown once; softened components where there is one run only.
    """
    data = runs["config"].iloc[0]["data"]
    columns = {"batch": data["batch_key"], "cell type": data["cell_type_key"]}
    found: dict[str, tuple[pd.DataFrame, np.ndarray]] = {}
    for run in (run for _, run in runs.iterrows()):
        cells = read_cells(run, Path(run["path"]).parent / "integrated.h5ad")
        labels = pd.DataFrame({name: cells.obs[key].astype(str) for name, key in columns.items() if key})
        for key in sorted(cells.obsm, key=lambda key: (key != "X_pca", key in EMBEDDINGS)):
            if np.ndim(cells.obsm[key]) == 2 and (key != keys.COMPONENTS or len(runs) == 1):
                found.setdefault(EMBEDDINGS.get(key, run["method"]), (labels, np.asarray(cells.obsm[key])))
    return draw_embeddings(out, found)


def draw_embeddings(out: Path, embeddings: Mapping[str, tuple[pd.DataFrame, np.ndarray]]) -> Path:
    """One row an embedding (N, d), one column a label of its cells (N,)."""
    columns = list(next(iter(embeddings.values()))[0])
    fig, axes = figure(len(embeddings), len(columns), width=3.6, height=2.7)
    for line, (name, (labels, embedding)) in zip(axes, embeddings.items(), strict=True):
        rows = np.random.default_rng(0).permutation(len(labels))[:SHOWN_CELLS]
        shown = AnnData(obs=labels.iloc[rows].copy(), obsm={"embedding": embedding[rows]})
        place(shown, "embedding")
        for ax, column in zip(line, columns, strict=True):
            levels = sorted(shown.obs[column].unique())
            colors = dict(zip(levels, level_colors(len(levels)), strict=True))
            scatter(ax, shown, column, np.ones(shown.n_obs, bool), colors, f"{name}, by {column}", line is axes[0])
    return save(fig, out / "umap.png")


def losses(folder: Path, out: Path) -> list[Path]:
    """`loss.png`: every loss of every stage against its step, from the csv log; nothing where no training was logged."""
    logs = sorted(folder.glob("logs/*/metrics.csv"))
    frame = pd.concat([pd.read_csv(log) for log in logs]).sort_values("step", kind="stable") if logs else pd.DataFrame()
    names = [name for name in frame if name.endswith("_loss") and frame[name].notna().any()]
    stages = sorted({name.split("/")[0] for name in names})
    if not stages:
        return []
    fig, axes = panels(len(stages))
    for ax, stage in zip(axes, stages, strict=True):
        for part, color, dash in (("train_loss", REAL, "-"), ("val_loss", GENERATED, "--")):
            if (name := f"{stage}/{part}") in names:
                found = frame[["step", name]].dropna()
                ax.plot(found["step"], found[name], color=color, lw=1.2, ls=dash, label=part)
        ax.set(xlabel="step", title=stage)
    legend_below(fig, axes)
    return [save(fig, out / "loss.png")]


def attention(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """`attention.png` from the attention.csv that `analysis=attention` writes; nothing where there is none."""
    if not (folder / "attention.csv").is_file():
        return []
    most = (run["config"].get("analysis") or {}).get("max_levels", 6)
    return [draw_attention(out / "attention.png", pd.read_csv(folder / "attention.csv"), most)]


def draw_attention(path: Path, table: pd.DataFrame, most: int) -> Path:
    """A row a network (layers averaged): the reference, the noise between its halves, the `most` levels that change most."""
    import seaborn as sns

    mean = table.groupby(["network", "level", "block", "looks_at"], sort=False)["weight"].mean().unstack("looks_at")
    reference, *others = table["level"].unique()
    levels = [level for level in others if level not in HALVES]
    networks = list(table["network"].unique())
    moved = {
        level: max(np.abs(mean.loc[n, level] - mean.loc[n, reference]).to_numpy().max() for n in networks)
        for level in levels
    }
    shown = sorted(levels, key=lambda level: -moved[level])[:most]
    fig, axes = figure(len(networks) * -(-(2 + len(shown)) // 3), 3, width=2.4, height=2.2)
    lines = axes.reshape(len(networks), -1)
    for line, network in zip(lines, networks, strict=True):
        first, of = mean.loc[network, reference], mean.loc[network]
        changes = {"noise: half - half": of.loc[HALVES[0]] - of.loc[HALVES[1]]}
        changes |= {f"{level}\nmax {moved[level]:.3f}": of.loc[level] - first for level in shown}
        limit = max(np.abs(change).to_numpy().max() for change in changes.values()) or 1.0
        sns.heatmap(first, cmap="viridis", vmin=0, square=True, ax=line[0])
        line[0].set(title=f"{network}: {reference}", ylabel="block", xlabel="looks at")
        for ax, (title, change) in zip(line[1:], changes.items(), strict=False):
            sns.heatmap(change, cmap="RdBu_r", vmin=-limit, vmax=limit, square=True, ax=ax)
            ax.set(title=title, ylabel="", xlabel="")
        for ax in line[1 + len(changes) :]:
            ax.axis("off")
    fig.suptitle("attention between gene blocks: the reference, then changes from it", fontsize=9)
    return save(fig, path)


DRAWERS = {"generation": generation, "batch_correction": correction, "response": response, "genetic": genetic}
