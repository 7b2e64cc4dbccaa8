"""Pictures of predicted changes: a response type by type, sets of perturbed genes by group, each against the real change."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError
from scsave.files import FOLDS, slug
from scsave.metrics.registry import rows as registry_rows
from scsave.results.cell_figures import (
    joint_umap,
    read_cells,
    real_cells,
    sample_cells,
    scatter,
    scores_of,
    test_rows,
    violins,
)
from scsave.results.figures import GENERATED, MARKERS, OTHER, REAL, figure, legend_below, level_colors, panels, save
from scsave.results.table import CEILING, role
from scsave.results.tables import shown_metrics

SHOWN_CELLS = 600  # of a part of a cell type
CONTROL = "#5A5A5A"
CHANGES = "changes.npz"  # of a run on sets of genes: changes of gene means by perturbation
TYPES = ("pcc_delta", "r2", "w1", "energy")
UNDER_CEILING = (
    "a method may pass the ceiling: half of the real cells is noisier than a prediction from all training cells"
)


def response(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """For each type `<type>_umap.png`, `_means.png`, `_violins.png`, from predictions/<type>.h5ad; `types.png`."""
    cells, columns = real_cells(run)
    level = cells.obs[columns.perturbation].astype(str).to_numpy()
    kind = cells.obs[columns.cell_type].astype(str).to_numpy() if columns.cell_type else np.full(cells.n_obs, keys.ALL)
    written = []
    for name, info in run["info"]["types"].items():
        predicted = read_cells(run, folder / "predictions" / f"{slug(name)}.h5ad")
        fold = folder / FOLDS / slug(name)
        test = np.isin(np.arange(cells.n_obs), test_rows(fold if fold.is_dir() else folder, cells))
        of = {"control": level == columns.control, "real": test & (level == run["info"]["target"])}
        parts = {part: cells[(kind == name) & rows, predicted.var_names].copy() for part, rows in of.items()}
        written += draw_type(out, name, parts["control"], parts["real"], {run["method"]: predicted}, info["de_genes"])
    return [*written, draw_types(out, scores_of(run))]


def draw_type(
    out: Path, name: str, control: AnnData, real: AnnData, predicted: Mapping[str, AnnData], de_genes: Sequence[str]
) -> list[Path]:
    """UMAPs, changes of gene means and violins of one cell type; of `predicted`, by row, the first is shown."""
    row, cells = next(iter(predicted.items()))
    # a handful of control cells is repeated for predicting, under names that end in -0, -1, ...: each is shown once
    once = cells[~cells.obs_names.str.replace(r"-\d+$", "", regex=True).duplicated()]
    parts = {part: sample_cells(c, SHOWN_CELLS) for part, c in (("control", control), (row, once), ("real", real))}
    looks = dict(zip(parts, (CONTROL, GENERATED, REAL), strict=True))
    joint = joint_umap(parts)
    fig, axes = figure(1, 3, width=2.4, height=2.4)
    for ax, (part, color) in zip(axes[0], looks.items(), strict=True):
        shown = (joint.obs["cells"] == part).to_numpy()
        scatter(ax, joint, "cells", shown, {part: color}, f"{part}, {shown.sum()} cells", legend=False)
    fig.suptitle(f"{name}: each among the other two in grey", fontsize=9)
    change = {
        part: np.asarray(c.X.mean(axis=0)).ravel() for part, c in (("control", control), ("real", real), (row, cells))
    }
    x, y = change["real"] - change["control"], change[row] - change["control"]
    means, axes = panels(1, width=4.6, height=3.8)
    agreement(axes[0], x, y, list(control.var_names), [list(control.var_names).index(gene) for gene in de_genes[:10]])
    axes[0].set(title=f"{name}: change of gene means, {row}", xlabel="real change of log1p", ylabel="predicted change")
    genes = dict.fromkeys(de_genes[:6] or control.var_names[:1], "")
    violin = {part: (c, looks[part]) for part, c in (("control", control), (row, cells), ("real", real))}
    stem = slug(name)
    return [
        save(fig, out / f"{stem}_umap.png"),
        save(means, out / f"{stem}_means.png"),
        violins(out / f"{stem}_violins.png", violin, genes, library=False),
    ]


def agreement(ax, x: np.ndarray, y: np.ndarray, names: Sequence[str], named: Sequence[int], size: float = 5) -> None:
    """Predicted against real change of each gene, (G,) each, the diagonal, and the names of some genes beside them."""
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    ax.plot(ends, ends, color="black", lw=0.5)
    ax.scatter(x, y, s=size, c=OTHER, linewidths=0, alpha=0.6)
    ax.scatter(x[named], y[named], s=2 * size, c=GENERATED, linewidths=0)
    span = (ends[1] - ends[0]) or 1.0
    for gene, height in zip(named, apart(y[named], span / 20), strict=True):
        line = {"arrowstyle": "-", "lw": 0.3, "color": OTHER}
        ax.annotate(
            names[gene], (x[gene], y[gene]), (x[gene] + span / 25, height), fontsize=6, va="center", arrowprops=line
        )
    ax.margins(x=0.18)


def apart(y: np.ndarray, gap: float) -> np.ndarray:
    """Heights of labels of points at `y`: in the points' order, at least `gap` from one another."""
    order, out = np.argsort(y), np.array(y, dtype=float)
    for below, above in itertools.pairwise(order):
        out[above] = max(out[above], out[below] + gap)
    return out


