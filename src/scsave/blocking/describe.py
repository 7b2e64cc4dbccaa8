"""Description of blocks: how alike their genes are, their central genes, enriched gene sets, and how alike schemes are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.transport import barycentres

ALPHA = 0.05  # false discovery rate at which a set counts as enriched


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
    known, block = vectors[found].astype(np.float64), blocks.assignment[found]
    count = np.bincount(block, minlength=blocks.n_blocks).astype(float)
    total = np.zeros((blocks.n_blocks, known.shape[1]))
    np.add.at(total, block, known)
    square = np.bincount(block, weights=(known**2).sum(1), minlength=blocks.n_blocks)
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
    belongs = np.eye(blocks.n_blocks)[blocks.assignment] * np.asarray(sets.universe)[:, None]  # (G, L)
    overlap = sparse.csr_array(sets.member) @ belongs  # (S, L)
    size, drawn = overlap.sum(1, keepdims=True), belongs.sum(0)
    p = hypergeom.sf(overlap - 1, len(places), size, drawn)
    rows, columns = np.indices(p.shape).reshape(2, -1)
    table = pd.DataFrame({"block": columns, "set": np.asarray(sets.titles, dtype=object)[rows]})
    table["overlap"] = overlap.ravel().astype(int)
    table["expected"] = (size * drawn / max(len(places), 1)).ravel()
    table["p"], table["q"] = p.ravel(), false_discovery_control(p.ravel())
    return table.sort_values(["p", "block", "set"], kind="stable", ignore_index=True)


def block_names(blocks: GeneBlocks, sets: Sets, longest: int = 24) -> list[str]:
    """`3 translation`: a block's number and the set that it is most enriched in; the number alone where it is in none."""
    names = [str(number) for number in range(blocks.n_blocks)]
    if not sets.universe.any() or not sets.titles:
        return names
    called = enrichment(blocks, sets).query("q < @ALPHA").drop_duplicates("block").set_index("block")["set"]
    shown = {block: f"{title[: longest - 1]}…" if len(title) > longest else title for block, title in called.items()}
    return [f"{name} {shown[number]}" if number in shown else name for number, name in enumerate(names)]


def agreement(first: GeneBlocks, second: GeneBlocks) -> float:
    """Adjusted Rand index of two schemes over the same genes (1: equal, 0: as by chance)."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first.assignment, second.reindex(first.genes).assignment))


def describe(blocks: GeneBlocks, vectors: np.ndarray, found: np.ndarray, sets: Sets, n_sets: int = 3) -> tuple:
    """One row a block with everything above; and the enrichment table.

    vectors (G, d) are those that distances are measured in, the same whatever the scheme, so that schemes compare.
    """
    known = np.bincount(blocks.assignment, weights=found).astype(int)
    table = pd.DataFrame({"size": blocks.sizes, "with_vector": known}).join(cohesion(vectors, found, blocks))
    table["central_genes"] = [", ".join(genes) for genes in central_genes(vectors, found, blocks)]
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
    numbers = {"n_blocks": blocks.n_blocks, "block_size": blocks.block_size, "coverage": blocks.info.get("coverage")}
    return {"scheme": blocks.scheme, **numbers, "cohesion": mean, "enriched_sets": float(table["enriched_sets"].mean())}
