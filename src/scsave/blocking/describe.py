"""Description of blocks: size, cohesion, central genes, enriched gene sets, expression, and how alike two schemes are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.transport import barycentres
from scsave.data.gene_selection import variable_genes

ALPHA = 0.05  # false discovery rate at which a set counts as enriched
SHOWN = 40  # blocks that fit on a page


@dataclass(frozen=True, eq=False)
class Sets:
    """Gene sets over the genes of the blocks."""

    member: sparse.csr_array  # (S, G)
    titles: list[str]
    universe: np.ndarray  # (G,) bool: genes that any source of the sets knows


def cohesion(vectors: np.ndarray, found: np.ndarray, blocks: GeneBlocks) -> pd.DataFrame:
    """Root mean squared distances of genes with a vector, one row a block: `within` to genes of its block, `between`
    to genes of other blocks, and `cohesion` = 1 - within / between (0: no more alike than others). NaN for none.

    vectors (G, d). Pairs are not counted one by one: of n genes g and m genes h with sums s_g, s_h,
    sum_ij ||g_i - h_j||^2 = m sum ||g_i||^2 + n sum ||h_j||^2 - 2 s_g s_h.
    """
    n_blocks = blocks.n_blocks
    known, block = vectors[found].astype(np.float64), blocks.assignment[found]
    count = np.bincount(block, minlength=n_blocks).astype(float)
    total = np.zeros((n_blocks, known.shape[1]))
    np.add.at(total, block, known)
    square = np.bincount(block, weights=(known**2).sum(1), minlength=n_blocks)
    all_total, all_square, others = total.sum(0), square.sum(), count.sum() - count
    with np.errstate(invalid="ignore", divide="ignore"):
        within = 2 * (count * square - (total**2).sum(1)) / (count * (count - 1))
        cross = (total * (all_total - total)).sum(1)
        between = (others * square + count * (all_square - square) - 2 * cross) / (count * others)
        within, between = np.sqrt(np.maximum(within, 0)), np.sqrt(np.maximum(between, 0))
        return pd.DataFrame({"within": within, "between": between, "cohesion": 1 - within / between})


def central_genes(vectors: np.ndarray, found: np.ndarray, blocks: GeneBlocks, n: int = 10) -> list[list[str]]:
    """For each block the n genes nearest to its barycentre, nearest first; genes without a vector are not central."""
    known, block = vectors[found], blocks.assignment[found]
    present, compact = np.unique(block, return_inverse=True)
    if not len(present):
        return [[] for _ in range(blocks.n_blocks)]
    distance = np.linalg.norm(known - barycentres(known, compact, len(present))[compact], axis=1)
    names = pd.Series(np.asarray(blocks.genes, dtype=object)[found], index=block).iloc[np.lexsort((distance, block))]
    ranked = names.groupby(level=0).head(n).groupby(level=0).agg(list)
    return [ranked.get(j, []) for j in range(blocks.n_blocks)]


def enrichment(blocks: GeneBlocks, sets: Sets) -> pd.DataFrame:
    """Over-representation of each set in each block: columns block, set, overlap, expected, p, q; the smallest p first.

    p = P(X >= overlap), X hypergeometric over the genes of the universe; q by Benjamini-Hochberg over sets and blocks.
    """
    from scipy.stats import false_discovery_control, hypergeom

    places = np.flatnonzero(sets.universe)
    belongs = sparse.csr_array(
        (np.ones(len(places)), (places, blocks.assignment[places])), shape=(blocks.n_genes, blocks.n_blocks)
    )
    overlap = (sparse.csr_array(sets.member) @ belongs).toarray()  # (S, L)
    size = overlap.sum(1, keepdims=True)
    drawn = np.asarray(belongs.sum(0)).ravel()[None, :]
    p = hypergeom.sf(overlap - 1, len(places), size, drawn)
    rows, columns = np.indices(p.shape).reshape(2, -1)
    table = pd.DataFrame(
        {
            "block": columns,
            "set": np.asarray(sets.titles, dtype=object)[rows],
            "overlap": overlap.ravel().astype(int),
            "expected": (size * drawn / max(len(places), 1)).ravel(),
            "p": p.ravel(),
            "q": false_discovery_control(p.ravel()),
        }
    )
    return table.sort_values(["p", "block", "set"], kind="stable", ignore_index=True)


def expression(blocks: GeneBlocks, data: AnnData, variable: np.ndarray) -> pd.DataFrame:
    """Per block: mean log1p expression over genes and cells, mean share of cells that express a gene, and the share of
    its genes that are `variable` (G,) bool. Columns of `data` in the order of the blocks' genes."""
    mean = np.asarray(data.X.mean(0)).ravel()
    seen = np.asarray((sparse.csr_matrix(data.X) > 0).mean(0)).ravel()
    table = pd.DataFrame({"mean_expression": mean, "detected": seen, "variable": np.asarray(variable, dtype=float)})
    return table.groupby(blocks.assignment).mean()


