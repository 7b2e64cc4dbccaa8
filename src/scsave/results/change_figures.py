"""Pictures of predicted changes: a response type by type, sets of perturbed genes by group, each against the real change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.targets import labels, with_targets
from scsave.files import FOLDS, slug
from scsave.metrics.registry import rows as registry_rows
from scsave.results import cell_figures as pictures
from scsave.results import style
from scsave.results.frame import weights_folder
from scsave.results.tables import CEILING, SHOWN, role, scores_of
from scsave.stats.expected import SHARE, TRUST

SHOWN_CELLS = 600  # of a part of a cell type
CHANGES = "changes.npz"  # of a run on sets of genes: changes of gene means by perturbation
SHOWN_GENES = 15  # of a prediction
SHOWN_GROUPS = 20  # types (and targets) that have pictures of their own, at most
NAMED = 40  # predictions of the picture of trust, at most, that bear their names
TYPES = ("pcc_delta", "r2", "w1", "energy")
UNDER_CEILING = (
    "a method may pass the ceiling: half of the real cells is noisier than a prediction from all training cells"
)


def response(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """For each type `<type>_umap.png`, `_means.png`, `_violins.png`, from predictions/<type>.h5ad; `types.png`."""
    cells, columns = pictures.real_cells(run)
    columns = with_targets(columns, cells.obs)
    level = labels(cells.obs, columns)
    kind = cells.obs[columns.cell_type].astype(str).to_numpy() if columns.cell_type else np.full(cells.n_obs, keys.ALL)
    written, weights = [], weights_folder(folder)
    for name, info in list(run["info"]["types"].items())[:SHOWN_GROUPS]:
        predicted = pictures.read_cells(run, folder / "predictions" / f"{slug(name)}.h5ad")
        of_type, target = info.get("type", name), info.get("target", run["info"]["target"])
        folds = [weights / FOLDS / slug(one) for one in (name, of_type, target)]  # what the run held out in turn
        fold = next((path for path in folds if path.is_dir()), weights)
        test = np.isin(np.arange(cells.n_obs), pictures.test_rows(fold, cells))
        here = {"control": level == columns.control, "real": test & (level == target)}
        parts = {part: cells[(kind == of_type) & rows, predicted.var_names].copy() for part, rows in here.items()}
        written += draw_type(out, name, parts["control"], parts["real"], predicted, run["method"], info["de_genes"])
    return [*written, draw_types(out / "types.png", scores_of(run)), *draw_trust(out / "trust.png", run)]


def draw_trust(path: Path, run: pd.Series) -> list[Path]:
    """What accuracy was expected of each prediction, with its interval, and what it reached; nothing where none was."""
    found = pd.DataFrame(run["info"].get(TRUST) or {}, dtype=float).T
    if found.empty or not (found := found.dropna(subset=["expected_pcc", "reached"])).shape[0]:
        return []
    found, few = found.sort_values("expected_pcc"), len(found) <= NAMED
    at, inside = np.arange(len(found)), found["reached"].between(found["low"], found["high"])
    fig, (ax,) = style.panels(1, width=5.2, height=1.4 + (0.2 if few else 0.06) * len(found))
    ax.hlines(at, found["low"], found["high"], color=style.OTHER, lw=2 if few else 1, label=f"{SHARE:.0%} interval")
    ax.scatter(found["expected_pcc"], at, marker="|", s=40, color="black", label="expected")
    for here, color, shape, what in ((inside, style.REAL, "o", "reached"), (~inside, style.GENERATED, "X", "outside")):
        ax.scatter(found["reached"][here], at[here], s=20, color=color, marker=shape, label=what, zorder=3)
    ax.set_yticks(at if few else [], found.index if few else [], fontsize=7)
    ax.set(xlabel="change-PCC", title=f"{run['method']}: the interval holds {inside.sum()} of {len(found)}")
    style.legend_below(fig, [ax])
    return [style.save(fig, path)]


def draw_predicted(path: Path, genes: pd.DataFrame, trust: pd.DataFrame) -> Path:
    """A panel a prediction (a row of `trust`): the genes of a table of genes that change most, with their intervals, and the
    accuracy to expect. Genes that the file lacks are left out."""
    shown = list(genes[genes["in_file"]].groupby([c for c in ("cell_type", "target") if c in genes], sort=False))
    fig, axes = style.panels(min(len(shown), SHOWN_GROUPS), width=2.9, height=2.9, wrap=min(len(shown), 3))
    for ax, (_, own), (name, row) in zip(axes, shown, trust.iterrows(), strict=False):
        own = own.loc[own["change"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN_GENES][::-1]]
        spread = np.nan_to_num(np.abs(own[["low", "high"]].to_numpy().T - own["change"].to_numpy()))
        color, at = [style.OTHER if one == "unclear" else style.GENERATED for one in own["direction"]], range(len(own))
        ax.errorbar(own["change"], at, xerr=spread, ecolor=color, fmt="none", lw=1.5)
        ax.scatter(own["change"], at, c=color, s=14, zorder=3)
        ax.axvline(0, color="black", lw=0.5)
        ax.set_yticks(at, own["gene"], fontsize=7)
        known = np.isfinite(row["expected_pcc"])
        reach = f"{row['expected_pcc']:.2f} ({row['low']:.2f} to {row['high']:.2f})" if known else "not known"
        ax.set_title(f"{name}\nexpected change-PCC {reach}", fontsize=8)
        ax.set_xlabel(f"change of log1p, {own['interval_over'].iloc[0]}", fontsize=8)
        ax.locator_params(axis="x", nbins=4)
    more = f", {len(axes)} of {len(shown)} predictions" if len(shown) > len(axes) else ""
    fig.suptitle(f"genes that change most, with {SHARE:.0%} intervals{more}", fontsize=9)
    return style.save(fig, path)


def draw_type(
    out: Path, name: str, control: AnnData, real: AnnData, predicted: AnnData, row: str, de_genes: Sequence[str]
) -> list[Path]:
    """UMAPs, changes of gene means and violins of one cell type; `row` is what predicted its cells."""
    # a handful of control cells is repeated for predicting, under names that end in -0, -1, ...: each is shown once
    once = predicted[~predicted.obs_names.str.replace(r"-\d+$", "", regex=True).duplicated()]
    parts = {"control": (control, style.CONTROL), row: (predicted, style.GENERATED), "real": (real, style.REAL)}
    placed = {part: once if part == row else cells for part, (cells, _) in parts.items()}
    joint = pictures.joint_umap({part: pictures.sample_cells(cells, SHOWN_CELLS) for part, cells in placed.items()})
    fig, axes = style.figure(1, 3, width=2.4, height=2.4)
    said = {"control": "control", row: f"predicted ({row})", "real": "real"}
    for ax, (part, (_, color)) in zip(axes[0], parts.items(), strict=True):
        shown = (joint.obs["cells"] == part).to_numpy()
        pictures.scatter(ax, joint, "cells", shown, {part: color}, f"{said[part]}, {shown.sum()} cells", legend=False)
    fig.suptitle(f"{name}: each among the other two in grey", fontsize=9)
    before, x, y = (np.asarray(cells.X.mean(axis=0)).ravel() for cells in (control, real, predicted))
    means, (ax,) = style.panels(1, width=4.6, height=3.8)
    agreement(ax, x - before, y - before, control.var_names, control.var_names.get_indexer(list(de_genes[:10])))
    ax.set(title=f"{name}: change of gene means, {row}", xlabel="real change of log1p", ylabel="predicted change")
    genes = dict.fromkeys(de_genes[:6] or control.var_names[:1], "")
    return [
        style.save(fig, out / f"{slug(name)}_umap.png"),
        style.save(means, out / f"{slug(name)}_means.png"),
        pictures.violins(out / f"{slug(name)}_violins.png", parts, genes, library=False),
    ]


def agreement(ax: Any, x: np.ndarray, y: np.ndarray, names: Sequence[str], named: Sequence[int]) -> None:
    """Predicted against real change of each gene, (G,) each, the diagonal, and the names of some genes.

    Both axes have the same limits, so that a change that is predicted too small looks too small. Names stand in the two
    corners that a right prediction leaves empty: of genes that fall at the upper left, of those that rise at the lower right.
    """
    ax.axline((0, 0), slope=1, color="black", lw=0.5)
    ax.scatter(x, y, s=5, c=style.OTHER, linewidths=0, alpha=0.6)
    ax.scatter(x[named], y[named], s=12, c=style.GENERATED, marker="D", linewidths=0)
    line = {"arrowstyle": "-", "lw": 0.3, "color": style.OTHER}
    for falls, at, ha in ((True, 0.02, "left"), (False, 0.98, "right")):
        listed = sorted((gene for gene in named if (x[gene] < 0) == falls), key=lambda gene: x[gene])
        for number, gene in enumerate(listed if falls else reversed(listed)):
            height = 0.97 - 0.075 * number if falls else 0.03 + 0.075 * number
            ax.annotate(
                names[gene], (x[gene], y[gene]), (at, height), textcoords="axes fraction", fontsize=7, ha=ha, va="center",
                arrowprops=line, bbox={"fc": "white", "ec": "none", "pad": 0.3},
            )  # fmt: skip
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    edge = 0.08 * ((high - low) or 1.0)
    ax.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), box_aspect=1)


def draw_types(path: Path, scores: Mapping[str, Any]) -> Path:
    """Every held-out type and row, entries of one type beside each other; the ceiling is a black bar."""
    import seaborn as sns

    rows, known = list(scores), registry_rows("response")
    types = [name for name in next(iter(scores.values())) if name != keys.ALL]
    lines = [(row, name, *(scores[row][name].get(m, np.nan) for m in TYPES)) for row in rows for name in types]
    frame = pd.DataFrame(lines, columns=["row", "type", *TYPES])
    fig, axes = style.panels(len(TYPES), width=3.6, height=0.8 + len(types) * (0.12 + 0.09 * len(rows)))
    colors, markers = style.level_colors(len(rows)), [style.MARKERS[n % len(style.MARKERS)] for n in range(len(rows))]
    for n in (n for n, row in enumerate(rows) if row == CEILING):
        colors[n], markers[n] = "black", "|"
    look = {"palette": colors, "markers": markers, "markersize": 3.5, "linestyle": "none", "dodge": 0.8}
    for ax, metric in zip(axes, TYPES, strict=True):
        sns.pointplot(frame, x=metric, y="type", hue="row", hue_order=rows, errorbar=None, ax=ax, **look)
        for n in range(0, len(types), 2):
            ax.axhspan(n - 0.5, n + 0.5, color="0.96", zorder=0)
        ax.set(title=f"{known[metric].label} {known[metric].arrow}", xlabel="", ylabel="")
        ax.tick_params(axis="y", labelleft=ax.get_subplotspec().is_first_col())
    style.legend_below(fig, axes, UNDER_CEILING if CEILING in rows else "")
    return style.save(fig, path)


def genetic(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """`groups.png` from results.json; `perturbations.png` and `interactions.png` from changes.npz."""
    info, scores, row = run["info"], scores_of(run), run["method"]
    with np.load(pictures.there(run, folder / CHANGES), allow_pickle=False) as found:
        changes = dict(found)
    quality = pd.DataFrame(info["per_perturbation"][row]).T["pcc_delta"].astype(float).fillna(-1)
    written = [
        draw_groups(out / "groups.png", info, scores),
        draw_perturbations(out / "perturbations.png", changes, quality, info["group_of"]),
    ]
    if (r := info["interactions"].get(row)) is not None:
        known = ~np.isnan(changes["additive"]).any(axis=1) & ["+" in str(name) for name in changes["perturbations"]]
        x, y = ((changes[key] - changes["additive"])[known].ravel() for key in ("truth", "change"))
        names = [f"{gene} in {pair}" for pair in changes["perturbations"][known] for gene in changes["panel"]]
        fig, (ax,) = style.panels(1, width=4.6, height=4.2)
        agreement(ax, x, y, names, np.argsort(-np.abs(x))[:6])
        ax.axhline(0, color="black", lw=0.5, ls=":")
        ax.set(xlabel="real change minus additive", ylabel="predicted", title=f"interactions, r {r:.2f}; dotted: none")
        written.append(style.save(fig, out / "interactions.png"))
    return [*written, *draw_trust(out / "trust.png", run)]


def draw_perturbations(path: Path, changes: Mapping[str, np.ndarray], quality: pd.Series, group_of: Mapping) -> Path:
    """Predicted against real change of the best, median and worst perturbation of each group, each once."""
    names = [str(name) for name in changes["perturbations"]]
    groups = pd.Series({name: group_of.get(name, keys.ALL) for name in names})
    fig, axes = style.figure(groups.nunique(), 3, width=2.4, height=2.5)
    for line, (group, members) in zip(axes, groups.groupby(groups), strict=True):
        ranked = list(quality[members.index].sort_values(ascending=False).index)
        places = {0: "best", len(ranked) - 1: "worst", len(ranked) // 2: "median"}
        places |= {0: "best"} | ({1: "worst"} if len(ranked) == 2 else {})  # a group of two has no median
        for ax, (at, what) in zip(line, sorted(places.items()), strict=False):
            x, y = (changes[key][names.index(ranked[at])] for key in ("truth", "change"))
            agreement(ax, x, y, changes["panel"], np.argsort(-np.abs(x))[:3])
            ax.set(xlabel="real change of log1p", ylabel="" if at else "predicted")
            ax.set_title(f"{group}, {what} of {len(ranked)}\n{ranked[at]} (r {quality[ranked[at]]:.2f})", fontsize=8)
        for ax in line[len(places) :]:
            ax.axis("off")
    return style.save(fig, path)


def draw_groups(path: Path, info: Mapping[str, Any], scores: Mapping[str, Any]) -> Path:
    """Mean and bootstrap 95% interval of every row, by group of perturbations."""
    names = [group for group in next(iter(scores.values())) if info["counts"].get(group)]
    names = names[1:] if len(names) == 2 else names  # one group is all there is
    metrics, rows, known = SHOWN["genetic"], list(scores), registry_rows("genetic")
    labels = [row if not role(row) or role(row) == row else f"{row} ({role(row)})" for row in rows]
    fig, axes = style.panels(len(metrics), width=3.6, height=1.0 + len(rows) * (0.16 + 0.09 * len(names)))
    for ax, metric in zip(axes, metrics, strict=True):
        for n, (group, color) in enumerate(zip(names, style.level_colors(len(names)), strict=True)):
            value = np.array([scores[row][group][metric] for row in rows], dtype=float)
            bounds = np.array([info["intervals"][row][group][metric] for row in rows], dtype=float)
            at = np.arange(len(rows)) + 0.7 * ((n + 0.5) / len(names) - 0.5)
            spread = np.nan_to_num(np.abs(bounds.T - value))
            ax.errorbar(value, at, xerr=spread, color=color, marker=style.MARKERS[n], ms=3, lw=1, ls="", label=group)
        for n in range(0, len(rows), 2):
            ax.axhspan(n - 0.5, n + 0.5, color="0.96", zorder=0)
        ax.set_yticks(range(len(rows)), labels if ax.get_subplotspec().is_first_col() else [], fontsize=8)
        ax.set(title=f"{known[metric].label} {known[metric].arrow}", ylim=(len(rows) - 0.5, -0.5))
    style.legend_below(fig, axes, UNDER_CEILING if CEILING in rows else "")
    return style.save(fig, path)