def draw_types(out: Path, scores: Mapping[str, Any]) -> Path:
    """`types.png`: every held-out type and row, methods between the no-skill rows and the ceiling."""
    types = [group for group in next(iter(scores.values())) if group != keys.ALL]
    lines = [
        (row, name, *(groups[name].get(m, np.nan) for m in TYPES)) for row, groups in scores.items() for name in types
    ]
    frame = pd.DataFrame(lines, columns=["row", "type", *TYPES])
    return save(
        by_row(frame, "type", "row", TYPES, "response", height=1.0 + 0.3 * len(types) + 0.02 * len(lines)),
        out / "types.png",
    )


def by_row(frame: pd.DataFrame, y: str, hue: str, metrics: Sequence[str], registry: str, height: float):
    """A panel a metric: one point an entry, entries of one line beside each other; the ceiling is a black bar."""
    import seaborn as sns

    names, known = list(dict.fromkeys(frame[hue])), registry_rows(registry)
    fig, axes = panels(len(metrics), width=3.6, height=height)
    colors = [
        "black" if name == CEILING else color for name, color in zip(names, level_colors(len(names)), strict=True)
    ]
    markers = ["|" if name == CEILING else MARKERS[n % len(MARKERS)] for n, name in enumerate(names)]
    for ax, metric in zip(axes, metrics, strict=True):
        look = {
            "palette": colors,
            "markers": markers,
            "linestyle": "none",
            "dodge": 0.7,
            "markersize": 4,
            "errorbar": None,
        }
        sns.pointplot(frame, x=metric, y=y, hue=hue, hue_order=names, ax=ax, **look)
        for n in range(0, frame[y].nunique(), 2):
            ax.axhspan(n - 0.5, n + 0.5, color="0.96", zorder=0)
        ax.set(title=f"{known[metric].label} {known[metric].arrow}", xlabel="", ylabel="")
        ax.tick_params(axis="y", labelleft=ax.get_subplotspec().is_first_col())
    legend_below(fig, axes, UNDER_CEILING if CEILING in names else "")
    return fig


