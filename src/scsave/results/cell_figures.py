"""What pictures of one run are made of: its cells, real ones from the prepared cache, UMAPs, marker genes, violins."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.components import build
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.results.style import GREY, MARKERS, panels, save
from scsave.stats.moments import moments
from scsave.threads import keep_compiled, own_threads

MAX_CELLS, MAX_LEVELS = 5000, 20  # cells of a part, levels that a legend names


def there(run: pd.Series, path: Path) -> Path:
    """The path of a file that the run wrote; UserError, saying how it is made, where it is not there."""
    if not path.is_file():
        raise UserError(f"{path}: not there; run it again: {run['command'] or 'python train.py'}")
    return path


def read_cells(run: pd.Series, path: Path) -> AnnData:
    return anndata.read_h5ad(there(run, path))


def real_cells(run: pd.Series) -> tuple[AnnData, Columns]:
    """The cells of a run's data as they were prepared, all genes, and their columns; UserError where they can't be had."""
    cache = Path(run["config"]["paths"]["cache"])
    source = build(run["config"]["data"], "data").fitted(cache)
    return source.load(cache), source.roles


def test_rows(folder: Path, cells: AnnData) -> np.ndarray:
    """Positions of the test cells by the split.csv of a run's folder, or of a fold's."""
    return Split.load(folder / "split.csv", cells.obs_names).test


def sample_cells(data: AnnData, n: int = MAX_CELLS, seed: int = 0) -> AnnData:
    return data[np.sort(np.random.default_rng(seed).permutation(data.n_obs)[:n])]


def joint_umap(parts: Mapping[str, AnnData], columns: Sequence[str] = (), n_genes: int = 2000) -> AnnData:
    """All parts on one UMAP, in random order so that none hides another; `obs["cells"]` names each cell's part.

    The PCA is fitted on all of them: for looking, not for measuring.
    """
    import scanpy as sc

    parts = {name: AnnData(part.X, part.obs[[*columns]].astype(str), part.var[[]]) for name, part in parts.items()}
    joint = anndata.concat(parts, label="cells", index_unique="-")
    genes = np.sort(np.argsort(-moments(joint.X).variance, kind="stable")[:n_genes])
    joint = joint[np.random.default_rng(0).permutation(joint.n_obs), genes].copy()
    sc.pp.pca(joint, n_comps=min(30, *(size - 1 for size in joint.shape)))
    return place(joint, "X_pca")


def place(cells: AnnData, basis: str) -> AnnData:
    """`obsm["X_umap"]` from an embedding, loosely packed so that islands fill the plane; outliers are drawn in to the rest."""
    import scanpy as sc

    keep_compiled()
    with own_threads():
        sc.pp.neighbors(cells, n_neighbors=min(15, cells.n_obs - 1), use_rep=basis, random_state=0)
        sc.tl.umap(cells, min_dist=1.0, random_state=0)
    low, high = np.quantile(cells.obsm["X_umap"], [0.005, 0.995], axis=0)
    margin = 0.05 * (high - low)
    cells.obsm["X_umap"] = np.clip(cells.obsm["X_umap"], low - margin, high + margin)
    return cells


def scatter(
    ax: Any, cells: AnnData, column: str, shown: np.ndarray, colors: Mapping[str, Any], title: str, legend: bool
) -> None:
    """The cells of the mask `shown`, coloured and marked by the levels of `column`, before all others in grey.

    Up to as many levels as there are markers each has its own, so that a print without colours can be read; levels take
    turns, so that none lies over the others.
    """
    names, at = cells.obs[column].astype(str).to_numpy(), cells.obsm["X_umap"]
    levels = [level for level in colors if (names == level).any()]
    marker = markers_of(colors)
    look = {"s": float(np.clip(12_000 / len(at), 4, 22)), "linewidths": 0}
    ax.scatter(*at[~shown].T, color=GREY, zorder=1, **look)
    for part in np.array_split(np.flatnonzero(shown), 8):
        for level in levels:
            here = part[names[part] == level]
            ax.scatter(*at[here].T, color=[colors[level]], marker=marker.get(level, "o"), zorder=2, **look)
    low, high = at.min(axis=0), at.max(axis=0)
    edge = 0.04 * (high - low)
    ax.set(xlim=(low[0] - edge[0], high[0] + edge[0]), ylim=(low[1] - edge[1], high[1] + edge[1]), xticks=[], yticks=[])
    ax.set_title(title)
    for side in ax.spines.values():
        side.set(visible=True, color=GREY)
    if legend:
        level_legend(ax, {level: colors[level] for level in levels}, "right", marker)


def level_legend(ax: Any, colors: Mapping[str, Any], where: str, marker: Mapping[str, str] | None = None) -> None:
    """What colours and markers stand for, "right" of the panel or "below" it; nothing where levels are too many to name."""
    from matplotlib.lines import Line2D

    marker = markers_of(colors) if marker is None else marker
    point = {"ls": "", "ms": 5, "mew": 0}
    handles = [Line2D([], [], color=colors[one], marker=marker.get(one, "o"), label=one, **point) for one in colors]
    look = {"right": ("center left", (1.0, 0.5), 1), "below": ("upper center", (0.5, -0.02), 3)}[where]
    if len(handles) <= MAX_LEVELS:
        ax.legend(
            handles=handles, loc=look[0], bbox_to_anchor=look[1], ncols=look[2], frameon=False, fontsize=8,
            handletextpad=0.2, columnspacing=0.8,
        )  # fmt: skip


def markers_of(colors: Mapping[str, Any]) -> dict[str, str]:
    """A marker a level; none where there are more levels than markers."""
    return dict(zip(colors, MARKERS, strict=False)) if len(colors) <= len(MARKERS) else {}


def marker_genes(cells: AnnData, key: str | None, n: int = 5) -> dict[str, str]:
    """Genes to look at, and the level of `key` that each marks (t-test against the rest): of the largest levels, then more.

    Without `key`, or with one level, the genes that vary most mark nothing.
    """
    import scanpy as sc

    names = cells.obs[key].astype(str) if key else pd.Series("", cells.obs_names)
    sizes = names.value_counts()
    levels = list(sizes[sizes > 1].index)
    if len(levels) < 2:
        return dict.fromkeys(cells.var_names[np.argsort(-moments(cells.X).variance, kind="stable")[:n]], "")
    obs = pd.DataFrame({"level": names.astype("category")})
    told = AnnData(cells.X, obs, cells.var[[]], uns={"log1p": {"base": None}})
    sc.tl.rank_genes_groups(told, "level", groups=levels, method="t-test")
    ranked = pd.DataFrame(told.uns["rank_genes_groups"]["names"])[levels].head(n)
    found: dict[str, str] = {}
    for level, gene in ranked.stack().droplevel(0).items():
        found.setdefault(gene, level)
    return dict(list(found.items())[:n])


def violins(path: Path, parts: Mapping[str, tuple[AnnData, str]], genes: Mapping[str, str], library: bool) -> Path:
    """One panel a gene (and the library size), one violin a part; `genes` with what each marks, log1p of counts per 10,000."""
    import seaborn as sns

    def values(cells: AnnData, gene: str) -> np.ndarray:
        x = cells[:, gene].X if gene else np.log10(cells.obs[keys.LIBRARY].to_numpy())
        return (x.toarray() if hasattr(x, "toarray") else np.asarray(x)).ravel()

    shown = {"": "log10 of library size"} | dict(genes) if library else genes
    fig, axes = panels(len(shown), width=2.4, height=2.4, wrap=3)
    colors = [color for _, color in parts.values()]
    for ax, (gene, of) in zip(axes, shown.items(), strict=True):
        found = pd.DataFrame({name: pd.Series(values(cells, gene)) for name, (cells, _) in parts.items()})
        sns.violinplot(found, palette=colors, cut=0, inner="quart", linewidth=0.8, density_norm="width", ax=ax)
        ax.set_title(f"{gene}\n{fill(of, 22)}".strip(), fontsize=8)
        left = ax.get_subplotspec().is_first_col() or not library
        ax.set_ylabel("log1p of counts per 10,000" if gene and left else "", fontsize=8)
    return save(fig, path)
