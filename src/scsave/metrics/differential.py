"""Differential expression of groups of cells: Welch's t, moderated t and top-k sets of genes, from their moments."""

import warnings

import numpy as np

from scsave.stats.moments import Moments

UNMOVED = 1e-9  # |score| up to which a gene does not differ, whatever the order of summation


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
