"""What is in a block: size, cohesion, central genes, enriched gene sets, expression, and how alike two schemes are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.transport import barycentres


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
    all_count, all_total, all_square = count.sum(), total.sum(0), square.sum()
    others = all_count - count
    with np.errstate(invalid="ignore", divide="ignore"):
        within = 2 * (count * square - (total**2).sum(1)) / (count * (count - 1))
        cross = (total * (all_total - total)).sum(1)
        between = (others * square + count * (all_square - square) - 2 * cross) / (count * others)
        within, between = np.sqrt(np.maximum(within, 0)), np.sqrt(np.maximum(between, 0))
        return pd.DataFrame({"within": within, "between": between, "cohesion": 1 - within / between})


def central_genes(vectors: np.ndarray, found: np.ndarray, blocks: GeneBlocks, n: int = 10) -> list[list[str]]:
    """For each block the n genes nearest to its barycentre, nearest first; genes without a vector are not central."""
    known, block = vectors[found], blocks.assignment[found]
    names = np.asarray(blocks.genes, dtype=object)[found]
    present, compact = np.unique(block, return_inverse=True)
    if not len(present):
        return [[] for _ in range(blocks.n_blocks)]
    distance = np.linalg.norm(known - barycentres(known, compact, len(present))[compact], axis=1)
    order = np.lexsort((distance, block))
    ranked = pd.Series(names[order], index=block[order]).groupby(level=0).head(n).groupby(level=0).agg(list)
    return [ranked.get(j, []) for j in range(blocks.n_blocks)]


def enrichment(blocks: GeneBlocks, sets: Sets) -> pd.DataFrame:
    """Over-representation of each set in each block: columns block, set, overlap, expected, p, q; the smallest p first.

    p = P(X >= overlap), X hypergeometric over the genes of the universe; q by Benjamini-Hochberg over sets and blocks.
    """
    from scipy.stats import hypergeom

    universe = np.asarray(sets.universe, dtype=bool)
    places = np.flatnonzero(universe)
    belongs = sparse.csr_array(
        (np.ones(len(places)), (places, blocks.assignment[places])), shape=(blocks.n_genes, blocks.n_blocks)
    )
    member = sparse.csr_array(sets.member)
    overlap = (member @ belongs).toarray()  # (S, L)
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
            "q": benjamini_hochberg(p.ravel()),
        }
    )
    return table.sort_values(["p", "block", "set"], kind="stable", ignore_index=True)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """(m,) false discovery rate at which each p would be called: min over larger p of p m / rank, at most 1."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def expression(blocks: GeneBlocks, data: AnnData, variable: np.ndarray) -> pd.DataFrame:
    """Per block: mean log1p expression over genes and cells, mean share of cells that express a gene, and the share of
    its genes that are `variable` (G,) bool. Columns of `data` in the order of the blocks' genes."""
    mean = np.asarray(data.X.mean(0)).ravel()
    seen = np.asarray((sparse.csr_matrix(data.X) > 0).mean(0)).ravel()
    table = pd.DataFrame({"mean_expression": mean, "detected": seen, "variable": np.asarray(variable, dtype=float)})
    return table.groupby(blocks.assignment).mean()


def variable_genes(data: AnnData, n: int = 2000) -> np.ndarray:
    """(G,) bool: the n genes (half of them, if fewer than 2 n) of largest variance over mean of the log1p values."""
    x = sparse.csr_matrix(data.X, dtype=np.float64)
    mean = np.asarray(x.mean(0)).ravel()
    dispersion = (np.asarray(x.multiply(x).mean(0)).ravel() - mean**2) / np.maximum(mean, 1e-12)
    chosen = np.zeros(len(mean), dtype=bool)
    chosen[np.argsort(-dispersion, kind="stable")[: min(n, len(mean) // 2)]] = True
    return chosen


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
    table = pd.DataFrame(
        {"size": blocks.sizes, "with_vector": np.bincount(blocks.assignment, weights=found).astype(int)}
    )
    table = table.join(cohesion(vectors, found, blocks)).join(expression(blocks, data, variable_genes(data)))
    table["central_genes"] = [", ".join(genes) for genes in central_genes(vectors, found, blocks, n_genes)]
    enriched = pd.DataFrame(columns=["block", "set", "overlap", "expected", "p", "q"])
    table["enriched_sets"], table["top_sets"] = 0, ""
    if sets is not None:
        enriched = enrichment(blocks, sets)
        called = enriched[enriched["q"] < 0.05]
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
