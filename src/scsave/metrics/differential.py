"""Differential expression from moments: Welch's t, moderated t, top-k sets of genes; fold changes before and after correction.

A fold change is a difference of mean log1p expression, a type's cells against the other cells *of its batch*: what
batch does to a gene cancels, so that the uncorrected cells are a fair reference (evaluation.md).
"""

import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from scsave.stats.agreement import NAN, mean_of, pearson
from scsave.stats.moments import Matrix, Moments, group_moments, rest_of

UNMOVED = 1e-9  # |score| up to which a gene does not differ, whatever the order of summation
MARKERS = 50
TYPE_CELLS = 20  # cells that a type needs in a batch, and that the batch needs beside it


def standard_error(a: Moments, b: Moments) -> np.ndarray:
    """Standard error of the difference of means of two groups, per gene; a group of one cell has variance 0."""
    n_a, n_b = (np.asarray(m.n, dtype=np.float64).reshape(-1, 1) if np.ndim(m.n) else float(m.n) for m in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(a.variance / n_a + b.variance / n_b)


def typical_error(a: Moments, b: Moments) -> np.ndarray:
    """Median over genes of the standard errors above 0: one number for each row of groups, () or (groups,)."""
    error = standard_error(a, b)
    with warnings.catch_warnings():  # a row without any variance has none
        warnings.filterwarnings("ignore", message="All-NaN slice")
        return np.nan_to_num(np.nanmedian(np.where(error > 0, error, np.nan), axis=-1))


def welch_t(a: Moments, b: Moments, fudge: float | np.ndarray = 0.0) -> np.ndarray:
    """Difference of means over its standard error plus `fudge`, for each gene; 0 where nothing differs.

    With `fudge` 0 it is Welch's t, +-inf for a difference without any variance. Above 0 it is the moderated statistic
    of SAM (Tusher et al. 2001). Ranks of *predicted* genes need that: a model that moves a gene that no control cell
    shows, by however little, would have it on top with an infinite t.
    """
    difference = a.mean - b.mean
    difference = np.where(np.abs(difference) <= UNMOVED, 0, difference)
    fudge = np.asarray(fudge)[:, None] if np.ndim(fudge) else fudge
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / (standard_error(a, b) + fudge)
    return np.where(difference == 0, 0, t)


def top_genes(score: np.ndarray, k: int) -> np.ndarray:
    """Positions of the `k` largest |score|, largest first, ties by position; never a gene that does not differ."""
    order = np.argsort(-np.abs(score), kind="stable")[:k]
    return order[np.abs(score[order]) > UNMOVED]


def overlap(truth: np.ndarray, predicted: np.ndarray, k: int) -> float:
    """|top-k of `truth` ∩ top-k of `predicted|` / k' by |score|, k' = min(k, genes of the truth that differ at all).

    NaN if no gene of the truth differs.
    """
    real = top_genes(truth, k)
    return len(np.intersect1d(real, top_genes(predicted, k))) / len(real) if len(real) else float("nan")


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
