"""Fold changes of cell types in corrected expression, against those before and between batches (evaluation.md).

A fold change is a difference of mean log1p expression, a type's cells against the other cells *of its batch*: what
batch does to a gene cancels, so that the uncorrected cells are a fair reference.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from scsave.metrics.differential import top_genes, welch_t
from scsave.stats.aggregate import NAN, mean_of
from scsave.stats.agreement import pearson
from scsave.stats.moments import Matrix, Moments, group_moments, rest_of

MARKERS = 50
TYPE_CELLS = 20  # cells that a type needs in a batch, and that the batch needs beside it


@dataclass(frozen=True)
class FoldChanges:
    """Type against rest within each batch that has enough cells of both."""

    pairs: list[tuple[int, int]]  # (batch, type) of each row
    change: np.ndarray  # (rows, G)
    t: np.ndarray  # (rows, G) Welch's t


def fold_changes(x: Matrix, batch: np.ndarray, kind: np.ndarray) -> FoldChanges:
    """Fold changes of log1p `x` (N, G) for codes of batch and type, (N,) each."""
    n_batches, n_types = int(batch.max()) + 1, int(kind.max()) + 1
    inside = group_moments(x, batch * n_types + kind, n_batches * n_types)
    whole = group_moments(x, batch, n_batches)
    of_row = np.repeat(np.arange(n_batches), n_types)
    around = Moments(whole.n[of_row], whole.mean[of_row], whole.variance[of_row], whole.positive[of_row])
    outside = rest_of(inside, around)
    tested = np.flatnonzero((inside.n >= TYPE_CELLS) & (outside.n >= TYPE_CELLS))
    pairs = [(int(row // n_types), int(row % n_types)) for row in tested]
    return FoldChanges(pairs, (inside.mean - outside.mean)[tested], welch_t(inside, outside)[tested])


def marker_scores(before: FoldChanges, after: FoldChanges, k: int = MARKERS) -> dict[str, float]:
    """Correlation and slope of marker fold changes, mean over batches, then over types.

    Markers are the top-`k` genes by |t| before correction, for each batch and type. NaN without a type to test.
    """
    r: dict[int, list[float]] = {}
    slope: dict[int, list[float]] = {}
    for row, (_, kind) in enumerate(before.pairs):
        genes = top_genes(before.t[row], k)
        if len(genes) < 2:
            continue
        old, new = before.change[row, genes], after.change[row, genes]
        r.setdefault(kind, []).append(pearson(old, new))
        slope.setdefault(kind, []).append(float(old @ new / (old @ old)))
    return {
        "marker_fold_change": mean_of([np.mean(values) for values in r.values()]),
        "marker_fold_change_slope": mean_of([np.mean(values) for values in slope.values()]),
    }


def batch_agreement(before: FoldChanges, after: FoldChanges, k: int = MARKERS) -> float:
    """Correlation of a type's fold changes in two batches, mean over pairs of batches, then over types.

    Over the genes that are markers before correction in either batch. NaN if no type has two batches.
    """
    rows: dict[int, list[int]] = {}
    for row, (_, kind) in enumerate(before.pairs):
        rows.setdefault(kind, []).append(row)
    by_type = []
    for places in rows.values():
        found = []
        for a, b in combinations(places, 2):
            genes = np.union1d(top_genes(before.t[a], k), top_genes(before.t[b], k))
            found.append(pearson(after.change[a, genes], after.change[b, genes]))
        by_type.append(mean_of(found))
    return mean_of(by_type) if by_type else NAN


def corrected_scores(before: FoldChanges, after: FoldChanges) -> dict[str, float]:
    """Every corrected-expression row of the registry."""
    return marker_scores(before, after) | {"de_batch_agreement": batch_agreement(before, after)}