def agreement(first: GeneBlocks, second: GeneBlocks) -> float:
    """Adjusted Rand index of two schemes over the same genes (1: equal, 0: as by chance)."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first.assignment, second.reindex(first.genes).assignment))


def describe(
    blocks: GeneBlocks,
    data: AnnData,
    vectors: np.ndarray,
    found: np.ndarray,
    sets: Sets | None = None,
    n_genes: int = 10,
    n_sets: int = 3,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a block with everything above; and the enrichment table (empty without sets).

    vectors (G, d) are those that distances are measured in, the same whatever the scheme, so that schemes compare.
    """
    variable = np.zeros(data.n_vars, dtype=bool)
    variable[variable_genes(data, np.arange(data.n_obs), min(2000, data.n_vars // 2))] = True
    table = pd.DataFrame(
        {"size": blocks.sizes, "with_vector": np.bincount(blocks.assignment, weights=found).astype(int)}
    )
    table = table.join(cohesion(vectors, found, blocks)).join(expression(blocks, data, variable))
    table["central_genes"] = [", ".join(genes) for genes in central_genes(vectors, found, blocks, n_genes)]
    enriched = pd.DataFrame(columns=["block", "set", "overlap", "expected", "p", "q"])
    table["enriched_sets"], table["top_sets"] = 0, ""
    if sets is not None:
        enriched = enrichment(blocks, sets)
        called = enriched[enriched["q"] < ALPHA]
        table["enriched_sets"] = called["block"].value_counts().reindex(table.index, fill_value=0)
        label = called["set"] + " (" + called["overlap"].astype(str) + ", q " + called["q"].map("{:.0e}".format) + ")"
        top = label.groupby(called["block"]).agg(lambda values: "; ".join(values[:n_sets]))
        table["top_sets"] = top.reindex(table.index).fillna("")
    return table.rename_axis("block"), enriched


def summary(table: pd.DataFrame, blocks: GeneBlocks) -> dict[str, Any]:
    """The scheme in a few numbers: mean cohesion weighted by genes with a vector, and enriched sets a block."""
    weight = table["with_vector"] * table["cohesion"].notna()
    mean = float((table["cohesion"].fillna(0) * weight).sum() / weight.sum()) if weight.sum() else float("nan")
    return {
        "scheme": blocks.scheme,
        "n_blocks": blocks.n_blocks,
        "block_size": blocks.block_size,
        "coverage": blocks.info.get("coverage"),
        "cohesion": mean,
        "enriched_sets": float(table["enriched_sets"].mean()),
    }


def draw_blocks(table: pd.DataFrame, blocks: GeneBlocks, summaries: pd.DataFrame, path: Path) -> None:
    """A figure at `path`: one row a block (the first 40) of `describe`; the last panel compares schemes' `summary`."""
    from matplotlib.figure import Figure

    shown = table.head(SHOWN)
    figure = Figure(figsize=(14, 2.2 + 0.32 * len(shown)), layout="constrained")
    *axes, last = figure.subplots(1, 4, width_ratios=[3, 2, 2, 2])
    first = [sets.split(" (")[0] or "no set enriched" for sets in shown["top_sets"]]
    labels = [f"{block}: {name} [{size}]" for block, name, size in zip(shown.index, first, shown["size"], strict=True)]
    titles = {
        "cohesion": "cohesion (1 - within / between)",
        "mean_expression": "mean log1p expression",
        "variable": "share of variable genes",
    }
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        axis.barh(range(len(shown)), shown[column].fillna(0), color="#4477aa")
        axis.set_title(title, fontsize=9)
        axis.set_yticks(range(len(shown)), labels if axis is axes[0] else [""] * len(shown), fontsize=8)
    last.barh(range(len(summaries)), summaries["cohesion"].fillna(0), color="#aa7744")
    names = [f"{row.scheme} (ARI {row.ari:.2f})" for row in summaries.itertuples()]
    last.set_yticks(range(len(summaries)), names, fontsize=8)
    last.set_title("mean cohesion, by scheme", fontsize=9)
    for axis in (*axes, last):
        axis.invert_yaxis()
    more = f", the first {SHOWN} shown" if len(table) > SHOWN else ""
    figure.suptitle(f"{blocks.scheme}: {blocks.n_genes} genes in {blocks.n_blocks} blocks{more}", fontsize=11)
    figure.savefig(path, dpi=150)
