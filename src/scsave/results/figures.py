"""Pictures of one run, drawn from the files that it left: `draw_run(folder)`. Real cells come again from the prepared cache."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.files import RESULTS
from scsave.results import cell_figures as pictures
from scsave.results.change_figures import genetic, response
from scsave.results.frame import read, weights_folder
from scsave.results.style import GENERATED, REAL, figure, legend_below, level_colors, panels, save
from scsave.stats.moments import moments

SHOWN_CELLS = 4000  # of an embedding
MOST_NAMED = 24  # blocks whose names have room
HALVES = ("half 1", "half 2")  # of the reference level's cells, in attention.csv


def draw_run(folder: Path, out: Path | None = None) -> list[Path]:
    """All pictures of a finished run, whose results.json is in `folder`, below `out` (`<folder>/figures`): what was written.

    UserError where a file of the run, or the data that it was made of, is missing (docs/results.md lists the files).
    """
    run, out = read([folder / RESULTS]).iloc[0], out or folder / "figures"
    draw = {"generation": generation, "response": response, "genetic": genetic}
    own = draw[run["registry"]](run, folder, out) if run["registry"] in draw else []
    own += [draw_integrated(out, pd.DataFrame([run]))] if run["registry"] == "batch_correction" else []
    return [*own, *losses(weights_folder(folder), out), *attention(run, folder, out)]


def generation(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """`umap.png`, `genes.png`, `violins.png`: generated.h5ad beside the real test cells."""
    generated = pictures.read_cells(run, folder / "generated.h5ad")
    cells, columns = pictures.real_cells(run)
    real = cells[pictures.test_rows(weights_folder(folder), cells), generated.var_names].copy()
    shown = [name for name in columns.conditions if real.obs[name].dtype == "category"]
    genes = pictures.marker_genes(real, columns.cell_type or (shown[0] if shown else None))
    parts = {"real": (real, REAL), "generated": (generated, GENERATED)}
    return [
        umap_by_condition(out / "umap.png", real, generated, shown),
        gene_statistics(out / "genes.png", real, generated),
        pictures.violins(out / "violins.png", parts, genes, library=True),
    ]


def umap_by_condition(path: Path, real: AnnData, generated: AnnData, shown: Sequence[str]) -> Path:
    """Real cells on the left, generated ones before the real in grey on the right; one row each condition column."""
    parts = {"real": pictures.sample_cells(real), "generated": pictures.sample_cells(generated)}
    joint = pictures.joint_umap(parts, shown)
    fig, axes = figure(1 + len(shown), 2, width=3.5, height=2.9)
    for line, column in zip(axes, ["cells", *shown], strict=True):
        levels = ["real", "generated"] if column == "cells" else list(real.obs[column].cat.categories.astype(str))
        colors = dict(zip(levels, [REAL, GENERATED] if column == "cells" else level_colors(len(levels)), strict=True))
        for ax, part in zip(line, ("real", "generated"), strict=True):
            behind = joint if part == "generated" else joint[joint.obs["cells"] == "real"]
            title = f"{part} cells" if column == "cells" else f"{part}, by {column}"
            front = (behind.obs["cells"] == part).to_numpy()
            pictures.scatter(ax, behind, column, front, colors, title, part == "generated")
        line[0].set(xlim=line[1].get_xlim(), ylim=line[1].get_ylim())
    return save(fig, path)


def gene_statistics(path: Path, real: AnnData, generated: AnnData) -> Path:
    """Each gene's mean, variance and share of zeros, generated against real."""
    fig, axes = panels(3, width=2.4, height=2.6, wrap=3)
    found = [(x.mean, x.variance, 1 - x.positive) for x in (moments(real.X), moments(generated.X))]
    for ax, name, a, b in zip(axes, ("mean of log1p", "variance of log1p", "share of zeros"), *found, strict=True):
        ax.axline((0, 0), slope=1, color="0.7", lw=1, zorder=0)
        ax.scatter(a, b, s=5, c=GENERATED, alpha=0.6, linewidths=0)
        r = np.corrcoef(a, b)[0, 1] if a.std() and b.std() else float("nan")
        ax.set(xlabel="real", ylabel="generated", title=f"{name}\nr = {r:.3f}")
    return save(fig, path)


def draw_integrated(out: Path, runs: pd.DataFrame) -> Path:
    """`umap.png`: the same cells in the embedding of each run, one row an embedding, by batch and by cell type.

    The uncorrected cells are shown once; softened components where there is one run only.
    """
    data, found = runs["config"].iloc[0]["data"], dict[str, tuple[AnnData, str]]()
    named = {keys.UNCORRECTED: "unintegrated", keys.COMPONENTS: "softened components"}
    for run in (run for _, run in runs.iterrows()):
        cells = pictures.read_cells(run, Path(run["path"]).parent / "integrated.h5ad")
        for key in sorted(cells.obsm, key=lambda key: (key != keys.UNCORRECTED, key == keys.COMPONENTS)):
            if np.ndim(cells.obsm[key]) == 2 and (key != keys.COMPONENTS or len(runs) == 1):
                found.setdefault(named.get(key, run["method"]), (cells, key))
    columns = [column for column in (data["batch_key"], data["cell_type_key"]) if column]
    fig, axes = figure(len(found), len(columns), width=3.6, height=2.7)
    for number, (line, (name, (cells, key))) in enumerate(zip(axes, found.items(), strict=True), start=1):
        scored = np.flatnonzero(~np.isnan(np.asarray(cells.obsm[key])).any(axis=1))
        shown = cells[np.random.default_rng(0).permutation(scored)[:SHOWN_CELLS]]
        shown = AnnData(obs=shown.obs[columns].astype(str), obsm={key: np.asarray(shown.obsm[key])})
        pictures.place(shown, key)
        for ax, column in zip(line, columns, strict=True):
            levels = sorted(shown.obs[column].unique())
            colors: dict[str, Any] = dict(zip(levels, level_colors(len(levels)), strict=True))
            pictures.scatter(ax, shown, column, np.ones(shown.n_obs, bool), colors, f"{name}, by {column}", False)
            if number == len(found):
                pictures.level_legend(ax, colors, "below")
    return save(fig, out / "umap.png")