def genetic(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """`groups.png` from results.json; `perturbations.png` and `interactions.png` from changes.npz."""
    path = folder / CHANGES
    if not path.is_file():
        raise UserError(f"{path}: not there; run it again: {run['command'] or 'python train.py'}")
    with np.load(path, allow_pickle=False) as found:
        changes = dict(found)
    return draw_genetic_run(out, run["method"], changes, run["info"], scores_of(run))


def draw_genetic_run(
    out: Path, row: str, changes: Mapping[str, np.ndarray], info: Mapping, scores: Mapping
) -> list[Path]:
    quality = pd.DataFrame(info["per_perturbation"][row]).T["pcc_delta"].astype(float).fillna(-1)
    written = [draw_perturbations(out, changes, quality, info["group_of"]), draw_groups(out, info, scores)]
    if (r := info["interactions"].get(row)) is not None:
        known = ~np.isnan(changes["additive"]).any(axis=1) & np.char.count(changes["perturbations"], "+").astype(bool)
        x, y = ((changes[key] - changes["additive"])[known].ravel() for key in ("truth", "change"))
        fig, axes = panels(1, width=3.8, height=3.6)
        agreement(axes[0], x, y, [], [])
        axes[0].set(
            xlabel="real change minus additive", ylabel="predicted minus additive", title=f"interactions, r {r:.2f}"
        )
        written.append(save(fig, out / "interactions.png"))
    return written


def draw_perturbations(out: Path, changes: Mapping[str, np.ndarray], quality: pd.Series, group_of: Mapping) -> Path:
    """Predicted against real change of the best, median and worst perturbation of each group."""
    names = [str(name) for name in changes["perturbations"]]
    groups = pd.Series({name: group_of.get(name, keys.ALL) for name in names})
    fig, axes = figure(groups.nunique(), 3, width=2.4, height=2.5)
    for line, (group, members) in zip(axes, groups.groupby(groups), strict=True):
        shown = chosen(list(quality[members.index].sort_values(ascending=False).index))
        for ax, what in zip(line, ("best", "median", "worst"), strict=True):
            if what not in shown:
                ax.axis("off")
                continue
            x, y = (changes[key][names.index(shown[what])] for key in ("truth", "change"))
            agreement(ax, x, y, changes["panel"], np.argsort(-np.abs(x))[:3])
            title = f"{group}, {what} of {len(members)}\n{shown[what]} (r {quality[shown[what]]:.2f})"
            ax.set_title(title, fontsize=8)
            ax.set(xlabel="real change of log1p", ylabel="predicted" if what == "best" else "")
    return save(fig, out / "perturbations.png")


def chosen(ranked: list[str]) -> dict[str, str]:
    """Best, median and worst of a ranking, each perturbation once: a group of two has no median."""
    places = {"best": 0, "worst": len(ranked) - 1, "median": len(ranked) // 2}
    out: dict[str, str] = {}
    for what, at in places.items():
        if ranked[at] not in out.values():
            out[what] = ranked[at]
    return out


def draw_groups(out: Path, info: Mapping, scores: Mapping[str, Any]) -> Path:
    """`groups.png`: mean and bootstrap 95% interval of every row, by group of perturbations."""
    names = [group for group in next(iter(scores.values())) if info["counts"].get(group)]
    names = names[1:] if len(names) == 2 else names  # one group is all there is
    metrics, rows, known = shown_metrics("genetic"), list(scores), registry_rows("genetic")
    fig, axes = panels(len(metrics), width=3.6, height=1.0 + len(rows) * (0.16 + 0.09 * len(names)))
    colors = level_colors(len(names))
    for ax, metric in zip(axes, metrics, strict=True):
        for n, (group, color) in enumerate(zip(names, colors, strict=True)):
            value = np.array([scores[row][group][metric] for row in rows], dtype=float)
            bounds = np.array([info["intervals"][row][group][metric] for row in rows], dtype=float)
            at = np.arange(len(rows)) + 0.7 * ((n + 0.5) / len(names) - 0.5)
            spread = np.nan_to_num(np.abs(bounds.T - value))
            ax.errorbar(value, at, xerr=spread, color=color, marker=MARKERS[n], ms=3, lw=1, ls="", label=group)
        labels = [row if not role(row) or role(row) == row else f"{row} ({role(row)})" for row in rows]
        ax.set_yticks(range(len(rows)), labels if ax.get_subplotspec().is_first_col() else [], fontsize=7)
        ax.set(title=f"{known[metric].label} {known[metric].arrow}")
        ax.invert_yaxis()
    legend_below(fig, axes, UNDER_CEILING if CEILING in rows else "")
    return save(fig, out / "groups.png")