def losses(folder: Path, out: Path) -> list[Path]:
    """`loss.png`: every loss of every stage against its step, from the csv log; nothing where no training was logged."""
    logs = [pd.read_csv(log) for log in sorted(folder.glob("logs/*/metrics.csv"))]
    frame = pd.concat(logs).sort_values("step", kind="stable") if logs else pd.DataFrame()
    names = [name for name in frame if name.endswith("_loss") and frame[name].notna().any()]
    stages = sorted({name.split("/")[0] for name in names})
    fig, axes = panels(len(stages)) if stages else (None, [])
    for ax, stage in zip(axes, stages, strict=True):
        for part, color, alpha, said in (("train", GENERATED, 0.5, "training"), ("val", REAL, 1, "validation")):
            if (name := f"{stage}/{part}_loss") in names:
                ax.plot(*frame[["step", name]].dropna().to_numpy().T, color=color, alpha=alpha, lw=1.2, label=said)
        ax.set(xlabel="step", ylabel="loss", title=stage)
    if fig:
        legend_below(fig, axes)
    return [save(fig, out / "loss.png")] if fig else []


def attention(run: pd.Series, folder: Path, out: Path) -> list[Path]:
    """`attention.png` from the attention.csv that `analysis=attention` writes; nothing where there is none."""
    most = (run["config"].get("analysis") or {}).get("max_levels", 6)
    path, blocks = folder / "attention.csv", folder / "blocks.csv"
    names = list(pd.read_csv(blocks, dtype=str)["name"]) if blocks.is_file() else []
    return [draw_attention(out / "attention.png", pd.read_csv(path), most, names)] if path.is_file() else []


def draw_attention(path: Path, table: pd.DataFrame, most: int, names: Sequence[str] = ()) -> Path:
    """For each network (layers averaged): the reference, the noise between its halves, the `most` levels that change most.

    `names` of the blocks stand where there is room for them; the token behind them, of some networks, is the library size.
    """
    mean = table.groupby(["network", "level", "block", "looks_at"], sort=False)["weight"].mean().unstack("looks_at")
    networks, (reference, *levels) = list(table["network"].unique()), table["level"].unique()
    of = {at: mean.loc[at].dropna(axis="columns").to_numpy() for at in product(networks, [reference, *levels])}
    change = {(network, level): values - of[network, reference] for (network, level), values in of.items()}
    size = {at: np.abs(values).max() for at, values in change.items()}
    levels = sorted(set(levels) - {*HALVES}, key=lambda level: -max(size[n, level] for n in networks))[:most]
    fig, axes = figure(len(networks) * -(-(2 + len(levels)) // 3), 3, width=2.5, height=2.0)
    for line, network in zip(axes.reshape(len(networks), -1), networks, strict=True):
        noise = of[network, HALVES[0]] - of[network, HALVES[1]]
        shown = {f"{fill(level, 18)}\nlargest {size[network, level]:.3f}": change[network, level] for level in levels}
        limit = max(np.abs(values).max() for values in (noise, *shown.values())) or 1.0
        sure, tokens = max(np.abs(noise).max(), limit / 4), len(noise)
        told = [*names, "library size"][:tokens] if names and tokens <= MOST_NAMED else []
        whole = line[0].imshow(of[network, reference], cmap="viridis", vmin=0)
        line[0].set(title=f"{network}\n{fill(reference, 18)}", ylabel="block", xlabel="looks at")
        for ax, (title, values) in zip(line[1:], {"noise: half - half": noise, **shown}.items(), strict=False):
            ax.set_title(title, fontsize=8)
            moved = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
            for block, other in np.argwhere(np.abs(values) > sure) if told else ():  # for a print without colours
                ax.text(other, block, f"{values[block, other]:+.0g}"[0], ha="center", va="center", fontsize=7)
        for number, ax in enumerate(line if told else ()):
            ax.set_yticks(range(tokens), [""] * tokens if number % 3 else told, fontsize=7)
            ax.set_xticks(range(tokens), [*map(str, range(len(names))), "lib."][:tokens], fontsize=7)
        for ax in line[2 + len(shown) :]:
            ax.axis("off")
        fig.colorbar(moved, ax=list(line[2::3]), label="change", shrink=0.8, aspect=25)
        fig.colorbar(whole, ax=line[0], label="attention", shrink=0.8)
    fig.suptitle("attention between gene blocks; changes from the first panel, + and - beyond noise", fontsize=9)
    return save(fig, path)
